//! One text read by a model as it was trained and under another rule: how far the scores part, and how large a step its states take.

use std::ops::{ControlFlow, RangeInclusive};

use mambascope_core::backend::Session;
use mambascope_core::discretize::phi;
use mambascope_core::generate::argmax;
use mambascope_core::job::JobError;
use mambascope_core::model::{Mixer, Model};
use mambascope_core::trace::{Probe, Site, Tap};
use ndarray::ArrayViewD;

/// The text read: prose of the kind the embedded models were trained on.
pub(super) const TEXT: &str = "The carriage stopped before the old house, and Mr. Grey stepped down into the rain. \"You are very late, my dear brother,\" said Anne, who was standing at the open door with a candle in her hand. \"The roads are bad,\" he answered, \"and the poor horse could go no faster.\" She took his wet coat, and led him to the fire, where their father had fallen asleep over his book.";

/// Tokens of it that are read, at most.
pub(super) const TOKENS: usize = 64;

/// Tokens read between two reports.
const PIECE: usize = 8;

/// Powers of ten between which z = Δ|A| is counted; what lies outside is counted at the ends.
const DECADES: RangeInclusive<i32> = -7..=4;
/// Fine bins of a power of ten, for the median.
const FINE: usize = 1000;
/// Share of all steps that a bin must hold for the picture to begin there: the smallest steps are few and far apart.
const WORTH: f64 = 1e-4;
/// Bins of a power of ten that are drawn.
pub(super) const DRAWN: usize = 8;

/// What a session gave for a text.
pub(super) struct Reading {
    ids: Vec<u32>,
    vocab_size: usize,
    /// Scores, `[l, v]` row after row.
    logits_lv: Vec<f32>,
    /// Of each block, Δ, `[l, d]` row after row; empty where the block has none.
    delta_ld: Vec<Vec<f32>>,
}

impl Tap for Reading {
    fn wants(&self, site: Site) -> bool {
        matches!(site.probe, Probe::Logits | Probe::Delta)
    }

    fn record(&mut self, site: Site, value: ArrayViewD<'_, f32>) {
        match site.layer {
            None => self.logits_lv.extend(value.iter()),
            Some(layer) => {
                if let Some(delta_ld) = self.delta_ld.get_mut(layer) {
                    delta_ld.extend(value.iter());
                }
            }
        }
    }
}

/// Reads the text; `report` hears how many tokens are done.
///
/// # Errors
/// When the backend fails, or `report` says to stop.
pub(super) fn read(
    model: &Model,
    ids: &[u32],
    session: &mut dyn Session,
    report: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Reading, JobError> {
    let mut reading = Reading {
        ids: ids.to_vec(),
        vocab_size: model.config.vocab_size,
        logits_lv: Vec::new(),
        delta_ld: vec![Vec::new(); model.config.blocks.len()],
    };
    for (i, piece) in ids.chunks(PIECE).enumerate() {
        session.prefill(piece, &mut reading)?;
        if report(i * PIECE + piece.len()).is_break() {
            return Err(JobError::Study("stopped before the text was read".into()));
        }
    }
    Ok(reading)
}

/// ln of the probabilities these scores stand for, `[v]`; nothing where a score is no finite number.
fn ln_p(scores_v: &[f32]) -> Option<Vec<f64>> {
    if !scores_v.iter().all(|score| score.is_finite()) {
        return None;
    }
    let scores = || scores_v.iter().map(|&score| f64::from(score));
    let best = scores().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = best + scores().map(|score| (score - best).exp()).sum::<f64>().ln();
    Some(scores().map(|score| score - log_sum).collect())
}

/// How far a reading lies from the shipped one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Apart {
    /// After each token, Σ p ln(p/q) in nats: p is what the model as shipped expects next, q what it expects here. NaN where q has
    /// no finite scores.
    pub kl_l: Vec<f64>,
    /// Whether the most likely next token is another one, or there is none any more.
    pub flipped_l: Vec<bool>,
    /// Mean −ln of the probability of each token that came, in nats, as shipped; and here, NaN where a score is not finite.
    pub losses: [f64; 2],
    /// The first token whose scores are no finite numbers.
    pub lost: Option<usize>,
}

impl Apart {
    /// Compares two readings of one text.
    pub fn of(shipped: &Reading, other: &Reading) -> Self {
        let mut apart = Self {
            kl_l: Vec::new(),
            flipped_l: Vec::new(),
            losses: [0.0; 2],
            lost: None,
        };
        let rows = |reading: &Reading| reading.logits_lv.len() / reading.vocab_size.max(1);
        let row = |reading: &'_ Reading, l: usize| {
            let from = l * reading.vocab_size;
            reading.logits_lv[from..from + reading.vocab_size].to_vec()
        };
        let tokens = rows(shipped).min(rows(other));
        for l in 0..tokens {
            let (p_v, q_v) = (row(shipped, l), row(other, l));
            let (Some(ln_p_v), Some(ln_q_v)) = (ln_p(&p_v), ln_p(&q_v)) else {
                apart.lost.get_or_insert(l);
                apart.flipped_l.push(true);
                apart.kl_l.push(f64::NAN);
                apart.losses[1] = f64::NAN;
                continue;
            };
            apart.flipped_l.push(argmax(&p_v) != argmax(&q_v));
            let terms = ln_p_v.iter().zip(&ln_q_v);
            let kl: f64 = terms.map(|(ln_p, ln_q)| ln_p.exp() * (ln_p - ln_q)).sum();
            // Never below zero but for rounding.
            apart.kl_l.push(kl.max(0.0));
            if let Some(&next) = shipped.ids.get(l + 1) {
                let share = 1.0 / (tokens - 1) as f64;
                let of = |ln_v: &[f64]| ln_v.get(next as usize).copied().unwrap_or(f64::NAN);
                apart.losses[0] -= share * of(&ln_p_v);
                apart.losses[1] -= share * of(&ln_q_v);
            }
        }
        apart
    }

    /// Mean over the tokens with finite scores; NaN where there are none.
    pub fn mean_kl(&self) -> f64 {
        let finite = || self.kl_l.iter().filter(|kl| kl.is_finite());
        finite().sum::<f64>() / finite().count() as f64
    }

    /// The token after which the two part most, and how far.
    pub fn largest(&self) -> Option<(usize, f64)> {
        let all = self.kl_l.iter().copied().enumerate();
        all.filter(|(_, kl)| kl.is_finite())
            .max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Tokens after which another token is the most likely.
    pub fn flips(&self) -> usize {
        self.flipped_l.iter().filter(|&&flipped| flipped).count()
    }
}

/// How large a step the states take: z = Δ|A| of every layer, channel, slot and token.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Dial {
    /// How many there are.
    pub total: u64,
    /// How many of them lie above 1.
    pub above_one: u64,
    /// log₁₀ of the middle of a bin, and the share of all that lies in it; from the first bin worth drawing to the last
    /// that holds any.
    pub bins: Vec<(f64, f64)>,
    /// As many lie below as above, to a thousandth of a power of ten.
    pub median_z: f64,
    /// The median of Δ alone.
    pub median_delta: f64,
}

impl Dial {
    /// Counts the steps of a reading.
    pub fn of(model: &Model, reading: &Reading) -> Self {
        let decades = DECADES.count();
        let mut fine = vec![0u64; (decades - 1) * FINE];
        let last = fine.len() - 1;
        let low = f64::from(*DECADES.start());
        let mut above_one = 0;
        for (layer, delta_ld) in model.layers.iter().zip(&reading.delta_ld) {
            let Mixer::Mamba(mixer) = &layer.mixer else {
                continue;
            };
            let a_dn = mixer.a_nd().reversed_axes();
            // A logarithm for each Δ and each A, and one sum for each pair of them.
            let place = |value: f32| f64::from(value.abs()).log10();
            let ln_a_dn = a_dn.mapv(place);
            for delta_d in delta_ld.chunks(a_dn.nrows().max(1)) {
                for ((&delta, a_n), ln_a_n) in delta_d.iter().zip(a_dn.rows()).zip(ln_a_dn.rows()) {
                    let from = place(delta) - low;
                    for (a, ln_a) in a_n.iter().zip(ln_a_n) {
                        // A negative number becomes bin 0.
                        let bin = ((from + ln_a) * FINE as f64) as usize;
                        fine[bin.min(last)] += 1;
                        above_one += u64::from(delta * a.abs() > 1.0);
                    }
                }
            }
        }
        let total = fine.iter().sum();
        let middle = |bin: usize, of_decade: usize| low + (bin as f64 + 0.5) / of_decade as f64;
        Self {
            total,
            above_one,
            bins: drawn(&fine, total, |bin| middle(bin, DRAWN)),
            median_z: 10f64.powf(middle(median_bin(&fine, total), FINE)),
            median_delta: median_delta(model, reading),
        }
    }

    /// Share of the steps above 1.
    pub fn share_above_one(&self) -> f64 {
        self.above_one as f64 / self.total as f64
    }
}

/// How many times more the shipped rule writes than zero-order hold does: z/(1 − e^−z).
pub(super) fn ratio(z: f64) -> f64 {
    1.0 / phi(-z)
}

/// The coarse bins, from the first worth drawing to the last that holds any.
fn drawn(fine: &[u64], total: u64, middle: impl Fn(usize) -> f64) -> Vec<(f64, f64)> {
    let coarse: Vec<u64> = fine
        .chunks(FINE / DRAWN)
        .map(|bins| bins.iter().sum())
        .collect();
    let share = |count: u64| count as f64 / total as f64;
    let first = coarse.iter().position(|&count| share(count) >= WORTH);
    let end = coarse
        .iter()
        .rposition(|&count| count > 0)
        .map_or(0, |last| last + 1);
    (first.unwrap_or(end)..end)
        .map(|bin| (middle(bin), share(coarse[bin])))
        .collect()
}

/// The bin that holds the one in the middle.
fn median_bin(fine: &[u64], total: u64) -> usize {
    let mut below = 0;
    let reached = fine.iter().position(|count| {
        below += count;
        2 * below >= total
    });
    reached.unwrap_or(0)
}

/// The median Δ of the layers with a scan.
fn median_delta(model: &Model, reading: &Reading) -> f64 {
    let layers = model.layers.iter().zip(&reading.delta_ld);
    let mut all: Vec<f32> = layers
        .filter(|(layer, _)| matches!(layer.mixer, Mixer::Mamba(_)))
        .flat_map(|(_, delta_ld)| delta_ld.iter().copied())
        .collect();
    if all.is_empty() {
        return f64::NAN;
    }
    let middle = all.len() / 2;
    f64::from(*all.select_nth_unstable_by(middle, f32::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(logits_lv: Vec<f32>) -> Reading {
        Reading {
            ids: vec![0, 1, 0],
            vocab_size: 2,
            logits_lv,
            delta_ld: Vec::new(),
        }
    }

    #[test]
    fn what_parts_is_measured_and_what_is_lost_is_told() {
        let even = reading(vec![0.0; 6]);
        let same = Apart::of(&even, &even);
        assert_eq!((same.mean_kl(), same.flips(), same.lost), (0.0, 0, None));
        assert!((same.losses[0] - 2f64.ln()).abs() < 1e-12);
        let other = reading(vec![0.0, 0.0, 0.0, 3f32.ln(), f32::NAN, 0.0]);
        let apart = Apart::of(&even, &other);
        // ½ ln(½ / ¼) + ½ ln(½ / ¾), once in two tokens that count.
        let kl = 0.5 * (2f64.ln() + (2f64 / 3.0).ln());
        assert!((apart.mean_kl() - kl / 2.0).abs() < 1e-7);
        assert_eq!(apart.largest().map(|(token, _)| token), Some(1));
        assert_eq!(apart.lost, Some(2));
        assert_eq!(apart.flipped_l[..2], [false, true]);
        assert!(apart.losses[1].is_nan());
    }

    #[test]
    fn the_ratio_is_the_formula() {
        for z in [0.1, 1.0, 16.0f64] {
            assert!((ratio(z) - z / (1.0 - (-z).exp())).abs() < 1e-12 * z.max(1.0));
        }
    }

    #[test]
    fn the_median_stands_in_the_middle() {
        let mut fine = vec![0; FINE];
        (fine[10], fine[20], fine[30]) = (2, 1, 2);
        assert_eq!(median_bin(&fine, 5), 20);
        assert_eq!(drawn(&fine, 5, |bin| bin as f64), [(0.0, 1.0)]);
    }
}
