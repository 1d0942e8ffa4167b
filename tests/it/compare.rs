//! Several models on one text: losses, the byte ledger, recall; and the cards' figures, measured again.

use std::ops::ControlFlow;
use std::sync::Arc;

use mambascope_core::backend::{Backend, FastBackend, NaiveBackend};
use mambascope_core::checkpoint::{EMBEDDED, Embedded};
use mambascope_core::compare::{CompareJob, Compared, compare, crossing};
use mambascope_core::generate::{Sampling, log_sum_exp};
use mambascope_core::job::{JobError, ModelRef, Progress};
use mambascope_core::model::Model;
use mambascope_core::recall::{RecallError, RecallJob, Words, recall};
use mambascope_core::state::StateBytes;

use crate::support::load;

const TEXT: &str = "The rain had not ceased since noon, and the road to the village lay under water. Mr. Ashby stood at the \
    window of the inn with his hands behind him, and watched the carriage come slowly down the hill.";

pub fn quartet() -> Vec<Arc<Model>> {
    EMBEDDED
        .iter()
        .map(|embedded| Arc::new(embedded.load().unwrap()))
        .collect()
}

fn job(models: &[Arc<Model>], text: &str, write: usize) -> CompareJob {
    CompareJob {
        models: models.iter().cloned().map(ModelRef).collect(),
        backend: "fast".to_owned(),
        text: text.into(),
        write,
        sampling: Sampling::default(),
    }
}

fn run(job: &CompareJob) -> Compared {
    let mut backend = FastBackend::new(1).unwrap();
    compare(job, &mut backend, &mut |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn all_four_siblings_load_and_say_what_their_cards_say() {
    let parameters = [3_152_640, 3_116_688, 4_470_644, 3_688_704];
    for ((model, embedded), parameters) in quartet().iter().zip(&EMBEDDED).zip(parameters) {
        assert_eq!(model.name, embedded.name);
        assert_eq!(model.parameters(), parameters, "{}", model.name);
        assert_eq!(model.warnings, [""; 0], "{}", model.name);
        assert!(model.head.is_none() && model.tokenizer.is_some());
        assert!(model.card.as_ref().unwrap().contains(&model.name));
    }
    assert!(Embedded::named("novel-jamba-4m").is_some() && Embedded::named("gpt").is_none());
}

#[test]
fn losses_are_those_of_a_text_read_alone() {
    let models = quartet();
    let compared = run(&job(&models, TEXT, 0));
    assert!(compared.same_tokens && !compared.cancelled);
    for (lane, model) in compared.lanes.iter().zip(&models) {
        let mut session = NaiveBackend::default().open(model).unwrap();
        let (mut nats, mut bytes) = (0.0, 0);
        for (i, point) in lane.points.iter().enumerate() {
            if i == 0 {
                assert_eq!(point.nats, None);
            } else {
                let scores = session.logits().unwrap();
                nats += f64::from(log_sum_exp(scores) - scores[point.id as usize]);
                bytes += point.bytes as usize;
            }
            session.step(point.id, &mut ()).unwrap();
        }
        let total = lane.total();
        assert_eq!((total.tokens, total.bytes), (lane.points.len() - 1, bytes));
        assert!(
            (total.nats - nats).abs() < 1e-3 * nats,
            "{} {nats}",
            total.nats
        );
        assert!((total.bits_a_byte() - nats / 2f64.ln() / bytes as f64).abs() < 1e-3);
        // Plain prose in the manner of the corpus: all siblings are in the range of their cards.
        assert!(
            (2.0..4.2).contains(&total.nats_a_token()),
            "{} {}",
            model.name,
            total.nats_a_token()
        );
        let text_bytes: usize = lane.points.iter().map(|point| point.bytes as usize).sum();
        assert_eq!(text_bytes, TEXT.len());
    }
}

#[test]
fn the_ledger_is_what_the_buffers_hold() {
    let models = quartet();
    let compared = run(&job(&models, TEXT, 20));
    for lane in &compared.lanes {
        assert!(lane.ledger_agrees(), "{}", lane.model.name);
        let (first, last) = (
            lane.points[0].state,
            lane.points[lane.points.len() - 1].state,
        );
        assert_eq!(
            (first.conv, first.ssm),
            (last.conv, last.ssm),
            "a scan's state does not grow"
        );
        assert_eq!(
            last.kv,
            first.kv * lane.points.len(),
            "a cache grows by a row a token"
        );
        assert_eq!(lane.points.len(), lane.given + 20);
        assert!(!lane.written().is_empty());
    }
    let mut lane = compared.lanes[3].clone();
    lane.points[5].state.kv += 4;
    assert!(!lane.ledger_agrees(), "one value more is seen");
}

#[test]
fn a_cache_passes_a_state_where_the_bytes_say() {
    let models = quartet();
    let [mamba, mamba2, jamba, transformer] = [0, 1, 2, 3].map(|i| &models[i]);
    for (growing, other) in [
        (transformer, mamba),
        (transformer, mamba2),
        (jamba, mamba),
        (transformer, jamba),
    ] {
        let tokens = crossing(growing, other).unwrap();
        let bytes = |model: &Model, tokens| StateBytes::formula(&model.config, tokens).total();
        assert!(bytes(growing, tokens) > bytes(other, tokens));
        assert!(bytes(growing, tokens - 1) <= bytes(other, tokens - 1));
    }
    assert_eq!(crossing(transformer, mamba), Some(31));
    assert_eq!(crossing(mamba, transformer), None);
    assert_eq!(crossing(mamba, mamba2), None);
}

#[test]
fn models_stream_in_step_and_can_be_stopped() {
    let models = quartet();
    let wanted = job(&models, TEXT, 10);
    let mut backend = FastBackend::new(1).unwrap();
    let mut reports = 0;
    let stopped = compare(&wanted, &mut backend, &mut |progress| {
        reports += usize::from(matches!(progress, Progress::Count { .. }));
        if reports < 42 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })
    .unwrap();
    assert!(
        stopped.cancelled && stopped.same_tokens,
        "one token more or less does not make other tokens"
    );
    let lengths: Vec<usize> = stopped.lanes.iter().map(|lane| lane.points.len()).collect();
    assert_eq!(lengths.iter().sum::<usize>(), 42);
    assert!(
        lengths.iter().all(|&length| (10..=11).contains(&length)),
        "{lengths:?}"
    );
    let csv = run(&wanted).csv();
    let lines: Vec<&str> = csv.lines().collect();
    let tokens: usize = run(&wanted)
        .lanes
        .iter()
        .map(|lane| lane.points.len())
        .sum();
    assert_eq!(lines.len(), tokens + 1);
    assert!(lines.iter().all(|line| line.split(',').count() == 10));
}

#[test]
fn attention_rows_are_weights_of_what_came_before() {
    let models = quartet();
    let compared = run(&job(&models, TEXT, 0));
    let layers: Vec<Vec<usize>> = compared
        .lanes
        .iter()
        .map(|lane| lane.attention.keys().copied().collect())
        .collect();
    assert_eq!(layers, [vec![], vec![], vec![4], vec![0, 1, 2, 3]]);
    for (lane, heads) in compared.lanes.iter().zip([0, 0, 6, 4]) {
        for rows in lane.attention.values() {
            assert_eq!(rows.len(), lane.points.len());
            for (token, weights) in rows.iter().enumerate() {
                assert_eq!(weights.len(), heads * (token + 1));
                for head in weights.chunks(token + 1) {
                    let sum: f32 = head.iter().sum();
                    assert!(
                        (sum - 1.0).abs() < 1e-4 && head.iter().all(|&w| w >= 0.0),
                        "{sum}"
                    );
                }
            }
        }
    }
}

#[test]
fn models_of_other_tokenizers_are_compared_by_bytes() {
    let models = [quartet()[0].clone(), load("mamba1-tiny")];
    let compared = run(&job(&models, "1, 2, 3, 4, 5", 0));
    assert!(!compared.same_tokens);
    let refused = CompareJob {
        text: "words are no ids".into(),
        ..job(&models, "", 0)
    };
    let mut backend = FastBackend::new(1).unwrap();
    let error = compare(&refused, &mut backend, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(error, JobError::Prompt(_)), "{error}");
    assert!(error.to_string().starts_with("mamba1-tiny: "), "{error}");
}

/// The figures of the cards: 64 rows each, of other facts.
const CARDS: [[f64; 4]; 4] = [
    [1.000, 0.996, 0.960, 0.678],
    [1.000, 1.000, 0.995, 0.853],
    [1.000, 1.000, 1.000, 1.000],
    [1.000, 1.000, 1.000, 0.998],
];

#[test]
fn recall_agrees_with_the_cards_within_three_standard_errors() {
    let job = RecallJob {
        models: quartet().into_iter().map(ModelRef).collect(),
        backend: "fast".to_owned(),
        facts: vec![4, 16, 64, 96],
        rows: 8,
        seed: 5,
    };
    let mut partial = 0;
    let mut backend = FastBackend::new(2).unwrap();
    let table = recall(&job, &mut backend, &mut |progress| {
        partial += usize::from(matches!(progress, Progress::Partial(_)));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(partial, 16, "a report for every cell");
    for (row, cards) in table.rows.iter().zip(CARDS) {
        let model = &row.model;
        for (score, card) in row.scores.iter().zip(cards) {
            assert_eq!(score.asked, 8 * score.facts);
            let difference = (score.accuracy() - card).abs();
            assert!(
                difference <= 3.0 * score.standard_error,
                "{} at {}: {} against {card}, ± {}",
                model.name,
                score.facts,
                score.accuracy(),
                score.standard_error
            );
        }
    }
    // The recall limit of a fixed state, in real weights.
    let at_96 = |model: usize| table.rows[model].scores[3].accuracy();
    assert!(at_96(0) < 0.8 && at_96(0) < at_96(1) && at_96(1) < at_96(3));
}

#[test]
fn rows_are_facts_and_the_same_facts_again() {
    let model = &quartet()[0];
    let words = Words::of(model).unwrap();
    let tokenizer = model.tokenizer.as_ref().unwrap();
    for facts in [1, 2, 96, 128] {
        let row = words.row(facts, 3, 7).unwrap();
        assert_eq!(
            row,
            words.row(facts, 3, 7).unwrap(),
            "the same seed, the same row"
        );
        assert_ne!(row, words.row(facts, 4, 7).unwrap());
        assert_eq!(
            (row.ids.len(), row.asked_from, row.ids[0]),
            (1 + 6 * facts, 1 + 3 * facts, 0)
        );
        let (first, again) = row.ids[1..].split_at(3 * facts);
        let sorted = |part: &[u32]| -> Vec<Vec<u32>> {
            let mut pairs: Vec<Vec<u32>> = part.chunks(3).map(<[u32]>::to_vec).collect();
            pairs.sort();
            pairs
        };
        assert_eq!(sorted(first), sorted(again));
        let mut keys: Vec<u32> = first.chunks(3).map(|fact| fact[0]).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), facts, "different keys");
        // What is written is what is read: the text of a row has the row's tokens.
        let text = tokenizer.decode(&row.ids);
        assert_eq!(tokenizer.encode(&text).unwrap(), row.ids, "{text}");
    }
    assert!(matches!(
        words.row(129, 0, 0),
        Err(RecallError::Facts { facts: 129 })
    ));
    assert!(matches!(
        words.row(0, 0, 0),
        Err(RecallError::Facts { facts: 0 })
    ));
    assert!(matches!(
        Words::of(&load("mamba1-tiny")),
        Err(RecallError::NoTokenizer { .. })
    ));
}
