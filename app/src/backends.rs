//! Which backends there are, and why some cannot be used: the list behind the menu and the command line.

use mambascope_core::backend::{Backend, BackendError, FastBackend, NaiveBackend};
use mambascope_kernels::{CudaBackend, device};

/// A row of the backend menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendChoice {
    /// Name as on the command line.
    pub name: &'static str,
    /// Name for a person.
    pub title: &'static str,
    /// Why it cannot be used, a sentence.
    pub unavailable: Option<String>,
}

/// Why the naive backend cannot be measured against itself.
pub const NOTHING_TO_COMPARE: &str = "The naive backend is what the others are measured against: there is nothing to compare it with.";

/// Names as on the command line, in the order they are shown.
pub const NAMES: [&str; 3] = ["fast", "naive", "cuda"];

/// All backends, in the order they are shown. May start the driver of a device, which can take a second.
pub fn choices() -> Vec<BackendChoice> {
    rows(unavailable)
}

/// The same before any driver has been asked.
pub fn choices_before_looking() -> Vec<BackendChoice> {
    rows(|name| (name == "cuda").then(|| "Looking for a device…".to_owned()))
}

fn rows(unavailable: impl Fn(&str) -> Option<String>) -> Vec<BackendChoice> {
    let choice = |name| BackendChoice {
        name,
        title: match name {
            "fast" => "fast CPU",
            "naive" => "naive CPU",
            _ => "CUDA",
        },
        unavailable: unavailable(name),
    };
    NAMES.map(choice).into()
}

/// Why a backend cannot be used here, a sentence; asking about `cuda` may start its driver.
pub fn unavailable(name: &str) -> Option<String> {
    (name == "cuda").then(device::unavailable_reason).flatten()
}

/// The backends; 0 threads means one for each core. A device is started when a model is first opened on it.
///
/// # Errors
/// When the system refuses the threads.
pub fn available(threads: usize) -> Result<Vec<Box<dyn Backend>>, BackendError> {
    Ok(vec![
        Box::new(FastBackend::new(threads)?),
        Box::new(NaiveBackend::default()),
        Box::new(CudaBackend::default()),
    ])
}
