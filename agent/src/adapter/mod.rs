//! The outside, each part behind its port. Adapters see ports and domain, never each other and never the loop.
//!
//! `durable` and `state_dir` are what they stand on: our own files, with no port of their own.

pub mod clock;
mod durable;
pub mod engine;
pub mod files;
pub mod git;
pub mod git_local;
pub mod journal;
pub mod probes;
pub mod report;
pub mod state_dir;
pub mod units;
