//! What the page about length, precision and serving claims.

use std::sync::Arc;

use mambascope_core::checkpoint::embedded;
use mambascope_core::job::{JobError, ModelRef, Progress, prompt_ids};
use mambascope_core::state::StateBytes;

use super::bf16::{Kept, bf16};
use super::curve::{mean_between, read};
use super::length_curve::{PASSAGE, TRAINED};
use super::rewind::{LOST, usual_steps};
use crate::course::mamba_block::macs::published;
use crate::course::reading_a_trained_mamba::records::{scan_layers, scans};
use crate::experiment::{Bench, Expected, Experiment, Finding};

/// The loss behind the training length.
pub const LENGTH: Experiment = Experiment {
    name: "length-loss",
    title: "The embedded model reads on behind its training length, and what its memory is worth is measured",
    run: length,
};

/// A state in bf16.
pub const FREEZE: Experiment = Experiment {
    name: "bf16-freeze",
    title: "A slow slot kept in bf16 stops leaking",
    run: freeze,
};

/// A recurrence run backwards.
pub const REWIND: Experiment = Experiment {
    name: "rewind",
    title: "A recurrence cannot be run backwards for long",
    run: rewind,
};

/// Snapshots and replay.
pub const CHECKPOINTS: Experiment = Experiment {
    name: "checkpoints",
    title: "A snapshot and a replay give the state back exactly, for some memory and some work",
    run: checkpoints,
};

fn model() -> Result<ModelRef, JobError> {
    Ok(ModelRef(Arc::new(embedded()?)))
}

fn length(bench: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let model = model()?;
    let ids = prompt_ids(&model, PASSAGE)?;
    let mut losses = Vec::new();
    for (done, fresh) in [None, Some(128)].into_iter().enumerate() {
        let mut report = |tokens: usize| {
            (bench.progress)(Progress::Count {
                what: "tokens read",
                done: done * ids.len() + tokens,
                total: 2 * ids.len(),
            })
        };
        let backend = bench.workshop.backend("fast")?;
        losses.push(read(&model, &ids, fresh, backend, &mut report)?.loss);
    }
    let mean = |reading: usize, from, to| mean_between(&losses[reading], from, to);
    let end = ids.len();
    let (inside, behind) = (mean(0, 0, TRAINED), mean(0, TRAINED, end));
    let (far, gain) = (mean(0, 3 * TRAINED, end), mean(1, TRAINED, end) - behind);
    // What a trained model measures has no number it should be: ranges that a broken one leaves.
    Ok(vec![
        Finding::new(
            "inside",
            "mean loss of the first 512 tokens of the passage",
            Expected::near(3.1, 1.0),
            inside,
        )
        .in_unit("nats/token"),
        Finding::new(
            "behind",
            "mean loss of all tokens behind them, one memory throughout",
            Expected::AtMost(inside + 1.0),
            behind,
        )
        .in_unit("nats/token"),
        Finding::new(
            "far",
            "mean loss of those behind three times the training length",
            Expected::AtMost(inside + 1.0),
            far,
        )
        .in_unit("nats/token"),
        Finding::new(
            "tokens",
            "tokens of the passage",
            Expected::AtLeast(3.5 * TRAINED as f64),
            end as f64,
        )
        .in_unit("tokens"),
        Finding::new(
            "gain",
            "how much worse the tokens behind 512 are read when the state is emptied every 128 tokens",
            Expected::AtLeast(0.0),
            gain,
        )
        .in_unit("nats/token"),
    ])
}

fn freeze(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    const TOKENS: usize = 3000;
    let after = |kept: Kept, decay: f32| f64::from(kept.run(decay, TOKENS)[TOKENS]);
    Ok(vec![
        Finding::new(
            "rounded",
            "0.999 as bf16 holds it",
            Expected::exactly(1.0),
            f64::from(bf16(0.999)),
        ),
        Finding::new(
            "true",
            "a slot of 1 after 3,000 tokens of decay 0.999, in f32",
            // 0.999 is not an f32: 3,000 times its rounding, 3e-8, and as many of the products.
            Expected::near(0.999f64.powi(3000), 1e-4 * 0.0497),
            after(Kept::Single, 0.999),
        ),
        Finding::new(
            "state",
            "the same with the state kept in bf16, the decay in f32",
            Expected::exactly(1.0),
            after(Kept::State, 0.999),
        ),
        Finding::new(
            "stuck",
            "where decay 0.997 stops with the state in bf16",
            // Half of the last digit printed.
            Expected::near(0.648, 0.0005),
            after(Kept::State, 0.997),
        ),
        Finding::new(
            "stuck-true",
            "where it should be after 3,000 tokens",
            Expected::near(0.997f64.powi(3000), 1e-6),
            after(Kept::Single, 0.997),
        ),
    ])
}

/// Steps back at most, and draws whose median is taken.
const BACK: usize = 400;
const DRAWS: u64 = 101;

fn rewind(bench: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let steps = |rate: f64| usual_steps((-rate).exp() as f32, BACK, DRAWS) as f64;
    // An error of one rounding, 2^-24 or less, grows by 1/Ā a step; it is lost at a tenth: about 15 / (Δ|A|) steps. Draws spread
    // the logarithm of the first error by two or three.
    let expected = |rate: f64| Expected::near(15.0 / rate, 3.0 / rate + 1.0);
    let (lost, _) = rewound_slots(bench, 30)?;
    let (_, worst) = rewound_slots(bench, 3)?;
    Ok(vec![
        Finding::new(
            "slow",
            "steps back until Ā = 0.990 is lost (off by a tenth of the state's size), of 400 tried",
            Expected::AtLeast(BACK as f64),
            steps(0.01),
        )
        .in_unit("steps"),
        Finding::new("middle", "the same, Ā = 0.905", expected(0.1), steps(0.1)).in_unit("steps"),
        Finding::new("fast", "the same, Ā = 0.202", expected(1.6), steps(1.6)).in_unit("steps"),
        Finding::new("fastest", "the same, Ā = 0.0003", expected(8.0), steps(8.0)).in_unit("steps"),
        Finding::new(
            "model-worst",
            "largest error in the embedded model's state after rewinding 3 tokens, over the usual size of its layer",
            // Lost is a tenth.
            Expected::AtLeast(1.0),
            worst,
        ),
        Finding::new(
            "model-30",
            "share of its entries that are lost after rewinding 30 tokens",
            Expected::AtLeast(0.01),
            lost,
        ),
    ])
}

/// Rewinds every scan of the embedded model from the end of a text, by its own Δ, B and u, in f32: the share of the entries that
/// are lost, and the largest error over the usual size of its layer.
fn rewound_slots(bench: &mut Bench<'_>, back: usize) -> Result<(f64, f64), JobError> {
    const TOKENS: usize = 64;
    let model = model()?;
    let mut ids = prompt_ids(&model, PASSAGE)?;
    ids.truncate(TOKENS);
    let layers = scan_layers(&model);
    let backend = bench.workshop.backend("fast")?;
    let found = scans(&model, &ids, &layers, backend)?;
    let mut session = backend.open(&model)?;
    session.prefill(&ids[..TOKENS - back], &mut ())?;
    let wanted = session.scan_states()?;
    session.prefill(&ids[TOKENS - back..], &mut ())?;
    let ended = session.scan_states()?;
    let (mut lost, mut all, mut worst) = (0usize, 0usize, 0.0f64);
    for scan in &found {
        let states = (wanted.get(scan.layer), ended.get(scan.layer));
        let (Some(Some(wanted)), Some(Some(ended))) = states else {
            continue;
        };
        let count = wanted.ssm_dn.len() as f32;
        let size = (wanted.ssm_dn.iter().map(|h| h * h).sum::<f32>() / count).sqrt();
        for ((d, n), &last) in ended.ssm_dn.indexed_iter() {
            let mut h = last;
            for t in (TOKENS - back..TOKENS).rev() {
                let delta = scan.delta_ld[[t, d]];
                let write = delta * scan.b_ln[[t, n]] * scan.u_ld[[t, d]];
                h = (h - write) / (delta * scan.a_dn[[d, n]]).exp();
            }
            let error = f64::from((h - wanted.ssm_dn[[d, n]]).abs() / size);
            // A NaN, or what overflowed, is as lost as can be.
            let error = if error.is_finite() { error } else { f64::MAX };
            worst = worst.max(error);
            lost += usize::from(error > LOST);
            all += 1;
        }
    }
    Ok((lost as f64 / all.max(1) as f64, worst))
}

fn checkpoints(bench: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    const SESSION: usize = 300;
    const MIB: f64 = (1 << 20) as f64;
    let config = published("mamba-130m")?;
    let one = StateBytes::formula(&config, SESSION).total() as f64;
    let every = |interval: usize| one * SESSION.div_ceil(interval) as f64 / MIB;
    let replay = |interval: usize| (interval - 1) as f64 / 2.0;
    Ok(vec![
        Finding::new(
            "snapshot",
            "one snapshot of mamba-130m in this engine: h, and 4 columns of the convolutions, f32",
            Expected::near(2.8125, 1e-9),
            one / MIB,
        )
        .in_unit("MiB"),
        Finding::new(
            "every-token",
            "snapshots of a session of 300 tokens, one a token",
            Expected::near(843.75, 1e-6),
            every(1),
        )
        .in_unit("MiB"),
        Finding::new(
            "every-16",
            "the same, one every 16 tokens",
            Expected::near(19.0 * 2.8125, 1e-6),
            every(16),
        )
        .in_unit("MiB"),
        Finding::new(
            "replay-16",
            "tokens read again on average to come to any token, one snapshot every 16",
            Expected::exactly(7.5),
            replay(16),
        )
        .in_unit("tokens"),
        Finding::new(
            "exact",
            "largest difference of a state restored from a snapshot 16 tokens earlier and replayed from the state that was there",
            Expected::exactly(0.0),
            replayed(bench, 16)?,
        ),
    ])
}

/// Reads a text step by step with a snapshot on the way, goes back, replays, and compares.
fn replayed(bench: &mut Bench<'_>, interval: usize) -> Result<f64, JobError> {
    let model = model()?;
    let ids = prompt_ids(&model, PASSAGE)?;
    let mut session = bench.workshop.backend("fast")?.open(&model)?;
    session.prefill(&ids[..32], &mut ())?;
    let snapshot = session.state()?;
    let replay = &ids[32..32 + interval];
    for &id in replay {
        session.step(id, &mut ())?;
    }
    let there = session.state()?;
    session.step(ids[0], &mut ())?;
    session.set_state(&snapshot)?;
    for &id in replay {
        session.step(id, &mut ())?;
    }
    let again = session.state()?;
    let difference = there.max_difference(&again);
    difference
        .map(f64::from)
        .map_err(|error| JobError::Study(error.to_string()))
}
