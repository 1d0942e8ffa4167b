//! Hugging Face's numbers, from every backend: logits, every recorded stage, states, greedy text.

use std::ops::ControlFlow;
use std::sync::Arc;

use mambascope_core::backend::{Backend, NaiveBackend, Precision, prefill_in_chunks};
use mambascope_core::generate::{Sampling, generate};
use mambascope_core::model::{
    FeedForwardDims, InnerNorm, Mamba2Dims, Mamba2Mixer, MambaDims, MambaMixer, Mixer, MixerDims,
    Model,
};
use mambascope_core::parity::LOGITS_TOLERANCE;
use mambascope_core::state::LayerState;
use mambascope_core::tensor::Tensor;
use mambascope_core::trace::{DEFAULT_BUDGET, Probe, Site, Trace, TracePlan, TraceTap};
use ndarray::{ArrayD, Axis};

use crate::support::{
    Arrays, Backends, Tolerance, assert_close, compare, fixture, load, on_every_backend,
};

on_every_backend!(
    every_stage_agrees_with_the_references,
    greedy_text_and_the_states_after_it,
    the_gate_sees_known_mistakes,
    a_model_with_limits_is_read_as_the_reference_reads_it,
    the_gate_sees_mistakes_in_mamba_2,
    the_gate_sees_mistakes_in_the_inner_norms,
    the_gate_sees_mistakes_in_experts_and_attention,
);

const LOGITS: Tolerance = Tolerance::Absolute(LOGITS_TOLERANCE);
const LAYERS: Tolerance = Tolerance::OfLargest(1e-4);

/// One of every family, and two with sizes that nothing divides.
pub const FIXTURES: [&str; 7] = [
    "mamba1-tiny",
    "mamba1-odd",
    "mamba2-tiny",
    "mamba2-groups",
    "falcon-mamba-tiny",
    "jamba-tiny",
    "llama-tiny",
];

fn ids(row: &ArrayD<f64>) -> Vec<u32> {
    row.iter().map(|&id| id as u32).collect()
}

/// One text of a batch: the expected arrays without their batch axis.
struct Case {
    model: Arc<Model>,
    expected: Arrays,
    batch: usize,
}

impl Case {
    fn all() -> Vec<Case> {
        let mut cases = Vec::new();
        for name in FIXTURES {
            let expected = || Arrays::read(fixture(name).join("expected.safetensors"));
            for batch in 0..expected().get("input_ids").len_of(Axis(0)) {
                cases.push(Case {
                    model: load(name),
                    expected: expected(),
                    batch,
                });
            }
        }
        assert_eq!(
            cases.len(),
            12,
            "two texts of the tiny ones, one of the odd ones"
        );
        cases
    }

    fn get(&self, name: &str) -> ArrayD<f64> {
        self.expected
            .get(name)
            .index_axis(Axis(0), self.batch)
            .to_owned()
    }

    fn prompt(&self) -> Vec<u32> {
        ids(&self.get("input_ids"))
    }

    /// The whole prompt through `backend`, everything recorded.
    fn run(
        &self,
        backend: &mut dyn Backend,
        chunk: usize,
    ) -> (Trace, mambascope_core::state::State) {
        let prompt = self.prompt();
        let plan = TracePlan {
            layers: (0..self.model.config.n_layers()).collect(),
            probes: Probe::ALL.to_vec(),
            tokens: prompt.len(),
            budget: DEFAULT_BUDGET,
        };
        let mut tap = TraceTap::new(&plan, &self.model.config).unwrap();
        let mut session = backend.open(&self.model).unwrap();
        prefill_in_chunks(&mut *session, &prompt, chunk, &mut tap, &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap();
        (tap.finish(), session.state().unwrap())
    }

    fn check(&self, what: &str, trace: &Trace, state: &mambascope_core::state::State) {
        let value = |site: Site| trace.get(site).unwrap().iter().copied();
        assert_close(
            what,
            value(Site::model(Probe::Logits)),
            &self.get("logits"),
            LOGITS,
        );
        assert_close(
            what,
            value(Site::model(Probe::FinalHidden)),
            &self.get("final_hidden"),
            LAYERS,
        );
        for (i, layer) in state.layers.iter().enumerate() {
            for site in STAGES.iter().map(|&probe| Site::layer(i, probe)) {
                if self.expected.values.contains_key(&site.name()) {
                    assert_close(
                        &format!("{what} {}", site.name()),
                        value(site),
                        &self.get(&site.name()),
                        LAYERS,
                    );
                }
            }
            self.check_state(what, i, layer, "");
            if let Some(state) = layer.recurrent() {
                let h = trace.get(Site::layer(i, Probe::H)).unwrap();
                let last = h.index_axis(Axis(0), h.len_of(Axis(0)) - 1);
                assert_eq!(
                    last.iter().collect::<Vec<_>>(),
                    state.ssm_dn.iter().collect::<Vec<_>>(),
                    "{what}: h and the state"
                );
            }
        }
    }

    /// What a layer remembers, against what was kept of it after the prompt or, with `suffix`, after the generated text.
    fn check_state(&self, what: &str, i: usize, layer: &LayerState, suffix: &str) {
        let check = |name: &str, found: Vec<f32>| {
            let name = format!("layers.{i}.{name}{suffix}");
            if suffix.is_empty() || self.expected.values.contains_key(&name) {
                assert_close(&format!("{what} {name}"), found, &self.get(&name), LAYERS);
            }
        };
        match layer {
            LayerState::Recurrent(state) => {
                check("conv_state", state.conv_dk.iter().copied().collect());
                check("ssm_state", state.ssm_dn.iter().copied().collect());
            }
            LayerState::Attention(cache) => {
                let heads = self.model.config.blocks[i]
                    .mixer
                    .attention()
                    .unwrap()
                    .kv_heads;
                for (name, rows) in [("k_cache", &cache.keys), ("v_cache", &cache.values)] {
                    let width = rows.ncols() / heads;
                    let by_head = (0..heads).flat_map(|head| {
                        let part = ndarray::s![.., head * width..(head + 1) * width];
                        rows.slice(part).iter().copied().collect::<Vec<_>>()
                    });
                    check(name, by_head.collect());
                }
            }
        }
    }
}

/// The stages of a block there are numbers of, where the fixture and the layer have them.
const STAGES: [Probe; 10] = [
    Probe::Delta,
    Probe::B,
    Probe::C,
    Probe::BlockOutput,
    Probe::ConvOut,
    Probe::ScanOut,
    Probe::GatedOut,
    Probe::MixerOutput,
    Probe::Attention,
    Probe::RouterLogits,
];

fn every_stage_agrees_with_the_references(backends: Backends) {
    for case in Case::all() {
        for mut backend in backends() {
            for chunk in [1, 7, 64, usize::MAX] {
                let (trace, state) = case.run(&mut *backend, chunk);
                case.check(
                    &format!(
                        "{} {} in chunks of {chunk}",
                        case.model.name,
                        backend.name()
                    ),
                    &trace,
                    &state,
                );
            }
        }
    }
}

#[test]
fn double_precision_agrees_too() {
    let mut backend = NaiveBackend {
        precision: Precision::Double,
    };
    for case in Case::all() {
        let (trace, state) = case.run(&mut backend, usize::MAX);
        case.check("f64", &trace, &state);
    }
}

fn greedy_text_and_the_states_after_it(backends: Backends) {
    for case in Case::all() {
        for mut backend in backends() {
            let mut session = backend.open(&case.model).unwrap();
            let mut history = case.prompt();
            session.prefill(&history, &mut ()).unwrap();
            let mut rows: Vec<f32> = session.logits().unwrap().to_vec();
            let wanted = ids(&case.get("gen_ids"));
            let written = history.len();
            // The fixtures' texts run on after an end-of-text id: 16 tokens, the last not read back.
            for _ in 0..wanted.len() {
                let before = history.len();
                generate(
                    &mut *session,
                    &mut history,
                    &Sampling::greedy(),
                    1,
                    &mut (),
                    &mut |_| ControlFlow::Continue(()),
                )
                .unwrap();
                assert_eq!(history.len(), before + 1);
                if history.len() < written + wanted.len() {
                    session.step(history[before], &mut ()).unwrap();
                    rows.extend_from_slice(session.logits().unwrap());
                }
            }
            assert_eq!(
                history[written..],
                wanted,
                "{} on {}",
                case.model.name,
                backend.name()
            );
            assert_close("gen_logits", rows, &case.get("gen_logits"), LOGITS);
            for (i, layer) in session.state().unwrap().layers.iter().enumerate() {
                case.check_state(backend.name(), i, layer, "_after_gen");
            }
        }
    }
}

/// The logits of a fixture from a model that was changed on purpose: whether the gate lets them pass, on every backend.
fn passes_after(backends: Backends, name: &str, change: impl Fn(&mut Model)) -> bool {
    let passes = |case: &Case| {
        let mut model = mambascope_core::checkpoint::load(
            &fixture(name),
            &mambascope_core::checkpoint::unhurried,
        )
        .unwrap();
        change(&mut model);
        let changed = Case {
            model: Arc::new(model),
            expected: Arrays::read(fixture(name).join("expected.safetensors")),
            batch: case.batch,
        };
        let wanted: Vec<f64> = case.get("logits").iter().copied().collect();
        let passed: Vec<bool> = backends()
            .iter_mut()
            .map(|backend| {
                let (trace, _) = changed.run(&mut **backend, usize::MAX);
                let logits = trace.get(Site::model(Probe::Logits)).unwrap();
                let found: Vec<f64> = logits.iter().map(|&x| x.into()).collect();
                compare(&found, &wanted, LOGITS).is_ok()
            })
            .collect();
        assert!(
            passed.iter().all(|&one| one == passed[0]),
            "{name}: backends disagree"
        );
        passed[0]
    };
    let mut cases = Case::all();
    cases.retain(|case| case.model.name == name);
    cases.iter().all(passes)
}

fn mamba2(model: &mut Model) -> impl Iterator<Item = (&mut Mamba2Dims, &mut Mamba2Mixer)> {
    let blocks = model.config.blocks.iter_mut().zip(&mut model.layers);
    blocks.filter_map(|(dims, layer)| match (&mut dims.mixer, &mut layer.mixer) {
        (MixerDims::Mamba2(dims), Mixer::Mamba2(weights)) => Some((dims, &mut **weights)),
        _ => None,
    })
}

fn mamba(model: &mut Model) -> impl Iterator<Item = (&mut MambaDims, &mut MambaMixer)> {
    let blocks = model.config.blocks.iter_mut().zip(&mut model.layers);
    blocks.filter_map(|(dims, layer)| match (&mut dims.mixer, &mut layer.mixer) {
        (MixerDims::Mamba(dims), Mixer::Mamba(weights)) => Some((dims, &mut **weights)),
        _ => None,
    })
}

fn the_gate_sees_known_mistakes(backends: Backends) {
    for name in FIXTURES {
        assert!(passes_after(backends, name, |_| ()), "{name} unchanged");
    }
    // The weakest mistake there is: how far it shows depends on how small a model's activations are.
    for name in ["mamba1-tiny", "mamba1-odd"] {
        let eps = |model: &mut Model| model.config.norm_eps = 1e-6;
        assert!(
            !passes_after(backends, name, eps),
            "ε 1e-6 for 1e-5 in {name}"
        );
    }
    for name in FIXTURES {
        let eps = |model: &mut Model| model.config.norm_eps = 1e-3;
        assert!(!passes_after(backends, name, eps), "ε 1e-3 in {name}");
    }
    assert!(
        !passes_after(backends, "mamba1-tiny", swap_b_and_c),
        "B and C swapped"
    );
}

/// Full forwards with finite limits of Δ: a prefill of any chunks, and a text read back token by token as it is given.
fn a_model_with_limits_is_read_as_the_reference_reads_it(backends: Backends) {
    let case = Case {
        model: load("mamba2-limits"),
        expected: Arrays::read(fixture("mamba2-limits").join("expected.safetensors")),
        batch: 0,
    };
    for mut backend in backends() {
        for chunk in [1, 5, 64] {
            let (trace, _) = case.run(&mut *backend, chunk);
            let logits = trace.get(Site::model(Probe::Logits)).unwrap();
            assert_close(
                "logits",
                logits.iter().copied(),
                &case.get("logits"),
                LOGITS,
            );
        }
        let mut session = backend.open(&case.model).unwrap();
        session.prefill(&case.prompt(), &mut ()).unwrap();
        let (mut rows, mut written) = (Vec::new(), Vec::new());
        for _ in 0..16 {
            rows.extend_from_slice(session.logits().unwrap());
            written.push(mambascope_core::generate::argmax(session.logits().unwrap()));
            session
                .prefill(&written[written.len() - 1..], &mut ())
                .unwrap();
        }
        assert_eq!(written, ids(&case.get("gen_ids")));
        assert_close("gen_logits", rows, &case.get("gen_logits"), LOGITS);
    }
}

fn the_gate_sees_mistakes_in_mamba_2(backends: Backends) {
    let limit = |model: &mut Model| mamba2(model).for_each(|(dims, _)| dims.dt_limit = (0.05, 0.5));
    assert!(
        !passes_after(backends, "mamba2-tiny", limit),
        "a limit of Δ where there is none"
    );
    let skip = |model: &mut Model| {
        for (_, weights) in mamba2(model) {
            let zeros = vec![0.0; weights.d_skip.len()];
            weights.d_skip = Tensor::from_f32(vec![zeros.len()], &zeros).unwrap();
        }
    };
    assert!(!passes_after(backends, "mamba2-tiny", skip), "no skip");
    let chunk = |model: &mut Model| mamba2(model).for_each(|(dims, _)| dims.chunk = 5);
    assert!(
        passes_after(backends, "mamba2-groups", chunk),
        "another chunk is the same"
    );
}

fn the_gate_sees_mistakes_in_the_inner_norms(backends: Backends) {
    let none = |model: &mut Model| mamba(model).for_each(|(dims, _)| dims.inner_norm = None);
    for name in ["falcon-mamba-tiny", "jamba-tiny"] {
        assert!(
            !passes_after(backends, name, none),
            "{name} without inner norms"
        );
    }
    let eps = |model: &mut Model| {
        for (dims, _) in mamba(model) {
            dims.inner_norm = dims.inner_norm.map(|norm| InnerNorm { eps: 1e-2, ..norm });
        }
    };
    assert!(
        !passes_after(backends, "falcon-mamba-tiny", eps),
        "ε of the inner norms"
    );
    let plain =
        |model: &mut Model| mamba(model).for_each(|(_, weights)| weights.inner_norms = None);
    assert!(
        !passes_after(backends, "jamba-tiny", plain),
        "Jamba's inner norms without weights"
    );
}

fn the_gate_sees_mistakes_in_experts_and_attention(backends: Backends) {
    let top = |top: usize| {
        move |model: &mut Model| {
            for block in &mut model.config.blocks {
                if let Some(FeedForwardDims::Experts { top: chosen, .. }) = &mut block.feed_forward
                {
                    *chosen = top;
                }
            }
        }
    };
    assert!(passes_after(backends, "jamba-tiny", top(2)));
    assert!(
        !passes_after(backends, "jamba-tiny", top(1)),
        "one expert for two"
    );
    let rotated = |model: &mut Model| {
        for block in &mut model.config.blocks {
            if let MixerDims::Attention(dims) = &mut block.mixer {
                dims.rope_theta = Some(10_000.0);
            }
        }
    };
    assert!(
        !passes_after(backends, "jamba-tiny", rotated),
        "positions where Jamba has none"
    );
    let unrotated = |model: &mut Model| {
        for block in &mut model.config.blocks {
            if let MixerDims::Attention(dims) = &mut block.mixer {
                dims.rope_theta = None;
            }
        }
    };
    assert!(
        !passes_after(backends, "llama-tiny", unrotated),
        "no positions"
    );
    // With as many groups of queries, but in turns: head q reads q mod groups instead of q / (heads / groups).
    let tiled = |model: &mut Model| {
        for layer in &mut model.layers {
            if let Mixer::Attention(weights) = &mut layer.mixer {
                let width = weights.q_proj.shape()[1];
                let heads: Vec<&[f32]> = weights.q_proj.as_f32().chunks(16 * width).collect();
                let order = [0, 2, 1, 3].map(|head| heads[head]).concat();
                weights.q_proj = Tensor::from_f32(weights.q_proj.shape().to_vec(), &order).unwrap();
            }
        }
    };
    assert!(
        !passes_after(backends, "llama-tiny", tiled),
        "queries in another order"
    );
}

/// Exchanges the rows of x_proj that make B with those that make C.
fn swap_b_and_c(model: &mut Model) {
    for (dims, weights) in mamba(model) {
        let rows: Vec<&[f32]> = weights.x_proj.as_f32().chunks(dims.d_inner).collect();
        let (dt, bc) = rows.split_at(dims.dt_rank);
        let (b, c) = bc.split_at(dims.d_state);
        let swapped: Vec<f32> = [dt, c, b].concat().concat();
        weights.x_proj = Tensor::from_f32(weights.x_proj.shape().to_vec(), &swapped).unwrap();
    }
}
