//! One file at a place: opened, written beside it with its metadata, put there. Synced at each step.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use evenkeel_schema::path::AbsPath;
use evenkeel_schema::service::FILES_FOLDER;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::walk::{self, Place};
use super::{Fault, system};
use crate::domain::observed::FileKind;
use crate::domain::revision::ContentId;

/// Of one read: files are hashed and copied in pieces, whatever their size.
const PIECE: usize = 64 * 1024;
/// Permission bits with set-id and sticky: all that a mode may say.
pub(super) const MODE_BITS: u32 = 0o7777;

/// Mode and owner in numbers.
pub(super) struct Metadata {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Metadata {
    /// Sets what differs. An owner that is right already is not set: so an agent without rights can own its own files.
    pub(super) fn apply(&self, file: &File, now: &Stat) -> Result<(), Fault> {
        let changes_owner = now.st_uid != self.uid || now.st_gid != self.gid;
        if changes_owner {
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(|errno| self.refused(errno))?;
        }
        // chown takes the set-id bits away, so the mode comes after it.
        if changes_owner || now.st_mode & MODE_BITS != self.mode {
            rustix::fs::fchmod(file, Mode::from_raw_mode(self.mode))
                .map_err(system("set its mode"))?;
        }
        Ok(())
    }

    pub(super) fn apply_to_link(&self, dir: &OwnedFd, name: &str) -> Result<(), Fault> {
        let now = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(system("look at the symlink"))?;
        if now.st_uid == self.uid && now.st_gid == self.gid {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.refused(errno))
    }

    fn refused(&self, errno: Errno) -> Fault {
        if errno == Errno::PERM {
            let us = rustix::process::geteuid().as_raw();
            return Fault::Declared(format!(
                "cannot be given to user {} and group {}: the agent runs as user {us}, which may not change owners; run it as root, or declare owner and group as its own",
                self.uid, self.gid
            ));
        }
        Fault::System("set its owner", errno.into())
    }
}

pub(super) fn kind(stat: &Stat) -> FileKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => FileKind::Other,
    }
}

/// Only regular files and symlinks are replaced or removed.
pub(super) fn writable_kind(kind: FileKind) -> Result<(), Fault> {
    let what = match kind {
        FileKind::Regular | FileKind::Symlink => return Ok(()),
        FileKind::Directory => "a directory",
        FileKind::Other => "a device, socket or pipe",
    };
    Err(Fault::Declared(format!(
        "{what} stands there: move it away, or declare another path"
    )))
}

/// Opens the regular file of a place; `None` where something else, or nothing, stands there.
pub(super) fn open_regular(place: &Place) -> Result<Option<(File, Stat)>, Fault> {
    if !place.missing.is_empty() {
        return Ok(None);
    }
    // Never waits for a pipe's writer, never becomes a terminal's.
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(&place.dir, &place.name, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT | Errno::LOOP) => return Ok(None),
        Err(errno) => return Err(Fault::System("open it", errno.into())),
    };
    let stat = rustix::fs::fstat(&file).map_err(system("look at it"))?;
    Ok((kind(&stat) == FileKind::Regular).then_some((file, stat)))
}

/// Writes a new file with its metadata, synced; nothing is left of it where that fails.
pub(super) fn write_new(
    dir: &OwnedFd,
    name: &str,
    metadata: &Metadata,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), Fault> {
    unlink_stale(dir, name)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)
        .map_err(system("make its staging file"))?;
    let mut file = File::from(fd);
    let written = (|| {
        fill(&mut file).map_err(system("write its content"))?;
        let stat = rustix::fs::fstat(&file).map_err(system("look at its staging file"))?;
        metadata.apply(&file, &stat)?;
        file.sync_all().map_err(system("sync its content"))
    })();
    if written.is_err() {
        let _ = rustix::fs::unlinkat(dir, name, AtFlags::empty());
    }
    written
}

pub(super) fn unlink_stale(dir: &OwnedFd, name: &str) -> Result<(), Fault> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Fault::System("remove an old staging file", errno.into())),
    }
}

/// Moves `from/staged` to its place, making the directories that are missing; everything synced.
pub(super) fn put(
    path: &AbsPath,
    place: &Place,
    from: &OwnedFd,
    staged: &str,
) -> Result<(), Fault> {
    let mut made: Option<OwnedFd> = None;
    let mut private = is_private(path, place);
    for parent in &place.missing {
        let here = made.as_ref().unwrap_or(&place.dir);
        let mode = Mode::from_raw_mode(if private(parent) { 0o700 } else { 0o755 });
        let fresh = match rustix::fs::mkdirat(here, parent, mode) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(Fault::System("make its directory", errno.into())),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = rustix::fs::openat(here, parent, flags, Mode::empty())
            .map_err(system("open its new directory"))?;
        if fresh {
            // Whatever umask the service manager gave us.
            rustix::fs::fchmod(&next, mode).map_err(system("set its new directory's mode"))?;
        }
        rustix::fs::fsync(&next).map_err(system("sync its new directory"))?;
        walk::sync(here).map_err(system("sync its directory"))?;
        made = Some(next);
    }
    let to = made.as_ref().unwrap_or(&place.dir);
    match rustix::fs::renameat(from, staged, to, &place.name) {
        Ok(()) => {}
        Err(Errno::ISDIR | Errno::NOTEMPTY) => return writable_kind(FileKind::Directory),
        Err(errno) => return Err(Fault::System("put it in its place", errno.into())),
    }
    walk::sync(to).map_err(system("sync its directory"))?;
    walk::sync(from).map_err(system("sync its directory"))
}

/// Tells of one new directory after another whether only root may enter it: configs and secrets, which containers see by
/// themselves, are nobody else's business.
fn is_private(path: &AbsPath, place: &Place) -> impl FnMut(&str) -> bool + use<> {
    let folder = FILES_FOLDER.parse().ok();
    let top = FILES_FOLDER.rsplit('/').next().unwrap_or_default();
    let ours = folder.is_some_and(|folder: AbsPath| path.is_within(&folder));
    let mut below = place.real.iter().any(|part| part == top);
    move |parent| {
        below |= parent == top;
        ours && below
    }
}

/// A staging name that no other path shares, whichever directory it lies in.
pub(super) fn staging_name(path: &AbsPath, name: &str) -> String {
    let digest = ContentId::of(path.as_str().as_bytes());
    format!(".{name}.{}.evenkeel", &digest.as_str()[..16])
}

/// Reads to the end in pieces, giving each to `each`, and tells the id of it all.
pub(super) fn stream(
    source: &mut impl Read,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<ContentId> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        let length = match source.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&piece[..length]);
        each(&piece[..length])?;
    }
    let text = format!("{:x}", hash.finalize());
    Ok(ContentId::try_from(text).expect("SHA-256 in hexadecimal is 64 lower-case digits"))
}
