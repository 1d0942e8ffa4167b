//! The Mamba-1 mixer over a chunk of tokens, and the fused path of a single one.

use std::sync::Arc;

use mambascope_core::backend::BackendError;
use mambascope_core::model::MambaDims;
use mambascope_core::state::RecurrentState;
use mambascope_core::trace::{Probe, Site};

use crate::buffer::Buffer;
use crate::choose::launch_quickest;
use crate::gpu::{Gpu, Grid, Kernel, KernelArgs, Use};
use crate::once;
use crate::ops::{Conv, Norm, Pairwise, Rows, address, rms_norm};
use crate::pass::Pass;
use crate::scan::{LEAN_HELD, Operand, Plan, ScanArgs, lean};
use crate::source::Source;
use crate::weights::MambaWeights;

/// How the scan of a chunk is cut.
fn plan(gpu: &Gpu, dims: &MambaDims, tokens: usize, lean: Option<usize>) -> Plan {
    Plan::new(
        [1, tokens, dims.d_inner, dims.d_state],
        dims.d_inner,
        gpu.multiprocessors(),
        0,
        lean,
    )
}

/// Values of the carried states and of the sums of Δ, whichever way the scan is cut.
pub(crate) fn carried(gpu: &Gpu, dims: &MambaDims, tokens: usize) -> (usize, usize) {
    // The lean form with one channel a thread is cut as the general one.
    let forms = [None, Some(LEAN_HELD)];
    let carried =
        forms.map(|lean| plan(gpu, dims, tokens, lean).carried(1, dims.d_inner, dims.d_state));
    carried
        .into_iter()
        .fold((0, 0), |most, one| (most.0.max(one.0), most.1.max(one.1)))
}

/// Words that the blocks of a scan meet in, where it may be v5.
pub(crate) fn meeting_len(gpu: &Gpu, dims: &MambaDims) -> usize {
    match dims.d_state {
        once::SLOTS => once::meeting_len(gpu.chip(), [1, dims.d_inner, dims.d_inner]),
        _ => 0,
    }
}

/// What a scanning block remembers on the device: the convolution's window `[channels, k]`, oldest first, and h `[d, n]`.
pub(crate) struct Memory {
    pub window: Buffer<f32>,
    pub h: Buffer<f32>,
    shapes: [[usize; 2]; 2],
}

impl Memory {
    pub(crate) fn new(
        gpu: &Arc<Gpu>,
        window: [usize; 2],
        h: [usize; 2],
    ) -> Result<Self, BackendError> {
        Ok(Self {
            window: Buffer::zeros(gpu, Use::State, window[0] * window[1])?,
            h: Buffer::zeros(gpu, Use::State, h[0] * h[1])?,
            shapes: [window, h],
        })
    }

    pub(crate) fn state(&self) -> Result<RecurrentState, BackendError> {
        let [window, h] = self.shapes;
        Ok(RecurrentState {
            conv_dk: self.window.matrix(window[0], window[1])?,
            ssm_dn: self.h.matrix(h[0], h[1])?,
        })
    }

    pub(crate) fn set_state(&mut self, state: &RecurrentState) -> Result<(), BackendError> {
        self.window.upload_array(&state.conv_dk)?;
        self.h.upload_array(&state.ssm_dn)
    }

    /// Bytes of the window and of h.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        (self.window.bytes() as usize, self.h.bytes() as usize)
    }
}

/// x ← x + mixer(RMSNorm(x)) for block `i`.
pub(crate) fn run(
    pass: &mut Pass<'_>,
    i: usize,
    norm: &Buffer<f32>,
    weights: &MambaWeights,
    dims: &MambaDims,
    memory: &Memory,
) -> Result<(), BackendError> {
    if pass.may_fuse() {
        return step(pass, i, norm, weights, dims, memory);
    }
    project_in(pass, i, norm, weights, dims, memory)?;
    select(pass, i, weights, dims)?;
    scan(pass, i, weights, dims, memory)?;
    let y = Rows::of(&pass.scratch.y, 0, dims.d_inner);
    let site = Site::layer(i, Probe::MixerOutput);
    pass.add_product(y, &weights.out_proj, Some(site))
}

/// 1. x and z; 2. u = SiLU(conv(x)).
fn project_in(
    pass: &mut Pass<'_>,
    i: usize,
    norm: &Buffer<f32>,
    weights: &MambaWeights,
    dims: &MambaDims,
    memory: &Memory,
) -> Result<(), BackendError> {
    let (tokens, d) = (pass.tokens, dims.d_inner);
    let xz = Rows::of(&pass.scratch.wide, 0, 2 * d);
    let site = Site::layer(i, Probe::NormOut);
    pass.norm_and_project(norm, &weights.in_proj, xz, site)?;
    let scratch = pass.scratch;
    pass.record(
        Site::layer(i, Probe::X),
        &scratch.wide,
        [0, 2 * d],
        &[tokens, d],
    )?;
    pass.record(
        Site::layer(i, Probe::Gate),
        &scratch.wide,
        [d, 2 * d],
        &[tokens, d],
    )?;
    let conv = Conv {
        weight: &weights.conv,
        bias: weights.conv_bias.as_ref(),
        channels: d,
        taps: dims.d_conv,
    };
    let u = Rows::of(&scratch.conv, 0, d);
    conv.run(pass.gpu, xz, &memory.window, u, tokens)?;
    pass.record(
        Site::layer(i, Probe::ConvOut),
        &scratch.conv,
        [0, d],
        &[tokens, d],
    )
}

/// 3. dt, B and C, normed in families that do so; 4. dt · W_dtᵀ + b_dt, which the scan makes Δ.
fn select(
    pass: &mut Pass<'_>,
    i: usize,
    weights: &MambaWeights,
    dims: &MambaDims,
) -> Result<(), BackendError> {
    let (tokens, d, n, r) = (pass.tokens, dims.d_inner, dims.d_state, dims.dt_rank);
    let columns = r + 2 * n;
    let scratch = pass.scratch;
    let (u, projected) = (
        Rows::of(&scratch.conv, 0, d),
        Rows::of(&scratch.projected, 0, columns),
    );
    pass.matrix_product(u, &weights.x_proj, projected)
        .run(pass.gpu)?;
    let parts = [(Probe::DtLow, 0, r), (Probe::B, r, n), (Probe::C, r + n, n)];
    for (part, (probe, from, width)) in parts.into_iter().enumerate() {
        if let Some(inner) = dims.inner_norm {
            let rows = Rows::of(&scratch.projected, from, columns);
            let norm = Norm {
                weight: weights.inner_norms.as_ref().map(|norms| &norms[part]),
                eps: inner.eps,
            };
            rms_norm(pass.gpu, rows, rows, [tokens, width], norm, false)?;
        }
        pass.record(
            Site::layer(i, probe),
            &scratch.projected,
            [from, columns],
            &[tokens, width],
        )?;
    }
    let delta = Rows::of(&scratch.delta, 0, d);
    // dt is the first of the columns.
    pass.product(projected, &weights.dt_proj, delta)
        .run(pass.gpu)?;
    let site = Site::layer(i, Probe::Delta);
    if pass.wants(site) {
        // The scan activates it on the way; y is free until then.
        let activated = Rows::of(&scratch.y, 0, d);
        Pairwise::ActivateDelta.run(pass.gpu, delta, activated, [tokens, d])?;
        pass.record(site, &scratch.y, [0, d], &[tokens, d])?;
    }
    Ok(())
}

/// 5. to 7. the scan and the skip; 8. the gate, fused unless someone looks in between.
fn scan(
    pass: &mut Pass<'_>,
    i: usize,
    weights: &MambaWeights,
    dims: &MambaDims,
    memory: &Memory,
) -> Result<(), BackendError> {
    let (tokens, d, n, r) = (pass.tokens, dims.d_inner, dims.d_state, dims.dt_rank);
    let columns = (r + 2 * n) as i32;
    let scratch = pass.scratch;
    let (site_h, site_y) = (Site::layer(i, Probe::H), Site::layer(i, Probe::ScanOut));
    let record = pass.room_for(site_h, tokens * d * n)?;
    let is_split = pass.wants(site_y);
    let z = Rows::of(&scratch.wide, d, 2 * d);
    let args = ScanArgs {
        u: scratch.conv.pointer(),
        delta: scratch.delta.pointer(),
        z: if is_split { 0 } else { z.at },
        a: weights.a.pointer(),
        skip: weights.skip.pointer(),
        b: scratch.projected.at(r),
        c: scratch.projected.at(r + n),
        initial: memory.h.pointer(),
        y: scratch.y.pointer(),
        last: memory.h.pointer(),
        record: address(record.as_ref()),
        starts: scratch.starts.pointer(),
        sums: scratch.sums.pointer(),
        meet: scratch.meet.pointer(),
        u_row: d as i32,
        delta_row: d as i32,
        z_row: 2 * d as i32,
        y_row: d as i32,
        b_token: columns,
        b_channels: d as i32,
        c_token: columns,
        c_channels: d as i32,
        tokens: tokens as i32,
        channels: d as i32,
        slots: n as i32,
        softplus: 1,
        record_count: d as i32,
        ..ScanArgs::default()
    };
    let plan = plan(pass.gpu, dims, tokens, lean(&args, Operand::F32));
    launch_quickest(pass.gpu, &args, &plan, Operand::F32, 1)?;
    if let Some(record) = &record {
        pass.record(site_h, record, [0, d * n], &[tokens, d, n])?;
    }
    if is_split {
        pass.record(site_y, &scratch.y, [0, d], &[tokens, d])?;
        let y = Rows::of(&scratch.y, 0, d);
        Pairwise::Gate.run(pass.gpu, z, y, [tokens, d])?;
    }
    pass.record(
        Site::layer(i, Probe::GatedOut),
        &scratch.y,
        [0, d],
        &[tokens, d],
    )
}

/// `StepArgs` of step.cu.
#[repr(C)]
struct StepArgs {
    xz: u64,
    conv: u64,
    conv_bias: u64,
    window: u64,
    x_proj: u64,
    dt_proj: u64,
    dt_bias: u64,
    a: u64,
    skip: u64,
    norm_dt: u64,
    norm_b: u64,
    norm_c: u64,
    state: u64,
    u: u64,
    projected: u64,
    y: u64,
    channels: i32,
    slots: i32,
    rank: i32,
    taps: i32,
    has_norm: i32,
    eps: f32,
}
#[expect(unsafe_code, reason = "laid out as in step.cu")]
// SAFETY: the same fields in the same order: 16 pointers, 5 ints, a float.
unsafe impl KernelArgs for StepArgs {}

/// One token in four launches, where token.rs does not take the whole model in one.
fn step(
    pass: &mut Pass<'_>,
    i: usize,
    norm: &Buffer<f32>,
    weights: &MambaWeights,
    dims: &MambaDims,
    memory: &Memory,
) -> Result<(), BackendError> {
    let (d, n, r) = (dims.d_inner, dims.d_state, dims.dt_rank);
    let scratch = pass.scratch;
    let xz = Rows::of(&scratch.wide, 0, 2 * d);
    let site = Site::layer(i, Probe::NormOut);
    pass.norm_and_project(norm, &weights.in_proj, xz, site)?;
    let inner = |part: usize| address(weights.inner_norms.as_ref().map(|norms| &norms[part]));
    let args = StepArgs {
        xz: xz.at,
        conv: weights.conv.pointer(),
        conv_bias: address(weights.conv_bias.as_ref()),
        window: memory.window.pointer(),
        x_proj: weights.x_proj.pointer(),
        dt_proj: weights.dt_proj.weight.pointer(),
        dt_bias: address(weights.dt_proj.bias.as_ref()),
        a: weights.a.pointer(),
        skip: weights.skip.pointer(),
        norm_dt: inner(0),
        norm_b: inner(1),
        norm_c: inner(2),
        state: memory.h.pointer(),
        u: scratch.conv.pointer(),
        projected: scratch.projected.pointer(),
        y: scratch.y.pointer(),
        channels: d as i32,
        slots: n as i32,
        rank: r as i32,
        taps: dims.d_conv as i32,
        has_norm: dims.inner_norm.is_some().into(),
        eps: dims.inner_norm.map_or(0.0, |norm| norm.eps),
    };
    let named = |f32: &'static str, bf16: &'static str, is_bf16: bool| {
        Kernel(Source::Step, if is_bf16 { bf16 } else { f32 })
    };
    let is_bf16 = weights.x_proj.is_bf16;
    let mut grid = Grid::line(r + 2 * n, 512);
    grid.overlaps = true;
    let select = named("step_select_f32", "step_select_bf16", is_bf16);
    pass.gpu.launch(select, grid, &args)?;
    // `STEP_LANES` in step.cu: sixteen threads a channel.
    const CHANNELS_OF_A_BLOCK: usize = 16;
    let mut grid = Grid::line(d.div_ceil(CHANNELS_OF_A_BLOCK), 256);
    grid.shared = (r + 2 * n) * size_of::<f32>();
    grid.overlaps = true;
    let is_bf16 = weights.dt_proj.weight.is_bf16;
    let scan = named("step_scan_f32", "step_scan_bf16", is_bf16);
    pass.gpu.launch(scan, grid, &args)?;
    pass.add_product(Rows::of(&scratch.y, 0, d), &weights.out_proj, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_have_no_holes() {
        assert_eq!(size_of::<StepArgs>(), 16 * 8 + 6 * 4);
    }
}
