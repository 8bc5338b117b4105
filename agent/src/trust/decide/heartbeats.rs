//! Heartbeats: commits that change nothing, by keys that may do nothing else.

use super::{Court, Stop};
use crate::domain::revision::CommitId;
use crate::trust::inquiry::Role;
use crate::trust::sshsig::ArmoredSignature;
use crate::trust::verdict::Refused;

/// Whether a commit is a heartbeat.
pub(super) enum Beat {
    No,
    Good,
    Refused(Box<Refused>),
}

impl Court<'_> {
    /// The newest commit that is no heartbeat.
    pub(super) fn below_heartbeats(&mut self) -> Result<CommitId, Stop> {
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
    pub(super) fn beat(&mut self, id: &CommitId, serial: u64, role: Role) -> Result<Beat, Stop> {
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
    pub(super) fn has_shape_of_heartbeat(&self, id: &CommitId) -> bool {
        match (self.ancestry.commit(id), self.ancestry.parents(id)) {
            (Some(commit), [parent]) => self
                .ancestry
                .commit(parent)
                .is_some_and(|parent| parent.tree == commit.tree),
            (Some(_) | None, _) => false,
        }
    }

    /// Whether the key that the signature names is one for heartbeats. Whether the signature is good is another question.
    pub(super) fn names_heartbeat_key(&self, id: &CommitId) -> bool {
        let signature = self
            .ancestry
            .commit(id)
            .and_then(|commit| commit.signature.as_deref())
            .and_then(|armor| ArmoredSignature::parse(armor).ok());
        let signers = self.signers(self.serial_for(id));
        signature.is_some_and(|signature| signers.may_speak_as(&signature, &self.policy.heartbeat))
    }
}
