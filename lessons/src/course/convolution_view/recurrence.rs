//! A small diagonal recurrence whose Δ may depend on the token, and the kernel that comes nearest to it.

use mambascope_core::discretize::{Discrete, Discretization};
use mambascope_core::job::JobError;
use mambascope_core::noise::Noise;
use mambascope_core::s4::convolve_direct;
use ndarray::{Array1, Array2};

use crate::course::hippo::least_squares::solve_ridge;
use crate::course::shared::refused;

/// Noises, each with kinds of tokens of its own, that the best single kernel is fitted on.
const FITS: usize = 24;

/// One slot: what a step of Δ = 1 leaves of it, how it is written, how it is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slot {
    /// Ā at Δ = 1, above zero and below one.
    pub a_bar: f64,
    /// B̄ at Δ = 1.
    pub b_bar: f64,
    /// C.
    pub c: f64,
}

/// The slots as the system the engine's loop and kernel take, at Δ = 1.
pub fn system(slots: &[Slot]) -> (Discrete, Array1<f64>) {
    let part = |of: fn(&Slot) -> f64| slots.iter().map(of).collect::<Array1<f64>>();
    let discrete = Discrete {
        a_nn: Array2::from_diag(&part(|slot| slot.a_bar)),
        b_n: part(|slot| slot.b_bar),
        b_prev_n: Array1::zeros(slots.len()),
    };
    (discrete, part(|slot| slot.c))
}

/// Taps as a recurrence: the state is the last inputs themselves, moved on by one at every token.
pub fn shift_register(taps: &[f64]) -> (Discrete, Array1<f64>) {
    let mut b_n = Array1::zeros(taps.len());
    if let Some(first) = b_n.first_mut() {
        *first = 1.0;
    }
    let discrete = Discrete {
        a_nn: Array2::from_shape_fn((taps.len(), taps.len()), |(n, k)| {
            f64::from(u8::from(n == k + 1))
        }),
        b_n,
        b_prev_n: Array1::zeros(taps.len()),
    };
    (discrete, Array1::from(taps.to_vec()))
}

/// Δ of every token, `[l]`: e^gain at tokens of one kind and e^−gain at those of the other. The kinds of text `text` are random,
/// half and half, and have nothing to do with the input, so that the recurrence stays linear in it.
pub fn deltas(gain: f64, text: usize, tokens: usize) -> Vec<f64> {
    let kinds = Noise::new(13, "kinds of tokens");
    let sign = |l: usize| {
        if kinds.bits(text * tokens + l).is_multiple_of(2) {
            1.0
        } else {
            -1.0
        }
    };
    (0..tokens).map(|l| (gain * sign(l)).exp()).collect()
}

/// The steps of a slot over the tokens, Ā and B̄ of each, by the rule that Mamba computes.
fn steps(slot: Slot, delta_l: &[f64]) -> Result<Vec<(f64, f64)>, JobError> {
    let rate = slot.a_bar.ln();
    let step = |&delta: &f64| {
        let entry = Discretization::ExponentialEuler.entry(rate, slot.b_bar, delta);
        entry.map(|entry| (entry.a, entry.b)).map_err(refused)
    };
    delta_l.iter().map(step).collect()
}

/// y of the recurrence with Δ by the token, `[l]`.
///
/// # Errors
/// When a number is not finite.
pub fn selective(slots: &[Slot], delta_l: &[f64], u_l: &[f64]) -> Result<Vec<f64>, JobError> {
    let mut y_l = vec![0.0; u_l.len()];
    for &slot in slots {
        let mut h = 0.0;
        for ((a_bar, b_bar), (y, u)) in steps(slot, delta_l)?
            .into_iter()
            .zip(y_l.iter_mut().zip(u_l))
        {
            h = a_bar * h + b_bar * u;
            *y += slot.c * h;
        }
    }
    Ok(y_l)
}

/// How much the output at `token` owes to the input of `lag` tokens before: C Ā[t] … Ā[j+1] B̄[j], `[lag]`, up to the beginning.
///
/// # Errors
/// When a number is not finite.
pub fn weights_of_past(
    slots: &[Slot],
    delta_l: &[f64],
    token: usize,
) -> Result<Vec<f64>, JobError> {
    let mut weights = vec![0.0; (token + 1).min(delta_l.len())];
    for &slot in slots {
        let steps = steps(slot, &delta_l[..weights.len()])?;
        let mut kept = 1.0;
        for (weight, (a_bar, b_bar)) in weights.iter_mut().zip(steps.into_iter().rev()) {
            *weight += slot.c * kept * b_bar;
            kept *= a_bar;
        }
    }
    Ok(weights)
}

/// The kernel that comes nearest to a selective recurrence over many noises, and what it leaves.
pub struct Nearest {
    /// K, `[l]`.
    pub kernel_l: Array1<f64>,
    /// ‖y − K ∗ u‖ / ‖y‖ over the noises it was fitted on; 0 where y is 0.
    pub residual: f64,
}

/// Least squares over [`FITS`] noises of `tokens` tokens.
///
/// # Errors
/// When a number is not finite.
pub fn nearest_kernel(slots: &[Slot], gain: f64, tokens: usize) -> Result<Nearest, JobError> {
    let noise = Noise::new(11, "kernel fits");
    let mut gram_nn = Array2::<f64>::zeros((tokens, tokens));
    let mut right_n = Array1::<f64>::zeros(tokens);
    let mut pairs = Vec::new();
    for fit in 0..FITS {
        let u_l: Vec<f64> = (0..tokens)
            .map(|l| f64::from(noise.normal(fit * tokens + l)))
            .collect();
        let y_l = selective(slots, &deltas(gain, fit + 1, tokens), &u_l)?;
        // y[t] = Σ_i K[i] u[t − i]: row t of the equations holds the past of token t.
        let past = Array2::from_shape_fn(
            (tokens, tokens),
            |(t, i)| {
                if i <= t { u_l[t - i] } else { 0.0 }
            },
        );
        let (u_l, y_l) = (Array1::from(u_l), Array1::from(y_l));
        gram_nn = gram_nn + past.t().dot(&past);
        right_n = right_n + past.t().dot(&y_l);
        pairs.push((u_l, y_l));
    }
    let kernel_l = solve_ridge(gram_nn, right_n.view(), 1e-14)
        .ok_or_else(|| refused("the fit of one kernel has no finite solution"))?;
    let (mut left, mut size) = (0.0, 0.0);
    for (u_l, y_l) in &pairs {
        let rest = y_l - &convolve_direct(u_l.view(), kernel_l.view()).map_err(refused)?;
        left += rest.dot(&rest);
        size += y_l.dot(y_l);
    }
    let residual = if size > 0.0 {
        (left / size).sqrt()
    } else {
        0.0
    };
    Ok(Nearest { kernel_l, residual })
}

#[cfg(test)]
mod tests {
    use mambascope_core::s4::kernel_by_powers;

    use super::*;

    const SLOTS: [Slot; 2] = [
        Slot {
            a_bar: 0.9,
            b_bar: 1.0,
            c: 0.5,
        },
        Slot {
            a_bar: 0.5,
            b_bar: -1.0,
            c: 0.7,
        },
    ];

    #[test]
    fn the_weights_of_the_past_give_the_output() {
        let u_l: Vec<f64> = (0..20).map(|l| f64::from(l).sin()).collect();
        let delta_l = deltas(0.8, 0, 20);
        let y_l = selective(&SLOTS, &delta_l, &u_l).unwrap();
        for (token, y) in y_l.iter().enumerate() {
            let weights = weights_of_past(&SLOTS, &delta_l, token).unwrap();
            let sum: f64 = weights
                .iter()
                .enumerate()
                .map(|(lag, weight)| weight * u_l[token - lag])
                .sum();
            assert!((sum - y).abs() < 1e-13, "{token}");
        }
    }

    #[test]
    fn without_selection_the_nearest_kernel_is_the_kernel() {
        let (discrete, c_n) = system(&SLOTS);
        let wanted = kernel_by_powers(&discrete, c_n.view(), 32).unwrap();
        let found = nearest_kernel(&SLOTS, 0.0, 32).unwrap();
        assert!(found.residual < 1e-9);
        assert!((&found.kernel_l - &wanted).iter().all(|x| x.abs() < 1e-9));
    }

    #[test]
    fn taps_are_the_kernel_of_their_shift_register() {
        let taps = [0.5, 0.0, -1.0, 2.0];
        let (discrete, c_n) = shift_register(&taps);
        let found = kernel_by_powers(&discrete, c_n.view(), 6).unwrap();
        assert_eq!(found.to_vec(), [0.5, 0.0, -1.0, 2.0, 0.0, 0.0]);
    }
}
