//! Demos and experiments of the lesson `discretization`.

mod model;
mod rules_in_the_model;
mod sensitivity;

use crate::demo::DemoEntry;
use crate::experiment::Experiment;

/// The demos, as the page shows them.
pub const DEMOS: &[DemoEntry] = &[DemoEntry::of::<rules_in_the_model::RulesInTheModel>()];

/// The experiments, as the page shows them.
pub const EXPERIMENTS: &[Experiment] = &[model::RULES];
