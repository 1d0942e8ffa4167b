//! What the parts of the page are drawn with.

use std::collections::{HashMap, HashSet};

use mambascope_core::engine::{Engine, Reply};
use mambascope_core::job::Job;
use mambascope_core::study::StudyJob;

use super::PracticeRequest;
use super::record::{Logged, Record};
use crate::course;
use crate::experiment::{Experiment, Trial};
use crate::notebook::text::Texts;
use crate::practice::bank::Bank;
use crate::practice::log::Review;
use crate::practice::schedule::{Evidence, Zone};

/// What a part needs while it is drawn.
pub(super) struct Desk<'a> {
    pub(super) engine: &'a Engine,
    /// Seconds since 1970.
    pub(super) now: i64,
    /// The learner's.
    pub(super) zone: Zone,
    pub(super) bank: &'a Bank,
    pub(super) record: &'a mut Record,
    pub(super) texts: &'a mut Texts,
    /// Experiments that are to run, or have.
    pub(super) asked: &'a mut HashSet<&'static str>,
    /// The one of them to be scrolled to when it has something to show.
    pub(super) go_to: &'a mut Option<&'static str>,
    pub(super) requests: &'a mut Vec<PracticeRequest>,
}

impl Desk<'_> {
    /// What an experiment's slot holds; asks for it if it is to run.
    pub(super) fn experiment(&self, experiment: &'static Experiment) -> Reply {
        if !self.asked.contains(experiment.name) {
            return Reply::default();
        }
        let job = Job::Study(StudyJob::new(Trial(experiment)));
        self.engine.ask(experiment.name, job)
    }

    /// Counts an answer that was graded by computing, with the rating that follows from it.
    pub(super) fn log(&mut self, item: &str, evidence: Evidence, extra: Extra) -> Logged {
        let suggested = evidence.rating();
        self.record.answer(Review {
            item: item.to_owned(),
            at: self.now,
            revision: 0,
            rating: extra.rating.unwrap_or(suggested),
            suggested,
            correct: extra.correct,
            confidence: evidence.confidence,
            seconds: evidence.seconds,
            seed: extra.seed,
            answer: extra.answer.filter(|answer| !answer.trim().is_empty()),
        })
    }
}

/// What the log keeps of an answer beside its evidence.
#[derive(Clone, Debug, Default)]
pub(super) struct Extra {
    /// Whether it was right.
    pub(super) correct: bool,
    /// What the learner made of the rating.
    pub(super) rating: Option<crate::practice::schedule::Rating>,
    /// Which numbers a drill had.
    pub(super) seed: Option<u64>,
    /// What was entered.
    pub(super) answer: Option<String>,
}

/// The experiment of that name.
pub(super) fn experiment(name: &str) -> Option<&'static Experiment> {
    course::experiments().find(|experiment| experiment.name == name)
}

/// A lesson's title, for a button that leads there.
pub(super) fn lesson_title(id: &str) -> String {
    let lesson = course::LESSONS.iter().find(|lesson| lesson.id == id);
    let line = lesson.and_then(|lesson| {
        let mut lines = lesson.text.lines();
        lines.find(|line| line.starts_with("title = "))
    });
    let title = line.and_then(|line| line.split('"').nth(1));
    title.unwrap_or(id).to_owned()
}

/// Attempts at items, by the item's name.
pub(super) type Attempts<T> = HashMap<String, T>;
