//! Products with one token: every weight is read once, so that the time is that of reading them. They are widened in registers.
//!
//! A word of memory holds two halves or four whole numbers. Shifts and masks take the first of each word, the second, and so on, for as
//! many words at once as a register has lanes; x is laid out in as many planes beforehand, so that nothing moves across lanes.

use pulp::{Arch, Simd, WithSimd};

use super::math::product;
use crate::tensor::{INT8_BLOCK, Numbers};

/// x as the products read it: with 2 planes first the elements of even index, then those of odd index; with 4 likewise.
#[derive(Default)]
pub(super) struct Planes {
    values: Vec<f32>,
    count: usize,
}

impl Planes {
    /// Takes x, laid out for weights stored so.
    pub(super) fn of(&mut self, x: &[f32], weight: &Numbers<'_>) -> &Self {
        self.count = match weight {
            Numbers::F32(_) => 1,
            Numbers::F16(_) | Numbers::Bf16(_) => 2,
            Numbers::Int8(_) => 4,
        };
        self.values.clear();
        for plane in 0..self.count {
            self.values.extend(x.iter().skip(plane).step_by(self.count));
        }
        self
    }

    /// Elements of x.
    pub(super) fn width(&self) -> usize {
        self.values.len()
    }

    fn plane(&self, index: usize) -> &[f32] {
        let each = self.values.len() / self.count;
        &self.values[index * each..][..each]
    }
}

/// y[o] = Σ x·W[o] for the rows of `weight`.
pub(super) fn products(y: &mut [f32], x: &Planes, weight: Numbers<'_>) {
    let is_soon_done = matches!(weight, Numbers::F32(_) | Numbers::Bf16(_));
    let work = RowProducts { y, x, weight };
    if is_soon_done {
        narrow(work);
    } else {
        Arch::new().dispatch(work);
    }
}

/// In registers of 256 bits on x86, for loops that do little with what they read: with wider ones the processor looks so many lines
/// ahead that all its places for lines on their way are taken, and none is left for what its prefetcher would fetch further ahead.
pub(super) fn narrow<W: WithSimd>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return Simd::vectorize(simd, work);
    }
    Arch::new().dispatch(work)
}

struct RowProducts<'a> {
    y: &'a mut [f32],
    x: &'a Planes,
    weight: Numbers<'a>,
}

impl WithSimd for RowProducts<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (x, width) = (self.x, self.x.width());
        let y = self.y.iter_mut();
        match self.weight {
            Numbers::F32(weight) => {
                for (y, row) in y.zip(weight.chunks_exact(width)) {
                    *y = product(simd, row, x.plane(0));
                }
            }
            Numbers::F16(words) => {
                for (y, row) in y.zip(words.chunks_exact(width / 2)) {
                    *y = pairs(simd, row, x, [f16_low::<S>, f16_high::<S>]);
                }
            }
            Numbers::Bf16(words) => {
                for (y, row) in y.zip(words.chunks_exact(width / 2)) {
                    *y = pairs(simd, row, x, [bf16_low::<S>, bf16_high::<S>]);
                }
            }
            Numbers::Int8(weight) => {
                let rows = weight.words.chunks_exact(width / 4);
                let scales = weight.scales.chunks_exact(width.div_ceil(INT8_BLOCK));
                for ((y, row), scales) in y.zip(rows).zip(scales) {
                    *y = fours(simd, row, scales, x);
                }
            }
        }
    }
}

/// Σ over a row of words of two, each half made a number by its function.
#[inline(always)]
fn pairs<S: Simd>(
    simd: S,
    row: &[u32],
    x: &Planes,
    [low, high]: [impl Fn(S, S::u32s) -> S::f32s; 2],
) -> f32 {
    let (words, words_tail) = S::as_simd_u32s(row);
    let (even, even_tail) = S::as_simd_f32s(x.plane(0));
    let (odd, odd_tail) = S::as_simd_f32s(x.plane(1));
    let mut sums = [simd.splat_f32s(0.0); 4];
    let (twos, rest) = words.as_chunks::<2>();
    let (even_twos, even_rest) = even.as_chunks::<2>();
    let (odd_twos, odd_rest) = odd.as_chunks::<2>();
    for ((words, even), odd) in twos.iter().zip(even_twos).zip(odd_twos) {
        for i in 0..2 {
            sums[i] = simd.mul_add_e_f32s(low(simd, words[i]), even[i], sums[i]);
            sums[2 + i] = simd.mul_add_e_f32s(high(simd, words[i]), odd[i], sums[2 + i]);
        }
    }
    for ((words, even), odd) in rest.iter().zip(even_rest).zip(odd_rest) {
        sums[0] = simd.mul_add_e_f32s(low(simd, *words), *even, sums[0]);
        sums[2] = simd.mul_add_e_f32s(high(simd, *words), *odd, sums[2]);
    }
    // Loading a part is a call, dearer than a short row.
    if !words_tail.is_empty() {
        let words = simd.partial_load_u32s(words_tail);
        let (even, odd) = (
            simd.partial_load_f32s(even_tail),
            simd.partial_load_f32s(odd_tail),
        );
        sums[1] = simd.mul_add_e_f32s(low(simd, words), even, sums[1]);
        sums[3] = simd.mul_add_e_f32s(high(simd, words), odd, sums[3]);
    }
    let sum = simd.add_f32s(
        simd.add_f32s(sums[0], sums[1]),
        simd.add_f32s(sums[2], sums[3]),
    );
    simd.reduce_sum_f32s(sum)
}

#[inline(always)]
fn bf16_low<S: Simd>(simd: S, words: S::u32s) -> S::f32s {
    simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(words, simd.splat_u32s(16)))
}

#[inline(always)]
fn bf16_high<S: Simd>(simd: S, words: S::u32s) -> S::f32s {
    simd.transmute_f32s_u32s(simd.and_u32s(words, simd.splat_u32s(0xffff_0000)))
}

#[inline(always)]
fn f16_low<S: Simd>(simd: S, words: S::u32s) -> S::f32s {
    f16_high(simd, simd.wrapping_dyn_shl_u32s(words, simd.splat_u32s(16)))
}

/// The upper half of each word: its exponent and fraction put where those of an f32 stand are the number times 2⁻¹¹², zeros and
/// subnormals too. What comes out at 65,536 or above had the exponent of infinities and NaNs.
#[inline(always)]
fn f16_high<S: Simd>(simd: S, words: S::u32s) -> S::f32s {
    let mask = |bits: u32| simd.and_u32s(words, simd.splat_u32s(bits));
    let shifted = simd.wrapping_dyn_shr_u32s(mask(0x7fff_0000), simd.splat_u32s(3));
    let scale = simd.splat_f32s(f32::from_bits((127 + 112) << 23));
    let finite = simd.mul_f32s(simd.transmute_f32s_u32s(shifted), scale);
    let special = simd.or_u32s(shifted, simd.splat_u32s(0x7f80_0000));
    let size = simd.select_u32s(
        simd.less_than_f32s(finite, simd.splat_f32s(65_536.0)),
        simd.transmute_u32s_f32s(finite),
        special,
    );
    simd.transmute_f32s_u32s(simd.or_u32s(size, mask(0x8000_0000)))
}

/// Σ over a row of words of four: each block's sum of q·x times its scale.
#[inline(always)]
fn fours<S: Simd>(simd: S, row: &[u32], scales: &[f32], x: &Planes) -> f32 {
    let planes = [x.plane(0), x.plane(1), x.plane(2), x.plane(3)];
    let mut sum = simd.splat_f32s(0.0);
    let mut from = 0;
    for (block, scale) in row.chunks(INT8_BLOCK / 4).zip(scales) {
        let parts = planes.map(|plane| &plane[from..from + block.len()]);
        let part = block_sum(simd, block, parts);
        sum = simd.mul_add_e_f32s(part, simd.splat_f32s(*scale), sum);
        from += block.len();
    }
    simd.reduce_sum_f32s(sum)
}

#[inline(always)]
fn block_sum<S: Simd>(simd: S, block: &[u32], planes: [&[f32]; 4]) -> S::f32s {
    let (words, words_tail) = S::as_simd_u32s(block);
    let parts = planes.map(|plane| S::as_simd_f32s(plane));
    let mut sums = [simd.splat_f32s(0.0); 2];
    for (i, words) in words.iter().enumerate() {
        sums = four(simd, *words, parts.map(|(plane, _)| plane[i]), sums);
    }
    if !words_tail.is_empty() {
        let last = parts.map(|(_, tail)| simd.partial_load_f32s(tail));
        sums = four(simd, simd.partial_load_u32s(words_tail), last, sums);
    }
    simd.add_f32s(sums[0], sums[1])
}

/// Adds Σ q·x of each word's four q.
///
/// q + 128 put into the fraction of 2²³ is the number 2²³ + q + 128, from which both are taken again.
#[inline(always)]
fn four<S: Simd>(simd: S, words: S::u32s, x: [S::f32s; 4], mut sums: [S::f32s; 2]) -> [S::f32s; 2] {
    let offset = simd.xor_u32s(words, simd.splat_u32s(0x8080_8080));
    let byte = |shift: u32| {
        let shifted = simd.wrapping_dyn_shr_u32s(offset, simd.splat_u32s(shift));
        simd.and_u32s(shifted, simd.splat_u32s(0xff))
    };
    for (i, x) in x.into_iter().enumerate() {
        let fraction = simd.or_u32s(byte(8 * i as u32), simd.splat_u32s(0x4b00_0000));
        let q = simd.sub_f32s(
            simd.transmute_f32s_u32s(fraction),
            simd.splat_f32s(8_388_608.0 + 128.0),
        );
        sums[i % 2] = simd.mul_add_e_f32s(q, x, sums[i % 2]);
    }
    sums
}

#[cfg(test)]
mod tests {
    use pulp::Scalar;

    use super::*;
    use crate::tensor::{Dtype, Tensor};

    /// Every kind of number, halves that are subnormal, infinite or NaN too, is widened to what the standard says.
    #[test]
    fn each_half_is_the_number_it_stands_for() {
        for dtype in [Dtype::F16, Dtype::Bf16] {
            let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
            let range = 0..bytes.len();
            let bytes = crate::tensor::Bytes::Owned(bytes.into());
            let all = Tensor::new(vec![1 << 15, 2], dtype, bytes, range).unwrap();
            let wanted: Vec<f32> = all.iter_f32().collect();
            for (place, x) in [(0, [1.0, 0.0]), (1, [0.0, 1.0])] {
                let mut planes = Planes::default();
                let planes = planes.of(&x, &all.numbers());
                let mut y = vec![0.0; 1 << 15];
                let weight = all.numbers();
                RowProducts {
                    y: &mut y,
                    x: planes,
                    weight,
                }
                .with_simd(Scalar::new());
                let mut quick = vec![0.0; 1 << 15];
                products(&mut quick, planes, all.numbers());
                for (row, (y, quick)) in y.iter().zip(&quick).enumerate() {
                    let pair = [wanted[2 * row], wanted[2 * row + 1]];
                    // What is not finite times zero is no number.
                    if pair[1 - place].is_finite() {
                        let wanted = pair[place];
                        for found in [y, quick] {
                            let same = *found == wanted || (found.is_nan() && wanted.is_nan());
                            assert!(same, "{dtype:?} {row} {place}: {found}, wanted {wanted}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_portable_path_gives_the_same_sums() {
        let noise = crate::noise::Noise::new(3, "vector");
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::Int8] {
            for width in [4, 12, 48, 128, 132, 260, 772] {
                let values: Vec<f32> = (0..5 * width).map(|i| noise.normal(i)).collect();
                let weight = Tensor::from_f32(vec![5, width], &values).unwrap();
                let weight = weight.recast(dtype).unwrap();
                let x: Vec<f32> = (0..width).map(|i| noise.normal(i + 100_000)).collect();
                let mut planes = Planes::default();
                let planes = planes.of(&x, &weight.numbers());
                let (mut quick, mut plain) = ([0.0; 5], [0.0; 5]);
                products(&mut quick, planes, weight.numbers());
                let rows = RowProducts {
                    y: &mut plain,
                    x: planes,
                    weight: weight.numbers(),
                };
                rows.with_simd(Scalar::new());
                let wide: Vec<f32> = weight.iter_f32().collect();
                for (row, wide) in wide.chunks(width).enumerate() {
                    let pairs = wide.iter().zip(&x);
                    let terms = pairs.map(|(w, x)| f64::from(*w) * f64::from(*x));
                    let size: f64 = terms.clone().map(f64::abs).sum();
                    let wanted: f64 = terms.sum();
                    for found in [quick[row], plain[row]] {
                        let apart = (f64::from(found) - wanted).abs();
                        assert!(apart <= 1e-6 * size, "{dtype:?} {width}: {found} {wanted}");
                    }
                }
            }
        }
    }
}
