//! What the page about Δ as a gate claims.

use mambascope_core::discretize::Discretization;
use mambascope_core::job::JobError;
use mambascope_core::noise::Noise;
use mambascope_core::scan::{sigmoid, softplus};

use super::kept;
use crate::course::shared::refused;
use crate::experiment::{Bench, Expected, Experiment, Finding};

/// The theorem, and where it ends.
pub const THEOREM: Experiment = Experiment {
    name: "gate-theorem",
    title: "With A = −1, B = 1 and Δ = softplus(z) a step is a gate, exactly, under zero-order hold",
    run: theorem,
};

/// One gate, sixteen powers of it.
pub const LADDER: Experiment = Experiment {
    name: "gate-ladder",
    title: "Slot n keeps 1 − g to the power of n",
    run: ladder,
};

/// How low z has to be to hold on.
pub const HOLDING: Experiment = Experiment {
    name: "gate-holding",
    title: "softplus never reaches zero: holding over many tokens takes a z far below it",
    run: holding,
};

fn theorem(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let noise = Noise::new(7, "gate-theorem");
    let (mut keep, mut write, mut run) = (0f64, 0f64, 0f64);
    let (mut h, mut gated) = (0.0, 0.0);
    for i in 0..1000 {
        let z = 16.0 * f64::from(noise.uniform(2 * i)) - 8.0;
        let x = f64::from(noise.normal(2 * i + 1));
        let step = Discretization::ZeroOrderHold
            .entry(-1.0, 1.0, softplus(z))
            .map_err(refused)?;
        let g = sigmoid(z);
        keep = keep.max((step.a - (1.0 - g)).abs());
        write = write.max((step.b - g).abs());
        h = step.a * h + step.b * x;
        gated = (1.0 - g) * gated + g * x;
        run = run.max((h - gated).abs());
    }
    let shipped = Discretization::ExponentialEuler
        .entry(-1.0, 1.0, softplus(4.0))
        .map_err(refused)?;
    // A few units in the last place of numbers up to 1, and of a state of a few units.
    let bound = |name, what: &str, found| Finding::new(name, what, Expected::AtMost(2e-15), found);
    Ok(vec![
        bound(
            "keep",
            "largest |exp(−Δ) − (1 − σ(z))|, 1,000 random z",
            keep,
        ),
        bound("write", "largest |B̄ of zero-order hold − σ(z)|", write),
        bound(
            "run",
            "largest difference of the states, slot against gate, over 1,000 tokens",
            run,
        ),
        Finding::new(
            "shipped",
            "weight of a new input as shipped, z = 4",
            Expected::near(4.018, 5e-4),
            shipped.b,
        ),
        Finding::new(
            "gate",
            "σ(4), what a gate would give it",
            Expected::near(0.982, 5e-4),
            sigmoid(4.0),
        ),
    ])
}

fn ladder(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    // σ(z) = 0.1.
    let z = (0.1f64 / 0.9).ln();
    let slot = |name, n: usize, expected: f64| {
        let what = format!("slot {n} at g = 0.1");
        Finding::new(name, what, Expected::near(expected, 5e-4), kept(z, n, 1.0))
    };
    let apart = (1..=16).map(|n| (kept(z, n, 1.0) - 0.9f64.powi(n as i32)).abs());
    Ok(vec![
        slot("one", 1, 0.9),
        slot("two", 2, 0.81),
        slot("four", 4, 0.656),
        slot("eight", 8, 0.430),
        slot("sixteen", 16, 0.185),
        Finding::new(
            "powers",
            "largest |exp(−nΔ) − 0.9^n|, sixteen slots",
            Expected::AtMost(1e-15),
            apart.fold(0.0, f64::max),
        ),
    ])
}

fn holding(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let held = |name, z: f64, n: usize, tokens: f64, expected: f64, tolerance: f64| {
        let what = format!("slot {n} after {tokens} tokens at z = {z}");
        Finding::new(
            name,
            what,
            Expected::near(expected, tolerance),
            kept(z, n, tokens),
        )
    };
    // Half is left after L tokens where L·softplus(z) = ln 2.
    let half = |tokens: f64| (std::f64::consts::LN_2 / tokens).exp_m1().ln();
    Ok(vec![
        held("loose", -5.0, 1, 1000.0, 0.0012, 5e-5),
        held("half", -7.27, 1, 1000.0, 0.499, 5e-3),
        held("tight", -10.0, 1, 1000.0, 0.956, 5e-4),
        held("tight-sixteen", -10.0, 16, 1000.0, 0.484, 5e-4),
        held("million", -14.2, 1, 1e6, 0.506, 5e-4),
        Finding::new(
            "half-at",
            "z at which slot 1 keeps half over 1,000 tokens",
            Expected::near(-7.27, 5e-3),
            half(1000.0),
        ),
    ])
}
