//! Where the database lies: its folder, a fresh one that takes its place, and a copy in memory where the disk takes no
//! write.
//!
//! A fresh database is whole, synced and marked `complete` before the old one is moved away; a cut between the two
//! renames is settled at the next open. So there is always one that is whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::vault::{Vault, VaultError};
use crate::adapter::durable;
use crate::domain::revision::ContentId;

const HOME: &str = "journal";
const FRESH: &str = "journal.new";
const OLD: &str = "journal.old";
const COMPLETE: &str = "complete";

/// Where the copy in memory may lie, the first that there is.
const MEMORY: [&str; 2] = ["/run/evenkeel", "/dev/shm"];

pub(super) fn home(dir: &Path) -> PathBuf {
    dir.join(HOME)
}

/// Ends a swap that was interrupted, and removes what is left of one.
pub(super) fn settle(dir: &Path) -> io::Result<()> {
    if !there(&dir.join(HOME)) {
        let from = whole(dir);
        if from != HOME {
            fs::rename(dir.join(from), dir.join(HOME))?;
            durable::sync_dir(dir)?;
        }
    }
    for left in [FRESH, OLD] {
        remove(&dir.join(left))?;
    }
    Ok(())
}

/// The folder that holds what is in force, as [`settle`] would find it.
fn whole(dir: &Path) -> &'static str {
    if there(&dir.join(HOME)) {
        HOME
    } else if there(&dir.join(FRESH).join(COMPLETE)) {
        FRESH
    } else if there(&dir.join(OLD)) {
        OLD
    } else {
        HOME
    }
}

fn there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes all that is in a database into a fresh one beside it, and nothing of what it had grown.
pub(super) fn write_fresh(dir: &Path, from: &Vault) -> Result<(), VaultError> {
    let fresh = dir.join(FRESH);
    remove(&fresh).map_err(VaultError::Sync)?;
    let done = from
        .copy_to(&fresh)
        .and_then(|()| complete(&fresh).map_err(VaultError::Sync));
    if done.is_err() {
        let _ = remove(&fresh);
    }
    done
}

/// Copies a database file by file into a fresh one: for one whose lock or whose synced state is lost with a handle that
/// cannot be closed.
pub(super) fn copy_fresh(dir: &Path) -> io::Result<()> {
    let fresh = dir.join(FRESH);
    remove(&fresh)?;
    let done = copy(&dir.join(HOME), &fresh).and_then(|()| complete(&fresh));
    if done.is_err() {
        let _ = remove(&fresh);
    }
    done
}

fn complete(fresh: &Path) -> io::Result<()> {
    sync_tree(fresh)?;
    durable::write(fresh, COMPLETE, b"", 0o600)
}

/// Puts the fresh database in the place of the one that nobody has open any more.
pub(super) fn swap(dir: &Path) -> io::Result<()> {
    fs::rename(dir.join(HOME), dir.join(OLD))?;
    fs::rename(dir.join(FRESH), dir.join(HOME))?;
    durable::sync_dir(dir)?;
    remove(&dir.join(OLD))
}

/// A copy of the database in memory: what is good is read from there while the disk takes no write.
pub(super) fn to_memory(dir: &Path) -> io::Result<PathBuf> {
    let name = ContentId::of(dir.as_os_str().as_encoded_bytes());
    let from = dir.join(whole(dir));
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for place in MEMORY {
        let to = Path::new(place).join(format!(
            "journal-{}-{}",
            &name.as_str()[..16],
            std::process::id()
        ));
        match remove(&to).and_then(|()| copy(&from, &to)) {
            Ok(()) => return Ok(to),
            Err(error) => {
                let _ = remove(&to);
                last = error;
            }
        }
    }
    Err(last)
}

/// The copy is of no use any more.
pub(super) fn forget(copy: &Path) {
    if let Err(error) = remove(copy) {
        tracing::debug!(%error, "the journal's copy in memory stays");
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else if entry.file_name() != COMPLETE {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            fs::File::open(entry.path())?.sync_all()?;
        }
    }
    durable::sync_dir(dir)
}
