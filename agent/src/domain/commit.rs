//! A commit as it came over the wire: untrusted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::revision::{CommitId, TreeId};

/// A commit nobody has verified yet: the object's exact bytes, and how it descends from the floor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawCommit {
    /// The id it was found under; trust computes it again from the bytes.
    pub id: CommitId,
    /// The commit object's content, exactly as git stores it (without the `commit <size>\0` header).
    pub bytes: Vec<u8>,
    /// How it relates to the floor.
    pub descent: Descent,
}

/// How a commit relates to another one (the floor).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Descent {
    /// There is no floor to descend from.
    NoFloor,
    /// It is the floor.
    Same,
    /// The floor is among its ancestors.
    Descends,
    /// It provably is not: its whole history is known, and the floor is not in it.
    NotDescendant,
    /// Not known: history is missing (shallow, damaged or over the cap), for this reason.
    Unknown(String),
}

/// How one commit relates to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kin {
    /// They are the same.
    Same,
    /// It is an ancestor of the other one.
    Ancestor,
    /// The other one is an ancestor of it.
    Descendant,
    /// Provably neither is an ancestor of the other one: the history has forked.
    Apart,
    /// Not known: history is missing.
    Unknown,
}

/// What trust may have to see beside a tip: the commits between the floor and the tip, and the trust sets in their
/// trees. Untrusted, like all that came over the wire; trust computes each id again from the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RawHistory {
    /// Exact bytes by id: the tip and its ancestors, down to the floor and its ancestors (those are not in it, but for
    /// commits that are parents of one that is: a commit's date is judged beside its parents').
    pub commits: BTreeMap<CommitId, Vec<u8>>,
    /// Which of [`RawHistory::commits`] are ancestors of the floor or the floor itself: never judged.
    pub settled: std::collections::BTreeSet<CommitId>,
    /// The trust sets by the tree that carries them: of the commits in it and of the floor. A tree without one is not here.
    pub sets: BTreeMap<TreeId, Arc<TrustFolder>>,
    /// Why commits are missing, where some are: a shallow boundary, or the cap. `None`: it is complete.
    pub cut: Option<HistoryCut>,
}

/// Why a history is not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistoryCut {
    /// More can be fetched.
    Shallow,
    /// More than a device takes; the sentence says how much.
    TooLong(String),
}

/// The folder `trust/` of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustFolder {
    /// The id of the folder's own tree: equal ids, equal content.
    pub id: String,
    /// `trust/allowed_signers`; `None` where it is not there or not a regular file.
    pub allowed_signers: Option<Vec<u8>>,
    /// `trust/allowed_signers.sig` and `trust/allowed_signers.sig.*`, by name.
    pub signatures: BTreeMap<String, Vec<u8>>,
    /// `fleet.toml` beside it.
    pub fleet: Option<Vec<u8>>,
}

/// How much of a history is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// The tip and its parents.
    Parents,
    /// Everything between the floor and the tip.
    SinceFloor,
}
