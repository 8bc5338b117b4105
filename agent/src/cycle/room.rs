//! What ails the device's own disk: looked at in each pass, told in each status, and no reason to stop healing.

use super::session::{Says, chain};
use super::{Agent, CycleError};
use crate::domain::history::Ledger;
use crate::domain::outcome::{ConditionType, Outcome};
use crate::domain::storage::Storage;
use crate::port::World;
use crate::port::journal::Journal as _;
use crate::select::Why;

/// What ails the disk, and in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ailment {
    pub(super) storage: Storage,
    pub(super) message: String,
}

impl<W: World> Agent<W> {
    /// Holds back room for going back to last-good, and remembers where there is none.
    pub(super) fn hold_room(&self, ledger: &Ledger) {
        let journal = self.world.journal();
        let contents = ledger.last_good().map_or(0, |good| {
            let known = self.session.weight.borrow().clone();
            match known {
                Some((of, weight)) if of == *good.content() => weight,
                Some(_) | None => {
                    // What cannot be read is told elsewhere.
                    let weight = journal
                        .kept_state(good.content())
                        .map_or(0, |state| state.files().map(|(_, _, file)| file.size).sum());
                    let known = (good.content().clone(), weight);
                    self.session.weight.replace(Some(known));
                    weight
                }
            }
        });
        let ails = journal
            .trouble()
            .or_else(|| journal.hold_room(contents).err())
            .and_then(|error| {
                let storage = Storage::behind(&error)?;
                let message = chain(&error);
                Some(Ailment { storage, message })
            });
        self.session.ails.replace(ails);
    }

    /// What the disk ailed when this pass began.
    pub(super) fn ails(&self) -> Option<Ailment> {
        self.session.ails.borrow().clone()
    }

    /// A memory that takes no write for the disk's sake stops nothing that needs none: what is good is put right.
    pub(super) async fn go_on_without(&self, error: &CycleError) -> Outcome {
        let message = chain(error);
        let Some(storage) = Storage::behind(error) else {
            let reason = super::JOURNAL.to_owned();
            return Outcome::Deferred { reason, message };
        };
        let ledger = self.world.journal().ledger();
        if let Some(good) = ledger.last_good() {
            let why = Why::Deferred {
                commit: good.commit().clone(),
                why: message.clone(),
                until: crate::port::clock::Clock::now(self.world.clock()),
            };
            if let Err(again) = self.keep(good, &why).await {
                tracing::debug!(error = chain(&again), "healing met the disk, too");
            }
        }
        ailing(storage, message)
    }

    /// A disk that ails is told whatever else is: over what the outcome says of itself.
    pub(super) fn tell_disk(&self, outcome: &Outcome) {
        let told = match outcome {
            Outcome::Deferred { reason, .. } => Storage::of_reason(reason).is_some(),
            Outcome::Converged
            | Outcome::Applied { .. }
            | Outcome::Healed { .. }
            | Outcome::RolledBack { .. }
            | Outcome::Held(_)
            | Outcome::Rejected { .. }
            | Outcome::Unhealthy { .. } => false,
        };
        if told {
            return;
        }
        if let Some(Ailment { storage, message }) = self.ails() {
            for (kind, says) in conditions(storage, &message) {
                self.session.says(&self.world, kind, says);
            }
        }
    }
}

/// The outcome of a pass that the disk ended.
pub(super) fn ailing(storage: Storage, message: String) -> Outcome {
    Outcome::Deferred {
        reason: storage.reason().to_owned(),
        message: storage.explain(message),
    }
}

/// Beside `Ready`: room comes back by itself often enough; a disk that takes no write at all wants a person.
pub(super) fn conditions(storage: Storage, message: &str) -> Vec<(ConditionType, Says)> {
    let says = || Says::yes(storage.reason(), message);
    match storage {
        Storage::Full => vec![(ConditionType::Reconciling, says())],
        Storage::ReadOnly | Storage::Failing => vec![
            (ConditionType::Reconciling, says()),
            (ConditionType::Stalled, says()),
        ],
    }
}
