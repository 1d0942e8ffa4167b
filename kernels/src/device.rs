//! Is there an NVIDIA device this program could use, and if not, why not.

use std::panic::catch_unwind;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;

/// What the machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Nothing that can be used, and the reason, a sentence.
    Absent(String),
    /// A device the driver can see.
    Present {
        /// Its name.
        name: String,
        /// Bytes of its memory.
        memory_bytes: usize,
    },
}

/// Looks for a device. Slow the first time (the driver starts), never panics.
pub fn detect() -> Availability {
    if !library_is_present() {
        return Availability::Absent(
            "No NVIDIA driver was found on this machine (its library libcuda is missing).".to_owned(),
        );
    }
    // cudarc panics, instead of returning an error, when the driver is too old to have a function it looks up.
    match catch_unwind(first_device) {
        Ok(Ok(Some(found))) => found,
        Ok(Ok(None)) => Availability::Absent("There is an NVIDIA driver, but no device it could use.".to_owned()),
        Ok(Err(error)) => Availability::Absent(format!("The NVIDIA driver could not be started: {error}.")),
        Err(_) => Availability::Absent("The NVIDIA driver on this machine is too old for this program.".to_owned()),
    }
}

/// Why models do not run on CUDA here, a sentence for the backend menu.
pub fn unavailable_reason() -> String {
    match detect() {
        Availability::Absent(reason) => reason,
        Availability::Present { name, memory_bytes } => {
            format!("{name} ({} GiB) is there, but this version has no CUDA kernels yet.", memory_bytes >> 30)
        }
    }
}

#[expect(unsafe_code, reason = "loading a shared library runs its initialisers; libcuda's are the driver's own")]
fn library_is_present() -> bool {
    // SAFETY: only the driver's library is opened, by the names the driver installs it under.
    unsafe { sys::is_culib_present() }
}

#[expect(unsafe_code, reason = "the driver's memory query takes a raw device handle")]
fn first_device() -> Result<Option<Availability>, DriverError> {
    result::init()?;
    if result::device::get_count()? == 0 {
        return Ok(None);
    }
    let device = result::device::get(0)?;
    // SAFETY: `device` is the handle the driver has just given.
    let memory_bytes = unsafe { result::device::total_mem(device) }?;
    Ok(Some(Availability::Present { name: result::device::get_name(device)?, memory_bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absence_has_a_reason_and_presence_a_name() {
        match detect() {
            Availability::Absent(reason) => assert!(reason.ends_with('.') && reason.contains("NVIDIA"), "{reason}"),
            Availability::Present { name, memory_bytes } => assert!(!name.is_empty() && memory_bytes > 0),
        }
        assert!(unavailable_reason().ends_with('.'));
    }
}
