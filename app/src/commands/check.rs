//! `mambascope check`: everything that is known of a model, or why it cannot be loaded.

use std::path::PathBuf;

use clap::Args;
use mambascope_core::model::{Model, Source};
use mambascope_core::state::State;

use super::{Failure, emit, load};
use crate::window::bytes_text;

#[derive(Args)]
pub(super) struct Check {
    /// Folder of the model; the embedded one without.
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Check {
    pub(super) fn execute(&self) -> Result<(), Failure> {
        let model = load(self.folder.as_deref())?;
        let mut text = summary(&model);
        for warning in &model.warnings {
            text.push_str(&format!("note: {warning}\n"));
        }
        if let Some(card) = &model.card {
            text.push_str(&format!("\n{}\n", card.trim_end()));
        }
        emit(&text)?;
        Ok(())
    }
}

fn summary(model: &Model) -> String {
    let (config, dims) = (&model.config, &model.config.mamba);
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
            format!("{} of width {}", config.n_layers, config.d_model),
        ),
        (
            "mixer",
            format!(
                "{} channels × {} slots, convolution over {}, Δ rank {}",
                dims.d_inner, dims.d_state, dims.d_conv, dims.dt_rank
            ),
        ),
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
        (
            "live state",
            bytes_text(State::zeros(config).bytes() as u64),
        ),
    ];
    rows.iter()
        .map(|(name, value)| format!("{name:<11} {value}\n"))
        .collect()
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
