//! Real parts for tests: signed git repositories, git servers, a registry, container engines, faults, and a device that
//! runs the `evenkeel` binary.
//!
//! Everything listens on loopback, lives in a temporary directory of its own and ends when its value is dropped. A part
//! that is missing makes the test fail and says what to do; nothing is skipped in silence.
//!
//! Limits: Linux, and root for what needs an engine or a mount. `tests/run.sh` provides both.

// A test that cannot go on says so by panicking: that is its report.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test reports by panicking, writes scratch files, and waits"
)]

pub mod answered;
pub mod beside;
pub mod block_log;
pub mod clock;
pub mod control_group;
pub mod device;
pub mod dns;
pub mod dockerd;
pub mod engine;
pub mod engine_proxy;
pub mod faults;
pub mod git_http;
pub mod git_ssh;
pub mod link;
pub mod mounted;
pub mod nspawn;
pub mod options;
pub mod ports;
pub mod proc;
pub mod process;
pub mod proxy;
pub mod registry;
pub mod repo;
#[cfg(debug_assertions)]
pub mod simulation;
pub mod soak;
pub mod tally;

pub use device::{Daemon, Device, Settings};
pub use dockerd::Dockerd;
pub use engine::{Cleanup, Engine};
pub use engine_proxy::{Call, CallFault, EngineProxy};
pub use git_http::{Access, GitHttp, HttpOptions, Room};
pub use git_ssh::GitSsh;
pub use link::Link;
pub use nspawn::Machine;
pub use registry::Registry;
pub use repo::{FleetRepo, Signer};

use std::time::{Duration, Instant};

/// How long anything in a test is waited for before it counts as hung: far above what a busy machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks `probe` again and again until it answers, and gives the answer.
///
/// # Panics
/// When [`PATIENCE`] runs out; `what` is what was waited for.
pub fn wait_for<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    wait_at_most(PATIENCE, what, probe)
}

/// [`wait_for`] with a limit of its own.
///
/// # Panics
/// When the limit runs out.
pub fn wait_at_most<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(
            Instant::now() < end,
            "waited {} s in vain for {what}",
            limit.as_secs()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A temporary directory with a short path, since the path of a Unix socket ends at 107 bytes.
///
/// # Panics
/// When it cannot be made.
pub fn short_tempdir(prefix: &str) -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix(&format!("ek-{prefix}-"))
        .tempdir_in("/tmp")
        .expect("make a temporary directory in /tmp")
}
