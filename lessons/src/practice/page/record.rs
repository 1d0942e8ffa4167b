//! The answers so far, and what follows from them.

use std::path::Path;

use crate::practice::bank::Bank;
use crate::practice::claims;
use crate::practice::log::{Imported, Review, ReviewLog};
use crate::practice::schedule::{
    CalibrationPoint, Card, Deck, Rating, Scheduler, Zone, calibration, day, streak,
};

/// Parts of the range of confidence in the calibration plot.
const BINS: usize = 10;

/// An answer that was counted, and the card before it: what the intervals of a correction are computed from.
#[derive(Clone, Debug)]
pub(super) struct Logged {
    pub(super) review: Review,
    pub(super) before: Card,
}

/// What is worked out of all answers, when they change.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// Mean Brier score of the answers with a confidence.
    pub(super) brier: Option<f64>,
    /// Confidence against being right.
    pub(super) calibration: Vec<CalibrationPoint>,
    /// Days in a row.
    pub(super) streak: u32,
    /// The day for which that holds.
    day: i64,
}

/// The answers, in the data folder or, without one, for as long as the window is open.
pub(super) struct Record {
    log: Option<ReviewLog>,
    reviews: Vec<Review>,
    scheduler: Scheduler,
    /// The cards.
    pub(super) deck: Deck,
    standing: Option<Standing>,
    /// What the learner should be told about the log.
    pub(super) notices: Vec<String>,
}

impl Record {
    /// The answers kept in a data folder.
    pub(super) fn open(folder: Option<&Path>) -> Self {
        let mut record = Self {
            log: None,
            reviews: Vec::new(),
            scheduler: Scheduler::default(),
            deck: Deck::default(),
            standing: None,
            notices: Vec::new(),
        };
        match folder.map(ReviewLog::open) {
            None => record
                .notices
                .push("There is no data folder: answers last until the window closes.".to_owned()),
            Some(Err(error)) => record
                .notices
                .push(format!("{error}. Answers last until the window closes.")),
            Some(Ok(opened)) => {
                record.log = Some(opened.log);
                record.reviews = opened.reviews;
                record.notices = opened.notices.iter().map(ToString::to_string).collect();
            }
        }
        record.replay();
        record
    }

    /// The log, where there is one.
    pub(super) fn log(&self) -> Option<&ReviewLog> {
        self.log.as_ref()
    }

    /// All answers, with their corrections.
    pub(super) fn reviews(&self) -> &[Review] {
        &self.reviews
    }

    fn replay(&mut self) {
        self.deck = Deck::replay(&self.scheduler, &self.reviews);
        self.standing = None;
    }

    /// Counts an answer, and writes it.
    pub(super) fn answer(&mut self, mut review: Review) -> Logged {
        // Two answers of one second would count as one.
        let is_taken = |review: &Review| {
            let mut reviews = self.reviews.iter();
            reviews.any(|other| other.at == review.at && other.item == review.item)
        };
        while is_taken(&review) {
            review.at += 1;
        }
        let before = self.deck.card(&review.item);
        self.write(&review);
        self.deck
            .answer(&self.scheduler, &review.item, review.rating, review.at);
        self.standing = None;
        self.reviews.push(review.clone());
        Logged { review, before }
    }

    /// Gives an answer another rating.
    pub(super) fn correct(&mut self, review: &mut Review, rating: Rating) {
        if review.rating == rating {
            return;
        }
        *review = review.corrected(rating);
        self.write(review);
        self.reviews.push(review.clone());
        self.replay();
    }

    /// An answer is one line and on the disk at once: quicker than a frame.
    fn write(&mut self, review: &Review) {
        let Some(log) = &self.log else { return };
        if let Err(error) = log.append(review) {
            self.notices.push(format!(
                "{error}. This answer lasts until the window closes."
            ));
        }
    }

    /// Seconds until an item would come back, for each rating.
    pub(super) fn preview(&self, card: &Card, now: i64) -> [i64; 4] {
        self.scheduler.preview(card, now)
    }

    /// Takes in what an import has brought to the log.
    pub(super) fn take(&mut self, imported: &Imported) {
        self.reviews.extend(imported.added.iter().cloned());
        self.replay();
    }

    /// What is worked out of all answers.
    pub(super) fn standing(&mut self, now: i64, zone: Zone) -> &Standing {
        let today = day(now, zone);
        let is_old = |standing: &Standing| standing.day != today;
        if self.standing.as_ref().is_none_or(is_old) {
            self.standing = Some(Standing {
                brier: claims::brier_score(&self.reviews),
                calibration: calibration(&self.reviews, BINS),
                streak: streak(&self.reviews, now, zone),
                day: today,
            });
        }
        self.standing.get_or_insert_default()
    }

    /// The claims in the order in which they come.
    pub(super) fn claims(&self, bank: &Bank) -> Vec<String> {
        let claims = claims::order(bank, &self.reviews);
        claims.into_iter().map(|claim| claim.id.clone()).collect()
    }
}
