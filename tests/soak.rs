//! Prints what the agent costs over thousands of passes with churn: a search for slow leaks. `tests/soak.sh` builds the
//! release binary and runs this beside real servers.
#![allow(clippy::print_stdout, reason = "a table on stdout is what this is for")]

use std::process::ExitCode;

use evenkeel_tests::Engine;
use evenkeel_tests::soak::{grown, soak};

/// Polls of a week, one a minute: seven times what a day has.
const PASSES: u64 = 10_000;

/// By how many per cent resident memory may differ between two quarters of a run as long as that.
const MEMORY: u64 = 10;

fn main() -> ExitCode {
    let passes = std::env::args()
        .nth(1)
        .map_or(Ok(PASSES), |argument| argument.parse());
    let Ok(passes) = passes else {
        println!("usage: soak [PASSES]");
        return ExitCode::from(2);
    };
    let engine = std::env::var_os("EVENKEEL_TEST_DOCKER").map(|_| Engine::docker());
    println!(
        "{:>8} {:>10} {:>10} {:>8} {:>12} {:>12} {:>12}",
        "passes", "RSS kB", "PSS kB", "threads", "descriptors", "state kB", "state files"
    );
    let looks = soak(passes, engine.as_ref(), |look| {
        println!(
            "{:>8} {:>10} {:>10} {:>8} {:>12} {:>12} {:>12}",
            look.passes,
            look.process.rss / 1000,
            look.process.pss / 1000,
            look.process.threads,
            look.process.descriptors.len(),
            look.state_bytes / 1000,
            look.state_files
        );
    });
    let grown = grown(&looks, MEMORY);
    if grown.is_empty() {
        println!("\nflat: nothing grew between the second quarter of the run and the last one");
        return ExitCode::SUCCESS;
    }
    println!("\ngrown: {}", grown.join("; "));
    ExitCode::FAILURE
}
