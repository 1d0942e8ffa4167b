//! Where the multiplications of a Mamba-1 block go, by its sizes.

use mambascope_core::job::JobError;
use mambascope_core::model::{Config, MambaDims, MixerDims};

/// Multiplications that a block does for one token, each with its addition. Exponentials, norms and the gate are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::course) struct Macs {
    /// 2·d·e.
    pub in_proj: usize,
    /// e·d.
    pub out_proj: usize,
    /// (r + 2n)·d.
    pub x_proj: usize,
    /// d·r.
    pub dt_proj: usize,
    /// k·d.
    pub conv: usize,
    /// 4·d·n: Δ·A, (Δu)·B, Ā·h and C·h.
    pub scan: usize,
}

impl Macs {
    /// Of a block of these sizes in a model of width `e`.
    pub fn of(e: usize, dims: &MambaDims) -> Self {
        let (d, n, r) = (dims.d_inner, dims.d_state, dims.dt_rank);
        Self {
            in_proj: 2 * d * e,
            out_proj: e * d,
            x_proj: (r + 2 * n) * d,
            dt_proj: d * r,
            conv: dims.d_conv * d,
            scan: 4 * d * n,
        }
    }

    /// All of them.
    pub fn total(&self) -> usize {
        self.in_proj + self.out_proj + self.x_proj + self.dt_proj + self.conv + self.scan
    }

    /// A part of them, as a share.
    pub fn share(&self, part: usize) -> f64 {
        part as f64 / self.total().max(1) as f64
    }
}

/// Sizes of a block as the original code sets them for a width.
pub(in crate::course) fn usual_dims(
    e: usize,
    expand: usize,
    slots: usize,
    taps: usize,
) -> MambaDims {
    MambaDims {
        d_inner: expand * e,
        d_state: slots,
        d_conv: taps,
        dt_rank: e.div_ceil(16),
        proj_bias: false,
        conv_bias: true,
        inner_norm: None,
    }
}

/// Weights of such a block and of the norm before it.
pub(in crate::course) fn parameters(e: usize, dims: &MambaDims) -> usize {
    let (d, n, r) = (dims.d_inner, dims.d_state, dims.dt_rank);
    let projections = 2 * d * e + (r + 2 * n) * d + d * r + e * d;
    // The convolution and its bias, Δ's bias, A, D, the norm.
    projections + dims.d_conv * d + d + d + d * n + d + e
}

/// The published configuration of a Mamba-1 model.
///
/// # Errors
/// When there is none of that name.
pub(in crate::course) fn published(name: &str) -> Result<Config, JobError> {
    let (width, layers) = match name {
        "mamba-130m" => (768, 24),
        "mamba-2.8b" => (2560, 64),
        _ => return Err(JobError::Study(format!("no configuration of {name}"))),
    };
    let json = format!(
        r#"{{"d_model": {width}, "n_layer": {layers}, "vocab_size": 50277, "pad_vocab_size_multiple": 8, "ssm_cfg": {{}},
            "rms_norm": true, "residual_in_fp32": true, "fused_add_norm": true}}"#
    );
    Config::from_json(&json).map_err(|error| JobError::Study(error.to_string()))
}

/// The Mamba-1 sizes of a configuration's first block.
pub(in crate::course) fn first_block(config: &Config) -> Result<MambaDims, JobError> {
    match config.blocks.first().map(|block| block.mixer) {
        Some(MixerDims::Mamba(dims)) => Ok(dims),
        _ => Err(JobError::Study("no Mamba-1 block".into())),
    }
}
