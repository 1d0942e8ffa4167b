//! What a checkpoint is once every name, shape and dtype has been checked.

mod changed;
mod config;
mod dims;
mod family;
mod recast;
mod table;

use std::path::PathBuf;

pub use config::{Config, ConfigError, MAX_CONFIG_BYTES};
pub use dims::{
    AttentionDims, BlockDims, FeedForwardDims, InnerNorm, Mamba2Dims, MambaDims, MixerDims,
    RecurrentDims,
};
pub use family::{Alias, Family, FamilyEntry, Parts, Shelf, Stop, TensorSpec};
pub use table::FAMILIES;

use std::sync::Arc;

use ndarray::Array2;

use crate::tensor::{Dtype, Tensor, WidenError};
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
#[derive(Clone, Debug)]
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
    pub tokenizer: Option<Arc<Tokenizer>>,
    /// The model card, as Markdown, where the folder has one.
    pub card: Option<String>,
    /// What is odd but does not stop the model, and where its int8 form is from, a sentence each.
    pub warnings: Vec<String>,
    /// Bytes of the weight files.
    pub bytes_on_disk: u64,
}

/// One block: x ← x + mixer(RMSNorm(x)), and where there is a feed-forward part, x ← x + ff(RMSNorm(x)).
#[derive(Clone, Debug)]
pub struct Layer {
    /// Weight of the RMSNorm before the mixer, `[e]`.
    pub norm: Tensor,
    /// What mixes tokens.
    pub mixer: Mixer,
    /// What works on each token alone.
    pub feed_forward: Option<FeedForwardPart>,
}

/// Weights of a mixer.
#[derive(Clone, Debug)]
pub enum Mixer {
    /// Mamba-1, FalconMamba, and the Mamba layers of Jamba.
    Mamba(Box<MambaMixer>),
    /// Mamba-2.
    Mamba2(Box<Mamba2Mixer>),
    /// Softmax attention.
    Attention(Box<AttentionMixer>),
}

/// Weights of a Mamba-1 mixer. Linear weights are stored `[out, in]`.
#[derive(Clone, Debug)]
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
    /// Weights of the norms of dt, B and C, in families that store them.
    pub inner_norms: Option<InnerNorms>,
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

/// Weights of Jamba's RMSNorms between x_proj and the scan.
#[derive(Clone, Debug)]
pub struct InnerNorms {
    /// `[r]`.
    pub dt: Tensor,
    /// `[n]`.
    pub b: Tensor,
    /// `[n]`.
    pub c: Tensor,
}

/// Weights of a Mamba-2 mixer. `d` = h · p.
#[derive(Clone, Debug)]
pub struct Mamba2Mixer {
    /// `[2d + 2gn + h, e]`: rows of z, x, B, C, dt.
    pub in_proj: Tensor,
    /// `[2d + 2gn + h]`.
    pub in_proj_bias: Option<Tensor>,
    /// `[d + 2gn, 1, k]`: over x, B and C together.
    pub conv: Tensor,
    /// `[d + 2gn]`.
    pub conv_bias: Option<Tensor>,
    /// `[h]`.
    pub dt_bias: Tensor,
    /// `[h]`; A = −exp(`a_log`), one for all channels and slots of a head.
    pub a_log: Tensor,
    /// `[h]`, the skip.
    pub d_skip: Tensor,
    /// Weight of the gated RMSNorm, `[d]`.
    pub norm: Tensor,
    /// `[e, d]`.
    pub out_proj: Tensor,
    /// `[e]`.
    pub out_proj_bias: Option<Tensor>,
}

/// Weights of an attention mixer: queries and outputs of width heads · head_dim, keys and values of kv_heads · head_dim.
#[derive(Clone, Debug)]
pub struct AttentionMixer {
    /// `[heads · head_dim, e]`.
    pub q_proj: Tensor,
    /// `[heads · head_dim]`.
    pub q_bias: Option<Tensor>,
    /// `[kv_heads · head_dim, e]`.
    pub k_proj: Tensor,
    /// `[kv_heads · head_dim]`.
    pub k_bias: Option<Tensor>,
    /// `[kv_heads · head_dim, e]`.
    pub v_proj: Tensor,
    /// `[kv_heads · head_dim]`.
    pub v_bias: Option<Tensor>,
    /// `[e, heads · head_dim]`.
    pub o_proj: Tensor,
    /// `[e]`.
    pub o_bias: Option<Tensor>,
}

/// The second half of a block in Jamba and the Transformer.
#[derive(Clone, Debug)]
pub struct FeedForwardPart {
    /// Weight of the RMSNorm before it, `[e]`.
    pub norm: Tensor,
    /// The network or networks.
    pub network: FeedForward,
}

/// A feed-forward network, or several and a router.
#[derive(Clone, Debug)]
pub enum FeedForward {
    /// Every token goes through it.
    Dense(Box<Mlp>),
    /// Every token goes through a few.
    Experts {
        /// `[x, e]`, a row an expert.
        router: Tensor,
        /// The networks.
        experts: Vec<Mlp>,
    },
}

/// A SwiGLU network: down(SiLU(gate x) · up x).
#[derive(Clone, Debug)]
pub struct Mlp {
    /// `[width, e]`.
    pub gate: Tensor,
    /// `[width]`.
    pub gate_bias: Option<Tensor>,
    /// `[width, e]`.
    pub up: Tensor,
    /// `[width]`.
    pub up_bias: Option<Tensor>,
    /// `[e, width]`.
    pub down: Tensor,
    /// `[e]`.
    pub down_bias: Option<Tensor>,
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

    fn tensors(&self) -> Vec<&Tensor> {
        let mut all = vec![
            &self.in_proj,
            &self.conv,
            &self.x_proj,
            &self.dt_proj,
            &self.dt_bias,
            &self.a_log,
            &self.d_skip,
            &self.out_proj,
        ];
        if let Some(norms) = &self.inner_norms {
            all.extend([&norms.dt, &norms.b, &norms.c]);
        }
        all.extend(
            [&self.in_proj_bias, &self.conv_bias, &self.out_proj_bias]
                .into_iter()
                .flatten(),
        );
        all
    }
}

impl Mamba2Mixer {
    /// A = −exp(`a_log`), `[h]`.
    pub fn a_h(&self) -> Vec<f32> {
        self.a_log.as_f32().iter().map(|a| -a.exp()).collect()
    }

    fn tensors(&self) -> Vec<&Tensor> {
        let mut all = vec![
            &self.in_proj,
            &self.conv,
            &self.dt_bias,
            &self.a_log,
            &self.d_skip,
            &self.norm,
            &self.out_proj,
        ];
        all.extend(
            [&self.in_proj_bias, &self.conv_bias, &self.out_proj_bias]
                .into_iter()
                .flatten(),
        );
        all
    }
}

impl AttentionMixer {
    fn tensors(&self) -> Vec<&Tensor> {
        let mut all = vec![&self.q_proj, &self.k_proj, &self.v_proj, &self.o_proj];
        let biases = [&self.q_bias, &self.k_bias, &self.v_bias, &self.o_bias];
        all.extend(biases.into_iter().flatten());
        all
    }
}

impl Mlp {
    fn tensors(&self) -> Vec<&Tensor> {
        let mut all = vec![&self.gate, &self.up, &self.down];
        all.extend(
            [&self.gate_bias, &self.up_bias, &self.down_bias]
                .into_iter()
                .flatten(),
        );
        all
    }
}

impl Mixer {
    /// A as the readings use it: `[n, d]` for Mamba-1, `[1, h]` for Mamba-2, whose slots share one; none for attention.
    pub fn decay(&self) -> Option<Array2<f32>> {
        match self {
            Mixer::Mamba(mixer) => Some(mixer.a_nd()),
            Mixer::Mamba2(mixer) => {
                let a_h = mixer.a_h();
                Array2::from_shape_vec((1, a_h.len()), a_h).ok()
            }
            Mixer::Attention(_) => None,
        }
    }

    fn tensors(&self) -> Vec<&Tensor> {
        match self {
            Mixer::Mamba(mixer) => mixer.tensors(),
            Mixer::Mamba2(mixer) => mixer.tensors(),
            Mixer::Attention(mixer) => mixer.tensors(),
        }
    }
}

impl Layer {
    /// Every tensor of the block.
    fn tensors(&self) -> Vec<&Tensor> {
        let mut all = self.mixer.tensors();
        all.push(&self.norm);
        if let Some(part) = &self.feed_forward {
            all.push(&part.norm);
            match &part.network {
                FeedForward::Dense(mlp) => all.extend(mlp.tensors()),
                FeedForward::Experts { router, experts } => {
                    all.push(router);
                    all.extend(experts.iter().flat_map(Mlp::tensors));
                }
            }
        }
        all
    }
}

impl Model {
    /// The output projection: the head, or the embedding when they are tied. `[v, e]`.
    pub fn head(&self) -> &Tensor {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Every tensor, in no particular order.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let layers = self.layers.iter().flat_map(Layer::tensors);
        [&self.embedding, &self.final_norm]
            .into_iter()
            .chain(&self.head)
            .chain(layers)
    }

    /// Widens the halves now, so that the first token read does not have to.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn widen(&self) -> Result<(), WidenError> {
        self.tensors().try_for_each(Tensor::try_widen)
    }

    /// The same for those alone that cannot be read as they are stored: what is no matrix, and what [`Tensor::numbers`] would copy.
    ///
    /// # Errors
    /// As [`Model::widen`].
    pub fn widen_unreadable(&self) -> Result<(), WidenError> {
        let mut copied = self.tensors().filter(|tensor| !tensor.is_read_in_place());
        copied.try_for_each(Tensor::try_widen)
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
