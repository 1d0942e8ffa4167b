//! Sessions: chunks, steps, snapshots, edits; and what a decoded token costs.

use std::ops::ControlFlow;
use std::sync::Arc;

use mambascope_core::backend::{
    Backend, BackendError, FastBackend, NaiveBackend, Session, prefill_in_chunks,
};
use mambascope_core::generate::{Sampler, Sampling};
use mambascope_core::model::{MixerDims, Model};
use mambascope_core::state::{State, StateBytes};
use mambascope_core::trace::{DEFAULT_BUDGET, Probe, Site, Trace, TraceError, TracePlan, TraceTap};

use crate::support::{Backends, Tolerance, compare, embedded, load, on_every_backend, scores};

on_every_backend!(
    chunks_of_any_size_and_steps_agree,
    chunks_steps_and_backends_agree_in_every_family,
    every_probe_of_every_family_is_the_same_on_every_backend,
    limits_of_delta_hold_in_a_prefill_and_not_in_a_step,
    the_quick_backend_follows_the_plain_one_through_a_text,
    a_restored_session_continues_bit_for_bit,
    a_state_can_be_edited_compared_and_refused,
    ids_are_checked_before_anything_changes,
    a_session_picks_what_the_sampler_would,
);

const TEXT: &str = "Mr. Holt came down to the harbour on the last evening of the year, and found no one there but the old keeper, \
    who did not know him. \"You are late,\" said the keeper. \"The boat has gone, and there will be no other until the ice goes \
    out of the river.\" Mr. Holt sat down upon his box and looked at the water for a long time before he answered.";

fn text_ids() -> Vec<u32> {
    embedded().tokenizer.as_ref().unwrap().encode(TEXT).unwrap()
}

/// Scores after every token of `ids`, read in chunks.
fn all_logits(session: &mut dyn Session, ids: &[u32], chunk: usize) -> Vec<f64> {
    let config = session.model().config.clone();
    let plan = TracePlan {
        layers: vec![],
        probes: vec![Probe::Logits],
        tokens: ids.len(),
        budget: DEFAULT_BUDGET,
    };
    let mut tap = TraceTap::new(&plan, &config).unwrap();
    prefill_in_chunks(session, ids, chunk, &mut tap, &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    tap.finish()
        .get(Site::model(Probe::Logits))
        .unwrap()
        .iter()
        .map(|&x| x.into())
        .collect()
}

fn chunks_of_any_size_and_steps_agree(backends: Backends) {
    let (model, ids) = (embedded(), text_ids());
    for mut backend in backends() {
        let mut open = || backend.open(&model).unwrap();
        let whole = all_logits(&mut *open(), &ids, usize::MAX);
        for chunk in [1, 7, 64] {
            compare(
                &all_logits(&mut *open(), &ids, chunk),
                &whole,
                Tolerance::Absolute(1e-4),
            )
            .unwrap();
        }
        let mut session = open();
        let vocab = model.config.vocab_size;
        for (l, &id) in ids.iter().enumerate() {
            session.step(id, &mut ()).unwrap();
            let stepped = scores(&mut *session);
            compare(
                &stepped,
                &whole[l * vocab..(l + 1) * vocab],
                Tolerance::Absolute(1e-4),
            )
            .unwrap();
        }
    }
}

/// The fixtures of every family, and the embedded siblings of the default model.
fn families() -> Vec<Arc<Model>> {
    let fixtures = [
        "mamba2-tiny",
        "mamba2-groups",
        "falcon-mamba-tiny",
        "jamba-tiny",
        "llama-tiny",
    ];
    let mut models: Vec<_> = fixtures.map(load).into();
    models.extend(crate::compare::quartet().into_iter().skip(1));
    models
}

/// Ids any model knows.
fn some_ids(model: &Model, count: usize) -> Vec<u32> {
    let vocab = model.config.vocab_size as u32;
    (0..count as u32)
        .map(|i| (i * i * 7 + 3 * i + 1) % vocab)
        .collect()
}

fn chunks_steps_and_backends_agree_in_every_family(backends: Backends) {
    for model in families() {
        let ids = some_ids(&model, 75);
        let plain = all_logits(
            &mut *NaiveBackend::default().open(&model).unwrap(),
            &ids,
            usize::MAX,
        );
        let vocab = model.config.vocab_size;
        for mut backend in backends() {
            if backend.name() == "naive" {
                continue;
            }
            for chunk in [1, 7, 64, usize::MAX] {
                let mut session = backend.open(&model).unwrap();
                let found = all_logits(&mut *session, &ids, chunk);
                compare(&found, &plain, Tolerance::Absolute(2e-4))
                    .unwrap_or_else(|why| panic!("{} in chunks of {chunk}: {why}", model.name));
            }
            let mut session = backend.open(&model).unwrap();
            for (l, &id) in ids.iter().enumerate() {
                session.step(id, &mut ()).unwrap();
                let stepped = scores(&mut *session);
                compare(
                    &stepped,
                    &plain[l * vocab..(l + 1) * vocab],
                    Tolerance::Absolute(2e-4),
                )
                .unwrap_or_else(|why| panic!("{} step {l}: {why}", model.name));
            }
        }
    }
}

fn every_probe_of_every_family_is_the_same_on_every_backend(backends: Backends) {
    for model in families()
        .into_iter()
        .chain([load("mamba1-odd"), embedded()])
    {
        let ids = some_ids(&model, 20);
        let plan = TracePlan {
            layers: (0..model.config.n_layers()).collect(),
            probes: Probe::ALL.to_vec(),
            tokens: ids.len(),
            budget: DEFAULT_BUDGET,
        };
        let record = |backend: &mut dyn Backend| {
            let mut tap = TraceTap::new(&plan, &model.config).unwrap();
            let mut session = backend.open(&model).unwrap();
            prefill_in_chunks(&mut *session, &ids, 8, &mut tap, &mut |_| {
                ControlFlow::Continue(())
            })
            .unwrap();
            tap.finish()
        };
        let plain = record(&mut NaiveBackend::default());
        let others = backends().into_iter();
        for mut other in others.filter(|backend| backend.name() != "naive") {
            let quick = record(&mut *other);
            for site in plan.sites(&model.config) {
                let values = |trace: &Trace| -> Vec<f64> {
                    trace.get(site).unwrap().iter().map(|&x| x.into()).collect()
                };
                assert_eq!(
                    plain.get(site).unwrap().shape(),
                    quick.get(site).unwrap().shape()
                );
                assert_eq!(plain.get(site).unwrap().shape()[0], ids.len());
                compare(&values(&quick), &values(&plain), Tolerance::OfLargest(1e-4))
                    .unwrap_or_else(|why| panic!("{} {}: {why}", model.name, site.name()));
                assert!(
                    values(&plain).iter().any(|&x| x != 0.0),
                    "{} {}",
                    model.name,
                    site.name()
                );
            }
        }
    }
}

fn limits_of_delta_hold_in_a_prefill_and_not_in_a_step(backends: Backends) {
    let mut model = mambascope_core::checkpoint::load(
        &crate::support::fixture("mamba2-tiny"),
        &mambascope_core::checkpoint::unhurried,
    )
    .unwrap();
    for block in &mut model.config.blocks {
        if let MixerDims::Mamba2(dims) = &mut block.mixer {
            dims.dt_limit = (0.02, 0.1);
        }
    }
    let (limited, free) = (Arc::new(model), load("mamba2-tiny"));
    let ids = some_ids(&limited, 12);
    for mut backend in backends() {
        let mut logits = |model: &Arc<Model>, steps: bool, chunk: usize| -> Vec<f64> {
            let mut session = backend.open(model).unwrap();
            for part in ids.chunks(chunk) {
                if steps {
                    session.step(part[0], &mut ()).unwrap();
                } else {
                    session.prefill(part, &mut ()).unwrap();
                }
            }
            scores(&mut *session)
        };
        let whole = logits(&limited, false, 12);
        let same =
            |one: &[f64], other: &[f64]| compare(one, other, Tolerance::Absolute(1e-4)).is_ok();
        assert!(
            same(&logits(&limited, false, 1), &whole),
            "a prefill of one is a prefill"
        );
        assert!(
            same(&logits(&limited, true, 1), &logits(&free, false, 12)),
            "a step knows no limit"
        );
        assert!(
            !same(&whole, &logits(&free, false, 12)),
            "the limit is felt"
        );
    }
}

fn the_quick_backend_follows_the_plain_one_through_a_text(backends: Backends) {
    let (model, ids) = (embedded(), text_ids());
    let plain = all_logits(
        &mut *NaiveBackend::default().open(&model).unwrap(),
        &ids,
        64,
    );
    for mut backend in backends() {
        if backend.name() == "naive" {
            continue;
        }
        let quick = all_logits(&mut *backend.open(&model).unwrap(), &ids, 64);
        // The gate of the goldens, on the weights people look at.
        compare(&quick, &plain, Tolerance::Absolute(2e-4)).unwrap();
    }
}

fn a_restored_session_continues_bit_for_bit(backends: Backends) {
    restored_sessions(backends, &embedded(), &text_ids());
    for model in families() {
        restored_sessions(backends, &model, &some_ids(&model, 60));
    }
}

fn restored_sessions(backends: Backends, model: &Arc<Model>, ids: &[u32]) {
    let (before, after) = ids.split_at(40);
    for mut backend in backends() {
        let mut first = backend.open(model).unwrap();
        first.prefill(before, &mut ()).unwrap();
        let snapshot = first.state().unwrap();
        assert_eq!(snapshot.position, before.len());
        assert_eq!(snapshot.bytes(), first.state_bytes());
        assert_eq!(
            snapshot.bytes(),
            StateBytes::formula(&model.config, before.len())
        );
        let mut second = backend.open(model).unwrap();
        second.prefill(after, &mut ()).unwrap();
        second.set_state(&snapshot).unwrap();
        assert_eq!(
            second.logits().unwrap(),
            first.logits().unwrap(),
            "the scores are those of the snapshot"
        );
        for &id in after {
            first.step(id, &mut ()).unwrap();
            second.step(id, &mut ()).unwrap();
            assert_eq!(
                first.logits().unwrap(),
                second.logits().unwrap(),
                "{}",
                backend.name()
            );
        }
        assert_eq!(first.state().unwrap(), second.state().unwrap());
        assert_eq!(first.state().unwrap().position, ids.len());
    }
}

fn a_state_can_be_edited_compared_and_refused(backends: Backends) {
    let (model, ids) = (embedded(), text_ids());
    for mut backend in backends() {
        let mut session = backend.open(&model).unwrap();
        session.prefill(&ids[..50], &mut ()).unwrap();
        let kept = session.state().unwrap();
        assert_eq!(
            kept.bytes(),
            session.state_bytes(),
            "what is shown is what is held"
        );
        assert_eq!(kept.max_difference(&kept).unwrap(), 0.0);

        let mut edited = kept.clone();
        let layer = edited.layers[2].recurrent_mut().unwrap();
        layer.ssm_dn.column_mut(0).fill(0.0);
        assert!(kept.max_difference(&edited).unwrap() > 0.01);
        session.step(ids[50], &mut ()).unwrap();
        let untouched = session.logits().unwrap().to_vec();
        session.set_state(&edited).unwrap();
        session.step(ids[50], &mut ()).unwrap();
        assert_ne!(
            session.logits().unwrap(),
            untouched,
            "a forgotten slot changes what comes next"
        );
        session.set_state(&kept).unwrap();
        session.step(ids[50], &mut ()).unwrap();
        assert_eq!(session.logits().unwrap(), untouched);

        let mut broken = kept.clone();
        broken.layers[0].recurrent_mut().unwrap().conv_dk[[3, 1]] = f32::NAN;
        assert!(kept.max_difference(&broken).unwrap().is_nan());
        let mut blind = kept.clone();
        blind.logits_v = None;
        session.set_state(&blind).unwrap();
        assert!(session.logits().unwrap().iter().all(|&x| x == 0.0));
        blind.logits_v = Some(vec![0.0; 3]);
        let error = session.set_state(&blind).unwrap_err().to_string();
        assert!(
            error.contains("number of scores: wanted 2048, found 3"),
            "{error}"
        );
        let other = State::zeros(&load("mamba1-tiny").config);
        assert!(kept.max_difference(&other).is_err());
        let error = session.set_state(&other).unwrap_err().to_string();
        assert!(
            error.contains("number of layers: wanted 6, found 2"),
            "{error}"
        );
    }
}

fn ids_are_checked_before_anything_changes(backends: Backends) {
    let model = embedded();
    for mut backend in backends() {
        let mut session = backend.open(&model).unwrap();
        assert_eq!(session.prefill(&[], &mut ()), Err(BackendError::NoTokens));
        let error = session
            .prefill(&[5, 2048], &mut ())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("2048") && error.contains("position 1") && error.contains("0 to 2047"),
            "{error}"
        );
        assert_eq!(session.state().unwrap(), State::zeros(&model.config));
    }
}

fn a_session_picks_what_the_sampler_would(backends: Backends) {
    let (model, ids) = (embedded(), text_ids());
    for mut backend in backends() {
        let mut session = backend.open(&model).unwrap();
        session.prefill(&ids, &mut ()).unwrap();
        let drawn = (0..48).map(|seed| Sampling {
            temperature: [0.3, 0.8, 1.5][seed % 3],
            top_k: [1, 5, 50, 1000, 0][seed % 5],
            top_p: [0.5, 0.95, 1.0][seed / 3 % 3],
            repetition_penalty: [1.0, 1.3][seed % 2],
            seed: seed as u64,
        });
        let fixed = [Sampling::greedy(), Sampling::default()];
        for sampling in fixed.into_iter().chain(drawn) {
            let scores = session.logits().unwrap().to_vec();
            let wanted = Sampler::default().pick(&scores, &ids, &sampling, 0);
            let picked = session.pick(&mut Sampler::default(), &ids, &sampling, 0);
            assert_eq!(picked, Ok(wanted), "{} {sampling:?}", backend.name());
        }
    }
}

#[test]
fn a_prefill_can_be_stopped_between_chunks() {
    let (model, ids) = (embedded(), text_ids());
    let mut session = FastBackend::new(1).unwrap().open(&model).unwrap();
    let stop = &mut |done| {
        if done >= 20 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let stopped = prefill_in_chunks(&mut *session, &ids, 10, &mut (), stop);
    assert_eq!(
        stopped,
        Err(BackendError::Cancelled {
            done: 20,
            total: ids.len()
        })
    );
    assert_eq!(session.state().unwrap().position, 20);
}

#[test]
fn a_decoded_token_allocates_nothing() {
    crate::memory::alone("state::a_decoded_token_allocates_nothing", || {
        let ids = text_ids();
        // Threads of a pool that is let go end some time later, and ask for memory then.
        let mut kept = Vec::new();
        for model in [embedded(), load("mamba2-groups")] {
            for threads in [1, 2] {
                let mut session = FastBackend::new(threads).unwrap().open(&model).unwrap();
                let known = |id: u32| id % model.config.vocab_size as u32;
                // Threads that have worked once have all they need.
                let text: Vec<u32> = ids.iter().map(|&id| known(id)).collect();
                session.prefill(&text, &mut ()).unwrap();
                session.step(text[0], &mut ()).unwrap();
                let before = crate::memory::process_allocations();
                for &id in &text[1..] {
                    session.step(id, &mut ()).unwrap();
                }
                assert_eq!(
                    crate::memory::process_allocations(),
                    before,
                    "{} on {threads}",
                    model.name
                );
                kept.push(session);
            }
        }
    });
    let before = crate::memory::allocations();
    drop(std::hint::black_box(vec![0u8; 64]));
    assert_eq!(
        crate::memory::allocations(),
        before + 1,
        "the counter counts"
    );
}

#[test]
fn a_trace_is_priced_before_it_is_made() {
    let model = embedded();
    let mut plan = TracePlan {
        layers: vec![0, 5],
        probes: Probe::ALL.to_vec(),
        tokens: 20,
        budget: DEFAULT_BUDGET,
    };
    let mut tap = TraceTap::new(&plan, &model.config).unwrap();
    let mut session = FastBackend::new(1).unwrap().open(&model).unwrap();
    session.prefill(&text_ids()[..20], &mut tap).unwrap();
    let held: usize = tap
        .finish()
        .into_arrays()
        .map(|(_, values)| values.len() * 4)
        .sum();
    assert_eq!(plan.bytes(&model.config), held as u128);

    plan.budget = held as u64 - 1;
    let error = TraceTap::new(&plan, &model.config).err().unwrap();
    assert_eq!(
        error,
        TraceError::OverBudget {
            bytes: held as u128,
            budget: held as u64 - 1
        }
    );
    assert!(
        error.to_string().contains(&held.to_string()) && error.to_string().contains("fewer layers"),
        "{error}"
    );

    plan.layers = vec![6];
    let error = TraceTap::new(&plan, &model.config)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("no layer 6") && error.contains("0 to 5"),
        "{error}"
    );

    // More bytes than there are addresses is a number too, not an overflow.
    plan = TracePlan {
        layers: vec![0; 1000],
        probes: vec![Probe::H],
        tokens: usize::MAX,
        budget: u64::MAX,
    };
    assert!(matches!(
        TraceTap::new(&plan, &model.config),
        Err(TraceError::OverBudget { .. })
    ));
}
