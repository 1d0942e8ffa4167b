//! What the page about reading a trained model claims.

use std::sync::Arc;

use mambascope_core::backend::Session;
use mambascope_core::checkpoint::embedded;
use mambascope_core::job::{JobError, ModelRef, prompt_ids};
use mambascope_core::noise::Noise;
use mambascope_core::recall::Words;
use mambascope_core::state::State;

use super::alpha::{alpha_by_sums, alpha_of_channel, gather};
use super::records::{Scan, scan_layers, scans};
use super::survival::strongest;
use crate::experiment::{Bench, Expected, Experiment, Finding};

/// The text α is measured on.
const TEXT: &str = "Mr. Hall went to the door. The door was shut, and Mr. Hall said nothing.";

/// α gives the scan's output back, and is signed.
pub const REBUILD: Experiment = Experiment {
    name: "alpha-rebuilds-y",
    title: "Hidden attention gives the scan's output back, in every layer, and has both signs",
    run: rebuild,
};

/// Entries that hold a fact, set to zero, against entries drawn by lot.
pub const ABLATION: Experiment = Experiment {
    name: "ablate-holders",
    title: "The entries that hold a fact matter to its recall; entries drawn by lot do not",
    run: ablation,
};

fn model() -> Result<ModelRef, JobError> {
    Ok(ModelRef(Arc::new(embedded()?)))
}

fn rebuild(bench: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let model = model()?;
    let ids = prompt_ids(&model, TEXT)?;
    let layers = scan_layers(&model);
    let found = scans(&model, &ids, &layers, bench.workshop.backend("fast")?)?;
    let (mut worst, mut least, mut most): (f64, f64, f64) = (0.0, 1.0, 0.0);
    let mut apart: f64 = 0.0;
    for (done, scan) in found.iter().enumerate() {
        bench.report("layers rebuilt", done, found.len())?;
        let gathered = gather(scan, 0, None);
        worst = worst.max(f64::from(gathered.worst / gathered.largest));
        least = least.min(gathered.negative);
        most = most.max(gathered.negative);
        apart = apart.max(sums_apart(scan));
    }
    Ok(vec![
        Finding::new(
            "error",
            "largest |Σ α u + D u − y| of all layers, tokens and channels, over the largest |y| of the layer",
            // Single precision, a few dozen terms a token.
            Expected::AtMost(1e-5),
            worst,
        ),
        Finding::new(
            "sums",
            "largest difference between α by running sums of Δ (f64) and by products (f32), over the channel's largest |α|",
            Expected::AtMost(1e-5),
            apart,
        ),
        Finding::new(
            "negative-least",
            "share of entries of α below zero, the layer with fewest",
            Expected::AtLeast(0.001),
            least,
        ),
        Finding::new(
            "negative-most",
            "share of entries of α below zero, the layer with most",
            Expected::AtMost(0.99),
            most,
        ),
        Finding::new(
            "matrices-130m",
            "matrices of mamba-130m: 24 layers of 1,536 channels",
            Expected::exactly(36_864.0),
            matrices(&crate::course::mamba_block::macs::published("mamba-130m")?) as f64,
        ),
    ])
}

/// One matrix a channel of every layer.
fn matrices(config: &mambascope_core::model::Config) -> usize {
    let blocks = config.blocks.iter();
    let channels = blocks.filter_map(|block| block.mixer.recurrent());
    channels.map(|dims| dims.d_inner).sum()
}

/// The two ways to α, compared on every 37th channel.
fn sums_apart(scan: &Scan) -> f64 {
    let (tokens, channels, _) = scan.dims();
    let clock_ld = scan.clock_ld();
    let mut apart: f64 = 0.0;
    for d in (0..channels).step_by(37) {
        let alpha_ij = alpha_of_channel(scan, d);
        let largest = alpha_ij
            .iter()
            .fold(0.0f32, |most, alpha| most.max(alpha.abs()));
        for i in 0..tokens {
            for j in 0..=i {
                let by_sums = alpha_by_sums(scan, &clock_ld, [i, j, d]);
                let difference = (by_sums - f64::from(alpha_ij[[i, j]])).abs();
                apart = apart.max(difference / f64::from(largest.max(f32::MIN_POSITIVE)));
            }
        }
    }
    apart
}

/// Facts of a row, rows asked, entries set to zero, draws by lot for each row.
const FACTS: usize = 4;
const ROWS: usize = 8;
const ENTRIES: usize = 20;
const DRAWS: usize = 5;

fn ablation(bench: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let model = model()?;
    let words = Words::of(&model)?;
    let layers = scan_layers(&model);
    let lot = Noise::new(1, "entries by lot");
    let (mut before, mut top, mut random, mut loudest) = (0.0, 0.0, 0.0, 0.0);
    for row in 0..ROWS {
        bench.report("rows of facts", row, ROWS)?;
        let facts = words.row(FACTS, 7, row)?;
        let asked = &facts.ids[..=facts.asked_from];
        let (key, value) = (asked[facts.asked_from], facts.ids[facts.asked_from + 1]);
        let given = &asked[..facts.asked_from];
        // The value stands behind its key.
        let place = given.iter().position(|&id| id == key);
        let place = place.ok_or_else(|| JobError::Study("this key was never given".into()))? + 1;
        let backend = bench.workshop.backend("fast")?;
        let found = scans(&model, asked, &layers, backend)?;
        let mut session = backend.open(&model)?;
        session.prefill(given, &mut ())?;
        let state = session.state()?;
        let mut score = |entries: &[usize]| {
            score_without(&mut *session, &state, (key, value), &layers, entries)
        };
        let whole = score(&[])?;
        before += whole;
        let held = read_at_end(&found, place);
        top += whole - score(&strongest(&held, ENTRIES))?;
        let loud = entries_of(&state, &layers);
        loudest += whole - score(&strongest(&loud, ENTRIES))?;
        for draw in 0..DRAWS {
            let entries: Vec<usize> = (0..ENTRIES)
                .map(|i| lot.bits((row * DRAWS + draw) * ENTRIES + i) as usize % held.len())
                .collect();
            random += (whole - score(&entries)?) / DRAWS as f64;
        }
    }
    let rows = ROWS as f64;
    Ok(findings_of_ablation(
        [before, top, random, loudest].map(|sum| sum / rows),
    ))
}

fn findings_of_ablation([before, top, random, loudest]: [f64; 4]) -> Vec<Finding> {
    // A trained model has no number these should be; the claim is who is larger, and by far.
    vec![
        Finding::new(
            "score",
            "score (logit) of the right value, nothing set to zero, mean of 8 rows of 4 facts",
            Expected::AtLeast(0.0),
            before,
        ),
        Finding::new(
            "top",
            "fall of that score without the 20 entries of 49,152 through which the value is read most",
            Expected::AtLeast(0.1),
            top,
        ),
        Finding::new(
            "random",
            "the same without 20 entries drawn by lot, 5 draws a row",
            Expected::near(0.0, 0.05),
            random,
        ),
        Finding::new(
            "loudest",
            "the same without the 20 entries of largest |h|, whatever they hold",
            Expected::AtMost(top),
            loudest,
        ),
        Finding::new(
            "ratio",
            "fall without the 20 holders over |fall| without 20 by lot",
            Expected::AtLeast(10.0),
            top / random.abs().max(1e-6),
        ),
    ]
}

/// C · (what token `j` wrote and is left) at the last token, for each channel and slot, layer by layer.
fn read_at_end(found: &[Scan], j: usize) -> Vec<f32> {
    let mut all = Vec::new();
    for scan in found {
        let (tokens, channels, slots) = scan.dims();
        let clock_ld = scan.clock_ld();
        for d in 0..channels {
            let passed = (clock_ld[[tokens - 1, d]] - clock_ld[[j, d]]) as f32;
            let write = scan.delta_ld[[j, d]] * scan.u_ld[[j, d]];
            for n in 0..slots {
                let decay = (passed * scan.a_dn[[d, n]]).exp();
                let left = write * scan.b_ln[[j, n]] * decay;
                all.push(scan.c_ln[[tokens - 1, n]] * left);
            }
        }
    }
    all
}

/// h of all scans, one after the other.
fn entries_of(state: &State, layers: &[usize]) -> Vec<f32> {
    let states = layers.iter().filter_map(|&layer| state.layers.get(layer));
    let scans = states.filter_map(|layer| layer.recurrent());
    scans.flat_map(|scan| scan.ssm_dn.iter().copied()).collect()
}

/// The score of `value` after `key`, when these entries of the state are set to zero before `key` is read.
fn score_without(
    session: &mut dyn Session,
    state: &State,
    (key, value): (u32, u32),
    layers: &[usize],
    entries: &[usize],
) -> Result<f64, JobError> {
    let mut edited = state.clone();
    edited.logits_v = None;
    for &entry in entries {
        let mut place = entry;
        for &layer in layers {
            let Some(scan) = edited.layers[layer].recurrent_mut() else {
                continue;
            };
            if let Some(h) = scan.ssm_dn.iter_mut().nth(place) {
                *h = 0.0;
                break;
            }
            place -= scan.ssm_dn.len();
        }
    }
    session.set_state(&edited)?;
    session.step(key, &mut ())?;
    let logits_v = session.logits()?;
    Ok(logits_v
        .get(value as usize)
        .copied()
        .map_or(f64::NAN, f64::from))
}
