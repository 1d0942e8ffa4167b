//! y = x · Wᵀ, W in the numbers it is stored in: tiles for many tokens ([`super::tile`]), dot products for one ([`super::vector`]).
//! Sums are f32 throughout.

use faer::MatRef;
use ndarray::Axis;

use super::hand_out;
use super::session::view_mut;
use super::tile::{self, Packed};
use super::vector::{Planes, products};
use crate::tensor::{Numbers, Tensor};

/// Below so many multiply-adds a second thread costs more than it brings: for a product of matrices, and for one token,
/// where the time is that of reading the weights.
const PARALLEL_MATRIX: usize = 1 << 18;
pub(super) const PARALLEL_VECTOR: usize = 1 << 16;
/// Pieces of a product of one token for each thread: few enough for memory to be read in long runs.
const PIECES: usize = 4;
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

impl ProductScratch {
    /// One token's x, laid out for products with weights stored so.
    pub(super) fn planes_of(&mut self, x: &[f32], weight: &Numbers<'_>) -> &Planes {
        self.planes.of(x, weight)
    }
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
    let rows = y.len().div_ceil(threads * PIECES);
    let pieces = y.chunks_mut(rows).enumerate();
    hand_out(
        pieces,
        threads,
        || (),
        |(), (i, y)| {
            let from = i * rows;
            products(y, x, weight.rows(from..from + y.len(), width));
        },
    );
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
    let tasks = tasks.into_iter();
    hand_out(tasks, how.threads, Vec::new, |widened, (rows, y_lo)| {
        packed.times(rows, y_lo, widened);
    });
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::noise::Noise;
    use crate::tensor::Dtype;

    const EXACT: f64 = 1e-6;

    /// y of a product in several parts with a bias, against plain sums in f64 over what `of_x` makes of x; `within` is a share of the
    /// sum of the terms' sizes.
    fn check(
        [tokens, width, rows]: [usize; 3],
        dtype: Dtype,
        how: Products,
        of_x: fn(f32) -> f32,
        within: f64,
    ) {
        let noise = Noise::new(7, "products");
        let values: Vec<f32> = (0..rows * width).map(|i| noise.normal(i)).collect();
        let weight = Tensor::from_f32(vec![rows, width], &values).unwrap();
        let weight = weight.recast(dtype).unwrap();
        let bias_o: Vec<f32> = (0..rows).map(|i| noise.uniform(i)).collect();
        let bias = Tensor::from_f32(vec![rows], &bias_o).unwrap();
        // Rows of x lie apart.
        let stride = width + 3;
        let x: Vec<f32> = (0..tokens * stride)
            .map(|i| noise.normal(i + (1 << 30)))
            .collect();
        let x = Rows {
            data: &x,
            width,
            stride,
        };
        let first = rows / 3;
        // No value is left from before.
        let mut y = [
            vec![f32::NAN; tokens * first],
            vec![f32::NAN; tokens * (rows - first)],
        ];
        let [head, tail] = &mut y;
        let mut parts = [(&mut head[..], first), (&mut tail[..], rows - first)];
        let parts = &mut parts[usize::from(first == 0)..];
        let mut scratch = ProductScratch::default();
        linear_parts(parts, x, &weight, Some(&bias), &mut scratch, how);
        let wide: Vec<f32> = weight.iter_f32().collect();
        for token in 0..tokens {
            for row in 0..rows {
                let terms = x.row(token).iter().zip(&wide[row * width..][..width]);
                let terms = terms.map(|(x, w)| f64::from(of_x(*x)) * f64::from(*w));
                let size: f64 = terms.clone().map(f64::abs).sum::<f64>() + 1.0;
                let wanted = terms.sum::<f64>() + f64::from(bias_o[row]);
                let found = match row.checked_sub(first) {
                    Some(row) => y[1][token * (rows - first) + row],
                    None => y[0][token * first + row],
                };
                let apart = (f64::from(found) - wanted).abs();
                assert!(
                    apart <= within * size,
                    "{dtype:?} {tokens}×{width}×{rows}, token {token}, row {row}: {found}, wanted {wanted}"
                );
            }
        }
    }

    #[test]
    fn products_are_plain_sums_in_every_format_and_shape() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::Int8, Dtype::F64] {
            for threads in [1, 2] {
                let how = Products {
                    threads,
                    may_round: true,
                };
                for shape in [
                    [1, 1, 1],
                    [2, 3, 5],
                    [3, 4, 48],
                    [15, 130, 49],
                    [17, 7, 6],
                    [33, 48, 97],
                    [64, 64, 100],
                    [65, 20, 47],
                    [70, 257, 13],
                    [130, 96, 50],
                    [1, 772, 300],
                ] {
                    check(shape, dtype, how, |x| x, EXACT);
                }
            }
        }
    }

    #[test]
    fn large_products_of_bf16_round_what_they_multiply_and_nothing_else() {
        let rounded = |x: f32| bf16::from_f32(x).to_f32();
        let shape = [70, 1024, 1030];
        let how = |may_round| Products {
            threads: 2,
            may_round,
        };
        check(shape, Dtype::Bf16, how(false), |x| x, EXACT);
        // Sums of pairs are rounded once more on the way.
        let (of_x, within): (fn(f32) -> f32, f64) = if crate::backend::Rounding::is_available() {
            (rounded, 2e-6)
        } else {
            (|x| x, EXACT)
        };
        check(shape, Dtype::Bf16, how(true), of_x, within);
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Int8] {
            check(shape, dtype, how(true), |x| x, EXACT);
        }
    }
}
