//! Demos and experiments of the lesson `mamba-block`: a block stage by stage, and where its work is.

pub(super) mod macs;

use crate::demo::DemoEntry;
use crate::experiment::Experiment;

/// The demos, as the page shows them.
pub const DEMOS: &[DemoEntry] = &[];

/// The experiments, as the page shows them.
pub const EXPERIMENTS: &[Experiment] = &[];
