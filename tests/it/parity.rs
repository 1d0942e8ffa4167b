//! Backends against each other where there are no fixtures: random shapes of the scan, and real text through the embedded model.

use mambascope_core::backend::{Backend, FastBackend, NaiveBackend};
use mambascope_core::scan::{Projection, ScanInput};
use ndarray::{Array1, Array2, Array3};
use proptest::prelude::*;

use crate::support::{Tolerance, compare, embedded};

/// Numbers in −1..1 that look random and are the same every time.
pub fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

pub fn matrix(seed: u64, rows: usize, columns: usize) -> Array2<f32> {
    Array2::from_shape_vec((rows, columns), noise(seed, rows * columns)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Lanes, tiles of slots, tasks of channels: every way to not divide evenly.
    #[test]
    fn the_quick_scan_is_the_plain_one(
        tokens in 1usize..70,
        groups in 1usize..4,
        width in 1usize..50,
        slots in 1usize..40,
        options in any::<[bool; 5]>(),
        seed in any::<u64>(),
    ) {
        let channels = groups * width;
        let [softplus, bias, skip, gate, initial] = options;
        let (u, z) = (matrix(seed, tokens, channels), matrix(seed ^ 1, tokens, channels));
        let delta = matrix(seed ^ 2, tokens, channels).mapv(|x| if softplus { 3.0 * x } else { x.abs() });
        let a = matrix(seed ^ 3, channels, slots).mapv(|x| -4.0 * x.abs());
        let bc = |salt| Array3::from_shape_vec((tokens, groups, slots), noise(seed ^ salt, tokens * channels / width * slots)).unwrap();
        let (b, c, h) = (bc(4), bc(5), matrix(seed ^ 6, channels, slots));
        let vector = Array1::from_vec(noise(seed ^ 7, channels));
        let input = ScanInput {
            u_ld: u.view(),
            delta_ld: delta.view(),
            delta_bias_d: (bias && softplus).then(|| vector.view()),
            delta_softplus: softplus,
            a_dn: a.view(),
            b: Projection::Selective(b.view()),
            c: Projection::Selective(c.view()),
            d_skip_d: skip.then(|| vector.view()),
            z_ld: gate.then(|| z.view()),
            initial_dn: initial.then(|| h.view()),
        };
        let plain = NaiveBackend::default().scan(&input).unwrap();
        for threads in [1, 2] {
            let quick = FastBackend::new(threads).unwrap().scan(&input).unwrap();
            for (found, wanted) in [(&quick.y_ld, &plain.y_ld), (&quick.last_dn, &plain.last_dn)] {
                let found: Vec<f64> = found.iter().map(|&x| x.into()).collect();
                let wanted: Vec<f64> = wanted.iter().map(|&x| x.into()).collect();
                compare(&found, &wanted, Tolerance::OfLargest(1e-5)).unwrap();
            }
        }
    }
}

/// The card's figure is on novels we do not have; this holds the weights, the tokenizer and the arithmetic to plain English.
#[test]
fn the_embedded_model_knows_english() {
    let model = embedded();
    let text = "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife.";
    let ids = model.tokenizer.as_ref().unwrap().encode(text).unwrap();
    let mut session = FastBackend::new(1).unwrap().open(&model).unwrap();
    let mut nats = 0.0;
    session.step(ids[0], &mut ()).unwrap();
    for &id in &ids[1..] {
        let logits = session.logits().unwrap();
        nats += mambascope_core::generate::log_sum_exp(logits) - logits[id as usize];
        session.step(id, &mut ()).unwrap();
    }
    let per_token = nats / (ids.len() - 1) as f32;
    // Its loss on unseen novels is 3.1 nats a token; guessing among 2,048 tokens would be 7.6.
    assert!((1.0..4.2).contains(&per_token), "{per_token} nats a token");
}

/// A view may be a transpose: what is computed does not depend on how its numbers lie.
#[test]
fn operands_may_lie_the_other_way_round() {
    let (u, delta) = (matrix(1, 24, 9), matrix(2, 24, 9).mapv(|x| 2.0 * x));
    let (a, h) = (matrix(3, 24, 5).mapv(|x| -x.abs()), matrix(4, 24, 5));
    let b = Array3::from_shape_vec((5, 1, 9), noise(5, 45)).unwrap();
    let vector = Array1::from_vec(noise(6, 24));
    let input = ScanInput {
        u_ld: u.t(),
        delta_ld: delta.t(),
        delta_bias_d: Some(vector.view()),
        delta_softplus: true,
        a_dn: a.view(),
        b: Projection::Selective(b.t()),
        c: Projection::Selective(b.t()),
        d_skip_d: None,
        z_ld: Some(u.t()),
        initial_dn: Some(h.view()),
    };
    let plain = NaiveBackend::default().scan(&input).unwrap();
    let quick = FastBackend::new(1).unwrap().scan(&input).unwrap();
    for (found, wanted) in [(quick.y_ld, plain.y_ld), (quick.last_dn, plain.last_dn)] {
        let found: Vec<f64> = found.iter().map(|&x| x.into()).collect();
        let wanted: Vec<f64> = wanted.iter().map(|&x| x.into()).collect();
        compare(&found, &wanted, Tolerance::OfLargest(1e-5)).unwrap();
    }
}
