//! The Mamba-1 mixer over a chunk of tokens. The steps are numbered as in the naive backend.

use ndarray::{Array2, Array3, Axis, s};

use super::conv::Conv;
use super::hand_out;
use super::math::{activate_delta, gate, multiply_add};
use super::matmul::{PARALLEL_VECTOR, Rows, linear, linear_parts};
use super::scan::{Channels, Coefficient, scan_channels};
use super::session::{Pass, each_row, normalise, record, room, view, view_mut};
use super::vector::products;
use crate::model::{MambaDims, MambaMixer};
use crate::state::RecurrentState;
use crate::tensor::Tensor;
use crate::trace::{Probe, Site};

/// Pieces of a token's channels for each thread, and what they are multiples of: lines of memory of f32.
const STEP_PIECES: usize = 2;
const LINE: usize = 16;

/// What one block needs beside its weights.
pub(super) struct MambaBlock {
    dims: MambaDims,
    conv: Conv,
    /// A = −exp(A_log), `[n, d]`.
    a_nd: Array2<f32>,
    /// The hidden state, `[n, d]`.
    h_nd: Array2<f32>,
}

/// Buffers of a chunk; they grow to the longest seen and stay. Both kinds of scan use them.
#[derive(Default)]
pub(super) struct ScanScratch {
    /// `[k + l, channels]`: the window, then the chunk's inputs of the convolution.
    pub(super) padded_ld: Vec<f32>,
    pub(super) z_ld: Vec<f32>,
    /// The convolution's output.
    pub(super) u_ld: Vec<f32>,
    /// Mamba-1: `[l, r + 2n]`, Δ's low-rank input, B, C.
    pub(super) projected: Vec<f32>,
    pub(super) delta_ld: Vec<f32>,
    pub(super) y_ld: Vec<f32>,
    /// Mamba-2: what its heads work in.
    pub(super) heads: Vec<f32>,
}

impl MambaBlock {
    pub(super) fn new(weights: &MambaMixer, dims: &MambaDims) -> Self {
        Self {
            dims: *dims,
            conv: Conv::new(&weights.conv, dims.d_inner, dims.d_conv),
            a_nd: weights.a_nd(),
            h_nd: Array2::zeros((dims.d_state, dims.d_inner)),
        }
    }

    pub(super) fn state(&self) -> RecurrentState {
        RecurrentState {
            conv_dk: self.conv.window(),
            ssm_dn: self.h_nd.t().as_standard_layout().into_owned(),
        }
    }

    pub(super) fn set_state(&mut self, state: &RecurrentState) {
        self.conv.set_window(&state.conv_dk);
        self.h_nd.assign(&state.ssm_dn.t());
    }

    /// Bytes of the window and of the hidden state.
    pub(super) fn bytes(&self) -> (usize, usize) {
        (self.conv.bytes(), self.h_nd.len() * size_of::<f32>())
    }

    /// `out_le` = mixer(`norm_le`), moving the state forward.
    pub(super) fn mix(&mut self, pass: &mut Pass<'_>, i: usize, weights: &MambaMixer) {
        self.project_in(pass, i, weights);
        self.project(pass, i, weights);
        if pass.tokens == 1 {
            self.step(pass, i, weights);
        } else {
            self.steps(pass, i, weights);
            self.scan(pass, i, weights);
        }
        pass.project_out(
            i,
            self.dims.d_inner,
            &weights.out_proj,
            weights.out_proj_bias.as_ref(),
        );
    }

    /// 1. x and z; 2. u = SiLU(conv(x)).
    fn project_in(&mut self, pass: &mut Pass<'_>, i: usize, weights: &MambaMixer) {
        let (width, d, tokens) = (pass.width(), self.dims.d_inner, pass.tokens);
        let scratch = &mut pass.scratch.scan;
        let normed = Rows::whole(&pass.scratch.norm_le, width);
        let padded = room(&mut scratch.padded_ld, self.conv.padded_len(tokens));
        let x_ld = self.conv.pad(padded);
        let z_ld = room(&mut scratch.z_ld, tokens * d);
        linear_parts(
            &mut [(&mut *x_ld, d), (&mut *z_ld, d)],
            normed,
            &weights.in_proj,
            weights.in_proj_bias.as_ref(),
            &mut pass.scratch.products,
            pass.products,
        );
        record(pass.tap, Site::layer(i, Probe::X), x_ld, &[tokens, d]);
        record(pass.tap, Site::layer(i, Probe::Gate), z_ld, &[tokens, d]);

        let u_ld = room(&mut scratch.u_ld, tokens * d);
        let bias = weights.conv_bias.as_ref().map(Tensor::as_f32);
        self.conv.run(u_ld, padded, bias);
        record(pass.tap, Site::layer(i, Probe::ConvOut), u_ld, &[tokens, d]);
    }

    /// 3. dt, B and C, normed in families that do so.
    fn project(&mut self, pass: &mut Pass<'_>, i: usize, weights: &MambaMixer) {
        let MambaDims {
            d_inner: d,
            d_state: n,
            dt_rank: r,
            ..
        } = self.dims;
        let tokens = pass.tokens;
        let scratch = &mut pass.scratch.scan;
        let columns = r + 2 * n;
        let projected = room(&mut scratch.projected, tokens * columns);
        let u = Rows::whole(&scratch.u_ld, d);
        let products = &mut pass.scratch.products;
        linear(projected, u, &weights.x_proj, None, products, pass.products);
        if let Some(norm) = self.dims.inner_norm {
            let of = weights.inner_norms.as_ref();
            let [dt, b, c] = [
                of.map(|weights| weights.dt.as_f32()),
                of.map(|weights| weights.b.as_f32()),
                of.map(|weights| weights.c.as_f32()),
            ];
            for token in projected.chunks_exact_mut(columns) {
                normalise(&mut token[..r], dt, norm.eps);
                normalise(&mut token[r..r + n], b, norm.eps);
                normalise(&mut token[r + n..], c, norm.eps);
            }
        }
        let whole = view(projected, tokens, columns);
        for (probe, columns) in [
            (Probe::DtLow, 0..r),
            (Probe::B, r..r + n),
            (Probe::C, r + n..r + 2 * n),
        ] {
            let site = Site::layer(i, probe);
            if pass.tap.wants(site) {
                pass.tap
                    .record(site, whole.slice(s![.., columns]).into_dyn());
            }
        }
    }

    /// 4. Δ = softplus(dt · W_dtᵀ + b_dt).
    fn steps(&mut self, pass: &mut Pass<'_>, i: usize, weights: &MambaMixer) {
        let (d, r) = (self.dims.d_inner, self.dims.dt_rank);
        let tokens = pass.tokens;
        let columns = r + 2 * self.dims.d_state;
        let scratch = &mut pass.scratch.scan;
        let dt = Rows {
            data: &scratch.projected[..tokens * columns],
            width: r,
            stride: columns,
        };
        let delta_ld = room(&mut scratch.delta_ld, tokens * d);
        let bias = Some(&weights.dt_bias);
        let products = &mut pass.scratch.products;
        linear(
            delta_ld,
            dt,
            &weights.dt_proj,
            bias,
            products,
            pass.products,
        );
        each_row(delta_ld, d, activate_delta);
        record(
            pass.tap,
            Site::layer(i, Probe::Delta),
            delta_ld,
            &[tokens, d],
        );
    }

    /// Steps 4 to 8 for one token: every thread takes channels through all of them, for each alone is shorter than handing it out.
    fn step(&mut self, pass: &mut Pass<'_>, i: usize, weights: &MambaMixer) {
        let MambaDims {
            d_inner: d,
            d_state: n,
            dt_rank: r,
            ..
        } = self.dims;
        let is_gated_at_once = !pass.tap.wants(Site::layer(i, Probe::ScanOut));
        let scratch = &mut pass.scratch.scan;
        let (dt, bc) = scratch.projected[..r + 2 * n].split_at(r);
        let bc = view(bc, 2, n);
        let of_dt = weights.dt_proj.numbers();
        let dt = pass.scratch.products.planes_of(dt, &of_dt);
        let (bias_d, d_skip_d) = (weights.dt_bias.as_f32(), weights.d_skip.as_f32());
        let (u_d, z_d) = (&scratch.u_ld[..d], &scratch.z_ld[..d]);
        let delta_d = room(&mut scratch.delta_ld, d);
        let y_d = room(&mut scratch.y_ld, d);
        let a_nd = self.a_nd.view();

        let is_short = d * (n + r) < PARALLEL_VECTOR;
        let threads = if is_short { 1 } else { pass.products.threads };
        let width = d.div_ceil(threads * STEP_PIECES).next_multiple_of(LINE);
        let states = self.h_nd.axis_chunks_iter_mut(Axis(1), width);
        let values = delta_d.chunks_mut(width).zip(y_d.chunks_mut(width));
        let pieces = states.zip(values).enumerate();
        hand_out(
            pieces,
            threads,
            || (),
            |(), (i, (h_nd, (delta_d, y_d)))| {
                let own = i * width..i * width + y_d.len();
                products(delta_d, dt, of_dt.rows(own.clone(), r));
                delta_d
                    .iter_mut()
                    .zip(&bias_d[own.clone()])
                    .for_each(|(delta, b)| *delta += b);
                activate_delta(delta_d);
                let input = Channels {
                    u_ld: view(&u_d[own.clone()], 1, y_d.len()),
                    delta_ld: view(delta_d, 1, y_d.len()),
                    a_nd: a_nd.slice(s![.., own.clone()]),
                    b: Coefficient::PerToken(bc.slice(s![..1, ..])),
                    c: Coefficient::PerToken(bc.slice(s![1.., ..])),
                };
                scan_channels(&input, h_nd, view_mut(y_d, 1, own.len()), None);
                multiply_add(y_d, &u_d[own.clone()], &d_skip_d[own.clone()]);
                if is_gated_at_once {
                    gate(y_d, &z_d[own]);
                }
            },
        );

        self.record_step(pass, i, is_gated_at_once);
    }

    /// What [`MambaBlock::step`] made; y is gated after it was recorded where somebody wants it as it was before.
    fn record_step(&self, pass: &mut Pass<'_>, i: usize, is_gated: bool) {
        let d = self.dims.d_inner;
        let site = |probe| Site::layer(i, probe);
        let scratch = &mut pass.scratch.scan;
        let (delta_d, y_d) = (&scratch.delta_ld[..d], &mut scratch.y_ld[..d]);
        record(pass.tap, site(Probe::Delta), delta_d, &[1, d]);
        if pass.tap.wants(site(Probe::H)) {
            let h_dn = self.h_nd.t();
            let h_ldn = h_dn.as_standard_layout().insert_axis(Axis(0));
            pass.tap.record(site(Probe::H), h_ldn.view().into_dyn());
        }
        if !is_gated {
            record(pass.tap, site(Probe::ScanOut), y_d, &[1, d]);
            gate(y_d, &scratch.z_ld[..d]);
        }
        record(pass.tap, site(Probe::GatedOut), y_d, &[1, d]);
    }

    /// 5. to 7. the scan and the skip; 8. the gate.
    fn scan(&mut self, pass: &mut Pass<'_>, i: usize, weights: &MambaMixer) {
        let MambaDims {
            d_inner: d,
            d_state: n,
            dt_rank: r,
            ..
        } = self.dims;
        let tokens = pass.tokens;
        let scratch = &mut pass.scratch.scan;
        let projected = view(&scratch.projected, tokens, r + 2 * n);
        let input = Channels {
            u_ld: view(&scratch.u_ld, tokens, d),
            delta_ld: view(&scratch.delta_ld, tokens, d),
            a_nd: self.a_nd.view(),
            b: Coefficient::PerToken(projected.slice_move(s![.., r..r + n])),
            c: Coefficient::PerToken(projected.slice_move(s![.., r + n..])),
        };
        let y_ld = room(&mut scratch.y_ld, tokens * d);
        let site = Site::layer(i, Probe::H);
        let mut h_ldn = pass.tap.wants(site).then(|| Array3::zeros((tokens, d, n)));
        let record_h = h_ldn.as_mut().map(|h_ldn| h_ldn.view_mut());
        scan_channels(
            &input,
            self.h_nd.view_mut(),
            view_mut(y_ld, tokens, d),
            record_h,
        );
        if let Some(h_ldn) = h_ldn {
            pass.tap.record(site, h_ldn.view().into_dyn());
        }
        let d_skip = weights.d_skip.as_f32();
        for (y_d, u_d) in y_ld.chunks_exact_mut(d).zip(scratch.u_ld.chunks_exact(d)) {
            multiply_add(y_d, u_d, d_skip);
        }
        record(pass.tap, Site::layer(i, Probe::ScanOut), y_ld, &[tokens, d]);
        gate(y_ld, &scratch.z_ld[..tokens * d]);
        record(
            pass.tap,
            Site::layer(i, Probe::GatedOut),
            y_ld,
            &[tokens, d],
        );
    }
}
