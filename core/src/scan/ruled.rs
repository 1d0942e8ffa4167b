//! The selective scan under another rule than the one it was trained with, to see what hangs on the rule and on rounding.

use half::bf16;
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use super::{Real, ScanError, ScanInput, ScanOutput, silu, softplus};
use crate::discretize::{Discretization, Step};

/// What a number is rounded to once it is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// Nothing: it stays as it was computed.
    #[default]
    Kept,
    /// bfloat16: 8 significant bits.
    Bfloat16,
}

impl Rounding {
    fn of<T: Real>(self, value: T) -> T {
        match self {
            Self::Kept => value,
            Self::Bfloat16 => T::of(bf16::from_f32(value.to_single()).to_f32()),
        }
    }
}

/// How the state moves by one token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Where Ā and B̄ come from.
    pub discretization: Discretization,
    /// What Ā is rounded to.
    pub decay: Rounding,
    /// What h is rounded to after each token, before it is read: as if it were kept so in memory.
    pub state: Rounding,
}

impl Default for Rule {
    /// What every implementation computes, and [`super::sequential`].
    fn default() -> Self {
        Self {
            discretization: Discretization::ExponentialEuler,
            decay: Rounding::Kept,
            state: Rounding::Kept,
        }
    }
}

impl Rule {
    /// Ā and the factors of B u, of this token and of the one before. A step with no finite result gives NaN: a model that is run
    /// under a rule it is unstable under tells so by its scores.
    fn step<T: Real>(&self, a: T, delta: T) -> Step<T> {
        let (zero, one) = (T::zero(), T::one());
        let mut step = match self.discretization {
            // softplus may end at zero: no time passes.
            _ if delta == zero => Step {
                a: one,
                b: zero,
                b_prev: zero,
            },
            // As the scan that is written out computes it, to the last bit.
            Discretization::ExponentialEuler => Step {
                a: (delta * a).exp(),
                b: delta,
                b_prev: zero,
            },
            rule => {
                let double = |x: T| x.to_f64().unwrap_or(f64::NAN);
                let back = |x: f64| T::from(x).unwrap_or_else(T::nan);
                let found = rule.entry(double(a), 1.0, double(delta));
                found.map_or_else(
                    |_| Step {
                        a: T::nan(),
                        b: T::nan(),
                        b_prev: T::nan(),
                    },
                    |step| Step {
                        a: back(step.a),
                        b: back(step.b),
                        b_prev: back(step.b_prev),
                    },
                )
            }
        };
        step.a = self.decay.of(step.a);
        step
    }

    /// Whether a token's input is written once more with the next token.
    fn looks_back(&self) -> bool {
        matches!(
            self.discretization,
            Discretization::ExponentialTrapezoidal { .. }
        )
    }
}

/// Runs the scan of [`super`] by `rule`; with the default rule the numbers are those of [`super::sequential`].
///
/// `written_dn` is B u of the token before the first, `[d, n]`, none where there was none; rules that look back read it and leave
/// there that of the last token, so that a text can be read in parts. `after_token(l, h_dn)` sees the state after each token.
///
/// # Errors
/// When an operand's shape does not fit.
pub fn ruled<T: Real>(
    input: &ScanInput<'_, T>,
    rule: &Rule,
    written_dn: &mut Option<Array2<T>>,
    mut after_token: impl FnMut(usize, ArrayView2<'_, T>),
) -> Result<ScanOutput<T>, ScanError> {
    input.validate()?;
    let (tokens, d_inner, d_state) = input.dims();
    let zeros = || Array2::zeros((d_inner, d_state));
    let mut h_dn = input.initial_dn.map_or_else(zeros, |h| h.to_owned());
    let mut before_dn = written_dn.take().unwrap_or_else(zeros);
    super::check("B u before", before_dn.shape(), &[d_inner, d_state])?;
    let mut y_ld = Array2::zeros((tokens, d_inner));
    for l in 0..tokens {
        for d in 0..d_inner {
            let u = input.u_ld[[l, d]];
            let mut delta = input.delta_ld[[l, d]];
            if let Some(bias_d) = &input.delta_bias_d {
                delta += bias_d[d];
            }
            if input.delta_softplus {
                delta = softplus(delta);
            }
            let mut y = T::zero();
            for n in 0..d_state {
                let step = rule.step(input.a_dn[[d, n]], delta);
                let b = input.b.at(l, d, d_inner, n);
                let mut h = step.a * h_dn[[d, n]] + step.b * b * u;
                if rule.looks_back() {
                    h += step.b_prev * before_dn[[d, n]];
                    before_dn[[d, n]] = b * u;
                }
                h_dn[[d, n]] = rule.state.of(h);
                y += input.c.at(l, d, d_inner, n) * h_dn[[d, n]];
            }
            if let Some(skip_d) = &input.d_skip_d {
                y += skip_d[d] * u;
            }
            if let Some(z_ld) = &input.z_ld {
                y = y * silu(z_ld[[l, d]]);
            }
            y_ld[[l, d]] = y;
        }
        after_token(l, h_dn.view());
    }
    *written_dn = rule.looks_back().then_some(before_dn);
    Ok(ScanOutput {
        y_ld,
        last_dn: h_dn,
    })
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, array, s};

    use super::*;
    use crate::discretize::Continuous;
    use crate::scan::{Projection, ScanOperands, ScanShape, sequential};

    const SHAPE: ScanShape = ScanShape {
        batch: 1,
        channels: 6,
        tokens: 40,
        slots: 4,
        groups: 2,
    };

    fn by(discretization: Discretization) -> Rule {
        Rule {
            discretization,
            ..Rule::default()
        }
    }

    fn run<T: Real>(input: &ScanInput<'_, T>, rule: &Rule) -> ScanOutput<T> {
        ruled(input, rule, &mut None, |_, _| {}).unwrap()
    }

    #[test]
    fn the_rule_as_shipped_is_the_scan_as_written() {
        let operands = ScanOperands::seeded(SHAPE, 3);
        let mut input = operands.input(0).unwrap();
        let initial_dn = Array2::from_elem((SHAPE.channels, SHAPE.slots), 0.7f32);
        input.initial_dn = Some(initial_dn.view());
        let mut states = Vec::new();
        let wanted = sequential(&input, |_, h_dn| states.push(h_dn.to_owned())).unwrap();
        let found = ruled(&input, &Rule::default(), &mut None, |l, h_dn| {
            assert_eq!(h_dn, states[l]);
        });
        assert_eq!(found.unwrap(), wanted);
    }

    /// Against the same rule for a whole matrix, which takes another way for each.
    #[test]
    fn every_rule_is_that_of_the_theory() {
        let (a, b, delta) = ([-1.0, -6.0], [0.8, -0.3], 0.2);
        let u_l = Array1::from_shape_fn(30, |l| (0.4 * l as f64).sin());
        let system = Continuous {
            a_nn: array![[a[0], 0.0], [0.0, a[1]]],
            b_n: array![b[0], b[1]],
        };
        let c_n = array![1.0, 2.0];
        let c_dn = array![[1.0, 2.0]];
        let (a_dn, b_dn) = (array![[a[0], a[1]]], array![[b[0], b[1]]]);
        let (u_ld, delta_ld) = (
            u_l.to_shape((30, 1)).unwrap(),
            Array2::from_elem((30, 1), delta),
        );
        let input = ScanInput {
            u_ld: u_ld.view(),
            delta_ld: delta_ld.view(),
            delta_bias_d: None,
            delta_softplus: false,
            a_dn: a_dn.view(),
            b: Projection::Constant(b_dn.view()),
            c: Projection::Constant(c_dn.view()),
            d_skip_d: None,
            z_ld: None,
            initial_dn: None,
        };
        for rule in Discretization::ALL {
            let discrete = rule.dense(&system, delta).unwrap();
            let wanted_l = discrete.run(c_n.view(), u_l.view()).unwrap();
            let found_l = run(&input, &by(rule)).y_ld.column(0).to_owned();
            let apart = (&found_l - &wanted_l).fold(0.0, |most: f64, x| most.max(x.abs()));
            assert!(apart < 1e-13, "{}: {apart}", rule.name());
        }
    }

    #[test]
    fn a_text_in_parts_is_the_same_text() {
        let operands = ScanOperands::seeded(SHAPE, 5);
        let whole = operands.input(0).unwrap();
        let rule = by(Discretization::ExponentialTrapezoidal { lambda: 0.5 });
        let wanted = run(&whole, &rule);
        let (mut written_dn, mut h_dn) = (None, None::<Array2<f32>>);
        for (from, to) in [(0, 1), (1, 17), (17, 40)] {
            let rows = s![from..to, ..];
            let whole = operands.input(0).unwrap();
            let groups = |projection| match projection {
                Projection::Selective(lgn) => {
                    Projection::Selective(lgn.slice_move(s![from..to, .., ..]))
                }
                constant => constant,
            };
            let part = ScanInput {
                u_ld: whole.u_ld.slice_move(rows),
                delta_ld: whole.delta_ld.slice_move(rows),
                b: groups(whole.b),
                c: groups(whole.c),
                z_ld: whole.z_ld.map(|z_ld| z_ld.slice_move(rows)),
                initial_dn: h_dn.as_ref().map(|h_dn| h_dn.view()),
                ..whole
            };
            let found = ruled(&part, &rule, &mut written_dn, |_, _| {}).unwrap();
            assert_eq!(found.y_ld, wanted.y_ld.slice(rows));
            h_dn = Some(found.last_dn);
        }
        assert_eq!(h_dn, Some(wanted.last_dn));
        let mut other = Some(Array2::zeros((1, 1)));
        assert!(ruled(&whole, &rule, &mut other, |_, _| {}).is_err());
    }

    /// 0.999 is nearer to 1 than to any other number of 8 bits.
    #[test]
    fn a_slow_slot_kept_in_bfloat16_stands_still() {
        let column = |value| Array2::from_elem((3000, 1), value);
        let (u_ld, delta_ld) = (column(0.0f32), column(-(0.999f32.ln())));
        let one = array![[1.0f32]];
        let a_dn = array![[-1.0f32]];
        let input = ScanInput {
            u_ld: u_ld.view(),
            delta_ld: delta_ld.view(),
            delta_bias_d: None,
            delta_softplus: false,
            a_dn: a_dn.view(),
            b: Projection::Constant(one.view()),
            c: Projection::Constant(one.view()),
            d_skip_d: None,
            z_ld: None,
            initial_dn: Some(one.view()),
        };
        let rounded = |decay, state| {
            let rule = Rule {
                decay,
                state,
                ..Rule::default()
            };
            run(&input, &rule).last_dn[[0, 0]]
        };
        let kept = rounded(Rounding::Kept, Rounding::Kept);
        assert!((kept - 0.0497).abs() < 1e-4, "{kept}");
        assert_eq!(rounded(Rounding::Kept, Rounding::Bfloat16), 1.0);
        assert_eq!(rounded(Rounding::Bfloat16, Rounding::Kept), 1.0);
    }

    #[test]
    fn no_time_changes_nothing_and_no_number_is_no_number() {
        for rule in Discretization::ALL {
            let still = by(rule).step(-3.0f32, 0.0);
            assert_eq!((still.a, still.b, still.b_prev), (1.0, 0.0, 0.0));
            assert!(by(rule).step(-3.0f32, f32::NAN).a.is_nan());
        }
    }
}
