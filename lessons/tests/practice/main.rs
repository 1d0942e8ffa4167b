//! The interview practice: the bank, the drills, the schedule, the log, the mock interview.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod bank;
mod drills;
mod log;
mod mock;
mod schedule;
