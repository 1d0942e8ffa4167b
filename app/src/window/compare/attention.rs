//! Where the attention layers of a lane looked.

use std::hash::{Hash, Hasher};

use egui::{ComboBox, RichText, Ui};
use mambascope_core::compare::{Compared, Lane, MAP_TOKENS};
use mambascope_lessons::widgets::{Axis, Grid, Heatmap, Scale, number, visible_token};

use super::{Around, ComparePage, lane_name};
use crate::window::palette;
use crate::window::scope::token_text;
use crate::window::take_home::take_home;
use mambascope_lessons::widgets::plots::named_menu;

/// Which map is shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct MapChoice {
    lane: usize,
    layer: usize,
    /// A head, or the mean of all.
    head: Option<usize>,
    /// The map, and what it was made from.
    made: Option<(u64, usize, usize, Option<usize>)>,
    values: Vec<f32>,
    tokens: usize,
    largest: f32,
}

impl ComparePage {
    pub(super) fn attention(&mut self, ui: &mut Ui, compared: &Compared, around: &mut Around<'_>) {
        let lanes = &compared.lanes;
        let with_maps: Vec<usize> = (0..lanes.len())
            .filter(|&lane| !lanes[lane].attention.is_empty())
            .collect();
        let Some(&first) = with_maps.first() else {
            ui.label("Attention");
            ui.add_space(8.0);
            let text = "None of these models has a layer of attention: what they know of the text is in their states alone.";
            ui.label(RichText::new(text).color(palette(ui).weak_text));
            return;
        };
        if !with_maps.contains(&self.map.lane) {
            self.map.lane = first;
        }
        ui.horizontal(|ui| self.choose_map(ui, lanes, &with_maps));
        let lane = &lanes[self.map.lane];
        self.make_map(lane);
        let map = &self.map;
        let text_of = |token: usize| {
            let id = lane.points.get(token).map(|point| point.id);
            let text = id.map_or_else(String::new, |id| token_text(&lane.model, id));
            format!("{token} “{}”", visible_token(&text))
        };
        let hover = |row: usize, col: usize, value: f32| {
            if value.is_nan() {
                return format!("token {}\ncannot see what comes after it", text_of(row));
            }
            format!(
                "token {}\nlooks at {}\nweight {}",
                text_of(row),
                text_of(col),
                number(value)
            )
        };
        let head = map.head.map_or_else(
            || "mean of all heads".to_owned(),
            |head| format!("head {head}"),
        );
        let title = format!("Attention of layer {}, {head}", map.layer);
        let mut hasher = std::hash::DefaultHasher::new();
        (self.version, map.lane, map.layer, map.head).hash(&mut hasher);
        let version = hasher.finish();
        let height = ui.available_height();
        let heatmap = Heatmap::new(
            "attention",
            &title,
            Grid::row_major(&map.values, map.tokens, map.tokens),
        )
        .data_version(version)
        .rows(Axis::new("token that looks"))
        .cols(Axis::new("token looked at"))
        .value_name("weight")
        .scale(Scale::linear(0.0, map.largest))
        .gaps()
        .hover(&hover)
        .height(height)
        .scroll_zooms(false);
        let response = heatmap.show(ui);
        take_home(&heatmap, response.action, ui, "attention", around.requests);
    }

    fn choose_map(&mut self, ui: &mut Ui, lanes: &[Lane], with_maps: &[usize]) {
        let map = &mut self.map;
        let menu = ComboBox::from_id_salt("map of")
            .selected_text(lane_name(lanes, map.lane))
            .show_ui(ui, |ui| {
                for &lane in with_maps {
                    ui.selectable_value(&mut map.lane, lane, lane_name(lanes, lane));
                }
            });
        named_menu(&menu.response, "Attention of");
        let lane = &lanes[map.lane];
        if !lane.attention.contains_key(&map.layer) {
            map.layer = lane.attention.keys().next().copied().unwrap_or(0);
        }
        let menu = ComboBox::from_id_salt("map layer")
            .selected_text(format!("layer {}", map.layer))
            .width(76.0)
            .show_ui(ui, |ui| {
                for &layer in lane.attention.keys() {
                    ui.selectable_value(&mut map.layer, layer, format!("layer {layer}"));
                }
            });
        named_menu(&menu.response, "Layer of attention");
        let heads = heads(lane, map.layer);
        map.head = map.head.filter(|&head| head < heads);
        let name = |head: Option<usize>| {
            head.map_or_else(|| "mean of heads".to_owned(), |head| format!("head {head}"))
        };
        let menu = ComboBox::from_id_salt("map head")
            .selected_text(name(map.head))
            .width(104.0)
            .show_ui(ui, |ui| {
                for head in std::iter::once(None).chain((0..heads).map(Some)) {
                    ui.selectable_value(&mut map.head, head, name(head));
                }
            });
        named_menu(&menu.response, "Head");
        if lane.points.len() > MAP_TOKENS {
            ui.label(
                RichText::new(format!("first {MAP_TOKENS} tokens"))
                    .small()
                    .color(palette(ui).weak_text),
            );
        }
    }

    /// Lays the weights out as a square, once for each change.
    fn make_map(&mut self, lane: &Lane) {
        let map = &mut self.map;
        let key = (self.version, map.lane, map.layer, map.head);
        if map.made == Some(key) {
            return;
        }
        map.made = Some(key);
        let rows = lane
            .attention
            .get(&map.layer)
            .map_or(&[][..], Vec::as_slice);
        let heads = heads(lane, map.layer);
        map.tokens = rows.len();
        map.values = vec![f32::NAN; rows.len() * rows.len()];
        map.largest = 0.0;
        for (token, weights) in rows.iter().enumerate() {
            let seen = token + 1;
            for m in 0..seen {
                let of_head =
                    |head: usize| weights.get(head * seen + m).copied().unwrap_or(f32::NAN);
                let weight = match map.head {
                    Some(head) => of_head(head),
                    None => (0..heads).map(of_head).sum::<f32>() / heads as f32,
                };
                map.values[token * rows.len() + m] = weight;
                // The first tokens have few to look at: their weights would take all the colours.
                if token >= 8 {
                    map.largest = map.largest.max(weight);
                }
            }
        }
        if map.largest <= 0.0 {
            map.largest = 1.0;
        }
    }
}

fn heads(lane: &Lane, layer: usize) -> usize {
    let block = lane.model.config.blocks.get(layer);
    block
        .and_then(|block| block.mixer.attention())
        .map_or(1, |dims| dims.heads)
}
