//! Demos and experiments of the lesson `reading-a-trained-mamba`: what is left of a token, and the attention a scan hides.

mod alpha;
mod experiments;
mod hidden_attention;
pub(super) mod model_controls;
mod passkey_experiment;
mod planted;
mod planted_passkey;
pub(super) mod records;
mod survival;
mod surviving_share;

use crate::demo::DemoEntry;
use crate::experiment::Experiment;

/// The demos, as the page shows them.
pub const DEMOS: &[DemoEntry] = &[
    DemoEntry::of::<surviving_share::SurvivingShare>(),
    DemoEntry::of::<planted_passkey::PlantedPasskey>(),
    DemoEntry::of::<hidden_attention::HiddenAttention>(),
];

/// The experiments, as the page shows them.
pub const EXPERIMENTS: &[Experiment] = &[
    experiments::REBUILD,
    passkey_experiment::PASSKEY,
    experiments::ABLATION,
];
