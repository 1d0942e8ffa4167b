//! The review: what is due, then what is new, one after the other.

use egui::Ui;

use super::claim::ClaimAttempt;
use super::desk::{Attempts, Desk};
use super::drill::DrillAttempt;
use super::parts::{bar, capital, empty, neighbours, sheet, small, span};
use super::question::QuestionAttempt;
use super::record::Logged;
use super::settings::PracticeSettings;
use crate::practice::schedule::{Queue, Rating};
use crate::practice::{Item, Kind, drill, items};

/// An attempt at whatever has come up.
enum Attempt {
    Question(QuestionAttempt),
    Drill(Box<DrillAttempt>),
    Claim(ClaimAttempt),
}

impl Attempt {
    fn new(item: &Item<'_>, now: i64) -> Option<Self> {
        Some(match item.kind {
            Kind::Question => Self::Question(QuestionAttempt::new(now)),
            Kind::Claim => Self::Claim(ClaimAttempt::new(now)),
            Kind::Drill => {
                let entry = drill::drill(item.id)?;
                Self::Drill(Box::new(DrillAttempt::new(entry, now)))
            }
        })
    }

    /// Whether it has been counted, though the learner has not gone on yet.
    fn is_logged(&self) -> bool {
        match self {
            Self::Question(_) => false,
            Self::Drill(attempt) => attempt.is_logged(),
            Self::Claim(attempt) => attempt.is_logged(),
        }
    }

    /// Out of sight: its time does not run.
    fn pause(&mut self, now: i64) {
        match self {
            Self::Question(attempt) => attempt.pause(now),
            Self::Drill(attempt) => attempt.pause(now),
            Self::Claim(attempt) => attempt.pause(now),
        }
    }

    fn actions(&mut self, ui: &mut Ui, id: &str, desk: &mut Desk<'_>) -> Option<Logged> {
        let bank = desk.bank;
        match self {
            Self::Question(attempt) => attempt.actions(ui, bank.question(id)?, desk),
            Self::Drill(attempt) => attempt.actions(ui, desk),
            Self::Claim(attempt) => attempt.actions(ui, bank.claim(id)?, desk),
        }
    }

    fn body(&mut self, ui: &mut Ui, id: &str, desk: &mut Desk<'_>) {
        let bank = desk.bank;
        match self {
            Self::Question(attempt) => {
                if let Some(question) = bank.question(id) {
                    attempt.body(ui, question, desk);
                }
            }
            Self::Drill(attempt) => attempt.body(ui, desk),
            Self::Claim(attempt) => {
                if let Some(claim) = bank.claim(id) {
                    attempt.body(ui, claim, desk);
                }
            }
        }
    }
}

/// The part of the page.
#[derive(Default)]
pub(super) struct ReviewPart {
    current: Option<String>,
    attempts: Attempts<Attempt>,
    /// The answer before this one: its rating can still be corrected.
    last: Option<Logged>,
}

/// What is to be answered, of what the filters let through.
pub(super) fn queue<'a>(desk: &Desk<'a>, settings: &PracticeSettings) -> Queue<'a> {
    let mut items = items(desk.bank);
    items.retain(|item| settings.admits(item));
    let deck = &desk.record.deck;
    deck.queue(&items, desk.now, desk.zone, settings.new_per_day)
}

impl ReviewPart {
    /// Draws it.
    pub(super) fn show(&mut self, ui: &mut Ui, desk: &mut Desk<'_>, settings: &PracticeSettings) {
        let queue = queue(desk, settings);
        let mut row: Vec<Item<'_>> = queue.due.iter().chain(&queue.new).copied().collect();
        self.settle(&mut row, desk);
        let place = row
            .iter()
            .position(|item| Some(item.id) == self.current.as_deref());
        let Some((place, item)) = place.and_then(|place| Some((place, *row.get(place)?))) else {
            self.nothing(ui, desk, settings);
            return;
        };
        let mut go = None;
        let made = Attempt::new(&item, desk.now);
        let attempts = &mut self.attempts;
        let attempt = match made {
            Some(made) => attempts.entry(item.id.to_owned()).or_insert(made),
            None => return,
        };
        let done = bar(ui, |ui| attempt.actions(ui, item.id, desk));
        sheet(ui, ("review", item.id), |ui| {
            let what = format!(
                "to answer: {} due, {} new",
                queue.due.len(),
                queue.new.len()
            );
            go = neighbours(ui, place, row.len(), &what);
            if let Some(last) = &mut self.last {
                correction(ui, last, desk);
            }
            ui.push_id(item.id, |ui| attempt.body(ui, item.id, desk));
        });
        if let Some(logged) = done {
            self.attempts.remove(item.id);
            self.last = Some(logged);
            // Answered: the next of the row, or the first of what is left.
            self.current = row.get(place + 1).map(|item| item.id.to_owned());
            ui.ctx().request_repaint();
        } else if let Some(next) = go.and_then(|place| row.get(place)) {
            attempt.pause(desk.now);
            if attempt.is_logged() {
                // Passed by without a word: when it comes back it begins anew.
                self.attempts.remove(item.id);
            }
            self.current = Some(next.id.to_owned());
            ui.ctx().request_repaint();
        }
    }

    /// Stays with what was checked until the learner goes on; else goes to the first of the row.
    fn settle<'a>(&mut self, row: &mut Vec<Item<'a>>, desk: &Desk<'a>) {
        let current = self.current.as_deref();
        if row.iter().any(|item| Some(item.id) == current) {
            return;
        }
        let is_open = current.is_some_and(|id| {
            let attempt = self.attempts.get(id);
            attempt.is_some_and(Attempt::is_logged)
        });
        if is_open {
            let all = items(desk.bank);
            if let Some(item) = all.into_iter().find(|item| Some(item.id) == current) {
                row.insert(0, item);
                return;
            }
        }
        self.current = row.first().map(|item| item.id.to_owned());
    }

    /// What is said when everything is done.
    fn nothing(&mut self, ui: &mut Ui, desk: &mut Desk<'_>, settings: &PracticeSettings) {
        let mut all = items(desk.bank);
        all.retain(|item| settings.admits(item));
        let cards = all.iter().map(|item| desk.record.deck.card(item.id));
        let (new, seen): (Vec<_>, Vec<_>) = cards.partition(|card| card.is_new());
        let next = seen.iter().map(|card| card.due).min();
        let mut text = String::new();
        if all.is_empty() {
            text.push_str(
                "No question is of this topic and this level. Choose others on the left.",
            );
        }
        if let Some(due) = next {
            let wait = (due - desk.now).max(1);
            text.push_str(&format!("The next one comes back in {}. ", span(wait)));
            let wait = std::time::Duration::from_secs(wait.min(60).unsigned_abs());
            ui.ctx().request_repaint_after(wait);
        }
        if !new.is_empty() {
            text.push_str(&format!(
                "{} are still new: raise the number of new ones a day on the left, or judge claims and do drills in the meantime.",
                new.len()
            ));
        }
        let title = if all.is_empty() {
            "Nothing to ask"
        } else {
            "All done for now"
        };
        sheet(ui, "review done", |ui| {
            if let Some(last) = &mut self.last {
                correction(ui, last, desk);
            }
            empty(ui, title, text.trim());
        });
    }
}

/// The rating of the answer before, which can still be another.
fn correction(ui: &mut Ui, last: &mut Logged, desk: &mut Desk<'_>) {
    let preview = desk.record.preview(&last.before, last.review.at);
    let mut wanted = last.review.rating;
    ui.horizontal_wrapped(|ui| {
        let place = Rating::ALL.iter().position(|rating| *rating == wanted);
        let seconds = place.and_then(|i| preview.get(i)).copied().unwrap_or(0);
        small(
            ui,
            format!("The one before comes back in {}. It was", span(seconds)),
        );
        for rating in Rating::ALL {
            let button = egui::Button::selectable(rating == wanted, capital(rating.name())).small();
            let name = format!("The one before was {}", rating.name());
            let button = ui.add(button);
            button.widget_info(|| {
                let is_chosen = rating == last.review.rating;
                egui::WidgetInfo::selected(egui::accesskit::Role::Button, true, is_chosen, &name)
            });
            if button.clicked() {
                wanted = rating;
            }
        }
    });
    desk.record.correct(&mut last.review, wanted);
}
