//! Plays a fleet's life on one machine and prints what it cost. `tests/fleet.sh` builds it and runs this.
#![allow(clippy::print_stdout, reason = "a table on stdout is what this is for")]

use std::process::ExitCode;

/// What there is a promise for.
#[cfg(debug_assertions)]
const DEVICES: usize = 1_000;

#[cfg(debug_assertions)]
fn main() -> ExitCode {
    use std::time::Duration;

    use evenkeel_tests::simulation::{Options, play};

    let devices = std::env::args()
        .nth(1)
        .map_or(Ok(DEVICES), |argument| argument.parse());
    let Ok(devices @ 2..) = devices else {
        println!("usage: fleet [DEVICES]        at least 2");
        return ExitCode::from(2);
    };
    let options = Options {
        devices,
        interval: None,
        trial: Duration::from_secs(10),
    };
    println!("{}", play(&options));
    ExitCode::SUCCESS
}

/// The device in memory is in no build that is like a release.
#[cfg(not(debug_assertions))]
fn main() -> ExitCode {
    println!("this build has no device in memory: tests/fleet.sh makes one that has");
    ExitCode::from(2)
}
