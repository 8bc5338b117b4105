//! One fetch: ask a remote for the tip, take what is missing, deepen until the floor is met, and keep the store sound.
//!
//! Order matters: objects are synced before a ref names them, and a new store is whole, holds the floor and is synced
//! before it takes the old one's place.

use std::error::Error;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use gix::ObjectId;
use gix::hash::Kind as HashKind;
use gix::protocol::transport::Protocol;
use gix::protocol::transport::client::blocking_io::{Transport, http::connect_http};
use gix::remote::fetch::{Shallow, Tags};
use gix::remote::{Direction, fetch::Status};

use super::graph::{self, Walk};
use super::http::SharedClient;
use super::limits::{Budget, Fault, Limits};
use super::local::{self, Reach};
use super::remote::Remote;
use super::{floor_ref, read, store};
use crate::domain::commit::{Descent, RawCommit};
use crate::domain::revision::CommitId;
use crate::port::source::SourceError;

/// Commits behind the tip that compaction carries over besides those down to the floor: more than the revisions that a
/// person may ask to go back to.
const RECENT: usize = 64;

/// What a source works with.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) remotes: Vec<Remote>,
    pub(super) branch: String,
    pub(super) dir: PathBuf,
    pub(super) fresh: PathBuf,
    pub(super) old: PathBuf,
    pub(super) limits: Limits,
    pub(super) client: SharedClient,
    /// Held by the one fetch that runs.
    pub(super) busy: Mutex<Memo>,
    /// Held for writing while the store is swapped.
    pub(super) swap: RwLock<()>,
    /// Reading found damage: the next fetch clones anew.
    pub(super) is_suspect: AtomicBool,
    /// Whether the leftovers of an unclean end were dealt with.
    pub(super) is_settled: Mutex<bool>,
}

/// What one fetch tells the next.
#[derive(Debug, Default)]
pub(super) struct Memo {
    /// A tip whose descent from this floor no deepening can tell, and why: not asked for again.
    hopeless: Option<(ObjectId, CommitId, String)>,
}

/// What to ask a remote for.
#[derive(Debug, Clone, Copy)]
enum Ask<'a> {
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
enum Answer {
    /// The tip, whose objects are here and synced.
    Tip { id: ObjectId, is_new: bool },
    /// It has no such branch.
    NoBranch,
    /// It speaks the other hash function.
    OtherHash(HashKind),
}

/// One remote during one fetch.
struct Exchange<'a> {
    inner: &'a Inner,
    remote: &'a Remote,
    interrupt: &'a Arc<AtomicBool>,
    started: Instant,
}

/// An error and its sources in one line.
fn chain(error: &dyn Error) -> String {
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
    fn budget(&self) -> Arc<Budget> {
        Budget::poll(&self.inner.limits, self.started, self.interrupt)
    }

    fn error(&self, fault: Fault) -> SourceError {
        match fault {
            Fault::Setup { what, cause } => SourceError::Setup { what, cause },
            other => SourceError::Remote {
                remote: self.remote.shown(),
                cause: Box::new(other),
            },
        }
    }

    fn ask(&self, repo: &gix::Repository, ask: Ask<'_>) -> Result<Answer, SourceError> {
        let budget = self.budget();
        let limits = &self.inner.limits;
        match self.remote {
            Remote::Http(remote) => {
                let http = remote
                    .connect(&self.inner.client, limits, &budget)
                    .map_err(|fault| self.error(fault))?;
                let url = self.gix_url(remote.url.as_str())?;
                let transport = connect_http(http, url.clone(), Protocol::V2, false);
                self.talk(repo, transport, url, ask, &budget)
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
            Remote::Local(path) => self.copy(repo, path, ask, &budget),
        }
    }

    fn gix_url(&self, url: &str) -> Result<gix::Url, SourceError> {
        gix::url::parse(url)
            .map_err(|error| self.error(Fault::broken("source.url is not a git address", error)))
    }

    fn copy(
        &self,
        repo: &gix::Repository,
        path: &std::path::Path,
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
            match ask {
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
                    };
                    local::copy(&from, repo, id, &reach, limits, budget)?;
                }
                Ask::Unshallow => {
                    let reach = Reach::Floor {
                        floor: None,
                        recent: usize::MAX,
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
            self.inner.is_suspect.store(true, Ordering::Relaxed);
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
            Ask::Update | Ask::Deepen(_) | Ask::Unshallow => {
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
    fn descent(
        &self,
        dir: &std::path::Path,
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
                Walk::Missing(id) => {
                    self.inner.is_suspect.store(true, Ordering::Relaxed);
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

/// Whether trying again would cost as much again for nothing.
fn is_costly(error: &SourceError) -> bool {
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

fn is_empty(repo: &gix::Repository) -> bool {
    std::fs::read_dir(repo.git_dir().join("objects/pack"))
        .into_iter()
        .flatten()
        .flatten()
        .all(|entry| entry.path().extension().is_none_or(|ext| ext != "idx"))
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
        store::settle(&self.dir, &self.fresh, &self.old)
            .and_then(|()| store::sweep(&self.dir))
            .and_then(|()| store::sweep(&self.fresh))
            .map_err(|error| store::broken("cannot tidy up after an unclean end", error))?;
        *is_settled = true;
        Ok(())
    }

    /// The whole fetch: each remote in its turn, until one answers.
    pub(super) fn fetch(
        &self,
        floor: Option<&CommitId>,
        interrupt: &Arc<AtomicBool>,
    ) -> Result<RawCommit, SourceError> {
        self.settle()?;
        let mut memo = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let mut first = None;
        for remote in &self.remotes {
            let exchange = Exchange {
                inner: self,
                remote,
                interrupt,
                started: Instant::now(),
            };
            match self.fetch_from(&exchange, floor, &mut memo) {
                Err(error @ (SourceError::Remote { .. } | SourceError::NoBranch { .. })) => {
                    first.get_or_insert(error);
                }
                Err(
                    error @ (SourceError::Setup { .. }
                    | SourceError::Store { .. }
                    | SourceError::TooLarge(_)),
                ) => return Err(error),
                Ok(commit) => return Ok(commit),
            }
        }
        Err(first.unwrap_or_else(|| SourceError::Setup {
            what: "source.url names no remote".to_owned(),
            cause: None,
        }))
    }

    /// Whether the store can be built upon.
    fn is_sound(&self) -> bool {
        if self.is_suspect.load(Ordering::Relaxed) || !self.dir.exists() {
            return false;
        }
        match store::check(&self.dir, &self.branch, &self.limits) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "the git store is damaged: cloning anew"
                );
                false
            }
        }
    }

    /// The half-made store beside the damaged one, from an earlier try where it is good.
    fn fresh(&self) -> Result<gix::Repository, SourceError> {
        if store::check(&self.fresh, &self.branch, &self.limits).is_ok() {
            return store::open(&self.fresh, &self.limits);
        }
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
            store::open(&self.dir, &self.limits)?
        } else {
            self.fresh()?
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
        let bytes = read::object(&repo, tip, gix::objs::Kind::Commit, "the tip")?;
        store::set_tip(dir, &self.branch, tip)?;
        let commit = raw(tip, bytes, descent)?;
        if is_sound {
            if is_new {
                self.compact(tip, floor, &commit.descent, exchange);
            }
        } else {
            self.replace(exchange, floor)?;
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
        floor_ref::carry(&self.dir, &self.fresh, &repo);
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
    fn compact(
        &self,
        tip: ObjectId,
        floor: Option<&CommitId>,
        descent: &Descent,
        exchange: &Exchange<'_>,
    ) {
        match descent {
            Descent::NoFloor | Descent::Same | Descent::Descends => {}
            // Proofs that took history to make are not thrown away.
            Descent::NotDescendant | Descent::Unknown(_) => return,
        }
        if !store::is_overgrown(&self.dir, &self.limits) {
            return;
        }
        if let Err(error) = self.write_anew(tip, floor, exchange) {
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
        exchange: &Exchange<'_>,
    ) -> Result<(), SourceError> {
        let from = store::open(&self.dir, &self.limits)?;
        let to = store::create(&self.fresh, from.object_hash(), &self.limits)?;
        let budget = Budget::poll(&self.limits, Instant::now(), exchange.interrupt);
        budget.receive(&self.limits);
        let failed = |fault: Fault| store::broken("cannot compact", fault);
        let reach = Reach::Floor {
            floor: floor.map(CommitId::as_str),
            recent: RECENT,
        };
        local::copy(&from, &to, tip, &reach, &self.limits, &budget).map_err(failed)?;
        // A floor that is not among the tip's ancestors is carried over too.
        for path in floor_ref::files(&self.dir)? {
            if let Some(id) = store::read_ref(&path)? {
                let to = store::open(&self.fresh, &self.limits)?;
                let reach = Reach::Floor {
                    floor: None,
                    recent: 1,
                };
                local::copy(&from, &to, id, &reach, &self.limits, &budget).map_err(failed)?;
            }
        }
        let to = store::open(&self.fresh, &self.limits)?;
        floor_ref::carry(&self.dir, &self.fresh, &to);
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
