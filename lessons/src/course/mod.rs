//! The lessons, in the order they are read. A lesson is a folder: its demos, its experiments; its text is in `assets/lessons/en/`.

use crate::demo::DemoEntry;
use crate::experiment::Experiment;

mod convolution_view;
mod delta_is_the_gate;
mod discretization;
mod gpu_scan;
mod hippo;
mod hybrids;
pub(crate) mod leaky_integrator;
mod length_and_precision;
mod mamba_block;
mod reading_a_trained_mamba;
mod recall_limits;
mod s4_to_s4d;
mod selection;
mod shared;
mod ssd_duality;
mod state_tracking;
mod why_compress;

/// A lesson.
#[derive(Clone, Copy)]
pub struct Lesson {
    /// Its name, and that of its file.
    pub id: &'static str,
    /// Its page, as Markdown with cells.
    pub text: &'static str,
    /// Its demos.
    pub demos: &'static [DemoEntry],
    /// Its experiments.
    pub experiments: &'static [Experiment],
}

macro_rules! lessons {
    ($($id:literal $module:ident),* $(,)?) => {
        /// All lessons, in order.
        pub const LESSONS: &[Lesson] = &[$(
            Lesson {
                id: $id,
                text: include_str!(concat!(
                    env!("CARGO_MANIFEST_DIR"), "/../assets/lessons/en/", $id, ".md"
                )),
                demos: $module::DEMOS,
                experiments: $module::EXPERIMENTS,
            },
        )*];
    };
}

lessons! {
    "why-compress" why_compress,
    "leaky-integrator" leaky_integrator,
    "discretization" discretization,
    "hippo" hippo,
    "convolution-view" convolution_view,
    "s4-to-s4d" s4_to_s4d,
    "selection" selection,
    "delta-is-the-gate" delta_is_the_gate,
    "mamba-block" mamba_block,
    "gpu-scan" gpu_scan,
    "ssd-duality" ssd_duality,
    "reading-a-trained-mamba" reading_a_trained_mamba,
    "recall-limits" recall_limits,
    "state-tracking" state_tracking,
    "length-and-precision" length_and_precision,
    "hybrids" hybrids,
}

/// The demo of that name, of whichever lesson.
pub fn demo(id: &str) -> Option<&'static DemoEntry> {
    let mut demos = LESSONS.iter().flat_map(|lesson| lesson.demos);
    demos.find(|demo| demo.id == id)
}

/// All experiments, in the order of the lessons.
pub fn experiments() -> impl Iterator<Item = &'static Experiment> {
    LESSONS.iter().flat_map(|lesson| lesson.experiments)
}
