//! One slot of a state: tap impulses into it, and see it leak. The dots are the recurrence, the line is the differential
//! equation they are the samples of.

use std::ops::{ControlFlow, RangeInclusive};

use egui::Ui;
use egui_plot::{Line, PlotPoint, PlotPoints, Points, VLine};
use mambascope_core::discretize::Discretization;
use mambascope_core::job::{JobError, Progress, Workshop};
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::controls::{clamped, controls, log_slider, picture, slider};
use crate::widgets::formula::{formula, number_tex};
use crate::widgets::number;
use crate::widgets::plots::{footnote, guess_key, line_key, over_tokens, show_plot};

/// Tokens on the plot.
const TOKENS: usize = 64;
/// Points of the differential equation between two tokens.
const FINE: usize = 8;

const A: RangeInclusive<f64> = -16.0..=-0.1;
const DELTA: RangeInclusive<f64> = 0.001..=1.0;
const WEIGHT: RangeInclusive<f64> = -2.0..=2.0;

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OneSlot {
    a: f64,
    b: f64,
    c: f64,
    skip: f64,
    delta: f64,
    /// Tokens at which the input is 1; it is 0 at all others.
    taps: Vec<usize>,
}

impl Default for OneSlot {
    fn default() -> Self {
        Self {
            a: -1.0,
            b: 1.0,
            // Not 1, or the output would cover the state.
            c: 1.5,
            skip: 0.0,
            delta: 0.1,
            taps: vec![4, 24, 28],
        }
    }
}

/// What the controls give.
pub struct Response {
    /// ln 2 / (Δ·|A|), in tokens.
    half_life: f64,
    /// Ā and B̄.
    a_bar: f64,
    b_bar: f64,
    /// h of every token.
    h_l: Vec<f64>,
    /// y of every token.
    y_l: Vec<f64>,
    /// The differential equation: token, h.
    exact: Vec<[f64; 2]>,
}

impl Study for OneSlot {
    type Answer = Response;

    fn compute(
        &self,
        _: &mut Workshop,
        _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Response, JobError> {
        let entry = |delta: f64| {
            Discretization::ZeroOrderHold
                .entry(self.a, self.b, delta)
                .map_err(|error| JobError::Study(error.to_string()))
        };
        let (step, fine) = (entry(self.delta)?, entry(self.delta / FINE as f64)?);
        let u = |l: usize| f64::from(self.taps.contains(&l));
        let (mut h, mut exact_h) = (0.0, 0.0);
        let (mut h_l, mut y_l) = (Vec::new(), Vec::new());
        let mut exact = Vec::new();
        for l in 0..TOKENS {
            // A step holds its input for Δ and ends at the token.
            for part in 1..=FINE {
                exact_h = fine.a * exact_h + fine.b * u(l);
                exact.push([l as f64 - 1.0 + part as f64 / FINE as f64, exact_h]);
            }
            h = step.a * h + step.b * u(l);
            h_l.push(h);
            y_l.push(self.c * h + self.skip * u(l));
        }
        Ok(Response {
            half_life: half_life(self.a, self.delta),
            a_bar: step.a,
            b_bar: step.b,
            h_l,
            y_l,
            exact,
        })
    }
}

/// Tokens after which half of what was written is left.
pub fn half_life(a: f64, delta: f64) -> f64 {
    std::f64::consts::LN_2 / (delta * a.abs())
}

impl Demo for OneSlot {
    const ID: &'static str = "one-slot";
    const TITLE: &'static str = "A slot that leaks";
    type Study = Self;

    fn study(&self, _: &Around) -> Option<Self> {
        Some(self.clone())
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Response>) {
        controls(ui, |ui| {
            slider(ui, "A, decay rate", &mut self.a, A);
            log_slider(ui, "Δ, step size", &mut self.delta, DELTA);
            slider(ui, "B, write", &mut self.b, WEIGHT);
            slider(ui, "C, read", &mut self.c, WEIGHT);
            slider(ui, "D, skip", &mut self.skip, WEIGHT);
            if ui.button("Clear the taps").clicked() {
                self.taps.clear();
            }
        });
        let Some(answer) = scene.answer else { return };
        let weak = theme::palette(ui.visuals()).weak_text;
        formula(
            ui,
            &format!(
                r"\bar A = e^{{\Delta A}} = {} \qquad \bar B = {} \qquad \frac{{\ln 2}}{{\Delta\,|A|}} = {} \text{{ tokens}}",
                number_tex(answer.a_bar),
                number_tex(answer.b_bar),
                number_tex(answer.half_life),
            ),
        );
        let clicked = picture(ui, 300.0, |ui| self.plot(ui, answer, scene));
        if let Some(token) = clicked {
            match self.taps.iter().position(|&tap| tap == token) {
                Some(found) => {
                    self.taps.remove(found);
                }
                None => self.taps.push(token),
            }
        }
        footnote(
            ui,
            "Click the plot to tap an impulse into the slot, or to take one back.",
            weak,
        );
    }

    fn clamp(&mut self) {
        self.a = clamped(self.a, A);
        self.delta = clamped(self.delta, DELTA);
        for weight in [&mut self.b, &mut self.c, &mut self.skip] {
            *weight = clamped(*weight, WEIGHT);
        }
        self.taps.retain(|&tap| tap < TOKENS);
        self.taps.dedup();
        self.taps.truncate(TOKENS);
    }

    fn ends() -> Vec<Self> {
        let at = |a, delta, weight, taps| Self {
            a,
            b: weight,
            c: weight,
            skip: weight,
            delta,
            taps,
        };
        vec![
            at(*A.start(), *DELTA.end(), *WEIGHT.end(), vec![0]),
            at(*A.end(), *DELTA.start(), *WEIGHT.start(), Vec::new()),
        ]
    }

    fn live(&self, symbol: &str, answer: Option<&Response>) -> Option<String> {
        Some(match symbol {
            "A" => number(self.a as f32),
            "B" => number(self.b as f32),
            "C" => number(self.c as f32),
            "D" => number(self.skip as f32),
            "Δ" => number(self.delta as f32),
            "\\bar A" => number(answer?.a_bar as f32),
            "\\bar B" => number(answer?.b_bar as f32),
            _ => return None,
        })
    }
}

impl OneSlot {
    /// Draws the plot, and gives the token that was clicked.
    fn plot(&self, ui: &mut Ui, answer: &Response, scene: &Scene<'_, Response>) -> Option<usize> {
        let palette = theme::palette(ui.visuals());
        let [state, output, input, ..] = palette.series;
        let guess = scene.guess("half-life");
        let key = |ui: &mut Ui| {
            if guess.is_some() {
                guess_key(ui);
            }
            line_key(ui, output, "y = C h + D u".to_owned());
            line_key(
                ui,
                state,
                "h: recurrence (dots), equation (line)".to_owned(),
            );
            line_key(ui, input, "input u".to_owned());
        };
        let plot = over_tokens(ui, "one slot", "value")
            .include_x(-1.0)
            .include_x(TOKENS as f64)
            .include_y(1.1)
            .include_y(-0.1)
            .allow_drag(false)
            .allow_zoom(false)
            .allow_double_click_reset(false);
        let last_tap = self.taps.iter().max().copied();
        let mut clicked = None;
        show_plot(ui, "State and output over tokens", key, plot, |plot| {
            for &tap in &self.taps {
                let stem = vec![[tap as f64, 0.0], [tap as f64, 1.0]];
                plot.line(Line::new("input u", stem).color(input).width(2.0));
            }
            plot.line(Line::new("h, equation", answer.exact.clone()).color(state));
            let dots = |values: &[f64]| -> PlotPoints<'static> {
                values
                    .iter()
                    .enumerate()
                    .map(|(l, &value)| [l as f64, value])
                    .collect()
            };
            plot.points(
                Points::new("h, recurrence", dots(&answer.h_l))
                    .color(state)
                    .radius(2.5),
            );
            plot.line(Line::new("y", dots(&answer.y_l)).color(output));
            if let (Some(guess), Some(tap)) = (guess, last_tap) {
                plot.vline(VLine::new("your guess", tap as f64 + guess).color(palette.accent));
            }
            if plot.response().clicked() {
                clicked = plot.pointer_coordinate().and_then(token_at);
            }
        });
        clicked
    }
}

/// The token a click is nearest to.
fn token_at(at: PlotPoint) -> Option<usize> {
    let token = at.x.round();
    (0.0..TOKENS as f64)
        .contains(&token)
        .then_some(token as usize)
}
