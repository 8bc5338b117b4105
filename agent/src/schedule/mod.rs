//! When to wake up next: jitter, back-off. Pure; chance and failures are arguments.

pub mod budget;
pub mod curve;
pub mod remotes;
pub mod rollout;
pub mod starts;
pub mod window;

use std::time::Duration;

/// No back-off waits longer: a device whose network comes back is at most this late.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(15 * 60);
/// The jitter's width to each side, in thousandths: so that ten thousand devices do not ask in the same second.
const JITTER: u32 = 100;
/// Over how long a fleet begins with what it may begin at one moment, where it polls more seldom than that. 5 min: a window of
/// half an hour still has most of its time.
const SPREAD: Duration = Duration::from_secs(5 * 60);
/// The first deferral of a revision.
const FIRST_DEFERRAL: Duration = Duration::from_secs(60);
/// The longest deferral of a revision.
const LONGEST_DEFERRAL: Duration = Duration::from_secs(24 * 60 * 60);

/// A draw of chance: thousandths of the way from the earliest to the latest moment, 0 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jitter(u32);

impl Jitter {
    /// A fixed draw, at most 1000.
    #[must_use]
    pub const fn fixed(thousandths: u32) -> Self {
        Self(if thousandths > 1000 {
            1000
        } else {
            thousandths
        })
    }

    /// A fresh draw.
    #[must_use]
    pub fn random() -> Self {
        Self(fastrand::u32(0..=1000))
    }

    /// So long, and up to `spread` more.
    #[must_use]
    pub fn after(self, wait: Duration, spread: Duration) -> Duration {
        wait + spread * self.0 / 1000
    }
}

/// The time until the next poll: the interval, doubled for each failure in a row after the first up to
/// [`LONGEST_BACKOFF`] (an interval that is longer is kept), plus or minus 10 %.
#[must_use]
pub fn next_wake(interval: Duration, failures: u32, jitter: Jitter) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let longest = LONGEST_BACKOFF.max(interval);
    let base = interval.saturating_mul(1 << doublings).min(longest);
    base.saturating_mul(1000 - JITTER + jitter.0 * 2 * JITTER / 1000) / 1000
}

/// The time until the next poll where something that is held back may begin after `left`, perhaps on a whole fleet at once. A
/// poll that comes by itself within an interval of that moment is soon enough, and as spread out as all polls are; one that
/// would come later comes within [`SPREAD`] of it.
#[must_use]
pub fn next_wake_held(
    wait: Duration,
    left: Duration,
    interval: Duration,
    jitter: Jitter,
) -> Duration {
    let spread = interval.min(SPREAD);
    if wait <= left + spread {
        wait
    } else {
        jitter.after(left, spread)
    }
}

/// How long a revision is put off after so many deferrals in a row: from a minute, doubling, to a day.
#[must_use]
pub fn deferral(times: u32) -> Duration {
    let doublings = times.saturating_sub(1).min(16);
    FIRST_DEFERRAL
        .saturating_mul(1 << doublings)
        .min(LONGEST_DEFERRAL)
}

/// How long a deferral that another process wrote down still lasts, so many seconds before its end by the wall clock:
/// never longer than it was made, for the clock may have jumped back by years meanwhile.
#[must_use]
pub fn deferral_left(times: u32, seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(deferral(times))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_failures_the_interval_is_kept_within_a_tenth() {
        let minute = Duration::from_secs(60);
        assert_eq!(next_wake(minute, 0, Jitter::fixed(500)), minute);
        assert_eq!(
            next_wake(minute, 0, Jitter::fixed(0)),
            Duration::from_secs(54)
        );
        assert_eq!(
            next_wake(minute, 0, Jitter::fixed(1000)),
            Duration::from_secs(66)
        );
    }

    #[test]
    fn failures_double_the_wait_up_to_fifteen_minutes() {
        let minute = Duration::from_secs(60);
        let at = |failures| next_wake(minute, failures, Jitter::fixed(500)).as_secs();
        assert_eq!(
            [at(1), at(2), at(3), at(4), at(5), at(40)],
            [60, 120, 240, 480, 900, 900]
        );
    }

    #[test]
    fn an_interval_beyond_the_ceiling_is_not_shortened_by_failures() {
        let hour = Duration::from_secs(3600);
        assert_eq!(next_wake(hour, 9, Jitter::fixed(500)), hour);
    }

    #[test]
    fn what_a_fleet_may_begin_at_one_moment_makes_no_more_polls_a_second_than_any_other() {
        let second = Duration::from_secs(1);
        let minute = Duration::from_secs(60);
        // A thousand devices that poll each minute, anywhere in it; what holds them ends in 20 s.
        let mut seconds = std::collections::BTreeMap::<u64, u32>::new();
        for device in 0..1000 {
            let wait = minute * device / 1000;
            let jitter = Jitter::fixed(device * 7919 % 1000);
            let at = next_wake_held(wait, second * 20, minute, jitter);
            *seconds.entry(at.as_secs()).or_default() += 1;
        }
        assert!(seconds.values().all(|polls| *polls <= 17), "{seconds:?}");
    }

    #[test]
    fn a_device_that_polls_seldom_comes_within_minutes_of_its_moment() {
        let hour = Duration::from_secs(3600);
        let at = |draw| next_wake_held(hour * 9, hour, hour * 10, Jitter::fixed(draw));
        assert_eq!(at(0), hour);
        assert_eq!(at(1000), hour + SPREAD);
    }

    #[test]
    fn a_deferral_grows_from_a_minute_to_a_day() {
        assert_eq!(deferral(1), Duration::from_secs(60));
        assert_eq!(deferral(2), Duration::from_secs(120));
        assert_eq!(deferral(99), Duration::from_secs(86400));
    }

    #[test]
    fn what_is_left_of_a_deferral_is_never_more_than_all_of_it() {
        let left = |seconds| deferral_left(2, seconds).as_secs();
        assert_eq!(
            [left(-5), left(0), left(50), left(120), left(400_000_000)],
            [0, 0, 50, 120, 120]
        );
        assert_eq!(deferral_left(1, i64::MIN), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn the_wait_never_leaves_its_bounds(seconds in 1u64..100_000, failures in 0u32..100, draw in 0u32..2000) {
            let interval = Duration::from_secs(seconds);
            let wait = next_wake(interval, failures, Jitter::fixed(draw));
            prop_assert!(wait >= interval * 9 / 10);
            prop_assert!(wait <= LONGEST_BACKOFF.max(interval) * 11 / 10);
        }
    }
}
