//! What the page about HiPPO claims.

use mambascope_core::discretize::Discretization;
use mambascope_core::hippo::{Measure, Memory};
use mambascope_core::job::JobError;

use super::memories::Kind;
use super::signal::{Start, tones};
use crate::course::shared::{refused, relative_error};
use crate::experiment::{Bench, Expected, Experiment, Finding};

/// Errors of LegS, by its slots.
pub const LEGS_ERRORS: Experiment = Experiment {
    name: "hippo-legs-errors",
    title: "A LegS memory of 2,000 samples, read back at every age",
    run: legs_errors,
};

/// The other memories of the demo.
pub const OTHER_MEMORIES: Experiment = Experiment {
    name: "hippo-other-memories",
    title: "The same signal in LegS without 1/t, in a decay ladder and in a random A",
    run: other_memories,
};

/// What is left of an old token.
pub const STILL_DECAYS: Experiment = Experiment {
    name: "hippo-still-decays",
    title: "With A below zero every slot forgets exponentially; a small Δ only makes it slow",
    run: still_decays,
};

/// Relative error of LegS with that many slots on 2,000 samples of the three tones, read `late` samples beside each.
fn legs_error(slots: usize, late: f64) -> Result<f64, JobError> {
    const SAMPLES: usize = 2000;
    let signal: Vec<f64> = (0..SAMPLES)
        .map(|i| tones(i as f64 / SAMPLES as f64))
        .collect();
    let mut memory =
        Memory::new(Measure::Scaled, slots, 1.0, Discretization::Bilinear).map_err(refused)?;
    for &sample in &signal {
        memory.push(sample);
    }
    let ages = (0..SAMPLES).rev();
    let found: Vec<f64> = ages
        .map(|age| {
            memory
                .recall((age as f64 + late).min(memory.elapsed()))
                .unwrap_or(f64::NAN)
        })
        .collect();
    Ok(relative_error(&found, &signal))
}

fn legs_errors(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    // Deterministic; the tolerance is one unit of the last digit that is shown.
    const WANTED: [(usize, &str, f64, f64); 5] = [
        (4, "n4", 0.90, 0.01),
        (8, "n8", 0.72, 0.01),
        (16, "n16", 0.49, 0.01),
        (32, "n32", 0.22, 0.01),
        (64, "n64", 0.0005, 0.0001),
    ];
    let mut findings = Vec::new();
    for (slots, name, value, tolerance) in WANTED {
        findings.push(Finding::new(
            name,
            format!("relative error of three tones up to 13 cycles, N = {slots}"),
            Expected::near(value, tolerance),
            legs_error(slots, 0.0)?,
        ));
    }
    let ratio = findings[3].measured / findings[4].measured;
    findings.push(Finding::new(
        "from-32-to-64",
        "error at N = 32 over error at N = 64",
        // A polynomial of that degree has come to follow 13 cycles in between.
        Expected::near(411.0, 20.0),
        ratio,
    ));
    findings.push(Finding::new(
        "n64-half-a-sample-beside",
        "relative error at N = 64 when the ages asked for are half a sample off",
        Expected::AtLeast(10.0 * findings[4].measured),
        legs_error(64, 0.5)?,
    ));
    Ok(findings)
}

fn other_memories(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let signal = Start::Tones.samples();
    let error = |kind: Kind, part: std::ops::Range<usize>| {
        let found = kind.reconstruct(&signal, 64, 4.0)?;
        Ok::<_, JobError>(relative_error(&found[part.clone()], &signal[part]))
    };
    let all = 0..signal.len();
    let (oldest, newest) = (0..signal.len() / 4, signal.len() * 3 / 4..signal.len());
    let finding = |name, what: &str, expected, measured| {
        let what = format!("relative error at N = 64, {what}");
        Finding::new(name, what, expected, measured)
    };
    Ok(vec![
        finding(
            "legs",
            "LegS with 1/t",
            Expected::AtMost(0.05),
            error(Kind::Legs, all.clone())?,
        ),
        finding(
            "warped-newest",
            "LegS without 1/t, newest quarter of four time units",
            Expected::AtMost(0.1),
            error(Kind::Warped, newest)?,
        ),
        finding(
            "warped-oldest",
            "LegS without 1/t, oldest quarter of four time units",
            Expected::AtLeast(0.3),
            error(Kind::Warped, oldest)?,
        ),
        finding(
            "ladder",
            "S4D-Real ladder, best decoder for white noise, state known to six digits",
            Expected::AtLeast(0.5),
            error(Kind::Ladder, all.clone())?,
        ),
        finding(
            "random",
            "random stable A, the same kind of decoder",
            Expected::AtLeast(0.5),
            error(Kind::Random, all)?,
        ),
    ])
}

fn still_decays(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let left = |delta: f64, tokens: usize| {
        // ∂h[t]/∂u[j] is B̄ at t = j and is multiplied by Ā at every token since.
        let step = Discretization::ZeroOrderHold
            .entry(-1.0, 1.0, delta)
            .map_err(refused)?;
        let mut gradient = step.b;
        for _ in 0..tokens {
            gradient *= step.a;
        }
        Ok::<_, JobError>(gradient / step.b)
    };
    Ok(vec![
        Finding::new(
            "large-step",
            "share of the gradient of h by u left after 1,000 tokens, A = −1, Δ = 0.1",
            // e^−100.
            Expected::AtMost(4e-44),
            left(0.1, 1000)?,
        ),
        Finding::new(
            "small-step",
            "share of the gradient of h by u left after 1,000 tokens, A = −1, Δ = 0.001",
            Expected::near((-1f64).exp(), 1e-9),
            left(0.001, 1000)?,
        ),
    ])
}
