//! The texts of the question bank: their formulas are typeset, their numbers are those the experiments measure, their presets open.

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
        if !is_number(&number) {
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

/// Numbers that no experiment measures, each with where it is from.
const ELSEWHERE: &[(&str, &[&str])] = &[];

#[test]
fn a_number_is_measured_or_said_where_it_is_from() {
    let bank = Bank::load().unwrap();
    let mut open = Vec::new();
    for (id, text) in texts(&bank) {
        let elsewhere = ELSEWHERE.iter().find(|(known, _)| *known == id);
        let elsewhere = elsewhere.map_or(&[][..], |(_, numbers)| numbers);
        for number in plain_numbers(text) {
            if !elsewhere.contains(&number.as_str()) {
                open.push(format!("{id}: {number}"));
            }
        }
    }
    assert!(open.is_empty(), "{}", open.join("\n"));
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
