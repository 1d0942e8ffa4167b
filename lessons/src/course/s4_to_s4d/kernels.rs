//! The kernels of the lesson: S4 on LegS, two ways, and a diagonal one. All read the first slot.

use std::time::Instant;

use mambascope_core::discretize::Discretization;
use mambascope_core::job::JobError;
use mambascope_core::s4::{KernelBy, S4, S4d, S4dInit};
use ndarray::Array1;

use crate::course::shared::refused;

/// Δ of all kernels here.
pub const DELTA: f64 = 0.01;

/// C that reads the first slot: the kernel of LegS is e^−s then.
pub fn first_slot(slots: usize) -> Array1<f64> {
    Array1::from_shape_fn(slots, |n| f64::from(u8::from(n == 0)))
}

/// S4 on LegS.
///
/// # Errors
/// When the eigenvalues are not found.
pub fn s4(slots: usize) -> Result<S4, JobError> {
    S4::legs(first_slot(slots), 0.0, DELTA).map_err(refused)
}

/// A diagonal model: of S4D-LegS with what S4 writes and reads, else with B = 1 and C = 1 over the entries.
///
/// # Errors
/// When the slots are odd where they come in pairs.
pub fn s4d(init: S4dInit, slots: usize) -> Result<S4d, JobError> {
    let rule = Discretization::Bilinear;
    if init == S4dInit::Legs {
        let c_n = first_slot(slots);
        return S4d::legs_without_low_rank(c_n.view(), DELTA, rule).map_err(refused);
    }
    let lambda_n = init.lambda_n(slots).map_err(refused)?;
    let share = 1.0 / lambda_n.len() as f64;
    let c_n = lambda_n.mapv_into(|mut c| {
        (c.re, c.im) = (share, 0.0);
        c
    });
    S4d::new(init, c_n, 0.0, DELTA, rule).map_err(refused)
}

/// The three ways to a kernel, in the order they were found.
pub const WAYS: [&str; 3] = [
    "powers of a full matrix",
    "generating function",
    "powers of a diagonal",
];

/// Seconds each way takes for a kernel of that length, on this machine, now; the best of two.
///
/// # Errors
/// When a transform fails.
pub fn seconds(s4: &S4, s4d: &S4d, length: usize) -> Result<[f64; 3], JobError> {
    let best = |kernel: &dyn Fn() -> Result<Array1<f64>, JobError>| {
        let mut best = f64::INFINITY;
        for _ in 0..2 {
            let began = Instant::now();
            kernel()?;
            best = best.min(began.elapsed().as_secs_f64());
        }
        Ok::<_, JobError>(best)
    };
    Ok([
        best(&|| s4.kernel(KernelBy::Powers, length).map_err(refused))?,
        best(&|| {
            s4.kernel(KernelBy::GeneratingFunction, length)
                .map_err(refused)
        })?,
        best(&|| s4d.kernel(length).map_err(refused))?,
    ])
}

/// Largest difference of two kernels.
pub fn largest_difference(one: &Array1<f64>, other: &Array1<f64>) -> f64 {
    (one - other).fold(0.0, |most: f64, x| most.max(x.abs()))
}
