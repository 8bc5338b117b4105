//! A newer commit while one is under way: the remote is asked meanwhile, at the ordinary interval, and an acceptable newer
//! tip ends what is being pulled or watched. So what is stuck never blocks the fix that comes after it.
//!
//! Bounds both ways: commits that come faster than they can be tried interrupt twice in a row; after that a soak is let
//! finish, and a pull has its fair time before it is given up once more.

use std::cell::RefCell;
use std::time::Duration;

use evenkeel_schema::image::ImageRef;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::inventory::services_of;
use super::keep::at_once;
use super::metered::{Purpose, fetched, total};
use super::prepare::Waiting;
use super::session::chain;
use super::{Agent, Interruption, Passed};
use crate::domain::desired::DesiredState;
use crate::domain::hold::Hold;
use crate::domain::outcome::{Outcome, PullProgress};
use crate::domain::revision::CommitId;
use crate::port::World;
use crate::port::engine::{Engine as _, EngineError};
use crate::port::journal::Journal as _;
use crate::port::reporter::{Event, Reporter as _};
use crate::schedule::{self, Jitter};
use crate::select::{Newest, Urgency};
use crate::trust::verified::VerifiedCommit;

/// How many newer commits in a row may interrupt before one is let finish.
const INTERRUPTIONS: u32 = 2;
/// How long a pull may take that was let finish. 30 min: a large image on a slow link, and not a day on one that trickles.
const FAIR_PULL: Duration = Duration::from_secs(30 * 60);

/// Why an image is not here.
pub(super) enum Unpulled {
    /// It cannot be had now.
    Waiting(Waiting),
    /// A newer commit came, which does without it.
    Overtaken(CommitId),
    /// A metered link's budget is too small for it.
    Held(Hold),
}

impl<W: World> Agent<W> {
    /// Waits until the tip is a newer acceptable commit than `known`. A remote that does not answer is no reason to give
    /// up what is under way; it is asked less and less often.
    pub(super) async fn newer_than(&self, known: Option<CommitId>) -> VerifiedCommit {
        let mut failures = 0;
        loop {
            // No chance in it: what came before was spread over the fleet already.
            let interval = self.settings.interval;
            let wait = schedule::next_wake(interval, failures, Jitter::fixed(500));
            tokio::time::sleep(wait).await;
            let ledger = self.world.journal().ledger();
            // Held by a person, or after unclean starts: nothing newer would be taken.
            let is_held_back = self.session.held_back.borrow().is_some();
            if ledger.pin.is_some() || ledger.paused || is_held_back {
                continue;
            }
            let floor = ledger.floor.clone();
            let newest = self.look(&ledger, floor.as_ref(), Urgency::Scheduled).await;
            failures = if self.session.reached.get() {
                0
            } else {
                failures.saturating_add(1)
            };
            match newest {
                Ok(Newest::Verified(commit))
                    if Some(commit.id()) != known.as_ref()
                        && ledger.refusal(commit.id(), None).is_none() =>
                {
                    return commit;
                }
                Ok(
                    Newest::Verified(_)
                    | Newest::Rejected(_)
                    | Newest::Unknown(_)
                    | Newest::HeldBack(_),
                )
                | Err(_) => {}
            }
        }
    }

    /// As [`Agent::newer_than`], while a newer commit may interrupt at all: one that has to wait here does not end what is
    /// under way, for nothing would take its place.
    pub(super) async fn interrupting(&self, known: CommitId) -> CommitId {
        if !self.may_be_interrupted() {
            std::future::pending::<()>().await;
        }
        let mut known = known;
        loop {
            let newer = self.newer_than(Some(known)).await;
            known = newer.id().clone();
            if !self.would_wait(&newer).await {
                self.count_interruption();
                return known;
            }
        }
    }

    /// What was being prepared gives way to a newer commit: nothing was changed, and no try was spent.
    pub(super) fn make_way(&self, commit: &CommitId, newer: &CommitId) -> Passed {
        let message = format!(
            "{} came while {} was being prepared",
            newer.short(),
            commit.short()
        );
        self.session.notice(&self.world, &message);
        at_once(Outcome::Deferred {
            reason: "superseded".to_owned(),
            message,
        })
    }

    fn may_be_interrupted(&self) -> bool {
        self.session.interruptions.get() < INTERRUPTIONS
    }

    fn count_interruption(&self) {
        let so_far = self.session.interruptions.get();
        self.session.interruptions.set(so_far.saturating_add(1));
    }

    /// Pulls these images. A newer commit that does without the one which is under way ends it; one that needs it, too, is
    /// looked at as soon as it is here.
    pub(super) async fn pull_all(
        &self,
        images: impl IntoIterator<Item = &ImageRef>,
        purpose: Purpose,
    ) -> Result<(), Unpulled> {
        let began = Instant::now();
        let mut known = self.session.report().revision.verified;
        let mut newer = Box::pin(self.newer_than(known));
        for image in images {
            let is_at_hand = self.world.engine().is_at_hand(image).await;
            if !is_at_hand && let Some(hold) = self.holds_pull(image, purpose).await {
                return Err(Unpulled::Held(hold));
            }
            let left = self.left_for(purpose).await;
            let layers = RefCell::new(PullProgress::new());
            let too_large = Notify::new();
            let mut progress = |progress: &PullProgress| {
                layers.replace(progress.clone());
                if left.is_some_and(|left| total(progress) > left) {
                    too_large.notify_one();
                }
                self.world.reporter().tell(&Event::Pull {
                    image: image.to_string(),
                    progress: progress.clone(),
                });
            };
            let mut pull = Box::pin(self.world.engine().pull(image, &mut progress));
            // A newer commit that needs this image, and one that does not but has to wait.
            let mut next = None;
            let mut pressing = None;
            let done = loop {
                tokio::select! {
                    pulled = &mut pull => {
                        break pulled.map_err(|error| Unpulled::Waiting(waits_for(&error)));
                    }
                    () = too_large.notified() => {
                        let layers = layers.borrow().clone();
                        if let Some(hold) = self.too_large(image, &layers) {
                            break Err(Unpulled::Held(hold));
                        }
                    }
                    commit = &mut newer => {
                        known = Some(commit.id().clone());
                        newer.set(self.newer_than(known));
                        match self.needs(&commit, image).await {
                            Some(true) => (next, pressing) = (Some(commit.id().clone()), None),
                            Some(false) if self.may_be_interrupted() => {
                                break Err(self.overtaken(commit.id().clone()));
                            }
                            Some(false) => (next, pressing) = (None, Some(commit.id().clone())),
                            None => {}
                        }
                    }
                    () = tokio::time::sleep_until(began + FAIR_PULL), if pressing.is_some() => {
                        if let Some(commit) = pressing {
                            break Err(self.overtaken(commit));
                        }
                    }
                    Interruption::Stop | Interruption::Asked = self.interrupt.wait() => {
                        let waiting = Waiting::new("interrupted", "stopped while pulling");
                        break Err(Unpulled::Waiting(waiting));
                    }
                }
            };
            drop(pull);
            let layers = layers.into_inner();
            let bytes = match &done {
                // The last bytes of a layer are not told of.
                Ok(()) => total(&layers),
                Err(_) => fetched(&layers),
            };
            if !is_at_hand || bytes > 0 {
                self.count_pull(bytes).await;
            }
            done?;
            if let Some(commit) = next {
                return Err(Unpulled::Overtaken(commit));
            }
        }
        Ok(())
    }

    fn overtaken(&self, by: CommitId) -> Unpulled {
        self.count_interruption();
        Unpulled::Overtaken(by)
    }

    /// Whether a commit needs an image on this device. `None` where it cannot be told, or it could not be taken anyway.
    async fn needs(&self, commit: &VerifiedCommit, image: &ImageRef) -> Option<bool> {
        let resolved = self.resolve(commit).await.ok()?;
        Some(images_of(&resolved.state).any(|one| one == image))
    }
}

fn waits_for(error: &EngineError) -> Waiting {
    let reason = match error {
        EngineError::Damaged { .. } => "image",
        EngineError::Down { .. }
        | EngineError::Image { .. }
        | EngineError::Refused { .. }
        | EngineError::PortKept { .. }
        | EngineError::Failed { .. } => "registry",
    };
    Waiting::new(reason, chain(error))
}

/// The images that a state declares.
pub(super) fn images_of(state: &DesiredState) -> impl Iterator<Item = &ImageRef> {
    services_of(state)
        .filter_map(|id| Some(&state.apps.get(&id.app)?.services.get(&id.service)?.image))
}
