//! What the notebook remembers from one start to the next.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// An answer a reader has committed to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Guess {
    /// A number.
    Number(f64),
    /// An option, from 0.
    Choice(usize),
    /// The options in the reader's order.
    Order(Vec<usize>),
}

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NotebookSettings {
    /// The lesson shown last.
    pub lesson: String,
    /// Committed answers, by the check's name.
    pub guesses: BTreeMap<String, Guess>,
    /// Experiments that have run and held.
    pub proven: BTreeSet<String>,
    /// Demos whose controls were moved, by name: the controls as JSON.
    pub demos: BTreeMap<String, String>,
    /// Demos the reader wished to see before answering the question they wait for, by name.
    pub uncovered: BTreeSet<String>,
    /// Lessons read to their end.
    pub read: BTreeSet<String>,
}
