//! The drills: each accepts its own answer, and nothing that is a tenth off.

use mambascope_lessons::course::LESSONS;
use mambascope_lessons::practice::drill::{DRILLS, Drill, DrillError, Response, Task, drill};

const SEEDS: u64 = 200;

/// Answers that are off by the factor, one for each part that can be off.
fn off_by(drill: &Drill, factor: f64) -> Vec<Response> {
    match drill.answer() {
        Response::Number(number) => vec![Response::Number(factor * number)],
        Response::Curve(curve) => {
            vec![Response::Curve(curve.iter().map(|y| factor * y).collect())]
        }
        Response::Code(formulas) => {
            let spoilt = |i: usize| {
                let mut formulas = formulas.clone();
                formulas[i] = format!("{factor} * ({})", formulas[i]);
                Response::Code(formulas)
            };
            (0..formulas.len()).map(spoilt).collect()
        }
    }
}

#[test]
fn every_drill_accepts_its_answer_and_rejects_one_that_is_a_tenth_off() {
    for entry in DRILLS {
        for seed in 0..SEEDS {
            let drill = entry.draw(seed).unwrap();
            let outcome = drill.check(&drill.answer()).unwrap();
            assert!(outcome.correct, "{} {seed}: {outcome:?}", entry.id);
            for factor in [0.9, 1.1] {
                for response in off_by(&drill, factor) {
                    let outcome = drill.check(&response).unwrap();
                    assert!(
                        !outcome.correct,
                        "{} {seed} {factor}: {outcome:?}",
                        entry.id
                    );
                    assert!(outcome.feedback.starts_with("Not yet"));
                }
            }
        }
    }
}

#[test]
fn a_seed_draws_the_same_numbers_and_another_one_others() {
    for entry in DRILLS {
        assert_eq!(entry.draw(7).unwrap(), entry.draw(7).unwrap());
        assert!(LESSONS.iter().any(|lesson| lesson.id == entry.lesson));
        let texts = |seed: u64| entry.draw(seed).unwrap().text;
        let redrawn = (0..20).any(|seed| texts(seed) != texts(99));
        let fixed = entry.topic == "code" && entry.id != "code-size-the-pool";
        assert!(redrawn || fixed, "{}", entry.id);
    }
}

#[test]
fn the_text_and_the_working_hold_numbers() {
    for entry in DRILLS {
        let drill = entry.draw(3).unwrap();
        if std::env::var("SHOW").is_ok() {
            println!(
                "\n## {} ({})\n{}\n-> {}",
                drill.id, entry.title, drill.text, drill.working
            );
            println!("   {:?}", drill.answer());
        }
        assert!(drill.text.len() > 60 && !drill.working.is_empty());
        if let Task::Number(task) = &drill.task {
            assert!(task.tolerance > 0.0 && task.tolerance < 0.1);
            assert!(drill.working.contains("**"), "{}", drill.id);
        }
    }
}

/// The answer of the first seed whose text has all of these.
fn answer(id: &str, has: &[&str]) -> f64 {
    let entry = drill(id).unwrap();
    let mut drills = (0..5_000).map(|seed| entry.draw(seed).unwrap());
    let found = drills.find(|drill| has.iter().all(|part| drill.text.contains(part)));
    match found.unwrap_or_else(|| panic!("{id} {has:?}")).answer() {
        Response::Number(number) => number,
        other => panic!("{other:?}"),
    }
}

fn near(found: f64, wanted: f64) {
    assert!(
        (found - wanted).abs() <= 0.005 * wanted.abs(),
        "{found} {wanted}"
    );
}

#[test]
fn answers_are_those_worked_out_by_hand() {
    let known: &[(&str, &[&str], f64)] = &[
        (
            "drill-state-bytes",
            &["48 layers", "width 1024", "N = 16)", "float32"],
            6.0,
        ),
        (
            "drill-state-bytes",
            &["64 layers", "width 2560", "N = 16)", "bfloat16"],
            10.0,
        ),
        (
            "drill-kv-crossing",
            &["24 layers", "N = 16)", "of 12 layers"],
            76.0,
        ),
        (
            "drill-kv-crossing",
            &["64 layers", "N = 16)", "of 32 layers"],
            76.0,
        ),
        ("drill-break-even-batch", &["width 768", "N = 16:"], 38.4),
        ("drill-mac-share", &["width 768", "N = 16,"], 2.56),
        ("drill-half-life", &["Slot 16 ", "Δ = 0.01."], 4.332),
        ("drill-gate-ladder", &["g = 0.1.", "Slot 16 "], 18.53),
        (
            "drill-hold-threshold",
            &["Slot 1 ", "over 1,000 tokens"],
            -7.274,
        ),
        ("drill-euler-ratio", &["Δ = 1 ", "A = −16"], 16.0),
        (
            "drill-scan-combines",
            &["2048 tokens", "Hillis", "combines"],
            20_481.0,
        ),
        (
            "drill-scan-combines",
            &["2048 tokens", "Blelloch", "rounds"],
            22.0,
        ),
        (
            "drill-ssd-chunk",
            &["N = 128 ", "P = 64.", "computed whole"],
            85.33,
        ),
        ("drill-ssd-chunk", &["N = 128 ", "P = 64.", "causal"], 170.7),
        (
            "drill-fused-bytes",
            &["width 768", "N = 16 ", "2048 tokens"],
            3.96,
        ),
    ];
    for (id, has, wanted) in known {
        near(answer(id, has), *wanted);
    }
}

fn code(id: &str, formulas: &[&str]) -> Result<bool, DrillError> {
    let formulas = formulas.iter().map(|text| (*text).to_owned()).collect();
    let drill = drill(id).unwrap().draw(1).unwrap();
    Ok(drill.check(&Response::Code(formulas))?.correct)
}

#[test]
fn formulas_are_run_and_not_compared_as_texts() {
    let step = |h, y| code("code-write-the-step", &[h, y]);
    assert!(step("x·b·Δ + h·exp(a·Δ)", "h * c").unwrap());
    // Zero-order hold is the paper's rule, not the code's.
    assert!(!step("exp(a*Δ)*h + (exp(a*Δ) - 1)/a * b * x", "c*h").unwrap());
    // Reading the old state, or forgetting to decay.
    assert!(!step("exp(Δ*a)*h + Δ*b*x", "c*(h - Δ*b*x)").unwrap());
    assert!(!step("h + Δ*b*x", "c*h").unwrap());
    assert!(!step("1/0", "c*h").unwrap());
    let error = step("exp(delta * a) * h + delta * b * u", "c * h").unwrap_err();
    let said = error.to_string();
    assert!(
        said.starts_with("new h: at character") && said.contains("\"u\""),
        "{said}"
    );

    let scan = |a, b| code("code-fix-the-scan", &[a, b]);
    assert!(scan("a1*a2", "b2 + a2*b1").unwrap());
    assert!(!scan("a1*a2", "a1*b2 + b1").unwrap());
    assert!(!scan("a2", "a2*b1 + b2").unwrap());
    assert!(!scan("a1 + a2", "b1 + b2").unwrap());
    let starts = match drill("code-fix-the-scan").unwrap().draw(1).unwrap().task {
        Task::Code(task) => [task.fields[0].start, task.fields[1].start],
        other => panic!("{other:?}"),
    };
    assert!(!code("code-fix-the-scan", &starts).unwrap());

    assert!(code("code-derive-the-chunk", &["2/(1/n + 1/p)"]).unwrap());
    assert!(!code("code-derive-the-chunk", &["85.33"]).unwrap());
    assert!(matches!(
        scan("a1", "").unwrap_err(),
        DrillError::Formula { .. }
    ));
    assert!(matches!(
        code("code-fix-the-scan", &["a1"]).unwrap_err(),
        DrillError::Kind { .. }
    ));
}

#[test]
fn a_falcon_on_a_server_takes_nineteen_gibibytes() {
    let entry = drill("code-size-the-pool").unwrap();
    let mut drills = (0..2_000).map(|seed| entry.draw(seed).unwrap());
    let found =
        drills.find(|drill| drill.text.contains("Falcon") && drill.text.contains("512 sessions"));
    let response = Response::Code(vec!["38".into(), "19".into()]);
    assert!(found.unwrap().check(&response).unwrap().correct);
}

#[test]
fn answers_of_another_kind_are_refused() {
    let number = drill("drill-half-life").unwrap().draw(1).unwrap();
    let curve = drill("drill-curve-leak").unwrap().draw(1).unwrap();
    assert!(number.check(&Response::Curve(vec![1.0])).is_err());
    assert!(curve.check(&Response::Number(1.0)).is_err());
    assert!(curve.check(&Response::Curve(vec![1.0])).is_err());
    let outcome = number.check(&Response::Number(f64::NAN)).unwrap();
    assert!(!outcome.correct && outcome.error.is_infinite());
    if let Task::Curve(task) = &curve.task {
        let spoilt = Response::Curve(vec![f64::NAN; task.expected.len()]);
        assert!(!curve.check(&spoilt).unwrap().correct);
        assert!(task.expected.iter().all(|h| (0.0..=1.0).contains(h)));
        assert!(task.expected.last().unwrap() < &0.3);
    }
}
