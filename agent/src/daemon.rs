//! The loop around the cycle: when the next one is due, who asked for something, and when to stop.
//!
//! Everything is one task on one thread. A cycle may take minutes (a pull, a soak); requests are taken meanwhile, and
//! what they ask for is done when the cycle has come to its end, or, for a rollback, by ending it early.

mod asks;
mod levels;
mod rollback;
mod upgrade;

use std::path::Path;
use std::time::Duration;

use evenkeel_schema::agent_config::NowPolicy;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::cycle::{Again, Agent, Haste, Interruption, JOURNAL, Locks, Passed};
use crate::domain::outcome::Outcome;
use crate::domain::revision::Timestamp;
use crate::domain::storage::Storage;
use crate::port::World;
use crate::port::clock::Clock as _;
use crate::port::engine::Engine as _;
use crate::port::journal::{Journal as _, Paused};
use crate::port::reporter::{Event, Reporter as _};
use crate::port::source::Source as _;
use crate::schedule::{self, Jitter};
use crate::select::Urgency;
pub use asks::{Answer, Ask, Asked, Pass, Run, Signal};
use asks::{Waiting, failed};
pub use rollback::rollback_target;
use upgrade::GivesWay;

/// How many cycles may follow each other at once before the loop takes a breath: a bound against a tight loop.
const MOST_AT_ONCE: u32 = 6;

/// How long a pass may go on after a stop signal: a slow fetch or engine call is not waited for. Well below the 90 s
/// after which systemd kills.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// How far apart two passes are that changes on the device wake: what ends again and again is looked at no oftener.
const STIRS_APART: Duration = Duration::from_secs(10);

/// What `pause` and `resume` answer where the pass after them did not end well: that is not theirs to report.
const PAUSED: &str =
    "paused: nothing new is applied until `evenkeel resume`; `evenkeel status` shows the rest";
const RESUMED: &str = "resumed; the pass after it did not end well: `evenkeel status` shows why";

/// What `sync --now` is answered where the owner does not let it, and its exit code: wrong configuration.
const MAY_NOT_HURRY: &str = "this device does not let anybody go ahead of its windows and of its turn in a rollout\nhint: its owner \
     allows it in agent.toml: `now = \"allow\"` under [window]";
const NOT_ALLOWED: u8 = 2;

/// The loop.
#[derive(Debug)]
pub struct Daemon<'a, W: World> {
    agent: &'a Agent<W>,
    failures: u32,
    /// When the remote is asked next, whatever stirs before.
    due: Option<Instant>,
    /// When a stir last woke.
    stirred: Option<Instant>,
    /// Who waits for the end of a pass that has not begun yet.
    waiting: Vec<Waiting>,
    /// What is done between two cycles.
    queue: Vec<Asked>,
    stopping: bool,
    /// A cycle runs.
    busy: bool,
    /// Who asked for a pause in the middle of a cycle: it begins when the device has settled.
    pausing: Vec<Waiting>,
    /// SIGHUP came in the middle of a cycle, which may have asked the remote already.
    poked: bool,
    /// SIGUSR1 came in the middle of a cycle: it ends once none is due.
    renewing: bool,
    /// What unclean starts leave of the work.
    held: Option<levels::Held<'a>>,
    /// The agent's own version.
    upgrading: Option<upgrade::Upgrading<'a>>,
}

impl<'a, W: World> Daemon<'a, W> {
    /// A loop that has not begun.
    #[must_use]
    pub const fn new(agent: &'a Agent<W>) -> Self {
        Self {
            agent,
            failures: 0,
            due: None,
            stirred: None,
            waiting: Vec::new(),
            queue: Vec::new(),
            stopping: false,
            busy: false,
            pausing: Vec::new(),
            poked: false,
            renewing: false,
            held: None,
            upgrading: None,
        }
    }

    /// Takes a first request. Says whether a pass has to run for its answer.
    pub async fn begin(&mut self, asked: Asked) -> Pass {
        if let Err(error) = self.agent.mend().await {
            let what = crate::cycle::chain(&error);
            self.agent.session.notice(&self.agent.world, &what);
        }
        self.take(asked);
        self.serve_queue().await;
        self.agent.interrupt.clear();
        if self.waiting.is_empty() {
            Pass::NotNeeded
        } else {
            Pass::Needed
        }
    }

    /// Runs until a stop signal (or, once, until settled). Returns how the last pass ended.
    pub async fn run(
        &mut self,
        run: Run,
        requests: &mut mpsc::Receiver<Asked>,
        signals: &mut mpsc::Receiver<Signal>,
    ) -> Outcome {
        let mut urgency = match run {
            Run::Forever => Urgency::Boot,
            Run::Once => Urgency::Asked,
        };
        loop {
            self.climb(urgency);
            let outcome = self.settle(urgency, requests, signals).await;
            self.passed(urgency);
            self.serve_queue().await;
            if self.stopping {
                self.give_back();
                return outcome;
            }
            if run == Run::Once {
                if self.waiting.is_empty() {
                    return outcome;
                }
                // Somebody asked at the socket meanwhile.
                urgency = Urgency::Asked;
                continue;
            }
            if self.upgrade(urgency, &outcome).await == GivesWay::Now {
                return outcome;
            }
            if urgency == Urgency::Boot {
                // What could be done without the network is done: ask it now.
                urgency = Urgency::Scheduled;
                continue;
            }
            urgency = self.rest(&outcome, requests, signals).await;
            if self.stopping {
                self.passed(urgency);
                self.give_back();
                return outcome;
            }
        }
    }

    /// Cycles until none is due at once.
    async fn settle(
        &mut self,
        urgency: Urgency,
        requests: &mut mpsc::Receiver<Asked>,
        signals: &mut mpsc::Receiver<Signal>,
    ) -> Outcome {
        let first = urgency;
        let mut urgency = urgency;
        self.busy = true;
        let from = self.waiting.first().and_then(|first| first.from.clone());
        let mut waiting = self.who_waits_for(from.as_deref());
        self.agent.world.source().turn_to(from.as_deref());
        self.hurry(&waiting);
        let mut passed = self.one(urgency, requests, signals).await;
        for _ in 1..MOST_AT_ONCE {
            if passed.again == Again::Later || self.stopping {
                break;
            }
            self.agent.interrupt.clear();
            // Only the first cycle is the asked one: what it put off stays off.
            let mut joining = self.who_waits_for(from.as_deref());
            urgency = if joining.is_empty() {
                Urgency::Scheduled
            } else {
                Urgency::Asked
            };
            waiting.append(&mut joining);
            self.hurry(&waiting);
            passed = self.one(urgency, requests, signals).await;
        }
        self.agent.interrupt.clear();
        self.agent.session.haste.set(Haste::InTime);
        self.agent.session.locks.set(Locks::Heeded);
        self.agent.world.source().turn_to(None);
        self.busy = false;
        self.pause_now();
        self.failures = match &passed.outcome {
            // The remote was not asked.
            _ if first == Urgency::Stirred => self.failures,
            // The remote answers: what waits for something else does not keep it from telling of a fix in time.
            Outcome::Deferred { reason, .. }
                if self.agent.session.reached.get()
                    && reason != JOURNAL
                    && Storage::of_reason(reason).is_none() =>
            {
                0
            }
            Outcome::Deferred { .. } => self.failures.saturating_add(1),
            Outcome::Converged
            | Outcome::Applied { .. }
            | Outcome::Healed { .. }
            | Outcome::RolledBack { .. }
            | Outcome::Held(_)
            | Outcome::Rejected { .. }
            | Outcome::Unhealthy { .. } => 0,
        };
        for one in waiting {
            one.tell(&passed.outcome);
        }
        passed.outcome
    }

    /// Those who wait for a pass from this folder, or from the remotes; the others wait for the next one.
    fn who_waits_for(&mut self, from: Option<&Path>) -> Vec<Waiting> {
        let all = std::mem::take(&mut self.waiting);
        let (these, others) = all
            .into_iter()
            .partition(|waiting| waiting.from.as_deref() == from);
        self.waiting = others;
        these
    }

    /// A person who waits for a pass may let it begin what is due later, or what an app does not want now.
    fn hurry(&self, waiting: &[Waiting]) {
        if waiting.iter().any(|one| one.haste == Haste::Now) {
            self.agent.session.haste.set(Haste::Now);
        }
        if waiting.iter().any(|one| one.locks == Locks::Overridden) {
            self.agent.session.locks.set(Locks::Overridden);
        }
    }

    /// One cycle, taking requests and signals meanwhile.
    async fn one(
        &mut self,
        urgency: Urgency,
        requests: &mut mpsc::Receiver<Asked>,
        signals: &mut mpsc::Receiver<Signal>,
    ) -> Passed {
        let agent = self.agent;
        let cycle = agent.cycle(urgency);
        tokio::pin!(cycle);
        let mut give_up = None;
        loop {
            tokio::select! {
                passed = &mut cycle => return passed,
                () = at(give_up) => {
                    // Nothing here minds a power cut, so it does not mind this either.
                    let message = "stopped in the middle of a pass".to_owned();
                    let outcome = Outcome::Deferred { reason: "stopped".to_owned(), message };
                    return Passed { outcome, again: Again::Later };
                }
                () = agent.session.accepting.notified() => self.prove_early(),
                Some(asked) = requests.recv() => self.take(asked),
                Some(signal) = signals.recv() => match signal {
                    Signal::Poke => self.poked = true,
                    Signal::Renew => self.renewing = true,
                    Signal::Stop => {
                        self.stopping = true;
                        agent.interrupt.raise(Interruption::Stop);
                        give_up.get_or_insert_with(|| Instant::now() + STOP_WITHIN);
                    }
                },
            }
        }
    }

    fn may_hurry(&self) -> bool {
        self.agent.settings.windows.now == NowPolicy::Allow
    }

    /// Takes a request: at once where that is safe in the middle of a cycle, else into the queue.
    fn take(&mut self, asked: Asked) {
        let Asked { ask, reply } = asked;
        let journal = self.agent.world.journal();
        let locks = if matches!(ask, Ask::SyncPastLocks(_)) {
            Locks::Overridden
        } else {
            Locks::Heeded
        };
        let answer = match ask {
            Ask::Sync(haste) | Ask::SyncPastLocks(haste)
                if haste == Haste::InTime || self.may_hurry() =>
            {
                self.waiting.push(Waiting {
                    haste,
                    locks,
                    ..Waiting::for_pass(reply)
                });
                return;
            }
            Ask::SyncFrom(from, haste, locks) if haste == Haste::InTime || self.may_hurry() => {
                self.waiting.push(Waiting {
                    haste,
                    locks,
                    from: Some(from),
                    ..Waiting::for_pass(reply)
                });
                return;
            }
            Ask::Sync(_) | Ask::SyncPastLocks(_) | Ask::SyncFrom(..) => Answer::Failed {
                code: NOT_ALLOWED,
                message: MAY_NOT_HURRY.to_owned(),
            },
            Ask::Plan | Ask::Adopt(..) => return self.queue.push(Asked { ask, reply }),
            Ask::History => match journal.history() {
                Ok(history) => Answer::History(history),
                Err(error) => failed(1, &error),
            },
            Ask::Rollback(rev) => match self.roll_back(rev.as_deref()) {
                Ok(_) => {
                    self.agent.interrupt.raise(Interruption::Asked);
                    self.waiting.push(Waiting::for_pass(reply));
                    return;
                }
                Err(answer) => answer,
            },
            Ask::Pause if self.busy => {
                // A soak ends first, and what it refuses goes back: the answer comes with the pass after that.
                self.pausing.push(Waiting::after(PAUSED, reply));
                return;
            }
            Ask::Pause => match journal.set_paused(Paused::Yes) {
                Ok(()) => {
                    self.waiting.push(Waiting::after(PAUSED, reply));
                    return;
                }
                Err(error) => failed(1, &error),
            },
            Ask::Resume => {
                self.waiting.append(&mut self.pausing);
                match journal
                    .set_paused(Paused::No)
                    .and_then(|()| journal.set_pin(None))
                {
                    Ok(()) => {
                        self.waiting.push(Waiting::after(RESUMED, reply));
                        return;
                    }
                    Err(error) => failed(1, &error),
                }
            }
            Ask::Trust => Answer::Trust(Box::new(self.agent.trust_state())),
            Ask::ResetFloor(commit) => match self.agent.reset_floor(&commit) {
                Ok(floor) => Answer::Done(format!(
                    "the floor is {} now (generation {}): the next pass takes a tip that descends from it",
                    floor.commit, floor.generation
                )),
                Err(error) => failed(1, &error),
            },
        };
        let _ = reply.send(answer);
    }

    /// The pause that was asked for in the middle of a cycle; who asked is answered after a pass that holds.
    fn pause_now(&mut self) {
        if self.pausing.is_empty() {
            return;
        }
        match self.agent.world.journal().set_paused(Paused::Yes) {
            Ok(()) => self.waiting.append(&mut self.pausing),
            Err(error) => {
                for waiting in self.pausing.drain(..) {
                    let _ = waiting.reply.send(failed(1, &error));
                }
            }
        }
    }

    /// Does what was put off until no cycle runs.
    async fn serve_queue(&mut self) {
        for Asked { ask, reply } in std::mem::take(&mut self.queue) {
            let answer = match ask {
                Ask::Plan => match self.agent.preview().await {
                    Ok(preview) => Answer::Plan(Box::new(preview)),
                    Err(outcome) => Answer::Passed(outcome),
                },
                Ask::Adopt(engine_id, service) => match self.agent.adopt(engine_id, service) {
                    Ok(()) => Answer::Done(String::new()),
                    Err(error) => failed(1, &error),
                },
                Ask::Sync(_)
                | Ask::SyncPastLocks(_)
                | Ask::SyncFrom(..)
                | Ask::History
                | Ask::Rollback(_)
                | Ask::Pause
                | Ask::Resume
                | Ask::ResetFloor(_)
                | Ask::Trust => continue,
            };
            let _ = reply.send(answer);
        }
    }

    /// Waits for the next cycle's time, a request or a signal.
    async fn rest(
        &mut self,
        outcome: &Outcome,
        requests: &mut mpsc::Receiver<Asked>,
        signals: &mut mpsc::Receiver<Signal>,
    ) -> Urgency {
        let due = self.due.take();
        if !self.waiting.is_empty() || std::mem::take(&mut self.poked) {
            return Urgency::Asked;
        }
        if self.renewing {
            self.stopping = true;
            return Urgency::Scheduled;
        }
        let wait = self.no_later(outcome, self.at_most(self.next_wait(outcome)));
        let now = Instant::now();
        let deadline = match due {
            Some(due) => due.min(now + wait),
            None => now + wait,
        };
        let wait = deadline.saturating_duration_since(now);
        let mut stirred = std::pin::pin!(self.stirs());
        self.tell_next(wait);
        let fetched = self.fetched();
        loop {
            let rests = Event::Rests(deadline.saturating_duration_since(Instant::now()));
            self.agent.world.reporter().tell(&rests);
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return Urgency::Scheduled,
                () = &mut stirred => {
                    self.stirred = Some(Instant::now());
                    self.due = Some(deadline);
                    return Urgency::Stirred;
                }
                // A download of the agent's own has ended: a pass says whether this is a moment to go on with it.
                () = told(fetched.as_deref()) => return Urgency::Scheduled,
                Some(asked) = requests.recv() => {
                    self.take(asked);
                    self.serve_queue().await;
                    self.agent.interrupt.clear();
                    if !self.waiting.is_empty() {
                        return Urgency::Asked;
                    }
                }
                signal = signals.recv() => match signal {
                    Some(Signal::Poke) => return Urgency::Asked,
                    Some(Signal::Renew | Signal::Stop) | None => {
                        self.stopping = true;
                        return Urgency::Scheduled;
                    }
                },
            }
        }
    }

    /// Waits until something of ours has changed on the device; not soon after the last time, so that what ends again and
    /// again does not keep the device awake.
    fn stirs(&self) -> impl Future<Output = ()> + use<'a, W> {
        let agent = self.agent;
        let from = self.stirred.map(|last| last + STIRS_APART);
        async move {
            agent.world.engine().stirred().await;
            at_or_now(from).await;
        }
    }

    fn next_wait(&self, outcome: &Outcome) -> Duration {
        let failures = match outcome {
            // The first poll after a failure comes at the ordinary time.
            Outcome::Deferred { .. } => self.failures,
            Outcome::Converged
            | Outcome::Applied { .. }
            | Outcome::Healed { .. }
            | Outcome::RolledBack { .. }
            | Outcome::Held(_)
            | Outcome::Rejected { .. }
            | Outcome::Unhealthy { .. } => 0,
        };
        schedule::next_wake(self.agent.settings.interval, failures, Jitter::random())
    }

    /// The wait, or less where what holds the tip back ends long before. A hold whose end has passed by a clock that is wrong makes no wait shorter.
    fn no_later(&self, outcome: &Outcome, wait: Duration) -> Duration {
        let now = self.agent.world.clock().now();
        let left = match outcome {
            Outcome::Held(hold) => hold.until.map(|until| until.0.saturating_sub(now.0)),
            _ => None,
        };
        match left.map(u64::try_from) {
            Some(Ok(left)) if left > 0 => {
                let interval = self.agent.settings.interval;
                let left = Duration::from_secs(left);
                schedule::next_wake_held(wait, left, interval, Jitter::random())
            }
            _ => wait,
        }
    }

    fn tell_next(&self, wait: Duration) {
        let now = self.agent.world.clock().now();
        let seconds = i64::try_from(wait.as_secs()).unwrap_or(i64::MAX);
        self.agent.session.update(&self.agent.world, |report| {
            report.poll.next = Some(Timestamp(now.0.saturating_add(seconds)));
        });
    }
}

/// When that is told; never, where nobody tells.
async fn told(notify: Option<&Notify>) {
    match notify {
        Some(notify) => notify.notified().await,
        None => std::future::pending().await,
    }
}

/// The moment; at once, where there is none.
async fn at_or_now(moment: Option<Instant>) {
    if let Some(moment) = moment {
        tokio::time::sleep_until(moment).await;
    }
}

/// The moment, if there is one; else never.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "daemon/tests.rs"]
mod tests;
