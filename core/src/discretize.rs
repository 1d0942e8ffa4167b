//! From continuous time to steps: the rules that turn h' = A h + B u into a recurrence.
//!
//! ```text
//! h[k] = Ā h[k-1] + B̄ u[k] + B̄' u[k-1]          B̄' is zero, except under the exponential-trapezoidal rule
//! ```
//!
//! u\[k\] stands for the input during the whole k-th step. Of a smooth input take the value at the middle of the step:
//! then zero-order hold and the bilinear rule err by O(Δ²), with the value at its end by O(Δ) like Euler's.
//!
//! Sources: S4 (arXiv:2111.00396) equation 3, Mamba (arXiv:2312.00752) equation 4, Mamba-3 (arXiv:2603.15569).

use std::ops::Mul;

use faer::MatRef;
use faer::prelude::Solve;
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};
use num_complex::{Complex64, ComplexFloat};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A rule of discretisation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Discretization {
    /// The slope at the beginning of the step, kept through it.
    Euler,
    /// The slope at the end of the step.
    BackwardEuler,
    /// The mean of both slopes, also called Tustin's method: S4.
    Bilinear,
    /// Any mixture of both slopes.
    GeneralizedBilinear {
        /// Weight of the slope at the end, 0 to 1.
        alpha: f64,
    },
    /// The exact solution for an input that is constant within each step: equation 4 of the Mamba paper.
    ZeroOrderHold,
    /// Zero-order hold for A, Euler for B: what Mamba computes.
    ExponentialEuler,
    /// The decay exact, the input's integral by a weighted trapezoid rule: Mamba-3.
    ExponentialTrapezoidal {
        /// Weight of the input at the end of the step, 0 to 1; 1 is the exponential Euler rule.
        lambda: f64,
    },
}

/// h' = A h + B u, one input.
#[derive(Clone, Debug, PartialEq)]
pub struct Continuous {
    /// A, `[n, n]`.
    pub a_nn: Array2<f64>,
    /// B, `[n]`.
    pub b_n: Array1<f64>,
}

/// h\[k\] = Ā h\[k-1\] + B̄ u\[k\] + B̄' u\[k-1\].
#[derive(Clone, Debug, PartialEq)]
pub struct Discrete {
    /// Ā, `[n, n]`.
    pub a_nn: Array2<f64>,
    /// B̄, `[n]`.
    pub b_n: Array1<f64>,
    /// B̄', `[n]`: the share of the previous input.
    pub b_prev_n: Array1<f64>,
}

/// [`Discrete`] for one entry of a diagonal system.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step<T> {
    /// ā.
    pub a: T,
    /// b̄.
    pub b: T,
    /// b̄'.
    pub b_prev: T,
}

/// What cannot be discretised.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum DiscretizeError {
    /// A step size, window or length that is not a finite number above zero.
    #[error("{what} must be finite and above zero, found {value}")]
    NotPositive {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// A mixing weight outside 0 to 1.
    #[error("{what} must lie between 0 and 1, found {value}")]
    Weight {
        /// Which weight.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// A that is empty or not square, or an operand that does not fit to it.
    #[error("{operand}: wanted shape {wanted:?}, found {found:?}")]
    Shape {
        /// Which operand.
        operand: &'static str,
        /// The shape asked for.
        wanted: Vec<usize>,
        /// Its shape.
        found: Vec<usize>,
    },
    /// A state without slots.
    #[error("the state must have at least one slot")]
    NoSlots,
    /// A rule that a time-varying memory cannot take.
    #[error("the memory with 1/t takes a generalised bilinear rule, not {rule}")]
    Rule {
        /// Its name.
        rule: &'static str,
    },
    /// The rule divides by zero at this step size, or A or B hold no finite number.
    #[error("no finite result for a step of {delta}")]
    NotFinite {
        /// The step size.
        delta: f64,
    },
}

/// Refuses what is not a finite number above zero.
pub(crate) fn positive(what: &'static str, value: f64) -> Result<(), DiscretizeError> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(DiscretizeError::NotPositive { what, value })
}

/// Refuses a vector of another length.
pub(crate) fn length(
    operand: &'static str,
    found: usize,
    wanted: usize,
) -> Result<(), DiscretizeError> {
    if found == wanted {
        return Ok(());
    }
    Err(DiscretizeError::Shape {
        operand,
        wanted: vec![wanted],
        found: vec![found],
    })
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f64 {}
    impl Sealed for num_complex::Complex64 {}
}

/// An entry of a diagonal A: f64 or [`Complex64`].
pub trait Entry: ComplexFloat<Real = f64> + Mul<f64, Output = Self> + sealed::Sealed {
    /// e^z − 1, to full precision near zero too.
    fn exp_minus_one(self) -> Self;
}

impl Entry for f64 {
    fn exp_minus_one(self) -> Self {
        self.exp_m1()
    }
}

impl Entry for Complex64 {
    /// e^x cos y − 1 = (e^x − 1) cos y − 2 sin²(y/2): no difference of two numbers near one is left.
    fn exp_minus_one(self) -> Self {
        let (x, half) = (self.re, (self.im / 2.0).sin());
        Complex64::new(
            x.exp_m1() * self.im.cos() - 2.0 * half * half,
            x.exp() * self.im.sin(),
        )
    }
}

/// φ(z) = (e^z − 1) / z, with its limit 1 at z = 0: how much an input held for one step leaves behind, over Δ.
pub fn phi<T: Entry>(z: T) -> T {
    // The division would lose its denominator to underflow; the next term, z³/24, is below half an ulp of one.
    if z.abs() < 1e-5 {
        return T::one() + z * 0.5 + z * z * (1.0 / 6.0);
    }
    z.exp_minus_one() / z
}

impl Discrete {
    /// Ā h + B̄ u\[k\] + B̄' u\[k-1\], `[n]`.
    pub fn step(&self, h_n: ArrayView1<'_, f64>, u_before: f64, u: f64) -> Array1<f64> {
        self.a_nn.dot(&h_n) + &self.b_n * u + &self.b_prev_n * u_before
    }

    /// The recurrence from h = 0, read by C and not skipped: y\[k\] = C h\[k\], one a sample of `u_l`.
    ///
    /// # Errors
    /// When C does not fit to the state.
    pub fn run(
        &self,
        c_n: ArrayView1<'_, f64>,
        u_l: ArrayView1<'_, f64>,
    ) -> Result<Array1<f64>, DiscretizeError> {
        length("C", c_n.len(), self.b_n.len())?;
        let (mut h_n, mut u_before) = (Array1::zeros(c_n.len()), 0.0);
        Ok(u_l.mapv(|u| {
            h_n = self.step(h_n.view(), u_before, u);
            u_before = u;
            c_n.dot(&h_n)
        }))
    }
}

impl Discretization {
    /// Every rule once, in the order of menus, with the weights that make it differ from the others.
    pub const ALL: [Self; 7] = [
        Self::Euler,
        Self::BackwardEuler,
        Self::Bilinear,
        Self::GeneralizedBilinear { alpha: 0.75 },
        Self::ZeroOrderHold,
        Self::ExponentialEuler,
        Self::ExponentialTrapezoidal { lambda: 0.5 },
    ];

    /// Short name, the same for every weight; stable.
    pub fn name(self) -> &'static str {
        match self {
            Self::Euler => "euler",
            Self::BackwardEuler => "backward_euler",
            Self::Bilinear => "bilinear",
            Self::GeneralizedBilinear { .. } => "generalized_bilinear",
            Self::ZeroOrderHold => "zero_order_hold",
            Self::ExponentialEuler => "exponential_euler",
            Self::ExponentialTrapezoidal { .. } => "exponential_trapezoidal",
        }
    }

    /// Name to show.
    pub fn title(self) -> &'static str {
        match self {
            Self::Euler => "Euler (forward)",
            Self::BackwardEuler => "Backward Euler",
            Self::Bilinear => "Bilinear (Tustin)",
            Self::GeneralizedBilinear { .. } => "Generalised bilinear",
            Self::ZeroOrderHold => "Zero-order hold",
            Self::ExponentialEuler => "Exponential Euler",
            Self::ExponentialTrapezoidal { .. } => "Exponential-trapezoidal",
        }
    }

    /// The rule in one line.
    pub fn formula(self) -> &'static str {
        match self {
            Self::Euler => "Ā = I + ΔA, B̄ = ΔB",
            Self::BackwardEuler => "Ā = (I − ΔA)⁻¹, B̄ = (I − ΔA)⁻¹ ΔB",
            Self::Bilinear => "Ā = (I − ΔA/2)⁻¹ (I + ΔA/2), B̄ = (I − ΔA/2)⁻¹ ΔB",
            Self::GeneralizedBilinear { .. } => "Ā = (I − αΔA)⁻¹ (I + (1−α)ΔA), B̄ = (I − αΔA)⁻¹ ΔB",
            Self::ZeroOrderHold => "Ā = exp(ΔA), B̄ = A⁻¹ (exp(ΔA) − I) B",
            Self::ExponentialEuler => "Ā = exp(ΔA), B̄ = ΔB",
            Self::ExponentialTrapezoidal { .. } => {
                "Ā = exp(ΔA), B̄ = λΔB, and (1−λ)ΔĀB for the previous input"
            }
        }
    }

    /// Who computes it.
    pub fn used_by(self) -> &'static str {
        match self {
            Self::Euler => "textbooks; one form of the HiPPO recurrence",
            Self::BackwardEuler => "stiff systems",
            Self::Bilinear => "S4",
            Self::GeneralizedBilinear { .. } => "HiPPO, LSSL",
            Self::ZeroOrderHold => "S4D, S5; the Mamba paper's equation 4",
            Self::ExponentialEuler => "Mamba and Mamba-2 as they run",
            Self::ExponentialTrapezoidal { .. } => "Mamba-3",
        }
    }

    /// α of the generalised bilinear rule that this is, if it is one.
    pub fn alpha(self) -> Option<f64> {
        match self {
            Self::Euler => Some(0.0),
            Self::Bilinear => Some(0.5),
            Self::BackwardEuler => Some(1.0),
            Self::GeneralizedBilinear { alpha } => Some(alpha),
            _ => None,
        }
    }

    /// Refuses a step size or a weight out of range.
    pub(crate) fn validate(self, delta: f64) -> Result<(), DiscretizeError> {
        positive("the step size", delta)?;
        let (what, value) = match self {
            Self::GeneralizedBilinear { alpha } => ("alpha", alpha),
            Self::ExponentialTrapezoidal { lambda } => ("lambda", lambda),
            _ => return Ok(()),
        };
        if (0.0..=1.0).contains(&value) {
            return Ok(());
        }
        Err(DiscretizeError::Weight { what, value })
    }

    /// One entry of a diagonal system, h' = a h + b u, for a step of `delta`.
    ///
    /// # Errors
    /// When `delta` or the rule's weight is out of range, or the result is not finite.
    pub fn entry<T: Entry>(self, a: T, b: T, delta: f64) -> Result<Step<T>, DiscretizeError> {
        self.validate(delta)?;
        let (one, z) = (T::one(), a * delta);
        let mut b_prev = T::zero();
        let (a_bar, b_bar) = match self {
            Self::ZeroOrderHold => (z.exp(), b * phi(z) * delta),
            Self::ExponentialEuler => (z.exp(), b * delta),
            Self::ExponentialTrapezoidal { lambda } => {
                b_prev = z.exp() * b * ((1.0 - lambda) * delta);
                (z.exp(), b * (lambda * delta))
            }
            _ => {
                let alpha = self.alpha().unwrap_or_default();
                let implicit = one - z * alpha;
                ((one + z * (1.0 - alpha)) / implicit, b * delta / implicit)
            }
        };
        if a_bar.is_finite() && b_bar.is_finite() && b_prev.is_finite() {
            return Ok(Step {
                a: a_bar,
                b: b_bar,
                b_prev,
            });
        }
        Err(DiscretizeError::NotFinite { delta })
    }

    /// A whole system for a step of `delta`.
    ///
    /// # Errors
    /// When shapes do not fit, `delta` or the rule's weight is out of range, or the result is not finite.
    pub fn dense(self, system: &Continuous, delta: f64) -> Result<Discrete, DiscretizeError> {
        self.validate(delta)?;
        let n = square("A", system.a_nn.view())?;
        length("B", system.b_n.len(), n)?;
        let z_nn = &system.a_nn * delta;
        let delta_b_n = &system.b_n * delta;
        let mut b_prev_n = Array1::zeros(n);
        let (a_nn, b_n) = match self {
            Self::ZeroOrderHold => zero_order_hold(&z_nn, &delta_b_n)?,
            Self::ExponentialEuler => (exponential(z_nn.view())?, delta_b_n),
            Self::ExponentialTrapezoidal { lambda } => {
                let a_bar_nn = exponential(z_nn.view())?;
                b_prev_n = a_bar_nn.dot(&delta_b_n) * (1.0 - lambda);
                (a_bar_nn, delta_b_n * lambda)
            }
            _ => generalized_bilinear(self.alpha().unwrap_or_default(), &z_nn, &delta_b_n),
        };
        let mut all = a_nn.iter().chain(&b_n).chain(&b_prev_n);
        if all.all(|x| x.is_finite()) {
            return Ok(Discrete {
                a_nn,
                b_n,
                b_prev_n,
            });
        }
        Err(DiscretizeError::NotFinite { delta })
    }
}

/// Ā and B̄ out of ΔA and ΔB, by one solve for both.
fn generalized_bilinear(
    alpha: f64,
    z_nn: &Array2<f64>,
    delta_b_n: &Array1<f64>,
) -> (Array2<f64>, Array1<f64>) {
    let n = delta_b_n.len();
    let identity = Array2::eye(n);
    let explicit = &identity + z_nn * (1.0 - alpha);
    if alpha == 0.0 {
        return (explicit, delta_b_n.clone());
    }
    let mut right = Array2::zeros((n, n + 1));
    right.slice_mut(s![.., ..n]).assign(&explicit);
    right.column_mut(n).assign(delta_b_n);
    let both = solve(&(identity - z_nn * alpha), &right);
    (
        both.slice(s![.., ..n]).to_owned(),
        both.column(n).to_owned(),
    )
}

/// exp(Δ [[A, B], [0, 0]]) = [[Ā, B̄], [0, 1]]: no inverse of A, which may have none.
fn zero_order_hold(
    z_nn: &Array2<f64>,
    delta_b_n: &Array1<f64>,
) -> Result<(Array2<f64>, Array1<f64>), DiscretizeError> {
    let n = delta_b_n.len();
    let mut block = Array2::zeros((n + 1, n + 1));
    block.slice_mut(s![..n, ..n]).assign(z_nn);
    block.slice_mut(s![..n, n]).assign(delta_b_n);
    let block = exponential(block.view())?;
    Ok((
        block.slice(s![..n, ..n]).to_owned(),
        block.slice(s![..n, n]).to_owned(),
    ))
}

fn square(operand: &'static str, a_nn: ArrayView2<'_, f64>) -> Result<usize, DiscretizeError> {
    let (n, columns) = a_nn.dim();
    if n == 0 {
        return Err(DiscretizeError::NoSlots);
    }
    if n == columns {
        return Ok(n);
    }
    Err(DiscretizeError::Shape {
        operand,
        wanted: vec![n, n],
        found: vec![n, columns],
    })
}

/// Solves A X = B, `[n, n]` and `[n, m]`, by elimination with partial pivoting; not finite where A is singular.
pub(crate) fn solve(a_nn: &Array2<f64>, b_nm: &Array2<f64>) -> Array2<f64> {
    let view = |m: &Array2<f64>| {
        let (rows, columns) = m.dim();
        let values: Vec<f64> = m.iter().copied().collect();
        (values, rows, columns)
    };
    let (a, n, _) = view(a_nn);
    let (b, rows, columns) = view(b_nm);
    let x = MatRef::from_row_major_slice(&a, n, n)
        .partial_piv_lu()
        .solve(MatRef::from_row_major_slice(&b, rows, columns));
    Array2::from_shape_fn((rows, columns), |(i, j)| x[(i, j)])
}

/// Numerator of the \[13/13\] Padé approximant of e^x, lowest power first; the denominator is that of −x.
const PADE: [f64; 14] = [
    64_764_752_532_480_000.0,
    32_382_376_266_240_000.0,
    7_771_770_303_897_600.0,
    1_187_353_796_428_800.0,
    129_060_195_264_000.0,
    10_559_470_521_600.0,
    670_442_572_800.0,
    33_522_128_640.0,
    1_323_241_920.0,
    40_840_800.0,
    960_960.0,
    16_380.0,
    182.0,
    1.0,
];

/// 1-norm up to which [`PADE`] is exact to double precision (Higham 2005, table 2.3).
const PADE_REACH: f64 = 5.371_920_351_148_152;

/// e^A of a square matrix, by scaling, a Padé approximant and repeated squaring (Higham 2005, algorithm 2.3).
///
/// # Errors
/// When A is empty or not square, or it or its exponential is not finite.
pub fn exponential(a_nn: ArrayView2<'_, f64>) -> Result<Array2<f64>, DiscretizeError> {
    let n = square("A", a_nn)?;
    let column_sums = a_nn.mapv(f64::abs).sum_axis(Axis(0));
    if !column_sums.iter().all(|sum| sum.is_finite()) {
        return Err(DiscretizeError::NotFinite { delta: 1.0 });
    }
    let norm = column_sums.fold(0.0, |largest: f64, &sum| largest.max(sum));
    let squarings = (norm / PADE_REACH).log2().ceil().max(0.0);
    let scaled = &a_nn * (-squarings).exp2();
    let second = scaled.dot(&scaled);
    let fourth = second.dot(&second);
    let sixth = fourth.dot(&second);
    let identity = Array2::<f64>::eye(n);
    // The numerator's even powers (first = 0), or its odd ones divided by A (first = 1).
    let half = |first: usize| {
        let high =
            &sixth * PADE[12 + first] + &fourth * PADE[10 + first] + &second * PADE[8 + first];
        let low = &sixth * PADE[6 + first] + &fourth * PADE[4 + first] + &second * PADE[2 + first];
        sixth.dot(&high) + low + &identity * PADE[first]
    };
    // (even − odd)⁻¹ (even + odd) = I + 2 (even − odd)⁻¹ odd: the second form keeps the digits of a small A.
    let odd = scaled.dot(&half(1));
    let mut result = solve(&(half(0) - &odd), &(odd * 2.0)) + identity.view();
    for _ in 0..squarings as usize {
        result = result.dot(&result);
    }
    if result.iter().all(|x| x.is_finite()) {
        return Ok(result);
    }
    Err(DiscretizeError::NotFinite { delta: 1.0 })
}
