//! A remote and the local store of what was fetched, in memory.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::Faults;
use crate::domain::commit::{Descent, Extent, Kin, RawCommit, RawHistory, TrustFolder};
use crate::domain::history::Floor;
use crate::domain::revision::{CommitId, ContentId, TreeId};
use crate::domain::tree::{Document, Tree};
use crate::port::source::{
    Deepened, Fetched, Reach, RemoteHealth, Sighting, Source, SourceError, Whom,
};
use crate::trust::fixture::{Draft, Hand};

#[derive(Debug, Clone)]
struct Stored {
    bytes: Vec<u8>,
    tree: TreeId,
    parents: Vec<CommitId>,
}

/// Another remote.
#[derive(Debug, Clone)]
pub(crate) struct Mirror {
    /// Its tip.
    pub(crate) tip: Option<CommitId>,
    /// Whether it answers.
    pub(crate) online: bool,
    /// How it is reached.
    pub(crate) reach: Reach,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct MemorySource {
    faults: Rc<Faults>,
    commits: RefCell<BTreeMap<CommitId, Stored>>,
    trees: RefCell<BTreeMap<TreeId, Tree>>,
    tip: RefCell<Option<CommitId>>,
    local: RefCell<Option<CommitId>>,
    floor: RefCell<Option<Floor>>,
    /// Whether the remote answers.
    pub(crate) online: Cell<bool>,
    /// Whether a container took the network away: shared with the engine.
    cut: Rc<Cell<bool>>,
    /// Other remotes of the same fleet, after the first.
    pub(crate) mirrors: RefCell<Vec<Mirror>>,
    /// How often each remote was asked, by its place.
    pub(crate) asked: RefCell<BTreeMap<usize, usize>>,
    /// How a remote answered last.
    last: RefCell<BTreeMap<usize, Result<(), String>>>,
    /// What a question to a remote takes.
    pub(crate) poll_bytes: Cell<u64>,
    received: Cell<u64>,
    turned_to: RefCell<Option<std::path::PathBuf>>,
    /// How often a history was read.
    pub(crate) histories: Cell<usize>,
}

impl MemorySource {
    pub(crate) fn new(faults: Rc<Faults>, cut: Rc<Cell<bool>>) -> Self {
        Self {
            faults,
            commits: RefCell::default(),
            trees: RefCell::default(),
            tip: RefCell::default(),
            local: RefCell::default(),
            floor: RefCell::default(),
            online: Cell::new(true),
            cut,
            mirrors: RefCell::default(),
            asked: RefCell::default(),
            last: RefCell::default(),
            poll_bytes: Cell::new(0),
            received: Cell::new(0),
            turned_to: RefCell::default(),
            histories: Cell::new(0),
        }
    }

    /// The same remote and store, over other faults.
    pub(crate) fn copy(&self, faults: Rc<Faults>, cut: Rc<Cell<bool>>) -> Self {
        Self {
            faults,
            commits: self.commits.clone(),
            trees: self.trees.clone(),
            tip: self.tip.clone(),
            local: self.local.clone(),
            floor: self.floor.clone(),
            online: self.online.clone(),
            cut,
            mirrors: self.mirrors.clone(),
            asked: RefCell::default(),
            last: RefCell::default(),
            poll_bytes: Cell::new(0),
            received: Cell::new(0),
            turned_to: RefCell::default(),
            histories: Cell::new(0),
        }
    }

    /// The branch's tip at the remote.
    pub(crate) fn tip(&self) -> Option<CommitId> {
        self.tip.borrow().clone()
    }

    /// Asks a remote for its tip.
    fn ask(&self, at: usize) -> Result<Option<CommitId>, SourceError> {
        *self.asked.borrow_mut().entry(at).or_default() += 1;
        self.received
            .set(self.received.get() + self.poll_bytes.get());
        let mirrors = self.mirrors.borrow();
        let (tip, online, reach) = match at.checked_sub(1).and_then(|at| mirrors.get(at)) {
            Some(mirror) => (mirror.tip.clone(), mirror.online, mirror.reach),
            None => (self.tip.borrow().clone(), self.online.get(), Reach::Network),
        };
        let is_cut = self.cut.get() && reach == Reach::Network;
        if !online || is_cut {
            let failed = Err("timed out".to_owned());
            self.last.borrow_mut().insert(at, failed);
            return Err(SourceError::Remote {
                remote: name(at),
                cause: Box::new(std::io::Error::from(std::io::ErrorKind::TimedOut)),
            });
        }
        self.last.borrow_mut().insert(at, Ok(()));
        Ok(tip)
    }

    /// Puts a commit on the branch, on top of `parent`.
    pub(crate) fn push_on(
        &self,
        parent: Option<&CommitId>,
        documents: &[(&str, String)],
        message: &str,
        hand: Hand,
    ) -> CommitId {
        self.push_at(parent, documents, message, hand, 1_790_000_000)
    }

    /// As [`MemorySource::push_on`], committed at that time.
    pub(crate) fn push_at(
        &self,
        parent: Option<&CommitId>,
        documents: &[(&str, String)],
        message: &str,
        hand: Hand,
        time: i64,
    ) -> CommitId {
        let tree = Tree {
            documents: documents
                .iter()
                .map(|(path, text)| {
                    (
                        (*path).to_owned(),
                        Document::File(text.clone().into_bytes()),
                    )
                })
                .collect(),
        };
        let id: TreeId = ContentId::of(format!("{documents:?}").as_bytes()).as_str()[..40]
            .parse()
            .unwrap();
        self.trees.borrow_mut().insert(id.clone(), tree);
        let parents: Vec<CommitId> = parent.into_iter().cloned().collect();
        let draft = Draft {
            tree: id.as_str(),
            parents: &parents,
            time,
            message,
        };
        let (commit, bytes) = draft.signed(hand);
        self.commits.borrow_mut().insert(
            commit.clone(),
            Stored {
                bytes,
                tree: id,
                parents,
            },
        );
        *self.tip.borrow_mut() = Some(commit.clone());
        commit
    }

    /// Puts a trusted commit on top of the branch.
    pub(crate) fn push(&self, documents: &[(&str, String)], message: &str) -> CommitId {
        let tip = self.tip.borrow().clone();
        self.push_on(tip.as_ref(), documents, message, Hand::Trusted)
    }

    /// Moves the branch to a commit that was pushed before.
    pub(crate) fn move_to(&self, commit: &CommitId) {
        *self.tip.borrow_mut() = Some(commit.clone());
    }

    /// This commit was fetched before.
    pub(crate) fn fetched(&self, commit: &CommitId) {
        *self.local.borrow_mut() = Some(commit.clone());
    }

    /// Everything that was fetched, and the floor's ref, is lost.
    pub(crate) fn lose(&self) {
        *self.local.borrow_mut() = None;
        *self.floor.borrow_mut() = None;
    }

    /// Puts another floor in the place of the ref's.
    pub(crate) fn forge_floor(&self, floor: Option<Floor>) {
        *self.floor.borrow_mut() = floor;
    }

    /// A commit and all its ancestors.
    fn ancestors(&self, of: &CommitId) -> BTreeSet<CommitId> {
        let commits = self.commits.borrow();
        let mut seen = BTreeSet::new();
        let mut open = vec![of.clone()];
        while let Some(next) = open.pop() {
            if let (Some(stored), true) = (commits.get(&next), seen.insert(next.clone())) {
                open.extend(stored.parents.iter().cloned());
            }
        }
        seen
    }

    fn trust_folder(&self, tree: &TreeId) -> Option<std::sync::Arc<TrustFolder>> {
        let trees = self.trees.borrow();
        let documents = trees.get(tree)?;
        let of = |name: &str| documents.file(name).map(<[u8]>::to_vec);
        let signatures: BTreeMap<String, Vec<u8>> = documents
            .documents
            .keys()
            .filter_map(|path| {
                let name = path.strip_prefix("trust/")?;
                (name == "allowed_signers.sig" || name.starts_with("allowed_signers.sig."))
                    .then(|| Some((name.to_owned(), of(path)?)))?
            })
            .collect();
        let allowed_signers = of("trust/allowed_signers");
        (allowed_signers.is_some() || !signatures.is_empty()).then(|| {
            std::sync::Arc::new(TrustFolder {
                id: ContentId::of(format!("{allowed_signers:?}{signatures:?}").as_bytes())
                    .as_str()
                    .to_owned(),
                allowed_signers,
                signatures,
                fleet: of("fleet.toml"),
            })
        })
    }

    fn raw(&self, id: &CommitId, floor: Option<&CommitId>) -> Option<RawCommit> {
        let commits = self.commits.borrow();
        let mut seen = BTreeSet::new();
        let mut open = commits.get(id)?.parents.clone();
        while let Some(next) = open.pop() {
            if seen.insert(next.clone()) {
                open.extend(commits.get(&next)?.parents.iter().cloned());
            }
        }
        let descent = match floor {
            None => Descent::NoFloor,
            Some(floor) if floor == id => Descent::Same,
            Some(floor) if seen.contains(floor) => Descent::Descends,
            Some(_) => Descent::NotDescendant,
        };
        Some(RawCommit {
            id: id.clone(),
            bytes: commits.get(id)?.bytes.clone(),
            descent,
        })
    }
}

fn name(at: usize) -> String {
    match at {
        0 => "memory://fleet".to_owned(),
        at => format!("memory://mirror-{at}"),
    }
}

impl Source for MemorySource {
    async fn check(&self) -> Result<(), SourceError> {
        Ok(())
    }

    async fn fetch(&self, floor: Option<&CommitId>) -> Result<Fetched, SourceError> {
        let several = !self.mirrors.borrow().is_empty();
        let (remote, answer) = match self.ask(0) {
            Err(first) => (1..=self.mirrors.borrow().len())
                .find_map(|at| Some((at, Ok(self.ask(at).ok()?))))
                .unwrap_or((0, Err(first))),
            answer => (0, answer),
        };
        let Some(raw) = answer?.and_then(|tip| self.raw(&tip, floor)) else {
            return Err(SourceError::NoBranch {
                remote: name(remote),
                branch: "main".to_owned(),
            });
        };
        if several && self.local.borrow().is_some() {
            return Ok(Fetched { tip: raw, remote });
        }
        if self.local.borrow().as_ref() != Some(&raw.id) {
            let broken = |cause| SourceError::Store {
                what: "write what was fetched".to_owned(),
                cause: Some(Box::new(cause)),
            };
            let arrive = || {
                *self.local.borrow_mut() = Some(raw.id.clone());
                Ok(())
            };
            self.faults.effect("fetch", arrive, broken)?;
        }
        Ok(Fetched { tip: raw, remote })
    }

    fn remotes(&self) -> Vec<RemoteHealth> {
        let mirrors = self.mirrors.borrow();
        let reaches = mirrors.iter().map(|mirror| mirror.reach);
        std::iter::once(Reach::Network)
            .chain(reaches)
            .enumerate()
            .map(|(at, reach)| RemoteHealth {
                name: name(at),
                reach,
                last: self.last.borrow().get(&at).cloned(),
            })
            .collect()
    }

    async fn others(&self, than: usize, _whom: Whom) -> Vec<Sighting> {
        (0..=self.mirrors.borrow().len())
            .filter(|&remote| remote != than)
            .map(|remote| Sighting {
                remote,
                tip: self.ask(remote).ok().flatten(),
            })
            .collect()
    }

    fn turn_to(&self, dir: Option<&std::path::Path>) {
        self.turned_to.replace(dir.map(std::path::Path::to_owned));
    }

    fn received(&self) -> u64 {
        self.received.get()
    }

    fn cap_rate(&self, _: Option<u64>) {}

    async fn kin(&self, one: &CommitId, other: &CommitId) -> Result<Kin, SourceError> {
        Ok(if one == other {
            Kin::Same
        } else if self.ancestors(other).contains(one) {
            Kin::Ancestor
        } else if self.ancestors(one).contains(other) {
            Kin::Descendant
        } else {
            Kin::Apart
        })
    }

    async fn settle_on(&self, tip: &CommitId, _: Option<&CommitId>) -> Result<(), SourceError> {
        *self.local.borrow_mut() = Some(tip.clone());
        Ok(())
    }

    async fn reach(&self) -> Result<(), SourceError> {
        let mut answer = Ok(());
        for (at, remote) in self.remotes().iter().enumerate() {
            if remote.reach == Reach::Network {
                answer = self.ask(at).map(|_| ());
                if answer.is_ok() {
                    break;
                }
            }
        }
        answer
    }

    async fn local_tip(&self, floor: Option<&CommitId>) -> Result<Option<RawCommit>, SourceError> {
        let local = self.local.borrow().clone();
        Ok(local.and_then(|id| self.raw(&id, floor)))
    }

    async fn commit(
        &self,
        id: &CommitId,
        floor: Option<&CommitId>,
    ) -> Result<Option<RawCommit>, SourceError> {
        Ok(self.raw(id, floor))
    }

    async fn history(
        &self,
        tip: &CommitId,
        floor: Option<&CommitId>,
        extent: Extent,
    ) -> Result<RawHistory, SourceError> {
        self.histories.set(self.histories.get() + 1);
        let commits = self.commits.borrow();
        let settled = floor.map_or_else(BTreeSet::new, |floor| self.ancestors(floor));
        let mut history = RawHistory::default();
        if let (Extent::SinceFloor, Some(stored)) = (extent, floor.and_then(|id| commits.get(id)))
            && let Some(folder) = self.trust_folder(&stored.tree)
        {
            history.sets.insert(stored.tree.clone(), folder);
        }
        let mut open = vec![(tip.clone(), 0)];
        while let Some((id, depth)) = open.pop() {
            let Some(stored) = commits.get(&id) else {
                continue;
            };
            if history
                .commits
                .insert(id.clone(), stored.bytes.clone())
                .is_some()
            {
                continue;
            }
            if let Some(folder) = self.trust_folder(&stored.tree) {
                history.sets.insert(stored.tree.clone(), folder);
            }
            let ends = match extent {
                Extent::Parents => depth == 1,
                Extent::SinceFloor => false,
            };
            if settled.contains(&id) {
                history.settled.insert(id);
            } else if !ends {
                open.extend(
                    stored
                        .parents
                        .iter()
                        .map(|parent| (parent.clone(), depth + 1)),
                );
            }
        }
        Ok(history)
    }

    async fn deepen(&self) -> Result<Deepened, SourceError> {
        Ok(Deepened::Nothing)
    }

    async fn read(&self, tree: &TreeId, paths: &[String]) -> Result<Tree, SourceError> {
        let broken = |cause| SourceError::Store {
            what: "read a tree".to_owned(),
            cause: Some(Box::new(cause)),
        };
        self.faults.look("read a tree", broken)?;
        let trees = self.trees.borrow();
        let whole = trees.get(tree).ok_or_else(|| SourceError::Store {
            what: format!("read the tree {tree}"),
            cause: None,
        })?;
        let asked = |path: &str| {
            paths.iter().any(|asked| {
                path.strip_prefix(asked.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        Ok(Tree {
            documents: whole
                .documents
                .iter()
                .filter(|(path, _)| asked(path))
                .map(|(path, document)| (path.clone(), document.clone()))
                .collect(),
        })
    }

    fn floor_ref(&self) -> Result<Option<Floor>, SourceError> {
        Ok(self.floor.borrow().clone())
    }

    fn set_floor_ref(&self, floor: &Floor) -> Result<(), SourceError> {
        if self.floor.borrow().as_ref() == Some(floor) {
            return Ok(());
        }
        let write = || {
            *self.floor.borrow_mut() = Some(floor.clone());
            Ok(())
        };
        self.faults
            .effect("write the floor's ref", write, |cause| SourceError::Store {
                what: "write the floor's ref".to_owned(),
                cause: Some(Box::new(cause)),
            })
    }
}
