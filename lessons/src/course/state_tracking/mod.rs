//! Demos and experiments of the lesson `state-tracking`: what a state can follow depends on what a token may do to it.

mod experiments;
mod group;
mod group_tracker;

use crate::demo::DemoEntry;
use crate::experiment::Experiment;

/// The demos, as the page shows them.
pub const DEMOS: &[DemoEntry] = &[DemoEntry::of::<group_tracker::GroupTracker>()];

/// The experiments, as the page shows them.
pub const EXPERIMENTS: &[Experiment] =
    &[experiments::PARITY, experiments::GROUPS, experiments::ORDER];
