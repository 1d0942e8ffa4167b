//! Softmax attention over a chunk of tokens and everything cached before it.

use std::sync::Arc;

use mambascope_core::backend::{BackendError, rotary_frequency};
use mambascope_core::model::AttentionDims;
use mambascope_core::state::KvCache;
use mambascope_core::trace::{Probe, Site};

use crate::buffer::Buffer;
use crate::gpu::{Gpu, Grid, Kernel, KernelArgs, Use};
use crate::ops::Rows;
use crate::pass::Pass;
use crate::source::Source;
use crate::weights::AttentionWeights;

/// Widest head (`MAX_HEAD_DIM` in attention.cu).
pub(crate) const WIDEST_HEAD: usize = 256;
/// Rows a cache begins with.
const FIRST_ROWS: usize = 256;

/// The cache of one block; it grows by doubling, while there is memory for twice as much.
pub(crate) struct Cache {
    /// `[rows, kv_heads · head_dim]`, rotated.
    keys: Buffer<f32>,
    /// `[rows, kv_heads · head_dim]`.
    values: Buffer<f32>,
    /// Of the rotary positions, `[head_dim / 2]`.
    frequencies: Option<Buffer<f32>>,
    width: usize,
    rows: usize,
}

impl Cache {
    pub(crate) fn new(gpu: &Arc<Gpu>, dims: &AttentionDims) -> Result<Self, BackendError> {
        let frequencies = dims.rope_theta.map(|theta| {
            let pairs = 0..dims.head_dim / 2;
            let values: Vec<f32> = pairs
                .map(|i| rotary_frequency(i, dims.head_dim, theta))
                .collect();
            Buffer::of(gpu, Use::Activations, &values)
        });
        let width = dims.kv_width();
        Ok(Self {
            keys: Buffer::new(gpu, Use::State, FIRST_ROWS * width)?,
            values: Buffer::new(gpu, Use::State, FIRST_ROWS * width)?,
            frequencies: frequencies.transpose()?,
            width,
            rows: FIRST_ROWS,
        })
    }

    /// Makes room for `wanted` rows, keeping the first `used`; whether its buffers are others now.
    pub(crate) fn grow(&mut self, wanted: usize, used: usize) -> Result<bool, BackendError> {
        if wanted <= self.rows {
            return Ok(false);
        }
        let gpu = Arc::clone(self.keys.gpu());
        let pair = |rows: usize| {
            let keys = Buffer::new(&gpu, Use::State, rows * self.width)?;
            let values = Buffer::new(&gpu, Use::State, rows * self.width)?;
            Ok((rows, keys, values))
        };
        let (rows, mut keys, mut values) = match pair(wanted.next_power_of_two()) {
            Err(BackendError::DeviceMemory { .. }) => pair(wanted)?,
            made => made?,
        };
        keys.copy_from(&self.keys, 0, used * self.width)?;
        values.copy_from(&self.values, 0, used * self.width)?;
        (self.keys, self.values, self.rows) = (keys, values, rows);
        Ok(true)
    }

    pub(crate) fn state(&self, tokens: usize) -> Result<KvCache, BackendError> {
        Ok(KvCache {
            keys: self.keys.matrix(tokens, self.width)?,
            values: self.values.matrix(tokens, self.width)?,
        })
    }

    /// Takes over a cache that [`Cache::grow`] has made room for.
    pub(crate) fn set_state(&mut self, cache: &KvCache) -> Result<(), BackendError> {
        self.keys.upload_array(&cache.keys)?;
        self.values.upload_array(&cache.values)
    }

    /// Bytes of the rows of so many tokens.
    pub(crate) fn bytes_of(&self, tokens: usize) -> usize {
        2 * tokens * self.width * size_of::<f32>()
    }
}

/// How many ways the keys of one token are cut, so that few tokens fill the chip too.
fn splits(gpu: &Gpu, dims: &AttentionDims, tokens: usize) -> usize {
    const MOST_SPLITS: usize = 64;
    let wanted = 4 * gpu.multiprocessors();
    wanted.div_ceil(tokens * dims.heads).clamp(1, MOST_SPLITS)
}

/// Values the parts of a token's keys give, for any chunk: with several parts there are fewer than four times as many tokens
/// and heads as multiprocessors.
pub(crate) fn parts_len(gpu: &Gpu, dims: &AttentionDims) -> usize {
    8 * gpu.multiprocessors() * (dims.head_dim + 2)
}

/// `RopeArgs` of attention.cu.
#[repr(C)]
struct RopeArgs {
    rows: u64,
    inv_freq: u64,
    position: u64,
    tokens: i32,
    row: i32,
    heads: i32,
    width: i32,
}
#[expect(unsafe_code, reason = "laid out as in attention.cu")]
// SAFETY: the same fields in the same order.
unsafe impl KernelArgs for RopeArgs {}

/// `KvAppendArgs` of attention.cu.
#[repr(C)]
struct KvAppendArgs {
    keys: u64,
    values: u64,
    key_cache: u64,
    value_cache: u64,
    position: u64,
    tokens: i32,
    kv_width: i32,
    key_row: i32,
    value_row: i32,
}
#[expect(unsafe_code, reason = "laid out as in attention.cu")]
// SAFETY: the same fields in the same order.
unsafe impl KernelArgs for KvAppendArgs {}

/// `AttentionArgs` of attention.cu.
#[repr(C)]
#[derive(Clone, Copy)]
struct AttentionArgs {
    queries: u64,
    keys: u64,
    values: u64,
    out: u64,
    parts: u64,
    record: u64,
    position: u64,
    tokens: i32,
    heads: i32,
    kv_heads: i32,
    head_dim: i32,
    q_row: i32,
    out_row: i32,
    splits: i32,
    scale: f32,
}
#[expect(unsafe_code, reason = "laid out as in attention.cu")]
// SAFETY: the same fields in the same order: 7 pointers, 7 ints, a float.
unsafe impl KernelArgs for AttentionArgs {}

/// x ← x + mixer(RMSNorm(x)) for block `i`; the cache, which has room, grows by a row a token.
pub(crate) fn run(
    pass: &mut Pass<'_>,
    i: usize,
    norm: &Buffer<f32>,
    weights: &AttentionWeights,
    dims: &AttentionDims,
    cache: &Cache,
) -> Result<(), BackendError> {
    project(pass, i, norm, weights, dims, cache)?;
    attend(pass, i, dims, cache)?;
    let y = Rows::of(&pass.scratch.y, 0, dims.query_width());
    let site = Site::layer(i, Probe::MixerOutput);
    pass.add_product(y, &weights.o, Some(site))
}

/// 1. queries, keys and values; 2. positions; 3. the cache.
fn project(
    pass: &mut Pass<'_>,
    i: usize,
    norm: &Buffer<f32>,
    weights: &AttentionWeights,
    dims: &AttentionDims,
    cache: &Cache,
) -> Result<(), BackendError> {
    let (tokens, q, kv) = (pass.tokens, dims.query_width(), dims.kv_width());
    let row = q + 2 * kv;
    pass.norm(norm, Some(Site::layer(i, Probe::NormOut)))?;
    let scratch = pass.scratch;
    for (linear, from) in [(&weights.q, 0), (&weights.k, q), (&weights.v, q + kv)] {
        let y = Rows::of(&scratch.wide, from, row);
        pass.product(pass.normed(), linear, y).run(pass.gpu)?;
    }
    if let Some(frequencies) = &cache.frequencies {
        for (from, heads) in [(0, dims.heads), (q, dims.kv_heads)] {
            let args = RopeArgs {
                rows: scratch.wide.at(from),
                inv_freq: frequencies.pointer(),
                position: pass.position.pointer(),
                tokens: tokens as i32,
                row: row as i32,
                heads: heads as i32,
                width: dims.head_dim as i32,
            };
            let turns = tokens * heads * (dims.head_dim / 2);
            let grid = Grid::line(turns.div_ceil(256), 256);
            pass.gpu
                .launch(Kernel(Source::Attention, "rope"), grid, &args)?;
        }
    }
    let args = KvAppendArgs {
        keys: scratch.wide.at(q),
        values: scratch.wide.at(q + kv),
        key_cache: cache.keys.pointer(),
        value_cache: cache.values.pointer(),
        position: pass.position.pointer(),
        tokens: tokens as i32,
        kv_width: kv as i32,
        key_row: row as i32,
        value_row: row as i32,
    };
    let grid = Grid::line((tokens * kv).div_ceil(256), 256);
    pass.gpu
        .launch(Kernel(Source::Attention, "kv_append"), grid, &args)
}

/// 4. for each head the weights of the tokens up to each one's own, and the values weighted by them.
fn attend(
    pass: &mut Pass<'_>,
    i: usize,
    dims: &AttentionDims,
    cache: &Cache,
) -> Result<(), BackendError> {
    let (tokens, q) = (pass.tokens, dims.query_width());
    let scratch = pass.scratch;
    let splits = splits(pass.gpu, dims, tokens);
    let args = AttentionArgs {
        queries: scratch.wide.pointer(),
        keys: cache.keys.pointer(),
        values: cache.values.pointer(),
        out: scratch.y.pointer(),
        parts: scratch.parts.pointer(),
        record: 0,
        position: pass.position.pointer(),
        tokens: tokens as i32,
        heads: dims.heads as i32,
        kv_heads: dims.kv_heads as i32,
        head_dim: dims.head_dim as i32,
        q_row: (q + 2 * dims.kv_width()) as i32,
        out_row: q as i32,
        splits: splits as i32,
        scale: (dims.head_dim as f32).sqrt().recip(),
    };
    let kernel = |name| Kernel(Source::Attention, name);
    let mut grid = Grid::line(tokens * dims.heads, 128);
    grid.blocks[1] = splits;
    pass.gpu.launch(kernel("attention"), grid, &args)?;
    grid.blocks[1] = 1;
    if splits > 1 {
        pass.gpu.launch(kernel("attention_merge"), grid, &args)?;
    }
    let site = Site::layer(i, Probe::Attention);
    if pass.wants(site) {
        let seen = pass.past + tokens;
        let each = dims.heads * seen;
        let record = Buffer::<f32>::new(scratch.x.gpu(), Use::Activations, tokens * each)?;
        let args = AttentionArgs {
            record: record.pointer(),
            ..args
        };
        pass.gpu.launch(kernel("attention_weights"), grid, &args)?;
        pass.record(site, &record, [0, each], &[tokens, dims.heads, seen])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_have_no_holes() {
        assert_eq!(size_of::<RopeArgs>(), 3 * 8 + 4 * 4);
        assert_eq!(size_of::<KvAppendArgs>(), 5 * 8 + 4 * 4);
        assert_eq!(size_of::<AttentionArgs>(), 7 * 8 + 8 * 4);
    }
}
