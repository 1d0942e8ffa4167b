//! The short convolution over a chunk, with its window kept between chunks.

use rayon::prelude::*;

use super::math::{multiply_add, silu_in_place};
use super::session::PARALLEL_TOKENS;
use crate::tensor::Tensor;

/// Weights and window of one block's convolution, in the layouts the loop reads.
pub(super) struct Conv {
    channels: usize,
    /// `[k, channels]`.
    weight_kd: Vec<f32>,
    /// The last `k` inputs, oldest first, `[k, channels]`.
    window_kd: Vec<f32>,
}

impl Conv {
    /// From weights `[channels, 1, k]`, with an empty window.
    pub(super) fn new(weight: &Tensor, channels: usize, taps: usize) -> Self {
        let stored = weight.as_f32();
        Self {
            channels,
            weight_kd: (0..taps * channels)
                .map(|i| stored[(i % channels) * taps + i / channels])
                .collect(),
            window_kd: vec![0.0; taps * channels],
        }
    }

    /// Bytes of the window.
    pub(super) fn bytes(&self) -> usize {
        self.window_kd.len() * size_of::<f32>()
    }

    /// Inputs a chunk of `tokens` needs room for: the window, then its own.
    pub(super) fn padded_len(&self, tokens: usize) -> usize {
        self.window_kd.len() + tokens * self.channels
    }

    /// Puts the window in front of a chunk's inputs; what is given back takes those.
    pub(super) fn pad<'a>(&self, padded_ld: &'a mut [f32]) -> &'a mut [f32] {
        let (window, x_ld) = padded_ld.split_at_mut(self.window_kd.len());
        window.copy_from_slice(&self.window_kd);
        x_ld
    }

    /// u[l] = SiLU(bias + Σ_j w[j] · padded[l + 1 + j]), row 0 of `padded` being the input that has just left the window; then
    /// the window moves behind the last token.
    pub(super) fn run(&mut self, u_ld: &mut [f32], padded_ld: &[f32], bias_d: Option<&[f32]>) {
        let d = self.channels;
        let weight_kd = &self.weight_kd;
        let token = |l: usize, u_d: &mut [f32]| {
            match bias_d {
                Some(bias_d) => u_d.copy_from_slice(bias_d),
                None => u_d.fill(0.0),
            }
            let inputs = padded_ld[(l + 1) * d..].chunks_exact(d);
            for (w_d, x_d) in weight_kd.chunks_exact(d).zip(inputs) {
                multiply_add(u_d, w_d, x_d);
            }
            silu_in_place(u_d);
        };
        if u_ld.len() < PARALLEL_TOKENS * d {
            u_ld.chunks_exact_mut(d)
                .enumerate()
                .for_each(|(l, u_d)| token(l, u_d));
        } else {
            u_ld.par_chunks_exact_mut(d)
                .enumerate()
                .for_each(|(l, u_d)| token(l, u_d));
        }
        let last = padded_ld.len() - self.window_kd.len();
        self.window_kd.copy_from_slice(&padded_ld[last..]);
    }

    /// The window as a state holds it, `[channels, k]`.
    pub(super) fn window(&self) -> ndarray::Array2<f32> {
        let taps = self.window_kd.len() / self.channels;
        ndarray::Array2::from_shape_fn((self.channels, taps), |(d, k)| {
            self.window_kd[k * self.channels + d]
        })
    }

    /// Continues from a window `[channels, k]`.
    pub(super) fn set_window(&mut self, window_dk: &ndarray::Array2<f32>) {
        for ((d, k), value) in window_dk.indexed_iter() {
            self.window_kd[k * self.channels + d] = *value;
        }
    }
}
