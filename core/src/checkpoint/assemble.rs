//! From named ranges of bytes to a [`Model`]: names, shapes and dtypes checked, the tied head resolved, values looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};

use std::sync::Arc;

use rayon::prelude::*;
use safetensors::Dtype as StoredDtype;

use super::error::{LoadError, Problems};
use crate::model::{
    Alias, Config, FamilyEntry, Layer, Model, Parts, Shelf, Source, Stop, TensorSpec,
};
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

/// Hears how much of a load is done, 0 to 1, and may stop it.
pub type Progress<'a> = dyn Fn(f32) -> ControlFlow<()> + 'a;

/// Checks the tensors against the configuration and puts the model together.
pub(super) fn assemble(from: Ingredients, progress: &Progress<'_>) -> Result<Model, LoadError> {
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
    let mut shelf = Stores {
        stored,
        used: BTreeSet::new(),
        problems: Problems::default(),
        taken: Vec::new(),
    };
    let parts = entry.build(&config, &mut shelf);
    let Stores {
        stored,
        used,
        mut problems,
        taken,
    } = shelf;
    let parts = parts.ok().filter(|_| problems.is_empty());
    let whole = parts.and_then(|parts| resolve_head(entry, &config, parts, &mut warnings));
    let Some((embedding, head, layers, final_norm)) = whole else {
        if problems.is_empty() {
            problems.push(|| {
                let shape = [config.vocab_size, config.d_model];
                format!(
                    "{} is missing, wanted shape {shape:?}",
                    entry.embedding_name()
                )
            });
        }
        return Err(LoadError::Tensors {
            file: weights_name,
            problems,
        });
    };
    let mut extra = Problems::default();
    let left = stored.into_keys().filter(|name| !used.contains(name));
    left.for_each(|name| extra.push(|| name));
    if !extra.is_empty() {
        warnings.push(format!(
            "{weights_name} holds tensors this model does not use: {extra}."
        ));
    }
    if warn_of_non_finite(&taken, &mut warnings, progress).is_break() {
        return Err(LoadError::Cancelled { file: weights_name });
    }
    Ok(Model {
        name,
        source,
        config,
        embedding,
        layers,
        final_norm,
        head,
        tokenizer: tokenizer.map(Arc::new),
        card,
        warnings,
        bytes_on_disk,
    })
}

/// The tensors of the weight files, handed out as the family asks for them.
struct Stores {
    stored: BTreeMap<String, Stored>,
    /// Fused tensors of which parts were handed out; they stay until the last.
    used: BTreeSet<String>,
    problems: Problems,
    /// What was handed out, to be looked through once.
    taken: Vec<(String, Dtype, Stored)>,
}

/// So many tensors are wrong that it is another model's file: counting on would only cost time and memory.
const TOO_MANY: usize = 10_000;

impl Shelf for Stores {
    fn take(&mut self, spec: TensorSpec) -> Result<Tensor, Stop> {
        match self.find(spec.clone())? {
            Some(tensor) => Ok(tensor),
            None => self.note(|| missing(&spec)),
        }
    }

    fn find(&mut self, spec: TensorSpec) -> Result<Option<Tensor>, Stop> {
        let found = match self.stored.remove(&spec.name) {
            Some(found) => Some(found),
            None => match &spec.alias {
                None => None,
                Some(Alias::Named(name)) => self.stored.remove(*name),
                Some(Alias::PartOf {
                    name,
                    shape,
                    index,
                    rows,
                }) => match self.stored.get(name) {
                    None => None,
                    Some(fused) => match part_of(fused, name, shape, *index, rows) {
                        Ok(part) => {
                            self.used.insert(name.clone());
                            Some(part)
                        }
                        // Once for all the parts it should have had.
                        Err(problem) if self.used.insert(name.clone()) => {
                            return self.note(|| problem).map(Some);
                        }
                        Err(_) => return Ok(Some(Tensor::placeholder())),
                    },
                },
            },
        };
        let Some(found) = found else {
            return Ok(None);
        };
        match checked(&spec, found.clone()) {
            Ok(tensor) => {
                self.taken.push((spec.name, tensor.dtype(), found));
                Ok(Some(tensor))
            }
            Err(problem) => self.note(|| problem).map(Some),
        }
    }
}

impl Stores {
    fn note(&mut self, problem: impl FnOnce() -> String) -> Result<Tensor, Stop> {
        self.problems.push(problem);
        if self.problems.count() < TOO_MANY {
            Ok(Tensor::placeholder())
        } else {
            Err(Stop)
        }
    }
}

/// Rows of one entry of a fused tensor, where they lie.
fn part_of(
    fused: &Stored,
    name: &str,
    shape: &[usize; 3],
    index: usize,
    rows: &Range<usize>,
) -> Result<Stored, String> {
    if fused.shape != shape {
        return Err(format!(
            "{name} has shape {:?}, wanted {shape:?}",
            fused.shape
        ));
    }
    // The shape is that of the file's header, whose bytes were counted: no product can overflow.
    let row = fused.range.len() / (shape[0] * shape[1]).max(1);
    let start = fused.range.start + (index * shape[1] + rows.start) * row;
    Ok(Stored {
        bytes: fused.bytes.clone(),
        dtype: fused.dtype,
        shape: vec![rows.len(), shape[2]],
        range: start..start + rows.len() * row,
    })
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
        StoredDtype::F64 => Dtype::F64,
        // With the scales behind it, which only this program makes: a file's I8 is as long as its shape.
        StoredDtype::I8 if Dtype::Int8.bytes_of(&found.shape) == Some(found.range.len()) => {
            Dtype::Int8
        }
        other => {
            return Err(format!(
                "{} has dtype {other}, wanted F32, F16, BF16 or F64",
                spec.name
            ));
        }
    };
    Tensor::new(found.shape, dtype, found.bytes, found.range)
        .map_err(|e| format!("{}: {e}", spec.name))
}

/// Embedding, head (`None` where the embedding serves for both), blocks and last norm; `None` when neither of the first two is there.
///
/// The rule of transformers 5: one of the two missing, the other serves; both there and equal, tied; both there and
/// different, not tied, whatever the configuration says.
fn resolve_head(
    entry: &FamilyEntry,
    config: &Config,
    parts: Parts,
    warnings: &mut Vec<String>,
) -> Option<(Tensor, Option<Tensor>, Vec<Layer>, Tensor)> {
    let (embedding_name, head_name) = (entry.embedding_name(), entry.head_name());
    let mut serves_for_both = |absent: &str, serves: &str| {
        if !config.tied {
            warnings.push(format!(
                "config.json asks for a head of its own, but {absent} is missing: {serves} serves for both."
            ));
        }
    };
    let (embedding, head) = match (parts.embedding, parts.head) {
        (Some(embedding), Some(head)) if same_bytes(&embedding, &head) => (embedding, None),
        (Some(embedding), Some(head)) => {
            if config.tied {
                warnings.push(format!(
                    "config.json asks for a tied head, but {head_name} and {embedding_name} differ: each is used for its own purpose."
                ));
            }
            (embedding, Some(head))
        }
        (Some(embedding), None) => {
            serves_for_both(head_name, embedding_name);
            (embedding, None)
        }
        (None, Some(head)) => {
            serves_for_both(embedding_name, head_name);
            (head, None)
        }
        (None, None) => return None,
    };
    Some((embedding, head, parts.layers, parts.final_norm))
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
    tensors: &[(String, Dtype, Stored)],
    warnings: &mut Vec<String>,
    progress: &Progress<'_>,
) -> ControlFlow<()> {
    let total: usize = tensors
        .iter()
        .map(|(_, _, stored)| stored.range.len())
        .sum();
    let mut done = 0;
    let mut odd = Problems::default();
    for (name, dtype, stored) in tensors {
        let bytes = stored.bytes.as_slice();
        match non_finite(bytes.get(stored.range.clone()).unwrap_or(&[]), *dtype) {
            0 => {}
            1 => odd.push(|| format!("{name}: 1 value is not finite")),
            count => odd.push(|| format!("{name}: {count} values are not finite")),
        }
        done += stored.range.len();
        progress(done as f32 / total.max(1) as f32)?;
    }
    if !odd.is_empty() {
        warnings.push(format!(
            "{odd}. What the model says will not be meaningful."
        ));
    }
    ControlFlow::Continue(())
}

/// How many elements are NaN or infinite: those with every exponent bit set.
fn non_finite(raw: &[u8], dtype: Dtype) -> usize {
    // Small enough to spread over threads, and for the counts of a block to fit 32 bits.
    const BLOCK: usize = 1 << 20;
    let count = |block: &[u8]| match dtype {
        Dtype::F32 => count_set::<4>(block, |b| {
            u32::from_le_bytes(b) & 0x7f80_0000 == 0x7f80_0000
        }),
        Dtype::F16 => count_set::<2>(block, |b| u16::from_le_bytes(b) & 0x7c00 == 0x7c00),
        Dtype::Bf16 => count_set::<2>(block, |b| u16::from_le_bytes(b) & 0x7f80 == 0x7f80),
        // What does not fit f32 is infinite once it is read.
        Dtype::F64 => count_set::<8>(block, |b| !(f64::from_le_bytes(b) as f32).is_finite()),
        // Whole numbers are finite; what they were made of has been looked at.
        Dtype::Int8 => 0,
    };
    raw.par_chunks(BLOCK)
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
