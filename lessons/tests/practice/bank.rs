//! The bank, and the claims of it.

use mambascope_lessons::practice::bank::{Bank, BankError, Level, Verdict};
use mambascope_lessons::practice::log::Review;
use mambascope_lessons::practice::schedule::{Grade, Rating};
use mambascope_lessons::practice::{Kind, claims, items};

/// A question as a file has it.
pub fn question(id: &str, level: &str, more: &str) -> String {
    format!(
        r#"
[[question]]
id = "{id}"
level = "{level}"
question = "What does {id} ask?"
answer = "It asks for $x$."
listens_for = ["a mechanism", "a number"]
common_wrong = "Saying that it is magic."
sources = [{{ text = "Somebody, 2024", url = "https://example.org" }}]
lesson = "leaky-integrator"
demo = "one-slot"
{more}
"#
    )
}

fn claim(id: &str, verdict: &str) -> String {
    format!(
        r#"
[[claim]]
id = "{id}"
topic = "gates"
level = "basic"
text = "A sentence."
verdict = "{verdict}"
correction = "Another sentence."
sources = [{{ text = "Somebody, 2024", url = "https://example.org" }}]
lesson = "leaky-integrator"
demo = "one-slot"
decides = "The half-life, measured."
experiment = "half-life"
"#
    )
}

fn read(text: &str) -> Result<Bank, BankError> {
    Bank::parse(&[("gates.toml", text)])
}

#[test]
fn the_bank_of_this_program_is_sound() {
    let bank = Bank::load().unwrap();
    for question in &bank.questions {
        question.proof().unwrap();
        assert!(question.preset_line().starts_with(&question.demo));
    }
    let all = items(&bank);
    assert!(all.iter().filter(|item| item.kind == Kind::Drill).count() >= 14);
}

#[test]
fn the_notes_own_questions_come_first() {
    let text = [
        question("plain", "basic", ""),
        question("own", "advanced", "note = true"),
    ];
    let bank = read(&text.concat()).unwrap();
    let ids: Vec<&str> = bank.questions.iter().map(|q| q.id.as_str()).collect();
    assert_eq!(ids, ["own", "plain"]);
    assert_eq!(bank.questions[0].level, Level::Advanced);
    assert_eq!(bank.topics(), ["gates"]);
    assert_eq!(
        bank.question("plain").unwrap().common_wrong,
        ["Saying that it is magic."]
    );
    assert_eq!(items(&bank)[0].id, "own");
}

#[test]
fn a_preset_is_written_as_the_demo_writes_it() {
    let preset =
        r#"preset = '{"a": -4.0, "b": 1.0, "c": 1.0, "skip": 0.0, "delta": 0.2, "taps": [1]}'"#;
    let bank = read(&question("own", "basic", preset)).unwrap();
    let line = bank.questions[0].preset_line();
    assert!(
        line.starts_with("one-slot {") && line.contains("-4.0"),
        "{line}"
    );
    bank.questions[0]
        .proof()
        .unwrap()
        .load_preset(&line)
        .unwrap();
}

#[test]
fn what_is_wrong_is_said_with_file_and_entry() {
    let sound = question("own", "basic", "");
    let wrong = [
        (sound.repeat(2), "`id`"),
        (sound.replace("\"own\"", "\"drill-half-life\""), "`id`"),
        (sound.replace("\"own\"", "\"Own one\""), "`id`"),
        (sound.replace("leaky-integrator", "leaky"), "`lesson`"),
        (sound.replace("one-slot", "two-slots"), "`demo`"),
        (sound.replace("\"It asks for $x$.\"", "\" \""), "`answer`"),
        (question("own", "basic", "preset = '[1]'"), "`preset`"),
        (question("own", "basic", "sources_ = 1"), "sources_"),
        (sound.replace("basic", "easy"), "easy"),
        (
            claim("c", "true").replace("\"half-life\"", "\"none\""),
            "`experiment`",
        ),
        (claim("c", "perhaps"), "perhaps"),
    ];
    for (text, said) in wrong {
        let error = read(&text).unwrap_err().to_string();
        assert!(
            error.starts_with("gates.toml") && error.contains(said),
            "{error}"
        );
    }
}

fn judged(item: &str, at: i64, correct: bool, confidence: f64) -> Review {
    Review {
        item: item.into(),
        at,
        revision: 0,
        rating: Rating::Good,
        suggested: Rating::Good,
        correct,
        confidence: Some(confidence),
        seconds: 5.0,
        seed: None,
        answer: None,
    }
}

#[test]
fn confident_mistakes_come_back_first() {
    let names = [
        "unsure-right",
        "new",
        "sure-wrong",
        "unsure-wrong",
        "sure-right",
    ];
    let bank = read(&names.map(|name| claim(name, "false")).concat()).unwrap();
    let reviews = [
        // Corrected since: what counts is the last judgement.
        judged("sure-right", 1, false, 1.0),
        judged("sure-right", 6, true, 0.9),
        judged("unsure-right", 3, true, 0.4),
        judged("sure-wrong", 4, false, 0.95),
        judged("unsure-wrong", 5, false, 0.4),
    ];
    let order = claims::order(&bank, &reviews);
    let order: Vec<&str> = order.iter().map(|claim| claim.id.as_str()).collect();
    assert_eq!(
        order,
        [
            "sure-wrong",
            "unsure-wrong",
            "new",
            "unsure-right",
            "sure-right"
        ]
    );
}

#[test]
fn the_brier_score_is_that_of_the_formula() {
    let bank = read(&claim("c", "imprecise")).unwrap();
    let right = bank.claims[0].judge(Verdict::Imprecise, 0.8);
    let wrong = bank.claims[0].judge(Verdict::True, 0.8);
    assert!(right.correct && (right.brier - 0.04).abs() < 1e-12);
    assert_eq!(wrong.grade, Grade::Wrong);
    assert!((wrong.brier - 0.64).abs() < 1e-12);
    let reviews = [judged("c", 1, true, 0.8), judged("c", 2, false, 0.8)];
    assert!((claims::brier_score(&reviews).unwrap() - 0.34).abs() < 1e-12);
    assert_eq!(claims::brier_score(&[]), None);
}
