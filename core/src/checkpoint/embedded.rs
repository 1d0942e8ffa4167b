//! The models compiled into the program, so that there is something to look at, and to compare, before anything is downloaded.

use super::error::LoadError;
use super::{InMemory, load_in_memory};
use crate::model::{Model, Source};
use crate::tensor::Bytes;

/// Puts the bytes at an address any element can be read from; `include_bytes!` promises none.
#[repr(align(64))]
struct Aligned<T: ?Sized>(T);

/// A model compiled into the program.
pub struct Embedded {
    /// Its name, on every screen and on the command line.
    pub name: &'static str,
    config: &'static str,
    weights: &'static Aligned<[u8]>,
    tokenizer: &'static str,
    card: &'static str,
}

macro_rules! asset {
    ($name:literal, $file:literal) => {
        concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../assets/models/",
            $name,
            "/",
            $file
        )
    };
}

macro_rules! embedded {
    ($name:literal) => {
        Embedded {
            name: $name,
            config: include_str!(asset!($name, "config.json")),
            weights: {
                static WEIGHTS: &Aligned<[u8]> =
                    &Aligned(*include_bytes!(asset!($name, "model.safetensors")));
                WEIGHTS
            },
            tokenizer: include_str!(asset!($name, "tokenizer.json")),
            card: include_str!(asset!($name, "MODEL_CARD.md")),
        }
    };
}

/// Four siblings of one size class: the same corpus, tokenizer, tokens, batch and learning rate. The first is the default.
pub static EMBEDDED: [Embedded; 4] = [
    embedded!("novel-mamba-3m"),
    embedded!("novel-mamba2-3m"),
    embedded!("novel-jamba-4m"),
    embedded!("novel-transformer-4m"),
];

impl Embedded {
    /// The one of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        EMBEDDED.iter().find(|embedded| embedded.name == name)
    }

    /// The model, checked as any other.
    ///
    /// # Errors
    /// None, unless the program was built with damaged assets; a test loads all four.
    pub fn load(&self) -> Result<Model, LoadError> {
        load_in_memory(InMemory {
            name: self.name,
            source: Source::Embedded,
            config: self.config,
            weights: Bytes::Static(&self.weights.0),
            tokenizer: Some(self.tokenizer),
            card: Some(self.card),
        })
    }
}

/// The default model.
///
/// # Errors
/// As [`Embedded::load`].
pub fn embedded() -> Result<Model, LoadError> {
    EMBEDDED[0].load()
}
