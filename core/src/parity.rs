//! How far a backend lies from the naive one on a text: the scores of every token, and the states at the end.
//!
//! The chosen backend reads in chunks, as it does elsewhere; the naive one, whose sums do not depend on chunks, follows a few
//! tokens at a time, so that it can be stopped between them. Only one chunk's scores are in memory.

use std::fmt;
use std::ops::ControlFlow;
use std::slice::Chunks;
use std::sync::Arc;

use ndarray::ArrayViewD;

use crate::backend::{BackendError, DEFAULT_CHUNK, Session, check_ids};
use crate::generate::log_sum_exp;
use crate::job::{JobError, ModelRef, Progress, prompt_ids};
use crate::state::State;
use crate::trace::{Probe, Site, Tap};

/// Name of the backend the others are measured against.
pub const REFERENCE: &str = "naive";

/// The most a logit may differ.
pub const LOGITS_TOLERANCE: f64 = 2e-4;

/// The most an entry of a state may differ, as a part of the largest entry, or of one where all are smaller.
pub const STATE_TOLERANCE: f64 = 1e-4;

/// Tokens the naive backend reads between two reports: a second or two for a model of a hundred million parameters.
const PIECE: usize = 8;

/// Most scores of a chunk kept at once, 32 MiB of them; a vocabulary of a quarter of a million is then read in short chunks.
const MOST_SCORES: usize = 8 << 20;

/// Which backend to measure, and on what.
#[derive(Clone, Debug, PartialEq)]
pub struct ParityJob {
    /// The model both run.
    pub model: ModelRef,
    /// Name of the backend to measure.
    pub backend: String,
    /// The text both read; ids in decimal when the model has no tokenizer.
    pub text: Arc<str>,
}

/// How far numbers lie apart.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Apart {
    /// Largest absolute difference.
    pub max: f32,
    /// Largest absolute value on the naive backend.
    pub scale: f32,
}

/// A score that is NaN, infinite, or missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFinite {
    /// Name of the backend that gave it.
    pub backend: String,
    /// Position of the token.
    pub token: usize,
}

/// What the comparison found.
#[derive(Clone, Debug, PartialEq)]
pub struct Parity {
    /// Name of the backend measured.
    pub backend: String,
    /// Tokens compared: all, unless it was stopped.
    pub tokens: usize,
    /// Tokens of the text.
    pub total: usize,
    /// The logits of all tokens; tokens with a score that is not finite left out.
    pub logits: Apart,
    /// Position of the token at which the logits lie furthest apart.
    pub token: usize,
    /// Largest absolute difference of a ln p, in nats.
    pub ln_p: f32,
    /// The states after the last token, all layers; `max` is NaN when either holds one. Absent when it was stopped before.
    pub states: Option<Apart>,
    /// The first score that is no number.
    pub not_finite: Option<NotFinite>,
}

impl Parity {
    fn of(backend: &str, total: usize) -> Self {
        Self {
            backend: backend.to_owned(),
            tokens: 0,
            total,
            logits: Apart::default(),
            token: 0,
            ln_p: 0.0,
            states: None,
            not_finite: None,
        }
    }

    /// Whether every number is finite and within its tolerance.
    pub fn is_within(&self) -> bool {
        let states_agree = self.states.is_none_or(states_agree);
        self.tokens > 0 && self.not_finite.is_none() && self.logits_agree() && states_agree
    }

    fn logits_agree(&self) -> bool {
        f64::from(self.logits.max) <= LOGITS_TOLERANCE
    }

    /// All that was measured, each with its name, for a reader.
    pub fn details(&self) -> [(&'static str, String); 3] {
        let logits = match &self.not_finite {
            Some(NotFinite { backend, token }) => {
                format!("NaN or infinite on {backend} at token {token}")
            }
            None => format!(
                "{} at token {}; allowed {LOGITS_TOLERANCE:.1e}, the largest logit is {:.1}",
                bound(self.logits.max, self.logits_agree()),
                self.token,
                self.logits.scale
            ),
        };
        let states = match self.states {
            None => "not compared: stopped before the last token".to_owned(),
            Some(states) if states.max.is_nan() => "NaN or infinite".to_owned(),
            Some(states) => format!(
                "{} after the last token; allowed {:.1e}",
                bound(states.max, states_agree(states)),
                states_allowed(states)
            ),
        };
        [
            ("logits", logits),
            ("ln p", format!("≤ {} nats", at_most(self.ln_p))),
            ("states", states),
        ]
    }

    /// Compares one token's scores, `[v]` each.
    fn row(&mut self, chosen_v: Option<&[f32]>, naive_v: &[f32]) {
        let token = self.tokens;
        self.tokens += 1;
        let is_finite = |scores: &[f32]| scores.iter().all(|score| score.is_finite());
        let chosen_v = chosen_v.filter(|scores| is_finite(scores));
        let (Some(chosen_v), true) = (chosen_v, is_finite(naive_v)) else {
            let backend = match chosen_v {
                Some(_) => REFERENCE.to_owned(),
                None => self.backend.clone(),
            };
            self.not_finite.get_or_insert(NotFinite { backend, token });
            return;
        };
        let shift = log_sum_exp(chosen_v) - log_sum_exp(naive_v);
        for (chosen, naive) in chosen_v.iter().zip(naive_v) {
            let difference = chosen - naive;
            if self.logits.max < difference.abs() {
                self.logits.max = difference.abs();
                self.token = token;
            }
            self.logits.scale = self.logits.scale.max(naive.abs());
            self.ln_p = self.ln_p.max((difference - shift).abs());
        }
    }
}

/// In one line, as on the badge: "≤ 3.1e-5 vs naive ✔ (24 tokens)".
impl fmt::Display for Parity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = bound(self.logits.max, self.logits_agree());
        match &self.not_finite {
            Some(found) => write!(f, "not finite at token {} ✖ ", found.token),
            None if self.tokens == 0 => write!(f, "not compared with {REFERENCE} "),
            None if self.is_within() => write!(f, "{bound} vs {REFERENCE} ✔ "),
            None if self.logits_agree() => write!(f, "states too far from {REFERENCE} ✖ "),
            None => write!(f, "{bound} vs {REFERENCE} ✖ too far "),
        }?;
        let Self { tokens, total, .. } = self;
        match (tokens, total) {
            (1, 1) => write!(f, "(1 token)"),
            _ if tokens == total => write!(f, "({tokens} tokens)"),
            _ => write!(f, "(first {tokens} of {total} tokens)"),
        }
    }
}

fn states_allowed(states: Apart) -> f64 {
    STATE_TOLERANCE * f64::from(states.scale.max(1.0))
}

fn states_agree(states: Apart) -> bool {
    f64::from(states.max) <= states_allowed(states)
}

/// How far numbers lie apart, in words: a bound where that is good news, "up to" where a bound would say nothing.
fn bound(value: f32, is_within: bool) -> String {
    let words = if is_within { "≤" } else { "up to" };
    format!("{words} {}", at_most(value))
}

/// Two digits, rounded up: what is said to be at most this is.
pub fn at_most(value: f32) -> String {
    let value = f64::from(value);
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let unit = 10f64.powf(value.log10().floor() - 1.0);
    // A number of two digits lies a rounding error beside itself.
    let digits = (value / unit - 1e-6).ceil();
    format!("{:.1e}", digits * unit)
}

/// Keeps the scores of a chunk, `[l, v]` row after row.
pub(crate) struct Scores(pub(crate) Vec<f32>);

impl Tap for Scores {
    fn wants(&self, site: Site) -> bool {
        site.probe == Probe::Logits
    }

    fn record(&mut self, _site: Site, value_lv: ArrayViewD<'_, f32>) {
        self.0.extend(value_lv.iter());
    }
}

/// Compares scores with those of a chunk as they come.
struct Against<'a, 's> {
    /// Of the chosen backend, from the next token on.
    chosen: &'a mut Chunks<'s, f32>,
    parity: &'a mut Parity,
}

impl Tap for Against<'_, '_> {
    fn wants(&self, site: Site) -> bool {
        site.probe == Probe::Logits
    }

    fn record(&mut self, _site: Site, value_lv: ArrayViewD<'_, f32>) {
        for naive_v in value_lv.outer_iter() {
            let naive_v: Vec<f32> = naive_v.iter().copied().collect();
            let chosen_v = self.chosen.next().filter(|row| row.len() == naive_v.len());
            self.parity.row(chosen_v, &naive_v);
        }
    }
}

/// Reads the text on both sessions, which must be new ones of backends that run `job.model`, and compares. `progress` may stop
/// it between a few tokens; the answer is then about those compared so far.
///
/// # Errors
/// When the text is none for the model, or a backend refuses it.
pub fn parity(
    job: &ParityJob,
    chosen: &mut dyn Session,
    naive: &mut dyn Session,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Parity, JobError> {
    let ids = prompt_ids(&job.model, &job.text)?;
    let vocab_size = job.model.config.vocab_size;
    check_ids(&ids, vocab_size)?;
    let mut parity = Parity::of(&job.backend, ids.len());
    let mut scores = Scores(Vec::new());
    let chunk = (MOST_SCORES / vocab_size).clamp(1, DEFAULT_CHUNK);
    for part in ids.chunks(chunk) {
        scores.0.clear();
        chosen.prefill(part, &mut scores)?;
        let mut rows = scores.0.chunks(vocab_size);
        for piece in part.chunks(PIECE) {
            let mut against = Against {
                chosen: &mut rows,
                parity: &mut parity,
            };
            naive.prefill(piece, &mut against)?;
            let count = Progress::Count {
                what: "tokens compared",
                done: parity.tokens,
                total: parity.total,
            };
            if progress(count).is_break() && parity.tokens < parity.total {
                return Ok(parity);
            }
        }
    }
    parity.states = Some(states_apart(&chosen.state()?, &naive.state()?)?);
    Ok(parity)
}

fn states_apart(chosen: &State, naive: &State) -> Result<Apart, BackendError> {
    Ok(Apart {
        max: naive.max_difference(chosen)?,
        scale: naive.max_abs(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_never_below_what_it_bounds() {
        for (value, text) in [
            (0.0, "0"),
            (3.01e-5, "3.1e-5"),
            (9.99e-5, "1.0e-4"),
            (2e-4, "2.0e-4"),
            (1.0, "1.0e0"),
            (12.3, "1.3e1"),
            (f32::NAN, "NaN"),
        ] {
            assert_eq!(at_most(value), text);
        }
        let (mut value, smallest) = (3.0f32, 1e-30);
        while value > smallest {
            let bound: f64 = at_most(value).parse().unwrap_or(f64::NAN);
            let value_itself = f64::from(value);
            assert!(bound >= value_itself * (1.0 - 1e-6), "{value} {bound}");
            assert!(bound <= value_itself * 1.1 + 1e-40, "{value} {bound}");
            value *= 0.93;
        }
    }

    #[test]
    fn a_score_that_is_no_number_is_not_within() {
        let row = |chosen: Option<&[f32]>, naive: &[f32]| {
            let mut parity = Parity::of("fast", 1);
            parity.row(chosen, naive);
            parity
        };
        assert!(row(Some(&[1.0, -2.0]), &[1.0, -2.0]).is_within());
        let nothing = Parity::of("fast", 3);
        assert!(!nothing.is_within());
        let said = "not compared with naive (first 0 of 3 tokens)";
        assert_eq!(nothing.to_string(), said);
        for bad in [f32::NAN, f32::INFINITY] {
            let of_chosen = row(Some(&[1.0, bad]), &[1.0, -2.0]);
            let of_both = row(Some(&[1.0, bad]), &[1.0, bad]);
            let of_naive = row(Some(&[1.0, -2.0]), &[bad, -2.0]);
            let missing = row(None, &[1.0, -2.0]);
            for (found, backend) in [
                (of_chosen, "fast"),
                (of_both, "fast"),
                (of_naive, "naive"),
                (missing, "fast"),
            ] {
                assert!(!found.is_within());
                let wanted = NotFinite {
                    backend: backend.to_owned(),
                    token: 0,
                };
                assert_eq!(found.not_finite, Some(wanted));
            }
        }
        let states = Some(Apart {
            max: f32::NAN,
            scale: 1.0,
        });
        let agrees = row(Some(&[1.0]), &[1.0]);
        assert!(!Parity { states, ..agrees }.is_within());
    }
}
