//! Taking the log of answers out and in, on the worker, and what there is to say about it.

use std::ops::ControlFlow;
use std::path::PathBuf;

use egui::{RichText, Ui};
use mambascope_core::job::{Answer, Job, JobError, Progress, Workshop};
use mambascope_core::study::{Study, StudyJob};

use super::PracticeRequest;
use super::desk::Desk;
use super::parts::small;
use crate::practice::log::{Imported, LogError, ReviewLog};
use crate::theme;

/// The slot in which a log is taken in.
const SLOT: &str = "practice log";

/// Adds the answers of another log: the other file may be large, or far away.
#[derive(Clone, Debug, PartialEq)]
struct Import {
    log: ReviewLog,
    from: PathBuf,
}

impl Study for Import {
    type Answer = Result<Imported, LogError>;

    fn compute(
        &self,
        _: &mut Workshop,
        _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Self::Answer, JobError> {
        Ok(self.log.import(&self.from))
    }
}

/// Writes the log to another file, with whatever it holds: lines of a newer form belong to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    /// Which log.
    pub log: ReviewLog,
    /// Where to.
    pub to: PathBuf,
}

impl Study for Export {
    type Answer = PathBuf;

    fn compute(
        &self,
        _: &mut Workshop,
        _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<PathBuf, JobError> {
        let done = self.log.export(&self.to);
        done.map_err(|error| JobError::Study(format!("{error}.")))?;
        Ok(self.to.clone())
    }
}

/// What to say of an answer, if it is that of an [`Export`].
pub fn exported(answer: &Answer) -> Option<String> {
    let Answer::Study(answer) = answer else {
        return None;
    };
    let path = answer.of::<Export>()?;
    Some(format!("Saved the answers to {}.", path.display()))
}

/// The part of the left side about the log.
#[derive(Default)]
pub(super) struct LogBox {
    /// The import on its way.
    importing: Option<Job>,
}

impl LogBox {
    /// Whether no import is on its way.
    pub(super) fn is_settled(&self) -> bool {
        self.importing.is_none()
    }

    /// Draws it.
    pub(super) fn show(&mut self, ui: &mut Ui, desk: &mut Desk<'_>) {
        ui.add_space(6.0);
        ui.separator();
        let has_log = desk.record.log().is_some();
        let count = desk.record.reviews().len();
        small(ui, format!("Lines in the log of your answers: {count}"));
        ui.horizontal(|ui| {
            let export = egui::Button::new("Export…");
            if ui.add_enabled(has_log && count > 0, export).clicked()
                && let Some(log) = desk.record.log()
            {
                desk.requests.push(PracticeRequest::Export(log.clone()));
            }
            let import = egui::Button::new("Import…");
            let is_free = has_log && self.importing.is_none();
            if ui.add_enabled(is_free, import).clicked() {
                desk.requests.push(PracticeRequest::Import);
            }
        });
        self.take(ui, desk);
        notices(ui, desk);
    }

    /// Begins to take in another log.
    pub(super) fn import(&mut self, log: ReviewLog, from: PathBuf) {
        self.importing = Some(Job::Study(StudyJob::new(Import { log, from })));
    }

    /// Takes in what the import has brought.
    fn take(&mut self, ui: &mut Ui, desk: &mut Desk<'_>) {
        let Some(job) = &self.importing else { return };
        let reply = desk.engine.ask(SLOT, job.clone());
        if reply.busy {
            ui.horizontal(|ui| {
                ui.spinner();
                small(ui, "Reading…");
            });
            return;
        }
        self.importing = None;
        desk.engine.forget(SLOT);
        let found = match &reply.answer {
            Some(Answer::Study(answer)) => answer.of::<Import>(),
            _ => None,
        };
        let notice = match (found, reply.error) {
            (Some(Ok(imported)), _) => {
                desk.record.take(imported);
                brought(imported)
            }
            (Some(Err(error)), _) => format!("{error}."),
            (None, Some(error)) => format!("{error}."),
            (None, None) => return,
        };
        desk.record.notices.push(notice);
        ui.ctx().request_repaint();
    }
}

/// What an import has brought, in sentences.
fn brought(imported: &Imported) -> String {
    let mut text = format!(
        "Answers added: {}; there already: {}.",
        imported.added.len(),
        imported.known
    );
    if imported.newer > 0 {
        text.push_str(&format!(
            " Of a newer Mambascope, kept and not counted: {}.",
            imported.newer
        ));
    }
    if imported.unreadable > 0 {
        text.push_str(&format!(
            " Lines that could not be read, left out: {}.",
            imported.unreadable
        ));
    }
    text
}

/// What there is to say about the log, until it has been read.
fn notices(ui: &mut Ui, desk: &mut Desk<'_>) {
    let palette = theme::palette(ui.visuals());
    let has_log = desk.record.log().is_some();
    let mut told = None;
    for (i, notice) in desk.record.notices.iter().enumerate() {
        ui.add_space(4.0);
        // A path has no spaces to break at.
        let text = RichText::new(notice).small().color(palette.warning);
        ui.add(egui::Label::new(text).wrap());
        if has_log && ui.small_button("I have read this").clicked() {
            told = Some(i);
        }
    }
    if let Some(told) = told {
        desk.record.notices.remove(told);
    }
}
