//! The Mambascope program: its window and its commands. Nothing numeric happens here.

pub mod backends;
pub mod commands;
pub mod window;
