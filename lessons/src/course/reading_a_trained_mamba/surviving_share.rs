//! The memory of one token: how much of it is still stored, how much of it is read, and which entries of the state hold it.

use std::ops::ControlFlow;

use egui::Ui;
use egui_plot::{Line, VLine};
use mambascope_core::job::{JobError, ModelRef, Progress, Workshop};
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use super::model_controls::{capped, text_to_read};
use super::records::{NO_SCANS, chosen, ids_of, scan_layers, scans, texts_of};
use super::survival::{Survival, median, survival};
use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::controls::{choice, controls, picture};
use crate::widgets::plots::{footnote, line_key, over_tokens, show_plot};
use crate::widgets::{Ribbon, RibbonToken, Scale, number, visible_token};

/// Most tokens read.
const MOST_TOKENS: usize = 64;
/// Most characters of the text.
const MOST_TEXT: usize = 300;
/// Largest layer a preset may name.
const MOST_LAYER: usize = 255;
/// Entries listed.
const HOLDERS: usize = 20;
/// Of them in a row of the list.
const IN_A_ROW: usize = 4;

/// Which share is drawn layer by layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Share {
    Stored,
    Read,
}

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SurvivingShare {
    text: String,
    /// The token that is followed.
    token: usize,
    /// The later token at which the holders are listed.
    cursor: usize,
    /// Which of the Mamba layers is drawn in colour.
    layer: usize,
    share: Share,
}

impl Default for SurvivingShare {
    fn default() -> Self {
        Self {
            text: "Miss Harriet came in. She had been walking in the garden, and was a little tired; \"Sit down,\" said Miss".into(),
            token: 2,
            cursor: 20,
            layer: 2,
            share: Share::Stored,
        }
    }
}

/// What is computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    model: ModelRef,
    backend: String,
    text: String,
    token: usize,
}

/// What the controls give.
pub struct Memory {
    texts: Vec<String>,
    /// The token followed.
    token: usize,
    layers: Vec<Survival>,
    median_stored: Vec<f32>,
    median_read: Vec<f32>,
    /// Why it was not computed where it was asked.
    elsewhere: Option<String>,
}

impl Study for Asked {
    type Answer = Option<Memory>;

    fn compute(
        &self,
        workshop: &mut Workshop,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Memory>, JobError> {
        let layers = scan_layers(&self.model);
        if layers.is_empty() {
            return Ok(None);
        }
        let ids = ids_of(&self.model, &self.text, MOST_TOKENS)?;
        let token = self.token.min(ids.len().saturating_sub(1));
        let (backend, elsewhere) = chosen(workshop, &self.backend, &self.model)?;
        let found = scans(&self.model, &ids, &layers, backend)?;
        let mut memories = Vec::new();
        for (done, scan) in found.iter().enumerate() {
            let count = Progress::Count {
                what: "layers followed",
                done,
                total: found.len(),
            };
            if progress(count).is_break() {
                return Err(JobError::Study("stopped before it was done".into()));
            }
            memories.push(survival(scan, token, HOLDERS));
        }
        let over_layers = |curve: fn(&Survival) -> &[f32]| -> Vec<f32> {
            let values = |t: usize| {
                let of_layers = memories
                    .iter()
                    .filter_map(move |memory| curve(memory).get(t));
                median(of_layers.copied())
            };
            (0..ids.len() - token).filter_map(values).collect()
        };
        Ok(Some(Memory {
            texts: texts_of(&self.model, &ids),
            token,
            median_stored: over_layers(|memory| &memory.stored),
            median_read: over_layers(|memory| &memory.read),
            layers: memories,
            elsewhere,
        }))
    }
}

impl Demo for SurvivingShare {
    const ID: &'static str = "surviving-share";
    const TITLE: &'static str = "What is left of a token";
    type Study = Asked;

    fn study(&self, around: &Around) -> Option<Asked> {
        Some(Asked {
            model: around.model.clone()?,
            backend: around.backend.clone(),
            text: self.text.clone(),
            token: self.token,
        })
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Option<Memory>>) {
        text_to_read(ui, &mut self.text, MOST_TEXT);
        match scene.answer {
            Some(Some(answer)) => self.answered(ui, answer),
            Some(None) => {
                ui.label(NO_SCANS);
            }
            None => ui.add_space(520.0),
        }
    }

    fn clamp(&mut self) {
        self.text = self.text.chars().take(MOST_TEXT).collect();
        self.token = self.token.min(MOST_TOKENS - 1);
        self.cursor = self.cursor.min(MOST_TOKENS - 1);
        self.layer = self.layer.min(MOST_LAYER);
    }

    fn ends() -> Vec<Self> {
        let at = |text: String, end: usize, layer, share| Self {
            text,
            token: end,
            cursor: end,
            layer,
            share,
        };
        vec![
            at("a".into(), 0, 0, Share::Stored),
            at("a".into(), MOST_TOKENS - 1, MOST_LAYER, Share::Read),
            at(
                "the ".repeat(MOST_TEXT / 4),
                MOST_TOKENS - 1,
                0,
                Share::Read,
            ),
            at("the ".repeat(MOST_TEXT / 4), 0, MOST_LAYER, Share::Stored),
        ]
    }
}

impl SurvivingShare {
    fn answered(&mut self, ui: &mut Ui, answer: &Memory) {
        let last = answer.texts.len().saturating_sub(1);
        let tokens: Vec<RibbonToken<'_>> = (0..answer.texts.len())
            .map(|l| RibbonToken {
                text: &answer.texts[l],
                value: match l.checked_sub(answer.token) {
                    Some(since) => answer.median_stored.get(since).copied().unwrap_or(f32::NAN),
                    None => f32::NAN,
                },
                generated: false,
            })
            .collect();
        let ribbon = Ribbon::new("survivors", &tokens)
            .title("The text; click the token to follow")
            .value_name("share still stored, median of layers")
            .selected(Some(answer.token))
            .scale(Scale::linear(0.0, 1.0))
            .max_height(128.0)
            .show(ui);
        if let Some(chosen) = ribbon.selected
            && chosen != answer.token
        {
            self.token = chosen;
        }
        let most_layer = answer.layers.len().saturating_sub(1);
        controls(ui, |ui| {
            choice(
                ui,
                "layers show:",
                &mut self.share,
                &[
                    (Share::Stored, "what is stored"),
                    (Share::Read, "what is read"),
                ],
            );
            capped(ui, "Mamba layer", &mut self.layer, 0..=most_layer);
            capped(ui, "cursor, token", &mut self.cursor, answer.token..=last);
        });
        let layer = self.layer.min(most_layer);
        let cursor = self.cursor.clamp(answer.token.min(last), last);
        let clicked = picture(ui, 250.0, |ui| self.plot(ui, answer, layer, cursor));
        if let Some(clicked) = clicked {
            self.cursor = clicked.clamp(answer.token, last);
        }
        if let Some(memory) = answer.layers.get(layer) {
            holders(ui, answer, memory, cursor);
        }
    }

    /// Draws the curves; gives the token that was clicked.
    fn plot(&self, ui: &mut Ui, answer: &Memory, layer: usize, cursor: usize) -> Option<usize> {
        let palette = theme::palette(ui.visuals());
        let [chosen, stored, read, ..] = palette.series;
        let others = palette.weak_text.gamma_multiply(0.6);
        let key = |ui: &mut Ui| {
            line_key(ui, others, "other layers".to_owned());
            line_key(ui, chosen, format!("layer {}", layer_name(answer, layer)));
            line_key(ui, read, "median read".to_owned());
            line_key(ui, stored, "median stored".to_owned());
        };
        let plot = over_tokens(ui, "surviving share", "share of what was written")
            .include_x(answer.token as f64)
            .include_x(answer.token as f64 + 1.0)
            .include_y(0.0)
            .include_y(1.1)
            .allow_drag(false)
            .allow_zoom(false)
            .allow_double_click_reset(false);
        let points = |values: &[f32]| -> Vec<[f64; 2]> {
            let places = values.iter().enumerate();
            places
                .map(|(since, &value)| [(answer.token + since) as f64, f64::from(value)])
                .collect()
        };
        let mut clicked = None;
        show_plot(ui, "What is left after each token", key, plot, |plot| {
            for (i, memory) in answer.layers.iter().enumerate() {
                let values = match self.share {
                    Share::Stored => &memory.stored,
                    Share::Read => &memory.read,
                };
                let (colour, width) = if i == layer {
                    (chosen, 2.5)
                } else {
                    (others, 1.0)
                };
                let name = format!("layer {}", memory.layer);
                plot.line(Line::new(name, points(values)).color(colour).width(width));
            }
            let medians = [
                ("median stored", &answer.median_stored, stored),
                ("median read", &answer.median_read, read),
            ];
            for (name, values, colour) in medians {
                plot.line(Line::new(name, points(values)).color(colour).width(2.0));
            }
            plot.vline(VLine::new("cursor", cursor as f64).color(palette.weak_text));
            if plot.response().clicked() {
                clicked = plot
                    .pointer_coordinate()
                    .map(|at| at.x.round().max(0.0) as usize);
            }
        });
        clicked
    }
}

/// The number of a Mamba layer among all blocks.
fn layer_name(answer: &Memory, layer: usize) -> usize {
    answer
        .layers
        .get(layer)
        .map_or(layer, |memory| memory.layer)
}

/// What the token at the cursor did, and who holds on.
fn holders(ui: &mut Ui, answer: &Memory, memory: &Survival, cursor: usize) {
    let weak = theme::palette(ui.visuals()).weak_text;
    let since = cursor.saturating_sub(answer.token);
    let text = |l: usize| {
        let text = answer.texts.get(l).map_or("", String::as_str);
        visible_token(text).into_owned()
    };
    let at = |curve: &[f32]| curve.get(since).copied().unwrap_or(f32::NAN);
    let kept = match since
        .checked_sub(1)
        .and_then(|before| memory.stored.get(before))
    {
        Some(before) => format!(
            "Token {cursor} \"{}\" left {:.0} % of what was there before it.",
            text(cursor),
            100.0 * at(&memory.stored) / before
        ),
        None => "The cursor is on the token itself: move it to the right.".to_owned(),
    };
    ui.label(format!(
        "Layer {}, of \"{}\" after token {cursor}: {:.1} % stored, {:.1} % read. {kept}",
        memory.layer,
        text(answer.token),
        100.0 * at(&memory.stored),
        100.0 * at(&memory.read),
    ));
    footnote(
        ui,
        "The 20 entries of the state that hold most of it there: channel and slot, the share of what the layer still holds, and the half-life at their mean Δ.",
        weak,
    );
    let found = memory.holders.get(since).map_or(&[][..], Vec::as_slice);
    egui::Grid::new("holders")
        .num_columns(IN_A_ROW)
        .spacing(egui::vec2(28.0, 2.0))
        .show(ui, |ui| {
            for row in found.chunks(IN_A_ROW) {
                for holder in row {
                    ui.label(format!(
                        "({}, {}): {:.2} %, {} tokens",
                        holder.channel,
                        holder.slot,
                        100.0 * holder.share,
                        number(rounded(holder.half_life))
                    ));
                }
                ui.end_row();
            }
        });
    if let Some(elsewhere) = &answer.elsewhere {
        footnote(ui, elsewhere, weak);
    }
}

/// To two digits or so: a half-life is no more exact than the mean it is made from.
fn rounded(value: f32) -> f32 {
    if value.is_finite() && value > 0.0 {
        let unit = 10f32.powf(value.log10().floor() - 1.0);
        (value / unit).round() * unit
    } else {
        value
    }
}
