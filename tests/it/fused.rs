//! Experts in two tensors, as transformers 5 holds them, in one file and in shards.

use std::collections::BTreeMap;
use std::fs;

use mambascope_core::backend::{Backend, FastBackend};
use mambascope_core::checkpoint;
use safetensors::SafeTensors;
use serde_json::json;

use crate::support::fixture;
use crate::tiny::{Part, weights_of};

fn parts(name: &str) -> BTreeMap<String, Part> {
    let bytes = fs::read(fixture(name).join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let part = |view: safetensors::tensor::TensorView<'_>| Part {
        dtype: "F32",
        shape: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    };
    file.tensors()
        .into_iter()
        .map(|(name, view)| (name, part(view)))
        .collect()
}

/// jamba-tiny with the experts of layers 1 and 3 fused: gate rows, then up rows, of each.
fn fused() -> BTreeMap<String, Part> {
    let mut all = parts("jamba-tiny");
    for layer in [1, 3] {
        let experts = format!("model.layers.{layer}.feed_forward.experts");
        let mut take = |expert: usize, part: &str| {
            all.remove(&format!("{experts}.{expert}.{part}_proj.weight"))
                .unwrap()
                .bytes
        };
        let (mut gate_up, mut down) = (Vec::new(), Vec::new());
        for expert in 0..4 {
            gate_up.extend(take(expert, "gate"));
            gate_up.extend(take(expert, "up"));
            down.extend(take(expert, "down"));
        }
        let part = |shape: [usize; 3], bytes| Part {
            dtype: "F32",
            shape: shape.to_vec(),
            bytes,
        };
        all.insert(
            format!("{experts}.gate_up_proj"),
            part([4, 64, 32], gate_up),
        );
        all.insert(format!("{experts}.down_proj"), part([4, 32, 32], down));
    }
    all
}

fn logits(folder: &std::path::Path) -> Vec<f32> {
    let model = std::sync::Arc::new(checkpoint::load(folder, &checkpoint::unhurried).unwrap());
    assert_eq!(
        model.warnings.len(),
        1,
        "no tokenizer, and nothing else: {:?}",
        model.warnings
    );
    let mut session = FastBackend::new(1).unwrap().open(&model).unwrap();
    session.prefill(&[5, 17, 3, 90, 41, 8], &mut ()).unwrap();
    session.logits().unwrap().to_vec()
}

#[test]
fn fused_experts_are_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(
        fixture("jamba-tiny").join("config.json"),
        folder.path().join("config.json"),
    )
    .unwrap();
    fs::write(
        folder.path().join("model.safetensors"),
        weights_of(&fused()),
    )
    .unwrap();
    let wanted = logits(&fixture("jamba-tiny"));
    assert_eq!(logits(folder.path()), wanted);

    // The same in shards, a tensor a file.
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let mut map = BTreeMap::new();
    for (i, (name, part)) in fused().into_iter().enumerate() {
        let file = format!("model-{i:05}.safetensors");
        let one = BTreeMap::from([(name.clone(), part)]);
        fs::write(folder.path().join(&file), weights_of(&one)).unwrap();
        map.insert(name, file);
    }
    let index = json!({"metadata": {"total_size": 0}, "weight_map": map});
    fs::write(
        folder.path().join("model.safetensors.index.json"),
        index.to_string(),
    )
    .unwrap();
    assert_eq!(logits(folder.path()), wanted);
}

#[test]
fn a_fused_tensor_of_another_shape_is_named_once() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(
        fixture("jamba-tiny").join("config.json"),
        folder.path().join("config.json"),
    )
    .unwrap();
    let mut all = fused();
    let name = "model.layers.1.feed_forward.experts.gate_up_proj";
    all.get_mut(name).unwrap().shape = vec![4, 32, 64];
    fs::write(folder.path().join("model.safetensors"), weights_of(&all)).unwrap();
    let error = checkpoint::load(folder.path(), &checkpoint::unhurried)
        .unwrap_err()
        .to_string();
    let wanted = format!("{name} has shape [4, 32, 64], wanted [4, 64, 32]");
    assert_eq!(error.matches(&wanted).count(), 1, "{error}");
}
