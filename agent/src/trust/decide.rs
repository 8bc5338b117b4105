//! Which commit of a branch the device should be at: the tip and what is below it, judged as policy asks.
//!
//! The line of first parents from the tip to the floor is the branch; what its merges bring in is beside it. Heartbeats on
//! top are passed over: every other rule is asked of the newest commit that is none. With `verify = "every-commit"`
//! each commit is judged by the trust set of its parent, the merged ones by that of the merge's first parent. A tip
//! that does not descend from the floor counts where a signed commit of its line says that it supersedes the floor.
//!
//! The trust set for the commit the device goes to never has a lower serial than the one in force, but for the very
//! commit that brought that one.

use std::collections::BTreeMap;
use std::sync::Arc;

use evenkeel_schema::agent_config::{OnUnsigned, Verify};
use sha2::Digest as _;

use super::allowed_signers::AllowedSigners;
use super::ancestry::{Ancestry, Mainline};
use super::inquiry::{Inquiry, JudgedFor, Role, Task};
use super::policy::TrustPolicy;
use super::scene::{Anchor, Decision, Memo, Scene};
use super::sshsig::ArmoredSignature;
use super::trust_set::{Carrier, Offer, Sets};
use super::verdict::{Check, CheckResult, Reason, Refused, Verdict};
use super::verified::VerifiedCommit;
use crate::domain::commit::{Descent, HistoryCut, TrustFolder};
use crate::domain::history::AdoptedSet;
use crate::domain::revision::CommitId;

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

/// Whether a commit is a heartbeat.
enum Beat {
    No,
    Good,
    Refused(Box<Refused>),
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
    sets: Sets<'a>,
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
        let scope = scope(policy, scene);
        let memo = if scene.memo.scope == Some(scope) {
            scene.memo.clone()
        } else {
            Memo {
                scope: Some(scope),
                ..Memo::default()
            }
        };
        Self {
            policy,
            scene,
            ancestry,
            line,
            sides,
            sides_whole,
            sets: Sets::new(policy, scene.adopted, scene.time_floor),
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
            && let Err(refused) = self.every_commit(&target)?
        {
            return self.before_refused(&target, refused);
        }
        let commit = self.target(&target, descent)?;
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

    /// What is in force after each commit of the line, and at the floor. Sets vouch for themselves, so all of them are
    /// offered before anything is judged; a commit is judged by what was in force before it.
    fn follow_sets(&mut self) {
        if self.policy.root.is_none() {
            return;
        }
        if let Some(floor) = self.floor_set() {
            self.before = match self.sets.offer(None, &floor) {
                Offer::Adopted(serial) | Offer::Known(serial) => serial,
                // The floor was good by what is in force here, whatever its own tree says.
                Offer::Lower(_) | Offer::Refused(_) => self.sets.in_force().0,
                Offer::Nothing => 0,
            };
        }
        let mut serial = self.before;
        for id in self.line.commits.clone() {
            for side in self.sides.get(&id).cloned().unwrap_or_default() {
                serial = self.offer(&side, &id, serial);
            }
            serial = self.offer(&id, &id, serial);
            self.after.insert(id, serial);
        }
    }

    /// The set in the floor's tree, unless the floor is what is judged.
    fn floor_set(&self) -> Option<Arc<TrustFolder>> {
        let floor = self.scene.anchor.commit()?;
        if *floor == self.scene.tip.id {
            return None;
        }
        let tree = &self.ancestry.commit(floor)?.tree;
        self.scene.history.sets.get(tree).cloned()
    }

    /// Offers the set in a commit's tree, which commit `by` of the line brings; the serial in force after it.
    fn offer(&mut self, id: &CommitId, by: &CommitId, serial: u64) -> u64 {
        let Some(commit) = self.ancestry.commit(id) else {
            return serial;
        };
        let Some(folder) = self.scene.history.sets.get(&commit.tree) else {
            return serial;
        };
        let carrier = Carrier {
            commit: by,
            time: commit.time,
        };
        let offer = self.sets.offer(Some(carrier), folder);
        let (result, serial) = match &offer {
            Offer::Nothing | Offer::Lower(_) => return serial,
            Offer::Known(found) => return serial.max(*found),
            Offer::Adopted(found) => (CheckResult::Passed(offer.to_string()), serial.max(*found)),
            Offer::Refused(why) => (CheckResult::NotJudged(why.clone()), serial),
        };
        self.checks.push(Check {
            name: "trust-set",
            input: format!("in commit {}", id.short()),
            result,
        });
        serial
    }

    /// How far up the line a commit is, counted in commits.
    fn reach(&self, id: &CommitId, end: End) -> usize {
        let brings =
            |at: &CommitId| at == id || self.sides.get(at).is_some_and(|sides| sides.contains(id));
        match (self.line.commits.iter().position(brings), end) {
            (Some(at), End::Included) => at + 1,
            (Some(at), End::Excluded) => at,
            // The floor, or below it.
            (None, _) => 0,
        }
    }

    /// The sets to remember: those that were, and those that the first commits of the line bring.
    fn adopted(&self, first: usize) -> Option<Vec<AdoptedSet>> {
        if !self.anchored {
            return None;
        }
        let brought = &self.line.commits[..first];
        let mut sets = self.sets.changed()?;
        let keep = sets
            .iter()
            .position(|set| {
                let is_new = !self.scene.adopted.contains(set);
                is_new && set.by.as_ref().is_some_and(|by| !brought.contains(by))
            })
            .unwrap_or(sets.len());
        sets.truncate(keep);
        (sets != self.scene.adopted).then_some(sets)
    }

    /// The serial in force for the commit the device goes to.
    fn serial_for(&self, target: &CommitId) -> u64 {
        let of_parent = self.serial_at_parent(target);
        let mut adopted = self.scene.adopted.iter().rev();
        let stored = match adopted.next() {
            Some(last) if last.by.as_ref() == Some(target) => {
                adopted.next().map_or(0, |set| set.serial)
            }
            Some(last) => last.serial,
            None => 0,
        };
        of_parent.max(stored)
    }

    fn serial_at_parent(&self, id: &CommitId) -> u64 {
        self.ancestry
            .first_parent(id)
            .and_then(|parent| self.after.get(parent))
            .copied()
            .unwrap_or(self.before)
    }

    /// The newest commit that is no heartbeat.
    fn below_heartbeats(&mut self) -> Result<CommitId, Stop> {
        let mut at = self.scene.tip.id.clone();
        loop {
            if self.policy.heartbeat.is_empty() || self.ancestry.is_settled(&at) {
                return Ok(at);
            }
            let parent = match self.ancestry.parents(&at) {
                [parent] => parent.clone(),
                [] | [_, _, ..] => return Ok(at),
            };
            if self.ancestry.commit(&parent).is_none() && self.names_heartbeat_key(&at) {
                let what = format!("the parent of the heartbeat {}", at.short());
                return Err(self.missing(&what));
            }
            let serial = self.serial_for(&at);
            match self.beat(&at, serial, Role::Heartbeat)? {
                Beat::No => return Ok(at),
                Beat::Good => at = parent,
                Beat::Refused(refused) => return Err(Stop::Refused(refused)),
            }
        }
    }

    /// Whether a commit is a heartbeat: its one parent's tree, and signed by a key that may make them.
    fn beat(&mut self, id: &CommitId, serial: u64, role: Role) -> Result<Beat, Stop> {
        if self.policy.heartbeat.is_empty() || !self.has_shape_of_heartbeat(id) {
            return Ok(Beat::No);
        }
        let checks = self.checks.len();
        match self.judge_below(id, serial, role)? {
            None => Ok(Beat::Good),
            Some(refused) if self.names_heartbeat_key(id) => Ok(Beat::Refused(refused)),
            Some(_) => {
                // Somebody else's commit without a change: it is judged as any other.
                self.checks.truncate(checks);
                Ok(Beat::No)
            }
        }
    }

    /// One parent, and its tree.
    fn has_shape_of_heartbeat(&self, id: &CommitId) -> bool {
        match (self.ancestry.commit(id), self.ancestry.parents(id)) {
            (Some(commit), [parent]) => self
                .ancestry
                .commit(parent)
                .is_some_and(|parent| parent.tree == commit.tree),
            (Some(_) | None, _) => false,
        }
    }

    /// Whether the key that the signature names is one for heartbeats. Whether the signature is good is another question.
    fn names_heartbeat_key(&self, id: &CommitId) -> bool {
        let signature = self
            .ancestry
            .commit(id)
            .and_then(|commit| commit.signature.as_deref())
            .and_then(|armor| ArmoredSignature::parse(armor).ok());
        let signers = self.signers(self.serial_for(id));
        signature.is_some_and(|signature| {
            signers
                .lines_of(signature.key())
                .any(|line| line.names_one_of(&self.policy.heartbeat))
        })
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
            let serial = self.serial_for(&heir);
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

    /// Who is trusted with that serial.
    fn signers(&self, serial: u64) -> &AllowedSigners {
        self.sets
            .at_serial(serial)
            .unwrap_or_else(|| self.sets.in_force().1)
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

/// What a memo is good for: this policy at this time floor.
fn scope(policy: &TrustPolicy, scene: Scene<'_>) -> [u8; 32] {
    let clock = scene.clock.is_some();
    sha2::Sha256::digest(format!("{policy:?} {} {clock}", scene.time_floor)).into()
}
