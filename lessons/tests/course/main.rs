//! The lessons: their demos, their experiments, their pages, and the notebook around them.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod bank;
mod demos;
mod notebook;
mod numbers;
mod pages;
mod practice;

use std::sync::Arc;

use mambascope_core::backend::{FastBackend, NaiveBackend};
use mambascope_core::checkpoint::embedded;
use mambascope_core::job::{ModelRef, Workshop};
use mambascope_lessons::demo::Around;

/// The embedded model and the quick backend, which pages open with.
fn around() -> Around {
    Around {
        model: Some(ModelRef(Arc::new(embedded().unwrap()))),
        backend: "fast".to_owned(),
    }
}

fn workshop() -> Workshop {
    Workshop::new(vec![
        Box::new(NaiveBackend::default()),
        Box::new(FastBackend::new(2).unwrap()),
    ])
}
