//! Demos and experiments of the lesson `delta-is-the-gate`: what Δ does to a slot that has A = −1, and to its fifteen siblings.

mod experiments;
mod gate;
mod ladder;

use crate::demo::DemoEntry;
use crate::experiment::Experiment;

/// The demos, as the page shows them.
pub const DEMOS: &[DemoEntry] = &[
    DemoEntry::of::<gate::Gate>(),
    DemoEntry::of::<ladder::Ladder>(),
];

/// The experiments, as the page shows them.
pub const EXPERIMENTS: &[Experiment] = &[
    experiments::THEOREM,
    experiments::LADDER,
    experiments::HOLDING,
];

/// Share that slot `n` (A = −n) keeps over `tokens` tokens whose Δ is softplus(z).
fn kept(z: f64, n: usize, tokens: f64) -> f64 {
    (-mambascope_core::scan::softplus(z) * n as f64 * tokens).exp()
}
