//! Drawing a token where the scores are.

use std::sync::Arc;

use mambascope_core::backend::BackendError;
use mambascope_core::generate::Sampling;

use crate::buffer::Buffer;
use crate::gpu::{Gpu, Grid, Kernel, KernelArgs, Use};
use crate::source::Source;

/// Most tokens that can be kept to draw from (`MOST_KEPT` in sample.cu).
const MOST_KEPT: usize = 1024;

/// What drawing needs beside the scores; made when a session first draws.
pub(crate) struct Drawer {
    history: Buffer<i32>,
    /// `[v]`, all zero.
    was_there: Buffer<u8>,
    id: Buffer<i32>,
}

/// `SampleArgs` of sample.cu.
#[repr(C)]
struct SampleArgs {
    scores: u64,
    history: u64,
    was_there: u64,
    id: u64,
    known: i32,
    history_len: i32,
    top_k: i32,
    spare: i32,
    temperature: f32,
    top_p: f32,
    penalty: f32,
    uniform: f32,
}
#[expect(unsafe_code, reason = "laid out as in sample.cu")]
// SAFETY: the same fields in the same order: 4 pointers, 4 ints, 4 floats.
unsafe impl KernelArgs for SampleArgs {}

/// Whether the device can draw so: among a number of the most likely that fits it. Without such a number all of the
/// vocabulary would have to be sorted.
pub(crate) fn can_draw(sampling: &Sampling) -> bool {
    sampling.temperature > 0.0 && (1..=MOST_KEPT).contains(&sampling.top_k)
}

impl Drawer {
    /// For a vocabulary.
    ///
    /// # Errors
    /// When the device has no memory for it.
    pub(crate) fn new(gpu: &Arc<Gpu>, vocab: usize) -> Result<Self, BackendError> {
        Ok(Self {
            history: Buffer::new(gpu, Use::Activations, 1024)?,
            was_there: Buffer::zeros(gpu, Use::Activations, vocab)?,
            id: Buffer::zeros(gpu, Use::Activations, 1)?,
        })
    }

    /// The token after `history`, as the core's sampler draws it; none when no score is a number.
    ///
    /// # Errors
    /// What the device said.
    pub(crate) fn draw(
        &mut self,
        scores: &Buffer<f32>,
        history: &[u32],
        sampling: &Sampling,
        known: usize,
    ) -> Result<Option<u32>, BackendError> {
        let gpu = Arc::clone(scores.gpu());
        let vocab = scores.len();
        let is_penalised = sampling.repetition_penalty != 1.0;
        let there: Vec<i32> = history
            .iter()
            .filter(|id| is_penalised && (**id as usize) < vocab)
            .map(|&id| id as i32)
            .collect();
        if there.len() > self.history.len() {
            let len = there.len().next_power_of_two();
            self.history = Buffer::new(&gpu, Use::Activations, len)?;
        }
        self.history.upload(&there)?;
        let known = if known == 0 { vocab } else { known.min(vocab) };
        let args = SampleArgs {
            scores: scores.pointer(),
            history: self.history.pointer(),
            was_there: self.was_there.pointer(),
            id: self.id.pointer(),
            known: known as i32,
            history_len: there.len() as i32,
            top_k: sampling.top_k as i32,
            spare: 0,
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            penalty: sampling.repetition_penalty,
            uniform: sampling.uniform(history.len()),
        };
        gpu.launch(Kernel(Source::Sample, "sample"), Grid::line(1, 1024), &args)?;
        Ok(u32::try_from(self.id.download(0, 1)?[0]).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_have_no_holes() {
        assert_eq!(size_of::<SampleArgs>(), 4 * 8 + 8 * 4);
    }
}
