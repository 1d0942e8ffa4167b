//! Demos and experiments of the lesson `ssd-duality`: the scan as one matrix, its masks, and the rank of its blocks.

mod experiments;
mod mixing;
mod one_matrix;
mod paint;

use crate::demo::DemoEntry;
use crate::experiment::Experiment;

/// The demos, as the page shows them.
pub const DEMOS: &[DemoEntry] = &[DemoEntry::of::<one_matrix::OneMatrix>()];

/// The experiments, as the page shows them.
pub const EXPERIMENTS: &[Experiment] = &[
    experiments::TWO_WAYS,
    experiments::RANK_OF_THE_PAST,
    experiments::BLOCK_SIZE,
];
