//! `mambascope check`: everything that is known of a model, or why it cannot be loaded.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use mambascope_core::job::ModelRef;
use mambascope_core::model::{Config, FeedForwardDims, Model, Source};
use mambascope_core::parity::{ParityJob, REFERENCE, parity};
use mambascope_core::state::StateBytes;

use super::{Failure, Threads, backend, count_on_terminal, emit, load, prompt_text};
use crate::backends::{NAMES, NOTHING_TO_COMPARE};
use crate::window::{ScopeSettings, bytes_text, mixers_text};

#[derive(Args)]
pub(super) struct Check {
    /// Folder of the model, or the name of an embedded one; novel-mamba-3m without.
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Also read a text on this backend and on the naive one, and say how far their scores lie apart; fails when that is too far.
    #[arg(long, value_parser = NAMES)]
    backend: Option<String>,
    /// The text they read; - reads standard input.
    #[arg(long, value_name = "TEXT", requires = "backend")]
    prompt: Option<String>,
    #[command(flatten)]
    threads: Threads,
}

impl Check {
    pub(super) fn execute(&self) -> Result<(), Failure> {
        if self.backend.as_deref() == Some(REFERENCE) {
            return Err(Failure::Said(NOTHING_TO_COMPARE.to_owned()));
        }
        let model = load(self.folder.as_deref())?;
        let mut text = summary(&model);
        for warning in &model.warnings {
            text.push_str(&format!("note: {warning}\n"));
        }
        if let Some(card) = &model.card {
            text.push_str(&format!("\n{}\n", card.trim_end()));
        }
        emit(&text)?;
        match &self.backend {
            Some(name) => self.measure(name, model),
            None => Ok(()),
        }
    }

    /// Measures a backend against the naive one and prints what was found.
    fn measure(&self, name: &str, model: Arc<Model>) -> Result<(), Failure> {
        let job = ParityJob {
            text: self.text(&model)?.into(),
            backend: name.to_owned(),
            model: ModelRef(model),
        };
        let mut chosen = backend(name, &self.threads)?.open(&job.model)?;
        let mut naive = backend(REFERENCE, &self.threads)?.open(&job.model)?;
        let found = parity(&job, &mut *chosen, &mut *naive, &mut count_on_terminal())?;
        let mut text = format!("\n{name:<13} {found}\n");
        for (name, value) in found.details() {
            text.push_str(&format!("{name:<13} {value}\n"));
        }
        emit(&text)?;
        if found.is_within() {
            Ok(())
        } else {
            let reason = format!("the {name} backend does not agree with the naive one");
            Err(Failure::Said(reason))
        }
    }

    /// The text to read: what was typed, or what the window opens with.
    fn text(&self, model: &Model) -> Result<String, Failure> {
        let known = ScopeSettings::default();
        Ok(match (&self.prompt, &model.tokenizer) {
            (Some(prompt), _) => prompt_text(prompt)?.into_owned(),
            (None, Some(_)) => known.prompt,
            (None, None) => known.prompt_ids,
        })
    }
}

fn summary(model: &Model) -> String {
    let config = &model.config;
    let source = match &model.source {
        Source::Folder(path) => path.display().to_string(),
        Source::Embedded => "compiled into this program".to_owned(),
        Source::Memory => "built in memory".to_owned(),
    };
    let dtypes: Vec<_> = model.dtypes().iter().map(|dtype| dtype.name()).collect();
    let head = if model.head.is_some() {
        "a head of its own"
    } else {
        "head tied to the embedding"
    };
    let tokenizer = match &model.tokenizer {
        Some(tokenizer) => format!("{} ids", tokenizer.len()),
        None => "none: prompts are ids".to_owned(),
    };
    let rows = [
        ("model", model.name.clone()),
        ("from", source),
        ("family", config.family.entry().title.to_owned()),
        (
            "layers",
            format!("{} of width {}", config.n_layers(), config.d_model),
        ),
        ("mixers", mixers_text(config)),
        ("feed-forward", feed_forward_text(config)),
        ("vocabulary", format!("{} rows, {head}", config.vocab_size)),
        ("tokenizer", tokenizer),
        (
            "tensors",
            format!("{}, all checked", model.tensors().count()),
        ),
        ("parameters", thousands(model.parameters())),
        (
            "weights",
            format!(
                "{}, {}",
                dtypes.join(" + "),
                bytes_text(model.bytes_on_disk)
            ),
        ),
        ("live state", state_text(config)),
    ];
    rows.iter()
        .map(|(name, value)| format!("{name:<13} {value}\n"))
        .collect()
}

fn feed_forward_text(config: &Config) -> String {
    let mut kinds = Vec::new();
    for part in config.blocks.iter().filter_map(|block| block.feed_forward) {
        let text = match part {
            FeedForwardDims::Dense { width, .. } => format!("SwiGLU of width {width}"),
            FeedForwardDims::Experts { width, count, top } => {
                format!("{top} of {count} experts of width {width}")
            }
        };
        if !kinds.contains(&text) {
            kinds.push(text);
        }
    }
    if kinds.is_empty() {
        return "none".to_owned();
    }
    kinds.join(", ")
}

/// What a session holds: fixed, and for attention so much a token.
fn state_text(config: &Config) -> String {
    let fixed = StateBytes::formula(config, 0).total() as u64;
    let a_token = StateBytes::formula(config, 1).kv as u64;
    match (fixed, a_token) {
        (_, 0) => bytes_text(fixed),
        (0, _) => format!("{} a token", bytes_text(a_token)),
        _ => format!("{} and {} a token", bytes_text(fixed), bytes_text(a_token)),
    }
}

/// "3,152,640".
fn thousands(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
