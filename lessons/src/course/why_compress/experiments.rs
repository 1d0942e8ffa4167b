//! What the page about state and cache claims.

use std::sync::Arc;

use mambascope_core::job::JobError;
use mambascope_core::model::{Config, Model};
use mambascope_core::state::StateBytes;

use super::bill::own;
use super::ledger::{Sizes, crossing};
use super::pairs::{PAIRS, PairId};
use super::weights::{layer_weights, weights};
use crate::course::shared::refused;
use crate::experiment::{Bench, Expected, Experiment, Finding};

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;

/// Buffers of two live sessions, token by token.
pub const LIVE_BYTES: Experiment = Experiment {
    name: "state-bytes-live",
    title: "The buffers of two running models hold exactly the bytes their sizes say, at every token",
    run: live_bytes,
};

/// The table of state sizes.
pub const STATE_SIZES: Experiment = Experiment {
    name: "state-sizes",
    title: "Published state-space models remember a few MiB, whatever the length of the text",
    run: state_sizes,
};

/// Where cache and state are equal.
pub const CROSSINGS: Experiment = Experiment {
    name: "seventy-six-tokens",
    title: "The cache of a Pythia is as large as the state of the Mamba of its size after 76 tokens, at every size",
    run: crossings,
};

/// What a step of decoding moves.
pub const DECODE_TRAFFIC: Experiment = Experiment {
    name: "decode-traffic",
    title: "With enough texts at once, moving their states costs as much as moving the weights",
    run: decode_traffic,
};

/// The configuration of a published model.
fn config(id: PairId) -> Result<Config, JobError> {
    Config::from_json(id.pair().config).map_err(refused)
}

// State of fixed size, as the engine's formula has it, with the columns of the convolution that must be kept: one less than taps.

/// Bytes in f32 of hidden states, and of the windows.
fn state_bytes(config: &Config) -> (f64, f64) {
    let bytes = StateBytes::formula(config, 0);
    let kept = config
        .blocks
        .iter()
        .find_map(|block| block.mixer.recurrent());
    let taps = kept.map_or(1, |dims| dims.d_conv);
    let windows = bytes.conv / taps * (taps - 1);
    (bytes.ssm as f64, windows as f64)
}

fn total(config: &Config) -> f64 {
    let (hidden, windows) = state_bytes(config);
    hidden + windows
}

/// A Transformer of so many layers with so wide a cache; of its configuration only these two count here.
fn transformer(sizes: &Sizes) -> Result<Config, JobError> {
    let heads = sizes.kv_width / 64;
    let json = format!(
        r#"{{"model_type": "llama", "hidden_size": {}, "num_hidden_layers": {}, "num_attention_heads": {heads}}}"#,
        sizes.kv_width, sizes.attentions,
    );
    Config::from_json(&json).map_err(refused)
}

/// Bytes a token adds to the cache, in f16.
fn cache_of_a_token(id: PairId) -> Result<f64, JobError> {
    let config = transformer(&id.pair().other_sizes)?;
    Ok(StateBytes::formula(&config, 1).kv as f64 / 2.0)
}

/// The first number of tokens whose cache has the bytes of the state, by counting.
fn counted_crossing(state: f64, of_a_token: f64) -> f64 {
    let mut tokens = 0.0;
    let mut cache = 0.0;
    while cache < state && of_a_token > 0.0 {
        cache += of_a_token;
        tokens += 1.0;
    }
    tokens
}

/// Tokens both sessions read.
const READ: usize = 200;

/// What a session's buffers hold after 1, 2, … tokens, and the largest difference from the formula, in bytes.
fn watch(bench: &mut Bench<'_>, model: Model) -> Result<(Vec<usize>, usize), JobError> {
    let model = Arc::new(model);
    let mut session = bench.workshop.backend("fast")?.open(&model)?;
    let mut held = Vec::new();
    let mut worst = 0;
    for tokens in 1..=READ {
        session.step(tokens as u32 % 256, &mut ())?;
        let live = session.state_bytes();
        let formula = StateBytes::formula(&model.config, tokens);
        worst = worst.max(live.total().abs_diff(formula.total()));
        if tokens == READ {
            // The snapshot is what a server would have to keep.
            worst = worst.max(session.state()?.bytes().total().abs_diff(formula.total()));
        }
        held.push(live.total());
        if tokens % 20 == 0 {
            bench.report("tokens", tokens, READ)?;
        }
    }
    Ok((held, worst))
}

fn live_bytes(bench: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let (mamba, mamba_worst) = watch(bench, own("novel-mamba-3m")?)?;
    let (transformer, transformer_worst) = watch(bench, own("novel-transformer-4m")?)?;
    let crossed = mamba
        .iter()
        .zip(&transformer)
        .position(|(state, cache)| cache >= state);
    let crossed = crossed.ok_or_else(|| refused("the cache never reached the state"))? + 1;
    let last = |held: &[usize]| held.last().map_or(0.0, |&bytes| bytes as f64 / KIB);
    let growth = mamba.iter().max().unwrap_or(&0) - mamba.iter().min().unwrap_or(&0);
    Ok(vec![
        Finding::new(
            "mamba-difference",
            "largest difference between live buffers and formula, novel-mamba-3m, 200 tokens",
            Expected::exactly(0.0),
            mamba_worst as f64,
        )
        .in_unit("bytes"),
        Finding::new(
            "transformer-difference",
            "the same of novel-transformer-4m",
            Expected::exactly(0.0),
            transformer_worst as f64,
        )
        .in_unit("bytes"),
        Finding::new(
            "mamba-growth",
            "what the state of novel-mamba-3m grew by from token 1 to 200",
            Expected::exactly(0.0),
            growth as f64,
        )
        .in_unit("bytes"),
        // 6 layers of 512 channels with 16 slots and a window of 4 columns; 4 layers of 256 keys and 256 values a token.
        Finding::new(
            "mamba",
            "state of novel-mamba-3m",
            Expected::exactly(240.0),
            last(&mamba),
        )
        .in_unit("KiB"),
        Finding::new(
            "transformer",
            "cache of novel-transformer-4m after 200 tokens",
            Expected::exactly(1600.0),
            last(&transformer),
        )
        .in_unit("KiB"),
        Finding::new(
            "crossing",
            "tokens after which the cache is as large as the state",
            Expected::exactly(30.0),
            crossed as f64,
        )
        .in_unit("tokens"),
    ])
}

fn state_sizes(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    // Name, pair, MiB, and half a unit of the last digit the number is usually given with.
    let table = [
        ("mamba-130m", PairId::Mamba130m, 2.67, 0.005),
        ("mamba-370m", PairId::Mamba370m, 7.125, 0.0),
        ("mamba-790m", PairId::Mamba790m, 10.6875, 0.0),
        ("mamba-1-4b", PairId::Mamba1400m, 14.25, 0.0),
        ("mamba-2-8b", PairId::Mamba2800m, 23.75, 0.0),
        ("mamba2-130m", PairId::MambaTwo130m, 18.5, 0.05),
        ("mamba2-2-7b", PairId::MambaTwo2700m, 164.0, 0.5),
        ("falcon-mamba", PairId::FalconMamba, 38.0, 0.0),
        ("codestral", PairId::Codestral, 263.5, 0.0),
    ];
    let mut findings = Vec::new();
    for (name, id, mib, tolerance) in table {
        let what = format!(
            "state of {}, hidden states and windows, f32",
            id.pair().model
        );
        let measured = total(&config(id)?) / MIB;
        findings.push(
            Finding::new(name, what, Expected::near(mib, tolerance), measured).in_unit("MiB"),
        );
    }
    findings.extend(parts_of_states()?);
    Ok(findings)
}

/// Layers and single parts of the table.
fn parts_of_states() -> Result<Vec<Finding>, JobError> {
    let layer = |id| -> Result<f64, JobError> {
        let config = config(id)?;
        Ok(state_bytes(&config).0 / config.n_layers() as f64 / KIB)
    };
    let jamba = state_bytes(&config(PairId::Jamba)?).0 / MIB;
    Ok(vec![
        Finding::new(
            "one-layer-130m",
            "hidden state of one layer of mamba-130m",
            Expected::exactly(96.0),
            layer(PairId::Mamba130m)?,
        )
        .in_unit("KiB"),
        Finding::new(
            "one-layer-2-8b",
            "hidden state of one layer of mamba-2.8b",
            Expected::exactly(320.0),
            layer(PairId::Mamba2800m)?,
        )
        .in_unit("KiB"),
        Finding::new(
            "jamba",
            "hidden states of Jamba v0.1",
            Expected::exactly(14.0),
            jamba,
        )
        .in_unit("MiB"),
        Finding::new(
            "numbers-130m",
            "numbers in the hidden states of mamba-130m",
            Expected::exactly(589_824.0),
            state_bytes(&config(PairId::Mamba130m)?).0 / 4.0,
        ),
        Finding::new(
            "ledger-difference",
            "largest difference of the demo's arithmetic and the engine's, 1,000 tokens",
            Expected::exactly(0.0),
            ledger_difference()?,
        )
        .in_unit("bytes"),
    ])
}

/// The demo's arithmetic against the engine's, windows of four columns, all in f32.
fn ledger_difference() -> Result<f64, JobError> {
    const TOKENS: u64 = 1000;
    let mut worst: u64 = 0;
    for pair in PAIRS.iter().filter(|pair| pair.id != PairId::Own) {
        let sizes = pair.sizes;
        let ledger = 4 * (sizes.hidden() + sizes.windows(4) + TOKENS * sizes.kv_of_a_token());
        let engine = StateBytes::formula(&config(pair.id)?, TOKENS as usize).total();
        worst = worst.max(ledger.abs_diff(engine as u64));
    }
    Ok(worst as f64)
}

fn crossings(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let pairs = [
        (
            "cache-160m",
            "pythia-160m",
            36.0,
            "pythia-160m",
            PairId::Mamba130m,
        ),
        (
            "cache-410m",
            "pythia-410m",
            96.0,
            "pythia-410m",
            PairId::Mamba370m,
        ),
        (
            "cache-1-4b",
            "pythia-1.4b",
            192.0,
            "pythia-1-4b",
            PairId::Mamba1400m,
        ),
        (
            "cache-2-8b",
            "pythia-2.8b",
            320.0,
            "pythia-2-8b",
            PairId::Mamba2800m,
        ),
    ];
    let mut findings = Vec::new();
    for (cache_name, title, kib, name, id) in pairs {
        let of_a_token = cache_of_a_token(id)?;
        let counted = counted_crossing(total(&config(id)?), of_a_token);
        let what = format!("what a token adds to the cache of {title}, f16");
        let cache = Finding::new(cache_name, what, Expected::exactly(kib), of_a_token / KIB);
        let what = format!(
            "tokens until the cache of {title} has the bytes of {}",
            id.pair().model
        );
        let tokens = Finding::new(name, what, Expected::exactly(76.0), counted);
        findings.extend([cache.in_unit("KiB"), tokens.in_unit("tokens")]);
    }
    findings.extend(other_crossings()?);
    Ok(findings)
}

/// The same where something is kept in another way.
fn other_crossings() -> Result<Vec<Finding>, JobError> {
    let big = total(&config(PairId::Mamba2800m)?);
    let of_a_token = cache_of_a_token(PairId::Mamba2800m)?;
    let all_columns = StateBytes::formula(&config(PairId::Mamba2800m)?, 0).total() as f64;
    let mamba2 = |id| -> Result<f64, JobError> {
        let state = total(&config(id)?);
        crossing(state, cache_of_a_token(id)?, 0.0).ok_or_else(|| refused("no cache"))
    };
    Ok(vec![
        Finding::new(
            "half-precision",
            "the same with the state in f16, 2.8b",
            Expected::exactly(38.0),
            counted_crossing(big / 2.0, of_a_token),
        )
        .in_unit("tokens"),
        Finding::new(
            "four-columns",
            "the same with four columns of the window kept, 2.8b",
            Expected::exactly(80.0),
            counted_crossing(all_columns, of_a_token),
        )
        .in_unit("tokens"),
        // 526 at 130m, 524.6 at 2.7b: B and C of the windows are a smaller share of a wider model.
        Finding::new(
            "mamba2-130m",
            "tokens until the cache of pythia-160m has the bytes of mamba2-130m",
            Expected::near(525.0, 2.0),
            mamba2(PairId::MambaTwo130m)?,
        )
        .in_unit("tokens"),
        Finding::new(
            "mamba2-2-7b",
            "tokens until the cache of pythia-2.8b has the bytes of mamba2-2.7b",
            Expected::near(525.0, 2.0),
            mamba2(PairId::MambaTwo2700m)?,
        )
        .in_unit("tokens"),
        Finding::new(
            "grouped-heads",
            "tokens until the cache of Mistral-7B has the bytes of Falcon-Mamba-7B",
            Expected::exactly(304.0),
            counted_crossing(
                total(&config(PairId::FalconMamba)?),
                cache_of_a_token(PairId::FalconMamba)?,
            ),
        )
        .in_unit("tokens"),
    ])
}

fn decode_traffic(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let small = config(PairId::Mamba130m)?;
    let small2 = config(PairId::MambaTwo130m)?;
    let layers = |config: &Config, id: PairId| {
        let found = layer_weights(config, &id.pair().sizes);
        found
            .map(|count| count as f64)
            .ok_or_else(|| refused("not a stack of scans"))
    };
    let of_layers = layers(&small, PairId::Mamba130m)?;
    let of_layers2 = layers(&small2, PairId::MambaTwo130m)?;
    // Weights are read once, in two bytes; a state is read and written, in four.
    let batch = |weights: f64, state: f64| 2.0 * weights / (2.0 * state);
    let (hidden, windows) = state_bytes(&small);
    let (hidden2, windows2) = state_bytes(&small2);
    Ok(vec![
        Finding::new(
            "weights",
            "weights of mamba-130m, embedding and head counted once",
            Expected::exactly(129_135_360.0),
            weights(&small) as f64,
        ),
        Finding::new(
            "weights-of-a-layer",
            "weights of one of its layers",
            Expected::exactly(3_771_648.0),
            of_layers / small.n_layers() as f64,
        ),
        Finding::new(
            "batch-mamba",
            "texts at once whose hidden states cost what the layers' weights do, mamba-130m",
            Expected::near(38.0, 0.5),
            batch(of_layers, hidden),
        )
        .in_unit("texts"),
        Finding::new(
            "batch-mamba2",
            "the same of mamba2-130m",
            Expected::near(4.8, 0.05),
            batch(of_layers2, hidden2),
        )
        .in_unit("texts"),
        // With the head, which every token needs, and the windows.
        Finding::new(
            "batch-mamba-all",
            "the same with head and windows counted, mamba-130m",
            Expected::near(46.1, 0.05),
            batch(weights(&small) as f64, hidden + windows),
        )
        .in_unit("texts"),
        Finding::new(
            "batch-mamba2-all",
            "the same with head and windows counted, mamba2-130m",
            Expected::near(6.65, 0.05),
            batch(weights(&small2) as f64, hidden2 + windows2),
        )
        .in_unit("texts"),
    ])
}
