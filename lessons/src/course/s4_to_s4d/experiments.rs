//! What the page about S4 and S4D claims.

use mambascope_core::hippo;
use mambascope_core::job::JobError;
use mambascope_core::s4::{KernelBy, Nplr, S4dInit, diagonalize_legs_directly};

use super::kernels::{largest_difference, s4, s4d};
use crate::course::shared::{refused, relative_error};
use crate::experiment::{Bench, Expected, Experiment, Finding};

/// LegS, diagonalised.
pub const DIGITS_LOST: Experiment = Experiment {
    name: "digits-lost",
    title: "LegS diagonalised as it is loses its digits; normal plus low-rank keeps them",
    run: digits_lost,
};

/// Two ways to S4's kernel.
pub const SAME_KERNEL: Experiment = Experiment {
    name: "same-kernel",
    title: "The generating function gives the kernel that powers of the full matrix give",
    run: same_kernel,
};

/// Without the low-rank term.
pub const S4D_APPROACHES_S4: Experiment = Experiment {
    name: "s4d-approaches-s4",
    title: "Without its low-rank term the kernel of LegS comes back as N grows",
    run: s4d_approaches_s4,
};

fn digits_lost(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let direct = |slots| diagonalize_legs_directly(slots).map_err(refused);
    let (small, middle, large) = (direct(16)?, direct(32)?, direct(64)?);
    let lost = |name, slots, expected, measured| {
        let what = format!("decimal digits of 15.65 lost by diagonalising LegS, N = {slots}");
        Finding::new(name, what, expected, measured).in_unit("digits")
    };
    Ok(vec![
        // What rounding does differs from machine to machine, by a digit at most.
        lost("n16", 16, Expected::near(10.0, 1.0), small.digits_lost()),
        lost("n32", 32, Expected::AtLeast(15.0), middle.digits_lost()),
        lost("n64", 64, Expected::AtLeast(15.0), large.digits_lost()),
        Finding::new(
            "condition-growth",
            "condition number of the eigenvectors, N = 32 over N = 16",
            Expected::AtLeast(1e6),
            middle.condition / small.condition,
        ),
        Finding::new(
            "with-low-rank",
            "error of A rebuilt from normal plus low-rank over its largest entry, N = 64",
            Expected::AtMost(2e-14),
            low_rank_error(64)?,
        ),
    ])
}

fn low_rank_error(slots: usize) -> Result<f64, JobError> {
    let a_nn = hippo::legs(slots).map_err(refused)?.a_nn;
    let again_nn = Nplr::legs(slots).map_err(refused)?.dense();
    let largest = a_nn.fold(0.0, |most: f64, x| most.max(x.abs()));
    let pairs = again_nn.iter().zip(&a_nn);
    let worst = pairs.fold(0.0, |most: f64, (again, a)| most.max((again - a).norm()));
    Ok(worst / largest)
}

fn same_kernel(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    const LENGTH: usize = 1024;
    let model = s4(64)?;
    let by = |way| model.kernel(way, LENGTH).map_err(refused);
    let powers = by(KernelBy::Powers)?;
    let generating = by(KernelBy::GeneratingFunction)?;
    let largest = powers.fold(0.0, |most: f64, x| most.max(x.abs()));
    let exact = (0..LENGTH).map(|l| 0.01 * (-0.01 * (l as f64 + 0.5)).exp());
    let from_exact = powers
        .iter()
        .zip(exact)
        .fold(0.0, |most: f64, (found, exact)| {
            most.max((found - exact).abs())
        });
    Ok(vec![
        Finding::new(
            "difference",
            "largest difference of the two kernels over the largest tap, N = 64, L = 1,024",
            Expected::AtMost(1e-13),
            largest_difference(&powers, &generating) / largest,
        ),
        Finding::new(
            "exponential",
            "largest difference of the kernel to Δ e^−s over its largest tap, C reading the first slot",
            // The bilinear rule errs by Δ² / 12.
            Expected::AtMost(1e-4),
            from_exact / largest,
        ),
    ])
}

fn s4d_approaches_s4(bench: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    const LENGTH: usize = 300;
    let sizes = [("n16", 16), ("n64", 64), ("n256", 256)];
    let mut findings: Vec<Finding> = Vec::new();
    for (done, (name, slots)) in sizes.into_iter().enumerate() {
        bench.report("Diagonal kernels", done, sizes.len())?;
        let wanted = s4(slots)?
            .kernel(KernelBy::Powers, LENGTH)
            .map_err(refused)?;
        let found = s4d(S4dInit::Legs, slots)?.kernel(LENGTH).map_err(refused)?;
        let error = relative_error(&found, &wanted);
        // A fifth less than the one before, at least.
        let bound = findings.last().map_or(0.75, |before| 0.8 * before.measured);
        let what = format!("relative error of the diagonal kernel, N = {slots}");
        findings.push(Finding::new(name, what, Expected::AtMost(bound), error));
    }
    Ok(findings)
}
