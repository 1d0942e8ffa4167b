//! What coarser numbers cost: how far the scores of a text lie from those of exact products with the weights as they are stored.
//!
//! The measure is KL(exact ‖ coarse) of the distributions of the next token, in nats, over a text that is always the same.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::backend::{Backend, BackendError, DEFAULT_CHUNK, FastBackend, Rounding, Session};
use crate::job::{JobError, ModelRef, Progress, Workshop};
use crate::model::Model;
use crate::parity::Scores;
use crate::speed::spread_ids;
use crate::study::Study;
use crate::tensor::Dtype;

/// The text, for models with a tokenizer.
const TEXT: &str = "The lamp in the window had burned all night, and when the old woman came down in the morning the room smelled \
    of oil and cold iron. She opened the shutters, counted the boats that had come in before the rain, and found that one of them \
    was not there. Nobody in the village spoke of it until noon. Then the children ran up from the shore and said that they had \
    seen a sail behind the rocks, very small and very white, and that it did not move.";

/// Ids read where there is no tokenizer.
const TOKENS: usize = 100;

/// Most scores of a chunk kept at once.
const MOST_SCORES: usize = 4 << 20;

/// The ids the measure reads: the text, or without a tokenizer ids spread over the vocabulary.
pub fn fixed_ids(model: &Model) -> Vec<u32> {
    let vocab_size = model.config.vocab_size;
    let tokenizer = model.tokenizer.as_ref();
    let ids = tokenizer.and_then(|tokenizer| tokenizer.encode(TEXT).ok());
    // A tokenizer may know more than the embedding has rows for.
    let known =
        ids.filter(|ids| !ids.is_empty() && ids.iter().all(|&id| (id as usize) < vocab_size));
    known.unwrap_or_else(|| spread_ids(vocab_size, TOKENS))
}

/// How far scores lie from the exact ones.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Divergence {
    /// Tokens after which the next one's distributions were compared.
    pub tokens: usize,
    /// KL(exact ‖ coarse) in nats, the mean over the tokens; NaN where a score is none.
    pub mean: f64,
    /// The largest.
    pub most: f64,
    /// Tokens after which another token is the most likely one.
    pub flips: usize,
}

impl Divergence {
    /// Takes one more pair of scores, `[v]` each.
    fn add(&mut self, exact_v: &[f32], coarse_v: &[f32]) {
        let nats = divergence_of(exact_v, coarse_v);
        let tokens = self.tokens as f64;
        self.mean = (self.mean * tokens + nats) / (tokens + 1.0);
        // One that is no number stays, whatever follows.
        if !self.most.is_nan() && !(nats <= self.most) {
            self.most = nats;
        }
        self.flips += usize::from(best(exact_v) != best(coarse_v));
        self.tokens += 1;
    }
}

/// Σ p·(ln p − ln q) of two rows of scores.
fn divergence_of(exact_v: &[f32], coarse_v: &[f32]) -> f64 {
    let (p_sum, q_sum) = (log_sum_exp(exact_v), log_sum_exp(coarse_v));
    let pairs = exact_v.iter().zip(coarse_v);
    pairs
        .map(|(p, q)| {
            let (ln_p, ln_q) = (f64::from(*p) - p_sum, f64::from(*q) - q_sum);
            ln_p.exp() * (ln_p - ln_q)
        })
        .sum()
}

/// ln Σ exp in f64: differences of a millionth count here.
fn log_sum_exp(scores_v: &[f32]) -> f64 {
    let most = scores_v.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let parts = scores_v.iter().map(|&x| f64::from(x - most).exp());
    f64::from(most) + parts.sum::<f64>().ln()
}

fn best(scores_v: &[f32]) -> Option<usize> {
    let places = scores_v.iter().enumerate();
    places.max_by(|a, b| a.1.total_cmp(b.1)).map(|(id, _)| id)
}

/// Reads `ids` on two new sessions and compares their scores after every token. `progress` hears the tokens read and may stop it: the
/// answer is then about those.
///
/// # Errors
/// As [`Session::prefill`].
pub fn divergence(
    exact: &mut dyn Session,
    coarse: &mut dyn Session,
    ids: &[u32],
    progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Divergence, BackendError> {
    let vocab_size = exact.model().config.vocab_size;
    let chunk = (MOST_SCORES / vocab_size).clamp(1, DEFAULT_CHUNK);
    let mut found = Divergence::default();
    let (mut exact_lv, mut coarse_lv) = (Scores(Vec::new()), Scores(Vec::new()));
    for part in ids.chunks(chunk) {
        exact_lv.0.clear();
        coarse_lv.0.clear();
        exact.prefill(part, &mut exact_lv)?;
        coarse.prefill(part, &mut coarse_lv)?;
        let rows = exact_lv.0.chunks(vocab_size);
        for (exact_v, coarse_v) in rows.zip(coarse_lv.0.chunks(vocab_size)) {
            found.add(exact_v, coarse_v);
        }
        if progress(found.tokens).is_break() {
            break;
        }
    }
    Ok(found)
}

/// What each coarser form of a model costs, and how small it is.
#[derive(Clone, Debug, PartialEq)]
pub struct PrecisionStudy {
    /// The model as it is stored.
    pub model: ModelRef,
}

/// A form of the model, measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Form {
    /// The matrices' number format.
    pub dtype: Dtype,
    /// Whether products of many tokens round what they multiply to bf16, as those nobody watches do where the processor can.
    pub rounds: bool,
    /// Bytes of all weights.
    pub weight_bytes: usize,
    /// Against exact products with the weights as they are stored.
    pub divergence: Divergence,
}

impl Study for PrecisionStudy {
    type Answer = Vec<Form>;

    fn compute(
        &self,
        _workshop: &mut Workshop,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Form>, JobError> {
        let model = &*self.model;
        let ids = fixed_ids(model);
        let coarser = coarser_forms(model.main_dtype());
        let mut found = Vec::new();
        let total = ids.len() * coarser.len();
        let mut went = ControlFlow::Continue(());
        for (i, (dtype, rounds)) in coarser.into_iter().enumerate() {
            let form = measure(model, dtype, rounds, &ids, &mut |tokens| {
                went = progress(Progress::Count {
                    what: "tokens compared",
                    done: i * ids.len() + tokens,
                    total,
                });
                went
            })?;
            found.extend(form);
            if went.is_break() {
                break;
            }
        }
        Ok(found)
    }
}

/// The forms worth measuring of a model stored in this number format: the matrices' format, and whether large products round.
pub fn coarser_forms(stored: Dtype) -> Vec<(Dtype, bool)> {
    let forms = [
        (Dtype::F32, false),
        (Dtype::F16, false),
        (Dtype::Bf16, false),
        (Dtype::Bf16, true),
        (Dtype::Int8, false),
    ];
    // A finer format than the stored one would hold the same numbers.
    let coarser = forms.into_iter().filter(|(dtype, rounds)| {
        dtype.size() < stored.size() || (*dtype == stored && (*rounds || stored == Dtype::F32))
    });
    coarser.collect()
}

/// Measures a form of a model; `None` where this processor has no products that round.
///
/// # Errors
/// When a backend refuses the model.
pub fn measure(
    model: &Arc<Model>,
    dtype: Dtype,
    rounds: bool,
    ids: &[u32],
    progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<Form>, BackendError> {
    let rounding = if rounds {
        Rounding::Always
    } else {
        Rounding::Never
    };
    if rounds && !Rounding::is_available() {
        return Ok(None);
    }
    let Ok(form) = Model::clone(model).recast(dtype).map(Arc::new) else {
        return Ok(None);
    };
    let mut exact = FastBackend::new(0)?
        .with_rounding(Rounding::Never)
        .open(model)?;
    let mut coarse = FastBackend::new(0)?.with_rounding(rounding).open(&form)?;
    let divergence = divergence(&mut *exact, &mut *coarse, ids, progress)?;
    Ok(Some(Form {
        dtype,
        rounds,
        weight_bytes: form.weight_bytes(),
        divergence,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_part_by_nothing_and_a_nan_stays() {
        let mut found = Divergence::default();
        found.add(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]);
        assert_eq!((found.mean, found.most, found.flips), (0.0, 0.0, 0));
        // KL of (1/2, 1/2) from (3/4, 1/4), by hand.
        found.add(&[0.0, 0.0], &[3.0f32.ln(), 0.0]);
        let by_hand = 0.5 * (0.5f64 / 0.75).ln() + 0.5 * (0.5f64 / 0.25).ln();
        assert!((found.most - by_hand).abs() < 1e-6, "{}", found.most);
        found.add(&[0.0, 1.0], &[f32::NAN, 1.0]);
        found.add(&[0.0, 1.0], &[0.0, 1.0]);
        assert!(found.most.is_nan() && found.mean.is_nan());
        assert_eq!(found.tokens, 4);
    }
}
