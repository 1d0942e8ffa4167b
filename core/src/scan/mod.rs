//! The selective scan: one recurrence, and the algorithms that compute it. Each reads the same [`ScanInput`].
//!
//! For every channel d and slot n, with `h[-1]` the initial state (or 0):
//!
//! ```text
//! Δ[l,d]   = softplus(delta[l,d] + delta_bias[d])
//! h[l,d,n] = exp(Δ[l,d] · A[d,n]) · h[l-1,d,n] + Δ[l,d] · B[l,n] · u[l,d]
//! y[l,d]   = (Σ_n C[l,n] · h[l,d,n] + D[d] · u[l,d]) · SiLU(z[l,d])
//! ```
//!
//! A is discretised by zero-order hold, B by Euler's rule: that is what every implementation computes, although
//! equation 4 of the Mamba paper (arXiv:2312.00752) states zero-order hold for both.

mod associative;
mod chunked;
mod operands;
mod real;
mod ruled;
mod sequential;
mod ssd;
mod ssd_matrix;

use ndarray::{Array2, Array3, ArrayView1, ArrayView2, ArrayView3};
use thiserror::Error;

pub use associative::{Affine, Cost, Tree, associative};
pub use chunked::{Geometry, Moment, Stage, WARP, chunked, chunked_scan};
pub use operands::{ScanOperands, ScanShape};
pub use real::{Real, sigmoid, silu, softplus};
pub use ruled::{Rounding, Rule, ruled};
pub use sequential::sequential;
pub use ssd::{SsdInput, SsdOutput, clamp, ssd_sequential};
pub use ssd_matrix::{SsdMacs, decay_mask, ssd_blocks, ssd_matrix, ssd_quadratic};

/// B or C of a scan.
#[derive(Clone, Copy, Debug)]
pub enum Projection<'a, T> {
    /// Chosen by each token: `[l, g, n]`; channel d reads group `d / (d_inner / g)`.
    Selective(ArrayView3<'a, T>),
    /// The same for all tokens, as in S4D: `[d, n]`.
    Constant(ArrayView2<'a, T>),
}

impl<T: Copy> Projection<'_, T> {
    /// Entry for token `l`, channel `d` of `d_inner`, slot `n`.
    #[inline]
    pub fn at(&self, l: usize, d: usize, d_inner: usize, n: usize) -> T {
        match self {
            Projection::Selective(lgn) => lgn[[l, d / (d_inner / lgn.dim().1), n]],
            Projection::Constant(dn) => dn[[d, n]],
        }
    }
}

/// Everything a scan reads, one sequence (batches are run one by one).
#[derive(Clone, Copy, Debug)]
pub struct ScanInput<'a, T> {
    /// Input, `[l, d]`.
    pub u_ld: ArrayView2<'a, T>,
    /// Step size before bias and softplus, `[l, d]`.
    pub delta_ld: ArrayView2<'a, T>,
    /// Added to `delta`, `[d]`.
    pub delta_bias_d: Option<ArrayView1<'a, T>>,
    /// Whether Δ = softplus(delta + bias), or delta + bias as it is.
    pub delta_softplus: bool,
    /// A, `[d, n]`.
    pub a_dn: ArrayView2<'a, T>,
    /// How to write.
    pub b: Projection<'a, T>,
    /// How to read.
    pub c: Projection<'a, T>,
    /// Skip, `[d]`.
    pub d_skip_d: Option<ArrayView1<'a, T>>,
    /// Gate, `[l, d]`; applied as SiLU(z) after the skip.
    pub z_ld: Option<ArrayView2<'a, T>>,
    /// State before the first token, `[d, n]`; zero when absent.
    pub initial_dn: Option<ArrayView2<'a, T>>,
}

/// What a scan gives.
#[derive(Clone, Debug, PartialEq)]
pub struct ScanOutput<T> {
    /// `[l, d]`.
    pub y_ld: Array2<T>,
    /// State after the last token, `[d, n]`.
    pub last_dn: Array2<T>,
}

/// Where a scan was cut into segments that run at the same time, and what it found to go on from.
#[derive(Clone, Debug, PartialEq)]
pub struct SegmentStarts {
    /// Tokens of a segment; the last may have fewer.
    pub segment: usize,
    /// The state before each segment, `[segments, d, n]`; empty where the text is one segment.
    pub h_sdn: Array3<f32>,
}

/// An operand whose shape does not fit the others.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("scan operand {operand}: wanted shape {wanted}, found {found:?}")]
pub struct ScanError {
    /// Which operand.
    pub operand: &'static str,
    /// The shape the other operands ask for.
    pub wanted: String,
    /// Its shape.
    pub found: Vec<usize>,
}

/// An operand has the shape the others ask for.
fn check(operand: &'static str, found: &[usize], wanted: &[usize]) -> Result<(), ScanError> {
    if found == wanted {
        return Ok(());
    }
    Err(ScanError {
        operand,
        wanted: format!("{wanted:?}"),
        found: found.to_vec(),
    })
}

/// B or C, `[tokens, groups, slots]`, has a whole number of `readers` (channels or heads) for each group.
fn check_groups(
    operand: &'static str,
    found: &[usize],
    [tokens, readers, slots]: [usize; 3],
) -> Result<(), ScanError> {
    match *found {
        [_, groups, _] if groups > 0 && readers % groups == 0 => {
            check(operand, found, &[tokens, groups, slots])
        }
        _ => Err(ScanError {
            operand,
            wanted: format!("[{tokens}, groups that divide {readers}, {slots}]"),
            found: found.to_vec(),
        }),
    }
}

impl<T> ScanInput<'_, T> {
    /// Tokens, channels, slots.
    pub fn dims(&self) -> (usize, usize, usize) {
        let (l, d) = self.u_ld.dim();
        (l, d, self.a_dn.dim().1)
    }

    /// Checks every operand against `u` and A.
    ///
    /// # Errors
    /// Names the first operand that does not fit.
    pub fn validate(&self) -> Result<(), ScanError> {
        let (l, d, n) = self.dims();
        check("delta", self.delta_ld.shape(), &[l, d])?;
        check("A", self.a_dn.shape(), &[d, n])?;
        for (operand, vector) in [("delta_bias", &self.delta_bias_d), ("D", &self.d_skip_d)] {
            vector
                .as_ref()
                .map_or(Ok(()), |v| check(operand, v.shape(), &[d]))?;
        }
        self.z_ld
            .as_ref()
            .map_or(Ok(()), |z| check("z", z.shape(), &[l, d]))?;
        self.initial_dn
            .as_ref()
            .map_or(Ok(()), |h| check("initial state", h.shape(), &[d, n]))?;
        for (operand, projection) in [("B", &self.b), ("C", &self.c)] {
            match projection {
                Projection::Constant(dn) => check(operand, dn.shape(), &[d, n])?,
                Projection::Selective(lgn) => {
                    check_groups(operand, lgn.shape(), [l, d, n])?;
                }
            }
        }
        Ok(())
    }
}
