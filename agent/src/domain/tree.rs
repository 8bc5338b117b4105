//! The documents of one revision.

use std::collections::BTreeMap;

/// The entries of a repository's top folder that say what a device gets: nothing else is read.
pub const READ: [&str; 5] = ["fleet.toml", "groups", "devices", "apps", "trust"];

/// How much of those is read where no device is, in bytes: far more than a device takes, and less than would hurt a CI machine.
pub const MOST_BYTES: u64 = 512 * 1024 * 1024;

/// How deep folders are followed there.
pub const DEEPEST: usize = 64;

/// The documents under one tree id that were asked for: size-capped, in memory. Paths are inside the repository
/// (`apps/mqtt/app.toml`), and come from tree objects alone, never from a ref or a checkout.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// Every document by its path.
    pub documents: BTreeMap<String, Document>,
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// A regular file's content.
    File(Vec<u8>),
    /// A symbolic link and what it points to. Never followed.
    Symlink(String),
    /// A submodule. Never fetched.
    Submodule,
}

impl Tree {
    /// Adds the documents of `other`.
    pub fn extend(&mut self, other: Self) {
        self.documents.extend(other.documents);
    }

    /// The bytes of a regular file, taken out.
    pub fn take_file(&mut self, path: &str) -> Option<Vec<u8>> {
        match self.documents.remove(path) {
            Some(Document::File(bytes)) => Some(bytes),
            Some(Document::Symlink(_) | Document::Submodule) | None => None,
        }
    }

    /// The bytes of a regular file.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&[u8]> {
        match self.documents.get(path) {
            Some(Document::File(bytes)) => Some(bytes),
            Some(Document::Symlink(_) | Document::Submodule) | None => None,
        }
    }
}
