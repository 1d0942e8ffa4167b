//! The pieces every network has: a matrix product, a norm, a short convolution.

use ndarray::{Array2, Axis, Slice};

use crate::scan::{Real, silu};
use crate::tensor::Tensor;

/// y[l,o] = Σ_i W[o,i] · x[l,i] + bias[o]. `W` is stored `[out, in]`.
pub(super) fn linear<T: Real>(
    x_li: &Array2<T>,
    weight_oi: &Tensor,
    bias_o: Option<&Tensor>,
) -> Array2<T> {
    let (tokens, d_in) = x_li.dim();
    let weight = T::weights(weight_oi);
    let bias = bias_o.map(T::weights);
    let d_out = weight_oi.shape()[0];
    let mut y_lo = Array2::zeros((tokens, d_out));
    for l in 0..tokens {
        for o in 0..d_out {
            let mut sum = T::zero();
            for i in 0..d_in {
                sum += weight[o * d_in + i] * x_li[[l, i]];
            }
            y_lo[[l, o]] = match &bias {
                Some(bias) => sum + bias[o],
                None => sum,
            };
        }
    }
    y_lo
}

/// y[l] = x[l] / √(mean(x[l]²) + ε) · w, without a weight where there is none.
pub(super) fn rms_norm<T: Real>(
    x_le: &Array2<T>,
    weight_e: Option<&Tensor>,
    eps: f32,
) -> Array2<T> {
    let weight = weight_e.map(T::weights);
    let width = T::of(x_le.ncols() as f32);
    let mut y_le = x_le.clone();
    for mut y_e in y_le.rows_mut() {
        let mean_square = y_e.iter().map(|&x| x * x).sum::<T>() / width;
        let scale = (mean_square + T::of(eps)).sqrt().recip();
        for (e, y) in y_e.iter_mut().enumerate() {
            *y = *y * scale;
            if let Some(weight) = &weight {
                *y = *y * weight[e];
            }
        }
    }
    y_le
}

/// u[l,d] = SiLU(bias[d] + Σ_j w[d,j] · x[l−K+1+j, d]): tap K−1 meets the current token.
///
/// `window_dk` holds the K inputs before the first token, oldest first, and is moved forward.
pub(super) fn causal_conv<T: Real>(
    x_ld: &Array2<T>,
    weight_dk: &Tensor,
    bias_d: Option<&Tensor>,
    window_dk: &mut Array2<T>,
) -> Array2<T> {
    let (tokens, d_inner) = x_ld.dim();
    let taps = window_dk.ncols();
    let weight = T::weights(weight_dk);
    let bias = bias_d.map(T::weights);
    let mut u_ld = Array2::zeros((tokens, d_inner));
    for l in 0..tokens {
        for d in 0..d_inner {
            // drop the oldest input, append the new one
            for j in 1..taps {
                window_dk[[d, j - 1]] = window_dk[[d, j]];
            }
            window_dk[[d, taps - 1]] = x_ld[[l, d]];
            let mut sum = bias.as_ref().map_or(T::zero(), |bias| bias[d]);
            for j in 0..taps {
                sum += weight[d * taps + j] * window_dk[[d, j]];
            }
            u_ld[[l, d]] = silu(sum);
        }
    }
    u_ld
}

/// Columns `from..to` of a matrix, as their own.
pub(super) fn columns<T: Real>(x: &Array2<T>, from: usize, to: usize) -> Array2<T> {
    x.slice_axis(Axis(1), Slice::from(from..to)).to_owned()
}

/// One row of a matrix, as a matrix.
pub(super) fn row<T: Real>(x: &Array2<T>, index: usize) -> Array2<T> {
    x.slice_axis(Axis(0), Slice::from(index..index + 1))
        .to_owned()
}
