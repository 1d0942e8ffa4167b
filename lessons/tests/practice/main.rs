//! The interview practice: the bank, the drills, the schedule, the log, the mock interview.

mod bank;
mod drills;
mod log;
mod mock;
mod schedule;
