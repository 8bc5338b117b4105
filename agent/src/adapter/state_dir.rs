//! The state directory: whose it is, who may use it now, and the device's own secret.
//!
//! Owns the marker file (`format`), the lock (`lock`), the device-local key (`key`) and the persisted device id
//! (`device-id`); all but the lock in two copies, of which one may be damaged or gone. Refuses a directory that is not ours: somebody else's files, another owner, writable by others, or
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
use super::twin::{self, Reading};
use crate::domain::storage::Storage;

const MARKER_FILE: &str = "format";
const KEY_FILE: &str = "key";
const ID_FILE: &str = "device-id";
/// The marker's text before the number.
const MARKER: &str = "evenkeel-state ";
/// The layout that this agent writes.
const FORMAT: u32 = 1;
/// Bytes of the device-local key: one block of SHA-256 is the most that HMAC uses, half of it is its strength.
const KEY_LEN: usize = 32;
/// What may stand in a directory that is about to become ours: the rest of a first start that was cut off, and what
/// mkfs makes on a partition of its own.
const BEFORE_THE_MARKER: [&str; 3] = ["lock", ".format.tmp", "lost+found"];

/// What the directory's marker says.
#[derive(Debug, PartialEq, Eq)]
enum Marker {
    None,
    Ours,
    /// Ours, and to be written again; what is wrong with it.
    Mend(Option<String>),
}

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
        if read_marker(path)? == Marker::None {
            check_empty(path)?;
        }
        let lock = lock(path)?;
        // Once more, now that nobody else writes it: an agent that was killed while it made the directory may have ended
        // its last step since.
        let marker = read_marker(path)?;
        if mode(path)? & 0o077 != 0 {
            // systemd's StateDirectory= makes it 0755 before our first start.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
                .map_err(system(path, "set its permissions"))?;
        }
        sweep(path);
        let mut warnings = Vec::new();
        if let Marker::Mend(what) = &marker {
            warnings.extend(what.clone().map(mended));
        }
        if marker != Marker::Ours {
            twin::write(path, MARKER_FILE, &format!("{MARKER}{FORMAT}"))
                .map_err(system(path, "write its marker"))?;
        }
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
    pub fn bind_device(&mut self, id: &DeviceId) -> Result<Binding, StateDirError> {
        let file = self.path.join(ID_FILE);
        let reading =
            twin::read(&self.path, ID_FILE).map_err(system(&file, "read the device id"))?;
        let (was, binding) = match reading {
            Reading::Whole(was) => return Ok(binding(&was, id)),
            Reading::Absent => (id.to_string(), Binding::First),
            Reading::Half(was, what) => {
                self.warnings.extend(what.map(mended));
                let binding = binding(&was, id);
                (was, binding)
            }
            Reading::Plain(bytes) => {
                let was = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                let binding = binding(&was, id);
                (was, binding)
            }
            Reading::Damaged => {
                // Whether the device was renamed cannot be told; its journal and its key are its own all the same.
                self.warnings.push(format!(
                    "{}: both copies were damaged: it is {id} from now on",
                    file.display()
                ));
                (id.to_string(), Binding::Same)
            }
        };
        twin::write(&self.path, ID_FILE, &was).map_err(system(&file, "write the device id"))?;
        Ok(binding)
    }
}

fn binding(was: &str, id: &DeviceId) -> Binding {
    if was == id.as_str() {
        Binding::Same
    } else {
        Binding::Changed(was.escape_debug().to_string())
    }
}

fn mended(what: String) -> String {
    format!("{what}: written again from its other copy")
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

/// The marker; refused where it is a stranger's or a newer agent's.
fn read_marker(path: &Path) -> Result<Marker, StateDirError> {
    let reading = twin::read(path, MARKER_FILE).map_err(system(path, "read its marker"))?;
    let (text, marker) = match reading {
        Reading::Absent => return Ok(Marker::None),
        Reading::Whole(text) => (text, Marker::Ours),
        Reading::Half(text, what) => (text, Marker::Mend(what)),
        Reading::Plain(bytes) => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            (text, Marker::Mend(None))
        }
        Reading::Damaged => (String::new(), Marker::None),
    };
    let format = text
        .strip_prefix(MARKER)
        .and_then(|number| number.trim_end().parse::<u32>().ok());
    match format {
        Some(FORMAT) => Ok(marker),
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

/// Refuses a directory without our marker in which somebody has something.
fn check_empty(path: &Path) -> Result<(), StateDirError> {
    let entries = std::fs::read_dir(path).map_err(system(path, "read the state directory"))?;
    for entry in entries {
        let name = entry
            .map_err(system(path, "read the state directory"))?
            .file_name();
        if !BEFORE_THE_MARKER.iter().any(|known| name == *known) {
            if read_marker(path)? != Marker::None {
                // Another agent, or one that was killed a moment ago, has made it an agent's since we looked.
                return Ok(());
            }
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
    let file = path.join(KEY_FILE);
    let reading = twin::read(path, KEY_FILE).map_err(system(&file, "read the device-local key"))?;
    let known = match reading {
        Reading::Whole(text) => from_hex(&text).map(|key| (key, false)),
        Reading::Half(text, what) => {
            warnings.extend(what.map(mended));
            from_hex(&text).map(|key| (key, true))
        }
        // As an older agent kept it.
        Reading::Plain(bytes) => <[u8; KEY_LEN]>::try_from(bytes.as_slice())
            .ok()
            .map(|key| (key, true)),
        Reading::Absent | Reading::Damaged => None,
    };
    let (key, is_to_be_written) = match known {
        Some(known) => known,
        None => {
            // A first start has nothing to tell.
            if file.symlink_metadata().is_ok() {
                warnings.push(format!(
                    "{}: damaged, and its copy, too: a new key was made, and what the journal holds under the old one is \
                     not used",
                    file.display()
                ));
            }
            let mut key = [0; KEY_LEN];
            getrandom::fill(&mut key).map_err(|error| {
                system(&file, "get random bytes for the device-local key")(io::Error::other(error))
            })?;
            (key, true)
        }
    };
    if is_to_be_written {
        let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        twin::write(path, KEY_FILE, &text).map_err(system(&file, "write the device-local key"))?;
    }
    Ok(DeviceKey(key))
}

fn from_hex(text: &str) -> Option<[u8; KEY_LEN]> {
    let mut key = [0; KEY_LEN];
    if text.len() != 2 * KEY_LEN || !text.is_ascii() {
        return None;
    }
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests;
