//! A commit as it came over the wire: untrusted.

use super::revision::CommitId;

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
