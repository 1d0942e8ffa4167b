//! How long the kernels take, by the device's own clock.

use std::sync::Arc;

use cudarc::driver::sys::CUevent_flags;
use half::bf16;
use mambascope_core::backend::BackendError;
use mambascope_core::scan::{ScanOperands, ScanShape};

use crate::buffer::Buffer;
use crate::gpu::{Gpu, Use, refusal};
use crate::once::{self, OncePlan, launch_once};
use crate::scan::{
    MOST_SLOTS, Operand, Plan, ScanArgs, ScanKernel, launch_plain, launch_segments, lean,
    too_many_slots,
};
use crate::slots::{self, SlotsPlan, launch_slots};

/// Runs that are not counted: kernels are loaded and clocks rise.
const WARM_UP: usize = 3;
/// Bytes written between two runs, several times what a chip caches: each run finds its operands in memory.
const FLUSH_BYTES: usize = 256 << 20;

/// The operands of a scan on the device, with gate, skip, bias and softplus.
pub struct ScanBench {
    gpu: Arc<Gpu>,
    shape: ScanShape,
    operand: Operand,
    /// For v2 and v3.
    plans: [Plan; 2],
    /// For v4, where it takes the shape.
    slots_plan: Option<SlotsPlan>,
    /// For v5, likewise.
    once_plan: Option<OncePlan>,
    /// Where its blocks meet.
    _meet: Buffer<u64>,
    /// What `args` points to, beside the results.
    _buffers: Vec<Buffer<u8>>,
    y: Buffer<u8>,
    last: Buffer<u8>,
    flush: Buffer<u8>,
    args: ScanArgs,
}

/// Values in a number format.
fn bytes_of(values: &[f32], operand: Operand) -> Vec<u8> {
    match operand {
        Operand::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Operand::Bf16 => values
            .iter()
            .flat_map(|x| bf16::from_f32(*x).to_le_bytes())
            .collect(),
    }
}

fn values_of(bytes: &[u8], operand: Operand) -> Vec<f32> {
    match operand {
        Operand::F32 => {
            let (words, _) = bytes.as_chunks();
            words.iter().map(|word| f32::from_le_bytes(*word)).collect()
        }
        Operand::Bf16 => {
            let (words, _) = bytes.as_chunks();
            let values = words.iter().map(|word| bf16::from_le_bytes(*word));
            values.map(f32::from).collect()
        }
    }
}

impl ScanBench {
    /// Copies the operands there; `segments` for v3, where 0 leaves their number to the plan.
    ///
    /// # Errors
    /// When the device has no memory for them, or there are more than [`MOST_SLOTS`] slots.
    pub fn new(
        gpu: &Arc<Gpu>,
        operands: &ScanOperands,
        operand: Operand,
        segments: usize,
    ) -> Result<Self, BackendError> {
        let shape = operands.shape;
        let ScanShape {
            batch,
            tokens,
            channels: d,
            slots: n,
            groups,
        } = shape;
        if n > MOST_SLOTS {
            return Err(too_many_slots(n));
        }
        let mut buffers = Vec::new();
        for values in [
            &operands.u,
            &operands.delta,
            &operands.z,
            &operands.b,
            &operands.c,
        ] {
            buffers.push(Buffer::of(
                gpu,
                Use::Activations,
                &bytes_of(values, operand),
            )?);
        }
        for values in [&operands.delta_bias_d, &operands.a_dn, &operands.d_skip_d] {
            let bytes = bytes_of(values, Operand::F32);
            buffers.push(Buffer::of(gpu, Use::Activations, &bytes)?);
        }
        let y = Buffer::new(gpu, Use::Activations, batch * tokens * d * operand.bytes())?;
        let last = Buffer::new(gpu, Use::Activations, batch * d * n * 4)?;
        let at: Vec<u64> = buffers.iter().map(Buffer::pointer).collect();
        let (row, group) = (d as i32, (d / groups) as i32);
        let args = ScanArgs {
            u: at[0],
            delta: at[1],
            z: at[2],
            b: at[3],
            c: at[4],
            bias: at[5],
            a: at[6],
            skip: at[7],
            y: y.pointer(),
            last: last.pointer(),
            u_row: row,
            delta_row: row,
            z_row: row,
            y_row: row,
            b_token: (groups * n) as i32,
            b_group: n as i32,
            b_channels: group,
            c_token: (groups * n) as i32,
            c_group: n as i32,
            c_channels: group,
            tokens: tokens as i32,
            channels: row,
            slots: n as i32,
            softplus: 1,
            ..ScanArgs::default()
        };
        let lean = lean(&args, operand);
        let plan = |segments| {
            let sizes = [batch, tokens, d, n];
            Plan::new(sizes, d / groups, gpu.multiprocessors(), segments, lean)
        };
        let plans = [plan(1), plan(segments)];
        let (starts, sums) = plans[1].carried(batch, d, n);
        let starts = Buffer::new(gpu, Use::Activations, starts * 4)?;
        let sums = Buffer::new(gpu, Use::Activations, sums * 4)?;
        let args = ScanArgs {
            starts: starts.pointer(),
            sums: sums.pointer(),
            ..args
        };
        buffers.extend([starts, sums]);
        let once_plan = OncePlan::ready(gpu, &args, &plans[1], operand, batch)?;
        let meet = once::meeting(gpu, once_plan.as_ref())?;
        let args = ScanArgs {
            meet: meet.pointer(),
            ..args
        };
        Ok(Self {
            flush: Buffer::new(gpu, Use::Activations, FLUSH_BYTES)?,
            gpu: Arc::clone(gpu),
            shape,
            operand,
            slots_plan: SlotsPlan::new(gpu.chip(), &args, &plans[1], operand, batch),
            once_plan,
            _meet: meet,
            plans,
            _buffers: buffers,
            y,
            last,
            args,
        })
    }

    /// Why a rung does not take the shape; all but v4 and v5 take any.
    pub fn refusal(&self, kernel: ScanKernel) -> Option<BackendError> {
        let is_taken = match kernel {
            ScanKernel::V1 | ScanKernel::V2 | ScanKernel::V3 => true,
            ScanKernel::V4 => self.slots_plan.is_some(),
            ScanKernel::V5 => self.once_plan.is_some(),
        };
        (!is_taken).then(|| self.not_taken(kernel))
    }

    fn not_taken(&self, kernel: ScanKernel) -> BackendError {
        match kernel {
            ScanKernel::V5 => once::not_taken(self.gpu.chip(), &self.shape, self.operand),
            _ => slots::not_taken(&self.shape, self.operand),
        }
    }

    /// Seconds of each of `repeats` runs of a rung, its operands not in the cache.
    ///
    /// # Errors
    /// When the rung does not take the shape, and what the device said.
    pub fn time(&self, kernel: ScanKernel, repeats: usize) -> Result<Vec<f64>, BackendError> {
        timed(&self.gpu, &self.flush, repeats, || {
            self.launch(kernel, &self.args)
        })
    }

    fn launch(&self, kernel: ScanKernel, args: &ScanArgs) -> Result<(), BackendError> {
        let (gpu, batch) = (&self.gpu, self.shape.batch);
        let operand = self.operand;
        match kernel {
            ScanKernel::V1 => launch_plain(gpu, args, operand, batch),
            ScanKernel::V2 => launch_segments(gpu, args, &self.plans[0], operand, batch),
            ScanKernel::V3 => launch_segments(gpu, args, &self.plans[1], operand, batch),
            ScanKernel::V4 => match &self.slots_plan {
                Some(plan) => launch_slots(gpu, args, plan, batch),
                None => Err(self.not_taken(kernel)),
            },
            ScanKernel::V5 => match &self.once_plan {
                Some(plan) => launch_once(gpu, args, plan, batch),
                None => Err(self.not_taken(kernel)),
            },
        }
    }

    /// What a rung computes of the operands: y `[b, l, d]` and the last states `[b, d, n]`.
    ///
    /// # Errors
    /// As [`ScanBench::time`].
    pub fn results(&self, kernel: ScanKernel) -> Result<[Vec<f32>; 2], BackendError> {
        // What a kernel forgets to write is then no number.
        self.y.fill(0xff)?;
        self.last.fill(0xff)?;
        self.launch(kernel, &self.args)?;
        self.found()
    }

    /// The same from states `[b, d, n]`, which the last ones replace where they lie, as they do in a session.
    ///
    /// # Errors
    /// As [`ScanBench::time`].
    pub fn results_in_place(
        &mut self,
        kernel: ScanKernel,
        initial_bdn: &[f32],
    ) -> Result<[Vec<f32>; 2], BackendError> {
        self.y.fill(0xff)?;
        self.last.upload(&bytes_of(initial_bdn, Operand::F32))?;
        let args = ScanArgs {
            initial: self.last.pointer(),
            ..self.args
        };
        self.launch(kernel, &args)?;
        self.found()
    }

    fn found(&self) -> Result<[Vec<f32>; 2], BackendError> {
        let download = |buffer: &Buffer<u8>| buffer.download(0, buffer.len());
        Ok([
            values_of(&download(&self.y)?, self.operand),
            values_of(&download(&self.last)?, Operand::F32),
        ])
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
