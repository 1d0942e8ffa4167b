//! A model's weights on the device: matrices as the checkpoint stores them where that is f32 or bf16, everything small in f32.

use std::sync::Arc;

use mambascope_core::backend::BackendError;
use mambascope_core::model::{
    AttentionMixer, FeedForward, Layer, Mamba2Mixer, MambaMixer, Mixer, Mlp, Model,
};
use mambascope_core::tensor::{Dtype, Tensor};

use crate::buffer::Buffer;
use crate::gpu::{Gpu, Use};

/// A linear weight, `[out, in]`, in f32 or bf16.
pub(crate) struct Matrix {
    data: Buffer<u8>,
    pub is_bf16: bool,
    pub out: usize,
    pub inputs: usize,
}

impl Matrix {
    /// f16 and f64 become f32.
    fn new(gpu: &Arc<Gpu>, tensor: &Tensor) -> Result<Self, BackendError> {
        let (out, inputs) = match *tensor.shape() {
            [out, inputs] => (out, inputs),
            _ => (1, tensor.len()),
        };
        let is_bf16 = tensor.dtype() == Dtype::Bf16;
        let data = match tensor.dtype() {
            Dtype::F32 | Dtype::Bf16 => Buffer::of(gpu, Use::Weights, tensor.raw())?,
            Dtype::F16 | Dtype::F64 | Dtype::Int8 => {
                let bytes: Vec<u8> = tensor.iter_f32().flat_map(f32::to_le_bytes).collect();
                Buffer::of(gpu, Use::Weights, &bytes)?
            }
        };
        Ok(Self {
            data,
            is_bf16,
            out,
            inputs,
        })
    }

    pub(crate) fn pointer(&self) -> u64 {
        self.data.pointer()
    }
}

/// Values in f32.
fn vector(gpu: &Arc<Gpu>, tensor: &Tensor) -> Result<Buffer<f32>, BackendError> {
    let values: Vec<f32> = tensor.iter_f32().collect();
    Buffer::of(gpu, Use::Weights, &values)
}

fn optional(gpu: &Arc<Gpu>, tensor: Option<&Tensor>) -> Result<Option<Buffer<f32>>, BackendError> {
    tensor.map(|tensor| vector(gpu, tensor)).transpose()
}

/// A linear layer.
pub(crate) struct Linear {
    pub weight: Matrix,
    pub bias: Option<Buffer<f32>>,
}

impl Linear {
    fn new(gpu: &Arc<Gpu>, weight: &Tensor, bias: Option<&Tensor>) -> Result<Self, BackendError> {
        Ok(Self {
            weight: Matrix::new(gpu, weight)?,
            bias: optional(gpu, bias)?,
        })
    }
}

/// Of a Mamba-1 mixer.
pub(crate) struct MambaWeights {
    pub in_proj: Linear,
    pub conv: Buffer<f32>,
    pub conv_bias: Option<Buffer<f32>>,
    pub x_proj: Matrix,
    /// Of dt, B and C.
    pub inner_norms: Option<[Buffer<f32>; 3]>,
    pub dt_proj: Linear,
    /// A = −exp(A_log), `[d, n]`.
    pub a: Buffer<f32>,
    pub skip: Buffer<f32>,
    pub out_proj: Linear,
}

/// Of a Mamba-2 mixer.
pub(crate) struct Mamba2Weights {
    pub in_proj: Linear,
    pub conv: Buffer<f32>,
    pub conv_bias: Option<Buffer<f32>>,
    pub dt_bias: Buffer<f32>,
    /// A = −exp(A_log), `[h]`.
    pub a: Buffer<f32>,
    pub skip: Buffer<f32>,
    pub norm: Buffer<f32>,
    pub out_proj: Linear,
}

/// Of an attention mixer.
pub(crate) struct AttentionWeights {
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    pub o: Linear,
}

/// Of a mixer.
pub(crate) enum MixerWeights {
    Mamba(Box<MambaWeights>),
    Mamba2(Box<Mamba2Weights>),
    Attention(Box<AttentionWeights>),
}

/// Of a SwiGLU network.
pub(crate) struct MlpWeights {
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
}

/// Of a feed-forward part.
pub(crate) enum FeedForwardWeights {
    Dense(Box<MlpWeights>),
    Experts {
        router: Matrix,
        experts: Vec<MlpWeights>,
    },
}

/// Of a block.
pub(crate) struct LayerWeights {
    pub norm: Buffer<f32>,
    pub mixer: MixerWeights,
    pub feed_forward: Option<(Buffer<f32>, FeedForwardWeights)>,
}

/// A model's weights on the device, shared by its sessions.
pub(crate) struct DeviceModel {
    pub embedding: Matrix,
    pub layers: Vec<LayerWeights>,
    pub final_norm: Buffer<f32>,
    /// `None` when the embedding serves for both.
    pub head: Option<Matrix>,
}

impl DeviceModel {
    /// Copies a model there.
    ///
    /// # Errors
    /// When it has no memory for all of it.
    pub(crate) fn new(gpu: &Arc<Gpu>, model: &Model) -> Result<Self, BackendError> {
        let free = gpu.free_bytes();
        Self::copied(gpu, model).map_err(|error| match error {
            // Not of the tensor that found no room, but of what has to be made room for.
            BackendError::DeviceMemory { .. } => BackendError::DeviceMemory {
                wanted: bytes(model),
                free,
            },
            error => error,
        })
    }

    fn copied(gpu: &Arc<Gpu>, model: &Model) -> Result<Self, BackendError> {
        let layers = model.layers.iter().map(|layer| layer_weights(gpu, layer));
        Ok(Self {
            embedding: Matrix::new(gpu, &model.embedding)?,
            layers: layers.collect::<Result<_, _>>()?,
            final_norm: vector(gpu, &model.final_norm)?,
            head: model
                .head
                .as_ref()
                .map(|head| Matrix::new(gpu, head))
                .transpose()?,
        })
    }

    pub(crate) fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

/// What the weights take there: matrices as they are stored, and A, which no product reads, in f32.
fn bytes(model: &Model) -> u64 {
    let of_tensor = |tensor: &Tensor| match (tensor.dtype(), tensor.shape()) {
        (Dtype::Bf16, [_, _]) => 2 * tensor.len() as u64,
        _ => 4 * tensor.len() as u64,
    };
    let of_layer = |layer: &Layer| match &layer.mixer {
        Mixer::Mamba(mixer) => 4 * mixer.a_log.len() as u64 - of_tensor(&mixer.a_log),
        Mixer::Mamba2(_) | Mixer::Attention(_) => 0,
    };
    let widened: u64 = model.layers.iter().map(of_layer).sum();
    model.tensors().map(of_tensor).sum::<u64>() + widened
}

fn layer_weights(gpu: &Arc<Gpu>, layer: &Layer) -> Result<LayerWeights, BackendError> {
    let mixer = match &layer.mixer {
        Mixer::Mamba(mixer) => MixerWeights::Mamba(Box::new(mamba(gpu, mixer)?)),
        Mixer::Mamba2(mixer) => MixerWeights::Mamba2(Box::new(mamba2(gpu, mixer)?)),
        Mixer::Attention(mixer) => MixerWeights::Attention(Box::new(attention(gpu, mixer)?)),
    };
    let feed_forward = layer.feed_forward.as_ref().map(|part| {
        let network = match &part.network {
            FeedForward::Dense(network) => FeedForwardWeights::Dense(Box::new(mlp(gpu, network)?)),
            FeedForward::Experts { router, experts } => FeedForwardWeights::Experts {
                router: Matrix::new(gpu, router)?,
                experts: experts
                    .iter()
                    .map(|expert| mlp(gpu, expert))
                    .collect::<Result<_, _>>()?,
            },
        };
        Ok::<_, BackendError>((vector(gpu, &part.norm)?, network))
    });
    Ok(LayerWeights {
        norm: vector(gpu, &layer.norm)?,
        mixer,
        feed_forward: feed_forward.transpose()?,
    })
}

/// −exp(A_log). An infinite one becomes one that forgets as surely: with a Δ of zero, which stands for "no token" in the scans,
/// its product would be no number.
fn decay(gpu: &Arc<Gpu>, a_log: &Tensor) -> Result<Buffer<f32>, BackendError> {
    const AT_ONCE: f32 = -1e30;
    let finite = |a: f32| if a == f32::NEG_INFINITY { AT_ONCE } else { a };
    let values: Vec<f32> = a_log.iter_f32().map(|a| finite(-a.exp())).collect();
    Buffer::of(gpu, Use::Weights, &values)
}

fn mamba(gpu: &Arc<Gpu>, mixer: &MambaMixer) -> Result<MambaWeights, BackendError> {
    let inner_norms = match &mixer.inner_norms {
        Some(norms) => Some([
            vector(gpu, &norms.dt)?,
            vector(gpu, &norms.b)?,
            vector(gpu, &norms.c)?,
        ]),
        None => None,
    };
    Ok(MambaWeights {
        in_proj: Linear::new(gpu, &mixer.in_proj, mixer.in_proj_bias.as_ref())?,
        conv: vector(gpu, &mixer.conv)?,
        conv_bias: optional(gpu, mixer.conv_bias.as_ref())?,
        x_proj: Matrix::new(gpu, &mixer.x_proj)?,
        inner_norms,
        dt_proj: Linear::new(gpu, &mixer.dt_proj, Some(&mixer.dt_bias))?,
        a: decay(gpu, &mixer.a_log)?,
        skip: vector(gpu, &mixer.d_skip)?,
        out_proj: Linear::new(gpu, &mixer.out_proj, mixer.out_proj_bias.as_ref())?,
    })
}

fn mamba2(gpu: &Arc<Gpu>, mixer: &Mamba2Mixer) -> Result<Mamba2Weights, BackendError> {
    Ok(Mamba2Weights {
        in_proj: Linear::new(gpu, &mixer.in_proj, mixer.in_proj_bias.as_ref())?,
        conv: vector(gpu, &mixer.conv)?,
        conv_bias: optional(gpu, mixer.conv_bias.as_ref())?,
        dt_bias: vector(gpu, &mixer.dt_bias)?,
        a: decay(gpu, &mixer.a_log)?,
        skip: vector(gpu, &mixer.d_skip)?,
        norm: vector(gpu, &mixer.norm)?,
        out_proj: Linear::new(gpu, &mixer.out_proj, mixer.out_proj_bias.as_ref())?,
    })
}

fn attention(gpu: &Arc<Gpu>, mixer: &AttentionMixer) -> Result<AttentionWeights, BackendError> {
    Ok(AttentionWeights {
        q: Linear::new(gpu, &mixer.q_proj, mixer.q_bias.as_ref())?,
        k: Linear::new(gpu, &mixer.k_proj, mixer.k_bias.as_ref())?,
        v: Linear::new(gpu, &mixer.v_proj, mixer.v_bias.as_ref())?,
        o: Linear::new(gpu, &mixer.o_proj, mixer.o_bias.as_ref())?,
    })
}

fn mlp(gpu: &Arc<Gpu>, network: &Mlp) -> Result<MlpWeights, BackendError> {
    Ok(MlpWeights {
        gate: Linear::new(gpu, &network.gate, network.gate_bias.as_ref())?,
        up: Linear::new(gpu, &network.up, network.up_bias.as_ref())?,
        down: Linear::new(gpu, &network.down, network.down_bias.as_ref())?,
    })
}
