//! What the page claims about the rule in a trained model.

use std::ops::ControlFlow;
use std::sync::Arc;

use mambascope_core::backend::{Session, open_ruled};
use mambascope_core::checkpoint::embedded;
use mambascope_core::discretize::Discretization;
use mambascope_core::job::{JobError, ModelRef};
use mambascope_core::scan::{Rounding, Rule};

use super::bound::{Moved, first_scan, moved};
use super::sensitivity::{Apart, Dial, TEXT, TOKENS, read};
use crate::course::reading_a_trained_mamba::records::ids_of;
use crate::experiment::{Bench, Expected, Experiment, Finding};

/// The embedded model under other rules than its own.
///
/// This measures how sensitive these weights are, trained as they were under the shipped rule. It says nothing about which rule is
/// better to train with: for that a model would have to be trained under each.
pub const RULES: Experiment = Experiment {
    name: "rules-on-the-model",
    title: "A trained model under another rule, and with its numbers rounded: how far its scores move",
    run: rules,
};

/// What is changed, one at a time.
const CHANGES: [Rule; 7] = [
    rule(Discretization::ExponentialEuler),
    rule(Discretization::ZeroOrderHold),
    rule(Discretization::ExponentialTrapezoidal { lambda: 0.5 }),
    Rule {
        state: Rounding::Bfloat16,
        ..rule(Discretization::ExponentialEuler)
    },
    Rule {
        decay: Rounding::Bfloat16,
        ..rule(Discretization::ExponentialEuler)
    },
    rule(Discretization::Bilinear),
    rule(Discretization::Euler),
];

const fn rule(discretization: Discretization) -> Rule {
    Rule {
        discretization,
        decay: Rounding::Kept,
        state: Rounding::Kept,
    }
}

fn rules(bench: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let model = ModelRef(Arc::new(embedded()?));
    let ids = ids_of(&model, TEXT, TOKENS)?;
    let mut run = 0;
    let mut reading = |bench: &mut Bench<'_>, session: &mut dyn Session| {
        let before = run * ids.len();
        run += 1;
        let total = (CHANGES.len() + 1) * ids.len();
        read(&model, &ids, session, &mut |done| match bench.report(
            "tokens read",
            before + done,
            total,
        ) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        })
    };
    let mut session = bench.workshop.backend("naive")?.open(&model)?;
    let shipped = reading(bench, &mut *session)?;
    let mut apart = Vec::new();
    for rule in CHANGES {
        let other = reading(bench, &mut *open_ruled(&model, rule)?)?;
        apart.push(Apart::of(&shipped, &other));
    }
    let apart = <[Apart; 7]>::try_from(apart)
        .map_err(|_| JobError::Study("a reading is missing".into()))?;
    let mut findings = parted(&apart);
    findings.extend(steps(&Dial::of(&model, &shipped)));
    let first = first_scan(&model, &ids, bench.workshop.backend("naive")?)?;
    let moved = CHANGES.map(|rule| moved(&first, &rule));
    findings.extend(bounds(
        moved
            .into_iter()
            .collect::<Result<Vec<Moved>, JobError>>()?,
    ));
    Ok(findings)
}

/// How far the scores part under each of [`CHANGES`]. The readable backend adds in one order everywhere; what may differ between
/// machines is the last bit of exp. With exp in double precision instead (λ = 1 is the shipped rule so computed) the scores move
/// by 1e-12 nats, far less than the two hundredths allowed here. Where a rounding to bfloat16 or an unstable rule makes more of
/// such a bit, more is allowed.
fn parted(apart: &[Apart; 7]) -> Vec<Finding> {
    let [same, held, trapezoidal, state, decay, bilinear, euler] = apart;
    let kl = |name, what: &str, expected: f64, share: f64, apart: &Apart| {
        let what = format!("mean KL from the shipped scores, {what}");
        let expected = Expected::near(expected, share * expected);
        Finding::new(name, what, expected, apart.mean_kl()).in_unit("nats")
    };
    let flips = |name, what: &str, expected: f64, apart: &Apart| {
        let of = apart.kl_l.len();
        let what = format!("tokens of {of} after which {what} expects another token most");
        // Two tokens whose scores lie close may change places.
        let expected = Expected::near(expected, 1.0);
        Finding::new(name, what, expected, apart.flips() as f64)
    };
    let loss = |name, what: &str, expected: f64, share: f64, measured| {
        let expected = Expected::near(expected, share * expected);
        Finding::new(name, format!("loss {what}"), expected, measured).in_unit("nats a token")
    };
    vec![
        Finding::new(
            "shipped-kl",
            "mean KL between the shipped scan and the same rule through the scan that can be changed",
            Expected::exactly(0.0),
            same.mean_kl(),
        )
        .in_unit("nats"),
        kl("held-kl", "zero-order hold", 0.064_58, 0.02, held),
        flips("held-flips", "zero-order hold", 9.0, held),
        loss("shipped-loss", "as shipped", 2.785, 0.002, held.losses[0]),
        loss(
            "held-loss",
            "under zero-order hold",
            2.870,
            0.002,
            held.losses[1],
        ),
        kl(
            "trapezoidal-kl",
            "exponential-trapezoidal, λ = 0.5",
            0.069_78,
            0.02,
            trapezoidal,
        ),
        kl("bilinear-kl", "bilinear", 0.050_77, 0.02, bilinear),
        kl("euler-kl", "forward Euler", 5.788, 0.1, euler),
        loss(
            "euler-loss",
            "under forward Euler",
            9.120,
            0.1,
            euler.losses[1],
        ),
        kl(
            "bf16-state-kl",
            "the state kept in bfloat16",
            3.727e-6,
            0.2,
            state,
        ),
        flips("bf16-state-flips", "the state in bfloat16", 0.0, state),
        kl("bf16-decay-kl", "Ā rounded to bfloat16", 1.763e-6, 0.2, decay),
        flips("bf16-decay-flips", "Ā in bfloat16", 0.0, decay),
    ]
}

/// How far the first scan's outputs move, against what they could at most.
fn bounds(moved: Vec<Moved>) -> Vec<Finding> {
    let held = moved
        .get(1)
        .map_or(f64::NAN, |moved| moved.measured / moved.size);
    let reached = moved.iter().map(|moved| moved.reached);
    // A share that is no number is no bound kept.
    let worst = reached.fold(
        0.0,
        |most, next: f64| if next <= most { most } else { next },
    );
    vec![
        Finding::new(
            "first-scan-held",
            "largest difference of y in the first scan under zero-order hold, of the largest |y|",
            Expected::AtLeast(1e-3),
            held,
        ),
        Finding::new(
            "bound",
            "largest share of its error bound that a difference reaches, under any of the changes",
            // And the rounding of what is computed here in double precision.
            Expected::AtMost(1.0 + 1e-9),
            worst,
        ),
    ]
}

/// How large the steps are: counts of millions, which a last bit of Δ hardly moves.
fn steps(dial: &Dial) -> Vec<Finding> {
    vec![
        Finding::new(
            "median-z",
            format!("median Δ|A| of {} steps of slots", dial.total),
            // To a thousandth of a power of ten, and some.
            Expected::near(0.1326, 1e-3),
            dial.median_z,
        ),
        Finding::new(
            "share-above-one",
            "share of all Δ|A| above 1, where the two rules part by more than 1.58",
            Expected::near(0.0689, 1e-4),
            dial.share_above_one(),
        ),
    ]
}
