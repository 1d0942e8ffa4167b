//! A token through a model of nothing but alike Mamba-1 blocks, in one launch (`token_pass` in step.cu).

use std::sync::Arc;

use mambascope_core::backend::BackendError;
use mambascope_core::model::{MambaDims, MixerDims, Model};

use crate::blocks::mamba::Memory;
use crate::buffer::Buffer;
use crate::gpu::{Gpu, Grid, Kernel, KernelArgs, Use};
use crate::ops::address;
use crate::pass::Scratch;
use crate::source::Source;
use crate::weights::{DeviceModel, LayerWeights, MambaWeights, MixerWeights};

/// Pointers of a block in `TokenLayer` of step.cu.
const POINTERS: usize = 17;

/// What the launch needs beside a pass's buffers.
pub(crate) struct TokenPass {
    /// `[layers, POINTERS]`.
    layers: Buffer<u64>,
    count: usize,
    width: usize,
    dims: MambaDims,
    eps: f32,
    is_bf16: bool,
}

/// `TokenArgs` of step.cu.
#[repr(C)]
struct TokenArgs {
    layers: u64,
    x: u64,
    xz: u64,
    u: u64,
    projected: u64,
    y: u64,
    arrivals: u64,
    count: i32,
    width: i32,
    channels: i32,
    slots: i32,
    rank: i32,
    has_norm: i32,
    eps: f32,
    inner_eps: f32,
}
#[expect(unsafe_code, reason = "laid out as in step.cu")]
// SAFETY: the same fields in the same order: 7 pointers, 6 ints, 2 floats.
unsafe impl KernelArgs for TokenArgs {}

impl TokenPass {
    /// `None` for a model of other blocks, or of sizes the kernel does not take; each block's memory must stay where it is.
    ///
    /// # Errors
    /// When the device has no memory for the list of pointers.
    pub(crate) fn new<'a>(
        gpu: &Arc<Gpu>,
        model: &Model,
        weights: &DeviceModel,
        memories: impl Iterator<Item = Option<&'a Memory>>,
    ) -> Result<Option<Self>, BackendError> {
        let Some(MixerDims::Mamba(dims)) = model.config.blocks.first().map(|block| block.mixer)
        else {
            return Ok(None);
        };
        let width = model.config.d_model;
        let mut blocks = model.config.blocks.iter();
        let are_alike = blocks
            .all(|block| block.mixer == MixerDims::Mamba(dims) && block.feed_forward.is_none());
        let fits = dims.d_conv == 4 && width.is_multiple_of(8) && dims.d_inner.is_multiple_of(8);
        if !are_alike || !fits {
            return Ok(None);
        }
        let mut pointers = Vec::with_capacity(model.config.blocks.len() * POINTERS);
        let mut is_bf16 = None;
        for (layer, memory) in weights.layers.iter().zip(memories) {
            let (MixerWeights::Mamba(mixer), Some(memory)) = (&layer.mixer, memory) else {
                return Ok(None);
            };
            let [first, ..] = matrices(mixer);
            let wanted = *is_bf16.get_or_insert(first);
            if matrices(mixer).into_iter().any(|found| found != wanted) {
                return Ok(None);
            }
            pointers.extend(layer_pointers(layer, mixer, memory));
        }
        Ok(Some(Self {
            layers: Buffer::of(gpu, Use::Activations, &pointers)?,
            count: model.config.blocks.len(),
            width,
            dims,
            eps: model.config.norm_eps,
            is_bf16: is_bf16.unwrap_or(false),
        }))
    }

    /// Asks for it: x, the token's embedding, becomes the residual stream behind the last block.
    pub(crate) fn run(
        &self,
        gpu: &Gpu,
        scratch: &Scratch,
        arrivals: &Buffer<i32>,
    ) -> Result<(), BackendError> {
        let dims = &self.dims;
        let args = TokenArgs {
            layers: self.layers.pointer(),
            x: scratch.x.pointer(),
            xz: scratch.wide.pointer(),
            u: scratch.conv.pointer(),
            projected: scratch.projected.pointer(),
            y: scratch.y.pointer(),
            arrivals: arrivals.pointer(),
            count: self.count as i32,
            width: self.width as i32,
            channels: dims.d_inner as i32,
            slots: dims.d_state as i32,
            rank: dims.dt_rank as i32,
            has_norm: dims.inner_norm.is_some().into(),
            eps: self.eps,
            inner_eps: dims.inner_norm.map_or(0.0, |norm| norm.eps),
        };
        // `TOKEN_THREADS` in step.cu.
        let mut grid = Grid::line(gpu.multiprocessors(), 512);
        grid.shared = (dims.dt_rank + 2 * dims.d_state) * size_of::<f32>();
        grid.is_cooperative = true;
        let name = if self.is_bf16 {
            "token_pass_bf16"
        } else {
            "token_pass_f32"
        };
        gpu.launch(Kernel(Source::Step, name), grid, &args)
    }
}

/// Whether each matrix is in bf16.
fn matrices(mixer: &MambaWeights) -> [bool; 4] {
    [
        mixer.in_proj.weight.is_bf16,
        mixer.x_proj.is_bf16,
        mixer.dt_proj.weight.is_bf16,
        mixer.out_proj.weight.is_bf16,
    ]
}

/// In the order of `TokenLayer`.
fn layer_pointers(layer: &LayerWeights, mixer: &MambaWeights, memory: &Memory) -> [u64; POINTERS] {
    let inner = |part: usize| address(mixer.inner_norms.as_ref().map(|norms| &norms[part]));
    [
        layer.norm.pointer(),
        mixer.in_proj.weight.pointer(),
        address(mixer.in_proj.bias.as_ref()),
        mixer.conv.pointer(),
        address(mixer.conv_bias.as_ref()),
        memory.window.pointer(),
        mixer.x_proj.pointer(),
        mixer.dt_proj.weight.pointer(),
        address(mixer.dt_proj.bias.as_ref()),
        mixer.a.pointer(),
        mixer.skip.pointer(),
        inner(0),
        inner(1),
        inner(2),
        memory.h.pointer(),
        mixer.out_proj.weight.pointer(),
        address(mixer.out_proj.bias.as_ref()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_have_no_holes() {
        assert_eq!(size_of::<TokenArgs>(), 7 * 8 + 8 * 4);
    }
}
