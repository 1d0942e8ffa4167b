//! Demos and experiments of the lesson `gpu-scan`: the scan as a tree of affine maps, as a kernel deals it out, and what that
//! costs.

mod device_states;
mod experiments;
mod model_speed;
mod operands;
mod own;
mod scan_theatre;
mod scan_timeline;
mod speed_ladder;
mod stage;
mod stopwatch;

use crate::demo::DemoEntry;
use crate::experiment::Experiment;

/// The demos, as the page shows them.
pub const DEMOS: &[DemoEntry] = &[
    DemoEntry::of::<scan_theatre::ScanTheatre>(),
    DemoEntry::of::<scan_timeline::ScanTimeline>(),
    DemoEntry::of::<speed_ladder::SpeedLadder>(),
    DemoEntry::of::<model_speed::ModelSpeed>(),
];

/// The experiments, as the page shows them.
pub const EXPERIMENTS: &[Experiment] = &[
    experiments::SCAN_COSTS,
    experiments::BLOCK_SCAN,
    experiments::DIVIDED_PREFIXES,
    experiments::FUSED_BYTES,
    experiments::ONE_SCAN,
];
