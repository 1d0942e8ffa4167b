//! A Mamba block once more, in matrix products, so that any of its stages can be kept and changed on the way. The scan is the
//! engine's own; that the rest agrees with the engine is tested, and shown beside every picture.

use std::collections::BTreeMap;
use std::sync::Arc;

use mambascope_core::backend::Backend;
use mambascope_core::job::JobError;
use mambascope_core::model::{MambaDims, MambaMixer, Mixer, MixerDims, Model};
use mambascope_core::scan::{Projection, ScanInput, sequential, silu, softplus};
use mambascope_core::tensor::Tensor;
use ndarray::{Array2, ArrayView2, Axis, s};
use serde::{Deserialize, Serialize};

use super::forward2::block2;
use super::stages::Stage;

/// What is done to one value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    Scale(f32),
    Replace(f32),
}

impl Change {
    fn of(self, value: f32) -> f32 {
        match self {
            Change::Scale(by) => value * by,
            Change::Replace(by) => by,
        }
    }
}

/// One value of one stage, changed at one token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Edit {
    pub stage: Stage,
    pub token: usize,
    /// Which value of the token's; of h the entry d · N + n.
    pub index: usize,
    pub change: Change,
}

/// The stages of one block over a text, `[l, values]` each; h as `[l, d · n]`.
pub(super) type Stages = BTreeMap<Stage, Array2<f32>>;

/// Keeps a stage, and changes it where it is to be changed.
pub(super) struct Pass<'a> {
    kept: Option<&'a mut Stages>,
    edit: Option<Edit>,
}

impl Pass<'_> {
    /// Of this stage's value, what the block goes on with.
    pub fn pass(&mut self, stage: Stage, mut value: Array2<f32>) -> Array2<f32> {
        if let Some(edit) = self.edit.filter(|edit| edit.stage == stage)
            && let Some(entry) = value.get_mut([edit.token, edit.index])
        {
            *entry = edit.change.of(*entry);
        }
        if let Some(kept) = &mut self.kept {
            kept.insert(stage, value.clone());
        }
        value
    }
}

/// x · Wᵀ + bias, W stored `[out, in]`.
pub(super) fn linear(
    x_li: &Array2<f32>,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Array2<f32>, JobError> {
    let shape = (weight.shape()[0], x_li.ncols());
    let weight_oi = ArrayView2::from_shape(shape, weight.as_f32())
        .map_err(|error| JobError::Study(error.to_string()))?;
    let mut y_lo = x_li.dot(&weight_oi.t());
    if let Some(bias) = bias {
        y_lo += &ndarray::ArrayView1::from(bias.as_f32());
    }
    Ok(y_lo)
}

pub(super) fn rms_norm(x_le: &Array2<f32>, weight: Option<&Tensor>, eps: f32) -> Array2<f32> {
    let mut y_le = x_le.clone();
    for mut row in y_le.rows_mut() {
        let square = row.iter().map(|x| x * x).sum::<f32>() / row.len() as f32;
        row *= (square + eps).sqrt().recip();
        if let Some(weight) = weight {
            row *= &ndarray::ArrayView1::from(weight.as_f32());
        }
    }
    y_le
}

/// The convolution before SiLU: tap K−1 meets the token itself.
pub(super) fn conv(
    x_ld: &Array2<f32>,
    (weight, bias): (&Tensor, Option<&Tensor>),
    taps: usize,
) -> Array2<f32> {
    let (weight, bias) = (weight.as_f32(), bias.map(Tensor::as_f32));
    Array2::from_shape_fn(x_ld.dim(), |(l, d)| {
        let seen = (0..taps).filter(|tap| l + tap + 1 >= taps);
        let sum: f32 = seen
            .map(|tap| weight[d * taps + tap] * x_ld[[l + tap + 1 - taps, d]])
            .sum();
        sum + bias.map_or(0.0, |bias| bias[d])
    })
}

/// A scan that can be run in parts.
pub(super) trait Scanning {
    /// Tokens, channels, slots.
    fn dims(&self) -> (usize, usize, usize);

    /// Runs tokens `from..to` from a state; adds the states and the outputs without the skip, and gives the last state.
    ///
    /// # Errors
    /// When shapes do not fit.
    fn run(
        &self,
        between: (usize, usize),
        initial_dn: &Array2<f32>,
        found: (&mut Array2<f32>, &mut Array2<f32>),
    ) -> Result<Array2<f32>, JobError>;

    /// C of a token for a channel and slot.
    fn reads(&self, token: usize, channel: usize, slot: usize) -> f32;
}

/// What the scan reads.
struct Operands<'a> {
    u_ld: &'a Array2<f32>,
    delta_ld: &'a Array2<f32>,
    a_dn: &'a Array2<f32>,
    b_ln: &'a Array2<f32>,
    c_ln: &'a Array2<f32>,
}

impl Scanning for Operands<'_> {
    fn dims(&self) -> (usize, usize, usize) {
        let (tokens, channels) = self.u_ld.dim();
        (tokens, channels, self.a_dn.ncols())
    }

    fn reads(&self, token: usize, _: usize, slot: usize) -> f32 {
        self.c_ln[[token, slot]]
    }

    fn run(
        &self,
        (from, to): (usize, usize),
        initial_dn: &Array2<f32>,
        (h_lm, y_ld): (&mut Array2<f32>, &mut Array2<f32>),
    ) -> Result<Array2<f32>, JobError> {
        let tokens = s![from..to, ..];
        let input = ScanInput {
            u_ld: self.u_ld.slice(tokens),
            delta_ld: self.delta_ld.slice(tokens),
            delta_bias_d: None,
            delta_softplus: false,
            a_dn: self.a_dn.view(),
            b: Projection::Selective(self.b_ln.slice(tokens).insert_axis(Axis(1))),
            c: Projection::Selective(self.c_ln.slice(tokens).insert_axis(Axis(1))),
            d_skip_d: None,
            z_ld: None,
            initial_dn: Some(initial_dn.view()),
        };
        let found = sequential(&input, |l, h_dn| {
            for (kept, h) in h_lm.row_mut(from + l).iter_mut().zip(h_dn.iter()) {
                *kept = *h;
            }
        });
        let found = found.map_err(|error| JobError::Study(error.to_string()))?;
        y_ld.slice_mut(tokens).assign(&found.y_ld);
        Ok(found.last_dn)
    }
}

/// h and C·h over the text; an edit of h holds from its token on.
pub(super) fn scan(operands: &dyn Scanning, pass: &mut Pass<'_>) -> Result<Array2<f32>, JobError> {
    let (tokens, channels, slots) = operands.dims();
    let mut h_lm = Array2::zeros((tokens, channels * slots));
    let mut y_ld = Array2::zeros((tokens, channels));
    let zero = Array2::zeros((channels, slots));
    let here = pass
        .edit
        .filter(|edit| edit.stage == Stage::H && edit.token < tokens);
    let Some(edit) = here else {
        operands.run((0, tokens), &zero, (&mut h_lm, &mut y_ld))?;
        pass.pass(Stage::H, h_lm);
        return Ok(pass.pass(Stage::Read, y_ld));
    };
    let behind = edit.token + 1;
    let mut h_dn = operands.run((0, behind), &zero, (&mut h_lm, &mut y_ld))?;
    let (d, n) = (edit.index / slots, edit.index % slots);
    if let Some(h) = h_dn.get_mut([d, n]) {
        let before = *h;
        *h = edit.change.of(before);
        y_ld[[edit.token, d]] += operands.reads(edit.token, d, n) * (*h - before);
    }
    if behind < tokens {
        operands.run((behind, tokens), &h_dn, (&mut h_lm, &mut y_ld))?;
    }
    pass.pass(Stage::H, h_lm);
    Ok(pass.pass(Stage::Read, y_ld))
}

/// One block, `[l, e]` → `[l, e]`, from the beginning of a text.
fn block(
    x_le: &Array2<f32>,
    (norm, mixer): (&Tensor, &MambaMixer),
    dims: &MambaDims,
    eps: f32,
    pass: &mut Pass<'_>,
) -> Result<Array2<f32>, JobError> {
    let (d, n, r) = (dims.d_inner, dims.d_state, dims.dt_rank);
    let norm_le = pass.pass(Stage::Norm, rms_norm(x_le, Some(norm), eps));
    let xz = linear(&norm_le, &mixer.in_proj, mixer.in_proj_bias.as_ref())?;
    let part = |of: &Array2<f32>, from: usize, to: usize| of.slice(s![.., from..to]).to_owned();
    let x_ld = pass.pass(Stage::X, part(&xz, 0, d));
    let z_ld = pass.pass(Stage::Z, part(&xz, d, 2 * d));
    let conv_ld = pass.pass(
        Stage::Conv,
        conv(&x_ld, (&mixer.conv, mixer.conv_bias.as_ref()), dims.d_conv),
    );
    let u_ld = pass.pass(Stage::Silu, conv_ld.mapv(silu));
    let projected = linear(&u_ld, &mixer.x_proj, None)?;
    let [mut dt_lr, mut b_ln, mut c_ln] =
        [(0, r), (r, r + n), (r + n, r + 2 * n)].map(|(from, to)| part(&projected, from, to));
    if let Some(inner) = dims.inner_norm {
        let of = mixer.inner_norms.as_ref();
        dt_lr = rms_norm(&dt_lr, of.map(|weights| &weights.dt), inner.eps);
        b_ln = rms_norm(&b_ln, of.map(|weights| &weights.b), inner.eps);
        c_ln = rms_norm(&c_ln, of.map(|weights| &weights.c), inner.eps);
    }
    let dt_lr = pass.pass(Stage::DtLow, dt_lr);
    let b_ln = pass.pass(Stage::B, b_ln);
    let c_ln = pass.pass(Stage::C, c_ln);
    let delta = linear(&dt_lr, &mixer.dt_proj, Some(&mixer.dt_bias))?;
    let delta_ld = pass.pass(Stage::Delta, delta.mapv(softplus));
    let operands = Operands {
        u_ld: &u_ld,
        delta_ld: &delta_ld,
        a_dn: &mixer.a_nd().reversed_axes(),
        b_ln: &b_ln,
        c_ln: &c_ln,
    };
    let read_ld = scan(&operands, pass)?;
    let skip_d = ndarray::ArrayView1::from(mixer.d_skip.as_f32());
    let y_ld = pass.pass(Stage::Skip, read_ld + &u_ld * &skip_d);
    let gated_ld = pass.pass(Stage::Gate, y_ld * z_ld.mapv(silu));
    let out = linear(&gated_ld, &mixer.out_proj, mixer.out_proj_bias.as_ref())?;
    let out_le = pass.pass(Stage::Out, out);
    Ok(pass.pass(Stage::Residual, x_le + &out_le))
}

/// Runs the mixer of block `layer` on what comes into it and keeps its stages; then everything behind that mixer, on the backend,
/// which gives the scores after the last token.
///
/// # Errors
/// When the block is not of Mamba, or the backend refuses.
pub(super) fn forward_from(
    model: &Model,
    layer: usize,
    x_le: &Array2<f32>,
    edit: Option<Edit>,
    kept: &mut Stages,
    backend: &mut dyn Backend,
) -> Result<Vec<f32>, JobError> {
    let refused = |error: &dyn ToString| JobError::Study(error.to_string());
    let eps = model.config.norm_eps;
    let dims = model.config.blocks.get(layer).map(|block| &block.mixer);
    let (Some(weights), Some(dims)) = (model.layers.get(layer), dims) else {
        return Err(JobError::Study("there is no such block".into()));
    };
    let mut pass = Pass {
        kept: Some(kept),
        edit,
    };
    let x_le = match (&weights.mixer, dims) {
        (Mixer::Mamba(mixer), MixerDims::Mamba(dims)) => {
            block(x_le, (&weights.norm, mixer), dims, eps, &mut pass)?
        }
        (Mixer::Mamba2(mixer), MixerDims::Mamba2(dims)) => {
            block2(x_le, (&weights.norm, mixer), dims, eps, &mut pass)?
        }
        _ => return Err(JobError::Study("a block that is not of Mamba".into())),
    };
    let behind = model.behind_mixer(layer, &x_le);
    let behind = Arc::new(behind.map_err(|error| refused(&error))?);
    let places: Vec<u32> = (0..x_le.nrows() as u32).collect();
    let mut session = backend.open(&behind)?;
    session.prefill(&places, &mut ())?;
    Ok(session.logits()?.to_vec())
}

/// KL(before ‖ after) of two sets of scores, in nats.
pub(super) fn divergence(before_v: &[f32], after_v: &[f32]) -> f64 {
    let log_sum = |scores: &[f32]| {
        let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = scores
            .iter()
            .map(|score| f64::from(score - most).exp())
            .sum();
        f64::from(most) + sum.ln()
    };
    let (before, after) = (log_sum(before_v), log_sum(after_v));
    let pairs = before_v.iter().zip(after_v);
    let terms = pairs.map(|(&p, &q)| {
        let (p, q) = (f64::from(p) - before, f64::from(q) - after);
        p.exp() * (p - q)
    });
    terms.sum::<f64>().max(0.0)
}
