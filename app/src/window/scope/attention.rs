//! What a layer of attention looks at: in place of a state, which it does not have.

use egui::Ui;
use mambascope_lessons::widgets::{Axis, Grid, Heatmap, Scale, ScaleKind, number};

use super::panels::{Scene, named};
use super::pictures::ATTENTION_TOKENS;
use super::{Around, ScopePage};
use crate::window::take_home::take_home;

impl ScopePage {
    /// What each head of the layer takes from each token, at the token looked at: heads × tokens.
    pub(super) fn attention_of_token(
        &mut self,
        ui: &mut Ui,
        scene: &Scene<'_>,
        around: &mut Around<'_>,
    ) {
        let (watched, layer) = (scene.watched, scene.watched.layer);
        let record = watched.record(scene.focus);
        let Some(record) = record.and_then(|record| record.layers[layer].attention()) else {
            return;
        };
        let seen = scene.focus + 1 - record.first;
        let heads = record.weights.len() / seen;
        let texts = &self.pictures.texts;
        let hover = |head: usize, col: usize, value: f32| {
            format!(
                "head {head} looks at token {}\nweight {}",
                named(texts, record.first + col),
                number(value)
            )
        };
        let token = named(texts, scene.focus);
        let title = format!("Attention of layer {layer} at token {token}");
        let version = self.pictures.version ^ (scene.focus as u64) << 20 ^ (layer as u64) << 44;
        let map = Heatmap::new(
            "attention of a token",
            &title,
            Grid::row_major(&record.weights, heads, seen),
        )
        .data_version(version)
        .rows(Axis::new("head"))
        .cols(Axis::new("token looked at").counted_from(record.first))
        .value_name("weight")
        .fit(ScaleKind::Linear)
        .hover(&hover)
        .height(scene.height)
        .scroll_zooms(false);
        let response = map.show(ui);
        take_home(
            &map,
            response.action,
            ui,
            "attention-of-token",
            around.requests,
        );
        if let Some((_, col)) = response.clicked {
            self.select(record.first + col);
        }
    }

    /// The mean over heads of where every token looks: tokens × tokens.
    pub(super) fn attention_map(
        &mut self,
        ui: &mut Ui,
        scene: &Scene<'_>,
        around: &mut Around<'_>,
    ) {
        let watched = scene.watched;
        let shown = watched.records.len().min(ATTENTION_TOKENS);
        let first = watched.end() - shown;
        let texts = &self.pictures.texts;
        let hover = |row: usize, col: usize, value: f32| {
            if value.is_nan() {
                return format!(
                    "token {}\ncannot see what comes after it",
                    named(texts, first + row)
                );
            }
            format!(
                "token {}\nlooks at {}\nweight {}",
                named(texts, first + row),
                named(texts, first + col),
                number(value)
            )
        };
        let title = format!("Attention, mean of heads, layer {}", watched.layer);
        let map = Heatmap::new(
            "attention map",
            &title,
            Grid::row_major(&self.pictures.attention, shown, shown),
        )
        .data_version(self.pictures.version)
        .rows(Axis::new("token that looks").counted_from(first))
        .cols(Axis::new("token looked at").counted_from(first))
        .value_name("weight")
        .scale(Scale::linear(0.0, self.pictures.attention_most))
        .gaps()
        .selected_row(scene.focus.checked_sub(first))
        .hover(&hover)
        .height(scene.height)
        .scroll_zooms(false);
        let response = map.show(ui);
        take_home(&map, response.action, ui, "attention", around.requests);
        if let Some((row, _)) = response.clicked {
            self.select(first + row);
        }
    }
}
