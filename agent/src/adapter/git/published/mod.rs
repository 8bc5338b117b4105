//! A published tree as a remote: its head in one request, then the packs that are missing, each resumed where it broke off.
//!
//! Owns `<state>/git.incoming`: packs on their way. They are checked against the head (size, SHA-256), taken apart in a
//! quarantine, looked at as a whole, and only then moved into the store, where everything else works as with a git server.
//! Refuses what is cut off, mixed up or incomplete, before anything of it is seen. Nothing here is trusted by anyone: a head
//! that names an older tip, or another one, is judged above, as a git server's would be.
//!
//! Limits: a pack may have what a git server's may ([`Limits::pack_bytes`](super::Limits)); history behind the line's
//! beginning comes whole or not at all.

mod head;
mod quarantine;

use std::error::Error;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::hash::Kind as HashKind;

use self::head::{Found, below};
pub(super) use self::head::{Heads, Place};
use self::quarantine::{Look, Quarantine};
use super::download::{Pieces, ask, ranged_from};
use super::exchange::{Answer, Ask, Exchange, is_empty};
use super::limits::{Budget, Fault};
use super::{graph, object_id, store};
use crate::adapter::part;
use crate::adapter::room;
use crate::domain::published::{Head, MARK, Pack, head_file};
use crate::domain::revision::CommitId;
use crate::domain::storage::Storage;
use crate::port::source::SourceError;
use crate::port::upgrades::Piece;

/// Whether a folder is a published tree, and not a git repository.
pub(super) fn is_tree(dir: &Path, branch: &str) -> bool {
    let is_git = dir.join("objects").is_dir() || dir.join(".git").exists();
    !is_git && (dir.join(MARK).is_file() || dir.join(head_file(branch)).is_file())
}

/// What ended a download, in our words.
fn fault(error: Box<dyn Error + Send + Sync>) -> Fault {
    let error = match error.downcast::<Fault>() {
        Ok(fault) => return *fault,
        Err(error) => error,
    };
    match error.downcast::<io::Error>() {
        Ok(io) => match io.downcast::<Fault>() {
            Ok(fault) => fault,
            Err(io) => Fault::broken("the connection broke", io),
        },
        Err(error) => Fault::broken("the connection broke", error),
    }
}

impl Exchange<'_> {
    /// Asks a published tree. `None` where none is there, and why.
    pub(super) fn ask_tree(
        &self,
        repo: &gix::Repository,
        place: Place<'_>,
        asked: Ask<'_>,
        budget: &Budget,
    ) -> Result<Result<Answer, Fault>, SourceError> {
        let known = match asked {
            Ask::Tip | Ask::Update => None,
            // Of one fetch, all steps go by one head.
            Ask::Deepen(_) | Ask::Unshallow | Ask::Floor(_) => {
                self.inner.heads.last(place, &self.inner.branch)
            }
        };
        let head = match known {
            Some(head) => head,
            None => match head::head(self.inner, place, budget) {
                Ok(Found::Head(head)) => head,
                Ok(Found::NoBranch) => return Ok(Ok(Answer::NoBranch)),
                Ok(Found::NoTree(why)) => return Ok(Err(why)),
                Err(fault) => return Err(self.error(fault)),
            },
        };
        let hash = match head.hash.as_str() {
            "sha256" => HashKind::Sha256,
            _ => HashKind::Sha1,
        };
        if hash != repo.object_hash() {
            return Ok(Ok(Answer::OtherHash(hash)));
        }
        let tip = object_id(head.tip.as_str())?;
        let is_new = !repo.has_object(tip);
        let (packs, look) = match asked {
            Ask::Tip => return Ok(Ok(Answer::Tip { id: tip, is_new })),
            Ask::Update if !is_new => (Vec::new(), Look::New),
            Ask::Update => (self.missing(&head, repo), Look::New),
            Ask::Floor(floor) if is_here(repo, floor) => (Vec::new(), Look::All),
            Ask::Deepen(_) | Ask::Unshallow | Ask::Floor(_) => (behind(&head, repo)?, Look::All),
        };
        if !packs.is_empty() {
            budget.receive(&self.inner.limits);
            let received = self.receive(repo, place, &packs, tip, look, budget);
            if received.is_err() {
                self.inner.heads.doubt(place);
            }
            received?;
        }
        if let Ask::Update = asked {
            if packs.is_empty() {
                // Another remote may have brought the tip meanwhile.
                let awaited = self.inner.heads.awaited(|head| is_here(repo, &head.tip));
                self.sweep(|name| name.to_str().is_some_and(|name| awaited.contains(name)));
                let _ = fs::remove_dir(&self.inner.incoming);
            }
            self.inner.heads.keep();
        }
        Ok(Ok(Answer::Tip { id: tip, is_new }))
    }

    /// The packs that lead from what is here to the tip.
    fn missing<'h>(&self, head: &'h Head, repo: &gix::Repository) -> Vec<&'h Pack> {
        let last = head.line.iter().rposition(|pack| is_here(repo, &pack.to));
        if let Some(last) = last {
            return head.line[last + 1..].iter().collect();
        }
        let whole = sizes(&head.line);
        // Who has something has a floor, and the way from there to the tip is in the line alone.
        if !is_empty(repo) && whole <= self.inner.limits.pack_bytes {
            return head.line.iter().collect();
        }
        let beyond = head.after(&head.snapshot.to).unwrap_or_default();
        [&head.snapshot].into_iter().chain(beyond).collect()
    }

    fn receive(
        &self,
        repo: &gix::Repository,
        place: Place<'_>,
        packs: &[&Pack],
        tip: ObjectId,
        look: Look,
        budget: &Budget,
    ) -> Result<(), SourceError> {
        let most = self.inner.limits.pack_bytes;
        let whole = sizes(packs.iter().copied());
        if whole > most {
            return Err(self.error(Fault::TooMuch(most)));
        }
        let received = self
            .look_for_room(place, packs)
            .and_then(|()| self.take_in(repo, place, packs, tip, look, budget));
        if let Err(error) = &received
            && Storage::behind(error) == Some(Storage::Full)
        {
            // Others need the room.
            let _ = store::remove(&self.inner.incoming);
        }
        received
    }

    /// Whether the disk has room for what is still to come, and for all of it once more, taken apart, before anything of it is
    /// written.
    fn look_for_room(&self, place: Place<'_>, packs: &[&Pack]) -> Result<(), SourceError> {
        let incoming = &self.inner.incoming;
        self.sweep(|name| packs.iter().any(|pack| *name == *pack.sha256));
        let whole = sizes(packs.iter().copied());
        let to_come = match place {
            Place::Web(_) => packs.iter().fold(0_u64, |sum, pack| {
                let have = fs::metadata(incoming.join(&pack.sha256)).map_or(0, |data| data.len());
                sum.saturating_add(pack.size.saturating_sub(have))
            }),
            Place::Folder(_) => 0,
        };
        // A quarter of it for the indexes.
        let need = [whole, whole / 4, part::SPARE]
            .into_iter()
            .fold(to_come, u64::saturating_add);
        room::look(incoming.parent().unwrap_or(incoming), need)
            .map_err(|error| store::broken("cannot take in what is published", error))
    }

    fn take_in(
        &self,
        repo: &gix::Repository,
        place: Place<'_>,
        packs: &[&Pack],
        tip: ObjectId,
        look: Look,
        budget: &Budget,
    ) -> Result<(), SourceError> {
        let incoming = &self.inner.incoming;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(incoming)
            .map_err(|error| store::broken("cannot make the place for what is fetched", error))?;
        let mut files = Vec::with_capacity(packs.len());
        for pack in packs {
            files.push(match place {
                Place::Web(remote) => {
                    let url = below(remote, &pack.file()).map_err(|fault| self.error(fault))?;
                    self.download(url, pack, budget)?
                }
                Place::Folder(dir) => {
                    let file = dir.join(pack.file());
                    self.check(&file, pack)?;
                    file
                }
            });
        }
        let mut quarantine =
            Quarantine::new(incoming.join("store"), repo, &self.inner.limits, budget)?;
        let fits = |done: Result<(), Fault>| done.map_err(|fault| self.error(fault));
        for file in &files {
            fits(quarantine.index(file)?)?;
        }
        fits(quarantine.take(tip, look)?)?;
        drop(quarantine);
        store::remove(incoming)
    }

    /// What is left of downloads that are no longer wanted.
    fn sweep(&self, is_wanted: impl Fn(&OsStr) -> bool) {
        for entry in fs::read_dir(&self.inner.incoming)
            .into_iter()
            .flatten()
            .flatten()
        {
            if !is_wanted(&entry.file_name()) {
                let _ = store::remove(&entry.path());
            }
        }
    }

    /// Gets one pack, or goes on with it.
    fn download(
        &self,
        url: reqwest::Url,
        pack: &Pack,
        budget: &Budget,
    ) -> Result<PathBuf, SourceError> {
        let limits = &self.inner.limits;
        let file = self.inner.incoming.join(&pack.sha256);
        let have = fs::metadata(&file).map_or(0, |data| data.len());
        if have >= pack.size {
            match self.check(&file, pack) {
                Ok(()) => return Ok(file),
                Err(_) => {
                    let _ = fs::remove_file(&file);
                }
            }
        }
        let other = |size: u64| {
            io::Error::other(Fault::Answer(format!(
                "{}: it has {size} bytes, and its head says {}: is it in the middle of being uploaded, or were two trees mixed? \
                 Publish it again",
                pack.file(),
                pack.size
            )))
        };
        let bounds = part::Bounds {
            most: pack.size,
            too_large: &|| {
                io::Error::other(Fault::Answer(format!(
                    "{}: it has more than {} bytes",
                    pack.file(),
                    pack.size
                )))
            },
        };
        let filled = part::fill(&file, &bounds, |have, take| {
            let response = ask(self.inner, url, &ranged_from(have))?;
            let mut sink = |piece: Piece<'_>| -> io::Result<()> {
                budget.remaining().map_err(io::Error::other)?;
                match &piece {
                    Piece::Begins {
                        total: Some(total), ..
                    } if *total != pack.size => return Err(other(*total)),
                    Piece::Begins { .. } => {}
                    Piece::Bytes(bytes) => budget.spend(bytes.len()).map_err(io::Error::other)?,
                }
                take(piece)
            };
            Pieces::until_stopped(budget.interrupt()).of_response(
                response,
                have,
                limits.read,
                &mut sink,
            )
        });
        if let Err(error) = filled {
            return Err(match Storage::behind(error.as_ref()) {
                Some(_) => store::broken("cannot write what is fetched", error),
                None => self.error(fault(error)),
            });
        }
        let checked = self.check(&file, pack);
        // What broke off is gone on with; what is wrong is not.
        if checked.is_err() && fs::metadata(&file).map_or(0, |data| data.len()) >= pack.size {
            let _ = fs::remove_file(&file);
        }
        checked.map(|()| file)
    }

    /// Whether a file is what the head says.
    fn check(&self, file: &Path, pack: &Pack) -> Result<(), SourceError> {
        let wrong = |what: String| self.error(Fault::Answer(format!("{}: {what}", pack.file())));
        let unreadable = |error: io::Error| {
            if store::is_nothing(&error) {
                wrong("its head names it, and it is not there: is it in the middle of being copied? Publish it again".to_owned())
            } else {
                self.error(Fault::Answer(unread(file, &error)))
            }
        };
        let data = fs::metadata(file).map_err(unreadable)?;
        // A pipe or a device in its place would be read for ever.
        if !data.is_file() {
            return Err(wrong("it is no file".to_owned()));
        }
        let size = data.len();
        if size != pack.size {
            return Err(wrong(format!(
                "it was cut off: {size} bytes, and its head says {}",
                pack.size
            )));
        }
        let sum = part::digits(file).map_err(unreadable)?;
        if sum != pack.sha256 {
            return Err(wrong(format!(
                "its content is another than its name says (SHA-256 {sum}): publish it again"
            )));
        }
        Ok(())
    }
}

/// That a file does not read. In words alone: a stick that was pulled out is no failing disk of the device's.
fn unread(file: &Path, error: &io::Error) -> String {
    format!("cannot read {}: {error}", file.display())
}

/// A head says what it likes: no sum of it may overflow.
fn sizes<'p>(packs: impl IntoIterator<Item = &'p Pack>) -> u64 {
    packs
        .into_iter()
        .fold(0, |sum, pack| sum.saturating_add(pack.size))
}

fn is_here(repo: &gix::Repository, id: &CommitId) -> bool {
    super::has(repo, id)
}

/// The packs with all history behind what is here. None where nothing is cut off.
fn behind<'h>(head: &'h Head, repo: &gix::Repository) -> Result<Vec<&'h Pack>, SourceError> {
    let boundary = graph::boundary(repo)
        .map_err(|error| store::broken("the shallow boundary does not read", error))?;
    if boundary.is_empty() {
        return Ok(Vec::new());
    }
    let is_cut = |pack: &Pack| {
        ObjectId::from_hex(pack.to.as_str().as_bytes()).is_ok_and(|id| boundary.contains(&id))
            || !is_here(repo, &pack.to)
    };
    // What is beyond the last one that is cut off is here with all its history up to there.
    let last = head
        .line
        .iter()
        .rposition(is_cut)
        .unwrap_or(head.line.len() - 1);
    Ok(head.line[..=last].iter().collect())
}
