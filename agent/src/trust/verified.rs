//! The proof.

use super::policy::Signer;
use crate::domain::revision::{CommitId, Timestamp, TreeId};

/// A commit signed by a key that policy allows for this branch; its id recomputed from the bytes, its tree id taken
/// from inside them. Only this room makes one:
///
/// ```
/// fn tree_of(commit: &evenkeel::trust::verified::VerifiedCommit) -> &evenkeel::domain::revision::TreeId {
///     commit.tree()
/// }
/// ```
///
/// ```compile_fail,E0451
/// use evenkeel::domain::revision::{CommitId, Timestamp, TreeId};
/// use evenkeel::trust::policy::Signer;
/// use evenkeel::trust::verified::VerifiedCommit;
///
/// fn forge(id: CommitId, tree: TreeId, signer: Signer) -> VerifiedCommit {
///     VerifiedCommit { id, tree, parents: vec![], time: Timestamp(0), alive: Timestamp(0), signer, trailers: vec![] }
/// }
/// ```
///
/// ```compile_fail,E0277
/// let forged: evenkeel::trust::verified::VerifiedCommit = serde_json::from_str("{}").unwrap();
/// ```
///
/// ```compile_fail,E0277
/// fn default<T: Default>() {}
/// default::<evenkeel::trust::verified::VerifiedCommit>();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCommit {
    id: CommitId,
    tree: TreeId,
    parents: Vec<CommitId>,
    time: Timestamp,
    alive: Timestamp,
    signer: Signer,
    trailers: Vec<(String, String)>,
}

impl VerifiedCommit {
    /// Called by the policy alone, after every check has passed.
    pub(super) fn new(id: CommitId, commit: super::commit::Commit, signer: Signer) -> Self {
        Self {
            id,
            tree: commit.tree,
            parents: commit.parents,
            time: commit.time,
            alive: commit.time,
            signer,
            trailers: commit.trailers,
        }
    }

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

    /// Its parents, the first first.
    #[must_use]
    pub fn parents(&self) -> &[CommitId] {
        &self.parents
    }

    /// The newest time at which the branch is known to have been alive: that of a heartbeat above it, or its own.
    #[must_use]
    pub const fn alive(&self) -> Timestamp {
        self.alive
    }

    /// The same commit, with heartbeats above it.
    pub(super) fn seen_alive(mut self, at: Timestamp) -> Self {
        self.alive = self.alive.max(at);
        self
    }

    /// Its committer's time.
    #[must_use]
    pub const fn time(&self) -> Timestamp {
        self.time
    }

    /// As whom it was signed.
    #[must_use]
    pub fn principal(&self) -> &str {
        &self.signer.principal
    }

    /// The signing key, as `ssh-keygen -l` prints it: `SHA256:...`; an OpenPGP key by its fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.signer.fingerprint
    }

    /// The signing key's type: `ssh-ed25519`, `openpgp-ed25519`.
    #[must_use]
    pub fn key_type(&self) -> &str {
        &self.signer.key_type
    }

    /// The values of a trailer of the signed message, whatever the case of its name.
    pub fn trailers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.trailers
            .iter()
            .filter(move |(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}
