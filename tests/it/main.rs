//! Integration tests: one binary, one module a subject.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod checkpoint;
mod config;
mod goldens;
mod hostile;
mod parity;
mod scans;
mod support;
mod tiny;
mod tokenizer;
mod weights;
mod window;
