//! What is told while cycles run: the report, kept in memory, saved by the journal when something changed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::hold::Haste;
use super::locks::Locks;
use super::prepare::Waiting;
use crate::domain::commit::{Extent, RawHistory};
use crate::domain::history::Deferral;
use crate::domain::hold::Ends;
use crate::domain::outcome::{Condition, ConditionStatus, ConditionType, Outcome, Phase, Report};
use crate::domain::revision::{CommitId, ContentId, Timestamp};
use crate::domain::storage::Storage;
use crate::port::World;
use crate::port::clock::Clock as _;
use crate::port::reporter::{Event, Reporter as _};
use crate::schedule::{self, Jitter};
use crate::select::Waits;
use crate::trust::verified::VerifiedCommit;

pub use crate::domain::text::chain;

/// Why a running cycle is asked to end early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// The agent is told to stop.
    Stop,
    /// A person asked for something else (a rollback).
    Asked,
}

/// How a running cycle is asked to end early.
#[derive(Debug, Default)]
pub struct Interrupt {
    what: Cell<Option<Interruption>>,
    notify: Notify,
}

impl Interrupt {
    /// Asks. A stop is never replaced by something weaker.
    pub fn raise(&self, what: Interruption) {
        if self.what.get() != Some(Interruption::Stop) {
            self.what.set(Some(what));
        }
        self.notify.notify_one();
    }

    /// What was asked, if anything.
    pub fn raised(&self) -> Option<Interruption> {
        self.what.get()
    }

    /// Forgets a request that has been met.
    pub fn clear(&self) {
        if self.what.get() == Some(Interruption::Asked) {
            self.what.set(None);
        }
    }

    /// Waits until something is asked.
    pub async fn wait(&self) -> Interruption {
        loop {
            if let Some(what) = self.what.get() {
                return what;
            }
            self.notify.notified().await;
        }
    }
}

/// What a condition says now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Says {
    /// Whether.
    pub status: ConditionStatus,
    /// Why, in one word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
}

impl Says {
    /// It is so.
    pub fn yes(reason: &str, message: impl Into<String>) -> Self {
        Self {
            status: ConditionStatus::True,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    /// It is not so.
    pub fn no(reason: &str, message: impl Into<String>) -> Self {
        Self {
            status: ConditionStatus::False,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    /// Not known.
    pub fn unknown(reason: &str, message: impl Into<String>) -> Self {
        Self {
            status: ConditionStatus::Unknown,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

/// Which history: of which tip, down to what, and how much of it.
pub(super) type HistoryKey = (CommitId, Option<CommitId>, Extent);

/// A revision that waits for something outside the device: a registry, the engine, room on a disk.
#[derive(Debug)]
struct PutOff {
    commit: CommitId,
    waiting: Waiting,
    /// How often in a row.
    times: u32,
    /// When it is tried again. Of the monotonic clock: the wall clock may jump.
    due: Instant,
}

/// The report and what else lives from cycle to cycle.
#[derive(Debug, Default)]
pub struct Session {
    report: RefCell<Report>,
    /// How often a newer commit has interrupted another one in a row; after two that is let finish.
    pub interruptions: Cell<u32>,
    /// A newer commit came while an image of last-good was being pulled: another pass is due at once.
    pub overtaken: Cell<bool>,
    /// Whether the hooks of the way back that is under way were run.
    pub(super) undone: Cell<bool>,
    /// The revision that waits for something before it can be tried, and until when.
    waiting: RefCell<Option<PutOff>>,
    /// A time that is known to have passed, and when it was known.
    pub(super) past: RefCell<Option<(Timestamp, Instant)>>,
    /// Whether a person lets what is due later begin now.
    pub haste: Cell<Haste>,
    /// Whether a person passes over update locks now.
    pub locks: Cell<Locks>,
    /// The update locks that are held, by what is said of them, and since when as far as this process knows.
    pub(super) held_locks: RefCell<BTreeMap<String, Instant>>,
    /// The change that was being prepared while the window was open, since when, and until when it may begin.
    pub(super) in_window: RefCell<Option<(CommitId, Timestamp, Timestamp)>>,
    /// What ailed the disk when this cycle began.
    pub(super) ails: RefCell<Option<super::room::Ailment>>,
    /// What a revision's files weigh.
    pub(super) weight: RefCell<Option<(ContentId, u64)>>,
    /// What of the disk kept the last fetch from being stored.
    pub(super) unstored: Cell<Option<Storage>>,
    /// What was spent on a metered link.
    pub(super) metered: super::metered::Metered,
    /// What the remotes said when all of them were asked.
    pub(super) remotes: super::remotes::Remotes,
    /// Whether the remote answered in this cycle.
    pub reached: Cell<bool>,
    /// The commit that trust accepted when it was looked at last.
    pub accepted: RefCell<Option<VerifiedCommit>>,
    /// Told whenever trust has accepted one.
    pub accepting: Notify,
    /// Why nothing new is looked at, after unclean starts.
    pub held_back: RefCell<Option<String>>,
    /// Since when the remote has not answered without the change that was put off for that.
    pub(super) silent_since: Cell<Option<Instant>>,
    /// When what is kept was last looked at.
    pub(super) looked: Cell<Option<super::mend::Looked>>,
    /// When the engine was last restarted for a port that it kept.
    pub(super) restarted_engine: Cell<Option<Instant>>,
    /// Which images were removed last, and what stayed.
    pub(super) tidied: RefCell<Option<super::tidy::Tidied>>,
    /// Which containers end again and again.
    pub(super) restless: RefCell<super::restless::Restless>,
    /// What trust found good before.
    pub memo: RefCell<crate::trust::policy::Memo>,
    /// The deferral that was seen last, and when it is over: by monotonic time, for the wall clock may jump.
    put_off: RefCell<Option<(Deferral, Instant)>>,
    /// The history that was read last, and for what.
    history: RefCell<Option<(HistoryKey, Rc<RawHistory>)>>,
}

impl Session {
    /// A session that goes on from what was last told.
    #[must_use]
    pub fn from_report(report: Report) -> Self {
        Self {
            report: RefCell::new(report),
            ..Self::default()
        }
    }

    /// How long a deferral still lasts. The wall clock is asked once, for one that another process wrote down.
    pub(super) fn waits(&self, deferral: Option<&Deferral>, now: Timestamp) -> Waits {
        let Some(deferral) = deferral else {
            self.put_off.replace(None);
            return Waits(Duration::ZERO);
        };
        let known = match &*self.put_off.borrow() {
            Some((known, over)) if known == deferral => Some(*over),
            Some(_) | None => None,
        };
        let over = known.unwrap_or_else(|| {
            let seconds = deferral.until.0.saturating_sub(now.0);
            self.put_off(deferral, schedule::deferral_left(deferral.times, seconds))
        });
        Waits(over.saturating_duration_since(Instant::now()))
    }

    /// Puts off from now on. Returns when that is over.
    pub(super) fn put_off(&self, deferral: &Deferral, wait: Duration) -> Instant {
        let over = Instant::now() + wait;
        self.put_off.replace(Some((deferral.clone(), over)));
        over
    }

    /// The history that was kept for this.
    pub(super) fn history(&self, key: &HistoryKey) -> Option<Rc<RawHistory>> {
        let kept = self.history.borrow();
        let (of, history) = kept.as_ref()?;
        (of == key).then(|| Rc::clone(history))
    }

    /// Keeps a history in the place of the one before.
    pub(super) fn keep_history(&self, key: HistoryKey, history: RawHistory) -> Rc<RawHistory> {
        let history = Rc::new(history);
        self.history.replace(Some((key, Rc::clone(&history))));
        history
    }

    /// There is more of it now.
    pub(super) fn forget_history(&self) {
        self.history.replace(None);
    }

    /// What a commit waits for, while it is too early to try again.
    pub(super) fn still_waiting(&self, commit: &CommitId) -> Option<Waiting> {
        let kept = self.waiting.borrow();
        let put_off = kept.as_ref()?;
        (put_off.commit == *commit && Instant::now() < put_off.due).then(|| put_off.waiting.clone())
    }

    /// A commit waits, perhaps once more: the first time until the next poll, then longer and longer.
    pub(super) fn wait_again(&self, commit: &CommitId, waiting: &Waiting, interval: Duration) {
        let mut kept = self.waiting.borrow_mut();
        let times = match kept.as_ref() {
            Some(before) if before.commit == *commit => before.times.saturating_add(1),
            Some(_) | None => 1,
        };
        let pause = match times {
            1 => Duration::ZERO,
            // Half an interval less, so that it is due at a poll, and not just after it.
            _ => schedule::next_wake(interval, times, Jitter::fixed(500)) - interval / 2,
        };
        *kept = Some(PutOff {
            commit: commit.clone(),
            waiting: waiting.clone(),
            times,
            due: Instant::now() + pause,
        });
    }

    /// Nothing is waited for any more.
    pub(super) fn wait_no_more(&self) {
        self.waiting.replace(None);
    }

    /// What is told now.
    #[must_use]
    pub fn report(&self) -> Report {
        self.report.borrow().clone()
    }

    /// Changes the report and tells it.
    pub fn update<W: World>(&self, world: &W, change: impl FnOnce(&mut Report)) {
        let mut report = self.report.borrow().clone();
        change(&mut report);
        if *self.report.borrow() != report {
            *self.report.borrow_mut() = report.clone();
            world.reporter().tell(&Event::Report(Box::new(report)));
        }
    }

    /// Enters a phase.
    pub fn phase<W: World>(&self, world: &W, phase: Phase) {
        self.update(world, |report| report.phase = phase);
    }

    /// Sets a condition; `since` moves only when its status does.
    pub fn says<W: World>(&self, world: &W, kind: ConditionType, says: Says) {
        let now = world.clock().now();
        self.update(world, |report| set_condition(report, kind, says, now));
    }

    /// Tells something a person should read.
    pub fn notice<W: World>(&self, world: &W, text: &str) {
        world.reporter().tell(&Event::Notice(text.to_owned()));
    }

    /// Sets what runs.
    pub fn applied<W: World>(&self, world: &W, commit: &CommitId) {
        self.update(world, |report| {
            report.revision.applied = Some(commit.clone())
        });
    }
}

fn set_condition(report: &mut Report, kind: ConditionType, says: Says, now: Timestamp) {
    let since = report
        .conditions
        .iter()
        .find(|condition| condition.kind == kind && condition.status == says.status)
        .map_or(now, |condition| condition.since);
    report.conditions.retain(|condition| condition.kind != kind);
    report.conditions.push(Condition {
        kind,
        status: says.status,
        reason: says.reason,
        message: says.message,
        since,
    });
    report.conditions.sort_by_key(|condition| condition.kind);
}

/// The reason of an outcome where what is declared is applied, and does not get well.
pub(super) const UNHEALTHY: &str = "unhealthy";

/// The three conditions that an outcome decides: `Ready`, `Reconciling`, `Stalled`.
pub(super) fn ending(outcome: &Outcome, healthy: bool) -> [(ConditionType, Says); 3] {
    use ConditionType::{Ready, Reconciling, Stalled};
    let settled = Says::no("Settled", "nothing is going on");
    let unstalled = Says::no("Progressing", "no person is needed");
    match outcome {
        Outcome::Converged | Outcome::Applied { .. } | Outcome::Healed { .. } if healthy => [
            (
                Ready,
                Says::yes("Converged", "at the branch's tip, and healthy"),
            ),
            (Reconciling, settled),
            (Stalled, unstalled),
        ],
        Outcome::Converged | Outcome::Applied { .. } | Outcome::Healed { .. } => [
            (
                Ready,
                Says::no("Unhealthy", "at the branch's tip, but not healthy"),
            ),
            (
                Reconciling,
                Says::yes("Healing", "the next pass looks again"),
            ),
            (
                Stalled,
                Says::yes(
                    "Unhealthy",
                    "the declared state is applied and does not get healthy",
                ),
            ),
        ],
        Outcome::RolledBack { why, .. } => [
            (Ready, Says::no("RolledBack", why)),
            (Reconciling, settled),
            (Stalled, unstalled),
        ],
        Outcome::Held(hold) => [
            (Ready, Says::no(hold.by.reason(), &hold.message)),
            match hold.by.ends() {
                Ends::ByHand => (Reconciling, settled),
                Ends::ByItself | Ends::Perhaps => {
                    (Reconciling, Says::yes(hold.by.reason(), &hold.message))
                }
            },
            match hold.by.ends() {
                Ends::ByHand | Ends::ByItself => (Stalled, unstalled),
                Ends::Perhaps => (Stalled, Says::yes(hold.by.reason(), &hold.message)),
            },
        ],
        Outcome::Rejected { reason, message } => [
            (Ready, Says::no(reason, message)),
            (Reconciling, settled),
            (Stalled, Says::yes(reason, message)),
        ],
        Outcome::Unhealthy { commit, why } => {
            let message = format!("{} was refused: {why}", commit.short());
            [
                (Ready, Says::no("Refused", &message)),
                (Reconciling, settled),
                (Stalled, Says::yes("Refused", message)),
            ]
        }
        Outcome::Deferred { reason, message } if reason == UNHEALTHY => [
            (Ready, Says::no("Unhealthy", message)),
            (
                Reconciling,
                Says::yes("Healing", "the next pass looks again"),
            ),
            (Stalled, Says::yes("Unhealthy", message)),
        ],
        Outcome::Deferred { reason, message } => [
            (Ready, Says::no(reason, message)),
            (Reconciling, Says::yes(reason, message)),
            match Storage::of_reason(reason) {
                Some(Storage::ReadOnly | Storage::Failing) => (Stalled, Says::yes(reason, message)),
                Some(Storage::Full) | None => (Stalled, unstalled),
            },
        ],
    }
}
