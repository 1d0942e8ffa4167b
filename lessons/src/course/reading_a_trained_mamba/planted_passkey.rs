//! A pair of words planted in a long text: how much of it is left, layer by layer, how full the state is meanwhile, and what a
//! quicker or slower clock does to both.

use std::ops::{ControlFlow, RangeInclusive};

use egui::Ui;
use egui_plot::{Line, Plot, Points, VLine};
use mambascope_core::backend::Backend;
use mambascope_core::job::{JobError, ModelRef, Progress, Workshop};
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use super::model_controls::capped;
use super::planted::{Clock, Filler, Planted, Reader, Reading, said, saturated};
use super::records::{NO_SCANS, on_chosen, scan_layers, texts_of};
use super::survival::{median, survival};
use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::controls::{choice, clamped, columns, controls, log_slider, picture, slider};
use crate::widgets::number;
use crate::widgets::plots::{
    axis, footnote, line_key, log_axis, log_marks, of_layers, over_tokens, show_plot,
};

const TOKENS: RangeInclusive<usize> = 32..=640;
/// Where in the filler, in percent.
const DEPTH: RangeInclusive<f64> = 0.0..=100.0;
/// Pairs that can be drawn.
const DRAWS: usize = 16;
/// What Δ is multiplied by.
const TIMES: RangeInclusive<f64> = 0.125..=8.0;
/// Largest layer a preset may name.
const MOST_LAYER: usize = 255;
/// What the logarithmic plot ends with.
const FLOOR: f64 = 1e-6;
/// Depths of the sweep, as shares of the filler.
const SWEEP: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];
const NO_WORDS: &str = "The open model's vocabulary has no words to plant: open one that has, such as the embedded novel-mamba-3m.";

/// Where the clock is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Where {
    All,
    One,
}

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlantedPasskey {
    filler: Filler,
    /// Tokens of filler.
    tokens: usize,
    /// Percent of the filler before the pair.
    depth: f64,
    draw: usize,
    /// What Δ is multiplied by.
    times: f64,
    layers: Where,
    /// Counted among the Mamba-1 layers.
    layer: usize,
    /// The token from which Δ is multiplied.
    from: usize,
}

impl Default for PlantedPasskey {
    fn default() -> Self {
        Self {
            filler: Filler::Pairs,
            tokens: 192,
            depth: 50.0,
            draw: 0,
            times: 0.5,
            layers: Where::All,
            layer: 2,
            from: 120,
        }
    }
}

/// What is computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    model: ModelRef,
    backend: String,
    controls: PlantedPasskey,
}

/// One reading of the text.
struct Outcome {
    /// What is stored of the pair's second word at the end, median of the layers.
    left: f64,
    /// Of each layer its number, and over tokens the log10 of what is stored of it; the median of the layers.
    stored: Vec<(usize, Vec<[f64; 2]>)>,
    median: Vec<[f64; 2]>,
    /// Of each layer its number, and over tokens the share of saturated entries.
    full: Vec<(usize, Vec<[f64; 2]>)>,
    /// The probability of the right word at the end, and how many words are likelier.
    said: (f64, usize),
    /// Over the distance from pair to question, that probability.
    sweep: Vec<[f64; 2]>,
}

/// What the controls give.
pub struct Passkey {
    tokens: usize,
    place: usize,
    distance: usize,
    pair: [String; 2],
    /// With the model's own Δ.
    own: Outcome,
    /// With Δ changed, where it is.
    changed: Option<Outcome>,
    /// Why it was not computed where it was asked.
    elsewhere: Option<String>,
}

impl Study for Asked {
    /// Or why there is nothing to show.
    type Answer = Result<Passkey, &'static str>;

    fn compute(
        &self,
        workshop: &mut Workshop,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Self::Answer, JobError> {
        let (asked, model) = (&self.controls, &self.model);
        let layers = scan_layers(model);
        if layers.is_empty() {
            return Ok(Err(NO_SCANS));
        }
        let planted = match asked.plant(model, asked.depth / 100.0) {
            Ok(planted) => planted,
            Err(JobError::Recall(_)) => return Ok(Err(NO_WORDS)),
            Err(error) => return Err(error),
        };
        let ((own, changed), elsewhere) = on_chosen(workshop, &self.backend, model, |backend| {
            self.outcomes(&planted, &layers, backend, progress)
        })?;
        let words = texts_of(model, &[planted.key, planted.value]);
        let word = |i: usize| words.get(i).map_or("", |word| word.trim()).to_owned();
        Ok(Ok(Passkey {
            tokens: planted.ids.len(),
            place: planted.place,
            distance: planted.distance(),
            pair: [word(0), word(1)],
            own,
            changed,
            elsewhere,
        }))
    }
}

impl Asked {
    /// The text read with the model's own Δ, and with Δ changed where it is.
    fn outcomes(
        &self,
        planted: &Planted,
        layers: &[usize],
        backend: &mut dyn Backend,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(Outcome, Option<Outcome>), JobError> {
        let (asked, model) = (&self.controls, &self.model);
        let is_changed = asked.times != 1.0 && asked.from < planted.ids.len();
        let clocks = if is_changed { 2 } else { 1 };
        let total = clocks * (1 + SWEEP.len()) * planted.ids.len();
        let mut before = 0;
        let mut outcome = |by: f32| -> Result<Outcome, JobError> {
            let reader = Reader::new(model, asked.clock(layers, by))?;
            let mut read = |text: &Planted, layers: &[usize]| -> Result<Reading, JobError> {
                let found = reader.read(&text.ids, layers, &mut *backend, &mut |done| {
                    progress(Progress::Count {
                        what: "tokens read",
                        done: before + done,
                        total,
                    })
                });
                before += text.ids.len();
                found
            };
            let reading = read(planted, layers)?;
            let mut sweep = Vec::new();
            for depth in SWEEP.into_iter().rev() {
                let text = asked.plant(model, depth)?;
                let at_end = read(&text, &[])?;
                sweep.push([text.distance() as f64, said(&at_end.logits_v, text.value).0]);
            }
            Ok(Outcome::new(planted, &reading, sweep))
        };
        let own = outcome(1.0)?;
        let changed = is_changed.then(|| outcome(asked.times as f32));
        Ok((own, changed.transpose()?))
    }
}

impl Outcome {
    fn new(planted: &Planted, reading: &Reading, sweep: Vec<[f64; 2]>) -> Self {
        let at = |from: usize, values: Vec<f64>| -> Vec<[f64; 2]> {
            let values = values.into_iter().enumerate();
            values
                .map(|(l, value)| [(from + l) as f64, value])
                .collect()
        };
        let log = |share: f64| share.max(FLOOR).log10();
        let place = planted.place;
        let memories: Vec<(usize, Vec<f32>)> = reading
            .scans
            .iter()
            .map(|scan| (scan.layer, survival(scan, place, 0).stored))
            .collect();
        let tokens = planted.ids.len() - place;
        let middle = |since: usize| {
            let of_layers = memories.iter().filter_map(|(_, curve)| curve.get(since));
            median(of_layers.copied()).map_or(f64::NAN, f64::from)
        };
        Self {
            left: middle(tokens.saturating_sub(1)),
            median: at(place, (0..tokens).map(|since| log(middle(since))).collect()),
            stored: memories
                .iter()
                .map(|(layer, curve)| {
                    let curve = curve.iter().map(|&share| log(f64::from(share)));
                    (*layer, at(place, curve.collect()))
                })
                .collect(),
            full: reading
                .scans
                .iter()
                .map(|scan| (scan.layer, at(0, saturated(scan))))
                .collect(),
            said: said(&reading.logits_v, planted.value),
            sweep,
        }
    }

    /// Saturated at the end, all layers together.
    fn filled(&self) -> f64 {
        let ends = self.full.iter().filter_map(|(_, curve)| curve.last());
        let ends: Vec<f64> = ends.map(|point| point[1]).collect();
        ends.iter().sum::<f64>() / ends.len().max(1) as f64
    }
}

impl Demo for PlantedPasskey {
    const ID: &'static str = "planted-passkey";
    const TITLE: &'static str = "A pair of words planted in a long text";
    type Study = Asked;

    fn study(&self, around: &Around) -> Option<Asked> {
        Some(Asked {
            model: around.model.clone()?,
            backend: around.backend.clone(),
            controls: self.clone(),
        })
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Result<Passkey, &'static str>>) {
        let model = scene.around.model.as_ref();
        let layers = model.map_or(1, |model| scan_layers(model).len().max(1));
        self.controls(ui, layers - 1);
        match scene.answer {
            Some(Ok(answer)) => self.answered(ui, answer),
            Some(Err(reason)) => {
                ui.label(*reason);
            }
            None => ui.add_space(530.0),
        }
    }

    fn clamp(&mut self) {
        self.tokens = self.tokens.clamp(*TOKENS.start(), *TOKENS.end());
        self.depth = clamped(self.depth, DEPTH);
        self.draw = self.draw.min(DRAWS - 1);
        self.times = clamped(self.times, TIMES);
        self.layer = self.layer.min(MOST_LAYER);
        self.from = self.from.min(*TOKENS.end());
    }

    fn ends() -> Vec<Self> {
        vec![
            Self {
                filler: Filler::Prose,
                tokens: *TOKENS.start(),
                depth: *DEPTH.start(),
                draw: 0,
                times: *TIMES.start(),
                layers: Where::All,
                layer: 0,
                from: 0,
            },
            Self {
                filler: Filler::Pairs,
                tokens: *TOKENS.start(),
                depth: *DEPTH.end(),
                draw: DRAWS - 1,
                times: *TIMES.end(),
                layers: Where::One,
                layer: MOST_LAYER,
                from: *TOKENS.end(),
            },
            Self {
                filler: Filler::Prose,
                tokens: *TOKENS.end(),
                depth: *DEPTH.end(),
                draw: DRAWS - 1,
                times: *TIMES.end(),
                layers: Where::One,
                layer: MOST_LAYER,
                from: 0,
            },
        ]
    }
}

impl PlantedPasskey {
    /// The text with the pair behind this share of the filler.
    fn plant(&self, model: &ModelRef, depth: f64) -> Result<Planted, JobError> {
        Planted::new(model, self.filler, self.tokens, (depth, self.draw))
    }

    fn clock(&self, layers: &[usize], by: f32) -> Clock {
        let last = layers.len().saturating_sub(1);
        Clock {
            by,
            layers: match self.layers {
                Where::All => layers.to_vec(),
                Where::One => layers
                    .get(self.layer.min(last))
                    .copied()
                    .into_iter()
                    .collect(),
            },
            from: self.from,
        }
    }

    fn controls(&mut self, ui: &mut Ui, last: usize) {
        controls(ui, |ui| {
            choice(
                ui,
                "around the pair:",
                &mut self.filler,
                &[(Filler::Pairs, "other pairs"), (Filler::Prose, "prose")],
            );
            if ui.button("Another pair").clicked() {
                self.draw = (self.draw + 1) % DRAWS;
            }
        });
        controls(ui, |ui| {
            slider(ui, "tokens around it", &mut self.tokens, TOKENS);
            slider(ui, "% of them before it", &mut self.depth, DEPTH);
        });
        controls(ui, |ui| {
            log_slider(ui, "Δ times", &mut self.times, TIMES);
            slider(ui, "from token", &mut self.from, 0..=*TOKENS.end());
        });
        controls(ui, |ui| {
            choice(
                ui,
                "Δ is changed in:",
                &mut self.layers,
                &[(Where::All, "all layers"), (Where::One, "one layer")],
            );
            ui.add_enabled_ui(self.layers == Where::One, |ui| {
                capped(ui, "Mamba layer", &mut self.layer, 0..=last);
            });
        });
    }

    fn answered(&self, ui: &mut Ui, answer: &Passkey) {
        let weak = theme::palette(ui.visuals()).weak_text;
        let shown = answer.changed.as_ref().unwrap_or(&answer.own);
        let [key, value] = &answer.pair;
        ui.label(format!(
            "\"{key} {value},\" stands at token {}. {} tokens later the text ends with \"{key}\", and the model is asked what follows.",
            answer.place, answer.distance
        ));
        let changed = answer.changed.as_ref();
        outcomes(ui, value, &answer.own, changed, self.times);
        picture(ui, 190.0, |ui| self.left(ui, answer, shown));
        columns(ui, 190.0, 2, |i, ui| match i {
            0 => {
                let plot = still(over_tokens(ui, "saturated entries", "share of the layer"))
                    .include_x(answer.tokens as f64)
                    .include_y(1.0);
                of_layers(ui, "Saturated entries", plot, &shown.full, |_| {});
            }
            _ => sweep(ui, answer, self.times),
        });
        footnote(
            ui,
            "Above, the thick line is the median of the layers with the model's own Δ, and Δ is changed from the upright line on. Saturated: the sum of Δ|A| so far is at least ln 100, so the entry stands at 99 % of where a steady input would bring it, and 1 % is left of what it held at the start; from then on it is a window that slides. Δ is changed by scaling A and B, which is where it acts; the weights were not trained for it. Among pairs, each distance asks another pair of the same row.",
            weak,
        );
        if let Some(elsewhere) = &answer.elsewhere {
            footnote(ui, elsewhere, weak);
        }
    }

    /// What is stored of the planted word after each token.
    fn left(&self, ui: &mut Ui, answer: &Passkey, shown: &Outcome) {
        let palette = theme::palette(ui.visuals());
        let share = |at: f64| number(10f64.powf(at) as f32);
        let plot = still(over_tokens(ui, "left of the word", ""))
            .custom_y_axes(vec![log_axis(ui, false, "share still stored", share)])
            .y_grid_spacer(|input| log_marks(input.bounds))
            .include_x(answer.tokens as f64)
            .include_y(-1.0);
        let is_changed = answer.changed.is_some();
        let title = if is_changed {
            "What is left of the planted word, Δ changed"
        } else {
            "What is left of the planted word"
        };
        let own = &answer.own.median;
        of_layers(ui, title, plot, &shown.stored, |plot| {
            if is_changed {
                let from = VLine::new("Δ changes here", self.from as f64);
                plot.vline(from.color(palette.warning));
                let line = Line::new("median of the layers, the model's own Δ", own.clone());
                plot.line(line.color(palette.text).width(2.0));
            }
        });
    }
}

/// A plot that stays where it is.
fn still(plot: Plot<'_>) -> Plot<'_> {
    plot.include_x(0.0)
        .include_y(0.0)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_double_click_reset(false)
}

/// Readouts, one line a clock.
fn outcomes(ui: &mut Ui, value: &str, own: &Outcome, changed: Option<&Outcome>, times: f64) {
    let weak = theme::palette(ui.visuals()).weak_text;
    let percent = |share: f64| format!("{:.2} %", 100.0 * share);
    egui::Grid::new("planted outcomes")
        .num_columns(5)
        .spacing(egui::vec2(28.0, 2.0))
        .show(ui, |ui| {
            let probability = format!("probability of \"{value}\"");
            for head in [
                "",
                &probability,
                "its rank",
                "left of it, median",
                "saturated, all",
            ] {
                ui.label(egui::RichText::new(head).small().color(weak));
            }
            ui.end_row();
            let mut row = |name: &str, outcome: &Outcome| {
                ui.label(name);
                ui.label(percent(outcome.said.0));
                ui.label((outcome.said.1 + 1).to_string());
                ui.label(percent(outcome.left));
                ui.label(percent(outcome.filled()));
                ui.end_row();
            };
            row("the model's own Δ", own);
            if let Some(changed) = changed {
                row(&format!("Δ × {}", number(times as f32)), changed);
            } else {
                ui.label(egui::RichText::new("Δ not changed").color(weak));
                ui.end_row();
            }
        });
}

/// The probability of the right word by distance.
fn sweep(ui: &mut Ui, answer: &Passkey, times: f64) {
    let palette = theme::palette(ui.visuals());
    let [own, changed, ..] = palette.series;
    let is_changed = answer.changed.is_some();
    let key = |ui: &mut Ui| {
        if is_changed {
            line_key(ui, changed, format!("Δ × {}", number(times as f32)));
        }
        line_key(ui, own, "own Δ".to_owned());
    };
    let plot = still(over_tokens(ui, "recall by distance", "probability"))
        .include_y(0.01)
        .include_x(1.05 * answer.tokens as f64)
        .custom_x_axes(vec![axis(
            egui_plot::AxisHints::new_x(),
            ui,
            "tokens between pair and question",
        )]);
    show_plot(ui, "The right word, by distance", key, plot, |plot| {
        let curves = [
            ("own Δ", Some(&answer.own), own),
            ("Δ changed", answer.changed.as_ref(), changed),
        ];
        for (name, outcome, colour) in curves {
            let Some(outcome) = outcome else { continue };
            plot.line(
                Line::new(name, outcome.sweep.clone())
                    .color(colour)
                    .width(2.0),
            );
            plot.points(
                Points::new(name, outcome.sweep.clone())
                    .color(colour)
                    .radius(3.0),
            );
        }
    });
}
