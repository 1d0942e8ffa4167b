//! A checkpoint's folder on disk: which files there are, and their bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use serde_json::Value;

use super::assemble::{Ingredients, Progress, Stored, assemble};
use super::error::{LoadError, Problems};
use super::kept::KEPT;
use super::{
    CONFIG, TOKENIZER, WEIGHTS, read_config, read_tokenizer, read_torch, read_weights,
    without_front_matter,
};
use crate::model::{MAX_CONFIG_BYTES, Model, Source};
use crate::tensor::Bytes;
use crate::tokenizer::MAX_TOKENIZER_BYTES;

const INDEX: &str = "model.safetensors.index.json";
const EXTENSION: &str = "safetensors";
/// Where a model card may be, the first one found counts.
const CARDS: [&str; 2] = ["MODEL_CARD.md", "README.md"];
/// Weights as the original code saves them.
const TORCH: &str = "pytorch_model.bin";
const TORCH_INDEX: &str = "pytorch_model.bin.index.json";

const MAX_INDEX_BYTES: usize = 64 << 20;
const MAX_CARD_BYTES: usize = 1 << 20;

/// Loads the checkpoint at `path`: its folder, its `config.json`, or one of its weight files.
///
/// Weights are mapped, not read; `progress` goes from 0 to 1 as they are looked through once, and may stop it there.
///
/// # Errors
/// When something is missing, unreadable or damaged, the parts do not fit each other, or it was stopped.
pub fn load(path: &Path, progress: &Progress<'_>) -> Result<Model, LoadError> {
    if progress(0.0).is_break() {
        let file = display(path);
        return Err(LoadError::Cancelled { file });
    }
    let (folder, picked) = locate(path)?;
    let mut warnings = Vec::new();
    let config_file = folder.join(CONFIG);
    let Some(config) = read_text(&config_file, MAX_CONFIG_BYTES)? else {
        return Err(LoadError::NoConfig { folder });
    };
    let config = read_config(&config, &display(&config_file))?;
    let tokenizer_file = folder.join(TOKENIZER);
    let tokenizer = match read_text(&tokenizer_file, MAX_TOKENIZER_BYTES)? {
        Some(json) => read_tokenizer(&json, &config, &display(&tokenizer_file), &mut warnings)?,
        None => {
            warnings.push(format!(
                "There is no {TOKENIZER} in the folder: texts are shown as token ids."
            ));
            None
        }
    };
    let weights = read_all_weights(&folder, picked.as_deref())?;
    warnings.extend(weights.warning);
    let ingredients = Ingredients {
        name: folder_name(&folder),
        card: read_card(&folder, &mut warnings),
        source: Source::Folder(folder),
        config,
        weights_name: weights.name,
        stored: weights.stored,
        bytes_on_disk: weights.bytes_on_disk,
        tokenizer,
        warnings,
    };
    assemble(ingredients, progress)
}

/// The folder, and the name of the weight file when one was picked.
fn locate(path: &Path) -> Result<(PathBuf, Option<String>), LoadError> {
    if path.as_os_str().is_empty() {
        return Err(LoadError::EmptyPath);
    }
    let kind = fs::metadata(path).map_err(|e| io_error(path, e))?;
    if kind.is_dir() {
        return Ok((path.into(), None));
    }
    if !kind.is_file() {
        return Err(LoadError::NotAFile { path: path.into() });
    }
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let is_weights = Path::new(name)
        .extension()
        .is_some_and(|extension| extension == EXTENSION)
        || name == TORCH;
    if !is_weights && name != CONFIG && name != INDEX {
        return Err(LoadError::NotACheckpoint { path: path.into() });
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    // The int8 form is no checkpoint of its own: what it was made of is meant.
    let is_weights = is_weights && name != KEPT;
    Ok((folder.into(), is_weights.then(|| name.into())))
}

/// The name a reader knows the model by: the folder's, or the repository's inside of Hugging Face's cache.
fn folder_name(folder: &Path) -> String {
    let full = fs::canonicalize(folder).unwrap_or_else(|_| folder.into());
    let name = |path: &Path| {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    let repository = full
        .parent()
        .filter(|p| name(p).as_deref() == Some("snapshots"))
        .and_then(Path::parent);
    let repository = repository
        .and_then(name)
        .and_then(|n| Some(n.strip_prefix("models--")?.replace("--", "/")));
    repository
        .or_else(|| name(&full))
        .unwrap_or_else(|| display(folder))
}

/// The tensors of all weight files of a folder.
struct Weights {
    name: String,
    stored: BTreeMap<String, Stored>,
    bytes_on_disk: u64,
    warning: Option<String>,
}

/// Reads the file that was picked, unless it is a shard of the index; else `model.safetensors`; else the index's shards; else
/// the torch file.
fn read_all_weights(folder: &Path, picked: Option<&str>) -> Result<Weights, LoadError> {
    let index = folder.join(INDEX);
    let index_text = read_text(&index, MAX_INDEX_BYTES)?;
    let is_shard = |file: &str| {
        index_text
            .as_deref()
            .is_some_and(|text| text.contains(&format!("\"{file}\"")))
    };
    if let Some(picked) = picked.filter(|file| !is_shard(file)) {
        return read_single(&folder.join(picked));
    }
    let single = folder.join(WEIGHTS);
    if exists(&single)? {
        return read_single(&single);
    }
    if let Some(text) = index_text {
        return read_shards(folder, &text, &display(&index));
    }
    let torch = folder.join(TORCH);
    if exists(&torch)? {
        return read_single(&torch);
    }
    if exists(&folder.join(TORCH_INDEX))? {
        return Err(LoadError::TorchShards {
            folder: folder.into(),
            found: TORCH_INDEX,
        });
    }
    Err(LoadError::NoWeights {
        folder: folder.into(),
    })
}

fn read_single(file: &Path) -> Result<Weights, LoadError> {
    let bytes = map(file)?;
    let name = display(file);
    let bytes_on_disk = bytes.as_slice().len() as u64;
    let is_torch = file.file_name().is_some_and(|name| name == TORCH);
    let read = if is_torch { read_torch } else { read_weights };
    Ok(Weights {
        stored: read(bytes, &name)?,
        name,
        bytes_on_disk,
        warning: None,
    })
}

/// Reads the shards an index lists, and from each the tensors it is listed for.
fn read_shards(folder: &Path, index: &str, index_name: &str) -> Result<Weights, LoadError> {
    let shards = parse_index(index).map_err(|problem| LoadError::Index {
        file: index_name.into(),
        problem,
    })?;
    let mut stored = BTreeMap::new();
    let mut bytes_on_disk = 0;
    let (mut absent, mut unlisted) = (Problems::default(), Problems::default());
    for (shard, names) in &shards {
        let file = folder.join(shard);
        let bytes = map(&file)?;
        bytes_on_disk += bytes.as_slice().len() as u64;
        let mut found = read_weights(bytes, &display(&file))?;
        for name in names {
            match found.remove(name) {
                Some(tensor) => drop(stored.insert(name.clone(), tensor)),
                None => absent.push(|| format!("{name} is not in {shard}")),
            }
        }
        for name in found.into_keys() {
            unlisted.push(|| format!("{name} in {shard}"));
        }
    }
    if !absent.is_empty() {
        return Err(LoadError::Index {
            file: index_name.into(),
            problem: format!("it lists tensors that are not there: {absent}"),
        });
    }
    Ok(Weights {
        name: display(folder),
        stored,
        bytes_on_disk,
        warning: (!unlisted.is_empty()).then(|| {
            format!("{index_name} does not list these tensors, which are left out: {unlisted}.")
        }),
    })
}

/// The tensors of each shard. Shards are plain names: an index must not lead out of its folder.
fn parse_index(text: &str) -> Result<BTreeMap<String, BTreeSet<String>>, String> {
    let index: Value =
        serde_json::from_str(text).map_err(|e| format!("it is not valid JSON: {e}"))?;
    let map = index.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or("`weight_map` is missing, wanted an object from tensor to file")?;
    let mut shards: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (tensor, file) in map {
        let file = file
            .as_str()
            .ok_or_else(|| format!("the file of {tensor:?} is {file}, wanted a name"))?;
        if !is_plain_name(file) {
            return Err(format!(
                "the file of {tensor:?} is {file:?}, wanted the plain name of a .{EXTENSION} file in the same folder"
            ));
        }
        shards
            .entry(file.into())
            .or_default()
            .insert(tensor.clone());
    }
    if shards.is_empty() {
        return Err("`weight_map` is empty, wanted the file of each tensor".into());
    }
    Ok(shards)
}

/// Whether a name stays in the folder on every system: no separator, no drive, no parent.
fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let single =
        matches!(components.next(), Some(Component::Normal(_))) && components.next().is_none();
    let extension = Path::new(name).extension();
    single && extension.is_some_and(|e| e == EXTENSION) && !name.contains(['/', '\\', ':', '\0'])
}

/// The model card, which never stops a model from loading.
fn read_card(folder: &Path, warnings: &mut Vec<String>) -> Option<String> {
    for name in CARDS {
        match read_text(&folder.join(name), MAX_CARD_BYTES) {
            Ok(None) => {}
            Ok(Some(card)) => return Some(without_front_matter(&card)),
            Err(problem) => warnings.push(format!("The model card is left out: {problem}")),
        }
    }
    None
}

/// A small text file; `None` when there is none.
fn read_text(path: &Path, limit: usize) -> Result<Option<String>, LoadError> {
    if !exists(path)? {
        return Ok(None);
    }
    let (file, length) = open(path)?;
    if length > limit as u64 {
        return Err(LoadError::TooLarge {
            path: path.into(),
            found: length,
            limit,
        });
    }
    // The file may grow while it is read.
    let mut bytes = Vec::new();
    file.take(limit as u64)
        .read_to_end(&mut bytes)
        .map_err(|e| io_error(path, e))?;
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| LoadError::NotText { path: path.into() })
}

#[expect(
    unsafe_code,
    reason = "a mapping is the only way to use gigabytes of weights without copying them"
)]
pub(super) fn map(path: &Path) -> Result<Bytes, LoadError> {
    let (file, length) = open(path)?;
    if length == 0 {
        return Ok(Bytes::Static(&[]));
    }
    // SAFETY: the mapping is read-only and private. Should another program shorten the file meanwhile, touching the lost
    // pages ends this one; every reader of mapped weights accepts that, and writers of safetensors replace files whole.
    let map = unsafe { Mmap::map(&file) }.map_err(|e| io_error(path, e))?;
    Ok(Bytes::Mapped(Arc::new(map)))
}

/// Opens a regular file: a pipe would block, a device may be endless.
fn open(path: &Path) -> Result<(File, u64), LoadError> {
    let kind = fs::metadata(path).map_err(|e| io_error(path, e))?;
    if !kind.is_file() {
        return Err(LoadError::NotAFile { path: path.into() });
    }
    let file = File::open(path).map_err(|e| io_error(path, e))?;
    let length = file.metadata().map_err(|e| io_error(path, e))?.len();
    Ok((file, length))
}

fn exists(path: &Path) -> Result<bool, LoadError> {
    path.try_exists().map_err(|e| io_error(path, e))
}

fn io_error(path: &Path, source: io::Error) -> LoadError {
    let path = path.into();
    match source.kind() {
        io::ErrorKind::NotFound => LoadError::NotFound { path },
        io::ErrorKind::PermissionDenied => LoadError::Permission { path },
        _ => LoadError::Io { path, source },
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
