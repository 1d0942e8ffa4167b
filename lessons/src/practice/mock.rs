//! A mock interview: which questions, how long for each, what is kept of one that is interrupted, and a report.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::bank::{Bank, Level, Question};
use super::drill::Draw;
use super::log::Review;
use super::proofs::without_links;
use super::schedule::Rating;

/// Minutes of a mock interview.
pub const MINUTES: u32 = 30;

/// Seconds a question of a level may take: for the plan, and for the rating of an answer.
pub fn seconds(level: Level) -> u32 {
    match level {
        Level::Basic => 150,
        Level::Intermediate => 240,
        Level::Advanced => 360,
    }
}

/// A question of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Its name.
    pub id: String,
    /// How hard it is.
    pub level: Level,
    /// What it is about.
    pub topic: String,
    /// Seconds for it.
    pub seconds: u32,
}

/// The plan of an interview.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Chooses the same questions again.
    pub seed: u64,
    /// The questions, easier ones first.
    pub questions: Vec<Planned>,
}

impl Plan {
    /// Chooses questions of mixed levels for so many minutes, of as many topics as there are, and divides the time among them.
    /// Shorter where the bank has too few; empty where it is.
    pub fn new(bank: &Bank, seed: u64, minutes: u32) -> Self {
        Self::about(bank, None, seed, minutes)
    }

    /// The same of one topic alone, where there is one.
    pub fn about(bank: &Bank, topic: Option<&str>, seed: u64, minutes: u32) -> Self {
        let mut draw = Draw::new(seed, "mock interview");
        let is_wanted = |question: &&Question| topic.is_none_or(|topic| topic == question.topic);
        let wanted: Vec<&Question> = bank.questions.iter().filter(is_wanted).collect();
        let mut left = draw.shuffled(&wanted);
        let (mut chosen, mut used) = (Vec::new(), BTreeMap::<&str, usize>::new());
        let total = minutes.saturating_mul(60);
        let mut spent = 0;
        loop {
            let before = chosen.len();
            for level in Level::ALL {
                let fits = spent + seconds(level) <= total;
                let candidates = left.iter().enumerate();
                let fresh = candidates
                    .filter(|(_, question)| fits && question.level == level)
                    .min_by_key(|(_, question)| used.get(question.topic.as_str()).copied());
                let Some((index, _)) = fresh else { continue };
                let question = left.remove(index);
                *used.entry(&question.topic).or_default() += 1;
                spent += seconds(level);
                chosen.push(question);
            }
            if chosen.len() == before {
                break;
            }
        }
        chosen.sort_by_key(|question| question.level);
        let stretch = |level| seconds(level) * total.max(spent) / spent.max(1);
        let questions = chosen.into_iter().map(|question| Planned {
            id: question.id.clone(),
            level: question.level,
            topic: question.topic.clone(),
            seconds: stretch(question.level).min(2 * seconds(question.level)),
        });
        Self {
            seed,
            questions: questions.collect(),
        }
    }

    /// Seconds of all questions together.
    pub fn seconds(&self) -> u32 {
        self.questions.iter().map(|question| question.seconds).sum()
    }
}

/// What was answered in an interview.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// The question's name.
    pub id: String,
    /// What was written.
    pub text: String,
    /// Seconds it took.
    pub seconds: f64,
    /// How the learner graded it, next to the model answer.
    pub grade: Option<Rating>,
}

/// An interview as it is kept while the window is closed. Its clock stands still then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Its questions.
    pub plan: Plan,
    /// What was answered, a place for each question.
    pub answers: Vec<Answered>,
    /// The question that is open.
    pub place: usize,
    /// When it began, in seconds since 1970.
    pub begun: i64,
    /// Seconds of it that are over.
    pub spent: i64,
    /// Whether it has ended, and the grading is on.
    pub ended: bool,
    /// What the grades were counted as.
    pub counted: Vec<Option<Review>>,
}

impl Kept {
    /// Seconds that are left.
    pub fn left(&self) -> i64 {
        (i64::from(60 * MINUTES) - self.spent).max(0)
    }

    /// How many questions have been written about.
    pub fn written(&self) -> usize {
        let answers = self.answers.iter();
        answers
            .filter(|answer| !answer.text.trim().is_empty())
            .count()
    }

    /// Whether it fits together and every question is still in the bank: a file can hold anything.
    pub fn is_sound(&self, bank: &Bank) -> bool {
        let questions = &self.plan.questions;
        let fits = |(planned, answer): (&Planned, &Answered)| {
            planned.id == answer.id && bank.question(&planned.id).is_some()
        };
        !questions.is_empty()
            && self.answers.len() == questions.len()
            && self.counted.len() == questions.len()
            && self.place < questions.len()
            && questions.iter().zip(&self.answers).all(fits)
    }
}

fn minutes(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// Every line of a text as part of a quotation.
fn quoted(text: &str) -> String {
    let text = text.trim();
    let text = if text.is_empty() { "(nothing)" } else { text };
    let lines = text.lines().map(|line| format!("> {line}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The report of an interview as Markdown: a table, then each question with what was written and the model answer. `date` is
/// printed as it is.
pub fn report(bank: &Bank, plan: &Plan, answers: &[Answered], date: &str) -> String {
    let mut text = format!("# Mock interview, {date}\n\nSeed {}. ", plan.seed);
    let of = |id: &str| answers.iter().find(|answer| answer.id == id);
    let passed = |rating: Option<Rating>| rating.is_some_and(|rating| rating >= Rating::Good);
    let good = answers.iter().filter(|answer| passed(answer.grade)).count();
    let took: f64 = answers.iter().map(|answer| answer.seconds).sum();
    let _ = write!(
        text,
        "{} questions in {} of {} minutes, {good} graded good or easy.\n\n",
        plan.questions.len(),
        minutes(took),
        minutes(f64::from(plan.seconds())),
    );
    text.push_str("| | level | topic | time | of | grade |\n|--:|---|---|--:|--:|---|\n");
    for (i, planned) in plan.questions.iter().enumerate() {
        let answer = of(&planned.id);
        let grade = answer.and_then(|answer| answer.grade);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            i + 1,
            planned.level.name(),
            planned.topic,
            minutes(answer.map_or(0.0, |answer| answer.seconds)),
            minutes(f64::from(planned.seconds)),
            grade.map_or("not graded", Rating::name),
        );
    }
    for (i, planned) in plan.questions.iter().enumerate() {
        let Some(question) = bank.question(&planned.id) else {
            continue;
        };
        let written = of(&planned.id).map_or("", |answer| answer.text.as_str());
        let _ = write!(
            text,
            "\n## {}. {}\n\n**Your answer**\n\n{}\n\n**Model answer**\n\n{}\n\n**What interviewers listen for**\n\n",
            i + 1,
            question.question.trim().replace('\n', " "),
            quoted(written),
            without_links(question.answer.trim()),
        );
        for point in &question.listens_for {
            let _ = writeln!(text, "- {}", without_links(point));
        }
        text.push_str("\n**Sources**\n\n");
        for source in &question.sources {
            let _ = writeln!(text, "- [{}]({})", source.text, source.url);
        }
    }
    text
}
