//! The mock interview.

use mambascope_lessons::practice::bank::{Bank, Level};
use mambascope_lessons::practice::mock::{Answered, MINUTES, Plan, report};
use mambascope_lessons::practice::schedule::Rating;

use crate::bank::question;

fn bank() -> Bank {
    let of = |topic: &str| -> String {
        let levels = ["basic", "intermediate", "advanced"]
            .into_iter()
            .enumerate();
        levels
            .flat_map(|(i, level)| (0..4).map(move |k| (i, level, k)))
            .map(|(i, level, k)| question(&format!("{topic}-{i}-{k}"), level, ""))
            .collect()
    };
    let texts = ["a", "b", "c"].map(|topic| (format!("{topic}.toml"), of(topic)));
    let files: Vec<(&str, &str)> = texts
        .iter()
        .map(|(n, t)| (n.as_str(), t.as_str()))
        .collect();
    Bank::parse(&files).unwrap()
}

#[test]
fn a_plan_fills_half_an_hour_with_mixed_levels_and_topics() {
    let bank = bank();
    for seed in 0..50 {
        let plan = Plan::new(&bank, seed, MINUTES);
        assert!(
            (1740..=1800).contains(&plan.seconds()),
            "{}",
            plan.seconds()
        );
        for level in Level::ALL {
            assert!(
                plan.questions
                    .iter()
                    .any(|question| question.level == level)
            );
        }
        for topic in ["a", "b", "c"] {
            assert!(
                plan.questions
                    .iter()
                    .any(|question| question.topic == topic)
            );
        }
        let mut ids: Vec<&str> = plan.questions.iter().map(|q| q.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), plan.questions.len());
        assert_eq!(plan, Plan::new(&bank, seed, MINUTES));
    }
    assert_ne!(
        Plan::new(&bank, 1, 30).questions,
        Plan::new(&bank, 2, 30).questions
    );
    assert!(Plan::new(&Bank::default(), 1, 30).questions.is_empty());
}

#[test]
fn the_report_holds_what_was_written_beside_the_model_answer() {
    let bank = bank();
    let plan = Plan::new(&bank, 5, MINUTES);
    let answers = [Answered {
        id: plan.questions[0].id.clone(),
        text: "It leaks.\n\n# not a heading".into(),
        seconds: 95.0,
        grade: Some(Rating::Good),
    }];
    let text = report(&bank, &plan, &answers, "1 May");
    assert!(text.starts_with("# Mock interview, 1 May"));
    assert!(text.contains("> It leaks.\n> \n> # not a heading"));
    assert!(text.contains("| 1:35 |") && text.contains("| good |"));
    assert!(text.contains("It asks for $x$.") && text.contains("> (nothing)"));
    assert!(text.contains("1 graded good or easy"));
    assert_eq!(
        text.matches("**Model answer**").count(),
        plan.questions.len()
    );
}
