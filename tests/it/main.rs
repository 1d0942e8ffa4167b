//! Integration tests: one binary, one module a subject.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod architecture;
mod checkpoint;
mod cli;
mod config;
mod engine;
mod export;
mod goldens;
mod hostile;
mod memory;
mod parity;
mod scans;
mod state;
mod support;
mod tiny;
mod tokenizer;
mod watch;
mod weights;
mod window;
