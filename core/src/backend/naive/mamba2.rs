//! The Mamba-2 mixer, step by step as in Mamba-2 (arXiv:2405.21060) section 7: one projection for everything, one A a head.

use ndarray::{Array2, ArrayView1, Ix3};

use super::layers::{causal_conv, columns, linear};
use super::mamba::MixerState;
use super::record;
use crate::backend::Reading;
use crate::model::{Mamba2Dims, Mamba2Mixer};
use crate::scan::{Real, ScanError, SsdInput, silu, softplus, ssd_sequential};
use crate::trace::{Probe, Site, Tap};

/// What the mixer is part of.
pub(super) struct Place<'a> {
    /// The block.
    pub(super) layer: usize,
    /// ε of the gated norm: that of the block's.
    pub(super) eps: f32,
    /// Whether the limits of Δ hold.
    pub(super) reading: Reading,
    /// Who looks.
    pub(super) tap: &'a mut dyn Tap,
}

/// Mixes tokens: `[l, e]` → `[l, e]`, moving `state` forward.
pub(super) fn mamba2_mixer<T: Real>(
    x_le: &Array2<T>,
    weights: &Mamba2Mixer,
    dims: &Mamba2Dims,
    state: &mut MixerState<T>,
    place: Place<'_>,
) -> Result<Array2<T>, ScanError> {
    let Place {
        layer,
        eps,
        reading,
        tap,
    } = place;
    let (tokens, d, w) = (x_le.nrows(), dims.d_inner(), dims.conv_channels());
    let (h, p, g, n) = (dims.heads, dims.head_dim, dims.groups, dims.d_state);

    // 1. (z, xBC, dt) = in_proj(input)                                       [l, d], [l, d + 2gn], [l, h]
    let projected = linear(x_le, &weights.in_proj, weights.in_proj_bias.as_ref());
    let z_ld = columns(&projected, 0, d);
    let xbc_lw = columns(&projected, d, d + w);
    let dt_lh = columns(&projected, d + w, d + w + h);
    record(tap, Site::layer(layer, Probe::Gate), &z_ld);
    record(tap, Site::layer(layer, Probe::X), &xbc_lw);

    // 2. xBC = SiLU(conv(xBC)): B and C go through the convolution too       [l, d + 2gn]
    let xbc_lw = causal_conv(
        &xbc_lw,
        &weights.conv,
        weights.conv_bias.as_ref(),
        &mut state.conv_dk,
    );
    record(tap, Site::layer(layer, Probe::ConvOut), &xbc_lw);

    // 3. x, B, C; head i reads group i / (h/g)                               [l, h, p], [l, g, n], [l, g, n]
    let x_lhp = in_three(columns(&xbc_lw, 0, d), [tokens, h, p])?;
    let b_lgn = in_three(columns(&xbc_lw, d, d + g * n), [tokens, g, n])?;
    let c_lgn = in_three(columns(&xbc_lw, d + g * n, w), [tokens, g, n])?;
    record(tap, Site::layer(layer, Probe::B), &b_lgn);
    record(tap, Site::layer(layer, Probe::C), &c_lgn);

    // 4. Δ = clamp(softplus(dt + b_dt)); the one-token step does not clamp   [l, h]
    let dt_bias = T::weights(&weights.dt_bias);
    let limit = match reading {
        Reading::Prefill => (T::of(dims.dt_limit.0), T::of(dims.dt_limit.1)),
        Reading::Step => (T::zero(), T::infinity()),
    };
    let delta_lh = Array2::from_shape_fn((tokens, h), |(l, i)| {
        crate::scan::clamp(softplus(dt_lh[[l, i]] + dt_bias[i]), limit)
    });
    record(tap, Site::layer(layer, Probe::Delta), &delta_lh);

    // 5. A = −exp(A_log)                                                     [h]
    let a_h: Vec<T> = T::weights(&weights.a_log)
        .iter()
        .map(|a| -a.exp())
        .collect();

    // 6. H ← exp(ΔA)·H + Δ·x ⊗ B;  y = H·C + D·x                             [l, h, p]
    let d_skip = T::weights(&weights.d_skip);
    let initial_hpn = state.ssm_dn.view().into_shape_with_order((h, p, n));
    let input = SsdInput {
        x_lhp: x_lhp.view(),
        dt_lh: delta_lh.view(),
        dt_bias_h: None,
        dt_softplus: false,
        dt_limit: (T::neg_infinity(), T::infinity()),
        a_h: ArrayView1::from(&a_h),
        b_lgn: b_lgn.view(),
        c_lgn: c_lgn.view(),
        d_skip_h: Some(ArrayView1::from(&*d_skip)),
        initial_hpn: Some(initial_hpn.map_err(|_| misshapen(&[h, p, n], state.ssm_dn.shape()))?),
    };
    let h_site = Site::layer(layer, Probe::H);
    let mut h_lhpn = tap
        .wants(h_site)
        .then(|| ndarray::Array4::zeros((tokens, h, p, n)));
    let scanned = ssd_sequential(&input, |l, h_hpn| {
        if let Some(h_lhpn) = &mut h_lhpn {
            h_lhpn.index_axis_mut(ndarray::Axis(0), l).assign(&h_hpn);
        }
    })?;
    if let Some(h_lhpn) = &h_lhpn {
        record(tap, h_site, h_lhpn);
    }
    let last = scanned.last_hpn.into_shape_with_order((d, n));
    state.ssm_dn = last.map_err(|_| misshapen(&[d, n], &[h, p, n]))?;
    let y_ld = scanned.y_lhp.into_shape_with_order((tokens, d));
    let y_ld = y_ld.map_err(|_| misshapen(&[tokens, d], &[tokens, h, p]))?;
    record(tap, Site::layer(layer, Probe::ScanOut), &y_ld);

    // 7. v = y · SiLU(z), then RMSNorm of each of g parts of v: the gate comes before the norm    [l, d]
    let gated_ld = gated_norm(&y_ld, &z_ld, &T::weights(&weights.norm), g, eps);
    record(tap, Site::layer(layer, Probe::GatedOut), &gated_ld);

    // 8. out_proj                                                            [l, e]
    let out_le = linear(&gated_ld, &weights.out_proj, weights.out_proj_bias.as_ref());
    record(tap, Site::layer(layer, Probe::MixerOutput), &out_le);
    Ok(out_le)
}

/// RMSNorm(y · SiLU(z)) · w, the mean square taken over each of `groups` parts of a token.
fn gated_norm<T: Real>(
    y_ld: &Array2<T>,
    z_ld: &Array2<T>,
    weight_d: &[T],
    groups: usize,
    eps: f32,
) -> Array2<T> {
    let width = y_ld.ncols() / groups;
    let mut v_ld = y_ld * &z_ld.mapv(silu);
    for mut v_d in v_ld.rows_mut() {
        for g in 0..groups {
            let part = g * width..(g + 1) * width;
            let squares: T = part.clone().map(|d| v_d[d] * v_d[d]).sum();
            let scale = (squares / T::of(width as f32) + T::of(eps)).sqrt().recip();
            for d in part {
                v_d[d] = v_d[d] * scale * weight_d[d];
            }
        }
    }
    v_ld
}

/// A matrix whose columns are split in two.
fn in_three<T: Real>(
    values: Array2<T>,
    shape: [usize; 3],
) -> Result<ndarray::Array<T, Ix3>, ScanError> {
    let found = values.shape().to_vec();
    values
        .into_shape_with_order(shape)
        .map_err(|_| misshapen(&shape, &found))
}

/// What cannot happen while weights are checked when they are loaded.
fn misshapen(wanted: &[usize], found: &[usize]) -> ScanError {
    ScanError {
        operand: "a part of the mixer",
        wanted: format!("{wanted:?}"),
        found: found.to_vec(),
    }
}
