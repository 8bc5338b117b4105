//! Walks over commits: from the tip down to the floor, and below the floor.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use gix::ObjectId;
use gix::objs::Kind;

use super::history::Caps;
use super::{Node, damaged, object};
use crate::domain::commit::HistoryCut;
use crate::port::source::SourceError;

/// The most parents of a tip that are looked at. Trust takes no commit with more.
const PARENTS: usize = 128;

/// How many seconds a commit may be dated before its parent, where a date is all there is to tell them apart. 10 min: the
/// clocks of two people. Where it is more, a settled commit is judged once more.
pub(super) const SKEW: i64 = 10 * 60;

/// The commits that a walk found.
pub(super) struct Span {
    /// In the order in which they were met, the tip first.
    pub(super) range: Vec<ObjectId>,
    /// Parents of these which are the floor or ancestors of it, and here.
    pub(super) settled: BTreeSet<ObjectId>,
    /// Why it is not complete.
    pub(super) cut: Option<HistoryCut>,
}

/// A commit that was read.
pub(super) struct Found {
    pub(super) node: Node,
    pub(super) bytes: Vec<u8>,
}

/// Whether a commit must be here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Reached without passing the shallow boundary: it must.
    Within,
    /// Reached past it: it may be.
    Beyond,
}

/// What lies below the floor.
struct Below {
    /// The floor and its ancestors; also those that are not here themselves, but named as a parent.
    known: HashSet<ObjectId>,
    /// The latest date of one whose own parents are not here; `None` where all are.
    cut: Option<i64>,
}

/// Where the walk from the tip ends.
enum Ends<'a> {
    /// At the floor alone; given up where it ends anywhere else.
    Floor(Option<ObjectId>),
    /// At the floor and its ancestors.
    Below(&'a Below),
}

/// How a walk from the tip went.
struct Walked {
    range: Vec<ObjectId>,
    ends: BTreeSet<ObjectId>,
    /// A parent that is not here and not known to be below the floor.
    is_cut: bool,
    /// Whether a root was met.
    is_rooted: bool,
    too_long: Option<String>,
}

/// Walks over one repository, and keeps what it read above the floor.
pub(super) struct Walker<'a> {
    repo: &'a gix::Repository,
    boundary: BTreeSet<ObjectId>,
    caps: &'a Caps,
    /// Where the walks begin.
    start: Place,
    pub(super) read: HashMap<ObjectId, Found>,
}

impl Walker<'_> {
    /// Reads a commit and keeps it; `None` where it is not here and need not be.
    fn read(&mut self, id: ObjectId, place: Place) -> Result<Option<&Found>, SourceError> {
        if !self.read.contains_key(&id) {
            let Some(bytes) = commit(self.repo, id, place)? else {
                return Ok(None);
            };
            let node = Node::of(&bytes, id.kind());
            self.read.insert(id, Found { node, bytes });
        }
        Ok(self.read.get(&id))
    }

    fn place(&self, child: ObjectId, place: Place) -> Place {
        match place {
            Place::Beyond => Place::Beyond,
            Place::Within if self.boundary.contains(&child) => Place::Beyond,
            Place::Within => Place::Within,
        }
    }

    /// The floor and all its ancestors.
    fn below(&self, floor: ObjectId) -> Result<Result<Below, String>, SourceError> {
        let mut below = Below {
            known: HashSet::from([floor]),
            cut: None,
        };
        // The floor itself may be lost: the walk is then cut off right there.
        let mut next = VecDeque::from([(floor, Place::Beyond, i64::MAX)]);
        let mut bytes = 0_u64;
        while let Some((id, place, dated)) = next.pop_front() {
            let Some(data) = commit(self.repo, id, place)? else {
                below.cut = below.cut.max(Some(dated));
                continue;
            };
            bytes += data.len() as u64;
            if below.known.len() > self.caps.below || bytes > self.caps.below_bytes {
                return Ok(Err(format!(
                    "the floor {} has more than {} commits or {} MiB of them behind it",
                    short(floor),
                    self.caps.below,
                    self.caps.below_bytes >> 20
                )));
            }
            let node = Node::of(&data, id.kind());
            let place = self.place(id, if id == floor { self.start } else { place });
            for parent in node.parents {
                if below.known.insert(parent) {
                    next.push_back((parent, place, node.time.unwrap_or(i64::MAX)));
                }
            }
        }
        Ok(Ok(below))
    }

    /// From the tip down to where it ends, breadth first.
    fn walk(&mut self, tip: ObjectId, ends: &Ends<'_>) -> Result<Walked, SourceError> {
        let mut walked = Walked {
            range: Vec::new(),
            ends: BTreeSet::new(),
            is_cut: false,
            is_rooted: false,
            too_long: None,
        };
        let is_end = |id: ObjectId| match ends {
            Ends::Floor(floor) => *floor == Some(id),
            Ends::Below(below) => below.known.contains(&id),
        };
        let mut seen = HashSet::from([tip]);
        let mut next = VecDeque::from([(tip, self.start)]);
        let (mut commits, mut bytes) = (0, 0);
        while let Some((id, place)) = next.pop_front() {
            if is_end(id) {
                walked.ends.insert(id);
                continue;
            }
            let Some(read) = self.read(id, place)? else {
                walked.is_cut = true;
                continue;
            };
            commits += 1;
            bytes += read.bytes.len() as u64;
            if commits > self.caps.commits || bytes > self.caps.bytes {
                walked.too_long = Some(format!(
                    "more than {} commits or {} MiB of them lie between the floor and {}",
                    self.caps.commits,
                    self.caps.bytes >> 20,
                    short(tip)
                ));
                break;
            }
            walked.range.push(id);
            let parents = self.read[&id].node.parents.clone();
            walked.is_rooted |= parents.is_empty();
            let place = self.place(id, place);
            for parent in parents {
                if seen.insert(parent) {
                    next.push_back((parent, place));
                }
            }
            if let Ends::Floor(Some(_)) = ends
                && (walked.is_rooted || walked.is_cut)
            {
                break;
            }
        }
        Ok(walked)
    }

    /// Whether commits of the range may after all be ancestors of the floor, by a way that is not here. A commit that
    /// descends from the floor is none; nor is one that is younger than all at which the way ends.
    fn is_unclear(&self, range: &[ObjectId], floor: ObjectId, ended: i64) -> bool {
        let mut children: HashMap<ObjectId, Vec<ObjectId>> = HashMap::new();
        for id in range {
            for parent in &self.read[id].node.parents {
                children.entry(*parent).or_default().push(*id);
            }
        }
        let mut above = HashSet::new();
        let mut next = vec![floor];
        while let Some(id) = next.pop() {
            for child in children.get(&id).into_iter().flatten() {
                if above.insert(*child) {
                    next.push(*child);
                }
            }
        }
        range.iter().any(|id| {
            !above.contains(id)
                && self.read[id]
                    .node
                    .time
                    .is_none_or(|time| time <= ended.saturating_add(SKEW))
        })
    }

    /// What lies between the floor and the tip.
    pub(super) fn span(
        &mut self,
        tip: ObjectId,
        floor: Option<ObjectId>,
    ) -> Result<Span, SourceError> {
        // Where every way down from the tip ends at the floor, no commit on it can be an ancestor of the floor too, and
        // the history below need not be looked at.
        let quick = self.walk(tip, &Ends::Floor(floor))?;
        let (walked, mut cut) = match floor {
            None => (quick, None),
            Some(_) if !quick.is_rooted && !quick.is_cut && quick.too_long.is_none() => {
                (quick, None)
            }
            Some(floor) => match self.below(floor)? {
                Err(why) => (quick, Some(HistoryCut::TooLong(why))),
                Ok(below) => {
                    let walked = self.walk(tip, &Ends::Below(&below))?;
                    let unclear = below
                        .cut
                        .is_some_and(|ended| self.is_unclear(&walked.range, floor, ended));
                    (walked, unclear.then_some(HistoryCut::Shallow))
                }
            },
        };
        if walked.is_cut && cut.is_none() {
            cut = Some(HistoryCut::Shallow);
        }
        if let Some(why) = walked.too_long {
            cut = Some(HistoryCut::TooLong(why));
        }
        let mut settled = BTreeSet::new();
        for id in walked.ends {
            if self.read(id, Place::Beyond)?.is_some() {
                settled.insert(id);
            } else {
                cut.get_or_insert(HistoryCut::Shallow);
            }
        }
        let unchanged = self.unchanged(tip, &walked.range);
        let to_judge = walked.range.is_empty() || settled.contains(&unchanged);
        if to_judge && self.put_on(unchanged, &mut settled)? == Place::Beyond {
            cut.get_or_insert(HistoryCut::Shallow);
        }
        Ok(Span {
            range: walked.range,
            settled,
            cut,
        })
    }

    /// The first commit below the tip that may be no heartbeat: down from commits of the range with one parent and its
    /// tree. Where it is settled, it is what the device is judged to be at.
    fn unchanged(&self, tip: ObjectId, range: &[ObjectId]) -> ObjectId {
        let mut at = tip;
        for _ in range {
            let Some(node) = self.read.get(&at).map(|read| &read.node) else {
                break;
            };
            let [parent] = node.parents.as_slice() else {
                break;
            };
            let below = self.read.get(parent).map(|read| read.node.tree);
            if below != Some(node.tree) {
                break;
            }
            at = *parent;
        }
        at
    }

    /// Where what is judged is the floor itself, be it the tip or below heartbeats: what it was put on, down through
    /// commits that change nothing. Its date and its approvals are judged beside those. [`Place::Beyond`]: some of it is
    /// not here.
    fn put_on(
        &mut self,
        judged: ObjectId,
        settled: &mut BTreeSet<ObjectId>,
    ) -> Result<Place, SourceError> {
        let mut at = judged;
        for _ in 0..self.caps.commits {
            let Some(read) = self.read(at, Place::Beyond)? else {
                return Ok(Place::Beyond);
            };
            let tree = read.node.tree;
            let parents: Vec<ObjectId> = read.node.parents.iter().take(PARENTS).copied().collect();
            for parent in &parents {
                if self.read(*parent, Place::Beyond)?.is_none() {
                    return Ok(Place::Beyond);
                }
                settled.insert(*parent);
            }
            match parents.first() {
                Some(parent) if at == judged || self.read[parent].node.tree == tree => at = *parent,
                Some(_) | None => break,
            }
        }
        Ok(Place::Within)
    }

    /// The tip, and those of its parents that are here.
    pub(super) fn parents(
        &mut self,
        tip: ObjectId,
        floor: Option<ObjectId>,
    ) -> Result<Span, SourceError> {
        let mut span = Span {
            range: vec![tip],
            settled: BTreeSet::new(),
            cut: None,
        };
        let Some(read) = self.read(tip, self.start)? else {
            return Ok(Span {
                range: Vec::new(),
                cut: Some(HistoryCut::Shallow),
                ..span
            });
        };
        let parents = read.node.parents.clone();
        if parents.len() > PARENTS {
            span.cut = Some(HistoryCut::TooLong(format!(
                "{} has {} parents",
                short(tip),
                parents.len()
            )));
        }
        for parent in parents.into_iter().take(PARENTS) {
            if span.range.contains(&parent) {
                continue;
            }
            if self.read(parent, Place::Beyond)?.is_none() {
                span.cut.get_or_insert(HistoryCut::Shallow);
            } else {
                span.range.push(parent);
            }
        }
        if let Some(floor) = floor
            && let Some(at) = span.range.iter().position(|id| *id == floor)
        {
            span.range.remove(at);
            span.settled.insert(floor);
        }
        Ok(span)
    }
}

pub(super) fn short(id: ObjectId) -> String {
    id.to_hex_with_len(10).to_string()
}

/// A commit's proven bytes; `None` where it is not here and need not be.
pub(super) fn commit(
    repo: &gix::Repository,
    id: ObjectId,
    place: Place,
) -> Result<Option<Vec<u8>>, SourceError> {
    let is_here = || {
        repo.try_find_header(id)
            .is_ok_and(|header| header.is_some_and(|header| header.kind() == Kind::Commit))
    };
    match place {
        Place::Beyond if !is_here() => Ok(None),
        Place::Within | Place::Beyond => {
            object(repo, id, Kind::Commit, "the branch's history").map(Some)
        }
    }
}

pub(super) fn walker<'a>(
    repo: &'a gix::Repository,
    caps: &'a Caps,
    start: Place,
) -> Result<Walker<'a>, SourceError> {
    let boundary = repo
        .shallow_commits()
        .map_err(|error| {
            damaged(
                "the shallow boundary does not read".to_owned(),
                Some(error.into()),
            )
        })?
        .map(|commits| commits.iter().copied().collect())
        .unwrap_or_default();
    Ok(Walker {
        repo,
        boundary,
        caps,
        start,
        read: HashMap::new(),
    })
}
