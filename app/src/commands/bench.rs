//! `mambascope bench`: tokens a second for each backend, measured in turns so that a noisy machine is noisy for all.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use mambascope_core::backend::{Backend, DEFAULT_CHUNK, prefill_in_chunks};
use mambascope_core::generate::argmax;
use mambascope_core::model::Model;

use super::{Failure, backend, emit, load};
use crate::window::bytes_text;

#[derive(Args)]
pub(super) struct Bench {
    /// Folder of the model; the embedded one without.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Tokens to read.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    prompt: u32,
    /// Tokens to write.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    tokens: u32,
    /// Measure only these, such as fast,naive.
    #[arg(long, value_delimiter = ',', default_value = "fast,naive")]
    backend: Vec<String>,
    /// Threads of the fast backend; 0 means one for each core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// How often each is measured; the median counts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Seconds of every repeat of one backend.
struct Measured {
    backend: Box<dyn Backend>,
    prefill_secs: Vec<f64>,
    decode_secs: Vec<f64>,
}

impl Bench {
    pub(super) fn execute(&self) -> Result<(), Failure> {
        let model = load(self.model.as_deref())?;
        let vocab_size = model.config.vocab_size as u32;
        // The text does not matter to the time; ids spread over the vocabulary do not favour a cache.
        let ids: Vec<u32> = (0..self.prompt).map(|i| i.wrapping_mul(2_654_435_761) % vocab_size).collect();
        let mut all = Vec::new();
        for name in &self.backend {
            let backend = backend(name, self.threads)?;
            all.push(Measured { backend, prefill_secs: Vec::new(), decode_secs: Vec::new() });
        }
        for _ in 0..self.repeats {
            for measured in &mut all {
                measured.repeat(&model, &ids, self.tokens)?;
            }
        }
        if self.json { self.print_json(&model, &mut all) } else { self.print_table(&model, &mut all) }
    }

    fn print_table(&self, model: &Model, all: &mut [Measured]) -> Result<(), Failure> {
        let naive = all.iter_mut().find(|measured| measured.backend.name() == "naive").map(|naive| naive.rates(self));
        emit(&format!("{}: {} tokens read, {} written, median of {}\n\n", model.name, self.prompt, self.tokens, self.repeats))?;
        emit(&format!("{:<8} {:>16} {:>16} {:>22}\n", "backend", "prefill tokens/s", "decode tokens/s", "times naive (p / d)"))?;
        for measured in all {
            let (prefill, decode) = measured.rates(self);
            let ratio = naive.map_or_else(|| "not measured".to_owned(), |(p, d)| format!("{:.1} / {:.1}", prefill / p, decode / d));
            emit(&format!("{:<8} {prefill:>16.1} {decode:>16.1} {ratio:>22}\n", measured.backend.name()))?;
        }
        let peak = peak_bytes().map_or_else(|| "not known on this system".to_owned(), bytes_text);
        emit(&format!("\npeak memory of the process {peak}\n"))?;
        Ok(())
    }

    fn print_json(&self, model: &Model, all: &mut [Measured]) -> Result<(), Failure> {
        let rows = all.iter_mut().map(|measured| {
            let (prefill, decode) = measured.rates(self);
            let row = serde_json::json!({ "prefill_tokens_per_s": prefill, "decode_tokens_per_s": decode });
            (measured.backend.name().to_owned(), row)
        });
        let weight_bytes: usize = model.tensors().map(|tensor| tensor.byte_len() + tensor.widened_bytes()).sum();
        let object = serde_json::json!({
            "model": model.name,
            "prompt": self.prompt,
            "tokens": self.tokens,
            "backends": rows.collect::<serde_json::Map<_, _>>(),
            "weight_bytes": weight_bytes,
            "peak_bytes": peak_bytes(),
        });
        emit(&format!("{object}\n"))?;
        Ok(())
    }
}

impl Measured {
    fn repeat(&mut self, model: &Arc<Model>, ids: &[u32], tokens: u32) -> Result<(), Failure> {
        let mut session = self.backend.open(model)?;
        let start = Instant::now();
        prefill_in_chunks(&mut *session, ids, DEFAULT_CHUNK, &mut (), &mut |_| ControlFlow::Continue(()))?;
        self.prefill_secs.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        for _ in 0..tokens {
            let id = argmax(session.logits());
            session.step(id, &mut ())?;
        }
        self.decode_secs.push(start.elapsed().as_secs_f64());
        Ok(())
    }

    /// Median tokens a second: reading, writing.
    fn rates(&mut self, bench: &Bench) -> (f64, f64) {
        (f64::from(bench.prompt) / median(&mut self.prefill_secs), f64::from(bench.tokens) / median(&mut self.decode_secs))
    }
}

fn median(secs: &mut [f64]) -> f64 {
    secs.sort_unstable_by(f64::total_cmp);
    secs[secs.len() / 2]
}

/// The most memory the process has had, where the system tells.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
