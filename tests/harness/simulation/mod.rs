//! A fleet on one machine: hundreds of agents in one process against a real git server, and a real web server that has the
//! published tree.
//!
//! Real: the loop (`daemon::Daemon`) with its schedule, jitter and back-off; the cycle; the source with its TLS, its
//! store of git objects and its checks; signatures; `evenkeel promote` and `publish`; the servers and the logs that requests and bytes
//! are read from. In memory: the engine, the files, the service manager and the journal of each device. Time is the
//! machine's own, so intervals are shortened: the ratios of a fleet that polls each minute are kept, its hours are not.
//!
//! Limits: server and devices share the machine's processors, and loopback has no latency and loses nothing. An agent
//! here shares its process with all others: what one costs alone is for `tests/measure.sh` to tell.

mod board;
mod costs;
mod device;
mod meter;
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

/// The smallest fleet: so many that each ring has devices of both servers, by both doors.
pub const FEWEST: usize = 16;

/// What is played after the first start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// Polls that find nothing new.
    Idle,
    /// A release to the ring `canary`, and its promotion to `stable`.
    Promotion,
    /// A release that never gets healthy.
    BadRevision,
    /// A promotion in waves; once [`Scene::Promotion`] has shown how long one takes.
    Waves,
    /// Half of the devices miss a promotion.
    HalfCutOff,
    /// Both servers are away, and come back.
    Outage,
    /// All devices ask in the same moment.
    AllAtOnce,
}

impl Scene {
    /// All of them, in the order of a whole play.
    pub const ALL: [Self; 7] = [
        Self::Idle,
        Self::Promotion,
        Self::BadRevision,
        Self::Waves,
        Self::HalfCutOff,
        Self::Outage,
        Self::AllAtOnce,
    ];
}

/// How large and how fast.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Devices.
    pub devices: usize,
    /// For how long each server's capacity is measured. The time between two polls of a device comes of it: git's server is
    /// busy for [`LOAD`] of its time.
    pub trial: Duration,
    /// The shortest time between two polls all the same.
    pub shortest: Duration,
    /// What is played.
    pub scenes: &'a [Scene],
    /// Who is told of each line as soon as there is one: a play of a thousand takes minutes.
    pub told: fn(&Row),
}

/// The share of a server's capacity that a fleet's polls take where nothing is given: what somebody would plan with.
pub const LOAD: f64 = 0.3;

/// Plays these scenes, and gives what they showed.
///
/// # Panics
/// Where one of them does not hold.
pub fn play(options: &Options<'_>) -> Table {
    scenes::play(options)
}
