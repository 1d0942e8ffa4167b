//! Two memories that need no training: a matrix that adds up its facts, and attention that keeps them all.

use mambascope_core::noise::Noise;
use ndarray::{Array1, Array2, ArrayView2, Axis};

/// Different values a fact can have.
pub const VALUES: usize = 64;
/// Numbers of a value's vector.
const WIDTH: usize = 64;

/// Facts to remember: a key is a direction, a value one of [`VALUES`] words, each with a vector of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Unit keys, `[k, n]`: facts × slots.
    pub keys_kn: Array2<f64>,
    /// The value of each key, `[k]`.
    pub values_k: Vec<usize>,
    /// The vectors of the words: unit vectors, `[value, w]`, `w` being their width.
    words_vw: Array2<f64>,
}

/// What a memory said to every question.
#[derive(Clone, Debug, PartialEq)]
pub struct Answers {
    /// The value it named, `[k]`.
    pub named_k: Vec<usize>,
    /// Score of the right value less that of the best wrong one, `[k]`: above zero is right.
    pub margin_k: Vec<f32>,
}

impl Facts {
    /// `count` facts with keys of `slots` numbers. A share `correlation` of every key's square length is one direction common to
    /// all, on average: 0 gives independent directions.
    pub fn random(slots: usize, count: usize, correlation: f64, seed: u64) -> Self {
        let noise = Noise::new(seed, "keys");
        let blend = Blend::new(correlation, seed);
        let chosen = Noise::new(seed, "values");
        let vectors = Noise::new(seed, "vectors of the values");
        let mut keys_kn = Array2::from_shape_fn((count, slots), |(k, n)| {
            blend.with(n, noise.normal(k * slots + n))
        });
        let mut words_vw = Array2::from_shape_fn((VALUES, WIDTH), |(v, w)| {
            f64::from(vectors.normal(v * WIDTH + w))
        });
        unit_rows(&mut keys_kn);
        unit_rows(&mut words_vw);
        let value = |k| (chosen.bits(k) >> 32) as usize % VALUES;
        Self {
            keys_kn,
            values_k: (0..count).map(value).collect(),
            words_vw,
        }
    }

    /// Facts about words: `values_k` are places in `words`, the values there are. The vector of a word is drawn from its letters.
    pub fn of_words(
        keys_kn: Array2<f64>,
        values_k: Vec<usize>,
        words: &[String],
        seed: u64,
    ) -> Self {
        let noises: Vec<Noise> = words
            .iter()
            .map(|word| Noise::new(seed, &format!("value {word}")))
            .collect();
        let mut words_vw = Array2::from_shape_fn((words.len(), WIDTH), |(v, w)| {
            f64::from(noises[v].normal(w))
        });
        unit_rows(&mut words_vw);
        Self {
            keys_kn,
            values_k,
            words_vw,
        }
    }

    /// Facts.
    pub fn len(&self) -> usize {
        self.values_k.len()
    }

    /// S = Σ v kᵀ, `[w, n]`, every fact shrinking what was there by `decay`: the last fact has the weight one.
    pub fn linear_memory(&self, decay: f64) -> Array2<f64> {
        let last = self.len().saturating_sub(1) as f64;
        let vectors_kw = Array2::from_shape_fn((self.len(), WIDTH), |(k, w)| {
            decay.powf(last - k as f64) * self.words_vw[[self.values_k[k], w]]
        });
        vectors_kw.t().dot(&self.keys_kn)
    }

    /// Asks a linear memory for these keys, `[q, n]`: o = S k, and every value scores by its vector times o, `[q, value]`.
    pub fn linear_scores(&self, decay: f64, asked_qn: ArrayView2<'_, f64>) -> Array2<f64> {
        let s_wn = self.linear_memory(decay);
        asked_qn.dot(&s_wn.t()).dot(&self.words_vw.t())
    }

    /// Asks a linear memory for every key: the value whose vector is nearest to o in direction.
    pub fn ask_linear(&self, decay: f64) -> Answers {
        self.judge(self.linear_scores(decay, self.keys_kn.view()).view())
    }

    /// Asks softmax attention over all facts for these keys, `[q, n]`, with its own scores multiplied by `sharpness`; its output
    /// is read as that of the linear memory is, `[q, value]`.
    pub fn attention_scores(&self, sharpness: f64, asked_qn: ArrayView2<'_, f64>) -> Array2<f64> {
        let score_qj = asked_qn.dot(&self.keys_kn.t());
        let mut share_qv = Array2::zeros((asked_qn.nrows(), self.words_vw.nrows()));
        for (scores, mut shares) in score_qj.outer_iter().zip(share_qv.outer_iter_mut()) {
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Array1<f64> = scores.mapv(|score| (sharpness * (score - most)).exp());
            let total = weights.sum();
            for (weight, &value) in weights.iter().zip(&self.values_k) {
                shares[value] += weight / total;
            }
        }
        share_qv.dot(&self.words_vw).dot(&self.words_vw.t())
    }

    /// Asks softmax attention for every key.
    pub fn ask_attention(&self, sharpness: f64) -> Answers {
        self.judge(self.attention_scores(sharpness, self.keys_kn.view()).view())
    }

    /// Names the best value of every row, `[k, value]`.
    fn judge(&self, score_kv: ArrayView2<'_, f64>) -> Answers {
        let mut answers = Answers {
            named_k: Vec::with_capacity(self.len()),
            margin_k: Vec::with_capacity(self.len()),
        };
        for (scores, &right) in score_kv.axis_iter(Axis(0)).zip(&self.values_k) {
            let mut wrong = (right, f64::NEG_INFINITY);
            for (value, &score) in scores.iter().enumerate() {
                if value != right && score > wrong.1 {
                    wrong = (value, score);
                }
            }
            // With nothing to be mistaken for, a value is ahead of silence.
            let best_wrong = if scores.len() > 1 { wrong.1 } else { 0.0 };
            let margin = scores[right] - best_wrong;
            answers
                .named_k
                .push(if margin > 0.0 { right } else { wrong.0 });
            answers.margin_k.push(margin as f32);
        }
        answers
    }
}

/// The unit keys of words, `[k, n]`, each drawn from its letters: the same word has the same key. Alike as in [`Facts::random`].
pub fn keys_of<'a>(
    words: impl Iterator<Item = &'a str>,
    slots: usize,
    correlation: f64,
    seed: u64,
) -> Array2<f64> {
    let blend = Blend::new(correlation, seed);
    let noises: Vec<Noise> = words
        .map(|word| Noise::new(seed, &format!("key {word}")))
        .collect();
    let mut keys_kn = Array2::from_shape_fn((noises.len(), slots), |(k, n)| {
        blend.with(n, noises[k].normal(n))
    });
    unit_rows(&mut keys_kn);
    keys_kn
}

/// Makes keys alike: a share of each is one direction.
struct Blend {
    correlation: f64,
    common: Noise,
}

impl Blend {
    fn new(correlation: f64, seed: u64) -> Self {
        Self {
            correlation,
            common: Noise::new(seed, "common direction"),
        }
    }

    /// Number `n` of a key of which `own` was drawn for itself.
    fn with(&self, n: usize, own: f32) -> f64 {
        let common = f64::from(self.common.normal(n));
        (1.0 - self.correlation).sqrt() * f64::from(own) + self.correlation.sqrt() * common
    }
}

/// Every row to the length one; a row of zeros has no direction and stays what it is.
fn unit_rows(rows: &mut Array2<f64>) {
    for mut row in rows.outer_iter_mut() {
        let length = row.dot(&row).sqrt();
        if length > 0.0 {
            row /= length;
        }
    }
}

impl Answers {
    /// Questions answered right.
    pub fn right(&self) -> usize {
        self.margin_k.iter().filter(|&&margin| margin > 0.0).count()
    }
}

/// Right answers of `draws` linear memories that nothing fades in, as shares, one a draw.
pub fn shares(slots: usize, count: usize, draws: usize, seed: u64) -> Vec<f64> {
    (0..draws)
        .map(|draw| {
            let facts = Facts::random(slots, count, 0.0, seed + draw as u64);
            facts.ask_linear(1.0).right() as f64 / count as f64
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fact_is_known_and_attention_knows_all() {
        let facts = Facts::random(16, 1, 0.0, 3);
        assert_eq!(facts.ask_linear(1.0).right(), 1);
        let facts = Facts::random(16, 128, 0.0, 3);
        assert_eq!(facts.ask_attention(100.0).right(), 128);
        assert!(facts.ask_linear(1.0).right() < 80);
    }

    #[test]
    fn a_word_has_one_key_and_no_other_word_has_it() {
        let keys_kn = keys_of(["cat", "dog", "cat"].into_iter(), 64, 0.0, 1);
        assert_eq!(keys_kn.row(0), keys_kn.row(2));
        assert!(keys_kn.row(0).dot(&keys_kn.row(1)).abs() < 0.5);
        let alone = Facts::of_words(keys_kn, vec![0; 3], &["3".to_owned()], 1);
        let margin_k = alone.ask_linear(1.0).margin_k;
        assert!(margin_k.iter().all(|margin| margin.is_finite()));
    }

    #[test]
    fn facts_that_fade_keep_their_last() {
        let facts = Facts::random(8, 64, 0.0, 1);
        assert!(facts.ask_linear(0.1).margin_k[63] > 0.0);
        let keys = Facts::random(8, 4, 1.0, 1).keys_kn;
        assert!((keys.row(0).dot(&keys.row(3)) - 1.0).abs() < 1e-9);
    }
}
