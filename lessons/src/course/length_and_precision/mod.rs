//! Demos and experiments of the lesson `length-and-precision`: texts longer than the training's, states in few bits, states run
//! backwards.

mod bf16;
mod curve;
mod experiments;
mod frozen_memory;
mod length_curve;
mod rewind;

use crate::demo::DemoEntry;
use crate::experiment::Experiment;

/// The demos, as the page shows them.
pub const DEMOS: &[DemoEntry] = &[
    DemoEntry::of::<length_curve::LengthCurve>(),
    DemoEntry::of::<frozen_memory::FrozenMemory>(),
];

/// The experiments, as the page shows them.
pub const EXPERIMENTS: &[Experiment] = &[
    experiments::LENGTH,
    experiments::FREEZE,
    experiments::REWIND,
    experiments::CHECKPOINTS,
];
