//! `mambascope run`: text to the terminal as it is written, then one line of figures.

use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use mambascope_core::backend::{DEFAULT_CHUNK, prefill_in_chunks};
use mambascope_core::generate::{Sampling, generate};
use mambascope_core::job::prompt_ids;
use mambascope_core::tokenizer::StreamDecoder;

use super::format::Format;
use super::{Failure, Machine, emit, prompt_text, warn};

#[derive(Args)]
pub(super) struct Run {
    /// Folder of the model, or the name of an embedded one; novel-mamba-3m without.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// What to continue; ids such as 12,7,40 for a model without a tokenizer; - reads standard input.
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// How many tokens to write.
    #[arg(long, value_name = "N", default_value_t = 100)]
    tokens: usize,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    machine: Machine,
    /// Always take the most likely token.
    #[arg(long, conflicts_with_all = ["temperature", "top_k", "top_p"])]
    greedy: bool,
    #[command(flatten)]
    sampling: SamplingArguments,
}

#[derive(Args)]
struct SamplingArguments {
    /// Divides the scores; 0 is greedy.
    #[arg(long, value_name = "T", value_parser = non_negative)]
    temperature: Option<f32>,
    /// Draw among so many of the most likely tokens; 0 keeps all.
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw among the most likely tokens whose probabilities reach this sum.
    #[arg(long, value_name = "P", value_parser = share)]
    top_p: Option<f32>,
    /// Make tokens already present less likely; 1 does nothing.
    #[arg(long, value_name = "R", value_parser = positive)]
    repetition_penalty: Option<f32>,
    /// The same seed gives the same text.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
}

fn number(text: &str, wanted: &str, fits: impl Fn(f32) -> bool) -> Result<f32, String> {
    let value: f32 = text.parse().map_err(|_| format!("wanted {wanted}"))?;
    if fits(value) {
        Ok(value)
    } else {
        Err(format!("wanted {wanted}"))
    }
}

fn non_negative(text: &str) -> Result<f32, String> {
    number(text, "a number that is 0 or more", |x| {
        x.is_finite() && x >= 0.0
    })
}

fn positive(text: &str) -> Result<f32, String> {
    number(text, "a number above 0", |x| x.is_finite() && x > 0.0)
}

fn share(text: &str) -> Result<f32, String> {
    number(text, "a number above 0 and at most 1", |x| {
        x > 0.0 && x <= 1.0
    })
}

impl Run {
    fn sampling(&self) -> Sampling {
        let given = &self.sampling;
        let base = if self.greedy {
            Sampling::greedy()
        } else {
            Sampling::default()
        };
        Sampling {
            temperature: given.temperature.unwrap_or(base.temperature),
            top_k: given.top_k.unwrap_or(base.top_k),
            top_p: given.top_p.unwrap_or(base.top_p),
            repetition_penalty: given.repetition_penalty.unwrap_or(base.repetition_penalty),
            seed: given.seed,
        }
    }

    pub(super) fn execute(&self) -> Result<(), Failure> {
        let model = self.format.load(self.model.as_deref())?;
        warn(&model);
        let mut backend = self.machine.start()?;
        let text = prompt_text(&self.prompt)?;
        let prompt = prompt_ids(&model, &text)?;
        let mut session = backend.open(&model)?;

        emit(&text)?;
        let start = Instant::now();
        let reading = Reading::start(prompt.len());
        prefill_in_chunks(
            &mut *session,
            &prompt,
            DEFAULT_CHUNK,
            &mut (),
            &mut |done| {
                reading.show(done);
                ControlFlow::Continue(())
            },
        )?;
        drop(reading);
        let prefill_secs = start.elapsed().as_secs_f64();

        let mut history = prompt.clone();
        let mut decoder = StreamDecoder::new();
        let mut broken: Option<io::Error> = None;
        let start = Instant::now();
        generate(
            &mut *session,
            &mut history,
            &self.sampling(),
            self.tokens,
            &mut (),
            &mut |id| {
                let text = match &model.tokenizer {
                    Some(tokenizer) => decoder.push(tokenizer, id),
                    None => format!(" {id}"),
                };
                match emit(&text) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        broken = Some(error);
                        ControlFlow::Break(())
                    }
                }
            },
        )?;
        let decode_secs = start.elapsed().as_secs_f64();
        if let Some(error) = broken {
            return Err(error.into());
        }
        let written = history.len() - prompt.len();
        let weights = self.format.dtype.map(|dtype| dtype.name().to_lowercase());
        let weights = weights.map_or_else(String::new, |name| format!(", {name} weights"));
        emit(&format!(
            "{}\n\nprefill {} tokens{}, decode {written} tokens{} ({} backend{weights})\n",
            decoder.flush(),
            prompt.len(),
            rate(prompt.len(), prefill_secs),
            // The first token comes from reading the prompt, and the last one is not read back.
            rate(written.saturating_sub(1), decode_secs),
            backend.name(),
        ))?;
        Ok(())
    }
}

/// " at 12.3 tokens/s", or nothing where no step was measured.
fn rate(steps: usize, secs: f64) -> String {
    if steps > 0 && secs > 0.0 {
        format!(" at {:.1} tokens/s", steps as f64 / secs)
    } else {
        String::new()
    }
}

/// How far the prompt is read: a line below it on a terminal, gone when done; nothing elsewhere, and nothing for a prompt
/// that is read in one go.
struct Reading {
    total: usize,
    is_shown: bool,
}

impl Reading {
    /// Moves down, scrolling if need be, and up again: now there is a line below that can be gone to and come back from.
    const ROOM: &str = "\x1bD\x1b[A";
    /// Remembers the place, and goes to the line below, which is emptied.
    const BELOW: &str = "\x1b7\x1b[B\r\x1b[2K";
    const BACK: &str = "\x1b8";

    fn start(total: usize) -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let is_shown = total > DEFAULT_CHUNK && io::stderr().is_terminal() && !is_dumb;
        if is_shown {
            eprint!("{}", Self::ROOM);
        }
        let reading = Self { total, is_shown };
        reading.show(0);
        reading
    }

    fn show(&self, done: usize) {
        if self.is_shown {
            let total = self.total;
            eprint!(
                "{}reading: {done} of {total} tokens{}",
                Self::BELOW,
                Self::BACK
            );
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if self.is_shown {
            eprint!("{}{}", Self::BELOW, Self::BACK);
        }
    }
}
