//! Running a recurrence backwards: h[t−1] = (h[t] − B̄u[t]) / Ā, in the precision of the state.

use mambascope_core::noise::Noise;

/// A rewound slot is lost where it is off by more than this share of the state's usual size.
pub(super) const LOST: f64 = 0.1;

/// Tokens run before the rewinding begins: long enough for the state to have its usual size.
const WARM: usize = 200;

/// A recurrence in f32, rewound from its end: the error after each step back, over the root mean square of the state.
pub(super) fn rewind_errors(decay: f32, steps: usize, seed: u64) -> Vec<f64> {
    let noise = Noise::new(seed, "rewind");
    let tokens = WARM + steps;
    // What each token writes; its size does not matter, errors are measured against the state's.
    let written: Vec<f32> = (0..tokens).map(|t| noise.normal(t)).collect();
    let mut h = 0.0f32;
    let mut states = vec![h];
    for write in &written {
        h = decay * h + write;
        states.push(h);
    }
    let late = states.get(WARM..).unwrap_or(&[]);
    let square = late.iter().map(|&h| f64::from(h).powi(2)).sum::<f64>() / late.len().max(1) as f64;
    let size = square.sqrt().max(f64::MIN_POSITIVE);
    let mut errors = vec![0.0];
    for t in (tokens - steps..tokens).rev() {
        h = (h - written[t]) / decay;
        let error = f64::from(h) - f64::from(states[t]);
        // A state that overflowed is as lost as can be.
        errors.push(if error.is_finite() {
            error.abs() / size
        } else {
            f64::MAX
        });
    }
    errors
}

/// Steps back until the slot is lost, or `most`.
pub(super) fn steps_until_lost(decay: f32, most: usize, seed: u64) -> usize {
    let errors = rewind_errors(decay, most, seed);
    errors
        .iter()
        .position(|&error| error > LOST)
        .unwrap_or(most)
}

/// The median over draws of what is written.
pub(super) fn usual_steps(decay: f32, most: usize, draws: u64) -> usize {
    let mut steps: Vec<usize> = (0..draws)
        .map(|seed| steps_until_lost(decay, most, seed))
        .collect();
    steps.sort_unstable();
    steps.get(steps.len() / 2).copied().unwrap_or(0)
}
