//! The zip archive: which files it has, and where each lies.

use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;

use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

use super::{Damage, MAX_ENTRIES, TorchError};

const PICKLE: &str = "data.pkl";

/// The files of a torch archive that matter.
pub(super) struct Archive<'a> {
    pub bytes: &'a [u8],
    pub prefix: String,
    pub pickle: &'a [u8],
    /// Where each file lies, by its name.
    pub files: HashMap<String, Range<usize>>,
}

impl<'a> Archive<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<Self, TorchError> {
        check_kind(bytes)?;
        check_directory(bytes)?;
        let config = Config {
            archive_offset: ArchiveOffset::Known(0),
        };
        let zip_error = |e: zip::result::ZipError| Damage::Zip {
            reason: e.to_string(),
        };
        let mut archive = ZipArchive::with_config(config, Cursor::new(bytes)).map_err(zip_error)?;
        if archive.has_duplicate_names() {
            return Err(Damage::SameFile.into());
        }
        let mut files = HashMap::new();
        let mut prefix = None;
        for index in 0..archive.len() {
            let file = archive.by_index_raw(index).map_err(zip_error)?;
            let name = file.name().map_err(zip_error)?.into_owned();
            let not_stored = |found| Damage::NotStored {
                file: name.clone(),
                found,
            };
            if file.encrypted() {
                return Err(not_stored("encrypted").into());
            }
            if file.compression() != CompressionMethod::Stored
                || file.size() != file.compressed_size()
            {
                return Err(not_stored("compressed").into());
            }
            let (start, length) = (file.data_start().unwrap_or(u64::MAX), file.size());
            let range = range_inside(bytes, start, length).ok_or_else(|| Damage::FileOutside {
                file: name.clone(),
                start,
                length,
            })?;
            if let Some((before, PICKLE)) = name.split_once('/')
                && prefix.replace(before.to_owned()).is_some()
            {
                return Err(Damage::TwoPickles.into());
            }
            // A name of the list may be spelled in two ways.
            if files.insert(name, range).is_some() {
                return Err(Damage::SameFile.into());
            }
        }
        let prefix = prefix.ok_or(TorchError::NoPickle)?;
        let file = |name: &str| {
            let range = files.get(&format!("{prefix}/{name}"));
            range.and_then(|range| bytes.get(range.clone()))
        };
        match file("byteorder") {
            None | Some(b"little") => {}
            Some(other) => {
                let found = if other == b"big" { "big" } else { "unknown" };
                return Err(TorchError::ByteOrder { found });
            }
        }
        let pickle = file(PICKLE).ok_or(TorchError::NoPickle)?;
        Ok(Self {
            bytes,
            prefix,
            pickle,
            files,
        })
    }
}

/// Says what a file is that does not begin as a zip archive.
fn check_kind(bytes: &[u8]) -> Result<(), TorchError> {
    const ZIP: &[u8] = b"PK\x03\x04";
    const LFS: &[u8] = b"version https://git-lfs";
    /// The number that the old format begins with, behind a few bytes that depend on the protocol.
    const LEGACY: &[u8] = &[
        0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.',
    ];
    if bytes.starts_with(ZIP) {
        return Ok(());
    }
    let start = bytes.get(..32).unwrap_or(bytes);
    let has_header = bytes
        .split_first_chunk::<8>()
        .is_some_and(|(length, rest)| {
            rest.first() == Some(&b'{') && u64::from_le_bytes(*length) <= rest.len() as u64
        });
    Err(if has_header {
        TorchError::Safetensors
    } else if bytes.starts_with(LFS) {
        TorchError::LfsPointer
    } else if start.windows(LEGACY.len()).any(|window| window == LEGACY) {
        TorchError::Legacy
    } else {
        TorchError::NotZip
    })
}

/// Checks that the list of files ends the archive, as torch writes it, and how many files it says there are: the `zip`
/// crate makes room for that many.
///
/// The short form of the end counts in 16 bits; a locator in front of it leads to the long form. Should the end turn out
/// wrong, the crate tries whatever looks like one before it, as far as a comment could reach: those are checked as well.
fn check_directory(bytes: &[u8]) -> Result<(), Damage> {
    const END: usize = 22;
    const LOCATOR: usize = 20;
    const COMMENT: usize = (1 << 16) + 64;
    let end = bytes.len().checked_sub(END).ok_or(Damage::NoDirectory)?;
    let (rest, last) = bytes.split_at(end);
    if !is_end(last) || !last.ends_with(&[0, 0]) {
        return Err(Damage::NoDirectory);
    }
    let first = rest.len().saturating_sub(COMMENT).max(LOCATOR);
    for at in first..=end {
        let counted = bytes.get(at..).filter(|rest| is_end(rest)).and_then(|_| {
            let locator = bytes.get(at - LOCATOR..at)?;
            let start = number(locator.strip_prefix(b"PK\x06\x07")?, 4)?;
            let long = bytes.get(usize::try_from(start).ok()?..)?;
            number(long.strip_prefix(b"PK\x06\x06")?, 28)
        });
        if let Some(found) = counted
            && found > MAX_ENTRIES as u64
        {
            let most = MAX_ENTRIES;
            return Err(Damage::TooManyFiles { found, most });
        }
    }
    Ok(())
}

fn is_end(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x05\x06")
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn range_inside(bytes: &[u8], start: u64, length: u64) -> Option<Range<usize>> {
    let start = usize::try_from(start).ok()?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    bytes.get(start..end).map(|_| start..end)
}
