//! S4 and S4D: linear time-invariant state-space models with one input and one output, seen three ways.
//!
//! ```text
//! loop           h[k] = Ā h[k-1] + B̄ u[k],  y[k] = C h[k] + D u[k]
//! convolution    y[k] = Σ_i K[i] u[k-i] + D u[k],  K[i] = C Āⁱ B̄
//! FFT            the same sum, as a product of spectra
//! ```
//!
//! What is hard is K. [`S4`] has a full A and finds K either by L products with Ā, or from the generating function of
//! K at the L-th roots of unity, where A = V (Λ − P Pᴴ) Vᴴ makes a Cauchy sum of it. [`S4d`] has a diagonal A: a sum
//! of L powers a slot. Sources: S4 (arXiv:2111.00396), S4D (arXiv:2206.11893).

mod convolution;
mod diagonal;
mod kernel;
mod nplr;

use ndarray::{Array1, ArrayView1};
use num_complex::Complex64;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use convolution::{convolve_direct, convolve_fft};
pub use diagonal::{S4d, S4dInit, delta_at};
pub use kernel::{kernel_by_diagonal, kernel_by_generating_function, kernel_by_powers};
pub use nplr::{DirectDiagonalization, Dplr, DplrStep, Nplr, diagonalize_legs_directly};

use crate::discretize::{Continuous, Discrete, Discretization, DiscretizeError, length};
use crate::hippo;

/// What cannot be built or run.
#[derive(Debug, Error)]
pub enum S4Error {
    /// A size, step size or shape, or a rule that fails.
    #[error(transparent)]
    Discretize(#[from] DiscretizeError),
    /// Conjugate pairs fill an even number of slots.
    #[error("{init} stores conjugate pairs: the state size must be even, found {slots}")]
    Odd {
        /// Which initialisation.
        init: &'static str,
        /// The state size.
        slots: usize,
    },
    /// The eigenvalue iteration did not converge.
    #[error("no eigenvalues for the normal part of A, {slots} slots")]
    Eigen {
        /// The state size.
        slots: usize,
    },
    /// The Fourier transform refused its buffers.
    #[error("Fourier transform: {0}")]
    Fourier(#[from] realfft::FftError),
}

/// A way to the same output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// Step by step: O(1) memory, no parallelism over time.
    Loop,
    /// Sum over the kernel: O(L²).
    Direct,
    /// Product of spectra: O(L log L).
    Fft,
}

impl View {
    /// Every view once, in the order of menus.
    pub const ALL: [Self; 3] = [Self::Loop, Self::Direct, Self::Fft];

    /// Short name; stable.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::Direct => "direct",
            Self::Fft => "fft",
        }
    }

    /// Name to show.
    pub fn title(self) -> &'static str {
        match self {
            Self::Loop => "Recurrence",
            Self::Direct => "Direct convolution",
            Self::Fft => "FFT convolution",
        }
    }

    /// What it computes, in one line.
    pub fn formula(self) -> &'static str {
        match self {
            Self::Loop => "h[k] = Ā h[k−1] + B̄ u[k], y[k] = C h[k]",
            Self::Direct => "y[k] = Σᵢ K[i] u[k−i]",
            Self::Fft => "y = irfft(rfft(K, 2L) · rfft(u, 2L))[..L]",
        }
    }

    /// y of one input, its skip included, from a loop or a kernel of the input's length.
    fn output(
        self,
        u_l: ArrayView1<'_, f64>,
        d_skip: f64,
        run: impl FnOnce() -> Result<Array1<f64>, S4Error>,
        kernel: impl FnOnce() -> Result<Array1<f64>, S4Error>,
    ) -> Result<Array1<f64>, S4Error> {
        let y_l = match self {
            Self::Loop => run()?,
            Self::Direct => convolve_direct(u_l, kernel()?.view())?,
            Self::Fft => convolve_fft(u_l, kernel()?.view())?,
        };
        Ok(y_l + &u_l * d_skip)
    }
}

/// A way to the kernel of [`S4`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KernelBy {
    /// L products with the full Ā: O(N² L).
    Powers,
    /// Cauchy sums at the L-th roots of unity, then an inverse FFT: O(N L + L log L), once C Ā^L is known.
    GeneratingFunction,
}

impl KernelBy {
    /// Every way once, in the order of menus.
    pub const ALL: [Self; 2] = [Self::Powers, Self::GeneratingFunction];

    /// Short name; stable.
    pub fn name(self) -> &'static str {
        match self {
            Self::Powers => "powers",
            Self::GeneratingFunction => "generating_function",
        }
    }

    /// Name to show.
    pub fn title(self) -> &'static str {
        match self {
            Self::Powers => "Powers of Ā",
            Self::GeneratingFunction => "Generating function",
        }
    }

    /// What it computes, in one line.
    pub fn formula(self) -> &'static str {
        match self {
            Self::Powers => "K[i] = C Āⁱ B̄",
            Self::GeneratingFunction => {
                "K̂(z) = 2/(1+z) · [k(C̃B) − k(C̃P) (1 + k(PᴴP))⁻¹ k(PᴴB)], k(v) = Σₙ vₙ / (g(z) − λₙ)"
            }
        }
    }
}

/// S4: a HiPPO matrix, the bilinear rule, and the same system in diagonal plus low-rank form.
#[derive(Clone, Debug)]
pub struct S4 {
    nplr: Nplr,
    system: Continuous,
    discrete: Discrete,
    dplr: Dplr,
    c_n: Array1<f64>,
    d_skip: f64,
    delta: f64,
}

impl S4 {
    /// On LegS, with one slot an entry of C.
    ///
    /// # Errors
    /// When C is empty, or `delta` is not a finite number above zero.
    pub fn legs(c_n: Array1<f64>, d_skip: f64, delta: f64) -> Result<Self, S4Error> {
        let system = hippo::legs(c_n.len())?;
        Self::new(Nplr::legs(c_n.len())?, system, c_n, d_skip, delta)
    }

    /// On LegT over a window of `theta` time units, with one slot an entry of C.
    ///
    /// # Errors
    /// When C is empty, or `theta` or `delta` is not a finite number above zero.
    pub fn legt(c_n: Array1<f64>, theta: f64, d_skip: f64, delta: f64) -> Result<Self, S4Error> {
        let system = hippo::legt(c_n.len(), theta)?;
        Self::new(Nplr::legt(c_n.len(), theta)?, system, c_n, d_skip, delta)
    }

    fn new(
        nplr: Nplr,
        system: Continuous,
        c_n: Array1<f64>,
        d_skip: f64,
        delta: f64,
    ) -> Result<Self, S4Error> {
        Ok(Self {
            discrete: Discretization::Bilinear.dense(&system, delta)?,
            dplr: nplr.dplr(system.b_n.view(), c_n.view())?,
            nplr,
            system,
            c_n,
            d_skip,
            delta,
        })
    }

    /// A and B before discretisation.
    pub fn system(&self) -> &Continuous {
        &self.system
    }

    /// Ā and B̄.
    pub fn discrete(&self) -> &Discrete {
        &self.discrete
    }

    /// Eigenvalues, eigenvectors and the low-rank term.
    pub fn nplr(&self) -> &Nplr {
        &self.nplr
    }

    /// The system in the basis of the eigenvectors.
    pub fn dplr(&self) -> &Dplr {
        &self.dplr
    }

    /// K, `[l]`.
    ///
    /// # Errors
    /// When the transform fails.
    pub fn kernel(&self, by: KernelBy, length: usize) -> Result<Array1<f64>, S4Error> {
        match by {
            KernelBy::Powers => kernel_by_powers(&self.discrete, self.c_n.view(), length),
            KernelBy::GeneratingFunction => {
                kernel_by_generating_function(&self.dplr, self.delta, length)
            }
        }
    }

    /// y of the input `u_l`, `[l]`. A convolution's kernel comes from the generating function, as in S4.
    ///
    /// # Errors
    /// When the transform fails.
    pub fn output(&self, view: View, u_l: ArrayView1<'_, f64>) -> Result<Array1<f64>, S4Error> {
        view.output(
            u_l,
            self.d_skip,
            || Ok(self.discrete.run(self.c_n.view(), u_l)?),
            || self.kernel(KernelBy::GeneratingFunction, u_l.len()),
        )
    }
}

/// Refuses vectors that do not fit to a state of `slots`.
fn fits(vectors: &[(&'static str, usize)], slots: usize) -> Result<(), DiscretizeError> {
    vectors
        .iter()
        .try_for_each(|&(operand, found)| length(operand, found, slots))
}

/// Σ_n x\[n\] y\[n\], no conjugate.
fn dot(x_n: ArrayView1<'_, Complex64>, y_n: ArrayView1<'_, Complex64>) -> Complex64 {
    x_n.iter().zip(y_n).map(|(x, y)| x * y).sum()
}
