//! Kept copies: what stood at a path before us, and what people changed since.
//!
//! `kept/<sha256 of the path>/original/` is made once and never dropped; `edit-<n>/` are the edits by hand, the newest
//! [`EDITS`] of a path and [`EDITS_BYTES`] in all. A copy is a directory with `meta.json` and, for a regular file,
//! `data`; it appears whole by a rename, or not at all. Once `restore` has put the original back it is renamed to
//! `given-back/`, so that what stands there later becomes an original again, while a restore that a power cut ended
//! can still be repeated.
//!
//! What a person made is nowhere else, so it is kept twice: `meta.json` and `data` each have a `.copy` beside them, and
//! whichever fits its checksum is used and mends the other.
//!
//! Limits: extended attributes and access control lists are not kept; of a file over [`TWICE`] there is one copy alone.

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use evenkeel_schema::path::AbsPath;
use serde::{Deserialize, Serialize};

use crate::adapter::durable;
use crate::adapter::twin::{self, Reading};
use crate::domain::resource::CopyReason;
use crate::domain::revision::ContentId;

/// Edits of one path.
const EDITS: usize = 8;
/// Edits of all paths together. The newest one is kept whatever its size.
const EDITS_BYTES: u64 = 64 * 1024 * 1024;

/// The longest file that is kept twice: what a device takes of one declared file.
const TWICE: u64 = 8 * 1024 * 1024;

const META: &str = "meta.json";
const DATA: &str = "data";
const DATA_COPY: &str = "data.copy";
const ORIGINAL: &str = "original";
const GIVEN_BACK: &str = "given-back";
const NEW: &str = ".new";
/// An original that cannot be put back, for whoever looks into it.
const DAMAGED: &str = "damaged";

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
            Some(source) => {
                let content = copy(source, &new.join(DATA), 0o600)?;
                duplicate(&new, &content)?;
                Some(content)
            }
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
        twin::write(&new, META, &serde_json::to_string(&meta)?)?;
        let place = if first {
            if home.join(ORIGINAL).symlink_metadata().is_ok() {
                // A copy that lost its meta.json: nothing that could be put back.
                remove_tree(&home.join(DAMAGED))?;
                std::fs::rename(home.join(ORIGINAL), home.join(DAMAGED))?;
            }
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
            let copy = home.join(name);
            // It appears whole, so what is there without its meta.json is damaged, and nothing older takes its place.
            if copy.symlink_metadata().is_err() {
                continue;
            }
            let meta = read_meta(&copy)?;
            let data = match &meta.what {
                What::File(content) => whole(&copy, content)?,
                What::Symlink(_) => copy.join(DATA),
            };
            return Ok(Some((meta, data)));
        }
        Ok(None)
    }

    /// Looks at every copy, and mends one half from the other. What was found, for people.
    pub(super) fn check(&self) -> Vec<String> {
        let mut told = Vec::new();
        for home in folders(&self.dir) {
            for copy in folders(&home) {
                let name = copy.file_name().and_then(|name| name.to_str());
                if name == Some(DAMAGED) || name.is_none_or(|name| name.starts_with('.')) {
                    continue;
                }
                match mend(&copy) {
                    Ok(found) => told.extend(
                        found
                            .into_iter()
                            .map(|what| format!("{what}: written again from its other copy")),
                    ),
                    Err(error) => told.push(format!(
                        "the kept copy {} cannot be put back any more: {error}",
                        copy.display()
                    )),
                }
            }
        }
        told
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
                let size: u64 = [DATA, DATA_COPY]
                    .iter()
                    .map(|name| copy.join(name).metadata().map_or(0, |data| data.len()))
                    .sum();
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
    let text = match twin::read(copy, META)? {
        Reading::Whole(text) | Reading::Half(text, _) => text,
        // As an older agent wrote it.
        Reading::Plain(bytes) => String::from_utf8(bytes).map_err(io::Error::other)?,
        Reading::Absent => return Err(io::ErrorKind::NotFound.into()),
        Reading::Damaged => return Err(damaged("meta.json and its copy are damaged")),
    };
    Ok(serde_json::from_str(&text)?)
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The second copy of a copy's data, where it is not too long.
fn duplicate(copy: &Path, content: &ContentId) -> io::Result<()> {
    let mut from = File::open(copy.join(DATA))?;
    if from.metadata()?.len() > TWICE {
        return Ok(());
    }
    let again = self::copy(&mut from, &copy.join(DATA_COPY), 0o600)?;
    if again == *content {
        Ok(())
    } else {
        Err(damaged("its data changed while it was copied"))
    }
}

fn holds(file: &Path, content: &ContentId) -> bool {
    File::open(file)
        .and_then(|mut file| super::write::stream(&mut file, |_| Ok(())))
        .is_ok_and(|found| found == *content)
}

/// Which of the two files of a copy is what was kept.
fn whole(copy: &Path, content: &ContentId) -> io::Result<PathBuf> {
    [DATA, DATA_COPY]
        .into_iter()
        .map(|name| copy.join(name))
        .find(|file| holds(file, content))
        .ok_or_else(|| damaged("its kept copy is damaged"))
}

/// Makes both halves of a copy whole; what was damaged.
fn mend(copy: &Path) -> io::Result<Vec<String>> {
    let mut told = Vec::new();
    if let Reading::Half(text, what) = twin::read(copy, META)? {
        twin::write(copy, META, &text)?;
        told.extend(what);
    }
    let What::File(content) = read_meta(copy)?.what else {
        return Ok(told);
    };
    let from = whole(copy, &content)?;
    if from.metadata()?.len() > TWICE {
        return Ok(told);
    }
    for name in [DATA, DATA_COPY] {
        let file = copy.join(name);
        if holds(&file, &content) {
            continue;
        }
        if file.exists() {
            told.push(format!("{} was damaged", file.display()));
        }
        durable::write(copy, name, &std::fs::read(&from)?, 0o600)?;
    }
    Ok(told)
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    all.sort();
    all
}
