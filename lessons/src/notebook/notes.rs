//! The reader's own notes under the cells: a file in the data folder, and Markdown to take away.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use mambascope_core::engine::Engine;
use mambascope_core::export::Later;
use mambascope_core::job::Job;
use serde::{Deserialize, Serialize};

use crate::course::LESSONS;
use crate::page::Page;

/// The slot in which notes are written.
const SLOT: &str = "notes";
/// Seconds from the last letter to the writing.
const SETTLE: f64 = 1.5;

/// Lesson, then cell, then text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Texts(BTreeMap<String, BTreeMap<String, String>>);

/// The notes.
#[derive(Default)]
pub struct Notes {
    texts: Texts,
    /// Where they are kept; nowhere when there is no data folder.
    file: Option<PathBuf>,
    /// Why notes are not kept, or what became of those there were.
    pub notice: Option<String>,
    /// When the last letter was typed, until it is written.
    changed_at: Option<f64>,
    /// The writing on its way.
    writing: Option<Job>,
}

impl Notes {
    /// The notes of a data folder. A file that cannot be read is set aside under another name, never written over.
    pub fn open(folder: Option<&Path>) -> Self {
        let Some(folder) = folder else {
            return Self::default();
        };
        let file = folder.join("notes.json");
        let mut notes = Self {
            file: Some(file.clone()),
            ..Self::default()
        };
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return notes,
            Err(error) => {
                notes.file = None;
                notes.notice = Some(format!(
                    "{} could not be read ({error}): notes last until the window closes.",
                    file.display()
                ));
                return notes;
            }
        };
        match serde_json::from_str(&text) {
            Ok(texts) => notes.texts = texts,
            Err(error) => notes.set_aside(&file, &error),
        }
        notes
    }

    fn set_aside(&mut self, file: &Path, error: &serde_json::Error) {
        let aside = (0..100)
            .map(|i| file.with_file_name(format!("notes-unreadable-{i}.json")))
            .find(|path| !path.exists());
        let moved = aside.map(|aside| (std::fs::rename(file, &aside), aside));
        self.notice = Some(match moved {
            Some((Ok(()), aside)) => format!(
                "The notes could not be read ({error}). They were set aside as {}.",
                aside.display()
            ),
            _ => {
                self.file = None;
                format!(
                    "The notes in {} could not be read ({error}), nor set aside: new ones last until the window closes.",
                    file.display()
                )
            }
        });
    }

    /// The note under a cell.
    pub fn get(&self, lesson: &str, cell: &str) -> Option<&str> {
        let text = self.texts.0.get(lesson)?.get(cell)?;
        Some(text)
    }

    /// Sets or, when it is empty, drops the note under a cell.
    pub fn set(&mut self, lesson: &str, cell: &str, text: &str, now: f64) {
        let of_lesson = self.texts.0.entry(lesson.to_owned()).or_default();
        if text.is_empty() {
            of_lesson.remove(cell);
        } else {
            of_lesson.insert(cell.to_owned(), text.to_owned());
        }
        self.changed_at = Some(now);
        if self.file.is_none() {
            let notice = "There is no data folder: notes last until the window closes.";
            self.notice.get_or_insert_with(|| notice.to_owned());
        }
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.texts.0.values().all(BTreeMap::is_empty)
    }

    /// Has them written some time after the last letter; gives the seconds until then.
    pub fn keep(&mut self, engine: &Engine, now: f64) -> Option<f64> {
        if let Some(job) = &self.writing {
            let reply = engine.ask(SLOT, job.clone());
            if !reply.busy {
                self.writing = None;
                self.notice = reply.error.map(|error| error.to_string());
            }
            return None;
        }
        let changed = self.changed_at?;
        let due = changed + SETTLE - now;
        if due > 0.0 {
            return Some(due);
        }
        self.changed_at = None;
        let path = self.file.clone()?;
        let texts = self.texts.clone();
        self.writing = Some(Job::SaveText {
            path,
            text: Later::new(move || serde_json::to_string_pretty(&texts).unwrap_or_default()),
        });
        Some(0.0)
    }

    /// Whether everything typed is on its way to the disk or there.
    pub fn is_kept(&self) -> bool {
        self.changed_at.is_none() && self.writing.is_none()
    }

    /// All notes as Markdown, in the order of the lessons.
    pub fn markdown(&self) -> String {
        let mut text = String::from("# Notes from Mambascope\n");
        for lesson in LESSONS {
            let of_lesson = self
                .texts
                .0
                .get(lesson.id)
                .filter(|cells| !cells.is_empty());
            let Some(cells) = of_lesson else { continue };
            let title = Page::parse(lesson.id, lesson.text)
                .map_or_else(|_| lesson.id.to_owned(), |page| page.title);
            let _ = write!(text, "\n## {title}\n");
            for (cell, note) in cells {
                let _ = write!(text, "\n### {cell}\n\n{note}\n");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_notes_are_set_aside_and_said_so() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("notes.json");
        std::fs::write(&file, "{ half a fi").unwrap();
        let notes = Notes::open(Some(folder.path()));
        assert!(notes.notice.unwrap().contains("set aside"));
        let aside = folder.path().join("notes-unreadable-0.json");
        assert_eq!(std::fs::read_to_string(aside).unwrap(), "{ half a fi");
        assert!(!file.exists());
    }

    #[test]
    fn notes_are_exported_in_the_order_of_the_lessons() {
        let mut notes = Notes::open(None);
        notes.set("leaky-integrator", "demo one-slot", "try A = -16", 0.0);
        notes.set("why-compress", "the price", "bytes!", 0.0);
        let text = notes.markdown();
        assert!(text.find("bytes!").unwrap() < text.find("A = -16").unwrap());
        notes.set("why-compress", "the price", "", 0.0);
        assert!(!notes.markdown().contains("bytes!") && !notes.is_empty());
    }
}
