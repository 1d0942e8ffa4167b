//! What can be wrong with a checkpoint, in sentences for the person who picked it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::safetensors::HeaderError;
use super::torch_zip::TorchError;
use crate::model::ConfigError;
use crate::tokenizer::TokenizerError;

/// How many problems or tensors a message names before it counts the rest.
pub(super) const NAMED: usize = 8;

/// Why a checkpoint was not loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// Nothing was chosen.
    #[error(
        "no folder was given. Choose the folder of a checkpoint: it has a config.json and a model.safetensors."
    )]
    EmptyPath,
    /// The path leads nowhere.
    #[error("{} does not exist. It may have been moved or deleted: choose it again.", .path.display())]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// The path may not be read.
    #[error("{} may not be read: permission denied. Change its permissions, or copy the checkpoint elsewhere.", .path.display())]
    Permission {
        /// The path.
        path: PathBuf,
    },
    /// The operating system failed to read.
    #[error("{} could not be read: {source}. Check the disk or the network drive, then try again.", .path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A device, a pipe or a folder where a file should be.
    #[error("{} is not a regular file. Choose the folder of a checkpoint on disk.", .path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A file that is no part of a checkpoint.
    #[error("{} is no checkpoint. Choose a folder, a config.json, a .safetensors file or a pytorch_model.bin.", .path.display())]
    NotACheckpoint {
        /// The path.
        path: PathBuf,
    },
    /// A folder without `config.json`.
    #[error("{} has no config.json. Choose the folder that holds config.json and model.safetensors.", .folder.display())]
    NoConfig {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder without weights.
    #[error("{} has no model.safetensors and no pytorch_model.bin. Download the weights into the same folder as config.json.", .folder.display())]
    NoWeights {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder with weights in several torch files.
    #[error(
        "{} has its weights in several torch files ({found}), which are not read: convert them to safetensors, or use a \
         repository that has model.safetensors.", .folder.display()
    )]
    TorchShards {
        /// The folder.
        folder: PathBuf,
        /// The list of the files.
        found: &'static str,
    },
    /// A torch file that cannot be used.
    #[error("{file}: {source}.")]
    Torch {
        /// The file.
        file: String,
        /// What is wrong with it.
        source: Box<TorchError>,
    },
    /// A file far larger than its kind.
    #[error("{} has {found} bytes, wanted at most {limit}. Is it really what its name says?", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        found: u64,
        /// The most that is read.
        limit: usize,
    },
    /// A text file that is not text.
    #[error("{} is not UTF-8 text. Download it again.", .path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// A configuration that cannot be used.
    #[error("{file}: {source}")]
    Config {
        /// The file.
        file: String,
        /// What is wrong with it.
        source: Box<ConfigError>,
    },
    /// A list of shards that cannot be used.
    #[error("{file}: {problem}. Download it again.")]
    Index {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A weight file that is damaged.
    #[error(
        "{file}: {source}. The file is damaged or was not downloaded completely: download it again."
    )]
    Weights {
        /// The file.
        file: String,
        /// What is wrong with it.
        source: Box<HeaderError>,
    },
    /// Weights that are not those of the configuration.
    #[error(
        "{file} does not fit config.json: {problems}. Config and weights must come from the same checkpoint: download both again."
    )]
    Tensors {
        /// The weight file, or the folder of several.
        file: String,
        /// Tensors that are missing or wrong, each with what was wanted and found.
        problems: Problems,
    },
    /// Whoever asked did not want it any more.
    #[error("{file} was not opened: loading was stopped.")]
    Cancelled {
        /// The weight file, or the folder of several.
        file: String,
    },
    /// A tokenizer that cannot be used.
    #[error("{file}: {source}")]
    Tokenizer {
        /// The file.
        file: String,
        /// What is wrong with it.
        source: TokenizerError,
    },
    /// A tokenizer with ids the model has no row for.
    #[error(
        "{file}: the largest token id is {largest}, but the model's vocabulary has {vocab_size} rows (ids 0 to {}). \
         It belongs to another model: download the tokenizer.json of this checkpoint, or remove it to work with ids.",
        .vocab_size - 1
    )]
    TokenizerTooLarge {
        /// The file.
        file: String,
        /// The tokenizer's largest id.
        largest: usize,
        /// Rows of the embedding.
        vocab_size: usize,
    },
}

/// The first few of a list, in words, and how many there are.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Problems {
    named: Vec<String>,
    more: usize,
}

impl Problems {
    /// Adds one, in words once there is room for them.
    pub(super) fn push(&mut self, describe: impl FnOnce() -> String) {
        if self.named.len() < NAMED {
            self.named.push(describe());
        } else {
            self.more += 1;
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// How many there are, named or not.
    pub fn count(&self) -> usize {
        self.named.len() + self.more
    }
}

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.named.join("; "))?;
        if self.more > 0 {
            write!(f, "; and {} more", self.more)?;
        }
        Ok(())
    }
}
