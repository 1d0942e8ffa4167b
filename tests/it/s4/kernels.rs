//! S4 and S4D: the decomposition of A, the kernel by every way to it, and the three views of one model.

use mambascope_core::discretize::Discretization;
use mambascope_core::hippo;
use mambascope_core::s4::{
    KernelBy, Nplr, S4, S4Error, S4d, S4dInit, View, convolve_direct, convolve_fft, delta_at,
    diagonalize_legs_directly, kernel_by_generating_function, kernel_by_powers,
};
use ndarray::{Array1, Array2, array, s};
use num_complex::Complex64;

use super::{close, random, random_complex};

/// Largest entry of V diag(λ) Vᴴ − P Pᵀ − A and of Vᴴ V − I.
fn reconstruction(nplr: &Nplr, a_nn: &Array2<f64>) -> (f64, f64) {
    let adjoint = nplr.v_nn.t().mapv(|v| v.conj());
    let worst = |m: Array2<Complex64>| m.iter().fold(0.0, |m: f64, z| m.max(z.norm()));
    let identity = Array2::<f64>::eye(a_nn.nrows()).mapv(Complex64::from);
    (
        worst(nplr.dense() - a_nn.mapv(Complex64::from)),
        worst(adjoint.dot(&nplr.v_nn) - identity),
    )
}

#[test]
fn legs_is_normal_plus_rank_one() {
    let (system, nplr) = (hippo::legs(24).unwrap(), Nplr::legs(24).unwrap());
    let p = nplr.p_nr.column(0);
    assert_eq!(nplr.p_nr.ncols(), 1);
    close("B = √2 P", &system.b_n, &p.mapv(|p| p * 2f64.sqrt()), 1e-14);
    // A + P Pᵀ + I/2 is skew-symmetric, which puts every eigenvalue at the real part −½.
    let normal = &system.a_nn + &nplr.p_nr.dot(&nplr.p_nr.t()) + Array2::<f64>::eye(24) * 0.5;
    close("skew", &normal, &normal.t().mapv(|x| -x), 1.5e-14);
    assert!(nplr.lambda_n.iter().all(|lambda| lambda.re == -0.5));
    let (residual, unitary) = reconstruction(&nplr, &system.a_nn);
    println!("LegS N=24: A {residual:.2e}, V {unitary:.2e}");
    // N·ε: what the eigenvectors of an N × N matrix can be held to, whatever order a processor sums in.
    assert!(residual <= 1e-13 && unitary <= 24.0 * f64::EPSILON);
}

#[test]
fn legt_is_normal_plus_rank_two() {
    for (slots, theta) in [(24, 2.0), (15, 0.5)] {
        let system = hippo::legt(slots, theta).unwrap();
        let nplr = Nplr::legt(slots, theta).unwrap();
        assert_eq!(nplr.p_nr.ncols(), 2);
        let normal = &system.a_nn + &nplr.p_nr.dot(&nplr.p_nr.t());
        close("skew", &normal, &normal.t().mapv(|x| -x), 3e-14 / theta);
        let (residual, unitary) = reconstruction(&nplr, &system.a_nn);
        println!("LegT N={slots}: A {residual:.2e}, V {unitary:.2e}");
        assert!(residual <= 2e-13 / theta && unitary <= slots as f64 * f64::EPSILON);
    }
    // At θ = 2 an entry of P is √(2n+1)/√2.
    let nplr = Nplr::legt(4, 2.0).unwrap();
    let wanted = [
        0.5f64.sqrt(),
        0.0,
        0.0,
        1.5f64.sqrt(),
        2.5f64.sqrt(),
        0.0,
        0.0,
        3.5f64.sqrt(),
    ];
    close("P", &nplr.p_nr, &wanted, 1e-15);
}

#[test]
fn the_spectrum_of_legs_at_64_slots() {
    let lambda = Nplr::legs(64).unwrap().lambda_n;
    let check = |name: &str, found: &[Complex64], wanted: &[(usize, f64)]| {
        for &(n, imaginary) in wanted {
            let found = found[n];
            println!("{name} {n}: {found:.4}");
            assert!(
                (found.im - imaginary).abs() <= 0.005 && found.re == -0.5,
                "{name} {n}: {found}"
            );
        }
    };
    let legs = [
        (0, 1303.27),
        (1, 433.03),
        (2, 258.15),
        (3, 182.62),
        (28, 2.63),
        (29, 1.70),
        (30, 0.91),
        (31, 0.26),
    ];
    check("LegS", lambda.as_slice().unwrap(), &legs);
    let inv = S4dInit::Inv.lambda_n(64).unwrap();
    let wanted = [
        (0, 1283.43),
        (1, 414.23),
        (2, 240.39),
        (3, 165.88),
        (28, 2.50),
        (29, 1.73),
        (30, 1.00),
        (31, 0.32),
    ];
    check("Inv", inv.as_slice().unwrap(), &wanted);
    // Conjugate pairs mirror each other, and each has its eigenvector.
    for n in 0..64 {
        assert!((lambda[n] - lambda[63 - n].conj()).norm() <= 1e-12 * lambda[0].im);
    }
    assert_eq!(S4dInit::Legs.lambda_n(64).unwrap(), lambda.slice(s![..32]));
}

#[test]
fn without_the_low_rank_term_the_digits_go() {
    let direct = [16, 32, 64].map(|slots| diagonalize_legs_directly(slots).unwrap());
    for (slots, direct) in [16, 32, 64].into_iter().zip(&direct) {
        let nplr = Nplr::legs(slots).unwrap();
        let a_nn = hippo::legs(slots).unwrap().a_nn;
        let largest = a_nn.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
        let unitary = reconstruction(&nplr, &a_nn).0 / largest;
        println!(
            "N={slots}: condition {:.1e}, error {:.1e}, digits lost {:.1}; with the low rank {unitary:.1e}",
            direct.condition,
            direct.error,
            direct.digits_lost()
        );
        assert!(unitary <= 2e-14);
    }
    assert!(direct[0].condition >= 1e8 && direct[1].condition >= 1e3 * direct[0].condition);
    assert!(direct[1].error >= 1e-9 && direct[2].digits_lost() >= 15.0);
    assert!(diagonalize_legs_directly(0).is_err());
    // One slot has nothing to lose.
    assert_eq!(diagonalize_legs_directly(1).unwrap().digits_lost(), 0.0);
}

#[test]
fn the_generating_function_gives_the_powers() {
    // The C of a figure made with numpy, 3e-16, and others. How wide a processor sums moves it by an ulp of 5.6e-17 or two.
    let specified = array![
        0.12573022,
        -0.13210486,
        0.64042265,
        0.10490012,
        -0.53566937,
        0.36159505,
        1.304,
        0.94708096
    ];
    let others = (0..10).map(|seed| (random(seed, 8), 7e-16));
    for (c_n, tolerance) in std::iter::once((specified, 4.5e-16)).chain(others) {
        let model = S4::legs(c_n.clone(), 0.0, 0.05).unwrap();
        let powers = model.kernel(KernelBy::Powers, 64).unwrap();
        let cauchy = model.kernel(KernelBy::GeneratingFunction, 64).unwrap();
        close("Cauchy kernel", &cauchy, &powers, tolerance);
        // K[i] = C Āⁱ B̄, literally.
        let (discrete, mut h) = (model.discrete(), model.discrete().b_n.clone());
        for k in &powers {
            assert!((c_n.dot(&h) - k).abs() <= 2e-16);
            h = discrete.a_nn.dot(&h);
        }
    }
}

#[test]
fn the_generating_function_holds_at_every_size() {
    for slots in [1, 2, 7, 16, 64] {
        for length in [0, 1, 2, 3, 63, 256, 1000] {
            for delta in [1e-3, 0.1] {
                let c_n = random(slots as u64, slots);
                let legs = S4::legs(c_n.clone(), 0.0, delta).unwrap();
                let legt = S4::legt(c_n, 1.5, 0.0, delta).unwrap();
                for (what, model) in [("LegS", legs), ("LegT", legt)] {
                    let powers = model.kernel(KernelBy::Powers, length).unwrap();
                    let cauchy = model.kernel(KernelBy::GeneratingFunction, length).unwrap();
                    let size = powers.iter().fold(1.0, |m: f64, k| m.max(k.abs()));
                    let what = format!("{what} N={slots} L={length} Δ={delta}");
                    close(&what, &cauchy, &powers, 2e-13 * size);
                }
            }
        }
    }
    let model = S4::legs(random(1, 4), 0.0, 0.1).unwrap();
    assert!(kernel_by_generating_function(model.dplr(), 0.0, 8).is_err());
    assert!(kernel_by_powers(model.discrete(), random(1, 3).view(), 8).is_err());
    assert!(S4::legs(Array1::zeros(0), 0.0, 0.1).is_err());
    assert!(S4::legs(random(1, 4), 0.0, -0.1).is_err());
    assert!(S4::legt(random(1, 4), -1.0, 0.0, 0.1).is_err());
}

#[test]
fn the_low_rank_recurrence_is_the_full_one() {
    let u = random(21, 200);
    for model in [
        S4::legs(random(22, 32), 0.0, 0.02).unwrap(),
        S4::legt(random(22, 32), 2.0, 0.0, 0.02).unwrap(),
    ] {
        let full = model.output(View::Loop, u.view()).unwrap();
        let low_rank = model.dplr().discretize(0.02).unwrap().run(u.view());
        close("DPLR recurrence", &low_rank, &full, 2e-13);
    }
}

#[test]
fn padding_keeps_the_end_from_the_beginning() {
    let (u, kernel) = (random(31, 64), random(32, 64));
    let direct = convolve_direct(u.view(), kernel.view()).unwrap();
    close(
        "FFT",
        &convolve_fft(u.view(), kernel.view()).unwrap(),
        &direct,
        2e-14,
    );
    // A unit impulse at the last place, by a kernel that reaches far: nothing may come round.
    let mut last = Array1::zeros(64);
    last[63] = 1.0;
    let y = convolve_fft(last.view(), kernel.view()).unwrap();
    let mut wanted = Array1::zeros(64);
    wanted[63] = kernel[0];
    close("impulse", &y, &wanted, 1e-15);
    for length in [0, 1, 2, 5, 97] {
        let (u, kernel) = (random(33, length), random(34, length));
        let direct = convolve_direct(u.view(), kernel.view()).unwrap();
        close(
            "FFT",
            &convolve_fft(u.view(), kernel.view()).unwrap(),
            &direct,
            3e-14,
        );
    }
    assert!(convolve_fft(u.view(), random(1, 63).view()).is_err());
    assert!(convolve_direct(u.view(), random(1, 63).view()).is_err());
}

#[test]
fn fft_convolution_is_the_recurrence_on_64_tokens() {
    // N = 8, Δ = 0.05: the specification's one draw has 2.8e-16.
    for seed in 0..10 {
        let model = S4::legs(random(seed, 8), 0.0, 0.05).unwrap();
        let u = random(seed + 100, 64);
        let kernel = model.kernel(KernelBy::Powers, 64).unwrap();
        let fft = convolve_fft(u.view(), kernel.view()).unwrap();
        let wanted = model.output(View::Loop, u.view()).unwrap();
        close("FFT against loop, L=64", &fft, &wanted, 1.5e-15);
    }
}

#[test]
fn loop_direct_and_fft_agree_on_4096_tokens() {
    let u = random(41, 4096);
    let rule = Discretization::ZeroOrderHold;
    let diagonal = |init: S4dInit, entries| {
        let c_n = random_complex(42, entries) / Complex64::from(entries as f64);
        S4d::new(init, c_n, 0.7, 0.01, rule).unwrap()
    };
    let check = |what: &str, outputs: [Array1<f64>; 3], tolerance: f64| {
        let [run, direct, fft] = outputs;
        let size = run.iter().fold(1.0, |m: f64, y| m.max(y.abs()));
        close(&format!("{what}, direct"), &direct, &run, tolerance * size);
        close(&format!("{what}, FFT"), &fft, &run, tolerance * size);
    };
    for init in S4dInit::ALL {
        let model = diagonal(init, 8);
        let outputs = View::ALL.map(|view| model.output(view, u.view()).unwrap());
        check(init.title(), outputs, 1.5e-15);
    }
    let model = S4::legs(random(43, 16) / 16.0, 0.7, 0.01).unwrap();
    let outputs = View::ALL.map(|view| model.output(view, u.view()).unwrap());
    check("S4", outputs, 1.5e-15);
}

#[test]
fn a_conjugate_pair_is_two_slots() {
    let (slots, delta, length) = (16, 0.05, 64);
    for init in [S4dInit::Lin, S4dInit::Inv, S4dInit::Legs] {
        let lambda = init.lambda_n(slots).unwrap();
        let c_n = random_complex(51, slots / 2);
        let rule = Discretization::ZeroOrderHold;
        let model = S4d::new(init, c_n.clone(), 0.0, delta, rule).unwrap();
        let found = model.kernel(length).unwrap();
        // Σ over all N eigenvalues of C (e^(Δa) − 1)/a e^(Δ a l), from the definition.
        let wanted = Array1::from_shape_fn(length, |l| {
            let term = |a: Complex64, c: Complex64| {
                c * ((a * delta).exp() - 1.0) / a * (a * (delta * l as f64)).exp()
            };
            let pairs = lambda.iter().zip(&c_n);
            pairs
                .map(|(&a, &c)| (term(a, c) + term(a.conj(), c.conj())).re)
                .sum::<f64>()
        });
        close(init.title(), &found, &wanted, 1.2e-15);
    }
}

#[test]
fn the_four_initialisations() {
    let lin = S4dInit::Lin.lambda_n(8).unwrap();
    let pi = std::f64::consts::PI;
    for (n, a) in lin.iter().enumerate() {
        assert_eq!(*a, Complex64::new(-0.5, pi * n as f64));
    }
    assert_eq!(lin.len(), 4);
    let inv = S4dInit::Inv.lambda_n(8).unwrap();
    assert!((inv[1].im - 8.0 / pi * (8.0 / 3.0 - 1.0)).abs() <= 1e-14);
    let real = S4dInit::Real.lambda_n(4).unwrap();
    assert_eq!(real, array![-1.0, -2.0, -3.0, -4.0].mapv(Complex64::from));
    for init in S4dInit::ALL {
        assert!(init.lambda_n(0).is_err());
        assert_eq!(init.lambda_n(7).is_err(), init.is_paired(), "{init:?}");
    }
    let odd = S4dInit::Lin.lambda_n(7).unwrap_err();
    assert!(matches!(odd, S4Error::Odd { slots: 7, .. }), "{odd}");
    // S4D-Real under Mamba's rule is Mamba's recurrence with constant B and C.
    let c_n = array![0.5, -1.0, 2.0, 0.25];
    let rule = Discretization::ExponentialEuler;
    let model = S4d::new(S4dInit::Real, c_n.mapv(Complex64::from), 0.0, 0.1, rule).unwrap();
    let wanted = Array1::from_shape_fn(20, |l| -> f64 {
        let slot = |n: usize| c_n[n] * 0.1 * (-0.1 * (n as f64 + 1.0) * l as f64).exp();
        (0..4).map(slot).sum()
    });
    close("S4D-Real", &model.kernel(20).unwrap(), &wanted, 1e-15);
    close(
        "Δ",
        &[delta_at(0.0), delta_at(0.5), delta_at(1.0)],
        &[1e-3, 1e-2, 1e-1],
        1e-16,
    );
}

#[test]
fn every_rule_gives_a_diagonal_model_its_three_views() {
    let u = random(61, 100);
    for rule in Discretization::ALL {
        let c_n = random_complex(62, 6);
        let model = S4d::new(S4dInit::Lin, c_n, 0.3, 0.05, rule).unwrap();
        let [run, direct, fft] = View::ALL.map(|view| model.output(view, u.view()).unwrap());
        let size = run.iter().fold(1.0, |m: f64, y| m.max(y.abs()));
        close(rule.name(), &direct, &run, 1e-14 * size);
        close(rule.name(), &fft, &run, 1e-14 * size);
        // The same with a full A: powers of every rule, the second input tap of one of them included.
        let system = hippo::legs(6).unwrap();
        let discrete = rule.dense(&system, 0.05).unwrap();
        let c_n = random(63, 6);
        let kernel = kernel_by_powers(&discrete, c_n.view(), 100).unwrap();
        let run = discrete.run(c_n.view(), u.view()).unwrap();
        let direct = convolve_direct(u.view(), kernel.view()).unwrap();
        let size = run.iter().fold(1.0, |m: f64, y| m.max(y.abs()));
        close(rule.name(), &direct, &run, 1e-14 * size);
    }
}

#[test]
fn without_its_low_rank_term_legs_comes_back_as_n_grows() {
    // C reads the first slot; its kernel under LegS is e^−s.
    let (delta, length) = (0.01, 300);
    let error = |slots: usize| {
        let mut c_n = Array1::zeros(slots);
        c_n[0] = 1.0;
        let rule = Discretization::ZeroOrderHold;
        let diagonal = S4d::legs_without_low_rank(c_n.view(), delta, rule).unwrap();
        let kernel = diagonal.kernel(length).unwrap();
        let system = hippo::legs(slots).unwrap();
        let full = rule.dense(&system, delta).unwrap();
        let wanted = kernel_by_powers(&full, c_n.view(), length).unwrap();
        let difference = &kernel - &wanted;
        (difference.dot(&difference) / wanted.dot(&wanted)).sqrt()
    };
    let errors = [16, 64, 256].map(error);
    println!("relative error of the diagonal kernel, N = 16, 64, 256: {errors:.4?}");
    assert!(errors[1] < 0.6 * errors[0] && errors[2] < 0.6 * errors[1]);
    assert!(errors[2] <= 0.1);
}
