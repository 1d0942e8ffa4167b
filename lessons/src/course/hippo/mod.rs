//! Demos and experiments of the lesson `hippo`.

use crate::demo::DemoEntry;
use crate::experiment::Experiment;

/// The demos, as the page shows them.
pub const DEMOS: &[DemoEntry] = &[];

/// The experiments, as the page shows them.
pub const EXPERIMENTS: &[Experiment] = &[];
