//! Demos and experiments of the lesson `hybrids`: what a mix of scans and attention costs, and what one layer of attention restores.

mod bench;
mod composite;
mod cost;
mod experiments;
mod recall;
mod stack;
mod strip;

use crate::demo::DemoEntry;
use crate::experiment::Experiment;

/// The demos, as the page shows them.
pub const DEMOS: &[DemoEntry] = &[
    DemoEntry::of::<bench::HybridBench>(),
    DemoEntry::of::<recall::CompositeRecall>(),
];

/// The experiments, as the page shows them.
pub const EXPERIMENTS: &[Experiment] = &[
    experiments::JAMBA_BILL,
    experiments::LOOKING_BACK,
    experiments::ONE_ATTENTION,
];
