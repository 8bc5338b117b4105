//! The documents of a commit, for the verbs that judge a fleet repository without a work tree.

use gix::ObjectId;
use gix::objs::Kind;

use super::{LocalError, LocalRepository};
use crate::adapter::git_objects::{Mode, Node, entries, object};
use crate::domain::revision::CommitId;
use crate::domain::tree::{Document, READ, Tree};

/// How much is read: far more than a device takes, and less than would hurt a CI machine.
const MOST_BYTES: u64 = 512 * 1024 * 1024;
/// How deep folders are followed.
const DEEPEST: usize = 64;

impl LocalRepository {
    /// What a commit's tree says: its documents, and nothing else that lies in the repository.
    ///
    /// # Errors
    /// [`LocalError::Damaged`]: also where it is larger or deeper than any fleet's.
    pub fn documents(&self, commit: &CommitId) -> Result<Tree, LocalError> {
        let shown = commit.short();
        let damaged = |cause: Box<dyn std::error::Error + Send + Sync>| self.damaged(shown, cause);
        let id = ObjectId::from_hex(commit.as_str().as_bytes())
            .map_err(|error| damaged(Box::new(error)))?;
        let (_, bytes) = self.object(id, shown)?;
        let top = Node::of(&bytes, id.kind())
            .tree
            .ok_or_else(|| damaged("it names no tree".into()))?;
        let mut reader = Reader {
            repo: &self.repo,
            tree: Tree::default(),
            left: MOST_BYTES,
        };
        let names = entries(&self.repo, top, "").map_err(|error| damaged(Box::new(error)))?;
        for entry in names {
            if READ.contains(&entry.name.as_str()) {
                reader
                    .entry(&entry.mode, entry.id, entry.name.clone(), DEEPEST)
                    .map_err(damaged)?;
            }
        }
        Ok(reader.tree)
    }
}

struct Reader<'a> {
    repo: &'a gix::Repository,
    tree: Tree,
    left: u64,
}

impl Reader<'_> {
    fn entry(
        &mut self,
        mode: &Mode,
        id: ObjectId,
        path: String,
        depth: usize,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let document = match mode {
            Mode::Folder if depth == 0 => {
                return Err(format!("{path} is more than {DEEPEST} folders deep").into());
            }
            Mode::Folder => {
                for entry in entries(self.repo, id, &path)? {
                    let below = format!("{path}/{}", entry.name);
                    self.entry(&entry.mode, entry.id, below, depth - 1)?;
                }
                return Ok(());
            }
            Mode::File => Document::File(self.blob(id, &path)?),
            Mode::Symlink => {
                Document::Symlink(String::from_utf8_lossy(&self.blob(id, &path)?).into_owned())
            }
            Mode::Submodule => Document::Submodule,
        };
        self.tree.documents.insert(path, document);
        Ok(())
    }

    fn blob(
        &mut self,
        id: ObjectId,
        path: &str,
    ) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
        let header = self.repo.find_header(id)?;
        self.left = self
            .left
            .checked_sub(header.size())
            .ok_or_else(|| format!("it has more than {MOST_BYTES} bytes of documents"))?;
        Ok(object(self.repo, id, Kind::Blob, path)?)
    }
}
