//! Reading documents out of tree objects, without a checkout. Every object is hashed again: the disk is not trusted.

use gix::ObjectId;
use gix::objs::Kind;

use super::{Entry, Mode, damaged, entries, object};
use crate::domain::tree::{Document, Tree};
use crate::port::source::SourceError;

/// How much is read.
#[derive(Debug, Clone)]
pub(crate) struct Most {
    /// Bytes of all documents together.
    pub(crate) tree_bytes: u64,
    /// Bytes of one document.
    pub(crate) file_bytes: u64,
    /// Entries of the trees.
    pub(crate) entries: usize,
    /// Folders inside folders.
    pub(crate) depth: usize,
}

struct Reader<'a> {
    repo: &'a gix::Repository,
    limits: &'a Most,
    tree: Tree,
    bytes: u64,
    entries: usize,
}

impl Reader<'_> {
    fn count(&mut self, entries: usize, path: &str) -> Result<(), SourceError> {
        self.entries += entries;
        if self.entries > self.limits.entries {
            return Err(SourceError::TooLarge(format!(
                "the revision has more than {} entries (at `{path}`): no more is taken",
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
                "`{path}` has {size} bytes: files of up to {} are taken",
                self.limits.file_bytes
            )));
        }
        self.bytes += size;
        if self.bytes > self.limits.tree_bytes {
            return Err(SourceError::TooLarge(format!(
                "the revision's documents are larger than {} bytes together (at `{path}`): no more is taken",
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
                "`{path}` is more than {} folders deep: no more is taken",
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
pub(crate) fn read(
    repo: &gix::Repository,
    limits: &Most,
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
