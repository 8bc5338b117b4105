//! The history behind a commit: what lies between a floor and a tip, with the trust sets on the way.
//!
//! Every object that is walked over is hashed again, also those below the floor: what is called settled is never judged.
//! Takes time and memory in proportion to the commits it sees, each of which it reads once or twice. Refuses nothing: where
//! commits are missing or there are more than [`Caps`] says, the answer tells so.

use std::collections::{BTreeSet, HashSet, VecDeque};

use gix::ObjectId;

use super::Node;
use super::damaged;
use super::sets::Sets;
pub(crate) use super::walk::Place;
use super::walk::{Found, SKEW, commit, short, walker};
use crate::domain::commit::{Extent, HistoryCut, RawHistory};
use crate::domain::revision::{CommitId, TreeId};
use crate::port::source::SourceError;

/// How much of a history is taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caps {
    /// Commits above the floor. 20 000: years of a fleet's changes; each costs trust a signature, together some seconds.
    pub(crate) commits: usize,
    /// Bytes of these commits and of the trust sets on the way. 32 MiB: what the smallest device can hold in memory.
    pub(crate) bytes: u64,
    /// Commits below the floor that are walked to tell which ones are settled. 200 000: some 20 MB of ids.
    pub(crate) below: usize,
    /// Bytes of those, none of which are kept. 256 MiB: seconds of hashing.
    pub(crate) below_bytes: u64,
}

impl Default for Caps {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            commits: 20_000,
            bytes: 32 * MIB,
            below: 200_000,
            below_bytes: 256 * MIB,
        }
    }
}

/// The floor's id where it can be in a history of this hash function at all.
fn known_floor(tip: ObjectId, floor: Option<&CommitId>) -> Option<ObjectId> {
    let id = ObjectId::from_hex(floor?.as_str().as_bytes()).ok()?;
    (id.kind() == tip.kind()).then_some(id)
}

/// The commits that have to stay so that [`history`] answers as it does, and whether it is complete. Beside the commits it
/// gives: where a branch left the line before the floor, the way from the floor down to there.
///
/// # Errors
/// [`SourceError::Store`] where the repository is damaged.
pub(crate) fn kept(
    repo: &gix::Repository,
    tip: ObjectId,
    floor: &CommitId,
    caps: &Caps,
) -> Result<BTreeSet<ObjectId>, SourceError> {
    let mut walker = walker(repo, caps, Place::Within)?;
    let floor = known_floor(tip, Some(floor));
    let span = walker.span(tip, floor)?;
    let mut kept: BTreeSet<ObjectId> = span.range.iter().chain(&span.settled).copied().collect();
    let is_straight = span.settled.iter().all(|id| Some(*id) == floor);
    if let (false, Some(floor)) = (is_straight, floor) {
        // All that is younger than the oldest of these, and one more: so no date leaves a doubt.
        let oldest = kept
            .iter()
            .filter_map(|id| walker.read.get(id)?.node.time)
            .min()
            .unwrap_or(i64::MIN)
            .saturating_sub(SKEW);
        let mut seen = HashSet::from([floor]);
        let mut next = VecDeque::from([floor]);
        while let Some(id) = next.pop_front() {
            let Some(data) = commit(repo, id, Place::Beyond)? else {
                continue;
            };
            let node = Node::of(&data, id.kind());
            kept.insert(id);
            if kept.len() > caps.commits || node.time.is_some_and(|time| time < oldest) {
                continue;
            }
            for parent in node.parents {
                if seen.insert(parent) {
                    next.push_back(parent);
                }
            }
        }
    }
    Ok(kept)
}

/// What trust has to see beside a tip, as [`crate::port::source::Source::history`] has it. Where `start` is
/// [`Place::Beyond`], nothing that is missing is damage.
///
/// # Errors
/// [`SourceError::Store`] where the repository is damaged, or does not have the tip.
pub(crate) fn history(
    repo: &gix::Repository,
    tip: ObjectId,
    floor: Option<&CommitId>,
    extent: Extent,
    start: Place,
    caps: &Caps,
) -> Result<RawHistory, SourceError> {
    let mut walker = walker(repo, caps, start)?;
    let floor = known_floor(tip, floor);
    let span = match extent {
        Extent::Parents => walker.parents(tip, floor)?,
        Extent::SinceFloor => walker.span(tip, floor)?,
    };
    let mut history = RawHistory {
        cut: span.cut,
        ..RawHistory::default()
    };
    let mut sets = Sets::new(repo, start);
    let mut bytes = 0;
    let mut trees = Vec::new();
    let all = span.range.iter().chain(&span.settled);
    for id in all {
        let Some(Found { node, bytes: raw }) = walker.read.remove(id) else {
            continue;
        };
        bytes += raw.len() as u64;
        trees.extend(node.tree);
        history.commits.insert(parsed(*id)?, raw);
    }
    for id in &span.settled {
        history.settled.insert(parsed(*id)?);
    }
    if let (Extent::SinceFloor, Some(floor)) = (extent, floor)
        && let Some(raw) = commit(repo, floor, Place::Beyond)?
    {
        trees.extend(Node::of(&raw, floor.kind()).tree);
    }
    for tree in trees {
        if let Some(folder) = sets.of(tree)? {
            history.sets.insert(
                tree.to_string()
                    .parse::<TreeId>()
                    .map_err(|error| damaged("a tree's id".to_owned(), Some(error.into())))?,
                folder,
            );
        }
        if bytes + sets.bytes() > caps.bytes {
            history.cut = Some(HistoryCut::TooLong(format!(
                "the commits between the floor and {} and their trust sets have more than {} MiB",
                short(tip),
                caps.bytes >> 20
            )));
            break;
        }
    }
    Ok(history)
}

fn parsed(id: ObjectId) -> Result<CommitId, SourceError> {
    id.to_string()
        .parse()
        .map_err(|error: crate::domain::revision::NotAnId| {
            damaged("a commit's id".to_owned(), Some(error.into()))
        })
}

#[cfg(test)]
#[path = "history/tests.rs"]
mod tests;
