//! One text on the quick backend: buffers kept between calls, the forward pass over a chunk of tokens.

use std::sync::Arc;

use ndarray::{ArrayView2, ArrayViewD, ArrayViewMut2};
use rayon::prelude::*;

use super::attention::{AttentionBlock, AttentionScratch};
use super::feed_forward::{FeedForwardScratch, feed_forward};
use super::mamba::{MambaBlock, ScanScratch};
use super::mamba2::Mamba2Block;
use super::math::dot;
use super::matmul::{ProductScratch, Products, Rows, linear};
use super::{Rounding, Threads};
use crate::backend::{BackendError, Reading, Session, check_ids};
use crate::model::{BlockDims, FeedForwardDims, Layer, Mixer, MixerDims, Model};
use crate::state::{LayerState, RecurrentState, State, StateBytes};
use crate::tensor::Tensor;
use crate::trace::{Probe, Site, Tap};

/// Below this many tokens the rows of a chunk are not worth spreading over threads.
pub(super) const PARALLEL_TOKENS: usize = 16;

/// A model without a tensor of so many weights answers a token sooner than a second thread wakes up.
const SMALL: usize = 1 << 20;

/// What one block needs beside its weights: its state, and A and the convolution in the layouts the kernels read.
enum Block {
    Mamba(MambaBlock),
    Mamba2(Mamba2Block),
    Attention(AttentionBlock),
}

/// Buffers of a chunk; they grow to the longest chunk seen and stay.
#[derive(Default)]
pub(super) struct Scratch {
    x_le: Vec<f32>,
    pub(super) norm_le: Vec<f32>,
    pub(super) out_le: Vec<f32>,
    logits_lv: Vec<f32>,
    pub(super) products: ProductScratch,
    pub(super) scan: ScanScratch,
    pub(super) attention: AttentionScratch,
    pub(super) feed_forward: FeedForwardScratch,
}

pub(super) struct FastSession {
    model: Arc<Model>,
    threads: Threads,
    rounding: Rounding,
    /// Whether no product of a single token is worth a second thread: then the caller's own does it all.
    is_small: bool,
    position: usize,
    blocks: Vec<Block>,
    scratch: Scratch,
    logits_v: Vec<f32>,
}

impl FastSession {
    pub(super) fn new(model: &Arc<Model>, threads: Threads, rounding: Rounding) -> Self {
        let blocks = model.layers.iter().zip(&model.config.blocks);
        let largest = model.tensors().map(Tensor::len).max().unwrap_or(0);
        Self {
            is_small: largest < SMALL,
            threads,
            rounding,
            position: 0,
            blocks: blocks
                .filter_map(|(layer, dims)| Block::new(layer, dims))
                .collect(),
            scratch: Scratch::default(),
            logits_v: vec![0.0; model.config.vocab_size],
            model: Arc::clone(model),
        }
    }

    fn forward(
        &mut self,
        ids: &[u32],
        reading: Reading,
        tap: &mut dyn Tap,
    ) -> Result<(), BackendError> {
        check_ids(ids, self.model.config.vocab_size)?;
        let alone = ids.len() == 1 && self.is_small;
        let mut pass = Pass {
            model: &self.model,
            tokens: ids.len(),
            reading,
            products: Products {
                threads: if alone { 1 } else { self.threads.count },
                may_round: ids.len() > 1 && self.rounding.applies(tap, self.blocks.len()),
            },
            scratch: &mut self.scratch,
            tap,
        };
        let (blocks, logits_v) = (&mut self.blocks, &mut self.logits_v);
        let mut work = move || pass.forward(ids, blocks, logits_v);
        if alone {
            work();
        } else if ids.len() == 1 {
            self.threads.run_awake(work);
        } else {
            self.threads.run(work);
        }
        self.position += ids.len();
        Ok(())
    }
}

impl Session for FastSession {
    fn prefill(&mut self, ids: &[u32], tap: &mut dyn Tap) -> Result<(), BackendError> {
        self.forward(ids, Reading::Prefill, tap)
    }

    fn step(&mut self, id: u32, tap: &mut dyn Tap) -> Result<(), BackendError> {
        self.forward(&[id], Reading::Step, tap)
    }

    fn logits(&mut self) -> Result<&[f32], BackendError> {
        Ok(&self.logits_v)
    }

    fn model(&self) -> &Arc<Model> {
        &self.model
    }

    fn state(&self) -> Result<State, BackendError> {
        let layer = |block: &Block| match block {
            Block::Mamba(block) => LayerState::Recurrent(block.state()),
            Block::Mamba2(block) => LayerState::Recurrent(block.state()),
            Block::Attention(block) => LayerState::Attention(block.state()),
        };
        Ok(State {
            position: self.position,
            layers: self.blocks.iter().map(layer).collect(),
            logits_v: (self.position > 0).then(|| self.logits_v.clone()),
        })
    }

    fn scan_states(&self) -> Result<Vec<Option<RecurrentState>>, BackendError> {
        let state = |block: &Block| match block {
            Block::Mamba(block) => Some(block.state()),
            Block::Mamba2(block) => Some(block.state()),
            Block::Attention(_) => None,
        };
        Ok(self.blocks.iter().map(state).collect())
    }

    fn state_bytes(&self) -> StateBytes {
        let mut bytes = StateBytes::default();
        for block in &self.blocks {
            let (conv, ssm) = match block {
                Block::Mamba(block) => block.bytes(),
                Block::Mamba2(block) => block.bytes(),
                Block::Attention(block) => {
                    bytes.kv += block.bytes();
                    continue;
                }
            };
            bytes.conv += conv;
            bytes.ssm += ssm;
        }
        bytes
    }

    fn set_state(&mut self, state: &State) -> Result<(), BackendError> {
        state.check(&self.model.config)?;
        self.position = state.position;
        match &state.logits_v {
            Some(logits_v) => self.logits_v.copy_from_slice(logits_v),
            None => self.logits_v.fill(0.0),
        }
        for (block, layer) in self.blocks.iter_mut().zip(&state.layers) {
            match (block, layer) {
                (Block::Mamba(block), LayerState::Recurrent(state)) => block.set_state(state),
                (Block::Mamba2(block), LayerState::Recurrent(state)) => block.set_state(state),
                (Block::Attention(block), LayerState::Attention(cache)) => block.set_state(cache),
                // The check above has refused what does not fit.
                _ => {}
            }
        }
        Ok(())
    }
}

impl Block {
    /// `None` where weights and sizes are of different kinds, which loading rules out.
    fn new(layer: &Layer, dims: &BlockDims) -> Option<Self> {
        match (&layer.mixer, &dims.mixer) {
            (Mixer::Mamba(weights), MixerDims::Mamba(dims)) => {
                Some(Self::Mamba(MambaBlock::new(weights, dims)))
            }
            (Mixer::Mamba2(weights), MixerDims::Mamba2(dims)) => {
                Some(Self::Mamba2(Mamba2Block::new(weights, dims)))
            }
            (Mixer::Attention(_), MixerDims::Attention(dims)) => {
                Some(Self::Attention(AttentionBlock::new(dims)))
            }
            _ => None,
        }
    }
}

/// One call of prefill or step: a chunk of `tokens` tokens through all blocks.
pub(super) struct Pass<'a> {
    pub(super) model: &'a Model,
    pub(super) tokens: usize,
    pub(super) reading: Reading,
    pub(super) products: Products,
    pub(super) scratch: &'a mut Scratch,
    pub(super) tap: &'a mut (dyn Tap + 'a),
}

impl Pass<'_> {
    pub(super) fn width(&self) -> usize {
        self.model.config.d_model
    }

    fn forward(&mut self, ids: &[u32], blocks: &mut [Block], logits_v: &mut [f32]) {
        let (width, tokens) = (self.width(), self.tokens);
        // Exactly a chunk's length, so that rows can be counted by it.
        let scratch = &mut *self.scratch;
        for buffer in [&mut scratch.x_le, &mut scratch.norm_le, &mut scratch.out_le] {
            buffer.resize(tokens * width, 0.0);
        }
        let embedding = self.model.embedding.numbers();
        for (x_e, &id) in self.scratch.x_le.chunks_exact_mut(width).zip(ids) {
            let row = id as usize;
            embedding.rows(row..row + 1, width).widen(x_e, width);
        }
        self.record_stream(Site::model(Probe::Embedded));

        let layers = self.model.layers.iter().zip(&self.model.config.blocks);
        for (i, ((layer, dims), block)) in layers.zip(blocks).enumerate() {
            self.norm(&layer.norm);
            self.record_norm(Site::layer(i, Probe::NormOut));
            match (block, &layer.mixer) {
                (Block::Mamba(block), Mixer::Mamba(weights)) => block.mix(self, i, weights),
                (Block::Mamba2(block), Mixer::Mamba2(weights)) => block.mix(self, i, weights),
                (Block::Attention(block), Mixer::Attention(weights)) => {
                    block.mix(self, i, weights);
                }
                // Blocks were made from these layers.
                _ => continue,
            }
            self.add_out();
            if let Some(part) = &layer.feed_forward {
                self.norm(&part.norm);
                let top = match dims.feed_forward {
                    Some(FeedForwardDims::Experts { top, .. }) => top,
                    _ => 0,
                };
                feed_forward(self, i, &part.network, top);
                self.add_out();
            }
            self.record_stream(Site::layer(i, Probe::BlockOutput));
        }
        self.norm(&self.model.final_norm);
        self.record_norm(Site::model(Probe::FinalHidden));
        self.head(logits_v);
    }

    /// x ← x + out.
    fn add_out(&mut self) {
        let Scratch { x_le, out_le, .. } = &mut *self.scratch;
        for (x, out) in x_le.iter_mut().zip(out_le) {
            *x += *out;
        }
    }

    fn record_stream(&mut self, site: Site) {
        let shape = [self.tokens, self.width()];
        record(self.tap, site, &self.scratch.x_le, &shape);
    }

    fn record_norm(&mut self, site: Site) {
        let shape = [self.tokens, self.width()];
        record(self.tap, site, &self.scratch.norm_le, &shape);
    }

    /// `norm_le` = RMSNorm(`x_le`).
    fn norm(&mut self, weight_e: &Tensor) {
        let (width, eps) = (self.width(), self.model.config.norm_eps);
        let Scratch { x_le, norm_le, .. } = &mut *self.scratch;
        norm_le.copy_from_slice(x_le);
        for token in norm_le.chunks_exact_mut(width) {
            normalise(token, Some(weight_e.as_f32()), eps);
        }
    }

    /// Scores of the last token, or of all when they are watched.
    fn head(&mut self, logits_v: &mut [f32]) {
        let (width, vocab, tokens) = (self.width(), self.model.config.vocab_size, self.tokens);
        let head = self.model.head();
        let scratch = &mut *self.scratch;
        let (hidden, products) = (&scratch.norm_le, &mut scratch.products);
        let site = Site::model(Probe::Logits);
        if self.tap.wants(site) {
            let logits_lv = room(&mut scratch.logits_lv, tokens * vocab);
            let rows = Rows::whole(hidden, width);
            linear(logits_lv, rows, head, None, products, self.products);
            record(self.tap, site, logits_lv, &[tokens, vocab]);
            logits_v.copy_from_slice(&logits_lv[(tokens - 1) * vocab..]);
        } else {
            let last = Rows::whole(&hidden[(tokens - 1) * width..], width);
            linear(logits_v, last, head, None, products, self.products);
        }
    }

    /// `out_le` = the scan's gated output, `[l, d]`, through out_proj: the last step of both kinds of scan.
    pub(super) fn project_out(
        &mut self,
        i: usize,
        d_inner: usize,
        out_proj: &Tensor,
        bias: Option<&Tensor>,
    ) {
        let shape = [self.tokens, self.width()];
        let scratch = &mut *self.scratch;
        linear(
            &mut scratch.out_le,
            Rows::whole(&scratch.scan.y_ld, d_inner),
            out_proj,
            bias,
            &mut scratch.products,
            self.products,
        );
        let site = Site::layer(i, Probe::MixerOutput);
        record(self.tap, site, &scratch.out_le, &shape);
    }
}

/// x ← x / √(mean(x²) + ε), times the weight where there is one.
pub(super) fn normalise(x: &mut [f32], weight: Option<&[f32]>, eps: f32) {
    let scale = (dot(x, x) / x.len() as f32 + eps).sqrt().recip();
    match weight {
        Some(weight) => x
            .iter_mut()
            .zip(weight)
            .for_each(|(x, w)| *x = *x * scale * w),
        None => x.iter_mut().for_each(|x| *x *= scale),
    }
}

/// The first `len` values of a buffer, which grows to hold them.
pub(super) fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

pub(super) fn each_row(values: &mut [f32], width: usize, work: impl Fn(&mut [f32]) + Send + Sync) {
    if values.len() < PARALLEL_TOKENS * width {
        values.chunks_exact_mut(width).for_each(work);
    } else {
        values.par_chunks_exact_mut(width).for_each(work);
    }
}

/// The beginning of a buffer as a matrix; [`room`] has given it the length.
#[expect(
    clippy::expect_used,
    reason = "lengths come from `room`, never from a file"
)]
pub(super) fn view(data: &[f32], rows: usize, columns: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((rows, columns), &data[..rows * columns])
        .expect("a buffer sized for the chunk")
}

/// A buffer as a matrix to write to; [`room`] has given it the length.
#[expect(
    clippy::expect_used,
    reason = "lengths come from `room`, never from a file"
)]
pub(super) fn view_mut(data: &mut [f32], rows: usize, columns: usize) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((rows, columns), data).expect("a buffer sized for the chunk")
}

/// Hands a buffer to the tap if it is wanted.
#[expect(
    clippy::expect_used,
    reason = "lengths come from `room`, never from a file"
)]
pub(super) fn record(tap: &mut dyn Tap, site: Site, values: &[f32], shape: &[usize]) {
    if tap.wants(site) {
        tap.record(
            site,
            ArrayViewD::from_shape(shape, values).expect("a buffer sized for the chunk"),
        );
    }
}
