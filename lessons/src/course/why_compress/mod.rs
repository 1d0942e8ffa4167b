//! Demos and experiments of the lesson `why-compress`: a state of fixed size against a cache that grows, in bytes.

mod bill;
mod experiments;
mod ledger;
mod pairs;
mod state_and_cache;
mod towers;
pub(super) mod weights;

use crate::demo::DemoEntry;
use crate::experiment::Experiment;

/// The demos, as the page shows them.
pub const DEMOS: &[DemoEntry] = &[DemoEntry::of::<state_and_cache::StateAndCache>()];

/// The experiments, as the page shows them.
pub const EXPERIMENTS: &[Experiment] = &[
    experiments::LIVE_BYTES,
    experiments::STATE_SIZES,
    experiments::CROSSINGS,
    experiments::DECODE_TRAFFIC,
];
