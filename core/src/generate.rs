//! From scores to text: sampling, and the loop that feeds each token back.

use std::ops::ControlFlow;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::backend::{BackendError, Session};
use crate::trace::Tap;

/// How the next token is chosen. The same scores, history and settings give the same token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Divides the scores; 0 takes the most likely token (greedy).
    pub temperature: f32,
    /// Keeps this many of the most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the most likely tokens whose probabilities first reach this sum; 1 keeps all.
    pub top_p: f32,
    /// Divides the positive scores of tokens already present and multiplies the negative ones; 1 does nothing.
    pub repetition_penalty: f32,
    /// Together with the position, decides every draw.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 50,
            top_p: 0.95,
            repetition_penalty: 1.1,
            seed: 1,
        }
    }
}

impl Sampling {
    /// The most likely token, always.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            repetition_penalty: 1.0,
            seed: 0,
        }
    }
}

impl Sampling {
    /// The number from 0 to 1 that decides the draw after `position` tokens.
    pub fn uniform(&self, position: usize) -> f32 {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(position as u64);
        (rng.next_u32() >> 8) as f32 / (1u32 << 24) as f32
    }
}

/// Chooses tokens; keeps its buffers between calls.
#[derive(Debug, Default)]
pub struct Sampler {
    scores: Vec<f32>,
    candidates: Vec<(u32, f32)>,
}

impl Sampler {
    /// The token after `history`, from `logits` `[v]`. A draw considers only ids below `known`: rows that pad the embedding
    /// have scores but no text. A greedy choice considers all, as the references do.
    pub fn pick(
        &mut self,
        logits: &[f32],
        history: &[u32],
        sampling: &Sampling,
        known: usize,
    ) -> u32 {
        self.scores.clear();
        self.scores.extend_from_slice(logits);
        if sampling.repetition_penalty != 1.0 {
            penalise(
                &mut self.scores,
                logits,
                history,
                sampling.repetition_penalty,
            );
        }
        if !(sampling.temperature > 0.0) {
            return argmax(&self.scores);
        }
        let known = if known == 0 {
            self.scores.len()
        } else {
            known.min(self.scores.len())
        };
        self.keep_likely(known, sampling);
        self.draw(sampling.uniform(history.len()))
    }

    /// Fills `candidates` with (id, weight), most likely first, cut by top-k and top-p; weights are relative to the first.
    fn keep_likely(&mut self, known: usize, sampling: &Sampling) {
        let scores = &self.scores[..known];
        let best = scores[argmax(scores) as usize];
        let weight = |score: f32| ((score - best) / sampling.temperature).exp();
        let total: f32 = scores.iter().map(|&s| weight(s)).sum();
        // Saves sorting the vocabulary: what lies below this share of the whole cannot be among those that sum to top_p.
        let floor = if sampling.top_k == 0 {
            (1.0 - sampling.top_p).max(0.0) / known as f32 * total
        } else {
            0.0
        };
        self.candidates.clear();
        self.candidates.extend(
            scores
                .iter()
                .map(|&s| weight(s))
                .zip(0..)
                .filter(|&(w, _)| w >= floor)
                .map(|(w, id)| (id, w)),
        );
        if sampling.top_k > 0 && sampling.top_k < self.candidates.len() {
            self.candidates
                .select_nth_unstable_by(sampling.top_k - 1, by_weight);
            self.candidates.truncate(sampling.top_k);
        }
        self.candidates.sort_unstable_by(by_weight);
        // As in transformers, top-p works on what top-k has left.
        let kept = if sampling.top_k == 0 {
            total
        } else {
            self.candidates.iter().map(|c| c.1).sum()
        };
        let mut sum = 0.0;
        let reached = self.candidates.iter().position(|c| {
            sum += c.1;
            sum >= sampling.top_p * kept
        });
        self.candidates
            .truncate(reached.map_or(self.candidates.len(), |i| i + 1));
    }

    fn draw(&self, uniform: f32) -> u32 {
        let total: f32 = self.candidates.iter().map(|c| c.1).sum();
        let mut left = uniform * total;
        let chosen = self.candidates.iter().find(|c| {
            left -= c.1;
            left < 0.0
        });
        // Rounding may leave a crumb after the last candidate.
        chosen
            .or(self.candidates.last())
            .map_or_else(|| argmax(&self.scores), |c| c.0)
    }
}

fn by_weight(a: &(u32, f32), b: &(u32, f32)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

fn penalise(scores: &mut [f32], logits: &[f32], history: &[u32], penalty: f32) {
    for &id in history {
        // From the original score, so that a token met twice is not penalised twice.
        if let (Some(score), Some(&logit)) = (scores.get_mut(id as usize), logits.get(id as usize))
        {
            *score = if logit > 0.0 {
                logit / penalty
            } else {
                logit * penalty
            };
        }
    }
}

/// Index of the largest score, the first of equals; NaN never wins.
pub fn argmax(scores: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &score) in (0..).zip(scores) {
        if score > best.1 {
            best = (id, score);
        }
    }
    best.0
}

/// ln Σ exp(logits), the number that turns a score into ln p.
pub fn log_sum_exp(logits: &[f32]) -> f32 {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    best + logits.iter().map(|&x| (x - best).exp()).sum::<f32>().ln()
}

/// The `count` most likely tokens as (id, probability), most likely first.
pub fn most_likely(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut ranked: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    let count = count.min(ranked.len());
    if count < ranked.len() {
        ranked.select_nth_unstable_by(count, by_weight);
        ranked.truncate(count);
    }
    ranked.sort_unstable_by(by_weight);
    let total = log_sum_exp(logits);
    ranked
        .into_iter()
        .map(|(id, score)| (id, (score - total).exp()))
        .collect()
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model wrote its end-of-text token.
    EndOfText,
    /// As many tokens as asked for.
    Limit,
    /// Stopped on request.
    Cancelled,
}

/// Writes up to `limit` tokens after `history`, which the session has read and which grows; `on_token` may stop it.
/// The last token is chosen but not read back.
///
/// # Errors
/// As [`Session::step`] and [`Session::logits`].
pub fn generate(
    session: &mut dyn Session,
    history: &mut Vec<u32>,
    sampling: &Sampling,
    limit: usize,
    tap: &mut dyn Tap,
    on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> Result<Finish, BackendError> {
    let model = std::sync::Arc::clone(session.model());
    let known = model
        .tokenizer
        .as_ref()
        .map_or(0, |tokenizer| tokenizer.len());
    let mut sampler = Sampler::default();
    for written in 1..=limit {
        let id = session.pick(&mut sampler, history, sampling, known)?;
        history.push(id);
        if on_token(id).is_break() {
            return Ok(Finish::Cancelled);
        }
        if model.config.eos.contains(&id) {
            return Ok(Finish::EndOfText);
        }
        if written < limit {
            session.step(id, tap)?;
        }
    }
    Ok(Finish::Limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(temperature: f32, top_k: usize, top_p: f32) -> Sampling {
        Sampling {
            temperature,
            top_k,
            top_p,
            repetition_penalty: 1.0,
            seed: 3,
        }
    }

    /// How often each of four tokens is drawn, over as many positions.
    fn shares(sampling: &Sampling, logits: &[f32]) -> Vec<f32> {
        let mut sampler = Sampler::default();
        let mut counts = vec![0.0; logits.len()];
        for position in 0..4000 {
            let history = vec![0; position];
            counts[sampler.pick(logits, &history, sampling, 0) as usize] += 1.0 / 4000.0;
        }
        counts
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let probabilities = [0.5, 0.3, 0.15, 0.05];
        let logits = probabilities.map(f32::ln);
        for (share, p) in shares(&sampling(1.0, 0, 1.0), &logits)
            .iter()
            .zip(probabilities)
        {
            assert!((share - p).abs() < 0.03, "{share} for {p}");
        }
        let cut = shares(&sampling(1.0, 2, 1.0), &logits);
        assert!(
            (cut[0] - 0.625).abs() < 0.03 && cut[2] + cut[3] == 0.0,
            "top-k 2 gave {cut:?}"
        );
        let cut = shares(&sampling(1.0, 0, 0.75), &logits);
        assert!(
            (cut[0] - 0.625).abs() < 0.03 && cut[2] + cut[3] == 0.0,
            "top-p 0.75 gave {cut:?}"
        );
    }

    #[test]
    fn greedy_takes_the_first_of_equals_and_never_nan() {
        let mut sampler = Sampler::default();
        assert_eq!(
            sampler.pick(&[f32::NAN, 2.0, 5.0, 5.0], &[], &Sampling::greedy(), 0),
            2
        );
    }

    #[test]
    fn a_token_met_twice_is_penalised_once() {
        let penalised = Sampling {
            repetition_penalty: 2.0,
            ..Sampling::greedy()
        };
        let mut sampler = Sampler::default();
        assert_eq!(sampler.pick(&[4.0, 2.1, -1.0], &[0, 0], &penalised, 0), 1);
        assert_eq!(sampler.pick(&[4.0, 0.9, -1.0], &[0, 0], &penalised, 0), 0);
    }

    #[test]
    fn padding_rows_are_never_drawn() {
        let drawn = shares(&sampling(1.0, 0, 1.0), &[0.0, 0.0, 9.0, 9.0]);
        assert!(drawn[2] > 0.4);
        let mut sampler = Sampler::default();
        for position in 0..200 {
            assert!(
                sampler.pick(
                    &[0.0, 0.0, 9.0, 9.0],
                    &vec![0; position],
                    &sampling(1.0, 0, 1.0),
                    2
                ) < 2
            );
        }
    }

    #[test]
    fn probabilities_of_the_most_likely() {
        let top = most_likely(&[0.7f32.ln(), 0.1f32.ln(), 0.2f32.ln()], 2);
        assert_eq!(top.iter().map(|t| t.0).collect::<Vec<_>>(), [0, 2]);
        assert!((top[0].1 - 0.7).abs() < 1e-6 && (top[1].1 - 0.2).abs() < 1e-6);
    }
}
