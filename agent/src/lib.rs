//! Keeps a device at a signed git branch.
//!
//! Rooms, from the bottom: `domain` (words), `trust`, `select`, `resolve`, `plan`, `gate`, `schedule` (pure deciders),
//! `port` (what the loop needs of the outside), `adapter` (the outside), `cycle`, `apply`, `daemon` (the loop), `cli`.
//! Arrows point down only; a test reads each room's `use` lines.
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests write scratch files and wait"
    )
)]

pub mod adapter;
pub mod cli;
pub mod cycle;
pub mod daemon;
pub mod domain;
pub mod gate;
pub mod plan;
pub mod port;
pub mod resolve;
pub mod schedule;
pub mod select;
pub mod telemetry;
pub mod trust;

// One counter of faults for the tests of both crates.
#[cfg(test)]
#[allow(dead_code, unreachable_pub, reason = "each crate uses its part of it")]
#[path = "../../tests/harness/tally.rs"]
mod tally;
