//! What a server and the devices cost: processor time by /proc, requests and bytes by the server's log.

use std::time::Duration;

use crate::answered::Answered;

/// Processor time of this process, in which all devices are.
pub(super) fn own() -> Duration {
    Duration::from_millis(10)
        * u32::try_from(crate::proc::sample(std::process::id()).ticks).expect("less than a year")
}

/// Requests summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Traffic {
    /// How many.
    pub requests: u64,
    /// Answered with a status from 400 on.
    pub failed: u64,
    /// Bytes of requests.
    pub up: u64,
    /// Bytes of answers.
    pub down: u64,
    /// Requests in the fullest second.
    pub peak: u64,
    /// Within how long 99 of 100 were answered, in seconds.
    pub slow: f64,
}

impl Traffic {
    /// Of these requests.
    pub fn of(all: &[Answered]) -> Self {
        let mut seconds = std::collections::BTreeMap::<i64, u64>::new();
        for one in all {
            // When it came, not when it was done: that is what a herd is.
            *seconds.entry((one.at - one.took) as i64).or_default() += 1;
        }
        let mut took: Vec<f64> = all.iter().map(|one| one.took).collect();
        took.sort_by(f64::total_cmp);
        Self {
            requests: all.len() as u64,
            failed: all.iter().filter(|one| one.status >= 400).count() as u64,
            up: all.iter().map(|one| one.up).sum(),
            down: all.iter().map(|one| one.down).sum(),
            peak: seconds.values().copied().max().unwrap_or(0),
            slow: took.get(took.len() * 99 / 100).copied().unwrap_or(0.0),
        }
    }
}
