//! Who may move this device, and to what: what a device trusts, and the door to judging by it.

use std::collections::BTreeMap;
use std::sync::Arc;

use evenkeel_schema::agent_config::{OnUnsigned, RootSection, Verify};
use jiff::tz::TimeZone;

use super::allowed_signers::{AllowedSigners, AllowedSignersError};
use super::forge;
use super::inquiry::{Inquiry, JudgedFor, Role, Task};
use super::openpgp::{Keyring, KeyringError};
use super::revoked::{Revoked, RevokedError};
pub use super::scene::{Anchor, Decision, Memo, Scene};
pub use super::verdict::{Check, CheckResult, Examination, Reason, Refused, Verdict};
use crate::domain::commit::{Descent, Extent, RawCommit};
use crate::domain::revision::{CommitId, NotAnId, Timestamp};

/// The trailer that binds a commit to a branch.
pub const BRANCH_TRAILER: &str = "Fleet-Branch";

/// Whether a commit must name its branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// Its signed message must carry `Fleet-Branch: <branch>`.
    Required,
    /// It need not, and what it says there does not count.
    NotRequired,
}

/// Who signed, as policy sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// As whom.
    pub principal: String,
    /// The key's fingerprint.
    pub fingerprint: String,
    /// The key's type.
    pub key_type: String,
}

/// What a device trusts.
#[derive(Debug, Clone)]
pub struct TrustPolicy {
    /// The trust set.
    pub signers: AllowedSigners,
    /// Keys that count no more.
    pub revoked: Revoked,
    /// The file that lists them, where one is configured.
    pub revoked_file: Option<String>,
    /// The branch that is tracked.
    pub branch: String,
    /// Whether a commit must name it.
    pub binding: Binding,
    /// Who may sign this branch (patterns of principals); `None`: every signer.
    pub branch_signers: Option<Vec<String>>,
    /// Who may sign which branch; for showing it.
    pub branches: BTreeMap<String, Vec<String>>,
    /// The first commit ever taken must descend from this one.
    pub pin: Option<CommitId>,
    /// Which commits are judged.
    pub verify: Verify,
    /// What a refused commit below the tip does.
    pub on_unsigned: OnUnsigned,
    /// How many distinct principals must have signed a tree for the branch; at least 1.
    pub approvals: usize,
    /// Who may only say that the branch is alive (patterns of principals).
    pub heartbeat: Vec<String>,
    /// Who may change the trust set in the repository; `None`: nobody.
    pub root: Option<RootSection>,
    /// The fleet's name, where the owner gave it.
    pub fleet: Option<String>,
    /// Who may sign with OpenPGP; `None`: nobody. Another trust set in the tree does not change it.
    pub openpgp: Option<Arc<Keyring>>,
}

/// A file's name, for diagnostics, and its bytes.
#[derive(Debug, Clone, Copy)]
pub struct NamedBytes<'a> {
    /// The name.
    pub name: &'a str,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// Why there is no policy to judge by.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The trust set.
    #[error(transparent)]
    Signers(#[from] AllowedSignersError),
    /// The revoked keys.
    #[error(transparent)]
    Revoked(#[from] RevokedError),
    /// The keyring.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The pin.
    #[error("trust.pin: {0}")]
    Pin(NotAnId),
    /// Revoked keys are configured, and no file was handed in.
    #[error("trust.revoked is set, and its file was not read: nothing is trusted without it")]
    RevokedMissing,
    /// The trust set's branch list names nobody.
    #[error("trust.branches.{0}: `signers` is empty, so nobody could ever sign this branch")]
    NoBranchSigners(String),
}

impl TrustPolicy {
    /// A policy of a trust set alone: any of its signers, any branch.
    #[must_use]
    pub fn of(signers: AllowedSigners) -> Self {
        Self {
            signers,
            revoked: Revoked::default(),
            revoked_file: None,
            branch: String::new(),
            binding: Binding::NotRequired,
            branch_signers: None,
            branches: BTreeMap::new(),
            pin: None,
            verify: Verify::Tip,
            on_unsigned: OnUnsigned::Hold,
            approvals: 1,
            heartbeat: Vec::new(),
            root: None,
            fleet: None,
            openpgp: None,
        }
    }

    /// The policy of a device: `[trust]` of its configuration, its branch, and the bytes of the files that `[trust]`
    /// names. `zone` is what times without `Z` in allowed_signers are in.
    ///
    /// # Errors
    /// See [`PolicyError`]: each of them means that nothing can be trusted.
    pub fn load(
        section: &evenkeel_schema::agent_config::TrustSection,
        branch: &str,
        allowed_signers: NamedBytes<'_>,
        revoked: Option<NamedBytes<'_>>,
        zone: &TimeZone,
    ) -> Result<Self, PolicyError> {
        let revoked_file = revoked.map(|file| file.name.to_owned());
        let revoked = match (&section.revoked, revoked) {
            (_, Some(file)) => Revoked::parse(file.name, file.bytes)?,
            (None, None) => Revoked::default(),
            (Some(_), None) => return Err(PolicyError::RevokedMissing),
        };
        let branch_signers = section.branches.get(branch).cloned();
        if branch_signers.as_ref().is_some_and(Vec::is_empty) {
            return Err(PolicyError::NoBranchSigners(branch.to_owned()));
        }
        let signers = match AllowedSigners::parse(allowed_signers.name, allowed_signers.bytes, zone)
        {
            // Then the keyring must name somebody.
            Err(AllowedSignersError::Empty { file, skipped })
                if section.openpgp_keyring.is_some() =>
            {
                AllowedSigners::nobody(&file, skipped)
            }
            parsed => parsed?,
        };
        Ok(Self {
            signers,
            revoked,
            revoked_file,
            branch: branch.to_owned(),
            binding: if section.bind_branch {
                Binding::Required
            } else {
                Binding::NotRequired
            },
            branch_signers,
            branches: section.branches.clone(),
            pin: section
                .pin
                .as_ref()
                .map(|pin| pin.parse())
                .transpose()
                .map_err(PolicyError::Pin)?,
            verify: section.verify,
            on_unsigned: section.on_unsigned,
            approvals: section.approvals,
            heartbeat: section.heartbeat.clone(),
            root: section.root.clone(),
            fleet: section.fleet.clone(),
            openpgp: None,
        })
    }

    /// The same policy with signers that use OpenPGP: the bytes of the file that `trust.openpgp_keyring` names.
    ///
    /// # Errors
    /// [`PolicyError::Keyring`]: nothing can be trusted without it.
    pub fn with_keyring(mut self, keyring: NamedBytes<'_>) -> Result<Self, PolicyError> {
        self.openpgp = Some(Arc::new(Keyring::parse(keyring)?));
        Ok(self)
    }

    /// What the owner of the trust set should know: keys that stand for more people than they seem to, and what of the
    /// keyring is not used. (For lines of allowed_signers that are not used, see [`AllowedSigners::skipped`].)
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let file = self.signers.file();
        let lines = self.signers.lines().iter().flat_map(|line| {
            forge::signer_line(line)
                .into_iter()
                .map(move |why| format!("{file}:{}: {why}", line.line))
        });
        let keyring = self.openpgp.iter().flat_map(|keyring| keyring.warnings());
        lines.chain(keyring.cloned()).collect()
    }

    /// How much of the history [`TrustPolicy::decide`] has to see for a tip that descends like this.
    #[must_use]
    pub fn extent(&self, descent: &Descent) -> Extent {
        let walks = self.verify == Verify::EveryCommit
            || self.approvals > 1
            || !self.heartbeat.is_empty()
            || self.root.is_some()
            // A commit of its line may say that it supersedes the floor.
            || *descent == Descent::NotDescendant;
        if walks {
            Extent::SinceFloor
        } else {
            Extent::Parents
        }
    }

    /// Decides which commit of a branch the device should be at.
    #[must_use]
    pub fn decide(&self, scene: Scene<'_>) -> Decision {
        super::decide::decide(self, scene)
    }

    /// Judges a commit. `time_floor` is the latest time that is known to have passed; a key's window is judged at the later
    /// of it and the commit's own time.
    #[must_use]
    pub fn judge(&self, raw: &RawCommit, time_floor: Timestamp) -> Verdict {
        self.examine(raw, time_floor).verdict
    }

    /// Judges a commit, and says how.
    #[must_use]
    pub fn examine(&self, raw: &RawCommit, time_floor: Timestamp) -> Examination {
        self.examine_with(raw, &|_| None, time_floor)
    }

    /// As [`TrustPolicy::examine`], where approvals have to be judged too: those cover the commit that the branch was at,
    /// which is the first parent with heartbeats left out. `read` gives the bytes of those commits.
    #[must_use]
    pub(super) fn examine_with(
        &self,
        raw: &RawCommit,
        read: &dyn Fn(&CommitId) -> Option<Vec<u8>>,
        time_floor: Timestamp,
    ) -> Examination {
        Inquiry::new(Task {
            policy: self,
            signers: &self.signers,
            raw,
            role: Role::Mainline,
            judged_for: JudgedFor::Itself,
            parents: &[],
            read,
            clock: None,
        })
        .finish(time_floor)
    }
}

#[cfg(test)]
#[path = "policy/tests.rs"]
mod tests;
