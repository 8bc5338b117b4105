//! Which revision to be at: advance, keep or hold. Pure.
//!
//! Owns the order of the reasons. What refuses a commit for its signature or descent is `trust`'s; what refuses it
//! for its health is `gate`'s; this room only remembers and chooses.

pub mod floor;
pub mod remotes;
#[cfg(test)]
mod tests;
pub mod upgrade;

use std::time::Duration;

use crate::domain::history::{GoodRevision, Ledger, Refusal, TRIES};
use crate::domain::hold::Hold;
use crate::domain::revision::{CommitId, ContentId, Timestamp};
use crate::trust::verified::VerifiedCommit;

/// What is known of the branch's tip.
#[derive(Debug)]
pub enum Newest {
    /// It is signed as policy asks, and descends from the floor.
    Verified(VerifiedCommit),
    /// Trust refuses it.
    Rejected(Rejection),
    /// Nothing new could be learnt (offline, history missing), and nothing fetched before can be judged.
    Unknown(String),
    /// Nothing new is looked at, after unclean starts.
    HeldBack(String),
}

/// A tip that is refused before anything of it is read or applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The tip.
    pub commit: CommitId,
    /// A stable word: one of trust's reasons, `schema` or `guard`.
    pub reason: String,
    /// For people, with the next move.
    pub message: String,
}

/// Where to go.
#[derive(Debug)]
pub enum Target {
    /// Try this commit.
    Advance(VerifiedCommit),
    /// Be at this good revision.
    Keep(GoodRevision, Why),
    /// Touch nothing.
    Hold(Why),
}

/// Why the device is not advancing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The tip is the newest good revision.
    AtTip,
    /// A person rolled back.
    Pinned(CommitId),
    /// A person paused.
    Paused,
    /// Trust refuses the tip.
    Rejected(Rejection),
    /// The tip was tried here and refused.
    Refused(Refusal),
    /// Three tries of the tip ended uncleanly in a row: it has to be refused now.
    TriesSpent(CommitId, ContentId),
    /// The tip was put off.
    Deferred {
        /// The tip.
        commit: CommitId,
        /// Why.
        why: String,
        /// Until when.
        until: Timestamp,
    },
    /// The tip is held on purpose.
    Held(CommitId, Hold),
    /// Nothing newer is known.
    Unknown(String),
    /// Nothing newer is looked at: the agent ended uncleanly on the way to it.
    HeldBack(String),
}

/// Whether a person asked for this pass: then a deferral does not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// A scheduled pass.
    Scheduled,
    /// Something on the device has changed: what is here is judged again, and no remote is asked.
    Stirred,
    /// Somebody asked.
    Asked,
    /// The first pass after a start: it does not wait for the network, so that a device without one converges at once.
    Boot,
}

/// How long the deferral that is in force still lasts. Zero: it is over, or there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits(pub Duration);

/// Chooses. `newest` is judged afresh for each cycle; `ledger` is what the device remembers.
#[must_use]
pub fn choose(newest: Newest, ledger: &Ledger, waits: Waits, urgency: Urgency) -> Target {
    if let Some(pin) = &ledger.pin {
        let why = Why::Pinned(pin.commit.clone());
        return match ledger.good.iter().find(|good| *good.commit() == pin.commit) {
            Some(good) => Target::Keep(good.clone(), why),
            None => Target::Hold(why),
        };
    }
    if ledger.paused {
        // A pause ends a try that was under way: what is not good yet does not stay.
        if ledger.underway().is_some() {
            return keep(ledger, Why::Paused);
        }
        return Target::Hold(Why::Paused);
    }
    let commit = match newest {
        Newest::Verified(commit) => commit,
        Newest::Rejected(rejection) => return keep(ledger, Why::Rejected(rejection)),
        Newest::Unknown(why) => return keep(ledger, Why::Unknown(why)),
        Newest::HeldBack(why) => return keep(ledger, Why::HeldBack(why)),
    };
    if ledger
        .last_good()
        .is_some_and(|good| good.commit() == commit.id())
    {
        return keep(ledger, Why::AtTip);
    }
    if let Some(refusal) = ledger.refusal(commit.id(), None) {
        return keep(ledger, Why::Refused(refusal.clone()));
    }
    if let Some(trial) = &ledger.trial
        && trial.commit == *commit.id()
        && trial.tries >= TRIES
        && ledger.last_good().is_some()
    {
        let why = Why::TriesSpent(trial.commit.clone(), trial.content.clone());
        return keep(ledger, why);
    }
    if let Some(deferral) = &ledger.deferred
        && deferral.commit == *commit.id()
        && urgency != Urgency::Asked
        && !waits.0.is_zero()
    {
        let why = Why::Deferred {
            commit: deferral.commit.clone(),
            why: deferral.why.clone(),
            until: deferral.until,
        };
        return keep(ledger, why);
    }
    Target::Advance(commit)
}

fn keep(ledger: &Ledger, why: Why) -> Target {
    match ledger.last_good() {
        Some(good) => Target::Keep(good.clone(), why),
        None => Target::Hold(why),
    }
}

/// What to do with a commit once it is known what it resolves to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It is new: try it.
    Try,
    /// It resolves to what is good already: it becomes good without being gated again.
    SameAsLastGood,
    /// It resolves to what was refused before.
    Refused(Refusal),
}

/// Judges what a commit resolves to against what is remembered.
#[must_use]
pub fn admit(content: &ContentId, ledger: &Ledger) -> Admission {
    if ledger
        .last_good()
        .is_some_and(|good| good.content() == content)
    {
        return Admission::SameAsLastGood;
    }
    match ledger
        .refused
        .iter()
        .find(|refusal| refusal.content == *content)
    {
        Some(refusal) => Admission::Refused(refusal.clone()),
        None => Admission::Try,
    }
}
