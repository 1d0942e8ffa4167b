//! The weight file of the original repositories, `pytorch_model.bin`: a zip archive that torch wrote.
//!
//! Layout: `<prefix>/data.pkl`, a pickle of `{name: tensor}`; `<prefix>/data/<key>`, the numbers of one storage each, not
//! compressed; `<prefix>/byteorder`. A tensor of the pickle is a view: storage, offset, size, stride, all in elements.
//! Contiguous views are used where they lie in the file, so that two names of one storage share its bytes; others are
//! copied into order once.

mod archive;
mod error;
#[cfg(test)]
mod tests;
mod view;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use safetensors::Dtype;

use super::pickle::{self, Global, Pickle, Value};

pub use error::{Damage, TorchError};

use archive::Archive;
use view::View;

/// Keys under which training scripts keep the tensors.
const NESTED: [&str; 2] = ["model", "state_dict"];
/// The most files an archive may list, and the most tensors a pickle may name.
const MAX_ENTRIES: usize = 1 << 17;
const MAX_AXES: usize = 8;

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub place: Place,
}

/// Where the bytes of a tensor are, row-major and little-endian, exactly its shape's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Bytes of the file.
    File(Range<usize>),
    /// Put in order here.
    Owned(Arc<[u8]>),
}

/// The tensors of a torch file, in the order of its pickle.
///
/// # Errors
/// When it is something else, damaged, or asks for more than tensors.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Entry>, TorchError> {
    let archive = Archive::open(bytes)?;
    let pickle = pickle::read(archive.pickle)?;
    let items = state_dict(&pickle)?;
    if items.len() > MAX_ENTRIES {
        let (found, most) = (items.len(), MAX_ENTRIES);
        return Err(Damage::TooManyTensors { found, most }.into());
    }
    let mut reader = Reader {
        archive: &archive,
        pickle: &pickle,
        copied: 0,
    };
    let mut names = HashSet::new();
    let mut entries = Vec::new();
    for &(key, value) in items {
        let Some(name) = pickle.text(key) else {
            let found = pickle.kind(key);
            return Err(Damage::NotAName { found }.into());
        };
        if !names.insert(name) {
            let tensor = name.into();
            return Err(Damage::SameName { tensor }.into());
        }
        entries.push(reader.tensor(name, value)?);
    }
    Ok(entries)
}

/// The dict from name to tensor: the pickle's value, or one level below it.
fn state_dict<'p>(pickle: &'p Pickle<'_>) -> Result<&'p [(Value, Value)], TorchError> {
    let root = pickle.root();
    let items = pickle.dict(root).ok_or(TorchError::NotStateDict {
        found: pickle.kind(root),
    })?;
    let nested = NESTED.iter().find_map(|&wanted| {
        let (_, value) = items
            .iter()
            .find(|(key, _)| pickle.text(*key) == Some(wanted))?;
        pickle.dict(*value)
    });
    let items = nested.unwrap_or(items);
    let has_tensor = items.iter().any(
        |(_, value)| matches!(pickle.call(*value), Some((global, _)) if global != Global::Idle),
    );
    if !has_tensor {
        return Err(TorchError::NotStateDict {
            found: "a dict without tensors",
        });
    }
    Ok(items)
}

/// Makes entries of the pickle's tensors.
struct Reader<'r, 'a> {
    archive: &'r Archive<'a>,
    pickle: &'r Pickle<'a>,
    /// Bytes put in order so far.
    copied: usize,
}

/// The numbers that views look at.
struct Storage {
    dtype: Dtype,
    /// Bytes of an element.
    width: usize,
    elements: usize,
    range: Range<usize>,
}

impl Reader<'_, '_> {
    fn tensor(&mut self, name: &str, value: Value) -> Result<Entry, Damage> {
        let args = self.tensor_args(name, value)?;
        let [storage, offset, size, stride, ..] = args else {
            return Err(wrong(
                name,
                "the call",
                "one of too few arguments".into(),
                "storage, offset, size and stride",
            ));
        };
        // Behind hooks may stand flags, such as of a negation that was not carried out.
        if let Some(flags) = args.get(6)
            && *flags != Value::None
        {
            let found = self.pickle.kind(*flags).into();
            return Err(wrong(name, "the call", found, "nothing after the hooks"));
        }
        let storage = self.storage(name, *storage)?;
        let view = View::new(
            name,
            self.number(name, "the offset", *offset)?,
            self.numbers(name, "the size", *size)?,
            self.numbers(name, "the stride", *stride)?,
            storage.elements,
        )?;
        let place = if view.is_contiguous() {
            let start = storage.range.start + view.offset * storage.width;
            Place::File(start..start + view.elements * storage.width)
        } else {
            Place::Owned(self.gather(name, &storage, &view)?)
        };
        Ok(Entry {
            name: name.into(),
            dtype: storage.dtype,
            shape: view.size,
            place,
        })
    }

    /// The arguments a tensor is rebuilt from, be it plain or a parameter.
    fn tensor_args(&self, name: &str, value: Value) -> Result<&[Value], Damage> {
        let mut inner = value;
        if let Some((Global::RebuildParameter, [tensor, ..])) = self.pickle.call(value) {
            inner = *tensor;
        }
        match self.pickle.call(inner) {
            Some((Global::RebuildTensor, args)) => Ok(args),
            _ => Err(wrong(
                name,
                "its value",
                self.pickle.kind(inner).into(),
                "a tensor",
            )),
        }
    }

    /// The storage a persistent id names: `("storage", class, key, device, elements)`.
    fn storage(&self, name: &str, value: Value) -> Result<Storage, Damage> {
        let wrong_storage = |found: Value, wanted| {
            wrong(name, "the storage", self.pickle.kind(found).into(), wanted)
        };
        let id = self
            .pickle
            .persistent(value)
            .ok_or_else(|| wrong_storage(value, "a storage"))?;
        let Some([tag, class, key, _, elements]) = self.pickle.tuple(id) else {
            return Err(wrong_storage(id, "a tuple of five"));
        };
        if self.pickle.text(*tag) != Some("storage") {
            return Err(wrong_storage(*tag, "the text `storage`"));
        }
        let Value::Global(Global::Storage(Some(dtype))) = *class else {
            return Err(wrong_storage(
                *class,
                "a class that says its dtype, such as FloatStorage",
            ));
        };
        let key = self
            .pickle
            .text(*key)
            .ok_or_else(|| wrong_storage(*key, "the text of a key"))?;
        let elements = self.number(name, "the length of the storage", *elements)?;
        let file = format!("{}/data/{key}", self.archive.prefix);
        let width = dtype.bitsize().div_ceil(8);
        match self.archive.files.get(&file) {
            None => Err(Damage::NoStorage {
                tensor: name.into(),
                file,
            }),
            Some(range) if elements.checked_mul(width) == Some(range.len()) => Ok(Storage {
                dtype,
                width,
                elements,
                range: range.clone(),
            }),
            Some(range) => Err(Damage::StorageLength {
                tensor: name.into(),
                file,
                elements,
                dtype: dtype.to_string(),
                found: range.len(),
            }),
        }
    }

    fn number(&self, name: &str, field: &'static str, value: Value) -> Result<usize, Damage> {
        const WANTED: &str = "a whole number from 0";
        match value {
            Value::Int(n) => {
                usize::try_from(n).map_err(|_| wrong(name, field, n.to_string(), WANTED))
            }
            other => Err(wrong(name, field, self.pickle.kind(other).into(), WANTED)),
        }
    }

    fn numbers(&self, name: &str, field: &'static str, value: Value) -> Result<Vec<usize>, Damage> {
        const WANTED: &str = "a tuple of at most 8 whole numbers";
        let items = self.pickle.tuple(value);
        let items =
            items.ok_or_else(|| wrong(name, field, self.pickle.kind(value).into(), WANTED))?;
        if items.len() > MAX_AXES {
            return Err(wrong(
                name,
                field,
                format!("a tuple of {}", items.len()),
                WANTED,
            ));
        }
        items
            .iter()
            .map(|&item| self.number(name, field, item))
            .collect()
    }

    /// The elements of a view in order. Views larger than their storage, and more copies than the file is long, are
    /// refused: a small file must not fill the memory.
    fn gather(&mut self, name: &str, storage: &Storage, view: &View) -> Result<Arc<[u8]>, Damage> {
        if view.elements > storage.elements {
            return Err(Damage::Repeats {
                tensor: name.into(),
                size: view.size.clone(),
                elements: storage.elements,
            });
        }
        let length = view.elements * storage.width;
        let whole = self.archive.bytes;
        self.copied = self
            .copied
            .checked_add(length)
            .filter(|&copied| copied <= whole.len())
            .ok_or_else(|| Damage::Copies {
                tensor: name.into(),
            })?;
        let source = whole.get(storage.range.clone()).unwrap_or_default();
        let mut ordered = Vec::with_capacity(length);
        view.for_each(|element| {
            let start = element * storage.width;
            ordered.extend_from_slice(source.get(start..start + storage.width).unwrap_or_default());
        });
        Ok(ordered.into())
    }
}

fn wrong(tensor: &str, field: &'static str, found: String, wanted: &'static str) -> Damage {
    Damage::Field {
        tensor: tensor.into(),
        field,
        found,
        wanted,
    }
}
