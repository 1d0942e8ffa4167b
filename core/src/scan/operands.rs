//! What a selective scan costs, by its sizes, and operands to measure it on.

use ndarray::{ArrayView, Dimension, IntoDimension};
use rayon::prelude::*;

use super::{Projection, ScanError, ScanInput, silu};
use crate::noise::Noise;

/// Sizes of a selective scan over a batch of sequences, with gate, skip, bias and softplus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanShape {
    /// Sequences, B.
    pub batch: usize,
    /// Channels, D.
    pub channels: usize,
    /// Tokens of each sequence, L.
    pub tokens: usize,
    /// Slots of each channel, N.
    pub slots: usize,
    /// Groups of channels that share B and C, G; divides the channels.
    pub groups: usize,
}

impl ScanShape {
    /// The least that any way to compute it moves to and from memory, in bytes: u, delta, z and y once, `[B, L, D]`, B and C once,
    /// `[B, L, G, N]`, all in values of `value_bytes` bytes; A `[D, N]`, D and bias `[D]`, and the last state `[B, D, N]` in f32.
    /// Like the two below, [`u64::MAX`] where it is more than that.
    pub fn bytes(&self, value_bytes: u64) -> u64 {
        let Self {
            batch,
            channels,
            tokens,
            slots,
            groups,
        } = *self;
        let of_channels = product(&[4, batch, tokens, channels]);
        let of_groups = product(&[2, batch, tokens, groups, slots]);
        let values = of_channels
            .saturating_add(of_groups)
            .saturating_mul(value_bytes);
        let singles = product(&[channels, slots])
            .saturating_add(product(&[2, channels]))
            .saturating_add(product(&[batch, channels, slots]));
        values.saturating_add(singles.saturating_mul(size_of::<f32>() as u64))
    }

    /// Special functions: exp(Δ·A), one for each of B · L · D · N; and four for each of B · L · D, which are exp and ln of softplus,
    /// exp and reciprocal of SiLU.
    pub fn exponentials(&self) -> u64 {
        let decays = product(&[self.batch, self.tokens, self.channels, self.slots]);
        decays.saturating_add(product(&[4, self.batch, self.tokens, self.channels]))
    }

    /// Additions and multiplications beside them: six for each of B · L · D · N, which are Δ·A, Δu·B, and a product with a sum each
    /// for h and y; and six for each of B · L · D, which are the bias, Δ·u, the skip's product and sum, z·σ(z) and the gate.
    pub fn flops(&self) -> u64 {
        let slots = product(&[6, self.batch, self.tokens, self.channels, self.slots]);
        slots.saturating_add(product(&[6, self.batch, self.tokens, self.channels]))
    }
}

fn product(factors: &[usize]) -> u64 {
    factors.iter().fold(1, |product: u64, &factor| {
        product.saturating_mul(factor as u64)
    })
}

/// Random operands of a scan with gate, skip, bias and softplus, on the scales of a trained layer. Row-major, sequences outermost.
#[derive(Clone, Debug, PartialEq)]
pub struct ScanOperands {
    /// The sizes.
    pub shape: ScanShape,
    /// Input, `[B, L, D]`.
    pub u: Vec<f32>,
    /// Step size before bias and softplus, `[B, L, D]`.
    pub delta: Vec<f32>,
    /// Gate, `[B, L, D]`.
    pub z: Vec<f32>,
    /// How to write, `[B, L, G, N]`.
    pub b: Vec<f32>,
    /// How to read, `[B, L, G, N]`.
    pub c: Vec<f32>,
    /// A = −1, −2, … in every channel, `[D, N]`.
    pub a_dn: Vec<f32>,
    /// Skip, `[D]`.
    pub d_skip_d: Vec<f32>,
    /// Added to `delta`, `[D]`: steps around 0.001 to 0.1 after softplus.
    pub delta_bias_d: Vec<f32>,
}

impl ScanOperands {
    /// The operands of that seed.
    pub fn seeded(shape: ScanShape, seed: u64) -> Self {
        let ScanShape {
            batch,
            channels,
            tokens,
            slots,
            groups,
        } = shape;
        type Value<'a> = &'a (dyn Fn(Noise, usize) -> f32 + Sync);
        let fill = |name: &str, count: usize, value: Value<'_>| -> Vec<f32> {
            let noise = Noise::new(seed, name);
            let indices = (0..count).into_par_iter();
            indices.map(|i| value(noise, i)).collect()
        };
        let of_channels = batch * tokens * channels;
        let of_groups = batch * tokens * groups * slots;
        Self {
            shape,
            u: fill("u", of_channels, &|noise, i| silu(noise.normal(i))),
            delta: fill("delta", of_channels, &|noise, i| 0.5 * noise.normal(i)),
            z: fill("z", of_channels, &Noise::normal),
            b: fill("B", of_groups, &Noise::normal),
            c: fill("C", of_groups, &Noise::normal),
            a_dn: (0..channels * slots)
                .map(|i| -((i % slots + 1) as f32))
                .collect(),
            d_skip_d: vec![1.0; channels],
            delta_bias_d: fill("bias", channels, &|noise, i| noise.step_bias(i)),
        }
    }

    /// Sequence `sequence` of the batch, as a scan reads it.
    ///
    /// # Errors
    /// When there is no such sequence, or a vector was changed to another length; when the groups do not divide the channels, the scan says so.
    pub fn input(&self, sequence: usize) -> Result<ScanInput<'_, f32>, ScanError> {
        let ScanShape {
            channels,
            tokens,
            slots,
            groups,
            ..
        } = self.shape;
        let (d, of_channels) = (channels, (tokens, channels));
        let (dn, of_groups) = ((channels, slots), (tokens, groups, slots));
        Ok(ScanInput {
            u_ld: view("u", &self.u, sequence, of_channels)?,
            delta_ld: view("delta", &self.delta, sequence, of_channels)?,
            delta_bias_d: Some(view("delta_bias", &self.delta_bias_d, 0, d)?),
            delta_softplus: true,
            a_dn: view("A", &self.a_dn, 0, dn)?,
            b: Projection::Selective(view("B", &self.b, sequence, of_groups)?),
            c: Projection::Selective(view("C", &self.c, sequence, of_groups)?),
            d_skip_d: Some(view("D", &self.d_skip_d, 0, d)?),
            z_ld: Some(view("z", &self.z, sequence, of_channels)?),
            initial_dn: None,
        })
    }
}

/// Part `index` of `values`, one of this shape after another.
fn view<'a, S: IntoDimension>(
    operand: &'static str,
    values: &'a [f32],
    index: usize,
    shape: S,
) -> Result<ArrayView<'a, f32, S::Dim>, ScanError> {
    let shape = shape.into_dimension();
    let size = shape.size();
    let part = values.chunks_exact(size.max(1)).nth(index);
    let wanted = format!("{:?}, {} times or more", shape.slice(), index + 1);
    part.and_then(|part| ArrayView::from_shape(shape, part).ok())
        .ok_or_else(|| ScanError {
            operand,
            wanted,
            found: vec![values.len()],
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_those_counted_by_hand() {
        let shape = ScanShape {
            batch: 2,
            channels: 6,
            tokens: 5,
            slots: 3,
            groups: 2,
        };
        // u, delta, z, y: 4 · 60; B, C: 2 · 60. A 18, D and bias 12, states 36.
        assert_eq!(shape.bytes(2), 2 * 360 + 4 * 66);
        assert_eq!(shape.bytes(4), 4 * 360 + 4 * 66);
        assert_eq!(shape.exponentials(), 180 + 4 * 60);
        assert_eq!(shape.flops(), 6 * 180 + 6 * 60);
        let huge = ScanShape {
            batch: usize::MAX,
            ..shape
        };
        assert_eq!(huge.bytes(4), u64::MAX);
        assert_eq!(huge.flops(), u64::MAX);
    }
}
