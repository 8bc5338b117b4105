//! The commits between the floor and the tip, taken apart: who is whose parent, and which line leads where.
//!
//! Nothing here is judged. A commit that does not parse has no parents here, and nothing behind it is reached: whoever
//! judges it refuses it.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use super::commit::Commit;
use crate::domain::commit::{Descent, RawCommit, RawHistory};
use crate::domain::revision::{CommitId, Timestamp};

/// The commits, parsed when they are first asked for.
#[derive(Debug)]
pub(super) struct Ancestry<'a> {
    history: &'a RawHistory,
    tip: &'a RawCommit,
    parsed: BTreeMap<&'a CommitId, OnceCell<Option<Commit>>>,
}

/// A run of commits along first parents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mainline {
    /// Oldest first; the tip is the last.
    pub(super) commits: Vec<CommitId>,
    /// Whether it reaches the floor (or its ancestors), or the first commit of all.
    pub(super) whole: bool,
}

impl<'a> Ancestry<'a> {
    pub(super) fn new(tip: &'a RawCommit, history: &'a RawHistory) -> Self {
        let parsed = history
            .commits
            .keys()
            .chain([&tip.id])
            .map(|id| (id, OnceCell::new()))
            .collect();
        Self {
            history,
            tip,
            parsed,
        }
    }

    /// A commit with its exact bytes; `None` where it is not here.
    pub(super) fn raw(&self, id: &CommitId, descent: Descent) -> Option<RawCommit> {
        Some(RawCommit {
            id: id.clone(),
            bytes: self.bytes(id)?.clone(),
            descent,
        })
    }

    /// A commit's exact bytes; `None` where it is not here.
    pub(super) fn bytes(&self, id: &CommitId) -> Option<&'a Vec<u8>> {
        if *id == self.tip.id {
            return Some(&self.tip.bytes);
        }
        self.history.commits.get(id)
    }

    /// A commit, where it is here and well formed.
    pub(super) fn commit(&self, id: &CommitId) -> Option<&Commit> {
        self.parsed
            .get(id)?
            .get_or_init(|| Commit::parse(&self.raw(id, Descent::NoFloor)?).ok())
            .as_ref()
    }

    /// Whether it is here at all.
    pub(super) fn is_here(&self, id: &CommitId) -> bool {
        self.parsed.contains_key(id)
    }

    /// Whether it is the floor or one of its ancestors: judged long ago.
    pub(super) fn is_settled(&self, id: &CommitId) -> bool {
        self.history.settled.contains(id)
    }

    pub(super) fn parents(&self, id: &CommitId) -> &[CommitId] {
        self.commit(id).map_or(&[], |commit| &commit.parents)
    }

    pub(super) fn first_parent(&self, id: &CommitId) -> Option<&CommitId> {
        self.parents(id).first()
    }

    /// The dates of those parents that are here.
    pub(super) fn dates(&self, id: &CommitId) -> Vec<(CommitId, Timestamp)> {
        self.parents(id)
            .iter()
            .filter_map(|parent| Some((parent.clone(), self.commit(parent)?.time)))
            .collect()
    }

    /// From `id` along first parents to what is settled.
    pub(super) fn mainline(&self, id: &CommitId) -> Mainline {
        let mut commits = Vec::new();
        let mut at = Some(id.clone());
        let mut whole = true;
        while let Some(id) = at {
            if self.is_settled(&id) {
                break;
            }
            if !self.parsed.contains_key(&id) {
                whole = false;
                break;
            }
            at = self.first_parent(&id).cloned();
            commits.push(id);
        }
        commits.reverse();
        Mainline { commits, whole }
    }

    /// For each commit of a mainline, what it merged: the commits that only its other parents reach, parents before
    /// children. The second answer tells whether all of them are here.
    pub(super) fn sides(&self, line: &Mainline) -> (BTreeMap<CommitId, Vec<CommitId>>, bool) {
        let mut seen: BTreeSet<CommitId> = line.commits.iter().cloned().collect();
        let mut sides = BTreeMap::new();
        let mut whole = true;
        for id in &line.commits {
            let mut found = Vec::new();
            // Depth first, by hand: a history is deeper than a stack.
            let mut open: Vec<(CommitId, usize)> = Vec::new();
            for parent in self.parents(id).iter().skip(1) {
                open.push((parent.clone(), 0));
                while let Some((at, next)) = open.pop() {
                    if next == 0 {
                        if self.is_settled(&at) || seen.contains(&at) {
                            continue;
                        }
                        if !self.parsed.contains_key(&at) {
                            whole = false;
                            continue;
                        }
                        seen.insert(at.clone());
                    }
                    match self.parents(&at).get(next) {
                        Some(parent) => {
                            let parent = parent.clone();
                            open.push((at, next + 1));
                            open.push((parent, 0));
                        }
                        None => found.push(at),
                    }
                }
            }
            if !found.is_empty() {
                sides.insert(id.clone(), found);
            }
        }
        (sides, whole)
    }

    /// Whether `ancestor` is `id` or behind it, as far as the commits here tell.
    pub(super) fn reaches(&self, id: &CommitId, ancestor: &CommitId) -> bool {
        let mut seen = BTreeSet::new();
        let mut open = vec![id];
        while let Some(at) = open.pop() {
            if at == ancestor {
                return true;
            }
            if seen.insert(at) && !self.is_settled(at) {
                open.extend(self.parents(at));
            }
        }
        false
    }
}
