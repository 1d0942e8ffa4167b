//! A measurement that is asked for by hand: on the worker, in a slot of its own, with its progress and a way to stop it.

use egui::{Button, RichText, Stroke, Ui};
use mambascope_core::engine::{Engine, Reply};
use mambascope_core::job::{Answer, Job};
use mambascope_core::study::{Study, StudyJob};

use super::model_bar::progress;
use crate::window::palette;

/// The last measurement asked for, and what is known of it.
pub(super) struct Measuring<S> {
    slot: &'static str,
    asked: Option<S>,
    reply: Reply,
}

impl<S: Study> Measuring<S> {
    /// Nothing asked for yet.
    pub(super) fn new(slot: &'static str) -> Self {
        Self {
            slot,
            asked: None,
            reply: Reply::default(),
        }
    }

    /// Takes what there is of the measurement asked for.
    pub(super) fn ask(&mut self, engine: &Engine) {
        if let Some(study) = &self.asked {
            let job = Job::Study(StudyJob::new(study.clone()));
            self.reply = engine.ask(self.slot, job);
        }
    }

    pub(super) fn start(&mut self, engine: &Engine, study: S) {
        self.forget(engine);
        self.asked = Some(study);
        self.ask(engine);
    }

    /// Drops the measurement, and with it the model it is of.
    pub(super) fn forget(&mut self, engine: &Engine) {
        if self.asked.take().is_some() {
            engine.forget(self.slot);
            self.reply = Reply::default();
        }
    }

    /// Stops a measurement that runs, so that something else need not wait for it.
    pub(super) fn halt(&mut self, engine: &Engine) {
        if self.reply.busy {
            self.forget(engine);
        }
    }

    /// Ends a measurement that runs; what it has found by then, if that is an answer, is shown.
    fn cancel(&mut self, engine: &Engine) {
        engine.cancel(self.slot);
        // One that had not begun has no answer to come.
        if !engine.reply(self.slot).busy {
            self.forget(engine);
        }
    }

    pub(super) fn asked(&self) -> Option<&S> {
        self.asked.as_ref()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.reply.busy
    }

    /// What was found, once it is.
    pub(super) fn found(&self) -> Option<&S::Answer> {
        match &self.reply.answer {
            Some(Answer::Study(answer)) if !self.reply.busy => answer.of::<S>(),
            _ => None,
        }
    }

    /// The way there, or why it did not lead anywhere.
    pub(super) fn way(&mut self, ui: &mut Ui, engine: &Engine) {
        if self.reply.busy {
            ui.horizontal(|ui| {
                if ui.add(framed(ui, "Cancel measuring")).clicked() {
                    self.cancel(engine);
                }
                progress(ui, &self.reply, "waiting for the worker");
            });
        } else if let Some(error) = &self.reply.error {
            let text = RichText::new(format!("Not measured: {error}."));
            ui.label(text.small().color(palette(ui).weak_text));
        }
    }
}

/// A button that looks like one in a menu too, where buttons have no frame.
pub(super) fn framed<'a>(ui: &Ui, text: impl Into<String>) -> Button<'a> {
    let palette = palette(ui);
    Button::new(text.into())
        .fill(palette.surface)
        .stroke(Stroke::new(1.0, palette.border))
}
