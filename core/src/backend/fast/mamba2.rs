//! The Mamba-2 mixer over a chunk of tokens. The steps are numbered as in the naive backend.

use ndarray::{Array3, Array4, s};

use super::conv::Conv;
use super::math::{activate_delta, gate};
use super::matmul::{Rows, linear_parts};
use super::session::{Pass, each_row, normalise, record, room, view};
use super::ssd::{Ssd, SsdDims};
use crate::backend::Reading;
use crate::model::{Mamba2Dims, Mamba2Mixer};
use crate::scan::clamp;
use crate::state::RecurrentState;
use crate::tensor::Tensor;
use crate::trace::{Probe, Site};

/// What one block needs beside its weights.
pub(super) struct Mamba2Block {
    dims: Mamba2Dims,
    conv: Conv,
    /// A = −exp(A_log), `[h]`.
    a_h: Vec<f32>,
    /// The hidden state, `[h, p, n]`.
    h_hpn: Vec<f32>,
}

impl Mamba2Block {
    pub(super) fn new(weights: &Mamba2Mixer, dims: &Mamba2Dims) -> Self {
        Self {
            dims: *dims,
            conv: Conv::new(&weights.conv, dims.conv_channels(), dims.d_conv),
            a_h: weights.a_h(),
            h_hpn: vec![0.0; dims.d_inner() * dims.d_state],
        }
    }

    pub(super) fn state(&self) -> RecurrentState {
        RecurrentState {
            conv_dk: self.conv.window(),
            ssm_dn: view(&self.h_hpn, self.dims.d_inner(), self.dims.d_state).to_owned(),
        }
    }

    pub(super) fn set_state(&mut self, state: &RecurrentState) {
        self.conv.set_window(&state.conv_dk);
        for (mine, given) in self.h_hpn.iter_mut().zip(&state.ssm_dn) {
            *mine = *given;
        }
    }

    /// Bytes of the window and of the hidden state.
    pub(super) fn bytes(&self) -> (usize, usize) {
        (self.conv.bytes(), self.h_hpn.len() * size_of::<f32>())
    }

    /// `out_le` = mixer(`norm_le`), moving the state forward.
    pub(super) fn mix(&mut self, pass: &mut Pass<'_>, i: usize, weights: &Mamba2Mixer) {
        self.project_in(pass, i, weights);
        self.scan(pass, i, weights);
        self.gated_norm(pass, i, weights);
        pass.project_out(
            i,
            self.dims.d_inner(),
            &weights.out_proj,
            weights.out_proj_bias.as_ref(),
        );
    }

    /// 1. z, xBC and dt; 2. xBC = SiLU(conv(xBC)); 4. Δ = clamp(softplus(dt + b_dt)).
    fn project_in(&mut self, pass: &mut Pass<'_>, i: usize, weights: &Mamba2Mixer) {
        let (width, tokens) = (pass.width(), pass.tokens);
        let (d, w, h) = (
            self.dims.d_inner(),
            self.dims.conv_channels(),
            self.dims.heads,
        );
        let scratch = &mut pass.scratch.scan;
        let normed = Rows::whole(&pass.scratch.norm_le, width);
        let z_ld = room(&mut scratch.z_ld, tokens * d);
        let padded = room(&mut scratch.padded_ld, self.conv.padded_len(tokens));
        let xbc_lw = self.conv.pad(padded);
        let delta_lh = room(&mut scratch.delta_ld, tokens * h);
        linear_parts(
            &mut [(&mut *z_ld, d), (&mut *xbc_lw, w), (&mut *delta_lh, h)],
            normed,
            &weights.in_proj,
            weights.in_proj_bias.as_ref(),
            &mut pass.scratch.products,
            pass.products,
        );
        record(pass.tap, Site::layer(i, Probe::Gate), z_ld, &[tokens, d]);
        record(pass.tap, Site::layer(i, Probe::X), xbc_lw, &[tokens, w]);

        let u_lw = room(&mut scratch.u_ld, tokens * w);
        let bias = weights.conv_bias.as_ref().map(Tensor::as_f32);
        self.conv.run(u_lw, padded, bias);
        record(pass.tap, Site::layer(i, Probe::ConvOut), u_lw, &[tokens, w]);

        let bias = weights.dt_bias.as_f32();
        let limit = (pass.reading == Reading::Prefill).then_some(self.dims.dt_limit);
        each_row(delta_lh, h, |delta_h| {
            delta_h.iter_mut().zip(bias).for_each(|(dt, b)| *dt += b);
            activate_delta(delta_h);
            if let Some(limit) = limit {
                delta_h
                    .iter_mut()
                    .for_each(|delta| *delta = clamp(*delta, limit));
            }
        });
        record(
            pass.tap,
            Site::layer(i, Probe::Delta),
            delta_lh,
            &[tokens, h],
        );
    }

    /// 3. x, B and C where they lie; 5. and 6. the scan with the skip.
    fn scan(&mut self, pass: &mut Pass<'_>, i: usize, weights: &Mamba2Mixer) {
        let Mamba2Dims {
            heads: h,
            head_dim: p,
            groups: g,
            d_state: n,
            ..
        } = self.dims;
        let (tokens, d, w) = (pass.tokens, self.dims.d_inner(), self.dims.conv_channels());
        let scratch = &mut pass.scratch.scan;
        let u_lw = &scratch.u_ld[..tokens * w];
        for (probe, from) in [(Probe::B, d), (Probe::C, d + g * n)] {
            let site = Site::layer(i, probe);
            if pass.tap.wants(site) {
                let part = view(u_lw, tokens, w).slice_move(s![.., from..from + g * n]);
                let part = part.as_standard_layout();
                if let Ok(part) = part.to_shape((tokens, g, n)) {
                    pass.tap.record(site, part.view().into_dyn());
                }
            }
        }
        let part = |from: usize, width: usize| Rows {
            data: &u_lw[from..],
            width,
            stride: w,
        };
        let ssd = Ssd {
            dims: SsdDims {
                heads: h,
                head_dim: p,
                groups: g,
                d_state: n,
            },
            x: part(0, d),
            b: part(d, g * n),
            c: part(d + g * n, g * n),
            delta_lh: &scratch.delta_ld[..tokens * h],
            a_h: &self.a_h,
            d_skip_h: weights.d_skip.as_f32(),
        };
        let y_ld = room(&mut scratch.y_ld, tokens * d);
        let site = Site::layer(i, Probe::H);
        if pass.tap.wants(site) {
            // Chunks never form the states in between: who wants to see them gets the recurrence.
            let mut h_lhpn = Array4::zeros((tokens, h, p, n));
            for (l, y_d) in y_ld.chunks_exact_mut(d).enumerate() {
                ssd.step(l, &mut self.h_hpn, y_d, pass.products.threads);
                let mut seen = h_lhpn.index_axis_mut(ndarray::Axis(0), l);
                seen.iter_mut()
                    .zip(&self.h_hpn)
                    .for_each(|(seen, h)| *seen = *h);
            }
            pass.tap.record(site, h_lhpn.view().into_dyn());
        } else {
            let (chunk, threads) = (self.dims.chunk, pass.products.threads);
            ssd.run(chunk, &mut self.h_hpn, y_ld, &mut scratch.heads, threads);
        }
        record(pass.tap, Site::layer(i, Probe::ScanOut), y_ld, &[tokens, d]);
    }

    /// 7. RMSNorm of each group's part of y · SiLU(z).
    fn gated_norm(&mut self, pass: &mut Pass<'_>, i: usize, weights: &Mamba2Mixer) {
        let (tokens, d) = (pass.tokens, self.dims.d_inner());
        let eps = pass.model.config.norm_eps;
        let scratch = &mut pass.scratch.scan;
        let y_ld = &mut scratch.y_ld[..tokens * d];
        gate(y_ld, &scratch.z_ld[..tokens * d]);
        let (part, weight_d) = (d / self.dims.groups, weights.norm.as_f32());
        each_row(y_ld, d, |y_d| {
            for (y, weight) in y_d.chunks_exact_mut(part).zip(weight_d.chunks_exact(part)) {
                normalise(y, Some(weight), eps);
            }
        });
        record(
            pass.tap,
            Site::layer(i, Probe::GatedOut),
            y_ld,
            &[tokens, d],
        );
    }
}

/// The chunked scan on operands of its own, none of them empty, as [`crate::backend::Backend::ssd`] is asked for it.
pub(super) fn standalone(
    input: &crate::scan::SsdInput<'_, f32>,
    chunk: usize,
    threads: usize,
) -> crate::scan::SsdOutput<f32> {
    let (l, h, p, n) = input.dims();
    let g = input.b_lgn.dim().1;
    let tokens_heads = (0..l).flat_map(|l| (0..h).map(move |h| (l, h)));
    let delta_lh: Vec<f32> = tokens_heads.map(|(l, h)| input.delta(l, h)).collect();
    let flat =
        |values: ndarray::ArrayView3<'_, f32>| -> Vec<f32> { values.iter().copied().collect() };
    let (x, b, c) = (flat(input.x_lhp), flat(input.b_lgn), flat(input.c_lgn));
    let ssd = Ssd {
        dims: SsdDims {
            heads: h,
            head_dim: p,
            groups: g,
            d_state: n,
        },
        x: Rows::whole(&x, h * p),
        b: Rows::whole(&b, g * n),
        c: Rows::whole(&c, g * n),
        delta_lh: &delta_lh,
        a_h: &input.a_h.to_vec(),
        d_skip_h: &input
            .d_skip_h
            .map_or_else(|| vec![0.0; h], |d_skip| d_skip.to_vec()),
    };
    let mut y = vec![0.0; l * h * p];
    let mut last = input.initial_hpn.map_or_else(|| vec![0.0; h * p * n], flat);
    ssd.run(chunk, &mut last, &mut y, &mut Vec::new(), threads);
    crate::scan::SsdOutput {
        y_lhp: Array3::from_shape_fn((l, h, p), |(l, i, j)| y[(l * h + i) * p + j]),
        last_hpn: Array3::from_shape_fn((h, p, n), |(i, j, k)| last[(i * p + j) * n + k]),
    }
}
