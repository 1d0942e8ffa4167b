//! The open model under another rule than its own, and with its numbers rounded: what its scores make of it.

use std::ops::{ControlFlow, RangeInclusive};

use egui::{Grid, RichText, Ui, vec2};
use egui_plot::{AxisHints, Bar, BarChart, Line, Plot, PlotPoints, Points, VLine};
use mambascope_core::backend::open_ruled;
use mambascope_core::discretize::Discretization;
use mambascope_core::job::{JobError, ModelRef, Progress, Workshop};
use mambascope_core::scan::{Rounding, Rule};
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use super::bound::{Moved, first_scan, moved};
use super::sensitivity::{Apart, DRAWN, Dial, TEXT, TOKENS, ratio, read};
use crate::course::reading_a_trained_mamba::model_controls::text_to_read;
use crate::course::reading_a_trained_mamba::records::{NO_SCANS, ids_of, scan_layers, texts_of};
use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::controls::{choice, clamped, controls, picture, slider};
use crate::widgets::plots::{
    footnote, line_key, log_axis, log_marks, marks, over_tokens, show_plot, value_axis, value_marks,
};
use crate::widgets::{number, visible_token};

const LAMBDA: RangeInclusive<f64> = 0.0..=1.0;
/// Of the y axes of the two plots that share an x axis.
const AXIS_WIDTH: f32 = 44.0;
/// Points of the curve, a power of ten.
const CURVE: usize = 40;
/// Most characters of the text.
const MOST_TEXT: usize = 400;
const NO_TEXT: &str = "There is no text to read: type a few words above.";
const NO_WORDS: &str = "The open model has no tokenizer, so it cannot read a text: open one that has, such as the embedded novel-mamba-3m.";

/// Where Ā and B̄ come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    Shipped,
    Held,
    Trapezoidal,
    Bilinear,
    Euler,
}

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulesInTheModel {
    /// What the model reads.
    text: String,
    rule: Source,
    /// What the exponential-trapezoidal rule gives the input of the present token; the rest goes to the one before.
    lambda: f64,
    /// What Ā is rounded to.
    decay: Rounding,
    /// What the state is rounded to after each token.
    state: Rounding,
}

impl Default for RulesInTheModel {
    fn default() -> Self {
        Self {
            text: TEXT.into(),
            rule: Source::Held,
            lambda: 0.5,
            decay: Rounding::Kept,
            state: Rounding::Kept,
        }
    }
}

impl RulesInTheModel {
    fn asked(&self) -> Rule {
        Rule {
            discretization: match self.rule {
                Source::Shipped => Discretization::ExponentialEuler,
                Source::Held => Discretization::ZeroOrderHold,
                Source::Trapezoidal => Discretization::ExponentialTrapezoidal {
                    lambda: self.lambda,
                },
                Source::Bilinear => Discretization::Bilinear,
                Source::Euler => Discretization::Euler,
            },
            decay: self.decay,
            state: self.state,
        }
    }
}

/// What is computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    model: ModelRef,
    text: String,
    rule: Rule,
}

/// What the controls give.
pub struct Sensitivity {
    texts: Vec<String>,
    apart: Apart,
    dial: Dial,
    /// What the rule does to the first scan.
    moved: Moved,
}

impl Study for Asked {
    /// Or why there is nothing to show.
    type Answer = Result<Sensitivity, &'static str>;

    fn compute(
        &self,
        workshop: &mut Workshop,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Self::Answer, JobError> {
        if scan_layers(&self.model).is_empty() {
            return Ok(Err(NO_SCANS));
        }
        if self.model.tokenizer.is_none() {
            return Ok(Err(NO_WORDS));
        }
        if self.text.is_empty() {
            return Ok(Err(NO_TEXT));
        }
        let ids = ids_of(&self.model, &self.text, TOKENS)?;
        let mut before = 0;
        let mut reading = |rule| {
            let mut session = open_ruled(&self.model, rule)?;
            let found = read(&self.model, &ids, &mut *session, &mut |done| {
                progress(Progress::Count {
                    what: "tokens read",
                    done: before + done,
                    total: 2 * ids.len(),
                })
            });
            before += ids.len();
            found
        };
        let shipped = reading(Rule::default())?;
        let other = reading(self.rule)?;
        let first = first_scan(&self.model, &ids, workshop.backend("naive")?)?;
        Ok(Ok(Sensitivity {
            texts: texts_of(&self.model, &ids),
            apart: Apart::of(&shipped, &other),
            dial: Dial::of(&self.model, &shipped),
            moved: moved(&first, &self.rule)?,
        }))
    }
}

impl Demo for RulesInTheModel {
    const ID: &'static str = "rules-in-the-model";
    const TITLE: &'static str = "The paper's rule and the code's, on the open model";
    type Study = Asked;

    fn study(&self, around: &Around) -> Option<Asked> {
        Some(Asked {
            model: around.model.clone()?,
            text: self.text.clone(),
            rule: self.asked(),
        })
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Result<Sensitivity, &'static str>>) {
        text_to_read(ui, &mut self.text, MOST_TEXT);
        self.controls(ui);
        match scene.answer {
            Some(Ok(answer)) => answered(ui, answer),
            Some(Err(reason)) => {
                ui.label(*reason);
            }
            None => ui.add_space(564.0),
        }
    }

    fn clamp(&mut self) {
        self.text = self.text.chars().take(MOST_TEXT).collect();
        self.lambda = clamped(self.lambda, LAMBDA);
    }

    fn ends() -> Vec<Self> {
        let at = |text: &str, rule, lambda, rounding| Self {
            text: text.into(),
            rule,
            lambda,
            decay: rounding,
            state: rounding,
        };
        let (low, high) = (*LAMBDA.start(), *LAMBDA.end());
        vec![
            at("", Source::Shipped, low, Rounding::Kept),
            at("a", Source::Held, low, Rounding::Bfloat16),
            at("é ∑", Source::Trapezoidal, low, Rounding::Kept),
            at(TEXT, Source::Trapezoidal, high, Rounding::Bfloat16),
            at(TEXT, Source::Bilinear, high, Rounding::Kept),
            at(
                &"the ".repeat(MOST_TEXT / 4),
                Source::Euler,
                high,
                Rounding::Bfloat16,
            ),
        ]
    }

    fn live(
        &self,
        symbol: &str,
        answer: Option<&Result<Sensitivity, &'static str>>,
    ) -> Option<String> {
        let Some(Ok(answer)) = answer else {
            return None;
        };
        let median = match symbol {
            "Δ" => answer.dial.median_delta,
            "z" => answer.dial.median_z,
            _ => return None,
        };
        Some(format!("{}, the median", number(median as f32)))
    }
}

impl RulesInTheModel {
    fn controls(&mut self, ui: &mut Ui) {
        controls(ui, |ui| {
            choice(
                ui,
                "rule:",
                &mut self.rule,
                &[
                    (Source::Shipped, "as shipped (exponential Euler)"),
                    (Source::Held, "zero-order hold"),
                    (Source::Trapezoidal, "exponential-trapezoidal"),
                    (Source::Bilinear, "bilinear"),
                    (Source::Euler, "forward Euler"),
                ],
            );
        });
        let roundings = [(Rounding::Kept, "f32"), (Rounding::Bfloat16, "bf16")];
        controls(ui, |ui| {
            choice(ui, "decay exp(ΔA) kept in:", &mut self.decay, &roundings);
            choice(ui, "state h kept in:", &mut self.state, &roundings);
            ui.add_enabled_ui(self.rule == Source::Trapezoidal, |ui| {
                slider(ui, "λ, trapezoidal", &mut self.lambda, LAMBDA);
            });
        });
    }
}

fn answered(ui: &mut Ui, answer: &Sensitivity) {
    let palette = theme::palette(ui.visuals());
    readouts(ui, answer);
    picture(ui, 170.0, |ui| apart(ui, answer));
    ui.add_space(4.0);
    picture(ui, 130.0, |ui| dial(ui, &answer.dial));
    picture(ui, 120.0, |ui| ratios(ui, &answer.dial));
    footnote(
        ui,
        "The first 64 tokens of the text are read, by plain loops on the CPU whatever backend is chosen: the others have the shipped rule alone. p: the next token as the shipped rule expects it, in f32; q: as the rule chosen here does. The weights were trained under the shipped rule and are not trained again, so this tells how much they lean on it, not which rule is better to train with; the exponential-trapezoidal rule, too, is untrained here. Mamba-2 and attention layers stay as they are. The first scan reads the same values under every rule: the largest difference of its y, and the most it could be by what the rule changes of each decay and each write, as shares of the largest |y|. Bins at the left with fewer than one step in 10,000 are not drawn.",
        palette.weak_text,
    );
}

/// The numbers, and whether any are missing.
fn readouts(ui: &mut Ui, answer: &Sensitivity) {
    let palette = theme::palette(ui.visuals());
    let apart = &answer.apart;
    let nats = |value: f64| match value {
        value if value.is_nan() => "no number".to_owned(),
        value => format!("{} nats", number(value as f32)),
    };
    let largest = apart.largest().filter(|&(_, kl)| kl > 0.0).map_or_else(
        || nats(0.0),
        |(token, kl)| format!("{}, token {token}", nats(kl)),
    );
    let [shipped, here] = apart.losses;
    let of_y = |value: f64| match 100.0 * value / answer.moved.size {
        share if share.is_finite() => format!("{} %", number(share as f32)),
        _ => "no number".to_owned(),
    };
    let cells = [
        ("mean KL(p ‖ q)", nats(apart.mean_kl())),
        ("largest KL", largest),
        (
            "best guess changes",
            format!("{} of {} tokens", apart.flips(), apart.kl_l.len()),
        ),
        ("loss a token, shipped", nats(shipped)),
        ("loss a token, here", nats(here)),
        ("first scan: y off by", of_y(answer.moved.measured)),
        ("its error bound", of_y(answer.moved.bound)),
    ];
    Grid::new("rules in the model")
        .num_columns(cells.len())
        .spacing(vec2(24.0, 2.0))
        .show(ui, |ui| {
            for (name, _) in &cells {
                ui.label(RichText::new(*name).small().color(palette.weak_text));
            }
            ui.end_row();
            for (_, value) in cells {
                ui.label(value);
            }
            ui.end_row();
        });
    let words = match apart.lost {
        None => String::new(),
        Some(token) => format!(
            "At token {token} the scores stop being finite: under this rule the model's numbers have outgrown what f32 can hold. The mean KL is over the tokens with finite scores."
        ),
    };
    if !words.is_empty() {
        ui.colored_label(palette.error, words);
    }
}

/// KL after each token.
fn apart(ui: &mut Ui, answer: &Sensitivity) {
    let palette = theme::palette(ui.visuals());
    let [plain, ..] = palette.series;
    let key = |ui: &mut Ui| {
        line_key(ui, palette.warning, "another best guess".to_owned());
        line_key(ui, plain, "the same best guess".to_owned());
    };
    let plot = still(over_tokens(ui, "kl of tokens", "KL(p ‖ q), nats"))
        .include_x(-0.5)
        .include_x(answer.apart.kl_l.len() as f64 - 0.5)
        .include_y(0.0)
        .include_y(1e-12);
    let all = answer.apart.kl_l.iter().zip(&answer.apart.flipped_l);
    let bars = all
        .enumerate()
        .filter(|(_, (kl, _))| kl.is_finite())
        .map(|(l, (&kl, &flipped))| {
            let text = answer.texts.get(l).map_or("", String::as_str);
            let colour = if flipped { palette.warning } else { plain };
            Bar::new(l as f64, kl)
                .width(0.8)
                .fill(colour)
                .name(format!("after token {l} \"{}\"", visible_token(text)))
        });
    let chart = BarChart::new("KL", bars.collect()).element_formatter(Box::new(|bar, _| {
        format!("{}: {} nats", bar.name, number(bar.value as f32))
    }));
    show_plot(
        ui,
        "How far the next-token distributions part",
        key,
        plot,
        |plot| {
            plot.bar_chart(chart);
        },
    );
}

/// A plot that stays where it is.
fn still(plot: Plot<'_>) -> Plot<'_> {
    plot.allow_drag(false)
        .allow_zoom(false)
        .allow_double_click_reset(false)
        .allow_boxed_zoom(false)
}

/// What both plots over z share: from where to where, and the axes.
fn over_z<'a>(ui: &Ui, name: &'static str, dial: &Dial, value: AxisHints<'a>) -> Plot<'a> {
    let half = 0.5 / DRAWN as f64;
    let first = dial.bins.first().map_or(-1.0, |bin| bin.0 - half);
    let last = dial.bins.last().map_or(1.0, |bin| bin.0 + half);
    let power = |at: f64| number(10f64.powf(at) as f32);
    still(Plot::new(name))
        .custom_x_axes(vec![log_axis(ui, true, "z = Δ|A|", power)])
        .x_grid_spacer(|input| log_marks(input.bounds))
        .custom_y_axes(vec![value.min_thickness(AXIS_WIDTH)])
        .include_x(first)
        .include_x(last)
        .include_y(0.0)
}

/// How large the steps are.
fn dial(ui: &mut Ui, dial: &Dial) {
    let palette = theme::palette(ui.visuals());
    let [_, small, large, ..] = palette.series;
    let share = 100.0 * dial.share_above_one();
    let key = |ui: &mut Ui| {
        line_key(ui, large, format!("above 1: {} %", number(share as f32)));
        line_key(
            ui,
            small,
            format!("below 1; median {}", number(dial.median_z as f32)),
        );
    };
    let value = value_axis(ui, "% of steps");
    let plot = over_z(ui, "dial of steps", dial, value).y_grid_spacer(value_marks(ui));
    let bars = dial.bins.iter().map(|&(at, share)| {
        Bar::new(at, 100.0 * share)
            .width(0.9 / DRAWN as f64)
            .fill(if at > 0.0 { large } else { small })
            .name(format!("z about {}", number(10f64.powf(at) as f32)))
    });
    let chart = BarChart::new("steps", bars.collect()).element_formatter(Box::new(|bar, _| {
        format!("{}: {} % of all", bar.name, number(bar.value as f32))
    }));
    let median = dial.median_z.log10();
    let title = format!(
        "The steps taken, every layer, channel, slot and token: {:.1} million",
        dial.total as f64 / 1e6
    );
    show_plot(ui, &title, key, plot, |plot| {
        plot.bar_chart(chart);
        plot.vline(VLine::new("median", median).color(palette.weak_text));
    });
}

/// By how much the two rules part at each step.
fn ratios(ui: &mut Ui, dial: &Dial) {
    let palette = theme::palette(ui.visuals());
    let colour = palette.series[0];
    let key = |ui: &mut Ui| {
        let one = number(ratio(1.0) as f32);
        line_key(ui, colour, format!("z / (1 − exp(−z)), ×{one} at the dot"));
    };
    let times = |at: f64| format!("×{}", number(10f64.powf(at) as f32));
    let value = log_axis(ui, false, "written", times);
    let plot = over_z(ui, "ratio of rules", dial, value)
        .y_grid_spacer(|input| marks(input.bounds, 4.0, 1.0))
        .include_y(1.0);
    let half = 0.5 / DRAWN as f64;
    let first = dial.bins.first().map_or(-1.0, |bin| bin.0 - half);
    let last = dial.bins.last().map_or(1.0, |bin| bin.0 + half);
    let count = ((last - first) * CURVE as f64).ceil().max(1.0) as usize;
    let at = |log: f64| [log, ratio(10f64.powf(log)).log10()];
    let curve: PlotPoints<'static> = (0..=count)
        .map(|i| at(first + (last - first) * i as f64 / count as f64))
        .collect();
    let one = at(0.0);
    show_plot(
        ui,
        "How many times more the shipped rule writes than zero-order hold",
        key,
        plot,
        |plot| {
            plot.line(
                Line::new("z / (1 − exp(−z))", curve)
                    .color(colour)
                    .width(2.0),
            );
            plot.points(
                Points::new("z = 1", vec![one])
                    .color(palette.text)
                    .radius(3.0),
            );
        },
    );
}
