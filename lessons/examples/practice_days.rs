//! Simulates 1,000 days of practice, and prints how long the slowest step took: what a page does after an answer, with the log as
//! long as it has become by then.
//!
//! `cargo run --release -p mambascope-lessons --example practice_days`

use std::time::{Duration, Instant};

use mambascope_core::noise::Noise;
use mambascope_lessons::practice::bank::Level;
use mambascope_lessons::practice::log::Review;
use mambascope_lessons::practice::schedule::{
    DAY, Deck, Rating, Scheduler, Zone, calibration, streak,
};
use mambascope_lessons::practice::{Item, Kind};

const DAYS: i64 = 1_000;
const ITEMS: usize = 150;
const NEW_PER_DAY: usize = 10;

fn main() {
    let names: Vec<String> = (0..ITEMS).map(|i| format!("item-{i}")).collect();
    let topics = ["memory", "gates", "scans", "recall", "hybrids"];
    let items: Vec<Item<'_>> = names
        .iter()
        .enumerate()
        .map(|(i, id)| Item {
            id,
            kind: Kind::Question,
            topic: topics[i % topics.len()],
            level: Level::ALL[i % 3],
        })
        .collect();
    let scheduler = Scheduler::default();
    let noise = Noise::new(1, "practice");
    let mut deck = Deck::default();
    let mut reviews: Vec<Review> = Vec::new();
    let mut slowest = [Duration::ZERO; 3];
    for today in 0..DAYS {
        let mut now = 1_800_000_000 + today * DAY;
        // As many as there is time for in half an hour or so.
        for _ in 0..40 {
            let start = Instant::now();
            let Some(item) = deck.queue(&items, now, Zone::UTC, NEW_PER_DAY).next() else {
                break;
            };
            let known = deck.card(item.id).retrievability(now);
            let correct = f64::from(noise.uniform(reviews.len())) < known.max(0.6);
            let rating = if correct { Rating::Good } else { Rating::Again };
            deck.answer(&scheduler, item.id, rating, now);
            reviews.push(Review {
                item: item.id.to_owned(),
                at: now,
                revision: 0,
                rating,
                suggested: rating,
                correct,
                confidence: Some(known),
                seconds: 40.0,
                seed: None,
                answer: None,
            });
            slowest[0] = slowest[0].max(start.elapsed());
            now += 45;
        }
        let start = Instant::now();
        let shown = (
            deck.mastery(&items, now).len(),
            streak(&reviews, now, Zone::UTC),
            calibration(&reviews, 10).len(),
        );
        slowest[1] = slowest[1].max(start.elapsed());
        assert_eq!(shown.0, topics.len());
        let start = Instant::now();
        let replayed = Deck::replay(&scheduler, &reviews);
        slowest[2] = slowest[2].max(start.elapsed());
        assert_eq!(replayed, deck);
    }
    println!(
        "{DAYS} days, {} answers to {ITEMS} items; the slowest:",
        reviews.len()
    );
    for (what, time) in ["answer", "statistics", "replay of the whole log"]
        .iter()
        .zip(slowest)
    {
        println!("  {what:<24} {:8.3} ms", time.as_secs_f64() * 1e3);
    }
}
