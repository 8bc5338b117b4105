//! The device against real parts. One binary; a suite a promise.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test reports by panicking"
)]

mod floors;
mod harness;
mod systemd;
