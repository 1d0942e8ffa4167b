//! Which backends there are, and why some cannot be used: the list behind the menu and the command line.

use mambascope_core::backend::{Backend, BackendError, FastBackend, NaiveBackend};

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

/// All backends, in the order they are shown.
pub fn choices() -> Vec<BackendChoice> {
    vec![
        BackendChoice { name: "fast", title: "fast CPU", unavailable: None },
        BackendChoice { name: "naive", title: "naive CPU", unavailable: None },
        BackendChoice {
            name: "cuda",
            title: "CUDA",
            unavailable: Some(mambascope_kernels::device::unavailable_reason()),
        },
    ]
}

/// The backends that can be used; 0 threads means one for each core.
///
/// # Errors
/// When the system refuses the threads.
pub fn available(threads: usize) -> Result<Vec<Box<dyn Backend>>, BackendError> {
    Ok(vec![Box::new(FastBackend::new(threads)?), Box::new(NaiveBackend::default())])
}
