//! Is there an NVIDIA device this program could use, and if not, why not.

use std::fmt;
use std::panic::catch_unwind;
use std::sync::OnceLock;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUresult};

/// The oldest CUDA a driver may offer, as the driver counts: 1000 · major + 10 · minor.
const OLDEST_CUDA: i32 = 12_000;

/// The oldest chip's major number: the first with bf16 tensor cores, which the committed PTX is for.
pub(crate) const OLDEST_CHIP: i32 = 8;

/// What the machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Nothing that can be used, and the reason, a sentence.
    Absent(String),
    /// A device the driver offers.
    Device(DeviceInfo),
}

/// A device, as its driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its name.
    pub name: String,
    /// Bytes of its memory.
    pub memory_bytes: usize,
    /// The newest CUDA its driver knows, such as 12.4.
    pub cuda_version: String,
}

impl fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = self.memory_bytes >> 30;
        let Self {
            name, cuda_version, ..
        } = self;
        write!(f, "{name}, {gib} GiB, driver for CUDA {cuda_version}")
    }
}

/// Looks for a device, once: starting the driver can take a second. Never panics.
pub fn detect() -> Availability {
    static FOUND: OnceLock<Availability> = OnceLock::new();
    FOUND.get_or_init(look).clone()
}

/// Why models do not run on CUDA here, a sentence for the backend menu; `None` where they do.
pub fn unavailable_reason() -> Option<String> {
    match detect() {
        Availability::Absent(reason) => Some(reason),
        Availability::Device(_) => None,
    }
}

/// The device, or why there is none.
pub(crate) fn describe() -> String {
    match detect() {
        Availability::Absent(reason) => reason,
        Availability::Device(device) => device.to_string(),
    }
}

fn look() -> Availability {
    let absent = |reason: &str| Availability::Absent(reason.to_owned());
    if !library_is_present() {
        return absent(
            "No NVIDIA driver was found on this machine (its library libcuda is missing).",
        );
    }
    // cudarc panics, instead of returning an error, where the library lacks a function it looks up.
    catch_unwind(|| first_device().unwrap_or_else(|error| Availability::Absent(refusal(error)))).unwrap_or_else(|_| {
        absent("The NVIDIA driver on this machine is too old or damaged: its library lacks functions this program needs.")
    })
}

fn first_device() -> Result<Availability, DriverError> {
    let version = cuda_version()?;
    if version < OLDEST_CUDA {
        return Ok(Availability::Absent(format!(
            "The NVIDIA driver on this machine is too old: it offers CUDA {}, and {} is the oldest this program uses.",
            spell(version),
            spell(OLDEST_CUDA)
        )));
    }
    result::init()?;
    if result::device::get_count()? == 0 {
        return Err(DriverError(CUresult::CUDA_ERROR_NO_DEVICE));
    }
    let device = result::device::get(0)?;
    let name = result::device::get_name(device)?;
    let (major, minor) = compute_capability(device)?;
    if major < OLDEST_CHIP {
        return Ok(Availability::Absent(format!(
            "The kernels need a device of compute capability {OLDEST_CHIP}.0 (Ampere) or newer; {name} has {major}.{minor}."
        )));
    }
    Ok(Availability::Device(DeviceInfo {
        name,
        memory_bytes: memory_bytes(device)?,
        cuda_version: spell(version),
    }))
}

/// The driver's refusal, as a sentence.
fn refusal(error: DriverError) -> String {
    if error.0 == CUresult::CUDA_ERROR_NO_DEVICE {
        return "There is an NVIDIA driver on this machine, but no device it could use.".to_owned();
    }
    let said = error.error_string().map_or_else(
        |_| format!("{:?}", error.0),
        |text| text.to_string_lossy().into_owned(),
    );
    format!("The NVIDIA driver on this machine does not start: {said}.")
}

fn spell(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

#[expect(
    unsafe_code,
    reason = "loading a shared library runs its initialisers; libcuda's are the driver's own"
)]
fn library_is_present() -> bool {
    // SAFETY: only the driver's library is opened, by the names the driver installs it under.
    unsafe { sys::is_culib_present() }
}

#[expect(unsafe_code, reason = "a C function that writes through a pointer")]
pub(crate) fn cuda_version() -> Result<i32, DriverError> {
    let mut version = 0;
    // SAFETY: the pointer is to a live integer; the function may be called before the driver is started.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result()?;
    Ok(version)
}

#[expect(
    unsafe_code,
    reason = "the driver's memory query takes a raw device handle"
)]
fn memory_bytes(device: sys::CUdevice) -> Result<usize, DriverError> {
    // SAFETY: `device` is a handle the driver has given.
    unsafe { result::device::total_mem(device) }
}

#[expect(
    unsafe_code,
    reason = "the driver's attribute query takes a raw device handle"
)]
fn compute_capability(device: sys::CUdevice) -> Result<(i32, i32), DriverError> {
    use sys::CUdevice_attribute as Attribute;
    // SAFETY: `device` is a handle the driver has given.
    let attribute = |which| unsafe { result::device::get_attribute(device, which) };
    Ok((
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the machine has: a sentence or a device, and the same one when asked again.
    #[test]
    fn absence_has_a_reason_and_a_device_a_name() {
        let found = detect();
        match &found {
            Availability::Absent(reason) => {
                assert!(
                    reason.contains("NVIDIA") && reason.ends_with('.'),
                    "{reason}"
                );
            }
            Availability::Device(device) => {
                assert!(
                    !device.name.is_empty() && device.memory_bytes > 1 << 30,
                    "{device:?}"
                );
            }
        }
        let is_absent = matches!(found, Availability::Absent(_));
        assert_eq!(unavailable_reason().is_some(), is_absent);
        assert_eq!(detect(), found);
    }

    #[test]
    fn a_driver_without_devices_says_so() {
        let reason = refusal(DriverError(CUresult::CUDA_ERROR_NO_DEVICE));
        assert!(reason.contains("no device"), "{reason}");
        assert_eq!(spell(12_040), "12.4");
    }
}
