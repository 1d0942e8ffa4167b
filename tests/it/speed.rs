//! Measured speeds, and models in other number formats.

use std::ops::ControlFlow;
use std::sync::Arc;

use mambascope_core::backend::{FastBackend, NaiveBackend};
use mambascope_core::job::{Answer, Job, JobError, ModelRef, Progress, Workshop};
use mambascope_core::precision::{PrecisionStudy, coarser_forms};
use mambascope_core::speed::{Speed, SpeedStudy, spread_ids};
use mambascope_core::study::Study;
use mambascope_core::tensor::Dtype;

use crate::support::embedded;

fn workshop() -> Workshop {
    Workshop::new(vec![
        Box::new(FastBackend::new(0).unwrap()),
        Box::new(NaiveBackend::default()),
    ])
}

fn study(backend: &str) -> SpeedStudy {
    SpeedStudy {
        model: ModelRef(embedded()),
        backend: backend.to_owned(),
    }
}

fn check(speed: &Speed) {
    let reach = speed.reach.unwrap();
    let numbers = [
        speed.prefill_tokens_per_s,
        speed.decode_tokens_per_s,
        reach.limits.bandwidth_bytes_per_s,
        reach.limits.gemm_flops_per_s,
        reach.decode_share,
        reach.prefill_share,
    ];
    for number in numbers {
        assert!(number.is_finite() && number > 0.0, "{speed:?}");
    }
    assert!(reach.prefill_share < 1.5, "{speed:?}");
    assert!(reach.threads > 0 && speed.turns > 0 && speed.prompt > 0);
}

#[test]
fn speeds_are_numbers_and_no_better_than_the_machine() {
    for name in ["fast", "naive"] {
        let mut reports = 0;
        let progress = &mut |progress: Progress| {
            if let Progress::Count { done, total, .. } = progress {
                assert!(done <= total, "{done} of {total}");
                reports += 1;
            }
            ControlFlow::Continue(())
        };
        let speed = study(name).compute(&mut workshop(), progress).unwrap();
        assert!(reports > 30, "{reports}");
        check(&speed);
        // Six megabytes may lie in a cache, which is a few times as quick as memory.
        assert!(speed.reach.unwrap().decode_share < 10.0, "{speed:?}");
        assert_eq!(speed.weight_bytes, embedded().stored_bytes());
        println!("{speed:?}");
    }
}

#[test]
fn a_measurement_can_be_stopped() {
    let stop = &mut |_| ControlFlow::Break(());
    let found = study("fast").compute(&mut workshop(), stop);
    assert!(matches!(found, Err(JobError::Backend(_))), "{found:?}");
    // After a whole turn there is something to tell.
    let mut best = 0;
    let late = &mut |progress: Progress| match progress {
        Progress::Count { done, total, .. } if done * 2 > total => ControlFlow::Break(()),
        Progress::Count { done, .. } => {
            best = best.max(done);
            ControlFlow::Continue(())
        }
        Progress::Partial(_) => ControlFlow::Continue(()),
    };
    let speed = study("fast").compute(&mut workshop(), late).unwrap();
    assert_eq!(speed.turns, 1);
    check(&speed);
    let study = PrecisionStudy {
        model: ModelRef(embedded()),
    };
    let forms = study.compute(&mut workshop(), stop).unwrap();
    assert_eq!(forms.len(), 1, "only the first was begun");
}

#[test]
fn spread_ids_lie_in_the_vocabulary() {
    let ids = spread_ids(50, 500);
    assert_eq!(ids.len(), 500);
    assert!(ids.iter().all(|&id| id < 50));
    assert!((0..50).all(|id| ids.contains(&id)));
}

#[test]
fn a_model_is_brought_to_another_format_and_back() {
    let stored = embedded();
    let mut workshop = workshop();
    let mut recast = |dtype| {
        let model = ModelRef(Arc::clone(&stored));
        let keep = false;
        let job = Job::Recast { model, dtype, keep };
        match workshop.run(&job, &mut |_| ControlFlow::Continue(())) {
            Ok(Answer::Model(model)) => model,
            other => panic!("{other:?}"),
        }
    };
    for (dtype, rounds) in coarser_forms(stored.main_dtype()) {
        if rounds || dtype == stored.main_dtype() {
            continue;
        }
        let form = recast(Some(dtype));
        assert_eq!(form.main_dtype(), dtype);
        assert_eq!(form.stored_bytes(), stored.bytes_as(dtype));
        assert!(form.stored_bytes() < stored.stored_bytes());
        assert!(form.name.starts_with(&stored.name) && form.name != stored.name);
        assert!(form.tokenizer.is_some() && form.card == stored.card);
    }
    assert!(Arc::ptr_eq(&recast(None), &stored));
    assert_eq!(stored.bytes_as(stored.main_dtype()), stored.stored_bytes());
}

#[test]
fn bringing_a_model_to_another_format_can_be_stopped() {
    let model = ModelRef(embedded());
    let job = Job::Recast {
        model,
        dtype: Some(Dtype::Int8),
        keep: false,
    };
    let found = workshop().run(&job, &mut |_| ControlFlow::Break(()));
    assert!(found.is_err_and(|error| error.to_string().contains("stopped")));
}
