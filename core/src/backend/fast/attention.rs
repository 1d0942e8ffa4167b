//! Softmax attention over a chunk of tokens and everything cached before it. The steps are numbered as in the naive backend.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use ndarray::{Array2, Array3};
use rayon::prelude::*;

use super::math::{attend, softmax};
use super::matmul::{Rows, linear};
use super::session::{Pass, record, room, view};
use crate::backend::rotary_angle;
use crate::model::{AttentionDims, AttentionMixer};
use crate::state::KvCache;
use crate::tensor::Tensor;
use crate::trace::{Probe, Site};

/// Below this many multiply-adds a second thread costs more than it brings.
const PARALLEL_FROM: usize = 1 << 18;

/// The cache of one block. It grows by doubling, so that a token rarely waits for memory.
pub(super) struct AttentionBlock {
    dims: AttentionDims,
    /// `[tokens, kv_heads · head_dim]`, rotated.
    keys: Vec<f32>,
    /// `[tokens, kv_heads · head_dim]`.
    values: Vec<f32>,
}

/// Buffers of a chunk.
#[derive(Default)]
pub(super) struct AttentionScratch {
    /// `[l, heads · head_dim]`.
    queries: Vec<f32>,
    /// Sines and cosines of the chunk's positions, `[l, head_dim]`: a sine and a cosine for each pair.
    turns: Vec<f32>,
    /// For each head `[l, tokens]` of weights and `[l, head_dim]` of its output.
    heads: Vec<f32>,
    /// `[l, heads · head_dim]`.
    mixed: Vec<f32>,
}

impl AttentionBlock {
    pub(super) fn new(dims: &AttentionDims) -> Self {
        Self {
            dims: *dims,
            keys: Vec::new(),
            values: Vec::new(),
        }
    }

    fn cached(&self) -> usize {
        self.keys.len() / self.dims.kv_width()
    }

    pub(super) fn state(&self) -> KvCache {
        let array = |rows: &[f32]| view(rows, self.cached(), self.dims.kv_width()).to_owned();
        KvCache {
            keys: array(&self.keys),
            values: array(&self.values),
        }
    }

    pub(super) fn set_state(&mut self, state: &KvCache) {
        let fill = |mine: &mut Vec<f32>, given: &Array2<f32>| {
            mine.clear();
            mine.extend(given.iter());
        };
        fill(&mut self.keys, &state.keys);
        fill(&mut self.values, &state.values);
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> usize {
        (self.keys.len() + self.values.len()) * size_of::<f32>()
    }

    /// `out_le` = mixer(`norm_le`); the cache grows by a row a token.
    pub(super) fn mix(&mut self, pass: &mut Pass<'_>, i: usize, weights: &AttentionMixer) {
        let past = self.cached();
        self.project(pass, past, weights);
        self.attend(pass, past, i);
        let scratch = &mut *pass.scratch;
        linear(
            &mut scratch.out_le,
            Rows::whole(&scratch.attention.mixed, self.dims.query_width()),
            &weights.o_proj,
            weights.o_bias.as_ref(),
            &mut scratch.products,
            pass.products,
        );
        let shape = [pass.tokens, pass.model.config.d_model];
        let site = Site::layer(i, Probe::MixerOutput);
        record(pass.tap, site, &scratch.out_le, &shape);
    }

    /// 1. queries, keys and values, the last two straight into the cache; 2. positions.
    fn project(&mut self, pass: &mut Pass<'_>, past: usize, weights: &AttentionMixer) {
        let (width, tokens) = (pass.width(), pass.tokens);
        let (q, kv) = (self.dims.query_width(), self.dims.kv_width());
        let scratch = &mut pass.scratch.attention;
        let normed = Rows::whole(&pass.scratch.norm_le, width);
        let products = &mut pass.scratch.products;
        let mut project = |out: &mut [f32], weight: &Tensor, bias: &Option<Tensor>| {
            linear(out, normed, weight, bias.as_ref(), products, pass.products);
        };
        let queries = room(&mut scratch.queries, tokens * q);
        self.keys.resize((past + tokens) * kv, 0.0);
        self.values.resize((past + tokens) * kv, 0.0);
        let keys = &mut self.keys[past * kv..];
        project(queries, &weights.q_proj, &weights.q_bias);
        project(keys, &weights.k_proj, &weights.k_bias);
        project(
            &mut self.values[past * kv..],
            &weights.v_proj,
            &weights.v_bias,
        );
        if let Some(theta) = self.dims.rope_theta {
            let width = self.dims.head_dim;
            let turns = room(&mut scratch.turns, tokens * width);
            for (l, turns) in turns.chunks_exact_mut(width).enumerate() {
                for (pair, turn) in turns.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                    let angle = rotary_angle(past + l, pair, width, theta);
                    *turn = angle.sin_cos().into();
                }
            }
            rotate(queries, turns, q, width);
            rotate(keys, turns, kv, width);
        }
    }

    /// 4. for each head the weights of the tokens up to each one's own, and the values weighted by them.
    fn attend(&self, pass: &mut Pass<'_>, past: usize, i: usize) {
        let AttentionDims {
            heads,
            kv_heads,
            head_dim: width,
            ..
        } = self.dims;
        let (tokens, seen) = (pass.tokens, past + pass.tokens);
        let (q, kv) = (self.dims.query_width(), self.dims.kv_width());
        let scratch = &mut pass.scratch.attention;
        let each = tokens * (seen + width);
        let work = room(&mut scratch.heads, heads * each);
        let queries = &scratch.queries;
        let head = |(head, work): (usize, &mut [f32])| {
            let group = head / (heads / kv_heads);
            let (weights, out) = work.split_at_mut(tokens * seen);
            let of = Head {
                queries: Rows {
                    data: &queries[head * width..],
                    width,
                    stride: q,
                },
                keys: Rows {
                    data: &self.keys[group * width..],
                    width,
                    stride: kv,
                },
                values: Rows {
                    data: &self.values[group * width..],
                    width,
                    stride: kv,
                },
            };
            of.run(past, weights, out);
        };
        if pass.products.threads == 1 || heads * each * width < PARALLEL_FROM {
            work.chunks_exact_mut(each).enumerate().for_each(head);
        } else {
            work.par_chunks_exact_mut(each).enumerate().for_each(head);
        }
        let mixed = room(&mut scratch.mixed, tokens * q);
        for (head, work) in work.chunks_exact(each).enumerate() {
            let out = work[tokens * seen..].chunks_exact(width);
            for (mixed, out) in mixed.chunks_exact_mut(q).zip(out) {
                mixed[head * width..][..width].copy_from_slice(out);
            }
        }
        let site = Site::layer(i, Probe::Attention);
        if pass.tap.wants(site) {
            let weights = Array3::from_shape_fn((tokens, heads, seen), |(l, head, m)| {
                work[head * each + l * seen + m]
            });
            pass.tap.record(site, weights.view().into_dyn());
        }
    }
}

/// What one head reads.
struct Head<'a> {
    queries: Rows<'a>,
    keys: Rows<'a>,
    values: Rows<'a>,
}

impl Head<'_> {
    /// `weights` `[l, tokens]` and `out` `[l, head_dim]`, the chunk's first token standing behind `past` others.
    fn run(&self, past: usize, weights: &mut [f32], out: &mut [f32]) {
        let width = self.queries.width;
        let tokens = out.len() / width;
        let seen = past + tokens;
        let scale = (width as f32).sqrt().recip();
        if tokens == 1 {
            return attend(
                self.queries.row(0),
                &self.keys,
                &self.values,
                scale,
                weights,
                out,
            );
        }
        let products = MatMut::from_row_major_slice_mut(weights, tokens, seen);
        let (queries, keys) = (self.queries.matrix(tokens), self.keys.matrix(seen));
        matmul(
            products,
            Accum::Replace,
            queries,
            keys.transpose(),
            scale,
            Par::Seq,
        );
        for (l, row) in weights.chunks_exact_mut(seen).enumerate() {
            let (past, to_come) = row.split_at_mut(past + l + 1);
            softmax(past);
            to_come.fill(0.0);
        }
        let weights = MatRef::from_row_major_slice(&*weights, tokens, seen);
        let out = MatMut::from_row_major_slice_mut(out, tokens, width);
        matmul(
            out,
            Accum::Replace,
            weights,
            self.values.matrix(seen),
            1.0,
            Par::Seq,
        );
    }
}

/// Turns each head's pairs (i, i + width/2) of every token by the token's angles.
fn rotate(x: &mut [f32], turns: &[f32], row: usize, width: usize) {
    for (x, turns) in x.chunks_exact_mut(row).zip(turns.chunks_exact(width)) {
        for head in x.chunks_exact_mut(width) {
            let (first, second) = head.split_at_mut(width / 2);
            for ((a, b), [sin, cos]) in first.iter_mut().zip(second).zip(turns.as_chunks::<2>().0) {
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }
}
