//! The signals one can begin with.

use std::f64::consts::TAU;

use mambascope_core::noise::Noise;
use serde::{Deserialize, Serialize};

/// Samples that are painted.
pub const SAMPLES: usize = 256;

/// Three tones: cycles over the whole signal, and how loud.
const TONES: [(f64, f64); 3] = [(3.0, 1.0), (10.0, 0.6), (13.0, 0.3)];

/// The three tones at a share of the signal's length, 0 to 1.
pub fn tones(share: f64) -> f64 {
    let tone = |(cycles, loud): (f64, f64)| loud * (TAU * cycles * share).sin();
    TONES.into_iter().map(tone).sum()
}

/// A signal to begin with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Three tones, up to 13 cycles.
    Tones,
    /// Nothing, and something from the middle on.
    Step,
    /// Every sample on its own.
    Noise,
}

impl Start {
    /// Each with its name.
    pub const ALL: [(Self, &'static str); 3] = [
        (Self::Tones, "Three tones"),
        (Self::Step, "A step"),
        (Self::Noise, "Noise"),
    ];

    /// Its samples, oldest first.
    pub fn samples(self) -> Vec<f64> {
        let noise = Noise::new(3, "painted noise");
        let sample = |i: usize| match self {
            Self::Tones => tones(i as f64 / SAMPLES as f64) * 0.8,
            Self::Step => {
                if i < SAMPLES / 2 {
                    -0.5
                } else {
                    0.5
                }
            }
            Self::Noise => f64::from(noise.normal(i)) * 0.4,
        };
        (0..SAMPLES).map(|i| rounded(sample(i))).collect()
    }
}

/// A painted value, to three decimals: finer than a pointer, and short in a preset.
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
