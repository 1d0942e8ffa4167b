//! Writing files so that nothing is lost: to a temporary name beside the target, then renamed over it.

use std::fmt;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
use safetensors::SafeTensorError;
use safetensors::tensor::Metadata;
use thiserror::Error;

/// A file that could not be written; what stood at the path before still stands there.
#[derive(Clone, Debug, Error)]
#[error("could not write {}: {reason}; nothing was changed there", path.display())]
pub struct ExportError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub reason: String,
}

/// Something the worker makes when its job comes up: to paint a picture or to print a table takes longer than a frame.
///
/// Two are equal when they are the same one, so that comparing jobs is quick.
pub struct Later<T>(Arc<dyn Fn() -> T + Send + Sync>);

impl<T> Later<T> {
    /// What `make` will make.
    pub fn new(make: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    /// Makes it, now and here.
    pub fn make(&self) -> T {
        (self.0)()
    }
}

impl<T> Clone for Later<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> PartialEq for Later<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> fmt::Debug for Later<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Later")
    }
}

/// A picture, four bytes a pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Red, green, blue, alpha, row by row.
    pub rgba: Vec<u8>,
}

impl Picture {
    /// As PNG.
    ///
    /// # Errors
    /// When the writer fails, or the bytes are not `width · height · 4`.
    pub fn write_png(&self, writer: &mut dyn Write) -> io::Result<()> {
        let wanted = u64::from(self.width) * u64::from(self.height) * 4;
        if self.rgba.len() as u64 != wanted {
            return Err(io::Error::other(format!(
                "a picture of {wanted} bytes was promised, {} came",
                self.rgba.len()
            )));
        }
        PngEncoder::new(writer)
            .write_image(
                &self.rgba,
                self.width,
                self.height,
                ExtendedColorType::Rgba8,
            )
            .map_err(io::Error::other)
    }
}

/// Writes a file through `fill`; the path changes only when all is on the disk.
///
/// A link stays, and the file it leads to is replaced; a file that is replaced keeps its permissions. A program that is
/// killed on the way leaves its temporary file, `.mambascope-` and six letters, in the folder: safe to delete.
///
/// # Errors
/// When the folder cannot be written, the disk is full, `fill` fails, or what is at the path must not be replaced: a
/// folder, a device, a pipe, a file that is read-only.
pub fn write_file(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), ExportError> {
    replace(path, fill).map_err(|error| ExportError {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// Writes a safetensors file: its header, and behind it what `fill` writes, the tensors in the order of the header.
///
/// # Errors
/// As [`write_file`], or when the header is none.
pub(crate) fn write_safetensors(
    path: &Path,
    header: Result<Metadata, SafeTensorError>,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), ExportError> {
    /// The data begins at a line of the cache; the format asks for a multiple of eight.
    const ALIGN: usize = 64;
    write_file(path, |file| {
        let mut header = serde_json::to_vec(&header.map_err(io::Error::other)?)?;
        let length = size_of::<u64>();
        header.resize(
            (length + header.len()).next_multiple_of(ALIGN) - length,
            b' ',
        );
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        fill(file)
    })
}

fn replace(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let target = target(path)?;
    let folder = target
        .path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".mambascope-");
    // A temporary file is private by default; the result should be as readable as any other new file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut temporary = builder.tempfile_in(folder)?;
    let mut buffered = BufWriter::new(temporary.as_file_mut());
    fill(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    if let Some(permissions) = target.permissions {
        temporary.as_file().set_permissions(permissions)?;
    }
    temporary.as_file().sync_all()?;
    temporary.persist(&target.path)?;
    Ok(())
}

/// Where a file is to be, and the permissions of the one that is there.
struct Target {
    path: PathBuf,
    permissions: Option<Permissions>,
}

/// Follows links, and refuses what a rename would replace although a write could not.
fn target(path: &Path) -> io::Result<Target> {
    let refuse = |reason: &str| Err(io::Error::other(reason.to_owned()));
    let found = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match (path.file_name(), path.is_symlink()) {
                (None, _) => refuse("this is a folder, not a file name"),
                (_, true) => refuse("this is a link that leads nowhere"),
                (_, false) => Ok(Target {
                    path: path.to_owned(),
                    permissions: None,
                }),
            };
        }
        found => found?,
    };
    if found.is_dir() {
        return refuse("this is a folder, not a file name");
    }
    if !found.is_file() {
        return refuse("this is a device or a pipe, not a regular file");
    }
    if found.permissions().readonly() {
        return refuse("the file that is there is read-only");
    }
    // Whether this user may write to it: renaming over it asks for the folder's permission alone.
    OpenOptions::new().write(true).open(path)?;
    Ok(Target {
        path: fs::canonicalize(path)?,
        permissions: Some(found.permissions()),
    })
}
