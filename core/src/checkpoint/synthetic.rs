//! Models of random weights, for measurements that must not wait for a download: shapes as published, values on the scales training
//! starts from, so that activations stay finite and Δ has the spread a scan meets.
//!
//! A shape is a `config.json`; which tensors there are, and their axes, the table of families says. The weights then pass every check a
//! file's would.

use std::collections::BTreeMap;

use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype as StoredDtype;

use super::assemble::{Ingredients, Stored, assemble};
use super::error::LoadError;
use super::{CONFIG, WEIGHTS, read_config, unhurried};
use crate::model::{Config, Model, Source, TensorSpec};
use crate::noise::Noise;
use crate::tensor::{Bytes, Dtype, quantize};

/// A published shape.
pub struct Synthetic {
    /// Its name, on the command line.
    pub name: &'static str,
    config: &'static str,
}

/// The shapes there are, by the configurations state-spaces published, in the format of the original code.
pub static SYNTHETIC: [Synthetic; 3] = [
    Synthetic {
        name: "mamba-130m",
        config: r#"{"d_model": 768, "n_layer": 24, "vocab_size": 50277, "pad_vocab_size_multiple": 8, "ssm_cfg": {},
            "rms_norm": true, "residual_in_fp32": true, "fused_add_norm": true}"#,
    },
    Synthetic {
        name: "mamba-370m",
        config: r#"{"d_model": 1024, "n_layer": 48, "vocab_size": 50277, "pad_vocab_size_multiple": 8, "ssm_cfg": {},
            "rms_norm": true, "residual_in_fp32": true, "fused_add_norm": true}"#,
    },
    Synthetic {
        name: "mamba2-130m",
        config: r#"{"d_model": 768, "d_intermediate": 0, "n_layer": 24, "vocab_size": 50277, "pad_vocab_size_multiple": 16,
            "ssm_cfg": {"layer": "Mamba2"}, "attn_layer_idx": [], "attn_cfg": {}, "rms_norm": true, "residual_in_fp32": true,
            "fused_add_norm": true, "tie_embeddings": true}"#,
    },
];

impl Synthetic {
    /// The one of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        SYNTHETIC.iter().find(|shape| shape.name == name)
    }

    /// A model of this shape, as [`synthetic`] makes it.
    ///
    /// # Errors
    /// None, unless the program was built with a damaged configuration; a test reads them all.
    pub fn load(&self, dtype: Dtype, seed: u64) -> Result<Model, LoadError> {
        let name = format!("{} of random weights", self.name);
        synthetic(&name, self.config, dtype, seed)
    }

    /// The sizes of this shape.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn config(&self) -> Result<Config, LoadError> {
        read_config(self.config, CONFIG)
    }
}

/// A model of a `config.json` and random weights: matrices in `dtype`, the rest (`A_log`, D, biases, norms) in f32. The same seed gives
/// the same weights, but for the rounding of `dtype`. The weights are allocated: a size that memory has no room for ends the program.
///
/// # Errors
/// When the configuration cannot be used.
pub fn synthetic(
    name: &str,
    config_json: &str,
    dtype: Dtype,
    seed: u64,
) -> Result<Model, LoadError> {
    let config = read_config(config_json, CONFIG)?;
    let entry = config.family.entry();
    let specs = entry.tensors(&config).into_iter();
    let parts: Vec<Part> = specs
        .filter(|spec| !(config.tied && spec.name == entry.head_name()))
        .map(|spec| {
            let is_matrix = spec.shape.len() > 1 && !spec.name.ends_with("A_log");
            let dtype = match dtype {
                _ if !is_matrix => Dtype::F32,
                // The convolution, and a matrix whose rows are no whole words.
                Dtype::Int8 if dtype.bytes_of(&spec.shape).is_none() => Dtype::F32,
                dtype => dtype,
            };
            let values = Values::of(&spec, &config);
            Part {
                spec,
                dtype,
                values,
            }
        })
        .collect();
    let lens: Vec<usize> = parts.iter().map(Part::bytes).collect();
    let (bytes, ranges) = Bytes::together(&lens, |i, room| parts[i].write(seed, room));
    let stored: BTreeMap<String, Stored> = parts
        .into_iter()
        .zip(ranges)
        .map(|(part, range)| {
            let stored = Stored {
                bytes: bytes.clone(),
                dtype: stored_dtype(part.dtype),
                shape: part.spec.shape,
                range,
            };
            (part.spec.name, stored)
        })
        .collect();
    let ingredients = Ingredients {
        name: name.to_owned(),
        source: Source::Memory,
        bytes_on_disk: stored.values().map(|part| part.range.len() as u64).sum(),
        config,
        weights_name: WEIGHTS.into(),
        stored,
        tokenizer: None,
        card: None,
        warnings: Vec::new(),
    };
    assemble(ingredients, &unhurried)
}

/// How the values of a tensor come about.
#[derive(Clone, Copy, Debug)]
enum Values {
    /// Of mean 0 and this deviation.
    Normal(f32),
    /// Evenly spread up to this on both sides of 0.
    Uniform(f32),
    Ones,
    /// ln 1, ln 2, … along rows of so many slots: A = −1, −2, … (S4D's real initialisation, as in Mamba).
    LogSlots(usize),
    /// ln of what is evenly spread over 1 to 16, as in Mamba-2.
    LogUniform,
    /// What softplus turns into steps between 0.001 and 0.1, evenly spread in their logarithm.
    StepBias,
}

impl Values {
    /// The initialisation of the original code; where that leaves it to PyTorch, values of the same scale.
    fn of(spec: &TensorSpec, config: &Config) -> Self {
        let name = spec.name.as_str();
        let entry = config.family.entry();
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        let row = spec.shape.last().copied().unwrap_or(1);
        let spread = 1.0 / (row as f32).sqrt();
        if ends(&["A_log"]) {
            match spec.shape.len() {
                1 => Values::LogUniform,
                _ => Values::LogSlots(row),
            }
        } else if ends(&["dt_proj.bias", "dt_bias"]) {
            Values::StepBias
        } else if spec.shape.len() == 1 {
            // Norms and the skip, or a bias.
            if ends(&[".bias"]) {
                Values::Uniform(0.1)
            } else {
                Values::Ones
            }
        } else if name == entry.embedding_name() || name == entry.head_name() {
            Values::Normal(0.02)
        } else if ends(&["out_proj.weight"]) {
            // So many blocks add to the residual stream.
            Values::Normal(spread / (config.n_layers() as f32).sqrt())
        } else {
            Values::Normal(spread)
        }
    }

    /// Value `i`.
    fn at(self, i: usize, noise: &Noise) -> f32 {
        match self {
            Values::Normal(deviation) => deviation * noise.normal(i),
            Values::Uniform(limit) => limit * (2.0 * noise.uniform(i) - 1.0),
            Values::Ones => 1.0,
            Values::LogSlots(slots) => ((i % slots + 1) as f32).ln(),
            Values::LogUniform => (1.0 + 15.0 * noise.uniform(i)).ln(),
            Values::StepBias => noise.step_bias(i),
        }
    }
}

/// A tensor to be made.
struct Part {
    spec: TensorSpec,
    dtype: Dtype,
    values: Values,
}

impl Part {
    fn bytes(&self) -> usize {
        let elements: usize = self.spec.shape.iter().product();
        let plain = elements * self.dtype.size();
        self.dtype.bytes_of(&self.spec.shape).unwrap_or(plain)
    }

    /// Its values, little-endian.
    fn write(&self, seed: u64, room: &mut [u8]) {
        let noise = Noise::new(seed, &self.spec.name);
        let value = |i: usize| self.values.at(i, &noise);
        match self.dtype {
            Dtype::F32 => fill(room, |i| value(i).to_le_bytes()),
            Dtype::F16 => fill(room, |i| f16::from_f32(value(i)).to_le_bytes()),
            Dtype::Bf16 => fill(room, |i| bf16::from_f32(value(i)).to_le_bytes()),
            Dtype::F64 => fill(room, |i| f64::from(value(i)).to_le_bytes()),
            Dtype::Int8 => fill_int8(room, &self.spec.shape, value),
        }
    }
}

fn stored_dtype(dtype: Dtype) -> StoredDtype {
    match dtype {
        Dtype::F32 => StoredDtype::F32,
        Dtype::F16 => StoredDtype::F16,
        Dtype::Bf16 => StoredDtype::BF16,
        Dtype::F64 => StoredDtype::F64,
        Dtype::Int8 => StoredDtype::I8,
    }
}

/// A few rows at a time: the values as f32 would take four times the room of what is made of them.
fn fill_int8(bytes: &mut [u8], shape: &[usize], value: impl Fn(usize) -> f32 + Sync) {
    const ROWS: usize = 64;
    let width = shape.last().copied().unwrap_or(0);
    let (q, scales) = bytes.split_at_mut(shape.iter().product());
    let scales_of_a_row = scales.len() * width / q.len();
    let parts = q.par_chunks_mut(ROWS * width);
    let parts = parts.zip(scales.par_chunks_mut(ROWS * scales_of_a_row));
    parts.enumerate().for_each(|(i, (q, scales))| {
        let values: Vec<f32> = (0..q.len()).map(|j| value(i * ROWS * width + j)).collect();
        quantize(&values, width, q, scales);
    });
}

fn fill<const N: usize>(bytes: &mut [u8], value: impl Fn(usize) -> [u8; N] + Sync) {
    // A whole number of elements of any size.
    const BLOCK: usize = 1 << 16;
    let blocks = bytes.par_chunks_mut(BLOCK).enumerate();
    blocks.for_each(|(block, bytes)| {
        let elements = bytes.as_chunks_mut::<N>().0.iter_mut();
        for (i, element) in elements.enumerate() {
            *element = value(block * (BLOCK / N) + i);
        }
    });
}
