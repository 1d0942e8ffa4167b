//! Four memories that see the same signal, and what can be read back from each.

use mambascope_core::discretize::{Continuous, Discretization};
use mambascope_core::hippo::{Measure, Memory};
use mambascope_core::job::JobError;
use mambascope_core::noise::Noise;
use mambascope_core::s4::S4dInit;
use ndarray::{Array1, Array2};

use super::least_squares::solve_ridge;
use crate::course::shared::refused;

/// Steps from one painted sample to the next, for the two memories that are differential equations solved by a rule.
pub const FINE: usize = 8;

/// What is added to the normal equations, as a share of the largest entry: a state known to about six digits.
const RIDGE: f64 = 1e-12;

/// A memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// LegS as HiPPO has it, with 1/t.
    Legs,
    /// LegS without 1/t, as S4 uses it.
    Warped,
    /// The diagonal −1, −2, …, −N.
    Ladder,
    /// A random stable matrix.
    Random,
}

impl Kind {
    /// Every memory once, in the order of the controls.
    pub const ALL: [Self; 4] = [Self::Legs, Self::Warped, Self::Ladder, Self::Random];

    /// Name to show.
    pub fn title(self) -> &'static str {
        match self {
            Self::Legs => "LegS with 1/t (HiPPO)",
            Self::Warped => "LegS without 1/t (S4)",
            Self::Ladder => "S4D-Real ladder",
            Self::Random => "random stable A",
        }
    }

    /// Name for a key.
    pub fn short(self) -> &'static str {
        match self {
            Self::Legs => "LegS with 1/t",
            Self::Warped => "LegS without",
            Self::Ladder => "ladder",
            Self::Random => "random",
        }
    }

    /// What the memory of `slots` numbers holds of the samples `u_l`, oldest first, which last `span` time units together;
    /// NaN at what it does not keep.
    ///
    /// # Errors
    /// When a size or the span is out of range.
    pub fn reconstruct(self, u_l: &[f64], slots: usize, span: f64) -> Result<Vec<f64>, JobError> {
        match self {
            Self::Legs => polynomials(Measure::Scaled, u_l, slots, span),
            Self::Warped => polynomials(Measure::Warped, u_l, slots, span),
            Self::Ladder => least_squares(&ladder(slots, span / u_l.len() as f64)?, u_l),
            Self::Random => least_squares(&random(slots, span / u_l.len() as f64)?, u_l),
        }
    }
}

/// Writes the signal, straight between its samples, and reads the Legendre coefficients back at the age of each.
fn polynomials(
    measure: Measure,
    u_l: &[f64],
    slots: usize,
    span: f64,
) -> Result<Vec<f64>, JobError> {
    let steps = u_l.len().saturating_sub(1) * FINE;
    let delta = span / steps.max(1) as f64;
    let mut memory =
        Memory::new(measure, slots, delta, Discretization::Bilinear).map_err(refused)?;
    // LegS with 1/t reads samples at the ends of steps, the other one in the middle.
    let (count, offset) = match measure {
        Measure::Scaled => (steps + 1, 0.0),
        _ => (steps, 0.5),
    };
    for step in 0..count {
        memory.push(between(u_l, (step as f64 + offset) / FINE as f64));
    }
    let ages = (0..u_l.len()).rev().map(|age| (age * FINE) as f64 * delta);
    Ok(ages
        .map(|age| memory.recall(age).unwrap_or(f64::NAN))
        .collect())
}

/// The signal at a fraction of a sample.
fn between(u_l: &[f64], at: f64) -> f64 {
    let (first, part) = (at.floor() as usize, at.fract());
    let sample = |i: usize| u_l.get(i).copied().unwrap_or_default();
    sample(first) * (1.0 - part)
        + if part > 0.0 {
            sample(first + 1) * part
        } else {
            0.0
        }
}

/// One step of a memory: its state afterwards, from the state before and the input.
pub type StepFn = Box<dyn Fn(&Array1<f64>, f64) -> Array1<f64>>;

/// A linear memory of that many slots.
pub struct Linear {
    slots: usize,
    step: StepFn,
}

/// A = −1, −2, …, B = 1, under zero-order hold: Mamba's A at the beginning.
///
/// # Errors
/// When a size is out of range.
pub fn ladder(slots: usize, delta: f64) -> Result<Linear, JobError> {
    let lambda_n = S4dInit::Real.lambda_n(slots).map_err(refused)?;
    let entries = lambda_n.iter().map(|lambda| {
        let entry = Discretization::ZeroOrderHold.entry(lambda.re, 1.0, delta);
        entry.map(|entry| (entry.a, entry.b))
    });
    let (a_n, b_n): (Vec<f64>, Vec<f64>) = entries
        .collect::<Result<Vec<_>, _>>()
        .map_err(refused)?
        .into_iter()
        .unzip();
    let (a_n, b_n) = (Array1::from(a_n), Array1::from(b_n));
    let step = move |h_n: &Array1<f64>, u: f64| h_n * &a_n + &b_n * u;
    Ok(Linear {
        slots,
        step: Box::new(step),
    })
}

/// A = G/√N − 1.5 with normal entries of G: its eigenvalues fill a disc of radius about one around −1.5. B is normal too.
///
/// # Errors
/// When a size is out of range.
pub fn random(slots: usize, delta: f64) -> Result<Linear, JobError> {
    let (matrix, vector) = (Noise::new(7, "random A"), Noise::new(7, "random B"));
    let scale = (slots as f64).sqrt();
    let a_nn = Array2::from_shape_fn((slots, slots), |(n, k)| {
        let shift = if n == k { 1.5 } else { 0.0 };
        f64::from(matrix.normal(n * slots + k)) / scale - shift
    });
    let b_n = Array1::from_shape_fn(slots, |n| f64::from(vector.normal(n)));
    let system = Continuous { a_nn, b_n };
    let discrete = Discretization::ZeroOrderHold
        .dense(&system, delta)
        .map_err(refused)?;
    let step = move |h_n: &Array1<f64>, u: f64| discrete.step(h_n.view(), 0.0, u);
    Ok(Linear {
        slots,
        step: Box::new(step),
    })
}

/// The samples by the best linear decoder of the last state for white noise.
///
/// The state is h = M u, and column i of M is what an impulse at sample i has become. Of white noise the best linear guess of
/// u from h is Mᵀ (M Mᵀ)⁻¹ h: the fit on endlessly many noises, without drawing one. The ridge stands for errors of the state.
///
/// # Errors
/// When a number is not finite.
pub fn least_squares(memory: &Linear, u_l: &[f64]) -> Result<Vec<f64>, JobError> {
    let (slots, samples) = (memory.slots, u_l.len());
    let nothing = Array1::zeros(slots);
    let mut impulse_n = (memory.step)(&nothing, 1.0);
    let mut m_ln = Array2::zeros((samples, slots));
    for age in 0..samples {
        m_ln.row_mut(samples - 1 - age).assign(&impulse_n);
        impulse_n = (memory.step)(&impulse_n, 0.0);
    }
    let last_n = u_l.iter().fold(nothing, |h_n, &u| (memory.step)(&h_n, u));
    let gram_nn = m_ln.t().dot(&m_ln);
    let weights_n = solve_ridge(gram_nn, last_n.view(), RIDGE)
        .ok_or_else(|| refused("the decoder has no finite solution"))?;
    Ok(m_ln.dot(&weights_n).to_vec())
}

#[cfg(test)]
mod tests {
    use super::super::signal::{SAMPLES, Start};
    use super::*;
    use crate::course::shared::relative_error;

    #[test]
    fn the_random_memory_forgets_at_every_size() {
        for slots in [4, 5, 8, 16, 33, 64, 128] {
            let memory = random(slots, 0.1).unwrap();
            let mut h_n = (memory.step)(&Array1::zeros(slots), 1.0);
            let first = h_n.dot(&h_n);
            for _ in 0..400 {
                h_n = (memory.step)(&h_n, 0.0);
            }
            assert!(h_n.dot(&h_n) < 1e-3 * first, "{slots}");
        }
    }

    #[test]
    fn a_decoder_gives_back_what_lies_in_its_span() {
        // The impulse responses themselves are what the ladder can hold.
        let u_l: Vec<f64> = (0..64)
            .map(|i| (-(f64::from(63 - i)) * 2.0 / 64.0).exp())
            .collect();
        let found = Kind::Ladder.reconstruct(&u_l, 4, 2.0).unwrap();
        assert!(relative_error(&found, &u_l) < 1e-5);
    }

    #[test]
    fn every_memory_is_worse_than_all_and_better_than_nothing_on_tones() {
        let u_l = Start::Tones.samples();
        assert_eq!(u_l.len(), SAMPLES);
        for kind in Kind::ALL {
            let found = kind.reconstruct(&u_l, 64, 4.0).unwrap();
            let error = relative_error(&found, &u_l);
            println!("{kind:?} {error}");
            assert!(error > 1e-4 && error < 1.3, "{kind:?} {error}");
        }
    }
}
