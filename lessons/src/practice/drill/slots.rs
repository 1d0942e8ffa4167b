//! Drills on single slots: how fast they leak, what the gate does to them, how Mamba's rule differs from the exact one.

use mambascope_core::discretize::Discretization;
use mambascope_core::scan::softplus;

use super::{Draw, Drawn, DrillEntry, Task};
use crate::course::leaky_integrator::one_slot::half_life;
use crate::notebook::trial::exact_number;
use crate::practice::bank::Level;

/// Slots as they are initialised: A = −1, −2, … −16.
fn slot(draw: &mut Draw) -> f64 {
    draw.pick(&[1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0])
}

pub(super) const HALF_LIFE: DrillEntry = DrillEntry {
    id: "drill-half-life",
    topic: "foundations",
    level: Level::Basic,
    title: "Half-life of a slot",
    lesson: "leaky-integrator",
    draw: |draw| {
        let n = slot(draw);
        let delta = draw.pick(&[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1]);
        let answer = half_life(-n, delta);
        Ok(Drawn {
            text: format!(
                "Slot {n} has A = −{n}, as Mamba initialises it, and every token has Δ = {delta}. After how many tokens is half of \
                 what was written still there?"
            ),
            task: Task::number("tokens", 0.04, answer),
            working: format!(
                "Each token keeps exp(−Δ·|A|) of it, so the half-life is ln 2 / (Δ·|A|) = 0.6931 / ({delta} · {n}) = **{} tokens**.",
                exact_number(answer)
            ),
        })
    },
};

pub(super) const GATE_LADDER: DrillEntry = DrillEntry {
    id: "drill-gate-ladder",
    topic: "selection",
    level: Level::Intermediate,
    title: "One gate, sixteen time scales",
    lesson: "delta-is-the-gate",
    draw: |draw| {
        let n = slot(draw);
        let gate: f64 = draw.pick(&[0.02, 0.05, 0.1, 0.15, 0.2]);
        // The gate as the engine has it: σ(z) = g, Δ = softplus(z).
        let z = (gate / (1.0 - gate)).ln();
        let step = Discretization::ExponentialEuler.entry(-n, 1.0, softplus(z))?;
        let answer = 100.0 * step.a;
        Ok(Drawn {
            text: format!(
                "A token's Δ is softplus(z) with σ(z) = g = {gate}. Slot {n} has A = −{n}. Which share of its content does the token keep?"
            ),
            task: Task::number("%", 0.03, answer),
            working: format!(
                "exp(−softplus(z)) is exactly 1 − σ(z) = 1 − g, so slot n keeps (1 − g)ⁿ = {}^{n} = **{} %**.",
                exact_number(1.0 - gate),
                exact_number(answer)
            ),
        })
    },
};

pub(super) const HOLD_THRESHOLD: DrillEntry = DrillEntry {
    id: "drill-hold-threshold",
    topic: "selection",
    level: Level::Advanced,
    title: "How far the gate must close",
    lesson: "delta-is-the-gate",
    draw: |draw| {
        let n = draw.pick(&[1.0, 2.0, 4.0, 8.0, 16.0]);
        let tokens = draw.pick(&[100.0, 300.0, 1_000.0, 3_000.0, 10_000.0, 1_000_000.0]);
        let delta = std::f64::consts::LN_2 / (tokens * n);
        // The inverse of softplus.
        let answer = delta.exp_m1().ln();
        Ok(Drawn {
            text: format!(
                "Slot {n} (A = −{n}) is to keep half of its content over {} tokens that do not matter. How low must z be for each of \
                 them, where Δ = softplus(z)?",
                exact_number(tokens)
            ),
            task: Task::number("", 0.03, answer),
            working: format!(
                "Half is left when {} · Δ · {n} = ln 2, so Δ = {}. softplus(z) = Δ means z = ln(e^Δ − 1), close to ln Δ: **z = {}**. \
                 Every token leaks a little: softplus never reaches 0.",
                exact_number(tokens),
                exact_number(delta),
                exact_number(answer)
            ),
        })
    },
};

pub(super) const EULER_RATIO: DrillEntry = DrillEntry {
    id: "drill-euler-ratio",
    topic: "discretization",
    level: Level::Advanced,
    title: "Mamba's B̄ over the paper's",
    lesson: "discretization",
    draw: |draw| {
        let n = draw.pick(&[2.0, 4.0, 8.0, 16.0]);
        let delta = draw.pick(&[0.2, 0.3, 0.5, 0.8, 1.0]);
        let euler = Discretization::ExponentialEuler.entry(-n, 1.0, delta)?;
        let exact = Discretization::ZeroOrderHold.entry(-n, 1.0, delta)?;
        let answer = euler.b / exact.b;
        let z = delta * n;
        Ok(Drawn {
            text: format!(
                "At Δ = {delta} and A = −{n}: how many times as large is the B̄ that Mamba computes (Euler's rule) as the one that \
                 zero-order hold gives?"
            ),
            task: Task::number("times", 0.03, answer),
            working: format!(
                "Euler: B̄ = Δ·B = {delta}·B. Zero-order hold: B̄ = (1 − e^(−z))/z · Δ·B with z = Δ·|A| = {}, which is {}·B. \
                 The ratio is z / (1 − e^(−z)) = **{}**.",
                exact_number(z),
                exact_number(exact.b),
                exact_number(answer)
            ),
        })
    },
};
