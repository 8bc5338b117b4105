//! Descent: whether one commit is among the ancestors of another, as far as the local store knows history.

use std::collections::{BTreeSet, HashSet, VecDeque};

use gix::ObjectId;
use gix::objs::{CommitRefIter, Kind};

/// The answer of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Walk {
    /// They are the same.
    Same,
    /// The floor is an ancestor.
    Descends,
    /// All history down to the roots was seen, and the floor is not in it.
    NotDescendant,
    /// History is cut off at a shallow boundary before the floor was seen.
    Cut,
    /// More commits than the cap.
    TooMany,
    /// A commit that ought to be here is not, or cannot be read: the store is damaged.
    Missing(ObjectId),
}

/// The shallow boundary of a store.
pub(super) fn boundary(repo: &gix::Repository) -> gix::Result<BTreeSet<ObjectId>> {
    Ok(repo
        .shallow_commits()?
        .map(|commits| commits.iter().copied().collect())
        .unwrap_or_default())
}

/// The parents of a commit of the store; `None` where it is not there or is no readable commit.
pub(super) fn parents(repo: &gix::Repository, id: ObjectId) -> Option<Vec<ObjectId>> {
    let object = repo.try_find_object(id).ok().flatten()?;
    if object.kind != Kind::Commit {
        return None;
    }
    // The iterator passes over what it cannot read: the tree comes first, and without it this is no commit.
    CommitRefIter::from_bytes(&object.data, id.kind())
        .tree_id()
        .ok()?;
    Some(
        CommitRefIter::from_bytes(&object.data, id.kind())
            .parent_ids()
            .collect(),
    )
}

/// Walks from `tip` towards the roots until `floor` is met. `cap` bounds memory and time.
pub(super) fn walk(
    repo: &gix::Repository,
    tip: ObjectId,
    floor: &str,
    cap: usize,
) -> gix::Result<Walk> {
    // A floor of the other hash function is in no history of this one.
    let floor = ObjectId::from_hex(floor.as_bytes()).ok();
    if floor == Some(tip) {
        return Ok(Walk::Same);
    }
    let boundary = boundary(repo)?;
    let mut seen = HashSet::from([tip]);
    let mut next = VecDeque::from([tip]);
    let mut is_cut = false;
    while let Some(id) = next.pop_front() {
        let Some(parents) = parents(repo, id) else {
            return Ok(Walk::Missing(id));
        };
        // The floor's id in a parent line is proof enough, whether or not the floor itself is here.
        if floor.is_some_and(|floor| parents.contains(&floor)) {
            return Ok(Walk::Descends);
        }
        if boundary.contains(&id) {
            is_cut |= !parents.is_empty();
            continue;
        }
        for parent in parents {
            if seen.insert(parent) {
                next.push_back(parent);
            }
        }
        if seen.len() > cap {
            return Ok(Walk::TooMany);
        }
    }
    Ok(if is_cut {
        Walk::Cut
    } else {
        Walk::NotDescendant
    })
}
