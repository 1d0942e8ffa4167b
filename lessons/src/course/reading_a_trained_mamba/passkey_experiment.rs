//! What the page claims about a planted pair and the clock.

use std::ops::ControlFlow;
use std::sync::Arc;

use mambascope_core::checkpoint::embedded;
use mambascope_core::job::{JobError, ModelRef};

use super::alpha::gather;
use super::planted::{Clock, Filler, Planted, Reader, Reading, said, saturated};
use super::records::scan_layers;
use super::survival::{median, survival};
use crate::experiment::{Bench, Expected, Experiment, Finding};

/// A pair of words, planted and asked for, with the model's own Δ and with another.
pub const PASSKEY: Experiment = Experiment {
    name: "planted-pair",
    title: "What is left of a planted pair, how full the state is, and what a slower clock does to both",
    run: planted_pair,
};

/// Tokens around the pair, pairs asked, tokens of the short text on which the changed scan is rebuilt.
const TOKENS: usize = 192;
const DRAWS: usize = 6;
const SHORT: usize = 40;

/// The embedded model with Δ times a factor from a token on, in all layers.
struct Subject {
    model: ModelRef,
    layers: Vec<usize>,
}

impl Subject {
    fn read(
        &self,
        bench: &mut Bench<'_>,
        text: &Planted,
        (by, from): (f32, usize),
    ) -> Result<Reading, JobError> {
        let clock = Clock {
            by,
            layers: self.layers.clone(),
            from,
        };
        let reader = Reader::new(&self.model, clock)?;
        let backend = bench.workshop.backend("fast")?;
        let mut go_on = |_| ControlFlow::Continue(());
        reader.read(&text.ids, &self.layers, backend, &mut go_on)
    }

    /// Means over the draws: the probability of the right word, and what is left of it, median of the layers.
    fn asked(&self, bench: &mut Bench<'_>, depth: f64, by: f32) -> Result<[f64; 2], JobError> {
        let mut sums = [0.0; 2];
        for draw in 0..DRAWS {
            let text = Planted::new(&self.model, Filler::Pairs, TOKENS, (depth, draw))?;
            let reading = self.read(bench, &text, (by, text.place + 1))?;
            let left = reading.scans.iter().filter_map(|scan| {
                let stored = survival(scan, text.place, 0).stored;
                stored.last().copied()
            });
            sums[0] += said(&reading.logits_v, text.value).0;
            sums[1] += median(left).map_or(f64::NAN, f64::from);
        }
        Ok(sums.map(|sum| sum / DRAWS as f64))
    }

    /// Share of saturated entries after so many tokens of prose, mean of the layers.
    fn full(&self, reading: &Reading, tokens: usize) -> f64 {
        let of_layers = reading.scans.iter().map(|scan| {
            let full = saturated(scan);
            full.get(tokens - 1).copied().unwrap_or(f64::NAN)
        });
        of_layers.sum::<f64>() / self.layers.len() as f64
    }
}

fn planted_pair(bench: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let model = ModelRef(Arc::new(embedded()?));
    let layers = scan_layers(&model);
    let subject = Subject { model, layers };
    bench.report("readings", 0, 5)?;
    let near = subject.asked(bench, 1.0, 1.0)?;
    bench.report("readings", 1, 5)?;
    let far = subject.asked(bench, 0.0, 1.0)?;
    bench.report("readings", 2, 5)?;
    let slow = subject.asked(bench, 0.0, 0.5)?;
    bench.report("readings", 3, 5)?;
    let quick = subject.asked(bench, 0.0, 2.0)?;
    bench.report("readings", 4, 5)?;
    let prose = Planted::new(&subject.model, Filler::Prose, 400, (0.0, 0))?;
    let own = subject.read(bench, &prose, (1.0, 0))?;
    let halved = subject.read(bench, &prose, (0.5, 0))?;
    let short = Planted::new(&subject.model, Filler::Prose, SHORT, (0.5, 0))?;
    let changed = subject.read(bench, &short, (0.5, SHORT / 2))?;
    let error = changed.scans.iter().fold(0.0, |most: f64, scan| {
        let gathered = gather(scan, 0, None);
        let error = f64::from(gathered.worst / gathered.largest);
        // A number that is none must not be lost in max.
        if error.is_nan() {
            error
        } else {
            most.max(error)
        }
    });
    Ok(findings(
        [near, far, slow, quick],
        [
            subject.full(&own, 32),
            subject.full(&own, 400),
            subject.full(&halved, 32),
        ],
        error,
    ))
}

fn findings(
    [near, far, slow, quick]: [[f64; 2]; 4],
    [early, late, early_slow]: [f64; 3],
    error: f64,
) -> Vec<Finding> {
    // Measured on the embedded weights, which have no number these should be. Single precision in another order moves none of them
    // by a hundredth; that the slower clock keeps more and the quicker less is in the distances between the three.
    vec![
        Finding::new(
            "error",
            "Σ α u + D u with the changed Δ, largest difference from the scan's own output over the largest output",
            Expected::AtMost(1e-5),
            error,
        ),
        Finding::new(
            "recall-near",
            "probability of the right word, asked one token after its pair",
            Expected::near(0.781, 0.05),
            near[0],
        ),
        Finding::new(
            "recall-far",
            "the same, 64 pairs later",
            Expected::near(0.999, 0.01),
            far[0],
        ),
        Finding::new(
            "left-far",
            "share of the word still stored then, median of the layers",
            Expected::near(0.0282, 0.002),
            far[1],
        ),
        Finding::new(
            "left-slow",
            "that share, Δ halved behind the pair",
            Expected::near(0.0562, 0.004),
            slow[1],
        ),
        Finding::new(
            "left-quick",
            "that share, Δ doubled behind the pair",
            Expected::near(0.0178, 0.002),
            quick[1],
        ),
        Finding::new(
            "recall-slow",
            "probability, Δ halved",
            Expected::AtLeast(far[0]),
            slow[0],
        ),
        Finding::new(
            "recall-quick",
            "probability, Δ doubled",
            Expected::AtMost(far[0]),
            quick[0],
        ),
        Finding::new(
            "full-early",
            "share of saturated entries after 32 tokens of prose, mean of the layers",
            Expected::near(0.438, 0.01),
            early,
        ),
        Finding::new(
            "full-late",
            "the same after 400",
            Expected::near(0.924, 0.01),
            late,
        ),
        Finding::new(
            "full-slow",
            "the same after 32, Δ halved",
            Expected::near(0.256, 0.01),
            early_slow,
        ),
    ]
}
