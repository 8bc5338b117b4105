//! The scenes, one after the other, each with its checks.

use std::ops::Range;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use evenkeel::adapter::git::GitSource;
use evenkeel::port::source::Source as _;

use super::board::Heard;
use super::costs::{self, Traffic};
use super::stage::{Release, Stage};
use super::table::{Table, Times};
use super::{LOAD, Options, Switchboard};
use crate::control_group::Group;
use crate::wait_at_most;

/// Who asks at once while capacity is measured: more than the server has programs for.
const ASKING: usize = 12;
/// How many intervals an outage lasts: long enough for every device to have backed off.
const OUTAGE: u32 = 3;
/// Requests of a poll that finds nothing new: what protocol 2 begins with (`info/refs`), and `ls-refs`.
const POLL: f64 = 2.0;
/// The waves of a rollout, in per cent.
const WAVES: [u32; 3] = [5, 25, 100];

struct Play {
    stage: Stage,
    fleet: Switchboard,
    interval: Duration,
    /// Requests a second, as measured before.
    capacity: f64,
    table: Table,
    began: Instant,
    /// How long a promotion took, with its check of every device.
    promoting: Duration,
}

/// Figures between two moments.
struct Window {
    traffic: Traffic,
    passes: u64,
    server: Option<Duration>,
    own: Duration,
    lasted: Duration,
}

/// A moment from which figures are taken.
struct Mark {
    log: u64,
    passes: u64,
    server: Option<Duration>,
    own: Duration,
    at: Instant,
}

pub(super) fn play(options: &Options) -> Table {
    let began = Instant::now();
    let stage = Stage::new(options.devices);
    let capacity = capacity(&stage, options.trial);
    let busy = options.devices as f64 * POLL / (LOAD * capacity);
    // In half seconds.
    let chosen = Duration::from_millis((busy * 2.0).ceil() as u64 * 500);
    let interval = options
        .interval
        .unwrap_or(chosen.max(Duration::from_secs(2)));
    let switched_on = Instant::now();
    let blueprints = stage.blueprints(interval, interval * 2);
    let after: Vec<Duration> = blueprints.iter().map(|one| one.after).collect();
    let mut play = Play {
        table: Table {
            title: format!(
                "{} agents ({} in the ring canary, {} in stable), one git server over HTTPS, polls every {:.1} s +/- 10 %, {} processors for all",
                options.devices,
                stage.canary().len(),
                stage.stable().len(),
                interval.as_secs_f64(),
                std::thread::available_parallelism().map_or(1, usize::from),
            ),
            ..Table::default()
        },
        fleet: Switchboard::start(blueprints),
        stage,
        interval,
        capacity,
        began,
        promoting: Duration::ZERO,
    };
    play.first_start(switched_on, &after);
    play.idle();
    play.promotion();
    play.bad_revision();
    play.waves();
    play.half_cut_off();
    play.outage();
    play.all_at_once();
    play.nothing_was_refused();
    play.table.row(
        "all of it",
        format!("took {:.0} s", play.began.elapsed().as_secs_f64()),
    );
    play.table
}

/// How many requests of polls a second the server answers at most, with nobody else on the machine.
fn capacity(stage: &Stage, trial: Duration) -> f64 {
    let ready = Arc::new(Barrier::new(ASKING + 1));
    let asking: Vec<_> = (0..ASKING)
        .map(|index| {
            let ready = Arc::clone(&ready);
            let section = stage.source(0, Duration::from_secs(60));
            let source = GitSource::new(&section, stage.store(&format!("trial-{index}")))
                .expect("a source that can be right");
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                runtime.block_on(async {
                    let first = source.fetch(None).await;
                    // Whatever came of it: the others wait here.
                    ready.wait();
                    first.expect("a first fetch");
                    let end = Instant::now() + trial;
                    while Instant::now() < end {
                        source.fetch(None).await.expect("a poll");
                    }
                });
            })
        })
        .collect();
    ready.wait();
    let (_, from) = stage.server.answered(0);
    std::thread::sleep(trial);
    let (answered, _) = stage.server.answered(from);
    for one in asking {
        one.join().expect("polls go well");
    }
    answered.len() as f64 / trial.as_secs_f64()
}

fn sleep_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
}

impl Play {
    fn all(&self) -> Range<usize> {
        0..self.stage.devices
    }

    fn mark(&self) -> Mark {
        Mark {
            log: self.stage.server.answered(0).1,
            passes: self.passes(),
            server: self.stage.group.as_ref().map(Group::spent),
            own: costs::own(),
            at: Instant::now(),
        }
    }

    fn since(&self, mark: &Mark) -> Window {
        let (answered, _) = self.stage.server.answered(mark.log);
        let spent = self.stage.group.as_ref().map(Group::spent);
        Window {
            traffic: Traffic::of(&answered),
            passes: self.passes() - mark.passes,
            server: spent.zip(mark.server).map(|(now, then)| now - then),
            own: costs::own() - mark.own,
            lasted: mark.at.elapsed(),
        }
    }

    fn passes(&self) -> u64 {
        let all = self.fleet.board().each(self.all(), |heard| heard.passes);
        all.into_iter().sum()
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

    /// Waits until a commit is good on all these devices. Gives how long each took from `since` on.
    fn good(
        &self,
        commit: &str,
        devices: impl IntoIterator<Item = usize> + Clone,
        since: Instant,
    ) -> Times {
        let what = format!("{commit} to be good");
        self.until(&what, devices.clone(), |heard| {
            heard.last_good.as_deref() == Some(commit)
        });
        let took = self.fleet.board().each(devices, |heard| {
            heard.good[commit].saturating_duration_since(since)
        });
        Times::of(took)
    }

    /// None of these devices has ever heard of a commit.
    fn never_seen(&self, commit: &str, devices: impl IntoIterator<Item = usize>) {
        let seen = self.fleet.board().count(devices, |heard| {
            heard.tips.contains_key(commit) || heard.applied.contains_key(commit)
        });
        assert_eq!(seen, 0, "devices that have seen {commit}, and must not");
    }

    fn first_start(&mut self, switched_on: Instant, after: &[Duration]) {
        let (canary, stable) = (self.stage.tip("canary"), self.stage.tip("stable"));
        self.good(&canary, self.stage.canary(), switched_on);
        self.good(&stable, self.stage.stable(), switched_on);
        let mut took = Vec::new();
        for (index, after) in after.iter().enumerate() {
            let one = self
                .fleet
                .board()
                .each([index], |heard| heard.good.values().min().copied());
            let good = one[0].expect("it waited for that");
            took.push(good.saturating_duration_since(switched_on + *after));
        }
        self.table.row(
            "first start: clone, verify, apply, soak 1 s",
            format!("{} after being switched on", Times::of(took)),
        );
    }

    fn idle(&mut self) {
        // What follows a first start is over.
        std::thread::sleep(self.interval);
        let mark = self.mark();
        std::thread::sleep(self.interval * 2);
        let seen = self.since(&mark);
        let polls = seen.passes as f64;
        let each = seen.traffic.requests as f64 / polls;
        assert!(
            (each - POLL).abs() < 0.1,
            "an idle poll is {POLL} requests, and {each:.3} were seen"
        );
        assert_eq!(seen.traffic.failed, 0, "requests that failed");
        let millis = |spent: Duration| spent.as_secs_f64() * 1e3 / polls;
        self.table.row(
            "nothing changes: each poll",
            format!(
                "{each:.2} requests, {:.0} bytes up, {:.0} down",
                seen.traffic.up as f64 / polls,
                seen.traffic.down as f64 / polls
            ),
        );
        let server = seen.server.map_or_else(
            || "not measured: no control groups here".to_owned(),
            |spent| format!("{:.2} ms", millis(spent)),
        );
        self.table.row(
            "  processor time for it",
            format!(
                "server (nginx, fcgiwrap, git) {server}; agent {:.2} ms",
                millis(seen.own)
            ),
        );
        self.table.row(
            "  requests a second",
            format!(
                "{:.0} (the server's capacity, measured before: {:.0})",
                seen.traffic.requests as f64 / seen.lasted.as_secs_f64(),
                self.capacity
            ),
        );
    }

    fn promotion(&mut self) {
        let mark = self.mark();
        let commit = self.stage.release(Release::Good);
        let took = self.good(&commit, self.stage.canary(), Instant::now());
        self.never_seen(&commit, self.stage.stable());
        self.table
            .row("a release reaches all of canary", took.to_string());
        let promoted = self.stage.promote();
        assert_ne!(promoted, commit, "a promotion is a commit of its own");
        let took = self.good(&promoted, self.stage.stable(), Instant::now());
        self.table
            .row("its promotion reaches all of stable", took.to_string());
        let seen = self.since(&mark);
        let changed = self.stage.devices as f64;
        let idle = (seen.passes as f64 - changed) * POLL;
        self.table.row(
            "  requests for it, beside the polls",
            format!(
                "{:.2} a device",
                (seen.traffic.requests as f64 - idle) / changed - POLL
            ),
        );
    }

    fn bad_revision(&mut self) {
        let before = self.stage.tip("stable");
        let good = self.stage.tip("canary");
        let bad = self.stage.release(Release::Bad);
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
        let took = self.good(&fixed, self.stage.canary(), Instant::now());
        self.table.row(
            "a bad revision stops at canary",
            format!(
                "refused and taken back by {} of {} within {:.1} s; seen by 0 of {} of stable",
                self.stage.canary().len(),
                self.stage.canary().len(),
                refused.as_secs_f64(),
                stable.len()
            ),
        );
        self.table
            .row("  the fix reaches all of canary", took.to_string());
    }

    fn waves(&mut self) {
        let interval = self.interval.as_secs_f64();
        // Everybody has heard of it before it begins, and has time for a wave before the next one.
        let pause = (interval * 1.3).ceil() + 3.0;
        let start = pause + 2.0 * self.promoting.as_secs_f64();
        let pause = Duration::from_secs_f64(pause);
        // In whole seconds, as the repository says it.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        let starts = Duration::from_secs_f64((now.as_secs_f64() + start).ceil());
        self.stage.in_waves(UNIX_EPOCH + starts, &WAVES, pause);
        let start = Instant::now() + (starts - now);
        let released = self.stage.release(Release::Good);
        let promoted = self.stage.promote();
        let stable = self.stage.stable();
        let began = |heard: &Heard| heard.applied.contains_key(&promoted);
        sleep_until(start - Duration::from_millis(100));
        let heard = self
            .fleet
            .board()
            .count(stable.clone(), |heard| heard.tips.contains_key(&promoted));
        assert_eq!(
            heard,
            stable.len(),
            "devices that know of it before it begins"
        );
        let early = self.fleet.board().count(stable.clone(), began);
        assert_eq!(early, 0, "devices that began before the first wave");
        let mark = self.mark();
        let mut shares = Vec::new();
        for (wave, percent) in (1..).zip(WAVES) {
            if percent < 100 {
                sleep_until(start + pause * wave - Duration::from_millis(100));
                let begun = self.fleet.board().count(stable.clone(), began);
                // Slots are drawn by a hash: as far from the share as four times what chance makes usual.
                let (all, share) = (stable.len() as f64, f64::from(percent) / 100.0);
                let usual = (all * share * (1.0 - share)).sqrt();
                assert!(
                    (begun as f64 - all * share).abs() <= 4.0 * usual,
                    "{begun} of {all} began by the end of the wave of {percent} %"
                );
                shares.push(format!("{:.1} %", begun as f64 * 100.0 / all));
            }
        }
        let last = start + pause * (WAVES.len() as u32 - 1);
        self.good(&promoted, stable, last);
        let took = last.elapsed();
        let seen = self.since(&mark).traffic;
        self.good(&released, self.stage.canary(), start);
        assert_eq!(seen.failed, 0, "requests that failed");
        assert!(
            (seen.peak as f64) < self.capacity,
            "{} requests came in one second of a rollout, and {:.0} is what the server has room for",
            seen.peak,
            self.capacity
        );
        shares.push(format!("100 % after {:.1} s", took.as_secs_f64()));
        self.table.row(
            format!("waves {WAVES:?}, a pause of {} s", pause.as_secs()),
            format!("begun at the end of each: {}", shares.join(", ")),
        );
        self.table.row(
            "  fullest second of it",
            format!(
                "{} requests: {:.2} of the mean, {:.2} of capacity",
                seen.peak,
                seen.peak as f64 / self.mean(),
                seen.peak as f64 / self.capacity
            ),
        );
    }

    /// Requests a second, were polls perfectly even.
    fn mean(&self) -> f64 {
        self.stage.devices as f64 * POLL / self.interval.as_secs_f64()
    }

    fn half_cut_off(&mut self) {
        let cut: Vec<usize> = self.stage.beside().collect();
        let rest: Vec<usize> = self.stage.before().collect();
        let is_stable = |index: &usize| self.stage.stable().contains(index);
        self.stage.server.shut_side();
        let begun = Instant::now();
        let released = self.stage.release(Release::Good);
        let there: Vec<_> = rest.iter().copied().filter(|one| !is_stable(one)).collect();
        self.good(&released, there, Instant::now());
        let promoted = self.stage.promote();
        let there: Vec<_> = rest.iter().copied().filter(is_stable).collect();
        let took = self.good(&promoted, there.clone(), Instant::now());
        std::thread::sleep((self.interval * OUTAGE).saturating_sub(begun.elapsed()));
        for commit in [&released, &promoted] {
            self.never_seen(commit, cut.iter().copied());
        }
        let lasted = begun.elapsed();
        self.stage.server.open_side();
        let opened = Instant::now();
        let away: Vec<_> = cut.iter().copied().filter(is_stable).collect();
        let back = self.good(&promoted, away.clone(), opened);
        let away_canary: Vec<_> = cut.iter().copied().filter(|one| !is_stable(one)).collect();
        self.good(&released, away_canary, opened);
        self.table.row(
            format!("half is cut off for {:.0} s", lasted.as_secs_f64()),
            format!("a promotion reaches the other half: {took}"),
        );
        self.table
            .row("  it returns, and is up to date", back.to_string());
    }

    fn outage(&mut self) {
        self.stage.server.stop();
        let begun = Instant::now();
        std::thread::sleep(self.interval * OUTAGE);
        self.stage.server.resume();
        let (lasted, back) = (begun.elapsed(), Instant::now());
        let mark = self.mark();
        self.until("all to have asked again", self.all(), |heard| {
            heard.reached.is_some_and(|reached| reached > back)
        });
        let took = self.fleet.board().each(self.all(), |heard| {
            heard
                .reached
                .expect("it waited for that")
                .saturating_duration_since(back)
        });
        let seen = self.since(&mark).traffic;
        assert_eq!(seen.failed, 0, "requests that failed after the outage");
        assert!(
            (seen.peak as f64) < self.capacity,
            "{} requests came in one second, and {:.0} is what the server has room for",
            seen.peak,
            self.capacity
        );
        let last = took.iter().max().copied().unwrap_or_default();
        self.table.row(
            format!("the server is away for {:.0} s", lasted.as_secs_f64()),
            format!(
                "fullest second after it {} requests: {:.2} of the mean, {:.2} of capacity; 99 of 100 answered within {:.2} s",
                seen.peak,
                seen.peak as f64 / self.mean(),
                seen.peak as f64 / self.capacity,
                seen.slow
            ),
        );
        self.table.row(
            "  all have asked again",
            format!("{:.1} s after its return", last.as_secs_f64()),
        );
    }

    /// What there would be without jitter.
    fn all_at_once(&mut self) {
        let mark = self.mark();
        let asked = Instant::now();
        self.fleet.poke(self.all());
        wait_at_most(Duration::from_secs(120), "all to have asked", || {
            let polled = |heard: &Heard| heard.reached.is_some_and(|reached| reached > asked);
            (self.fleet.board().count(self.all(), polled) == self.stage.devices).then_some(())
        });
        let seen = self.since(&mark);
        assert_eq!(seen.traffic.failed, 0, "requests that failed");
        self.table.row(
            "for comparison: all ask at once (SIGHUP)",
            format!(
                "fullest second {} requests; answered after {:.1} s, 99 of 100 within {:.2} s each",
                seen.traffic.peak,
                seen.lasted.as_secs_f64(),
                seen.traffic.slow
            ),
        );
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
