//! Images that no revision needs any more: what was pulled here goes when it is neither of a kept revision nor of the one that
//! is due next. Needs no network, and goes on while the agent is paused.
//!
//! Asked for once each time that something of it has changed, and where the engine could not, at a later pass: a pass in which
//! nothing has changed costs a comparison, and no call of the engine's.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::session::chain;
use super::{Agent, prepare};
use crate::domain::desired::DesiredState;
use crate::domain::history::Ledger;
use crate::domain::revision::{CommitId, ContentId};
use crate::port::World;
use crate::port::engine::{Dropped, Engine as _};
use crate::port::journal::Journal as _;
use crate::select::{self, Admission};

/// How long what a container uses still, or the engine could not remove, is left alone.
const AGAIN: Duration = Duration::from_secs(60 * 60);

/// What was decided of: the kept revisions, the one that is due, and what was pulled.
type Key = (Vec<ContentId>, Option<CommitId>, Vec<String>);

/// What was done last.
#[derive(Debug)]
pub(super) struct Tidied {
    of: Key,
    /// Something stayed that is not needed: when it is tried again.
    again: Option<Instant>,
}

impl<W: World> Agent<W> {
    /// Removes what nothing needs.
    pub(super) async fn tidy_images(&self) {
        let pulled = self.world.engine().pulled();
        if pulled.is_empty() {
            return;
        }
        let ledger = self.world.journal().ledger();
        if ledger.trial.is_some() || ledger.good.is_empty() {
            return;
        }
        if self.session.accepted.borrow().is_none() {
            // What is due is not known: something may have been pulled for it.
            return;
        }
        let next = self.due(&ledger);
        let kept = ledger.good.iter().map(|good| good.content().clone());
        let of = (kept.collect(), next.clone(), pulled);
        let done = match &*self.session.tidied.borrow() {
            Some(last) if last.of == of => last.again.is_none_or(|at| Instant::now() < at),
            Some(_) | None => false,
        };
        if done {
            return;
        }
        let Some(needed) = self.needed_images(&ledger, next.as_ref()).await else {
            return;
        };
        let mut again = None;
        // Two names may be of one image, and that goes with neither while the other is needed.
        let contents: BTreeSet<&str> = needed.iter().map(|image| content(image)).collect();
        for image in
            of.2.iter()
                .filter(|image| !contents.contains(content(image)))
        {
            match self.world.engine().drop_image(image).await {
                Ok(Dropped::Gone) => {
                    tracing::info!("the image {image} is removed: no kept revision needs it");
                }
                Ok(Dropped::Claimed) => {
                    tracing::info!("the image {image} stays: it carries a name that is not ours");
                }
                Ok(Dropped::InUse) => again = Some(Instant::now() + AGAIN),
                Err(error) => {
                    tracing::debug!("the image {image} stays for now: {}", chain(&error));
                    again = Some(Instant::now() + AGAIN);
                }
            }
        }
        let of = (of.0, of.1, self.world.engine().pulled());
        self.session.tidied.replace(Some(Tidied { of, again }));
    }

    /// The newest commit that trust accepted, where the device is not there yet.
    fn due(&self, ledger: &Ledger) -> Option<CommitId> {
        let accepted = self.session.accepted.borrow();
        let id = accepted.as_ref()?.id();
        let good = ledger.good.iter().any(|good| good.commit() == id);
        (!good).then(|| id.clone())
    }

    /// What the kept revisions run, and what the next one will. `None` where that cannot be told.
    async fn needed_images(
        &self,
        ledger: &Ledger,
        next: Option<&CommitId>,
    ) -> Option<BTreeSet<String>> {
        let mut needed = BTreeSet::new();
        for good in &ledger.good {
            // One that cannot be read would lose its images for the time when it can be again.
            let state = self.world.journal().kept_state(good.content()).ok()?;
            needed.extend(images_of(&state));
        }
        let accepted = self.session.accepted.borrow().clone();
        if let Some(commit) = accepted.filter(|commit| Some(commit.id()) == next) {
            match self.resolve(&commit).await {
                Ok(resolved) => match select::admit(&resolved.state.content_id(), ledger) {
                    Admission::Try | Admission::SameAsLastGood => {
                        needed.extend(images_of(&resolved.state));
                    }
                    Admission::Refused(_) => {}
                },
                // It will run nothing.
                Err(prepare::Obstacle::Rejected(_)) => {}
                Err(prepare::Obstacle::Waiting(_)) => return None,
            }
        }
        Some(needed)
    }
}

/// What an image's name says of its content; the whole name, where that is nothing.
fn content(image: &str) -> &str {
    image.split_once('@').map_or(image, |(_, digest)| digest)
}

fn images_of(state: &DesiredState) -> impl Iterator<Item = String> {
    let services = state.apps.values().flat_map(|app| app.services.values());
    services.map(|service| service.image.to_string())
}
