//! What the page about state tracking claims.

use mambascope_core::job::JobError;
use mambascope_core::noise::Noise;
use ndarray::Array2;

use super::group::{Group, Machine, Transition, accuracy};
use crate::experiment::{Bench, Expected, Experiment, Finding};

/// Tokens of the words of parity.
const LENGTH: usize = 200;
/// Words.
const WORDS: usize = 200;

/// Parity by sign against the best positive decay.
pub const PARITY: Experiment = Experiment {
    name: "parity-by-sign",
    title: "A transition of −1 tracks parity; of transitions between 0 and 1 none does",
    run: parity,
};

fn parity(bench: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let test = Group::Parity.words(LENGTH, WORDS, Noise::new(7, "parity test"));
    let practice = Group::Parity.words(LENGTH, WORDS, Noise::new(7, "parity practice"));
    let machine = Machine::new(Group::Parity, Transition::Sign, 1.0);
    let right = test
        .iter()
        .filter(|word| machine.state(word)[0] == wanted(word))
        .count();
    let (mut best, mut tried) = ((0.0, Leaky::default()), 0);
    for (done, candidate) in Leaky::grid().into_iter().enumerate() {
        if done % 64 == 0 {
            bench.report("settings tried", done, Leaky::COUNT)?;
        }
        let fitted = candidate.fitted(&practice);
        tried += 1;
        if fitted.0 > best.0 {
            best = fitted;
        }
    }
    let fresh = best.1.share(&test);
    Ok(vec![
        Finding::new(
            "sign",
            format!(
                "words of {LENGTH} bits whose parity a transition in {{1, −1}} gives, of {WORDS}"
            ),
            Expected::exactly(WORDS as f64),
            right as f64,
        )
        .in_unit("words"),
        Finding::new(
            "cells",
            "cells with transitions in (0, 1) that were tried: decays at a zero, at a one, and what is written",
            Expected::exactly(Leaky::COUNT as f64),
            tried as f64,
        ),
        Finding::new(
            "positive",
            format!(
                "share of the same words for the best of {} cells with transitions in (0, 1), chosen on other words",
                Leaky::COUNT
            ),
            // A coin over 200 words has a standard error of 0.035: three of them.
            Expected::near(0.5, 3.0 * (0.25 / WORDS as f64).sqrt()),
            fresh,
        ),
        Finding::new(
            "positive-practice",
            "the same cell on the words it was chosen on: luck of the best of many",
            Expected::AtMost(0.75),
            best.0,
        ),
    ])
}

/// 1 for an even number of ones, −1 for an odd one.
fn wanted(word: &[usize]) -> f64 {
    if word.iter().sum::<usize>().is_multiple_of(2) {
        1.0
    } else {
        -1.0
    }
}

/// One slot of positive decay, chosen by the bit, read by a threshold.
#[derive(Clone, Copy, Debug, Default)]
struct Leaky {
    /// Kept at a zero and at a one.
    keeps: [f64; 2],
    /// Written at a zero and at a one.
    writes: [f64; 2],
    threshold: f64,
    /// Whether above the threshold is even.
    above: bool,
}

impl Leaky {
    const KEEPS: [f64; 8] = [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999];
    const WRITES: [[f64; 2]; 4] = [[0.0, 1.0], [1.0, 1.0], [-1.0, 1.0], [1.0, 0.0]];
    const COUNT: usize = 8 * 8 * 4;

    fn grid() -> Vec<Self> {
        let mut all = Vec::with_capacity(Self::COUNT);
        for zero in Self::KEEPS {
            for one in Self::KEEPS {
                all.extend(Self::WRITES.map(|writes| Self {
                    keeps: [zero, one],
                    writes,
                    ..Self::default()
                }));
            }
        }
        all
    }

    /// The state after a word, from one.
    fn state(&self, word: &[usize]) -> f64 {
        word.iter()
            .fold(1.0, |h, &bit| self.keeps[bit] * h + self.writes[bit])
    }

    /// With the threshold and the side that get most of these words right, and the share they get.
    fn fitted(mut self, words: &[Vec<usize>]) -> (f64, Self) {
        let mut states: Vec<(f64, f64)> = words
            .iter()
            .map(|word| (self.state(word), wanted(word)))
            .collect();
        states.sort_by(|a, b| a.0.total_cmp(&b.0));
        let even = states.iter().filter(|state| state.1 > 0.0).count();
        // Right if “even” lies above: all even ones at first; each state passed moves below.
        let (mut right, all) = (even, states.len());
        let mut best = right.max(all - right);
        self.threshold = f64::NEG_INFINITY;
        self.above = right >= all - right;
        for pair in 0..all {
            let (state, wanted) = states[pair];
            right = if wanted > 0.0 { right - 1 } else { right + 1 };
            let next = states.get(pair + 1).map_or(f64::INFINITY, |next| next.0);
            if next > state && right.max(all - right) > best {
                best = right.max(all - right);
                self.threshold = state;
                self.above = right >= all - right;
            }
        }
        (best as f64 / all.max(1) as f64, self)
    }

    /// The share of words it gets right.
    fn share(&self, words: &[Vec<usize>]) -> f64 {
        let is_right = |word: &&Vec<usize>| {
            let is_even = (self.state(word) > self.threshold) == self.above;
            is_even == (wanted(word) > 0.0)
        };
        words.iter().filter(is_right).count() as f64 / words.len().max(1) as f64
    }
}

/// Which transitions follow which group.
pub const GROUPS: Experiment = Experiment {
    name: "shuffle-groups",
    title: "What a transition may be decides which shuffles can be followed over 256 tokens",
    run: groups,
};

fn groups(bench: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    const TESTS: usize = 960;
    let near = |chance: f64| {
        let error = (chance * (1.0 - chance) / TESTS as f64).sqrt();
        // Five standard errors, as there are many rows and the reader's luck with its practice words comes on top.
        Expected::near(chance, 5.0 * error)
    };
    let exact = Expected::exactly(1.0);
    let table = [
        ("parity-sign", Group::Parity, Transition::Sign, exact),
        ("parity-decay", Group::Parity, Transition::Decay, near(0.5)),
        ("mod3-sign", Group::Mod3, Transition::Sign, near(1.0 / 3.0)),
        ("mod3-rotation", Group::Mod3, Transition::Rotation, exact),
        ("s3-sign", Group::S3, Transition::Sign, near(1.0 / 3.0)),
        (
            "s3-rotation",
            Group::S3,
            Transition::Rotation,
            near(1.0 / 3.0),
        ),
        ("s3-reflection", Group::S3, Transition::Reflection, exact),
        ("a5-sign", Group::A5, Transition::Sign, near(1.0 / 60.0)),
        (
            "a5-reflection",
            Group::A5,
            Transition::Reflection,
            near(1.0 / 60.0),
        ),
        ("a5-permutation", Group::A5, Transition::Permutation, exact),
    ];
    let mut findings = Vec::new();
    for (done, (name, group, transition, expected)) in table.into_iter().enumerate() {
        bench.report("machines", done, table.len())?;
        let machine = Machine::new(group, transition, 0.9);
        // So many practice words that each of the 60 products comes up.
        let share = accuracy(group, &machine, 256, [720, TESTS], 5);
        let what = format!(
            "{}, by {}: share right of {TESTS} words of 256 tokens",
            group.title(),
            transition.title()
        );
        findings.push(Finding::new(name, what, expected, share));
    }
    Ok(findings)
}

/// Whether an order is noticed.
pub const ORDER: Experiment = Experiment {
    name: "order-matters",
    title: "Exchange two neighbouring swaps: the shuffle comes out another, a product of diagonals does not",
    run: order,
};

fn order(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let group = Group::S3;
    let matrices = Machine::new(group, Transition::Permutation, 1.0);
    // Diagonal, and chosen by the token: three decays each.
    let noise = Noise::new(9, "diagonals");
    let diagonals: Vec<Array2<f64>> = (0..3)
        .map(|token| {
            let entry = |n: usize| 0.5 + 0.5 * f64::from(noise.uniform(3 * token + n));
            Array2::from_shape_fn((3, 3), |(i, j)| if i == j { entry(i) } else { 0.0 })
        })
        .collect();
    let diagonal = |word: &[usize]| {
        word.iter().fold(Array2::eye(3), |product, &token| {
            diagonals[token].dot(&product)
        })
    };
    let (mut answers, mut noticed, mut worst) = (0, 0, 0.0f64);
    for (number, mut word) in group
        .words(32, WORDS, Noise::new(9, "order"))
        .into_iter()
        .enumerate()
    {
        // The two swaps side by side somewhere: they do not commute.
        let at = number % 31;
        (word[at], word[at + 1]) = (1, 2);
        let mut other = word.clone();
        other.swap(at, at + 1);
        answers += usize::from(group.product(&word) != group.product(&other));
        noticed += usize::from(matrices.state(&word) != matrices.state(&other));
        let (one, two) = (diagonal(&word), diagonal(&other));
        for n in 0..3 {
            // Relative, for the products are small; what is left is rounding.
            worst = worst.max((one[[n, n]] / two[[n, n]] - 1.0).abs());
        }
    }
    Ok(vec![
        Finding::new(
            "answers",
            format!("of {WORDS} words of 32 tokens, those whose answer the exchange changes"),
            Expected::exactly(WORDS as f64),
            answers as f64,
        )
        .in_unit("words"),
        Finding::new(
            "matrices",
            "those where a product of permutation matrices changes too",
            Expected::exactly(WORDS as f64),
            noticed as f64,
        )
        .in_unit("words"),
        Finding::new(
            "diagonal",
            "largest relative change of a product of diagonals",
            Expected::AtMost(1e-13),
            worst,
        ),
    ])
}
