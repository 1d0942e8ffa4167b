//! Drills in which the expected curve is dragged before it is shown.

use mambascope_core::discretize::Discretization;

use super::{CurveTask, Drawn, DrillEntry, DrillError, Task};
use crate::notebook::trial::exact_number;
use crate::practice::bank::Level;

/// Points of a curve.
const POINTS: usize = 12;
/// Mean distance that is right, as a share of the mean height: a hand drags no finer.
const TOLERANCE: f64 = 0.08;

/// Tokens between two points, so that the plot shows three half-lives or a little more.
fn apart(rate: f64) -> usize {
    (0.2 / rate).ceil() as usize
}

/// The state of one slot at every `apart`-th token, for an input that says what each token writes.
fn states(
    n: f64,
    delta: f64,
    apart: usize,
    input: fn(usize) -> f64,
) -> Result<(Vec<f64>, f64), DrillError> {
    let step = Discretization::ZeroOrderHold.entry(-n, n, delta)?;
    let mut h = 0.0;
    let mut kept = Vec::new();
    for token in 0..=apart * (POINTS - 1) {
        h = step.a * h + step.b * input(token);
        if token % apart == 0 {
            kept.push(h);
        }
    }
    Ok((kept, step.a))
}

fn curve(apart: usize, expected: Vec<f64>) -> Task {
    Task::Curve(CurveTask {
        x_name: "token",
        y_name: "h, state",
        x: (0..POINTS).map(|point| (point * apart) as f64).collect(),
        expected,
        y_range: [0.0, 1.0],
        tolerance: TOLERANCE,
    })
}

pub(super) const LEAK: DrillEntry = DrillEntry {
    id: "drill-curve-leak",
    topic: "gates",
    level: Level::Intermediate,
    title: "Drag the leak you expect",
    lesson: "leaky-integrator",
    draw: |draw| {
        let n = draw.pick(&[1.0, 2.0, 4.0, 8.0]);
        let delta = draw.pick(&[0.01, 0.02, 0.03, 0.05]);
        let apart = apart(n * delta);
        let (mut expected, a_bar) = states(n, delta, apart, |token| f64::from(token == 0))?;
        // Shown relative to what was written.
        let written = expected.first().copied().unwrap_or(1.0);
        expected.iter_mut().for_each(|h| *h /= written);
        Ok(Drawn {
            text: format!(
                "Something is written into slot {n} (A = −{n}) at token 0, and nothing afterwards; Δ = {delta}. Drag the points to where \
                 you expect the state, as a share of what was written."
            ),
            task: curve(apart, expected),
            working: format!(
                "Each token keeps Ā = exp(−{delta} · {n}) = {}, so token k has {}ᵏ: half of it is left after {} tokens.",
                exact_number(a_bar),
                exact_number(a_bar),
                exact_number(std::f64::consts::LN_2 / (delta * n))
            ),
        })
    },
};

pub(super) const FILL: DrillEntry = DrillEntry {
    id: "drill-curve-fill",
    topic: "gates",
    level: Level::Intermediate,
    title: "Drag how a slot fills",
    lesson: "leaky-integrator",
    draw: |draw| {
        let n = draw.pick(&[1.0, 2.0, 4.0, 8.0]);
        let delta = draw.pick(&[0.01, 0.02, 0.03, 0.05]);
        let apart = apart(n * delta);
        let (expected, a_bar) = states(n, delta, apart, |_| 1.0)?;
        Ok(Drawn {
            text: format!(
                "A slot with A = −{n} and B = {n} begins at 0. Its input is 1 at every token, Δ = {delta}, discretised by zero-order \
                 hold. Drag the points to where you expect the state."
            ),
            task: curve(apart, expected),
            working: format!(
                "Ā = exp(−{delta} · {n}) = {}, B̄ = 1 − Ā: token k has 1 − Āᵏ⁺¹. It fills as it leaks, and ends at B/|A| = 1.",
                exact_number(a_bar)
            ),
        })
    },
};
