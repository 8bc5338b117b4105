//! A git repository on this machine, read and never written: for verbs that look at commits where no device is.
//!
//! Opened isolated: no configuration or environment of a user, no replacement objects. Understands a revision's name as
//! git does for `HEAD`, refs, full and short ids, and `~n`, `^n`, `^{commit}` behind them; nothing else of gitrevisions(7).

mod documents;

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::bstr::ByteSlice as _;

use crate::adapter::git_objects::history::{Caps, Place, history};
use crate::domain::commit::{Descent, Extent, RawCommit, RawHistory};
use crate::domain::revision::CommitId;

/// How many commits are walked to learn whether one descends from another.
const WALK: usize = 1_000_000;

/// Why a repository does not give a commit.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// There is none.
    #[error("{} is not in a git repository", .dir.display())]
    NotARepository {
        /// Where.
        dir: PathBuf,
        /// Why.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No such revision.
    #[error("{} has no commit `{revision}`{detail}", .dir.display())]
    NoSuchRevision {
        /// Where.
        dir: PathBuf,
        /// Its name.
        revision: String,
        /// Why, where there is more to say.
        detail: &'static str,
    },
    /// Its objects or refs do not read.
    #[error("{} is damaged: `{revision}` does not read", .dir.display())]
    Damaged {
        /// Where.
        dir: PathBuf,
        /// What was read.
        revision: String,
        /// Why.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A git repository on this machine.
pub struct LocalRepository {
    repo: gix::Repository,
    dir: PathBuf,
}

impl std::fmt::Debug for LocalRepository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalRepository")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl LocalRepository {
    /// Opens the repository that `dir` is, or is in.
    ///
    /// # Errors
    /// [`LocalError::NotARepository`].
    pub fn open(dir: &Path) -> Result<Self, LocalError> {
        let not_one =
            |cause: Box<dyn std::error::Error + Send + Sync>| LocalError::NotARepository {
                dir: dir.to_owned(),
                cause,
            };
        let (found, _) = gix::discover::upwards(dir).map_err(|error| not_one(Box::new(error)))?;
        let (git_dir, _) = found.into_repository_and_work_tree_directories();
        let options =
            gix::open::Options::isolated().config_overrides(["core.useReplaceRefs=false"]);
        let repo = gix::ThreadSafeRepository::open_opts(git_dir, options)
            .map_err(|error| not_one(error.into()))?
            .to_thread_local();
        Ok(Self {
            repo,
            dir: dir.to_owned(),
        })
    }

    /// The commit that `revision` names, with its descent from `floor`.
    ///
    /// # Errors
    /// [`LocalError::NoSuchRevision`], [`LocalError::Damaged`].
    pub fn commit(
        &self,
        revision: &str,
        floor: Option<&CommitId>,
    ) -> Result<RawCommit, LocalError> {
        let id = self.resolve(revision)?;
        let bytes = self.object(id, revision)?.1;
        let id_text = id.to_hex().to_string();
        let parsed = id_text
            .parse()
            .map_err(|error| self.damaged(revision, error))?;
        let descent = floor.map_or(Descent::NoFloor, |floor| self.descent(id, floor));
        Ok(RawCommit {
            id: parsed,
            bytes,
            descent,
        })
    }

    /// The id of the commit that `revision` names.
    ///
    /// # Errors
    /// As [`LocalRepository::commit`].
    pub fn id(&self, revision: &str) -> Result<CommitId, LocalError> {
        self.resolve(revision)?
            .to_hex()
            .to_string()
            .parse()
            .map_err(|error| self.damaged(revision, error))
    }

    /// What trust has to see beside a commit, as a device's own store gives it
    /// ([`crate::port::source::Source::history`]). What is missing is told in its `cut`, and not called damage: people's
    /// repositories are what they are.
    ///
    /// # Errors
    /// [`LocalError::Damaged`].
    pub fn history(
        &self,
        tip: &CommitId,
        floor: Option<&CommitId>,
        extent: Extent,
    ) -> Result<RawHistory, LocalError> {
        let damaged = |error: Box<dyn std::error::Error + Send + Sync>| {
            self.damaged("the commits before it", error)
        };
        let id = ObjectId::from_hex(tip.as_str().as_bytes())
            .map_err(|error| damaged(Box::new(error)))?;
        let caps = Caps {
            below: WALK,
            ..Caps::default()
        };
        history(&self.repo, id, floor, extent, Place::Beyond, &caps)
            .map_err(|error| damaged(Box::new(error)))
    }

    /// A commit's bytes; `None` where it is not here or does not read.
    #[must_use]
    pub fn bytes(&self, id: &CommitId) -> Option<Vec<u8>> {
        let id = ObjectId::from_hex(id.as_str().as_bytes()).ok()?;
        match self.object(id, "") {
            Ok((gix::objs::Kind::Commit, bytes)) => Some(bytes),
            Ok(_) | Err(_) => None,
        }
    }

    fn damaged(
        &self,
        revision: &str,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> LocalError {
        LocalError::Damaged {
            dir: self.dir.clone(),
            revision: revision.to_owned(),
            cause: cause.into(),
        }
    }

    fn missing(&self, revision: &str, detail: &'static str) -> LocalError {
        LocalError::NoSuchRevision {
            dir: self.dir.clone(),
            revision: revision.to_owned(),
            detail,
        }
    }

    fn object(
        &self,
        id: ObjectId,
        revision: &str,
    ) -> Result<(gix::objs::Kind, Vec<u8>), LocalError> {
        let mut object = self
            .repo
            .try_find_object(id)
            .map_err(|error| self.damaged(revision, error))?
            .ok_or_else(|| self.missing(revision, ""))?;
        Ok((object.kind, std::mem::take(&mut object.data)))
    }

    fn resolve(&self, revision: &str) -> Result<ObjectId, LocalError> {
        let end = revision.find(['~', '^']).unwrap_or(revision.len());
        let (base, mut steps) = revision.split_at(end);
        let mut id = self.peel(self.base(base, revision)?, revision)?;
        while let Some(step) = steps.chars().next() {
            steps = &steps[step.len_utf8()..];
            if step == '^'
                && let Some(rest) = steps
                    .strip_prefix("{commit}")
                    .or_else(|| steps.strip_prefix("{}"))
            {
                steps = rest;
                continue;
            }
            let digits = steps.bytes().take_while(u8::is_ascii_digit).count();
            let (number, rest) = steps.split_at(digits);
            let unclear = || {
                self.missing(
                    revision,
                    ": only `~n`, `^n` and `^{commit}` are understood behind a name",
                )
            };
            let number: usize = if number.is_empty() {
                1
            } else {
                number.parse().map_err(|_| unclear())?
            };
            steps = rest;
            id = match step {
                '~' => (0..number).try_fold(id, |id, _| self.parent(id, 1, revision))?,
                '^' if number == 0 => id,
                '^' => self.parent(id, number, revision)?,
                _ => return Err(unclear()),
            };
        }
        Ok(id)
    }

    /// A name without anything behind it: a full id, a ref, a short id.
    fn base(&self, base: &str, revision: &str) -> Result<ObjectId, LocalError> {
        if let Ok(id) = ObjectId::from_hex(base.as_bytes()) {
            return Ok(id);
        }
        let name = if base == "@" { "HEAD" } else { base };
        if let Ok(Some(mut reference)) = self.repo.try_find_reference(name) {
            return reference
                .peel_to_id()
                .map(gix::Id::detach)
                .map_err(|_| self.missing(revision, ": it points to nothing yet"));
        }
        if base.len() < gix::hash::Prefix::MIN_HEX_LEN {
            return Err(self.missing(revision, ""));
        }
        let prefix = gix::hash::Prefix::from_hex(&base.to_ascii_lowercase())
            .map_err(|_| self.missing(revision, ""))?;
        let mut found = HashSet::new();
        self.repo
            .objects
            .lookup_prefix(prefix, Some(&mut found))
            .map_err(|error| self.damaged(revision, error))?;
        // Trees and blobs that begin alike do not make a commit's name unclear.
        found.retain(|id| {
            self.repo.find_header(*id).is_ok_and(|header| {
                matches!(
                    header.kind(),
                    gix::objs::Kind::Commit | gix::objs::Kind::Tag
                )
            })
        });
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(id), None) => Ok(id),
            (None, _) => Err(self.missing(revision, "")),
            (Some(_), Some(_)) => {
                Err(self.missing(revision, ": several commits begin with these digits"))
            }
        }
    }

    /// The commit behind a tag.
    fn peel(&self, mut id: ObjectId, revision: &str) -> Result<ObjectId, LocalError> {
        loop {
            let (kind, data) = self.object(id, revision)?;
            id = match kind {
                gix::objs::Kind::Commit => return Ok(id),
                gix::objs::Kind::Tag => gix::objs::TagRefIter::from_bytes(&data, id.kind())
                    .target_id()
                    .map_err(|error| self.damaged(revision, error))?,
                gix::objs::Kind::Tree | gix::objs::Kind::Blob => {
                    return Err(self.missing(revision, ": it is no commit"));
                }
            };
        }
    }

    fn parents(&self, id: ObjectId, revision: &str) -> Result<Vec<ObjectId>, LocalError> {
        let (_, data) = self.object(id, revision)?;
        Ok(data
            .lines()
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.strip_prefix(b"parent "))
            .filter_map(|hex| ObjectId::from_hex(hex).ok())
            .collect())
    }

    fn parent(&self, id: ObjectId, number: usize, revision: &str) -> Result<ObjectId, LocalError> {
        self.parents(id, revision)?
            .into_iter()
            .nth(number - 1)
            .ok_or_else(|| self.missing(revision, ": its history ends before"))
    }

    fn descent(&self, tip: ObjectId, floor: &CommitId) -> Descent {
        let Ok(floor) = ObjectId::from_hex(floor.as_str().as_bytes()) else {
            return Descent::NotDescendant;
        };
        if tip == floor {
            return Descent::Same;
        }
        let mut seen = HashSet::from([tip]);
        let mut next = VecDeque::from([tip]);
        let mut unread = None;
        while let Some(id) = next.pop_front() {
            let Ok(parents) = self.parents(id, "") else {
                unread = Some(format!("commit {id} is not in the repository"));
                continue;
            };
            for parent in parents {
                if parent == floor {
                    return Descent::Descends;
                }
                if seen.insert(parent) {
                    next.push_back(parent);
                }
            }
            if seen.len() > WALK {
                unread = Some(format!("it has more than {WALK} ancestors"));
                break;
            }
        }
        unread.map_or(Descent::NotDescendant, Descent::Unknown)
    }
}
