//! The device against real parts. One binary; a suite a promise.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test reports by panicking, writes scratch files, and waits"
)]

mod arm;
mod attacks;
mod bad_input;
mod booted;
mod bundles;
mod cli;
mod compose;
mod converge;
mod daemon;
mod differential;
mod engine;
mod fleet;
mod floors;
mod fuzz;
mod gates;
mod guard;
mod handover;
mod harness;
mod heal;
mod idle;
mod images;
mod metered;
mod offline;
mod openpgp;
mod operator;
mod order;
mod packages;
mod published;
mod refuse;
mod remotes;
mod report;
mod rollback;
mod selfupdate;
#[cfg(debug_assertions)]
mod simulation;
mod source;
mod staged;
mod sticks;
mod stirred;
mod systemd;
mod torture;
mod trust;
mod trust_root;
mod verify;
