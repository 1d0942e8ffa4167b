//! What the machine gives: how quickly memory is read, and how many multiply-adds a second the products of many tokens reach. A
//! model's figures are held against these, measured in the same minute.

use std::time::Instant;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::matmul::{ProductScratch, Products, Rows, linear};
use super::vector::narrow;
use super::{FastBackend, Instruction};
use crate::model::Model;
use crate::tensor::{Bytes, Dtype, Tensor, TensorError};

/// Weights smaller than this may lie in the cache: memory is then measured on a buffer of this size.
const BEYOND_CACHES: usize = 96 << 20;
/// Bytes a thread reads at a time.
const PIECE: usize = 1 << 20;
/// How often each is measured behind a first time that does not count; their mean is compared with means.
const RUNS: usize = 4;
/// Sizes of the product: large enough for its rate to be steady, small enough to take a few hundredths of a second.
const TOKENS: usize = 256;
const WIDTH: usize = 768;
const ROWS: usize = 1536;

/// Rates of a machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Bytes read a second, all threads together.
    pub bandwidth_bytes_per_s: f64,
    /// Floating-point operations a second of products with these weights, a multiply-add counted as two.
    pub gemm_flops_per_s: f64,
}

/// What reading a text takes of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Bytes of weights a written token reads.
    pub bytes_a_token: f64,
    /// Floating-point operations of the products of a token that is read, its scores not asked for.
    pub flops_a_token: f64,
}

impl Cost {
    /// Of a model: each matrix is read once for a token, and multiplied once with it. A feed-forward part of experts counts as a whole,
    /// though a token goes through a few.
    pub fn of(model: &Model) -> Self {
        let all: usize = model.tensors().map(Tensor::byte_len).sum();
        // Of a table that is not the head too a token reads one row.
        let table = model
            .head
            .as_ref()
            .map_or(0, |_| model.embedding.byte_len());
        Self {
            bytes_a_token: (all - table) as f64,
            flops_a_token: 2.0 * model.matrix_weights() as f64,
        }
    }

    /// Bytes of weights read while writing so many tokens a second, as a share of the bandwidth.
    pub fn decode_share(&self, tokens_per_s: f64, limits: &Limits) -> f64 {
        tokens_per_s * self.bytes_a_token / limits.bandwidth_bytes_per_s
    }

    /// Operations of the products while reading so many tokens a second, as a share of the rate of a large one.
    pub fn prefill_share(&self, tokens_per_s: f64, limits: &Limits) -> f64 {
        tokens_per_s * self.flops_a_token / limits.gemm_flops_per_s
    }
}

impl Limits {
    /// The better of two measurements: others on the machine only ever take away.
    pub fn or_better(self, other: Self) -> Self {
        Self {
            bandwidth_bytes_per_s: self.bandwidth_bytes_per_s.max(other.bandwidth_bytes_per_s),
            gemm_flops_per_s: self.gemm_flops_per_s.max(other.gemm_flops_per_s),
        }
    }
}

impl FastBackend {
    /// Measures the machine with this backend's threads, on the weights of a model where they are larger than the caches.
    ///
    /// # Errors
    /// Never: the sizes are constants.
    pub fn limits(&self, model: &Model) -> Result<Limits, TensorError> {
        Ok(Limits {
            bandwidth_bytes_per_s: self.bandwidth(model),
            gemm_flops_per_s: self.gemm(model.main_dtype())?,
        })
    }

    fn bandwidth(&self, model: &Model) -> f64 {
        let parts: Vec<&[u8]> = model.tensors().map(Tensor::raw).collect();
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let small = bytes < BEYOND_CACHES;
        let buffer = small.then(|| Bytes::together(&[BEYOND_CACHES], |_, room| room.fill(1)).0);
        let buffer = buffer.as_ref().map(Bytes::as_slice);
        let parts = buffer.map_or(parts, |buffer| vec![buffer]);
        let pieces: Vec<&[u8]> = parts.iter().flat_map(|part| part.chunks(PIECE)).collect();
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        // Which registers read more quickly differs from processor to processor.
        let seconds = [sum, sum_narrow].map(|sum| {
            let read = || {
                let sums = pieces.par_iter().map(|piece| sum(piece));
                sums.reduce(|| 0, u32::wrapping_add)
            };
            mean_of_runs(|| self.threads.run(|| std::hint::black_box(read())))
        });
        bytes as f64 / seconds[0].min(seconds[1])
    }

    fn gemm(&self, dtype: Dtype) -> Result<f64, TensorError> {
        let values: Vec<f32> = (0..ROWS * WIDTH).map(|i| (i % 61) as f32 / 61.0).collect();
        let weight = Tensor::from_f32(vec![ROWS, WIDTH], &values)?.recast(dtype)?;
        let mut y = vec![0.0; TOKENS * ROWS];
        let mut scratch = ProductScratch::default();
        let how = Products {
            threads: self.threads.count,
            may_round: Instruction::available().is_some(),
        };
        let x = Rows::whole(&values[..TOKENS * WIDTH], WIDTH);
        let seconds = mean_of_runs(|| {
            self.threads
                .run(|| linear(&mut y, x, &weight, None, &mut scratch, how));
        });
        Ok((2 * TOKENS * ROWS * WIDTH) as f64 / seconds)
    }
}

fn mean_of_runs<T>(mut work: impl FnMut() -> T) -> f64 {
    work();
    let start = Instant::now();
    for _ in 0..RUNS {
        work();
    }
    start.elapsed().as_secs_f64() / RUNS as f64
}

/// Σ of the words, so that each is read.
fn sum(bytes: &[u8]) -> u32 {
    Arch::new().dispatch(Sum(words(bytes)))
}

fn sum_narrow(bytes: &[u8]) -> u32 {
    narrow(Sum(words(bytes)))
}

/// Bytes at an odd address lose their ends.
fn words(bytes: &[u8]) -> &[u32] {
    bytemuck::pod_align_to::<u8, u32>(bytes).1
}

struct Sum<'a>(&'a [u32]);

impl WithSimd for Sum<'_> {
    type Output = u32;
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> u32 {
        let mut sums = [simd.splat_u32s(0); 8];
        let (words, _) = S::as_simd_u32s(self.0);
        for words in words.as_chunks::<8>().0 {
            for (sum, words) in sums.iter_mut().zip(words) {
                *sum = simd.add_u32s(*sum, *words);
            }
        }
        let sum = sums.into_iter().reduce(|a, b| simd.add_u32s(a, b));
        sum.map_or(0, |sum| {
            let lanes: &[u32] = bytemuck::cast_slice(std::slice::from_ref(&sum));
            lanes.iter().copied().fold(0, u32::wrapping_add)
        })
    }
}
