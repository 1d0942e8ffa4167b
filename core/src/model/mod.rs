//! What a checkpoint is once every name, shape and dtype has been checked.

mod config;
mod family;

use std::path::PathBuf;

pub use config::{Config, ConfigError, MAX_CONFIG_BYTES, MambaDims};
pub use family::{FAMILIES, Family, FamilyEntry, MissingTensor, Need, Parts, TensorSpec};

use ndarray::Array2;

use crate::tensor::{Dtype, Tensor};
use crate::tokenizer::Tokenizer;

/// Where a model came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Compiled into the program.
    Embedded,
    /// A folder on disk.
    Folder(PathBuf),
    /// Built in memory (tests, synthetic benchmarks).
    Memory,
}

/// A loaded model: configuration, weights, and what was noticed on the way in. Never changed after loading.
#[derive(Debug)]
pub struct Model {
    /// Folder name, or the name of the embedded model.
    pub name: String,
    /// Where it came from.
    pub source: Source,
    /// Sizes and rules.
    pub config: Config,
    /// `[v, e]`.
    pub embedding: Tensor,
    /// One a block, in order.
    pub layers: Vec<Layer>,
    /// Weight of the last RMSNorm, `[e]`.
    pub final_norm: Tensor,
    /// `[v, e]`, or `None` when the embedding serves for both.
    pub head: Option<Tensor>,
    /// Text ↔ ids; without one the model runs on ids.
    pub tokenizer: Option<Tokenizer>,
    /// The model card, as Markdown, where the folder has one.
    pub card: Option<String>,
    /// Things that are odd but do not stop the model, a sentence each.
    pub warnings: Vec<String>,
    /// Bytes of the weight files.
    pub bytes_on_disk: u64,
}

/// One block: x + mixer(RMSNorm(x)).
#[derive(Debug)]
pub struct Layer {
    /// Weight of the RMSNorm before the mixer, `[e]`.
    pub norm: Tensor,
    /// What mixes tokens.
    pub mixer: MambaMixer,
}

/// Weights of a Mamba-1 mixer. Linear weights are stored `[out, in]`.
#[derive(Debug)]
pub struct MambaMixer {
    /// `[2d, e]`: rows of x, then rows of the gate z.
    pub in_proj: Tensor,
    /// `[2d]`.
    pub in_proj_bias: Option<Tensor>,
    /// `[d, 1, k]`, depthwise; the last tap meets the current token.
    pub conv: Tensor,
    /// `[d]`.
    pub conv_bias: Option<Tensor>,
    /// `[r + 2n, d]`: rows of Δ's low-rank input, of B, of C.
    pub x_proj: Tensor,
    /// `[d, r]`.
    pub dt_proj: Tensor,
    /// `[d]`.
    pub dt_bias: Tensor,
    /// `[d, n]`; A = −exp(`a_log`).
    pub a_log: Tensor,
    /// `[d]`, the skip.
    pub d_skip: Tensor,
    /// `[e, d]`.
    pub out_proj: Tensor,
    /// `[e]`.
    pub out_proj_bias: Option<Tensor>,
}

impl MambaMixer {
    /// A = −exp(`a_log`), slots first as the quick kernels read it: `[n, d]`.
    pub fn a_nd(&self) -> Array2<f32> {
        let d_state = self.a_log.shape()[1];
        let a_log = self.a_log.as_f32();
        Array2::from_shape_fn((d_state, self.a_log.shape()[0]), |(n, d)| {
            -a_log[d * d_state + n].exp()
        })
    }
}

impl Model {
    /// The output projection: the head, or the embedding when they are tied. `[v, e]`.
    pub fn head(&self) -> &Tensor {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Every tensor, in no particular order.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let layers = self.layers.iter().flat_map(|layer| {
            let m = &layer.mixer;
            [
                &layer.norm,
                &m.in_proj,
                &m.conv,
                &m.x_proj,
                &m.dt_proj,
                &m.dt_bias,
                &m.a_log,
                &m.d_skip,
                &m.out_proj,
            ]
            .into_iter()
            .chain(
                [&m.in_proj_bias, &m.conv_bias, &m.out_proj_bias]
                    .into_iter()
                    .flatten(),
            )
        });
        [&self.embedding, &self.final_norm]
            .into_iter()
            .chain(&self.head)
            .chain(layers)
    }

    /// Widens the halves now, so that the first token read does not have to.
    pub fn widen(&self) {
        for tensor in self.tensors() {
            tensor.as_f32();
        }
    }

    /// Number of weights, a tied head counted once.
    pub fn parameters(&self) -> usize {
        self.tensors().map(Tensor::len).sum()
    }

    /// The dtypes met, most elements first.
    pub fn dtypes(&self) -> Vec<Dtype> {
        let mut counts = std::collections::BTreeMap::<Dtype, usize>::new();
        for tensor in self.tensors() {
            *counts.entry(tensor.dtype()).or_default() += tensor.len();
        }
        let mut dtypes: Vec<_> = counts.into_iter().collect();
        dtypes.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        dtypes.into_iter().map(|(dtype, _)| dtype).collect()
    }
}
