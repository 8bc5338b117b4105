//! Containers that the engine starts again and again: between two of their ends they run, and look well to who looks then.
//!
//! Counts the engine's own restarts over the last minutes of monotonic time, from look to look, in memory. Limits: what
//! happened before the agent started is not known, and a container without a restart policy is not restarted at all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

/// How far back restarts count: the engine waits up to a minute between two of them.
const WINDOW: Duration = Duration::from_secs(300);
/// So many in that time are no accident.
const MANY: u64 = 2;

/// What was seen of each container, by the engine's id: when its count of restarts was first seen to be so.
#[derive(Debug, Default)]
pub(super) struct Restless {
    counts: BTreeMap<String, Vec<(Instant, u64)>>,
}

impl Restless {
    /// Takes a look at all containers: their ids, and how often the engine has restarted each. Returns those that keep ending.
    pub(super) fn look<'a>(
        &mut self,
        all: impl Iterator<Item = (&'a str, u64)>,
        now: Instant,
    ) -> BTreeSet<String> {
        let mut before = std::mem::take(&mut self.counts);
        let mut found = BTreeSet::new();
        for (id, restarts) in all {
            let mut counts = before.remove(id).unwrap_or_default();
            // Started by hand: the engine counts from nothing again.
            if counts.last().is_some_and(|(_, last)| *last > restarts) {
                counts.clear();
            }
            if counts.last().is_none_or(|(_, last)| *last < restarts) {
                counts.push((now, restarts));
            }
            // The newest that is older than the window says what the count was when it began.
            while counts.len() > 1 && now.duration_since(counts[1].0) >= WINDOW {
                counts.remove(0);
            }
            let grown = restarts.saturating_sub(counts.first().map_or(restarts, |first| first.1));
            if grown >= MANY {
                found.insert(id.to_owned());
            }
            self.counts.insert(id.to_owned(), counts);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(restless: &mut Restless, start: Instant, second: u64, restarts: u64) -> bool {
        let now = start + Duration::from_secs(second);
        restless.look([("one", restarts)].into_iter(), now).len() == 1
    }

    #[test]
    fn a_container_that_was_restarted_long_ago_or_once_is_at_rest() {
        let (mut restless, start) = (Restless::default(), Instant::now());
        assert!(!look(&mut restless, start, 0, 7));
        assert!(!look(&mut restless, start, 60, 7));
        assert!(!look(&mut restless, start, 120, 8));
        assert!(!look(&mut restless, start, 500, 8));
        assert!(!look(&mut restless, start, 560, 9));
    }

    #[test]
    fn a_container_that_the_engine_starts_once_a_minute_is_not_and_is_again_when_it_stays() {
        let (mut restless, start) = (Restless::default(), Instant::now());
        let seen: Vec<bool> = (0..8)
            .map(|n| look(&mut restless, start, 60 * n, n))
            .collect();
        assert_eq!(seen[..4], [false, false, true, true]);
        assert!(seen[4..].iter().all(|one| *one));
        assert!(look(&mut restless, start, 600, 7));
        assert!(!look(&mut restless, start, 800, 7));
        // Started by hand.
        assert!(!look(&mut restless, start, 801, 0));
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let (mut restless, start) = (Restless::default(), Instant::now());
        look(&mut restless, start, 0, 0);
        restless.look(std::iter::empty(), start);
        assert!(restless.counts.is_empty());
    }
}
