//! Kept copies: what stood at a path before us, and what people changed since.
//!
//! `kept/<sha256 of the path>/original/` is made once and never dropped; `edit-<n>/` are the edits by hand, the newest
//! [`EDITS`] of a path and [`EDITS_BYTES`] in all. A copy is a directory with `meta.json` and, for a regular file,
//! `data`; it appears whole by a rename, or not at all. Once `restore` has put the original back it is renamed to
//! `given-back/`, so that what stands there later becomes an original again, while a restore that a power cut ended
//! can still be repeated.
//!
//! Limits: extended attributes and access control lists are not kept.

use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use evenkeel_schema::path::AbsPath;
use serde::{Deserialize, Serialize};

use crate::adapter::durable;
use crate::domain::resource::CopyReason;
use crate::domain::revision::ContentId;

/// Edits of one path.
const EDITS: usize = 8;
/// Edits of all paths together. The newest one is kept whatever its size.
const EDITS_BYTES: u64 = 64 * 1024 * 1024;

const ORIGINAL: &str = "original";
const GIVEN_BACK: &str = "given-back";
const NEW: &str = ".new";

/// How a copied file was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    /// Where it stood.
    pub(super) path: AbsPath,
    /// What it was.
    pub(super) what: What,
    /// Permission bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// A regular file's content, or where a symlink pointed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    File(ContentId),
    /// The target's bytes: it need not be UTF-8.
    Symlink(Vec<u8>),
}

/// The directory of all copies.
#[derive(Debug)]
pub(super) struct Kept {
    dir: PathBuf,
}

impl Kept {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            dir: state_dir.join("kept"),
        }
    }

    fn of(&self, path: &AbsPath) -> PathBuf {
        self.dir
            .join(ContentId::of(path.as_str().as_bytes()).as_str())
    }

    /// Keeps a copy. `data` is read to its end for a regular file; `meta` is asked for after that.
    pub(super) fn keep(
        &self,
        path: &AbsPath,
        why: CopyReason,
        data: Option<&mut File>,
        meta: impl FnOnce(Option<ContentId>) -> Meta,
    ) -> io::Result<()> {
        let home = self.of(path);
        make_dir(&self.dir)?;
        make_dir(&home)?;
        let new = home.join(NEW);
        remove_tree(&new)?;
        make_dir(&new)?;
        let content = match data {
            Some(source) => Some(copy(source, &new.join("data"), 0o600)?),
            None => None,
        };
        let meta = meta(content);
        let latest = numbers(&home)?.last().copied();
        let first = why == CopyReason::Original && read_meta(&home.join(ORIGINAL)).is_err();
        let twin = match why {
            CopyReason::Original => home.join(ORIGINAL),
            CopyReason::EditedByHand => {
                latest.map_or_else(|| home.join(ORIGINAL), |n| edit(&home, n))
            }
        };
        // A pass that is repeated after a crash copies the same thing again.
        if read_meta(&twin).is_ok_and(|known| known == meta) {
            return remove_tree(&new);
        }
        durable::write(&new, "meta.json", &serde_json::to_vec(&meta)?, 0o600)?;
        let place = if first {
            // Left of a copy that lost its meta.json: nothing that could be put back.
            remove_tree(&home.join(ORIGINAL))?;
            home.join(ORIGINAL)
        } else {
            edit(&home, latest.map_or(1, |n| n + 1))
        };
        std::fs::rename(&new, place)?;
        durable::sync_dir(&home)?;
        if first {
            remove_tree(&home.join(GIVEN_BACK))?;
        }
        self.bound(&home)
    }

    /// The original: its metadata, and its data where it was a regular file.
    pub(super) fn original(&self, path: &AbsPath) -> io::Result<Option<(Meta, PathBuf)>> {
        let home = self.of(path);
        for name in [ORIGINAL, GIVEN_BACK] {
            match read_meta(&home.join(name)) {
                Ok(meta) => return Ok(Some((meta, home.join(name).join("data")))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The original has been put back.
    pub(super) fn given_back(&self, path: &AbsPath) -> io::Result<()> {
        let home = self.of(path);
        if home.join(ORIGINAL).symlink_metadata().is_err() {
            return Ok(());
        }
        remove_tree(&home.join(GIVEN_BACK))?;
        std::fs::rename(home.join(ORIGINAL), home.join(GIVEN_BACK))?;
        durable::sync_dir(&home)
    }

    /// Drops the oldest edits of one path, then of all.
    fn bound(&self, home: &Path) -> io::Result<()> {
        let own = numbers(home)?;
        for number in &own[..own.len().saturating_sub(EDITS)] {
            remove_tree(&edit(home, *number))?;
        }
        let mut all = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let home = entry?.path();
            for number in numbers(&home).unwrap_or_default() {
                let copy = edit(&home, number);
                let size = copy.join("data").metadata().map_or(0, |data| data.len());
                let made = copy.metadata()?;
                all.push(((made.mtime(), made.mtime_nsec(), number), size, copy));
            }
        }
        all.sort();
        let mut total: u64 = all.iter().map(|(_, size, _)| size).sum();
        let newest = all.len().saturating_sub(1);
        for (_, size, copy) in &all[..newest] {
            if total <= EDITS_BYTES {
                break;
            }
            remove_tree(copy)?;
            total -= size;
        }
        Ok(())
    }
}

/// Copies to a new file, syncs it, and tells what it was.
fn copy(source: &mut File, to: &Path, mode: u32) -> io::Result<ContentId> {
    let mut target = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(to)?;
    let id = super::write::stream(source, |piece| target.write_all(piece))?;
    target.sync_all()?;
    Ok(id)
}

fn make_dir(dir: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => dir.parent().map_or(Ok(()), durable::sync_dir),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn edit(home: &Path, number: u64) -> PathBuf {
    home.join(format!("edit-{number:06}"))
}

/// Numbers of a path's edits, oldest first.
fn numbers(home: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(home)? {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("edit-"))
            .and_then(|number| number.parse::<u64>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn read_meta(copy: &Path) -> io::Result<Meta> {
    let mut bytes = Vec::new();
    File::open(copy.join("meta.json"))?
        .take(64 * 1024)
        .read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}
