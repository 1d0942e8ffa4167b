//! Folders and bytes → [`Model`], every name, shape and dtype checked on the way.
//!
//! A checkpoint is a folder as Hugging Face lays it out: `config.json`; `model.safetensors`, or shards that
//! `model.safetensors.index.json` lists, or a `pytorch_model.bin` as the original state-spaces code saves it; beside them, if
//! there are, `tokenizer.json` and a model card. Nothing in it is
//! trusted: whatever the bytes are, loading ends in a model or in a [`LoadError`], never in a panic.

mod assemble;
mod embedded;
mod error;
mod folder;
mod kept;
mod pickle;
mod safetensors;
mod synthetic;
mod torch_zip;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

pub use assemble::Progress;
pub use embedded::{EMBEDDED, Embedded, embedded};
pub use error::{LoadError, Problems};
pub use folder::load;
pub use kept::{KEPT, RecastError, Steps, recast};
pub use pickle::PickleError;
pub use safetensors::HeaderError;
pub use synthetic::{SYNTHETIC, Synthetic, synthetic};
pub use torch_zip::{Damage, TorchError};

use assemble::{Ingredients, Stored, assemble};
use torch_zip::Place;

use crate::model::{Config, Model, Source};
use crate::tensor::Bytes;
use crate::tokenizer::{Tokenizer, TokenizerError};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const TOKENIZER: &str = "tokenizer.json";

/// Loads a checkpoint that is already in memory, by the rules of [`load`].
///
/// # Errors
/// When a part is damaged, or the parts do not fit each other.
pub fn load_bytes(
    name: &str,
    config_json: &str,
    weights: Bytes,
    tokenizer_json: Option<&str>,
    card: Option<&str>,
) -> Result<Model, LoadError> {
    let source = Source::Memory;
    load_in_memory(InMemory {
        name,
        source,
        config: config_json,
        weights,
        tokenizer: tokenizer_json,
        card,
    })
}

/// A checkpoint in memory.
struct InMemory<'a> {
    name: &'a str,
    source: Source,
    config: &'a str,
    weights: Bytes,
    tokenizer: Option<&'a str>,
    card: Option<&'a str>,
}

fn load_in_memory(from: InMemory<'_>) -> Result<Model, LoadError> {
    let mut warnings = Vec::new();
    let config = read_config(from.config, CONFIG)?;
    let tokenizer = from
        .tokenizer
        .map(|json| read_tokenizer(json, &config, TOKENIZER, &mut warnings))
        .transpose()?;
    let bytes_on_disk = from.weights.as_slice().len() as u64;
    let stored = read_weights(from.weights, WEIGHTS)?;
    let ingredients = Ingredients {
        name: from.name.into(),
        source: from.source,
        config,
        weights_name: WEIGHTS.into(),
        stored,
        bytes_on_disk,
        tokenizer: tokenizer.flatten(),
        card: from.card.map(without_front_matter),
        warnings,
    };
    assemble(ingredients, &unhurried)
}

/// For a load that nobody watches.
pub fn unhurried(_: f32) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn read_config(text: &str, file: &str) -> Result<Config, LoadError> {
    Config::from_json(text).map_err(|source| LoadError::Config {
        file: file.into(),
        source: Box::new(source),
    })
}

/// The tokenizer, if it fits the model; `None` and a warning if it is of a kind that is not supported.
fn read_tokenizer(
    json: &str,
    config: &Config,
    file: &str,
    warnings: &mut Vec<String>,
) -> Result<Option<Tokenizer>, LoadError> {
    let tokenizer = match Tokenizer::from_json(json) {
        Ok(tokenizer) => tokenizer,
        Err(unsupported @ TokenizerError::Unsupported { .. }) => {
            warnings.push(format!(
                "{file}: {unsupported} Texts are shown as token ids."
            ));
            return Ok(None);
        }
        Err(source) => {
            return Err(LoadError::Tokenizer {
                file: file.into(),
                source,
            });
        }
    };
    let (ids, vocab_size) = (tokenizer.len(), config.vocab_size);
    if ids > vocab_size {
        return Err(LoadError::TokenizerTooLarge {
            file: file.into(),
            largest: ids - 1,
            vocab_size,
        });
    }
    if ids < vocab_size.div_ceil(2) {
        warnings.push(format!(
            "{file} has {ids} ids, less than half of the model's {vocab_size}: it may belong to another model."
        ));
    }
    Ok(Some(tokenizer))
}

/// The tensors of one weight file by name.
fn read_weights(bytes: Bytes, file: &str) -> Result<BTreeMap<String, Stored>, LoadError> {
    let entries = safetensors::read_header(bytes.as_slice());
    let entries = entries.map_err(|source| LoadError::Weights {
        file: file.into(),
        source: Box::new(source),
    })?;
    let stored = entries.into_iter().map(|entry| {
        let bytes = bytes.clone();
        (
            entry.name,
            Stored {
                bytes,
                dtype: entry.dtype,
                shape: entry.shape,
                range: entry.range,
            },
        )
    });
    Ok(stored.collect())
}

/// The tensors of a `pytorch_model.bin` by name; names of one storage share its bytes.
fn read_torch(bytes: Bytes, file: &str) -> Result<BTreeMap<String, Stored>, LoadError> {
    let entries = torch_zip::read(bytes.as_slice());
    let entries = entries.map_err(|source| LoadError::Torch {
        file: file.into(),
        source: Box::new(source),
    })?;
    let stored = entries.into_iter().map(|entry| {
        let (bytes, range) = match entry.place {
            Place::File(range) => (bytes.clone(), range),
            Place::Owned(owned) => {
                let range = 0..owned.len();
                (Bytes::Owned(owned), range)
            }
        };
        (
            entry.name,
            Stored {
                bytes,
                dtype: entry.dtype,
                shape: entry.shape,
                range,
            },
        )
    });
    Ok(stored.collect())
}

/// A model card without the settings for the hub that Hugging Face keeps at its top, between two lines `---`.
fn without_front_matter(card: &str) -> String {
    let text = card.replace("\r\n", "\n");
    let body = text
        .strip_prefix("---\n")
        .and_then(|rest| rest.split_once("\n---\n"));
    body.map_or(text.as_str(), |(_, body)| body)
        .trim_start()
        .into()
}
