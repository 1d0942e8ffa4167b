//! How long the kernels take, by the device's own clock.

use std::sync::Arc;

use cudarc::driver::sys::CUevent_flags;
use mambascope_core::backend::BackendError;

use crate::buffer::Buffer;
use crate::gpu::{Gpu, Use, refusal};
use crate::scan::{Operand, Plan, ScanArgs, ScanKernel, launch_plain, launch_segments};

/// Runs that are not counted: kernels are loaded and clocks rise.
const WARM_UP: usize = 3;
/// Bytes written between two runs, several times what a chip caches: each run finds its operands in memory.
const FLUSH_BYTES: usize = 256 << 20;
/// Length of the noise operands are made of, a prime, so that no row repeats another.
const NOISE: usize = 1_048_573;

/// A scan to measure, with gate, skip, bias and softplus.
#[derive(Clone, Copy, Debug)]
pub struct ScanCase {
    /// Sequences.
    pub batch: usize,
    /// Tokens of each.
    pub tokens: usize,
    /// Channels, `d`.
    pub channels: usize,
    /// Slots of each, `n`.
    pub slots: usize,
    /// Groups of B and C.
    pub groups: usize,
    /// Number format of u, Δ, z, B, C and y.
    pub operand: Operand,
    /// Segments of the sequence for v3; 0 leaves the choice to the plan.
    pub segments: usize,
}

/// Operands of a case on the device.
pub struct ScanBench {
    gpu: Arc<Gpu>,
    case: ScanCase,
    buffers: Vec<Buffer<u8>>,
    flush: Buffer<u8>,
    args: ScanArgs,
}

/// Numbers in −1..1 that look random and are the same every time.
fn noise() -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..NOISE).map(|_| next()).collect()
}

/// `count` values of the noise from an offset on, scaled and shifted, in a number format.
fn values(
    noise: &[f32],
    count: usize,
    offset: usize,
    operand: Operand,
    of: impl Fn(f32) -> f32,
) -> Vec<u8> {
    let endless = noise.iter().cycle().skip(offset % NOISE).take(count);
    match operand {
        Operand::F32 => endless.flat_map(|x| of(*x).to_le_bytes()).collect(),
        // Cut off instead of rounded: as good a noise.
        Operand::Bf16 => endless
            .flat_map(|x| ((of(*x).to_bits() >> 16) as u16).to_le_bytes())
            .collect(),
    }
}

impl ScanBench {
    /// Makes the operands: Δ as in a layer that was just initialised (a bias for steps of 0.001 to 0.1), A = −1 … −n.
    ///
    /// # Errors
    /// When the device has no memory for them.
    pub fn new(gpu: &Arc<Gpu>, case: ScanCase) -> Result<Self, BackendError> {
        let ScanCase {
            batch,
            tokens,
            channels: d,
            slots: n,
            groups,
            operand,
            ..
        } = case;
        let noise = noise();
        let plan = Plan::new(
            [batch, tokens, d, n],
            d / groups,
            gpu.multiprocessors(),
            case.segments,
        );
        let (starts, sums) = plan.carried(batch, d, n);
        let rows = batch * tokens;
        let steps = |x: f32| {
            let step = (1e-3_f32.ln() + (x + 1.0) / 2.0 * 100_f32.ln()).exp();
            step + (-(-step).exp_m1()).ln()
        };
        let f32 = Operand::F32;
        let a: Vec<u8> = (0..d * n)
            .flat_map(|i| (-((i % n + 1) as f32)).to_le_bytes())
            .collect();
        let filled = [
            values(&noise, rows * d, 0, operand, |x| x),
            values(&noise, rows * d, 1, operand, |x| x / 2.0),
            values(&noise, rows * d, 2, operand, |x| 2.0 * x),
            values(&noise, d, 3, f32, steps),
            a,
            values(&noise, d, 4, f32, |x| x),
            values(&noise, rows * groups * n, 5, operand, |x| x),
            values(&noise, rows * groups * n, 6, operand, |x| x),
        ];
        let size = if operand == Operand::F32 { 4 } else { 2 };
        let empty = [rows * d * size, batch * d * n * 4, starts * 4, sums * 4];
        let mut buffers = Vec::new();
        for bytes in &filled {
            buffers.push(Buffer::of(gpu, Use::Activations, bytes)?);
        }
        for bytes in empty {
            buffers.push(Buffer::new(gpu, Use::Activations, bytes)?);
        }
        let at: Vec<u64> = buffers.iter().map(Buffer::pointer).collect();
        let row = d as i32;
        let args = ScanArgs {
            u: at[0],
            delta: at[1],
            z: at[2],
            bias: at[3],
            a: at[4],
            skip: at[5],
            b: at[6],
            c: at[7],
            y: at[8],
            last: at[9],
            starts: at[10],
            sums: at[11],
            u_row: row,
            delta_row: row,
            z_row: row,
            y_row: row,
            b_token: (groups * n) as i32,
            b_group: n as i32,
            b_channels: (d / groups) as i32,
            c_token: (groups * n) as i32,
            c_group: n as i32,
            c_channels: (d / groups) as i32,
            tokens: tokens as i32,
            channels: row,
            slots: n as i32,
            softplus: 1,
            ..ScanArgs::default()
        };
        Ok(Self {
            flush: Buffer::new(gpu, Use::Activations, FLUSH_BYTES)?,
            gpu: Arc::clone(gpu),
            case,
            buffers,
            args,
        })
    }

    /// Seconds of each of `repeats` runs of a rung, its operands not in the cache.
    ///
    /// # Errors
    /// What the device said.
    pub fn time(&self, kernel: ScanKernel, repeats: usize) -> Result<Vec<f64>, BackendError> {
        let ScanCase {
            batch,
            tokens,
            channels,
            slots,
            groups,
            operand,
            segments,
        } = self.case;
        let segments = if kernel == ScanKernel::V3 {
            segments
        } else {
            1
        };
        let multiprocessors = self.gpu.multiprocessors();
        let sizes = [batch, tokens, channels, slots];
        let plan = Plan::new(sizes, channels / groups, multiprocessors, segments);
        debug_assert!(self.buffers.len() == 12);
        timed(&self.gpu, &self.flush, repeats, || match kernel {
            ScanKernel::V1 => launch_plain(&self.gpu, &self.args, operand, batch),
            _ => launch_segments(&self.gpu, &self.args, &plan, operand, batch),
        })
    }

    /// Bytes a second of a copy on the device, read and written bytes counted: what the kernels' floor is made of.
    ///
    /// # Errors
    /// What the device said.
    pub fn copy_bandwidth(gpu: &Arc<Gpu>) -> Result<f64, BackendError> {
        const BYTES: usize = 1 << 30;
        let from = Buffer::<u8>::zeros(gpu, Use::Activations, BYTES)?;
        let to = std::cell::RefCell::new(Buffer::<u8>::new(gpu, Use::Activations, BYTES)?);
        let flush = Buffer::new(gpu, Use::Activations, FLUSH_BYTES)?;
        let mut seconds = timed(gpu, &flush, 9, || {
            to.borrow_mut().copy_from(&from, 0, BYTES)
        })?;
        seconds.sort_unstable_by(f64::total_cmp);
        Ok(2.0 * BYTES as f64 / seconds[seconds.len() / 2])
    }
}

/// Seconds of each of `repeats` runs of some work.
fn timed(
    gpu: &Gpu,
    flush: &Buffer<u8>,
    repeats: usize,
    work: impl Fn() -> Result<(), BackendError>,
) -> Result<Vec<f64>, BackendError> {
    let refused = |error| refusal("measuring time", error);
    let stream = gpu.stream();
    let event = || {
        let event = stream
            .context()
            .new_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
        event.map_err(refused)
    };
    let (start, end) = (event()?, event()?);
    let mut seconds = Vec::new();
    for run in 0..WARM_UP + repeats {
        flush.fill(run as u8)?;
        start.record(stream).map_err(refused)?;
        work()?;
        end.record(stream).map_err(refused)?;
        let took = start.elapsed_ms(&end).map_err(refused)?;
        if run >= WARM_UP {
            seconds.push(f64::from(took) / 1e3);
        }
    }
    Ok(seconds)
}
