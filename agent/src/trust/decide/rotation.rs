//! Which trust set is in force where: after each commit of the line, at the floor, and for the commit to go to.

use std::sync::Arc;

use super::{Court, End};
use crate::domain::commit::TrustFolder;
use crate::domain::history::{AdoptedSet, KEPT_SETS};
use crate::domain::revision::CommitId;
use crate::trust::allowed_signers::AllowedSigners;
use crate::trust::trust_set::{Carrier, Offer};
use crate::trust::verdict::{Check, CheckResult};

impl Court<'_> {
    /// What is in force after each commit of the line, and at the floor. Sets vouch for themselves, so all of them are
    /// offered before anything is judged; a commit is judged by what was in force before it.
    pub(super) fn follow_sets(&mut self) {
        if self.policy.root.is_none() {
            return;
        }
        if let Some(floor) = self.floor_set() {
            self.sets.offer(None, &floor);
        }
        self.before = self.sets.in_force().0;
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
    pub(super) fn floor_set(&self) -> Option<Arc<TrustFolder>> {
        let floor = self.scene.anchor.commit()?;
        if *floor == self.scene.tip.id {
            return None;
        }
        let tree = &self.ancestry.commit(floor)?.tree;
        self.scene.history.sets.get(tree).cloned()
    }

    /// Offers the set in a commit's tree, which commit `by` of the line brings; the serial in force after it.
    pub(super) fn offer(&mut self, id: &CommitId, by: &CommitId, serial: u64) -> u64 {
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
    pub(super) fn reach(&self, id: &CommitId, end: End) -> usize {
        let brings =
            |at: &CommitId| at == id || self.sides.get(at).is_some_and(|sides| sides.contains(id));
        match (self.line.commits.iter().position(brings), end) {
            (Some(at), End::Included) => at + 1,
            (Some(at), End::Excluded) => at,
            // The floor, or below it.
            (None, _) => 0,
        }
    }

    /// The sets to remember: those that were, and the newer ones that the first commits of the line bring.
    pub(super) fn adopted(&self, first: usize) -> Option<Vec<AdoptedSet>> {
        if !self.anchored {
            return None;
        }
        let known = self.stored.in_force().0;
        let brought = &self.line.commits[..first];
        let mut sets = self.scene.adopted.to_vec();
        sets.extend(
            self.sets
                .adopted()
                .filter(|set| set.serial > known)
                .take_while(|set| set.by.as_ref().is_none_or(|by| brought.contains(by)))
                .cloned(),
        );
        let too_many = sets.len().saturating_sub(KEPT_SETS);
        sets.drain(..too_many);
        (sets != self.scene.adopted).then_some(sets)
    }

    /// The serial in force for the commit the device goes to.
    pub(super) fn serial_for(&self, target: &CommitId) -> u64 {
        let mut adopted = self.scene.adopted.iter().rev();
        let stored = match adopted.next() {
            Some(last) if last.by.as_ref() == Some(target) => {
                adopted.next().map_or(0, |set| set.serial)
            }
            Some(last) => last.serial,
            None => 0,
        };
        if self.ancestry.is_settled(target) {
            // What was in force at the floor includes what the floor itself has brought.
            return stored;
        }
        self.serial_at_parent(target).max(stored)
    }

    pub(super) fn serial_at_parent(&self, id: &CommitId) -> u64 {
        self.ancestry
            .first_parent(id)
            .and_then(|parent| self.after.get(parent))
            .copied()
            .unwrap_or(self.before)
    }

    /// Who is trusted with that serial.
    pub(super) fn signers(&self, serial: u64) -> &AllowedSigners {
        self.sets
            .at_serial(serial)
            .or_else(|| self.stored.at_serial(serial))
            .unwrap_or_else(|| self.stored.in_force().1)
    }
}
