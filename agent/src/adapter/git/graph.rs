//! Descent: whether one commit is among the ancestors of another, as far as the local store knows history; and whether two
//! have forked.

use std::collections::{BTreeSet, HashSet, VecDeque};

use gix::ObjectId;
use gix::objs::{CommitRefIter, Kind};

use crate::domain::commit::Kin;

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

/// A commit's history, as far as it is known here.
struct Known {
    /// The commit and its ancestors, among them the parents that a boundary's commit names.
    ancestors: HashSet<ObjectId>,
    /// Where it is cut off.
    cuts: Vec<ObjectId>,
}

/// `None`: more than the cap, or something that ought to be here is not.
fn known(
    repo: &gix::Repository,
    tip: ObjectId,
    boundary: &BTreeSet<ObjectId>,
    cap: usize,
) -> Option<Known> {
    let mut known = Known {
        ancestors: HashSet::from([tip]),
        cuts: Vec::new(),
    };
    let mut next = VecDeque::from([tip]);
    while let Some(id) = next.pop_front() {
        let parents = parents(repo, id)?;
        let is_cut = boundary.contains(&id) && !parents.is_empty();
        if is_cut {
            known.cuts.push(id);
        }
        for parent in parents {
            if known.ancestors.insert(parent) && !is_cut {
                next.push_back(parent);
            }
        }
        if known.ancestors.len() > cap {
            return None;
        }
    }
    Some(known)
}

/// How one commit relates to another one. That they have forked is known for certain although both histories are cut off
/// where each cut of the one is an ancestor of the other: what lies beyond is older than both.
pub(super) fn kin(
    repo: &gix::Repository,
    one: ObjectId,
    other: ObjectId,
    cap: usize,
) -> gix::Result<Kin> {
    if one == other {
        return Ok(Kin::Same);
    }
    let boundary = boundary(repo)?;
    let (Some(first), Some(second)) = (
        known(repo, one, &boundary, cap),
        known(repo, other, &boundary, cap),
    ) else {
        return Ok(Kin::Unknown);
    };
    let covers = |cuts: &[ObjectId], by: &Known| cuts.iter().all(|cut| by.ancestors.contains(cut));
    Ok(if first.ancestors.contains(&other) {
        Kin::Descendant
    } else if second.ancestors.contains(&one) {
        Kin::Ancestor
    } else if covers(&first.cuts, &second) && covers(&second.cuts, &first) {
        Kin::Apart
    } else {
        Kin::Unknown
    })
}
