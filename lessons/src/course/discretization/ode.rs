//! One differential equation, h' = A h + u, stepped under a rule of the engine and solved exactly beside it.
//!
//! The state has two numbers, `[n] = [2]`: real and imaginary part of one slot. A real A leaves the second at zero.

use std::f64::consts::TAU;

use mambascope_core::discretize::{Continuous, Discrete, Discretization, exponential};
use mambascope_core::job::JobError;
use ndarray::{Array1, Array2, array, s};
use serde::{Deserialize, Serialize};

use crate::course::shared::refused;

/// How long the equation runs, in units of time.
pub const WINDOW: f64 = 20.0;
/// Angular frequency of the sine: two periods in the window.
const OMEGA: f64 = TAU * 2.0 / WINDOW;
/// What the held input is in each quarter of the window.
const LEVELS: [f64; 4] = [1.0, -0.5, 0.8, 0.0];
/// Real part of the complex pair, over its size.
const DAMPING: f64 = 0.3;

/// What kind of A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// −|A|.
    Real,
    /// |A| (−0.3 ± 0.954 i).
    Pair,
}

/// What is fed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Constant within every step.
    Held,
    /// Smooth.
    Sine,
    /// An area of one in the first step, then nothing.
    Impulse,
}

/// Where in a step the sine is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// In its middle.
    Middle,
    /// At its end.
    End,
}

impl Sample {
    /// Where a rule wants it: the trapezoid has corners, the others take one value for the whole step.
    pub fn of(rule: Discretization) -> Self {
        match rule {
            Discretization::ExponentialTrapezoidal { .. } => Self::End,
            _ => Self::Middle,
        }
    }
}

/// The equation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ode {
    /// Real or a pair.
    pub shape: Shape,
    /// |A|, per unit of time.
    pub rate: f64,
    /// u.
    pub input: Input,
}

impl Ode {
    /// Real and imaginary part of A.
    pub fn a(&self) -> [f64; 2] {
        match self.shape {
            Shape::Real => [-self.rate, 0.0],
            Shape::Pair => [
                -DAMPING * self.rate,
                (1.0 - DAMPING * DAMPING).sqrt() * self.rate,
            ],
        }
    }

    fn continuous(&self) -> Continuous {
        let [re, im] = self.a();
        Continuous {
            a_nn: array![[re, -im], [im, re]],
            b_n: array![1.0, 0.0],
        }
    }

    /// A step of the engine.
    ///
    /// # Errors
    /// When there is no such step.
    pub fn step(&self, rule: Discretization, delta: f64) -> Result<Discrete, JobError> {
        rule.dense(&self.continuous(), delta).map_err(refused)
    }

    /// The input of step `k`, counted from 1; of step 0 what was before the first.
    fn given(&self, sample: Sample, delta: f64, k: usize) -> f64 {
        let end = k as f64 * delta;
        let middle = end - 0.5 * delta;
        match self.input {
            Input::Sine if sample == Sample::End => (OMEGA * end).sin(),
            Input::Sine => (OMEGA * middle).sin(),
            Input::Held if k == 0 => 0.0,
            Input::Held => {
                let quarter = (middle / WINDOW * LEVELS.len() as f64) as usize;
                LEVELS.get(quarter).copied().unwrap_or_default()
            }
            Input::Impulse if k == 1 => 1.0 / delta,
            Input::Impulse => 0.0,
        }
    }

    /// The state before the first step and after each: `steps` + 1 of them.
    ///
    /// # Errors
    /// When there is no such step.
    pub fn run(
        &self,
        rule: Discretization,
        sample: Sample,
        delta: f64,
        steps: usize,
    ) -> Result<Vec<[f64; 2]>, JobError> {
        let step = self.step(rule, delta)?;
        let mut h_n = Array1::zeros(2);
        let mut states = vec![[0.0; 2]];
        for k in 1..=steps {
            let before = self.given(sample, delta, k - 1);
            h_n = step.step(h_n.view(), before, self.given(sample, delta, k));
            states.push([h_n[0], h_n[1]]);
        }
        Ok(states)
    }

    /// The exact solution at the start and at `parts` points of every step.
    ///
    /// # Errors
    /// When there is no such step.
    pub fn exact(&self, delta: f64, steps: usize, parts: usize) -> Result<Vec<[f64; 2]>, JobError> {
        let fine = delta / parts as f64;
        let mut states = vec![[0.0; 2]];
        if self.input == Input::Sine {
            // The sine is two more slots that turn on their own: with them nothing comes from outside, and e^(A Δ) is the answer.
            let mut a_nn = Array2::zeros((4, 4));
            a_nn.slice_mut(s![..2, ..2]).assign(&self.continuous().a_nn);
            (a_nn[[0, 2]], a_nn[[2, 3]], a_nn[[3, 2]]) = (1.0, OMEGA, -OMEGA);
            let turn_nn = exponential((a_nn * fine).view()).map_err(refused)?;
            let mut h_n = array![0.0, 0.0, 0.0, 1.0];
            for _ in 0..steps * parts {
                h_n = turn_nn.dot(&h_n);
                states.push([h_n[0], h_n[1]]);
            }
            return Ok(states);
        }
        let step = self.step(Discretization::ZeroOrderHold, fine)?;
        let mut h_n = Array1::zeros(2);
        for part in 0..steps * parts {
            let u = self.given(Sample::Middle, delta, part / parts + 1);
            h_n = step.step(h_n.view(), 0.0, u);
            states.push([h_n[0], h_n[1]]);
        }
        Ok(states)
    }

    /// Mean distance between rule and exact solution at the ends of the steps, the window cut into `steps`.
    ///
    /// # Errors
    /// When there is no such step.
    pub fn error(
        &self,
        rule: Discretization,
        sample: Sample,
        steps: usize,
    ) -> Result<f64, JobError> {
        let delta = WINDOW / steps as f64;
        let states = self.run(rule, sample, delta, steps)?;
        let exact = self.exact(delta, steps, 2)?;
        Ok(mean_distance(&states, exact.iter().step_by(2)))
    }
}

/// Mean distance of states, the first not counted.
pub fn mean_distance<'a>(states: &[[f64; 2]], exact: impl Iterator<Item = &'a [f64; 2]>) -> f64 {
    let distances = states
        .iter()
        .zip(exact)
        .skip(1)
        .map(|(h, other)| (h[0] - other[0]).hypot(h[1] - other[1]));
    distances.sum::<f64>() / (states.len() - 1).max(1) as f64
}

/// Slope of the straight line nearest to the points; none through fewer than three.
pub fn slope(points: &[[f64; 2]]) -> Option<f64> {
    if points.len() < 3 {
        return None;
    }
    let count = points.len() as f64;
    let mean = |i: usize| points.iter().map(|point| point[i]).sum::<f64>() / count;
    let (x, y) = (mean(0), mean(1));
    let both: f64 = points.iter().map(|p| (p[0] - x) * (p[1] - y)).sum();
    let square: f64 = points.iter().map(|p| (p[0] - x).powi(2)).sum();
    Some(both / square)
}
