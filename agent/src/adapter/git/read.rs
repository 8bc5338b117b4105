//! Reading documents out of tree objects, without a checkout. Every object is hashed again: the disk is not trusted.

use gix::ObjectId;
use gix::objs::{Kind, TreeRefIter};

use super::limits::Limits;
use crate::domain::tree::{Document, Tree};
use crate::port::source::SourceError;

fn damaged(what: String, cause: Option<Box<dyn std::error::Error + Send + Sync>>) -> SourceError {
    SourceError::Store { what, cause }
}

/// Reads one object and proves that it is the one asked for.
pub(super) fn object(
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

enum Mode {
    Folder,
    File,
    Symlink,
    Submodule,
}

struct Entry {
    name: String,
    mode: Mode,
    id: ObjectId,
}

fn entries(repo: &gix::Repository, tree: ObjectId, at: &str) -> Result<Vec<Entry>, SourceError> {
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

struct Reader<'a> {
    repo: &'a gix::Repository,
    limits: &'a Limits,
    tree: Tree,
    bytes: u64,
    entries: usize,
}

impl Reader<'_> {
    fn count(&mut self, entries: usize, path: &str) -> Result<(), SourceError> {
        self.entries += entries;
        if self.entries > self.limits.entries {
            return Err(SourceError::TooLarge(format!(
                "the revision has more than {} entries (at `{path}`): a device takes no more",
                self.limits.entries
            )));
        }
        Ok(())
    }

    fn blob(&mut self, id: ObjectId, path: &str) -> Result<Vec<u8>, SourceError> {
        let size = self
            .repo
            .find_header(id)
            .map_err(|error| damaged(format!("cannot read `{path}`"), Some(error.into())))?
            .size();
        if size > self.limits.file_bytes {
            return Err(SourceError::TooLarge(format!(
                "`{path}` has {size} bytes: a device takes files of up to {}",
                self.limits.file_bytes
            )));
        }
        self.bytes += size;
        if self.bytes > self.limits.tree_bytes {
            return Err(SourceError::TooLarge(format!(
                "the revision's documents are larger than {} bytes together (at `{path}`): a device takes no more",
                self.limits.tree_bytes
            )));
        }
        object(self.repo, id, Kind::Blob, path)
    }

    fn entry(&mut self, entry: &Entry, path: &str, depth: usize) -> Result<(), SourceError> {
        let document = match entry.mode {
            Mode::Folder => return self.folder(entry.id, path, depth + 1),
            Mode::File => Document::File(self.blob(entry.id, path)?),
            Mode::Symlink => {
                Document::Symlink(String::from_utf8_lossy(&self.blob(entry.id, path)?).into_owned())
            }
            Mode::Submodule => Document::Submodule,
        };
        self.tree.documents.insert(path.to_owned(), document);
        Ok(())
    }

    fn folder(&mut self, tree: ObjectId, path: &str, depth: usize) -> Result<(), SourceError> {
        if depth > self.limits.depth {
            return Err(SourceError::TooLarge(format!(
                "`{path}` is more than {} folders deep: a device takes no more",
                self.limits.depth
            )));
        }
        let entries = entries(self.repo, tree, path)?;
        self.count(entries.len(), path)?;
        for entry in &entries {
            let below = if path.is_empty() {
                entry.name.clone()
            } else {
                format!("{path}/{}", entry.name)
            };
            self.entry(entry, &below, depth)?;
        }
        Ok(())
    }

    fn wanted(&mut self, root: ObjectId, path: &str) -> Result<(), SourceError> {
        let path = path.trim_matches('/');
        if path.is_empty() {
            return self.folder(root, "", 0);
        }
        let mut tree = root;
        let mut names = path.split('/').enumerate().peekable();
        while let Some((depth, name)) = names.next() {
            let Some(found) = entries(self.repo, tree, path)?
                .into_iter()
                .find(|entry| entry.name == name)
            else {
                return Ok(());
            };
            if names.peek().is_none() {
                self.count(1, path)?;
                return self.entry(&found, path, depth);
            }
            match found.mode {
                Mode::Folder => tree = found.id,
                Mode::File | Mode::Symlink | Mode::Submodule => return Ok(()),
            }
        }
        Ok(())
    }
}

/// Reads `paths` under `tree`.
pub(super) fn read(
    repo: &gix::Repository,
    limits: &Limits,
    tree: ObjectId,
    paths: &[String],
) -> Result<Tree, SourceError> {
    let mut reader = Reader {
        repo,
        limits,
        tree: Tree::default(),
        bytes: 0,
        entries: 0,
    };
    for path in paths {
        reader.wanted(tree, path)?;
    }
    Ok(reader.tree)
}
