//! Matrices in whole numbers: each row in blocks of [`BLOCK`] columns, each block with a scale, so that one large weight coarsens its
//! own block alone. w ≈ scale · q, q from −127 to 127, scale = max |w| / 127 over the block.
//!
//! In memory: all q, row by row, a byte each; behind them the scales as f32, row by row. Rows are a whole number of words long.

use std::ops::Range;

/// Columns that share a scale.
pub const BLOCK: usize = 128;
/// The largest whole number.
const LARGEST: f32 = 127.0;

/// A matrix in whole numbers, or some of its rows.
#[derive(Clone, Copy)]
pub struct Int8<'a> {
    /// Four q in a word, two's complement, the first in the lowest byte.
    pub words: &'a [u32],
    /// The scales, [`blocks`] a row.
    pub scales: &'a [f32],
}

/// Blocks of a row.
pub(super) fn blocks(width: usize) -> usize {
    width.div_ceil(BLOCK)
}

/// Bytes of a matrix; `None` where they cannot be counted, or where it is no matrix of whole words.
pub(super) fn bytes_of(shape: &[usize]) -> Option<usize> {
    match shape {
        &[rows, width] if width.is_multiple_of(4) => {
            let row = width.checked_add(blocks(width).checked_mul(size_of::<f32>())?)?;
            rows.checked_mul(row)
        }
        _ => None,
    }
}

/// Brings rows of `width` values to whole numbers, in the layout above: `q` takes as many bytes as there are values.
///
/// A block with a value that is not finite has a scale that is none, so that products with it are none either.
pub(crate) fn quantize(values: &[f32], width: usize, q: &mut [u8], scales: &mut [u8]) {
    let rows = values.chunks_exact(width).zip(q.chunks_exact_mut(width));
    let scales = scales.chunks_exact_mut(blocks(width) * size_of::<f32>());
    for ((row, q), scales) in rows.zip(scales) {
        let blocks = row.chunks(BLOCK).zip(q.chunks_mut(BLOCK));
        for ((block, q), stored) in blocks.zip(scales.as_chunks_mut::<4>().0) {
            // Sums keep a NaN that a maximum would drop.
            let finite = block.iter().map(|w| w * 0.0).sum::<f32>();
            let scale = block.iter().fold(0.0f32, |most, w| most.max(w.abs())) / LARGEST + finite;
            let inverse = if scale > 0.0 { scale.recip() } else { 0.0 };
            for (q, w) in q.iter_mut().zip(block) {
                *q = (w * inverse).round().clamp(-LARGEST, LARGEST) as i8 as u8;
            }
            *stored = scale.to_le_bytes();
        }
    }
}

/// The values one by one, from the bytes.
pub(super) fn values(raw: &[u8], len: usize, width: usize) -> Box<dyn Iterator<Item = f32> + '_> {
    let (q, scales) = raw.split_at_checked(len).unwrap_or((&[], &[]));
    let scales = scales.as_chunks::<4>().0;
    Box::new(q.iter().enumerate().map(move |(i, &q)| {
        let block = i / width * blocks(width) + i % width / BLOCK;
        f32::from(q as i8) * f32::from_le_bytes(scales[block])
    }))
}

impl<'a> Int8<'a> {
    /// A matrix of `len` values from its bytes, read as words.
    pub(super) fn new(words: &'a [u32], len: usize) -> Option<Self> {
        let (words, scales) = words.split_at_checked(len / 4)?;
        Some(Self {
            words,
            scales: bytemuck::cast_slice(scales),
        })
    }

    pub(super) fn rows(&self, rows: Range<usize>, width: usize) -> Int8<'a> {
        let blocks = blocks(width);
        Int8 {
            words: &self.words[rows.start * width / 4..rows.end * width / 4],
            scales: &self.scales[rows.start * blocks..rows.end * blocks],
        }
    }

    #[inline(always)]
    pub(super) fn widen(&self, out: &mut [f32], width: usize) {
        let q: &[i8] = bytemuck::cast_slice(self.words);
        let rows = out.chunks_exact_mut(width).zip(q.chunks_exact(width));
        for ((out, q), scales) in rows.zip(self.scales.chunks_exact(blocks(width))) {
            let blocks = out.chunks_mut(BLOCK).zip(q.chunks(BLOCK));
            for ((out, q), scale) in blocks.zip(scales) {
                for (out, q) in out.iter_mut().zip(q) {
                    *out = f32::from(*q) * scale;
                }
            }
        }
    }
}
