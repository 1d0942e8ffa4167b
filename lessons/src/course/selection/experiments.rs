//! What the page about selection claims.

use mambascope_core::job::JobError;
use mambascope_core::scan::ScanError;

use super::cell::{Cell, KINDS, Knobs};
use super::puzzle::{Example, LENGTHS, MARK_ROOM, Puzzle, Token, is_right};
use crate::experiment::{Bench, Expected, Experiment, Finding};

/// Strings for each length.
const SAMPLES: [usize; 3] = [128, 128, 48];

fn refuse(error: ScanError) -> JobError {
    JobError::Study(error.to_string())
}

/// The time-invariant cell against the selective one.
pub const SELECTIVE_COPY: Experiment = Experiment {
    name: "selective-copy",
    title: "No time-invariant cell copies the marked token; a selective one does, at every length",
    run: selective_copy,
};

fn selective_copy(bench: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    const NAMES: [[&str; 2]; 3] = [
        ["lti-16", "selective-16"],
        ["lti-256", "selective-256"],
        ["lti-4096", "selective-4096"],
    ];
    let ceiling = blind_ceiling();
    let mut findings = vec![Finding::new(
        "ceiling",
        "most that anything can get right, on average, that does not see the marks",
        // 1/2 + E|sum of 8 signs| / 16, and the mean of that sum is 8 · C(8, 4) / 2⁸.
        Expected::near(0.5 + 8.0 * 70.0 / 256.0 / 16.0, 1e-12),
        ceiling,
    )];
    for ((names, length), count) in NAMES.into_iter().zip(LENGTHS).zip(SAMPLES) {
        let examples = Puzzle::Hold.samples(length, count, 1);
        let error = (ceiling * (1.0 - ceiling) / count as f64).sqrt();
        findings.push(Finding::new(
            names[0],
            format!("best time-invariant cell, L = {length}, {count} strings"),
            // The best of many settings is a little lucky: three standard errors.
            Expected::AtMost(ceiling + 3.0 * error),
            best_invariant(&examples, bench)?,
        ));
        let share = share_right(&selective(Puzzle::Hold), &examples)?;
        let what = format!("selective cell, L = {length}, the same strings");
        findings.push(Finding::new(names[1], what, Expected::exactly(1.0), share));
    }
    Ok(findings)
}

fn selective(puzzle: Puzzle) -> Cell {
    let (kinds, sees_previous) = puzzle.solution();
    Cell {
        a: -1.0,
        kinds,
        sees_previous,
    }
}

fn share_right(cell: &Cell, examples: &[Example]) -> Result<f64, JobError> {
    let mut right = 0;
    for example in examples {
        let y = cell.last(&example.tokens).map_err(refuse)?;
        right += usize::from(is_right(y, example.wanted));
    }
    Ok(right as f64 / examples.len() as f64)
}

/// Tries every Δ on a grid. B and C only scale the output, so that any size and sign of it is tried by counting on which side of
/// zero it lies: more than a cell with a threshold could get.
fn best_invariant(examples: &[Example], bench: &mut Bench<'_>) -> Result<f64, JobError> {
    const GRID: usize = 25;
    let mut best: f64 = 0.0;
    for point in 0..GRID {
        bench.report("settings tried", point, GRID)?;
        let z = -18.0 + point as f64;
        let cell = Cell::invariant(-1.0, Knobs::first(z, 1.0, 1.0));
        let (mut above, mut below) = (0, 0);
        for example in examples {
            let side = cell.last(&example.tokens).map_err(refuse)? * example.wanted;
            above += usize::from(side > 0.0);
            below += usize::from(side < 0.0);
        }
        best = best.max(above.max(below) as f64 / examples.len() as f64);
    }
    Ok(best)
}

/// The mark is equally likely at each of the first places, whatever the values: who sees the values only does best to name the
/// more frequent of them. Over all strings of signs.
fn blind_ceiling() -> f64 {
    let all = 1u32 << MARK_ROOM;
    let share = |signs: u32| {
        let ones = f64::from(signs.count_ones());
        ones.max(MARK_ROOM as f64 - ones) / MARK_ROOM as f64
    };
    (0..all).map(share).sum::<f64>() / f64::from(all)
}

/// The other puzzles.
pub const CIRCUITS: Experiment = Experiment {
    name: "puzzle-solutions",
    title: "The solutions shown pass every short string and the drawn ones at all three lengths",
    run: circuits,
};

fn circuits(bench: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    const NAMES: [[&str; 2]; 4] = [
        ["hold-short", "hold-long"],
        ["reset-short", "reset-long"],
        ["induction-short", "induction-long"],
        ["parity-short", "parity-long"],
    ];
    let mut findings = Vec::new();
    for (done, (puzzle, [short, long])) in Puzzle::ALL.into_iter().zip(NAMES).enumerate() {
        bench.report("puzzles", done, NAMES.len())?;
        let cell = selective(puzzle);
        let all = puzzle.all_short();
        let title = puzzle.title();
        findings.push(Finding::new(
            short,
            format!("“{title}”: share right of all {} short strings", all.len()),
            Expected::exactly(1.0),
            share_right(&cell, &all)?,
        ));
        let mut least: f64 = 1.0;
        for length in LENGTHS {
            least = least.min(share_right(&cell, &puzzle.samples(length, 24, 2))?);
        }
        findings.push(Finding::new(
            long,
            format!("“{title}”: share right at its worst of the three lengths"),
            Expected::exactly(1.0),
            least,
        ));
    }
    findings.push(Finding::new(
        "parity-positive",
        "“Parity” without the flip: the same cell, share right of all short strings",
        // It says “even” to all: as many are even as odd, and the empty string is even.
        Expected::near(0.5, 0.01),
        {
            let mut cell = selective(Puzzle::Parity);
            for knobs in &mut cell.kinds {
                knobs.flips = false;
            }
            share_right(&cell, &Puzzle::Parity.all_short())?
        },
    ));
    Ok(findings)
}

/// Thresholds for holding.
pub const HOLDING: Experiment = Experiment {
    name: "hold-thresholds",
    title: "To keep half over L ignored tokens, z must be below about ln(ln 2 / L)",
    run: holding,
};

/// What softplus needs to be ln 2 / L, exactly.
fn threshold(tokens: usize) -> f64 {
    (std::f64::consts::LN_2 / tokens as f64).exp_m1().ln()
}

/// What a slot of rate `a` keeps of a one over so many tokens that write nothing.
fn kept(z: f64, a: f64, tokens: usize) -> Result<f64, JobError> {
    let noise = Token {
        kind: KINDS - 1,
        u: 1.0,
    };
    let mark = Token { kind: 0, u: 1.0 };
    // Written with Δ = ln 2, so that ΔB = 1.
    let write = Knobs::first(0.0, 1.0 / std::f64::consts::LN_2, 1.0);
    let quiet = Knobs::first(z, 0.0, 1.0);
    let cell = Cell {
        a,
        kinds: [write, quiet, quiet],
        sees_previous: false,
    };
    let mut string = vec![noise; tokens + 1];
    string[0] = mark;
    cell.last(&string).map_err(refuse)
}

fn holding(bench: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    bench.report("holds", 0, 2)?;
    let rule = |tokens: f64| (std::f64::consts::LN_2 / tokens).ln();
    let mut findings = vec![
        Finding::new(
            "rule-1000",
            "ln(ln 2 / L) for L = 1,000",
            Expected::near(-7.27, 0.005),
            rule(1e3),
        ),
        Finding::new(
            "rule-million",
            "ln(ln 2 / L) for L = 1,000,000",
            Expected::near(-14.2, 0.05),
            rule(1e6),
        ),
        Finding::new(
            "rule-error",
            "how far the rule is from the exact bound, L = 1,000",
            Expected::AtMost(0.001),
            (rule(1e3) - threshold(1000)).abs(),
        ),
    ];
    let runs = [
        ("kept-5", -5.0, -1.0, 1000, 0.001, 0.0005),
        ("kept-7-27", -7.27, -1.0, 1000, 0.5, 0.005),
        ("kept-10", -10.0, -1.0, 1000, 0.956, 0.0005),
        ("kept-10-slot-16", -10.0, -16.0, 1000, 0.484, 0.0005),
    ];
    for (name, z, a, tokens, share, tolerance) in runs {
        findings.push(Finding::new(
            name,
            format!("share kept by a slot with A = {a} at z = {z}, over {tokens} tokens"),
            Expected::near(share, tolerance),
            kept(z, a, tokens)?,
        ));
    }
    bench.report("holds", 1, 2)?;
    findings.push(Finding::new(
        "kept-14-2",
        "share kept at z = −14.2, over 1,000,000 tokens",
        Expected::near(0.506, 0.0005),
        kept(-14.2, -1.0, 1_000_000)?,
    ));
    Ok(findings)
}
