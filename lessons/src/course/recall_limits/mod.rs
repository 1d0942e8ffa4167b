//! Demos and experiments of the lesson `recall-limits`: what a state of fixed size can look up.

mod experiments;
mod memory;
mod phonebook;
mod recall_cliff;
mod typed;

use crate::demo::DemoEntry;
use crate::experiment::Experiment;

/// The demos, as the page shows them.
pub const DEMOS: &[DemoEntry] = &[
    DemoEntry::of::<recall_cliff::RecallCliff>(),
    DemoEntry::of::<phonebook::Phonebook>(),
];

/// The experiments, as the page shows them.
pub const EXPERIMENTS: &[Experiment] = &[experiments::LINEAR_MEMORY, experiments::PHONEBOOK];
