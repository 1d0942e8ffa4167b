//! `mambascope bench`: tokens a second for each backend, measured in turns so that a noisy machine is noisy for all.

mod scan;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use mambascope_core::backend::{
    Backend, Cost, DEFAULT_CHUNK, DeviceBytes, FastBackend, Limits, Rounding,
};
use mambascope_core::checkpoint::{SYNTHETIC, Synthetic};
use mambascope_core::model::Model;
use mambascope_core::precision::{self, Divergence};
use mambascope_core::speed::{read_and_write, spread_ids};
use mambascope_core::tensor::{Dtype, TensorError};
use serde_json::{Map, Value, json};

use super::format::Format;
use super::{Failure, Threads, backend, emit, load, warn};
use crate::backends::{self, NAMES};
use crate::window::bytes_text;

/// A backend that has taken this long is not measured again: the first figure of a slow one is steady enough.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Bench {
    #[command(subcommand)]
    part: Option<Part>,
    /// Folder of the model, or the name of an embedded one; novel-mamba-3m without.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// In place of a model, random weights of a published shape; in f32 without --dtype.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["model", "keep"], value_parser = PossibleValuesParser::new(SYNTHETIC.each_ref().map(|shape| shape.name)))]
    synthetic: Option<String>,
    #[command(flatten)]
    format: Format,
    /// Tokens to read.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    prompt: u32,
    /// Tokens to write.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    tokens: u32,
    /// Tokens a prefill takes at once.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_CHUNK as u32, value_parser = clap::value_parser!(u32).range(1..))]
    chunk: u32,
    /// Measure only these, such as fast,naive; without, all that can be used here.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = NAMES)]
    backend: Option<Vec<String>>,
    #[command(flatten)]
    threads: Threads,
    /// How often each is measured; the median counts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Part {
    /// Measure the selective scan alone: its time, its bytes a second, and the least time its bytes need.
    Scan(scan::Scan),
}

/// One backend at work.
struct Measured {
    name: String,
    backend: Box<dyn Backend>,
    prefill_secs: Vec<f64>,
    decode_secs: Vec<f64>,
    device: Option<DeviceBytes>,
    /// The most memory the process has had by the end of its first turn.
    peak_bytes: Option<u64>,
    /// Bytes of the weights by then, and of what was widened of them.
    weight_bytes: usize,
}

/// What the machine gives, and what the model asks of it.
struct Machine {
    backend: FastBackend,
    bandwidths: Vec<f64>,
    gemms: Vec<f64>,
    cost: Cost,
}

/// Tokens a second.
#[derive(Clone, Copy)]
struct Rates {
    prefill: f64,
    decode: f64,
}

impl Bench {
    pub(super) fn execute(&self) -> Result<(), Failure> {
        if let Some(Part::Scan(scan)) = &self.part {
            return scan.execute();
        }
        let model = self.open_model()?;
        warn(&model);
        let ids = spread_ids(model.config.vocab_size, self.prompt as usize);
        let mut all = self.backends()?;
        let mut machine = None;
        for _ in 0..self.repeats {
            for measured in all
                .iter_mut()
                .filter(|measured| measured.spent() < PATIENCE)
            {
                measured.repeat(&model, &ids, self)?;
            }
            // In turns too: a noisy minute is one for the limits and for what is held against them.
            Machine::measure(&mut machine, &model, &self.threads)?;
        }
        let divergence = self.divergence(&model)?;
        let report = Report {
            model: &model,
            all: &all,
            machine: machine.as_ref(),
            divergence,
        };
        emit(&if self.json {
            self.object(&report)
        } else {
            self.table(&report)
        })?;
        Ok(())
    }

    fn open_model(&self) -> Result<Arc<Model>, Failure> {
        let Some(shape) = self.synthetic.as_deref().and_then(Synthetic::named) else {
            return self.format.load(self.model.as_deref());
        };
        let made = shape.load(self.format.dtype.unwrap_or(Dtype::F32), 0);
        made.map(Arc::new)
            .map_err(|reason| Failure::Load(Box::new(reason)))
    }

    fn backends(&self) -> Result<Vec<Measured>, Failure> {
        let usable = || {
            NAMES
                .into_iter()
                .filter(|name| backends::unavailable(name).is_none())
                .map(str::to_owned)
                .collect()
        };
        let names: Vec<String> = self.backend.clone().unwrap_or_else(usable);
        let start = |name: String| {
            let backend = backend(&name, &self.threads)?;
            Ok(Measured {
                name,
                backend,
                prefill_secs: Vec::new(),
                decode_secs: Vec::new(),
                device: None,
                peak_bytes: None,
                weight_bytes: 0,
            })
        };
        names.into_iter().map(start).collect()
    }

    /// Backends that were not asked for because they cannot be used, each with its reason.
    fn absent(&self) -> impl Iterator<Item = (&'static str, String)> {
        let all = if self.backend.is_none() {
            NAMES.as_slice()
        } else {
            &[]
        };
        all.iter()
            .filter_map(|&name| Some((name, backends::unavailable(name)?)))
    }

    /// How far the scores lie from those of the weights in f32, for a coarser format; a model of files is compared with itself as it
    /// is stored.
    fn divergence(&self, model: &Arc<Model>) -> Result<Option<Divergence>, Failure> {
        let exact = match (self.format.dtype, &self.synthetic) {
            (None, _) | (Some(Dtype::F32), Some(_)) => return Ok(None),
            (Some(_), None) => load(self.model.as_deref())?,
            (Some(_), Some(name)) => {
                let Some(shape) = Synthetic::named(name) else {
                    return Ok(None);
                };
                let made = shape.load(Dtype::F32, 0).map(Arc::new);
                made.map_err(|reason| Failure::Load(Box::new(reason)))?
            }
        };
        let fast = || FastBackend::new(usize::from(self.threads.count));
        let mut exact = fast()?.with_rounding(Rounding::Never).open(&exact)?;
        let mut coarse = fast()?.with_rounding(Rounding::Always).open(model)?;
        let ids = precision::fixed_ids(model);
        let go_on = &mut |_| ControlFlow::Continue(());
        let found = precision::divergence(&mut *exact, &mut *coarse, &ids, go_on)?;
        Ok(Some(found))
    }

    fn rates_of_naive(&self, all: &[Measured]) -> Option<Rates> {
        all.iter()
            .find(|measured| measured.name == "naive")
            .map(|naive| naive.rates(self))
    }

    fn table(&self, report: &Report<'_>) -> String {
        let (model, all) = (report.model, report.all);
        let naive = self.rates_of_naive(all);
        let mut text = format!(
            "{}: {} tokens read, {} at once, {} written; medians\n\n",
            model.name, self.prompt, self.chunk, self.tokens
        );
        text += &format!(
            "{:<8} {:>4} {:>16} {:>16} {:>12} {:>20}\n",
            "backend",
            "runs",
            "prefill tokens/s",
            "decode tokens/s",
            "µs a token",
            "times naive (p, d)"
        );
        for measured in all {
            let Rates { prefill, decode } = measured.rates(self);
            let ratio = naive.map_or_else(
                || "naive not measured".to_owned(),
                |naive| {
                    format!(
                        "{:.1}, {:.1}",
                        prefill / naive.prefill,
                        decode / naive.decode
                    )
                },
            );
            let (name, runs) = (&measured.name, measured.prefill_secs.len());
            let micros = 1e6 / decode;
            text += &format!(
                "{name:<8} {runs:>4} {prefill:>16.1} {decode:>16.1} {micros:>12.1} {ratio:>20}\n"
            );
        }
        for (name, reason) in self.absent() {
            text += &format!("{name:<8} {reason}\n");
        }
        for measured in all {
            if let Some(held) = measured.device {
                text += &format!("\n{}\n", device_text(&measured.name, &held));
            }
            for note in measured.backend.notes() {
                text += &format!("{}: {note}\n", measured.name);
            }
        }
        text + &report.words(self)
    }

    fn object(&self, report: &Report<'_>) -> String {
        let (model, all) = (report.model, report.all);
        let naive = self.rates_of_naive(all);
        let row = |measured: &Measured| {
            let Rates { prefill, decode } = measured.rates(self);
            let row = json!({
                "runs": measured.prefill_secs.len(),
                "prefill_tokens_per_s": prefill,
                "decode_tokens_per_s": decode,
                "prefill_ms": 1e3 * median(&measured.prefill_secs),
                "decode_us_per_token": 1e6 / decode,
                "prefill_times_naive": naive.map(|naive| prefill / naive.prefill),
                "decode_times_naive": naive.map(|naive| decode / naive.decode),
                "device_bytes": measured.device.map(device_object),
                "notes": measured.backend.notes(),
                "weight_bytes": measured.weight_bytes,
                "peak_bytes": measured.peak_bytes,
            });
            (measured.name.clone(), row)
        };
        let first = all.first();
        let rates = first.map(|first| first.rates(self));
        let limits = report.machine.map(Machine::limits);
        let share = |of: fn(&Machine, Rates) -> f64| Some(of(report.machine?, rates?));
        let object = json!({
            "model": model.name,
            "prompt": self.prompt,
            "chunk": self.chunk,
            "tokens": self.tokens,
            "backends": all.iter().map(row).collect::<Map<_, _>>(),
            "unavailable": self.absent().map(|(name, reason)| (name.to_owned(), reason.into())).collect::<Map<_, _>>(),
            "dtype": model.main_dtype().name(),
            "threads": report.machine.map(|machine| machine.backend.threads()),
            // Of the first backend measured.
            "prefill_tokens_per_s": rates.map(|rates| rates.prefill),
            "decode_tokens_per_s": rates.map(|rates| rates.decode),
            "weight_bytes": first.map(|first| first.weight_bytes),
            "peak_bytes": first.and_then(|first| first.peak_bytes),
            "bandwidth_bytes_per_s": limits.map(|limits| limits.bandwidth_bytes_per_s),
            "gemm_flops_per_s": limits.map(|limits| limits.gemm_flops_per_s),
            "prefill_share_of_gemm": share(Machine::prefill_share),
            "decode_share_of_bandwidth": share(Machine::decode_share),
            "kl_nats": report.divergence.map(|found| found.mean),
            "top1_flips": report.divergence.map(|found| found.flips),
            "kl_tokens": report.divergence.map(|found| found.tokens),
        });
        format!("{object}\n")
    }
}

/// All that was measured.
struct Report<'a> {
    model: &'a Model,
    all: &'a [Measured],
    machine: Option<&'a Machine>,
    divergence: Option<Divergence>,
}

impl Report<'_> {
    /// What is said under the table.
    fn words(&self, bench: &Bench) -> String {
        let mut text = String::new();
        if let (Some(machine), Some(first)) = (self.machine, self.all.first()) {
            let rates = first.rates(bench);
            let limits = machine.limits();
            text += &format!(
                "\nmachine, {} threads: reads {:.1} GB/s, multiplies {:.0} GFLOP/s with {} weights; {} reaches {:.0} % of the first \
                 writing and {:.0} % of the second reading\n",
                machine.backend.threads(),
                limits.bandwidth_bytes_per_s / 1e9,
                limits.gemm_flops_per_s / 1e9,
                self.model.main_dtype().name(),
                first.name,
                100.0 * machine.decode_share(rates),
                100.0 * machine.prefill_share(rates),
            );
            text += &format!("weights: {}\n", bytes_text(first.weight_bytes as u64));
        }
        if let Some(found) = self.divergence {
            text += &format!(
                "scores against the exact ones over {} tokens: KL {:.1e} nats, at most {:.1e}; another token first after {}\n",
                found.tokens, found.mean, found.most, found.flips
            );
        }
        let peak = self.all.first().and_then(|first| first.peak_bytes);
        let peak = peak.map_or_else(|| "not available on this system".to_owned(), bytes_text);
        let name = self.all.first().map_or("", |first| first.name.as_str());
        text + &format!("peak memory of the process with {name}: {peak}\n")
    }
}

impl Machine {
    /// Measures once more.
    fn measure(
        machine: &mut Option<Self>,
        model: &Model,
        threads: &Threads,
    ) -> Result<(), Failure> {
        let machine = match machine {
            Some(machine) => machine,
            None => machine.insert(Self {
                backend: FastBackend::new(usize::from(threads.count))?,
                bandwidths: Vec::new(),
                gemms: Vec::new(),
                cost: Cost::of(model),
            }),
        };
        let limits = machine.backend.limits(model);
        let limits = limits.map_err(|reason: TensorError| Failure::Said(reason.to_string()))?;
        machine.bandwidths.push(limits.bandwidth_bytes_per_s);
        machine.gemms.push(limits.gemm_flops_per_s);
        Ok(())
    }

    /// The medians, as of what is held against them.
    fn limits(&self) -> Limits {
        Limits {
            bandwidth_bytes_per_s: median(&self.bandwidths),
            gemm_flops_per_s: median(&self.gemms),
        }
    }

    fn decode_share(&self, rates: Rates) -> f64 {
        self.cost.decode_share(rates.decode, &self.limits())
    }

    fn prefill_share(&self, rates: Rates) -> f64 {
        self.cost.prefill_share(rates.prefill, &self.limits())
    }
}

impl Measured {
    /// One text, read and written on.
    fn repeat(&mut self, model: &Arc<Model>, ids: &[u32], bench: &Bench) -> Result<(), Failure> {
        let mut session = self.backend.open(model)?;
        let (chunk, tokens) = (bench.chunk as usize, bench.tokens as usize);
        let go_on = &mut |_| ControlFlow::Continue(());
        let turn = read_and_write(&mut *session, ids, chunk, tokens, go_on)?;
        self.prefill_secs.push(turn.prefill);
        self.decode_secs.push(turn.decode);
        self.device = self.backend.device_bytes();
        if self.prefill_secs.len() == 1 {
            self.peak_bytes = peak_bytes();
            self.weight_bytes = model.weight_bytes();
        }
        Ok(())
    }

    fn spent(&self) -> Duration {
        Duration::from_secs_f64(self.prefill_secs.iter().chain(&self.decode_secs).sum())
    }

    fn rates(&self, bench: &Bench) -> Rates {
        let rate = |tokens: u32, secs: &[f64]| f64::from(tokens) / median(secs);
        Rates {
            prefill: rate(bench.prompt, &self.prefill_secs),
            decode: rate(bench.tokens, &self.decode_secs),
        }
    }
}

fn median(secs: &[f64]) -> f64 {
    let mut sorted = secs.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn device_text(backend: &str, held: &DeviceBytes) -> String {
    format!(
        "memory of the device under {backend}: weights {}, state {}, activations {}; {} in use",
        bytes_text(held.weights),
        bytes_text(held.state),
        bytes_text(held.activations),
        bytes_text(held.in_use)
    )
}

fn device_object(held: DeviceBytes) -> Value {
    json!({
        "weights": held.weights,
        "state": held.state,
        "activations": held.activations,
        "in_use": held.in_use,
    })
}

/// The most memory the process has had, where the system tells.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
