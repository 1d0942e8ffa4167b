//! y = x · Wᵀ: blocked matrix products for many tokens (faer), dot products for one.

use std::num::NonZeroUsize;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::math::dot;

/// Below so many multiply-adds a second thread costs more than it brings: for a product of matrices, and for one token,
/// where the time is that of reading the weights.
const PARALLEL_MATRIX: usize = 1 << 18;
pub(super) const PARALLEL_VECTOR: usize = 1 << 20;

/// A row-major matrix whose rows may lie apart: `rows` rows of `width` values, `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) data: &'a [f32],
    pub(super) width: usize,
    pub(super) stride: usize,
}

impl<'a> Rows<'a> {
    /// Rows that lie one behind the other.
    pub(super) fn whole(data: &'a [f32], width: usize) -> Self {
        Self {
            data,
            width,
            stride: width,
        }
    }

    /// The first `count` rows, as the matrix products read them.
    pub(super) fn matrix(&self, count: usize) -> MatRef<'a, f32> {
        MatRef::from_row_major_slice_with_stride(self.data, count, self.width, self.stride)
    }

    /// Row `index`.
    pub(super) fn row(&self, index: usize) -> &'a [f32] {
        &self.data[index * self.stride..][..self.width]
    }
}

/// `y [l, o] = x [l, i] · Wᵀ`, `W` stored `[o, i]`; then the bias `[o]` is added.
pub(super) fn linear(
    y: &mut [f32],
    x: Rows<'_>,
    weight_oi: &[f32],
    bias: Option<&[f32]>,
    threads: usize,
) {
    let d_in = x.width;
    let d_out = weight_oi.len().checked_div(d_in).unwrap_or(0);
    let tokens = y.len().checked_div(d_out).unwrap_or(0);
    let (work, least) = if tokens == 1 {
        (weight_oi.len(), PARALLEL_VECTOR)
    } else {
        (tokens * weight_oi.len(), PARALLEL_MATRIX)
    };
    let threads = if work < least { 1 } else { threads };
    if tokens == 1 {
        matrix_vector(y, &x.data[..d_in], weight_oi, threads);
    } else {
        let x = x.matrix(tokens);
        let weight = MatRef::from_row_major_slice(weight_oi, d_out, d_in);
        let y = MatMut::from_row_major_slice_mut(y, tokens, d_out);
        let par = NonZeroUsize::new(threads)
            .filter(|n| n.get() > 1)
            .map_or(Par::Seq, Par::Rayon);
        matmul(y, Accum::Replace, x, weight.transpose(), 1.0, par);
    }
    if let Some(bias) = bias {
        for y in y.chunks_exact_mut(d_out) {
            for (y, b) in y.iter_mut().zip(bias) {
                *y += b;
            }
        }
    }
}

fn matrix_vector(y: &mut [f32], x: &[f32], weight_oi: &[f32], threads: usize) {
    let part = |y: &mut [f32], weight: &[f32]| {
        for (y, row) in y.iter_mut().zip(weight.chunks_exact(x.len())) {
            *y = dot(row, x);
        }
    };
    if threads == 1 {
        part(y, weight_oi);
    } else {
        let rows = y.len().div_ceil(threads);
        y.par_chunks_mut(rows)
            .zip(weight_oi.par_chunks(rows * x.len()))
            .for_each(|(y, weight)| part(y, weight));
    }
}
