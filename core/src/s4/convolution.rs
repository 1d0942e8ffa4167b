//! Causal convolution, y\[k\] = Σ_{i ≤ k} K\[i\] u\[k-i\]: as a sum, and as a product of spectra.

use ndarray::{Array1, ArrayView1};
use realfft::RealFftPlanner;

use super::S4Error;
use crate::discretize::length;

/// As a sum, O(L²).
///
/// # Errors
/// When the kernel has not the length of the input.
pub fn convolve_direct(
    u_l: ArrayView1<'_, f64>,
    kernel_l: ArrayView1<'_, f64>,
) -> Result<Array1<f64>, S4Error> {
    length("kernel", kernel_l.len(), u_l.len())?;
    Ok(Array1::from_shape_fn(u_l.len(), |k| {
        (0..=k).map(|i| kernel_l[i] * u_l[k - i]).sum()
    }))
}

/// As a product of spectra, O(L log L). Both are padded with zeros to 2L: a product of spectra is a circular
/// convolution, and without the padding the end of the output would come round to its beginning.
///
/// # Errors
/// When the kernel has not the length of the input, or the transform fails.
pub fn convolve_fft(
    u_l: ArrayView1<'_, f64>,
    kernel_l: ArrayView1<'_, f64>,
) -> Result<Array1<f64>, S4Error> {
    length("kernel", kernel_l.len(), u_l.len())?;
    let padded = 2 * u_l.len();
    if padded == 0 {
        return Ok(Array1::zeros(0));
    }
    let mut planner = RealFftPlanner::<f64>::new();
    let forward = planner.plan_fft_forward(padded);
    let spectrum = |signal: ArrayView1<'_, f64>| {
        let mut buffer = forward.make_input_vec();
        let mut spectrum = forward.make_output_vec();
        buffer.iter_mut().zip(signal).for_each(|(b, &s)| *b = s);
        forward.process(&mut buffer, &mut spectrum)?;
        Ok::<_, S4Error>(spectrum)
    };
    let mut product = spectrum(u_l)?;
    for (p, k) in product.iter_mut().zip(spectrum(kernel_l)?) {
        *p *= k;
    }
    let inverse = planner.plan_fft_inverse(padded);
    let mut y = inverse.make_output_vec();
    inverse.process(&mut product, &mut y)?;
    // The pair of transforms multiplies by the length.
    Ok(y.into_iter()
        .take(u_l.len())
        .map(|value| value / padded as f64)
        .collect())
}
