//! `mambascope bench scan`: how long the selective scan takes on its own, and how near that is to the time its bytes need.

use std::cell::OnceCell;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use mambascope_core::backend::{Backend, BackendError};
use mambascope_core::scan::{ScanOperands, ScanShape};
use mambascope_core::tensor::Dtype;
use mambascope_kernels::bench::ScanBench;
use mambascope_kernels::{CudaBackend, Operand, ScanKernel};
use serde_json::{Map, json};

use super::{PATIENCE, median};
use crate::backends;
use crate::commands::format::dtype_named;
use crate::commands::{Failure, Threads, backend, emit};

/// Kernels that are a backend's own scan, under the backend's name.
const CPU_KERNELS: [&str; 2] = ["fast", "naive"];
/// Kernels of a device, from the plainest on.
const DEVICE_KERNELS: [&str; 5] = ["v1", "v2", "v3", "v4", "v5"];

/// Operands beyond this are a typing error on most machines.
const MOST_BYTES: u64 = 16 << 30;

#[derive(Args)]
pub(super) struct Scan {
    /// Measure only these, such as fast,v3; without, all that can be used here.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = PossibleValuesParser::new(CPU_KERNELS.into_iter().chain(DEVICE_KERNELS)))]
    kernel: Option<Vec<String>>,
    /// Sequences, B; the kernels of the CPU take one after the other.
    #[arg(long, value_name = "B", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Channels, D.
    #[arg(long, value_name = "D", default_value_t = 1536, value_parser = clap::value_parser!(u32).range(1..))]
    channels: u32,
    /// Tokens of each sequence, L.
    #[arg(long, value_name = "L", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..))]
    tokens: u32,
    /// Slots of each channel, N.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    slots: u32,
    /// Groups of channels that share B and C, G.
    #[arg(long, value_name = "G", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    groups: u32,
    /// Number format of u, delta, z, B, C and y; the kernels of the CPU have f32 only.
    #[arg(long, default_value = "f32", value_parser = PossibleValuesParser::new(["f32", "bf16"]).map(dtype_named))]
    dtype: Dtype,
    /// Segments of the sequence that v3 runs at the same time; without, chosen from the size of the device.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..))]
    segments: Option<u32>,
    #[command(flatten)]
    threads: Threads,
    /// How often each is measured; the median counts.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// What was measured of a kernel.
struct Timing {
    /// Of each run of the whole batch.
    secs: Vec<f64>,
    /// What u, delta, z, B, C and y were held in.
    dtype: Dtype,
    /// Bytes a second of the memory they were in.
    bandwidth: f64,
}

/// A kernel's figures, from its median time.
struct Figures {
    micros: f64,
    bytes: u64,
    bytes_per_s: f64,
    /// The time the bytes alone need.
    floor_micros: f64,
    /// 1 where the kernel takes no longer than that.
    share: f64,
}

impl Scan {
    pub(super) fn execute(&self) -> Result<(), Failure> {
        let shape = self.shape()?;
        // Each is made for the first kernel that needs it.
        let operands = OnceCell::new();
        let operands = || operands.get_or_init(|| ScanOperands::seeded(shape, 0));
        let (mut bandwidth, mut device) = (None, None);
        let mut timings = Vec::new();
        let mut absent: Vec<_> = self.unusable().collect();
        for name in self.names() {
            let timing = if CPU_KERNELS.contains(&name.as_str()) {
                let copied = || copy_bandwidth(self.threads.of_machine());
                Timing {
                    secs: self.on_cpu(&mut *backend(&name, &self.threads)?, operands())?,
                    dtype: Dtype::F32,
                    bandwidth: *bandwidth.get_or_insert_with(copied),
                }
            } else {
                let segments = self.segments.unwrap_or(0) as usize;
                let device = match &mut device {
                    Some(device) => device,
                    None => device.insert(OnDevice::new(operands(), self.dtype, segments)?),
                };
                let kernel = kernel_named(&name);
                // One that was asked for fails with this sentence.
                if let (None, Some(refusal)) = (&self.kernel, device.bench.refusal(kernel)) {
                    absent.push((name, refusal.to_string()));
                    continue;
                }
                Timing {
                    secs: device.bench.time(kernel, self.repeats as usize)?,
                    dtype: self.dtype,
                    bandwidth: device.bandwidth,
                }
            };
            timings.push((name, timing));
        }
        emit(&if self.json {
            self.object(&shape, &timings, &absent)
        } else {
            self.table(&shape, &timings, &absent)
        })?;
        Ok(())
    }

    fn shape(&self) -> Result<ScanShape, Failure> {
        let shape = ScanShape {
            batch: self.batch as usize,
            channels: self.channels as usize,
            tokens: self.tokens as usize,
            slots: self.slots as usize,
            groups: self.groups as usize,
        };
        if !shape.channels.is_multiple_of(shape.groups) {
            return Err(Failure::Said(format!(
                "--groups is {}, wanted a divisor of the {} channels: change it or --channels",
                shape.groups, shape.channels
            )));
        }
        let bytes = shape.bytes(4);
        if bytes > MOST_BYTES {
            return Err(Failure::Said(format!(
                "a scan of these sizes has {bytes} bytes of operands, wanted at most {MOST_BYTES}: make --batch, --channels, --tokens, --slots or --groups smaller"
            )));
        }
        Ok(shape)
    }

    fn names(&self) -> Vec<String> {
        let usable = || {
            let devices = DEVICE_KERNELS.into_iter();
            let devices = devices.filter(|_| backends::unavailable("cuda").is_none());
            let all = CPU_KERNELS.into_iter().chain(devices);
            all.map(str::to_owned).collect()
        };
        self.kernel.clone().unwrap_or_else(usable)
    }

    /// Kernels that were not asked for because they cannot be used here, each with its reason.
    fn unusable(&self) -> impl Iterator<Item = (String, String)> {
        let reason = match self.kernel {
            None => backends::unavailable("cuda"),
            Some(_) => None,
        };
        reason
            .into_iter()
            .flat_map(|reason| DEVICE_KERNELS.map(|name| (name.to_owned(), reason.clone())))
    }

    /// Seconds of each run.
    fn on_cpu(
        &self,
        backend: &mut dyn Backend,
        operands: &ScanOperands,
    ) -> Result<Vec<f64>, Failure> {
        let mut secs: Vec<f64> = Vec::new();
        for _ in 0..self.repeats {
            let start = Instant::now();
            for sequence in 0..operands.shape.batch {
                let input = operands.input(sequence).map_err(BackendError::from)?;
                black_box(backend.scan(&input)?);
            }
            secs.push(start.elapsed().as_secs_f64());
            if Duration::from_secs_f64(secs.iter().sum()) >= PATIENCE {
                break;
            }
        }
        Ok(secs)
    }

    /// `absent`: kernels that were not measured, each with its reason.
    fn table(
        &self,
        shape: &ScanShape,
        timings: &[(String, Timing)],
        absent: &[(String, String)],
    ) -> String {
        let mut text = format!(
            "scan with B {}, L {}, D {}, N {}, G {}: {:.3e} special functions, {:.3e} other operations; medians\n\n",
            shape.batch,
            shape.tokens,
            shape.channels,
            shape.slots,
            shape.groups,
            shape.exponentials() as f64,
            shape.flops() as f64
        );
        text += &format!(
            "{:<7} {:>5} {:>4} {:>12} {:>8} {:>12} {:>16}\n",
            "kernel", "dtype", "runs", "µs", "GB/s", "floor in µs", "share of floor"
        );
        for (name, timing) in timings {
            let figures = timing.figures(shape);
            text += &format!(
                "{name:<7} {:>5} {:>4} {:>12.1} {:>8.1} {:>12.1} {:>14.1} %\n",
                timing.dtype_name(),
                timing.secs.len(),
                figures.micros,
                figures.bytes_per_s / 1e9,
                figures.floor_micros,
                1e2 * figures.share
            );
        }
        for (name, reason) in absent {
            text += &format!("{name:<7} {reason}\n");
        }
        text + "\nThe floor is the time a copy of as many bytes takes in the memory the kernel works in.\n"
    }

    fn object(
        &self,
        shape: &ScanShape,
        timings: &[(String, Timing)],
        absent: &[(String, String)],
    ) -> String {
        let row = |(name, timing): &(String, Timing)| {
            let figures = timing.figures(shape);
            let row = json!({
                "runs": timing.secs.len(),
                "dtype": timing.dtype_name(),
                "us": figures.micros,
                "bytes": figures.bytes,
                "bytes_per_s": figures.bytes_per_s,
                "bandwidth_bytes_per_s": timing.bandwidth,
                "floor_us": figures.floor_micros,
                "share_of_floor": figures.share,
            });
            (name.clone(), row)
        };
        let object = json!({
            "batch": shape.batch,
            "channels": shape.channels,
            "tokens": shape.tokens,
            "slots": shape.slots,
            "groups": shape.groups,
            "exponentials": shape.exponentials(),
            "flops": shape.flops(),
            "kernels": timings.iter().map(row).collect::<Map<_, _>>(),
            "unavailable": absent.iter().map(|(name, reason)| (name.clone(), reason.as_str().into())).collect::<Map<_, _>>(),
        });
        format!("{object}\n")
    }
}

impl Timing {
    fn dtype_name(&self) -> String {
        self.dtype.name().to_lowercase()
    }

    fn figures(&self, shape: &ScanShape) -> Figures {
        let secs = median(&self.secs);
        let bytes = shape.bytes(self.dtype.size() as u64);
        let floor = bytes as f64 / self.bandwidth;
        Figures {
            micros: 1e6 * secs,
            bytes,
            bytes_per_s: bytes as f64 / secs,
            floor_micros: 1e6 * floor,
            share: floor / secs,
        }
    }
}

/// The rung of a name the parser has let through.
fn kernel_named(name: &str) -> ScanKernel {
    let mut all = ScanKernel::ALL.into_iter();
    all.find(|kernel| kernel.name() == name)
        .unwrap_or(ScanKernel::V3)
}

/// The operands on a device, and what its memory moves.
struct OnDevice {
    bench: ScanBench,
    bandwidth: f64,
}

impl OnDevice {
    fn new(operands: &ScanOperands, dtype: Dtype, segments: usize) -> Result<Self, Failure> {
        if let Some(reason) = backends::unavailable("cuda") {
            return Err(Failure::Said(format!(
                "the kernels v1, v2, v3, v4 and v5 cannot be used here. {reason}"
            )));
        }
        let gpu = CudaBackend::default().gpu()?;
        let operand = match dtype {
            Dtype::Bf16 => Operand::Bf16,
            _ => Operand::F32,
        };
        let bandwidth = ScanBench::copy_bandwidth(&gpu)?;
        Ok(Self {
            bench: ScanBench::new(&gpu, operands, operand, segments)?,
            bandwidth,
        })
    }
}

/// Bytes a second that a copy by so many threads moves, read and written: the best of a few.
fn copy_bandwidth(threads: NonZeroUsize) -> f64 {
    const BYTES: usize = 64 << 20;
    const COPIES: usize = 5;
    let source = vec![1_u8; BYTES];
    let mut target = vec![0_u8; BYTES];
    let part = BYTES.div_ceil(threads.get());
    let mut best = f64::INFINITY;
    // The first also brings in the target's pages.
    for _ in 0..COPIES {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for (to, from) in target.chunks_mut(part).zip(source.chunks(part)) {
                scope.spawn(|| to.copy_from_slice(from));
            }
        });
        best = best.min(start.elapsed().as_secs_f64());
        black_box(&target);
    }
    (2 * BYTES) as f64 / best
}
