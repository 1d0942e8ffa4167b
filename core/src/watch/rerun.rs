//! The hidden state of one layer, run again from what was recorded of its tokens.

use std::sync::Arc;

use ndarray::{Array2, ArrayView1, Axis};

use super::ScanRecord;
use crate::backend::fast::{Channels, Coefficient, dot, recur, run_kernel};
use crate::model::{BlockDims, Layer, Mamba2Dims, Mixer, MixerDims};
use crate::state::RecurrentState;

/// A state that moves from token to token, by the kernels of the quick backend.
pub(super) enum Rerun {
    Mamba {
        /// `[n, d]`.
        a_nd: Array2<f32>,
        /// `[n, d]`.
        h_nd: Array2<f32>,
    },
    Mamba2 {
        dims: Mamba2Dims,
        /// `[h]`.
        a_h: Vec<f32>,
        /// `[h, p, n]`.
        h_hpn: Vec<f32>,
    },
}

impl Rerun {
    /// From a kept state, or from zero; `None` for a layer without a hidden state.
    pub(super) fn new(
        layer: &Layer,
        dims: &BlockDims,
        start: Option<&RecurrentState>,
    ) -> Option<Self> {
        match (&layer.mixer, dims.mixer) {
            (Mixer::Mamba(weights), MixerDims::Mamba(dims)) => Some(Self::Mamba {
                a_nd: weights.a_nd(),
                h_nd: match start {
                    Some(state) => state.ssm_dn.t().as_standard_layout().into_owned(),
                    None => Array2::zeros((dims.d_state, dims.d_inner)),
                },
            }),
            (Mixer::Mamba2(weights), MixerDims::Mamba2(dims)) => Some(Self::Mamba2 {
                dims,
                a_h: weights.a_h(),
                h_hpn: match start {
                    Some(state) => state.ssm_dn.iter().copied().collect(),
                    None => vec![0.0; dims.d_inner() * dims.d_state],
                },
            }),
            _ => None,
        }
    }

    /// One token of the recurrence.
    pub(super) fn apply(&mut self, record: &ScanRecord) {
        match self {
            Rerun::Mamba { a_nd, h_nd } => {
                let row = |values| ArrayView1::from(values).insert_axis(Axis(0));
                let input = Channels {
                    u_ld: row(&*record.u_d),
                    delta_ld: row(&*record.delta),
                    a_nd: a_nd.view(),
                    b: Coefficient::PerToken(row(&*record.b)),
                    c: Coefficient::PerToken(row(&*record.c)),
                };
                let mut y = Array2::zeros((1, h_nd.len_of(Axis(1))));
                run_kernel(input, h_nd.view_mut(), y.view_mut(), None);
            }
            Rerun::Mamba2 { dims, a_h, h_hpn } => {
                let (p, n) = (dims.head_dim, dims.d_state);
                let heads_of_a_group = dims.heads / dims.groups;
                let mut y_p = vec![0.0; p];
                for (h, h_pn) in h_hpn.chunks_exact_mut(p * n).enumerate() {
                    let group = h / heads_of_a_group * n..(h / heads_of_a_group + 1) * n;
                    let delta = record.delta[h];
                    recur(
                        h_pn,
                        &mut y_p,
                        (delta * a_h[h]).exp(),
                        delta,
                        &record.u_d[h * p..][..p],
                        &record.b[group.clone()],
                        &record.c[group],
                    );
                }
            }
        }
    }

    /// ‖h[·, n]‖ over channels, `[n]`.
    pub(super) fn slot_norms(&self) -> Arc<[f32]> {
        match self {
            Rerun::Mamba { h_nd, .. } => {
                let norm = |h_d: ArrayView1<'_, f32>| match h_d.to_slice() {
                    Some(h_d) => dot(h_d, h_d).sqrt(),
                    None => f32::NAN,
                };
                h_nd.rows().into_iter().map(norm).collect()
            }
            Rerun::Mamba2 { dims, h_hpn, .. } => {
                let mut squares = vec![0.0; dims.d_state];
                for h_n in h_hpn.chunks_exact(dims.d_state) {
                    squares
                        .iter_mut()
                        .zip(h_n)
                        .for_each(|(sum, h)| *sum += h * h);
                }
                squares.into_iter().map(f32::sqrt).collect()
            }
        }
    }

    /// The state slot by slot, `[n · d]`.
    pub(super) fn into_h_nd(self) -> Arc<[f32]> {
        match self {
            Rerun::Mamba { h_nd, .. } => h_nd.into_raw_vec_and_offset().0.into(),
            Rerun::Mamba2 { dims, h_hpn, .. } => {
                let slots = 0..dims.d_state;
                let slot = |n| h_hpn.iter().skip(n).step_by(dims.d_state).copied();
                slots.flat_map(slot).collect()
            }
        }
    }
}
