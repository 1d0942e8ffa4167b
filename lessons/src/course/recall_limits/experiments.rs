//! What the page about recall claims.

use std::ops::ControlFlow;

use mambascope_core::checkpoint::Embedded;
use mambascope_core::job::{JobError, ModelRef};
use mambascope_core::recall::{RecallJob, RecallScore, recall};
use std::sync::Arc;

use super::memory::{Facts, shares};
use crate::experiment::{Bench, Expected, Experiment, Finding};

/// Memories drawn for each row of the table.
const DRAWS: usize = 48;

/// The table of slots against facts.
pub const LINEAR_MEMORY: Experiment = Experiment {
    name: "linear-memory",
    title: "A linear memory of N slots forgets from about N facts on; attention over the same facts does not",
    run: linear_memory,
};

/// Slots, facts, and the share that should be right.
const TABLE: [(&str, usize, usize, f64); 8] = [
    ("n16-k16", 16, 16, 0.98),
    ("n16-k32", 16, 32, 0.91),
    ("n16-k64", 16, 64, 0.64),
    ("n16-k128", 16, 128, 0.37),
    ("n64-k64", 64, 64, 0.99),
    ("n64-k128", 64, 128, 0.93),
    ("n64-k256", 64, 256, 0.67),
    ("n128-k256", 128, 256, 0.93),
];

fn linear_memory(bench: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let mut findings = Vec::new();
    for (row, (name, slots, count, expected)) in TABLE.into_iter().enumerate() {
        bench.report("rows of the table", row, TABLE.len() + 1)?;
        let shares = shares(slots, count, DRAWS, 1000 * row as u64);
        let (mean, error) = mean_and_error(&shares);
        findings.push(Finding::new(
            name,
            format!("share known of {count} facts in {slots} slots, {DRAWS} draws"),
            Expected::near(expected, 3.0 * error + 0.005),
            mean,
        ));
    }
    bench.report("rows of the table", TABLE.len(), TABLE.len() + 1)?;
    let right: usize = (0..8)
        .map(|draw| {
            let facts = Facts::random(16, 128, 0.0, 3000 + draw);
            facts.ask_attention(32.0).right()
        })
        .sum();
    findings.push(Finding::new(
        "attention",
        "share known of 128 facts with keys of 16 numbers, softmax attention, 8 draws",
        Expected::AtLeast(0.99),
        right as f64 / (8.0 * 128.0),
    ));
    Ok(findings)
}

/// The mean and its standard error.
fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0) / count).sqrt())
}

/// The embedded Mamba, asked.
pub const PHONEBOOK: Experiment = Experiment {
    name: "phonebook-score",
    title: "A trained Mamba of three million parameters looks facts up, until there are too many",
    run: phonebook,
};

/// Facts in a row, and the share of 64 rows known according to the model's card.
const CARD: [(&str, usize, f64); 3] = [("k16", 16, 0.996), ("k64", 64, 0.960), ("k96", 96, 0.678)];
const CARD_ROWS: f64 = 64.0;
const ROWS: usize = 3;

fn phonebook(bench: &mut Bench<'_>) -> Result<Vec<Finding>, JobError> {
    let missing = || JobError::Study("the embedded model is not there".into());
    let model = Embedded::named("novel-mamba-3m")
        .ok_or_else(missing)?
        .load()?;
    let sizes = model.config.blocks.iter();
    let sizes: Vec<_> = sizes.filter_map(|block| block.mixer.recurrent()).collect();
    let channels = sizes.first().map_or(0, |dims| dims.d_inner);
    let job = RecallJob {
        models: vec![ModelRef(Arc::new(model))],
        backend: "fast".to_owned(),
        facts: CARD.iter().map(|&(_, facts, _)| facts).collect(),
        rows: ROWS,
        seed: 11,
    };
    let backend = bench.workshop.backend(&job.backend)?;
    let progress = &mut *bench.progress;
    let table = recall(&job, backend, &mut |report| match report {
        mambascope_core::job::Progress::Partial(_) => ControlFlow::Continue(()),
        count => progress(count),
    })?;
    let scores = table.rows.first().map_or(&[][..], |row| &row.scores);
    let finding = |(&(name, facts, card), score): (&(&'static str, usize, f64), &RecallScore)| {
        // Both the card and this run are estimates: the error of the difference of two shares, three times.
        let share = card * (1.0 - card) / facts as f64;
        let binomial = (share * (1.0 / ROWS as f64 + 1.0 / CARD_ROWS)).sqrt();
        let error = binomial.max(score.standard_error);
        Finding::new(
            name,
            format!("share of {facts} facts that novel-mamba-3m knows, {ROWS} rows"),
            Expected::near(card, 3.0 * error),
            score.accuracy(),
        )
    };
    let mut findings: Vec<Finding> = CARD.iter().zip(scores).map(finding).collect();
    let count = |name, what: &str, wanted, found: usize| {
        Finding::new(name, what, Expected::exactly(wanted), found as f64)
    };
    let layers = "layers of novel-mamba-3m that remember in a state";
    findings.push(count("layers", layers, 6.0, sizes.len()));
    findings.push(count(
        "channels",
        "channels of the first of them",
        512.0,
        channels,
    ));
    Ok(findings)
}
