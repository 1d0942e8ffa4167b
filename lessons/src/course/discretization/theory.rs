//! What the page about rules claims of the rules themselves: how fast their errors shrink, where they explode, what they write.

use mambascope_core::discretize::Discretization;
use mambascope_core::job::JobError;
use mambascope_core::noise::Noise;

use super::ode::{Input, Ode, Sample, Shape, slope};
use crate::course::shared::refused;
use crate::experiment::{Bench, Expected, Experiment, Finding};

const TRAPEZOIDAL: Discretization = Discretization::ExponentialTrapezoidal { lambda: 0.5 };

/// Error against step size.
pub const ORDERS: Experiment = Experiment {
    name: "rule-orders",
    title: "Half the step: Euler's error halves, that of the bilinear rule quarters, and zero-order hold has none for held inputs",
    run: orders,
};

/// Where a rule lets a stable system explode.
pub const LIMIT: Experiment = Experiment {
    name: "euler-limit",
    title: "Forward Euler explodes beyond Δ·|A| = 2; the bilinear and the exponential rules never do",
    run: limit,
};

/// What the code writes against what the paper's formula writes.
pub const WRITE_RATIO: Experiment = Experiment {
    name: "write-ratio",
    title: "Exponential Euler writes z / (1 − e^(−z)) times what zero-order hold writes, z = Δ·|A|",
    run: write_ratio,
};

fn orders(bench: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    use Discretization::{Bilinear, Euler, ExponentialEuler, ZeroOrderHold};
    let runs = [
        ("euler", Euler, Sample::Middle, 1.0),
        ("exponential-euler", ExponentialEuler, Sample::Middle, 1.0),
        ("bilinear", Bilinear, Sample::Middle, 2.0),
        ("trapezoidal", TRAPEZOIDAL, Sample::End, 2.0),
        ("zoh-middle", ZeroOrderHold, Sample::Middle, 2.0),
        ("zoh-end", ZeroOrderHold, Sample::End, 1.0),
    ];
    let total = runs.len() + 1;
    let mut findings = Vec::new();
    for (done, (name, rule, sample, expected)) in runs.into_iter().enumerate() {
        bench.report("rules", done, total)?;
        let place = match sample {
            Sample::Middle => "middle",
            Sample::End => "end",
        };
        let what = format!(
            "{}: slope of log error over log Δ, a sine read at the {place} of each step",
            rule.title()
        );
        // A slope between steps of finite size is off by about the largest of them, Δ·|A| = 0.05.
        let expected = Expected::near(expected, 0.05);
        findings.push(Finding::new(name, what, expected, order(rule, sample)?));
    }
    bench.report("rules", total - 1, total)?;
    findings.push(Finding::new(
        "zoh-held",
        "Zero-order hold, random inputs held in each step: largest distance from the integral, solved in closed form",
        // 200 steps, each rounded to 1.1e-16 of a state of a few units; the closed form divides by |A| = 0.25.
        Expected::AtMost(1e-12),
        held_error()?,
    ));
    Ok(findings)
}

/// Fitted slope of the mean error, A = −1 and a sine, over steps from 1/20 to 1/640.
fn order(rule: Discretization, sample: Sample) -> Result<f64, JobError> {
    let ode = Ode {
        shape: Shape::Real,
        rate: 1.0,
        input: Input::Sine,
    };
    let point = |halvings: u32| {
        let steps = 400 << halvings;
        let error = ode.error(rule, sample, steps)?;
        Ok([-(steps as f64).log10(), error.log10()])
    };
    let points: Vec<[f64; 2]> = (0..6).map(point).collect::<Result<_, JobError>>()?;
    slope(&points).ok_or_else(|| refused("no slope through fewer than three points"))
}

/// Largest distance of a running zero-order hold from Σ u (e^(A(T−t)) − e^(A(T−t′))) / A over its steps, t to t′.
fn held_error() -> Result<f64, JobError> {
    const STEPS: usize = 200;
    let noise = Noise::new(1, "rule-orders");
    let u_l: Vec<f64> = (0..STEPS).map(|i| f64::from(noise.normal(i))).collect();
    let mut worst: f64 = 0.0;
    for a in [-0.25, -1.0, -4.0, -16.0] {
        for delta in [0.01, 0.1, 1.0] {
            let step = Discretization::ZeroOrderHold
                .entry(a, 1.0, delta)
                .map_err(refused)?;
            let mut h = 0.0;
            for (k, &u) in u_l.iter().enumerate() {
                h = step.a * h + step.b * u;
                let ago = |steps: usize| (a * delta * steps as f64).exp();
                let solved: f64 = (0..=k)
                    .map(|j| u_l[j] * (ago(k + 1 - j) - ago(k - j)) / a)
                    .sum();
                worst = worst.max((h - solved).abs());
            }
        }
    }
    Ok(worst)
}

/// |Ā| of a system with |A| = 1.
fn growth(rule: Discretization, shape: Shape, delta: f64) -> Result<f64, JobError> {
    let ode = Ode {
        shape,
        rate: 1.0,
        input: Input::Impulse,
    };
    let step = ode.step(rule, delta)?;
    Ok(step.a_nn[[0, 0]].hypot(step.a_nn[[1, 0]]))
}

/// Δ·|A| at which |Ā| of forward Euler passes one.
fn explodes_at(shape: Shape) -> Result<f64, JobError> {
    let (mut stable, mut exploding) = (0.01, 4.0);
    for _ in 0..60 {
        let middle = 0.5 * (stable + exploding);
        if growth(Discretization::Euler, shape, middle)? > 1.0 {
            exploding = middle;
        } else {
            stable = middle;
        }
    }
    Ok(stable)
}

fn limit(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    // Δ·|A| from 0.001 to 1,000.
    let deltas = || (-300..=300).map(|i| 10f64.powf(f64::from(i) / 100.0));
    let worst = |rule: Discretization| {
        [Shape::Real, Shape::Pair]
            .into_iter()
            .flat_map(|shape| deltas().map(move |delta| growth(rule, shape, delta)))
            .try_fold(0.0, |worst: f64, found| {
                Ok::<_, JobError>(worst.max(found?))
            })
    };
    let mut exponential: f64 = 0.0;
    for rule in [
        Discretization::ZeroOrderHold,
        Discretization::ExponentialEuler,
        TRAPEZOIDAL,
    ] {
        exponential = exponential.max(worst(rule)?);
    }
    Ok(vec![
        Finding::new(
            "explodes-at",
            "Δ·|A| at which |Ā| of forward Euler passes 1, real A",
            // Half a unit in the last place of Ā, near 1, decides.
            Expected::near(2.0, 1e-12),
            explodes_at(Shape::Real)?,
        ),
        Finding::new(
            "explodes-at-pair",
            "the same for A = |A| (−0.3 ± 0.954 i): twice the share of A that is decay",
            Expected::near(0.6, 1e-12),
            explodes_at(Shape::Pair)?,
        ),
        Finding::new(
            "bilinear-worst",
            "largest |Ā| of the bilinear rule, Δ·|A| from 0.001 to 1,000, real A and the pair",
            Expected::AtMost(1.0),
            worst(Discretization::Bilinear)?,
        ),
        Finding::new(
            "exponential-worst",
            "largest |Ā| of the three exponential rules, the same",
            Expected::AtMost(1.0),
            exponential,
        ),
    ])
}

/// B̄ of exponential Euler over B̄ of zero-order hold.
fn ratio(delta: f64, a: f64) -> Result<f64, JobError> {
    let write = |rule: Discretization| rule.entry(a, 1.0, delta).map_err(refused);
    let shipped = write(Discretization::ExponentialEuler)?;
    let published = write(Discretization::ZeroOrderHold)?;
    Ok(shipped.b / published.b)
}

fn write_ratio(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let mut findings = Vec::new();
    // Half a unit of the last digit shown.
    for (name, delta, a, expected, tolerance) in [
        ("small-slow", 0.001, -1.0, 1.0005, 5e-5),
        ("large-slow", 0.1, -1.0, 1.051, 5e-4),
        ("large-fast", 0.1, -16.0, 2.005, 5e-4),
        ("one-slow", 1.0, -1.0, 1.582, 5e-4),
        ("one-fast", 1.0, -16.0, 16.0, 5e-2),
    ] {
        let what = format!("B̄ as shipped over B̄ of zero-order hold, Δ = {delta}, A = {a}");
        let expected = Expected::near(expected, tolerance);
        findings.push(Finding::new(name, what, expected, ratio(delta, a)?));
    }
    let mut apart: f64 = 0.0;
    for i in 0..=400 {
        // z from 0.01 to 100: below, 1 − e^(−z) written out loses more digits than the bound has.
        let z = 10f64.powf(f64::from(i) / 100.0 - 2.0);
        apart = apart.max((ratio(z, -1.0)? - z / (1.0 - (-z).exp())).abs());
    }
    findings.push(Finding::new(
        "formula",
        "largest difference from z / (1 − e^(−z)), z from 0.01 to 100",
        Expected::AtMost(1e-12),
        apart,
    ));
    Ok(findings)
}
