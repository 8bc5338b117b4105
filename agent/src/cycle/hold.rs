//! The one place where a change is held on purpose: all that can fail early is done, and its try is not spent yet.
//!
//! What began goes on: a revision that is on the device, or on its way there, is not held half-way. A device with nothing good
//! has nothing to keep, so it does not wait either. And nothing here is asked on the way to what is good: healing and rollback
//! are never held.

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
use crate::schedule::rollout::{self, Now};
use crate::select::Why;
use crate::trust::verified::VerifiedCommit;

impl<W: World> Agent<W> {
    /// What keeps this revision from being begun now.
    pub(super) fn held(
        &self,
        commit: &VerifiedCommit,
        resolved: &Resolved,
        ledger: &Ledger,
    ) -> Option<Hold> {
        if must_not_wait(commit.id(), resolved, ledger) {
            return None;
        }
        let rollout = resolved.rollout.as_ref()?;
        if let Some(place) = &rollout.halt {
            let message = format!(
                "the rollout is halted ({place}): what has not begun waits for a later commit without the halt"
            );
            return Some(Hold::open(HeldBy::Halt, message));
        }
        let turns = rollout.turns.as_ref()?;
        let now = self.time(commit, ledger);
        rollout::holds(turns, &self.settings.device, &now)
    }

    /// Whether a commit would be held here.
    pub(super) async fn would_wait(&self, commit: &VerifiedCommit) -> bool {
        let ledger = self.world.journal().ledger();
        match self.resolve(commit).await {
            Ok(resolved) => self.held(commit, &resolved, &ledger).is_some(),
            Err(Obstacle::Rejected(_) | Obstacle::Waiting(_)) => false,
        }
    }

    /// What this device knows of the time. A clock that shows less than is known to have passed is wrong, and so may be one
    /// that a time service has not set yet. By its uptime it knows all the same that so much has passed since.
    fn time(&self, commit: &VerifiedCommit, ledger: &Ledger) -> Now {
        let clock = self.world.clock();
        let signed = commit.alive().max(commit.time());
        let least = self
            .session
            .at_least(self.time_floor(ledger.floor.as_ref()).max(signed));
        let now = clock.now();
        if clock.awaits_time() {
            let why = "no time service has set this device's clock yet";
            Now::AtLeast(least, why.to_owned())
        } else if now < least {
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

/// Whether a revision is begun already, or there is nothing to keep in its place.
fn must_not_wait(commit: &CommitId, resolved: &Resolved, ledger: &Ledger) -> bool {
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
    /// The latest time that is known to have passed: one of those that were known before, plus the time since.
    pub(super) fn at_least(&self, known: Timestamp) -> Timestamp {
        let now = Instant::now();
        let mut kept = self.past.borrow_mut();
        let before = kept.map(|(time, at)| {
            let since = now.saturating_duration_since(at).as_secs();
            Timestamp(time.0.saturating_add_unsigned(since))
        });
        match before {
            Some(before) if before >= known => before,
            Some(_) | None => {
                *kept = Some((known, now));
                known
            }
        }
    }
}
