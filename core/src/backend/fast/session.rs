//! One text on the quick backend: buffers kept between calls, the forward pass over a chunk of tokens.

use std::sync::Arc;

use ndarray::{Array2, Array3, ArrayView2, ArrayViewD, ArrayViewMut2, s};
use rayon::prelude::*;

use super::Threads;
use super::math::{activate_delta, dot, gate, multiply_add, silu_in_place};
use super::matmul::{Rows, linear};
use super::scan::{Channels, Coefficient, scan_channels};
use crate::backend::{BackendError, Session, check_ids};
use crate::model::{Layer, MambaDims, MambaMixer, Model};
use crate::state::{LayerState, State};
use crate::tensor::Tensor;
use crate::trace::{Probe, Site, Tap};

/// Below this many tokens the rows of a chunk are not worth spreading over threads.
const PARALLEL_TOKENS: usize = 16;

/// What one block needs beside its weights, in the layouts the kernels read.
struct Block {
    /// A = −exp(A_log), `[n, d]`.
    a_nd: Array2<f32>,
    /// Convolution weights, `[k, d]`.
    conv_kd: Vec<f32>,
    /// The last `k` inputs of the convolution, oldest first, `[k, d]`.
    window_kd: Vec<f32>,
    /// The hidden state, `[n, d]`.
    h_nd: Array2<f32>,
}

/// Buffers of a chunk; they grow to the longest chunk seen and stay.
#[derive(Default)]
struct Scratch {
    x_le: Vec<f32>,
    norm_le: Vec<f32>,
    /// `[k + l, d]`: the window, then the chunk's inputs of the convolution.
    padded_ld: Vec<f32>,
    z_ld: Vec<f32>,
    u_ld: Vec<f32>,
    /// `[l, r + 2n]`: Δ's low-rank input, B, C.
    projected: Vec<f32>,
    delta_ld: Vec<f32>,
    y_ld: Vec<f32>,
    out_le: Vec<f32>,
    logits_lv: Vec<f32>,
}

pub(super) struct FastSession {
    model: Arc<Model>,
    threads: Threads,
    position: usize,
    blocks: Vec<Block>,
    scratch: Scratch,
    logits_v: Vec<f32>,
}

impl FastSession {
    pub(super) fn new(model: &Arc<Model>, threads: Threads) -> Self {
        let dims = model.config.mamba;
        model.widen();
        let blocks = model
            .layers
            .iter()
            .map(|layer| Block::new(layer, &dims))
            .collect();
        let logits_v = vec![0.0; model.config.vocab_size];
        let scratch = Scratch::default();
        Self {
            model: Arc::clone(model),
            threads,
            position: 0,
            blocks,
            scratch,
            logits_v,
        }
    }
}

impl Session for FastSession {
    fn prefill(&mut self, ids: &[u32], tap: &mut dyn Tap) -> Result<(), BackendError> {
        check_ids(ids, self.model.config.vocab_size)?;
        let mut pass = Pass {
            model: &self.model,
            tokens: ids.len(),
            threads: self.threads.count,
            scratch: &mut self.scratch,
            tap,
        };
        let (blocks, logits_v) = (&mut self.blocks, &mut self.logits_v);
        self.threads
            .run(move || pass.forward(ids, blocks, logits_v));
        self.position += ids.len();
        Ok(())
    }

    fn logits(&self) -> &[f32] {
        &self.logits_v
    }

    fn model(&self) -> &Arc<Model> {
        &self.model
    }

    fn state(&self) -> State {
        let dims = self.model.config.mamba;
        let layer = |block: &Block| LayerState {
            conv_dk: Array2::from_shape_fn((dims.d_inner, dims.d_conv), |(d, k)| {
                block.window_kd[k * dims.d_inner + d]
            }),
            ssm_dn: block.h_nd.t().as_standard_layout().into_owned(),
        };
        State {
            position: self.position,
            layers: self.blocks.iter().map(layer).collect(),
        }
    }

    fn state_bytes(&self) -> usize {
        self.blocks
            .iter()
            .map(|block| (block.window_kd.len() + block.h_nd.len()) * size_of::<f32>())
            .sum()
    }

    fn set_state(&mut self, state: &State) -> Result<(), BackendError> {
        state.check(&self.model.config)?;
        let d_inner = self.model.config.mamba.d_inner;
        self.position = state.position;
        self.logits_v.fill(0.0);
        for (block, layer) in self.blocks.iter_mut().zip(&state.layers) {
            for ((d, k), value) in layer.conv_dk.indexed_iter() {
                block.window_kd[k * d_inner + d] = *value;
            }
            block.h_nd.assign(&layer.ssm_dn.t());
        }
        Ok(())
    }
}

impl Block {
    fn new(layer: &Layer, dims: &MambaDims) -> Self {
        let (d, n, k) = (dims.d_inner, dims.d_state, dims.d_conv);
        let conv = layer.mixer.conv.as_f32();
        Self {
            a_nd: layer.mixer.a_nd(),
            conv_kd: (0..k * d).map(|i| conv[(i % d) * k + i / d]).collect(),
            window_kd: vec![0.0; k * d],
            h_nd: Array2::zeros((n, d)),
        }
    }
}

/// One call of prefill: a chunk of `tokens` tokens through all blocks.
struct Pass<'a> {
    model: &'a Model,
    tokens: usize,
    threads: usize,
    scratch: &'a mut Scratch,
    tap: &'a mut (dyn Tap + 'a),
}

impl Pass<'_> {
    fn forward(&mut self, ids: &[u32], blocks: &mut [Block], logits_v: &mut [f32]) {
        let config = &self.model.config;
        let (width, tokens) = (config.d_model, self.tokens);
        self.scratch.fit(tokens, width, &config.mamba);

        let embedding_ve = self.model.embedding.as_f32();
        for (x_e, &id) in self.scratch.x_le.chunks_exact_mut(width).zip(ids) {
            x_e.copy_from_slice(&embedding_ve[id as usize * width..][..width]);
        }
        record(
            self.tap,
            Site::model(Probe::Embedded),
            &self.scratch.x_le,
            &[tokens, width],
        );

        for (i, (layer, block)) in self.model.layers.iter().zip(blocks).enumerate() {
            self.norm(&layer.norm);
            record(
                self.tap,
                Site::layer(i, Probe::NormOut),
                &self.scratch.norm_le,
                &[tokens, width],
            );
            self.mixer(i, layer, block);
            for (x, out) in self.scratch.x_le.iter_mut().zip(&self.scratch.out_le) {
                *x += out;
            }
            record(
                self.tap,
                Site::layer(i, Probe::BlockOutput),
                &self.scratch.x_le,
                &[tokens, width],
            );
        }
        self.norm(&self.model.final_norm);
        record(
            self.tap,
            Site::model(Probe::FinalHidden),
            &self.scratch.norm_le,
            &[tokens, width],
        );
        self.head(logits_v);
    }

    /// `norm_le` = RMSNorm(`x_le`).
    fn norm(&mut self, weight_e: &Tensor) {
        let (width, eps) = (self.model.config.d_model, self.model.config.norm_eps);
        let weight_e = weight_e.as_f32();
        let Scratch { x_le, norm_le, .. } = &mut *self.scratch;
        for (y_e, x_e) in norm_le
            .chunks_exact_mut(width)
            .zip(x_le.chunks_exact(width))
        {
            let scale = (dot(x_e, x_e) / width as f32 + eps).sqrt().recip();
            for ((y, x), w) in y_e.iter_mut().zip(x_e).zip(weight_e) {
                *y = x * scale * w;
            }
        }
    }

    /// Scores of the last token, or of all when they are watched.
    fn head(&mut self, logits_v: &mut [f32]) {
        let (width, vocab, tokens) = (
            self.model.config.d_model,
            self.model.config.vocab_size,
            self.tokens,
        );
        let head_ve = self.model.head().as_f32();
        let hidden = &self.scratch.norm_le;
        if self.tap.wants(Site::model(Probe::Logits)) {
            let logits_lv = &mut self.scratch.logits_lv;
            logits_lv.resize(tokens * vocab, 0.0);
            linear(
                logits_lv,
                Rows::whole(hidden, width),
                head_ve,
                None,
                self.threads,
            );
            record(
                self.tap,
                Site::model(Probe::Logits),
                logits_lv,
                &[tokens, vocab],
            );
            logits_v.copy_from_slice(&logits_lv[(tokens - 1) * vocab..]);
        } else {
            let last = &hidden[(tokens - 1) * width..];
            linear(
                logits_v,
                Rows::whole(last, width),
                head_ve,
                None,
                self.threads,
            );
        }
    }

    /// `out_le` = mixer(`norm_le`), moving the block's state forward. The steps are numbered as in the naive backend.
    fn mixer(&mut self, i: usize, layer: &Layer, block: &mut Block) {
        self.project_in(i, &layer.mixer, block);
        self.convolve(i, &layer.mixer, block);
        self.select(i, &layer.mixer);
        self.scan(i, &layer.mixer, block);
        self.project_out(i, &layer.mixer);
    }

    /// 1. x and z; x goes behind the convolution's window.
    fn project_in(&mut self, i: usize, weights: &MambaMixer, block: &Block) {
        let (width, d) = (self.model.config.d_model, self.model.config.mamba.d_inner);
        let shape = [self.tokens, d];
        let scratch = &mut *self.scratch;
        let normed = Rows::whole(&scratch.norm_le, width);
        let (in_x, in_z) = weights.in_proj.as_f32().split_at(d * width);
        let bias = weights
            .in_proj_bias
            .as_ref()
            .map(|bias| bias.as_f32().split_at(d));
        let (window, x_ld) = scratch.padded_ld.split_at_mut(block.window_kd.len());
        window.copy_from_slice(&block.window_kd);
        linear(x_ld, normed, in_x, bias.map(|(x, _)| x), self.threads);
        linear(
            &mut scratch.z_ld,
            normed,
            in_z,
            bias.map(|(_, z)| z),
            self.threads,
        );
        record(self.tap, Site::layer(i, Probe::X), x_ld, &shape);
        record(self.tap, Site::layer(i, Probe::Gate), &scratch.z_ld, &shape);
    }

    /// 2. u = SiLU(conv(x)); the window moves behind the last token.
    fn convolve(&mut self, i: usize, weights: &MambaMixer, block: &mut Block) {
        let d = self.model.config.mamba.d_inner;
        let scratch = &mut *self.scratch;
        let bias = weights.conv_bias.as_ref().map(Tensor::as_f32);
        convolve(
            &mut scratch.u_ld,
            &scratch.padded_ld,
            &block.conv_kd,
            bias,
            d,
        );
        block
            .window_kd
            .copy_from_slice(&scratch.padded_ld[self.tokens * d..]);
        record(
            self.tap,
            Site::layer(i, Probe::ConvOut),
            &scratch.u_ld,
            &[self.tokens, d],
        );
    }

    /// 3. dt, B and C; 4. Δ = softplus(dt · W_dtᵀ + b_dt).
    fn select(&mut self, i: usize, weights: &MambaMixer) {
        let MambaDims {
            d_inner: d,
            d_state: n,
            dt_rank: r,
            ..
        } = self.model.config.mamba;
        let (tokens, scratch) = (self.tokens, &mut *self.scratch);
        let u = Rows::whole(&scratch.u_ld, d);
        linear(
            &mut scratch.projected,
            u,
            weights.x_proj.as_f32(),
            None,
            self.threads,
        );
        let projected = view(&scratch.projected, tokens, r + 2 * n);
        for (probe, columns) in [
            (Probe::DtLow, 0..r),
            (Probe::B, r..r + n),
            (Probe::C, r + n..r + 2 * n),
        ] {
            if self.tap.wants(Site::layer(i, probe)) {
                self.tap.record(
                    Site::layer(i, probe),
                    projected.slice(s![.., columns]).into_dyn(),
                );
            }
        }
        let dt = Rows {
            data: &scratch.projected,
            width: r,
            stride: r + 2 * n,
        };
        let bias = Some(weights.dt_bias.as_f32());
        linear(
            &mut scratch.delta_ld,
            dt,
            weights.dt_proj.as_f32(),
            bias,
            self.threads,
        );
        each_row(&mut scratch.delta_ld, d, activate_delta);
        record(
            self.tap,
            Site::layer(i, Probe::Delta),
            &scratch.delta_ld,
            &[tokens, d],
        );
    }

    /// 5. to 7. the scan and the skip; 8. the gate.
    fn scan(&mut self, i: usize, weights: &MambaMixer, block: &mut Block) {
        let MambaDims {
            d_inner: d,
            d_state: n,
            dt_rank: r,
            ..
        } = self.model.config.mamba;
        let (tokens, scratch) = (self.tokens, &mut *self.scratch);
        let projected = view(&scratch.projected, tokens, r + 2 * n);
        let input = Channels {
            u_ld: view(&scratch.u_ld, tokens, d),
            delta_ld: view(&scratch.delta_ld, tokens, d),
            a_nd: block.a_nd.view(),
            b: Coefficient::PerToken(projected.slice_move(s![.., r..r + n])),
            c: Coefficient::PerToken(projected.slice_move(s![.., r + n..])),
        };
        let y_ld = &mut scratch.y_ld;
        let site = Site::layer(i, Probe::H);
        let mut h_ldn = self.tap.wants(site).then(|| Array3::zeros((tokens, d, n)));
        let record_h = h_ldn.as_mut().map(|h_ldn| h_ldn.view_mut());
        scan_channels(
            &input,
            block.h_nd.view_mut(),
            view_mut(y_ld, tokens, d),
            record_h,
        );
        if let Some(h_ldn) = h_ldn {
            self.tap.record(site, h_ldn.view().into_dyn());
        }
        let d_skip = weights.d_skip.as_f32();
        for (y_d, u_d) in y_ld.chunks_exact_mut(d).zip(scratch.u_ld.chunks_exact(d)) {
            multiply_add(y_d, u_d, d_skip);
        }
        record(self.tap, Site::layer(i, Probe::ScanOut), y_ld, &[tokens, d]);
        gate(y_ld, &scratch.z_ld);
        record(
            self.tap,
            Site::layer(i, Probe::GatedOut),
            y_ld,
            &[tokens, d],
        );
    }

    /// 9. out_proj.
    fn project_out(&mut self, i: usize, weights: &MambaMixer) {
        let (width, d) = (self.model.config.d_model, self.model.config.mamba.d_inner);
        let scratch = &mut *self.scratch;
        let gated = Rows::whole(&scratch.y_ld, d);
        let bias = weights.out_proj_bias.as_ref().map(Tensor::as_f32);
        linear(
            &mut scratch.out_le,
            gated,
            weights.out_proj.as_f32(),
            bias,
            self.threads,
        );
        record(
            self.tap,
            Site::layer(i, Probe::MixerOutput),
            &scratch.out_le,
            &[self.tokens, width],
        );
    }
}

impl Scratch {
    /// Gives every buffer the length of a chunk of `tokens`; allocates only beyond the longest so far.
    fn fit(&mut self, tokens: usize, width: usize, dims: &MambaDims) {
        let d = dims.d_inner;
        for (buffer, length) in [
            (&mut self.x_le, tokens * width),
            (&mut self.norm_le, tokens * width),
            (&mut self.padded_ld, (dims.d_conv + tokens) * d),
            (&mut self.z_ld, tokens * d),
            (&mut self.u_ld, tokens * d),
            (
                &mut self.projected,
                tokens * (dims.dt_rank + 2 * dims.d_state),
            ),
            (&mut self.delta_ld, tokens * d),
            (&mut self.y_ld, tokens * d),
            (&mut self.out_le, tokens * width),
        ] {
            buffer.resize(length, 0.0);
        }
    }
}

/// u[l] = SiLU(bias + Σ_j w[j] · padded[l + 1 + j]): row 0 of `padded` is the input that has just left the window.
fn convolve(
    u_ld: &mut [f32],
    padded_ld: &[f32],
    weight_kd: &[f32],
    bias_d: Option<&[f32]>,
    d: usize,
) {
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
}

fn each_row(values: &mut [f32], width: usize, work: impl Fn(&mut [f32]) + Send + Sync) {
    if values.len() < PARALLEL_TOKENS * width {
        values.chunks_exact_mut(width).for_each(work);
    } else {
        values.par_chunks_exact_mut(width).for_each(work);
    }
}

/// A buffer as a matrix; [`Scratch::fit`] has given it the length.
#[expect(
    clippy::expect_used,
    reason = "lengths come from `fit`, never from a file"
)]
fn view(data: &[f32], rows: usize, columns: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((rows, columns), data).expect("a buffer sized for the chunk")
}

/// A buffer as a matrix to write to; [`Scratch::fit`] has given it the length.
#[expect(
    clippy::expect_used,
    reason = "lengths come from `fit`, never from a file"
)]
fn view_mut(data: &mut [f32], rows: usize, columns: usize) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((rows, columns), data).expect("a buffer sized for the chunk")
}

/// Hands a buffer to the tap if it is wanted.
#[expect(
    clippy::expect_used,
    reason = "lengths come from `fit`, never from a file"
)]
fn record(tap: &mut dyn Tap, site: Site, values: &[f32], shape: &[usize]) {
    if tap.wants(site) {
        tap.record(
            site,
            ArrayViewD::from_shape(shape, values).expect("a buffer sized for the chunk"),
        );
    }
}
