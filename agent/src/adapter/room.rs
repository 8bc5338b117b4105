//! Room on a file system of ours: how much is left, whether it takes a write at all, and what is held back.
//!
//! Owns `reserve/` in the state directory: blocks and inodes that nobody else can take, so that going back to last-good
//! is possible on a disk that somebody has filled. They are taken once, let go when a way back finds no room, and taken
//! again when there is some. Nothing is written while all is as it was.
//!
//! Limits: a reserve is of use on its own file system alone; where declared files live on another one, room there is
//! looked for before a change begins. A file system that copies on write may need room to give room back.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, StatVfsMountFlags};

use super::durable;
use crate::domain::storage::Storage;

/// What one change of the journal may take: two of sled's segments (128 KiB each), rolled at the worst moment.
pub(crate) const ONE_CHANGE: u64 = 256 * 1024;
/// Inodes that one change may take: the floor's or the trust file's replacement, sled's snapshot, a staging file.
const INODES: u64 = 4;
/// Held back beside the contents that going back writes: the records of one rollback (a refusal, the history, the
/// inventory, the status) weigh some 30 KiB, and sled takes them in whole segments; and the floor file (8 KiB, written
/// beside the old one).
const BASE: u64 = 2 * ONE_CHANGE;
/// Inodes held back: new files of a rollback are made beside their places, one after the other.
const HELD_INODES: usize = 16;
/// Sizes are rounded up to this, so that a revision which grows a little does not move the reserve.
const STEP: u64 = 256 * 1024;

const RESERVE: &str = "reserve";
const BLOCKS: &str = "blocks";
const PROBE: &str = ".probe.tmp";

/// Too little room, in words.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", path.display())]
struct TooLittle {
    path: PathBuf,
    what: String,
    #[source]
    cause: Option<io::Error>,
}

fn too_little(kind: io::ErrorKind, path: &Path, what: String) -> io::Error {
    let path = path.to_owned();
    let cause = None;
    io::Error::new(kind, TooLittle { path, what, cause })
}

/// Looks whether `bytes` and a few inodes are free where `dir` is, and whether it is writable at all. Writes nothing.
pub(crate) fn look(dir: &Path, bytes: u64) -> io::Result<()> {
    let seen = rustix::fs::statvfs(dir)?;
    if seen.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(too_little(
            io::ErrorKind::ReadOnlyFilesystem,
            dir,
            format!("{}: {}", Storage::ReadOnly, Storage::ReadOnly.next_move()),
        ));
    }
    let blocks = if rustix::process::geteuid().is_root() {
        // What is kept for root is ours, too; what ext4 keeps for itself (2 %, 4096 blocks at most) is nobody's.
        let for_itself = (seen.f_blocks / 50).min(4096);
        seen.f_bavail.max(seen.f_bfree.saturating_sub(for_itself))
    } else {
        seen.f_bavail
    };
    let free = blocks.saturating_mul(seen.f_frsize);
    let full = |what: String| {
        let what = format!("{what}: {}", Storage::Full.next_move());
        Err(too_little(io::ErrorKind::StorageFull, dir, what))
    };
    if free < bytes {
        return full(format!(
            "the disk is full: {free} bytes are free, and {bytes} are needed"
        ));
    }
    // Some file systems have no fixed number of inodes and say 0.
    if seen.f_files > 0 && seen.f_ffree < INODES {
        return full(format!(
            "the disk is full: {} inodes are free",
            seen.f_ffree
        ));
    }
    Ok(())
}

/// As [`look`], and makes sure by a write: only that tells of quotas and of a disk that fails.
pub(crate) fn probe(dir: &Path, bytes: u64) -> io::Result<()> {
    look(dir, bytes)?;
    let path = dir.join(PROBE);
    let run = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(&[0x5a; 4096])?;
        file.sync_all()
    };
    let done = run();
    let removed = fs::remove_file(&path);
    done.and_then(|()| match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    })
    .map_err(|error| match Storage::of(&error) {
        Some(ails) => io::Error::new(
            error.kind(),
            TooLittle {
                path: dir.to_owned(),
                what: format!("{ails}: {}", ails.next_move()),
                cause: Some(error),
            },
        ),
        None => error,
    })
}

/// What is held back in a state directory.
#[derive(Debug)]
pub(crate) struct Reserve {
    state: PathBuf,
    /// Bytes that are held, as far as they were looked at.
    held: Cell<Option<u64>>,
}

impl Reserve {
    pub(crate) fn new(state: &Path) -> Self {
        Self {
            state: state.to_owned(),
            held: Cell::new(None),
        }
    }

    fn dir(&self) -> PathBuf {
        self.state.join(RESERVE)
    }

    /// Makes sure that room for `contents` and the records of a way back is held.
    pub(crate) fn hold(&self, contents: u64) -> io::Result<()> {
        let goal = BASE.saturating_add(contents).next_multiple_of(STEP);
        let fits = |held: u64| held >= goal && held <= goal.saturating_mul(2);
        if self.held.get().is_some_and(fits) {
            return Ok(());
        }
        let have = self.seen();
        if !have.is_some_and(fits) {
            look(
                &self.state,
                goal.saturating_sub(have.unwrap_or(0))
                    .saturating_add(ONE_CHANGE),
            )?;
            if let Err(error) = self.take(goal) {
                // Half of it is no promise, and in the way.
                self.release();
                return Err(error);
            }
        }
        self.held.set(Some(goal));
        Ok(())
    }

    /// What is held on disk; `None` where it is not whole.
    fn seen(&self) -> Option<u64> {
        let dir = self.dir();
        let whole = (0..HELD_INODES).all(|n| dir.join(inode(n)).exists());
        let blocks = fs::metadata(dir.join(BLOCKS)).ok()?;
        let real = blocks.blocks().saturating_mul(512);
        (whole && real >= blocks.len()).then_some(blocks.len())
    }

    fn take(&self, goal: u64) -> io::Result<()> {
        let dir = self.dir();
        match fs::create_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let open = |name: &str| {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(dir.join(name))
        };
        for n in 0..HELD_INODES {
            open(&inode(n))?;
        }
        let file = open(BLOCKS)?;
        file.set_len(0)?;
        fill(&file, goal)?;
        file.sync_all()?;
        durable::sync_dir(&dir)?;
        durable::sync_dir(&self.state)
    }

    /// Lets go of it. Whether there was something to let go.
    pub(crate) fn release(&self) -> bool {
        self.held.set(None);
        let dir = self.dir();
        let mut any = fs::remove_file(dir.join(BLOCKS)).is_ok();
        for n in 0..HELD_INODES {
            any |= fs::remove_file(dir.join(inode(n))).is_ok();
        }
        if any {
            tracing::info!("the reserve for going back is let go");
            // Makes the room real on file systems that give it back with their journal.
            let _ = durable::sync_dir(&dir);
        }
        any
    }
}

fn inode(n: usize) -> String {
    format!("inode-{n:02}")
}

/// Gives a file real blocks, by the file system's own means or byte by byte.
fn fill(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => return Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        Err(errno) => return Err(errno.into()),
    }
    // Nothing that a file system could make smaller.
    let mut block = vec![0; 64 * 1024];
    let mut left = bytes;
    let mut file = file;
    while left > 0 {
        getrandom::fill(&mut block).map_err(io::Error::other)?;
        let piece = usize::try_from(left)
            .unwrap_or(block.len())
            .min(block.len());
        file.write_all(&block[..piece])?;
        left -= piece as u64;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_real_blocks_taken_once_let_go_and_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::new(dir.path());
        reserve.hold(1_000_000).unwrap();
        let blocks = dir.path().join("reserve/blocks");
        let first = fs::metadata(&blocks).unwrap();
        assert!(first.blocks() * 512 >= 1_000_000 + BASE);
        // Another process, a revision that is a little smaller: nothing moves.
        Reserve::new(dir.path()).hold(900_000).unwrap();
        let second = fs::metadata(&blocks).unwrap();
        assert_eq!(
            (first.ino(), first.mtime_nsec()),
            (second.ino(), second.mtime_nsec())
        );
        assert!(reserve.release());
        assert!(!reserve.release());
        assert_eq!(fs::read_dir(dir.path().join("reserve")).unwrap().count(), 0);
        reserve.hold(0).unwrap();
        assert!(fs::metadata(&blocks).unwrap().len() < 1_000_000);
    }

    #[test]
    fn more_than_there_is_cannot_be_held_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::new(dir.path());
        let error = reserve.hold(1 << 60).unwrap_err();
        assert_eq!(Storage::of(&error), Some(Storage::Full));
        assert!(!dir.path().join("reserve/blocks").exists());
        probe(dir.path(), 1).unwrap();
        assert!(!dir.path().join(PROBE).exists());
    }
}
