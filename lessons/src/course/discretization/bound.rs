//! How far another rule can move the outputs of one scan at most, beside how far it does: for the first scan of a model, which reads
//! the same values under every rule.

use mambascope_core::backend::Backend;
use mambascope_core::discretize::{Discretization, Step};
use mambascope_core::job::{JobError, ModelRef};
use mambascope_core::scan::{Projection, Rounding, Rule, ScanInput, ruled, sequential};
use ndarray::{Array2, Axis};

use crate::course::reading_a_trained_mamba::records::{Scan, scan_layers, scans};
use crate::course::shared::refused;

/// Largest error of a rounding to bfloat16, as a share of the value: half a unit of its eighth digit.
const BFLOAT16: f64 = 1.0 / 256.0;

/// What a rule does to y, without skip and gate; all in double precision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Moved {
    /// Largest |y| as shipped.
    pub size: f64,
    /// Largest difference from it.
    pub measured: f64,
    /// Largest of the bounds on these differences.
    pub bound: f64,
    /// Largest share of its own bound that a difference reaches: at most one.
    pub reached: f64,
}

/// The first scan of a model over a text.
///
/// # Errors
/// When the model has none, or the backend fails.
pub(super) fn first_scan(
    model: &ModelRef,
    ids: &[u32],
    backend: &mut dyn Backend,
) -> Result<Scan, JobError> {
    let first = scan_layers(model).into_iter().take(1).collect::<Vec<_>>();
    let mut found = scans(model, ids, &first, backend)?;
    found.pop().ok_or_else(|| refused("there is no scan"))
}

/// ā, b̄ and b̄' of one slot for B u; a step that cannot be taken is no number.
fn step(discretization: Discretization, a: f64, delta: f64) -> Step<f64> {
    let [a, b, b_prev] = if delta == 0.0 {
        [1.0, 0.0, 0.0]
    } else {
        let found = discretization.entry(a, 1.0, delta);
        found.map_or([f64::NAN; 3], |step| [step.a, step.b, step.b_prev])
    };
    Step { a, b, b_prev }
}

/// The bound on |h' − h|, token by token: what was wrong before decays by ā', and a token adds what ā' and b̄' are off by,
///
/// ```text
/// e_t = |ā'| e_(t−1) + |ā' − ā| |h_(t−1)| + |b̄' − b̄| |B u| + |b̄'_prev| |B u of the token before|
/// ```
///
/// with the most that each rounding can add. The bound on |y' − y| is the sum of |C| e over the slots.
pub(super) fn moved(scan: &Scan, rule: &Rule) -> Result<Moved, JobError> {
    let wide = |values: &Array2<f32>| values.mapv(f64::from);
    let (u_ld, delta_ld, a_dn) = (wide(&scan.u_ld), wide(&scan.delta_ld), wide(&scan.a_dn));
    let (b_ln, c_ln) = (wide(&scan.b_ln), wide(&scan.c_ln));
    let (b_lgn, c_lgn) = (
        b_ln.clone().insert_axis(Axis(1)),
        c_ln.clone().insert_axis(Axis(1)),
    );
    let input = ScanInput {
        u_ld: u_ld.view(),
        delta_ld: delta_ld.view(),
        delta_bias_d: None,
        delta_softplus: false,
        a_dn: a_dn.view(),
        b: Projection::Selective(b_lgn.view()),
        c: Projection::Selective(c_lgn.view()),
        d_skip_d: None,
        z_ld: None,
        initial_dn: None,
    };
    let mut states = Vec::new();
    let shipped = sequential(&input, |_, h_dn| states.push(h_dn.to_owned())).map_err(refused)?;
    let other = ruled(&input, rule, &mut None, |_, _| {}).map_err(refused)?;
    let rounds = |rounding| match rounding {
        Rounding::Kept => 0.0,
        Rounding::Bfloat16 => BFLOAT16,
    };
    let (of_decay, of_state) = (rounds(rule.decay), rounds(rule.state));
    let (tokens, channels, slots) = scan.dims();
    let mut e_dn: Array2<f64> = Array2::zeros((channels, slots));
    let mut found = Moved {
        size: shipped.y_ld.iter().fold(0.0, |most, y| most.max(y.abs())),
        measured: 0.0,
        bound: 0.0,
        reached: 0.0,
    };
    for l in 0..tokens {
        for d in 0..channels {
            let delta = delta_ld[[l, d]];
            let mut bound = 0.0;
            for n in 0..slots {
                let a = a_dn[[d, n]];
                let own = step(Discretization::ExponentialEuler, a, delta);
                let new = step(rule.discretization, a, delta);
                let written = (b_ln[[l, n]] * u_ld[[l, d]]).abs();
                let (h_before, written_before) = match l.checked_sub(1) {
                    Some(before) => (
                        states[before][[d, n]].abs(),
                        (b_ln[[before, n]] * u_ld[[before, d]]).abs(),
                    ),
                    None => (0.0, 0.0),
                };
                let e = (1.0 + of_decay) * new.a.abs() * e_dn[[d, n]]
                    + ((new.a - own.a).abs() + of_decay * new.a.abs()) * h_before
                    + (new.b - own.b).abs() * written
                    + new.b_prev.abs() * written_before;
                e_dn[[d, n]] = (1.0 + of_state) * e + of_state * states[l][[d, n]].abs();
                bound += c_ln[[l, n]].abs() * e_dn[[d, n]];
            }
            let off = (other.y_ld[[l, d]] - shipped.y_ld[[l, d]]).abs();
            found.take(off, bound);
        }
    }
    Ok(found)
}

impl Moved {
    /// One more difference; what is no number stays none.
    fn take(&mut self, off: f64, bound: f64) {
        let most = |so_far: f64, next: f64| {
            if so_far.is_nan() || next.is_nan() {
                f64::NAN
            } else {
                so_far.max(next)
            }
        };
        self.measured = most(self.measured, off);
        self.bound = most(self.bound, bound);
        self.reached = most(self.reached, if off == 0.0 { 0.0 } else { off / bound });
    }
}

#[cfg(test)]
mod tests {
    use mambascope_core::noise::Noise;

    use super::*;

    fn scan(tokens: usize) -> Scan {
        let (channels, slots) = (5, 4);
        let noise = Noise::new(9, "bound");
        let from = |at: usize, rows: usize, columns: usize| {
            Array2::from_shape_fn((rows, columns), |(i, j)| noise.normal(at + i * columns + j))
        };
        Scan {
            layer: 0,
            u_ld: from(0, tokens, channels),
            delta_ld: from(1000, tokens, channels).mapv(|x| 0.3 * x.abs()),
            b_ln: from(2000, tokens, slots),
            c_ln: from(3000, tokens, slots),
            y_ld: Array2::zeros((tokens, channels)),
            a_dn: Array2::from_shape_fn((channels, slots), |(_, n)| -(1.0 + n as f32)),
            skip_d: vec![0.0; channels],
        }
    }

    #[test]
    fn no_rule_and_no_rounding_passes_its_bound() {
        let scan = scan(40);
        let mut tried = 0;
        for discretization in [
            Discretization::ZeroOrderHold,
            Discretization::Bilinear,
            Discretization::Euler,
            Discretization::ExponentialTrapezoidal { lambda: 0.5 },
            Discretization::ExponentialEuler,
        ] {
            for rounding in [Rounding::Kept, Rounding::Bfloat16] {
                let rule = Rule {
                    discretization,
                    decay: rounding,
                    state: rounding,
                };
                let moved = moved(&scan, &rule).unwrap();
                assert!(moved.reached <= 1.0, "{rule:?}: {moved:?}");
                assert!(moved.measured <= moved.bound, "{rule:?}: {moved:?}");
                tried += usize::from(moved.measured > 0.0);
            }
        }
        // All but the shipped rule itself move something, and the bound is no empty promise.
        assert_eq!(tried, 9);
        let held = Rule {
            discretization: Discretization::ZeroOrderHold,
            ..Rule::default()
        };
        let moved = moved(&scan, &held).unwrap();
        assert!(moved.reached > 0.5, "{moved:?}");
    }

    #[test]
    fn the_shipped_rule_moves_nothing() {
        let moved = moved(&scan(10), &Rule::default()).unwrap();
        assert_eq!(
            (moved.measured, moved.bound, moved.reached),
            (0.0, 0.0, 0.0)
        );
        assert!(moved.size > 0.0);
    }
}
