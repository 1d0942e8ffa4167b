//! Demos and experiments of the lesson `s4-to-s4d`: what the structure of A costs, and what it saves.

mod cost_of_structure;
mod experiments;
mod kernels;

use crate::demo::DemoEntry;
use crate::experiment::Experiment;

/// The demos, as the page shows them.
pub const DEMOS: &[DemoEntry] = &[DemoEntry::of::<cost_of_structure::CostOfStructure>()];

/// The experiments, as the page shows them.
pub const EXPERIMENTS: &[Experiment] = &[
    experiments::DIGITS_LOST,
    experiments::SAME_KERNEL,
    experiments::S4D_APPROACHES_S4,
];
