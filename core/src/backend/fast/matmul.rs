//! y = x · Wᵀ, W in the numbers it is stored in: tiles for many tokens ([`super::tile`]), dot products for one ([`super::vector`]).
//! Sums are f32 throughout.

use faer::MatRef;
use ndarray::Axis;
use rayon::prelude::*;

use super::session::view_mut;
use super::tile::{self, Packed};
use super::vector::{Planes, products};
use crate::tensor::{Numbers, Tensor};

/// Below so many multiply-adds a second thread costs more than it brings: for a product of matrices, and for one token,
/// where the time is that of reading the weights.
const PARALLEL_MATRIX: usize = 1 << 18;
const PARALLEL_VECTOR: usize = 1 << 16;
/// Parts of a product of one token for each thread: what a disturbed thread leaves, the others take.
const PARTS: usize = 4;
/// Rows of weights a task of a product of many tokens takes: whole cache lines of y.
pub(super) const TASK_ROWS: usize = 48;

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

/// How products are made.
#[derive(Clone, Copy)]
pub(super) struct Products {
    pub(super) threads: usize,
    /// Whether a large product with bf16 weights may round x to bf16 where the processor has an instruction for that.
    pub(super) may_round: bool,
}

/// What products keep from one to the next: x as the kernels read it.
#[derive(Default)]
pub(super) struct ProductScratch {
    planes: Planes,
    packed: Packed,
}

/// `y [l, o] = x [l, i] · Wᵀ`, `W` stored `[o, i]`; then the bias `[o]` is added.
pub(super) fn linear(
    y: &mut [f32],
    x: Rows<'_>,
    weight_oi: &Tensor,
    bias: Option<&Tensor>,
    scratch: &mut ProductScratch,
    how: Products,
) {
    let d_out = weight_oi.shape().first().copied().unwrap_or(0);
    linear_parts(&mut [(y, d_out)], x, weight_oi, bias, scratch, how);
}

/// [`linear`] with the columns of y in several matrices, each with its number of columns.
pub(super) fn linear_parts(
    parts: &mut [(&mut [f32], usize)],
    x: Rows<'_>,
    weight_oi: &Tensor,
    bias: Option<&Tensor>,
    scratch: &mut ProductScratch,
    how: Products,
) {
    let Some((y, columns)) = parts.first() else {
        return;
    };
    let tokens = y.len().checked_div(*columns).unwrap_or(0);
    let numbers = weight_oi.numbers();
    if tokens == 1 {
        let planes = scratch.planes.of(x.row(0), &numbers);
        let mut from = 0;
        for (y, columns) in &mut *parts {
            let rows = numbers.rows(from..from + *columns, x.width);
            matrix_vector(y, planes, rows, how.threads);
            from += *columns;
        }
    } else if tokens > 1 {
        let work = tokens * weight_oi.len();
        let threads = if work < PARALLEL_MATRIX {
            1
        } else {
            how.threads
        };
        matrix_matrix(
            parts,
            x,
            &numbers,
            &mut scratch.packed,
            Products { threads, ..how },
        );
    }
    if let Some(bias) = bias {
        let mut bias = bias.as_f32();
        for (y, columns) in parts {
            let (own, rest) = bias.split_at(*columns);
            bias = rest;
            for y in y.chunks_exact_mut(*columns) {
                y.iter_mut().zip(own).for_each(|(y, b)| *y += b);
            }
        }
    }
}

fn matrix_vector(y: &mut [f32], x: &Planes, weight: Numbers<'_>, threads: usize) {
    let width = x.width();
    if threads == 1 || y.len() * width < PARALLEL_VECTOR {
        return products(y, x, weight);
    }
    let rows = y.len().div_ceil(threads * PARTS);
    y.par_chunks_mut(rows).enumerate().for_each(|(i, y)| {
        let from = i * rows;
        products(y, x, weight.rows(from..from + y.len(), width));
    });
}

fn matrix_matrix(
    parts: &mut [(&mut [f32], usize)],
    x: Rows<'_>,
    weight: &Numbers<'_>,
    packed: &mut Packed,
    how: Products,
) {
    let Some(tokens) = parts.first().map(|(y, columns)| y.len() / columns) else {
        return;
    };
    let rounding = tile::rounding(weight, x.width, tokens, how);
    packed.fill(x, tokens, rounding, how.threads);
    let packed = &*packed;
    let mut tasks = Vec::new();
    let mut from = 0;
    for (y, columns) in parts {
        let mut rest = view_mut(y, tokens, *columns);
        while rest.ncols() > 0 {
            let rows = rest.ncols().min(TASK_ROWS);
            let (y_lo, behind) = rest.split_at(Axis(1), rows);
            tasks.push((weight.rows(from..from + rows, x.width), y_lo));
            (rest, from) = (behind, from + rows);
        }
    }
    if how.threads == 1 {
        let mut widened = Vec::new();
        for (rows, y_lo) in tasks {
            packed.times(rows, y_lo, &mut widened);
        }
    } else {
        tasks
            .into_par_iter()
            .for_each_init(Vec::new, |widened, (rows, y_lo)| {
                packed.times(rows, y_lo, widened)
            });
    }
}
