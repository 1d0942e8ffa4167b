//! What the page about the scan on a graphics card claims.

use mambascope_core::backend::BackendError;
use mambascope_core::job::JobError;
use mambascope_core::noise::Noise;
use mambascope_core::scan::{
    Affine, Cost, Geometry, Real, ScanInput, ScanOperands, Tree, associative, chunked,
    chunked_scan, sequential,
};

use super::operands::{CHANNELS, Operands, fused_bytes, materialised_bytes, shape};
use super::own::{Cut, H200, segmented_scan};
use super::stopwatch::share_off;
use crate::course::shared::refused;
use crate::experiment::{Bench, Expected, Experiment, Finding};

/// Combines and depth of the trees.
pub const SCAN_COSTS: Experiment = Experiment {
    name: "scan-costs",
    title: "2,048 tokens: the trees trade combines for depth",
    run: scan_costs,
};

/// The kernel's chunks against the loop.
pub const BLOCK_SCAN: Experiment = Experiment {
    name: "block-scan",
    title: "128 threads with 16 tokens each, two chunks: the same states as the loop, but for rounding",
    run: block_scan,
};

/// The short cut that is none.
pub const DIVIDED_PREFIXES: Experiment = Experiment {
    name: "divided-prefixes",
    title: "Dividing by a product of decays fails within a hundred tokens in f32",
    run: divided_prefixes,
};

/// Bytes of a layer.
pub const FUSED_BYTES: Experiment = Experiment {
    name: "fused-bytes",
    title: "A layer of mamba-130m, 2,048 tokens: what is written to memory, or is not",
    run: fused,
};

/// All engines on the same operands.
pub const ONE_SCAN: Experiment = Experiment {
    name: "one-scan-many-engines",
    title: "Loop, tree, chunks and the backends give the same y",
    run: one_scan,
};

fn scan_costs(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    const TOKENS: usize = 2048;
    // Values that know their place: a combine of two that are no neighbours would be seen in the prefixes.
    let places: Vec<(usize, usize)> = (0..TOKENS).map(|l| (l, l + 1)).collect();
    let none = (usize::MAX, usize::MAX);
    let join = |one: (usize, usize), other: (usize, usize)| match (one, other) {
        (one, other) if one == none => other,
        (one, other) if other == none => one,
        (one, other) if one.1 == other.0 => (one.0, other.1),
        _ => (1, 0),
    };
    let is_right = |prefixes: &[(usize, usize)]| {
        let mut all = prefixes.iter().enumerate();
        all.all(|(l, &prefix)| prefix == (0, l + 1))
    };
    let cost = |tree: Tree| -> Result<Cost, JobError> {
        let (prefixes, cost) = tree.scan(&places, none, join);
        let right = is_right(&prefixes).then_some(cost);
        right.ok_or_else(|| JobError::Study(format!("{tree:?} lost an order")))
    };
    let (in_a_loop, hillis, blelloch) = (
        cost(Tree::Loop)?,
        cost(Tree::HillisSteele)?,
        cost(Tree::Blelloch)?,
    );
    let geometry = Geometry::of_kernel(TOKENS);
    let (_, kernel) = chunked_scan(&places, geometry, join, |_| {});
    let count = |name, what: &str, wanted: u64, found: u64| {
        Finding::new(name, what, Expected::exactly(wanted as f64), found as f64)
    };
    let mut findings = vec![
        count(
            "loop-combines",
            "combines of the loop",
            2047,
            in_a_loop.combines,
        ),
        count("loop-depth", "depth of the loop", 2047, in_a_loop.depth),
        count(
            "hillis-combines",
            "combines of Hillis and Steele's tree",
            20_481,
            hillis.combines,
        ),
        count("hillis-depth", "its depth", 11, hillis.depth),
        count(
            "blelloch-combines",
            "combines of Blelloch's tree",
            4094,
            blelloch.combines,
        ),
        count("blelloch-depth", "its depth", 22, blelloch.depth),
    ];
    // 128 threads: 15 combines each, four warps of 31 + 30 + 28 + 24 + 16, three warps joined on and 31 threads of
    // each told, then 16 each but for the very first token.
    let wanted = 128 * 15 + 4 * 129 + 3 + 3 * 31 + 127 * 16 + 15;
    findings.push(count(
        "kernel-combines",
        "combines of the kernel's layout, 128 threads with 16 tokens each",
        wanted,
        kernel.combines,
    ));
    findings.push(count(
        "kernel-depth",
        "its depth",
        15 + 5 + 3 + 1 + 16,
        kernel.depth,
    ));
    let (prefixes, own) = segmented_scan(&places, Cut::new(TOKENS, H200), join, |_| {});
    if !is_right(&prefixes) {
        return Err(refused("the segments lost an order"));
    }
    // 64 segments of 32. All but the last from zero; what 63 leave among eight threads, with eight each but for the last;
    // then all but the very first token again.
    let wanted = 63 * 31 + (7 * 7 + 6) + (7 + 6 + 4) + (7 + 7 * 7 + 6) + 2047;
    findings.push(count(
        "own-combines",
        "combines of this program's layout on 132 multiprocessors, 64 segments of 32 tokens",
        wanted,
        own.combines,
    ));
    findings.push(count(
        "own-depth",
        "its depth",
        31 + 7 + 3 + 8 + 32,
        own.depth,
    ));
    Ok(findings)
}

/// h of every token of every channel and slot, by the loop and in another grouping.
fn loop_and_other<T: Real>(
    input: &ScanInput<'_, T>,
    other: impl Fn(&[Affine<T>]) -> Vec<Affine<T>>,
) -> Result<(Vec<T>, Vec<T>), JobError> {
    let (_, channels, slots) = input.dims();
    let mut by_token = Vec::new();
    sequential(input, |_, h_dn| by_token.push(h_dn.to_owned())).map_err(refused)?;
    let (mut by_loop, mut grouped) = (Vec::new(), Vec::new());
    for d in 0..channels {
        for n in 0..slots {
            let prefixes = other(&input.steps(d, n));
            by_loop.extend(by_token.iter().map(|h_dn| h_dn[[d, n]]));
            grouped.extend(prefixes.iter().map(|prefix| prefix.apply(T::zero())));
        }
    }
    Ok((by_loop, grouped))
}

fn worst(one: impl Iterator<Item = f64>, other: impl Iterator<Item = f64>) -> f64 {
    one.zip(other)
        .map(|(x, y)| (x - y).abs())
        .fold(0.0, f64::max)
}

fn block_scan(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    const TOKENS: usize = 4096;
    let geometry = Geometry::of_kernel(TOKENS);
    let double = Operands::<f64>::seeded(TOKENS, 4, 4, 21);
    let single = Operands::<f32>::seeded(TOKENS, 4, 4, 21);
    let (loop_64, chunks_64) = loop_and_other(&double.input(), |steps| {
        chunked_scan(steps, geometry, Affine::compose, |_| {}).0
    })?;
    let (loop_32, chunks_32) = loop_and_other(&single.input(), |steps| {
        chunked_scan(steps, geometry, Affine::compose, |_| {}).0
    })?;
    let cut = Cut::new(TOKENS, H200);
    let (_, segments_64) = loop_and_other(&double.input(), |steps| {
        segmented_scan(steps, cut, Affine::compose, |_| {}).0
    })?;
    let wide = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<_>>();
    let (loop_32, chunks_32) = (wide(&loop_32), wide(&chunks_32));
    let size = loop_64.iter().fold(0.0f64, |most, h| most.max(h.abs()));
    let off = |one: &[f64], other: &[f64]| worst(one.iter().copied(), other.iter().copied());
    Ok(vec![
        Finding::new(
            "chunks",
            "chunks of 4,096 tokens",
            Expected::exactly(2.0),
            TOKENS.div_ceil(geometry.chunk()) as f64,
        ),
        Finding::new(
            "size",
            "largest state, which the differences are to be seen against",
            Expected::AtLeast(0.1),
            size,
        ),
        // A few roundings of states about 0.2 in size; 1e-15 is some twenty units in their last place, and so is 5e-7 in f32.
        Finding::new(
            "double",
            "largest difference of the states, chunks and loop, f64",
            Expected::AtMost(1e-15),
            off(&chunks_64, &loop_64),
        ),
        Finding::new(
            "segments",
            "the same, segments of this program's own layout and loop, f64",
            Expected::AtMost(1e-15),
            off(&segments_64, &loop_64),
        ),
        Finding::new(
            "single",
            "the chunks in f32",
            Expected::AtMost(5e-7),
            off(&chunks_32, &loop_32),
        ),
        Finding::new(
            "single-loop",
            "the loop in f32 against the loop in f64",
            Expected::AtMost(5e-7),
            off(&loop_32, &loop_64),
        ),
    ])
}

/// Tokens of the texts that the short cut is tried on, and how many there are.
const TEXT: usize = 256;
const TEXTS: usize = 200;
/// The fastest slot of Mamba's start, and a mean step that is usual.
const A: f32 = -16.0;
const MEAN_STEP: f32 = 0.076;

/// The first token at which h[l] = P[l] · Σ b[j] / P[j], P the product of the decays so far, is no finite number in f32; and the
/// largest state of the loop on the same text.
fn short_cut(text: usize) -> (Option<usize>, f32) {
    let noise = Noise::new(text as u64, "divided prefixes");
    // Steps from nothing to twice the mean, evenly.
    let delta = |l: usize| 2.0 * MEAN_STEP * noise.uniform(l);
    let (mut log_decay, mut sum, mut h) = (0.0f32, 0.0f32, 0.0f32);
    let (mut first_bad, mut largest) = (None, 0.0f32);
    for l in 0..TEXT {
        let written = delta(l) * noise.normal(TEXT + l);
        log_decay += delta(l) * A;
        let product = log_decay.exp();
        sum += written / product;
        if !(product * sum).is_finite() && first_bad.is_none() {
            first_bad = Some(l);
        }
        h = (delta(l) * A).exp() * h + written;
        largest = largest.max(h.abs());
    }
    (first_bad, largest)
}

fn divided_prefixes(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let tried: Vec<(Option<usize>, f32)> = (0..TEXTS).map(short_cut).collect();
    let mut bad: Vec<usize> = tried.iter().filter_map(|text| text.0).collect();
    bad.sort_unstable();
    let at = |i: usize| bad.get(i).map_or(f64::NAN, |&l| l as f64);
    let largest = tried.iter().fold(0.0f32, |most, text| most.max(text.1));
    let per_token = f64::from(MEAN_STEP * -A);
    Ok(vec![
        Finding::new(
            "estimate",
            "ln(largest f32) / (16 · mean Δ): where 1/P passes the largest f32",
            Expected::near(73.0, 0.05),
            f64::from(f32::MAX).ln() / per_token,
        )
        .in_unit("tokens"),
        Finding::new(
            "failed",
            "of 200 random texts of 256 tokens, those on which the short cut fails",
            Expected::exactly(TEXTS as f64),
            bad.len() as f64,
        ),
        // What is written is below one, so it passes the largest f32 some tokens after 1/P does, and before P is 0, at 85.
        Finding::new(
            "median",
            "first token that is no finite number, median",
            Expected::near(75.0, 4.0),
            at(TEXTS / 2),
        )
        .in_unit("tokens"),
        Finding::new(
            "earliest",
            "the same, the earliest of all",
            Expected::AtLeast(45.0),
            at(0),
        )
        .in_unit("tokens"),
        Finding::new(
            "loop",
            "largest state of the loop on all these texts: no trouble",
            Expected::AtMost(1.0),
            f64::from(largest),
        ),
    ])
}

fn fused(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    const TOKENS: usize = 2048;
    const SLOTS: usize = 16;
    const MIB: f64 = 1024.0 * 1024.0;
    let (of_channels, of_slots) = fused_bytes(TOKENS, CHANNELS, SLOTS);
    let counted = shape(TOKENS, CHANNELS, SLOTS).bytes(4) as f64;
    let of_tokens = of_channels + of_slots;
    let finding = |name, what: &str, wanted, tolerance, bytes: f64| {
        Finding::new(name, what, Expected::near(wanted, tolerance), bytes / MIB).in_unit("MiB")
    };
    Ok(vec![
        finding(
            "materialised",
            "one tensor with a value for every token, channel and slot, f32",
            192.0,
            0.0,
            materialised_bytes(TOKENS, CHANNELS, SLOTS),
        ),
        finding(
            "fused",
            "u, Δ and z read, y written, f32",
            48.0,
            0.0,
            of_channels,
        ),
        finding("projections", "B and C read, f32", 0.25, 0.0, of_slots),
        // A, D, the bias and the last state, which do not grow with the text: 96 + 6 + 6 + 96 KiB.
        finding(
            "rest",
            "what the engine's own count has beside these",
            204.0 / 1024.0,
            1e-9,
            counted - of_tokens,
        ),
    ])
}

fn one_scan(bench: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let operands = ScanOperands::seeded(shape(1000, 48, 16), 5);
    let input = operands.input(0).map_err(refused)?;
    let wanted = bench.workshop.backend("naive")?.scan(&input)?.y_ld;
    let (tree, _) = associative(&input, Tree::Blelloch).map_err(refused)?;
    let (chunks, _) = chunked(&input, Geometry::of_kernel(1000)).map_err(refused)?;
    let fast = bench.workshop.backend("fast")?.scan(&input)?;
    let mut findings = Vec::new();
    let mut compare = |name, what: &str, found: &ndarray::Array2<f32>| {
        let off = share_off(found.view(), wanted.view());
        let what = format!(
            "{what} against the loop: largest difference of y, as a share of the largest y"
        );
        findings.push(Finding::new(name, what, Expected::AtMost(1e-5), off));
    };
    compare("tree", "Blelloch's tree", &tree.y_ld);
    compare("chunks", "the kernel's chunks", &chunks.y_ld);
    compare("fast", "the fast backend", &fast.y_ld);
    // On machines that have one. A device that is not there gives nothing to compare.
    if let Ok(cuda) = bench.workshop.backend("cuda") {
        match cuda.scan(&input) {
            Ok(found) => compare("cuda", "the CUDA backend", &found.y_ld),
            Err(BackendError::Device(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(findings)
}
