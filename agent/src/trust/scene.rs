//! What is known when a tip is judged, and what comes of it.

use std::collections::BTreeSet;

use super::inquiry::Role;
use super::verdict::{Check, Refused, Verdict};
use crate::domain::commit::{RawCommit, RawHistory};
use crate::domain::history::AdoptedSet;
use crate::domain::revision::{CommitId, Timestamp};

/// What is known when a tip is judged.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// The tip.
    pub tip: &'a RawCommit,
    /// The commits beside it, as far as [`super::policy::TrustPolicy::extent`] asked for them.
    pub history: &'a RawHistory,
    /// What the tip must descend from.
    pub anchor: Anchor<'a>,
    /// The trust sets that were adopted here, the one in force last.
    pub adopted: &'a [AdoptedSet],
    /// The latest time that is known to have passed.
    pub time_floor: Timestamp,
    /// The time, where the clock is known to be right.
    pub clock: Option<Timestamp>,
    /// What was found good before.
    pub memo: &'a Memo,
}

/// What a tip must descend from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor<'a> {
    /// Nothing: no commit was ever taken here, and the owner gave no pin.
    None,
    /// The owner's pin. Only the owner replaces it.
    Pin(&'a CommitId),
    /// The floor. A signed `Supersedes:` trailer can replace it.
    Floor(&'a CommitId),
}

impl<'a> Anchor<'a> {
    /// The commit.
    #[must_use]
    pub const fn commit(self) -> Option<&'a CommitId> {
        match self {
            Self::None => None,
            Self::Pin(commit) | Self::Floor(commit) => Some(commit),
        }
    }
}

/// Commits that were found good before by the same policy, so that a long line is not judged again with each poll. Kept
/// in memory alone. What depends on the time is judged again for the commit the device goes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memo {
    /// What policy, and which time floor, they were found good by.
    pub(super) scope: Option<[u8; 32]>,
    pub(super) good: BTreeSet<(CommitId, u64, Role)>,
}

/// What came of it.
#[derive(Debug)]
pub struct Decision {
    /// On the commit that the device should be at: the tip, the newest one below heartbeats, or with
    /// `on_unsigned = "advance-before"` the last good one before a refused commit.
    pub verdict: Verdict,
    /// The refused commit above the one that is trusted, where there is one.
    pub beyond: Option<Refused>,
    /// The trust sets to remember, the one in force last; `None`: as before.
    pub adopt: Option<Vec<AdoptedSet>>,
    /// The checks that were made, in their order.
    pub checks: Vec<Check>,
    /// For the next decision.
    pub memo: Memo,
}
