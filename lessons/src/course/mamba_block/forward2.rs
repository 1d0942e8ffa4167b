//! A Mamba-2 block once more, as [`super::forward`] has Mamba-1's.

use mambascope_core::job::JobError;
use mambascope_core::model::{Mamba2Dims, Mamba2Mixer};
use mambascope_core::scan::{SsdInput, clamp, silu, softplus, ssd_sequential};
use mambascope_core::tensor::Tensor;
use ndarray::{Array2, Array3, ArrayView1, s};

use super::forward::{Pass, Scanning, conv, linear, rms_norm, scan};
use super::stages::Stage;

/// What the scan reads.
struct Operands<'a> {
    dims: &'a Mamba2Dims,
    x_ld: &'a Array2<f32>,
    delta_lh: &'a Array2<f32>,
    a_h: &'a [f32],
    /// `[l, g · n]`.
    b_lm: &'a Array2<f32>,
    /// `[l, g · n]`.
    c_lm: &'a Array2<f32>,
}

/// Some rows of a matrix, their columns split in two.
fn in_three(
    of: &Array2<f32>,
    (from, to): (usize, usize),
    (outer, inner): (usize, usize),
) -> Result<Array3<f32>, JobError> {
    let rows = of.slice(s![from..to, ..]).to_owned();
    rows.into_shape_with_order((to - from, outer, inner))
        .map_err(|error| JobError::Study(error.to_string()))
}

impl Scanning for Operands<'_> {
    fn dims(&self) -> (usize, usize, usize) {
        let (tokens, channels) = self.x_ld.dim();
        (tokens, channels, self.dims.d_state)
    }

    fn reads(&self, token: usize, channel: usize, slot: usize) -> f32 {
        let heads_of_a_group = (self.dims.heads / self.dims.groups.max(1)).max(1);
        let group = channel / self.dims.head_dim.max(1) / heads_of_a_group;
        self.c_lm[[token, group * self.dims.d_state + slot]]
    }

    fn run(
        &self,
        (from, to): (usize, usize),
        initial_dn: &Array2<f32>,
        (h_lm, y_ld): (&mut Array2<f32>, &mut Array2<f32>),
    ) -> Result<Array2<f32>, JobError> {
        let refused = |error: &dyn ToString| JobError::Study(error.to_string());
        let (h, p, g, n) = (
            self.dims.heads,
            self.dims.head_dim,
            self.dims.groups,
            self.dims.d_state,
        );
        let initial_hpn = initial_dn.view().into_shape_with_order((h, p, n));
        let x_lhp = in_three(self.x_ld, (from, to), (h, p))?;
        let b_lgn = in_three(self.b_lm, (from, to), (g, n))?;
        let c_lgn = in_three(self.c_lm, (from, to), (g, n))?;
        let input = SsdInput {
            x_lhp: x_lhp.view(),
            dt_lh: self.delta_lh.slice(s![from..to, ..]),
            dt_bias_h: None,
            dt_softplus: false,
            dt_limit: (f32::NEG_INFINITY, f32::INFINITY),
            a_h: ArrayView1::from(self.a_h),
            b_lgn: b_lgn.view(),
            c_lgn: c_lgn.view(),
            d_skip_h: None,
            initial_hpn: Some(initial_hpn.map_err(|error| refused(&error))?),
        };
        let found = ssd_sequential(&input, |l, h_hpn| {
            for (kept, h) in h_lm.row_mut(from + l).iter_mut().zip(h_hpn.iter()) {
                *kept = *h;
            }
        });
        let found = found.map_err(|error| refused(&error))?;
        for (y, found) in y_ld
            .slice_mut(s![from..to, ..])
            .iter_mut()
            .zip(&found.y_lhp)
        {
            *y = *found;
        }
        let last = found.last_hpn.into_shape_with_order((h * p, n));
        last.map_err(|error| refused(&error))
    }
}

/// v / √(mean(v²) + ε) · w, the mean taken over each of `groups` parts of a token.
fn norm_of_groups(v_ld: &Array2<f32>, weight: &Tensor, groups: usize, eps: f32) -> Array2<f32> {
    let width = (v_ld.ncols() / groups.max(1)).max(1);
    let mut y_ld = v_ld.clone();
    for mut row in y_ld.rows_mut() {
        for mut part in row.exact_chunks_mut(width) {
            let square = part.iter().map(|v| v * v).sum::<f32>() / width as f32;
            part *= (square + eps).sqrt().recip();
        }
        row *= &ArrayView1::from(weight.as_f32());
    }
    y_ld
}

/// One block, `[l, e]` → `[l, e]`, from the beginning of a text.
///
/// # Errors
/// When shapes do not fit.
pub(super) fn block2(
    x_le: &Array2<f32>,
    (norm, mixer): (&Tensor, &Mamba2Mixer),
    dims: &Mamba2Dims,
    eps: f32,
    pass: &mut Pass<'_>,
) -> Result<Array2<f32>, JobError> {
    let (d, w, h) = (dims.d_inner(), dims.conv_channels(), dims.heads);
    let gn = dims.groups * dims.d_state;
    let norm_le = pass.pass(Stage::Norm, rms_norm(x_le, Some(norm), eps));
    let projected = linear(&norm_le, &mixer.in_proj, mixer.in_proj_bias.as_ref())?;
    let part = |of: &Array2<f32>, from: usize, to: usize| of.slice(s![.., from..to]).to_owned();
    let xbc_lw = pass.pass(Stage::X, part(&projected, d, d + w));
    let z_ld = pass.pass(Stage::Z, part(&projected, 0, d));
    let dt_lh = pass.pass(Stage::DtLow, part(&projected, d + w, d + w + h));
    let weights = (&mixer.conv, mixer.conv_bias.as_ref());
    let conv_lw = pass.pass(Stage::Conv, conv(&xbc_lw, weights, dims.d_conv));
    let xbc_lw = pass.pass(Stage::Silu, conv_lw.mapv(silu));
    let x_ld = part(&xbc_lw, 0, d);
    let b_lm = pass.pass(Stage::B, part(&xbc_lw, d, d + gn));
    let c_lm = pass.pass(Stage::C, part(&xbc_lw, d + gn, w));
    let dt_bias = mixer.dt_bias.as_f32();
    let delta = Array2::from_shape_fn(dt_lh.dim(), |(l, i)| {
        clamp(softplus(dt_lh[[l, i]] + dt_bias[i]), dims.dt_limit)
    });
    let delta_lh = pass.pass(Stage::Delta, delta);
    let operands = Operands {
        dims,
        x_ld: &x_ld,
        delta_lh: &delta_lh,
        a_h: &mixer.a_h(),
        b_lm: &b_lm,
        c_lm: &c_lm,
    };
    let mut y_ld = scan(&operands, pass)?;
    let skip_h = mixer.d_skip.as_f32();
    for ((l, channel), y) in y_ld.indexed_iter_mut() {
        *y += skip_h[channel / dims.head_dim.max(1)] * x_ld[[l, channel]];
    }
    let y_ld = pass.pass(Stage::Skip, y_ld);
    let gated_ld = pass.pass(Stage::Gate, y_ld * z_ld.mapv(silu));
    let normed = norm_of_groups(&gated_ld, &mixer.norm, dims.groups, eps);
    let normed_ld = pass.pass(Stage::GatedNorm, normed);
    let out = linear(&normed_ld, &mixer.out_proj, mixer.out_proj_bias.as_ref())?;
    let out_le = pass.pass(Stage::Out, out);
    Ok(pass.pass(Stage::Residual, x_le + &out_le))
}
