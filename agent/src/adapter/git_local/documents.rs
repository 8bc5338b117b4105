//! The documents of a commit, for the verbs that judge a fleet repository without a work tree.

use gix::ObjectId;

use super::{LocalError, LocalRepository};
use crate::adapter::git_objects::Node;
use crate::adapter::git_objects::read::{Most, read};
use crate::domain::revision::CommitId;
use crate::domain::tree::{DEEPEST, MOST_BYTES, READ, Tree};

/// The memory bounds it; how many entries that are does not matter.
const MOST: Most = Most {
    tree_bytes: MOST_BYTES,
    file_bytes: MOST_BYTES,
    entries: usize::MAX,
    depth: DEEPEST,
};

impl LocalRepository {
    /// What a commit's tree says: its documents, and nothing else that lies in the repository.
    ///
    /// # Errors
    /// [`LocalError::Damaged`]: also where it is larger or deeper than any fleet's.
    pub fn documents(&self, commit: &CommitId) -> Result<Tree, LocalError> {
        self.read(commit, &READ.map(str::to_owned))
    }

    /// A regular file of a commit's tree.
    ///
    /// # Errors
    /// [`LocalError::Damaged`].
    pub fn file(&self, commit: &CommitId, path: &str) -> Result<Option<Vec<u8>>, LocalError> {
        let mut tree = self.read(commit, &[path.to_owned()])?;
        Ok(tree.take_file(path))
    }

    fn read(&self, commit: &CommitId, paths: &[String]) -> Result<Tree, LocalError> {
        let shown = commit.short();
        let damaged = |cause: Box<dyn std::error::Error + Send + Sync>| self.damaged(shown, cause);
        let id = ObjectId::from_hex(commit.as_str().as_bytes())
            .map_err(|error| damaged(Box::new(error)))?;
        let (_, bytes) = self.object(id, shown)?;
        let top = Node::of(&bytes, id.kind())
            .tree
            .ok_or_else(|| damaged("it names no tree".into()))?;
        read(&self.repo, &MOST, top, paths).map_err(|error| damaged(Box::new(error)))
    }
}
