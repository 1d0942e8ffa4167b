//! A text longer than any the model was trained on: its loss, its state and its clock, position by position.

use std::ops::{ControlFlow, RangeInclusive};

use egui::Ui;
use egui_plot::{Line, Plot, VLine};
use mambascope_core::job::{JobError, ModelRef, Progress, Workshop, prompt_ids};
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use super::curve::{STRIDE, mean_between, read, smoothed};
use crate::course::reading_a_trained_mamba::records::{NO_SCANS, chosen, scan_layers};
use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::controls::{choice, columns, controls, picture, slider};
use crate::widgets::plots::{footnote, line_key, marks, of_layers, over_tokens, show_plot};

/// The text: the first chapter of a book of 1900.
pub(super) const PASSAGE: &str = include_str!("passage.txt");
/// Tokens in a row of the embedded models' training, from the model card.
pub(super) const TRAINED: usize = 512;

const TOKENS: RangeInclusive<usize> = 64..=1800;
const WINDOW: RangeInclusive<usize> = 1..=256;

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LengthCurve {
    /// Tokens read.
    tokens: usize,
    /// Tokens after which the state begins anew in the second reading.
    fresh: usize,
    /// Tokens over which the loss is averaged.
    window: usize,
}

impl Default for LengthCurve {
    fn default() -> Self {
        Self {
            tokens: 1024,
            fresh: 128,
            window: 96,
        }
    }
}

/// What is computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    model: ModelRef,
    backend: String,
    tokens: usize,
    fresh: usize,
    window: usize,
}

/// Of each layer its number, and a curve over tokens.
type OfLayers = Vec<(usize, Vec<[f64; 2]>)>;

/// What the controls give.
pub struct Curves {
    tokens: usize,
    whole: Vec<[f64; 2]>,
    fresh: Vec<[f64; 2]>,
    /// Mean loss of both readings.
    means: [f64; 2],
    norm: OfLayers,
    delta: OfLayers,
    /// Why it was not computed where it was asked.
    elsewhere: Option<String>,
}

impl Study for Asked {
    type Answer = Option<Curves>;

    fn compute(
        &self,
        workshop: &mut Workshop,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Curves>, JobError> {
        if scan_layers(&self.model).is_empty() {
            return Ok(None);
        }
        let mut ids = prompt_ids(&self.model, PASSAGE)?;
        ids.truncate(self.tokens);
        let total = 2 * ids.len();
        let (backend, elsewhere) = chosen(workshop, &self.backend, &self.model)?;
        let mut before = 0;
        let mut run = |fresh: Option<usize>| {
            let mut report = |done: usize| {
                progress(Progress::Count {
                    what: "tokens read",
                    done: before + done,
                    total,
                })
            };
            let curve = read(&self.model, &ids, fresh, &mut *backend, &mut report);
            before += ids.len();
            curve
        };
        let whole = run(None)?;
        let fresh = run(Some(self.fresh))?;
        let every = |curves: Vec<(usize, Vec<f32>)>| -> OfLayers {
            let places = |values: Vec<f32>| {
                let values = values.into_iter().enumerate();
                let at = |(i, value): (usize, f32)| {
                    let token = ((i + 1) * STRIDE).min(ids.len()) - 1;
                    [token as f64, f64::from(value)]
                };
                values.map(at).collect()
            };
            let layers = curves.into_iter();
            layers
                .map(|(layer, values)| (layer, places(values)))
                .collect()
        };
        Ok(Some(Curves {
            tokens: ids.len(),
            whole: smoothed(&whole.loss, self.window),
            fresh: smoothed(&fresh.loss, self.window),
            means: [&whole, &fresh].map(|curve| mean_between(&curve.loss, 0, curve.loss.len())),
            norm: every(whole.norm),
            delta: every(whole.delta),
            elsewhere,
        }))
    }
}

impl Demo for LengthCurve {
    const ID: &'static str = "length-curve";
    const TITLE: &'static str = "Past the training length";
    type Study = Asked;

    fn study(&self, around: &Around) -> Option<Asked> {
        Some(Asked {
            model: around.model.clone()?,
            backend: around.backend.clone(),
            tokens: self.tokens,
            fresh: self.fresh,
            window: self.window,
        })
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Option<Curves>>) {
        controls(ui, |ui| {
            slider(ui, "tokens read", &mut self.tokens, TOKENS);
            slider(ui, "mean over, tokens", &mut self.window, WINDOW);
        });
        controls(ui, |ui| {
            choice(
                ui,
                "forget all every:",
                &mut self.fresh,
                &[(32, "32"), (128, "128"), (256, "256"), (512, "512")],
            );
        });
        let answer = match scene.answer {
            Some(Some(answer)) => answer,
            Some(None) => {
                ui.label(NO_SCANS);
                return;
            }
            None => {
                ui.add_space(500.0);
                return;
            }
        };
        let weak = theme::palette(ui.visuals()).weak_text;
        picture(ui, 240.0, |ui| losses(ui, answer, self.fresh));
        columns(ui, 220.0, 2, |i, ui| {
            let (title, value, curves) = match i {
                0 => ("Size of the state", "norm of h", &answer.norm),
                _ => ("Running sum of Δ", "sum of Δ so far", &answer.delta),
            };
            let plot = narrow(over_tokens(ui, title, value));
            let trained = VLine::new("training length", TRAINED as f64).color(weak);
            of_layers(ui, title, plot, curves, |plot| plot.vline(trained));
        });
        footnote(
            ui,
            &format!(
                "{} tokens of the first chapter of The Wonderful Wizard of Oz (1900). Mean loss {:.3} nats a token with all of it in the state, {:.3} where the state is emptied. The line at {TRAINED} is the training length of the embedded models; another model has another.",
                answer.tokens, answer.means[0], answer.means[1]
            ),
            weak,
        );
        if let Some(elsewhere) = &answer.elsewhere {
            footnote(ui, elsewhere, weak);
        }
    }

    fn clamp(&mut self) {
        self.tokens = self.tokens.clamp(*TOKENS.start(), *TOKENS.end());
        self.window = self.window.clamp(*WINDOW.start(), *WINDOW.end());
        if ![32, 128, 256, 512].contains(&self.fresh) {
            self.fresh = Self::default().fresh;
        }
    }

    fn ends() -> Vec<Self> {
        let at = |tokens: &usize, fresh, window: &usize| Self {
            tokens: *tokens,
            fresh,
            window: *window,
        };
        vec![
            at(TOKENS.start(), 32, WINDOW.start()),
            at(TOKENS.start(), 512, WINDOW.end()),
            at(TOKENS.end(), 256, WINDOW.end()),
        ]
    }
}

fn losses(ui: &mut Ui, answer: &Curves, every: usize) {
    let palette = theme::palette(ui.visuals());
    let [whole, fresh, ..] = palette.series;
    let key = |ui: &mut Ui| {
        line_key(ui, palette.weak_text, "training length".to_owned());
        line_key(ui, fresh, format!("emptied every {every}"));
        line_key(ui, whole, "whole memory".to_owned());
    };
    let plot = over_tokens(ui, "loss", "loss, nats a token")
        .include_x(0.0)
        .include_x(answer.tokens as f64)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_double_click_reset(false);
    show_plot(ui, "Loss, mean of the tokens before", key, plot, |plot| {
        plot.vline(VLine::new("training length", TRAINED as f64).color(palette.weak_text));
        plot.line(
            Line::new("emptied", answer.fresh.clone())
                .color(fresh)
                .width(1.5),
        );
        plot.line(
            Line::new("whole memory", answer.whole.clone())
                .color(whole)
                .width(2.0),
        );
    });
}

/// A plot over the tokens from its beginning, with few marks: two of them stand side by side.
fn narrow(plot: Plot<'_>) -> Plot<'_> {
    plot.x_grid_spacer(|input| marks(input.bounds, 5.0, 1.0))
        .include_x(0.0)
        .include_y(0.0)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_double_click_reset(false)
}
