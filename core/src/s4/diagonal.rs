//! S4D: a diagonal A, in conjugate pairs or real, and its four initialisations (S4D sections 3 and 4).

use std::f64::consts::PI;

use ndarray::{Array1, ArrayView1, s};
use num_complex::Complex64;
use serde::{Deserialize, Serialize};

use super::{Nplr, S4Error, View, fits, kernel_by_diagonal};
use crate::discretize::{Discretization, DiscretizeError, Step};
use crate::hippo;

/// Where the diagonal of A begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum S4dInit {
    /// Frequencies evenly spaced, like a Fourier series.
    Lin,
    /// Frequencies like those of LegS, in closed form.
    Inv,
    /// The eigenvalues of the normal part of LegS.
    Legs,
    /// No frequencies: the decay ladder that Mamba starts from.
    Real,
}

impl S4dInit {
    /// Every initialisation once, in the order of menus.
    pub const ALL: [Self; 4] = [Self::Lin, Self::Inv, Self::Legs, Self::Real];

    /// Short name; stable.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lin => "s4d_lin",
            Self::Inv => "s4d_inv",
            Self::Legs => "s4d_legs",
            Self::Real => "s4d_real",
        }
    }

    /// Name to show.
    pub fn title(self) -> &'static str {
        match self {
            Self::Lin => "S4D-Lin",
            Self::Inv => "S4D-Inv",
            Self::Legs => "S4D-LegS",
            Self::Real => "S4D-Real",
        }
    }

    /// A in one line.
    pub fn formula(self) -> &'static str {
        match self {
            Self::Lin => "Aₙ = −½ + iπn, n < N/2",
            Self::Inv => "Aₙ = −½ + i (N/π) (N/(2n+1) − 1), n < N/2",
            Self::Legs => "Aₙ = the N/2 upper eigenvalues of LegS + P Pᵀ",
            Self::Real => "Aₙ = −(n+1), n < N",
        }
    }

    /// Whether each entry stands for itself and its conjugate.
    pub fn is_paired(self) -> bool {
        self != Self::Real
    }

    /// The diagonal of A for a state of `slots` real numbers: `[slots / 2]` where paired, else `[slots]`.
    ///
    /// # Errors
    /// When `slots` is 0, or odd where entries are paired.
    pub fn lambda_n(self, slots: usize) -> Result<Array1<Complex64>, S4Error> {
        if slots == 0 {
            return Err(DiscretizeError::NoSlots.into());
        }
        if self.is_paired() && !slots.is_multiple_of(2) {
            return Err(S4Error::Odd {
                init: self.title(),
                slots,
            });
        }
        let (half, size) = (slots / 2, slots as f64);
        let with = |imaginary: fn(f64, f64) -> f64| {
            Array1::from_shape_fn(half, |n| Complex64::new(-0.5, imaginary(n as f64, size)))
        };
        Ok(match self {
            Self::Lin => with(|n, _| PI * n),
            Self::Inv => with(|n, size| size / PI * (size / (2.0 * n + 1.0) - 1.0)),
            Self::Legs => Nplr::legs(slots)?.lambda_n.slice_move(s![..half]),
            Self::Real => Array1::from_shape_fn(slots, |n| Complex64::from(-(n as f64 + 1.0))),
        })
    }
}

/// Δ of a channel at its first use, log-uniform over 0.001 to 0.1, from a `uniform` number between 0 and 1.
pub fn delta_at(uniform: f64) -> f64 {
    0.001 * 100f64.powf(uniform)
}

/// S4D: one diagonal system.
#[derive(Clone, Debug)]
pub struct S4d {
    lambda_n: Array1<Complex64>,
    steps_n: Vec<Step<Complex64>>,
    c_n: Array1<Complex64>,
    paired: bool,
    d_skip: f64,
}

impl S4d {
    /// From an initialisation, with B = 1 and as many entries as C has; S4D-Real reads the real part of C alone.
    ///
    /// # Errors
    /// When C is empty, or `delta` or the rule's weight is out of range.
    pub fn new(
        init: S4dInit,
        c_n: Array1<Complex64>,
        d_skip: f64,
        delta: f64,
        rule: Discretization,
    ) -> Result<Self, S4Error> {
        let slots = c_n.len() * if init.is_paired() { 2 } else { 1 };
        let b_n = Array1::from_elem(c_n.len(), Complex64::ONE);
        let lambda_n = init.lambda_n(slots)?;
        Self::from_parts(lambda_n, &b_n, c_n, init.is_paired(), rule, delta)
            .map(|model| Self { d_skip, ..model })
    }

    /// LegS with its low-rank term dropped and B halved: as N grows, its kernel tends to that of LegS (S4D theorem 3).
    ///
    /// # Errors
    /// When C is empty or of odd length, or `delta` or the rule's weight is out of range.
    pub fn legs_without_low_rank(
        c_n: ArrayView1<'_, f64>,
        delta: f64,
        rule: Discretization,
    ) -> Result<Self, S4Error> {
        let slots = c_n.len();
        let lambda_n = S4dInit::Legs.lambda_n(slots)?;
        let system = hippo::legs(slots)?;
        let dplr = Nplr::legs(slots)?.dplr(system.b_n.view(), c_n)?;
        let upper = s![..slots / 2];
        let b_n = dplr.b_n.slice_move(upper) * Complex64::from(0.5);
        Self::from_parts(
            lambda_n,
            &b_n,
            dplr.c_n.slice_move(upper),
            true,
            rule,
            delta,
        )
    }

    /// From any diagonal A, B and C, without a skip.
    ///
    /// # Errors
    /// When they do not fit, or `delta` or the rule's weight is out of range.
    pub fn from_parts(
        lambda_n: Array1<Complex64>,
        b_n: &Array1<Complex64>,
        c_n: Array1<Complex64>,
        paired: bool,
        rule: Discretization,
        delta: f64,
    ) -> Result<Self, S4Error> {
        fits(&[("B", b_n.len()), ("C", c_n.len())], lambda_n.len())?;
        let entries = lambda_n.iter().zip(b_n);
        let steps_n = entries
            .map(|(&a, &b)| rule.entry(a, b, delta))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            lambda_n,
            steps_n,
            c_n,
            paired,
            d_skip: 0.0,
        })
    }

    /// The diagonal of A before discretisation, `[n]`.
    pub fn lambda_n(&self) -> ArrayView1<'_, Complex64> {
        self.lambda_n.view()
    }

    /// ā, b̄ and b̄' of every entry, `[n]`.
    pub fn steps_n(&self) -> &[Step<Complex64>] {
        &self.steps_n
    }

    /// K, `[l]`.
    ///
    /// # Errors
    /// None for a model that could be built.
    pub fn kernel(&self, length: usize) -> Result<Array1<f64>, S4Error> {
        kernel_by_diagonal(&self.steps_n, self.c_n.view(), self.paired, length)
    }

    /// y of the input `u_l`, `[l]`.
    ///
    /// # Errors
    /// When the transform fails.
    pub fn output(&self, view: View, u_l: ArrayView1<'_, f64>) -> Result<Array1<f64>, S4Error> {
        let kernel = || self.kernel(u_l.len());
        view.output(u_l, self.d_skip, || Ok(self.run(u_l)), kernel)
    }

    /// The recurrence from h = 0, no skip, `[l]`.
    fn run(&self, u_l: ArrayView1<'_, f64>) -> Array1<f64> {
        let scale = if self.paired { 2.0 } else { 1.0 };
        let (mut h_n, mut u_before) = (vec![Complex64::ZERO; self.steps_n.len()], 0.0);
        u_l.mapv(|u| {
            let mut y = 0.0;
            for ((h, step), c) in h_n.iter_mut().zip(&self.steps_n).zip(&self.c_n) {
                *h = step.a * *h + step.b * u + step.b_prev * u_before;
                y += scale * (c * *h).re;
            }
            u_before = u;
            y
        })
    }
}
