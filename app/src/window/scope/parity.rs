//! The badge beside the choice of a backend: how far it lies from the naive one on the prompt.

use egui::{Button, Grid, Response, RichText, Sense, Stroke, Ui};
use mambascope_core::engine::{Engine, Reply};
use mambascope_core::job::{Answer, Job, ModelRef};
use mambascope_core::parity::{Parity, ParityJob, REFERENCE};

use super::model_bar::{item, progress_text};
use super::{Around, ScopePage};
use crate::backends::NOTHING_TO_COMPARE;
use crate::window::{ScopeSettings, palette};

/// The slot in which backends are measured.
const PARITY: &str = "parity";

/// The last measurement asked for, and what is known of it.
#[derive(Default)]
pub(super) struct ParityCheck {
    asked: Option<ParityJob>,
    reply: Reply,
    /// When the first report of the one that runs came, in seconds, and how many tokens it told of.
    first_report: Option<(f64, usize)>,
}

impl ParityCheck {
    /// Takes what there is of the measurement asked for. One that is about something else than the page is stopped.
    pub(super) fn ask(&mut self, engine: &Engine, current: Option<&ParityJob>) {
        let Some(job) = &self.asked else { return };
        if Some(job) == current {
            self.reply = engine.ask(PARITY, Job::Parity(job.clone()));
        } else {
            self.halt(engine);
        }
    }

    fn start(&mut self, engine: &Engine, job: ParityJob) {
        self.forget(engine);
        self.reply = engine.ask(PARITY, Job::Parity(job.clone()));
        self.asked = Some(job);
    }

    /// Stops a measurement that runs, so that something else need not wait for it.
    pub(super) fn halt(&mut self, engine: &Engine) {
        if self.reply.busy {
            self.forget(engine);
        }
    }

    /// Drops the measurement, and with it the model it was of.
    pub(super) fn forget(&mut self, engine: &Engine) {
        engine.forget(PARITY);
        *self = Self::default();
    }

    /// Ends a measurement that runs; what it has compared until then is its answer.
    fn cancel(&mut self, engine: &Engine) {
        engine.cancel(PARITY);
        // One that had not begun has no answer to come.
        if !engine.reply(PARITY).busy {
            self.forget(engine);
        }
    }

    fn found(&self) -> Option<&Parity> {
        match &self.reply.answer {
            Some(Answer::Parity(found)) => Some(found),
            _ => None,
        }
    }

    /// About how many seconds are left, once two reports tell.
    fn seconds_left(&mut self, now: f64) -> Option<f64> {
        let (_, done, total) = self.reply.progress?;
        let (since, before) = *self.first_report.get_or_insert((now, done));
        let tokens = done.checked_sub(before).filter(|&tokens| tokens > 0)?;
        Some((now - since) / tokens as f64 * total.saturating_sub(done) as f64)
    }
}

impl ScopePage {
    /// What a measurement asked for now would be of: the prompt in force.
    pub(super) fn parity_job(
        &self,
        settings: &ScopeSettings,
        around: &Around<'_>,
    ) -> Option<ParityJob> {
        Some(ParityJob {
            model: ModelRef(around.model?.clone()),
            backend: settings.backend.clone(),
            text: self.prompt.clone()?,
        })
    }

    /// The button, the way there, or the badge.
    pub(super) fn parity(&mut self, ui: &mut Ui, settings: &ScopeSettings, around: &Around<'_>) {
        let current = self.parity_job(settings, around);
        let is_current = self.parity.asked.is_some() && self.parity.asked == current;
        if is_current && self.parity.reply.busy {
            self.parity_progress(ui, around);
            return;
        }
        if is_current {
            if let Some(error) = &self.parity.reply.error {
                ui.colored_label(palette(ui).error, error.to_string());
            } else if let Some(found) = self.parity.found() {
                parity_badge(ui, found);
                if found.tokens == found.total {
                    return;
                }
            }
        }
        if button(ui, settings) {
            // As everything that is started, it is about what is typed.
            if self.prompt.as_deref() != Some(self.typed(settings)) {
                self.take_prompt(settings, around);
            }
            if let Some(job) = self.parity_job(settings, around) {
                self.parity.start(around.engine, job);
            }
        }
    }

    fn parity_progress(&mut self, ui: &mut Ui, around: &Around<'_>) {
        if ui
            .button("Cancel check")
            .on_hover_text("Stop here; what has been compared is shown.")
            .clicked()
        {
            self.parity.cancel(around.engine);
        }
        let (text, share) = progress_text(&self.parity.reply, "comparing");
        let bar = egui::ProgressBar::new(share)
            .text(text)
            .desired_height(18.0);
        ui.add(bar.desired_width(230.0));
        let left = self.parity.seconds_left(ui.input(|input| input.time));
        if let Some(left) = left.filter(|_| !around.hide_timings) {
            item(ui, &left_text(left));
        }
    }
}

/// Asks for a measurement; true when it was clicked.
fn button(ui: &mut Ui, settings: &ScopeSettings) -> bool {
    let can_compare = settings.backend != REFERENCE;
    ui.add_enabled(can_compare, Button::new("Check parity"))
        .on_hover_text(format!(
            "Reads the prompt on this backend and on the naive one, and shows how far the scores of all its tokens lie apart. \
             The {REFERENCE} backend takes its time over a long prompt or a large model; it can be cancelled on the way."
        ))
        .on_disabled_hover_text(NOTHING_TO_COMPARE)
        .clicked()
}

/// The outcome in a line, with all its numbers under the pointer.
pub fn parity_badge(ui: &mut Ui, found: &Parity) -> Response {
    let palette = palette(ui);
    let (ink, edge) = if found.is_within() {
        (palette.text, palette.border)
    } else {
        (palette.error, palette.error)
    };
    // A button that does nothing: in a row that wraps it goes to the next line whole.
    let badge = Button::new(RichText::new(found.to_string()).color(ink))
        .fill(palette.surface)
        .stroke(Stroke::new(1.0, edge))
        .sense(Sense::hover());
    ui.add(badge).on_hover_ui(|ui| explanation(ui, found))
}

fn explanation(ui: &mut Ui, found: &Parity) {
    let Parity {
        backend,
        tokens,
        total,
        ..
    } = found;
    let what = if tokens == total {
        "the prompt".to_owned()
    } else {
        format!("the first {tokens} of the prompt's {total} tokens")
    };
    ui.label(format!(
        "The backends {backend} and {REFERENCE} have both read {what}. The largest differences between their numbers:"
    ));
    let rows = Grid::new("parity").num_columns(2).min_row_height(0.0);
    rows.show(ui, |ui| {
        for (name, value) in found.details() {
            ui.label(name);
            ui.label(value);
            ui.end_row();
        }
    });
    ui.label(if found.is_within() {
        "So little is rounding: the same sums, taken in another order."
    } else {
        "This is more than rounding: what this backend shows of this model is not to be trusted."
    });
}

/// "about 40 s left".
fn left_text(seconds: f64) -> String {
    if seconds < 90.0 {
        format!("about {:.0} s left", seconds.ceil())
    } else {
        format!("about {:.0} min left", (seconds / 60.0).ceil())
    }
}
