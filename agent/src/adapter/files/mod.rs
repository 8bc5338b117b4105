//! Files below the configured root: looked at without following, written beside their place, switched by a rename.
//!
//! Owns the staging files (`.<name>.<16 digits>.evenkeel`, in the file's directory or, while that does not exist, in
//! the nearest directory above it) and the kept copies in the state directory. Refuses paths through symlinks that
//! leave their directory (see `walk`), and anything but a regular file, a symlink or nothing at the path itself.
//!
//! Limits: extended attributes and access control lists are neither set nor compared. Directories made for a file stay
//! when the file goes.

mod kept;
mod leads;
mod owners;
mod walk;
mod write;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use evenkeel_schema::path::AbsPath;
use rustix::fs::{AtFlags, Stat};
use rustix::io::Errno;

use super::state_dir::StateDir;
use crate::domain::desired::DesiredFile;
use crate::domain::observed::{FileKind, ObservedFile, Seen};
use crate::domain::resource::CopyReason;
use crate::domain::revision::{ContentId, Timestamp};
use crate::port::files::{Files, FilesError};
use crate::resolve::guard::{Found, Names};
use kept::{Kept, Meta, What};
use owners::Owners;
use walk::Place;
use write::{
    MODE_BITS, Metadata, kind, open_regular, put, staging_name, stream, unlink_stale,
    writable_kind, write_new,
};

/// Why something could not be done, before it is known for which declared path.
#[derive(Debug)]
enum Fault {
    Declared(String),
    /// This parent is something else than a directory.
    NotADirectory(String),
    System(&'static str, io::Error),
}

impl Fault {
    fn at(self, path: &AbsPath) -> FilesError {
        let path = path.clone();
        match self {
            Self::Declared(what) => FilesError::Declared { path, what },
            Self::NotADirectory(parent) => FilesError::Declared {
                path,
                what: format!("{parent} is not a directory: move it away, or declare another path"),
            },
            Self::System(what, cause) => FilesError::System { path, what, cause },
        }
    }
}

fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Fault {
    move |cause| Fault::System(what, cause.into())
}

fn astray(lost: leads::Lost) -> Result<Found, Fault> {
    match lost {
        leads::Lost::Astray(why) => Ok(Found::Astray(why)),
        leads::Lost::System(cause) => Err(Fault::System("see where it leads", cause)),
    }
}

/// Files below a root.
#[derive(Debug)]
pub struct RootedFiles {
    root: PathBuf,
    owners: Owners,
    kept: Kept,
}

impl RootedFiles {
    /// Files below `root`, with kept copies in the state directory.
    #[must_use]
    pub fn new(root: &Path, state: &StateDir) -> Self {
        Self {
            root: root.to_owned(),
            owners: Owners::new(root),
            kept: Kept::new(state.path()),
        }
    }

    fn place(&self, path: &AbsPath) -> Result<Place, Fault> {
        walk::walk(walk::open_root(&self.root)?, path)
    }

    fn look(&self, path: &AbsPath) -> Result<Seen<ObservedFile>, Fault> {
        let place = match self.place(path) {
            Ok(place) => place,
            // Below what is no directory there is nothing.
            Err(Fault::NotADirectory(_)) => return Ok(Seen::Absent),
            Err(fault) => return Err(fault),
        };
        let Some(mut stat) = walk::look(&place)? else {
            return Ok(Seen::Absent);
        };
        let mut content = None;
        if kind(&stat) == FileKind::Regular {
            match open_regular(&place)? {
                Some((mut file, opened)) => {
                    content = Some(stream(&mut file, |_| Ok(())).map_err(system("read it"))?);
                    stat = opened;
                }
                None => {
                    return Ok(Seen::Unknown(format!(
                        "{path} changed while it was looked at"
                    )));
                }
            }
        }
        Ok(Seen::Present(ObservedFile {
            kind: kind(&stat),
            content,
            mode: stat.st_mode & MODE_BITS,
            owner: self.owners.user(stat.st_uid),
            group: self.owners.group(stat.st_gid),
            uid: stat.st_uid,
            gid: stat.st_gid,
        }))
    }

    /// The numbers of a declared owner and group, and the declared mode.
    fn metadata(&self, file: &DesiredFile) -> Result<Metadata, Fault> {
        let uid = self.owners.uid(&file.owner).ok_or_else(|| {
            Fault::Declared(format!(
                "its owner `{}` does not exist on this device: make the user first, or declare its number",
                file.owner.escape_debug()
            ))
        })?;
        let gid = self.owners.gid(&file.group).ok_or_else(|| {
            Fault::Declared(format!(
                "its group `{}` does not exist on this device: make the group first, or declare its number",
                file.group.escape_debug()
            ))
        })?;
        if file.mode & !MODE_BITS != 0 {
            return Err(Fault::Declared(format!(
                "its mode {:o} has bits beyond 7777",
                file.mode
            )));
        }
        Ok(Metadata {
            mode: file.mode,
            uid,
            gid,
        })
    }

    fn checked(&self, path: &AbsPath, file: &DesiredFile) -> Result<AbsPath, Fault> {
        self.metadata(file)?;
        let place = self.place(path)?;
        if let Some(stat) = walk::look(&place)? {
            writable_kind(kind(&stat))?;
        }
        let real = place.path();
        real.parse().map_err(|error| {
            Fault::Declared(format!(
                "leads to a place that cannot be written to: {error}"
            ))
        })
    }

    fn led(&self, path: &AbsPath, names: Names) -> Result<Found, Fault> {
        let top = match names {
            Names::Host => PathBuf::from("/"),
            Names::Declared => {
                std::fs::canonicalize(&self.root).map_err(system("open the root directory"))?
            }
        };
        let real = match leads::follow(&top.join(path.relative())) {
            Ok(real) => real,
            Err(lost) => return astray(lost),
        };
        let Ok(below) = real.strip_prefix(&top) else {
            return Ok(Found::Astray(format!(
                "leads out of the root directory, to {}: name a path inside it",
                real.display()
            )));
        };
        Ok(match below.to_str() {
            Some("") => Found::Leads(String::new()),
            Some(below) => Found::Leads(format!("/{below}")),
            None => Found::Astray("leads to a path that is not UTF-8: name another one".to_owned()),
        })
    }

    fn staged(&self, path: &AbsPath, file: &DesiredFile, content: &[u8]) -> Result<(), Fault> {
        let metadata = self.metadata(file)?;
        let place = self.place(path)?;
        let name = staging_name(path, &place.name);
        write_new(&place.dir, &name, &metadata, |file| file.write_all(content))
    }

    fn switched(&self, path: &AbsPath) -> Result<(), Fault> {
        let place = self.place(path)?;
        let name = staging_name(path, &place.name);
        // Staged before its directory was made (by the switch of a neighbour): it lies further up.
        let mut found = None;
        for dir in place.above.iter().chain([&place.dir]).rev() {
            match rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if kind(&stat) == FileKind::Regular => {
                    found = Some(dir);
                    break;
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(errno) => {
                    return Err(Fault::System("look for its staged content", errno.into()));
                }
            }
        }
        let Some(from) = found else {
            return Err(Fault::System(
                "find its staged content",
                io::ErrorKind::NotFound.into(),
            ));
        };
        put(path, &place, from, &name)
    }

    fn set(&self, path: &AbsPath, file: &DesiredFile) -> Result<(), Fault> {
        let metadata = self.metadata(file)?;
        let place = self.place(path)?;
        let Some((file, stat)) = open_regular(&place)? else {
            return Err(Fault::System(
                "set its mode and owner",
                io::ErrorKind::NotFound.into(),
            ));
        };
        metadata.apply(&file, &stat)?;
        file.sync_all().map_err(system("sync it"))
    }

    fn copied(&self, path: &AbsPath, why: CopyReason) -> Result<(), Fault> {
        let place = match self.place(path) {
            Ok(place) => place,
            Err(Fault::NotADirectory(_)) => return Ok(()),
            Err(fault) => return Err(fault),
        };
        let Some(stat) = walk::look(&place)? else {
            return Ok(());
        };
        let meta = |what: What, stat: &Stat| Meta {
            path: path.clone(),
            what,
            mode: stat.st_mode & MODE_BITS,
            uid: stat.st_uid,
            gid: stat.st_gid,
        };
        match kind(&stat) {
            FileKind::Regular => {
                let Some((mut file, stat)) = open_regular(&place)? else {
                    return Err(Fault::System(
                        "keep a copy",
                        io::Error::other("it changed while it was looked at"),
                    ));
                };
                let of_content = |id: Option<ContentId>| {
                    let id = id.expect("a content was given, so it was hashed");
                    meta(What::File(id), &stat)
                };
                self.kept.keep(path, why, Some(&mut file), of_content)
            }
            FileKind::Symlink => {
                let target = rustix::fs::readlinkat(&place.dir, &place.name, Vec::new())
                    .map_err(system("read the symlink"))?;
                let of_link = |_| meta(What::Symlink(target.into_bytes()), &stat);
                self.kept.keep(path, why, None, of_link)
            }
            other @ (FileKind::Directory | FileKind::Other) => return writable_kind(other),
        }
        .map_err(system("keep a copy"))
    }

    fn removed(&self, path: &AbsPath) -> Result<(), Fault> {
        let place = match self.place(path) {
            Ok(place) => place,
            Err(Fault::NotADirectory(_)) => return Ok(()),
            Err(fault) => return Err(fault),
        };
        let Some(stat) = walk::look(&place)? else {
            return Ok(());
        };
        writable_kind(kind(&stat))?;
        match rustix::fs::unlinkat(&place.dir, &place.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(Fault::System("remove it", errno.into())),
        }
        walk::sync(&place.dir).map_err(system("sync its directory"))
    }

    fn restored(&self, path: &AbsPath) -> Result<(), Fault> {
        let original = self
            .kept
            .original(path)
            .map_err(system("read its kept copy"))?;
        let Some((meta, data)) = original else {
            tracing::warn!(%path, "what stood here before was kept, and is gone: nothing comes back");
            return self.removed(path);
        };
        let place = self.place(path)?;
        if let Some(stat) = walk::look(&place)? {
            writable_kind(kind(&stat))?;
        }
        let name = staging_name(path, &place.name);
        let metadata = Metadata {
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
        };
        match meta.what {
            What::File(content) => {
                let mut source = File::open(data).map_err(system("read its kept copy"))?;
                write_new(&place.dir, &name, &metadata, |file| {
                    let id = stream(&mut source, |piece| file.write_all(piece))?;
                    if id == content {
                        Ok(())
                    } else {
                        Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            "its kept copy is damaged",
                        ))
                    }
                })?;
            }
            What::Symlink(target) => {
                unlink_stale(&place.dir, &name)?;
                rustix::fs::symlinkat(target.as_slice(), &place.dir, &name)
                    .map_err(system("make the symlink"))?;
                metadata.apply_to_link(&place.dir, &name)?;
            }
        }
        put(path, &place, &place.dir, &name)?;
        self.kept
            .given_back(path)
            .map_err(system("note that its copy was put back"))
    }
}

impl Files for RootedFiles {
    fn observe(&self, path: &AbsPath) -> Seen<ObservedFile> {
        match self.look(path) {
            Ok(seen) => seen,
            Err(Fault::Declared(what)) => Seen::Unknown(format!("{path} {what}")),
            Err(Fault::NotADirectory(_)) => Seen::Absent,
            Err(Fault::System(what, cause)) => Seen::Unknown(format!("cannot {what}: {cause}")),
        }
    }

    fn read(&self, path: &AbsPath, most: u64) -> Option<Vec<u8>> {
        let place = self.place(path).ok()?;
        let (file, stat) = open_regular(&place).ok()??;
        if u64::try_from(stat.st_size).ok()? > most {
            return None;
        }
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, most), &mut bytes).ok()?;
        Some(bytes)
    }

    fn written(&self, path: &AbsPath) -> Result<Option<Timestamp>, FilesError> {
        let stat = match self.place(path) {
            Ok(place) => walk::look(&place),
            Err(Fault::NotADirectory(_)) => Ok(None),
            Err(fault) => Err(fault),
        };
        let written = |stat: Stat| Timestamp(stat.st_mtime);
        stat.map(|stat| stat.map(written))
            .map_err(|fault| fault.at(path))
    }

    fn check(&self, path: &AbsPath, file: &DesiredFile) -> Result<AbsPath, FilesError> {
        self.checked(path, file).map_err(|fault| fault.at(path))
    }

    fn leads(&self, path: &AbsPath, names: Names) -> Result<Found, FilesError> {
        self.led(path, names).map_err(|fault| fault.at(path))
    }

    fn nodes(&self, path: &AbsPath) -> Result<Found, FilesError> {
        match leads::nodes(Path::new(path.as_str())) {
            Ok(nodes) => Ok(Found::Nodes(nodes)),
            Err(lost) => astray(lost).map_err(|fault| fault.at(path)),
        }
    }

    fn stage(&self, path: &AbsPath, file: &DesiredFile, content: &[u8]) -> Result<(), FilesError> {
        self.staged(path, file, content)
            .map_err(|fault| fault.at(path))
    }

    fn switch(&self, path: &AbsPath) -> Result<(), FilesError> {
        self.switched(path).map_err(|fault| fault.at(path))
    }

    fn set_metadata(&self, path: &AbsPath, file: &DesiredFile) -> Result<(), FilesError> {
        self.set(path, file).map_err(|fault| fault.at(path))
    }

    fn keep_copy(&self, path: &AbsPath, why: CopyReason) -> Result<(), FilesError> {
        self.copied(path, why).map_err(|fault| fault.at(path))
    }

    fn remove(&self, path: &AbsPath) -> Result<(), FilesError> {
        self.removed(path).map_err(|fault| fault.at(path))
    }

    fn restore(&self, path: &AbsPath) -> Result<(), FilesError> {
        self.restored(path).map_err(|fault| fault.at(path))
    }

    fn sweep(&self, paths: &BTreeSet<AbsPath>) {
        for path in paths {
            let Ok(place) = self.place(path) else {
                continue;
            };
            let name = staging_name(path, &place.name);
            for dir in place.above.iter().chain([&place.dir]) {
                // Nothing there is what we hope for; and what cannot be removed now is removed by the next staging.
                let _ = rustix::fs::unlinkat(dir, &name, AtFlags::empty());
            }
        }
    }

    fn check_kept(&self) -> Vec<String> {
        self.kept.check()
    }

    fn free_bytes(&self, path: &AbsPath) -> Option<u64> {
        let place = self.place(path).ok()?;
        let room = rustix::fs::fstatvfs(&place.dir).ok()?;
        Some(room.f_bavail.saturating_mul(room.f_frsize))
    }
}

#[cfg(test)]
mod tests;
