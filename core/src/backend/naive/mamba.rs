//! The Mamba-1 mixer, step by step as in Mamba (arXiv:2312.00752) section 3.4 and Algorithm 2.

use ndarray::{Array2, Array3, ArrayView1, ArrayView2, Axis};

use super::layers::{causal_conv, columns, linear, rms_norm};
use super::record;
use crate::model::{MambaDims, MambaMixer, RecurrentDims};
use crate::scan::{
    Projection, Real, Rule, ScanError, ScanInput, ruled, sequential, silu, softplus,
};
use crate::state::RecurrentState;
use crate::trace::{Probe, Site, Tap};

/// What a scanning mixer remembers: the convolution's window and the hidden state.
pub(super) struct MixerState<T> {
    /// `[channels, k]`, oldest first.
    pub(super) conv_dk: Array2<T>,
    /// `[d, n]`; for Mamba-2 `d` is h · p.
    pub(super) ssm_dn: Array2<T>,
    /// B·u of the last token, `[d, n]`: for rules that look back, and of no part of a snapshot.
    pub(super) written_dn: Option<Array2<T>>,
}

impl<T: Real> MixerState<T> {
    pub(super) fn zeros(dims: &RecurrentDims) -> Self {
        Self {
            conv_dk: Array2::zeros((dims.conv_channels, dims.d_conv)),
            ssm_dn: Array2::zeros((dims.d_inner, dims.d_state)),
            written_dn: None,
        }
    }

    /// As a snapshot holds it.
    pub(super) fn to_single(&self) -> RecurrentState {
        RecurrentState {
            conv_dk: self.conv_dk.mapv(T::to_single),
            ssm_dn: self.ssm_dn.mapv(T::to_single),
        }
    }
}

/// Mixes tokens: `[l, e]` → `[l, e]`, moving `state` forward; by another rule than the usual where one is given.
pub(super) fn mamba_mixer<T: Real>(
    x_le: &Array2<T>,
    weights: &MambaMixer,
    dims: &MambaDims,
    state: &mut MixerState<T>,
    rule: Option<Rule>,
    layer: usize,
    tap: &mut dyn Tap,
) -> Result<Array2<T>, ScanError> {
    let (d, n, r) = (dims.d_inner, dims.d_state, dims.dt_rank);

    // 1. (x, z) = in_proj(input)                                             [l, d] each
    let xz = linear(x_le, &weights.in_proj, weights.in_proj_bias.as_ref());
    let (x_ld, z_ld) = (columns(&xz, 0, d), columns(&xz, d, 2 * d));
    record(tap, Site::layer(layer, Probe::X), &x_ld);
    record(tap, Site::layer(layer, Probe::Gate), &z_ld);

    // 2. u = SiLU(conv(x))                                                   [l, d]
    let u_ld = causal_conv(
        &x_ld,
        &weights.conv,
        weights.conv_bias.as_ref(),
        &mut state.conv_dk,
    );
    record(tap, Site::layer(layer, Probe::ConvOut), &u_ld);

    // 3. (dt, B, C) = x_proj(u): what makes the scan selective               [l, r], [l, n], [l, n]
    let projected = linear(&u_ld, &weights.x_proj, None);
    let mut dt_lr = columns(&projected, 0, r);
    let mut b_ln = columns(&projected, r, r + n);
    let mut c_ln = columns(&projected, r + n, r + 2 * n);

    // FalconMamba norms the three without weights, Jamba with; before W_dt, unlike the fused kernel they were trained with
    if let Some(norm) = dims.inner_norm {
        let of = weights.inner_norms.as_ref();
        dt_lr = rms_norm(&dt_lr, of.map(|weights| &weights.dt), norm.eps);
        b_ln = rms_norm(&b_ln, of.map(|weights| &weights.b), norm.eps);
        c_ln = rms_norm(&c_ln, of.map(|weights| &weights.c), norm.eps);
    }
    record(tap, Site::layer(layer, Probe::DtLow), &dt_lr);
    record(tap, Site::layer(layer, Probe::B), &b_ln);
    record(tap, Site::layer(layer, Probe::C), &c_ln);

    // 4. Δ = softplus(dt · W_dtᵀ + b_dt)                                     [l, d]
    let delta_ld = linear(&dt_lr, &weights.dt_proj, Some(&weights.dt_bias)).mapv(softplus);
    record(tap, Site::layer(layer, Probe::Delta), &delta_ld);

    // 5. A = −exp(A_log)                                                     [d, n]
    let a_log = T::weights(&weights.a_log);
    let a_dn = Array2::from_shape_fn((d, n), |(d, slot)| -a_log[d * n + slot].exp());

    // 6., 7. h ← exp(ΔA)·h + Δ·B·u;  y = C·h + D·u                           [l, d]
    let d_skip = T::weights(&weights.d_skip);
    let input = ScanInput {
        u_ld: u_ld.view(),
        delta_ld: delta_ld.view(),
        delta_bias_d: None,
        delta_softplus: false,
        a_dn: a_dn.view(),
        b: Projection::Selective(b_ln.view().insert_axis(Axis(1))),
        c: Projection::Selective(c_ln.view().insert_axis(Axis(1))),
        d_skip_d: Some(ArrayView1::from(&*d_skip)),
        z_ld: None,
        initial_dn: Some(state.ssm_dn.view()),
    };
    let h_site = Site::layer(layer, Probe::H);
    let mut h_ldn = tap
        .wants(h_site)
        .then(|| Array3::zeros((x_le.nrows(), d, n)));
    let after_token = |l, h_dn: ArrayView2<'_, T>| {
        if let Some(h_ldn) = &mut h_ldn {
            h_ldn.index_axis_mut(Axis(0), l).assign(&h_dn);
        }
    };
    let scanned = match rule {
        None => sequential(&input, after_token)?,
        Some(rule) => ruled(&input, &rule, &mut state.written_dn, after_token)?,
    };
    if let Some(h_ldn) = &h_ldn {
        record(tap, h_site, h_ldn);
    }
    state.ssm_dn = scanned.last_dn;
    let y_ld = scanned.y_ld;
    record(tap, Site::layer(layer, Probe::ScanOut), &y_ld);

    // 8. y ← y · SiLU(z)                                                     [l, d]
    let gated_ld = &y_ld * &z_ld.mapv(silu);
    record(tap, Site::layer(layer, Probe::GatedOut), &gated_ld);

    // 9. out_proj                                                            [l, e]
    let out_le = linear(&gated_ld, &weights.out_proj, weights.out_proj_bias.as_ref());
    record(tap, Site::layer(layer, Probe::MixerOutput), &out_le);
    Ok(out_le)
}
