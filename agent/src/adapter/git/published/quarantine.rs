//! Where packs of a published tree are taken apart before the store sees them: a store of its own beside it, which knows the
//! store's objects. What is cut off, mixed up or incomplete is thrown away with it.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufReader, Write as _};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::objs::{CommitRefIter, TreeRefIter};
use gix::odb::pack;

use super::super::limits::{Budget, Fault, Limits};
use super::super::{graph, local, store};
use crate::port::source::SourceError;

/// How far back new commits are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// To those that were here before; and what is new is whole.
    New,
    /// Behind them, too.
    All,
}

/// A store of packs that are not taken yet.
pub(super) struct Quarantine<'a> {
    dir: PathBuf,
    /// What was taken apart, the oldest first.
    packs: Vec<PathBuf>,
    /// The store that they are for.
    into: &'a gix::Repository,
    limits: &'a Limits,
    budget: &'a Budget,
}

impl Drop for Quarantine<'_> {
    fn drop(&mut self) {
        let _ = store::remove(&self.dir);
    }
}

fn local(what: &str) -> impl Fn(io::Error) -> SourceError {
    move |error| store::broken(what, error)
}

fn incomplete(what: impl std::fmt::Display) -> Fault {
    Fault::Answer(format!(
        "its files do not fit together: {what}. Is it in the middle of being uploaded, or were two trees mixed? Publish it again"
    ))
}

impl<'a> Quarantine<'a> {
    pub(super) fn new(
        dir: PathBuf,
        into: &'a gix::Repository,
        limits: &'a Limits,
        budget: &'a Budget,
    ) -> Result<Self, SourceError> {
        let quarantine = Self {
            dir,
            packs: Vec::new(),
            into,
            limits,
            budget,
        };
        store::create(&quarantine.dir, into.object_hash(), limits)?;
        let failed = local("cannot set up the place for what is fetched");
        let objects = fs::canonicalize(into.git_dir().join("objects")).map_err(&failed)?;
        let info = quarantine.dir.join("objects/info");
        fs::create_dir_all(&info).map_err(&failed)?;
        let mut line = objects.into_os_string();
        line.push("\n");
        // Thrown away with the quarantine: nothing to make durable.
        File::create(info.join("alternates"))
            .and_then(|mut file| file.write_all(line.as_encoded_bytes()))
            .map_err(&failed)?;
        Ok(quarantine)
    }

    fn open(&self) -> Result<gix::Repository, SourceError> {
        store::open(&self.dir, self.limits)
    }

    /// Takes a pack apart: each object is hashed.
    pub(super) fn index(&mut self, file: &Path) -> Result<Result<(), Fault>, SourceError> {
        let repo = self.open()?;
        let mut file = match File::open(file) {
            Ok(file) => BufReader::new(file),
            Err(error) => return Ok(Err(Fault::Answer(super::unread(file, &error)))),
        };
        let done = pack::Bundle::write_to_directory(
            &mut file,
            Some(&self.dir.join("objects/pack")),
            &mut gix::progress::Discard,
            self.budget.interrupt(),
            Some(Box::new(repo.objects.clone())),
            self.into.object_hash(),
            pack::bundle::write::Options {
                thread_limit: Some(1),
                alloc_limit_bytes: usize::try_from(self.limits.object_bytes).ok(),
                ..Default::default()
            },
        );
        match done {
            Ok(outcome) => {
                if let Some(keep) = outcome.keep_path {
                    let _ = fs::remove_file(keep);
                }
                // A head may name one twice.
                self.packs
                    .extend(outcome.data_path.filter(|path| !self.packs.contains(path)));
                Ok(Ok(()))
            }
            Err(error) => {
                let text = super::super::exchange::chain(&error);
                // Not every error of gix's names the system's own as its source.
                for (words, kind) in [
                    ("No space left", io::ErrorKind::StorageFull),
                    ("Read-only file system", io::ErrorKind::ReadOnlyFilesystem),
                ] {
                    if text.contains(words) {
                        let error = io::Error::new(kind, error);
                        return Err(store::broken("cannot write what was fetched", error));
                    }
                }
                Ok(Err(Fault::broken(
                    "a pack of it is not good git data",
                    error,
                )))
            }
        }
    }

    /// Looks at what came, and moves it into the store, synced: `tip` is there then, whole, as far as the boundary.
    pub(super) fn take(&self, tip: ObjectId, look: Look) -> Result<Result<(), Fault>, SourceError> {
        let repo = self.open()?;
        let before = graph::boundary(self.into)
            .map_err(|error| store::broken("the shallow boundary does not read", error))?;
        let cut = match self.look(&repo, tip, look) {
            Ok(cut) => cut,
            Err(fault) => return Ok(Err(fault)),
        };
        let after: BTreeSet<ObjectId> = before
            .union(&cut)
            .copied()
            .filter(|id| {
                graph::parents(&repo, *id).is_none_or(|parents| {
                    parents.into_iter().any(|parent| !repo.has_object(parent))
                })
            })
            .collect();
        let both = before.union(&after).copied().collect();
        let to = self.into.git_dir();
        let unwritten = |fault: Fault| store::broken("cannot write the shallow boundary", fault);
        // What is cut off is said before the pack is seen, and what no longer is only after.
        local::write_boundary(to, &before, &both).map_err(unwritten)?;
        let files = self.move_into(&to.join("objects/pack"))?;
        store::sync_received(to, &files)?;
        local::write_boundary(to, &both, &after).map_err(unwritten)?;
        Ok(Ok(()))
    }

    /// The oldest first: what a cut leaves is whole up to some commit.
    fn move_into(&self, packs: &Path) -> Result<Vec<PathBuf>, SourceError> {
        let failed = local("cannot move what was fetched into it");
        let mut files = Vec::new();
        for path in &self.packs {
            // A pack without its index is not seen: the index last.
            for from in [path.clone(), path.with_extension("idx")] {
                store::sync(&from).map_err(&failed)?;
                let to = packs.join(from.file_name().unwrap_or_default());
                fs::rename(&from, &to).map_err(&failed)?;
                files.push(to);
            }
        }
        Ok(files)
    }

    /// The commits whose parents are not here.
    fn look(
        &self,
        repo: &gix::Repository,
        tip: ObjectId,
        look: Look,
    ) -> Result<BTreeSet<ObjectId>, Fault> {
        let mut cut = BTreeSet::new();
        let mut trees = HashSet::new();
        let mut seen = HashSet::from([tip]);
        let mut next = VecDeque::from([tip]);
        while let Some(id) = next.pop_front() {
            self.budget.remaining()?;
            let is_new = !self.into.has_object(id);
            if look == Look::New && !is_new {
                continue;
            }
            let Some(parents) = graph::parents(repo, id) else {
                return Err(incomplete(format_args!(
                    "commit {id} is in none of its packs"
                )));
            };
            if look == Look::New {
                self.is_whole(repo, id, &mut trees)?;
            }
            for parent in parents {
                if !repo.has_object(parent) {
                    cut.insert(id);
                } else if seen.insert(parent) {
                    next.push_back(parent);
                }
            }
            if seen.len() > self.limits.commits {
                return Err(Fault::Answer(format!(
                    "its history has more than {} commits",
                    self.limits.commits
                )));
            }
        }
        Ok(cut)
    }

    /// Whether a commit's tree and all that is in it is here. A tree of the store is there whole.
    fn is_whole(
        &self,
        repo: &gix::Repository,
        commit: ObjectId,
        seen: &mut HashSet<ObjectId>,
    ) -> Result<(), Fault> {
        let missing =
            |id: ObjectId| incomplete(format_args!("object {id} is in none of its packs"));
        let object = repo.find_object(commit).map_err(|_| missing(commit))?;
        let root = CommitRefIter::from_bytes(&object.data, commit.kind())
            .tree_id()
            .map_err(|error| Fault::broken("a commit of it does not decode", error))?;
        let mut trees = vec![root];
        while let Some(tree) = trees.pop() {
            if !seen.insert(tree) || self.into.has_object(tree) {
                continue;
            }
            self.budget.remaining()?;
            let object = repo.find_object(tree).map_err(|_| missing(tree))?;
            for entry in TreeRefIter::from_bytes(&object.data, tree.kind()) {
                let entry = entry
                    .map_err(|error| Fault::broken("a folder of it does not decode", error))?;
                let id = entry.oid.to_owned();
                if entry.mode.is_tree() {
                    trees.push(id);
                } else if !entry.mode.is_commit() && seen.insert(id) && !repo.has_object(id) {
                    return Err(missing(id));
                }
            }
        }
        Ok(())
    }
}
