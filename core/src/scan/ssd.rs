//! The scan of Mamba-2, state-space duality: one A a head instead of one a channel and slot (Mamba-2, arXiv:2405.21060, sections 5 and 6).
//!
//! For every head h with its channels p, and the group g of B and C it reads:
//!
//! ```text
//! Δ[l,h]     = clamp(softplus(dt[l,h] + dt_bias[h]), limit)
//! H[l,h,p,n] = exp(Δ[l,h] · A[h]) · H[l-1,h,p,n] + Δ[l,h] · x[l,h,p] · B[l,g,n]
//! y[l,h,p]   = Σ_n C[l,g,n] · H[l,h,p,n] + D[h] · x[l,h,p]
//! ```
//!
//! This file holds the recurrence as written, which every chunked form is measured against.

use ndarray::{Array3, ArrayView1, ArrayView2, ArrayView3};

use super::{Real, ScanError, check, check_groups, softplus};

/// Everything the scan reads, one sequence.
#[derive(Clone, Copy, Debug)]
pub struct SsdInput<'a, T> {
    /// Input, `[l, h, p]`.
    pub x_lhp: ArrayView3<'a, T>,
    /// Step size before bias and softplus, `[l, h]`.
    pub dt_lh: ArrayView2<'a, T>,
    /// Added to `dt`, `[h]`.
    pub dt_bias_h: Option<ArrayView1<'a, T>>,
    /// Whether Δ = softplus(dt + bias), or dt + bias as it is.
    pub dt_softplus: bool,
    /// Least and greatest Δ.
    pub dt_limit: (T, T),
    /// A, `[h]`, below zero.
    pub a_h: ArrayView1<'a, T>,
    /// How to write, `[l, g, n]`; head h reads group h / (h's number / g's number).
    pub b_lgn: ArrayView3<'a, T>,
    /// How to read, `[l, g, n]`.
    pub c_lgn: ArrayView3<'a, T>,
    /// Skip, `[h]`.
    pub d_skip_h: Option<ArrayView1<'a, T>>,
    /// State before the first token, `[h, p, n]`; zero when absent.
    pub initial_hpn: Option<ArrayView3<'a, T>>,
}

/// What the scan gives.
#[derive(Clone, Debug, PartialEq)]
pub struct SsdOutput<T> {
    /// `[l, h, p]`.
    pub y_lhp: Array3<T>,
    /// State after the last token, `[h, p, n]`.
    pub last_hpn: Array3<T>,
}

impl<T: Real> SsdInput<'_, T> {
    /// Tokens, heads, channels of a head, slots.
    pub fn dims(&self) -> (usize, usize, usize, usize) {
        let (l, h, p) = self.x_lhp.dim();
        (l, h, p, self.b_lgn.dim().2)
    }

    /// Δ of token `l`, head `h`.
    pub fn delta(&self, l: usize, h: usize) -> T {
        let mut delta = self.dt_lh[[l, h]];
        if let Some(bias_h) = &self.dt_bias_h {
            delta += bias_h[h];
        }
        if self.dt_softplus {
            delta = softplus(delta);
        }
        clamp(delta, self.dt_limit)
    }

    /// Checks every operand against `x` and B.
    ///
    /// # Errors
    /// Names the first operand that does not fit.
    pub fn validate(&self) -> Result<(), ScanError> {
        let (l, h, p, n) = self.dims();
        let groups = self.b_lgn.dim().1;
        check_groups("B", self.b_lgn.shape(), [l, h, n])?;
        check("C", self.c_lgn.shape(), &[l, groups, n])?;
        check("dt", self.dt_lh.shape(), &[l, h])?;
        check("A", self.a_h.shape(), &[h])?;
        for (operand, vector) in [("dt_bias", &self.dt_bias_h), ("D", &self.d_skip_h)] {
            vector
                .as_ref()
                .map_or(Ok(()), |v| check(operand, v.shape(), &[h]))?;
        }
        self.initial_hpn
            .as_ref()
            .map_or(Ok(()), |s| check("initial state", s.shape(), &[h, p, n]))
    }
}

/// The number, no less and no more than the limits; NaN stays.
pub fn clamp<T: Real>(x: T, (low, high): (T, T)) -> T {
    if x < low {
        low
    } else if x > high {
        high
    } else {
        x
    }
}

/// Runs the recurrence token after token; `after_token(l, h_hpn)` sees the state after each.
///
/// # Errors
/// When an operand's shape does not fit.
pub fn ssd_sequential<T: Real>(
    input: &SsdInput<'_, T>,
    mut after_token: impl FnMut(usize, ArrayView3<'_, T>),
) -> Result<SsdOutput<T>, ScanError> {
    input.validate()?;
    let (tokens, heads, head_dim, d_state) = input.dims();
    let heads_of_a_group = heads / input.b_lgn.dim().1;
    let mut h_hpn = input.initial_hpn.map_or_else(
        || Array3::zeros((heads, head_dim, d_state)),
        |h| h.to_owned(),
    );
    let mut y_lhp = Array3::zeros((tokens, heads, head_dim));
    for l in 0..tokens {
        for h in 0..heads {
            let g = h / heads_of_a_group;
            let delta = input.delta(l, h);
            let a_bar = (delta * input.a_h[h]).exp();
            for p in 0..head_dim {
                let x = input.x_lhp[[l, h, p]];
                let mut y = T::zero();
                for n in 0..d_state {
                    let written = delta * x * input.b_lgn[[l, g, n]];
                    h_hpn[[h, p, n]] = a_bar * h_hpn[[h, p, n]] + written;
                    y += input.c_lgn[[l, g, n]] * h_hpn[[h, p, n]];
                }
                if let Some(skip_h) = &input.d_skip_h {
                    y += skip_h[h] * x;
                }
                y_lhp[[l, h, p]] = y;
            }
        }
        after_token(l, h_hpn.view());
    }
    Ok(SsdOutput {
        y_lhp,
        last_hpn: h_hpn,
    })
}
