//! What a cycle tells: drift, and, at its end, conditions and phase.

use super::Agent;
use super::session::{Says, chain, ending};
use crate::domain::hold::{HeldBy, Hold};
use crate::domain::outcome::{ConditionStatus, ConditionType, Outcome, Phase};
use crate::domain::storage::Storage;
use crate::port::World;
use crate::port::journal::Journal as _;
use crate::port::reporter::{Event, Reporter as _};

impl<W: World> Agent<W> {
    pub(super) fn tell_drift(&self, drift: &[String]) {
        let says = match drift {
            [] => Says::no("InSync", "the device is as declared"),
            [one] => Says::yes("Drift", one),
            [one, rest @ ..] => Says::yes("Drift", format!("{one}, and {} more", rest.len())),
        };
        self.session.update(&self.world, |report| {
            report.drift = drift.to_vec();
        });
        self.session.says(&self.world, ConditionType::Drifted, says);
    }

    /// The end of a cycle: conditions, phase, and the report on disk where something changed.
    pub(super) fn finish(&self, outcome: &Outcome) {
        let ledger = self.world.journal().ledger();
        let healthy = self
            .session
            .report()
            .conditions
            .iter()
            .find(|condition| condition.kind == ConditionType::Healthy)
            .is_none_or(|condition| condition.status != ConditionStatus::False);
        for (kind, says) in ending(outcome, healthy) {
            self.session.says(&self.world, kind, says);
        }
        self.tell_disk(outcome);
        let suspended = if let Some(pin) = &ledger.pin {
            let message = format!(
                "rolled back by hand to {}; `evenkeel resume` goes on",
                pin.commit.short()
            );
            Says::yes("RolledBackByHand", message)
        } else if ledger.paused {
            Says::yes("Paused", "paused by hand; `evenkeel resume` goes on")
        } else {
            Says::no("NotSuspended", "changes are applied as they come")
        };
        self.session
            .says(&self.world, ConditionType::Suspended, suspended);
        let phase = match outcome {
            _ if ledger.paused => Phase::Paused,
            Outcome::Unhealthy { .. } if ledger.last_good().is_some() => Phase::RolledBack,
            Outcome::Unhealthy { .. }
            | Outcome::Converged
            | Outcome::Applied { .. }
            | Outcome::Healed { .. }
            | Outcome::RolledBack { .. }
            | Outcome::Held(_)
            | Outcome::Rejected { .. }
            | Outcome::Deferred { .. } => Phase::Idle,
        };
        self.session.update(&self.world, |report| {
            report.phase = phase;
            report.held = holds_tip(outcome);
            report.device = self.settings.device.to_string();
            report.branch.clone_from(&self.settings.branch);
            report.warnings = self.trust_warnings();
            report.revision.last_good = ledger.last_good().map(|good| good.commit().clone());
            let tree = ledger.last_good().map(|good| good.tree().clone());
            if report.revision.tree != tree {
                report.revision.tree = tree;
                report.revision.since = ledger.last_good().map(|good| good.at());
            }
        });
        if let Err(error) = self.world.journal().save_report(&self.session.report())
            // A disk that takes no write is told in the conditions already, and `status` asks the daemon.
            && Storage::behind(&error).is_none()
        {
            self.session.notice(&self.world, &chain(&error));
        }
        self.world.reporter().tell(&Event::Outcome(outcome.clone()));
    }
}

/// What holds the tip back, where no person at this device does.
fn holds_tip(outcome: &Outcome) -> Option<Hold> {
    let Outcome::Held(hold) = outcome else {
        return None;
    };
    match hold.by {
        HeldBy::Paused | HeldBy::RolledBack | HeldBy::Nothing => None,
        HeldBy::Window
        | HeldBy::Download
        | HeldBy::Metered
        | HeldBy::Wave
        | HeldBy::Halt
        | HeldBy::Lock
        | HeldBy::LockOverdue => Some(hold.clone()),
    }
}
