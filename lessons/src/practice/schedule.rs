//! When what comes back: spaced repetition by FSRS, and how far one has come.
//!
//! Moments are seconds since 1970; what day one belongs to depends on the learner's [`Zone`].

use std::collections::{BTreeMap, BTreeSet};

use rs_fsrs::Parameters;
use serde::{Deserialize, Serialize};

use super::Item;
use super::log::{Review, settled};

/// Seconds of a day.
pub const DAY: i64 = 86_400;
/// Seconds after which what was forgotten is asked again.
pub const RELEARN: i64 = 600;
/// New items a day, unless the learner says otherwise.
pub const NEW_PER_DAY: usize = 10;
/// Bounds of a memory's stability, in days.
const STABILITY: (f64, f64) = (0.01, 36_500.0);

/// How far local time is ahead of UTC.
#[derive(Clone, Copy, Debug)]
pub enum Zone {
    /// By so many seconds, always.
    Fixed(i64),
    /// By the seconds that this gives for a moment: where there is summer time, and for years before a zone was changed.
    Of(fn(i64) -> i64),
}

impl Zone {
    /// Not at all.
    pub const UTC: Self = Self::Fixed(0);

    /// The moment as a clock on the wall there counts it.
    pub fn local(self, at: i64) -> i64 {
        let ahead = match self {
            Self::Fixed(seconds) => seconds,
            Self::Of(ahead) => ahead(at),
        };
        at.saturating_add(ahead)
    }
}

/// How well it went; the keys 1 to 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rating {
    /// Forgotten, or wrong: a lapse.
    Again,
    /// Right, with trouble.
    Hard,
    /// Right.
    Good,
    /// Right at once, and sure of it.
    Easy,
}

impl Rating {
    /// All of them, in the order of the keys.
    pub const ALL: [Self; 4] = [Self::Again, Self::Hard, Self::Good, Self::Easy];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Again => "again",
            Self::Hard => "hard",
            Self::Good => "good",
            Self::Easy => "easy",
        }
    }

    /// The rating of a key, 1 to 4.
    pub fn of_key(key: u8) -> Option<Self> {
        Self::ALL.get(usize::from(key).checked_sub(1)?).copied()
    }

    fn fsrs(self) -> rs_fsrs::Rating {
        match self {
            Self::Again => rs_fsrs::Rating::Again,
            Self::Hard => rs_fsrs::Rating::Hard,
            Self::Good => rs_fsrs::Rating::Good,
            Self::Easy => rs_fsrs::Rating::Easy,
        }
    }
}

/// How right an answer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// Wrong.
    Wrong,
    /// Right in part.
    Partly,
    /// Right.
    Right,
}

/// What a rating is derived from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// How right the answer was.
    pub grade: Grade,
    /// Seconds it took.
    pub seconds: f64,
    /// Seconds it may take.
    pub expected_seconds: f64,
    /// How sure the learner was, 0 to 1.
    pub confidence: Option<f64>,
}

impl Evidence {
    /// The rating that follows, for the learner to correct: wrong is again; right in part, unsure, or more than twice the time is
    /// hard; sure and within half the time is easy.
    pub fn rating(&self) -> Rating {
        let share = self.seconds / self.expected_seconds.max(1.0);
        let unsure = self.confidence.is_some_and(|confidence| confidence < 0.5);
        let sure = self.confidence.is_some_and(|confidence| confidence >= 0.9);
        match self.grade {
            Grade::Wrong => Rating::Again,
            Grade::Partly => Rating::Hard,
            Grade::Right if unsure || share > 2.0 => Rating::Hard,
            Grade::Right if sure && share <= 0.5 => Rating::Easy,
            Grade::Right => Rating::Good,
        }
    }
}

/// What the schedule remembers of an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Days after which it is known with a probability of 0.9.
    pub stability: f64,
    /// 1 to 10.
    pub difficulty: f64,
    /// When it was first answered.
    pub first: i64,
    /// When it was last answered.
    pub last: i64,
    /// When it is due.
    pub due: i64,
    /// How often it was answered; 0 for one that is new.
    pub reviews: u32,
    /// How often it was forgotten.
    pub lapses: u32,
}

impl Card {
    /// Whether it was never answered.
    pub fn is_new(&self) -> bool {
        self.reviews == 0
    }

    /// Seconds from the last answer to the next; 0 for a new one.
    pub fn interval(&self) -> i64 {
        self.due.saturating_sub(self.last)
    }

    /// The probability that it is known at that moment; 0 for a new one.
    pub fn retrievability(&self, now: i64) -> f64 {
        if self.is_new() {
            return 0.0;
        }
        Parameters::forgetting_curve(days(self.last, now), self.stability)
    }

    /// The forgetting curve: `points` pairs of days since the last answer and the probability that it is still known.
    pub fn forgetting(&self, days: f64, points: usize) -> Vec<[f64; 2]> {
        let steps = points.saturating_sub(1).max(1) as f64;
        let at = |point: usize| {
            let day = days * point as f64 / steps;
            let seconds = (day * DAY as f64) as i64;
            [day, self.retrievability(self.last.saturating_add(seconds))]
        };
        (0..points).map(at).collect()
    }
}

/// Days between two moments; 0 when a clock was set back.
fn days(from: i64, to: i64) -> f64 {
    to.saturating_sub(from).max(0) as f64 / DAY as f64
}

/// The day a moment belongs to.
pub fn day(at: i64, zone: Zone) -> i64 {
    zone.local(at).div_euclid(DAY)
}

/// Says when cards come back.
#[derive(Clone, Debug)]
pub struct Scheduler {
    parameters: Parameters,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self::new(0.9)
    }
}

impl Scheduler {
    /// One that asks again when the probability to know falls to `retention`, 0.7 to 0.97.
    pub fn new(retention: f64) -> Self {
        let retention = if retention.is_nan() { 0.9 } else { retention };
        Self {
            parameters: Parameters {
                request_retention: retention.clamp(0.7, 0.97),
                // Chance in the intervals would make two replays of one log differ.
                enable_fuzz: false,
                ..Parameters::default()
            },
        }
    }

    /// The card after an answer. A pass never makes the interval shorter; a lapse makes it [`RELEARN`].
    pub fn next(&self, card: &Card, rating: Rating, now: i64) -> Card {
        let parameters = &self.parameters;
        let (stability, difficulty) = if card.is_new() {
            (
                parameters.init_stability(rating.fsrs()),
                parameters.init_difficulty(rating.fsrs()),
            )
        } else {
            self.memory(card, rating, now)
        };
        let stability = stability.clamp(STABILITY.0, STABILITY.1);
        let interval = if rating == Rating::Again {
            RELEARN
        } else {
            let days = parameters.next_interval(stability, 0);
            card.interval().max(days as i64 * DAY)
        };
        Card {
            stability,
            difficulty,
            first: if card.is_new() { now } else { card.first },
            last: now,
            due: now.saturating_add(interval),
            reviews: card.reviews.saturating_add(1),
            lapses: card
                .lapses
                .saturating_add(u32::from(rating == Rating::Again)),
        }
    }

    /// Stability and difficulty of a card that is not new.
    fn memory(&self, card: &Card, rating: Rating, now: i64) -> (f64, f64) {
        let parameters = &self.parameters;
        let elapsed = days(card.last, now);
        let (before, hardness) = (card.stability, card.difficulty);
        let recall = Parameters::forgetting_curve(elapsed, before);
        let after = match rating {
            // Within a day the curve says little.
            _ if elapsed < 1.0 => parameters.short_term_stability(before, rating.fsrs()),
            Rating::Again => parameters.next_forget_stability(hardness, before, recall),
            _ => parameters.next_recall_stability(hardness, before, recall, rating.fsrs()),
        };
        let stability = match rating {
            Rating::Again => after.min(before),
            _ => after.max(before),
        };
        (
            stability,
            parameters.next_difficulty(hardness, rating.fsrs()),
        )
    }

    /// Seconds until the card would come back, for each rating in the order of the keys: what the buttons say.
    pub fn preview(&self, card: &Card, now: i64) -> [i64; 4] {
        Rating::ALL.map(|rating| self.next(card, rating, now).interval())
    }
}

/// What is to be answered now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue<'a> {
    /// Due, the longest overdue first.
    pub due: Vec<Item<'a>>,
    /// New, as many as the day still allows.
    pub new: Vec<Item<'a>>,
}

impl<'a> Queue<'a> {
    /// What comes first: what is due, then what is new.
    pub fn next(&self) -> Option<Item<'a>> {
        self.due.first().or(self.new.first()).copied()
    }
}

/// How well a topic is known.
#[derive(Clone, Debug, PartialEq)]
pub struct Mastery {
    /// The topic.
    pub topic: String,
    /// Items there are.
    pub items: usize,
    /// Items answered at least once.
    pub seen: usize,
    /// Mean probability to know an item of it now; one that is new counts as not known.
    pub known: f64,
}

/// The cards of all items that were ever answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deck {
    cards: BTreeMap<String, Card>,
}

impl Deck {
    /// The deck after all reviews of a log, corrections taken in.
    pub fn replay(scheduler: &Scheduler, reviews: &[Review]) -> Self {
        let mut deck = Self::default();
        for review in settled(reviews) {
            deck.answer(scheduler, &review.item, review.rating, review.at);
        }
        deck
    }

    /// Takes in one more answer. After the correction of an earlier one, replay instead.
    pub fn answer(&mut self, scheduler: &Scheduler, item: &str, rating: Rating, now: i64) -> Card {
        let card = scheduler.next(&self.card(item), rating, now);
        self.cards.insert(item.to_owned(), card);
        card
    }

    /// The card of an item; a new one when it was never answered.
    pub fn card(&self, item: &str) -> Card {
        self.cards.get(item).copied().unwrap_or_default()
    }

    /// How many items were answered for the first time on the day of that moment.
    pub fn new_today(&self, now: i64, zone: Zone) -> usize {
        let today = day(now, zone);
        let cards = self.cards.values();
        cards.filter(|card| day(card.first, zone) == today).count()
    }

    /// What of these items is to be answered now, at most `new_per_day` new ones a day.
    pub fn queue<'a>(
        &self,
        items: &[Item<'a>],
        now: i64,
        zone: Zone,
        new_per_day: usize,
    ) -> Queue<'a> {
        let is_new = |item: &Item<'a>| !self.cards.contains_key(item.id);
        let mut due: Vec<(i64, Item<'a>)> = items
            .iter()
            .filter(|item| !is_new(item))
            .map(|item| (self.card(item.id).due, *item))
            .filter(|(due, _)| *due <= now)
            .collect();
        due.sort_by_key(|(due, item)| (*due, item.id));
        let left = new_per_day.saturating_sub(self.new_today(now, zone));
        Queue {
            due: due.into_iter().map(|(_, item)| item).collect(),
            new: items.iter().copied().filter(is_new).take(left).collect(),
        }
    }

    /// How well each topic is known, in the order of the items.
    pub fn mastery(&self, items: &[Item<'_>], now: i64) -> Vec<Mastery> {
        let mut topics: Vec<Mastery> = Vec::new();
        for item in items {
            let card = self.card(item.id);
            let index = topics
                .iter()
                .position(|mastery| mastery.topic == item.topic);
            let index = index.unwrap_or_else(|| {
                topics.push(Mastery {
                    topic: item.topic.to_owned(),
                    items: 0,
                    seen: 0,
                    known: 0.0,
                });
                topics.len() - 1
            });
            let mastery = &mut topics[index];
            mastery.items += 1;
            mastery.seen += usize::from(!card.is_new());
            mastery.known += card.retrievability(now);
        }
        for mastery in &mut topics {
            mastery.known /= mastery.items as f64;
        }
        topics
    }
}

/// Days in a row with an answer, up to today; a day that is not over yet breaks nothing.
pub fn streak(reviews: &[Review], now: i64, zone: Zone) -> u32 {
    let practised: BTreeSet<i64> = reviews.iter().map(|review| day(review.at, zone)).collect();
    let today = day(now, zone);
    let last = if practised.contains(&today) {
        today
    } else {
        today - 1
    };
    let in_row = (0..).take_while(|back| practised.contains(&(last - i64::from(*back))));
    in_row.count() as u32
}

/// Answers of about the same confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CalibrationPoint {
    /// Their mean confidence.
    pub confidence: f64,
    /// The share of them that is right: the same as the confidence for who knows what she knows.
    pub correct: f64,
    /// How many there are.
    pub count: usize,
}

/// Confidence against being right, in `bins` equal parts of 0 to 1; parts without answers are left out.
pub fn calibration(reviews: &[Review], bins: usize) -> Vec<CalibrationPoint> {
    let bins = bins.max(1);
    let mut sums = vec![(0.0, 0.0, 0usize); bins];
    for review in settled(reviews) {
        let Some(confidence) = review.confidence else {
            continue;
        };
        let confidence = confidence.clamp(0.0, 1.0);
        let bin = ((confidence * bins as f64) as usize).min(bins - 1);
        let sum = &mut sums[bin];
        sum.0 += confidence;
        sum.1 += f64::from(u8::from(review.correct));
        sum.2 += 1;
    }
    let filled = sums.into_iter().filter(|(.., count)| *count > 0);
    filled
        .map(|(confidence, correct, count)| CalibrationPoint {
            confidence: confidence / count as f64,
            correct: correct / count as f64,
            count,
        })
        .collect()
}
