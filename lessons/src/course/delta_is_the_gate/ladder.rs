//! Sixteen slots under one Δ: slot n keeps (1 − g)ⁿ of itself a token.

use std::ops::{ControlFlow, RangeInclusive};

use egui::Ui;
use egui_plot::{Bar, BarChart, Line, PlotPoints, VLine};
use mambascope_core::job::{JobError, Progress, Workshop};
use mambascope_core::scan::sigmoid;
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use super::kept;
use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::controls::{clamped, columns, controls, slider, whole_log_slider};
use crate::widgets::formula::formula;
use crate::widgets::number;
use crate::widgets::plots::{
    axis, footnote, line_key, log_axis, log_marks, marks, show_plot, value_axis, value_marks,
};

const Z: RangeInclusive<f64> = -16.0..=4.0;
const TOKENS: RangeInclusive<f64> = 1.0..=1e6;
const SLOTS: usize = 16;
/// Slots whose curves are drawn.
const CURVES: [usize; 5] = [1, 2, 4, 8, 16];

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ladder {
    z: f64,
    tokens: f64,
}

impl Default for Ladder {
    fn default() -> Self {
        Self {
            z: -2.2,
            tokens: 1.0,
        }
    }
}

/// What the controls give.
pub struct Answer {
    /// g = σ(z).
    gate: f64,
    /// What each slot still has, slot 1 first.
    kept_n: Vec<f64>,
    /// For each of [`CURVES`]: log₁₀ of tokens, share.
    curves: Vec<Vec<[f64; 2]>>,
}

impl Study for Ladder {
    type Answer = Answer;

    fn compute(
        &self,
        _: &mut Workshop,
        _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Answer, JobError> {
        let curve = |n: usize| {
            let at = |i: usize| i as f64 / 20.0;
            (0..=120)
                .map(|i| [at(i), kept(self.z, n, 10f64.powf(at(i)))])
                .collect()
        };
        Ok(Answer {
            gate: sigmoid(self.z),
            kept_n: (1..=SLOTS).map(|n| kept(self.z, n, self.tokens)).collect(),
            curves: CURVES.into_iter().map(curve).collect(),
        })
    }
}

impl Demo for Ladder {
    const ID: &'static str = "decay-ladder";
    const TITLE: &'static str = "Sixteen time scales under one gate";
    type Study = Self;

    fn study(&self, _: &Around) -> Option<Self> {
        Some(self.clone())
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Answer>) {
        controls(ui, |ui| {
            slider(ui, "z of every ignored token", &mut self.z, Z);
            whole_log_slider(ui, "tokens ignored", &mut self.tokens, TOKENS);
        });
        let line = scene.answer.map_or_else(
            || r"(1-g)^{n}".to_owned(),
            |answer| {
                let first = answer.kept_n.first().copied().unwrap_or_default();
                let last = answer.kept_n.last().copied().unwrap_or_default();
                format!(
                    r"g = \sigma(z) = {} \qquad \text{{slot }}1\text{{ keeps }} {} \qquad \text{{slot }}16\text{{ keeps }} {}",
                    share(answer.gate),
                    share(first),
                    share(last),
                )
            },
        );
        formula(ui, &line);
        columns(ui, 300.0, 2, |i, ui| {
            let Some(answer) = scene.answer else { return };
            if i == 0 {
                bars(ui, answer);
            } else {
                self.curves(ui, answer);
            }
        });
        let weak = theme::palette(ui.visuals()).weak_text;
        footnote(
            ui,
            "Slots as Mamba begins, A = −1, −2, …, −16. After training, look at the weights before you say what a slot does.",
            weak,
        );
    }

    fn clamp(&mut self) {
        self.z = clamped(self.z, Z);
        self.tokens = clamped(self.tokens, TOKENS);
    }

    fn ends() -> Vec<Self> {
        vec![
            Self {
                z: *Z.start(),
                tokens: *TOKENS.end(),
            },
            Self {
                z: *Z.end(),
                tokens: *TOKENS.start(),
            },
        ]
    }

    fn live(&self, symbol: &str, answer: Option<&Answer>) -> Option<String> {
        match symbol {
            "z" => Some(number(self.z as f32)),
            "g" | "σ" => Some(number(answer?.gate as f32)),
            _ => None,
        }
    }
}

/// A share as TeX and as text: in the digits that count.
fn share(value: f64) -> String {
    if value < 1e-4 {
        format!("{value:.1e}").replace('e', r"\cdot 10^{") + "}"
    } else {
        format!("{value:.4}")
    }
}

fn bars(ui: &mut Ui, answer: &Answer) {
    let palette = theme::palette(ui.visuals());
    let plot = egui_plot::Plot::new("ladder")
        .custom_x_axes(vec![axis(egui_plot::AxisHints::new_x(), ui, "slot n")])
        .x_grid_spacer(|input| marks(input.bounds, 16.0, 1.0))
        .custom_y_axes(vec![value_axis(ui, "share kept")])
        .y_grid_spacer(value_marks(ui))
        .include_y(0.0)
        .include_y(1.0)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_double_click_reset(false);
    let bars: Vec<Bar> = (1..)
        .zip(&answer.kept_n)
        .map(|(n, &kept)| Bar::new(f64::from(n), kept).width(0.7))
        .collect();
    show_plot(
        ui,
        "What each slot still has",
        |_| {},
        plot,
        |plot| {
            plot.bar_chart(BarChart::new("share kept", bars).color(palette.series[0]));
        },
    );
}

impl Ladder {
    fn curves(&self, ui: &mut Ui, answer: &Answer) {
        let palette = theme::palette(ui.visuals());
        let key = |ui: &mut Ui| {
            for (i, n) in CURVES.iter().enumerate().rev() {
                line_key(ui, palette.series[i], format!("slot {n}"));
            }
        };
        let power = |log: f64| match log.round() as i32 {
            6 => "1M".to_owned(),
            power if power >= 3 => format!("{}k", 10u32.pow(power.unsigned_abs() - 3)),
            power => format!("{}", 10f64.powi(power)),
        };
        let plot = egui_plot::Plot::new("ladder over tokens")
            .custom_x_axes(vec![log_axis(ui, true, "tokens ignored", power)])
            .x_grid_spacer(|input| log_marks(input.bounds))
            .custom_y_axes(vec![value_axis(ui, "share kept")])
            .y_grid_spacer(value_marks(ui))
            .include_y(0.0)
            .include_y(1.0)
            .allow_drag(false)
            .allow_zoom(false)
            .allow_double_click_reset(false);
        let cursor = self.tokens.log10();
        show_plot(ui, "Over tokens", key, plot, |plot| {
            plot.vline(VLine::new("here", cursor).color(palette.weak_text));
            for (i, curve) in answer.curves.iter().enumerate() {
                let points: PlotPoints<'static> = curve.clone().into();
                let name = format!("slot {}", CURVES[i]);
                plot.line(Line::new(name, points).color(palette.series[i]).width(2.0));
            }
        });
    }
}
