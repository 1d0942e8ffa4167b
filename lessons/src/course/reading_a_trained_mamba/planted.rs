//! A pair of words planted in a text and asked for at its end, read with the model's own clock or with a clock that is quicker or
//! slower from some token on.

use std::ops::ControlFlow;
use std::sync::Arc;

use mambascope_core::backend::{Backend, DEFAULT_CHUNK, Session};
use mambascope_core::job::{JobError, ModelRef, prompt_ids};
use mambascope_core::model::Model;
use mambascope_core::recall::{MOST_FACTS, Words};
use mambascope_core::trace::{DEFAULT_BUDGET, TracePlan, TraceTap};
use ndarray::{Array2, Axis, concatenate};
use serde::{Deserialize, Serialize};

use super::records::{OF_SCANS, Scan, scans_of};

/// The prose.
const PROSE: &str = include_str!("../length_and_precision/passage.txt");
/// Draws the pair's words, together with the number of the draw.
const SEED: u64 = 7;
/// An entry counts as saturated once this share of its steady level is reached under a steady input: what it held before is then
/// down to a hundredth.
pub(super) const FULL: f64 = 0.99;

/// A text with a pair in it.
pub(super) struct Planted {
    /// The text; its last token is the key, asked again.
    pub ids: Vec<u32>,
    /// Where the pair's second word stands.
    pub place: usize,
    pub key: u32,
    pub value: u32,
}

/// What stands around the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Filler {
    /// Other pairs, as in the rows the embedded models were trained to repeat.
    Pairs,
    /// A page of a book.
    Prose,
}

impl Planted {
    /// About `tokens` of filler, the pair behind the share `depth` of them, and the key at the end.
    ///
    /// # Errors
    /// When the model's vocabulary has no such words.
    pub fn new(
        model: &Model,
        filler: Filler,
        tokens: usize,
        (depth, draw): (f64, usize),
    ) -> Result<Self, JobError> {
        let words = Words::of(model)?;
        let behind = |count: usize| (depth.clamp(0.0, 1.0) * count as f64).round() as usize;
        let (mut ids, place) = match filler {
            Filler::Pairs => {
                let pairs = (tokens / 3).clamp(2, MOST_FACTS);
                let row = words.row(pairs, SEED, draw)?;
                let given = row.ids.get(..row.asked_from).unwrap_or(&[]);
                (given.to_vec(), 2 + 3 * behind(pairs - 1))
            }
            Filler::Prose => {
                let row = words.row(1, SEED, draw)?;
                let [start, pair @ ..] = row.ids.get(..row.asked_from).unwrap_or(&[]) else {
                    return Err(JobError::Study("a row of one pair has one pair".into()));
                };
                let mut prose = prompt_ids(model, PROSE)?;
                prose.truncate(tokens);
                let before = behind(prose.len()).min(prose.len());
                let parts = [
                    std::slice::from_ref(start),
                    &prose[..before],
                    pair,
                    &prose[before..],
                ];
                (parts.concat(), before + 2)
            }
        };
        let of = |at: usize| ids.get(at).copied().unwrap_or_default();
        let (key, value) = (of(place - 1), of(place));
        ids.push(key);
        Ok(Self {
            ids,
            place,
            key,
            value,
        })
    }

    /// Tokens between the pair and the question.
    pub fn distance(&self) -> usize {
        self.ids.len() - 1 - self.place
    }
}

/// Δ of some layers times a factor, from a token on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Clock {
    pub by: f32,
    pub layers: Vec<usize>,
    pub from: usize,
}

/// A model, and the same with another clock.
pub(super) struct Reader<'a> {
    model: &'a ModelRef,
    scaled: ModelRef,
    clock: Clock,
}

/// What a reading gave.
pub(super) struct Reading {
    /// Empty where they were not asked for.
    pub scans: Vec<Scan>,
    pub logits_v: Vec<f32>,
}

impl<'a> Reader<'a> {
    /// # Errors
    /// Never for a model whose shapes were checked.
    pub fn new(model: &'a ModelRef, clock: Clock) -> Result<Self, JobError> {
        let scaled = model.with_delta_times(&clock.layers, clock.by);
        let scaled = scaled.map_err(|error| JobError::Study(error.to_string()))?;
        Ok(Self {
            model,
            scaled: ModelRef(Arc::new(scaled)),
            clock,
        })
    }

    /// Reads a text, and gives the scans of these layers. The state is handed from one model to the other where the clock changes.
    ///
    /// # Errors
    /// When the backend fails, or `report`, which hears how many tokens are done, says to stop.
    pub fn read(
        &self,
        ids: &[u32],
        layers: &[usize],
        backend: &mut dyn Backend,
        report: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Reading, JobError> {
        let turn = match self.clock.by {
            1.0 => ids.len(),
            _ => self.clock.from.min(ids.len()),
        };
        let mut session = backend.open(self.model)?;
        let mut scans = Vec::new();
        let mut done = 0;
        for (part, is_scaled) in [(&ids[..turn], false), (&ids[turn..], true)] {
            if is_scaled && !part.is_empty() {
                let mut state = session.state()?;
                state.logits_v = None;
                session = backend.open(&self.scaled)?;
                session.set_state(&state)?;
            }
            for chunk in part.chunks(DEFAULT_CHUNK) {
                let found = recorded(self.model, chunk, layers, &mut *session)?;
                let found = found
                    .into_iter()
                    .map(|scan| self.effective(scan, is_scaled));
                join(&mut scans, found.collect());
                done += chunk.len();
                if report(done).is_break() {
                    return Err(JobError::Study("stopped before the text was read".into()));
                }
            }
        }
        let logits_v = session.logits()?.to_vec();
        Ok(Reading { scans, logits_v })
    }

    /// The scan with Δ and B as they acted: the scaled model holds the factor in A and B.
    fn effective(&self, mut scan: Scan, is_scaled: bool) -> Scan {
        if is_scaled && self.clock.layers.contains(&scan.layer) {
            scan.delta_ld *= self.clock.by;
            scan.b_ln /= self.clock.by;
        }
        scan
    }
}

/// Reads some tokens and records the scans of these layers, with A of `model`.
fn recorded(
    model: &Model,
    ids: &[u32],
    layers: &[usize],
    session: &mut dyn Session,
) -> Result<Vec<Scan>, JobError> {
    if layers.is_empty() {
        session.prefill(ids, &mut ())?;
        return Ok(Vec::new());
    }
    let plan = TracePlan {
        layers: layers.to_vec(),
        probes: OF_SCANS.to_vec(),
        tokens: ids.len(),
        budget: DEFAULT_BUDGET,
    };
    let mut tap = TraceTap::new(&plan, &model.config)?;
    session.prefill(ids, &mut tap)?;
    scans_of(model, &tap.finish(), layers)
}

/// Puts the scans of the next tokens behind those so far.
fn join(scans: &mut Vec<Scan>, next: Vec<Scan>) {
    if scans.is_empty() {
        *scans = next;
        return;
    }
    let behind = |one: &mut Array2<f32>, other: &Array2<f32>| {
        // Both are as wide as the layer.
        if let Ok(both) = concatenate(Axis(0), &[one.view(), other.view()]) {
            *one = both;
        }
    };
    for (scan, next) in scans.iter_mut().zip(&next) {
        behind(&mut scan.u_ld, &next.u_ld);
        behind(&mut scan.delta_ld, &next.delta_ld);
        behind(&mut scan.b_ln, &next.b_ln);
        behind(&mut scan.c_ln, &next.c_ln);
        behind(&mut scan.y_ld, &next.y_ld);
    }
}

/// After each token, the share of a layer's entries that are saturated: Σ Δ·|A| so far is at least ln 100, so that an entry under
/// a steady input has reached [`FULL`] of its last level, and of what it held first a hundredth is left.
pub(super) fn saturated(scan: &Scan) -> Vec<f64> {
    let (tokens, channels, slots) = scan.dims();
    let clock_ld = scan.clock_ld();
    let enough = -(1.0 - FULL).ln();
    let full = |l: usize| {
        let of_channel = |d: usize| {
            let slots = scan.a_dn.row(d);
            let passed = clock_ld[[l, d]];
            let full = slots
                .iter()
                .filter(|&&a| passed * f64::from(a.abs()) >= enough);
            full.count()
        };
        (0..channels).map(of_channel).sum::<usize>()
    };
    let entries = (channels * slots).max(1) as f64;
    (0..tokens).map(|l| full(l) as f64 / entries).collect()
}

/// The probability these scores give a token, and how many tokens have a larger one.
pub(super) fn said(logits_v: &[f32], id: u32) -> (f64, usize) {
    let score = logits_v.get(id as usize).copied().unwrap_or(f32::NAN);
    let before = logits_v.iter().filter(|&&other| other > score).count();
    let log = score - mambascope_core::generate::log_sum_exp(logits_v);
    (f64::from(log).exp(), before)
}
