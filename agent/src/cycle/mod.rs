//! One cycle: observe, decide, act. The product on one screen.
//!
//! Rollback is not a procedure here: after a refusal the next cycle selects `Keep(last_good)`, and the ordinary plan
//! from what is seen to what was good is the rollback. A power cut, spent tries, drift and a dead network all take
//! that same path.

mod advance;
mod baseline;
mod begin;
mod confirm;
pub mod hand_over;
mod hold;
mod hooks;
mod inventory;
mod keep;
mod limits;
mod locks;
mod look;
mod mend;
mod metered;
mod needs;
mod newer;
mod observe;
mod prepare;
mod preview;
mod probe;
mod remotes;
mod replace;
mod restless;
mod room;
mod session;
mod steps;
mod tell;
#[cfg(test)]
mod tests;
mod tidy;
pub mod trust_state;
mod watch;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use evenkeel_schema::agent_config::{FloorPolicy, MeteredSection, StalePolicy};
use evenkeel_schema::device::MachineId;
use evenkeel_schema::name::DeviceId;

use crate::domain::history::{Floor, Ledger};
use crate::domain::hold::{HeldBy, Hold};
use crate::domain::outcome::{Outcome, Phase};
use crate::domain::revision::CommitId;
use crate::port::World;
use crate::port::clock::Clock as _;
use crate::port::journal::{Journal as _, JournalError};
use crate::port::source::{Reach, Source as _};
use crate::resolve::guard::Limits;
use crate::schedule::window::Windows;
use crate::select::floor::{FloorVerdict, reconcile};
use crate::select::{self, Newest, Target, Urgency, Why};

pub use hold::{AgentStep, Haste};
pub use locks::Locks;
pub use preview::Preview;
pub use session::{Interrupt, Interruption, Session, chain};

use crate::trust::verified::VerifiedCommit;
use keep::at_once;
pub use prepare::ALLOW_EMPTY;
use prepare::Preparation;

/// The reason of an outcome where the device's memory failed.
pub const JOURNAL: &str = "journal";

/// What the device's owner decided, as the loop needs it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This device.
    pub device: DeviceId,
    /// Why this cannot be the device that the state directory belongs to, where its id has changed.
    pub renamed: Option<String>,
    /// Labels of agent.toml.
    pub labels: BTreeMap<String, String>,
    /// The branch.
    pub branch: String,
    /// The owner's limits, and what they protect.
    pub limits: Limits,
    /// What `fleet.toml` must name.
    pub fleet: Option<String>,
    /// The machine that this is, or why that cannot be told: `devices/<id>.toml` may pin it.
    pub machine: Result<MachineId, String>,
    /// What the floor is.
    pub floor: FloorPolicy,
    /// The first commit ever taken must descend from this one.
    pub pin: Option<CommitId>,
    /// Time between polls.
    pub interval: Duration,
    /// How long a network remote may take to answer after a change; zero: it is not asked.
    pub confirm: Duration,
    /// A branch whose newest sign of life is older than this raises `Stale`.
    pub max_age: Option<Duration>,
    /// What a stale branch does beyond that.
    pub stale: StalePolicy,
    /// What may be spent on a metered link.
    pub metered: MeteredSection,
    /// Whether any remote is reached over a network.
    pub remote: Reach,
    /// When changes may begin, and images be fetched.
    pub windows: Windows,
}

/// The loop with all it needs.
#[derive(Debug)]
pub struct Agent<W: World> {
    /// The outside.
    pub world: W,
    /// What the owner decided.
    pub settings: Settings,
    /// What is told and remembered between cycles, in memory.
    pub session: Session,
    /// How a running cycle is asked to end early.
    pub interrupt: Rc<Interrupt>,
}

/// How a cycle ended, and whether the next one should follow at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// How.
    pub outcome: Outcome,
    /// Whether another cycle is due now (after a refusal: to put last-good back).
    pub again: Again,
}

/// Whether another cycle is due at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// At once.
    Now,
    /// At the next wake-up.
    Later,
}

/// What a cycle may end with where it cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CycleError {
    /// The journal failed: nothing is changed without it.
    #[error("the device's memory failed")]
    Journal(#[from] JournalError),
}

impl<W: World> Agent<W> {
    /// One cycle. Returns what happened; an error is an outcome, too.
    pub async fn cycle(&self, urgency: Urgency) -> Passed {
        let passed = match self.pass(urgency).await {
            Ok(passed) => passed,
            Err(error) => Passed {
                outcome: self.go_on_without(&error).await,
                again: Again::Later,
            },
        };
        if passed.again == Again::Later && self.interrupt.raised().is_none() {
            self.tidy_images().await;
        }
        self.finish(&passed.outcome);
        if self.session.overtaken.take() {
            return at_once(passed.outcome);
        }
        passed
    }

    async fn pass(&self, urgency: Urgency) -> Result<Passed, CycleError> {
        if let Some(why) = &self.settings.renamed {
            return Ok(later(Outcome::Rejected {
                reason: "DeviceRenamed".to_owned(),
                message: why.clone(),
            }));
        }
        let ledger = self.world.journal().ledger();
        self.hold_room(&ledger);
        let floor = match self.floor(&ledger).await {
            Ok(floor) => floor,
            Err(outcome) => return Ok(later(outcome)),
        };
        let ledger = self.world.journal().ledger();
        self.session.phase(&self.world, Phase::Fetching);
        let held_back = self.session.held_back.borrow().clone();
        let newest = match (&ledger.pin, urgency) {
            _ if let Some(why) = held_back => Newest::HeldBack(why),
            // A rollback that has not arrived yet waits for no network.
            (Some(pin), _)
                if self.session.report().revision.applied.as_ref() != Some(&pin.commit) =>
            {
                Newest::Unknown("the remote was not asked".to_owned())
            }
            (_, Urgency::Boot) => self.look_back(&ledger, floor.as_ref()).await?,
            (_, Urgency::Stirred) => self.look(&ledger, floor.as_ref(), urgency).await?,
            (_, Urgency::Scheduled | Urgency::Asked) => {
                let newest = self.look(&ledger, floor.as_ref(), urgency).await?;
                self.judge_cut_off()?;
                newest
            }
        };
        if let (Newest::Unknown(_), Urgency::Boot) = (&newest, urgency)
            && ledger.good.is_empty()
        {
            return Ok(later(Outcome::Held(Hold::open(
                HeldBy::Nothing,
                "nothing was fetched yet",
            ))));
        }
        self.mend().await?;
        let ledger = self.world.journal().ledger();
        let now = self.world.clock().now();
        let waits = self.session.waits(ledger.deferred.as_ref(), now);
        match select::choose(newest, &ledger, waits, urgency) {
            Target::Hold(why) => self.hold(&ledger, &why).await,
            Target::Keep(good, Why::TriesSpent(commit, content)) => {
                self.refuse_spent(&good, commit, content).await
            }
            Target::Keep(good, why) => self.keep(&good, &why).await.map(later),
            Target::Advance(commit) if self.must_ask_first(commit.id(), &ledger) => {
                let error = self.session.report().poll.error;
                let error = error.unwrap_or_else(|| "it was not asked yet".to_owned());
                let why = format!(
                    "{} waits until the remote answers, so that a change that takes the network away is seen: {error}",
                    commit.id().short()
                );
                self.stay(&ledger, Why::Unknown(why)).await
            }
            Target::Advance(commit) => self.towards(&commit, &ledger, urgency).await,
        }
    }

    /// Towards a new revision. What it waited for before is not tried again at each poll: the remote is asked at the
    /// ordinary interval all the same, so that a newer commit does not wait for it.
    async fn towards(
        &self,
        commit: &VerifiedCommit,
        ledger: &Ledger,
        urgency: Urgency,
    ) -> Result<Passed, CycleError> {
        if urgency != Urgency::Asked
            && let Some(waiting) = self.session.still_waiting(commit.id())
        {
            return self.stay_waiting(ledger, commit.id(), waiting).await;
        }
        let prepared = self.prepare(commit, ledger).await?;
        if let Preparation::Waiting(waiting) = &prepared {
            let interval = self.settings.interval;
            self.session.wait_again(commit.id(), waiting, interval);
        } else {
            self.session.wait_no_more();
        }
        match prepared {
            Preparation::Rejected(rejection) => self.stay(ledger, Why::Rejected(rejection)).await,
            Preparation::Refused(refusal) => self.stay(ledger, Why::Refused(refusal)).await,
            Preparation::Waiting(waiting) => self.stay_waiting(ledger, commit.id(), waiting).await,
            Preparation::Held(hold) => self.stay_held(ledger, commit.id(), hold).await,
            Preparation::Overtaken(newer) => Ok(self.make_way(commit.id(), &newer)),
            Preparation::Same(resolved) => self.take_same(commit, &resolved, ledger).await,
            Preparation::Ready(prepared) => self.advance(*prepared, ledger).await,
        }
    }

    /// Whether a change has to wait until a network remote was reached: whether it can be reached afterwards tells
    /// nothing otherwise, and a change that cuts the device off would become good. What was being tried goes on, for it
    /// began when the remote was reached; and without anything good there is nothing to go back to.
    fn must_ask_first(&self, commit: &CommitId, ledger: &Ledger) -> bool {
        let goes_on = ledger
            .underway()
            .is_some_and(|trial| trial.commit == *commit);
        self.settings.remote == Reach::Network
            && !self.session.reached.get()
            && ledger.last_good().is_some()
            && !goes_on
    }

    /// The floor from its three copies; what a missing or contradictory one means.
    async fn floor(&self, ledger: &Ledger) -> Result<Option<Floor>, Outcome> {
        let journal = self.world.journal();
        let file = journal.floor_file().unwrap_or_else(|error| {
            self.session.notice(
                &self.world,
                &format!("the floor file: {}", session::chain(&error)),
            );
            None
        });
        let reference = self.world.source().floor_ref().unwrap_or_else(|error| {
            self.session.notice(
                &self.world,
                &format!("the floor's ref: {}", session::chain(&error)),
            );
            None
        });
        if let (None, Some(_), None) = (&file, &reference, &ledger.floor) {
            // The file is written before the ref. So it was here, and what else was is not known.
            let says = "of journal, floor file and trust file none is there, and the floor in the git store says that this \
                        device has run before";
            if let Err(error) = journal.has_run_before(says) {
                return Err(Outcome::Deferred {
                    reason: "journal".to_owned(),
                    message: session::chain(&error),
                });
            }
        }
        match reconcile(file.clone(), reference.clone(), ledger.floor.clone()) {
            FloorVerdict::At(floor) => {
                let whole = [&file, &reference, &ledger.floor]
                    .into_iter()
                    .all(|copy| copy.as_ref() == Some(&floor));
                if !whole {
                    // A copy was lost or is older: bring all three to the same generation again.
                    if let Err(error) = self.write_floor(&floor) {
                        self.session
                            .notice(&self.world, &session::chain(&error));
                    }
                }
                Ok(Some(floor))
            }
            FloorVerdict::Conflict { one, other } => Err(self.lost(&format!(
                "two copies of the anti-rollback floor contradict each other ({} says {}, {} says {}); \
                 `evenkeel trust reset --to <commit>` sets it again",
                one.0, one.1.commit, other.0, other.1.commit
            ))),
            FloorVerdict::None if self.has_run_here(ledger).await => Err(self.lost(
                "containers of this device exist, but every copy of the anti-rollback floor is lost; \
                 `evenkeel trust reset --to <commit>` sets it again",
            )),
            FloorVerdict::None => Ok(None),
        }
    }

    fn lost(&self, message: &str) -> Outcome {
        Outcome::Rejected {
            reason: "TrustStateLost".to_owned(),
            message: message.to_owned(),
        }
    }
}

fn later(outcome: Outcome) -> Passed {
    Passed {
        outcome,
        again: Again::Later,
    }
}
