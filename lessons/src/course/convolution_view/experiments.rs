//! What the page about the convolution claims.

use mambascope_core::discretize::Discretization;
use mambascope_core::job::JobError;
use mambascope_core::noise::Noise;
use mambascope_core::s4::{S4, S4d, S4dInit, View, kernel_by_powers};
use ndarray::Array1;

use super::recurrence::{Slot, nearest_kernel, system};
use crate::course::shared::refused;
use crate::experiment::{Bench, Expected, Experiment, Finding};

/// Loop, direct convolution, FFT.
pub const THREE_VIEWS: Experiment = Experiment {
    name: "three-views",
    title: "Loop, direct convolution and FFT give the same output on 4,096 tokens",
    run: three_views,
};

/// One kernel against a selective recurrence.
pub const NO_KERNEL: Experiment = Experiment {
    name: "no-kernel",
    title: "Once Δ depends on the token, no single kernel fits",
    run: no_kernel,
};

/// Largest difference to the loop over the largest output, or over one where that is more.
fn difference(found: &Array1<f64>, wanted: &Array1<f64>) -> f64 {
    let size = wanted.fold(1.0, |most: f64, y| most.max(y.abs()));
    let worst = (found - wanted).fold(0.0, |most: f64, x| most.max(x.abs()));
    worst / size
}

fn three_views(bench: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    const TOKENS: usize = 4096;
    let noise = Noise::new(41, "three views");
    let u_l = Array1::from_shape_fn(TOKENS, |l| f64::from(noise.uniform(l)) * 2.0 - 1.0);
    let (mut direct, mut fft) = (0.0, 0.0);
    let mut compare = |[run, by_sum, by_fft]: [Array1<f64>; 3]| {
        direct = difference(&by_sum, &run).max(direct);
        fft = difference(&by_fft, &run).max(fft);
    };
    for (done, init) in S4dInit::ALL.into_iter().enumerate() {
        bench.report("Comparing models", done, S4dInit::ALL.len() + 1)?;
        let entries = if init.is_paired() { 8 } else { 16 };
        // C is random around zero, the scale keeps the output near the input's.
        let c_n = init.lambda_n(16).map_err(refused)?;
        let mut at = 0;
        let c_n = c_n.mapv_into(|mut c| {
            c.re = f64::from(noise.normal(TOKENS + at)) / f64::from(entries);
            c.im = f64::from(noise.normal(TOKENS + at + 1)) / f64::from(entries);
            at += 2;
            c
        });
        let model =
            S4d::new(init, c_n, 0.7, 0.01, Discretization::ZeroOrderHold).map_err(refused)?;
        compare(views(|view| {
            model.output(view, u_l.view()).map_err(refused)
        })?);
    }
    let c_n = Array1::from_shape_fn(16, |n| f64::from(noise.normal(2 * TOKENS + n)) / 16.0);
    let model = S4::legs(c_n, 0.7, 0.01).map_err(refused)?;
    compare(views(|view| {
        model.output(view, u_l.view()).map_err(refused)
    })?);
    // Rounding of f64 over 4,096 tokens; the size of the output is divided out.
    let bound = Expected::AtMost(1.5e-15);
    Ok(vec![
        Finding::new(
            "direct",
            "largest difference of direct convolution and loop, S4 and four S4D, f64",
            bound,
            direct,
        ),
        Finding::new(
            "fft",
            "largest difference of FFT convolution and loop, S4 and four S4D, f64",
            bound,
            fft,
        ),
        Finding::new(
            "fourth-tap",
            "K[3] of one slot with A-bar = 0.5, B-bar = 1, C = 2",
            Expected::exactly(0.25),
            fourth_tap()?,
        ),
    ])
}

fn views(
    output: impl Fn(View) -> Result<Array1<f64>, JobError>,
) -> Result<[Array1<f64>; 3], JobError> {
    Ok([
        output(View::Loop)?,
        output(View::Direct)?,
        output(View::Fft)?,
    ])
}

fn fourth_tap() -> Result<f64, JobError> {
    let slot = Slot {
        a_bar: 0.5,
        b_bar: 1.0,
        c: 2.0,
    };
    let (discrete, c_n) = system(&[slot]);
    let kernel_l = kernel_by_powers(&discrete, c_n.view(), 4).map_err(refused)?;
    Ok(kernel_l[3])
}

fn no_kernel(_: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let slots = [
        Slot {
            a_bar: 0.95,
            b_bar: 0.2,
            c: 1.0,
        },
        Slot {
            a_bar: 0.6,
            b_bar: 1.0,
            c: -0.5,
        },
    ];
    let residual = |gain: f64| Ok::<_, JobError>(nearest_kernel(&slots, gain, 64)?.residual);
    let finding = |name, what: &str, expected, measured| {
        let what = format!("what the best single kernel leaves of the output, {what}");
        Finding::new(name, what, expected, measured)
    };
    Ok(vec![
        finding(
            "fixed",
            "Δ = 1 at every token",
            Expected::AtMost(1e-9),
            residual(0.0)?,
        ),
        finding(
            "slightly",
            "Δ = exp(±0.1) by the kind of token",
            Expected::AtLeast(0.01),
            residual(0.1)?,
        ),
        finding(
            "selective",
            "Δ = exp(±1) by the kind of token",
            Expected::AtLeast(0.3),
            residual(1.0)?,
        ),
    ])
}
