//! Plays a fleet's life on one machine and prints what it cost. `tests/fleet.sh` builds it and runs this.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a table on stdout is what this is for, and its lines on stderr as they come"
)]

use std::process::ExitCode;

/// What there is a promise for.
#[cfg(debug_assertions)]
const DEVICES: usize = 1_000;

#[cfg(debug_assertions)]
fn main() -> ExitCode {
    use std::time::Duration;

    use evenkeel_tests::simulation::{FEWEST, Options, Scene, play};

    let devices = std::env::args()
        .nth(1)
        .map_or(Ok(DEVICES), |argument| argument.parse());
    let Ok(devices @ FEWEST..) = devices else {
        println!("usage: fleet [DEVICES]        at least {FEWEST}");
        return ExitCode::from(2);
    };
    let options = Options {
        devices,
        trial: Duration::from_secs(10),
        // Below it a device is busier with a new revision than with polls.
        shortest: Duration::from_secs(2),
        scenes: &Scene::ALL,
        told: |row| eprintln!("{row}"),
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
