//! HiPPO: a state whose slots are the coefficients of the past in Legendre polynomials (arXiv:2008.07669).
//!
//! With L_n(x) = √(2n+1) P_n(x), orthonormal over \[−1, 1\] under the measure dx/2, the input of `age` time units ago
//! is
//!
//! ```text
//! f(t − age) ≈ Σ_n c[n] L_n(x)        x = Measure::position(age, t), 1 now and −1 where the memory ends
//! ```

use ndarray::{Array1, Array2, ArrayView1};
use serde::{Deserialize, Serialize};

use crate::discretize::{Continuous, Discrete, Discretization, DiscretizeError, positive};

/// LegS: A\[n,k\] = −√((2n+1)(2k+1)) below the diagonal, −(n+1) on it, 0 above; B\[n\] = √(2n+1) (theorem 2).
///
/// # Errors
/// When `slots` is 0.
pub fn legs(slots: usize) -> Result<Continuous, DiscretizeError> {
    let b_n = roots(slots)?;
    let a_nn = Array2::from_shape_fn((slots, slots), |(n, k)| match k.cmp(&n) {
        std::cmp::Ordering::Less => -b_n[n] * b_n[k],
        std::cmp::Ordering::Equal => -(n as f64 + 1.0),
        std::cmp::Ordering::Greater => 0.0,
    });
    Ok(Continuous { a_nn, b_n })
}

/// LegT over a window of `theta` time units: A\[n,k\] = −√((2n+1)(2k+1)) / θ, with the sign (−1)^(n−k) above the
/// diagonal; B\[n\] = √(2n+1) / θ (theorem 1).
///
/// # Errors
/// When `slots` is 0, or `theta` is not a finite number above zero.
pub fn legt(slots: usize, theta: f64) -> Result<Continuous, DiscretizeError> {
    positive("the window", theta)?;
    let r_n = roots(slots)?;
    let a_nn = Array2::from_shape_fn((slots, slots), |(n, k)| {
        let sign = if k <= n { 1.0 } else { alternating(n + k) };
        -sign * r_n[n] * r_n[k] / theta
    });
    Ok(Continuous {
        a_nn,
        b_n: r_n / theta,
    })
}

/// The Legendre memory unit: LegT with slot n scaled by (−1)^n √(2n+1), A\[n,k\] = (2n+1)/θ · (−1 if n < k, else
/// (−1)^(n−k+1)).
///
/// # Errors
/// When `slots` is 0, or `theta` is not a finite number above zero.
pub fn lmu(slots: usize, theta: f64) -> Result<Continuous, DiscretizeError> {
    positive("the window", theta)?;
    let width_n = roots(slots)?.mapv(|r| r * r / theta);
    let a_nn = Array2::from_shape_fn((slots, slots), |(n, k)| {
        let sign = if n < k { -1.0 } else { -alternating(n + k) };
        sign * width_n[n]
    });
    let b_n = Array1::from_shape_fn(slots, |n| alternating(n) * width_n[n]);
    Ok(Continuous { a_nn, b_n })
}

/// √(2n+1), `[n]`.
fn roots(slots: usize) -> Result<Array1<f64>, DiscretizeError> {
    if slots == 0 {
        return Err(DiscretizeError::NoSlots);
    }
    Ok(Array1::from_shape_fn(slots, |n| {
        (2.0 * n as f64 + 1.0).sqrt()
    }))
}

/// (−1)^n.
fn alternating(n: usize) -> f64 {
    if n.is_multiple_of(2) { 1.0 } else { -1.0 }
}

/// L_n(x) for n below `slots`, by the three-term recurrence (n+1) P_{n+1} = (2n+1) x P_n − n P_{n−1}.
pub fn legendre(slots: usize, x: f64) -> Array1<f64> {
    let (mut before, mut current) = (0.0, 1.0);
    Array1::from_shape_fn(slots, |n| {
        let (n, value) = (n as f64, current);
        current = ((2.0 * n + 1.0) * x * current - n * before) / (n + 1.0);
        before = value;
        value * (2.0 * n + 1.0).sqrt()
    })
}

/// What of the past a memory keeps, and how it weighs it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// LegS as HiPPO has it, c' = (A c + B f) / t: all of the past, evenly.
    Scaled,
    /// LegS without the 1/t, as S4 uses it: all of the past, weighted by e^−age.
    Warped,
    /// LegT: the last `theta` time units, evenly.
    Window {
        /// θ.
        theta: f64,
    },
}

impl Measure {
    /// Every measure once, in the order of menus.
    pub const ALL: [Self; 3] = [Self::Scaled, Self::Warped, Self::Window { theta: 2.0 }];

    /// Short name, the same for every window; stable.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scaled => "legs",
            Self::Warped => "legs_lti",
            Self::Window { .. } => "legt",
        }
    }

    /// Name to show.
    pub fn title(self) -> &'static str {
        match self {
            Self::Scaled => "LegS (HiPPO)",
            Self::Warped => "LegS without 1/t (S4)",
            Self::Window { .. } => "LegT (sliding window)",
        }
    }

    /// Its dynamics in one line.
    pub fn formula(self) -> &'static str {
        match self {
            Self::Scaled => "c' = (A c + B f) / t",
            Self::Warped => "c' = A c + B f",
            Self::Window { .. } => "c' = A c + B f, A and B over θ",
        }
    }

    /// A and B.
    ///
    /// # Errors
    /// When `slots` is 0, or the window is not a finite number above zero.
    pub fn system(self, slots: usize) -> Result<Continuous, DiscretizeError> {
        match self {
            Self::Scaled | Self::Warped => legs(slots),
            Self::Window { theta } => legt(slots, theta),
        }
    }

    /// Where on \[−1, 1\] the input of `age` time units ago lies, `elapsed` units after the start; `None` outside the
    /// memory.
    pub fn position(self, age: f64, elapsed: f64) -> Option<f64> {
        let x = match self {
            Self::Scaled if age == 0.0 => 1.0,
            Self::Scaled => 1.0 - 2.0 * age / elapsed,
            // ∫ f(t − s) L_n(2e^−s − 1) e^−s ds is what the state without 1/t holds: e^(sA) B = e^−s L(2e^−s − 1).
            Self::Warped => 2.0 * (-age).exp() - 1.0,
            Self::Window { theta } => 1.0 - 2.0 * age / theta,
        };
        (-1.0..=1.0).contains(&x).then_some(x)
    }
}

/// How a memory moves from one sample to the next.
#[derive(Clone, Debug)]
enum Steps {
    /// With 1/t, by the generalised bilinear rule of this α.
    Varying { alpha: f64 },
    /// By the same Ā and B̄ at every sample.
    Fixed(Discrete),
}

/// A memory that is written sample by sample and can be read at any age.
///
/// [`Measure::Scaled`] reads samples at the times 0, Δ, 2Δ, …, and *now* is the time of the newest. For the two
/// others each sample stands for a whole step, best taken at its middle, and *now* is the end of the newest step.
#[derive(Clone, Debug)]
pub struct Memory {
    measure: Measure,
    delta: f64,
    steps: Steps,
    c_n: Array1<f64>,
    samples: usize,
    newest: f64,
}

impl Memory {
    /// An empty memory of `slots` coefficients, for samples `delta` time units apart.
    ///
    /// # Errors
    /// When `slots` is 0, `delta` or the window is not a finite number above zero, or `rule` fails.
    /// [`Measure::Scaled`] takes those rules only that have an [`alpha`](Discretization::alpha).
    pub fn new(
        measure: Measure,
        slots: usize,
        delta: f64,
        rule: Discretization,
    ) -> Result<Self, DiscretizeError> {
        let system = measure.system(slots)?;
        let steps = match measure {
            Measure::Scaled => {
                rule.validate(delta)?;
                let alpha = rule.alpha();
                let alpha = alpha.ok_or(DiscretizeError::Rule { rule: rule.name() })?;
                Steps::Varying { alpha }
            }
            _ => Steps::Fixed(rule.dense(&system, delta)?),
        };
        Ok(Self {
            measure,
            delta,
            steps,
            c_n: Array1::zeros(slots),
            samples: 0,
            newest: 0.0,
        })
    }

    /// Writes one sample.
    pub fn push(&mut self, sample: f64) {
        match &self.steps {
            Steps::Fixed(steps) => self.c_n = steps.step(self.c_n.view(), self.newest, sample),
            // One sample is a constant past.
            Steps::Varying { .. } if self.samples == 0 => self.c_n[0] = sample,
            // At t = 0 there is no slope to begin with.
            Steps::Varying { .. } if self.samples == 1 => self.push_scaled(sample, 1.0),
            &Steps::Varying { alpha } => self.push_scaled(sample, alpha),
        }
        self.newest = sample;
        self.samples += 1;
    }

    /// One step of c' = (A c + B f)/t, the slope at its beginning k Δ weighted by 1 − α and at its end by α (equation
    /// 4 for α = 0):
    ///
    /// ```text
    /// (I − α A/(k+1)) c[k+1] = (I + (1−α) A/k) c[k] + B ((1−α) f[k]/k + α f[k+1]/(k+1))
    /// ```
    ///
    /// Δ cancels. The lower triangle of A is an outer product, so that one running sum makes the product and another
    /// the solve: O(N), not O(N²).
    fn push_scaled(&mut self, sample: f64, alpha: f64) {
        let k = self.samples as f64 - 1.0;
        let before = if alpha == 1.0 { 0.0 } else { (1.0 - alpha) / k };
        let after = alpha / (k + 1.0);
        let input = before * self.newest + after * sample;
        let (mut old_sum, mut new_sum) = (0.0, 0.0);
        for (n, c) in self.c_n.iter_mut().enumerate() {
            let (diagonal, root) = (n as f64 + 1.0, (2.0 * n as f64 + 1.0).sqrt());
            let explicit = *c - before * (root * old_sum + diagonal * *c) + root * input;
            old_sum += root * *c;
            *c = (explicit - after * root * new_sum) / (1.0 + after * diagonal);
            new_sum += root * *c;
        }
    }

    /// The coefficients, `[n]`.
    pub fn coefficients_n(&self) -> ArrayView1<'_, f64> {
        self.c_n.view()
    }

    /// Samples written.
    pub fn len(&self) -> usize {
        self.samples
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// Time from the first sample to now.
    pub fn elapsed(&self) -> f64 {
        let steps = match self.measure {
            Measure::Scaled => self.samples.saturating_sub(1),
            Measure::Warped | Measure::Window { .. } => self.samples,
        };
        steps as f64 * self.delta
    }

    /// What the memory holds of the input `age` time units ago; `None` for an age it does not keep.
    pub fn recall(&self, age: f64) -> Option<f64> {
        let x = self.measure.position(age, self.elapsed())?;
        Some(self.c_n.dot(&legendre(self.c_n.len(), x)))
    }
}
