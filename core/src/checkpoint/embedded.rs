//! The model compiled into the program, so that there is one to look at before anything is downloaded.

use super::error::LoadError;
use super::{InMemory, load_in_memory};
use crate::model::{Model, Source};
use crate::tensor::Bytes;

macro_rules! asset {
    ($file:literal) => {
        concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../assets/models/novel-mamba-3m/",
            $file
        )
    };
}

/// Its name, on every screen.
const NAME: &str = "novel-mamba-3m";

/// Puts the bytes at an address any element can be read from; `include_bytes!` promises none.
#[repr(align(64))]
struct Aligned<T: ?Sized>(T);

static WEIGHTS: &Aligned<[u8]> = &Aligned(*include_bytes!(asset!("model.safetensors")));

/// The embedded model, checked as any other.
///
/// # Errors
/// None, unless the program was built with damaged assets; a test loads it.
pub fn embedded() -> Result<Model, LoadError> {
    load_in_memory(InMemory {
        name: NAME,
        source: Source::Embedded,
        config: include_str!(asset!("config.json")),
        weights: Bytes::Static(&WEIGHTS.0),
        tokenizer: Some(include_str!(asset!("tokenizer.json"))),
        card: Some(include_str!(asset!("MODEL_CARD.md"))),
    })
}
