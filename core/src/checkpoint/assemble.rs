//! From named ranges of bytes to a [`Model`]: names, shapes and dtypes checked, the tied head resolved, values looked at.

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;
use safetensors::Dtype as StoredDtype;

use super::error::{LoadError, Problems};
use crate::model::{Config, FamilyEntry, Model, Need, Source, TensorSpec};
use crate::tensor::{Bytes, Dtype, Tensor};
use crate::tokenizer::Tokenizer;

/// A tensor of a weight file, not yet looked at.
#[derive(Clone)]
pub(super) struct Stored {
    pub bytes: Bytes,
    pub dtype: StoredDtype,
    pub shape: Vec<usize>,
    pub range: Range<usize>,
}

/// Everything a model is made of.
pub(super) struct Ingredients {
    pub name: String,
    pub source: Source,
    pub config: Config,
    /// What errors call the weights.
    pub weights_name: String,
    pub stored: BTreeMap<String, Stored>,
    pub bytes_on_disk: u64,
    pub tokenizer: Option<Tokenizer>,
    pub card: Option<String>,
    pub warnings: Vec<String>,
}

/// Checks the tensors against the configuration and puts the model together.
pub(super) fn assemble(from: Ingredients, progress: &dyn Fn(f32)) -> Result<Model, LoadError> {
    let Ingredients {
        name,
        source,
        config,
        weights_name,
        stored,
        bytes_on_disk,
        tokenizer,
        card,
        mut warnings,
    } = from;
    let entry = config.family.entry();
    let mut tensors = pick(entry, &config, stored, &weights_name, &mut warnings)?;
    warn_of_non_finite(&tensors, &mut warnings, progress);
    let head = resolve_head(entry, &config, &mut tensors, &mut warnings);
    let parts = entry.build(&config, &mut tensors).map_err(|missing| {
        let mut problems = Problems::default();
        problems.push(|| format!("{} is missing", missing.0));
        LoadError::Tensors {
            file: weights_name,
            problems,
        }
    })?;
    progress(1.0);
    Ok(Model {
        name,
        source,
        config,
        embedding: parts.embedding,
        layers: parts.layers,
        final_norm: parts.final_norm,
        head,
        tokenizer,
        card,
        warnings,
        bytes_on_disk,
    })
}

/// The tensors the configuration asks for, under their Hugging Face names. What is left over becomes a warning.
fn pick(
    entry: &FamilyEntry,
    config: &Config,
    mut stored: BTreeMap<String, Stored>,
    weights_name: &str,
    warnings: &mut Vec<String>,
) -> Result<BTreeMap<String, Tensor>, LoadError> {
    let mut problems = Problems::default();
    let mut tensors = BTreeMap::new();
    let mut absent_pair = Vec::new();
    for spec in entry.tensors(config) {
        let found = stored
            .remove(&spec.name)
            .or_else(|| spec.alias.and_then(|alias| stored.remove(alias)));
        match found {
            Some(found) => match checked(&spec, found) {
                Ok(tensor) => drop(tensors.insert(spec.name, tensor)),
                Err(problem) => problems.push(|| problem),
            },
            None if spec.need == Need::TiedPair => absent_pair.push(spec),
            None => problems.push(|| missing(&spec)),
        }
    }
    if let [embedding, _head] = absent_pair.as_slice() {
        problems.push(|| missing(embedding));
    }
    if !problems.is_empty() {
        return Err(LoadError::Tensors {
            file: weights_name.into(),
            problems,
        });
    }
    if !stored.is_empty() {
        let mut extra = Problems::default();
        stored.into_keys().for_each(|name| extra.push(|| name));
        warnings.push(format!(
            "{weights_name} holds tensors this model does not use: {extra}."
        ));
    }
    Ok(tensors)
}

fn missing(spec: &TensorSpec) -> String {
    format!("{} is missing, wanted shape {:?}", spec.name, spec.shape)
}

/// The tensor, if its shape and dtype are those wanted; else what is wrong with it.
fn checked(spec: &TensorSpec, found: Stored) -> Result<Tensor, String> {
    if found.shape != spec.shape {
        return Err(format!(
            "{} has shape {:?}, wanted {:?}",
            spec.name, found.shape, spec.shape
        ));
    }
    let dtype = match found.dtype {
        StoredDtype::F32 => Dtype::F32,
        StoredDtype::F16 => Dtype::F16,
        StoredDtype::BF16 => Dtype::Bf16,
        other => {
            return Err(format!(
                "{} has dtype {other}, wanted F32, F16 or BF16",
                spec.name
            ));
        }
    };
    Tensor::new(found.shape, dtype, found.bytes, found.range)
        .map_err(|e| format!("{}: {e}", spec.name))
}

/// Which tensor the head is: `None` where the embedding serves for both.
///
/// The rule of transformers 5: one of the two missing, the other serves; both there and equal, tied; both there and
/// different, not tied, whatever the configuration says.
fn resolve_head(
    entry: &FamilyEntry,
    config: &Config,
    tensors: &mut BTreeMap<String, Tensor>,
    warnings: &mut Vec<String>,
) -> Option<Tensor> {
    let (embedding_name, head_name) = (entry.embedding_name(), entry.head_name());
    let head = tensors.remove(head_name);
    let absent = match (tensors.get(embedding_name), &head) {
        (Some(embedding), Some(head)) => {
            if same_bytes(embedding, head) {
                return None;
            }
            None
        }
        (None, Some(_)) => Some((embedding_name, head_name)),
        _ => Some((head_name, embedding_name)),
    };
    match absent {
        None if config.tied => warnings.push(format!(
            "config.json asks for a tied head, but {head_name} and {embedding_name} differ: each is used for its own purpose."
        )),
        Some((absent, serves)) if !config.tied => warnings.push(format!(
            "config.json asks for a head of its own, but {absent} is missing: {serves} serves for both."
        )),
        _ => {}
    }
    match absent {
        None => head,
        Some(_) => {
            if let Some(head) = head {
                tensors.insert(embedding_name.into(), head);
            }
            None
        }
    }
}

fn same_bytes(a: &Tensor, b: &Tensor) -> bool {
    const BLOCK: usize = 1 << 20;
    a.dtype() == b.dtype()
        && a.byte_len() == b.byte_len()
        && a.raw()
            .par_chunks(BLOCK)
            .zip(b.raw().par_chunks(BLOCK))
            .all(|(a, b)| a == b)
}

/// Counts NaN and infinite weights. This reads every byte once, so it is where the time of loading goes.
fn warn_of_non_finite(
    tensors: &BTreeMap<String, Tensor>,
    warnings: &mut Vec<String>,
    progress: &dyn Fn(f32),
) {
    let total: usize = tensors.values().map(Tensor::byte_len).sum();
    let mut done = 0;
    let mut odd = Problems::default();
    for (name, tensor) in tensors {
        match non_finite(tensor) {
            0 => {}
            1 => odd.push(|| format!("{name}: 1 value is not finite")),
            count => odd.push(|| format!("{name}: {count} values are not finite")),
        }
        done += tensor.byte_len();
        progress(done as f32 / total.max(1) as f32);
    }
    if !odd.is_empty() {
        warnings.push(format!(
            "{odd}. What the model says will not be meaningful."
        ));
    }
}

/// How many elements are NaN or infinite: those with every exponent bit set.
fn non_finite(tensor: &Tensor) -> usize {
    // Small enough to spread over threads, and for the counts of a block to fit 32 bits.
    const BLOCK: usize = 1 << 20;
    let count = |block: &[u8]| match tensor.dtype() {
        Dtype::F32 => count_set::<4>(block, |b| {
            u32::from_le_bytes(b) & 0x7f80_0000 == 0x7f80_0000
        }),
        Dtype::F16 => count_set::<2>(block, |b| u16::from_le_bytes(b) & 0x7c00 == 0x7c00),
        Dtype::Bf16 => count_set::<2>(block, |b| u16::from_le_bytes(b) & 0x7f80 == 0x7f80),
    };
    tensor
        .raw()
        .par_chunks(BLOCK)
        .map(|block| count(block) as usize)
        .sum()
}

fn count_set<const N: usize>(block: &[u8], is_set: impl Fn([u8; N]) -> bool) -> u32 {
    block
        .as_chunks::<N>()
        .0
        .iter()
        .map(|&element| u32::from(is_set(element)))
        .sum()
}
