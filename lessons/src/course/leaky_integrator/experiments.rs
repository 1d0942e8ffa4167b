//! What the page about one slot claims.

use mambascope_core::discretize::Discretization;
use mambascope_core::job::JobError;
use mambascope_core::noise::Noise;

use super::one_slot::half_life;
use crate::experiment::{Bench, Expected, Experiment, Finding};

/// Half-lives counted in a running recurrence.
pub const HALF_LIFE: Experiment = Experiment {
    name: "half-life",
    title: "A written value halves in ln 2 / (Δ·|A|) tokens",
    run: half_lives,
};

fn half_lives(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let noise = Noise::new(1, "half-life");
    let mut worst: f64 = 0.0;
    for pair in 0..100 {
        // |A| from 1 to 16, Δ from 0.001 to 0.1: what Mamba begins with.
        let a = -(16f64.powf(f64::from(noise.uniform(2 * pair))));
        let delta = 0.001 * 100f64.powf(f64::from(noise.uniform(2 * pair + 1)));
        let counted = counted_half_life(a, delta)? as f64;
        let difference = counted - half_life(a, delta);
        // The count is the first whole token at or behind the half-life.
        worst = worst.max(difference.abs());
    }
    Ok(vec![
        Finding::new(
            "example",
            "ln 2 / (Δ·|A|) at A = −4, Δ = 0.01",
            Expected::near(17.3, 0.05),
            half_life(-4.0, 0.01),
        )
        .in_unit("tokens"),
        Finding::new(
            "counted",
            "tokens until a running slot with A = −4, Δ = 0.01 is at half",
            Expected::exactly(18.0),
            counted_half_life(-4.0, 0.01)? as f64,
        )
        .in_unit("tokens"),
        Finding::new(
            "longest",
            "the slowest slot Mamba begins with: A = −1, Δ = 0.001",
            Expected::near(693.0, 0.5),
            half_life(-1.0, 0.001),
        )
        .in_unit("tokens"),
        Finding::new(
            "shortest",
            "the quickest: A = −16, Δ = 0.1",
            Expected::near(0.43, 0.005),
            half_life(-16.0, 0.1),
        )
        .in_unit("tokens"),
        Finding::new(
            "worst",
            "largest difference between counted and computed, 100 random pairs",
            Expected::AtMost(1.0),
            worst,
        )
        .in_unit("tokens"),
    ])
}

/// Runs a slot that holds 1 until it holds half of it or less.
fn counted_half_life(a: f64, delta: f64) -> Result<usize, JobError> {
    let step = Discretization::ZeroOrderHold
        .entry(a, 1.0, delta)
        .map_err(|error| JobError::Study(error.to_string()))?;
    let mut h = 1.0;
    let mut tokens = 0;
    while h > 0.5 {
        h *= step.a;
        tokens += 1;
    }
    Ok(tokens)
}
