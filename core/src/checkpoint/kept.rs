//! The int8 form of a checkpoint in a file beside it, [`KEPT`], put there when that is asked for, so that it need not be made again.
//!
//! A safetensors file: each matrix as I8, and behind it its scales as F32 under `name.scales`, so that the two together are the
//! bytes of the tensor in memory and are used where they lie. `__metadata__` has the format's name, and for each matrix the number
//! format and the CRC-32 of the stored one it was made from, and the CRC-32 of its own bytes. All are compared before the file is
//! used: what is damaged, or was made from other weights, is not used, and the reason is said. (A forgery with fitting sums is not
//! found, as little as a forged checkpoint.)

use std::collections::{BTreeMap, HashMap};
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};

use crc32fast::Hasher;
use rayon::prelude::*;
use safetensors::tensor::{Dtype as StoredDtype, Metadata, TensorInfo};
use thiserror::Error;

use super::error::LoadError;
use super::folder::map;
use super::safetensors::{Entry, HeaderError, read_header, read_notes};
use crate::export::{ExportError, write_safetensors};
use crate::model::{Model, Source};
use crate::tensor::{Dtype, INT8_BLOCK, Tensor, TensorError};

/// Name of the file.
pub const KEPT: &str = "mambascope-int8.safetensors";

/// What the file says it is: another layout, or other blocks, would have another name.
const FORMAT: &str = "mambascope int8, blocks of 128, version 1";
/// The key of that.
const FORMAT_KEY: &str = "format";
const _: () = assert!(INT8_BLOCK == 128, "the format's name says 128");

/// Why a model was not brought to another number format.
#[derive(Debug, Error)]
pub enum RecastError {
    /// Never for a model whose shapes were checked.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Something other than int8 was to be kept.
    #[error(
        "only the int8 form is kept in a file, not {}: ask for int8, or keep nothing", .dtype.name().to_lowercase()
    )]
    NotInt8 {
        /// What was to be kept.
        dtype: Dtype,
    },
    /// A model without a folder.
    #[error(
        "{model} is not in a folder, so there is no place beside it to keep its int8 form: keep nothing, or open a model in a folder"
    )]
    NoFolder {
        /// Its name.
        model: String,
    },
    /// A link stands where the file would be: what it leads to may be anything.
    #[error(
        "the int8 form could not be kept: {} is a link, and what it leads to would be replaced. Delete the link, or keep nothing", .file.display()
    )]
    Link {
        /// The link.
        file: PathBuf,
    },
    /// The file could not be written.
    #[error(
        "the int8 form could not be kept: {0}. Make room for that file in the folder, or keep nothing"
    )]
    Write(#[from] ExportError),
}

/// Why the file that is there is not used.
#[derive(Debug, Error)]
enum Unfit {
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    #[error("it is damaged: {0}")]
    Damaged(#[from] HeaderError),
    #[error("it says that it is {found}, wanted {FORMAT:?}")]
    Format { found: String },
    #[error("it has {found} tensors, wanted {wanted} for the matrices of this model")]
    Count { found: usize, wanted: usize },
    #[error("{name} is {found}, wanted {wanted}")]
    Matrix {
        name: String,
        found: String,
        wanted: String,
    },
    #[error(
        "it was made from other weights: {name} was {found}, and is {wanted} in the checkpoint"
    )]
    Stale {
        name: String,
        found: String,
        wanted: String,
    },
    #[error("it is damaged: {name} has the CRC-32 {found}, wanted {wanted} as when it was written")]
    Values {
        name: String,
        found: String,
        wanted: String,
    },
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// How far it is: what is done, how much, of how much; says whether to go on.
pub type Steps<'a> = dyn FnMut(&'static str, usize, usize) -> ControlFlow<()> + 'a;

/// Brings a model's matrices to a number format. Its int8 form is read from the file beside the checkpoint where that fits, and made
/// where not; with `keep` what was made is put there. What became of the file is among the model's warnings.
///
/// `None` when `progress` stopped it.
///
/// # Errors
/// When something is to be kept that is not int8, or of a model without a folder, or the file is a link or cannot be written.
pub fn recast(
    model: &Model,
    dtype: Dtype,
    keep: bool,
    progress: &mut Steps<'_>,
) -> Result<Option<Model>, RecastError> {
    let file = match &model.source {
        Source::Folder(folder) if dtype == Dtype::Int8 => Some(folder.join(KEPT)),
        _ => None,
    };
    match (&file, keep) {
        (None, true) if dtype == Dtype::Int8 => {
            let model = model.name.clone();
            return Err(RecastError::NoFolder { model });
        }
        (None, true) => return Err(RecastError::NotInt8 { dtype }),
        _ => {}
    }
    if let (Some(file), true) = (&file, keep)
        && file.is_symlink()
    {
        let file = file.clone();
        return Err(RecastError::Link { file });
    }
    let mut unfit = None;
    // A link that leads nowhere is there too, and is said.
    if let Some(file) = file
        .as_deref()
        .filter(|file| file.symlink_metadata().is_ok())
    {
        match read(model, file, progress) {
            Ok(Some(mut form)) => {
                let note = format!("The int8 form was read from {}.", file.display());
                form.warnings.push(note);
                return Ok(Some(form));
            }
            Ok(None) => return Ok(None),
            Err(reason) => unfit = Some(reason),
        }
    }
    let report =
        &mut |done, total| progress("matrices brought to another number format", done, total);
    let (mut form, went) = model.clone().recast_unless(dtype, report)?;
    if went.is_break() {
        return Ok(None);
    }
    if let Some(file) = &file {
        if keep {
            write(model, &mut form, file)?;
        }
        form.warnings.extend(said(file, unfit.as_ref(), keep));
    }
    Ok(Some(form))
}

/// What became of the file when the form was made.
fn said(file: &Path, unfit: Option<&Unfit>, kept: bool) -> Option<String> {
    let file = file.display();
    match (unfit, kept) {
        (None, false) => None,
        (None, true) => Some(format!("The int8 form was made and kept in {file}.")),
        (Some(reason), true) => Some(format!(
            "{file} was not used, for {reason}. The int8 form was made anew and kept there."
        )),
        (Some(reason), false) => Some(format!(
            "{file} was not used, for {reason}. The int8 form was made from the checkpoint: keep it again, or delete the file."
        )),
    }
}

/// The model with the matrices of the file; `None` when it was stopped.
fn read(model: &Model, file: &Path, progress: &mut Steps<'_>) -> Result<Option<Model>, Unfit> {
    let bytes = map(file).map_err(|reason| Unfit::Unreadable(without_advice(reason)))?;
    let entries = read_header(bytes.as_slice())?;
    let notes = read_notes(bytes.as_slice())?;
    match notes.get(FORMAT_KEY) {
        Some(found) if found == FORMAT => {}
        found => {
            let found = found.map_or_else(|| "nothing".to_owned(), |found| shown(found));
            return Err(Unfit::Format { found });
        }
    }
    let mut form = model.clone();
    let mut changed = form.changed_by(Dtype::Int8);
    let (found, wanted) = (entries.len(), 2 * changed.len());
    if found != wanted {
        return Err(Unfit::Count { found, wanted });
    }
    let entries = entries.into_iter().map(|entry| (entry.name.clone(), entry));
    let entries: BTreeMap<String, Entry> = entries.collect();
    let total = changed.len();
    let mut read = Vec::with_capacity(total);
    for (done, (name, matrix)) in changed.iter().enumerate() {
        if progress("matrices compared with those of the int8 file", done, total).is_break() {
            return Ok(None);
        }
        let range = place(&entries, name, matrix.shape())?;
        let tensor = Tensor::new(matrix.shape().to_vec(), Dtype::Int8, bytes.clone(), range)?;
        check(name, matrix, &tensor, notes.get(name))?;
        read.push(tensor);
    }
    for ((_, matrix), tensor) in changed.iter_mut().zip(read) {
        **matrix = tensor;
    }
    drop(changed);
    Ok(Some(form))
}

/// What was wrong, without what a person who picked a checkpoint should do.
fn without_advice(error: LoadError) -> String {
    match error {
        LoadError::NotAFile { .. } => "it is not a regular file".to_owned(),
        LoadError::NotFound { .. } => "it is a link that leads nowhere".to_owned(),
        LoadError::Permission { .. } => "permission denied".to_owned(),
        LoadError::Io { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}

/// Where a matrix and its scales lie: one behind the other.
fn place(
    entries: &BTreeMap<String, Entry>,
    name: &str,
    shape: &[usize],
) -> Result<Range<usize>, Unfit> {
    let wrong = |name: &str, found: String, wanted: String| Unfit::Matrix {
        name: name.to_owned(),
        found,
        wanted,
    };
    let find = |name: &str, dtype: StoredDtype, shape: &[usize]| match entries.get(name) {
        Some(entry) if entry.dtype == dtype && entry.shape == shape => Ok(entry.range.clone()),
        found => {
            let found = found.map_or_else(
                || "missing".to_owned(),
                |entry| format!("{} {:?}", entry.dtype, entry.shape),
            );
            Err(wrong(name, found, format!("{dtype} {shape:?}")))
        }
    };
    let q = find(name, StoredDtype::I8, shape)?;
    let behind = scales_of(name);
    let scales = find(&behind, StoredDtype::F32, &shape_of_scales(shape))?;
    if scales.start != q.end {
        let found = format!("at byte {}", scales.start);
        let wanted = format!("{}, behind {name}", q.end);
        return Err(wrong(&behind, found, wanted));
    }
    Ok(q.start..scales.end)
}

/// Whether it was made from this matrix, and is what was made.
fn check(name: &str, stored: &Tensor, kept: &Tensor, note: Option<&String>) -> Result<(), Unfit> {
    let note = note.map_or("", String::as_str);
    let Some((source, own)) = note.split_once(", ") else {
        return Err(Unfit::Matrix {
            name: format!("what it says of {name}"),
            found: shown(note),
            wanted: "a number format and two CRC-32".to_owned(),
        });
    };
    let wanted = source_note(stored);
    if source != wanted {
        return Err(Unfit::Stale {
            name: name.to_owned(),
            found: shown(source),
            wanted,
        });
    }
    let found = crc32(kept.raw());
    if own != found {
        return Err(Unfit::Values {
            name: name.to_owned(),
            found,
            wanted: shown(own),
        });
    }
    Ok(())
}

/// Writes the file, or nothing.
fn write(model: &Model, form: &mut Model, file: &Path) -> Result<(), ExportError> {
    let mut stored = model.clone();
    let mut notes = HashMap::from([(FORMAT_KEY.to_owned(), FORMAT.to_owned())]);
    let (mut infos, mut end) = (Vec::new(), 0);
    let mut form = form.matrices_mut();
    form.retain(|(_, matrix)| matrix.dtype() == Dtype::Int8);
    for ((name, stored), (_, kept)) in stored.changed_by(Dtype::Int8).into_iter().zip(&form) {
        notes.insert(
            name.clone(),
            format!("{}, {}", source_note(stored), crc32(kept.raw())),
        );
        let shape = kept.shape().to_vec();
        let (scales, values_end) = (shape_of_scales(&shape), end + kept.len());
        let mut add = |name, dtype, shape, data_offsets| {
            infos.push((
                name,
                TensorInfo {
                    dtype,
                    shape,
                    data_offsets,
                },
            ));
        };
        add(name.clone(), StoredDtype::I8, shape, (end, values_end));
        end += kept.byte_len();
        add(
            scales_of(&name),
            StoredDtype::F32,
            scales,
            (values_end, end),
        );
    }
    write_safetensors(file, Metadata::new(Some(notes), infos), |out| {
        form.iter()
            .try_for_each(|(_, matrix)| out.write_all(matrix.raw()))
    })
}

fn scales_of(name: &str) -> String {
    format!("{name}.scales")
}

/// A row of scales for each row of the matrix.
fn shape_of_scales(shape: &[usize]) -> Vec<usize> {
    let width = shape.last().copied().unwrap_or(0);
    vec![
        shape.first().copied().unwrap_or(0),
        width.div_ceil(INT8_BLOCK),
    ]
}

/// What identifies a stored matrix: its number format, and the CRC-32 of its bytes.
fn source_note(stored: &Tensor) -> String {
    format!("{} {}", stored.dtype().name(), crc32(stored.raw()))
}

/// By all threads: the blocks' sums are combined to that of the whole.
fn crc32(bytes: &[u8]) -> String {
    const BLOCK: usize = 1 << 20;
    let sum = |block: &[u8]| {
        let mut hasher = Hasher::new();
        hasher.update(block);
        hasher
    };
    let blocks: Vec<Hasher> = bytes.par_chunks(BLOCK).map(sum).collect();
    let mut whole = Hasher::new();
    blocks.iter().for_each(|block| whole.combine(block));
    format!("{:08x}", whole.finalize())
}

/// Something from a file as a sentence shows it, shortened.
fn shown(text: &str) -> String {
    const SHOWN: usize = 60;
    let start: String = text.chars().take(SHOWN).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    format!("{start:?}{more}")
}
