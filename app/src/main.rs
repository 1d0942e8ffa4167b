//! Entry point: a command, or the window.

use std::process::ExitCode;

fn main() -> ExitCode {
    mambascope::commands::main()
}
