//! The git source: one branch of a remote, or of several in order, over https, http, ssh or from a path, and a bounded
//! local store of it.
//!
//! Owns `<state>/git` (and `git.new`, `git.old` beside it while one store takes another's place; `git.heads` and
//! `git.incoming` where a remote is a published tree). Refuses: a host key
//! that is not pinned, credentials for another host, answers past their deadline or byte cap. Works without a `git`
//! program; ssh needs the system's `ssh`. Nothing that is read here is trusted by anyone: signatures are judged above.
//!
//! Limits: protocol v2 servers are asked for one ref; older ones list all of theirs (up to 16 MiB). A pack may have
//! 512 MiB, and one exchange 15 minutes; see [`Limits`].

mod answer;
mod carried;
mod deepen;
mod download;
mod exchange;
mod fetch;
mod floor_ref;
mod graph;
mod http;
mod limits;
mod local;
mod published;
mod remote;
mod several;
mod ssh;
mod store;
mod tls;
mod vouch;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use evenkeel_schema::agent_config::SourceSection;
use gix::ObjectId;
use gix::objs::Kind;

pub use limits::{Fault, Limits};

use crate::adapter::git_objects::history::{self, Place};
use crate::adapter::git_objects::object;
use crate::adapter::git_objects::read::{Most, read};
use crate::domain::commit::{Descent, Extent, Kin, RawCommit, RawHistory};
use crate::domain::history::Floor;
use crate::domain::revision::{CommitId, TreeId};
use crate::domain::storage::Storage;
use crate::domain::tree::Tree;
use crate::port::source::{Deepened, Fetched, RemoteHealth, Sighting, Source, SourceError, Whom};
use fetch::Inner;
use graph::Walk;
use remote::Remote;
use several::Health;
use tls::TlsFiles;

/// A branch of a git remote.
#[derive(Debug)]
pub struct GitSource {
    /// What agent.toml names.
    home: Arc<Inner>,
    /// What is asked now.
    current: Arc<RwLock<Arc<Inner>>>,
}

fn setup(what: String) -> SourceError {
    SourceError::Setup { what, cause: None }
}

/// Ends the blocking work when the caller no longer waits for it.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl GitSource {
    /// A source for `[source]` of agent.toml, with its store in `dir`. Touches neither disk nor network.
    ///
    /// # Errors
    /// [`SourceError::Setup`] where `source.url` or `source.branch` cannot be right.
    pub fn new(section: &SourceSection, dir: impl Into<PathBuf>) -> Result<Self, SourceError> {
        Self::with_limits(section, dir, Limits::default())
    }

    /// As [`GitSource::new`], with other limits.
    ///
    /// # Errors
    /// As [`GitSource::new`].
    pub fn with_limits(
        section: &SourceSection,
        dir: impl Into<PathBuf>,
        limits: Limits,
    ) -> Result<Self, SourceError> {
        // reqwest needs a provider for the process. Where one is installed already, that one stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        if section.urls.is_empty() {
            return Err(setup("source.url is missing".to_owned()));
        }
        let full = format!("refs/heads/{}", section.branch);
        if gix::refs::FullName::try_from(full.as_str()).is_err() {
            return Err(setup(format!(
                "source.branch `{}` is not a branch name",
                section.branch.escape_debug()
            )));
        }
        let remotes = remote::all(section).map_err(setup)?;
        let dir = dir.into();
        let beside = |suffix: &str| {
            let mut name = dir.file_name().unwrap_or_default().to_owned();
            name.push(suffix);
            dir.with_file_name(name)
        };
        let home = Arc::new(Inner {
            health: Mutex::new(Health::new(remotes.len(), section.interval)),
            remotes,
            branch: section.branch.clone(),
            fresh: beside(".new"),
            old: beside(".old"),
            incoming: beside(".incoming"),
            heads: Arc::new(published::Heads::new(beside(".heads"))),
            dir,
            limits,
            client: Arc::default(),
            meter: Arc::default(),
            files: TlsFiles {
                ca: section.ca_file.clone(),
                cert: section.client_cert.clone(),
                key: section.client_key.clone(),
            },
            busy: Arc::default(),
            swap: Arc::default(),
            is_suspect: Arc::default(),
            is_settled: Arc::default(),
        });
        Ok(Self {
            current: Arc::new(RwLock::new(Arc::clone(&home))),
            home,
        })
    }

    fn inner(&self) -> Arc<Inner> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs blocking work, and stops it where the caller no longer waits or `deadline` has passed.
    async fn run<T: Send + 'static>(
        &self,
        deadline: Duration,
        work: impl FnOnce(&Inner, &Arc<AtomicBool>) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let interrupt = Arc::new(AtomicBool::new(false));
        let _stop = StopOnDrop(Arc::clone(&interrupt));
        let inner = self.inner();
        let asked = inner
            .remotes
            .first()
            .map_or_else(String::new, Remote::shown);
        let job = tokio::task::spawn_blocking(move || work(&inner, &interrupt));
        match tokio::time::timeout(deadline, job).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => Err(store::broken("its worker ended", error)),
            Err(_) => Err(SourceError::Remote {
                remote: asked,
                cause: Box::new(Fault::TooSlow(deadline)),
            }),
        }
    }

    /// How long all the remotes together may take.
    fn patience(&self) -> Duration {
        let limits = &self.home.limits;
        let remotes = u32::try_from(self.home.remotes.len()).unwrap_or(u32::MAX);
        let each = limits.fetch + limits.read + limits.connect;
        // With a cap on the rate a large pack takes longer, on purpose.
        let slow = self
            .home
            .meter
            .rate()
            .map_or(0, |rate| limits.pack_bytes / rate);
        each.saturating_add(Duration::from_secs(slow))
            .saturating_mul(remotes)
            .saturating_add(DISK)
    }

    /// Runs blocking work on the local store.
    async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        self.run(LOOK, |inner, _| inner.look(work)).await
    }
}

/// For work on the local store alone: some seconds at the very worst. 5 min: a dying disk.
const LOOK: Duration = Duration::from_secs(300);
/// Beyond the limits, for disk work after the network's: syncing and compacting on a slow card.
const DISK: Duration = Duration::from_secs(120);

impl Inner {
    /// Work on the local store: no swap in between, and damage is remembered for the next fetch.
    fn look<T>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        self.settle()?;
        let _guard = self.swap.read().unwrap_or_else(PoisonError::into_inner);
        let done = work(self);
        // A disk without room is no damage. One that does not read is: the same bytes elsewhere may be read.
        if let Err(error @ SourceError::Store { .. }) = &done {
            match Storage::behind(error) {
                Some(Storage::Full | Storage::ReadOnly) => {}
                Some(Storage::Failing) | None => self.suspect(),
            }
        }
        done
    }

    /// A commit of the local store and its descent, as far as it can be told without the network.
    fn known(
        &self,
        id: ObjectId,
        floor: Option<&CommitId>,
    ) -> Result<Option<RawCommit>, SourceError> {
        let repo = store::open(&self.dir, &self.limits)?;
        if id.kind() != repo.object_hash() || !repo.has_object(id) {
            return Ok(None);
        }
        let bytes = object(&repo, id, Kind::Commit, "a commit")?;
        let descent = match floor {
            None => Descent::NoFloor,
            Some(floor) => {
                let walk = graph::walk(&repo, id, floor.as_str(), self.limits.commits)
                    .map_err(|error| store::broken("history does not read", error))?;
                match walk {
                    Walk::Same => Descent::Same,
                    Walk::Descends => Descent::Descends,
                    Walk::NotDescendant if !has(&repo, floor) => Descent::Unknown(
                        "the git store on this device is older than the floor: it was put back"
                            .to_owned(),
                    ),
                    Walk::NotDescendant => Descent::NotDescendant,
                    Walk::Cut => Descent::Unknown(
                        "the history kept on this device does not reach the floor".to_owned(),
                    ),
                    Walk::TooMany => Descent::Unknown(format!(
                        "its history has more than {} commits",
                        self.limits.commits
                    )),
                    Walk::Missing(id) => {
                        return Err(SourceError::Store {
                            what: format!("commit {id} is missing from its history"),
                            cause: None,
                        });
                    }
                }
            }
        };
        fetch::raw(id, bytes, descent).map(Some)
    }
}

impl Source for GitSource {
    async fn fetch(&self, floor: Option<&CommitId>) -> Result<Fetched, SourceError> {
        let floor = floor.cloned();
        self.run(self.patience(), move |inner, interrupt| {
            inner.fetch(floor.as_ref(), interrupt)
        })
        .await
    }

    fn remotes(&self) -> Vec<RemoteHealth> {
        self.inner().told()
    }

    fn turn_to(&self, dir: Option<&std::path::Path>) {
        Self::turn_to(self, dir);
    }

    fn received(&self) -> u64 {
        self.home.meter.bytes()
    }

    fn cap_rate(&self, bytes_per_second: Option<u64>) {
        self.home.meter.cap(bytes_per_second);
    }

    async fn others(&self, than: usize, whom: Whom) -> Vec<Sighting> {
        let asked = self.run(self.patience(), move |inner, interrupt| {
            Ok(inner.others(than, whom, interrupt))
        });
        match asked.await {
            Ok(seen) => seen,
            Err(error) => {
                tracing::debug!(%error, "the other remotes were not asked");
                Vec::new()
            }
        }
    }

    async fn kin(&self, one: &CommitId, other: &CommitId) -> Result<Kin, SourceError> {
        let (one, other) = (object_id(one.as_str())?, object_id(other.as_str())?);
        self.look(move |inner| {
            let repo = store::open(&inner.dir, &inner.limits)?;
            graph::kin(&repo, one, other, inner.limits.commits)
                .map_err(|error| store::broken("history does not read", error))
        })
        .await
    }

    async fn settle_on(&self, tip: &CommitId, floor: Option<&CommitId>) -> Result<(), SourceError> {
        let tip = object_id(tip.as_str())?;
        let floor = floor.cloned();
        self.run(LOOK, move |inner, interrupt| {
            inner.settle_on(tip, floor.as_ref(), interrupt)
        })
        .await
    }

    async fn reach(&self) -> Result<(), SourceError> {
        self.run(self.patience(), Inner::reach).await
    }

    async fn local_tip(&self, floor: Option<&CommitId>) -> Result<Option<RawCommit>, SourceError> {
        let floor = floor.cloned();
        self.look(move |inner| {
            let Some(id) = inner.own_tip()? else {
                return Ok(None);
            };
            match inner.known(id, floor.as_ref())? {
                Some(commit) => Ok(Some(commit)),
                None => Err(SourceError::Store {
                    what: format!("the tip {id} is not in it"),
                    cause: None,
                }),
            }
        })
        .await
    }

    async fn commit(
        &self,
        id: &CommitId,
        floor: Option<&CommitId>,
    ) -> Result<Option<RawCommit>, SourceError> {
        let id = id.clone();
        let floor = floor.cloned();
        self.look(move |inner| {
            if !inner.dir.exists() {
                return Ok(None);
            }
            let id = object_id(id.as_str())?;
            inner.known(id, floor.as_ref())
        })
        .await
    }

    async fn history(
        &self,
        tip: &CommitId,
        floor: Option<&CommitId>,
        extent: Extent,
    ) -> Result<RawHistory, SourceError> {
        let tip = object_id(tip.as_str())?;
        let floor = floor.cloned();
        self.look(move |inner| {
            let repo = store::open(&inner.dir, &inner.limits)?;
            let (floor, caps) = (floor.as_ref(), inner.limits.caps());
            history::history(&repo, tip, floor, extent, Place::Within, &caps)
        })
        .await
    }

    async fn deepen(&self) -> Result<Deepened, SourceError> {
        self.run(self.patience(), Inner::deepen).await
    }

    async fn read(&self, tree: &TreeId, paths: &[String]) -> Result<Tree, SourceError> {
        let tree = tree.clone();
        let paths = paths.to_vec();
        self.look(move |inner| {
            let repo = store::open(&inner.dir, &inner.limits)?;
            read(
                &repo,
                &inner.limits.documents(),
                object_id(tree.as_str())?,
                &paths,
            )
        })
        .await
    }

    async fn large(&self, tree: &TreeId, path: &str) -> Result<Option<Vec<u8>>, SourceError> {
        let (tree, path) = (tree.clone(), path.to_owned());
        self.look(move |inner| {
            let repo = store::open(&inner.dir, &inner.limits)?;
            let limits = Most {
                file_bytes: inner.limits.object_bytes,
                tree_bytes: inner.limits.object_bytes,
                ..inner.limits.documents()
            };
            let id = object_id(tree.as_str())?;
            let mut read = read(&repo, &limits, id, std::slice::from_ref(&path))?;
            Ok(read.take_file(&path))
        })
        .await
    }

    async fn check(&self) -> Result<(), SourceError> {
        self.look(|inner| {
            if !inner.dir.exists() {
                return Ok(());
            }
            store::verify(&inner.dir)?;
            store::check(&inner.dir, &inner.branch, &inner.limits)
        })
        .await
    }

    fn floor_ref(&self) -> Result<Option<Floor>, SourceError> {
        self.home
            .look(|inner| floor_ref::read(&inner.dir, &inner.limits))
    }

    fn set_floor_ref(&self, floor: &Floor) -> Result<(), SourceError> {
        self.home.settle()?;
        let _guard = self
            .home
            .swap
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let repo = store::open(&self.home.dir, &self.home.limits)?;
        floor_ref::write(&self.home.dir, &repo, floor)
    }
}

/// Whether a commit is in a store.
fn has(repo: &gix::Repository, id: &CommitId) -> bool {
    ObjectId::from_hex(id.as_str().as_bytes()).is_ok_and(|id| repo.has_object(id))
}

fn object_id(text: &str) -> Result<ObjectId, SourceError> {
    ObjectId::from_hex(text.as_bytes()).map_err(|error| store::broken("an object id", error))
}
