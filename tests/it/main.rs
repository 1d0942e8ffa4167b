//! Integration tests: one binary, one module a subject.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod checkpoint;
mod config;
mod hostile;
mod tiny;
mod tokenizer;
mod weights;
