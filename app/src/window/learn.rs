//! The pages to learn from: the lessons and the practice, and what they ask of the window.

use std::time::{SystemTime, UNIX_EPOCH};

use egui::Ui;
use mambascope_core::export::Later;
use mambascope_core::job::{Job, ModelRef};
use mambascope_lessons::demo::Around;
use mambascope_lessons::notebook::NotebookRequest;
use mambascope_lessons::practice::page::PracticeRequest;

use super::{Notice, Page, Request, Window};

/// Seconds that local time is ahead of UTC, for the days of the practice: none, for the standard library knows no time zones.
const UTC_OFFSET: i64 = 0;

impl Window {
    pub(super) fn lessons_page(&mut self, ui: &mut Ui, requests: &mut Vec<Request>) {
        let around = Around {
            model: self.model.clone().map(ModelRef),
            backend: self.settings.scope.backend.clone(),
        };
        let mut wanted = Vec::new();
        self.notebook.show(
            ui,
            &self.engine,
            &around,
            &mut self.settings.notebook,
            &mut wanted,
        );
        for request in wanted {
            match request {
                NotebookRequest::Copy(line) => ui.ctx().copy_text(line),
                NotebookRequest::ExportNotes(text) => requests.push(Request::Save {
                    name: "mambascope-notes.md".to_owned(),
                    ending: "md",
                    job: Box::new(move |path| Job::SaveText {
                        path,
                        text: Later::new(move || text.clone()),
                    }),
                }),
            }
        }
    }

    pub(super) fn practice_page(&mut self, ui: &mut Ui, requests: &mut Vec<Request>) {
        let mut wanted = Vec::new();
        self.practice.show(
            ui,
            &self.engine,
            now(),
            UTC_OFFSET,
            &mut self.settings.practice,
            &mut wanted,
        );
        for request in wanted {
            match request {
                PracticeRequest::Save { name, ending, text } => requests.push(Request::Save {
                    name,
                    ending,
                    job: Box::new(move |path| Job::SaveText {
                        path,
                        text: Later::new(move || text.clone()),
                    }),
                }),
                PracticeRequest::Lesson(lesson) => {
                    self.notebook.go(&mut self.settings.notebook, &lesson);
                    self.settings.page = Page::Lessons;
                }
                PracticeRequest::Prove(preset) => self.prove(&preset),
            }
            ui.request_repaint();
        }
    }

    /// Goes to the demo of a preset.
    fn prove(&mut self, preset: &str) {
        let settings = &mut self.settings.notebook;
        match self.notebook.go_to_demo(&self.engine, settings, preset) {
            Ok(()) => self.settings.page = Page::Lessons,
            Err(error) => {
                self.notice = Some(Notice {
                    text: error.to_string(),
                    is_error: true,
                });
            }
        }
    }
}

/// The moment, in seconds since 1970; 0 for a clock that is set before that.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
