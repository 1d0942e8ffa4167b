//! Products with many tokens: a tile of tokens by rows of weights is kept in registers while the columns go by.
//!
//! Lanes are tokens. x is packed beforehand into panels of a few registers' tokens, column by column, so that a step of the loop loads
//! them as they lie and multiplies them by one weight of each of [`ROWS`] rows. Weights are read where they are stored, once for all
//! tokens of a chunk; those of other formats than f32 are widened a task's rows at a time, in the cache.

use ndarray::ArrayViewMut2;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::bf16::{self, Instruction};
use super::matmul::{Products, Rows, TASK_ROWS};
use crate::tensor::Numbers;

/// Rows of weights in a tile.
pub(super) const ROWS: usize = 6;
/// The most tokens of a panel, four registers of sixteen lanes.
pub(super) const PANEL: usize = 64;
/// Fewest weights of a matrix, and tokens, for which x is rounded to bf16: small models stay as exact as f32.
const ROUNDED_WEIGHTS: usize = 1 << 20;
const ROUNDED_TOKENS: usize = 32;

/// The sums of a task's tokens and rows, `[rows, tokens]`, before they go where they belong.
pub(super) type Sums = [f32; TASK_ROWS * PANEL];

/// x in panels; of f32, or of words of two bf16 where the products read those.
#[derive(Default)]
pub(super) struct Packed {
    tokens: usize,
    width: usize,
    /// Tokens of a panel.
    panel: usize,
    values: Vec<f32>,
    words: Vec<u32>,
    rounding: Option<Instruction>,
}

/// How a product with these weights rounds x, if it does.
pub(super) fn rounding(
    weight: &Numbers<'_>,
    width: usize,
    tokens: usize,
    how: Products,
) -> Option<Instruction> {
    match weight {
        Numbers::Bf16(words)
            if how.may_round
                && tokens >= ROUNDED_TOKENS
                && 2 * words.len() >= ROUNDED_WEIGHTS
                && width.is_multiple_of(2) =>
        {
            Instruction::available()
        }
        _ => None,
    }
}

impl Packed {
    /// Takes the first `tokens` rows of x.
    pub(super) fn fill(
        &mut self,
        x: Rows<'_>,
        tokens: usize,
        rounding: Option<Instruction>,
        threads: usize,
    ) {
        (self.tokens, self.width, self.rounding) = (tokens, x.width, rounding);
        self.panel = if rounding.is_some() {
            bf16::PANEL_TOKENS
        } else {
            Arch::new().dispatch(PanelTokens)
        };
        self.fill_panels(x, rounding, threads);
    }

    fn fill_panels(&mut self, x: Rows<'_>, rounding: Option<Instruction>, threads: usize) {
        let tokens = self.tokens;
        let (panel, panels) = (self.panel, tokens.div_ceil(self.panel));
        // A panel's tokens beyond the last are computed and dropped.
        if rounding.is_some() {
            let columns = x.width / 2;
            self.words.resize(panels * panel * columns, 0);
            let each = self.words.chunks_exact_mut(panel * columns);
            spread(each, threads, |i, words| {
                bf16::pack(words, panel, rows_of(x, i * panel, tokens));
            });
        } else {
            self.values.resize(panels * panel * x.width, 0.0);
            let each = self.values.chunks_exact_mut(panel * x.width);
            spread(each, threads, |i, values| {
                for (lane, row) in rows_of(x, i * panel, tokens).take(panel).enumerate() {
                    for (column, value) in values.chunks_exact_mut(panel).zip(row) {
                        column[lane] = *value;
                    }
                }
            });
        }
    }

    /// y = x · Wᵀ for a task's rows of weights; y has a column for each.
    pub(super) fn times(
        &self,
        weight: Numbers<'_>,
        y_lo: ArrayViewMut2<'_, f32>,
        widened: &mut Vec<f32>,
    ) {
        let op = Task {
            packed: self,
            weight,
            y_lo,
            widened,
        };
        Arch::new().dispatch(op);
    }
}

/// The rows of tokens from `first` on.
fn rows_of<'a>(x: Rows<'a>, first: usize, tokens: usize) -> impl Iterator<Item = &'a [f32]> {
    (first..tokens).map(move |token| x.row(token))
}

fn spread<'a, T: Send + 'a>(
    each: std::slice::ChunksExactMut<'a, T>,
    threads: usize,
    work: impl Fn(usize, &mut [T]) + Send + Sync,
) {
    let each: Vec<_> = each.enumerate().collect();
    if threads == 1 {
        each.into_iter().for_each(|(i, part)| work(i, part));
    } else {
        each.into_par_iter().for_each(|(i, part)| work(i, part));
    }
}

/// Registers of tokens in a tile: with the sums of all rows as many as there are registers for.
const fn most_registers<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 4 } else { 2 }
}

/// Tokens of a panel.
struct PanelTokens;

impl WithSimd for PanelTokens {
    type Output = usize;
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        most_registers::<S>() * S::F32_LANES
    }
}

struct Task<'a> {
    packed: &'a Packed,
    weight: Numbers<'a>,
    y_lo: ArrayViewMut2<'a, f32>,
    widened: &'a mut Vec<f32>,
}

impl WithSimd for Task<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let packed = self.packed;
        let width = packed.width;
        let rows = self.y_lo.ncols();
        let mut sums: Sums = [0.0; TASK_ROWS * PANEL];
        if let (Some(rounding), Numbers::Bf16(words)) = (packed.rounding, self.weight) {
            let panels = packed.words.chunks_exact(packed.panel * width / 2);
            for (i, panel) in panels.enumerate() {
                let registers = (packed.tokens - i * packed.panel).div_ceil(bf16::LANES);
                rounding.sums(&mut sums, panel, words, width / 2, registers);
                put(&sums, packed.panel, i * packed.panel, &mut self.y_lo);
            }
            return;
        }
        let weight = match self.weight {
            Numbers::F32(weight) => weight,
            stored => {
                self.widened.resize(rows * width, 0.0);
                stored.widen(self.widened, width);
                self.widened
            }
        };
        let panels = packed.values.chunks_exact(packed.panel * width);
        for (i, panel) in panels.enumerate() {
            let registers = (packed.tokens - i * packed.panel).div_ceil(S::F32_LANES);
            match registers.min(most_registers::<S>()) {
                1 => tiles::<S, 1>(simd, &mut sums, panel, weight, packed),
                2 => tiles::<S, 2>(simd, &mut sums, panel, weight, packed),
                3 => tiles::<S, 3>(simd, &mut sums, panel, weight, packed),
                _ => tiles::<S, 4>(simd, &mut sums, panel, weight, packed),
            }
            put(&sums, packed.panel, i * packed.panel, &mut self.y_lo);
        }
    }
}

/// The sums of the first `T` registers of a panel's tokens with all of a task's rows.
#[inline(always)]
fn tiles<S: Simd, const T: usize>(
    simd: S,
    sums: &mut Sums,
    panel: &[f32],
    weight: &[f32],
    packed: &Packed,
) {
    let width = packed.width;
    let columns = panel.chunks_exact(packed.panel);
    let count = weight.len() / width;
    for first in (0..count).step_by(ROWS) {
        // The last tile may have fewer rows: it repeats one.
        let rows: [&[f32]; ROWS] = std::array::from_fn(|r| {
            let row = (first + r).min(count - 1);
            &weight[row * width..][..width]
        });
        let mut tile = [[simd.splat_f32s(0.0); T]; ROWS];
        for (i, column) in columns.clone().take(width).enumerate() {
            // Of known length, so that the sums stay in registers.
            let Some(x) = S::as_simd_f32s(column).0.first_chunk::<T>() else {
                continue;
            };
            for r in 0..ROWS {
                let w = simd.splat_f32s(rows[r][i]);
                for t in 0..T {
                    tile[r][t] = simd.mul_add_e_f32s(x[t], w, tile[r][t]);
                }
            }
        }
        let places = sums.chunks_exact_mut(packed.panel).skip(first);
        for (tile, place) in tile.iter().zip(places) {
            let (lanes, _) = S::as_mut_simd_f32s(place);
            for (lane, sum) in lanes.iter_mut().zip(tile) {
                *lane = *sum;
            }
        }
    }
}

/// Writes a panel's sums, `[rows, panel]`, where they belong, a token's one behind the other.
#[inline(always)]
fn put(sums: &Sums, panel: usize, first: usize, y_lo: &mut ArrayViewMut2<'_, f32>) {
    let tokens = y_lo.rows_mut().into_iter().skip(first).take(panel);
    for (lane, y_o) in tokens.enumerate() {
        let Some(y_o) = y_o.into_slice() else {
            continue;
        };
        for (row, y) in y_o.iter_mut().enumerate() {
            *y = sums[row * panel + lane];
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use pulp::Scalar;

    use super::*;
    use crate::noise::Noise;
    use crate::tensor::{Dtype, Tensor};

    /// y of a product by one width of registers.
    fn product<S: Simd>(simd: S, x: Rows<'_>, tokens: usize, weight: &Tensor) -> Array2<f32> {
        let mut packed = Packed {
            tokens,
            width: x.width,
            panel: simd.vectorize(PanelTokensOf(simd)),
            ..Packed::default()
        };
        packed.fill_panels(x, None, 1);
        let mut y_lo = Array2::from_elem((tokens, weight.shape()[0]), f32::NAN);
        let task = Task {
            packed: &packed,
            weight: weight.numbers(),
            y_lo: y_lo.view_mut(),
            widened: &mut Vec::new(),
        };
        simd.vectorize(TaskOf(simd, task));
        y_lo
    }

    struct PanelTokensOf<S>(S);

    impl<S: Simd> pulp::NullaryFnOnce for PanelTokensOf<S> {
        type Output = usize;
        fn call(self) -> usize {
            PanelTokens.with_simd(self.0)
        }
    }

    struct TaskOf<'a, S>(S, Task<'a>);

    impl<S: Simd> pulp::NullaryFnOnce for TaskOf<'_, S> {
        type Output = ();
        #[inline(always)]
        fn call(self) {
            self.1.with_simd(self.0);
        }
    }

    #[test]
    fn every_width_of_registers_gives_the_same_sums() {
        let noise = Noise::new(11, "tile");
        let (tokens, width) = (37, 52);
        let x: Vec<f32> = (0..tokens * width).map(|i| noise.normal(i)).collect();
        let x = Rows::whole(&x, width);
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::Int8] {
            let rows = TASK_ROWS - 5;
            let values: Vec<f32> = (0..rows * width).map(|i| noise.normal(i + 9999)).collect();
            let weight = Tensor::from_f32(vec![rows, width], &values).unwrap();
            let weight = weight.recast(dtype).unwrap();
            let wide: Vec<f32> = weight.iter_f32().collect();
            let mut found = vec![product(Scalar::new(), x, tokens, &weight)];
            #[cfg(target_arch = "x86_64")]
            {
                let avx2 = pulp::x86::V3::try_new();
                found.extend(avx2.map(|simd| product(simd, x, tokens, &weight)));
                let avx512 = pulp::x86::V4::try_new();
                found.extend(avx512.map(|simd| product(simd, x, tokens, &weight)));
            }
            #[cfg(target_arch = "aarch64")]
            {
                let neon = pulp::aarch64::Neon::try_new();
                found.extend(neon.map(|simd| product(simd, x, tokens, &weight)));
            }
            for y_lo in found {
                for ((token, row), y) in y_lo.indexed_iter() {
                    let terms = x.row(token).iter().zip(&wide[row * width..][..width]);
                    let terms = terms.map(|(x, w)| f64::from(*x) * f64::from(*w));
                    let size: f64 = terms.clone().map(f64::abs).sum();
                    let apart = (f64::from(*y) - terms.sum::<f64>()).abs();
                    assert!(apart <= 1e-6 * size, "{dtype:?} {token} {row}: {y}");
                }
            }
        }
    }
}
