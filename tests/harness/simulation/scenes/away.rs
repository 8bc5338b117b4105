//! Half the fleet cut off, servers that are away, and what comes after.

use std::time::{Duration, Instant};

use super::super::board::Heard;
use super::super::meter::Each;
use super::super::stage::Release;
use super::Play;
use crate::wait_at_most;

/// How many intervals an outage lasts: long enough for every device to have backed off.
const OUTAGE: u32 = 3;
/// How long all may take that ask at once.
const RUSH: Duration = Duration::from_secs(240);

impl Play {
    pub(super) fn half_cut_off(&mut self) {
        let stable = self.stage.stable();
        let split = |all: Vec<usize>| -> (Vec<usize>, Vec<usize>) {
            all.into_iter().partition(|one| stable.contains(one))
        };
        let (away, away_canary) = split(self.stage.beside().collect());
        let (there, there_canary) = split(self.stage.before().collect());
        self.stage.shut_side();
        let begun = Instant::now();
        let released = self.stage.release(Release::Good);
        self.good(&released.commit, there_canary, |index| {
            released.since(index)
        });
        let promoted = self.stage.promote();
        let took = self.good(&promoted.commit, there, |index| promoted.since(index));
        std::thread::sleep((self.interval * OUTAGE).saturating_sub(begun.elapsed()));
        for commit in [&released.commit, &promoted.commit] {
            self.never_seen(commit, self.stage.beside());
        }
        let lasted = begun.elapsed();
        self.stage.open_side();
        let opened = Instant::now();
        let back = self.good(&promoted.commit, away, |_| opened);
        self.good(&released.commit, away_canary, |_| opened);
        self.both(
            &format!(
                "half cut off for {:.0} s; rest promoted",
                lasted.as_secs_f64()
            ),
            |kind| took.get(kind).to_string(),
        );
        self.both("  that half returns, and is up to date", |kind| {
            back.get(kind).to_string()
        });
    }

    pub(super) fn outage(&mut self) {
        self.stage.stop();
        let begun = Instant::now();
        std::thread::sleep(self.interval * OUTAGE);
        self.stage.resume();
        let (lasted, back) = (begun.elapsed(), Instant::now());
        let mark = self.mark();
        self.until("all to have asked again", self.all(), |heard| {
            heard.reached_after(back).is_some()
        });
        let took = self.times(self.all(), |_, heard| {
            let reached = heard.reached_after(back).expect("it waited for that");
            reached.saturating_duration_since(back)
        });
        let seen = self.since(&mark);
        self.is_within_capacity(&seen, "what followed an outage");
        let figures = Each::of(|kind| {
            format!(
                "{}; 99 of 100 answered within {:.2} s",
                self.fullest(&seen, kind),
                seen.servers.get(kind).traffic.slow
            )
        });
        self.both(
            &format!(
                "servers away for {:.0} s; fullest second then",
                lasted.as_secs_f64()
            ),
            |kind| figures.get(kind).clone(),
        );
        self.both("  devices are back after", |kind| {
            took.get(kind).to_string()
        });
    }

    /// What there would be without jitter.
    pub(super) fn all_at_once(&mut self) {
        let mark = self.mark();
        let asked = Instant::now();
        self.fleet.poke(self.all());
        wait_at_most(RUSH, "all to have asked", || {
            let polled = |heard: &Heard| heard.reached_after(asked).is_some();
            (self.fleet.board().count(self.all(), polled) == self.stage.devices).then_some(())
        });
        let took = self.times(self.all(), |_, heard| {
            let reached = heard.reached_after(asked).expect("it waited for that");
            reached.saturating_duration_since(asked)
        });
        let seen = self.since(&mark);
        let figures = Each::of(|kind| {
            let traffic = seen.servers.get(kind).traffic;
            assert_eq!(traffic.failed, 0, "requests that failed");
            format!("{}; done: {}", self.fullest(&seen, kind), took.get(kind))
        });
        self.both("no jitter: all ask at once (SIGHUP)", |kind| {
            figures.get(kind).clone()
        });
    }
}
