//! Demos and experiments of the lesson `discretization`.

mod four_rules;
mod four_rules_plots;
mod ode;
mod theory;

use crate::demo::DemoEntry;
use crate::experiment::Experiment;

/// The demos, as the page shows them.
pub const DEMOS: &[DemoEntry] = &[DemoEntry::of::<four_rules::FourRules>()];

/// The experiments, as the page shows them.
pub const EXPERIMENTS: &[Experiment] = &[theory::ORDERS, theory::LIMIT, theory::WRITE_RATIO];
