//! One slot with A = −1, B = 1 and Δ = softplus(z): what a step keeps and what it writes, by the theorem's rule and by the one
//! that is shipped.

use std::ops::{ControlFlow, RangeInclusive};

use egui::{Color32, Ui};
use egui_plot::{Line, PlotPoints, Points, VLine};
use mambascope_core::discretize::Discretization;
use mambascope_core::job::{JobError, Progress, Workshop};
use mambascope_core::scan::{sigmoid, softplus};
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::controls::{clamped, controls, picture, slider};
use crate::widgets::formula::{formula, number_tex};
use crate::widgets::number;
use crate::widgets::plots::{
    axis, footnote, guess_point, guess_point_key, line_key, marks, show_plot, value_axis,
    value_marks,
};

const Z: RangeInclusive<f64> = -8.0..=8.0;
/// Points of a curve.
const POINTS: usize = 161;
/// z of the page's question.
const ASKED_Z: f64 = 4.0;

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    z: f64,
}

impl Default for Gate {
    fn default() -> Self {
        Self { z: 1.0 }
    }
}

/// What one z gives.
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    /// Δ.
    delta: f64,
    /// Ā, computed as exp(ΔA).
    keep: f64,
    /// 1 − σ(z), computed from the sigmoid alone.
    keep_by_gate: f64,
    /// B̄ under zero-order hold.
    write_held: f64,
    /// B̄ as shipped: Δ itself.
    write_shipped: f64,
}

/// The weights of one z.
///
/// # Errors
/// When a rule refuses the step.
pub fn weights(z: f64) -> Result<Weights, JobError> {
    let delta = softplus(z);
    let entry = |rule: Discretization| {
        rule.entry(-1.0, 1.0, delta)
            .map_err(|error| JobError::Study(error.to_string()))
    };
    let held = entry(Discretization::ZeroOrderHold)?;
    Ok(Weights {
        delta,
        keep: held.a,
        keep_by_gate: 1.0 - sigmoid(z),
        write_held: held.b,
        write_shipped: entry(Discretization::ExponentialEuler)?.b,
    })
}

/// What the controls give.
pub struct Answer {
    here: Weights,
    /// z, and the weights there.
    curve: Vec<(f64, Weights)>,
}

impl Study for Gate {
    type Answer = Answer;

    fn compute(
        &self,
        _: &mut Workshop,
        _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Answer, JobError> {
        let step = (Z.end() - Z.start()) / (POINTS - 1) as f64;
        let curve = (0..POINTS).map(|i| {
            let z = Z.start() + i as f64 * step;
            Ok((z, weights(z)?))
        });
        Ok(Answer {
            here: weights(self.z)?,
            curve: curve.collect::<Result<_, JobError>>()?,
        })
    }
}

impl Demo for Gate {
    const ID: &'static str = "gate";
    const TITLE: &'static str = "One slot, one gate";
    type Study = Self;

    fn study(&self, _: &Around) -> Option<Self> {
        Some(self.clone())
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Answer>) {
        controls(ui, |ui| {
            slider(ui, "z, what the token asks for", &mut self.z, Z)
        });
        let line = scene.answer.map_or_else(
            || r"\Delta = \ln(1+e^z)".to_owned(),
            |answer| {
                let here = answer.here;
                format!(
                    r"\Delta = {} \qquad \bar A = e^{{-\Delta}} = {} = 1-\sigma(z) \qquad \bar B_{{\text{{held}}}} = {} = \sigma(z) \qquad \bar B_{{\text{{shipped}}}} = \Delta = {}",
                    number_tex(here.delta),
                    number_tex(here.keep),
                    number_tex(here.write_held),
                    number_tex(here.write_shipped),
                )
            },
        );
        formula(ui, &line);
        picture(ui, 320.0, |ui| {
            if let Some(answer) = scene.answer {
                self.plot(ui, answer, scene);
            }
        });
        let weak = theme::palette(ui.visuals()).weak_text;
        footnote(
            ui,
            "Dots: 1 − σ(z), from the sigmoid alone. They lie on the curve of exp(−Δ): the theorem. The two curves of what is written part as z grows.",
            weak,
        );
    }

    fn clamp(&mut self) {
        self.z = clamped(self.z, Z);
    }

    fn ends() -> Vec<Self> {
        vec![Self { z: *Z.start() }, Self { z: *Z.end() }]
    }

    fn live(&self, symbol: &str, answer: Option<&Answer>) -> Option<String> {
        let here = answer?.here;
        Some(match symbol {
            "z" => number(self.z as f32),
            "Δ" => number(here.delta as f32),
            "g" | "σ" => number(here.write_held as f32),
            r"\bar A" => number(here.keep as f32),
            r"\bar B" => format!(
                "{} held, {} shipped",
                number(here.write_held as f32),
                number(here.write_shipped as f32)
            ),
            _ => return None,
        })
    }
}

impl Gate {
    fn plot(&self, ui: &mut Ui, answer: &Answer, scene: &Scene<'_, Answer>) {
        let palette = theme::palette(ui.visuals());
        let [keep, held, shipped, ..] = palette.series;
        let guess = scene.guess("euler-weight");
        let key = |ui: &mut Ui| {
            if guess.is_some() {
                guess_point_key(ui, "your guess at z = 4");
            }
            line_key(ui, shipped, "written, shipped: Δ".to_owned());
            line_key(ui, held, "written, held: σ(z)".to_owned());
            line_key(ui, keep, "kept: exp(−Δ)".to_owned());
        };
        let plot = egui_plot::Plot::new("gate")
            .custom_x_axes(vec![
                axis(egui_plot::AxisHints::new_x(), ui, "z, before softplus")
                    .formatter(|mark, _| number(mark.value as f32)),
            ])
            .x_grid_spacer(|input| marks(input.bounds, 8.0, 1.0))
            .custom_y_axes(vec![value_axis(ui, "weight")])
            .y_grid_spacer(value_marks(ui))
            .include_y(0.0)
            .allow_drag(false)
            .allow_zoom(false)
            .allow_double_click_reset(false);
        let curve = |pick: fn(&Weights) -> f64| -> PlotPoints<'static> {
            let points = answer.curve.iter();
            points.map(|(z, weights)| [*z, pick(weights)]).collect()
        };
        let dots: PlotPoints<'static> = answer
            .curve
            .iter()
            .step_by(10)
            .map(|(z, weights)| [*z, weights.keep_by_gate])
            .collect();
        let kept = curve(|weights| weights.keep);
        let written = curve(|weights| weights.write_held);
        let euler = curve(|weights| weights.write_shipped);
        let (here, z) = (answer.here, self.z);
        show_plot(ui, "What a step keeps and writes", key, plot, |plot| {
            plot.vline(VLine::new("z", z).color(palette.weak_text));
            plot.line(Line::new("written, shipped", euler).color(shipped));
            plot.line(Line::new("written, held", written).color(held));
            plot.line(Line::new("kept", kept).color(keep));
            plot.points(Points::new("1 − σ(z)", dots).color(keep).radius(3.5));
            let mut mark = |value: f64, colour: Color32| {
                let at = vec![[z, value]];
                plot.points(Points::new("here", at).color(colour).radius(5.0));
            };
            mark(here.keep, keep);
            mark(here.write_held, held);
            mark(here.write_shipped, shipped);
            if let Some(guess) = guess {
                plot.points(guess_point([ASKED_Z, guess], palette.accent));
            }
        });
    }
}
