//! Backends against each other where there are no fixtures: random shapes of the scan, and real text through the embedded model.

use std::ops::ControlFlow;
use std::sync::Arc;

use mambascope_core::backend::{Backend, FastBackend, NaiveBackend};
use mambascope_core::checkpoint::EMBEDDED;
use mambascope_core::job::{Answer, Job, JobError, ModelRef, Progress, Workshop};
use mambascope_core::model::{Mixer, Model};
use mambascope_core::parity::{LOGITS_TOLERANCE, NotFinite, Parity, ParityJob, parity};
use mambascope_core::scan::{Projection, ScanInput};
use mambascope_core::tensor::Tensor;
use ndarray::{Array1, Array2, Array3};
use proptest::prelude::*;

use crate::memory::peak_of;
use crate::support::{Tolerance, compare, embedded, load};

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

pub fn cube(seed: u64, shape: [usize; 3]) -> Array3<f32> {
    let len = shape.iter().product();
    Array3::from_shape_vec(shape, noise(seed, len)).unwrap()
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

fn measure(
    model: Model,
    text: &str,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Parity, JobError> {
    let backends: [Box<dyn Backend>; 2] = [
        Box::new(FastBackend::new(1).unwrap()),
        Box::new(NaiveBackend::default()),
    ];
    let job = ParityJob {
        model: ModelRef(Arc::new(model)),
        backend: "fast".to_owned(),
        text: text.into(),
    };
    match Workshop::new(backends.into()).run(&Job::Parity(job), progress)? {
        Answer::Parity(found) => Ok((*found).clone()),
        other => panic!("{other:?}"),
    }
}

/// Longer than a chunk, and no multiple of the tokens between two reports.
fn prose() -> String {
    "The rain had not ceased since noon, and the road lay under water. ".repeat(9)
}

#[test]
fn the_fast_backend_is_within_the_tolerance_on_every_sibling() {
    for entry in &EMBEDDED {
        let mut reports = Vec::new();
        let found = measure(entry.load().unwrap(), &prose(), &mut |progress| {
            if let Progress::Count { done, .. } = progress {
                reports.push(done);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        assert!(found.is_within(), "{}: {:?}", entry.name, found.details());
        assert!(found.tokens > 128 && found.tokens == found.total);
        assert!(reports.is_sorted() && reports.last() == Some(&found.total));
        let states = found.states.unwrap();
        // Two orders of the same sums: never quite the same, and a logit of this size shows it.
        assert!(found.logits.max > 0.0 && found.logits.scale > 5.0 && states.scale > 1.0);
        assert!(found.ln_p > 0.0 && found.ln_p <= 2.0 * found.logits.max + 1e-5);
        let line = found.to_string();
        assert!(
            line.starts_with("≤ ") && line.contains(" vs naive ✔ ("),
            "{line}"
        );
    }
}

/// A fixture with one number of one weight changed, beside the fixture as it is; both by the naive backend.
fn beside_a_changed_one(name: &str, change: impl FnOnce(&mut Model)) -> Parity {
    let model = load(name);
    let mut other = checkpoint(name);
    change(&mut other);
    let mut naive = NaiveBackend::default();
    let mut changed = naive.open(&Arc::new(other)).unwrap();
    let mut as_it_is = naive.open(&model).unwrap();
    let job = ParityJob {
        model: ModelRef(model),
        backend: "changed".to_owned(),
        text: "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13".into(),
    };
    let go_on = &mut |_| ControlFlow::Continue(());
    parity(&job, &mut *changed, &mut *as_it_is, go_on).unwrap()
}

fn checkpoint(name: &str) -> Model {
    let folder = crate::support::fixture(name);
    mambascope_core::checkpoint::load(&folder, &mambascope_core::checkpoint::unhurried).unwrap()
}

/// Sets one entry of a row of the embedding.
fn set_embedding(model: &mut Model, row: usize, value: impl FnOnce(f32) -> f32) {
    let shape = model.embedding.shape().to_vec();
    let mut values = model.embedding.as_f32().to_vec();
    let entry = &mut values[row * shape[1]];
    *entry = value(*entry);
    model.embedding = Tensor::from_f32(shape, &values).unwrap();
}

#[test]
fn a_planted_difference_is_found_where_it_is() {
    let same = beside_a_changed_one("jamba-tiny", |_| ());
    assert!(same.is_within() && same.logits.max == 0.0 && same.ln_p == 0.0);
    assert_eq!(same.to_string(), "≤ 0 vs naive ✔ (13 tokens)");

    // Token 11 is the eleventh; the head is a weight of its own, so that no token before knows of it.
    let found = beside_a_changed_one("jamba-tiny", |model| set_embedding(model, 11, |x| x + 0.5));
    assert!(!found.is_within() && found.not_finite.is_none());
    assert!(found.token >= 10 && f64::from(found.logits.max) > LOGITS_TOLERANCE);
    let line = found.to_string();
    assert!(
        line.starts_with("up to ") && line.ends_with(" vs naive ✖ too far (13 tokens)"),
        "{line}"
    );

    let states = beside_a_changed_one("mamba1-tiny", |model| {
        for layer in &mut model.layers {
            if let Mixer::Mamba(weights) = &mut layer.mixer {
                let bias: Vec<f32> = weights.dt_bias.as_f32().iter().map(|x| x + 0.1).collect();
                weights.dt_bias = Tensor::from_f32(vec![bias.len()], &bias).unwrap();
            }
        }
    });
    assert!(
        states.states.unwrap().max > 1e-3,
        "another Δ leaves another state"
    );
}

#[test]
fn a_number_that_is_none_is_found_and_said() {
    let found = beside_a_changed_one("jamba-tiny", |model| set_embedding(model, 5, |_| f32::NAN));
    assert!(!found.is_within());
    let wanted = NotFinite {
        backend: "changed".to_owned(),
        token: 4,
    };
    assert_eq!(found.not_finite, Some(wanted));
    assert!(found.states.unwrap().max.is_nan());
    assert_eq!(found.to_string(), "not finite at token 4 ✖ (13 tokens)");
    let details = found.details().map(|(_, value)| value);
    assert!(details[0].contains("on changed at token 4"), "{details:?}");
}

#[test]
fn a_measurement_that_is_stopped_tells_of_what_it_compared() {
    let mut reports = 0;
    let found = measure(checkpoint("mamba1-tiny"), &"7 ".repeat(300), &mut |_| {
        reports += 1;
        if reports < 20 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })
    .unwrap();
    assert_eq!((found.tokens, found.total), (160, 300));
    assert!(found.is_within() && found.states.is_none());
    assert!(found.to_string().ends_with("(first 160 of 300 tokens)"));

    let go_on = &mut |_| ControlFlow::Continue(());
    let error = measure(checkpoint("mamba1-tiny"), "1, 2000", go_on).unwrap_err();
    assert!(error.to_string().contains("2000"), "{error}");
    let error = measure(checkpoint("mamba1-tiny"), " ", go_on).unwrap_err();
    assert!(matches!(error, JobError::Prompt(_)), "{error}");
}

#[test]
fn a_long_text_takes_no_more_memory_to_compare() {
    let peak = |tokens: usize| {
        let text = "7 ".repeat(tokens);
        let go_on = &mut |_| ControlFlow::Continue(());
        let (found, peak) = peak_of(|| measure(checkpoint("mamba1-tiny"), &text, go_on).unwrap());
        assert_eq!(found.tokens, tokens);
        peak
    };
    let (short, long) = (peak(400), peak(4000));
    // The scores of 3600 tokens more would be over a megabyte on each side.
    assert!(long - short < 256 << 10, "{short} {long}");
}
