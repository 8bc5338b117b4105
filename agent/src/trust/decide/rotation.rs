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
        self.before = self.older.in_force().0;
        if let Some(floor) = self.floor_set() {
            self.before = match self.offered(None, &floor) {
                Offer::Adopted(found) | Offer::Known(found) => self.before.max(found),
                Offer::Nothing | Offer::Lower(_) | Offer::Refused(_) => self.before,
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
        let offer = self.offered(Some(carrier), folder);
        let (result, serial) = match &offer {
            Offer::Nothing | Offer::Lower(_) => return serial,
            Offer::Known(found) if *found <= serial => return serial,
            Offer::Known(found) | Offer::Adopted(found) => {
                (CheckResult::Passed(offer.to_string()), *found)
            }
            Offer::Refused(why) => (CheckResult::NotJudged(why.clone()), serial),
        };
        self.checks.push(Check {
            name: "trust-set",
            input: format!("in commit {}", id.short()),
            result,
        });
        serial
    }

    /// Offers a set. One that was adopted stays what it was on whatever line: another of its serial is none, and what is
    /// newer must be signed by root as the newest has it. Only what was forgotten is found from one set to the next again;
    /// nothing that a device goes to is judged by that.
    fn offered(&mut self, by: Option<Carrier<'_>>, folder: &TrustFolder) -> Offer {
        let offer = self.sets.offer(by, folder);
        let remembered = self.scene.adopted.first().map_or(0, |set| set.serial);
        match offer {
            Offer::Lower(serial)
                if serial < remembered && self.scene.adopted.len() >= KEPT_SETS =>
            {
                self.older.offer(by, folder)
            }
            Offer::Nothing
            | Offer::Lower(_)
            | Offer::Known(_)
            | Offer::Adopted(_)
            | Offer::Refused(_) => offer,
        }
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
        let known = self.scene.adopted.last().map_or(0, |set| set.serial);
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
        // It may have brought several.
        let mut adopted = self.scene.adopted.iter().rev();
        let stored = adopted
            .find(|set| set.by.as_ref() != Some(target))
            .map_or(0, |set| set.serial);
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
            .or_else(|| self.older.at_serial(serial))
            .unwrap_or_else(|| self.sets.in_force().1)
    }
}
