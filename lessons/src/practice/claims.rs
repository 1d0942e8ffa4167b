//! The claim court: how well confidence fits with being right, and which claims come next.

use std::collections::BTreeMap;

use super::bank::{Bank, Claim, Verdict};
use super::log::{Review, settled};
use super::schedule::Grade;

/// The least confidence there is: three verdicts to guess from.
pub const LEAST_CONFIDENCE: f64 = 1.0 / 3.0;

/// What a judgement comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// Whether the verdict is the right one.
    pub correct: bool,
    /// Wrong, or right.
    pub grade: Grade,
    /// (confidence − 1)² when right, confidence² when wrong: 0 is best, 1 worst.
    pub brier: f64,
}

impl Claim {
    /// Holds a verdict against the right one.
    pub fn judge(&self, verdict: Verdict, confidence: f64) -> Judged {
        let correct = verdict == self.verdict;
        Judged {
            correct,
            grade: if correct { Grade::Right } else { Grade::Wrong },
            brier: brier_of(correct, confidence),
        }
    }
}

fn brier_of(correct: bool, confidence: f64) -> f64 {
    (confidence.clamp(0.0, 1.0) - f64::from(u8::from(correct))).powi(2)
}

/// The mean Brier score of the answers that came with a confidence; none when there are none. 0 is best; who always says
/// "one half" gets 0.25.
pub fn brier_score(reviews: &[Review]) -> Option<f64> {
    let reviews = settled(reviews);
    let judged = reviews
        .iter()
        .filter_map(|review| Some(brier_of(review.correct, review.confidence?)));
    let (sum, count) = judged.fold((0.0, 0u32), |(sum, count), score| (sum + score, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// The claims in the order in which they come: those last judged wrongly, the most confident mistake first; those never judged,
/// in the bank's order; those last judged rightly, the least confident first.
pub fn order<'a>(bank: &'a Bank, reviews: &[Review]) -> Vec<&'a Claim> {
    let mut last: BTreeMap<String, Review> = BTreeMap::new();
    for review in settled(reviews) {
        last.insert(review.item.clone(), review);
    }
    let rank = |claim: &Claim| match last.get(&claim.id) {
        None => (1, 0.0),
        Some(review) => {
            let confidence = review.confidence.unwrap_or(LEAST_CONFIDENCE);
            if review.correct {
                (2, confidence)
            } else {
                (0, -confidence)
            }
        }
    };
    let mut claims: Vec<&Claim> = bank.claims.iter().collect();
    claims.sort_by(|left, right| {
        let (left, right) = (rank(left), rank(right));
        left.0.cmp(&right.0).then(left.1.total_cmp(&right.1))
    });
    claims
}
