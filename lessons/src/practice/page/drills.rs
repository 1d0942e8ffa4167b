//! The drills: a list of all, and the one that is open.

use egui::{RichText, Ui, vec2};

use super::desk::{Attempts, Desk};
use super::drill::DrillAttempt;
use super::parts::{bar, empty, neighbours, sheet, small, topic_title};
use super::settings::PracticeSettings;
use crate::practice::drill::{DRILLS, DrillEntry};
use crate::practice::{Item, Kind};
use crate::theme;

/// The part of the page.
#[derive(Default)]
pub(super) struct DrillsPart {
    current: Option<&'static str>,
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

impl DrillsPart {
    /// Draws it.
    pub(super) fn show(&mut self, ui: &mut Ui, desk: &mut Desk<'_>, settings: &PracticeSettings) {
        let entries = DRILLS.iter().filter(|entry| settings.admits(&item(entry)));
        let row: Vec<&'static DrillEntry> = entries.collect();
        let open = row.iter().position(|entry| Some(entry.id) == self.current);
        let place = open.unwrap_or(0);
        let Some(entry) = row.get(place).copied() else {
            sheet(ui, "no drills", |ui| {
                let text = "No drill is of this topic and this level. Choose others on the left: drills are on \
                            memory, gates, scans and code.";
                empty(ui, "No drills here", text);
            });
            return;
        };
        self.current = Some(entry.id);
        let made = || DrillAttempt::new(entry, desk.now);
        let attempt = self
            .attempts
            .entry(entry.id.to_owned())
            .or_insert_with(made);
        let done = bar(ui, |ui| attempt.actions(ui, desk));
        let mut go = None;
        sheet(ui, ("drill", entry.id), |ui| {
            go = neighbours(ui, place, row.len(), "drills");
            go = go.or(list(ui, &row, place, desk));
            ui.push_id((entry.id, attempt.seed()), |ui| attempt.body(ui, desk));
        });
        if done.is_some() {
            self.attempts.remove(entry.id);
            go = Some((place + 1) % row.len().max(1));
        }
        if let Some(next) = go.and_then(|place| row.get(place)) {
            self.current = Some(next.id);
            ui.ctx().request_repaint();
        }
    }
}

/// The names of the drills by topic; gives the one that was chosen.
fn list(ui: &mut Ui, row: &[&'static DrillEntry], place: usize, desk: &Desk<'_>) -> Option<usize> {
    let palette = theme::palette(ui.visuals());
    let mut chosen = None;
    let mut from = 0;
    while let Some(first) = row.get(from) {
        let of_topic = row.iter().skip(from);
        let count = of_topic
            .take_while(|entry| entry.topic == first.topic)
            .count();
        ui.horizontal_top(|ui| {
            let name = RichText::new(topic_title(first.topic))
                .small()
                .color(palette.weak_text);
            ui.add_sized(
                vec2(64.0, 24.0),
                egui::Label::new(name).halign(egui::Align::Min),
            );
            ui.horizontal_wrapped(|ui| {
                ui.spacing_mut().item_spacing = vec2(4.0, 4.0);
                for (i, entry) in row.iter().enumerate().skip(from).take(count) {
                    let is_seen = !desk.record.deck.card(entry.id).is_new();
                    let mark = if is_seen { "  ✔" } else { "" };
                    let text = format!("{}{mark}", entry.title);
                    if ui.selectable_label(i == place, text).clicked() {
                        chosen = Some(i);
                    }
                }
            });
        });
        from += count;
    }
    if row
        .iter()
        .any(|entry| !desk.record.deck.card(entry.id).is_new())
    {
        small(ui, "✔ done at least once");
    }
    chosen
}
