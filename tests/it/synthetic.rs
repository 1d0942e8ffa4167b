//! Models of random weights: of the published sizes, the same for the same seed, and fit to run on every backend.

use std::fs;
use std::sync::Arc;

use mambascope_core::backend::Session;
use mambascope_core::checkpoint::{SYNTHETIC, Synthetic, synthetic};
use mambascope_core::model::{Mixer, MixerDims, Model};
use mambascope_core::scan::softplus;
use mambascope_core::tensor::{Dtype, Tensor};

use crate::support::{Tolerance, backends, compare, fixture, parameters};

const FAMILIES: [&str; 5] = [
    "mamba1-odd",
    "mamba2-groups",
    "falcon-mamba-tiny",
    "jamba-tiny",
    "llama-tiny",
];

/// Random weights for the configuration of a fixture.
pub fn of_fixture(name: &str, dtype: Dtype, seed: u64) -> Model {
    let config = fs::read_to_string(fixture(name).join("config.json")).unwrap();
    let model = synthetic(name, &config, dtype, seed).unwrap();
    assert!(model.warnings.is_empty(), "{:?}", model.warnings);
    model
}

fn values(model: &Model) -> Vec<f32> {
    model.tensors().flat_map(Tensor::iter_f32).collect()
}

#[test]
fn shapes_are_those_that_were_published() {
    for (shape, wanted) in SYNTHETIC
        .iter()
        .zip([129_135_360, 371_516_416, 128_989_632])
    {
        let config = shape.config().unwrap();
        assert_eq!(parameters(&config), wanted, "{}", shape.name);
        assert!(config.tied);
    }
    let dims = |name: &str| Synthetic::named(name).unwrap().config().unwrap().blocks[0].mixer;
    let MixerDims::Mamba(mamba) = dims("mamba-130m") else {
        panic!("{:?}", dims("mamba-130m"));
    };
    assert_eq!(
        (mamba.d_inner, mamba.d_state, mamba.d_conv, mamba.dt_rank),
        (1536, 16, 4, 48)
    );
    let MixerDims::Mamba2(mamba2) = dims("mamba2-130m") else {
        panic!("{:?}", dims("mamba2-130m"));
    };
    assert_eq!(
        (
            mamba2.heads,
            mamba2.head_dim,
            mamba2.d_state,
            mamba2.groups,
            mamba2.chunk
        ),
        (24, 64, 128, 1, 256)
    );
    assert!(Synthetic::named("mamba-7b").is_none());
}

#[test]
fn a_seed_decides_the_weights() {
    for name in FAMILIES {
        let of = |dtype, seed| of_fixture(name, dtype, seed);
        let first = values(&of(Dtype::F32, 3));
        assert_eq!(values(&of(Dtype::F32, 3)), first, "{name}");
        assert_ne!(values(&of(Dtype::F32, 4)), first, "{name}");
        // In another format the same numbers, rounded.
        for (dtype, rounding) in [(Dtype::Bf16, 1.0 / 256.0), (Dtype::F16, 1.0 / 1024.0)] {
            let model = of(dtype, 3);
            assert_eq!(model.dtypes(), [dtype, Dtype::F32], "{name}");
            let rounded = values(&model);
            assert_ne!(rounded, first);
            assert!(
                rounded
                    .iter()
                    .zip(&first)
                    .all(|(r, x)| (r - x).abs() <= rounding * x.abs().max(1e-4))
            );
        }
    }
}

#[test]
fn the_dynamics_are_those_training_starts_from() {
    let check_steps = |bias: &Tensor| {
        assert_eq!(bias.dtype(), Dtype::F32);
        let steps: Vec<f32> = bias.iter_f32().map(softplus).collect();
        assert!(
            steps.iter().all(|step| (0.000_99..0.101).contains(step)),
            "{steps:?}"
        );
        assert!(steps.iter().any(|&step| step < 0.01) && steps.iter().any(|&step| step > 0.01));
    };
    for name in ["mamba1-odd", "mamba2-groups"] {
        for layer in of_fixture(name, Dtype::Bf16, 1).layers {
            match layer.mixer {
                Mixer::Mamba(mixer) => {
                    assert_eq!(mixer.a_log.dtype(), Dtype::F32);
                    for slots in mixer.a_nd().t().outer_iter() {
                        for (n, a) in slots.iter().enumerate() {
                            assert!((a + (n + 1) as f32).abs() < 1e-4, "{slots}");
                        }
                    }
                    check_steps(&mixer.dt_bias);
                }
                Mixer::Mamba2(mixer) => {
                    assert!(mixer.a_h().iter().all(|a| (-16.001..-0.999).contains(a)));
                    check_steps(&mixer.dt_bias);
                }
                Mixer::Attention(_) => panic!("{name} has no attention"),
            }
        }
    }
}

#[test]
fn backends_agree_on_random_weights() {
    let ids: Vec<u32> = (0..70).map(|i| (i * i + 3 * i) % 61).collect();
    for name in FAMILIES {
        let model = Arc::new(of_fixture(name, Dtype::F32, 7));
        let scores: Vec<Vec<f64>> = backends()
            .iter_mut()
            .map(|backend| {
                let mut session: Box<dyn Session> = backend.open(&model).unwrap();
                session.prefill(&ids, &mut ()).unwrap();
                session.step(5, &mut ()).unwrap();
                let logits = session.logits().unwrap();
                logits.iter().map(|&x| x.into()).collect()
            })
            .collect();
        let spread = scores[0].iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        assert!((1e-3..100.0).contains(&spread), "{name}: {spread}");
        for found in &scores[1..] {
            compare(found, &scores[0], Tolerance::Absolute(2e-4))
                .unwrap_or_else(|why| panic!("{name}: {why}"));
        }
    }
}

#[test]
fn a_configuration_that_cannot_be_used_is_said() {
    let error = synthetic("x", r#"{"model_type": "rwkv"}"#, Dtype::F32, 0)
        .unwrap_err()
        .to_string();
    assert!(error.contains("not supported yet: rwkv"), "{error}");
}
