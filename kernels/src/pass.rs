//! One chunk of tokens on its way through the blocks: the buffers it uses, and the stages all blocks share.

use std::sync::Arc;

use mambascope_core::backend::BackendError;
use mambascope_core::model::{BlockDims, FeedForwardDims, Mamba2Dims, MambaDims, MixerDims, Model};
use mambascope_core::trace::{Site, Tap};
use ndarray::ArrayViewD;

use crate::blocks;
use crate::buffer::Buffer;
use crate::gpu::{Gpu, Use};
use crate::ops::{Norm, Pairwise, Product, Rows, rms_norm, split_rows};
use crate::weights::{Linear, Matrix};

/// Values of [`Scratch::partial`]: 16 MiB, enough for four parts of a thousand tokens and outputs.
const PARTIAL: usize = 4 << 20;

/// Buffers of a chunk of up to `tokens` tokens, shared by all blocks.
pub(crate) struct Scratch {
    pub tokens: usize,
    /// The residual stream, `[l, e]`.
    pub x: Buffer<f32>,
    /// What a mixer or a network reads, `[l, e]`.
    pub norm: Buffer<f32>,
    /// What it gives, where that is watched before it is added, `[l, e]`.
    pub out: Buffer<f32>,
    /// Of the first projection, `[l, ...]`: x and z; z, x, B, C and dt; queries, keys and values; or the two halves of a network.
    pub wide: Buffer<f32>,
    /// After the convolution, `[l, d]` or `[l, d + 2gn]`.
    pub conv: Buffer<f32>,
    /// dt, B and C, `[l, r + 2n]`; or the router's scores and the experts' shares, `[l, x]` each.
    pub projected: Buffer<f32>,
    /// `[l, d]` or `[l, h]`.
    pub delta: Buffer<f32>,
    /// The scan's or the attention's output, `[l, d]`.
    pub y: Buffer<f32>,
    /// States before the segments of a scan or the chunks of Mamba-2's.
    pub starts: Buffer<f32>,
    /// Their sums of Δ, or of ΔA.
    pub sums: Buffer<f32>,
    /// Products C·B of Mamba-2's chunks, or what the parts of an attention's keys give.
    pub parts: Buffer<f32>,
    /// Parts of products that several blocks share.
    pub partial: Buffer<f32>,
    /// The tokens of an expert, `[l, e]`, and what comes of them.
    pub gathered: Buffer<f32>,
    pub mixed: Buffer<f32>,
    /// Which tokens go through which expert, `[x, l]`, and how many, `[x]`.
    pub lists: Buffer<i32>,
    pub counts: Buffer<i32>,
    /// Where the blocks of a scan in one launch meet: zeros at first, and for that kernel alone to change. A session's launches
    /// follow one another, so it serves all its layers.
    pub meet: Buffer<u64>,
}

/// Lengths of the buffers, in the order of [`Scratch`]: what every block asks for, the largest of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lengths {
    pub wide: usize,
    pub conv: usize,
    pub projected: usize,
    pub delta: usize,
    pub y: usize,
    pub starts: usize,
    pub sums: usize,
    pub parts: usize,
    pub gathered: usize,
    pub lists: usize,
    pub counts: usize,
    pub meet: usize,
}

impl Lengths {
    fn of(model: &Model, gpu: &Gpu, tokens: usize) -> Self {
        let mut all = Self::default();
        for block in &model.config.blocks {
            all.cover(Self::of_mixer(block, gpu, tokens));
            all.cover(Self::of_network(block, model.config.d_model, tokens));
        }
        all
    }

    fn of_mixer(block: &BlockDims, gpu: &Gpu, tokens: usize) -> Self {
        match &block.mixer {
            MixerDims::Mamba(dims) => Self::of_mamba(dims, gpu, tokens),
            MixerDims::Mamba2(dims) => Self::of_mamba2(dims, tokens),
            MixerDims::Attention(dims) => Self {
                wide: tokens * (dims.query_width() + 2 * dims.kv_width()),
                y: tokens * dims.query_width(),
                parts: blocks::attention::parts_len(gpu, dims),
                ..Self::default()
            },
        }
    }

    fn of_mamba(dims: &MambaDims, gpu: &Gpu, tokens: usize) -> Self {
        let (starts, sums) = blocks::mamba::carried(gpu, dims, tokens);
        Self {
            wide: tokens * 2 * dims.d_inner,
            conv: tokens * dims.d_inner,
            projected: tokens * (dims.dt_rank + 2 * dims.d_state),
            delta: tokens * dims.d_inner,
            y: tokens * dims.d_inner,
            starts,
            sums,
            meet: blocks::mamba::meeting_len(gpu, dims),
            ..Self::default()
        }
    }

    fn of_mamba2(dims: &Mamba2Dims, tokens: usize) -> Self {
        let chunked = blocks::mamba2::chunk_lens(dims, tokens);
        Self {
            wide: tokens * dims.in_rows(),
            conv: tokens * dims.conv_channels(),
            delta: tokens * dims.heads,
            y: tokens * dims.d_inner(),
            starts: chunked[0],
            sums: chunked[1],
            parts: chunked[2],
            ..Self::default()
        }
    }

    fn of_network(block: &BlockDims, d_model: usize, tokens: usize) -> Self {
        match block.feed_forward {
            None => Self::default(),
            Some(FeedForwardDims::Dense { width, .. }) => Self {
                wide: 2 * tokens * width,
                ..Self::default()
            },
            Some(FeedForwardDims::Experts { width, count, .. }) => Self {
                wide: 2 * tokens * width,
                projected: 2 * tokens * count,
                gathered: tokens * d_model,
                lists: tokens * count,
                counts: count,
                ..Self::default()
            },
        }
    }

    fn cover(&mut self, other: Self) {
        let pairs = [
            (&mut self.wide, other.wide),
            (&mut self.conv, other.conv),
            (&mut self.projected, other.projected),
            (&mut self.delta, other.delta),
            (&mut self.y, other.y),
            (&mut self.starts, other.starts),
            (&mut self.sums, other.sums),
            (&mut self.parts, other.parts),
            (&mut self.gathered, other.gathered),
            (&mut self.lists, other.lists),
            (&mut self.counts, other.counts),
            (&mut self.meet, other.meet),
        ];
        for (mine, theirs) in pairs {
            *mine = (*mine).max(theirs);
        }
    }
}

impl Scratch {
    /// For chunks of up to `tokens` tokens of a model.
    ///
    /// # Errors
    /// When the device has no memory for them: fewer tokens may fit.
    pub(crate) fn new(gpu: &Arc<Gpu>, model: &Model, tokens: usize) -> Result<Self, BackendError> {
        let stream = tokens * model.config.d_model;
        let lens = Lengths::of(model, gpu, tokens);
        let floats = |len| Buffer::<f32>::new(gpu, Use::Activations, len);
        Ok(Self {
            tokens,
            x: floats(stream)?,
            norm: floats(stream)?,
            out: floats(stream)?,
            wide: floats(lens.wide)?,
            conv: floats(lens.conv)?,
            projected: floats(lens.projected)?,
            delta: floats(lens.delta)?,
            y: floats(lens.y)?,
            starts: floats(lens.starts)?,
            sums: floats(lens.sums)?,
            parts: floats(lens.parts)?,
            partial: floats(PARTIAL)?,
            gathered: floats(lens.gathered)?,
            mixed: floats(lens.gathered)?,
            lists: Buffer::new(gpu, Use::Activations, lens.lists)?,
            counts: Buffer::new(gpu, Use::Activations, lens.counts)?,
            meet: Buffer::zeros(gpu, Use::Activations, lens.meet)?,
        })
    }

    fn floats(&self) -> [&Buffer<f32>; 13] {
        [
            &self.norm,
            &self.out,
            &self.wide,
            &self.conv,
            &self.projected,
            &self.delta,
            &self.y,
            &self.starts,
            &self.sums,
            &self.parts,
            &self.partial,
            &self.gathered,
            &self.mixed,
        ]
    }

    /// Makes everything but the residual stream, and the place where a scan's blocks meet, no number, so that a value some kernel
    /// forgot to write shows.
    pub(crate) fn poison(&self) -> Result<(), BackendError> {
        for buffer in self.floats() {
            buffer.fill(0xff)?;
        }
        self.lists.fill(0xff)?;
        self.counts.fill(0xff)
    }
}

/// A chunk under way.
pub(crate) struct Pass<'a> {
    pub gpu: &'a Gpu,
    pub model: &'a Model,
    pub tokens: usize,
    /// Tokens read before the chunk, on the device.
    pub position: &'a Buffer<i32>,
    /// The same, as far as this machine knows it; a captured pass must not depend on it.
    pub past: usize,
    /// Whether the chunk is a token that was just written.
    pub is_step: bool,
    /// Whether every block begins with buffers that hold no number.
    pub is_poisoning: bool,
    pub scratch: &'a Scratch,
    /// Who looks; `None` when nothing is wanted, and then stages may be fused.
    pub tap: Option<&'a mut (dyn Tap + 'a)>,
}

impl Pass<'_> {
    pub(crate) fn width(&self) -> usize {
        self.model.config.d_model
    }

    /// Whether stages may be fused: one token, and nobody looks between them.
    pub(crate) fn may_fuse(&self) -> bool {
        self.tokens == 1 && self.tap.is_none()
    }

    pub(crate) fn wants(&self, site: Site) -> bool {
        self.tap.as_ref().is_some_and(|tap| tap.wants(site))
    }

    /// A buffer for what the tap wants of a site, when it wants it.
    pub(crate) fn room_for(
        &self,
        site: Site,
        len: usize,
    ) -> Result<Option<Buffer<f32>>, BackendError> {
        self.wants(site)
            .then(|| Buffer::new(self.scratch.x.gpu(), Use::Activations, len))
            .transpose()
    }

    /// Hands columns `from..` of `[l, row]` to the tap, as `shape`, if it wants them.
    pub(crate) fn record(
        &mut self,
        site: Site,
        buffer: &Buffer<f32>,
        [from, row]: [usize; 2],
        shape: &[usize],
    ) -> Result<(), BackendError> {
        let Some(tap) = self.tap.as_deref_mut().filter(|tap| tap.wants(site)) else {
            return Ok(());
        };
        let width: usize = shape.iter().skip(1).product();
        let all = buffer.download(from, (self.tokens - 1) * row + width)?;
        let compact: Vec<f32> = if row == width {
            all
        } else {
            let rows = all.chunks(row);
            rows.flat_map(|values| values.iter().take(width).copied())
                .collect()
        };
        let view = ArrayViewD::from_shape(shape, &compact).map_err(|error| {
            BackendError::Device(format!(
                "what the device recorded at {site:?} is not of shape {shape:?} ({error}): this is a fault of the program, please report it"
            ))
        })?;
        tap.record(site, view);
        Ok(())
    }

    fn stream(&self) -> Rows {
        Rows::of(&self.scratch.x, 0, self.width())
    }

    /// Where a mixer finds its input after [`Pass::norm`].
    pub(crate) fn normed(&self) -> Rows {
        Rows::of(&self.scratch.norm, 0, self.width())
    }

    /// `scratch.norm` = RMSNorm(x).
    pub(crate) fn norm(
        &mut self,
        weight: &Buffer<f32>,
        site: Option<Site>,
    ) -> Result<(), BackendError> {
        let norm = self.norm_with(weight);
        let shape = [self.tokens, self.width()];
        rms_norm(self.gpu, self.stream(), self.normed(), shape, norm, false)?;
        match site {
            Some(site) => self.record(site, &self.scratch.norm, [0, self.width()], &shape),
            None => Ok(()),
        }
    }

    /// y = W · RMSNorm(x) + b, the norm in between for whoever looks.
    pub(crate) fn norm_and_project(
        &mut self,
        weight: &Buffer<f32>,
        linear: &Linear,
        y: Rows,
        site: Site,
    ) -> Result<(), BackendError> {
        if self.may_fuse() {
            let product = self.product(self.stream(), linear, y);
            return product.run_normed(self.gpu, self.norm_with(weight));
        }
        if !self.wants(site) {
            let product = self.product(self.normed(), linear, y);
            if product.likes_split() {
                let shape = [self.tokens, self.width()];
                let norm = self.norm_with(weight);
                rms_norm(self.gpu, self.stream(), self.normed(), shape, norm, true)?;
                let product = Product {
                    is_split: true,
                    ..product
                };
                return product.run(self.gpu);
            }
        }
        self.norm(weight, Some(site))?;
        self.product(self.normed(), linear, y).run(self.gpu)
    }

    /// The model's norm with a weight.
    pub(crate) fn norm_with<'b>(&self, weight: &'b Buffer<f32>) -> Norm<'b> {
        Norm {
            weight: Some(weight),
            eps: self.model.config.norm_eps,
        }
    }

    /// y = W · x + b.
    pub(crate) fn product<'b>(&'b self, x: Rows, linear: &'b Linear, y: Rows) -> Product<'b> {
        Product {
            bias: linear.bias.as_ref(),
            ..self.matrix_product(x, &linear.weight, y)
        }
    }

    /// y = W · x.
    pub(crate) fn matrix_product<'b>(
        &'b self,
        x: Rows,
        weight: &'b Matrix,
        y: Rows,
    ) -> Product<'b> {
        Product {
            x,
            rows: self.tokens,
            weight,
            bias: None,
            y,
            adds: false,
            row_count: None,
            overlaps: self.may_fuse(),
            is_split: false,
            partial: Some(&self.scratch.partial),
        }
    }

    /// x ← x + W · y + b: what a mixer gives, in between for whoever looks. y is used up.
    pub(crate) fn add_product(
        &mut self,
        y: Rows,
        linear: &Linear,
        site: Option<Site>,
    ) -> Result<(), BackendError> {
        let stream = self.stream();
        let shape = [self.tokens, self.width()];
        let is_split = self.product(y, linear, stream).likes_split();
        if is_split {
            split_rows(self.gpu, y, [self.tokens, linear.weight.inputs])?;
        }
        match site.filter(|site| self.wants(*site)) {
            None => {
                let product = Product {
                    adds: true,
                    is_split,
                    ..self.product(y, linear, stream)
                };
                product.run(self.gpu)
            }
            Some(site) => {
                let out = Rows::of(&self.scratch.out, 0, self.width());
                let product = Product {
                    is_split,
                    ..self.product(y, linear, out)
                };
                product.run(self.gpu)?;
                self.record(site, &self.scratch.out, [0, self.width()], &shape)?;
                Pairwise::Add.run(self.gpu, out, stream, shape)
            }
        }
    }

    /// The residual stream, to whoever looks.
    pub(crate) fn record_stream(&mut self, site: Site) -> Result<(), BackendError> {
        let shape = [self.tokens, self.width()];
        self.record(site, &self.scratch.x, [0, self.width()], &shape)
    }
}
