//! `mambascope quiz` in a terminal: what is typed comes through a pipe, the answers are kept in a folder of the test's own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mambascope_lessons::practice::bank::Bank;
use mambascope_lessons::practice::log::{FILE, Review, ReviewLog};
use mambascope_lessons::practice::schedule::Rating;
use tempfile::TempDir;

use crate::cli::program;

/// What a session printed, and whether it ended well.
struct Printed {
    out: String,
    err: String,
    is_success: bool,
}

/// A learner with a data folder.
struct Learner {
    home: TempDir,
}

impl Learner {
    fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
        }
    }

    /// A session in which this is typed, up to the end of the input.
    fn quiz(&self, arguments: &[&str], typed: &str) -> Printed {
        let mut child = Command::new(program())
            .arg("quiz")
            .args(arguments)
            .env("HOME", self.home.path())
            .env("XDG_DATA_HOME", self.home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A session that stops early has closed its end: then the rest is typed for nobody.
        let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
        let output = child.wait_with_output().unwrap();
        Printed {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            is_success: output.status.success(),
        }
    }

    /// The answers that were kept.
    fn reviews(&self) -> Vec<Review> {
        let folder = holding(self.home.path(), FILE);
        folder.map_or_else(Vec::new, |folder| ReviewLog::open(&folder).unwrap().reviews)
    }
}

/// The folder in which a file of this name is.
fn holding(folder: &Path, name: &str) -> Option<PathBuf> {
    if folder.join(name).exists() {
        return Some(folder.to_owned());
    }
    let entries = std::fs::read_dir(folder).unwrap();
    let folders = entries.map(|entry| entry.unwrap().path());
    folders
        .filter(|path| path.is_dir())
        .find_map(|path| holding(&path, name))
}

#[test]
fn every_question_is_listed_with_what_proves_it() {
    let learner = Learner::new();
    let listed = learner.quiz(&["--list"], "");
    assert!(listed.is_success, "{}", listed.err);
    let bank = Bank::load().unwrap();
    assert!(bank.questions.len() >= 60);
    for question in &bank.questions {
        let mut lines = listed.out.lines();
        let line = lines.find(|line| line.split_whitespace().next() == Some(&question.id));
        let line = line.unwrap_or_else(|| panic!("{} is not listed", question.id));
        assert!(line.contains(question.level.name()), "{line}");
        assert!(line.contains(&question.topic), "{line}");
        assert!(line.ends_with(&question.preset_line()), "{line}");
    }
    let about = learner.quiz(&["--list", "--topic", "ssd"], "");
    assert!(about.out.lines().all(|line| line.contains(" ssd ")));
    let none = learner.quiz(&["--list", "--topic", "astrology"], "");
    assert!(!none.is_success);
    assert!(none.err.contains("foundations"), "{}", none.err);
    assert!(learner.reviews().is_empty());
}

#[test]
fn a_question_is_asked_revealed_rated_and_logged() {
    let learner = Learner::new();
    let bank = Bank::load().unwrap();
    let first = &bank.questions[0];
    let printed = learner.quiz(&["--n", "1"], "the state has a fixed size\n7\n3\n");
    assert!(printed.is_success, "{}", printed.err);
    let parts = [
        "[1 of 1]",
        &first.id,
        first.question.trim(),
        "Enter reveals.",
        "Interviewers listen for:",
        &first.listens_for[0],
        "Often answered wrongly:",
        "1 again, 2 hard, 3 good, 4 easy",
        // What is no rating is asked for once more.
        "1 again, 2 hard, 3 good, 4 easy",
        "Comes back in",
    ];
    let mut rest = printed.out.as_str();
    for part in parts {
        let (_, after) = rest
            .split_once(part)
            .unwrap_or_else(|| panic!("no {part:?} in {rest}"));
        rest = after;
    }
    assert!(
        !printed.out.contains("prove:"),
        "links are for the window: {}",
        printed.out
    );
    let reviews = learner.reviews();
    assert_eq!(reviews.len(), 1);
    assert_eq!(reviews[0].item, first.id);
    assert_eq!(
        (reviews[0].rating, reviews[0].correct),
        (Rating::Good, true)
    );
    assert_eq!(
        reviews[0].answer.as_deref(),
        Some("the state has a fixed size")
    );
    // It is not due: another session asks the next.
    let printed = learner.quiz(&["--n", "1"], "\n1\n");
    assert!(printed.out.contains(&bank.questions[1].id));
    let reviews = learner.reviews();
    assert_eq!(reviews.len(), 2);
    assert_eq!(
        (reviews[1].rating, reviews[1].correct),
        (Rating::Again, false)
    );
    assert_eq!(reviews[1].answer, None);
}

#[test]
fn as_many_are_asked_as_were_wanted_of_the_topic() {
    let learner = Learner::new();
    let bank = Bank::load().unwrap();
    let of_topic = |id: &str| bank.question(id).map(|it| it.topic.as_str());
    let typed = "\n3\n".repeat(3);
    let printed = learner.quiz(&["--topic", "discretization", "--n", "3"], &typed);
    assert!(printed.out.contains("[3 of 3]"), "{}", printed.out);
    let reviews = learner.reviews();
    assert_eq!(reviews.len(), 3);
    for review in &reviews {
        assert_eq!(of_topic(&review.item), Some("discretization"));
    }
    // New ones of a day are limited, here and in the window alike.
    let typed = "\n4\n".repeat(20);
    let printed = learner.quiz(&["--n", "20"], &typed);
    assert!(printed.is_success, "{}", printed.err);
    assert_eq!(learner.reviews().len(), 10);
    let printed = learner.quiz(&[], "");
    assert!(printed.out.contains("Nothing is due"), "{}", printed.out);
    let none = learner.quiz(&["--topic", "astrology"], "");
    assert!(!none.is_success);
    assert!(none.err.contains("discretization"), "{}", none.err);
}

#[test]
fn a_drill_is_checked_by_computing() {
    let learner = Learner::new();
    // The first drill of code asks for two formulas; h stays as it is, and y is nothing.
    let typed = "h +\n0 * x\nh\n0 * x\n\n";
    let printed = learner.quiz(&["--topic", "code", "--n", "1"], typed);
    assert!(printed.is_success, "{}", printed.err);
    assert!(printed.out.contains("(seed "), "{}", printed.out);
    assert!(printed.out.contains("Not yet"), "{}", printed.out);
    assert!(printed.out.contains("Enter for again"), "{}", printed.out);
    let reviews = learner.reviews();
    assert_eq!(reviews.len(), 1);
    assert_eq!(reviews[0].item, "code-write-the-step");
    assert_eq!(
        (reviews[0].rating, reviews[0].correct),
        (Rating::Again, false)
    );
    assert_eq!(reviews[0].answer.as_deref(), Some("h; 0 * x"));
    assert!(reviews[0].seed.is_some());
}

#[test]
fn a_session_ends_with_its_input_or_when_it_is_told_to() {
    let learner = Learner::new();
    // Before an answer, before a rating, and at a q in place of one.
    for typed in ["", "an answer\n", "an answer\nq\n3\n"] {
        let printed = learner.quiz(&["--n", "3"], typed);
        assert!(printed.is_success, "{typed:?}: {}", printed.err);
        assert!(printed.out.contains("[1 of 3]"), "{typed:?}");
        assert!(!printed.out.contains("[2 of 3]"), "{typed:?}");
        assert!(learner.reviews().is_empty(), "{typed:?}");
    }
    // What was answered before it is kept.
    let printed = learner.quiz(&["--n", "3"], "\n2\nhalf an ans");
    assert!(printed.is_success && printed.out.contains("[2 of 3]"));
    assert_eq!(learner.reviews().len(), 1);
}

#[test]
fn a_damaged_log_is_told_and_the_quiz_goes_on() {
    let learner = Learner::new();
    learner.quiz(&["--n", "1"], "\n3\n");
    let folder = holding(learner.home.path(), FILE).unwrap();
    let log = folder.join(FILE);
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, format!("no line\n{text}")).unwrap();
    let printed = learner.quiz(&["--n", "1"], "\n3\n");
    assert!(printed.err.contains("set aside as"), "{}", printed.err);
    assert_eq!(learner.reviews().len(), 2);
}
