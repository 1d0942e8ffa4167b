//! The kernel K\[i\] = C Āⁱ B̄, three ways: by powers, by the eigenvalues, by its generating function.

use std::f64::consts::{LN_2, PI};

use ndarray::{Array1, Array2, ArrayView1};
use num_complex::Complex64;
use realfft::RealFftPlanner;

use super::nplr::solve_small;
use super::{Dplr, S4Error, dot, fits};
use crate::discretize::{Discrete, Step, positive};

/// By L products with a full Ā, O(N² L): what S4 set out to avoid, and the reference for the others.
///
/// # Errors
/// When C does not fit to the state.
pub fn kernel_by_powers(
    discrete: &Discrete,
    c_n: ArrayView1<'_, f64>,
    length: usize,
) -> Result<Array1<f64>, S4Error> {
    let mut impulse_l = Array1::zeros(length);
    if let Some(first) = impulse_l.first_mut() {
        *first = 1.0;
    }
    Ok(discrete.run(c_n, impulse_l.view())?)
}

/// By the powers of a diagonal Ā, O(N L): the Vandermonde sum K\[l\] = Σ_n C\[n\] b̄\[n\] ā\[n\]^l, its real part;
/// twice it where every slot stands for itself and its conjugate (`paired`).
///
/// # Errors
/// When C does not fit to the steps.
pub fn kernel_by_diagonal(
    steps_n: &[Step<Complex64>],
    c_n: ArrayView1<'_, Complex64>,
    paired: bool,
    length: usize,
) -> Result<Array1<f64>, S4Error> {
    fits(&[("C", c_n.len())], steps_n.len())?;
    let scale = if paired { 2.0 } else { 1.0 };
    let mut kernel_l = Array1::zeros(length);
    for (step, c) in steps_n.iter().zip(c_n) {
        let mut h = step.b;
        for (l, kernel) in kernel_l.iter_mut().enumerate() {
            *kernel += scale * (c * h).re;
            // The second input tap, where a rule has one, arrives one step after the first.
            h = step.a * h + if l == 0 { step.b_prev } else { Complex64::ZERO };
        }
    }
    Ok(kernel_l)
}

/// By the generating function of a diagonal plus low-rank system under the bilinear rule, O(N L + L log L) once C Ā^L
/// is known (S4 section 3.3 and appendix C.3).
///
/// ```text
/// K̂(z) = Σ_{i<L} K[i] zⁱ = C̃ (I − Ā z)⁻¹ B̄,   C̃ = C (I − Ā^L),   at z[j] = exp(−2πi j/L): the DFT of K
///      = 2/(1+z) · [ k(C̃ B) − k(C̃ P) (I + k(Pᴴ P))⁻¹ k(Pᴴ B) ],
/// k(v) = Σ_n v[n] / (g − λ[n]),   g = 2/Δ · (1−z)/(1+z)
/// ```
///
/// On the unit circle g is imaginary. Where λ is too, as for LegT, the two may meet: then z\[j\] is taken on a smaller
/// circle, |z| = e^−σ with e^−σL = ½, which gives the DFT of K\[i\] e^−σi.
///
/// # Errors
/// When `delta` is not a finite number above zero, or the transform fails.
pub fn kernel_by_generating_function(
    dplr: &Dplr,
    delta: f64,
    length: usize,
) -> Result<Array1<f64>, S4Error> {
    positive("the step size", delta)?;
    if length == 0 {
        return Ok(Array1::zeros(0));
    }
    let damped = dplr.lambda_n.iter().all(|lambda| lambda.re < 0.0);
    let sigma = if damped { 0.0 } else { LN_2 / length as f64 };
    let remaining = (-sigma * length as f64).exp();
    let c_tilde_n = &dplr.c_n - dplr.c_after(delta, length)? * Complex64::from(remaining);
    let mut planner = RealFftPlanner::<f64>::new();
    let inverse = planner.plan_fft_inverse(length);
    let mut spectrum = inverse.make_input_vec();
    for (j, value) in spectrum.iter_mut().enumerate() {
        *value = if 2 * j == length && sigma == 0.0 {
            // z = −1: g goes to infinity, and what is left of 2/(1+z) · k(v) is Δ/2 Σ v.
            dot(c_tilde_n.view(), dplr.b_n.view()) * (delta / 2.0)
        } else {
            // With z = e^−w, (1−z)/(1+z) = tanh(w/2) and 2/(1+z) = 1 + tanh(w/2): nothing cancels.
            let angle = 2.0 * PI * j as f64 / length as f64;
            let tanh = (Complex64::new(sigma, angle) / 2.0).tanh();
            cauchy(dplr, &c_tilde_n, tanh * (2.0 / delta)) * (tanh + 1.0)
        };
        // K is real, so its DFT is at z = ±1; the transform insists on it.
        if j == 0 || 2 * j == length {
            value.im = 0.0;
        }
    }
    let mut kernel = inverse.make_output_vec();
    inverse.process(&mut spectrum, &mut kernel)?;
    let undo = |(i, k): (usize, f64)| k * (sigma * i as f64).exp() / length as f64;
    Ok(kernel.into_iter().enumerate().map(undo).collect())
}

/// C̃ (g − A)⁻¹ B for A = Λ − P Pᴴ: four kinds of Cauchy sum, joined by the Woodbury identity.
fn cauchy(dplr: &Dplr, c_n: &Array1<Complex64>, g: Complex64) -> Complex64 {
    let rank = dplr.p_nr.ncols();
    let mut c_b = Complex64::ZERO;
    let (mut c_p_r, mut p_b_r) = (Array1::zeros(rank), Array1::zeros(rank));
    let mut p_p_rr = Array2::<Complex64>::eye(rank);
    for (n, p_r) in dplr.p_nr.rows().into_iter().enumerate() {
        let weight = (g - dplr.lambda_n[n]).inv();
        let (read, write) = (c_n[n] * weight, weight * dplr.b_n[n]);
        c_b += read * dplr.b_n[n];
        for (r, p) in p_r.iter().enumerate() {
            c_p_r[r] += read * p;
            p_b_r[r] += p.conj() * write;
            for (s, other) in p_r.iter().enumerate() {
                p_p_rr[[r, s]] += p.conj() * weight * other;
            }
        }
    }
    c_b - dot(c_p_r.view(), solve_small(p_p_rr, p_b_r).view())
}
