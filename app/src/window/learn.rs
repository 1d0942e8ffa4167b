//! The pages to learn from: the lessons and the practice, and what they ask of the window.

use egui::{Context, Ui};
use mambascope_core::export::Later;
use mambascope_core::job::{Answer, Job, ModelRef};
use mambascope_core::study::StudyJob;
use mambascope_lessons::demo::Around;
use mambascope_lessons::notebook::NotebookRequest;
use mambascope_lessons::practice::bank::ScopeState;
use mambascope_lessons::practice::page::{Export, PracticeRequest, exported};
use mambascope_lessons::practice::schedule::Zone;

use super::files::{AskPath, Asked};
use super::{Notice, Page, Request, Window};
use crate::clock;

impl Window {
    /// Stops the clock of the practice at a moment, in seconds since 1970, in a zone that is so many seconds ahead of UTC: for
    /// pictures, which are to be the same on every day.
    pub fn stop_clock(&mut self, now: i64, utc_offset: i64) {
        self.clock = Some((now, Zone::Fixed(utc_offset)));
    }

    /// The moment, and the learner's zone.
    fn clock(&self) -> (i64, Zone) {
        self.clock.unwrap_or_else(|| (clock::now(), clock::ZONE))
    }

    /// Keeps what is under way on these pages with the settings.
    pub(super) fn keep_learning(&mut self) {
        let (now, _) = self.clock();
        self.practice.keep(now, &mut self.settings.practice);
    }

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
        let (now, zone) = self.clock();
        self.practice.show(
            ui,
            &self.engine,
            now,
            zone,
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
                PracticeRequest::Export(log) => requests.push(Request::Save {
                    name: "mambascope-reviews.jsonl".to_owned(),
                    ending: "jsonl",
                    job: Box::new(move |to| Job::Study(StudyJob::new(Export { log, to }))),
                }),
                PracticeRequest::Import => self.importing = Some(AskPath::log()),
                PracticeRequest::Lesson(lesson) => {
                    self.notebook.go(&mut self.settings.notebook, &lesson);
                    self.settings.page = Page::Lessons;
                }
                PracticeRequest::Prove(preset) => self.prove(&preset),
                PracticeRequest::Scope(state) => self.show_in_scope(&state),
            }
            ui.request_repaint();
        }
    }

    /// Asks for a log whose answers are to be added.
    pub(super) fn import_dialog(&mut self, ctx: &Context) {
        let Some(ask) = &mut self.importing else {
            return;
        };
        match ask.show(ctx) {
            Asked::Open => return,
            Asked::Closed => {}
            Asked::Path(path) => self.practice.import(path),
        }
        self.importing = None;
        ctx.request_repaint();
    }

    /// Goes to the Scope page, with a text and a layer of a model of this program.
    fn show_in_scope(&mut self, state: &ScopeState) {
        let Some(model) = state.model() else { return };
        let settings = &mut self.settings.scope;
        state.prompt.clone_into(&mut settings.prompt);
        settings.layer = state.layer;
        let load = Job::LoadEmbedded(model.name);
        if self.load != load {
            self.load(load);
        }
        self.settings.page = Page::Scope;
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

/// What to say of a file the practice has written.
pub(super) fn written(answer: &Answer) -> Option<Notice> {
    exported(answer).map(|text| Notice {
        text,
        is_error: false,
    })
}
