//! The Mamba-2 mixer over a chunk of tokens.

use std::sync::Arc;

use mambascope_core::backend::BackendError;
use mambascope_core::model::Mamba2Dims;
use mambascope_core::trace::{Probe, Site};

use super::mamba::Memory;
use crate::buffer::Buffer;
use crate::gpu::{Gpu, Grid, Kernel, KernelArgs};
use crate::ops::{Conv, Rows, address};
use crate::pass::Pass;
use crate::source::Source;
use crate::ssd::{SsdArgs, SsdShape, launch_chunked, launch_plain, launch_step};
use crate::weights::Mamba2Weights;

/// Below so many tokens the recurrence is quicker than chunks.
const FEW_TOKENS: usize = 16;

/// Values the chunked scan of a chunk of tokens needs: states, decays, products C·B.
pub(crate) fn chunk_lens(dims: &Mamba2Dims, tokens: usize) -> [usize; 3] {
    shape(dims).chunk_lens(tokens)
}

fn shape(dims: &Mamba2Dims) -> SsdShape {
    SsdShape {
        heads: dims.heads,
        head_dim: dims.head_dim,
        groups: dims.groups,
        d_state: dims.d_state,
    }
}

/// x ← x + mixer(RMSNorm(x)) for block `i`.
pub(crate) fn run(
    pass: &mut Pass<'_>,
    i: usize,
    norm: &Buffer<f32>,
    weights: &Mamba2Weights,
    dims: &Mamba2Dims,
    memory: &Memory,
) -> Result<(), BackendError> {
    project_in(pass, i, norm, weights, dims, memory)?;
    scan(pass, i, weights, dims, memory)?;
    gated_norm(pass, i, weights, dims)?;
    let y = Rows::of(&pass.scratch.y, 0, dims.d_inner());
    let site = Site::layer(i, Probe::MixerOutput);
    pass.add_product(y, &weights.out_proj, Some(site))
}

/// `Mamba2ActivateArgs` of ssd.cu.
#[repr(C)]
struct ActivateArgs {
    dt: u64,
    dt_bias: u64,
    delta: u64,
    tokens: i32,
    heads: i32,
    dt_row: i32,
    spare: i32,
    low: f32,
    high: f32,
}
#[expect(unsafe_code, reason = "laid out as in ssd.cu")]
// SAFETY: the same fields in the same order.
unsafe impl KernelArgs for ActivateArgs {}

/// 1. z, xBC and dt; 2. xBC = SiLU(conv(xBC)); 4. Δ = clamp(softplus(dt + b_dt)), the limits in a prefill only.
fn project_in(
    pass: &mut Pass<'_>,
    i: usize,
    norm: &Buffer<f32>,
    weights: &Mamba2Weights,
    dims: &Mamba2Dims,
    memory: &Memory,
) -> Result<(), BackendError> {
    let (tokens, d, w, h) = (
        pass.tokens,
        dims.d_inner(),
        dims.conv_channels(),
        dims.heads,
    );
    let row = dims.in_rows();
    let scratch = pass.scratch;
    let wide = Rows::of(&scratch.wide, 0, row);
    let site = Site::layer(i, Probe::NormOut);
    pass.norm_and_project(norm, &weights.in_proj, wide, site)?;
    pass.record(
        Site::layer(i, Probe::Gate),
        &scratch.wide,
        [0, row],
        &[tokens, d],
    )?;
    pass.record(
        Site::layer(i, Probe::X),
        &scratch.wide,
        [d, row],
        &[tokens, w],
    )?;
    let conv = Conv {
        weight: &weights.conv,
        bias: weights.conv_bias.as_ref(),
        channels: w,
        taps: dims.d_conv,
    };
    let (xbc, u) = (
        Rows::of(&scratch.wide, d, row),
        Rows::of(&scratch.conv, 0, w),
    );
    conv.run(pass.gpu, xbc, &memory.window, u, tokens)?;
    pass.record(
        Site::layer(i, Probe::ConvOut),
        &scratch.conv,
        [0, w],
        &[tokens, w],
    )?;
    let (low, high) = if pass.is_step {
        (0.0, f32::INFINITY)
    } else {
        dims.dt_limit
    };
    let args = ActivateArgs {
        dt: scratch.wide.at(d + w),
        dt_bias: weights.dt_bias.pointer(),
        delta: scratch.delta.pointer(),
        tokens: tokens as i32,
        heads: h as i32,
        dt_row: row as i32,
        spare: 0,
        low,
        high,
    };
    let grid = Grid::line((tokens * h).div_ceil(256), 256);
    pass.gpu
        .launch(Kernel(Source::Ssd, "mamba2_activate"), grid, &args)?;
    pass.record(
        Site::layer(i, Probe::Delta),
        &scratch.delta,
        [0, h],
        &[tokens, h],
    )
}

/// 3. x, B and C where they lie; 5. and 6. the scan with the skip.
fn scan(
    pass: &mut Pass<'_>,
    i: usize,
    weights: &Mamba2Weights,
    dims: &Mamba2Dims,
    memory: &Memory,
) -> Result<(), BackendError> {
    let (tokens, d, w) = (pass.tokens, dims.d_inner(), dims.conv_channels());
    let (g, n) = (dims.groups, dims.d_state);
    let scratch = pass.scratch;
    for (probe, from) in [(Probe::B, d), (Probe::C, d + g * n)] {
        let site = Site::layer(i, probe);
        pass.record(site, &scratch.conv, [from, w], &[tokens, g, n])?;
    }
    let site = Site::layer(i, Probe::H);
    let record = pass.room_for(site, tokens * d * n)?;
    let shape = shape(dims);
    let args = SsdArgs {
        x: scratch.conv.pointer(),
        delta: scratch.delta.pointer(),
        a: weights.a.pointer(),
        b: scratch.conv.at(d),
        c: scratch.conv.at(d + g * n),
        d_skip: weights.skip.pointer(),
        state: memory.h.pointer(),
        y: scratch.y.pointer(),
        record: address(record.as_ref()),
        chunk_states: scratch.starts.pointer(),
        chunk_decay: scratch.sums.pointer(),
        scores: scratch.parts.pointer(),
        x_row: w as i32,
        b_row: w as i32,
        c_row: w as i32,
        y_row: d as i32,
        ..SsdArgs::of(&shape, tokens)
    };
    if tokens == 1 {
        launch_step(pass.gpu, &args)?;
    } else if record.is_none() && tokens >= FEW_TOKENS && shape.fits_chunks() {
        launch_chunked(pass.gpu, &shape, &args)?;
    } else {
        launch_plain(pass.gpu, &args)?;
    }
    if let Some(record) = &record {
        let dims = [tokens, dims.heads, dims.head_dim, n];
        pass.record(site, record, [0, d * n], &dims)?;
    }
    let site = Site::layer(i, Probe::ScanOut);
    pass.record(site, &scratch.y, [0, d], &[tokens, d])
}

/// `GatedNormArgs` of ssd.cu.
#[repr(C)]
struct GatedNormArgs {
    y: u64,
    z: u64,
    w: u64,
    out: u64,
    tokens: i32,
    groups: i32,
    width: i32,
    y_row: i32,
    z_row: i32,
    out_row: i32,
    eps: f32,
    spare: f32,
}
#[expect(unsafe_code, reason = "laid out as in ssd.cu")]
// SAFETY: the same fields in the same order.
unsafe impl KernelArgs for GatedNormArgs {}

/// 7. RMSNorm of each group's part of y · SiLU(z).
fn gated_norm(
    pass: &mut Pass<'_>,
    i: usize,
    weights: &Mamba2Weights,
    dims: &Mamba2Dims,
) -> Result<(), BackendError> {
    let (tokens, d) = (pass.tokens, dims.d_inner());
    let scratch = pass.scratch;
    let args = GatedNormArgs {
        y: scratch.y.pointer(),
        z: scratch.wide.pointer(),
        w: weights.norm.pointer(),
        out: scratch.y.pointer(),
        tokens: tokens as i32,
        groups: dims.groups as i32,
        width: (d / dims.groups) as i32,
        y_row: d as i32,
        z_row: dims.in_rows() as i32,
        out_row: d as i32,
        eps: pass.model.config.norm_eps,
        spare: 0.0,
    };
    let mut grid = Grid::line(tokens, 256);
    grid.blocks[1] = dims.groups;
    pass.gpu
        .launch(Kernel(Source::Ssd, "gated_norm"), grid, &args)?;
    let site = Site::layer(i, Probe::GatedOut);
    pass.record(site, &scratch.y, [0, d], &[tokens, d])
}

/// An empty memory of a block.
pub(crate) fn memory(gpu: &Arc<Gpu>, dims: &Mamba2Dims) -> Result<Memory, BackendError> {
    Memory::new(
        gpu,
        [dims.conv_channels(), dims.d_conv],
        [dims.d_inner(), dims.d_state],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_have_no_holes() {
        assert_eq!(size_of::<ActivateArgs>(), 3 * 8 + 6 * 4);
        assert_eq!(size_of::<GatedNormArgs>(), 4 * 8 + 8 * 4);
    }
}
