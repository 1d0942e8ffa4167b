//! Every answer that was ever given: a file of JSON lines in the data folder. It only grows.
//!
//! A line is written at once and brought to the disk before the next, so that a program that is killed loses at most the answer
//! it was writing. What a newer program wrote is kept, and left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use mambascope_core::export::write_file;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::schedule::Rating;

/// The form of the lines this program writes.
pub const SCHEMA: u32 = 1;
/// The file's name in the data folder.
pub const FILE: &str = "reviews.jsonl";

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Review {
    /// The item's name.
    pub item: String,
    /// When it was answered, in seconds since 1970.
    pub at: i64,
    /// 0 as it was answered, 1 and more for corrections of that answer: the last one counts.
    #[serde(default)]
    pub revision: u32,
    /// What the schedule goes by.
    pub rating: Rating,
    /// What was derived from correctness, time and confidence, before the learner corrected it.
    pub suggested: Rating,
    /// Whether it was right.
    pub correct: bool,
    /// How sure the learner was, 0 to 1, where that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// Seconds it took.
    #[serde(default)]
    pub seconds: f64,
    /// Which numbers a drill had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What was written or entered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// A line of the file.
#[derive(Serialize)]
struct Line<'a> {
    schema: u32,
    #[serde(flatten)]
    review: &'a Review,
}

/// Which answer of which moment, and which of its corrections.
type Key = (i64, String, u32);

impl Review {
    fn key(&self) -> Key {
        (self.at, self.item.clone(), self.revision)
    }

    /// The same answer with another rating, to be appended.
    #[must_use]
    pub fn corrected(&self, rating: Rating) -> Self {
        Self {
            rating,
            revision: self.revision.saturating_add(1),
            ..self.clone()
        }
    }
}

/// The answers in the order of time, each once: as it was last corrected.
pub fn settled(reviews: &[Review]) -> Vec<&Review> {
    let mut last: BTreeMap<(i64, &str), &Review> = BTreeMap::new();
    for review in reviews {
        let kept = last.entry((review.at, &review.item)).or_insert(review);
        if review.revision >= kept.revision {
            *kept = review;
        }
    }
    last.into_values().collect()
}

/// Why the log cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the review log: could not {what} {}: {reason}", path.display())]
pub struct LogError {
    /// What was tried.
    pub what: &'static str,
    /// With which file.
    pub path: PathBuf,
    /// What the system said.
    pub reason: String,
}

fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> LogError {
    let path = path.to_owned();
    move |error| LogError {
        what,
        path: path.clone(),
        reason: error.to_string(),
    }
}

/// What a reader of the log should be told.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Notice {
    /// The last line was not written to its end.
    #[error(
        "The last answer was not written to its end (line {line} of {}): it is lost, all others are there.",
        name(path)
    )]
    Torn {
        /// Which line, from 1.
        line: usize,
        /// Of which file.
        path: PathBuf,
    },
    /// A newer program has written here.
    #[error(
        "In {}, {} in form {schema} of a newer Mambascope; this one knows up to form {SCHEMA}. That is kept, and not counted here.",
        name(path),
        if *lines == 1 { "one line is".to_owned() } else { format!("{lines} lines are") }
    )]
    Newer {
        /// How many lines.
        lines: usize,
        /// The newest form among them.
        schema: u64,
        /// Of which file.
        path: PathBuf,
    },
    /// Lines that are no answers.
    #[error(
        "Lines of the review log that could not be read: {unreadable} (the first is line {line}: {reason}). The file was set aside \
         as {}; all lines that can be read were taken over.",
        aside.display()
    )]
    SetAside {
        /// How many lines.
        unreadable: usize,
        /// The first of them, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
        /// Where the file is now.
        aside: PathBuf,
    },
}

/// A file's name without its folder: that of the log is always the same.
fn name(path: &Path) -> std::path::Display<'_> {
    Path::new(path.file_name().unwrap_or(path.as_os_str())).display()
}

/// What was found when the log was opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// The log, to append to.
    pub log: ReviewLog,
    /// All answers in it, with their corrections, in the file's order.
    pub reviews: Vec<Review>,
    /// What the reader should be told.
    pub notices: Vec<Notice>,
}

/// What an import brought.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imported {
    /// Answers that were not there before, in the file's order.
    pub added: Vec<Review>,
    /// Answers that were there already.
    pub known: usize,
    /// Lines of a newer form, taken over as they are.
    pub newer: usize,
    /// Lines that could not be read, left out.
    pub unreadable: usize,
}

/// The review log of a data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewLog {
    path: PathBuf,
}

/// What a line of a file turns out to be.
enum Found {
    Review(Review),
    Newer(u64),
    /// Begins as a line does, and ends early.
    Torn,
    Corrupt(String),
}

fn read_line(bytes: &[u8]) -> Found {
    let value: Value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(error) if error.is_eof() && bytes.starts_with(b"{") => return Found::Torn,
        Err(error) => return Found::Corrupt(error.to_string()),
    };
    match value.get("schema").and_then(Value::as_u64) {
        None => Found::Corrupt("it has no number `schema`".into()),
        Some(schema) if schema > u64::from(SCHEMA) => Found::Newer(schema),
        Some(_) => serde_json::from_value(value)
            .map_or_else(|error| Found::Corrupt(error.to_string()), Found::Review),
    }
}

/// The lines of a file that have something in them, with their numbers from 1.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    lines
        .map(|(i, line)| (i + 1, line))
        .filter(|(_, line)| !line.is_empty())
}

/// All lines of a file, sorted.
#[derive(Default)]
struct Contents {
    reviews: Vec<Review>,
    newer: Vec<u64>,
    torn: Vec<usize>,
    corrupt: Vec<(usize, String)>,
    /// The lines that are no damage, as they stand in the file.
    sound: Vec<u8>,
}

impl Contents {
    fn of(bytes: &[u8]) -> Self {
        let mut contents = Self::default();
        for (number, line) in lines(bytes) {
            match read_line(line) {
                Found::Review(review) => contents.reviews.push(review),
                Found::Newer(schema) => contents.newer.push(schema),
                Found::Torn => contents.torn.push(number),
                Found::Corrupt(reason) => {
                    contents.corrupt.push((number, reason));
                    continue;
                }
            }
            contents.sound.extend_from_slice(line);
            contents.sound.push(b'\n');
        }
        contents
    }
}

impl ReviewLog {
    /// Opens the log of a data folder, which is made if it is not there. A file with lines that are no answers is copied aside, and
    /// goes on with those that are; nothing is ever deleted.
    ///
    /// # Errors
    /// When the folder or the file cannot be read, or a damaged file cannot be set aside.
    pub fn open(folder: &Path) -> Result<Opened, LogError> {
        fs::create_dir_all(folder).map_err(failed("make the folder", folder))?;
        let log = Self {
            path: folder.join(FILE),
        };
        let bytes = log.bytes()?;
        let mut contents = Contents::of(&bytes);
        let mut notices = Vec::new();
        let number = lines(&bytes).last().map_or(0, |(number, _)| number);
        // Fragments in the middle are of earlier deaths, and have been told.
        if !bytes.ends_with(b"\n") && contents.torn.last() == Some(&number) {
            notices.push(Notice::Torn {
                line: number,
                path: log.path.clone(),
            });
        }
        if let Some(schema) = contents.newer.iter().max() {
            notices.push(Notice::Newer {
                lines: contents.newer.len(),
                schema: *schema,
                path: log.path.clone(),
            });
        }
        if !contents.corrupt.is_empty() {
            notices.push(log.set_aside(&bytes, &contents)?);
        }
        Ok(Opened {
            reviews: std::mem::take(&mut contents.reviews),
            notices,
            log,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn bytes(&self) -> Result<Vec<u8>, LogError> {
        match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read.map_err(failed("read", &self.path)),
        }
    }

    /// Copies the file to another name, then replaces it by its sound lines.
    fn set_aside(&self, bytes: &[u8], contents: &Contents) -> Result<Notice, LogError> {
        let name = |i: usize| {
            self.path
                .with_file_name(format!("reviews-unreadable-{i}.jsonl"))
        };
        let aside = (0..1000).map(name).find(|path| !path.exists());
        let aside = aside.ok_or_else(|| LogError {
            what: "set aside",
            path: self.path.clone(),
            reason: "there are a thousand files of that kind already".into(),
        })?;
        let write = |path: &Path, bytes: &[u8]| {
            write_file(path, |writer| writer.write_all(bytes)).map_err(|error| LogError {
                what: "set aside",
                path: error.path,
                reason: error.reason,
            })
        };
        write(&aside, bytes)?;
        write(&self.path, &contents.sound)?;
        let (line, reason) = contents.corrupt.first().cloned().unwrap_or_default();
        Ok(Notice::SetAside {
            unreadable: contents.corrupt.len(),
            line,
            reason,
            aside,
        })
    }

    /// Adds an answer. When this returns it is on the disk.
    ///
    /// # Errors
    /// When the file cannot be written; what stood in it still does.
    pub fn append(&self, review: &Review) -> Result<(), LogError> {
        self.append_bytes(&self.line(review)?)
    }

    fn line(&self, review: &Review) -> Result<Vec<u8>, LogError> {
        let line = Line {
            schema: SCHEMA,
            review,
        };
        let bytes = serde_json::to_vec(&line).map_err(io::Error::other);
        let mut bytes = bytes.map_err(failed("write an answer to", &self.path))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Adds whole lines in one write. A line that was torn before them is ended first: it stays, and spoils nothing.
    fn append_bytes(&self, lines: &[u8]) -> Result<(), LogError> {
        let error = failed("write to", &self.path);
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&self.path)
            .map_err(&error)?;
        // The window and the command may write at once; where a disk knows no locks, appending is still whole lines.
        let _ = file.lock();
        let mut bytes = Vec::with_capacity(lines.len() + 1);
        if is_torn(&mut file).map_err(&error)? {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(lines);
        file.write_all(&bytes).map_err(&error)?;
        file.sync_data().map_err(&error)
    }

    /// Writes all lines, as they are, to another file.
    ///
    /// # Errors
    /// When the log cannot be read or the file not be written.
    pub fn export(&self, to: &Path) -> Result<(), LogError> {
        let bytes = self.bytes()?;
        write_file(to, |writer| writer.write_all(&bytes)).map_err(|error| LogError {
            what: "export to",
            path: error.path,
            reason: error.reason,
        })
    }

    /// Adds what another log has and this one has not. The order of the lines does not matter: an answer knows its time.
    ///
    /// # Errors
    /// When the other file cannot be read, or this log not be written.
    pub fn import(&self, from: &Path) -> Result<Imported, LogError> {
        let theirs = fs::read(from).map_err(failed("read", from))?;
        let ours = self.bytes()?;
        let mut known: BTreeSet<Key> = Contents::of(&ours)
            .reviews
            .iter()
            .map(Review::key)
            .collect();
        let mut raw: BTreeSet<&[u8]> = lines(&ours).map(|(_, line)| line).collect();
        let (mut imported, mut bytes) = (Imported::default(), Vec::new());
        for (_, line) in lines(&theirs) {
            match read_line(line) {
                Found::Review(review) if known.insert(review.key()) => {
                    // As it stands there: a number that is read and written again may end in another digit.
                    bytes.extend_from_slice(line);
                    bytes.push(b'\n');
                    imported.added.push(review);
                }
                Found::Review(_) => imported.known += 1,
                Found::Newer(_) if raw.insert(line) => {
                    bytes.extend_from_slice(line);
                    bytes.push(b'\n');
                    imported.newer += 1;
                }
                Found::Newer(_) => imported.known += 1,
                Found::Torn | Found::Corrupt(_) => imported.unreadable += 1,
            }
        }
        if !bytes.is_empty() {
            self.append_bytes(&bytes)?;
        }
        Ok(imported)
    }
}

/// Whether the last line has no end.
fn is_torn(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != [b'\n'])
}
