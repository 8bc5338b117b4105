//! When all remotes are asked, and not the first that answers alone. Pure.

use std::time::Duration;

use super::{Jitter, LONGEST_BACKOFF, next_wake};

/// While nothing moves: a remote that was forked or kept back is found out within this time, for some hundred bytes.
const COMPARED_EVERY: Duration = Duration::from_secs(60 * 60);

/// The time until all remotes are asked again, where no tip moves. `doubts`: how often in a row they did not agree.
#[must_use]
pub fn next_comparison(interval: Duration, doubts: u32, jitter: Jitter) -> Duration {
    if doubts == 0 {
        next_wake(interval.max(COMPARED_EVERY), 0, jitter)
    } else {
        // From two intervals on: what is behind is often there at the next poll.
        next_wake(interval, doubts.saturating_add(1), jitter)
            .min(COMPARED_EVERY.max(LONGEST_BACKOFF))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes_that_agree_are_compared_hourly_and_those_that_do_not_sooner() {
        let minute = Duration::from_secs(60);
        let at = |doubts| next_comparison(minute, doubts, Jitter::fixed(500)).as_secs();
        assert_eq!([at(0), at(1), at(2), at(9)], [3600, 120, 240, 900]);
        let day = Duration::from_secs(24 * 3600);
        assert_eq!(next_comparison(day, 0, Jitter::fixed(500)), day);
    }
}
