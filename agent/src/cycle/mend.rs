//! What is kept for bad days, looked at before they come: the good revisions, the git store and the kept copies. What is
//! damaged is made again from its other copies, and told.
//!
//! Once in each process and then each day: a byte that turned over while nothing read it is found while there still is
//! another copy. Nothing is written where nothing is wrong.

use std::collections::BTreeSet;
use std::time::Duration;

use evenkeel_schema::image::ImageRef;
use tokio::time::Instant;

use super::metered::Purpose;
use super::newer::{Unpulled, images_of};
use super::prepare::Obstacle;
use super::session::chain;
use super::{Agent, CycleError};
use crate::domain::desired::{Contents, DesiredState, Resolved};
use crate::domain::history::GoodRevision;
use crate::domain::revision::ContentId;
use crate::port::World;
use crate::port::files::Files as _;
use crate::port::journal::Journal as _;
use crate::port::source::Source as _;

/// Between two looks. A day: reading it all takes about as long as a poll.
const EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest file on the device that is looked into for a lost content.
const LONGEST: u64 = 64 * 1024 * 1024;

/// When it was last looked, and what was left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looked {
    at: Instant,
    left: Left,
}

/// Whether something is still to be mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    Something,
}

impl<W: World> Agent<W> {
    /// Looks, where it is time to; a revision that could not be made again is tried again once the remote has answered.
    pub async fn mend(&self) -> Result<(), CycleError> {
        let reached = self.session.reached.get();
        if let Some(looked) = self.session.looked.get() {
            let retry = looked.left == Left::Something && reached;
            if !retry && looked.at.elapsed() < EVERY {
                return Ok(());
            }
        }
        if let Err(error) = self.world.source().check().await {
            self.session.notice(
                &self.world,
                &format!("{}: it is cloned anew by the next fetch", chain(&error)),
            );
        }
        for what in self.world.files().check_kept() {
            self.session.notice(&self.world, &what);
        }
        let mut left = Left::Nothing;
        for good in self.world.journal().incomplete()? {
            left = match self.mend_revision(&good, reached).await? {
                Left::Something => Left::Something,
                Left::Nothing => left,
            };
        }
        self.session.looked.set(Some(Looked {
            at: Instant::now(),
            left,
        }));
        Ok(())
    }

    /// Fetches images anew of which the engine could not make containers, being damaged. Where that was done another pass is
    /// due at once; else why it was not.
    pub(super) async fn mend_images(
        &self,
        state: &DesiredState,
        damaged: &BTreeSet<String>,
    ) -> Option<String> {
        let images: BTreeSet<&ImageRef> = images_of(state)
            .filter(|image| damaged.contains(image.as_str()))
            .collect();
        if images.is_empty() {
            return None;
        }
        match self.pull_all(images, Purpose::Keeping).await {
            Ok(()) | Err(Unpulled::Overtaken(_)) => {
                self.session.overtaken.set(true);
                None
            }
            Err(Unpulled::Waiting(waiting)) => Some(waiting.message),
            Err(Unpulled::Held(hold)) => Some(hold.message),
        }
    }

    async fn mend_revision(&self, good: &GoodRevision, reached: bool) -> Result<Left, CycleError> {
        let journal = self.world.journal();
        let short = good.commit().short();
        let why = match self.made_again(good).await {
            Ok(resolved) => {
                journal.keep_again(good, &resolved)?;
                let text = format!(
                    "what the journal keeps of the good revision {short} was damaged: it was made again"
                );
                self.session.notice(&self.world, &text);
                return Ok(Left::Nothing);
            }
            Err(why) => why,
        };
        let ledger = journal.ledger();
        let pinned = ledger.pin.as_ref().map(|pin| &pin.commit);
        let in_use = ledger.last_good() == Some(good) || pinned == Some(good.commit());
        let lost = format!(
            "what the journal keeps of the good revision {short} is damaged, and cannot be made again ({why})"
        );
        if reached && !in_use {
            journal.drop_good(good.commit())?;
            let text = format!("{lost}: there is no going back to it any more");
            self.session.notice(&self.world, &text);
            return Ok(Left::Nothing);
        }
        self.session.notice(
            &self.world,
            &format!("{lost}: tried again when the remote answers"),
        );
        Ok(Left::Something)
    }

    /// A good revision from the documents in git, or, file by file, from what lies on the device. Only what it was comes out
    /// of this: the state has the revision's own content id, and each file the id that the state names.
    async fn made_again(&self, good: &GoodRevision) -> Result<Resolved, String> {
        let journal = self.world.journal();
        let why = match self.resolve_at(good.commit(), good.tree()).await {
            Ok(resolved) if resolved.state.content_id() == *good.content() => return Ok(resolved),
            Ok(_) => "its documents give something else by now".to_owned(),
            Err(Obstacle::Rejected(rejection)) => rejection.message,
            Err(Obstacle::Waiting(waiting)) => waiting.message,
        };
        let Ok(state) = journal.kept_state(good.content()) else {
            return Err(why);
        };
        let mut contents = Contents::new();
        for (_, path, file) in state.files() {
            if contents.contains_key(&file.content) {
                continue;
            }
            let kept = journal.contents(std::slice::from_ref(&file.content));
            let bytes = match kept.ok().and_then(|mut kept| kept.remove(&file.content)) {
                Some(bytes) => bytes,
                None => self
                    .world
                    .files()
                    .read(path, LONGEST)
                    .filter(|bytes| ContentId::of(bytes) == file.content)
                    .ok_or_else(|| why.clone())?,
            };
            contents.insert(file.content.clone(), bytes);
        }
        Ok(Resolved {
            state,
            contents,
            rollout: None,
        })
    }
}
