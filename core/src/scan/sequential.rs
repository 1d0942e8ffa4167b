//! The recurrence as it is written, token after token. The reference for every other algorithm.

use ndarray::{Array2, ArrayView2};

use super::{Real, ScanError, ScanInput, ScanOutput, silu, softplus};

/// Runs the scan of [`super`] in the formula's order; `after_token(l, h_dn)` sees the state after each token.
///
/// # Errors
/// When an operand's shape does not fit.
pub fn sequential<T: Real>(
    input: &ScanInput<'_, T>,
    mut after_token: impl FnMut(usize, ArrayView2<'_, T>),
) -> Result<ScanOutput<T>, ScanError> {
    input.validate()?;
    let (tokens, d_inner, d_state) = input.dims();
    let mut h_dn = input
        .initial_dn
        .map_or_else(|| Array2::zeros((d_inner, d_state)), |h| h.to_owned());
    let mut y_ld = Array2::zeros((tokens, d_inner));
    for l in 0..tokens {
        for d in 0..d_inner {
            let u = input.u_ld[[l, d]];
            let mut delta = input.delta_ld[[l, d]];
            if let Some(bias_d) = &input.delta_bias_d {
                delta += bias_d[d];
            }
            if input.delta_softplus {
                delta = softplus(delta);
            }
            let mut y = T::zero();
            for n in 0..d_state {
                let a_bar = (delta * input.a_dn[[d, n]]).exp();
                let b_bar = delta * input.b.at(l, d, d_inner, n);
                h_dn[[d, n]] = a_bar * h_dn[[d, n]] + b_bar * u;
                y += input.c.at(l, d, d_inner, n) * h_dn[[d, n]];
            }
            if let Some(skip_d) = &input.d_skip_d {
                y += skip_d[d] * u;
            }
            if let Some(z_ld) = &input.z_ld {
                y = y * silu(z_ld[[l, d]]);
            }
            y_ld[[l, d]] = y;
        }
        after_token(l, h_dn.view());
    }
    Ok(ScanOutput {
        y_ld,
        last_dn: h_dn,
    })
}
