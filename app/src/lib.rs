//! The Mambascope program: its window and its commands. No model is run here: that is the worker's, in the core.

pub mod backends;
mod clock;
pub mod commands;
pub mod window;
