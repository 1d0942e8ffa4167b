//! The selective scan on operands of this machine: copied to the device, scanned there by a rung, and the results copied back.

use std::ops::Range;
use std::sync::Arc;

use mambascope_core::backend::BackendError;
use mambascope_core::scan::{Projection, ScanInput, ScanOutput, SegmentStarts, sequential};
use ndarray::{Array3, ArrayView, Dimension};

use crate::buffer::Buffer;
use crate::gpu::{Gpu, Use};
use crate::once::{OncePlan, launch_once, meeting};
use crate::ops::address;
use crate::scan::{
    MOST_SLOTS, Operand, Plan, ScanArgs, ScanKernel, greatest_common_divisor, launch_plain,
    launch_segments, lean, too_many_slots,
};
use crate::slots::{SlotsPlan, launch_slots};

/// What a scan reads, on the device, and the arguments that name it.
struct Operands {
    args: ScanArgs,
    /// Channels that share both B and C.
    group_channels: usize,
    _buffers: Vec<Buffer<f32>>,
}

/// A copy of what may be absent.
fn optional<D: Dimension>(
    gpu: &Arc<Gpu>,
    values: Option<ArrayView<'_, f32, D>>,
) -> Result<Option<Buffer<f32>>, BackendError> {
    let copy = |values| Buffer::of_array(gpu, Use::Activations, values);
    values.map(copy).transpose()
}

/// B or C on the device, with its strides: between tokens, between groups, and channels a group.
fn projection(
    gpu: &Arc<Gpu>,
    values: &Projection<'_, f32>,
    channels: usize,
) -> Result<(Buffer<f32>, [i32; 3]), BackendError> {
    match values {
        Projection::Selective(lgn) => {
            let (_, groups, slots) = lgn.dim();
            let strides = [groups * slots, slots, channels / groups];
            Ok((
                Buffer::of_array(gpu, Use::Activations, lgn.view())?,
                strides.map(|n| n as i32),
            ))
        }
        // Every channel a group of its own, the same for every token.
        Projection::Constant(dn) => Ok((
            Buffer::of_array(gpu, Use::Activations, dn.view())?,
            [0, dn.ncols() as i32, 1],
        )),
    }
}

impl Operands {
    fn copied(gpu: &Arc<Gpu>, input: &ScanInput<'_, f32>) -> Result<Self, BackendError> {
        let (tokens, channels, slots) = input.dims();
        let u = Buffer::of_array(gpu, Use::Activations, input.u_ld)?;
        let delta = Buffer::of_array(gpu, Use::Activations, input.delta_ld)?;
        let a = Buffer::of_array(gpu, Use::Activations, input.a_dn)?;
        let z = optional(gpu, input.z_ld)?;
        let bias = optional(gpu, input.delta_bias_d)?;
        let skip = optional(gpu, input.d_skip_d)?;
        let initial = optional(gpu, input.initial_dn)?;
        let (b, [b_token, b_group, b_channels]) = projection(gpu, &input.b, channels)?;
        let (c, [c_token, c_group, c_channels]) = projection(gpu, &input.c, channels)?;
        let row = channels as i32;
        let args = ScanArgs {
            u: u.pointer(),
            delta: delta.pointer(),
            z: address(z.as_ref()),
            bias: address(bias.as_ref()),
            a: a.pointer(),
            skip: address(skip.as_ref()),
            b: b.pointer(),
            c: c.pointer(),
            initial: address(initial.as_ref()),
            u_row: row,
            delta_row: row,
            z_row: row,
            y_row: row,
            b_token,
            b_group,
            b_channels,
            c_token,
            c_group,
            c_channels,
            tokens: tokens as i32,
            channels: row,
            slots: slots as i32,
            softplus: input.delta_softplus.into(),
            ..ScanArgs::default()
        };
        let given = [z, bias, skip, initial].into_iter().flatten();
        Ok(Self {
            args,
            group_channels: greatest_common_divisor(b_channels as usize, c_channels as usize),
            _buffers: [u, delta, a, b, c].into_iter().chain(given).collect(),
        })
    }
}

/// What a scan writes.
struct Results {
    y: Buffer<f32>,
    last: Buffer<f32>,
    starts: Buffer<f32>,
    sums: Buffer<f32>,
    /// States of watched channels, where any are.
    record: Option<Buffer<f32>>,
}

/// With no number in it: what a kernel forgets to write shows.
fn poisoned(gpu: &Arc<Gpu>, len: usize) -> Result<Buffer<f32>, BackendError> {
    let buffer = Buffer::new(gpu, Use::Activations, len)?;
    buffer.fill(0xff)?;
    Ok(buffer)
}

impl Results {
    /// For l, d and n, beside the states.
    fn poisoned(
        gpu: &Arc<Gpu>,
        [tokens, channels, slots]: [usize; 3],
        plan: &Plan,
        record: Option<Buffer<f32>>,
    ) -> Result<Self, BackendError> {
        let (starts, sums) = plan.carried(1, channels, slots);
        Ok(Self {
            y: poisoned(gpu, tokens * channels)?,
            last: poisoned(gpu, channels * slots)?,
            starts: poisoned(gpu, starts)?,
            sums: poisoned(gpu, sums)?,
            record,
        })
    }

    fn output(
        &self,
        [tokens, channels, slots]: [usize; 3],
    ) -> Result<ScanOutput<f32>, BackendError> {
        Ok(ScanOutput {
            y_ld: self.y.matrix(tokens, channels)?,
            last_dn: self.last.matrix(channels, slots)?,
        })
    }

    /// `[l, watched, n]`.
    fn states(&self, [tokens, watched, slots]: [usize; 3]) -> Result<Array3<f32>, BackendError> {
        let Some(record) = &self.record else {
            return Ok(Array3::zeros([tokens, watched, slots]));
        };
        let states = record.download(0, record.len())?;
        let at = |(l, d, n)| states[(l * watched + d) * slots + n];
        Ok(Array3::from_shape_fn([tokens, watched, slots], at))
    }

    /// Those before the first `cut` segments.
    fn starts(
        &self,
        cut: usize,
        [channels, slots]: [usize; 2],
        segment: usize,
    ) -> Result<SegmentStarts, BackendError> {
        let before = self.starts.download(0, cut * channels * slots)?;
        let at = |(s, d, n)| before[(s * channels + d) * slots + n];
        Ok(SegmentStarts {
            segment,
            h_sdn: Array3::from_shape_fn([cut, channels, slots], at),
        })
    }
}

/// One sequence, its operands copied there and its results back; the states of the channels `watched` after every token too,
/// `[l, watched, n]`, and those before each segment. Where v4 or v5 is asked for and does not take it, by v3.
///
/// # Errors
/// When an operand does not fit, there are more than [`MOST_SLOTS`] slots, channels that are not there are watched, or the
/// device refuses.
pub(crate) fn scan_alone(
    gpu: &Arc<Gpu>,
    input: &ScanInput<'_, f32>,
    kernel: ScanKernel,
    watched: Range<usize>,
) -> Result<(ScanOutput<f32>, Array3<f32>, SegmentStarts), BackendError> {
    input.validate()?;
    let (tokens, channels, slots) = input.dims();
    if slots > MOST_SLOTS {
        return Err(too_many_slots(slots));
    }
    if watched.end > channels {
        return Err(BackendError::Device(format!(
            "The states of channels {watched:?} were asked for, and the scan has {channels} channels: ask for fewer."
        )));
    }
    let (sizes, states) = ([tokens, channels, slots], [tokens, watched.len(), slots]);
    if sizes.contains(&0) {
        // Nothing to launch for; the skip and the gate may be all there is.
        let starts = SegmentStarts {
            segment: tokens,
            h_sdn: Array3::zeros([0, channels, slots]),
        };
        let output = sequential(input, |_, _| ())?;
        return Ok((output, Array3::zeros(states), starts));
    }
    let operands = Operands::copied(gpu, input)?;
    let segments = match kernel {
        ScanKernel::V1 | ScanKernel::V2 => 1,
        ScanKernel::V3 | ScanKernel::V4 | ScanKernel::V5 => 0,
    };
    let record = (!watched.is_empty())
        .then(|| poisoned(gpu, states.iter().product()))
        .transpose()?;
    let args = ScanArgs {
        record: address(record.as_ref()),
        record_from: watched.start as i32,
        record_count: watched.len() as i32,
        ..operands.args
    };
    let plan = Plan::new(
        [1, tokens, channels, slots],
        operands.group_channels,
        gpu.multiprocessors(),
        segments,
        lean(&args, Operand::F32),
    );
    let results = Results::poisoned(gpu, sizes, &plan, record)?;
    let args = ScanArgs {
        y: results.y.pointer(),
        last: results.last.pointer(),
        starts: results.starts.pointer(),
        sums: results.sums.pointer(),
        ..args
    };
    let cut = launch_alone(gpu, &args, &plan, kernel)?;
    Ok((
        results.output(sizes)?,
        results.states(states)?,
        results.starts(cut, [channels, slots], plan.segment)?,
    ))
}

/// Runs a rung on one sequence, or v3 where the rung does not take it; how many segments there are states before.
fn launch_alone(
    gpu: &Arc<Gpu>,
    args: &ScanArgs,
    plan: &Plan,
    kernel: ScanKernel,
) -> Result<usize, BackendError> {
    let operand = Operand::F32;
    match kernel {
        ScanKernel::V1 => {
            launch_plain(gpu, args, operand, 1)?;
            return Ok(0);
        }
        ScanKernel::V4 => {
            if let Some(slots) = SlotsPlan::new(gpu.chip(), args, plan, operand, 1) {
                launch_slots(gpu, args, &slots, 1)?;
                return Ok(0);
            }
        }
        ScanKernel::V5 => {
            if let Some(once) = OncePlan::ready(gpu, args, plan, operand, 1)? {
                let meet = meeting(gpu, Some(&once))?;
                let args = ScanArgs {
                    meet: meet.pointer(),
                    ..*args
                };
                launch_once(gpu, &args, &once, 1)?;
                return Ok(0);
            }
        }
        ScanKernel::V2 | ScanKernel::V3 => {}
    }
    launch_segments(gpu, args, plan, operand, 1)?;
    // Nothing is carried where there is one segment, as there is for v2.
    Ok(if plan.segments > 1 { plan.segments } else { 0 })
}
