//! The loop around the cycle: when the next one is due, who asked for something, and when to stop.
//!
//! Everything is one task on one thread. A cycle may take minutes (a pull, a soak); requests are taken meanwhile, and
//! what they ask for is done when the cycle has come to its end, or, for a rollback, by ending it early.

mod levels;
mod upgrade;

use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use crate::cycle::trust_state::TrustState;
use crate::cycle::{Again, Agent, Interruption, JOURNAL, Passed, Preview};
use crate::domain::history::{Deployment, GoodRevision, Ledger, Pin};
use crate::domain::outcome::Outcome;
use crate::domain::revision::{CommitId, Timestamp};
use crate::domain::storage::Storage;
use crate::port::World;
use crate::port::clock::Clock as _;
use crate::port::journal::{Journal as _, Paused};
use crate::port::reporter::{Event, Reporter as _};
use crate::schedule::{self, Jitter};
use crate::select::Urgency;
use upgrade::GivesWay;

/// How many cycles may follow each other at once before the loop takes a breath: a bound against a tight loop.
const MOST_AT_ONCE: u32 = 6;

/// How long a pass may go on after a stop signal: a slow fetch or engine call is not waited for. Well below the 90 s
/// after which systemd kills.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// What `pause` and `resume` answer where the pass after them did not end well: that is not theirs to report.
const PAUSED: &str =
    "paused: nothing new is applied until `evenkeel resume`; `evenkeel status` shows the rest";
const RESUMED: &str = "resumed; the pass after it did not end well: `evenkeel status` shows why";

/// What somebody asks of the loop.
#[derive(Debug)]
pub enum Ask {
    /// One pass now.
    Sync,
    /// What a pass would do.
    Plan,
    /// The deployments, newest first.
    History,
    /// Back to a good revision (a prefix of its id), or to the previous one with other content.
    Rollback(Option<String>),
    /// Stop applying.
    Pause,
    /// Go on applying.
    Resume,
    /// Set the anti-rollback floor to this commit.
    ResetFloor(CommitId),
    /// This container (the engine's id) is ours, for this service.
    Adopt(String, crate::domain::resource::ServiceId),
    /// The trust state.
    Trust,
}

/// What the loop answers.
#[derive(Debug)]
pub enum Answer {
    /// A pass ended.
    Passed(Outcome),
    /// What a pass would do.
    Plan(Box<Preview>),
    /// The deployments, newest first.
    History(Vec<Deployment>),
    /// The trust state.
    Trust(Box<TrustState>),
    /// Done; one sentence.
    Done(String),
    /// Could not be done.
    Failed {
        /// The exit code that fits.
        code: u8,
        /// One sentence with the next move.
        message: String,
    },
}

/// A request and where its answer goes.
#[derive(Debug)]
pub struct Asked {
    /// What.
    pub ask: Ask,
    /// Where to.
    pub reply: oneshot::Sender<Answer>,
}

/// What ends the wait between two cycles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Poll now (SIGHUP).
    Poke,
    /// End at the next idle moment, to be started anew (SIGUSR1): what a package's upgrade asks for.
    Renew,
    /// End (SIGTERM, SIGINT).
    Stop,
}

/// Whether the loop goes on after the device has settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// For ever: the daemon.
    Forever,
    /// Until it has settled once: `sync` without a daemon.
    Once,
}

/// Whether a pass has to run for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The answer comes at its end.
    Needed,
    /// It is answered already.
    NotNeeded,
}

/// Who waits for the end of a pass.
#[derive(Debug)]
struct Waiting {
    reply: oneshot::Sender<Answer>,
    /// What was done before the pass and stays done however that ends; `None`: the pass is the answer.
    done: Option<&'static str>,
}

impl Waiting {
    const fn for_pass(reply: oneshot::Sender<Answer>) -> Self {
        Self { reply, done: None }
    }

    fn tell(self, outcome: &Outcome) {
        let answer = match self.done {
            Some(text) if outcome.exit_code() != 0 => Answer::Done(text.to_owned()),
            Some(_) | None => Answer::Passed(outcome.clone()),
        };
        // Whoever asked may have gone.
        let _ = self.reply.send(answer);
    }
}

/// The loop.
#[derive(Debug)]
pub struct Daemon<'a, W: World> {
    agent: &'a Agent<W>,
    failures: u32,
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
        let mut urgency = urgency;
        self.busy = true;
        let mut waiting = std::mem::take(&mut self.waiting);
        let mut passed = self.one(urgency, requests, signals).await;
        for _ in 1..MOST_AT_ONCE {
            if passed.again == Again::Later || self.stopping {
                break;
            }
            self.agent.interrupt.clear();
            // Only the first cycle is the asked one: what it put off stays off.
            urgency = if self.waiting.is_empty() {
                Urgency::Scheduled
            } else {
                Urgency::Asked
            };
            waiting.append(&mut self.waiting);
            passed = self.one(urgency, requests, signals).await;
        }
        self.agent.interrupt.clear();
        self.busy = false;
        self.pause_now();
        self.failures = match &passed.outcome {
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

    /// Takes a request: at once where that is safe in the middle of a cycle, else into the queue.
    fn take(&mut self, asked: Asked) {
        let Asked { ask, reply } = asked;
        let journal = self.agent.world.journal();
        let answer = match ask {
            Ask::Sync => {
                self.waiting.push(Waiting::for_pass(reply));
                return;
            }
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
                self.pausing.push(Waiting {
                    reply,
                    done: Some(PAUSED),
                });
                return;
            }
            Ask::Pause => match journal.set_paused(Paused::Yes) {
                Ok(()) => {
                    self.waiting.push(Waiting {
                        reply,
                        done: Some(PAUSED),
                    });
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
                        self.waiting.push(Waiting {
                            reply,
                            done: Some(RESUMED),
                        });
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

    fn roll_back(&self, rev: Option<&str>) -> Result<(), Answer> {
        let journal = self.agent.world.journal();
        let ledger = journal.ledger();
        let target =
            rollback_target(&ledger, rev).map_err(|message| Answer::Failed { code: 2, message })?;
        let lost = journal.incomplete().map_err(|error| failed(1, &error))?;
        if lost.contains(target) {
            let message = format!(
                "what this device keeps of {} is damaged, and could not be made again: name another revision, or try once \
                 the remote answers",
                target.commit().short()
            );
            return Err(Answer::Failed { code: 1, message });
        }
        let pin = Pin {
            commit: target.commit().clone(),
            at: self.agent.world.clock().now(),
        };
        journal
            .set_pin(Some(&pin))
            .map_err(|error| failed(1, &error))
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
                Ask::Sync
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
        if !self.waiting.is_empty() || std::mem::take(&mut self.poked) {
            return Urgency::Asked;
        }
        if self.renewing {
            self.stopping = true;
            return Urgency::Scheduled;
        }
        let wait = self.at_most(self.next_wait(outcome));
        let deadline = Instant::now() + wait;
        self.tell_next(wait);
        let fetched = self.fetched();
        loop {
            let rests = Event::Rests(deadline.saturating_duration_since(Instant::now()));
            self.agent.world.reporter().tell(&rests);
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return Urgency::Scheduled,
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

/// The moment, if there is one; else never.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn failed(code: u8, error: &(dyn std::error::Error + 'static)) -> Answer {
    Answer::Failed {
        code,
        message: crate::cycle::chain(error),
    }
}

/// The good revision that `rollback` means: the one whose id begins with `rev`, or the previous one with other content
/// than what is in force now.
///
/// # Errors
/// One sentence with the next move.
pub fn rollback_target<'l>(
    ledger: &'l Ledger,
    rev: Option<&str>,
) -> Result<&'l GoodRevision, String> {
    let list = || {
        let kept: Vec<&str> = ledger
            .good
            .iter()
            .map(|good| good.commit().short())
            .collect();
        format!("kept here: {}", kept.join(", "))
    };
    if let Some(rev) = rev {
        let rev = rev.to_ascii_lowercase();
        let mut matching = ledger
            .good
            .iter()
            .filter(|good| rev.len() >= 4 && good.commit().as_str().starts_with(&rev));
        return match (matching.next(), matching.next()) {
            (Some(one), None) => Ok(one),
            (Some(_), Some(_)) => Err(format!("`{rev}` is not one revision alone; {}", list())),
            (None, _) => Err(format!(
                "`{rev}` is not a good revision that is kept on this device (give at least 4 digits); {}",
                list()
            )),
        };
    }
    let current = match &ledger.pin {
        Some(pin) => ledger.good.iter().find(|good| *good.commit() == pin.commit),
        None => ledger.last_good(),
    };
    if let (None, Some(trial), Some(good)) = (&ledger.pin, ledger.underway(), current)
        && trial.content != *good.content()
    {
        // Something newer is being tried: back from that is where the device was before.
        return Ok(good);
    }
    let Some(current) = current else {
        return Err(
            "nothing has been good on this device yet: there is nothing to go back to".to_owned(),
        );
    };
    ledger
        .good
        .iter()
        .skip_while(|good| *good != current)
        .find(|good| good.content() != current.content())
        .ok_or_else(|| {
            format!(
                "no older good revision with other content than {} is kept on this device",
                current.commit().short()
            )
        })
}

#[cfg(test)]
#[path = "daemon/tests.rs"]
mod tests;
