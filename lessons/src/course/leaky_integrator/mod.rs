//! Demos and experiments of the lesson `leaky-integrator`: one slot, and what A, B, C, D and Δ do to it.

mod experiments;
pub(crate) mod one_slot;

use crate::demo::DemoEntry;
use crate::experiment::Experiment;

/// The demos, as the page shows them.
pub const DEMOS: &[DemoEntry] = &[DemoEntry::of::<one_slot::OneSlot>()];

/// The experiments, as the page shows them.
pub const EXPERIMENTS: &[Experiment] = &[experiments::HALF_LIFE];
