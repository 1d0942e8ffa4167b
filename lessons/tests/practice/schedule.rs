//! The schedule.

use mambascope_lessons::practice::bank::Level;
use mambascope_lessons::practice::log::Review;
use mambascope_lessons::practice::schedule::{
    Card, DAY, Deck, Evidence, Grade, RELEARN, Rating, Scheduler, Zone, calibration, streak,
};
use mambascope_lessons::practice::{Item, Kind};
use proptest::prelude::*;

/// Some moment.
const NOW: i64 = 1_800_000_000;

fn ratings() -> impl Strategy<Value = Rating> {
    prop::sample::select(&Rating::ALL[..])
}

proptest! {
    #[test]
    fn a_pass_never_shortens_the_interval_and_a_lapse_does(
        retention in 0.7f64..0.97,
        answers in prop::collection::vec((ratings(), -2.0f64..400.0), 1..40),
    ) {
        let scheduler = Scheduler::new(retention);
        let (mut card, mut now) = (Card::default(), NOW);
        for (rating, days) in answers {
            // Early, in time, late, and with a clock that was set back.
            now += (days * DAY as f64) as i64;
            let next = scheduler.next(&card, rating, now);
            if rating == Rating::Again {
                prop_assert_eq!(next.interval(), RELEARN);
                prop_assert!(card.is_new() || next.stability <= card.stability);
                prop_assert!(card.interval() <= RELEARN || next.interval() < card.interval());
            } else {
                prop_assert!(next.interval() >= card.interval().max(DAY));
                prop_assert!(card.is_new() || next.stability >= card.stability);
            }
            prop_assert!(next.stability.is_finite() && (1.0..=10.0).contains(&next.difficulty));
            let known = next.retrievability(now + 5 * DAY);
            prop_assert!((0.0..=1.0).contains(&known));
            prop_assert_eq!(next.reviews, card.reviews + 1);
            card = next;
        }
    }

    #[test]
    fn a_better_rating_never_comes_back_sooner(
        answers in prop::collection::vec((ratings(), 0.0f64..90.0), 0..12),
        days in 0.0f64..200.0,
    ) {
        let scheduler = Scheduler::default();
        let (mut card, mut now) = (Card::default(), NOW);
        for (rating, days) in answers {
            now += (days * DAY as f64) as i64;
            card = scheduler.next(&card, rating, now);
        }
        let preview = scheduler.preview(&card, now + (days * DAY as f64) as i64);
        prop_assert!(preview.is_sorted(), "{:?}", preview);
    }
}

const TOPICS: [&str; 2] = ["a", "b"];
const IDS: [&str; 4] = ["one", "two", "three", "four"];

fn some_items() -> Vec<Item<'static>> {
    let items = IDS.iter().enumerate();
    items
        .map(|(i, id)| Item {
            id,
            kind: Kind::Question,
            topic: TOPICS[i / 2],
            level: Level::Basic,
        })
        .collect()
}

fn review(item: &str, at: i64, rating: Rating) -> Review {
    Review {
        item: item.into(),
        at,
        revision: 0,
        rating,
        suggested: rating,
        correct: rating != Rating::Again,
        confidence: None,
        seconds: 20.0,
        seed: None,
        answer: None,
    }
}

#[test]
fn due_ones_come_before_new_ones_and_new_ones_are_limited() {
    let scheduler = Scheduler::default();
    let reviews = [
        review("two", NOW, Rating::Good),
        review("three", NOW + 5, Rating::Again),
    ];
    let deck = Deck::replay(&scheduler, &reviews);
    let later = NOW + RELEARN + 60;
    let items = some_items();
    let queue = deck.queue(&items, later, Zone::UTC, 3);
    assert_eq!(queue.next().unwrap().id, "three");
    assert_eq!(queue.due.len(), 1);
    // Two of the three were used up today.
    assert_eq!(deck.new_today(later, Zone::UTC), 2);
    assert_eq!(
        queue.new.iter().map(|item| item.id).collect::<Vec<_>>(),
        ["one"]
    );
    let queue = deck.queue(&items, NOW + 30 * DAY, Zone::UTC, 3);
    assert_eq!(
        queue.due.iter().map(|item| item.id).collect::<Vec<_>>(),
        ["three", "two"]
    );
    assert_eq!(queue.new.len(), 2);
}

#[test]
fn a_correction_counts_instead_of_what_it_corrects() {
    let scheduler = Scheduler::default();
    let first = review("one", NOW, Rating::Again);
    let reviews = [
        first.clone(),
        first.corrected(Rating::Easy),
        review("two", NOW, Rating::Good),
    ];
    let deck = Deck::replay(&scheduler, &reviews);
    let card = deck.card("one");
    assert_eq!((card.reviews, card.lapses), (1, 0));
    assert!(card.interval() > 10 * DAY);
    // The order of the lines says nothing.
    let mut turned = reviews.clone();
    turned.reverse();
    assert_eq!(Deck::replay(&scheduler, &turned), deck);
}

#[test]
fn mastery_counts_what_is_new_as_not_known() {
    let scheduler = Scheduler::default();
    let deck = Deck::replay(&scheduler, &[review("one", NOW, Rating::Good)]);
    let topics = deck.mastery(&some_items(), NOW);
    assert_eq!((topics[0].items, topics[0].seen), (2, 1));
    assert!((topics[0].known - 0.5).abs() < 1e-9);
    assert_eq!(topics[1].known, 0.0);
    let card = deck.card("one");
    assert!((card.retrievability(NOW + (card.stability * DAY as f64) as i64) - 0.9).abs() < 1e-3);
    let curve = card.forgetting(30.0, 31);
    assert_eq!((curve.len(), curve[0]), (31, [0.0, 1.0]));
    assert!(curve.is_sorted_by(|left, right| left[1] >= right[1]));
}

#[test]
fn a_streak_lasts_until_a_day_is_over_without_an_answer() {
    let on = |days: &[i64]| -> Vec<Review> {
        let days = days.iter();
        days.map(|day| review("one", NOW + day * DAY, Rating::Good))
            .collect()
    };
    assert_eq!(streak(&on(&[]), NOW, Zone::UTC), 0);
    assert_eq!(streak(&on(&[-2, -1, 0]), NOW, Zone::UTC), 3);
    assert_eq!(streak(&on(&[-2, -1]), NOW, Zone::UTC), 2);
    assert_eq!(streak(&on(&[-3, -2]), NOW, Zone::UTC), 0);
    assert_eq!(streak(&on(&[-4, -2, -1, 0, 0]), NOW, Zone::UTC), 3);
    // Half an hour before midnight UTC is the next day one hour to the east.
    let night = NOW.div_euclid(DAY) * DAY + DAY - 1_800;
    let reviews = [review("one", night, Rating::Good)];
    assert_eq!(streak(&reviews, night + DAY + 3_600, Zone::UTC), 0);
    assert_eq!(streak(&reviews, night + DAY + 3_600, Zone::Fixed(3_600)), 1);
}

/// One hour ahead, two from this moment on: at 01:00 UTC, as in Europe in March.
const SUMMER: i64 = 1_774_746_000;

#[test]
fn an_answer_belongs_to_the_day_it_had_where_it_was_given() {
    let zone = Zone::Of(|at| if at < SUMMER { 3_600 } else { 7_200 });
    // 23:30 on the evening before that of the change: with the hour of summer it would be the day of the change.
    let evening = SUMMER - 5_400 - 3_600;
    assert_eq!(zone.local(evening).rem_euclid(DAY), 23 * 3_600 + 1_800);
    let after = SUMMER + DAY;
    let reviews = [
        review("one", evening, Rating::Good),
        review("two", after, Rating::Good),
    ];
    assert_eq!(streak(&reviews, after, zone), 1, "a day lies between");
    assert_eq!(streak(&reviews, after, Zone::Fixed(7_200)), 2);
    // New ones are counted by the day they had, too.
    let deck = Deck::replay(&Scheduler::default(), &reviews[..1]);
    assert_eq!(deck.new_today(SUMMER + 3_600, zone), 0);
    assert_eq!(deck.new_today(SUMMER + 3_600, Zone::Fixed(7_200)), 1);
}

#[test]
fn calibration_compares_confidence_with_being_right() {
    let sure = |at: i64, confidence: f64, correct: bool| Review {
        confidence: Some(confidence),
        correct,
        ..review("one", at, Rating::Good)
    };
    let reviews = [
        sure(1, 0.95, true),
        sure(2, 1.0, false),
        sure(3, 0.4, true),
        review("two", 4, Rating::Good),
    ];
    let points = calibration(&reviews, 5);
    assert_eq!(points.len(), 2);
    assert_eq!((points[0].correct, points[0].count), (1.0, 1));
    assert!((points[1].confidence - 0.975).abs() < 1e-9 && points[1].correct == 0.5);
}

#[test]
fn the_rating_follows_from_correctness_time_and_confidence() {
    let rating = |grade, seconds, confidence| {
        let evidence = Evidence {
            grade,
            seconds,
            expected_seconds: 100.0,
            confidence,
        };
        evidence.rating()
    };
    assert_eq!(rating(Grade::Wrong, 10.0, Some(1.0)), Rating::Again);
    assert_eq!(rating(Grade::Partly, 10.0, Some(1.0)), Rating::Hard);
    assert_eq!(rating(Grade::Right, 300.0, None), Rating::Hard);
    assert_eq!(rating(Grade::Right, 60.0, Some(0.4)), Rating::Hard);
    assert_eq!(rating(Grade::Right, 60.0, None), Rating::Good);
    assert_eq!(rating(Grade::Right, 20.0, None), Rating::Good);
    assert_eq!(rating(Grade::Right, 20.0, Some(0.95)), Rating::Easy);
    assert_eq!(Rating::of_key(1), Some(Rating::Again));
    assert_eq!(Rating::of_key(0), None);
    assert_eq!(Rating::of_key(5), None);
}
