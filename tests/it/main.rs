//! Integration tests: one binary, one module a subject.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod architecture;
mod checkpoint;
mod cli;
mod compare;
mod config;
mod cuda;
mod cuda_scans;
mod engine;
mod export;
mod families;
mod fused;
mod goldens;
mod hostile;
mod kept;
mod memory;
mod original;
mod parity;
// Windows does not let a test put the data folder elsewhere, and the learner's own is not to be written to.
#[cfg(not(windows))]
mod quiz;
mod s4;
mod scans;
mod speed;
mod ssd;
mod state;
mod support;
mod synthetic;
mod tiny;
mod tokenizer;
mod traps;
mod watch;
mod weights;
mod window;
