//! What the page about hybrids claims.

use mambascope_core::job::JobError;
use mambascope_core::model::{Config, MixerDims};
use mambascope_core::state::StateBytes;

use super::composite::{Pairs, share};
use super::cost::Cost;
use super::stack::{Feed, Maker, Mixer, Scan, Sizes, Stack};
use crate::course::shared::refused;
use crate::experiment::{Bench, Expected, Experiment, Finding};

const MIB: f64 = 1024.0 * 1024.0;
const GIB: f64 = 1024.0 * MIB;
/// 256K tokens.
const LONG: usize = 256 * 1024;

/// Jamba's bill from its configuration.
pub const JAMBA_BILL: Experiment = Experiment {
    name: "jamba-bill",
    title: "Jamba v0.1 keeps 4 GiB of cache at 256K tokens, an eighth of what attention throughout would",
    run: jamba_bill,
};

/// Where looking back costs as much as everything else.
pub const LOOKING_BACK: Experiment = Experiment {
    name: "looking-back",
    title: "A token of a hybrid still costs more the longer the text; attention overtakes the rest later",
    run: looking_back,
};

/// The composite memory.
pub const ONE_ATTENTION: Experiment = Experiment {
    name: "one-attention",
    title: "One softmax over all pairs restores what a full memory lost; a window restores its own share",
    run: one_attention,
};

/// Jamba v0.1: the defaults of its family.
fn jamba() -> Result<Config, JobError> {
    Config::from_json(r#"{"model_type": "jamba"}"#).map_err(refused)
}

/// The same with attention in every layer.
fn all_attention(jamba: &Config) -> Result<Config, JobError> {
    let mixers = jamba.blocks.iter().map(|block| block.mixer);
    let mut found = mixers.filter(|mixer| matches!(mixer, MixerDims::Attention(_)));
    let attention = found.next().ok_or_else(|| refused("no attention"))?;
    let mut config = jamba.clone();
    config
        .blocks
        .iter_mut()
        .for_each(|block| block.mixer = attention);
    Ok(config)
}

/// Bytes of the cache in f16; the engine keeps four bytes a value.
fn cache(config: &Config, tokens: usize) -> f64 {
    StateBytes::formula(config, tokens).kv as f64 / 2.0
}

/// Weights by the engine's list of tensors.
fn listed_weights(config: &Config) -> f64 {
    let tensors = config.family.entry().tensors(config).into_iter();
    let sizes = tensors.map(|spec| spec.shape.iter().map(|&axis| axis as f64).product::<f64>());
    sizes.sum()
}

fn jamba_bill(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let config = jamba()?;
    let mixers = config.blocks.iter().map(|block| block.mixer);
    let attentions = mixers.filter(|mixer| mixer.attention().is_some()).count();
    let whole = all_attention(&config)?;
    let state = StateBytes::formula(&config, 0).ssm as f64;
    let quarter = Cost::of(&Stack::jamba_with(|i| i % 4 == 2), &Maker::Jamba.sizes());
    let gib = |name, what: &str, expected, bytes: f64| {
        Finding::new(name, what, Expected::exactly(expected), bytes / GIB).in_unit("GiB")
    };
    let mut findings = vec![
        Finding::new(
            "attention-layers",
            "layers of attention in Jamba v0.1",
            Expected::exactly(4.0),
            attentions as f64,
        ),
        Finding::new(
            "layers",
            "layers in all",
            Expected::exactly(32.0),
            config.n_layers() as f64,
        ),
        gib(
            "cache",
            "cache at 256K tokens, f16",
            4.0,
            cache(&config, LONG),
        ),
        gib(
            "cache-all-attention",
            "the same with attention in all layers",
            32.0,
            cache(&whole, LONG),
        ),
        gib(
            "cache-one-of-four",
            "the same with attention in 1 of 4 layers",
            8.0,
            quarter.cache(LONG as f64),
        ),
        Finding::new(
            "state",
            "hidden states, f32",
            Expected::exactly(14.0),
            state / MIB,
        )
        .in_unit("MiB"),
    ];
    findings.extend(jamba_weights(&config));
    Ok(findings)
}

/// Weights of Jamba, and the bench's counts against the engine's.
fn jamba_weights(config: &Config) -> [Finding; 3] {
    let bench = Cost::of(&Stack::jamba(), &Maker::Jamba.sizes());
    let listed = listed_weights(config);
    let state = StateBytes::formula(config, 0);
    // The engine keeps four columns of a window, of which one is not needed.
    let needed = state.ssm as f64 + state.conv as f64 * 0.75;
    let differences = [
        bench.weights - listed,
        bench.cache(LONG as f64) - cache(config, LONG),
        bench.state - needed,
    ];
    let worst = differences.map(f64::abs).into_iter().fold(0.0, f64::max);
    // Published as 52 billion and 12 billion.
    let billions = |name, what: &str, published, weights: f64| {
        let expected = Expected::near(published, 0.5);
        Finding::new(name, what, expected, weights / 1e9).in_unit("billion")
    };
    [
        billions("weights", "weights", 52.0, listed),
        billions("active", "weights a token goes through", 12.0, bench.active),
        Finding::new(
            "bench-difference",
            "largest difference of the bench's weights, cache and state from the engine's",
            Expected::exactly(0.0),
            worst,
        ),
    ]
}

/// A plain Transformer of one layer: as many heads for keys as for queries, an MLP four times as wide with two matrices.
fn plain() -> (Stack, Sizes) {
    let width = 1024;
    let sizes = Sizes {
        width,
        vocab: 1,
        d_inner: 0,
        slots: 0,
        taps: 1,
        scan: Scan::One { rank: 0 },
        query_width: width,
        kv_width: width,
        mlp_width: 4 * width,
        mlp_matrices: 2,
        experts: 1,
        top: 1,
    };
    let mut stack = Stack::jamba_with(|_| true);
    stack.0.truncate(1);
    (stack, sizes)
}

fn looking_back(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let crossings = |cost: &Cost| cost.crossings().ok_or_else(|| refused("no attention"));
    let (stack, sizes) = plain();
    let (decode, prefill) = crossings(&Cost::of(&stack, &sizes))?;
    let width = sizes.width as f64;
    let jamba = Maker::Jamba.sizes();
    let hybrid = Cost::of(&Stack::jamba(), &jamba);
    let whole = Cost::of(&Stack::jamba_with(|_| true), &jamba);
    let (from, to) = (LONG as f64 / 2.0, LONG as f64);
    let grown = |cost: &Cost| cost.decode_work(to) - cost.decode_work(from);
    let scans = Cost::of(&Stack::jamba_with(|_| false), &jamba);
    let meets = (1..=LONG).find(|&tokens| {
        let tokens = tokens as f64;
        whole.decode_work(tokens) >= scans.decode_work(tokens)
    });
    let mut findings = vec![
        Finding::new(
            "plain-decode",
            "context where looking back costs as much as the rest, a token written",
            Expected::exactly(6.0),
            decode / width,
        )
        .in_unit("widths"),
        Finding::new(
            "plain-prefill",
            "the same, a text read at once",
            Expected::exactly(12.0),
            prefill / width,
        )
        .in_unit("widths"),
        Finding::new(
            "growth-share",
            "Jamba's growth of work with the context, as a share of all attention's",
            Expected::exactly(0.125),
            grown(&hybrid) / grown(&whole),
        ),
        Finding::new(
            "growth",
            "how much more work a token of Jamba is at 256K than at 128K tokens",
            // 4 layers · 8,192 · 131,072 over 16.147 billion, all counted by hand from the sizes.
            Expected::near(0.266, 0.0005),
            grown(&hybrid) / hybrid.decode_work(from),
        ),
        // 105,676,800 multiplications a Mamba layer; 41,943,040 in attention, and 8,192 a token.
        Finding::new(
            "meets",
            "context where a layer of attention costs as much as one of Mamba",
            Expected::exactly(7780.0),
            meets.map_or(f64::NAN, |tokens| tokens as f64),
        )
        .in_unit("tokens"),
    ];
    findings.extend(nvidia_shares());
    Ok(findings)
}

/// Shares of the layers of NVIDIA's hybrid, published as whole per cent.
fn nvidia_shares() -> [Finding; 3] {
    let nvidia = Stack::nvidia();
    let all = nvidia.0.len() as f64;
    let part = |name, what: &str, expected, count: usize| {
        Finding::new(
            name,
            what,
            Expected::near(expected, 0.005),
            count as f64 / all,
        )
    };
    [
        part(
            "nvidia-mamba",
            "Mamba-2 in NVIDIA's hybrid",
            0.43,
            nvidia.mixers(Mixer::Mamba),
        ),
        part(
            "nvidia-attention",
            "its attention",
            0.07,
            nvidia.mixers(Mixer::Attention),
        ),
        part("nvidia-mlp", "its MLPs", 0.50, nvidia.feeds(Feed::Mlp)),
    ]
}

fn one_attention(bench: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    const DRAWS: usize = 24;
    const PAIRS: usize = 128;
    const WINDOW: usize = 32;
    let (mut memory, mut window, mut all, mut fits) = (0.0, 0.0, 0.0, 0.0);
    let (mut changed, mut lost) = (0, 0);
    for draw in 0..DRAWS {
        let answers = Pairs::new(PAIRS, 16, draw as u64).ask(WINDOW);
        memory += share(&answers.memory);
        window += share(&answers.window);
        all += share(&answers.all);
        changed += answers.changed;
        let recent = answers.window.iter().skip(PAIRS - WINDOW);
        lost += recent.filter(|&&right| !right).count();
        fits += share(&Pairs::new(16, 16, draw as u64).ask(0).memory);
        bench.report("draws", draw + 1, DRAWS)?;
    }
    let mean = |sum: f64| sum / DRAWS as f64;
    let share_of_window = WINDOW as f64 / PAIRS as f64;
    let predicted = share_of_window + (1.0 - share_of_window) * mean(memory);
    // Of about 3,000 answers: three deviations of a share near a third are 0.03.
    Ok(vec![
        Finding::new(
            "fits",
            "memory of 16 slots alone, 16 pairs",
            Expected::near(0.98, 0.03),
            mean(fits),
        ),
        Finding::new(
            "memory",
            "memory of 16 slots alone, 128 pairs",
            Expected::near(0.37, 0.03),
            mean(memory),
        ),
        Finding::new(
            "window",
            "with attention over the last 32: all of them, else the memory's share",
            Expected::near(predicted, 0.03),
            mean(window),
        ),
        Finding::new(
            "all",
            "with attention over all pairs",
            Expected::AtLeast(0.999),
            mean(all),
        ),
        Finding::new(
            "changed",
            "answers behind the window that are not the memory's",
            Expected::exactly(0.0),
            f64::from(changed as u32),
        ),
        Finding::new(
            "lost",
            "wrong answers within the window",
            Expected::exactly(0.0),
            f64::from(lost as u32),
        ),
    ])
}
