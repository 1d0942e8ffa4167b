//! The drills: a list of all, and the one that is open.

use egui::{Panel, RichText, ScrollArea, Ui, vec2};

use super::desk::{Attempts, Desk};
use super::drill::{DrillAttempt, title};
use super::parts::{bar, empty, neighbours, sheet, small, topic_title};
use super::settings::PracticeSettings;
use crate::practice::drill::{DRILLS, DrillEntry};
use crate::practice::{Item, Kind};
use crate::theme;

/// The part of the page.
#[derive(Default)]
pub(super) struct DrillsPart {
    current: Option<&'static str>,
    /// The one the list was last scrolled to.
    listed: Option<&'static str>,
    attempts: Attempts<DrillAttempt>,
}

/// The drill as something that is asked.
fn item(entry: &'static DrillEntry) -> Item<'static> {
    Item {
        id: entry.id,
        kind: Kind::Drill,
        topic: entry.topic,
        level: entry.level,
    }
}

/// The drills that the filters let through, topic by topic.
fn admitted(settings: &PracticeSettings) -> Vec<&'static DrillEntry> {
    let entries = DRILLS.iter().filter(|entry| settings.admits(&item(entry)));
    let mut row: Vec<&'static DrillEntry> = entries.collect();
    let first = |topic: &str| DRILLS.iter().position(|entry| entry.topic == topic);
    row.sort_by_key(|entry| first(entry.topic));
    row
}

impl DrillsPart {
    /// Draws it.
    pub(super) fn show(&mut self, ui: &mut Ui, desk: &mut Desk<'_>, settings: &PracticeSettings) {
        let row = admitted(settings);
        let open = row.iter().position(|entry| Some(entry.id) == self.current);
        let place = open.unwrap_or(0);
        let Some(entry) = row.get(place).copied() else {
            sheet(ui, "no drills", |ui| {
                let text = "No drill is of this topic and this level. Choose others on the left.";
                empty(ui, "No drills here", text);
            });
            return;
        };
        self.current = Some(entry.id);
        let is_fresh = self.listed.replace(entry.id) != Some(entry.id);
        let mut go = list(ui, &row, place, is_fresh, desk);
        let made = || DrillAttempt::new(entry, desk.now);
        let attempt = self
            .attempts
            .entry(entry.id.to_owned())
            .or_insert_with(made);
        let done = bar(ui, |ui| attempt.actions(ui, desk));
        sheet(ui, ("drill", entry.id), |ui| {
            go = go.or(neighbours(ui, place, row.len(), "drills"));
            ui.push_id((entry.id, attempt.seed()), |ui| attempt.body(ui, desk));
        });
        if done.is_some() {
            go = Some((place + 1) % row.len().max(1));
        }
        if let Some(next) = go.and_then(|place| row.get(place)) {
            attempt.pause(desk.now);
            if attempt.is_logged() {
                // Another time it has other numbers.
                self.attempts.remove(entry.id);
            }
            self.current = Some(next.id);
            ui.ctx().request_repaint();
        }
    }
}

/// The names of the drills, topic by topic, scrolled to the one that is open when it is `is_fresh`; gives the one that was
/// chosen.
fn list(
    ui: &mut Ui,
    row: &[&'static DrillEntry],
    place: usize,
    is_fresh: bool,
    desk: &Desk<'_>,
) -> Option<usize> {
    let palette = theme::palette(ui.visuals());
    let mut chosen = None;
    Panel::left("list of drills")
        .resizable(true)
        .default_size(214.0)
        .size_range(160.0..=320.0)
        .show(ui, |ui| {
            ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
                ui.spacing_mut().item_spacing.y = 3.0;
                let mut topic = "";
                for (i, entry) in row.iter().enumerate() {
                    if entry.topic != topic {
                        topic = entry.topic;
                        ui.add_space(8.0);
                        small(ui, topic_title(topic));
                    }
                    let is_done = !desk.record.deck.card(entry.id).is_new();
                    let mark = if is_done { "\u{a0}✔" } else { "" };
                    let text = RichText::new(format!("{}{mark}", title(entry))).size(13.0);
                    let button = egui::Button::selectable(i == place, text)
                        .wrap()
                        .min_size(vec2(ui.available_width(), 0.0));
                    let button = ui.add(button);
                    if is_fresh && i == place && !ui.is_rect_visible(button.rect.expand(8.0)) {
                        button.scroll_to_me(None);
                    }
                    if button.clicked() {
                        chosen = Some(i);
                    }
                }
                ui.add_space(8.0);
                let key = RichText::new("✔ done at least once").small();
                ui.label(key.color(palette.weak_text));
            });
        });
    chosen
}
