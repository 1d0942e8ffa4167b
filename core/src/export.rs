//! Writing files so that nothing is lost: to a temporary name beside the target, then renamed over it.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};
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
/// # Errors
/// When the folder cannot be written, the disk is full, or `fill` fails.
pub fn write_file(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), ExportError> {
    let failed = |error: io::Error| ExportError {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    if path.is_dir() || path.file_name().is_none() {
        return Err(failed(io::Error::other(
            "this is a folder, not a file name",
        )));
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".mambascope-");
    // A temporary file is private by default; the result should be as readable as any other new file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut temporary = builder.tempfile_in(folder).map_err(failed)?;
    let mut buffered = BufWriter::new(temporary.as_file_mut());
    fill(&mut buffered)
        .and_then(|()| buffered.flush())
        .map_err(failed)?;
    drop(buffered);
    temporary.as_file().sync_all().map_err(failed)?;
    temporary
        .persist(path)
        .map_err(|error| failed(error.error))?;
    Ok(())
}
