//! Operands of a scan in the precision that is wanted, and the bytes a layer's scan moves.

use mambascope_core::scan::{Projection, Real, ScanInput, ScanOperands, ScanShape};
use ndarray::{Array1, Array2, Array3};

/// Random operands on the scales of a trained layer, with gate, skip, bias and softplus.
pub struct Operands<T> {
    u_ld: Array2<T>,
    delta_ld: Array2<T>,
    bias_d: Array1<T>,
    a_dn: Array2<T>,
    b_lgn: Array3<T>,
    c_lgn: Array3<T>,
    skip_d: Array1<T>,
    z_ld: Array2<T>,
}

/// Sizes of one text's scan.
pub fn shape(tokens: usize, channels: usize, slots: usize) -> ScanShape {
    ScanShape {
        batch: 1,
        channels,
        tokens,
        slots,
        groups: 1,
    }
}

impl<T: Real> Operands<T> {
    /// Those of this seed; the same numbers in every precision.
    pub fn seeded(tokens: usize, channels: usize, slots: usize, seed: u64) -> Self {
        let single = ScanOperands::seeded(shape(tokens, channels, slots), seed);
        let rows = |values: &[f32], columns: usize| {
            let rows = values.len() / columns.max(1);
            Array2::from_shape_fn((rows, columns), |(i, j)| T::of(values[i * columns + j]))
        };
        let all = |values: &[f32]| values.iter().map(|&value| T::of(value)).collect();
        let of_tokens = |values: &[f32]| rows(values, slots).insert_axis(ndarray::Axis(1));
        Self {
            u_ld: rows(&single.u, channels),
            delta_ld: rows(&single.delta, channels),
            bias_d: all(&single.delta_bias_d),
            a_dn: rows(&single.a_dn, slots),
            b_lgn: of_tokens(&single.b),
            c_lgn: of_tokens(&single.c),
            skip_d: all(&single.d_skip_d),
            z_ld: rows(&single.z, channels),
        }
    }

    /// As a scan reads them.
    pub fn input(&self) -> ScanInput<'_, T> {
        ScanInput {
            u_ld: self.u_ld.view(),
            delta_ld: self.delta_ld.view(),
            delta_bias_d: Some(self.bias_d.view()),
            delta_softplus: true,
            a_dn: self.a_dn.view(),
            b: Projection::Selective(self.b_lgn.view()),
            c: Projection::Selective(self.c_lgn.view()),
            d_skip_d: Some(self.skip_d.view()),
            z_ld: Some(self.z_ld.view()),
            initial_dn: None,
        }
    }

    /// The one channel and slot of these in every channel and slot of a layer, without a copy; nothing where there are several.
    pub fn repeated(&self, channels: usize, slots: usize) -> Option<ScanInput<'_, T>> {
        let tokens = self.u_ld.nrows();
        let rows = (tokens, channels);
        let of_tokens = (tokens, 1, slots);
        Some(ScanInput {
            u_ld: self.u_ld.broadcast(rows)?,
            delta_ld: self.delta_ld.broadcast(rows)?,
            delta_bias_d: Some(self.bias_d.broadcast(channels)?),
            delta_softplus: true,
            a_dn: self.a_dn.broadcast((channels, slots))?,
            b: Projection::Selective(self.b_lgn.broadcast(of_tokens)?),
            c: Projection::Selective(self.c_lgn.broadcast(of_tokens)?),
            d_skip_d: Some(self.skip_d.broadcast(channels)?),
            z_ld: Some(self.z_ld.broadcast(rows)?),
            initial_dn: None,
        })
    }
}

/// Channels of a layer of mamba-130m.
pub const CHANNELS: usize = 1536;

/// Bytes of one tensor with a value for every token, channel and slot, in f32: Ā, B̄·u or h written to memory.
pub fn materialised_bytes(tokens: usize, channels: usize, slots: usize) -> f64 {
    (tokens * channels * slots * size_of::<f32>()) as f64
}

/// Bytes that pass through memory when all is fused, in f32: u, Δ and z read and y written, and B and C read.
pub fn fused_bytes(tokens: usize, channels: usize, slots: usize) -> (f64, f64) {
    let of = |values: usize| (values * size_of::<f32>()) as f64;
    (of(4 * tokens * channels), of(2 * tokens * slots))
}
