//! What only a device has: counted memory, weights in bf16, a captured pass, caches that move, sessions side by side.
//! Everything else is held to the standard of the CPU, in the modules of its subject.

use std::sync::{Arc, Barrier};

use mambascope_core::backend::{
    Backend, BackendError, FastBackend, NaiveBackend, Rounding, Session,
};
use mambascope_core::checkpoint::synthetic;
use mambascope_core::generate::{Sampler, Sampling, argmax};
use mambascope_core::model::Model;
use mambascope_core::state::{State, StateBytes};
use mambascope_core::tensor::{Dtype, Tensor};
use mambascope_core::trace::{Probe, Site, Tap};
use mambascope_kernels::CudaBackend;
use ndarray::ArrayViewD;

use crate::goldens::FIXTURES;
use crate::support::{Tolerance, compare, cuda, embedded, load, scores};
use crate::synthetic::of_fixture;

/// Wide enough for the tensor cores' tiles, and for the chunks of Mamba-2's scan.
const WIDE: [(&str, &str); 2] = [
    (
        "mamba",
        r#"{"model_type": "mamba", "hidden_size": 512, "num_hidden_layers": 2, "state_size": 16, "vocab_size": 501}"#,
    ),
    (
        "mamba2",
        r#"{"model_type": "mamba2", "hidden_size": 512, "num_hidden_layers": 2, "state_size": 64, "head_dim": 64, "num_heads": 16,
            "n_groups": 2, "vocab_size": 501}"#,
    ),
];

/// The gate of the goldens, for scores of any size.
const GATE: Tolerance = Tolerance::OfLargest(2e-4);

/// Ids any model knows.
fn some_ids(model: &Model, count: usize) -> Vec<u32> {
    let vocab = model.config.vocab_size;
    (0..count)
        .map(|i| ((i * i * 7 + 3 * i + 1) % vocab) as u32)
        .collect()
}

#[track_caller]
fn agree(what: &str, found: &[f64], wanted: &[f64]) {
    compare(found, wanted, GATE).unwrap_or_else(|why| panic!("{what}: {why}"));
}

/// What the weights take there: matrices as they are stored, everything small in f32.
fn weight_bytes(model: &Model) -> u64 {
    let of_tensor = |tensor: &Tensor| {
        let is_half = tensor.dtype() == Dtype::Bf16 && tensor.shape().len() == 2;
        (tensor.len() * if is_half { 2 } else { 4 }) as u64
    };
    model.tensors().map(of_tensor).sum()
}

/// What a session remembers that has read `tokens` at once: its states, and the room of its caches.
fn state_bytes(model: &Model, tokens: usize) -> u64 {
    let rows = tokens.next_power_of_two().max(256);
    StateBytes::formula(&model.config, rows).total() as u64
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn memory_is_what_the_formulas_say() {
    // The driver's pool is the process's: other tests would be counted too.
    crate::memory::alone("cuda::memory_is_what_the_formulas_say", || {
        let of_fixtures = |dtype| FIXTURES.map(|name| of_fixture(name, dtype, 3));
        let models = [Dtype::F32, Dtype::Bf16].map(of_fixtures);
        for model in models.into_iter().flatten().map(Arc::new) {
            let what = format!("{} {:?}", model.name, model.dtypes());
            let mut backend = CudaBackend::default();
            assert_eq!(backend.device_bytes(), None, "nothing is started unasked");
            let mut session = backend.open(&model).unwrap();
            session.prefill(&some_ids(&model, 300), &mut ()).unwrap();
            // What was let go is free when the device is done.
            scores(&mut *session);
            let held = backend.device_bytes().unwrap();
            assert_eq!(held.weights, weight_bytes(&model), "{what}");
            assert_eq!(held.state, state_bytes(&model, 300), "{what}");
            assert!(held.activations > 0, "{what}");
            let counted = held.weights + held.state + held.activations;
            // Each buffer ends on 512 bytes; a chunk takes sixteen, a layer's memory up to three, a session a few.
            let buffers = model.tensors().count() + 3 * model.config.n_layers() + 32;
            let rounding = (2 << 20) + 512 * buffers as u64;
            assert!(
                (counted..=counted + rounding).contains(&held.in_use),
                "{what}: {held:?}, {counted} of them counted"
            );
            let second = backend.open(&model).unwrap();
            let shared = backend.device_bytes().unwrap();
            assert_eq!(
                shared.weights, held.weights,
                "{what}: a second session copies no weights"
            );
            drop((session, second));
            let left = backend.device_bytes().unwrap();
            let left = [left.weights, left.state, left.activations];
            assert_eq!(left, [0; 3], "{what}");
        }
    });
}

/// Scores after a text read in chunks, and after each of twenty more tokens.
fn read_and_step(
    backend: &mut dyn Backend,
    model: &Arc<Model>,
    ids: &[u32],
    chunk: usize,
) -> Vec<Vec<f64>> {
    let mut session = backend.open(model).unwrap();
    for part in ids.chunks(chunk) {
        session.prefill(part, &mut ()).unwrap();
    }
    let mut all = vec![scores(&mut *session)];
    for id in some_ids(model, 20) {
        session.step(id, &mut ()).unwrap();
        all.push(scores(&mut *session));
    }
    all
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn weights_in_bf16_give_the_scores_of_the_cpu() {
    let tiny = FIXTURES.map(|name| of_fixture(name, Dtype::Bf16, 5));
    let wide = WIDE.map(|(name, config)| synthetic(name, config, Dtype::Bf16, 5).unwrap());
    for model in tiny.into_iter().chain(wide).map(Arc::new) {
        assert_eq!(model.dtypes()[0], Dtype::Bf16);
        let ids = some_ids(&model, 70);
        let plain = read_and_step(&mut NaiveBackend::default(), &model, &ids, ids.len());
        let mut exact = FastBackend::new(2).unwrap().with_rounding(Rounding::Never);
        let quick = read_and_step(&mut exact, &model, &ids, ids.len());
        for (rung, mut backend) in cuda().into_iter().enumerate() {
            for chunk in [1, 7, 64, ids.len()] {
                let found = read_and_step(&mut *backend, &model, &ids, chunk);
                for (step, found) in found.iter().enumerate() {
                    let what = format!("{} ({rung}) in chunks of {chunk}, step {step}", model.name);
                    agree(&what, found, &plain[step]);
                    agree(&what, found, &quick[step]);
                }
            }
        }
    }
}

/// Mamba-1 models in bf16 whose tokens go through all blocks in one launch, each with something of its own: blocks of channels
/// and rows that are not full, slots that are no power of two, biases, no bias of the convolution, norms of dt, B and C, and
/// widths beyond what the threads take at once.
const IN_ONE_LAUNCH: [(&str, &str); 4] = [
    (
        "odd",
        r#"{"model_type": "mamba", "hidden_size": 48, "intermediate_size": 272, "num_hidden_layers": 3, "state_size": 7,
            "time_step_rank": 10, "use_bias": true, "vocab_size": 301}"#,
    ),
    (
        "130m",
        r#"{"model_type": "mamba", "hidden_size": 768, "num_hidden_layers": 2, "state_size": 16, "use_conv_bias": false,
            "vocab_size": 301}"#,
    ),
    (
        "normed",
        r#"{"model_type": "falcon_mamba", "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 5,
            "state_size": 16, "vocab_size": 301}"#,
    ),
    (
        "wide",
        r#"{"model_type": "mamba", "hidden_size": 1648, "intermediate_size": 1744, "num_hidden_layers": 2,
            "state_size": 32, "time_step_rank": 128, "vocab_size": 301}"#,
    ),
];

/// Whether kernels were compiled for a chip that tokens go through in one launch: Hopper, or newer.
fn keeps_blocks(notes: &[String]) -> bool {
    let mut chips = notes.iter().filter_map(|note| {
        let (_, chip) = note.split_once("NVRTC, for compute_")?;
        chip.parse::<u32>().ok()
    });
    chips.next().is_some_and(|chip| chip >= 90)
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn one_launch_for_all_blocks_gives_the_scores_of_the_cpu() {
    for (name, config) in IN_ONE_LAUNCH {
        let model = Arc::new(synthetic(name, config, Dtype::Bf16, 11).unwrap());
        let ids = some_ids(&model, 30);
        let mut exact = FastBackend::new(2).unwrap().with_rounding(Rounding::Never);
        let wanted = read_and_step(&mut exact, &model, &ids, ids.len());
        let mut backend = CudaBackend::default();
        // Poison keeps the launch out of a graph; without it the second token of a session is captured.
        for (chunk, is_poisoning) in [(1, true), (1, false), (ids.len(), false)] {
            backend.is_poisoning = is_poisoning;
            let found = read_and_step(&mut backend, &model, &ids, chunk);
            for (step, found) in found.iter().enumerate() {
                agree(
                    &format!("{name} in chunks of {chunk}, step {step}"),
                    found,
                    &wanted[step],
                );
            }
        }
        let notes = backend.notes();
        let is_loaded = notes.iter().any(|note| note.contains("token"));
        assert_eq!(is_loaded, keeps_blocks(&notes), "{name}: {notes:?}");
        // A state taken up by another session, and both writing on in turn.
        let mut first = backend.open(&model).unwrap();
        for id in &ids {
            first.step(*id, &mut ()).unwrap();
        }
        let mut second = backend.open(&model).unwrap();
        second.step(1, &mut ()).unwrap();
        second.set_state(&first.state().unwrap()).unwrap();
        for (step, id) in some_ids(&model, 20).into_iter().enumerate() {
            for session in [&mut first, &mut second] {
                session.step(id, &mut ()).unwrap();
                let found = scores(&mut **session);
                agree(
                    &format!("{name}, step {step} in turn"),
                    &found,
                    &wanted[step + 1],
                );
            }
        }
    }
}

/// Looks at one value of each token, which keeps a pass from being fused or captured.
struct Watcher(usize);

impl Tap for Watcher {
    fn wants(&self, site: Site) -> bool {
        site == Site::model(Probe::FinalHidden)
    }

    fn record(&mut self, _site: Site, _value: ArrayViewD<'_, f32>) {
        self.0 += 1;
    }
}

/// Tokens of each way to write on.
const WRITTEN: usize = 40;

/// The most likely tokens after a text: chosen where the scores are, and never looked at.
fn write_blindly(session: &mut dyn Session, ids: &[u32]) -> Vec<u32> {
    session.prefill(ids, &mut ()).unwrap();
    let (mut sampler, greedy) = (Sampler::default(), Sampling::greedy());
    let mut step = |_| {
        let id = session.pick(&mut sampler, &[], &greedy, 0).unwrap();
        session.step(id, &mut ()).unwrap();
        id
    };
    (0..WRITTEN).map(&mut step).collect()
}

/// The same from scores that are fetched, by passes that someone watches.
fn write_watched(session: &mut dyn Session, ids: &[u32]) -> Vec<u32> {
    session.prefill(ids, &mut ()).unwrap();
    let mut tap = Watcher(0);
    let mut step = |_| {
        let id = argmax(session.logits().unwrap());
        session.step(id, &mut tap).unwrap();
        id
    };
    let written = (0..WRITTEN).map(&mut step).collect();
    assert_eq!(tap.0, WRITTEN);
    written
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_captured_pass_writes_what_a_watched_one_does() {
    for model in crate::compare::quartet() {
        // Behind this many, the two best scores are nowhere nearer than 0.018: rounding decides no token.
        let ids = some_ids(&model, 31);
        let wanted = write_blindly(
            &mut *FastBackend::new(2).unwrap().open(&model).unwrap(),
            &ids,
        );
        for mut backend in cuda() {
            let blind = write_blindly(&mut *backend.open(&model).unwrap(), &ids);
            assert_eq!(blind, wanted, "{}", model.name);
            let watched = write_watched(&mut *backend.open(&model).unwrap(), &ids);
            assert_eq!(watched, wanted, "{}", model.name);
        }
    }
}

/// A cache has room for 256 tokens at first. It moves in the middle of captured passes, then in a chunk.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_cache_that_moves_keeps_what_it_held() {
    for model in ["jamba-tiny", "llama-tiny"].map(load) {
        let ids = some_ids(&model, 700);
        let read = |backend: &mut dyn Backend| {
            let mut session = backend.open(&model).unwrap();
            session.prefill(&ids[..240], &mut ()).unwrap();
            let mut all = vec![scores(&mut *session)];
            for &id in &ids[240..280] {
                session.step(id, &mut ()).unwrap();
                all.push(scores(&mut *session));
            }
            session.prefill(&ids[280..], &mut ()).unwrap();
            all.push(scores(&mut *session));
            all
        };
        let wanted = read(&mut FastBackend::new(2).unwrap());
        for mut backend in cuda() {
            let found = read(&mut *backend);
            for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                agree(&format!("{}, {i}", model.name), found, wanted);
            }
            let mut session = backend.open(&model).unwrap();
            session.prefill(&ids, &mut ()).unwrap();
            let whole = scores(&mut *session);
            agree(&model.name, &whole, &wanted[wanted.len() - 1]);
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_text_longer_than_a_chunk_is_read_in_several() {
    for model in ["mamba1-tiny", "mamba2-tiny", "jamba-tiny"].map(load) {
        let ids = some_ids(&model, 5000);
        for mut backend in cuda() {
            let mut read = |chunk| {
                let mut session = backend.open(&model).unwrap();
                for part in ids.chunks(chunk) {
                    session.prefill(part, &mut ()).unwrap();
                }
                assert_eq!(session.state().unwrap().position, ids.len());
                scores(&mut *session)
            };
            agree(&model.name, &read(ids.len()), &read(128));
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn sessions_side_by_side_do_not_meet() {
    let write = |session: &mut dyn Session, ids: &[u32]| {
        let ids = [ids.to_vec(), write_blindly(session, ids)].concat();
        (ids, session.logits().unwrap().to_vec())
    };
    let (name, config) = WIDE[0];
    let in_one_launch = Arc::new(synthetic(name, config, Dtype::Bf16, 5).unwrap());
    for model in [embedded(), load("jamba-tiny"), in_one_launch] {
        let ids = some_ids(&model, 200);
        let texts = [&ids[..], &ids[50..]];
        let mut backend = CudaBackend::default();
        let alone = texts.map(|ids| write(&mut *backend.open(&model).unwrap(), ids));
        for _ in 0..4 {
            let barrier = Barrier::new(texts.len());
            let sessions = texts.map(|ids| (backend.open(&model).unwrap(), ids));
            let together = std::thread::scope(|scope| {
                let threads = sessions.map(|(mut session, ids)| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        barrier.wait();
                        write(&mut *session, ids)
                    })
                });
                threads.map(|thread| thread.join().unwrap())
            });
            assert!(together == alone, "{}", model.name);
        }
    }
}

/// Other parts of the program load kernels, and start and end cuBLAS, for which the driver waits for the device; that ends
/// recordings of a token's pass, and is refused during one. Neither may show.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn what_ends_a_recording_ends_no_text() {
    let model = load("mamba1-tiny");
    let ids = some_ids(&model, 5);
    let mut backend = CudaBackend::default();
    // One pass that is not recorded, one that is, and one of the recording.
    let mut write = || {
        let mut session = backend.open(&model).unwrap();
        session.prefill(&ids, &mut ()).unwrap();
        for _ in 0..3 {
            let id = argmax(session.logits().unwrap());
            session.step(id, &mut ()).unwrap();
        }
        session.logits().unwrap().to_vec()
    };
    let wanted = write();
    // Each loads its kernels anew, and starts and ends cuBLAS.
    let (name, config) = WIDE[0];
    let large = Arc::new(synthetic(name, config, Dtype::Bf16, 5).unwrap());
    let many = some_ids(&large, 200);
    let products = {
        let mut alone = CudaBackend::default();
        let mut session = alone.open(&large).unwrap();
        session.prefill(&many, &mut ()).unwrap();
        let mut notes = alone.notes().into_iter();
        notes.find(|note| note.contains("large products"))
    };
    assert!(products.is_some());
    let start = || {
        for _ in 0..4 {
            let mut starting = CudaBackend::default();
            let mut session = starting.open(&large).unwrap();
            session.prefill(&many, &mut ()).unwrap();
            let notes = starting.notes();
            let found = notes.iter().find(|note| note.contains("large products"));
            assert_eq!(found, products.as_ref(), "{notes:?}");
        }
    };
    std::thread::scope(|scope| {
        let starting = [(); 8].map(|()| scope.spawn(start));
        while !starting.iter().all(|thread| thread.is_finished()) {
            assert!(write() == wanted);
        }
    });
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn what_cannot_be_read_is_refused_as_on_the_cpu() {
    for model in ["mamba1-odd", "llama-tiny"].map(load) {
        let vocab = model.config.vocab_size as u32;
        let refusals = |backend: &mut dyn Backend| -> Vec<BackendError> {
            let mut session = backend.open(&model).unwrap();
            let refused = [&[][..], &[vocab], &[1, 2, u32::MAX]].map(|ids| {
                let refused = session.prefill(ids, &mut ());
                refused.unwrap_err()
            });
            let step = session.step(vocab, &mut ()).unwrap_err();
            assert_eq!(session.state().unwrap(), State::zeros(&model.config));
            refused.into_iter().chain([step]).collect()
        };
        let wanted = refusals(&mut FastBackend::new(1).unwrap());
        for mut backend in cuda() {
            assert_eq!(refusals(&mut *backend), wanted);
        }
    }
}

/// A model of so few channels that its chunks are scanned in one launch, from the state the chunk before left.
#[test]
#[ignore = "needs an NVIDIA GPU"]
fn chunks_in_one_launch_give_the_scores_of_the_cpu() {
    let config = r#"{"model_type": "mamba", "hidden_size": 64, "num_hidden_layers": 3, "state_size": 16, "vocab_size": 301}"#;
    let model = Arc::new(synthetic("narrow", config, Dtype::F32, 7).unwrap());
    let ids = some_ids(&model, 1500);
    let mut exact = FastBackend::new(2).unwrap();
    let wanted = read_and_step(&mut exact, &model, &ids, ids.len());
    for (rung, mut backend) in cuda().into_iter().enumerate() {
        for chunk in [300, 401, ids.len()] {
            let found = read_and_step(&mut *backend, &model, &ids, chunk);
            for (step, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
                agree(
                    &format!("({rung}) in chunks of {chunk}, step {step}"),
                    found,
                    wanted,
                );
            }
        }
    }
}
