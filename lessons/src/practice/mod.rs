//! Practice for an interview: questions, drills and claims, what of them comes next, and what became of the answers.
//!
//! - [`bank`] holds the questions and the claims of the data files, checked when they are read;
//! - [`drill`] draws numbers from a seed, computes the answer with the engine, and checks what was entered against it;
//! - [`schedule`] says when what comes back (FSRS), and how far one has come;
//! - [`claims`] scores how sure one was, and brings confident mistakes back first;
//! - [`log`] keeps every answer in the data folder;
//! - [`mock`] plans an interview of half an hour, keeps one that was interrupted, and prints its report;
//! - [`proofs`] are the links from numbers of the texts to the experiments that measure them.
//!
//! Nothing here reads the clock: moments are passed in, in seconds since 1970.

pub mod bank;
pub mod claims;
pub mod drill;
pub mod log;
pub mod mock;
pub mod page;
pub mod proofs;
pub mod schedule;

use bank::{Bank, Level};

/// What an [`Item`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A question of the bank, graded by the learner.
    Question,
    /// A drill, checked by computing.
    Drill,
    /// A claim to judge.
    Claim,
}

/// Anything that can be asked and comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// Its name, unique over all kinds; what the log and the schedule know it by.
    pub id: &'a str,
    /// What it is.
    pub kind: Kind,
    /// What it is about.
    pub topic: &'a str,
    /// How hard it is.
    pub level: Level,
}

/// Everything there is to ask: the questions of the note, the other questions, the drills, the claims.
pub fn items(bank: &Bank) -> Vec<Item<'_>> {
    let questions = bank.questions.iter().map(|question| Item {
        id: &question.id,
        kind: Kind::Question,
        topic: &question.topic,
        level: question.level,
    });
    let drills = drill::DRILLS.iter().map(|drill| Item {
        id: drill.id,
        kind: Kind::Drill,
        topic: drill.topic,
        level: drill.level,
    });
    let claims = bank.claims.iter().map(|claim| Item {
        id: &claim.id,
        kind: Kind::Claim,
        topic: &claim.topic,
        level: claim.level,
    });
    questions.chain(drills).chain(claims).collect()
}
