//! Demos and experiments of the lesson `reading-a-trained-mamba`.

use crate::demo::DemoEntry;
use crate::experiment::Experiment;

/// The demos, as the page shows them.
pub const DEMOS: &[DemoEntry] = &[];

/// The experiments, as the page shows them.
pub const EXPERIMENTS: &[Experiment] = &[];
