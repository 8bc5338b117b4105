//! One remote during one fetch: asked for the tip, for more history, for the floor. What it sends is synced to disk
//! before anything is said about it.

use std::collections::BTreeSet;
use std::error::Error;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use gix::ObjectId;
use gix::hash::Kind as HashKind;
use gix::protocol::transport::Protocol;
use gix::protocol::transport::client::blocking_io::{Transport, http::connect_http};
use gix::remote::fetch::{Shallow, Tags};
use gix::remote::{Direction, fetch::Status};

use super::fetch::{Inner, Memo};
use super::graph::{self, Walk};
use super::http::HttpRemote;
use super::limits::{Budget, Fault, Meter};
use super::local::{self, Reach};
use super::published::{self, Place};
use super::remote::Remote;
use super::store;
use crate::domain::commit::Descent;
use crate::domain::revision::CommitId;
use crate::port::source::SourceError;

/// What to ask a remote for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ask<'a> {
    /// The tip alone.
    Tip,
    /// The tip, and what is missing up to it.
    Update,
    /// So many commits more behind the boundary.
    Deepen(u32),
    /// All history.
    Unshallow,
    /// The floor's commit by its id.
    Floor(&'a CommitId),
}

/// What a remote said.
pub(super) enum Answer {
    /// The tip, whose objects are here and synced.
    Tip { id: ObjectId, is_new: bool },
    /// It has no such branch.
    NoBranch,
    /// It speaks the other hash function.
    OtherHash(HashKind),
}

/// One remote during one fetch.
pub(super) struct Exchange<'a> {
    pub(super) inner: &'a Inner,
    pub(super) remote: &'a Remote,
    pub(super) interrupt: &'a Arc<AtomicBool>,
    pub(super) started: Instant,
    /// How long it may take in all.
    pub(super) whole: Duration,
}

/// An error and its sources in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

impl Exchange<'_> {
    /// Nothing is paid for what is on this machine.
    fn meter(&self) -> Option<Arc<Meter>> {
        match self.remote {
            Remote::Http(_) | Remote::Published(_) | Remote::Ssh(_) => {
                Some(Arc::clone(&self.inner.meter))
            }
            Remote::Local(_) => None,
        }
    }

    fn budget(&self) -> Arc<Budget> {
        Budget::poll(
            &self.inner.limits,
            self.started,
            self.whole,
            self.meter(),
            self.interrupt,
        )
    }

    pub(super) fn error(&self, fault: Fault) -> SourceError {
        match fault {
            Fault::Setup { what, cause } => SourceError::Setup { what, cause },
            other => SourceError::Remote {
                remote: self.remote.shown(),
                cause: Box::new(other),
            },
        }
    }

    pub(super) fn ask(&self, repo: &gix::Repository, ask: Ask<'_>) -> Result<Answer, SourceError> {
        let budget = self.budget();
        let limits = &self.inner.limits;
        match self.remote {
            Remote::Published(remote) => {
                let place = Place::Web(remote);
                self.ask_tree(repo, place, ask, &budget)?
                    .map_err(|fault| self.error(fault))
            }
            Remote::Http(remote) => {
                if self.inner.heads.is_tree(remote, &self.inner.branch) {
                    if let Ok(answer) = self.ask_tree(repo, Place::Web(remote), ask, &budget)? {
                        return Ok(answer);
                    }
                    self.inner.heads.forget(remote);
                }
                let done = self.ask_git(repo, remote, ask, &budget);
                // What is no git server may be a published tree: looked for once, and remembered.
                if is_refusal(&done)
                    && let Ok(Ok(answer)) = self.ask_tree(repo, Place::Web(remote), ask, &budget)
                {
                    return Ok(answer);
                }
                done
            }
            Remote::Ssh(remote) => {
                let (transport, session) = remote
                    .connect(limits, &budget)
                    .map_err(|fault| self.error(fault))?;
                let url = self.gix_url("ssh://remote/")?;
                let answer = self.talk(repo, transport, url, ask, &budget);
                drop(session);
                answer
            }
            Remote::Local(path) if published::is_tree(path, &self.inner.branch) => self
                .ask_tree(repo, Place::Folder(path), ask, &budget)?
                .map_err(|fault| self.error(fault)),
            Remote::Local(path) => self.copy(repo, path, ask, &budget),
        }
    }

    fn ask_git(
        &self,
        repo: &gix::Repository,
        remote: &HttpRemote,
        ask: Ask<'_>,
        budget: &Arc<Budget>,
    ) -> Result<Answer, SourceError> {
        let http = remote
            .connect(&self.inner.client, &self.inner.limits, budget)
            .map_err(|fault| self.error(fault))?;
        let url = self.gix_url(remote.url.as_str())?;
        let transport = connect_http(http, url.clone(), Protocol::V2, false);
        self.talk(repo, transport, url, ask, budget)
    }

    fn gix_url(&self, url: &str) -> Result<gix::Url, SourceError> {
        gix::url::parse(url)
            .map_err(|error| self.error(Fault::broken("source.url is not a git address", error)))
    }

    fn copy(
        &self,
        repo: &gix::Repository,
        path: &Path,
        ask: Ask<'_>,
        budget: &Budget,
    ) -> Result<Answer, SourceError> {
        let limits = &self.inner.limits;
        let run = || -> Result<Answer, Fault> {
            let from = store::open_foreign(path, limits).map_err(|error| {
                Fault::broken("it is not a git repository that can be read", error)
            })?;
            if from.object_hash() != repo.object_hash() {
                return Ok(Answer::OtherHash(from.object_hash()));
            }
            let Some(id) = local::tip(&from, &self.inner.branch)? else {
                return Ok(Answer::NoBranch);
            };
            budget.receive(limits);
            let is_new = !repo.has_object(id);
            let none = BTreeSet::new();
            match ask {
                Ask::Tip => {}
                Ask::Update => {
                    if is_new {
                        local::copy(&from, repo, id, &Reach::Update, limits, budget)?;
                    }
                }
                Ask::Deepen(more) => {
                    let recent = usize::try_from(more).unwrap_or(usize::MAX);
                    let reach = Reach::Floor {
                        floor: None,
                        recent,
                        kept: &none,
                    };
                    local::copy(&from, repo, id, &reach, limits, budget)?;
                }
                Ask::Unshallow => {
                    let reach = Reach::Floor {
                        floor: None,
                        recent: usize::MAX,
                        kept: &none,
                    };
                    local::copy(&from, repo, id, &reach, limits, budget)?;
                }
                Ask::Floor(floor) => {
                    if let Ok(floor) = ObjectId::from_hex(floor.as_str().as_bytes())
                        && from.has_object(floor)
                    {
                        let reach = Reach::Floor {
                            floor: None,
                            recent: 1,
                            kept: &none,
                        };
                        local::copy(&from, repo, floor, &reach, limits, budget)?;
                    }
                }
            }
            Ok(Answer::Tip { id, is_new })
        };
        run().map_err(|fault| self.error(fault))
    }

    /// What gix's error means: the fault that our transport met, or what gix itself says.
    fn explain(&self, error: gix::Error, budget: &Budget) -> SourceError {
        if let Some(fault) = budget.fault() {
            return self.error(fault);
        }
        let text = chain(&error);
        if text.contains("No space left") || text.contains("Read-only file system") {
            return store::broken("cannot write what was fetched", error);
        }
        if text.contains("prepare fetch negotiation") {
            self.inner.suspect();
            return store::broken("its refs and objects do not fit together", error);
        }
        self.error(Fault::broken(
            "the server's answer is not good git data",
            error,
        ))
    }

    fn talk<T: Transport>(
        &self,
        repo: &gix::Repository,
        transport: T,
        url: gix::Url,
        ask: Ask<'_>,
        budget: &Budget,
    ) -> Result<Answer, SourceError> {
        let spec = match ask {
            Ask::Floor(floor) => floor.to_string(),
            Ask::Tip | Ask::Update | Ask::Deepen(_) | Ask::Unshallow => {
                format!("refs/heads/{}", self.inner.branch)
            }
        };
        let explain = |error| self.explain(error, budget);
        let remote = repo
            .remote_at_without_url_rewrite(url)
            .and_then(|remote| {
                remote
                    .with_fetch_tags(Tags::None)
                    .with_refspecs([spec.as_str()], Direction::Fetch)
            })
            .map_err(explain)?;
        let connection = remote
            .to_connection_with_transport(transport)
            // Without this gix would run credential helpers. Ours are in the transport.
            .with_credentials(|_| Ok(None))
            .with_transport_options(Box::new(()));
        let prepared = connection
            .prepare_fetch(gix::progress::Discard, Default::default())
            .map_err(explain)?;
        let map = prepared.ref_map();
        if map.object_hash != repo.object_hash() {
            return Ok(Answer::OtherHash(map.object_hash));
        }
        let tip = map
            .mappings
            .iter()
            .find_map(|mapping| mapping.remote.as_id())
            .map(ToOwned::to_owned);
        let Some(id) = tip else {
            return Ok(Answer::NoBranch);
        };
        let is_new = !repo.has_object(id);
        let shallow = match ask {
            Ask::Tip => return Ok(Answer::Tip { id, is_new }),
            Ask::Update if !is_new => return Ok(Answer::Tip { id, is_new }),
            Ask::Update if is_empty(repo) => Shallow::DepthAtRemote(NonZeroU32::MIN),
            Ask::Update => Shallow::NoChange,
            Ask::Deepen(commits) => Shallow::Deepen(commits),
            Ask::Unshallow => Shallow::undo(),
            Ask::Floor(_) => Shallow::DepthAtRemote(NonZeroU32::MIN),
        };
        budget.receive(&self.inner.limits);
        let outcome = prepared
            .with_shallow(shallow)
            .receive(gix::progress::Discard, budget.interrupt())
            .map_err(explain)?;
        let mut files = Vec::new();
        if let Status::Change {
            write_pack_bundle, ..
        } = outcome.status
        {
            if let Some(keep) = write_pack_bundle.keep_path {
                std::fs::remove_file(&keep)
                    .map_err(|error| store::broken("cannot remove a pack's mark", error))?;
            }
            files.extend(write_pack_bundle.data_path);
            files.extend(write_pack_bundle.index_path);
        }
        store::sync_received(repo.git_dir(), &files)?;
        Ok(Answer::Tip { id, is_new })
    }

    /// Finds out how `tip` relates to `floor`, taking more history as long as that can help.
    pub(super) fn descent(
        &self,
        dir: &Path,
        tip: ObjectId,
        floor: &CommitId,
        memo: &mut Memo,
    ) -> Result<Descent, SourceError> {
        let limits = &self.inner.limits;
        let mut steps = limits
            .deepen
            .iter()
            .map(|&commits| Ask::Deepen(commits))
            .chain([Ask::Unshallow]);
        let known = |why: &str| Ok(Descent::Unknown(why.to_owned()));
        loop {
            let repo = store::open(dir, limits)?;
            let walk = graph::walk(&repo, tip, floor.as_str(), limits.commits)
                .map_err(|error| store::broken("history does not read", error))?;
            let is_here = ObjectId::from_hex(floor.as_str().as_bytes())
                .is_ok_and(|floor| repo.has_object(floor));
            match &walk {
                Walk::Same => return Ok(Descent::Same),
                Walk::Descends if is_here => return Ok(Descent::Descends),
                Walk::NotDescendant => return Ok(Descent::NotDescendant),
                Walk::TooMany => {
                    return known(&format!(
                        "its history has more than {} commits",
                        limits.commits
                    ));
                }
                Walk::Missing(id) if dir == self.inner.fresh => {
                    // What this remote sent is not whole. The next one is not asked to build upon it.
                    store::remove(dir)?;
                    return Err(self.error(Fault::Answer(format!(
                        "it sent a tip without commit {id} of its history"
                    ))));
                }
                Walk::Missing(id) => {
                    self.inner.suspect();
                    return Err(SourceError::Store {
                        what: format!("commit {id} is missing from its history"),
                        cause: None,
                    });
                }
                Walk::Descends | Walk::Cut => {}
            }
            // The floor's id in a signed parent line is proof; its commit itself would be good to have.
            let otherwise = |why: String| match walk {
                Walk::Descends => Descent::Descends,
                Walk::Same | Walk::NotDescendant | Walk::Cut | Walk::TooMany | Walk::Missing(_) => {
                    Descent::Unknown(why)
                }
            };
            if let Some((seen, below, why)) = &memo.hopeless
                && *seen == tip
                && below == floor
            {
                return Ok(otherwise(why.clone()));
            }
            let Some(step) = steps.next() else {
                let why = "the remote itself does not have its whole history (it is shallow)";
                memo.hopeless = Some((tip, floor.clone(), why.to_owned()));
                return Ok(otherwise(why.to_owned()));
            };
            match self.ask(&repo, step) {
                // The branch moved on meanwhile: the next fetch sees it.
                Ok(Answer::Tip { .. }) => {}
                Ok(Answer::NoBranch | Answer::OtherHash(_)) => {
                    return Ok(otherwise(
                        "the branch changed while its history was read".to_owned(),
                    ));
                }
                Err(error) => {
                    let why = format!("fetching more of its history failed: {}", chain(&error));
                    if is_costly(&error) {
                        memo.hopeless = Some((tip, floor.clone(), why.clone()));
                    }
                    return Ok(otherwise(why));
                }
            }
        }
    }
}

/// Whether a server answered that has no git repository there.
fn is_refusal<T>(done: &Result<T, SourceError>) -> bool {
    matches!(done, Err(SourceError::Remote { cause, .. }) if matches!(cause.downcast_ref(), Some(Fault::NotGit(_))))
}

/// Whether trying again would cost as much again for nothing.
pub(super) fn is_costly(error: &SourceError) -> bool {
    match error {
        SourceError::Remote { cause, .. } => cause
            .downcast_ref::<Fault>()
            .is_some_and(|fault| matches!(fault, Fault::TooMuch(_) | Fault::TooSlow(_))),
        SourceError::NoBranch { .. }
        | SourceError::Setup { .. }
        | SourceError::Store { .. }
        | SourceError::TooLarge(_) => false,
    }
}

/// Whether a store has nothing yet.
pub(super) fn is_empty(repo: &gix::Repository) -> bool {
    std::fs::read_dir(repo.git_dir().join("objects/pack"))
        .into_iter()
        .flatten()
        .flatten()
        .all(|entry| entry.path().extension().is_none_or(|ext| ext != "idx"))
}
