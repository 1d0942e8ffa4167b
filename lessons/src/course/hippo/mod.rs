//! Demos and experiments of the lesson `hippo`: what a state of N numbers can say about the whole past.

mod experiments;
pub mod least_squares;
mod memories;
mod paint_a_signal;
mod signal;

use crate::demo::DemoEntry;
use crate::experiment::Experiment;

/// The demos, as the page shows them.
pub const DEMOS: &[DemoEntry] = &[DemoEntry::of::<paint_a_signal::PaintASignal>()];

/// The experiments, as the page shows them.
pub const EXPERIMENTS: &[Experiment] = &[
    experiments::LEGS_ERRORS,
    experiments::OTHER_MEMORIES,
    experiments::STILL_DECAYS,
];
