//! One fetch: ask a remote for the tip, take what is missing, deepen until the floor is met, and keep the store sound.
//!
//! Order matters: objects are synced before a ref names them, and a new store is whole, holds the floor and is synced
//! before it takes the old one's place.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use gix::ObjectId;
use gix::hash::Kind as HashKind;

use super::exchange::{Answer, Ask, Exchange, chain};
use super::graph::{self, Walk};
use super::limits::{Budget, Fault, Limits, Meter};
use super::local::{self, Reach};
use super::published::Heads;
use super::remote::Remote;
use super::several::{Goes, Health, none};
use super::tls::{SharedClient, TlsFiles};
use super::{floor_ref, store};
use crate::adapter::git_objects::{history, object};
use crate::domain::commit::{Descent, RawCommit};
use crate::domain::revision::CommitId;
use crate::domain::storage::Storage;
use crate::port::source::{Fetched, SourceError};

/// Commits that compaction carries over where the floor does not ask for more: the tip. What a person may go back to is
/// kept in the journal, and each commit here is kept whole, with every blob.
const RECENT: usize = 1;

/// What a source works with. The store, and what guards it, is shared with the source that takes its place for a pass.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) remotes: Vec<Remote>,
    /// How each of them answered last.
    pub(super) health: Mutex<Health>,
    pub(super) branch: String,
    pub(super) dir: PathBuf,
    pub(super) fresh: PathBuf,
    pub(super) old: PathBuf,
    /// Packs of a published tree on their way.
    pub(super) incoming: PathBuf,
    /// What published trees last said.
    pub(super) heads: Arc<Heads>,
    pub(super) limits: Limits,
    pub(super) client: Arc<SharedClient>,
    /// What all exchanges over a network take.
    pub(super) meter: Arc<Meter>,
    /// The files that every exchange by HTTP goes by.
    pub(super) files: TlsFiles,
    /// Held by the one fetch that runs.
    pub(super) busy: Arc<Mutex<Memo>>,
    /// Held for writing while the store is swapped.
    pub(super) swap: Arc<RwLock<()>>,
    /// Reading found damage: the next fetch clones anew.
    pub(super) is_suspect: Arc<AtomicBool>,
    /// Whether the leftovers of an unclean end were dealt with.
    pub(super) is_settled: Arc<Mutex<bool>>,
}

/// What one fetch tells the next.
#[derive(Debug, Default)]
pub(super) struct Memo {
    /// A tip whose descent from this floor no deepening can tell, and why: not asked for again.
    pub(super) hopeless: Option<(ObjectId, CommitId, String)>,
    /// A tip behind which history was deepened, and by how many steps.
    pub(super) deepened: Option<(ObjectId, usize)>,
    /// Whether the store beside the damaged or missing one was made by this process.
    pub(super) made: bool,
}

impl Inner {
    /// Deals once with what an unclean end left behind.
    pub(super) fn settle(&self) -> Result<(), SourceError> {
        let mut is_settled = self
            .is_settled
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *is_settled {
            return Ok(());
        }
        let done = store::settle(&self.dir, &self.fresh, &self.old)
            .and_then(|()| store::sweep(&self.dir))
            .and_then(|()| store::sweep(&self.fresh))
            .and_then(|()| store::put_right(&self.dir));
        match done {
            Ok(()) => *is_settled = true,
            // What is here can be read all the same; the next use tries again.
            Err(error) if Storage::of(&error).is_some() && self.dir.exists() => {
                tracing::debug!(%error, "what an unclean end left in the git store stays for now");
            }
            Err(error) => {
                return Err(store::broken("cannot tidy up after an unclean end", error));
            }
        }
        Ok(())
    }

    /// The whole fetch: each remote in its turn, until one answers.
    pub(super) fn fetch(
        &self,
        floor: Option<&CommitId>,
        interrupt: &Arc<AtomicBool>,
    ) -> Result<Fetched, SourceError> {
        self.settle()?;
        let mut memo = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let mut first = None;
        for remote in self.in_turn() {
            let exchange = self.exchange(remote, self.limits.fetch, interrupt);
            let was_suspect = self.is_suspect();
            let mut done = self.fetch_from(&exchange, floor, &mut memo);
            if matches!(done, Err(SourceError::Store { .. })) && !was_suspect && self.is_suspect() {
                // Found out only now: a commit that is the tip here, and so malformed that no fetch can build upon it.
                done = self.fetch_from(&exchange, floor, &mut memo);
            }
            if self.note(remote, &done, interrupt) == Goes::No {
                return done.map(|tip| Fetched { tip, remote });
            }
            match done {
                Err(error) => {
                    first.get_or_insert(error);
                }
                Ok(tip) => return Ok(Fetched { tip, remote }),
            }
        }
        Err(first.unwrap_or_else(none))
    }

    /// Damage was found: the next fetch clones anew, whichever process makes it.
    pub(super) fn suspect(&self) {
        self.is_suspect.store(true, Ordering::Relaxed);
        store::mark_suspect(&self.dir);
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.is_suspect.load(Ordering::Relaxed) || store::is_suspect(&self.dir)
    }

    /// Whether the store can be built upon.
    pub(super) fn is_sound(&self) -> bool {
        if self.is_suspect() || !self.dir.exists() {
            return false;
        }
        match store::check(&self.dir, &self.branch, &self.limits) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "the git store is damaged: cloning anew"
                );
                self.suspect();
                false
            }
        }
    }

    /// The half-made store beside the damaged one, from an earlier try where it is good.
    pub(super) fn fresh(&self, memo: &mut Memo) -> Result<gix::Repository, SourceError> {
        // Of another process's only one that came as far as a tip: what stands in it was perhaps never synced.
        let may_be = memo.made || matches!(store::tip(&self.fresh, &self.branch), Ok(Some(_)));
        if may_be && store::check(&self.fresh, &self.branch, &self.limits).is_ok() {
            return store::open(&self.fresh, &self.limits);
        }
        memo.made = true;
        store::create(&self.fresh, HashKind::Sha1, &self.limits)
    }

    fn fetch_from(
        &self,
        exchange: &Exchange<'_>,
        floor: Option<&CommitId>,
        memo: &mut Memo,
    ) -> Result<RawCommit, SourceError> {
        let mut is_sound = self.is_sound();
        let mut repo = if is_sound {
            // Of a compaction that was cut off: nobody goes on with it.
            if self.fresh.exists()
                && let Err(error) = store::remove(&self.fresh)
            {
                tracing::debug!(error = chain(&error), "what is left of a compaction stays");
            }
            store::open(&self.dir, &self.limits)?
        } else {
            self.fresh(memo)?
        };
        let mut answer = exchange.ask(&repo, Ask::Update)?;
        if let Answer::OtherHash(hash) = answer {
            is_sound = false;
            repo = store::create(&self.fresh, hash, &self.limits)?;
            answer = exchange.ask(&repo, Ask::Update)?;
        }
        let (tip, is_new) = match answer {
            Answer::Tip { id, is_new } => (id, is_new),
            Answer::NoBranch => {
                return Err(SourceError::NoBranch {
                    remote: exchange.remote.shown(),
                    branch: self.branch.clone(),
                });
            }
            Answer::OtherHash(_) => {
                return Err(exchange.error(Fault::Answer(
                    "the remote changes its hash function from one answer to the next".to_owned(),
                )));
            }
        };
        let dir = if is_sound { &self.dir } else { &self.fresh };
        let descent = match floor {
            None => Descent::NoFloor,
            Some(floor) => exchange.descent(dir, tip, floor, memo)?,
        };
        let repo = store::open(dir, &self.limits)?;
        let bytes = object(&repo, tip, gix::objs::Kind::Commit, "the tip")?;
        let commit = raw(tip, bytes, descent)?;
        if !is_sound {
            store::set_tip(dir, &self.branch, tip)?;
            if self.remotes.len() > 1 {
                store::mark_unweighed(dir)?;
            }
            self.replace(exchange, floor)?;
        } else if !self.is_one_of_several(dir)? {
            store::set_tip(dir, &self.branch, tip)?;
            if is_new {
                self.compact(tip, floor, &commit.descent, exchange.interrupt);
            }
        }
        Ok(commit)
    }

    /// Puts the freshly cloned store in place, once it holds the floor.
    fn replace(
        &self,
        exchange: &Exchange<'_>,
        floor: Option<&CommitId>,
    ) -> Result<(), SourceError> {
        let has = |repo: &gix::Repository| {
            floor.is_none_or(|floor| {
                ObjectId::from_hex(floor.as_str().as_bytes()).is_ok_and(|id| repo.has_object(id))
            })
        };
        let mut repo = store::open(&self.fresh, &self.limits)?;
        if let (false, Some(floor)) = (has(&repo), floor) {
            // The branch was rewound or forked; the server may have the floor all the same.
            if let Err(error) = exchange.ask(&repo, Ask::Floor(floor)) {
                tracing::debug!(error = chain(&error), "the remote does not give the floor");
            }
            repo = store::open(&self.fresh, &self.limits)?;
            if !has(&repo) {
                tracing::warn!(%floor, "the new git store does not hold the floor: not put in place");
                return Ok(());
            }
        }
        floor_ref::carry(&self.dir, &self.fresh, &repo, &self.limits);
        drop(repo);
        self.put_in_place()?;
        self.is_suspect.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn put_in_place(&self) -> Result<(), SourceError> {
        let _guard = self.swap.write().unwrap_or_else(PoisonError::into_inner);
        store::swap(&self.dir, &self.fresh, &self.old)
    }

    /// Writes an overgrown store anew. A failure costs nothing: the old one stays.
    pub(super) fn compact(
        &self,
        tip: ObjectId,
        floor: Option<&CommitId>,
        descent: &Descent,
        interrupt: &Arc<AtomicBool>,
    ) {
        match descent {
            Descent::NoFloor | Descent::Same | Descent::Descends => {}
            // Proofs that took history to make are not thrown away.
            Descent::NotDescendant | Descent::Unknown(_) => return,
        }
        if !store::is_overgrown(&self.dir, &self.limits) {
            return;
        }
        if let Err(error) = self.write_anew(tip, floor, interrupt) {
            tracing::warn!(
                error = chain(&error),
                "the git store could not be compacted"
            );
            let _ = store::remove(&self.fresh);
        }
    }

    fn write_anew(
        &self,
        tip: ObjectId,
        floor: Option<&CommitId>,
        interrupt: &Arc<AtomicBool>,
    ) -> Result<(), SourceError> {
        let from = store::open(&self.dir, &self.limits)?;
        let to = store::create(&self.fresh, from.object_hash(), &self.limits)?;
        let budget = Budget::poll(
            &self.limits,
            Instant::now(),
            self.limits.fetch,
            None,
            interrupt,
        );
        budget.receive(&self.limits);
        let failed = |fault: Fault| store::broken("cannot compact", fault);
        let kept = match floor {
            Some(floor) => history::kept(&from, tip, floor, &self.limits.caps())?,
            None => BTreeSet::new(),
        };
        let none = BTreeSet::new();
        let reach = Reach::Floor {
            floor: floor.map(CommitId::as_str),
            recent: RECENT,
            kept: &kept,
        };
        local::copy(&from, &to, tip, &reach, &self.limits, &budget).map_err(failed)?;
        // A floor that is not among the tip's ancestors is carried over too.
        for path in floor_ref::files(&self.dir)? {
            if let Some(id) = store::read_ref(&path)? {
                let to = store::open(&self.fresh, &self.limits)?;
                let reach = Reach::Floor {
                    floor: None,
                    recent: 1,
                    kept: &none,
                };
                local::copy(&from, &to, id, &reach, &self.limits, &budget).map_err(failed)?;
            }
        }
        let to = store::open(&self.fresh, &self.limits)?;
        floor_ref::carry(&self.dir, &self.fresh, &to, &self.limits);
        store::set_tip(&self.fresh, &self.branch, tip)?;
        store::check(&self.fresh, &self.branch, &self.limits)?;
        if let Some(floor) = floor {
            match graph::walk(&to, tip, floor.as_str(), self.limits.commits) {
                Ok(Walk::Same | Walk::Descends) => {}
                Ok(other) => {
                    return Err(SourceError::Store {
                        what: format!(
                            "the compacted store would lose the way to the floor ({other:?})"
                        ),
                        cause: None,
                    });
                }
                Err(error) => {
                    return Err(store::broken("the compacted store does not read", error));
                }
            }
        }
        self.put_in_place()
    }
}

/// A commit as the port hands it out.
pub(super) fn raw(
    id: ObjectId,
    bytes: Vec<u8>,
    descent: Descent,
) -> Result<RawCommit, SourceError> {
    Ok(RawCommit {
        id: id
            .to_string()
            .parse()
            .map_err(|error| store::broken("a commit id", error))?,
        bytes,
        descent,
    })
}
