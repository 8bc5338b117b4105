//! Where files live: everything below the configured root.

use std::collections::BTreeSet;

use evenkeel_schema::path::AbsPath;

use super::Retry;
use crate::domain::desired::DesiredFile;
use crate::domain::observed::{ObservedFile, Seen};
use crate::domain::resource::CopyReason;
use crate::domain::revision::Timestamp;
use crate::resolve::guard::{Found, Names};

/// Why a file could not be had as declared.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The declared path cannot be used on this device: it goes through a symlink that leaves its directory, or what
    /// stands there is a directory, or its owner does not exist.
    #[error("{path}: {what}")]
    Declared {
        /// The declared path.
        path: AbsPath,
        /// What is wrong, with the next move.
        what: String,
    },
    /// The system refused: disk full, read-only, permission, I/O.
    #[error("{path}: cannot {what}")]
    System {
        /// The declared path.
        path: AbsPath,
        /// What was tried.
        what: &'static str,
        /// The system's word.
        #[source]
        cause: std::io::Error,
    },
}

impl FilesError {
    /// Whether trying again can help.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Declared { .. } => Retry::Never,
            Self::System { .. } => Retry::Later,
        }
    }
}

/// Files below the root.
pub trait Files {
    /// Looks at one path. Never follows a symlink at the last component.
    fn observe(&self, path: &AbsPath) -> Seen<ObservedFile>;

    /// The content of a regular file of at most `most` bytes, for showing a diff; `None` where it is anything else.
    fn read(&self, path: &AbsPath, most: u64) -> Option<Vec<u8>>;

    /// When what stands at a path was written last, by its own time stamp; `None`: nothing is there.
    ///
    /// # Errors
    /// [`FilesError`]: it cannot be told whether something is there.
    fn written(&self, path: &AbsPath) -> Result<Option<Timestamp>, FilesError>;

    /// Checks that a path can be written as declared (parents, symlinks, owner and group exist, nothing but a regular
    /// file, a symlink or nothing stands there) and returns the real path, which the guard judges too.
    ///
    /// # Errors
    /// [`FilesError::Declared`].
    fn check(&self, path: &AbsPath, file: &DesiredFile) -> Result<AbsPath, FilesError>;

    /// Where a mount's source leads when the engine follows it, links and all: a path by the same names, or why it
    /// cannot be judged.
    ///
    /// # Errors
    /// [`FilesError::System`].
    fn leads(&self, path: &AbsPath, names: Names) -> Result<Found, FilesError>;

    /// The device nodes that the engine hands over for a path of the host: itself, where a link leads, all in a folder.
    ///
    /// # Errors
    /// [`FilesError::System`].
    fn nodes(&self, path: &AbsPath) -> Result<Found, FilesError>;

    /// Writes the content beside its place under a staging name that is derived from the path, with mode and owner,
    /// and syncs it. The path itself does not change.
    ///
    /// # Errors
    /// See [`FilesError`].
    fn stage(&self, path: &AbsPath, file: &DesiredFile, content: &[u8]) -> Result<(), FilesError>;

    /// Puts the staged file in its place: rename, then sync of the directory. Missing parents are made (0755, root).
    ///
    /// # Errors
    /// See [`FilesError`].
    fn switch(&self, path: &AbsPath) -> Result<(), FilesError>;

    /// Sets mode and owner alone, where the content is right already.
    ///
    /// # Errors
    /// See [`FilesError`].
    fn set_metadata(&self, path: &AbsPath, file: &DesiredFile) -> Result<(), FilesError>;

    /// Keeps a copy of what stands at a path, before something of a person's is replaced or removed. The first copy
    /// of a path is what `on_remove = "restore"` brings back; later ones (edits by hand) are kept too, bounded.
    ///
    /// # Errors
    /// See [`FilesError`].
    fn keep_copy(&self, path: &AbsPath, why: CopyReason) -> Result<(), FilesError>;

    /// Removes a file, synced; gone already is no error.
    ///
    /// # Errors
    /// See [`FilesError`].
    fn remove(&self, path: &AbsPath) -> Result<(), FilesError>;

    /// Puts back the first kept copy of a path, with its mode and owner; removes the file where there is none.
    ///
    /// # Errors
    /// See [`FilesError`].
    fn restore(&self, path: &AbsPath) -> Result<(), FilesError>;

    /// Removes staging files left beside these paths.
    fn sweep(&self, paths: &BTreeSet<AbsPath>);

    /// Looks whether the kept copies still are what was kept, and mends them from their twins. What was found, for people.
    fn check_kept(&self) -> Vec<String>;

    /// Free bytes on the file system where a path is or would be; `None` where it cannot be told.
    fn free_bytes(&self, path: &AbsPath) -> Option<u64>;
}
