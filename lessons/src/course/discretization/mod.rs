//! Demos and experiments of the lesson `discretization`: rules for a step, on one equation and on a trained model.

mod bound;
mod four_rules;
mod four_rules_plots;
mod model;
mod ode;
mod rules_in_the_model;
mod sensitivity;
mod theory;

use crate::demo::DemoEntry;
use crate::experiment::Experiment;

/// The demos, as the page shows them.
pub const DEMOS: &[DemoEntry] = &[
    DemoEntry::of::<four_rules::FourRules>(),
    DemoEntry::of::<rules_in_the_model::RulesInTheModel>(),
];

/// The experiments, as the page shows them.
pub const EXPERIMENTS: &[Experiment] = &[
    theory::ORDERS,
    theory::LIMIT,
    theory::WRITE_RATIO,
    model::RULES,
];
