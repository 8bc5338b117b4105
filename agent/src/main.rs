//! The one binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(evenkeel::cli::main())
}
