//! Which commit of a branch the device should be at: the tip and what is below it, judged as policy asks.
//!
//! The line of first parents from the tip to the floor is the branch; what its merges bring in is beside it. Heartbeats on
//! top are passed over: every other rule is asked of the newest commit that is none. With `verify = "every-commit"`
//! each commit is judged by the trust set of its parent, the merged ones by that of the merge's first parent. A tip
//! that does not descend from the floor counts where a signed commit of its line says that it supersedes the floor.
//!
//! The trust set for the commit the device goes to never has a lower serial than the one in force, but for the very
//! commit that brought that one.

mod heartbeats;
mod rotation;

use std::collections::BTreeMap;

use evenkeel_schema::agent_config::{OnUnsigned, Verify};
use sha2::Digest as _;

use super::ancestry::{Ancestry, Mainline};
use super::inquiry::{Inquiry, JudgedFor, Role, Task};
use super::policy::TrustPolicy;
use super::scene::{Anchor, Decision, Memo, Scene};
use super::trust_set::Sets;
use super::verdict::{Check, CheckResult, Reason, Refused, Verdict};
use super::verified::VerifiedCommit;
use crate::domain::commit::{Descent, Extent, HistoryCut};
use crate::domain::history::AdoptedSet;
use crate::domain::revision::CommitId;
use heartbeats::Beat;

/// The trailer with which a signed commit replaces a floor that it does not descend from.
pub(super) const SUPERSEDES_TRAILER: &str = "Supersedes";

/// Decides; see the module.
pub(super) fn decide(policy: &TrustPolicy, scene: Scene<'_>) -> Decision {
    let mut court = Court::new(policy, scene);
    let outcome = court.decide();
    // A set that root has signed counts from now on whatever becomes of the commits above it. One that came with a refused
    // commit does not, nor one from a line that leads nowhere near the floor.
    let (verdict, beyond, settled) = match outcome {
        Ok((commit, beyond)) => {
            let settled = court.reach(commit.id(), End::Included);
            (Verdict::Trusted(commit), beyond, settled)
        }
        Err(Stop::Refused(refused)) => {
            let settled = court.reach(&refused.commit, End::Excluded);
            (Verdict::Refused(refused), None, settled)
        }
        Err(Stop::Unknown(why)) => (Verdict::Undecided(why), None, 0),
    };
    let adopt = court.adopted(settled);
    let ancestry = &court.ancestry;
    court.memo.good.retain(|(id, ..)| ancestry.is_here(id));
    Decision {
        verdict,
        beyond,
        adopt,
        checks: court.checks,
        memo: court.memo,
    }
}

/// Whether a commit itself is meant, or those before it.
#[derive(Clone, Copy)]
enum End {
    Included,
    Excluded,
}

/// Why there is no commit to go to.
enum Stop {
    Refused(Box<Refused>),
    Unknown(String),
}

/// What a commit is judged for.
enum Place {
    /// To go to, with how it descends from the anchor.
    Target(Descent),
    /// As one below or above the target.
    Below,
}

impl Place {
    const fn judged_for(&self) -> JudgedFor {
        match self {
            Self::Target(_) => JudgedFor::Itself,
            Self::Below => JudgedFor::Another,
        }
    }
}

struct Court<'a> {
    policy: &'a TrustPolicy,
    scene: Scene<'a>,
    ancestry: Ancestry<'a>,
    line: Mainline,
    sides: BTreeMap<CommitId, Vec<CommitId>>,
    sides_whole: bool,
    /// The sets that were adopted before this decision, and what is adopted in it: judged by the newest alone.
    sets: Sets<'a>,
    /// The sets as they follow from one another since the floor, as far as they were adopted and are forgotten.
    older: Sets<'a>,
    /// The serial of the set in force after each commit of the line.
    after: BTreeMap<CommitId, u64>,
    /// The serial in force at the floor.
    before: u64,
    anchored: bool,
    checks: Vec<Check>,
    memo: Memo,
}

impl<'a> Court<'a> {
    fn new(policy: &'a TrustPolicy, scene: Scene<'a>) -> Self {
        let ancestry = Ancestry::new(scene.tip, scene.history);
        let line = ancestry.mainline(&scene.tip.id);
        let (sides, sides_whole) = ancestry.sides(&line);
        // What a commit above the floor has brought was not in force at the floor; the rest was.
        let above = |by: &CommitId| {
            line.commits.contains(by) || sides.values().any(|sides| sides.contains(by))
        };
        let since_floor: Vec<AdoptedSet> = scene
            .adopted
            .iter()
            .filter(|set| set.by.as_ref().is_none_or(|by| !above(by)))
            .cloned()
            .collect();
        let memo = match policy.extent(&scene.tip.descent) {
            // One commit is judged, and that one always: an idle poll has nothing to remember.
            Extent::Parents => Memo::default(),
            Extent::SinceFloor => remembered(policy, scene),
        };
        Self {
            policy,
            scene,
            ancestry,
            line,
            sides,
            sides_whole,
            sets: Sets::new(policy, scene.adopted, scene.time_floor),
            older: Sets::new(policy, &since_floor, scene.time_floor),
            after: BTreeMap::new(),
            before: 0,
            anchored: match scene.tip.descent {
                Descent::NoFloor | Descent::Same | Descent::Descends => true,
                Descent::NotDescendant | Descent::Unknown(_) => false,
            },
            checks: Vec::new(),
            memo,
        }
    }

    fn decide(&mut self) -> Result<(Box<VerifiedCommit>, Option<Refused>), Stop> {
        self.note_history();
        self.follow_sets();
        let target = self.below_heartbeats()?;
        let descent = self.descent(&target)?;
        if self.policy.verify == Verify::EveryCommit
            // What leads nowhere near the floor is not gone through first.
            && descent != Descent::NotDescendant
            && let Err(refused) = self.every_commit(&target)?
        {
            if self.scene.history.cut == Some(HistoryCut::Shallow) {
                // What is settled may not be known to be so before more of the history is here.
                return Err(Stop::Unknown(format!(
                    "{}; more of its history may tell otherwise",
                    refused.message
                )));
            }
            return self.before_refused(&target, refused);
        }
        let commit = match self.target(&target, descent) {
            Err(Stop::Refused(refused))
                if self.policy.verify == Verify::EveryCommit
                    && refused.reason != Reason::NotDescendant =>
            {
                return self.before_refused(&target, refused);
            }
            commit => commit?,
        };
        // Whatever is above it is a heartbeat that was found good.
        let alive = self.ancestry.commit(&self.scene.tip.id).map(|tip| tip.time);
        let alive = alive.unwrap_or(commit.time());
        Ok((Box::new(commit.seen_alive(alive)), None))
    }

    /// The commit that the device would go to, judged in full.
    fn target(&mut self, target: &CommitId, descent: Descent) -> Result<Box<VerifiedCommit>, Stop> {
        let serial = self.serial_for(target);
        match self.judge(target, serial, Role::Mainline, Place::Target(descent))? {
            Verdict::Trusted(commit) => Ok(commit),
            Verdict::Refused(refused) => {
                let is_unknown = refused.reason == Reason::UnknownKey;
                match &self.scene.history.cut {
                    // The set that names this key may be in the part that is not here.
                    Some(HistoryCut::Shallow) if is_unknown && self.policy.root.is_some() => {
                        Err(Stop::Unknown(format!(
                            "{}; more of its history may bring a newer trust set",
                            refused.message
                        )))
                    }
                    Some(HistoryCut::Shallow | HistoryCut::TooLong(_)) | None => {
                        Err(Stop::Refused(refused))
                    }
                }
            }
            Verdict::Undecided(why) => Err(Stop::Unknown(why)),
        }
    }

    /// How the target descends from the anchor; a `Supersedes:` trailer can make up for it.
    fn descent(&mut self, target: &CommitId) -> Result<Descent, Stop> {
        let tip = self.scene.tip.descent.clone();
        let below = |descent: Descent| match self.scene.anchor {
            Anchor::Floor(floor) | Anchor::Pin(floor) if floor == target => Descent::Same,
            Anchor::Floor(_) | Anchor::Pin(_) | Anchor::None => descent,
        };
        let Descent::NotDescendant = tip else {
            return Ok(below(tip));
        };
        let Anchor::Floor(floor) = self.scene.anchor else {
            return Ok(tip);
        };
        let heir = self.line.commits.iter().rev().find(|id| {
            self.ancestry.commit(id).is_some_and(|commit| {
                commit.trailers.iter().any(|(name, value)| {
                    name.eq_ignore_ascii_case(SUPERSEDES_TRAILER) && value == floor.as_str()
                })
            })
        });
        let Some(heir) = heir.cloned() else {
            return Ok(tip);
        };
        if heir != *target {
            // Who signed above it has taken it in: a rotation since then does not undo it.
            let serial = self.serial_at_parent(&heir);
            if let Some(refused) = self.judge_below(&heir, serial, Role::Mainline)? {
                return Err(Stop::Refused(refused));
            }
        }
        self.checks.push(Check {
            name: "supersedes",
            input: format!("floor {floor}"),
            result: CheckResult::Passed(format!(
                "replaced by {heir}, whose signed message says so"
            )),
        });
        self.anchored = true;
        Ok(Descent::Descends)
    }

    /// Every commit of the line up to the target, and all that its merges bring in; the target itself is judged by
    /// [`Court::target`].
    fn every_commit(&mut self, target: &CommitId) -> Result<Result<(), Box<Refused>>, Stop> {
        if !self.line.whole || !self.sides_whole {
            return Err(self.missing("some of the commits to judge"));
        }
        for id in self.line.commits.clone() {
            let serial = self.serial_at_parent(&id);
            for side in self.sides.get(&id).cloned().unwrap_or_default() {
                if let Some(refused) =
                    self.beat_or(&side, serial, Role::SideHeartbeat, Role::Side)?
                {
                    return Ok(Err(refused));
                }
            }
            if id == *target {
                break;
            }
            if let Some(refused) = self.beat_or(&id, serial, Role::Heartbeat, Role::Mainline)? {
                return Ok(Err(refused));
            }
        }
        Ok(Ok(()))
    }

    /// Judges a commit that is a heartbeat or an ordinary one.
    fn beat_or(
        &mut self,
        id: &CommitId,
        serial: u64,
        beat: Role,
        ordinary: Role,
    ) -> Result<Option<Box<Refused>>, Stop> {
        if self.memo.good.contains(&(id.clone(), serial, ordinary)) {
            return Ok(None);
        }
        match self.beat(id, serial, beat)? {
            Beat::Good => Ok(None),
            Beat::Refused(refused) => Ok(Some(refused)),
            Beat::No => self.judge_below(id, serial, ordinary),
        }
    }

    /// Where to go where a commit on the way is refused.
    fn before_refused(
        &mut self,
        target: &CommitId,
        refused: Box<Refused>,
    ) -> Result<(Box<VerifiedCommit>, Option<Refused>), Stop> {
        if self.policy.on_unsigned == OnUnsigned::Hold {
            return Err(Stop::Refused(refused));
        }
        let at = self.reach(&refused.commit, End::Excluded);
        let candidate = self.line.commits[..at]
            .iter()
            .rev()
            .find(|id| {
                let beat = ((*id).clone(), self.serial_at_parent(id), Role::Heartbeat);
                !self.memo.good.contains(&beat)
            })
            .cloned();
        let Some(candidate) = candidate else {
            return Err(Stop::Refused(refused));
        };
        debug_assert_ne!(candidate, *target);
        let descends = match self.scene.anchor.commit() {
            None => Descent::NoFloor,
            Some(anchor) if self.ancestry.reaches(&candidate, anchor) => Descent::Descends,
            Some(_) => return Err(Stop::Refused(refused)),
        };
        match self.target(&candidate, descends) {
            Ok(commit) => Ok((commit, Some(*refused))),
            Err(Stop::Refused(_)) => Err(Stop::Refused(refused)),
            Err(Stop::Unknown(why)) => Err(Stop::Unknown(why)),
        }
    }

    /// Judges a commit that the device does not go to; what is known to be good is not judged again.
    fn judge_below(
        &mut self,
        id: &CommitId,
        serial: u64,
        role: Role,
    ) -> Result<Option<Box<Refused>>, Stop> {
        let known = (id.clone(), serial, role);
        if self.memo.good.contains(&known) {
            return Ok(None);
        }
        match self.judge(id, serial, role, Place::Below)? {
            Verdict::Trusted(_) => {
                self.memo.good.insert(known);
                Ok(None)
            }
            Verdict::Refused(refused) => Ok(Some(refused)),
            Verdict::Undecided(why) => Err(Stop::Unknown(why)),
        }
    }

    fn judge(
        &mut self,
        id: &CommitId,
        serial: u64,
        role: Role,
        place: Place,
    ) -> Result<Verdict, Stop> {
        let descent = match &place {
            Place::Target(descent) => descent.clone(),
            Place::Below => Descent::NoFloor,
        };
        let Some(raw) = self.ancestry.raw(id, descent) else {
            return Err(self.missing(&format!("commit {id}")));
        };
        let signers = self.signers(serial);
        let set = if serial == 0 {
            signers.file().to_owned()
        } else {
            format!("the trust set with serial {serial}")
        };
        let examination = Inquiry::new(Task {
            policy: self.policy,
            signers,
            raw: &raw,
            role,
            judged_for: place.judged_for(),
            parents: &self.ancestry.dates(id),
            read: &|id| self.ancestry.bytes(id).cloned(),
            clock: self.scene.clock,
        })
        .finish(self.scene.time_floor);
        self.checks.push(Check {
            name: "commit",
            input: id.to_string(),
            result: CheckResult::NotJudged(format!("{}, by {set}", role.as_str())),
        });
        self.checks.extend(examination.checks);
        Ok(examination.verdict)
    }

    fn missing(&self, what: &str) -> Stop {
        let why = match &self.scene.history.cut {
            Some(HistoryCut::Shallow) => "the history here ends before it".to_owned(),
            Some(HistoryCut::TooLong(why)) => why.clone(),
            None => "the history here does not have it".to_owned(),
        };
        Stop::Unknown(format!(
            "{what} cannot be judged: {why}; `trust.pin` can name a commit to begin from"
        ))
    }

    fn note_history(&mut self) {
        let open = self
            .line
            .commits
            .len()
            .saturating_add(self.sides.values().map(Vec::len).sum());
        self.checks.push(Check {
            name: "history",
            input: self
                .scene
                .anchor
                .commit()
                .map_or_else(|| "no floor".to_owned(), |anchor| format!("since {anchor}")),
            result: CheckResult::NotJudged(format!(
                "{open} commits are here, {} on the branch's own line",
                self.line.commits.len()
            )),
        });
    }
}

/// What was found good before, where that was by this policy at this time floor.
fn remembered(policy: &TrustPolicy, scene: Scene<'_>) -> Memo {
    let clock = scene.clock.is_some();
    let by = format!("{policy:?} {} {clock}", scene.time_floor);
    let scope = Some(sha2::Sha256::digest(by).into());
    if scene.memo.scope == scope {
        return scene.memo.clone();
    }
    Memo {
        scope,
        ..Memo::default()
    }
}

#[cfg(test)]
#[path = "decide/tests/mod.rs"]
mod tests;
