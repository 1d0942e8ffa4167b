//! HiPPO: the matrices, and what their states remember.

use mambascope_core::discretize::{Discretization, DiscretizeError};
use mambascope_core::hippo::{self, Measure, Memory, legendre};
use ndarray::{Array1, Array2, array};

use super::{close, linspace, random};

/// The mixture of two sines and a slope that the reconstruction figures are about.
fn signal(t: f64) -> f64 {
    (2.3 * t).sin() + 0.5 * (5.1 * t + 0.3).cos() + 0.2 * t
}

#[test]
fn hippo_matrices_entry_by_entry() {
    let r = |n: usize| (2.0 * n as f64 + 1.0).sqrt();
    let legs = hippo::legs(4).unwrap();
    let wanted = array![
        [-1.0, 0.0, 0.0, 0.0],
        [-3f64.sqrt(), -2.0, 0.0, 0.0],
        [-5f64.sqrt(), -15f64.sqrt(), -3.0, 0.0],
        [-7f64.sqrt(), -21f64.sqrt(), -35f64.sqrt(), -4.0],
    ];
    close("LegS A", &legs.a_nn, &wanted, 1e-15);
    close("LegS B", &legs.b_n, &[r(0), r(1), r(2), r(3)], 0.0);
    let legt = hippo::legt(3, 2.0).unwrap();
    let wanted = array![
        [-1.0, r(1), -r(2)],
        [-r(1), -3.0, r(1) * r(2)],
        [-r(2), -r(1) * r(2), -5.0],
    ] / 2.0;
    close("LegT A", &legt.a_nn, &wanted, 5e-16);
    close("LegT B", &legt.b_n, &[0.5, r(1) / 2.0, r(2) / 2.0], 0.0);
    // LMU's entries, and that they are LegT's in scaled slots.
    let lmu = hippo::lmu(3, 2.0).unwrap();
    let wanted = array![[-1.0, -1.0, -1.0], [3.0, -3.0, -3.0], [-5.0, 5.0, -5.0]] / 2.0;
    close("LMU A", &lmu.a_nn, &wanted, 2e-15);
    close("LMU B", &lmu.b_n, &[0.5, -1.5, 2.5], 1e-15);
    let scale = array![1.0, -r(1), r(2)];
    for n in 0..3 {
        for k in 0..3 {
            let scaled = scale[n] * legt.a_nn[[n, k]] / scale[k];
            assert!((scaled - lmu.a_nn[[n, k]]).abs() <= 2e-15);
        }
        assert!((scale[n] * legt.b_n[n] - lmu.b_n[n]).abs() <= 1e-15);
    }
    for bad in [hippo::legs(0), hippo::legt(0, 1.0), hippo::lmu(0, 1.0)] {
        assert_eq!(bad, Err(DiscretizeError::NoSlots));
    }
    assert!(hippo::legt(3, 0.0).is_err() && hippo::lmu(3, f64::NAN).is_err());
}

#[test]
fn legendre_polynomials_are_orthonormal() {
    // Simpson's rule over [−1, 1] with the weight ½.
    let points = 2000;
    let mut gram = Array2::<f64>::zeros((8, 8));
    for i in 0..=points {
        let weight = match i {
            0 => 1.0,
            i if i == points => 1.0,
            i if i % 2 == 1 => 4.0,
            _ => 2.0,
        };
        let l = legendre(8, 2.0 * f64::from(i) / f64::from(points) - 1.0);
        for n in 0..8 {
            gram.row_mut(n)
                .scaled_add(weight * l[n] / (3.0 * f64::from(points)), &l);
        }
    }
    close("Gram matrix", &gram, &Array2::<f64>::eye(8), 1e-8);
    let end = legendre(5, 1.0);
    close("L(1)", &end, &hippo::legs(5).unwrap().b_n, 1e-15);
}

#[test]
fn legt_reconstructs_a_window() {
    let (slots, theta, delta, steps) = (24, 2.0, 1e-3, 6000);
    let measure = Measure::Window { theta };
    let mut memory = Memory::new(measure, slots, delta, Discretization::Bilinear).unwrap();
    for k in 0..steps {
        memory.push(signal((f64::from(k) + 0.5) * delta));
    }
    let now = memory.elapsed();
    assert!((now - 6.0).abs() < 1e-12 && memory.len() == 6000);
    let ages = linspace(0.0, theta, 50);
    let found: Vec<f64> = ages
        .iter()
        .map(|&age| memory.recall(age).unwrap())
        .collect();
    let wanted: Vec<f64> = ages.iter().map(|&age| signal(now - age)).collect();
    let worst = close("LegT window", &found, &wanted, 1.25e-5);
    assert!(
        worst >= 1.2e-5,
        "the specification's figure is 1.2e-5: {worst}"
    );
    assert_eq!(memory.recall(theta + 1e-9), None);
    // The coefficients are those of the projection, (1/θ) ∫ f(t − s) L(1 − 2s/θ) ds, here by the midpoint rule.
    let mut projection = Array1::<f64>::zeros(slots);
    let cells = 200_000;
    for i in 0..cells {
        let share = (f64::from(i) + 0.5) / f64::from(cells);
        let weight = signal(now - share * theta) / f64::from(cells);
        projection.scaled_add(weight, &legendre(slots, 1.0 - 2.0 * share));
    }
    let worst = close(
        "LegT projection",
        memory.coefficients_n(),
        &projection,
        3.1e-6,
    );
    assert!(worst >= 2.9e-6);
}

#[test]
fn legs_reconstructs_the_whole_past() {
    let (slots, delta, steps) = (24, 1e-3, 6000);
    let build = |rule| Memory::new(Measure::Scaled, slots, delta, rule).unwrap();
    let mut memory = build(Discretization::Bilinear);
    let mut euler = build(Discretization::Euler);
    assert!(memory.is_empty() && memory.recall(0.5).is_none());
    for k in 0..=steps {
        memory.push(signal(f64::from(k) * delta));
        euler.push(signal(f64::from(k) * delta));
    }
    let now = memory.elapsed();
    assert!((now - 6.0).abs() < 1e-12);
    let ages = linspace(0.0, now, 60);
    let wanted: Vec<f64> = ages.iter().map(|&age| signal(now - age)).collect();
    let recall = |memory: &Memory| -> Vec<f64> {
        ages.iter()
            .map(|&age| memory.recall(age).unwrap())
            .collect()
    };
    let worst = close("LegS history, bilinear", &recall(&memory), &wanted, 9.6e-4);
    assert!(
        worst >= 9.4e-4,
        "the specification's figure is 9.5e-4: {worst}"
    );
    // Euler's rule is of the first order: it is right, but not as right.
    let worst = close("LegS history, Euler", &recall(&euler), &wanted, 0.2);
    assert!(worst >= 1e-3);
    assert_eq!(memory.recall(now + 0.01), None);
}

#[test]
fn the_running_sums_of_legs_are_its_matrix() {
    let slots = 7;
    let system = hippo::legs(slots).unwrap();
    let samples = random(3, 12);
    for rule in Discretization::ALL {
        let Some(alpha) = rule.alpha() else {
            let refused = Memory::new(Measure::Scaled, slots, 1.0, rule).unwrap_err();
            assert_eq!(refused, DiscretizeError::Rule { rule: rule.name() });
            continue;
        };
        let mut memory = Memory::new(Measure::Scaled, slots, 1.0, rule).unwrap();
        // Another Δ changes nothing but the names of the times: LegS is scale invariant.
        let mut slower = Memory::new(Measure::Scaled, slots, 50.0, rule).unwrap();
        for (i, &f) in samples.iter().enumerate() {
            let before = memory.coefficients_n().to_owned();
            memory.push(f);
            slower.push(f);
            if i < 2 {
                continue;
            }
            // (I − αA/(k+1)) c[k+1] = (I + (1−α)A/k) c[k] + B ((1−α) f[k]/k + α f[k+1]/(k+1)).
            let k = i as f64 - 1.0;
            let (old, new) = ((1.0 - alpha) / k, alpha / (k + 1.0));
            let after = memory.coefficients_n();
            let left = &after - system.a_nn.dot(&after) * new;
            let input = old * samples[i - 1] + new * f;
            let right = &before + system.a_nn.dot(&before) * old + &system.b_n * input;
            let size = right.fold(1.0, |m: f64, x| m.max(x.abs()));
            close(rule.name(), &left, &right, 2e-14 * size);
        }
        assert_eq!(memory.coefficients_n(), slower.coefficients_n());
    }
    // A constant past is one coefficient.
    let mut memory = Memory::new(Measure::Scaled, 5, 1.0, Discretization::Bilinear).unwrap();
    for _ in 0..40 {
        memory.push(3.0);
    }
    let wanted = [3.0, 0.0, 0.0, 0.0, 0.0];
    close("constant", memory.coefficients_n(), &wanted, 1e-13);
}

#[test]
fn legs_without_its_1_over_t_is_another_memory() {
    let (slots, delta, steps) = (24, 1e-3, 12_000);
    let rule = Discretization::Bilinear;
    let mut warped = Memory::new(Measure::Warped, slots, delta, rule).unwrap();
    let mut scaled = Memory::new(Measure::Scaled, slots, delta, rule).unwrap();
    let slow = |t: f64| (1.3 * t).sin() + 0.4 * (2.9 * t).cos();
    for k in 0..steps {
        warped.push(slow((f64::from(k) + 0.5) * delta));
        scaled.push(slow(f64::from(k) * delta));
    }
    let error = |memory: &Memory, age: f64| {
        (memory.recall(age).unwrap() - slow(memory.elapsed() - age)).abs()
    };
    let worst = |memory: &Memory, from: f64, to: f64| {
        let ages = linspace(from, to, 40);
        ages.iter()
            .map(|&age| error(memory, age))
            .fold(0.0, f64::max)
    };
    // What is old is lost where the weight is e^−age, and kept where it is even.
    println!(
        "young and old samples: warped {:.3}, {:.3}, scaled {:.2e}, {:.2e}",
        worst(&warped, 0.0, 1.5),
        worst(&warped, 6.0, 11.0),
        worst(&scaled, 0.0, 1.5),
        worst(&scaled, 6.0, 11.0)
    );
    assert!(worst(&warped, 0.0, 1.5) <= 0.1 && worst(&warped, 6.0, 11.0) >= 0.3);
    assert!(worst(&scaled, 0.0, 11.0) <= 0.02);
    // A polynomial of e^−age is kept whole, up to the rule's error.
    let mut memory = Memory::new(Measure::Warped, 4, delta, rule).unwrap();
    let now = 20.0;
    let growing = |t: f64| 2.0 * (t - now).exp() - (2.0 * (t - now)).exp();
    for k in 0..20_000 {
        memory.push(growing((f64::from(k) + 0.5) * delta));
    }
    for age in linspace(0.0, 8.0, 20) {
        let error = (memory.recall(age).unwrap() - growing(now - age)).abs();
        assert!(error <= 1e-5, "{age}: {error}");
    }
    for measure in Measure::ALL {
        assert_eq!(measure.position(0.0, 3.0), Some(1.0));
        assert_eq!(measure.position(-0.1, 3.0), None);
        assert!(Memory::new(measure, 0, delta, rule).is_err());
        assert!(Memory::new(measure, 4, 0.0, rule).is_err());
    }
}
