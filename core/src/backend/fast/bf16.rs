//! Products of bf16 by bf16 with sums in f32, by the instruction some processors have (AVX-512 BF16): twice the rate of f32.
//!
//! The only `unsafe` of this backend: an instruction beyond the compiler's baseline may be called where the processor is known to have
//! it. [`Instruction`] is the proof: there is none without a look at the processor.

#![expect(
    unsafe_code,
    reason = "instructions of a processor that was asked for them"
)]

#[cfg(target_arch = "x86_64")]
pub(super) use self::x86::Instruction;

use half::bf16;

use super::tile::{PANEL, ROWS, Sums};

/// Lanes of a register.
pub(super) const LANES: usize = 16;
/// Tokens of a panel.
pub(super) const PANEL_TOKENS: usize = PANEL;

/// A panel of tokens as words of two columns each, rounded to the nearest.
pub(super) fn pack<'a>(words: &mut [u32], panel: usize, rows: impl Iterator<Item = &'a [f32]>) {
    for (lane, row) in rows.take(panel).enumerate() {
        for (column, pair) in words.chunks_exact_mut(panel).zip(row.as_chunks::<2>().0) {
            let [low, high] = pair.map(|x| u32::from(bf16::from_f32(x).to_bits()));
            column[lane] = low | high << 16;
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[derive(Clone, Copy)]
pub(super) enum Instruction {}

#[cfg(not(target_arch = "x86_64"))]
impl Instruction {
    pub(super) fn available() -> Option<Self> {
        None
    }

    pub(super) fn sums(self, _: &mut Sums, _: &[u32], _: &[u32], _: usize, _: usize) {
        match self {}
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m512, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_set1_epi32, _mm512_setzero_ps,
    };

    use super::{LANES, PANEL_TOKENS, ROWS, Sums};

    pulp::simd_type! {
        /// Stands for a processor that has the instruction.
        pub(in super::super) struct Instruction {
            avx512f: "avx512f",
            avx512bf16: "avx512bf16",
        }
    }

    impl Instruction {
        /// Where the processor has it.
        pub(in super::super) fn available() -> Option<Self> {
            Self::try_new()
        }

        /// The sums of the first registers of a panel's tokens with rows of `columns` words.
        pub(in super::super) fn sums(
            self,
            sums: &mut Sums,
            panel: &[u32],
            weight: &[u32],
            columns: usize,
            registers: usize,
        ) {
            // SAFETY: `self` exists, so the processor has the features the functions are compiled for.
            unsafe {
                match registers {
                    1 => tiles::<1>(sums, panel, weight, columns),
                    2 => tiles::<2>(sums, panel, weight, columns),
                    3 => tiles::<3>(sums, panel, weight, columns),
                    _ => tiles::<4>(sums, panel, weight, columns),
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn tiles<const T: usize>(sums: &mut Sums, panel: &[u32], weight: &[u32], columns: usize) {
        let count = weight.len() / columns;
        let lanes = panel
            .as_chunks::<LANES>()
            .0
            .as_chunks::<{ PANEL_TOKENS / LANES }>()
            .0;
        for first in (0..count).step_by(ROWS) {
            // The last tile may have fewer rows: it repeats one.
            let rows: [&[u32]; ROWS] = std::array::from_fn(|r| {
                let row = (first + r).min(count - 1);
                &weight[row * columns..][..columns]
            });
            let mut tile = [[_mm512_setzero_ps(); T]; ROWS];
            for (i, column) in lanes.iter().enumerate().take(columns) {
                for r in 0..ROWS {
                    let w = pairs(_mm512_set1_epi32(rows[r][i].cast_signed()));
                    for t in 0..T {
                        tile[r][t] = _mm512_dpbf16_ps(tile[r][t], pairs(load(&column[t])), w);
                    }
                }
            }
            let places = sums.chunks_exact_mut(PANEL_TOKENS).skip(first);
            for (tile, place) in tile.iter().zip(places) {
                let places = place.as_chunks_mut::<LANES>().0;
                for (place, sum) in places.iter_mut().zip(tile) {
                    *place = store(*sum);
                }
            }
        }
    }

    fn load(words: &[u32; LANES]) -> __m512i {
        // SAFETY: both are 64 bytes of plain numbers.
        unsafe { std::mem::transmute(*words) }
    }

    fn pairs(words: __m512i) -> __m512bh {
        // SAFETY: both are 64 bytes of plain numbers.
        unsafe { std::mem::transmute(words) }
    }

    fn store(sums: __m512) -> [f32; LANES] {
        // SAFETY: both are 64 bytes of plain numbers.
        unsafe { std::mem::transmute(sums) }
    }
}
