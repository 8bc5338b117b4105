//! The one place where a change is held on purpose: all that can fail early is done, and its try is not spent yet.
//!
//! What began goes on: a revision that is on the device, or on its way there, is not held half-way. A device with nothing good
//! has nothing to keep, so it does not wait either. And nothing here is asked on the way to what is good: healing and rollback
//! are never held.

use evenkeel_schema::rollout::Rollout;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::keep::why_text;
use super::prepare::Obstacle;
use super::{Agent, CycleError, Passed};
use crate::domain::desired::Resolved;
use crate::domain::history::Ledger;
use crate::domain::hold::{HeldBy, Hold};
use crate::domain::outcome::Outcome;
use crate::domain::revision::{CommitId, Timestamp};
use crate::port::World;
use crate::port::clock::Clock as _;
use crate::port::journal::Journal as _;
use crate::port::source::Source as _;
use crate::resolve;
use crate::schedule::rollout::{self, Now};
use crate::select::Why;
use crate::trust::verified::VerifiedCommit;

/// What is asked of a clock that nobody vouches for: how far behind a signed date it may be and still count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lag {
    /// For a turn: one that is behind is late, which hurts nobody. A day: a clock that is further behind stands still.
    Turn,
    /// For a window: one that is behind opens it at the wrong hour. Ten minutes: what two clocks may differ by.
    Window,
}

impl Lag {
    const fn seconds(self) -> i64 {
        match self {
            Self::Turn => 24 * 60 * 60,
            Self::Window => 10 * 60,
        }
    }
}

/// Whether every image of a revision is on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Images {
    Here,
    Missing,
}

/// Whether a person lets what is due later begin now (`evenkeel sync --now`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Haste {
    /// Everything in its time.
    #[default]
    InTime,
    /// Outside the windows and before this device's turn; not past a halt.
    Now,
}

impl<W: World> Agent<W> {
    /// What keeps this revision from being begun now. Where several things do, the first one gives its name, each is judged at
    /// the time when the one before it ends, and the last one says until when.
    pub(super) fn held(
        &self,
        commit: &VerifiedCommit,
        resolved: &Resolved,
        ledger: &Ledger,
        images: Images,
    ) -> Option<Hold> {
        if must_not_wait(commit.id(), resolved, ledger) {
            return None;
        }
        self.gates(commit, resolved.rollout.as_ref(), ledger, images)
    }

    fn gates(
        &self,
        commit: &VerifiedCommit,
        rollout: Option<&Rollout>,
        ledger: &Ledger,
        images: Images,
    ) -> Option<Hold> {
        if let Some(place) = rollout.and_then(|rollout| rollout.halt.as_ref()) {
            let message = format!(
                "the rollout is halted ({place}): what has not begun waits for a later commit without the halt"
            );
            return Some(Hold::open(HeldBy::Halt, message));
        }
        if self.session.haste.get() == Haste::Now {
            return None;
        }
        let windows = &self.settings.windows;
        let in_window = self.time(commit, ledger, Lag::Window);
        let turns = rollout.and_then(|rollout| rollout.turns.as_ref());
        let mut hold = match images {
            Images::Missing => windows.holds_download(&in_window),
            Images::Here => None,
        };
        if let Some(turns) = turns {
            let device = &self.settings.device;
            let now = self.time(commit, ledger, Lag::Turn);
            hold = then(hold, &now, |at| rollout::holds(turns, device, at));
        }
        then(hold, &in_window, |at| {
            if self.is_in_grace(commit.id(), at) {
                return None;
            }
            windows.holds_change(at)
        })
    }

    /// A change is being prepared, and nothing holds it: it may begin a little after the window's end, too.
    pub(super) fn begins_in_window(
        &self,
        commit: &VerifiedCommit,
        resolved: &Resolved,
        ledger: &Ledger,
    ) {
        let now = self.time(commit, ledger, Lag::Window);
        if self.held(commit, resolved, ledger, Images::Here).is_none()
            && let Some(until) = self.settings.windows.lasts_until(&now)
        {
            // `lasts_until` knows the time, or there is no end.
            let from = self.world.clock().now();
            self.session
                .in_window
                .replace(Some((commit.id().clone(), from, until)));
        }
    }

    fn is_in_grace(&self, commit: &CommitId, at: &Now) -> bool {
        match (&*self.session.in_window.borrow(), at) {
            // A clock that went back since says nothing of the window that was open then.
            (Some((noted, from, until)), Now::Known(now)) => {
                noted == commit && (from..until).contains(&now)
            }
            (_, _) => false,
        }
    }

    /// What keeps the agent's own next version, which this commit declares, from being fetched or started. A tip that this
    /// agent cannot read holds nothing: it may be the next version that can.
    pub async fn holds_agent(&self, commit: &VerifiedCommit, step: AgentStep) -> Option<Hold> {
        let ledger = self.world.journal().ledger();
        ledger.last_good()?;
        let settings = &self.settings;
        let first = resolve::first_documents(&settings.device);
        let tree = self.world.source().read(commit.tree(), &first).await.ok()?;
        let selection = resolve::apps_of(&settings.device, &settings.labels, &tree).ok()?;
        let images = match step {
            AgentStep::Fetch => Images::Missing,
            AgentStep::Switch => Images::Here,
        };
        let hold = match self.gates(commit, selection.rollout.as_ref(), &ledger, images) {
            None if step == AgentStep::Fetch => self.holds_binary().await?,
            hold => hold?,
        };
        let holds = match step {
            // It is fetched ahead of its turn, as images are.
            AgentStep::Fetch => hold.by.holds_fetching(),
            AgentStep::Switch => true,
        };
        holds.then_some(hold)
    }

    /// Whether a commit would be held here.
    pub(super) async fn would_wait(&self, commit: &VerifiedCommit) -> bool {
        let ledger = self.world.journal().ledger();
        match self.resolve(commit).await {
            Ok(resolved) => {
                self.held(commit, &resolved, &ledger, Images::Here)
                    .is_some()
                    || (!must_not_wait(commit.id(), &resolved, &ledger)
                        && self.any_locked(&resolved.state, &ledger).await)
            }
            Err(Obstacle::Rejected(_) | Obstacle::Waiting(_)) => false,
        }
    }

    /// What this device knows of the time. A clock that shows less than is known to have passed is wrong, and so may be one
    /// that a time service has not set yet. By its uptime it knows all the same that so much has passed since.
    ///
    /// A signed date is no proof against a clock that is known to be right, for whoever signed may have had a wrong one.
    fn time(&self, commit: &VerifiedCommit, ledger: &Ledger, lag: Lag) -> Now {
        let clock = self.world.clock();
        let floor = self.time_floor(ledger.floor.as_ref());
        let signed = commit.alive().max(commit.time());
        let least = self.session.at_least(floor.max(signed));
        let now = clock.now();
        let is_late = now.0.saturating_add(lag.seconds()) < signed.0;
        if clock.awaits_time() {
            let why = "no time service has set this device's clock yet";
            Now::AtLeast(least, why.to_owned())
        } else if now < floor || (is_late && !clock.is_synchronised()) {
            let why = "this device's clock shows a time that has passed";
            Now::AtLeast(least, why.to_owned())
        } else {
            Now::Known(now)
        }
    }

    /// Stays at last-good while a revision is held on purpose: holding never stops healing.
    pub(super) async fn stay_held(
        &self,
        ledger: &Ledger,
        commit: &CommitId,
        hold: Hold,
    ) -> Result<Passed, CycleError> {
        self.stay(ledger, Why::Held(commit.clone(), hold)).await
    }
}

/// What becomes of the agent's own next version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentStep {
    /// It is downloaded.
    Fetch,
    /// It takes this one's place.
    Switch,
}

/// One thing that holds after another.
fn then(first: Option<Hold>, now: &Now, next: impl FnOnce(&Now) -> Option<Hold>) -> Option<Hold> {
    let Some(first) = first else {
        return next(now);
    };
    let Some(until) = first.until else {
        return Some(first);
    };
    match next(&Now::Known(until)) {
        None => Some(first),
        Some(next) => Some(Hold {
            by: first.by,
            message: format!("{}; then {}", first.message, next.message),
            until: next.until,
        }),
    }
}

/// Whether a revision is begun already, or there is nothing to keep in its place.
pub(super) fn must_not_wait(commit: &CommitId, resolved: &Resolved, ledger: &Ledger) -> bool {
    let goes_on = ledger.underway().is_some_and(|trial| {
        trial.commit == *commit || trial.content == resolved.state.content_id()
    });
    goes_on || ledger.last_good().is_none()
}

/// How a pass ends that held this.
pub(super) fn held_for(commit: &CommitId, hold: &Hold) -> Outcome {
    Outcome::Held(Hold {
        message: why_text(&Why::Held(commit.clone(), hold.clone())),
        ..hold.clone()
    })
}

impl super::Session {
    /// The latest time that is known to have passed: this, or one that was known before and the time since.
    pub(super) fn at_least(&self, known: Timestamp) -> Timestamp {
        let now = Instant::now();
        let mut kept = self.past.borrow_mut();
        if let Some((time, at)) = *kept
            && time <= known
        {
            let since = now.saturating_duration_since(at).as_secs();
            let by_now = Timestamp(time.0.saturating_add_unsigned(since));
            if by_now >= known {
                return by_now;
            }
        }
        // Something later is known; or a tip whose date was wrong has gone, and what followed from it.
        *kept = Some((known, now));
        known
    }
}
