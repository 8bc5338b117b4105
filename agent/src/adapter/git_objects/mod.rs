//! Reading git objects, for every adapter that has a git repository before it: an object whose bytes are proven to be
//! those of its id, the entries of a tree, and the history behind a commit.
//!
//! Owns nothing and writes nothing. Refuses an object that is not what its id says: the disk is not trusted.

pub(crate) mod history;
pub(crate) mod read;
mod sets;
mod walk;

use gix::ObjectId;
use gix::objs::{Kind, TreeRefIter};

use crate::port::source::SourceError;

pub(crate) fn damaged(
    what: String,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
) -> SourceError {
    SourceError::Store { what, cause }
}

/// Reads one object and proves that it is the one asked for.
pub(crate) fn object(
    repo: &gix::Repository,
    id: ObjectId,
    kind: Kind,
    at: &str,
) -> Result<Vec<u8>, SourceError> {
    let shown = if at.is_empty() { "the tree" } else { at };
    let mut found = repo.find_object(id).map_err(|error| {
        damaged(
            format!("cannot read object {id} of {shown}"),
            Some(error.into()),
        )
    })?;
    if found.kind != kind {
        return Err(damaged(
            format!("object {id} of {shown} is a {}, not a {kind}", found.kind),
            None,
        ));
    }
    let actual = gix::objs::compute_hash(id.kind(), kind, &found.data)
        .map_err(|error| damaged(format!("cannot hash object {id}"), Some(error.into())))?;
    if actual != id {
        return Err(damaged(
            format!("object {id} of {shown} is damaged: its content hashes to {actual}"),
            None,
        ));
    }
    Ok(std::mem::take(&mut found.data))
}

/// What a tree's entry is.
pub(crate) enum Mode {
    Folder,
    File,
    Symlink,
    Submodule,
}

/// An entry of a tree whose name is UTF-8.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) mode: Mode,
    pub(crate) id: ObjectId,
}

/// The entries of a tree. `at` is where it lies, for errors.
pub(crate) fn entries(
    repo: &gix::Repository,
    tree: ObjectId,
    at: &str,
) -> Result<Vec<Entry>, SourceError> {
    use gix::objs::tree::EntryKind;
    let data = object(repo, tree, Kind::Tree, at)?;
    let mut all = Vec::new();
    for entry in TreeRefIter::from_bytes(&data, tree.kind()) {
        let entry = entry
            .map_err(|error| damaged(format!("tree {tree} does not decode"), Some(error.into())))?;
        let mode = match entry.mode.kind() {
            EntryKind::Tree => Mode::Folder,
            EntryKind::Blob | EntryKind::BlobExecutable => Mode::File,
            EntryKind::Link => Mode::Symlink,
            EntryKind::Commit => Mode::Submodule,
        };
        // A name that is not UTF-8 cannot be spoken of in any document: it is nobody's.
        let Ok(name) = std::str::from_utf8(entry.filename) else {
            continue;
        };
        // git's own fsck refuses these; no path of ours may hold them.
        if name.is_empty() || name == "." || name == ".." || name.contains('/') {
            return Err(damaged(
                format!("tree {tree} has an entry named `{}`", name.escape_debug()),
                None,
            ));
        }
        all.push(Entry {
            name: name.to_owned(),
            mode,
            id: entry.oid.to_owned(),
        });
    }
    Ok(all)
}

/// What a walk has to know of a commit, read from bytes that are proven to be its own.
///
/// Lines count only where trust reads them too: `tree` first, then all `parent` lines in one run. What is malformed has
/// no parents and no tree here, and is refused by trust.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) tree: Option<ObjectId>,
    pub(crate) parents: Vec<ObjectId>,
    /// The committer's time; `None` where it cannot be read.
    pub(crate) time: Option<i64>,
}

impl Node {
    pub(crate) fn of(bytes: &[u8], kind: gix::hash::Kind) -> Self {
        let id = |hex: &[u8]| ObjectId::from_hex(hex).ok().filter(|id| id.kind() == kind);
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let tree = lines
            .next()
            .and_then(|line| line.strip_prefix(b"tree "))
            .and_then(id);
        let mut parents = Vec::new();
        let mut line = lines.next().filter(|_| tree.is_some());
        while let Some(parent) = line
            .and_then(|line| line.strip_prefix(b"parent "))
            .and_then(id)
        {
            parents.push(parent);
            line = lines.next();
        }
        let time = line
            .filter(|line| line.starts_with(b"author "))
            .and_then(|_| lines.next())
            .and_then(|line| line.strip_prefix(b"committer "))
            .and_then(seconds);
        Self {
            tree,
            parents,
            time,
        }
    }
}

/// The seconds in `Name <address> seconds zone`.
fn seconds(line: &[u8]) -> Option<i64> {
    let after = line.iter().rposition(|byte| *byte == b'>')? + 1;
    let text = std::str::from_utf8(&line[after..]).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok()
}
