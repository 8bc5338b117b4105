//! A fleet on one machine: hundreds of agents in one process against one real server.
//!
//! Real: the loop (`daemon::Daemon`) with its schedule, jitter and back-off; the cycle; the source with its TLS, its
//! store of git objects and its checks; signatures; `evenkeel promote`; the server and the log that requests and bytes
//! are read from. In memory: the engine, the files, the service manager and the journal of each device. Time is the
//! machine's own, so intervals are shortened: the ratios of a fleet that polls each minute are kept, its hours are not.
//!
//! Limits: server and devices share the machine's processors, and loopback has no latency and loses nothing. An agent
//! here shares its process with all others: what one costs alone is for `tests/measure.sh` to tell.

mod board;
mod costs;
mod device;
mod scenes;
mod stage;
mod switchboard;
mod table;

use std::time::Duration;

pub use board::{Board, Heard};
pub use costs::Traffic;
pub use device::Blueprint;
pub use switchboard::Switchboard;
pub use table::{Row, Table};

/// How large and how fast.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Devices.
    pub devices: usize,
    /// Time between the polls of each; where none is given, one at which the server is busy for [`LOAD`] of its time.
    pub interval: Option<Duration>,
    /// For how long the server's capacity is measured.
    pub trial: Duration,
}

/// The share of a server's capacity that a fleet's polls take where nothing is given: what somebody would plan with.
pub const LOAD: f64 = 0.3;

/// Plays all scenes, and gives what they showed.
///
/// # Panics
/// Where one of them does not hold.
pub fn play(options: &Options) -> Table {
    scenes::play(options)
}
