//! A checkpoint of a few kilobytes, built in memory, to take apart and put together wrongly.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mambascope_core::checkpoint::{LoadError, load_bytes};
use mambascope_core::model::{Config, Model};
use mambascope_core::tensor::Bytes;
use serde_json::{Map, Value, json};

/// A folder of `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

/// A tensor as a weight file holds it.
#[derive(Clone)]
pub struct Part {
    pub dtype: &'static str,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Part {
    pub fn f32(shape: &[usize], values: impl IntoIterator<Item = f32>) -> Self {
        let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
        Self {
            dtype: "F32",
            shape: shape.into(),
            bytes,
        }
    }

    /// All elements the same.
    pub fn constant(shape: &[usize], value: f32) -> Self {
        Self::f32(shape, std::iter::repeat_n(value, shape.iter().product()))
    }

    /// All elements the same two bytes.
    pub fn half(dtype: &'static str, shape: &[usize], bits: u16) -> Self {
        let bytes = bits.to_le_bytes().repeat(shape.iter().product());
        Self {
            dtype,
            shape: shape.into(),
            bytes,
        }
    }
}

/// Width 8, one block, 16 tokens, tied.
#[derive(Clone)]
pub struct Tiny {
    pub config: Value,
    pub parts: BTreeMap<String, Part>,
}

impl Tiny {
    pub fn new() -> Self {
        let config = json!({
            "model_type": "mamba", "architectures": ["MambaForCausalLM"], "vocab_size": 16, "hidden_size": 8,
            "num_hidden_layers": 1, "state_size": 4, "conv_kernel": 3, "expand": 2, "intermediate_size": 16,
            "time_step_rank": 2, "layer_norm_epsilon": 1e-5, "use_bias": false, "use_conv_bias": true,
            "hidden_act": "silu", "eos_token_id": 0, "tie_word_embeddings": true, "time_step_limit": [0.0, 1.0],
        });
        let mut tiny = Self {
            config,
            parts: BTreeMap::new(),
        };
        let parsed = Config::from_json(&tiny.config.to_string()).unwrap();
        let entry = parsed.family.entry();
        for (i, spec) in entry.tensors(&parsed).into_iter().enumerate() {
            if spec.name != entry.head_name() {
                let count = spec.shape.iter().product::<usize>();
                let values = (0..count).map(|j| ((i * 31 + j * 7) % 19) as f32 * 0.05 - 0.45);
                tiny.parts.insert(spec.name, Part::f32(&spec.shape, values));
            }
        }
        tiny
    }

    pub fn set(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    pub fn with(mut self, name: &str, part: Part) -> Self {
        self.parts.insert(name.into(), part);
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        assert!(self.parts.remove(name).is_some(), "{name}");
        self
    }

    /// The bytes of its `model.safetensors`.
    pub fn weights(&self) -> Vec<u8> {
        weights_of(&self.parts)
    }

    pub fn load(&self) -> Result<Model, LoadError> {
        load(&self.config.to_string(), &self.weights(), None)
    }

    /// Writes `config.json` and `model.safetensors`.
    pub fn write(&self, folder: &Path) {
        std::fs::write(folder.join("config.json"), self.config.to_string()).unwrap();
        std::fs::write(folder.join("model.safetensors"), self.weights()).unwrap();
    }
}

pub fn load(config: &str, weights: &[u8], tokenizer: Option<&str>) -> Result<Model, LoadError> {
    load_bytes(
        "tiny",
        config,
        Bytes::Owned(Arc::from(weights)),
        tokenizer,
        None,
    )
}

/// A weight file of these tensors.
pub fn weights_of(parts: &BTreeMap<String, Part>) -> Vec<u8> {
    let mut header = Map::new();
    let mut data = Vec::new();
    for (name, part) in parts {
        let start = data.len();
        data.extend_from_slice(&part.bytes);
        let entry =
            json!({"dtype": part.dtype, "shape": part.shape, "data_offsets": [start, data.len()]});
        header.insert(name.clone(), entry);
    }
    file_of(&Value::Object(header).to_string(), &data)
}

/// A weight file with any header and any data.
pub fn file_of(header: &str, data: &[u8]) -> Vec<u8> {
    let mut header = header.to_owned();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}

/// A byte-level tokenizer of the letters a to z and the space, with the first ids, and `extra` tokens more.
pub fn tokenizer_json(extra: &[(&str, u32)]) -> String {
    let mut vocab: Map<String, Value> = ('a'..='h')
        .zip(0..)
        .map(|(c, id)| (c.to_string(), json!(id)))
        .collect();
    vocab.extend(
        extra
            .iter()
            .map(|&(token, id)| (token.to_owned(), json!(id))),
    );
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    })
    .to_string()
}

/// Asserts that loading failed and that the message names all of `needles`.
#[track_caller]
pub fn assert_says(result: Result<Model, LoadError>, needles: &[&str]) {
    let message = result.map(|model| model.name).unwrap_err().to_string();
    for needle in needles {
        assert!(message.contains(needle), "{needle:?} is not in: {message}");
    }
}
