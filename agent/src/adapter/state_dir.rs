//! The state directory: whose it is, who may use it now, and the device's own secret.
//!
//! Owns the marker file (`format`), the lock (`lock`), the device-local key (`key`) and the persisted device id
//! (`device-id`). Refuses a directory that is not ours: somebody else's files, another owner, writable by others, or
//! written by a newer agent. Nothing is changed in a directory that is refused.
//!
//! Limits: the lock is `flock`, so a state directory on a network file system without locks cannot be shared safely.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use evenkeel_schema::name::DeviceId;
use rustix::fs::{FlockOperation, OFlags};

use super::durable;
use crate::domain::storage::Storage;

/// The marker's text before the number.
const MARKER: &str = "evenkeel-state ";
/// The layout that this agent writes.
const FORMAT: u32 = 1;
/// Bytes of the device-local key: one block of SHA-256 is the most that HMAC uses, half of it is its strength.
const KEY_LEN: usize = 32;
/// What may stand in a directory that is about to become ours: the rest of a first start that was cut off, and what
/// mkfs makes on a partition of its own.
const BEFORE_THE_MARKER: [&str; 3] = ["lock", ".format.tmp", "lost+found"];

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// It is something else.
    #[error(
        "{path}: not an evenkeel state directory ({why}): name an empty or a new directory as state_dir"
    )]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// What gives it away.
        why: String,
    },
    /// Others could have changed it.
    #[error(
        "{path}: {why}: the state directory must belong to the agent's user and be writable by it alone"
    )]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A newer agent wrote it.
    #[error(
        "{path}: format {found} is newer than this agent knows ({FORMAT}): install the newer agent again"
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Another agent uses it.
    #[error("{path}: in use by another evenkeel{}: ask that one (`evenkeel status`), or stop it first", pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other process, where it left its number.
        pid: Option<u32>,
    },
    /// The system refused.
    #[error("{path}: cannot {what}")]
    System {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The system's word.
        #[source]
        cause: io::Error,
    },
}

impl StateDirError {
    /// Whether the configuration (or the directory it names) is wrong, rather than the moment.
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        match self {
            Self::NotOurs { .. } | Self::Unsafe { .. } | Self::Newer { .. } => true,
            Self::Locked { .. } | Self::System { .. } => false,
        }
    }
}

/// How a device id compares with the one persisted at the first start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// This was the first start: it is persisted now.
    First,
    /// The same as ever.
    Same,
    /// Another one than this: Hold, for a renamed host is not a new set of apps.
    Changed(String),
}

/// The device-local key. Never shown.
#[derive(Clone)]
pub struct DeviceKey([u8; KEY_LEN]);

impl DeviceKey {
    /// For the journal's authentication alone.
    pub(crate) const fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl std::fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeviceKey(..)")
    }
}

/// A state directory that is ours, locked for as long as this value lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    key: DeviceKey,
    warnings: Vec<String>,
    _lock: File,
}

impl StateDir {
    /// Opens the directory, making it where there is none, and locks it.
    ///
    /// # Errors
    /// See [`StateDirError`].
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        make(path)?;
        check_owner(path)?;
        let marked = read_marker(path)?;
        if !marked {
            check_empty(path)?;
        }
        let lock = lock(path)?;
        if !marked {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
                .map_err(system(path, "set its permissions"))?;
            durable::write(
                path,
                "format",
                format!("{MARKER}{FORMAT}\n").as_bytes(),
                0o600,
            )
            .map_err(system(path, "write its marker"))?;
        } else if mode(path)? & 0o077 != 0 {
            // systemd's StateDirectory= makes it 0755 before our first start.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
                .map_err(system(path, "set its permissions"))?;
        }
        sweep(path);
        let mut warnings = Vec::new();
        let key = key(path, &mut warnings)?;
        Ok(Self {
            path: path.to_owned(),
            key,
            warnings,
            _lock: lock,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The device-local key.
    #[must_use]
    pub const fn key(&self) -> &DeviceKey {
        &self.key
    }

    /// What had to be mended while opening, for the log and a condition.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Compares the device's id with the one persisted at the first start, persisting it where this is the first.
    ///
    /// # Errors
    /// [`StateDirError::System`].
    pub fn bind_device(&self, id: &DeviceId) -> Result<Binding, StateDirError> {
        let file = self.path.join("device-id");
        match read_small(&file) {
            Ok(Some(bytes)) => {
                let text = String::from_utf8_lossy(&bytes);
                let was = text.trim();
                if was == id.as_str() {
                    Ok(Binding::Same)
                } else {
                    Ok(Binding::Changed(was.escape_debug().to_string()))
                }
            }
            Ok(None) => {
                durable::write(&self.path, "device-id", format!("{id}\n").as_bytes(), 0o600)
                    .map_err(system(&file, "write the device id"))?;
                Ok(Binding::First)
            }
            Err(cause) => Err(system(&file, "read the device id")(cause)),
        }
    }
}

fn system(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> StateDirError {
    let path = path.to_owned();
    move |cause| StateDirError::System { path, what, cause }
}

fn make(path: &Path) -> Result<(), StateDirError> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(StateDirError::NotOurs {
            path: path.to_owned(),
            why: "it is a file".to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(system(path, "make the state directory"))?;
            for ancestor in path.ancestors().skip(1) {
                let ancestor = if ancestor.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    ancestor
                };
                // A parent that we may not read was not made by us just now: nothing of ours to sync in it.
                let _ = durable::sync_dir(ancestor);
            }
            Ok(())
        }
        Err(cause) => Err(system(path, "look at the state directory")(cause)),
    }
}

fn mode(path: &Path) -> Result<u32, StateDirError> {
    std::fs::metadata(path)
        .map(|metadata| metadata.mode())
        .map_err(system(path, "look at the state directory"))
}

fn check_owner(path: &Path) -> Result<(), StateDirError> {
    let metadata = std::fs::metadata(path).map_err(system(path, "look at the state directory"))?;
    let us = rustix::process::geteuid().as_raw();
    let why = if metadata.uid() != us {
        format!(
            "it belongs to user {}, and the agent runs as {us}",
            metadata.uid()
        )
    } else if metadata.mode() & 0o022 != 0 {
        format!(
            "others may write to it (mode {:04o})",
            metadata.mode() & 0o7777
        )
    } else {
        return Ok(());
    };
    Err(StateDirError::Unsafe {
        path: path.to_owned(),
        why,
    })
}

/// Whether the marker is there; refused where it is a stranger's or a newer agent's.
fn read_marker(path: &Path) -> Result<bool, StateDirError> {
    let Some(bytes) = read_small(&path.join("format")).map_err(system(path, "read its marker"))?
    else {
        return Ok(false);
    };
    let format = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.strip_prefix(MARKER))
        .and_then(|number| number.trim_end().parse::<u32>().ok());
    match format {
        Some(FORMAT) => Ok(true),
        Some(found) if found > FORMAT => Err(StateDirError::Newer {
            path: path.to_owned(),
            found,
        }),
        Some(_) | None => Err(StateDirError::NotOurs {
            path: path.to_owned(),
            why: "its file `format` is not our marker".to_owned(),
        }),
    }
}

fn check_empty(path: &Path) -> Result<(), StateDirError> {
    let entries = std::fs::read_dir(path).map_err(system(path, "read the state directory"))?;
    for entry in entries {
        let name = entry
            .map_err(system(path, "read the state directory"))?
            .file_name();
        if !BEFORE_THE_MARKER.iter().any(|known| name == *known) {
            return Err(StateDirError::NotOurs {
                path: path.to_owned(),
                why: format!(
                    "it holds `{}` and no marker of ours",
                    name.to_string_lossy().escape_debug()
                ),
            });
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, StateDirError> {
    let file = path.join("lock");
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags)
        .open(&file);
    let mut lock = match opened {
        // A lock needs no write: on a disk that went read-only what is good is kept going all the same.
        Err(error) if Storage::of(&error) == Some(Storage::ReadOnly) => OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&file),
        opened => opened,
    }
    .map_err(system(&file, "open the lock"))?;
    // Rust opens with O_CLOEXEC, so no child (conmon, ssh) inherits the lock and outlives us with it.
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let _ = std::io::Read::by_ref(&mut lock)
                .take(32)
                .read_to_string(&mut text);
            return Err(StateDirError::Locked {
                path: path.to_owned(),
                pid: text.trim().parse().ok(),
            });
        }
        Err(errno) => return Err(system(&file, "take the lock")(errno.into())),
    }
    // The number only makes the other's message better: not synced, and no reason not to start.
    let written = lock
        .set_len(0)
        .and_then(|()| lock.rewind())
        .and_then(|()| writeln!(lock, "{}", std::process::id()));
    if let Err(error) = written {
        tracing::debug!(%error, "the lock does not tell who holds it");
    }
    Ok(lock)
}

/// Removes temporary files of ours that an unclean end left. What cannot be removed is overwritten by its next use.
fn sweep(path: &Path) {
    let Ok(entries) = std::fs::read_dir(path) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(".tmp") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn key(path: &Path, warnings: &mut Vec<String>) -> Result<DeviceKey, StateDirError> {
    let file = path.join("key");
    let known = read_small(&file).map_err(system(&file, "read the device-local key"))?;
    if let Some(bytes) = known {
        if let Ok(key) = <[u8; KEY_LEN]>::try_from(bytes.as_slice()) {
            return Ok(DeviceKey(key));
        }
        warnings.push(format!(
            "{}: damaged ({} bytes instead of {KEY_LEN}): a new key was made, and what the journal holds under the old one is not used",
            file.display(),
            bytes.len()
        ));
    }
    let mut key = [0; KEY_LEN];
    getrandom::fill(&mut key).map_err(|error| {
        system(&file, "get random bytes for the device-local key")(io::Error::other(error))
    })?;
    durable::write(path, "key", &key, 0o600)
        .map_err(system(&file, "write the device-local key"))?;
    Ok(DeviceKey(key))
}

/// A small file's bytes (the first 4 KiB), `None` where there is none. Never follows a symlink.
fn read_small(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(4096).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests;
