//! `mambascope bench`: tokens a second for each backend, measured in turns so that a noisy machine is noisy for all.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use mambascope_core::backend::{Backend, DEFAULT_CHUNK, prefill_in_chunks};
use mambascope_core::generate::argmax;
use mambascope_core::model::Model;
use serde_json::{Map, json};

use super::{Failure, Threads, backend, emit, load, warn};
use crate::backends::{self, NAMES};
use crate::window::bytes_text;

/// A backend that has taken this long is not measured again: the first figure of a slow one is steady enough.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(super) struct Bench {
    /// Folder of the model, or the name of an embedded one; novel-mamba-3m without.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Tokens to read.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    prompt: u32,
    /// Tokens to write.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    tokens: u32,
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

/// One backend at work.
struct Measured {
    name: String,
    backend: Box<dyn Backend>,
    prefill_secs: Vec<f64>,
    decode_secs: Vec<f64>,
}

/// Tokens a second.
#[derive(Clone, Copy)]
struct Rates {
    prefill: f64,
    decode: f64,
}

impl Bench {
    pub(super) fn execute(&self) -> Result<(), Failure> {
        let model = load(self.model.as_deref())?;
        warn(&model);
        let vocab_size = model.config.vocab_size as u32;
        // The text does not matter to the time; ids spread over the vocabulary do not favour a cache.
        let ids: Vec<u32> = (0..self.prompt)
            .map(|i| i.wrapping_mul(2_654_435_761) % vocab_size)
            .collect();
        let mut all = self.backends()?;
        for _ in 0..self.repeats {
            for measured in all
                .iter_mut()
                .filter(|measured| measured.spent() < PATIENCE)
            {
                measured.repeat(&model, &ids, self.tokens)?;
            }
        }
        emit(&if self.json {
            self.object(&model, &all)
        } else {
            self.table(&model, &all)
        })?;
        Ok(())
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

    fn rates_of_naive(&self, all: &[Measured]) -> Option<Rates> {
        all.iter()
            .find(|measured| measured.name == "naive")
            .map(|naive| naive.rates(self))
    }

    fn table(&self, model: &Model, all: &[Measured]) -> String {
        let naive = self.rates_of_naive(all);
        let mut text = format!(
            "{}: {} tokens read, {} written; medians\n\n",
            model.name, self.prompt, self.tokens
        );
        text += &format!(
            "{:<8} {:>4} {:>16} {:>16} {:>24}\n",
            "backend", "runs", "prefill tokens/s", "decode tokens/s", "times naive (p, d)"
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
            text += &format!("{name:<8} {runs:>4} {prefill:>16.1} {decode:>16.1} {ratio:>24}\n");
        }
        for (name, reason) in self.absent() {
            text += &format!("{name:<8} {reason}\n");
        }
        let peak =
            peak_bytes().map_or_else(|| "not available on this system".to_owned(), bytes_text);
        text + &format!("\npeak memory of the process: {peak}\n")
    }

    fn object(&self, model: &Model, all: &[Measured]) -> String {
        let naive = self.rates_of_naive(all);
        let row = |measured: &Measured| {
            let Rates { prefill, decode } = measured.rates(self);
            let row = json!({
                "runs": measured.prefill_secs.len(),
                "prefill_tokens_per_s": prefill,
                "decode_tokens_per_s": decode,
                "prefill_times_naive": naive.map(|naive| prefill / naive.prefill),
                "decode_times_naive": naive.map(|naive| decode / naive.decode),
            });
            (measured.name.clone(), row)
        };
        let weight_bytes: usize = model
            .tensors()
            .map(|tensor| tensor.byte_len() + tensor.widened_bytes())
            .sum();
        let object = json!({
            "model": model.name,
            "prompt": self.prompt,
            "tokens": self.tokens,
            "backends": all.iter().map(row).collect::<Map<_, _>>(),
            "unavailable": self.absent().map(|(name, reason)| (name.to_owned(), reason.into())).collect::<Map<_, _>>(),
            "weight_bytes": weight_bytes,
            "peak_bytes": peak_bytes(),
        });
        format!("{object}\n")
    }
}

impl Measured {
    fn repeat(&mut self, model: &Arc<Model>, ids: &[u32], tokens: u32) -> Result<(), Failure> {
        let mut session = self.backend.open(model)?;
        let start = Instant::now();
        prefill_in_chunks(&mut *session, ids, DEFAULT_CHUNK, &mut (), &mut |_| {
            ControlFlow::Continue(())
        })?;
        self.prefill_secs.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        for _ in 0..tokens {
            let id = argmax(session.logits()?);
            session.step(id, &mut ())?;
        }
        self.decode_secs.push(start.elapsed().as_secs_f64());
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

/// The most memory the process has had, where the system tells.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
