//! The rules: what they solve, where they end, how fast they converge, what they refuse.

use mambascope_core::discretize::{Continuous, Discretization, DiscretizeError, exponential, phi};
use mambascope_core::hippo::{self, legendre};
use mambascope_core::scan::{sigmoid, softplus};
use ndarray::{Array1, Array2, array};
use num_complex::Complex64;

use super::{close, linspace};

#[test]
fn the_generalised_bilinear_rules_solve_their_equation() {
    let system = hippo::legs(6).unwrap();
    let (delta, identity) = (0.1, Array2::<f64>::eye(6));
    for rule in Discretization::ALL {
        let Some(alpha) = rule.alpha() else { continue };
        let discrete = rule.dense(&system, delta).unwrap();
        let implicit = &identity - &system.a_nn * (alpha * delta);
        let explicit = &identity + &system.a_nn * ((1.0 - alpha) * delta);
        let what = rule.name();
        close(what, &implicit.dot(&discrete.a_nn), &explicit, 1e-15);
        let written = implicit.dot(&discrete.b_n);
        close(what, &written, &(&system.b_n * delta), 1e-15);
        assert!(discrete.b_prev_n.iter().all(|&b| b == 0.0));
    }
}

#[test]
fn alpha_0_half_and_1_are_euler_bilinear_and_backward_euler() {
    let system = hippo::legt(5, 2.0).unwrap();
    for (alpha, rule) in [
        (0.0, Discretization::Euler),
        (0.5, Discretization::Bilinear),
        (1.0, Discretization::BackwardEuler),
    ] {
        let general = Discretization::GeneralizedBilinear { alpha };
        assert_eq!(general.dense(&system, 0.3), rule.dense(&system, 0.3));
        assert_eq!(
            general.entry(-2.0, 1.5, 0.3).unwrap(),
            rule.entry(-2.0, 1.5, 0.3).unwrap()
        );
    }
}

#[test]
fn zero_order_hold_is_the_top_right_block_of_the_exponential() {
    let system = hippo::legs(6).unwrap();
    let delta = 0.1;
    let discrete = Discretization::ZeroOrderHold.dense(&system, delta).unwrap();
    let exp = exponential((&system.a_nn * delta).view()).unwrap();
    close("exp(ΔA)", &discrete.a_nn, &exp, 4e-16);
    // A⁻¹ (exp(ΔA) − I) B, A being lower triangular.
    let right = (exp - Array2::<f64>::eye(6)).dot(&system.b_n);
    let mut wanted = Array1::<f64>::zeros(6);
    for n in 0..6 {
        let known: f64 = (0..n).map(|k| system.a_nn[[n, k]] * wanted[k]).sum();
        wanted[n] = (right[n] - known) / system.a_nn[[n, n]];
    }
    close("B̄", &discrete.b_n, &wanted, 5e-16);
    // A nilpotent A has no inverse; its exponential series ends.
    let ramp = Continuous {
        a_nn: array![[0.0, 0.0], [1.0, 0.0]],
        b_n: array![1.0, 0.0],
    };
    let ramp = Discretization::ZeroOrderHold.dense(&ramp, 0.5).unwrap();
    close("ramp", &ramp.a_nn, &array![[1.0, 0.0], [0.5, 1.0]], 1e-16);
    close("ramp", &ramp.b_n, &array![0.5, 0.125], 1e-16);
}

#[test]
fn the_exponential_of_known_matrices() {
    let angle = 1.2_f64;
    let rotation = exponential(array![[0.0, -angle], [angle, 0.0]].view()).unwrap();
    let wanted = array![[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]];
    close("rotation", &rotation, &wanted, 3e-16);
    assert_eq!(
        exponential(Array2::zeros((3, 3)).view()).unwrap(),
        Array2::<f64>::eye(3)
    );
    // Scaled and squared several times: e^A e^−A = I, and a decay of e^−60 keeps its digits.
    let a = array![[-60.0, 40.0], [0.0, -3.0]];
    let exp = exponential(a.view()).unwrap();
    let corner = 40.0 * ((-3.0_f64).exp() - (-60.0_f64).exp()) / 57.0;
    let wanted = array![[(-60.0_f64).exp(), corner], [0.0, (-3.0_f64).exp()]];
    for (found, wanted) in exp.iter().zip(&wanted) {
        assert!(
            (found - wanted).abs() <= 1e-13 * wanted.abs(),
            "{found} {wanted}"
        );
    }
    // S4's memory: e^(sA) B = e^−s L(2e^−s − 1) for LegS.
    let system = hippo::legs(16).unwrap();
    for age in [0.0, 0.03, 0.4, 1.7, 5.0] {
        let found = exponential((&system.a_nn * age).view())
            .unwrap()
            .dot(&system.b_n);
        let wanted = legendre(16, 2.0 * (-age).exp() - 1.0) * (-age).exp();
        close("warped Legendre", &found, &wanted, 1e-12);
    }
}

#[test]
fn entries_and_matrices_agree_for_every_rule() {
    // λ = −0.7 + 2.1i as a real 2×2 rotation with decay, and its input 1.
    let (lambda, delta) = (Complex64::new(-0.7, 2.1), 0.3);
    let system = Continuous {
        a_nn: array![[lambda.re, -lambda.im], [lambda.im, lambda.re]],
        b_n: array![1.0, 0.0],
    };
    for rule in Discretization::ALL {
        let dense = rule.dense(&system, delta).unwrap();
        let entry = rule.entry(lambda, Complex64::ONE, delta).unwrap();
        let what = rule.name();
        let found = [entry.a, entry.b, entry.b_prev].map(|z| [z.re, z.im]);
        let column = dense.a_nn.column(0);
        let wanted = [column, dense.b_n.view(), dense.b_prev_n.view()];
        for (found, wanted) in found.iter().zip(&wanted) {
            close(what, found, wanted, 3e-16);
        }
        // A real entry is a complex one on the axis, and a 1×1 matrix.
        let real = rule.entry(-16.0, 0.5, 0.1).unwrap();
        let complex = rule
            .entry(Complex64::from(-16.0), Complex64::from(0.5), 0.1)
            .unwrap();
        let single = Continuous {
            a_nn: array![[-16.0]],
            b_n: array![0.5],
        };
        let single = rule.dense(&single, 0.1).unwrap();
        let found = [real.a, real.b, real.b_prev];
        close(
            what,
            &found,
            &[complex.a.re, complex.b.re, complex.b_prev.re],
            1e-16,
        );
        let wanted = [single.a_nn[[0, 0]], single.b_n[0], single.b_prev_n[0]];
        close(what, &found, &wanted, 2e-16);
    }
}

#[test]
fn the_rules_stay_exact_where_a_vanishes() {
    for rule in Discretization::ALL {
        for a in [0.0, -1e-300, 1e-320, -1e-17] {
            let step = rule.entry(a, 2.0, 0.25).unwrap();
            assert_eq!((step.a, step.b + step.b_prev), (1.0, 0.5), "{rule:?} {a}");
        }
    }
    // Both sides of the change from series to quotient, against three more terms of the series.
    for size in [1e-9, 9.9e-6, 1.01e-5, 1e-3] {
        for direction in [Complex64::ONE, Complex64::I, Complex64::new(-0.6, 0.8)] {
            let z = direction * size;
            let series = 1.0 + z / 2.0 * (1.0 + z / 3.0 * (1.0 + z / 4.0 * (1.0 + z / 5.0)));
            assert!((phi(z) - series).norm() <= 3e-16, "{z}");
            assert!((phi(z.re) - phi(Complex64::from(z.re)).re).abs() <= 3e-16);
        }
    }
}

#[test]
fn one_slot_under_zero_order_hold_is_a_gate() {
    // A = −1, B = 1, Δ = softplus(z): h = (1 − g) h + g x with g = sigmoid(z) (Mamba theorem 1).
    for z in linspace(-30.0, 19.5, 100) {
        let step = Discretization::ZeroOrderHold
            .entry(-1.0, 1.0, softplus(z))
            .unwrap();
        let gate = sigmoid(z);
        assert!(
            (step.b - gate).abs() <= 2e-16 * (1.0 + gate),
            "{z}: {}",
            step.b - gate
        );
        assert!((step.a - (1.0 - gate)).abs() <= 3e-16, "{z}");
        assert!(
            (step.b / gate - 1.0).abs() <= 1e-14,
            "{z}: a small gate keeps its digits"
        );
    }
}

#[test]
fn what_mamba_computes_and_what_its_paper_states() {
    // B̄ of Euler over B̄ of zero-order hold: z / (1 − e^−z), z = Δ|A|.
    for (delta, a, ratio, digit) in [
        (0.001, -1.0, 1.0005, 5e-5),
        (0.1, -1.0, 1.051, 5e-4),
        (0.1, -16.0, 2.005, 5e-4),
        (1.0, -1.0, 1.582, 5e-4),
        (1.0, -16.0, 16.0, 5e-2),
    ] {
        let held = Discretization::ZeroOrderHold.entry(a, 1.0, delta).unwrap();
        let euler = Discretization::ExponentialEuler
            .entry(a, 1.0, delta)
            .unwrap();
        assert_eq!(held.a, euler.a);
        let found = euler.b / held.b;
        assert!((found - ratio).abs() <= digit, "{found}");
        let z = -delta * a;
        assert!((found / (z / (1.0 - (-z).exp())) - 1.0).abs() <= 1e-13);
    }
}

#[test]
fn the_exponential_trapezoidal_rule_weighs_two_inputs() {
    let (a, b, delta) = (-1.3, 0.7, 0.2_f64);
    let decay = (delta * a).exp();
    for lambda in [0.0, 0.3, 0.5, 1.0] {
        let rule = Discretization::ExponentialTrapezoidal { lambda };
        let step = rule.entry(a, b, delta).unwrap();
        let wanted = [
            decay,
            lambda * delta * b,
            (1.0 - lambda) * delta * decay * b,
        ];
        close(rule.name(), &[step.a, step.b, step.b_prev], &wanted, 1e-16);
    }
    let euler = Discretization::ExponentialEuler.entry(a, b, delta).unwrap();
    let rule = Discretization::ExponentialTrapezoidal { lambda: 1.0 };
    assert_eq!(rule.entry(a, b, delta).unwrap(), euler);
}

/// Error at t = 2 of h' = −1.5 h + u(t), u smooth, with u taken at `offset` of each step.
fn global_error(rule: Discretization, steps: usize, offset: f64) -> f64 {
    let (a, t) = (-1.5, 2.0);
    let delta = t / steps as f64;
    let step = rule.entry(a, 1.0, delta).unwrap();
    let input = |k: f64| ((k + offset) * delta).cos();
    let mut h = 0.0;
    for k in 0..steps {
        h = step.a * h + step.b * input(k as f64) + step.b_prev * input(k as f64 - 1.0);
    }
    // h(t) = (sin t − a cos t + a e^(at)) / (1 + a²).
    (h - (t.sin() - a * t.cos() + a * (a * t).exp()) / (1.0 + a * a)).abs()
}

#[test]
fn global_errors_fall_with_the_order_of_the_rule() {
    let trapezoid = Discretization::ExponentialTrapezoidal { lambda: 0.5 };
    for (rule, offset, order) in [
        (Discretization::Euler, 0.0, 1.0),
        (Discretization::BackwardEuler, 1.0, 1.0),
        (Discretization::ExponentialEuler, 1.0, 1.0),
        (Discretization::ZeroOrderHold, 1.0, 1.0),
        (Discretization::ZeroOrderHold, 0.5, 2.0),
        (Discretization::Bilinear, 0.5, 2.0),
        (trapezoid, 1.0, 2.0),
    ] {
        let ratio = global_error(rule, 200, offset) / global_error(rule, 800, offset);
        let found = ratio.log2() / 2.0;
        println!("{rule:?}, input at {offset}: order {found:.3}");
        assert!((found - order).abs() <= 0.06, "{rule:?}: order {found}");
    }
    // An input that really is held: zero-order hold has no error at any step size.
    for delta in [0.1, 1.0, 10.0] {
        let step = Discretization::ZeroOrderHold
            .entry(-2.0, 3.0, delta)
            .unwrap();
        let exact = 3.0 / 2.0 * (1.0 - (-2.0 * delta).exp());
        assert!((step.b - exact).abs() <= 3e-16 * exact);
    }
    // Euler explodes where Δ|A| > 2, and no other rule does.
    for rule in Discretization::ALL {
        let grows = rule.entry(-1.0, 1.0, 2.1).unwrap().a.abs() > 1.0;
        assert_eq!(grows, rule == Discretization::Euler, "{rule:?}");
    }
}

#[test]
fn what_cannot_be_discretised_is_refused() {
    let system = hippo::legs(3).unwrap();
    for rule in Discretization::ALL {
        for delta in [0.0, -0.1, f64::NAN, f64::INFINITY] {
            let what = DiscretizeError::NotPositive {
                what: "the step size",
                value: delta,
            };
            let message = what.to_string();
            assert_eq!(rule.dense(&system, delta).unwrap_err().to_string(), message);
            assert_eq!(
                rule.entry(-1.0, 1.0, delta).unwrap_err().to_string(),
                message
            );
        }
        assert!(rule.entry(f64::NAN, 1.0, 0.1).is_err());
        let poisoned = Continuous {
            a_nn: &system.a_nn * f64::NAN,
            b_n: system.b_n.clone(),
        };
        assert!(rule.dense(&poisoned, 0.1).is_err());
        let short = Continuous {
            a_nn: system.a_nn.clone(),
            b_n: Array1::zeros(2),
        };
        let error = rule.dense(&short, 0.1).unwrap_err().to_string();
        assert!(error.contains("B: wanted shape [3], found [2]"), "{error}");
        let wide = Continuous {
            a_nn: Array2::zeros((3, 4)),
            b_n: Array1::zeros(3),
        };
        assert!(rule.dense(&wide, 0.1).is_err());
        let empty = Continuous {
            a_nn: Array2::zeros((0, 0)),
            b_n: Array1::zeros(0),
        };
        assert_eq!(rule.dense(&empty, 0.1), Err(DiscretizeError::NoSlots));
    }
    for weight in [-0.1, 1.1, f64::NAN] {
        let mixed = Discretization::GeneralizedBilinear { alpha: weight };
        assert!(mixed.dense(&system, 0.1).is_err());
        let mixed = Discretization::ExponentialTrapezoidal { lambda: weight };
        assert!(mixed.entry(-1.0, 1.0, 0.1).is_err());
    }
    // 1 − Δa = 0.
    let pole = DiscretizeError::NotFinite { delta: 0.5 };
    let rule = Discretization::BackwardEuler;
    assert_eq!(rule.entry(2.0, 1.0, 0.5), Err(pole.clone()));
    let growing = Continuous {
        a_nn: array![[2.0]],
        b_n: array![1.0],
    };
    assert_eq!(rule.dense(&growing, 0.5), Err(pole));
    assert!(exponential(array![[1e4]].view()).is_err());
}
