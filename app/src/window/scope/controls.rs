//! The left side: the prompt, what to do with it, how tokens are chosen, and what may come next.

use egui::{Align, DragValue, Layout, RichText, Slider, TextEdit, Ui};
use mambascope_core::generate::Finish;
use mambascope_core::watch::Speed;
use mambascope_lessons::widgets::{Bar, Bars, visible_token};

use super::model_bar::{bytes_text, progress};
use super::pictures::token_text;
use super::{Around, EXAMPLES, Motion, ScopePage, Stop};
use crate::window::{ScopeSettings, palette};

/// The longest text the page writes.
const LONGEST: usize = 2000;
/// A prompt of more bytes is described instead of shown: a text field lays all of it out again for every letter.
const LONG_PROMPT: usize = 32 << 10;

impl ScopePage {
    pub(super) fn controls(
        &mut self,
        ui: &mut Ui,
        settings: &mut ScopeSettings,
        around: &mut Around<'_>,
    ) {
        ui.spacing_mut().slider_width = 104.0;
        self.prompt_box(ui, settings, around);
        self.buttons(ui, settings, around);
        self.status(ui, settings, around);
        ui.add_space(4.0);
        egui::CollapsingHeader::new("Sampling").show(ui, |ui| sampling(ui, settings));
        ui.separator();
        self.next_tokens(ui, around);
    }

    fn prompt_box(&mut self, ui: &mut Ui, settings: &mut ScopeSettings, around: &Around<'_>) {
        ui.horizontal(|ui| {
            ui.label(
                RichText::new(if self.by_ids {
                    "Prompt (token ids)"
                } else {
                    "Prompt"
                })
                .strong(),
            );
            if !self.by_ids {
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                    self.examples(ui, settings, around)
                });
            }
        });
        let (typed, hint) = match self.by_ids {
            true => (&mut settings.prompt_ids, "12, 7, 40"),
            false => (&mut settings.prompt, "Begin a story…"),
        };
        if typed.len() > LONG_PROMPT && !self.edits_long_prompt {
            self.edits_long_prompt = long_prompt(ui, typed);
        } else {
            self.edits_long_prompt &= typed.len() > LONG_PROMPT;
            prompt_field(ui, typed, hint);
        }
        if let Some(error) = &self.prompt_reply.error {
            ui.colored_label(palette(ui).error, error.to_string());
        }
    }

    fn examples(&mut self, ui: &mut Ui, settings: &mut ScopeSettings, around: &Around<'_>) {
        ui.menu_button("Examples", |ui| {
            ui.set_max_width(420.0);
            for example in EXAMPLES {
                if ui.button(example).clicked() {
                    example.clone_into(&mut settings.prompt);
                    self.take_prompt(settings, around);
                    self.motion = Motion::Playing(0.0);
                }
            }
        });
    }

    fn buttons(&mut self, ui: &mut Ui, settings: &mut ScopeSettings, around: &Around<'_>) {
        ui.horizontal_wrapped(|ui| {
            let ready = around.model.is_some();
            let accent = palette(ui).accent_soft;
            let run = egui::Button::new(
                RichText::new("Run")
                    .strong()
                    .color(palette(ui).on_accent_soft),
            )
            .fill(accent);
            if ui
                .add_enabled(ready, run)
                .on_hover_text("Write to the limit at full speed.")
                .clicked()
            {
                self.run(settings, around);
            }
            let playing = matches!(self.motion, Motion::Playing(_));
            let play = if playing { "Pause" } else { "Play" };
            if ui
                .add_enabled(ready, egui::Button::new(play))
                .on_hover_text("Walk along the text and go on writing (space).")
                .clicked()
            {
                self.toggle_play(settings, around);
            }
            let can_step = ready && !playing;
            if ui
                .add_enabled(can_step, egui::Button::new("Step"))
                .on_hover_text("One token on.")
                .clicked()
            {
                self.step(settings, around);
            }
            if ui
                .add_enabled(ready, egui::Button::new("Reset"))
                .on_hover_text("Back to the prompt.")
                .clicked()
            {
                self.take_prompt(settings, around);
                self.motion = Motion::Still;
                self.restart();
            }
            let running = self.reply.busy || self.prompt_reply.busy || playing;
            if ui
                .add_enabled(running, egui::Button::new("Cancel"))
                .on_hover_text("Stop here; what is written stays.")
                .clicked()
            {
                self.cancel(around.engine);
            }
        });
        ui.add(
            Slider::new(&mut settings.limit, 1..=LONGEST)
                .logarithmic(true)
                .text("tokens to write"),
        );
        ui.add(
            Slider::new(&mut settings.speed, 1.0..=120.0)
                .logarithmic(true)
                .fixed_decimals(0)
                .text("tokens/s in play"),
        );
    }

    fn status(&self, ui: &mut Ui, settings: &ScopeSettings, around: &Around<'_>) {
        if let Some(error) = &self.reply.error {
            ui.colored_label(palette(ui).error, error.to_string());
            return;
        }
        let Some(watched) = &self.watched else {
            progress(ui, &self.reply, "starting");
            return;
        };
        if self.reply.busy
            && watched.ids.len() == watched.prompt_len
            && self.reply.progress.is_some()
        {
            progress(ui, &self.reply, "reading the prompt");
        }
        let ended = match (watched.finish, self.stop) {
            (Some(Finish::EndOfText), _) => ", end of text",
            (_, Stop::Writing) => ", cancelled",
            (_, Stop::Reading) => ", cancelled before it was read",
            _ => "",
        };
        let weak = palette(ui).weak_text;
        ui.label(format!(
            "{} of {} tokens written after {} of prompt{ended}",
            self.written(),
            settings.limit,
            watched.prompt_len
        ));
        if !around.hide_timings {
            let rate = |part| {
                Speed::rate(part).map_or_else(|| "–".to_owned(), |rate| format!("{rate:.0}"))
            };
            let text = format!(
                "{} tokens/s reading · {} writing",
                rate(watched.speed.prefill),
                rate(watched.speed.decode)
            );
            ui.label(RichText::new(text).color(weak))
                .on_hover_text("Measured on the worker, with everything on this page recorded; mambascope bench measures without.");
        }
        if watched.records.is_empty() {
            return;
        }
        if watched.first > 0 {
            let kept = watched.records.len();
            ui.label(RichText::new(format!("showing the last {kept} tokens")).color(weak));
        }
        if let Some(model) = around.model {
            let kept = watched.records.len();
            let each =
                mambascope_core::watch::WatchJob::bytes_per_token(&model.config, kept) as u64;
            let all = each * watched.records.len() as u64;
            ui.label(RichText::new(format!("{} of records", bytes_text(all))).color(weak))
                .on_hover_text(format!(
                    "{} a token: Δ, u, B and C of every scan with a state every 64 tokens, and where attention looked.",
                    bytes_text(each)
                ));
        }
    }

    /// The ten most likely tokens after the one looked at; the one that came is marked.
    fn next_tokens(&self, ui: &mut Ui, around: &Around<'_>) {
        ui.label(RichText::new("Next token").strong());
        let (Some(watched), Some(focus), Some(model)) = (&self.watched, self.focus(), around.model)
        else {
            ui.label("The most likely tokens appear here once a text runs.");
            return;
        };
        let Some(record) = watched.record(focus) else {
            return;
        };
        let came = watched.ids.get(focus + 1).copied();
        let text = |id| visible_token(&token_text(model, id)).into_owned();
        ui.label(
            RichText::new(format!("after token {focus}, {}", text(record.id)))
                .color(palette(ui).weak_text),
        );
        let labels: Vec<String> = record.next.iter().map(|&(id, _)| text(id)).collect();
        let mut bars: Vec<Bar<'_>> = labels
            .iter()
            .zip(&record.next)
            .map(|(label, &(id, value))| Bar {
                label,
                value,
                came: came == Some(id),
            })
            .collect();
        // What came may not be among the most likely: its probability is in its own record.
        let other = came.filter(|id| record.next.iter().all(|(likely, _)| likely != id));
        let other_text = other.map(text);
        let surprise = watched.record(focus + 1).and_then(|next| next.surprise);
        if let (Some(label), Some(surprise)) = (&other_text, surprise) {
            bars.push(Bar {
                label,
                value: (-surprise).exp(),
                came: true,
            });
        }
        Bars::new("Next token", &bars).show(ui);
    }
}

fn prompt_field(ui: &mut Ui, typed: &mut String, hint: &str) {
    let edit = TextEdit::multiline(typed)
        .desired_rows(3)
        .desired_width(f32::INFINITY)
        .hint_text(hint);
    // A long prompt scrolls instead of pushing everything else away.
    let field = egui::ScrollArea::vertical()
        .id_salt("prompt")
        .max_height(140.0)
        .show(ui, |ui| ui.add(edit))
        .inner;
    field.widget_info(|| {
        egui::WidgetInfo::labeled(egui::accesskit::Role::MultilineTextInput, true, "Prompt")
    });
}

/// A prompt too long to be shown, in a few words. Whether it is to be edited all the same.
fn long_prompt(ui: &mut Ui, typed: &mut String) -> bool {
    let first_line: String = typed
        .trim_start()
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(80)
        .collect();
    ui.label(format!(
        "{} of text: “{first_line}…”",
        bytes_text(typed.len() as u64)
    ));
    ui.horizontal(|ui| {
        let edit = ui
            .button("Edit")
            .on_hover_text("Shows all of it; typing will be slow.");
        if ui.button("Clear").clicked() {
            typed.clear();
        }
        edit.clicked()
    })
    .inner
}

fn sampling(ui: &mut Ui, settings: &mut ScopeSettings) {
    // The names beside these are long; the panel should not widen for them.
    ui.spacing_mut().slider_width = 72.0;
    let sampling = &mut settings.sampling;
    ui.add(Slider::new(&mut sampling.temperature, 0.0..=2.0).text("temperature"))
        .on_hover_text("Divides the scores. 0 takes the most likely token, always.");
    let draws = sampling.temperature > 0.0;
    ui.add_enabled(
        draws,
        Slider::new(&mut sampling.top_k, 0..=200).text("top-k"),
    )
    .on_hover_text("Draws among so many of the most likely tokens. 0 keeps all.");
    ui.add_enabled(
        draws,
        Slider::new(&mut sampling.top_p, 0.05..=1.0).text("top-p"),
    )
    .on_hover_text("Draws among the most likely tokens whose probabilities reach this sum.");
    ui.add(Slider::new(&mut sampling.repetition_penalty, 1.0..=2.0).text("repetition penalty"))
        .on_hover_text("Makes tokens that are already in the text less likely. 1 does nothing.");
    ui.horizontal(|ui| {
        let label = ui.label("seed");
        ui.add_enabled(draws, DragValue::new(&mut sampling.seed))
            .labelled_by(label.id);
        if ui
            .add_enabled(draws, egui::Button::new("another"))
            .on_hover_text("The next seed: another text, just as repeatable.")
            .clicked()
        {
            sampling.seed = sampling.seed.wrapping_add(1);
        }
    });
}
