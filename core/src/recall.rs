//! The recall test: facts are written into a context and asked again, and the model either still knows them or does not.
//!
//! A row is a start token, then K facts of three tokens ` key`, ` value`, `,` with K different keys, then the same facts in another
//! order. A value is asked when its key comes the second time: right if the most likely token after that key is its value. The words
//! are the vocabulary's own, so any tokenizer that has enough of them can be asked (format: the cards of the embedded models).

use std::ops::ControlFlow;
use std::sync::Arc;

use ndarray::ArrayViewD;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use thiserror::Error;

use crate::backend::{Backend, BackendError, DEFAULT_CHUNK, Session, prefill_in_chunks};
use crate::generate::argmax;
use crate::job::{JobError, ModelRef, Progress};
use crate::model::Model;
use crate::tokenizer::Tokenizer;
use crate::trace::{Probe, Site, Tap};

/// Words of the vocabulary that are used: half as keys, half as values.
const WORDS: usize = 256;
/// The most facts a row can hold: one for each key.
pub const MOST_FACTS: usize = WORDS / 2;

/// Whom to ask, and how much.
#[derive(Clone, Debug, PartialEq)]
pub struct RecallJob {
    /// The models.
    pub models: Vec<ModelRef>,
    /// Name of the backend.
    pub backend: String,
    /// The numbers of facts, a column each.
    pub facts: Vec<usize>,
    /// Rows for each model and number of facts.
    pub rows: usize,
    /// Decides the rows; all models with one tokenizer get the same.
    pub seed: u64,
}

/// What one model remembered of so many facts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecallScore {
    /// Facts in a row.
    pub facts: usize,
    /// Values asked so far.
    pub asked: usize,
    /// Of these, answered right.
    pub right: usize,
    /// Standard error of [`Self::accuracy`].
    pub standard_error: f64,
}

impl RecallScore {
    /// From the right answers in each row of `facts`.
    ///
    /// The error is the larger of two: that of the rows' mean, for answers within a row are not independent, and that of a share
    /// estimated from so many answers with one right and one wrong added, for a perfect score is no proof of perfection.
    pub fn new(facts: usize, right_a_row: &[usize]) -> Self {
        let (rows, asked) = (right_a_row.len() as f64, facts * right_a_row.len());
        let right: usize = right_a_row.iter().sum();
        let mean = right as f64 / rows.max(1.0);
        let squares: f64 = right_a_row
            .iter()
            .map(|&right| (right as f64 - mean).powi(2))
            .sum();
        let of_rows = (squares / (rows - 1.0).max(1.0) / rows.max(1.0)).sqrt() / facts as f64;
        let n = asked as f64 + 2.0;
        let share = (right as f64 + 1.0) / n;
        let of_answers = (share * (1.0 - share) / n).sqrt();
        Self {
            facts,
            asked,
            right,
            standard_error: of_rows.max(of_answers),
        }
    }

    /// The share of right answers; not a number before the first row.
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.asked as f64
    }
}

/// A row a model, a column a number of facts; what has not been asked yet is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecallTable {
    /// One a model, in the job's order.
    pub rows: Vec<RecallRow>,
}

/// What one model remembered.
#[derive(Clone, Debug, PartialEq)]
pub struct RecallRow {
    /// The model.
    pub model: ModelRef,
    /// One a number of facts.
    pub scores: Vec<RecallScore>,
}

impl RecallTable {
    /// Every score, a row each.
    pub fn csv(&self) -> String {
        let mut text = "model,facts,asked,right,accuracy,standard_error\n".to_owned();
        for row in &self.rows {
            let name = row.model.name.replace([',', '"', '\n'], " ");
            for score in &row.scores {
                text += &format!(
                    "{name},{},{},{},{},{}\n",
                    score.facts,
                    score.asked,
                    score.right,
                    score.accuracy(),
                    score.standard_error
                );
            }
        }
        text
    }
}

/// Why a model cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecallError {
    /// A model on ids alone has no words.
    #[error(
        "{model} has no tokenizer, so there are no words to ask for: recall needs a model with a tokenizer.json"
    )]
    NoTokenizer {
        /// The model.
        model: String,
    },
    /// Too few words that are one token.
    #[error(
        "{model}'s vocabulary has {found} words of one token (a space, then four or more lower-case letters), wanted {WORDS}"
    )]
    FewWords {
        /// The model.
        model: String,
        /// Words there are.
        found: usize,
    },
    /// No token to put between facts.
    #[error("{model}'s vocabulary has no token for a comma, which stands between facts")]
    NoComma {
        /// The model.
        model: String,
    },
    /// More facts than keys, or none.
    #[error("{facts} facts cannot be asked: wanted 1 to {MOST_FACTS}, for there are as many keys")]
    Facts {
        /// The number asked for.
        facts: usize,
    },
}

/// The tokens rows are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    keys: Vec<u32>,
    values: Vec<u32>,
    comma: u32,
    start: u32,
}

/// Token ids of one row, and what its second half is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// All tokens.
    pub ids: Vec<u32>,
    /// Position of the first key that is asked.
    pub asked_from: usize,
}

impl Words {
    /// The words of a model's vocabulary, by rising id: the even places are keys, the odd ones values.
    ///
    /// # Errors
    /// When the model has no tokenizer, or its vocabulary too few words.
    pub fn of(model: &Model) -> Result<Self, RecallError> {
        let name = || model.name.clone();
        let tokenizer = model
            .tokenizer
            .as_ref()
            .ok_or_else(|| RecallError::NoTokenizer { model: name() })?;
        let ids = 0..tokenizer.len() as u32;
        let words: Vec<u32> = ids
            .clone()
            .filter(|&id| tokenizer.bytes_of(id).is_some_and(is_word))
            .take(WORDS)
            .collect();
        if words.len() < WORDS {
            return Err(RecallError::FewWords {
                model: name(),
                found: words.len(),
            });
        }
        let place = |from: usize| words.iter().skip(from).step_by(2).copied().collect();
        Ok(Self {
            keys: place(0),
            values: place(1),
            comma: token(tokenizer, b",").ok_or_else(|| RecallError::NoComma { model: name() })?,
            start: token(tokenizer, b"<|endoftext|>")
                .or(model.config.eos.first().copied())
                .unwrap_or(0),
        })
    }

    /// Row `number` of `facts` facts.
    ///
    /// # Errors
    /// When there are not as many keys.
    pub fn row(&self, facts: usize, seed: u64, number: usize) -> Result<Row, RecallError> {
        if !(1..=MOST_FACTS).contains(&facts) {
            return Err(RecallError::Facts { facts });
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream((facts as u64) << 32 | number as u64);
        let mut keys = self.keys.clone();
        shuffle(&mut keys, &mut rng);
        let mut pairs: Vec<[u32; 2]> = keys
            .into_iter()
            .take(facts)
            .map(|key| [key, self.values[below(self.values.len(), &mut rng)]])
            .collect();
        let mut ids = vec![self.start];
        let fact = |[key, value]: [u32; 2]| [key, value, self.comma];
        ids.extend(pairs.iter().copied().flat_map(fact));
        let asked_from = ids.len();
        shuffle(&mut pairs, &mut rng);
        ids.extend(pairs.iter().copied().flat_map(fact));
        Ok(Row { ids, asked_from })
    }
}

fn is_word(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        Some((b' ', letters)) => letters.len() >= 4 && letters.iter().all(u8::is_ascii_lowercase),
        _ => false,
    }
}

fn token(tokenizer: &Tokenizer, bytes: &[u8]) -> Option<u32> {
    (0..tokenizer.len() as u32).find(|&id| tokenizer.bytes_of(id) == Some(bytes))
}

/// A number below `end`, each equally likely to within 2⁻³².
fn below(end: usize, rng: &mut ChaCha8Rng) -> usize {
    ((u64::from(rng.next_u32()) * end as u64) >> 32) as usize
}

/// Fisher and Yates.
fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(last + 1, rng));
    }
}

/// The most likely token after each of the tokens that pass.
#[derive(Default)]
struct Guesses(Vec<u32>);

impl Tap for Guesses {
    fn wants(&self, site: Site) -> bool {
        site == Site::model(Probe::Logits)
    }

    fn record(&mut self, _site: Site, value: ArrayViewD<'_, f32>) {
        let rows = value.outer_iter();
        self.0.extend(rows.map(|scores| match scores.as_slice() {
            Some(scores) => argmax(scores),
            None => argmax(&scores.iter().copied().collect::<Vec<_>>()),
        }));
    }
}

/// Right answers to a row, from a session that has read nothing.
fn ask(session: &mut dyn Session, row: &Row) -> Result<usize, BackendError> {
    let go_on = &mut |_| ControlFlow::Continue(());
    let (facts, questions) = row.ids.split_at(row.asked_from);
    prefill_in_chunks(session, facts, DEFAULT_CHUNK, &mut (), go_on)?;
    let mut guesses = Guesses::default();
    prefill_in_chunks(session, questions, DEFAULT_CHUNK, &mut guesses, go_on)?;
    // After a key, the first of every three, comes its value.
    let asked = questions.chunks(3).zip(guesses.0.chunks(3));
    Ok(asked
        .filter(|(fact, guess)| {
            fact.get(1)
                .is_some_and(|value| guess.first() == Some(value))
        })
        .count())
}

/// Asks every model, one number of facts after the other, and reports the table as it fills.
///
/// # Errors
/// When a model cannot be asked, the backend refuses it, or the job was stopped.
pub fn recall(
    job: &RecallJob,
    backend: &mut dyn Backend,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<RecallTable, JobError> {
    let words: Vec<Words> = job
        .models
        .iter()
        .map(|model| Words::of(model))
        .collect::<Result<_, _>>()?;
    let row = |model: &ModelRef| RecallRow {
        model: model.clone(),
        scores: Vec::new(),
    };
    let mut table = RecallTable {
        rows: job.models.iter().map(row).collect(),
    };
    let total = job.models.len() * job.facts.len() * job.rows;
    let mut done = 0;
    for &facts in &job.facts {
        for (m, (model, words)) in job.models.iter().zip(&words).enumerate() {
            let mut right = Vec::with_capacity(job.rows.min(1 << 16));
            for number in 0..job.rows {
                let mut session = backend.open(model)?;
                right.push(ask(&mut *session, &words.row(facts, job.seed, number)?)?);
                done += 1;
                let report = Progress::Count {
                    what: "rows asked",
                    done,
                    total,
                };
                if progress(report).is_break() {
                    return Err(BackendError::Cancelled { done, total }.into());
                }
            }
            table.rows[m].scores.push(RecallScore::new(facts, &right));
            let partial = crate::job::Answer::Recall(Arc::new(table.clone()));
            if progress(Progress::Partial(partial)).is_break() {
                return Err(BackendError::Cancelled { done, total }.into());
            }
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_score_has_an_error_too() {
        let perfect = RecallScore::new(16, &[16; 32]);
        assert_eq!((perfect.right, perfect.asked), (512, 512));
        assert!(perfect.standard_error > 1e-3 && perfect.standard_error < 3e-3);
        // Rows that are all right or all wrong are so many coins, not so many answers.
        let coins: Vec<usize> = (0..32).map(|i| 16 * (i % 2)).collect();
        let score = RecallScore::new(16, &coins);
        assert_eq!(score.accuracy(), 0.5);
        assert!((score.standard_error - 0.5 / 31f64.sqrt()).abs() < 1e-9);
    }
}
