//! The texts of the question bank: their formulas are typeset, their numbers are those the experiments measure, their presets open.

use std::collections::BTreeSet;

use mambascope_lessons::course;
use mambascope_lessons::page::{formulas, links};
use mambascope_lessons::practice::bank::Bank;
use mambascope_lessons::widgets::formula::Typeset;

use crate::numbers::Measured;

/// Every text with the name of what it belongs to.
fn texts(bank: &Bank) -> Vec<(&str, &str)> {
    let questions = bank.questions.iter().flat_map(|question| {
        let texts = question.texts();
        texts.map(|text| (question.id.as_str(), text.as_str()))
    });
    let claims = bank.claims.iter().flat_map(|claim| {
        let texts = claim.texts();
        texts.map(|text| (claim.id.as_str(), text.as_str()))
    });
    questions.chain(claims).collect()
}

#[test]
fn every_formula_of_the_bank_is_typeset_without_text() {
    let bank = Bank::load().unwrap();
    let mut seen = 0;
    for (id, text) in texts(&bank) {
        for (tex, is_inline) in formulas(text) {
            let typeset =
                Typeset::new(&tex, is_inline).unwrap_or_else(|error| panic!("{id}: {error}"));
            assert!(typeset.size().x > 0.0, "{id}: {tex} is empty");
            assert!(
                !typeset.svg(20.0, egui::Color32::BLACK).contains("<text"),
                "{id}: {tex}"
            );
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen}");
}

#[test]
fn numbers_of_the_bank_are_what_the_experiments_measure() {
    let bank = Bank::load().unwrap();
    let mut measured = Measured::default();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (id, text) in texts(&bank) {
        for link in links(text) {
            match link.to.strip_prefix("prove:") {
                Some(finding) => wrong.extend(measured.wrong(id, &link.text, finding)),
                None => wrong.push(format!("{id}: {} leads out of the program", link.to)),
            }
            seen += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 150, "{seen}");
}

/// A text without its formulas, its code and the words of its links.
fn bare(text: &str) -> String {
    let mut bare = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['$', '`', '[']) {
        let (before, marked) = rest.split_at(at);
        bare.push_str(before);
        let ends = match marked.as_bytes() {
            [b'$', b'$', ..] => "$$",
            [b'$', ..] => "$",
            [b'`', b'`', b'`', ..] => "```",
            [b'`', ..] => "`",
            // An interval such as [0, t] is no link.
            _ if !marked.contains("](prove:") => "]",
            _ => ")",
        };
        let inner = &marked[if ends == "]" || ends == ")" {
            1
        } else {
            ends.len()
        }..];
        rest = inner.split_once(ends).map_or("", |(_, after)| after);
    }
    bare.push_str(rest);
    bare
}

/// Numbers with a decimal point, a percent sign or a unit of bytes that stand in the prose of a text.
fn plain_numbers(text: &str) -> Vec<String> {
    let bare = bare(text);
    let words: Vec<&str> = bare.split_whitespace().collect();
    let trimmed = |word: &str| -> String {
        let inner = word.trim_matches(|c: char| !c.is_ascii_digit() && c != '%');
        inner.to_owned()
    };
    let is_number = |word: &str| {
        let digits = word.trim_end_matches('%').replace(',', "");
        digits.parse::<f64>().is_ok()
    };
    let mut found = Vec::new();
    for (i, word) in words.iter().enumerate() {
        let number = trimmed(word);
        // Sizes in the names of models, such as 2.8b, and versions are no measurements.
        let is_name = word.chars().any(char::is_alphabetic);
        if is_name || !is_number(&number) {
            continue;
        }
        let unit = words.get(i + 1).copied().unwrap_or_default();
        let is_bytes = ["KiB", "MiB", "GiB"].iter().any(|it| unit.starts_with(it));
        if number.contains('.') || number.ends_with('%') || is_bytes {
            found.push(number);
        }
    }
    found
}

#[test]
fn plain_numbers_are_found_in_prose_alone() {
    let text =
        "It is $0.5$ or `0.6`, [0.7](prove:a/b) or 0.8, for 38 MiB or 17%; in 2024 at 1:7 of 32.";
    assert_eq!(plain_numbers(text), ["0.8", "38", "17%"]);
}

/// Numbers of an entry.
type Numbers = &'static [(&'static str, &'static [&'static str])];

/// Numbers the text sets itself: a step, a decay, the inputs of a test.
const SET: Numbers = &[
    ("backward-saves", &["0.2"]),
    ("bf16-state-freezes", &["0.999", "0.997"]),
    ("cumsum-and-divide", &["0.076"]),
    ("delta-initialisation", &["0.01"]),
    ("diagonal-breaks-duality", &["0.076"]),
    ("drop-three-tokens", &["0.99", "0.905", "0.202", "0.0003"]),
    ("prefix-caching-and-speculation", &["0.202", "0.0003"]),
    ("softplus-leaks", &["0.999"]),
    ("swapped-operands", &["0.5", "0.25", "0.125"]),
    ("undo-a-step", &["0.905", "0.202", "0.0003"]),
];

/// Numbers that follow from what stands beside them.
const WORKED_OUT: Numbers = &[
    ("batch-where-state-wins", &["2.36", "18.9"]),
    ("cumsum-and-divide", &["1.2", "88.7"]),
    ("delta-initialisation", &["4.3", "6.9"]),
    ("design-for-256k", &["1", "0.5"]),
    ("hold-a-token", &["2.3", "0.7%"]),
    ("io-ledger", &["1.1"]),
    ("meaning-of-delta", &["4.3"]),
    ("pool-for-512-sessions", &["8", "9.5"]),
    ("role-of-conv", &["0.42"]),
    ("softplus-and-not-sigmoid", &["63%"]),
    ("softplus-leaks", &["2.3"]),
    ("state-size-2-8b", &["3.75"]),
    ("swap-both-states", &["0.42"]),
    ("where-the-macs-are", &["90%"]),
];

/// Numbers of the sources that the entry names.
const OF_SOURCES: Numbers = &[
    ("delta-initialisation", &["0.001", "0.1"]),
    ("does-mamba-use-hippo", &["0.001", "0.1"]),
    ("hippo-cures-gradients", &["0.001", "0.1"]),
    (
        "mechanism-in-section-3-1",
        &["3.1", "3.2", "3.3", "3.4", "3.5"],
    ),
    ("mqar", &["82%"]),
    ("why-not-learn-abar", &["0.001", "0.1"]),
];

#[test]
fn a_number_is_measured_or_said_where_it_is_from() {
    let bank = Bank::load().unwrap();
    let listed = [SET, WORKED_OUT, OF_SOURCES].concat();
    let listed: BTreeSet<(&str, String)> = listed
        .iter()
        .flat_map(|(id, numbers)| numbers.iter().map(|number| (*id, (*number).to_owned())))
        .collect();
    let found: BTreeSet<(&str, String)> = texts(&bank)
        .into_iter()
        .flat_map(|(id, text)| plain_numbers(text).into_iter().map(move |it| (id, it)))
        .collect();
    let unexplained: Vec<_> = found.difference(&listed).collect();
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    let stale: Vec<_> = listed.difference(&found).collect();
    assert!(stale.is_empty(), "no longer in the texts: {stale:#?}");
}

#[test]
fn a_claim_names_its_experiment_where_one_decides() {
    let bank = Bank::load().unwrap();
    let decided = bank
        .claims
        .iter()
        .filter(|claim| claim.experiment.is_some());
    assert!(decided.count() >= 35);
    for claim in &bank.claims {
        // Who links a number to an experiment in what decides has one to run.
        let leads = claim.decides.contains("](prove:");
        assert!(!leads || claim.experiment.is_some(), "{}", claim.id);
    }
    let moved = bank.questions.iter().filter(|it| it.preset.is_some());
    assert!(moved.count() >= 45);
    for question in &bank.questions {
        let demo = question.proof().unwrap();
        // A preset that moves nothing would say so of nothing.
        assert_eq!(
            question.preset.is_some(),
            !demo.is_untouched(),
            "{}",
            question.id
        );
        assert!(course::demo(&question.demo).is_some());
    }
}
