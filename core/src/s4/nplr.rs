//! HiPPO matrices as normal plus low-rank, and in the basis of their eigenvectors as diagonal plus low-rank (S4
//! theorem 1).

use faer::{Mat, Side};
use ndarray::{Array1, Array2, ArrayView1, Axis};
use num_complex::Complex64;

use super::{S4Error, dot, fits};
use crate::discretize::{Continuous, positive, solve};
use crate::hippo;

/// A = V diag(λ) Vᴴ − P Pᵀ, with V unitary.
#[derive(Clone, Debug)]
pub struct Nplr {
    /// λ, `[n]`, by falling imaginary part: the conjugate of entry n is entry N − 1 − n.
    pub lambda_n: Array1<Complex64>,
    /// V, `[n, n]`, one eigenvector a column.
    pub v_nn: Array2<Complex64>,
    /// P, `[n, r]`: rank 1 for LegS, 2 for LegT.
    pub p_nr: Array2<f64>,
}

impl Nplr {
    /// LegS, with P\[n\] = √(n + ½): A + P Pᵀ is −½ plus a skew-symmetric matrix, so every λ has the real part −½.
    ///
    /// # Errors
    /// When `slots` is 0, or the eigenvalue iteration fails.
    pub fn legs(slots: usize) -> Result<Self, S4Error> {
        let system = hippo::legs(slots)?;
        let p_nr = Array2::from_shape_fn((slots, 1), |(n, _)| (n as f64 + 0.5).sqrt());
        Self::new(&system, p_nr, -0.5)
    }

    /// LegT over a window of `theta` time units, with √((2n+1)/θ) on the even slots in one column of P and on the odd
    /// slots in the other: A + P Pᵀ is skew-symmetric, so every λ is imaginary.
    ///
    /// # Errors
    /// When `slots` is 0, `theta` is not a finite number above zero, or the eigenvalue iteration fails.
    pub fn legt(slots: usize, theta: f64) -> Result<Self, S4Error> {
        let system = hippo::legt(slots, theta)?;
        let p_nr = Array2::from_shape_fn((slots, 2), |(n, r)| {
            let member = n % 2 == r;
            if member {
                ((2.0 * n as f64 + 1.0) / theta).sqrt()
            } else {
                0.0
            }
        });
        Self::new(&system, p_nr, 0.0)
    }

    /// From an A whose A + P Pᵀ is `real` times the identity plus a skew-symmetric S: −i S is Hermitian, its
    /// eigenvalues are the imaginary parts, and its eigenvectors are orthonormal however close two eigenvalues lie.
    fn new(system: &Continuous, p_nr: Array2<f64>, real: f64) -> Result<Self, S4Error> {
        let normal_nn = &system.a_nn + &p_nr.dot(&p_nr.t());
        let slots = normal_nn.nrows();
        let hermitian = Mat::from_fn(slots, slots, |i, j| {
            let skew = 0.5 * (normal_nn[[i, j]] - normal_nn[[j, i]]);
            Complex64::new(0.0, -skew)
        });
        let eigen = hermitian
            .self_adjoint_eigen(Side::Lower)
            .map_err(|_| S4Error::Eigen { slots })?;
        let (imaginary, vectors) = (eigen.S().column_vector(), eigen.U());
        // They come in rising order.
        Ok(Self {
            lambda_n: Array1::from_shape_fn(slots, |n| {
                Complex64::new(real, imaginary[slots - 1 - n].re)
            }),
            v_nn: Array2::from_shape_fn((slots, slots), |(i, n)| vectors[(i, slots - 1 - n)]),
            p_nr,
        })
    }

    /// V diag(λ) Vᴴ − P Pᵀ, `[n, n]`: A again, up to rounding.
    pub fn dense(&self) -> Array2<Complex64> {
        let scaled = &self.v_nn * &self.lambda_n;
        let low_rank = self.p_nr.dot(&self.p_nr.t());
        scaled.dot(&self.v_nn.t().mapv(|v| v.conj())) - low_rank.mapv(Complex64::from)
    }

    /// Vᴴ x, `[n]`: a column in the basis of the eigenvectors.
    fn column(&self, x_n: ArrayView1<'_, f64>) -> Array1<Complex64> {
        let conjugate = self.v_nn.t().mapv(|v| v.conj());
        conjugate.dot(&x_n.mapv(Complex64::from))
    }

    /// The whole system in the basis of the eigenvectors: P → Vᴴ P, B → Vᴴ B, C → C V.
    ///
    /// # Errors
    /// When B or C does not fit to the state.
    pub fn dplr(
        &self,
        b_n: ArrayView1<'_, f64>,
        c_n: ArrayView1<'_, f64>,
    ) -> Result<Dplr, S4Error> {
        fits(&[("B", b_n.len()), ("C", c_n.len())], self.lambda_n.len())?;
        let mut p_nr = Array2::zeros(self.p_nr.dim());
        for (mut to, from) in p_nr.columns_mut().into_iter().zip(self.p_nr.columns()) {
            to.assign(&self.column(from));
        }
        Ok(Dplr {
            lambda_n: self.lambda_n.clone(),
            p_nr,
            b_n: self.column(b_n),
            c_n: c_n.mapv(Complex64::from).dot(&self.v_nn),
        })
    }
}

/// h' = (diag(λ) − P Pᴴ) h + B u, y = C h, complex but with a real kernel.
#[derive(Clone, Debug)]
pub struct Dplr {
    /// λ, `[n]`.
    pub lambda_n: Array1<Complex64>,
    /// P, `[n, r]`.
    pub p_nr: Array2<Complex64>,
    /// B, `[n]`.
    pub b_n: Array1<Complex64>,
    /// C, `[n]`: a row, not conjugated.
    pub c_n: Array1<Complex64>,
}

impl Dplr {
    /// Pᴴ, `[r, n]`.
    fn p_conj_rn(&self) -> Array2<Complex64> {
        self.p_nr.t().mapv(|p| p.conj())
    }

    /// The bilinear rule for a step of `delta`.
    ///
    /// # Errors
    /// When `delta` is not a finite number above zero.
    pub fn discretize(&self, delta: f64) -> Result<DplrStep<'_>, S4Error> {
        positive("the step size", delta)?;
        let rate = 2.0 / delta;
        let weight_n = self.lambda_n.mapv(|lambda| (rate - lambda).inv());
        let p_conj_rn = self.p_conj_rn();
        let weighted_nr = &self.p_nr * &weight_n.view().insert_axis(Axis(1));
        let mut inner_rr = p_conj_rn.dot(&weighted_nr);
        inner_rr.diag_mut().mapv_inplace(|x| x + 1.0);
        let mut step = DplrStep {
            dplr: self,
            rate,
            weight_n,
            p_conj_rn,
            inner_rr,
            b_n: Array1::zeros(0),
        };
        step.b_n = step.resolve(&self.b_n) * Complex64::from(2.0);
        Ok(step)
    }

    /// C Ā^L, `[n]`, by L products of a row with Ā. A trained S4 stores C̃ = C (I − Ā^L) and never needs it.
    ///
    /// # Errors
    /// When `delta` is not a finite number above zero.
    pub fn c_after(&self, delta: f64, length: usize) -> Result<Array1<Complex64>, S4Error> {
        let step = self.discretize(delta)?;
        let mut row_n = self.c_n.clone();
        for _ in 0..length {
            row_n = step.apply_to_row(&row_n);
        }
        Ok(row_n)
    }
}

/// Ā = (2/Δ − A)⁻¹ (2/Δ + A) and B̄ = 2 (2/Δ − A)⁻¹ B as products, O(N r) each (S4 appendix C.2). With W = (2/Δ − Λ)⁻¹,
/// diagonal, the Woodbury identity gives (2/Δ − A)⁻¹ = W − W P (I + Pᴴ W P)⁻¹ Pᴴ W.
#[derive(Clone, Debug)]
pub struct DplrStep<'a> {
    dplr: &'a Dplr,
    rate: f64,
    weight_n: Array1<Complex64>,
    p_conj_rn: Array2<Complex64>,
    inner_rr: Array2<Complex64>,
    b_n: Array1<Complex64>,
}

impl DplrStep<'_> {
    /// (2/Δ − A)⁻¹ x.
    fn resolve(&self, x_n: &Array1<Complex64>) -> Array1<Complex64> {
        let weighted_n = x_n * &self.weight_n;
        let inner_r = solve_small(self.inner_rr.clone(), self.p_conj_rn.dot(&weighted_n));
        weighted_n - self.dplr.p_nr.dot(&inner_r) * &self.weight_n
    }

    /// Ā h + B̄ u, `[n]`.
    pub fn apply(&self, h_n: &Array1<Complex64>, u: f64) -> Array1<Complex64> {
        let low_rank = self.dplr.p_nr.dot(&self.p_conj_rn.dot(h_n));
        let explicit = h_n * self.rate + h_n * &self.dplr.lambda_n - low_rank;
        self.resolve(&explicit) + &self.b_n * Complex64::from(u)
    }

    /// x Ā for a row x, `[n]`.
    fn apply_to_row(&self, x_n: &Array1<Complex64>) -> Array1<Complex64> {
        let p_nr = &self.dplr.p_nr;
        let weighted_n = x_n * &self.weight_n;
        let inner_r = solve_small(self.inner_rr.t().to_owned(), weighted_n.dot(p_nr));
        let row_n = weighted_n - inner_r.dot(&self.p_conj_rn) * &self.weight_n;
        let low_rank = row_n.dot(p_nr).dot(&self.p_conj_rn);
        &row_n * self.rate + &row_n * &self.dplr.lambda_n - low_rank
    }

    /// The recurrence from h = 0, `[l]`: y\[k\] = Re C h\[k\].
    pub fn run(&self, u_l: ArrayView1<'_, f64>) -> Array1<f64> {
        let mut h_n = Array1::zeros(self.b_n.len());
        u_l.mapv(|u| {
            h_n = self.apply(&h_n, u);
            dot(self.dplr.c_n.view(), h_n.view()).re
        })
    }
}

/// Solves A x = b for the rank-sized systems of the Woodbury identity, by elimination. No pivoting: A is I + Pᴴ W P
/// with W = 1/(g − λ), and where Re g > Re λ its Hermitian part is positive definite, so that no pivot vanishes.
pub(super) fn solve_small(
    mut a_rr: Array2<Complex64>,
    mut b_r: Array1<Complex64>,
) -> Array1<Complex64> {
    let rank = b_r.len();
    for pivot in 0..rank {
        for row in pivot + 1..rank {
            let factor = a_rr[[row, pivot]] / a_rr[[pivot, pivot]];
            for column in pivot..rank {
                let above = a_rr[[pivot, column]];
                a_rr[[row, column]] -= factor * above;
            }
            let above = b_r[pivot];
            b_r[row] -= factor * above;
        }
    }
    for pivot in (0..rank).rev() {
        for column in pivot + 1..rank {
            let known = a_rr[[pivot, column]] * b_r[column];
            b_r[pivot] -= known;
        }
        b_r[pivot] /= a_rr[[pivot, pivot]];
    }
    b_r
}

/// What becomes of LegS when it is diagonalised without the low-rank correction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DirectDiagonalization {
    /// ‖V‖ ‖V⁻¹‖, Frobenius, the columns of V of length one: grows exponentially with the state (S4 lemma 3.2).
    pub condition: f64,
    /// Largest error of V diag(λ) V⁻¹ over the largest entry of A.
    pub error: f64,
}

impl DirectDiagonalization {
    /// Decimal digits of double precision's 15.65 that the round trip loses; all of them where nothing finite comes
    /// back.
    pub fn digits_lost(&self) -> f64 {
        let all = -f64::EPSILON.log10();
        let lost = all + self.error.log10();
        if lost.is_nan() {
            all
        } else {
            lost.clamp(0.0, all)
        }
    }
}

/// Diagonalises LegS as it is. It is triangular, so that its eigenvalues −(n+1) and eigenvectors are exact up to
/// rounding of one substitution each; what is lost is lost to the condition of V.
///
/// # Errors
/// When `slots` is 0.
pub fn diagonalize_legs_directly(slots: usize) -> Result<DirectDiagonalization, S4Error> {
    let a_nn = hippo::legs(slots)?.a_nn;
    let mut v_nn = Array2::eye(slots);
    for k in 0..slots {
        for i in k + 1..slots {
            let sum: f64 = (k..i).map(|j| a_nn[[i, j]] * v_nn[[j, k]]).sum();
            v_nn[[i, k]] = sum / (a_nn[[k, k]] - a_nn[[i, i]]);
        }
        let mut column = v_nn.column_mut(k);
        let norm = column.dot(&column).sqrt();
        column /= norm;
    }
    let inverse_nn = solve(&v_nn, &Array2::eye(slots));
    let largest = |m: &Array2<f64>| m.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    let frobenius = |m: &Array2<f64>| m.iter().map(|x| x * x).sum::<f64>().sqrt();
    let again_nn = (&v_nn * &a_nn.diag()).dot(&inverse_nn);
    Ok(DirectDiagonalization {
        condition: frobenius(&v_nn) * frobenius(&inverse_nn),
        error: largest(&(&again_nn - &a_nn)) / largest(&a_nn),
    })
}
