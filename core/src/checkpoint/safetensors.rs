//! The header of a safetensors file: where each tensor lies.
//!
//! Layout: 8 bytes little-endian, the length of the header; the header, JSON `{name: {dtype, shape, data_offsets}}`;
//! then the data, which the tensors cover without gap or overlap. The `safetensors` crate reads it; the checks here come
//! first and name the tensor, which its errors mostly do not.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;

use safetensors::{Dtype, SafeTensors};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use thiserror::Error;

/// The most bytes a header may have: a hundred thousand tensors' worth, and little enough to hold as a tree.
const MAX_HEADER_BYTES: u64 = 16 << 20;
const LENGTH_BYTES: usize = 8;
/// The entry of a header that is no tensor.
const METADATA: &str = "__metadata__";

/// What is wrong with a safetensors file.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum HeaderError {
    /// Not even the length of a header.
    #[error("the file has {found} bytes, wanted at least 8 for the length of its header")]
    TooShort {
        /// Bytes there are.
        found: usize,
    },
    /// A header longer than the file, or than any header.
    #[error("the header is said to have {found} bytes, wanted at most {most}")]
    HeaderLength {
        /// The length the file gives.
        found: u64,
        /// The most it could be.
        most: u64,
    },
    /// A header that is not JSON, or no object.
    #[error("the header is not valid JSON: {reason}")]
    Json {
        /// What the parser says.
        reason: String,
    },
    /// Two entries of one name, of which a reader would see one.
    #[error("tensor {tensor:?} is listed twice")]
    Twice {
        /// The tensor.
        tensor: String,
    },
    /// An entry without one of its three fields, or with something else in it.
    #[error("tensor {tensor:?}: `{field}` is {found}, wanted {wanted}")]
    Entry {
        /// The tensor.
        tensor: String,
        /// dtype, shape or data_offsets.
        field: &'static str,
        /// What it is, shortened.
        found: String,
        /// What would have been accepted.
        wanted: String,
    },
    /// More elements than can be counted.
    #[error("tensor {tensor:?}: the shape {shape:?} has more elements than can be counted")]
    Overflow {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A range that does not hold the shape.
    #[error(
        "tensor {tensor:?}: shape {shape:?} in {dtype} takes {wanted} bytes, but its offsets span {found}"
    )]
    Length {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Its dtype.
        dtype: String,
        /// Bytes the shape takes.
        wanted: usize,
        /// Bytes between the offsets.
        found: usize,
    },
    /// A tensor that does not begin where the one before it ends.
    #[error(
        "tensor {tensor:?} begins at byte {found} of the data, wanted {wanted}, where the tensor before it ends"
    )]
    Gap {
        /// The tensor.
        tensor: String,
        /// Where the tensor before it ends.
        wanted: usize,
        /// Where it begins.
        found: usize,
    },
    /// Tensors that end before or behind the end of the file.
    #[error("the tensors take {wanted} bytes, but the file has {found} behind its header")]
    DataLength {
        /// Bytes the tensors take.
        wanted: usize,
        /// Bytes there are.
        found: usize,
    },
    /// Something the `safetensors` crate refuses beyond all this.
    #[error("the header is not valid: {reason}")]
    Other {
        /// What the crate says.
        reason: String,
    },
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Bytes of the file.
    pub range: Range<usize>,
}

/// The tensors of a file, in the order of their bytes. Every range lies in `bytes` and holds exactly its shape.
pub(super) fn read_header(bytes: &[u8]) -> Result<Vec<Entry>, HeaderError> {
    let (header, data_start) = split_header(bytes)?;
    let mut entries = Vec::new();
    for (name, value) in parse(header)? {
        if name != METADATA {
            entries.push(entry(name, &value, data_start)?);
        }
    }
    entries.sort_by(|a, b| {
        (a.range.start, a.range.end, &a.name).cmp(&(b.range.start, b.range.end, &b.name))
    });
    check_cover(&entries, data_start, bytes.len())?;
    SafeTensors::read_metadata(bytes).map_err(|e| HeaderError::Other {
        reason: e.to_string(),
    })?;
    Ok(entries)
}

/// What a file that [`read_header`] has read says of itself.
pub(super) fn read_notes(bytes: &[u8]) -> Result<HashMap<String, String>, HeaderError> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| HeaderError::Other {
        reason: e.to_string(),
    })?;
    Ok(metadata.metadata().clone().unwrap_or_default())
}

/// The text of the header, and where the data begin.
fn split_header(bytes: &[u8]) -> Result<(&[u8], usize), HeaderError> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(HeaderError::TooShort { found: bytes.len() });
    };
    let found = u64::from_le_bytes(*length);
    let most = MAX_HEADER_BYTES.min(rest.len() as u64);
    let header = usize::try_from(found)
        .ok()
        .filter(|_| found <= most)
        .and_then(|n| rest.get(..n));
    let header = header.ok_or(HeaderError::HeaderLength { found, most })?;
    Ok((header, LENGTH_BYTES + header.len()))
}

fn parse(header: &[u8]) -> Result<Map<String, Value>, HeaderError> {
    let invalid = |e: serde_json::Error| HeaderError::Json {
        reason: e.to_string(),
    };
    let entries = match serde_json::from_slice(header).map_err(invalid)? {
        Value::Object(entries) => entries,
        other => {
            return Err(HeaderError::Json {
                reason: format!("it is {}, wanted an object", shown(Some(&other))),
            });
        }
    };
    // The map keeps the last entry of a name and forgets that there were others.
    match serde_json::from_slice(header).map_err(invalid)? {
        Repeated(Some(tensor)) => Err(HeaderError::Twice { tensor }),
        Repeated(None) => Ok(entries),
    }
}

/// The first key of an object that it has before.
struct Repeated(Option<String>);

impl<'de> Deserialize<'de> for Repeated {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Keys)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Repeated;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Repeated, M::Error> {
        let (mut seen, mut repeated) = (BTreeSet::new(), None);
        while let Some((key, IgnoredAny)) = map.next_entry::<String, _>()? {
            if repeated.is_none() && !seen.insert(key.clone()) {
                repeated = Some(key);
            }
        }
        Ok(Repeated(repeated))
    }
}

fn entry(tensor: String, value: &Value, data_start: usize) -> Result<Entry, HeaderError> {
    let wrong = |field: &'static str, wanted: String| HeaderError::Entry {
        tensor: tensor.clone(),
        field,
        found: shown(value.get(field)),
        wanted,
    };
    let dtype = value
        .get("dtype")
        .and_then(|name| serde_json::from_value::<Dtype>(name.clone()).ok());
    let dtype = dtype.ok_or_else(|| {
        wrong(
            "dtype",
            "a dtype of safetensors, such as \"F32\" or \"BF16\"".into(),
        )
    })?;
    let shape = value.get("shape").and_then(whole_numbers);
    let shape = shape.ok_or_else(|| wrong("shape", "a list of whole numbers".into()))?;
    let offsets = value.get("data_offsets").and_then(whole_numbers);
    let [start, end] = offsets
        .and_then(|offsets| <[usize; 2]>::try_from(offsets).ok())
        .filter(|[start, end]| start <= end)
        .ok_or_else(|| {
            wrong(
                "data_offsets",
                "two whole numbers, the first not above the second".into(),
            )
        })?;
    let (Some(range_start), Some(range_end)) =
        (data_start.checked_add(start), data_start.checked_add(end))
    else {
        return Err(wrong("data_offsets", "a range inside the file".into()));
    };
    let bits = shape
        .iter()
        .try_fold(dtype.bitsize(), |bits, &axis| bits.checked_mul(axis));
    let Some(bits) = bits else {
        return Err(HeaderError::Overflow { tensor, shape });
    };
    let (wanted, found) = (bits.div_ceil(8), end - start);
    if wanted != found {
        return Err(HeaderError::Length {
            tensor,
            shape,
            dtype: dtype.to_string(),
            wanted,
            found,
        });
    }
    Ok(Entry {
        name: tensor,
        dtype,
        shape,
        range: range_start..range_end,
    })
}

/// Checks that the entries, sorted, cover all bytes behind the header, each once.
fn check_cover(entries: &[Entry], data_start: usize, file_end: usize) -> Result<(), HeaderError> {
    let mut end = data_start;
    for entry in entries {
        if entry.range.start != end {
            let (wanted, found) = (end - data_start, entry.range.start - data_start);
            return Err(HeaderError::Gap {
                tensor: entry.name.clone(),
                wanted,
                found,
            });
        }
        end = entry.range.end;
    }
    if end != file_end {
        return Err(HeaderError::DataLength {
            wanted: end - data_start,
            found: file_end - data_start,
        });
    }
    Ok(())
}

fn whole_numbers(value: &Value) -> Option<Vec<usize>> {
    value
        .as_array()?
        .iter()
        .map(|n| usize::try_from(n.as_u64()?).ok())
        .collect()
}

/// A value as an error shows it: its JSON, shortened.
fn shown(value: Option<&Value>) -> String {
    const SHOWN: usize = 60;
    let Some(value) = value else {
        return "missing".into();
    };
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
