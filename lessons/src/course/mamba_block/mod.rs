//! Demos and experiments of the lesson `mamba-block`: a block stage by stage, and where its work is.

mod block_debugger;
mod experiments;
mod forward;
mod forward2;
mod mac_shares;
pub(super) mod macs;
mod stages;

use crate::demo::DemoEntry;
use crate::experiment::Experiment;

/// The demos, as the page shows them.
pub const DEMOS: &[DemoEntry] = &[
    DemoEntry::of::<block_debugger::BlockDebugger>(),
    DemoEntry::of::<mac_shares::MacShares>(),
];

/// The experiments, as the page shows them.
pub const EXPERIMENTS: &[Experiment] =
    &[experiments::MACS, experiments::COUNTS, experiments::NO_CONV];
