//! Mamba-2's scan alone: fixtures in float64, every backend, every chunk.

use mambascope_core::backend::{Backend, FastBackend, NaiveBackend};
use mambascope_core::scan::{Real, SsdInput, ssd_sequential};
use ndarray::{Array1, Array2, Array3, ArrayD, Axis, Ix1, Ix2, Ix3};
use proptest::prelude::*;

use crate::parity::{cube, matrix, noise};
use crate::support::{
    Arrays, Backends, Tolerance, assert_close, compare, fixture, on_every_backend,
};

on_every_backend!(
    every_backend_and_every_chunk_agree_with_it,
    operands_that_do_not_fit_are_named,
    sizes_at_the_edges,
);

/// One sequence of a fixture's batch, in the number type of the test.
struct Sequence<T> {
    x: Array3<T>,
    dt: Array2<T>,
    dt_bias: Array1<T>,
    softplus: bool,
    limit: (T, T),
    a: Array1<T>,
    b: Array3<T>,
    c: Array3<T>,
    d_skip: Array1<T>,
    initial: Option<Array3<T>>,
}

impl<T: Real> Sequence<T> {
    fn new(file: &Arrays, batch: usize) -> Self {
        let cast = |x: f64| T::from(x).unwrap();
        let of_batch = |name: &str| file.get(name).index_axis(Axis(0), batch).mapv(cast);
        let three = |name: &str| of_batch(name).into_dimensionality::<Ix3>().unwrap();
        let vector = |name: &str| {
            file.get(name)
                .mapv(cast)
                .into_dimensionality::<Ix1>()
                .unwrap()
        };
        let limit = |name: &str| cast(file.metadata[name].parse().unwrap());
        Self {
            x: three("x"),
            dt: of_batch("dt").into_dimensionality::<Ix2>().unwrap(),
            dt_bias: vector("dt_bias"),
            softplus: file.metadata["dt_softplus"] == "1",
            limit: (limit("dt_limit_lo"), limit("dt_limit_hi")),
            a: vector("A"),
            b: three("B"),
            c: three("C"),
            d_skip: vector("D"),
            initial: file
                .values
                .contains_key("initial_state")
                .then(|| three("initial_state")),
        }
    }

    fn input(&self) -> SsdInput<'_, T> {
        SsdInput {
            x_lhp: self.x.view(),
            dt_lh: self.dt.view(),
            dt_bias_h: Some(self.dt_bias.view()),
            dt_softplus: self.softplus,
            dt_limit: self.limit,
            a_h: self.a.view(),
            b_lgn: self.b.view(),
            c_lgn: self.c.view(),
            d_skip_h: Some(self.d_skip.view()),
            initial_hpn: self.initial.as_ref().map(|h| h.view()),
        }
    }
}

const FIXTURES: [&str; 4] = [
    "ssd_1x300_h6p4_g3n8",
    "ssd_2x37_h4p8_g1n16",
    "ssd_extreme_1x100_h4p4",
    "ssd_init_limit_1x50_h4p8",
];

/// Runs `check` on every sequence: the file, its number in the batch, expected y and last state.
fn each(mut check: impl FnMut(&str, &Arrays, usize, &ArrayD<f64>, &ArrayD<f64>)) {
    for name in FIXTURES {
        let file = Arrays::read(fixture("scan").join(format!("{name}.safetensors")));
        for batch in 0..file.get("x").len_of(Axis(0)) {
            let of_batch = |name: &str| file.get(name).index_axis(Axis(0), batch).to_owned();
            check(name, &file, batch, &of_batch("y"), &of_batch("last_state"));
        }
    }
}

#[test]
fn the_recurrence_in_double_precision_is_the_reference() {
    each(|name, file, batch, y, last| {
        let found = ssd_sequential(&Sequence::<f64>::new(file, batch).input(), |_, _| ()).unwrap();
        for (found, wanted) in [(found.y_lhp, y), (found.last_hpn, last)] {
            let found: Vec<f64> = found.iter().copied().collect();
            let wanted: Vec<f64> = wanted.iter().copied().collect();
            compare(&found, &wanted, Tolerance::OfLargest(1e-11))
                .unwrap_or_else(|why| panic!("{name}: {why}"));
        }
    });
}

fn every_backend_and_every_chunk_agree_with_it(backends: Backends) {
    each(|name, file, batch, y, last| {
        let sequence = Sequence::<f32>::new(file, batch);
        for mut backend in backends() {
            for chunk in [1, 3, 8, 64, 256, usize::MAX] {
                let what = format!("{name} {} in chunks of {chunk}", backend.name());
                let found = backend.ssd(&sequence.input(), chunk).unwrap();
                assert_close(&what, found.y_lhp, y, Tolerance::OfLargest(1e-5));
                assert_close(&what, found.last_hpn, last, Tolerance::OfLargest(1e-5));
            }
        }
    });
}

#[test]
fn the_gate_sees_known_mistakes() {
    let passes = |name: &str, change: &dyn Fn(&mut Sequence<f64>)| {
        let file = Arrays::read(fixture("scan").join(format!("{name}.safetensors")));
        let mut sequence = Sequence::<f64>::new(&file, 0);
        change(&mut sequence);
        let found = ssd_sequential(&sequence.input(), |_, _| ()).unwrap();
        let found: Vec<f64> = found.y_lhp.iter().copied().collect();
        let wanted: Vec<f64> = file
            .get("y")
            .index_axis(Axis(0), 0)
            .iter()
            .copied()
            .collect();
        compare(&found, &wanted, Tolerance::OfLargest(1e-5)).is_ok()
    };
    assert!(passes("ssd_init_limit_1x50_h4p8", &|_| ()));
    assert!(
        !passes("ssd_init_limit_1x50_h4p8", &|s| s.limit =
            (0.0, f64::INFINITY)),
        "no limit"
    );
    assert!(
        !passes("ssd_init_limit_1x50_h4p8", &|s| s.initial = None),
        "no initial state"
    );
    assert!(
        !passes("ssd_init_limit_1x50_h4p8", &|s| s.softplus = false),
        "no softplus"
    );
    assert!(
        !passes("ssd_1x300_h6p4_g3n8", &|s| {
            // Heads and groups by turns: what tiling B and C instead of repeating them would read.
            let tiled = |lgn: &Array3<f64>| {
                let order: Vec<usize> = (0..6).map(|h| h % 3).collect();
                lgn.select(Axis(1), &order)
            };
            (s.b, s.c) = (tiled(&s.b), tiled(&s.c));
        }),
        "groups tiled instead of repeated"
    );
    assert!(
        !passes("ssd_2x37_h4p8_g1n16", &|s| std::mem::swap(
            &mut s.b, &mut s.c
        )),
        "B and C swapped"
    );
}

fn operands_that_do_not_fit_are_named(backends: Backends) {
    let file = Arrays::read(fixture("scan").join("ssd_2x37_h4p8_g1n16.safetensors"));
    let mut sequence = Sequence::<f32>::new(&file, 0);
    sequence.a = Array1::zeros(3);
    for mut backend in backends() {
        let error = backend.ssd(&sequence.input(), 16).unwrap_err().to_string();
        assert!(
            error.contains("operand A: wanted shape [4], found [3]"),
            "{error}"
        );
    }
}

/// One, primes, tiles that are full and tiles that are not: against the recurrence in double precision.
fn sizes_at_the_edges(backends: Backends) {
    // tokens, heads, channels of a head, groups, slots
    let sizes = [
        [1, 1, 1, 1, 1],
        [67, 2, 16, 1, 16],
        [131, 4, 64, 2, 128],
        [64, 3, 48, 3, 80],
        [257, 2, 128, 1, 256],
        [100, 6, 20, 2, 24],
        [17, 2, 32, 1, 32],
        [5, 2, 4, 1, 0],
    ];
    for (seed, size) in (0u64..).zip(sizes) {
        let [tokens, heads, width, groups, slots] = size;
        let three = |salt, shape| cube(seed * 17 + salt, shape);
        let single = Sequence::<f32> {
            x: three(1, [tokens, heads, width]),
            dt: matrix(seed * 17 + 2, tokens, heads).mapv(|x| 3.0 * x - 2.0),
            dt_bias: Array1::from_vec(noise(seed * 17 + 3, heads)),
            softplus: true,
            limit: (0.0, f32::INFINITY),
            a: Array1::from_vec(noise(seed * 17 + 4, heads)).mapv(|x| -4.0 * x.abs()),
            b: three(5, [tokens, groups, slots]),
            c: three(6, [tokens, groups, slots]),
            d_skip: Array1::from_vec(noise(seed * 17 + 7, heads)),
            initial: (seed % 2 == 0).then(|| three(8, [heads, width, slots])),
        };
        let double = Sequence::<f64> {
            x: single.x.mapv(f64::from),
            dt: single.dt.mapv(f64::from),
            dt_bias: single.dt_bias.mapv(f64::from),
            softplus: true,
            limit: (0.0, f64::INFINITY),
            a: single.a.mapv(f64::from),
            b: single.b.mapv(f64::from),
            c: single.c.mapv(f64::from),
            d_skip: single.d_skip.mapv(f64::from),
            initial: single.initial.as_ref().map(|h| h.mapv(f64::from)),
        };
        let wanted = ssd_sequential(&double.input(), |_, _| ()).unwrap();
        for mut backend in backends() {
            for chunk in [1, 64] {
                let what = format!("{size:?} on {} in chunks of {chunk}", backend.name());
                let found = backend.ssd(&single.input(), chunk).unwrap();
                for (found, wanted) in [
                    (found.y_lhp, &wanted.y_lhp),
                    (found.last_hpn, &wanted.last_hpn),
                ] {
                    let wanted = wanted.clone().into_dyn();
                    assert_close(&what, found, &wanted, Tolerance::OfLargest(1e-5));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_chunked_scan_is_the_plain_one(
        tokens in 1usize..90,
        groups in 1usize..4,
        heads_of_a_group in 1usize..4,
        width in 1usize..20,
        slots in 1usize..40,
        chunk in 1usize..100,
        options in any::<[bool; 3]>(),
        seed in any::<u64>(),
    ) {
        let heads = groups * heads_of_a_group;
        let [softplus, skip, initial] = options;
        let three = |salt: u64, shape| cube(seed ^ salt, shape);
        let x = three(0, [tokens, heads, width]);
        let (b, c) = (three(1, [tokens, groups, slots]), three(2, [tokens, groups, slots]));
        let dt = matrix(seed ^ 3, tokens, heads).mapv(|x| if softplus { 3.0 * x } else { x.abs() });
        let a = Array1::from_vec(noise(seed ^ 4, heads)).mapv(|x| -4.0 * x.abs());
        let d_skip = Array1::from_vec(noise(seed ^ 5, heads));
        let h = three(6, [heads, width, slots]);
        let input = SsdInput {
            x_lhp: x.view(),
            dt_lh: dt.view(),
            dt_bias_h: None,
            dt_softplus: softplus,
            dt_limit: (0.0, f32::INFINITY),
            a_h: a.view(),
            b_lgn: b.view(),
            c_lgn: c.view(),
            d_skip_h: skip.then(|| d_skip.view()),
            initial_hpn: initial.then(|| h.view()),
        };
        let plain = NaiveBackend::default().ssd(&input, 1).unwrap();
        for threads in [1, 2] {
            let quick = FastBackend::new(threads).unwrap().ssd(&input, chunk).unwrap();
            for (found, wanted) in [(&quick.y_lhp, &plain.y_lhp), (&quick.last_hpn, &plain.last_hpn)] {
                let found: Vec<f64> = found.iter().map(|&x| x.into()).collect();
                let wanted: Vec<f64> = wanted.iter().map(|&x| x.into()).collect();
                compare(&found, &wanted, Tolerance::OfLargest(2e-5)).unwrap();
            }
        }
    }
}
