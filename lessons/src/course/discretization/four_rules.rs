//! One equation, stepped under several rules: where each one goes, its pole on the unit disc, its error against the step.

use std::ops::{ControlFlow, RangeInclusive};

use egui::Ui;
use mambascope_core::discretize::Discretization;
use mambascope_core::job::{JobError, Progress, Workshop};
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use super::four_rules_plots::{errors, poles, table, trajectories};
use super::ode::{Input, Ode, Sample, Shape, WINDOW, mean_distance, slope};
use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::controls::{choice, clamped, columns, controls, log_slider};
use crate::widgets::formula::{formula, number_tex};
use crate::widgets::number;
use crate::widgets::plots::footnote;

/// |A|, per unit of time.
const RATE: RangeInclusive<f64> = 0.5..=4.0;
/// Δ, in units of time.
const DELTA: RangeInclusive<f64> = 0.01..=5.0;
/// Step sizes at which errors are measured.
const SIZES: usize = 28;
/// Step sizes at which poles are drawn.
const TRAIL: usize = 120;
/// Points of the exact solution, at least.
const FINE: usize = 800;
/// Slopes are fitted up to this Δ·|A|: beyond, errors are not yet powers of the step.
const SMALL: f64 = 0.1;
/// What is left of rounding is no error of a rule.
const ROUNDING: f64 = 1e-11;

/// The rules, in the order of the table and of their colours.
pub const RULES: [Discretization; 5] = [
    Discretization::Euler,
    Discretization::Bilinear,
    Discretization::ZeroOrderHold,
    Discretization::ExponentialEuler,
    Discretization::ExponentialTrapezoidal { lambda: 0.5 },
];

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FourRules {
    shape: Shape,
    rate: f64,
    input: Input,
    delta: f64,
    /// Which of [`RULES`] are drawn.
    pub(super) shown: [bool; RULES.len()],
}

impl Default for FourRules {
    fn default() -> Self {
        Self {
            shape: Shape::Real,
            rate: 1.0,
            input: Input::Held,
            delta: 0.8,
            shown: [true, true, true, true, false],
        }
    }
}

/// The controls that something is computed from.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    ode: Ode,
    delta: f64,
}

/// What the controls give.
pub struct Comparison {
    /// Whether A is real.
    pub(super) is_real: bool,
    /// Δ·|A|.
    pub(super) z: f64,
    /// The exact solution: time, state.
    pub(super) exact: Vec<[f64; 2]>,
    /// Beyond this size a state is off the picture.
    pub(super) limit: f64,
    /// One of each of [`RULES`].
    pub(super) rules: Vec<Rule>,
}

/// What one rule does.
pub struct Rule {
    /// Ā, real and imaginary part.
    pub(super) pole: [f64; 2],
    /// B̄ of this input and of the one before; sizes, where A is a pair.
    pub(super) write: [f64; 2],
    /// Ā for every step size of the slider.
    pub(super) trail: Vec<[f64; 2]>,
    /// Time, state: up to where it leaves the picture.
    pub(super) path: Vec<[f64; 2]>,
    /// Whether it leaves it.
    pub(super) has_left: bool,
    /// Mean distance from the exact solution.
    pub(super) error: f64,
    /// Log10 of Δ·|A|, log10 of the error.
    pub(super) errors: Vec<[f64; 2]>,
    /// Slope of the small ones; none where there is no error but rounding.
    pub(super) slope: Option<f64>,
}

impl Rule {
    /// |Ā|.
    pub(super) fn growth(&self) -> f64 {
        self.pole[0].hypot(self.pole[1])
    }

    /// Whether a state grows without input: by more than rounding.
    pub(super) fn explodes(&self) -> bool {
        self.growth() > 1.0 + 1e-9
    }
}

/// `count` step sizes over the range of the slider.
fn sizes(count: usize) -> impl Iterator<Item = f64> {
    let (from, to) = (DELTA.start().ln(), DELTA.end().ln());
    (0..count).map(move |i| (from + i as f64 / (count - 1) as f64 * (to - from)).exp())
}

impl Study for Setting {
    type Answer = Comparison;

    fn compute(
        &self,
        _: &mut Workshop,
        _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Comparison, JobError> {
        let steps = (WINDOW / self.delta) as usize;
        let parts = FINE.div_ceil(steps).max(2);
        let exact = self.ode.exact(self.delta, steps, parts)?;
        let largest = exact.iter().fold(0.0, |most: f64, h| most.max(h[0].abs()));
        let limit = 3.0 * largest;
        let ends: Vec<[f64; 2]> = exact.iter().step_by(parts).copied().collect();
        let measured: Vec<Measured> = sizes(SIZES)
            .map(|delta| self.measured(delta))
            .collect::<Result<_, JobError>>()?;
        let rules = RULES
            .into_iter()
            .map(|rule| self.rule(rule, limit, &ends, &measured))
            .collect::<Result<_, JobError>>()?;
        let fine = self.delta / parts as f64;
        let exact = (0..).zip(exact);
        Ok(Comparison {
            is_real: self.ode.shape == Shape::Real,
            z: self.delta * self.ode.rate,
            exact: exact.map(|(i, h)| [f64::from(i) * fine, h[0]]).collect(),
            limit,
            rules,
        })
    }
}

/// A step size at which errors are measured.
struct Measured {
    delta: f64,
    /// The exact solution at the start and at the end of each step.
    ends: Vec<[f64; 2]>,
}

impl Setting {
    /// The step size nearest to `wanted` that fills the window.
    fn measured(&self, wanted: f64) -> Result<Measured, JobError> {
        let steps = (WINDOW / wanted).round() as usize;
        let delta = WINDOW / steps as f64;
        // Two parts: else zero-order hold would be measured against itself.
        let exact = self.ode.exact(delta, steps, 2)?;
        let ends = exact.into_iter().step_by(2).collect();
        Ok(Measured { delta, ends })
    }

    /// Runs a rule. `ends` is the exact solution at the start and at the end of each step.
    fn rule(
        &self,
        rule: Discretization,
        limit: f64,
        ends: &[[f64; 2]],
        measured: &[Measured],
    ) -> Result<Rule, JobError> {
        let sample = Sample::of(rule);
        let pole = |delta: f64| {
            let step = self.ode.step(rule, delta)?;
            Ok::<_, JobError>([step.a_nn[[0, 0]], step.a_nn[[1, 0]]])
        };
        let step = self.ode.step(rule, self.delta)?;
        let run = |delta, ends: &[[f64; 2]]| self.ode.run(rule, sample, delta, ends.len() - 1);
        let states = run(self.delta, ends)?;
        let inside = states.iter().take_while(|h| h[0].abs() <= limit).count();
        let path = (0..).zip(&states).take(inside);
        let (mut errors, mut small) = (Vec::new(), Vec::new());
        for Measured { delta, ends } in measured {
            let error = mean_distance(&run(*delta, ends)?, ends.iter());
            let point = [(delta * self.ode.rate).log10(), error.log10()];
            if error > ROUNDING {
                errors.push(point);
            }
            if error > ROUNDING && delta * self.ode.rate <= SMALL {
                small.push(point);
            }
        }
        let size = |b_n: &ndarray::Array1<f64>| b_n[0].hypot(b_n[1]);
        Ok(Rule {
            pole: pole(self.delta)?,
            write: [size(&step.b_n), size(&step.b_prev_n)],
            trail: sizes(TRAIL).map(pole).collect::<Result<_, JobError>>()?,
            path: path
                .map(|(k, h)| [f64::from(k) * self.delta, h[0]])
                .collect(),
            has_left: inside < states.len(),
            error: mean_distance(&states, ends.iter()),
            errors,
            slope: slope(&small),
        })
    }
}

impl Demo for FourRules {
    const ID: &'static str = "four-rules";
    const TITLE: &'static str = "Four ways to take a step";
    type Study = Setting;

    fn study(&self, _: &Around) -> Option<Setting> {
        Some(Setting {
            ode: Ode {
                shape: self.shape,
                rate: self.rate,
                input: self.input,
            },
            delta: self.delta,
        })
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Comparison>) {
        controls(ui, |ui| {
            log_slider(ui, "Δ, step size", &mut self.delta, DELTA);
            log_slider(ui, "|A|, rate", &mut self.rate, RATE);
        });
        controls(ui, |ui| {
            let shapes = [(Shape::Real, "real"), (Shape::Pair, "complex pair")];
            choice(ui, "A", &mut self.shape, &shapes);
            let inputs = [
                (Input::Held, "held steps"),
                (Input::Sine, "sine"),
                (Input::Impulse, "one impulse"),
            ];
            choice(ui, "input u", &mut self.input, &inputs);
        });
        let line = format!(
            r"h' = A h + u \qquad A = {} \qquad \Delta\,|A| = {}",
            self.a_text().replace('±', r"\pm ").replace('i', r"\,i"),
            number_tex(self.delta * self.rate)
        );
        formula(ui, &line);
        let answer = scene.answer;
        columns(ui, 236.0, 2, |column, ui| match column {
            0 => trajectories(ui, &self.shown, answer),
            _ => poles(ui, &self.shown, answer),
        });
        ui.add_space(6.0);
        let guess = scene.guess("euler-explodes");
        columns(ui, 210.0, 2, |column, ui| match column {
            0 => errors(ui, &self.shown, answer, guess),
            _ => table(ui, &mut self.shown, answer),
        });
        let weak = theme::palette(ui.visuals()).weak_text;
        footnote(ui, self.note(), weak);
    }

    fn clamp(&mut self) {
        self.rate = clamped(self.rate, RATE);
        self.delta = clamped(self.delta, DELTA);
    }

    fn ends() -> Vec<Self> {
        let at = |shape, rate: &f64, input, delta: &f64, shown| Self {
            shape,
            rate: *rate,
            input,
            delta: *delta,
            shown: [shown; RULES.len()],
        };
        let (slow, fast) = (RATE.start(), RATE.end());
        let (short, long) = (DELTA.start(), DELTA.end());
        vec![
            at(Shape::Real, slow, Input::Held, short, true),
            at(Shape::Real, fast, Input::Sine, long, true),
            at(Shape::Pair, slow, Input::Impulse, short, false),
            at(Shape::Pair, fast, Input::Held, long, true),
            at(Shape::Pair, fast, Input::Sine, short, true),
            at(Shape::Real, slow, Input::Impulse, long, true),
        ]
    }

    fn live(&self, symbol: &str, answer: Option<&Comparison>) -> Option<String> {
        let first = self.shown.iter().position(|&shown| shown);
        let rule = |value: &dyn Fn(&Rule) -> f64| {
            let rule = answer?.rules.get(first?)?;
            let name = RULES.get(first?)?.title();
            Some(format!("{} ({name})", number(value(rule) as f32)))
        };
        match symbol {
            "A" => Some(self.a_text()),
            "Δ" => Some(number(self.delta as f32)),
            r"\bar A" if self.shape == Shape::Real => rule(&|rule| rule.pole[0]),
            r"\bar B" if self.shape == Shape::Real => rule(&|rule| rule.write[0]),
            _ => None,
        }
    }
}

impl FourRules {
    /// A, as text.
    fn a_text(&self) -> String {
        let ode = Ode {
            shape: self.shape,
            rate: self.rate,
            input: self.input,
        };
        let [re, im] = ode.a();
        match self.shape {
            Shape::Real => number(re as f32),
            Shape::Pair => format!("{} ± {} i", number(re as f32), number(im as f32)),
        }
    }

    /// What the input is, and what an error is.
    fn note(&self) -> &'static str {
        match self.input {
            Input::Held => {
                "The input is constant within each step, whatever the step: zero-order hold then makes no error at all. The \
                 trapezoid takes it for a line between two inputs. Error: mean distance from the exact solution at the ends of \
                 the steps. Slopes are fitted where Δ·|A| ≤ 0.1."
            }
            Input::Sine => {
                "Each rule reads the sine in the middle of its step, the trapezoid at both ends. Error: mean distance from the \
                 exact solution at the ends of the steps. Slopes are fitted where Δ·|A| ≤ 0.1."
            }
            Input::Impulse => {
                "An area of one within the first step, then nothing: the rest is the pole's doing. (The trapezoid takes half of it \
                 one step late.) Error: mean distance from the exact solution at the ends of the steps. Slopes are fitted where Δ·|A| ≤ 0.1."
            }
        }
    }
}
