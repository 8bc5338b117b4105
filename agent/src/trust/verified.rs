//! The proof.

use crate::domain::revision::{CommitId, Timestamp, TreeId};

/// A commit signed by a key that policy allows for this branch; its id recomputed from the bytes, its tree id taken
/// from inside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCommit {
    id: CommitId,
    tree: TreeId,
    time: Timestamp,
}

impl VerifiedCommit {
    /// Its id.
    #[must_use]
    pub const fn id(&self) -> &CommitId {
        &self.id
    }

    /// Its tree.
    #[must_use]
    pub const fn tree(&self) -> &TreeId {
        &self.tree
    }

    /// Its committer's time.
    #[must_use]
    pub const fn time(&self) -> Timestamp {
        self.time
    }
}
