//! The wall clock, and what is known of it.
//!
//! Limits: "synchronised" is systemd-timesyncd's word (a flag file that it makes after its first good answer and that
//! does not survive a boot), or a flag file of the owner's own for chrony, ntpd, PTP or GNSS: the kernel's own word
//! (adjtimex) cannot be asked without unsafe code. Without either the answer is no, which only means that a commit's
//! time does not raise the stored time floor.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::revision::Timestamp;
use crate::port::clock::Clock;

/// Files under `/run` that a time service makes once it has set the clock.
const SYNCHRONISED: [&str; 2] = [
    "/run/systemd/timesync/synchronized",
    // For a unit of the owner's own, `After=time-sync.target` or after a GNSS fix.
    "/run/evenkeel/clock-synchronised",
];

/// What systemd-timesyncd makes when it starts.
const TIME_SERVICE: &str = "/run/systemd/timesync";

/// The system's clock.
#[derive(Debug, Clone)]
pub struct SystemClock {
    boot_id: String,
}

impl SystemClock {
    /// Reads the boot's id once; it does not change while we run.
    #[must_use]
    pub fn new() -> Self {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|text| text.trim().to_owned())
            .unwrap_or_default();
        Self { boot_id }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[cfg_attr(
        not(test),
        expect(clippy::disallowed_methods, reason = "this is the Clock")
    )]
    fn now(&self) -> Timestamp {
        let seconds = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
        };
        Timestamp(seconds)
    }

    fn is_synchronised(&self) -> bool {
        SYNCHRONISED.iter().any(|path| Path::new(path).exists())
    }

    fn awaits_time(&self) -> bool {
        !self.is_synchronised() && Path::new(TIME_SERVICE).exists()
    }

    fn build_time(&self) -> Timestamp {
        Timestamp(env!("EVENKEEL_BUILD_TIME").parse().unwrap_or(0))
    }

    fn boot_id(&self) -> String {
        self.boot_id.clone()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_clock_shows_no_less_than_the_build_and_knows_its_boot() {
        let clock = SystemClock::new();
        assert!(clock.build_time() > Timestamp(1_700_000_000));
        assert!(clock.now() >= clock.build_time());
        assert_eq!(clock.boot_id().len(), 36);
    }
}
