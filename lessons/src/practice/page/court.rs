//! The claim court: one claim after the other, confident mistakes first.

use egui::Ui;

use super::claim::ClaimAttempt;
use super::desk::{Attempts, Desk};
use super::parts::{bar, empty, main_button, neighbours, sheet, small};
use super::settings::PracticeSettings;
use crate::practice::bank::Level;
use crate::practice::items;

/// The part of the page.
#[derive(Default)]
pub(super) struct CourtPart {
    /// The claims in the order of this session.
    row: Vec<String>,
    /// The topic and the level they were chosen by.
    chosen_by: (Option<String>, Option<Level>),
    place: usize,
    attempts: Attempts<ClaimAttempt>,
    judged: usize,
    right: usize,
}

impl CourtPart {
    /// Draws it.
    pub(super) fn show(&mut self, ui: &mut Ui, desk: &mut Desk<'_>, settings: &PracticeSettings) {
        let chosen_by = (settings.topic.clone(), settings.level);
        if self.row.is_empty() || self.chosen_by != chosen_by {
            self.row = admitted(desk, settings);
            self.chosen_by = chosen_by;
            self.place = 0;
        }
        if self.row.is_empty() {
            let text = "No claim is of this topic and this level. Choose others on the left.";
            sheet(ui, "no claims", |ui| empty(ui, "No claims here", text));
            return;
        }
        let bank = desk.bank;
        let claim = self.row.get(self.place).and_then(|id| bank.claim(id));
        let Some(claim) = claim else {
            self.finished(ui, desk);
            return;
        };
        let made = || ClaimAttempt::new(desk.now);
        let attempt = self.attempts.entry(claim.id.clone()).or_insert_with(made);
        let was_judged = attempt.is_logged();
        let done = bar(ui, |ui| attempt.actions(ui, claim, desk));
        if let (false, Some(correct)) = (was_judged, attempt.correct()) {
            self.judged += 1;
            self.right += usize::from(correct);
        }
        let (place, count) = (self.place, self.row.len());
        let mut go = None;
        let (judged, right) = (self.judged, self.right);
        sheet(ui, ("claim", &claim.id), |ui| {
            go = neighbours(ui, place, count, "claims");
            score(ui, judged, right, desk);
            ui.push_id(&claim.id, |ui| attempt.body(ui, claim, desk));
        });
        if done.is_some() {
            go = Some(place + 1);
        }
        if let Some(place) = go {
            attempt.pause(desk.now);
            self.place = place;
            ui.ctx().request_repaint();
        }
    }

    /// When the last claim has been passed.
    fn finished(&mut self, ui: &mut Ui, desk: &mut Desk<'_>) {
        let (judged, right) = (self.judged, self.right);
        let again = sheet(ui, "court is over", |ui| {
            score(ui, judged, right, desk);
            let text =
                "The next session begins with the claims you were most confidently wrong about.";
            empty(ui, "The court rises", text);
            ui.add_space(12.0);
            ui.vertical_centered(|ui| main_button(ui, true, "Another session"))
                .inner
        });
        if again {
            *self = Self::default();
            ui.ctx().request_repaint();
        }
    }
}

/// The claims that the filters let through, in the order in which they come.
fn admitted(desk: &Desk<'_>, settings: &PracticeSettings) -> Vec<String> {
    let items = items(desk.bank);
    let mut row = desk.record.claims(desk.bank);
    row.retain(|id| {
        let item = items.iter().find(|item| item.id == id);
        item.is_some_and(|item| settings.admits(item))
    });
    row
}

/// How it goes: of this session, and the Brier score of all answers.
fn score(ui: &mut Ui, judged: usize, right: usize, desk: &mut Desk<'_>) {
    let brier = desk.record.standing(desk.now, desk.zone).brier;
    let brier = brier.map_or_else(
        || "Brier score: none yet, judge a claim".to_owned(),
        |brier| {
            format!(
                "Brier score {brier:.3} over all answers (0 is best, 0.25 is saying “half” always)"
            )
        },
    );
    let session = if judged == 0 {
        String::new()
    } else {
        format!("{right} of {judged} right in this session. ")
    };
    small(ui, format!("{session}{brier}."));
}
