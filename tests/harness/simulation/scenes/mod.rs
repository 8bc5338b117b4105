//! The scenes, one after the other, each with its checks.

mod away;
mod waves;

use std::ops::Range;
use std::time::{Duration, Instant};

use super::board::Heard;
use super::meter::{Each, Mark, Window, capacity};
use super::stage::{KINDS, Kind, Release, Stage};
use super::table::{Table, Times};
use super::{LOAD, Options, Scene, Switchboard};

/// How long idle polls are counted at least: those that begin before it and end in it, or the other way round, are then few.
const QUIET: Duration = Duration::from_secs(6);

struct Play {
    // Before the stage, so that nobody writes into a store that is being removed.
    fleet: Switchboard,
    stage: Stage,
    interval: Duration,
    /// Requests a second, as measured before.
    capacity: Each<f64>,
    table: Table,
    began: Instant,
    /// How long it took from a release until its promotion had reached the last device.
    promoting: Duration,
}

pub(super) fn play(options: &Options<'_>) -> Table {
    let began = Instant::now();
    let stage = Stage::new(options.devices);
    let capacity = Each::of(|kind| capacity(&stage, kind, options.trial));
    let asking = stage.asking(Kind::Git).count() as f64;
    let busy = asking * Kind::Git.requests() / (LOAD * capacity.get(Kind::Git));
    // In half seconds.
    let interval = Duration::from_millis((busy * 2.0).ceil() as u64 * 500).max(options.shortest);
    let switched_on = Instant::now();
    let blueprints = stage.blueprints(interval, interval * 2);
    let after: Vec<Duration> = blueprints.iter().map(|one| one.after).collect();
    let mut play = Play {
        table: Table {
            title: format!(
                "{} agents ({} in the ring canary, {} in stable): every other one asks a git server, the rest a web server with the \
                 published tree, all over HTTPS;\npolls every {:.1} s +/- 10 %, {} processors for all",
                options.devices,
                stage.canary().len(),
                stage.stable().len(),
                interval.as_secs_f64(),
                std::thread::available_parallelism().map_or(1, usize::from),
            ),
            rows: Vec::new(),
            told: options.told,
        },
        fleet: Switchboard::start(blueprints),
        stage,
        interval,
        capacity,
        began,
        promoting: Duration::ZERO,
    };
    play.first_start(switched_on, &after);
    for scene in options.scenes {
        match scene {
            Scene::Idle => play.idle(),
            Scene::Promotion => play.promotion(),
            Scene::BadRevision => play.bad_revision(),
            Scene::Waves => play.waves(),
            Scene::HalfCutOff => play.half_cut_off(),
            Scene::Outage => play.outage(),
            Scene::AllAtOnce => play.all_at_once(),
        }
    }
    play.nothing_was_refused();
    play.table.row(
        "all of it",
        format!("took {:.0} s", play.began.elapsed().as_secs_f64()),
    );
    play.table
}

fn sleep_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
}

impl Play {
    fn all(&self) -> Range<usize> {
        0..self.stage.devices
    }

    fn mark(&self) -> Mark {
        Mark::now(&self.stage, self.fleet.board())
    }

    fn since(&self, mark: &Mark) -> Window {
        mark.since(&self.stage, self.fleet.board())
    }

    /// Requests a second at a server, were polls perfectly even.
    fn mean(&self, kind: Kind) -> f64 {
        let asking = self.stage.asking(kind).count() as f64;
        asking * kind.requests() / self.interval.as_secs_f64()
    }

    /// Waits until this is true of all these devices; ends red where it does not become so.
    fn until(
        &self,
        what: &str,
        devices: impl IntoIterator<Item = usize> + Clone,
        is: impl Fn(&Heard) -> bool,
    ) {
        let begun = Instant::now();
        let limit = self.interval * 12 + Duration::from_secs(60);
        let board = self.fleet.board();
        loop {
            let wanting: Vec<_> = board
                .each(devices.clone(), |heard| (!is(heard)).then(|| heard.clone()))
                .into_iter()
                .flatten()
                .collect();
            let Some(one) = wanting.first() else { return };
            assert!(
                begun.elapsed() < limit,
                "{} devices have waited {} s in vain for {what}; one of them: {one:?}",
                wanting.len(),
                limit.as_secs(),
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until a commit is good on all these devices. Gives how long each took, from when its own clock began.
    fn good(
        &self,
        commit: &str,
        devices: impl IntoIterator<Item = usize> + Clone,
        since: impl Fn(usize) -> Instant,
    ) -> Each<Times> {
        let what = format!("{commit} to be good");
        self.until(&what, devices.clone(), |heard| {
            heard.last_good.as_deref() == Some(commit)
        });
        self.times(devices, |index, heard| {
            heard.good[commit].saturating_duration_since(since(index))
        })
    }

    /// How long something took for each of these devices, by the server that it asks.
    fn times(
        &self,
        devices: impl IntoIterator<Item = usize> + Clone,
        took: impl Fn(usize, &Heard) -> Duration,
    ) -> Each<Times> {
        Each::of(|kind| {
            let of_it = devices.clone().into_iter();
            let all = of_it
                .filter(|index| Kind::of(*index) == kind)
                .flat_map(|index| {
                    let board = self.fleet.board();
                    board.each([index], |heard| took(index, heard))
                });
            Times::of(all.collect())
        })
    }

    /// A line for each server.
    fn both(&mut self, what: &str, figures: impl Fn(Kind) -> String) {
        for kind in KINDS {
            let what = match kind {
                Kind::Git => format!("{what}: {}", kind.name()),
                Kind::Tree => format!("{:>width$}", kind.name(), width = what.len() + 6),
            };
            self.table.row(what, figures(kind));
        }
    }

    /// None of these devices has ever heard of a commit.
    fn never_seen(&self, commit: &str, devices: impl IntoIterator<Item = usize>) {
        let seen = self.fleet.board().count(devices, |heard| {
            heard.tips.contains_key(commit) || heard.applied.contains_key(commit)
        });
        assert_eq!(seen, 0, "devices that have seen {commit}, and must not");
    }

    /// No request failed, and the fullest second of each server stayed within what it has room for.
    fn is_within_capacity(&self, seen: &Window, of: &str) {
        for kind in KINDS {
            let (traffic, room) = (&seen.servers.get(kind).traffic, self.capacity.get(kind));
            assert_eq!(traffic.failed, 0, "requests that failed in {of}");
            assert!(
                (traffic.peak as f64) < *room,
                "{} requests came to the server of the {} in one second of {of}, and {room:.0} is what it has room for",
                traffic.peak,
                kind.name(),
            );
        }
    }

    /// What the fullest second of a server was.
    fn fullest(&self, seen: &Window, kind: Kind) -> String {
        let peak = seen.servers.get(kind).traffic.peak;
        format!(
            "{peak} requests: {:.2} of the mean, {:.2} of capacity",
            peak as f64 / self.mean(kind),
            peak as f64 / self.capacity.get(kind)
        )
    }

    fn first_start(&mut self, switched_on: Instant, after: &[Duration]) {
        let begun = |index: usize| switched_on + after[index];
        let (canary, stable) = (self.stage.tip("canary"), self.stage.tip("stable"));
        self.good(&canary, self.stage.canary(), begun);
        self.good(&stable, self.stage.stable(), begun);
        let took = self.times(self.all(), |index, heard| {
            let good = heard.good.values().min().expect("it waited for that");
            good.saturating_duration_since(begun(index))
        });
        self.both("first start (clone, apply, soak 1 s)", |kind| {
            took.get(kind).to_string()
        });
    }

    fn idle(&mut self) {
        // What follows a first start is over.
        std::thread::sleep(self.interval);
        let mark = self.mark();
        std::thread::sleep((self.interval * 3).max(QUIET));
        let seen = self.since(&mark);
        for kind in KINDS {
            let share = seen.servers.get(kind);
            let each = share.traffic.requests as f64 / share.passes as f64;
            let due = kind.requests();
            assert!(
                (each - due).abs() < 0.1 * due,
                "an idle poll of the {} is {due} requests, and {each:.3} were seen",
                kind.name()
            );
            assert_eq!(share.traffic.failed, 0, "requests that failed");
        }
        self.both("nothing changes, each poll", |kind| {
            let share = seen.servers.get(kind);
            let each = |all: f64| all / share.passes as f64;
            let server = share.spent.map_or_else(
                || "not measured: no control groups here".to_owned(),
                |spent| format!("{:.2} ms", each(spent.as_secs_f64() * 1e3)),
            );
            format!(
                "{:.2} requests, {:.0} bytes up, {:.0} down, server {server}",
                each(share.traffic.requests as f64),
                each(share.traffic.up as f64),
                each(share.traffic.down as f64)
            )
        });
        let own = seen.own.as_secs_f64() * 1e3 / seen.passes() as f64;
        self.table.row(
            "  processor time of the agent",
            format!("{own:.2} ms a poll (all of both kinds in one process)"),
        );
        let capacity = self.capacity;
        self.both("  requests a second", |kind| {
            let share = seen.servers.get(kind);
            // Who asks for files is busier than who gives them.
            let how = match kind {
                Kind::Git => "",
                Kind::Tree => "at least ",
            };
            format!(
                "{:.0} (capacity, measured before: {how}{:.0})",
                share.traffic.requests as f64 / seen.lasted.as_secs_f64(),
                capacity.get(kind)
            )
        });
    }

    fn promotion(&mut self) {
        let (mark, begun) = (self.mark(), Instant::now());
        let release = self.stage.release(Release::Good);
        let took = self.good(&release.commit, self.stage.canary(), |index| {
            release.since(index)
        });
        self.never_seen(&release.commit, self.stage.stable());
        self.both("a release reaches all of canary", |kind| {
            took.get(kind).to_string()
        });
        let promoted = self.stage.promote();
        assert_ne!(
            promoted.commit, release.commit,
            "a promotion is a commit of its own"
        );
        let took = self.good(&promoted.commit, self.stage.stable(), |index| {
            promoted.since(index)
        });
        self.promoting = begun.elapsed();
        self.both("its promotion reaches all of stable", |kind| {
            took.get(kind).to_string()
        });
        let seen = self.since(&mark);
        let asking = Each::of(|kind| self.stage.asking(kind).count() as f64);
        self.both("  requests for it, beside polls", |kind| {
            let (share, changed) = (seen.servers.get(kind), *asking.get(kind));
            let idle = (share.passes as f64 - changed) * kind.requests();
            format!(
                "{:.2} a device",
                (share.traffic.requests as f64 - idle) / changed - kind.requests()
            )
        });
    }

    fn bad_revision(&mut self) {
        let before = self.stage.tip("stable");
        let good = self.stage.tip("canary");
        let bad = self.stage.release(Release::Bad).commit;
        let pushed = Instant::now();
        self.until(
            "the bad revision to be refused",
            self.stage.canary(),
            |heard| heard.refused.contains(&bad) && heard.last_good.as_deref() == Some(&good),
        );
        let refused = pushed.elapsed();
        // Time enough for who polls to see what there is to see.
        std::thread::sleep(self.interval * 2);
        let stable = self.stage.stable();
        self.never_seen(&bad, stable.clone());
        let untouched = self.fleet.board().count(stable.clone(), |heard| {
            heard.last_good.as_deref() == Some(&before) && heard.refused.is_empty()
        });
        assert_eq!(
            untouched,
            stable.len(),
            "devices of stable that it did not touch"
        );
        let ever_good = self
            .fleet
            .board()
            .count(self.all(), |heard| heard.good.contains_key(&bad));
        assert_eq!(
            ever_good, 0,
            "devices on which the bad revision became good"
        );
        let fixed = self.stage.release(Release::Good);
        let took = self.good(&fixed.commit, self.stage.canary(), |index| {
            fixed.since(index)
        });
        self.table.row(
            "a bad revision stops at canary",
            format!(
                "refused and taken back by {} of {} within {:.1} s; seen by 0 of {} in stable",
                self.stage.canary().len(),
                self.stage.canary().len(),
                refused.as_secs_f64(),
                stable.len()
            ),
        );
        self.both("  the fix reaches all of canary", |kind| {
            took.get(kind).to_string()
        });
    }

    /// All that was signed was taken: what is refused here is a mistake of the simulation's own.
    fn nothing_was_refused(&self) {
        let rejected = self
            .fleet
            .board()
            .each(self.all(), |heard| heard.rejected.clone());
        let first = rejected.iter().flatten().next();
        assert_eq!(
            first, None,
            "nothing here should be refused by trust, guard or schema"
        );
    }
}
