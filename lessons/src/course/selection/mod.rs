//! Demos and experiments of the lesson `selection`: puzzles that need parameters set by the token.

mod cell;
mod experiments;
mod puzzle;
mod selection_puzzles;

use crate::demo::DemoEntry;
use crate::experiment::Experiment;

/// The demos, as the page shows them.
pub const DEMOS: &[DemoEntry] = &[DemoEntry::of::<selection_puzzles::SelectionPuzzles>()];

/// The experiments, as the page shows them.
pub const EXPERIMENTS: &[Experiment] = &[
    experiments::SELECTIVE_COPY,
    experiments::CIRCUITS,
    experiments::HOLDING,
];
