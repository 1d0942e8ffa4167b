//! The cells of a page, each drawn with what belongs to it.

use egui::{Align, Frame, Layout, RichText, ScrollArea, Ui, vec2};
use mambascope_core::engine::{Engine, Reply};
use mambascope_core::job::Job;
use mambascope_core::study::StudyJob;

use super::check::{self, Draft};
use super::notes::Notes;
use super::open_page::{LiveDemo, OpenPage, Target};
use super::settings::NotebookSettings;
use super::trial;
use super::{LINE, NOTE_ROOM, NotebookRequest};
use crate::course;
use crate::demo::Around;
use crate::experiment::{Experiment, Trial};
use crate::page::{CellKind, Check, Excerpt};
use crate::theme;

/// What a cell needs while it is drawn.
pub(super) struct Desk<'a> {
    pub(super) engine: &'a Engine,
    pub(super) around: &'a Around,
    pub(super) settings: &'a mut NotebookSettings,
    pub(super) requests: &'a mut Vec<NotebookRequest>,
    /// Numbers committed to on this page.
    pub(super) guesses: Vec<(String, f64)>,
}

/// What a cell is called in the reader's notes.
pub(super) fn cell_name(kind: &CellKind, index: usize) -> String {
    match kind {
        CellKind::Prose(text) => {
            let heading = text.lines().find_map(|line| line.strip_prefix("## "));
            heading.map_or_else(|| format!("text {index}"), str::to_owned)
        }
        CellKind::Demo { id, .. } => format!("demo {id}"),
        CellKind::Check(check) => format!("question {}", check.id),
        CellKind::Experiment(name) => format!("experiment {name}"),
        CellKind::Excerpt(excerpt) => format!("{} {}", excerpt.file, excerpt.from),
    }
}

/// Draws one cell and the note under it; only the room of a cell that is out of sight.
pub(super) fn cell_ui(
    ui: &mut Ui,
    open: &mut OpenPage,
    index: usize,
    kind: &CellKind,
    notes: &mut Notes,
    desk: &mut Desk<'_>,
) {
    let top = ui.cursor().min;
    let known = open.heights.get(index).copied().unwrap_or(0.0);
    let room = egui::Rect::from_min_size(top, vec2(ui.available_width(), known));
    let is_target = open.go_to == Some(Target::Cell(index));
    if known > 0.0 && !ui.is_rect_visible(room.expand(200.0)) && !is_target {
        ui.allocate_space(room.size());
        return;
    }
    let drawn = ui
        .push_id(index, |ui| {
            ui.vertical(|ui| {
                match kind {
                    CellKind::Prose(text) => {
                        ui.scope(|ui| {
                            ui.set_max_width(LINE.min(ui.available_width()));
                            open.texts.show(ui, text);
                        });
                    }
                    CellKind::Demo { id, after, .. } => {
                        card(ui, |ui| match covered_by(open, id, after, desk) {
                            Some(check) => cover_ui(ui, open, index, id, check, desk),
                            None => demo_ui(ui, open, id, desk),
                        });
                    }
                    CellKind::Check(check) => card(ui, |ui| check_ui(ui, open, index, check, desk)),
                    CellKind::Experiment(name) => {
                        card(ui, |ui| experiment_ui(ui, open, name, desk));
                    }
                    CellKind::Excerpt(excerpt) => excerpt_ui(ui, excerpt),
                }
                note_ui(ui, open, index, &cell_name(kind, index), notes);
            })
        })
        .response
        .rect;
    if is_target {
        ui.scroll_to_rect(drawn, Some(Align::TOP));
        open.go_to = None;
    }
    note_button(ui, open, index, drawn);
    if let Some(height) = open.heights.get_mut(index) {
        *height = drawn.height();
    }
}

/// The frame around what is not text.
pub(super) fn card(ui: &mut Ui, contents: impl FnOnce(&mut Ui)) {
    let palette = theme::palette(ui.visuals());
    ui.add_space(6.0);
    Frame::new()
        .fill(palette.panel)
        .stroke(egui::Stroke::new(1.0, palette.border))
        .corner_radius(6)
        .inner_margin(12)
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            contents(ui);
        });
    ui.add_space(6.0);
}

/// The cell of the check a demo still waits for, if it is to be covered.
fn covered_by(open: &OpenPage, id: &str, after: &[String], desk: &Desk<'_>) -> Option<usize> {
    if desk.settings.uncovered.contains(id) {
        return None;
    }
    open.unanswered(after, desk.settings)
}

/// In place of a demo that would give away what a question asks for.
fn cover_ui(
    ui: &mut Ui,
    open: &mut OpenPage,
    index: usize,
    id: &str,
    check: usize,
    desk: &mut Desk<'_>,
) {
    let palette = theme::palette(ui.visuals());
    if let Some(live) = open.demos.get(id) {
        ui.label(RichText::new(live.demo.title()).strong().size(15.0));
    }
    ui.add_space(4.0);
    let place = if check < index { "above" } else { "below" };
    let text = format!(
        "This demo shows what the question {place} asks for. It opens once you have committed to an answer; a guess will do."
    );
    ui.label(RichText::new(text).color(palette.weak_text));
    ui.add_space(4.0);
    ui.horizontal(|ui| {
        if ui.button("Go to the question").clicked() {
            open.go_to = Some(Target::Cell(check));
        }
        if ui.button("Show it anyway").clicked() {
            desk.settings.uncovered.insert(id.to_owned());
        }
    });
}

pub(super) fn demo_ui(ui: &mut Ui, open: &mut OpenPage, id: &str, desk: &mut Desk<'_>) {
    let palette = theme::palette(ui.visuals());
    let Some(live) = open.demos.get_mut(id) else {
        ui.colored_label(palette.error, format!("there is no demo {id:?}"));
        return;
    };
    let mut is_reset = false;
    ui.horizontal(|ui| {
        ui.label(RichText::new(live.demo.title()).strong().size(15.0));
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            is_reset = ui.small_button("Reset").clicked();
            if ui.small_button("Paste preset").clicked() {
                live.pasting = match live.pasting {
                    Some(_) => None,
                    None => Some(String::new()),
                };
            }
            let copy = ui.small_button("Copy preset");
            if copy
                .on_hover_text("A line of text that brings this demo back as it is")
                .clicked()
            {
                desk.requests
                    .push(NotebookRequest::Copy(live.demo.preset()));
            }
        });
    });
    paste_ui(ui, live);
    if is_reset && live.demo.load(live.first.clone()).is_err() {
        live.demo.reset();
    }
    ui.add_space(4.0);
    let slot = live.demo.id();
    let job = live.demo.job(desk.around);
    let reply = match job {
        Some(job) => desk.engine.ask(slot, job),
        None => Reply::default(),
    };
    let before = live.demo.save();
    live.demo
        .ui(ui, reply.answer.as_ref(), &desk.guesses, desk.around);
    let is_slow = trial::is_slow(ui, slot, reply.busy);
    if is_slow && (reply.answer.is_none() || reply.progress.is_some()) {
        trial::progress(ui, &reply);
    }
    if let Some(error) = &reply.error {
        ui.colored_label(palette.error, error.to_string());
    }
    let after = live.demo.save();
    if before != after {
        trial::begins_anew(ui, slot);
        ui.ctx().request_repaint();
    }
    if after == live.first {
        desk.settings.demos.remove(id);
    } else if desk
        .settings
        .demos
        .get(id)
        .is_none_or(|kept| before != after || kept.is_empty())
    {
        desk.settings.demos.insert(id.to_owned(), after.to_string());
    }
}

/// The field a preset is pasted into.
pub(super) fn paste_ui(ui: &mut Ui, live: &mut LiveDemo) {
    let Some(text) = &mut live.pasting else {
        return;
    };
    let mut is_done = false;
    ui.horizontal(|ui| {
        let hint = format!("{} {{…}}", live.demo.id());
        let field = egui::TextEdit::singleline(text).hint_text(hint);
        ui.add(field.desired_width(ui.available_width() - 80.0));
        if ui.button("Load").clicked() {
            match live.demo.load_preset(text) {
                Ok(()) => (is_done, live.error) = (true, None),
                Err(error) => live.error = Some(error.to_string()),
            }
        }
    });
    if let Some(error) = &live.error {
        ui.colored_label(theme::palette(ui.visuals()).error, error);
    }
    if is_done {
        live.pasting = None;
    }
}

/// What an experiment's slot holds; asks for it if it is to run.
pub(super) fn ask_experiment(
    open: &OpenPage,
    experiment: &'static Experiment,
    desk: &mut Desk<'_>,
) -> Reply {
    if !open.asked.contains(experiment.name) {
        return Reply::default();
    }
    let job = Job::Study(StudyJob::new(Trial(experiment)));
    let reply = desk.engine.ask(experiment.name, job);
    if trial::findings(&reply).is_some_and(|found| found.iter().all(|finding| finding.holds())) {
        desk.settings.proven.insert(experiment.name.to_owned());
    }
    reply
}

pub(super) fn experiment(name: &str) -> Option<&'static Experiment> {
    course::experiments().find(|experiment| experiment.name == name)
}

pub(super) fn check_ui(
    ui: &mut Ui,
    open: &mut OpenPage,
    index: usize,
    check: &Check,
    desk: &mut Desk<'_>,
) {
    let palette = theme::palette(ui.visuals());
    ui.label(
        RichText::new("Before you read on")
            .small()
            .strong()
            .color(palette.accent),
    );
    let mut committed = desk.settings.guesses.get(&check.id).cloned();
    if !check::is_settled(check, committed.as_ref()) {
        committed = None;
    }
    let name = check
        .finding
        .as_deref()
        .and_then(|finding| finding.split('/').next());
    let source = name.and_then(experiment);
    let reply = match source {
        Some(experiment) if committed.is_some() => {
            open.asked.insert(experiment.name);
            ask_experiment(open, experiment, desk)
        }
        _ => Reply::default(),
    };
    let draft = open
        .drafts
        .entry(check.id.clone())
        .or_insert_with(|| Draft::of(check));
    check::show(ui, &mut open.texts, check, draft, &mut committed, &reply);
    let kept = match committed {
        Some(guess) => desk.settings.guesses.insert(check.id.clone(), guess),
        None => desk.settings.guesses.remove(&check.id),
    };
    let is_answered = kept.is_none() && desk.settings.guesses.contains_key(&check.id);
    if is_answered && open.is_waited_for_above(index, &check.id) {
        // What opens there pushes this cell down: the verdict stays in sight.
        open.go_to = Some(Target::Cell(index));
        ui.ctx().request_repaint();
    }
}

pub(super) fn experiment_ui(ui: &mut Ui, open: &mut OpenPage, name: &str, desk: &mut Desk<'_>) {
    let palette = theme::palette(ui.visuals());
    let Some(experiment) = experiment(name) else {
        ui.colored_label(palette.error, format!("there is no experiment {name:?}"));
        return;
    };
    let reply = ask_experiment(open, experiment, desk);
    ui.label(
        RichText::new("Experiment")
            .small()
            .strong()
            .color(palette.accent),
    );
    let has_held = desk.settings.proven.contains(experiment.name);
    match trial::show(ui, experiment, &reply, has_held) {
        Some(trial::Asked::Run) => {
            open.asked.insert(experiment.name);
            desk.engine.allow_again(experiment.name);
            ui.ctx().request_repaint();
        }
        Some(trial::Asked::Stop) => desk.engine.cancel(experiment.name),
        None => {}
    }
}

pub(super) fn excerpt_ui(ui: &mut Ui, excerpt: &Excerpt) {
    let palette = theme::palette(ui.visuals());
    let lines = match excerpt.read() {
        Ok(lines) => lines,
        Err(reason) => {
            ui.colored_label(palette.error, reason);
            return;
        }
    };
    card(ui, |ui| {
        let first = lines.first().map_or(0, |line| line.number);
        let place = format!("{}, from line {first}", excerpt.file);
        ui.label(RichText::new(place).small().color(palette.weak_text));
        ui.add_space(4.0);
        ScrollArea::horizontal().show(ui, |ui| {
            ui.vertical(|ui| {
                ui.spacing_mut().item_spacing.y = 1.0;
                for line in &lines {
                    let mut text =
                        RichText::new(format!("{:>4}  {}", line.number, line.text)).monospace();
                    if line.is_marked {
                        text = text
                            .background_color(palette.accent_soft)
                            .color(palette.on_accent_soft);
                    }
                    ui.add(egui::Label::new(text).extend());
                }
            });
        });
    });
}

/// The reader's note under a cell, if there is one.
pub(super) fn note_ui(
    ui: &mut Ui,
    open: &mut OpenPage,
    index: usize,
    cell: &str,
    notes: &mut Notes,
) {
    let palette = theme::palette(ui.visuals());
    let lesson = open.lesson.id;
    let kept = notes.get(lesson, cell).map(str::to_owned);
    if kept.is_none() && !open.noting.contains(&index) {
        return;
    }
    let mut text = kept.unwrap_or_default();
    let note = Frame::new()
        .fill(palette.accent_soft)
        .corner_radius(4)
        .inner_margin(6);
    note.show(ui, |ui| {
        let field = egui::TextEdit::multiline(&mut text)
            .desired_width(f32::INFINITY)
            .desired_rows(2)
            .hint_text("Your note");
        let edit = ui.add(field);
        if edit.changed() {
            let now = ui.input(|input| input.time);
            notes.set(lesson, cell, &text, now);
            // Emptied, it stays open until it is left.
            open.noting.insert(index);
        }
        if edit.lost_focus() && text.is_empty() {
            open.noting.remove(&index);
        }
    });
    ui.add_space(8.0);
}

/// The button beside a cell that begins a note; seen while the pointer is at the cell.
pub(super) fn note_button(ui: &mut Ui, open: &mut OpenPage, index: usize, cell: egui::Rect) {
    let palette = theme::palette(ui.visuals());
    let place = egui::Rect::from_min_size(
        cell.right_top() + vec2(6.0, 4.0),
        vec2(NOTE_ROOM - 6.0, 20.0),
    );
    let button = ui.interact(
        place,
        ui.scope_id().with(("note", index)),
        egui::Sense::click(),
    );
    let name = "Write a note of your own at this cell";
    button.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::Button, true, name));
    let near = egui::Rect::from_min_max(cell.min, place.right_bottom().max(cell.max));
    if button.has_focus() || ui.rect_contains_pointer(near) {
        let colour = if button.hovered() || button.has_focus() {
            palette.accent
        } else {
            palette.weak_text
        };
        let font = egui::TextStyle::Small.resolve(ui.style());
        ui.painter().text(
            place.left_center(),
            egui::Align2::LEFT_CENTER,
            "+ note",
            font,
            colour,
        );
    }
    if button.on_hover_text(name).clicked() {
        open.noting.insert(index);
    }
}
