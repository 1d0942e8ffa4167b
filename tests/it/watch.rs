//! Watching a text: what is recorded is what happened, and only what is new is computed.

use std::ops::ControlFlow;
use std::sync::Arc;

use mambascope_core::backend::{Backend, FastBackend};
use mambascope_core::generate::{Finish, Sampling, generate};
use mambascope_core::job::{ModelRef, Progress};
use mambascope_core::model::Model;
use mambascope_core::watch::{BLOCK, Watch, WatchJob, Watched};

use crate::support::{embedded, scores};

fn job(model: &Arc<Model>, write: usize) -> WatchJob {
    let prompt = model
        .tokenizer
        .as_ref()
        .unwrap()
        .encode("It was a cold and rainy evening when Mr. Holt")
        .unwrap();
    WatchJob {
        model: ModelRef(Arc::clone(model)),
        backend: "fast".to_owned(),
        prompt: prompt.into(),
        write,
        sampling: Sampling::default(),
        layer: 1,
        token: None,
        window: 1024,
    }
}

fn backend() -> FastBackend {
    FastBackend::new(1).unwrap()
}

fn run(watch: &mut Watch, job: &WatchJob) -> Watched {
    watch.run(job, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn watch_once(job: &WatchJob) -> Watched {
    run(&mut Watch::open(job, &mut backend()).unwrap(), job)
}

fn assert_same_text(one: &Watched, other: &Watched) {
    assert_eq!(one.ids, other.ids);
    assert_eq!(one.first, other.first);
    for (one, other) in one.records.iter().zip(&other.records) {
        assert_eq!(one.id, other.id);
        for (one, other) in one.layers.iter().zip(&other.layers) {
            assert_eq!(one, other);
        }
    }
    assert_eq!(one.records.len(), other.records.len());
    assert_eq!(one.slot_norms, other.slot_norms);
    assert_eq!(one.focus, other.focus);
}

#[test]
fn the_text_is_the_one_generate_writes() {
    let model = embedded();
    let job = job(&model, 50);
    let watched = watch_once(&job);
    let mut session = backend().open(&model).unwrap();
    let mut history = job.prompt.to_vec();
    session.prefill(&history, &mut ()).unwrap();
    generate(
        &mut *session,
        &mut history,
        &job.sampling,
        50,
        &mut (),
        &mut |_| ControlFlow::Continue(()),
    )
    .unwrap();
    assert_eq!(*watched.ids, *history);
    assert_eq!(watched.finish, Some(Finish::Limit));
    assert_eq!(watched.end(), watched.ids.len());
}

#[test]
fn going_on_is_the_same_as_starting_over() {
    let model = embedded();
    let mut watch = Watch::open(&job(&model, 0), &mut backend()).unwrap();
    for write in [0, 1, 2, 30, 90] {
        let wanted = job(&model, write);
        assert!(watch.serves(&wanted));
        assert_same_text(&run(&mut watch, &wanted), &watch_once(&wanted));
    }
    assert!(
        !watch.serves(&job(&model, 3)),
        "a shorter text is another one"
    );
    let warmer = WatchJob {
        sampling: Sampling {
            temperature: 1.5,
            ..Sampling::default()
        },
        ..job(&model, 120)
    };
    assert!(!watch.serves(&warmer));
    assert_ne!(watch_once(&warmer).ids, watch_once(&job(&model, 120)).ids);
}

#[test]
fn the_state_shown_is_the_state_that_was() {
    let model = embedded();
    let written = watch_once(&job(&model, 100));
    let mut session = backend().open(&model).unwrap();
    let mut watch = Watch::open(&job(&model, 100), &mut backend()).unwrap();
    for (token, &id) in written.ids.iter().enumerate() {
        session.step(id, &mut ()).unwrap();
        if ![0, 5, 63, 64, 70, 107].contains(&token) {
            continue;
        }
        for layer in [0, 3, 5] {
            let state = session.state().unwrap();
            let wanted = &state.layers[layer].recurrent().unwrap().ssm_dn;
            let watched = run(
                &mut watch,
                &WatchJob {
                    layer,
                    token: Some(token),
                    ..job(&model, 100)
                },
            );
            let focus = watched.focus.unwrap();
            assert_eq!((focus.token, focus.layer), (token, layer));
            let (slots, channels) = (16, 512);
            for n in 0..slots {
                let mut squares = 0.0;
                for d in 0..channels {
                    let (found, wanted) = (focus.h_nd[n * channels + d], wanted[[d, n]]);
                    // The prompt was read as a chunk and is stepped through here: products are summed in another order.
                    assert!(
                        (found - wanted).abs() <= 2e-5 * wanted.abs().max(1.0),
                        "{token} {layer} {d} {n}: {found} {wanted}"
                    );
                    squares += f64::from(found) * f64::from(found);
                }
                let norm = f64::from(watched.slot_norms[token][n]);
                assert!(
                    (norm - squares.sqrt()).abs() <= 1e-5 * norm.max(1.0),
                    "{norm} {}",
                    squares.sqrt()
                );
            }
        }
    }
}

/// What is recorded of the other families, against the states a session has and the formulas of the readings.
#[test]
fn states_and_readings_of_every_family() {
    let mut models = crate::compare::quartet();
    models.push(crate::support::load("mamba2-groups"));
    models.push(crate::support::load("jamba-tiny"));
    for model in models {
        let vocab = model.config.vocab_size as u32;
        let prompt: Arc<[u32]> = (0..90u32).map(|i| (i * i * 5 + i) % vocab).collect();
        let mut session = backend().open(&model).unwrap();
        session.prefill(&prompt, &mut ()).unwrap();
        let state = session.state().unwrap();
        for layer in 0..model.config.n_layers() {
            let watched = watch_once(&WatchJob {
                model: ModelRef(Arc::clone(&model)),
                backend: "fast".to_owned(),
                prompt: Arc::clone(&prompt),
                write: 0,
                sampling: Sampling::default(),
                layer,
                token: None,
                window: 1024,
            });
            assert_eq!(watched.state_bytes, session.state_bytes());
            let record = &watched.records[89].layers[layer];
            let Some(wanted) = state.layers[layer].recurrent() else {
                assert!(watched.focus.is_none() && watched.slot_norms.is_empty());
                let attention = record.attention().unwrap();
                let heads = model.config.blocks[layer].mixer.attention().unwrap().heads;
                assert_eq!((attention.first, attention.weights.len()), (0, heads * 90));
                for head in attention.weights.chunks(90) {
                    assert!((head.iter().sum::<f32>() - 1.0).abs() < 1e-4);
                }
                continue;
            };
            let dims = model.config.blocks[layer].mixer.recurrent().unwrap();
            let h_nd = watched.focus.unwrap().h_nd;
            for ((d, n), wanted) in wanted.ssm_dn.indexed_iter() {
                let found = h_nd[n * dims.d_inner + d];
                assert!(
                    (found - wanted).abs() <= 2e-4 * wanted.abs().max(1.0),
                    "{} {layer}: {found} {wanted}",
                    model.name
                );
            }
            let scan = record.scan().unwrap();
            let (per_delta, per_group) =
                (dims.d_inner / dims.delta_width, dims.d_inner / dims.groups);
            let squares: f64 = (0..dims.d_inner)
                .flat_map(|d| (0..dims.d_state).map(move |n| (d, n)))
                .map(|(d, n)| {
                    let b = scan.b[d / per_group * dims.d_state + n];
                    f64::from(scan.delta[d / per_delta] * b * scan.u_d[d]).powi(2)
                })
                .sum();
            assert!(
                (f64::from(scan.reading.write) - squares.sqrt()).abs() <= 1e-4 * squares.sqrt()
            );
            let a = model.layers[layer].mixer.decay().unwrap();
            let decays = a
                .indexed_iter()
                .map(|((_, w), a)| f64::from(scan.delta[w] * a).exp());
            let mean = decays.sum::<f64>() / a.len() as f64;
            assert!((f64::from(scan.reading.retention) - mean).abs() <= 1e-5);
        }
    }
}

#[test]
fn readings_and_surprise_are_what_their_formulas_say() {
    let model = embedded();
    let watched = watch_once(&job(&model, 20));
    let mut session = backend().open(&model).unwrap();
    for (token, record) in watched.records.iter().enumerate() {
        assert_eq!(record.id, watched.ids[token]);
        if token == 0 {
            assert_eq!(record.surprise, None);
        } else {
            let scores = scores(&mut *session);
            let total: f64 = scores.iter().map(|x| x.exp()).sum();
            let wanted = total.ln() - scores[record.id as usize];
            assert!(
                (f64::from(record.surprise.unwrap()) - wanted).abs() < 1e-4,
                "{:?} {wanted}",
                record.surprise
            );
        }
        session.step(record.id, &mut ()).unwrap();
        let best = mambascope_core::generate::argmax(session.logits().unwrap());
        assert_eq!(record.next[0].0, best);
        assert!(record.next.len() == 10 && record.next.is_sorted_by(|a, b| a.1 >= b.1));

        for (layer, values) in record.layers.iter().enumerate() {
            let values = values.scan().unwrap();
            let a_nd = model.layers[layer].mixer.decay().unwrap();
            let (mut delta_sum, mut square_sum, mut decay_sum) = (0.0, 0.0, 0.0);
            for (d, (&delta, &u)) in values.delta.iter().zip(&values.u_d).enumerate() {
                let (delta, u) = (f64::from(delta), f64::from(u));
                delta_sum += delta;
                for (n, &b) in values.b.iter().enumerate() {
                    square_sum += (delta * f64::from(b) * u).powi(2);
                    decay_sum += (delta * f64::from(a_nd[[n, d]])).exp();
                }
            }
            let wanted = [delta_sum / 512.0, square_sum.sqrt(), decay_sum / 8192.0];
            let found = [
                values.reading.mean_delta,
                values.reading.write,
                values.reading.retention,
            ];
            for (found, wanted) in found.into_iter().zip(wanted) {
                assert!(
                    (f64::from(found) - wanted).abs() <= 1e-5 * wanted.max(1e-2),
                    "{token} {layer}: {found} {wanted}"
                );
            }
        }
    }
}

#[test]
fn a_small_window_forgets_the_beginning_but_not_the_place() {
    let model = embedded();
    let small = WatchJob {
        window: BLOCK,
        ..job(&model, 250)
    };
    let (watched, whole) = (watch_once(&small), watch_once(&job(&model, 250)));
    assert_eq!(watched.ids, whole.ids);
    assert!(
        watched.first > 0
            && watched.first.is_multiple_of(BLOCK)
            && watched.records.len() < 2 * BLOCK
    );
    for (token, record) in (watched.first..).zip(&watched.records) {
        assert_eq!(record, whole.record(token).unwrap());
    }
    assert_eq!(watched.slot_norms[..], whole.slot_norms[watched.first..]);
    assert_eq!(watched.focus, whole.focus);
    assert!(watched.record(0).is_none());
}

#[test]
fn of_a_long_prompt_the_end_is_recorded() {
    let model = embedded();
    let prompt: Arc<[u32]> = whole_text(&model, 300);
    let long = WatchJob {
        prompt: Arc::clone(&prompt),
        window: 100,
        ..job(&model, 5)
    };
    let watched = watch_once(&long);
    let whole = watch_once(&WatchJob {
        window: 4096,
        ..long.clone()
    });
    assert_eq!(
        watched.ids, whole.ids,
        "what is looked at does not change what is written"
    );
    assert!(watched.first >= 128 && watched.records.len() >= 100);
    assert_eq!(watched.end(), 305);
}

#[test]
fn a_stop_before_the_first_record_spoils_nothing() {
    let model = embedded();
    let long = WatchJob {
        prompt: whole_text(&model, 300),
        window: 100,
        ..job(&model, 5)
    };
    let mut watch = Watch::open(&long, &mut backend()).unwrap();
    let stopped = watch.run(&long, &mut |_| ControlFlow::Break(())).unwrap();
    assert_eq!(stopped.finish, Some(Finish::Cancelled));
    assert!(stopped.records.is_empty() && stopped.slot_norms.is_empty() && stopped.focus.is_none());
    let watched = run(&mut watch, &long);
    assert_same_text(&watched, &watch_once(&long));

    // The norms begin with the state the unseen part has left behind, as those of a text seen whole do.
    let whole = watch_once(&WatchJob {
        window: 4096,
        ..long
    });
    for (found, wanted) in watched
        .slot_norms
        .iter()
        .zip(&whole.slot_norms[watched.first..])
    {
        for (found, wanted) in found.iter().zip(wanted.iter()) {
            assert!(
                (found - wanted).abs() <= 1e-4 * wanted.max(1.0),
                "{found} {wanted}"
            );
        }
    }
}

#[test]
fn no_window_at_all_is_no_trouble() {
    let model = embedded();
    let blind = WatchJob {
        window: 0,
        ..job(&model, 2 * BLOCK)
    };
    assert_eq!(
        watch_once(&blind).ids,
        watch_once(&job(&model, 2 * BLOCK)).ids
    );
    for write in 0..BLOCK {
        watch_once(&WatchJob {
            write,
            ..blind.clone()
        });
    }
}

fn whole_text(model: &Arc<Model>, tokens: usize) -> Arc<[u32]> {
    watch_once(&job(model, tokens)).ids[..tokens].into()
}

#[test]
fn looking_elsewhere_runs_nothing() {
    let model = embedded();
    let mut watch = Watch::open(&job(&model, 40), &mut backend()).unwrap();
    let first = run(&mut watch, &job(&model, 40));
    let mut reports = 0;
    let elsewhere = WatchJob {
        layer: 4,
        token: Some(7),
        ..job(&model, 40)
    };
    let second = watch
        .run(&elsewhere, &mut |_| {
            reports += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(reports, 0);
    assert_eq!(first.ids, second.ids);
    assert!(
        first
            .records
            .iter()
            .zip(&second.records)
            .all(|(a, b)| Arc::ptr_eq(a, b))
    );
}

#[test]
fn a_stop_keeps_what_there_is_and_can_go_on() {
    let model = embedded();
    let wanted = job(&model, 60);
    let mut watch = Watch::open(&wanted, &mut backend()).unwrap();
    let mut reports = 0;
    let stopped = watch
        .run(&wanted, &mut |progress| {
            reports += usize::from(matches!(progress, Progress::Count { .. }));
            if reports > 10 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap();
    assert_eq!(stopped.finish, Some(Finish::Cancelled));
    let written = stopped.ids.len() - stopped.prompt_len;
    assert!((1..60).contains(&written), "{written}");
    assert_same_text(&run(&mut watch, &wanted), &watch_once(&wanted));
}
