//! Mamba-2's scan in chunks: inside a chunk a masked matrix product, between chunks the recurrence (Mamba-2, arXiv:2405.21060,
//! section 6 and Listing 1).
//!
//! With X = Δ·x, a = Δ·A and c the running sum of a inside the chunk, for every head:
//!
//! 1. diagonal block: Y_i += Σ_{j≤i} (C_i·B_j) exp(c_i − c_j) X_j
//! 2. chunk state: S = Σ_j exp(c_Q − c_j) X_j ⊗ B_j
//! 3. across chunks: h' = exp(c_Q) h + S
//! 4. what came before: Y_i += exp(c_i) C_i·h
//!
//! exp is taken of c_i − c_j with j ≤ i alone, which is never above zero: above the diagonal it would overflow.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::hand_out;
use super::math::{exp_multiply, multiply_add_scalar, recur};
use super::matmul::Rows;
use super::session::room;

/// Below this many multiply-adds a second thread costs more than it brings.
const PARALLEL_FROM: usize = 1 << 18;

/// The same for the values of the state that one token moves.
const PARALLEL_STEP: usize = 1 << 16;

/// Sizes of a scan.
#[derive(Clone, Copy)]
pub(super) struct SsdDims {
    pub(super) heads: usize,
    /// Channels of a head, `p`.
    pub(super) head_dim: usize,
    pub(super) groups: usize,
    /// `n`.
    pub(super) d_state: usize,
}

/// What the scan reads. Δ is final; rows of x, B and C may lie apart.
#[derive(Clone, Copy)]
pub(super) struct Ssd<'a> {
    pub(super) dims: SsdDims,
    /// `[l, h·p]`.
    pub(super) x: Rows<'a>,
    /// `[l, g·n]`.
    pub(super) b: Rows<'a>,
    /// `[l, g·n]`.
    pub(super) c: Rows<'a>,
    /// `[l, h]`.
    pub(super) delta_lh: &'a [f32],
    /// `[h]`.
    pub(super) a_h: &'a [f32],
    /// `[h]`.
    pub(super) d_skip_h: &'a [f32],
}

impl SsdDims {
    fn heads_of_a_group(&self) -> usize {
        self.heads / self.groups
    }

    /// Values of the state of a head.
    fn state_len(&self) -> usize {
        self.head_dim * self.d_state
    }

    /// Values a head works in for a chunk of `q` tokens: decays from its beginning and to its end, its mask, X, and its output.
    fn work_len(&self, q: usize) -> usize {
        2 * q + q * q + 2 * q * self.head_dim
    }
}

impl Ssd<'_> {
    fn tokens(&self) -> usize {
        self.delta_lh.len() / self.dims.heads
    }

    /// Moves the state `[h, p, n]` over all tokens and writes y `[l, h·p]`, `chunk` tokens at a time.
    pub(super) fn run(
        &self,
        chunk: usize,
        h_hpn: &mut [f32],
        y_ld: &mut [f32],
        work: &mut Vec<f32>,
        threads: usize,
    ) {
        let tokens = self.tokens();
        if tokens == 1 {
            return self.step(0, h_hpn, y_ld, threads);
        }
        // Never longer than the text: a file may name any chunk.
        let chunk = chunk.clamp(1, tokens);
        for start in (0..tokens).step_by(chunk) {
            let q = chunk.min(tokens - start);
            let y = &mut y_ld[start * self.dims.heads * self.dims.head_dim..];
            self.chunk(start, q, h_hpn, y, work, threads);
        }
    }

    /// One token by the recurrence.
    pub(super) fn step(&self, l: usize, h_hpn: &mut [f32], y_d: &mut [f32], threads: usize) {
        let SsdDims {
            heads,
            head_dim,
            d_state,
            ..
        } = self.dims;
        let states = h_hpn.chunks_exact_mut(self.dims.state_len());
        let pieces = states.zip(y_d.chunks_exact_mut(head_dim)).enumerate();
        let head = |(h, (h_pn, y_p)): (usize, (&mut [f32], &mut [f32]))| {
            let g = h / self.dims.heads_of_a_group();
            let delta = self.delta_lh[l * heads + h];
            let x_p = &self.x.row(l)[h * head_dim..][..head_dim];
            let b_n = &self.b.row(l)[g * d_state..][..d_state];
            let c_n = &self.c.row(l)[g * d_state..][..d_state];
            let decay = (delta * self.a_h[h]).exp();
            recur(h_pn, y_p, decay, delta, x_p, b_n, c_n);
            multiply_add_scalar(y_p, self.d_skip_h[h], x_p);
        };
        // The state comes from memory, as weights do.
        let is_small = heads * self.dims.state_len() < PARALLEL_STEP;
        let threads = if is_small { 1 } else { threads };
        hand_out(pieces, threads, || (), |(), piece| head(piece));
    }

    /// `q` tokens from `start` on; `y_ld` begins with theirs.
    fn chunk(
        &self,
        start: usize,
        q: usize,
        h_hpn: &mut [f32],
        y_ld: &mut [f32],
        work: &mut Vec<f32>,
        threads: usize,
    ) {
        let dims = self.dims;
        let each = dims.work_len(q);
        let work = room(work, dims.groups * q * q + dims.heads * each);
        let (cb, heads) = work.split_at_mut(dims.groups * q * q);
        // C_i·B_j is the same for all heads of a group.
        for (g, cb) in cb.chunks_exact_mut(q * q).enumerate() {
            let (c, b) = (self.part(&self.c, start, g), self.part(&self.b, start, g));
            let stride = (self.c.stride, self.b.stride);
            let c = MatRef::from_row_major_slice_with_stride(c, q, dims.d_state, stride.0);
            let b = MatRef::from_row_major_slice_with_stride(b, q, dims.d_state, stride.1);
            let cb = MatMut::from_row_major_slice_mut(cb, q, q);
            matmul(cb, Accum::Replace, c, b.transpose(), 1.0, Par::Seq);
        }
        let head = |(h, (h_pn, work)): (usize, (&mut [f32], &mut [f32]))| {
            let g = h / dims.heads_of_a_group();
            self.head(start, q, h, h_pn, &cb[g * q * q..][..q * q], work);
        };
        let multiply_adds = dims.heads * q * (q + dims.d_state) * dims.head_dim;
        if threads == 1 || multiply_adds < PARALLEL_FROM {
            h_hpn
                .chunks_exact_mut(dims.state_len())
                .zip(heads.chunks_exact_mut(each))
                .enumerate()
                .for_each(head);
        } else {
            h_hpn
                .par_chunks_exact_mut(dims.state_len())
                .zip(heads.par_chunks_exact_mut(each))
                .enumerate()
                .for_each(head);
        }
        // Heads have written theirs one behind the other.
        let (d, p) = (dims.heads * dims.head_dim, dims.head_dim);
        for (h, work) in heads.chunks_exact(each).enumerate() {
            let y_qp = &work[each - q * p..];
            for (y_d, y_p) in y_ld.chunks_exact_mut(d).zip(y_qp.chunks_exact(p)) {
                y_d[h * p..][..p].copy_from_slice(y_p);
            }
        }
    }

    /// Group `g`'s values from token `start` on.
    fn part<'a>(&self, of: &Rows<'a>, start: usize, g: usize) -> &'a [f32] {
        &of.data[start * of.stride + g * self.dims.d_state..]
    }

    /// One head over a chunk; its y comes last in `work`.
    fn head(
        &self,
        start: usize,
        q: usize,
        h: usize,
        h_pn: &mut [f32],
        cb: &[f32],
        work: &mut [f32],
    ) {
        let SsdDims {
            heads,
            head_dim: p,
            d_state: n,
            ..
        } = self.dims;
        let g = h / self.dims.heads_of_a_group();
        let (from_start, work) = work.split_at_mut(q);
        let (to_end, work) = work.split_at_mut(q);
        let (mask, work) = work.split_at_mut(q * q);
        let (x_qp, y_qp) = work.split_at_mut(q * p);
        let delta = |i: usize| self.delta_lh[(start + i) * heads + h];
        let x_of = |i: usize| &self.x.row(start + i)[h * p..][..p];

        // c_i − c_j is summed up and never taken as a difference: c grows large over a long chunk.
        let mut sum = 0.0;
        for (i, x_p) in x_qp.chunks_exact_mut(p).enumerate() {
            let delta = delta(i);
            let step = delta * self.a_h[h];
            sum += step;
            // Row i of the mask is row i − 1, one step further from every j, and 0 for i itself.
            let (past, row) = mask.split_at_mut(i * q);
            if let Some(last) = i.checked_sub(1).map(|last| &past[last * q..]) {
                for (now, last) in row[..i].iter_mut().zip(last) {
                    *now = last + step;
                }
            }
            row[i] = 0.0;
            from_start[i] = sum.exp();
            for (x, raw) in x_p.iter_mut().zip(x_of(i)) {
                *x = delta * raw;
            }
        }
        to_end.copy_from_slice(&mask[(q - 1) * q..]);
        to_end.iter_mut().for_each(|sum| *sum = sum.exp());
        for (i, row) in mask.chunks_exact_mut(q).enumerate() {
            exp_multiply(&mut row[..=i], &cb[i * q..][..=i]);
            row[i + 1..].fill(0.0);
        }

        // 1. the diagonal block; 4. what came before
        let state = MatRef::from_row_major_slice(&*h_pn, p, n);
        let c = self.part(&self.c, start, g);
        let c = MatRef::from_row_major_slice_with_stride(c, q, n, self.c.stride);
        let y = MatMut::from_row_major_slice_mut(y_qp, q, p);
        matmul(y, Accum::Replace, c, state.transpose(), 1.0, Par::Seq);
        for (y_p, decay) in y_qp.chunks_exact_mut(p).zip(&*from_start) {
            y_p.iter_mut().for_each(|y| *y *= decay);
        }
        let x = MatRef::from_row_major_slice(&*x_qp, q, p);
        let mask = MatRef::from_row_major_slice(&*mask, q, q);
        let y = MatMut::from_row_major_slice_mut(y_qp, q, p);
        matmul(y, Accum::Add, mask, x, 1.0, Par::Seq);

        // 2. and 3. the state at the chunk's end
        for (x_p, decay) in x_qp.chunks_exact_mut(p).zip(&*to_end) {
            x_p.iter_mut().for_each(|x| *x *= decay);
        }
        let decay = from_start[q - 1];
        h_pn.iter_mut().for_each(|h| *h *= decay);
        let x = MatRef::from_row_major_slice(&*x_qp, q, p);
        let b = self.part(&self.b, start, g);
        let b = MatRef::from_row_major_slice_with_stride(b, q, n, self.b.stride);
        let state = MatMut::from_row_major_slice_mut(h_pn, p, n);
        matmul(state, Accum::Add, x.transpose(), b, 1.0, Par::Seq);

        // the skip reads x as it is, not Δ·x
        for (i, y_p) in y_qp.chunks_exact_mut(p).enumerate() {
            multiply_add_scalar(y_p, self.d_skip_h[h], x_of(i));
        }
    }
}
