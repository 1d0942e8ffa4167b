//! Demos and experiments of the lesson `convolution-view`: the recurrence as a convolution, and when it is none.

mod experiments;
mod kernel_editor;
mod recurrence;

use crate::demo::DemoEntry;
use crate::experiment::Experiment;

/// The demos, as the page shows them.
pub const DEMOS: &[DemoEntry] = &[DemoEntry::of::<kernel_editor::KernelEditor>()];

/// The experiments, as the page shows them.
pub const EXPERIMENTS: &[Experiment] = &[experiments::THREE_VIEWS, experiments::NO_KERNEL];
