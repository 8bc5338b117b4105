//! Trust that rotates: the trust sets of the repository, which of them this device has adopted, and the step to the next.
//!
//! A repository may carry `trust/allowed_signers` ([`Document`]) with detached signatures in `trust/allowed_signers.sig`
//! and `trust/allowed_signers.sig.*`: SSH signatures in the namespace [`TRUST_NAMESPACE`] over that file's exact bytes, so
//! fleet, serial and content are all signed, and a set is the same whatever branch or commit carries it. It is adopted
//! where its serial is higher than the one in force, it is for this fleet, it leaves somebody able to sign, and at least
//! `trust.root.threshold` distinct principals of `trust.root.signers` have signed it, judged by the set in force. In force
//! are then all of its lines, and those of the local file that speak for root; the other local lines count no more.
//! Without `[trust.root]` nothing of this is looked at.
//!
//! How a walk over the history uses it: [`Sets::new`] with what the journal remembers; [`Sets::offer`] with the folder of each
//! commit between the floor and the tip, parents first, so that a device which was away walks the chain of rotations,
//! root's own keys among them; then [`Sets::in_force`] for the tip and [`Sets::at_serial`] for a commit that is to be
//! judged by an older set. What [`Offer::Refused`] says of a folder that the tip does not carry is history: worth a check,
//! not a condition.
//!
//! Limits: [`MAX_SIGNATURES`]; a key of the local file that speaks for root stays until that file or `trust.revoked`
//! says otherwise; how many sets are remembered is for who remembers them ([`crate::domain::history::KEPT_SETS`]).

mod document;

use std::fmt;

use evenkeel_schema::agent_config::RootSection;
use jiff::tz::TimeZone;

use super::admission::{Among, Statement};
use super::allowed_signers::{AllowedSigners, AllowedSignersError, SignerLine};
use super::pattern;
use super::policy::{Signer, TrustPolicy};
use super::sshsig::{ArmoredSignature, GIT_NAMESPACE};
use crate::domain::commit::TrustFolder;
use crate::domain::history::AdoptedSet;
use crate::domain::revision::{CommitId, Timestamp};

pub use document::{Document, DocumentError, FILE, Headers, has_headers, serial_of, with_headers};

/// The namespace root signs in.
pub const TRUST_NAMESPACE: &str = "evenkeel-trust";

/// The most signatures beside one set: as many root signers as nobody has, and a bound on the work.
pub const MAX_SIGNATURES: usize = 32;

/// The commit that carries a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carrier<'a> {
    /// Its id.
    pub commit: &'a CommitId,
    /// Its committer's time: a root key's window is judged at it, as that of a commit's signer is.
    pub time: Timestamp,
}

/// What became of a set that the repository carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer {
    /// There is none, or `[trust.root]` is not set.
    Nothing,
    /// It is in force now.
    Adopted(u64),
    /// It is, or was, in force here: the very same file.
    Known(u64),
    /// A newer one is in force.
    Lower(u64),
    /// It is not taken, for this reason.
    Refused(String),
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "no trust set, or none that is looked at"),
            Self::Adopted(serial) => write!(f, "the trust set with serial {serial} is adopted"),
            Self::Known(serial) => write!(f, "the trust set with serial {serial}, adopted before"),
            Self::Lower(serial) => {
                write!(
                    f,
                    "the trust set with serial {serial}; a newer one is in force"
                )
            }
            Self::Refused(why) => f.write_str(why),
        }
    }
}

/// A set that was adopted, and who is trusted with it.
#[derive(Debug, Clone)]
struct Known {
    set: AdoptedSet,
    signers: AllowedSigners,
}

/// The trust sets of one device: the local file, and what was adopted since.
#[derive(Debug, Clone)]
pub struct Sets<'a> {
    policy: &'a TrustPolicy,
    root: Option<&'a RootSection>,
    time_floor: Timestamp,
    /// The one in force last.
    known: Vec<Known>,
}

impl<'a> Sets<'a> {
    /// What is in force: `adopted` as the journal remembers it, which vouches for it.
    #[must_use]
    pub fn new(policy: &'a TrustPolicy, adopted: &[AdoptedSet], time_floor: Timestamp) -> Self {
        let root = policy.root.as_ref();
        let mut known: Vec<Known> = root
            .into_iter()
            .flat_map(|root| {
                adopted.iter().map(move |set| Known {
                    signers: compose(policy, root, &remembered(set)),
                    set: set.clone(),
                })
            })
            .collect();
        known.sort_by_key(|known| known.set.serial);
        Self {
            policy,
            root,
            time_floor,
            known,
        }
    }

    /// The serial of the set in force (0: the local file alone), and who is trusted.
    #[must_use]
    pub fn in_force(&self) -> (u64, &AllowedSigners) {
        match self.known.last() {
            Some(known) => (known.set.serial, &known.signers),
            None => (0, &self.policy.signers),
        }
    }

    /// Who was trusted with that serial; `None` where it was never adopted here, or is forgotten.
    #[must_use]
    pub fn at_serial(&self, serial: u64) -> Option<&AllowedSigners> {
        if serial == 0 {
            return Some(&self.policy.signers);
        }
        self.known
            .iter()
            .find(|known| known.set.serial == serial)
            .map(|known| &known.signers)
    }

    /// Every set that is or was in force, the one in force last.
    pub(super) fn adopted(&self) -> impl Iterator<Item = &AdoptedSet> {
        self.known.iter().map(|known| &known.set)
    }

    /// Offers one set, and adopts it where it is the next. `by`: the commit that carries it.
    pub fn offer(&mut self, by: Option<Carrier<'_>>, folder: &TrustFolder) -> Offer {
        let (Some(root), Some(bytes)) = (self.root, folder.allowed_signers.as_deref()) else {
            return Offer::Nothing;
        };
        let same = |known: &&Known| known.set.content.as_bytes() == bytes;
        if let Some(known) = self.known.iter().find(same) {
            return Offer::Known(known.set.serial);
        }
        let document = match Document::parse(bytes) {
            Ok(document) => document,
            Err(error) => return Offer::Refused(error.to_string()),
        };
        let (current, in_force) = self.in_force();
        if document.serial < current {
            return Offer::Lower(document.serial);
        }
        let made = by.map_or(self.time_floor, |by| by.time);
        let judged = if document.serial == current {
            Err(
                "another set has this serial and is in force; a changed one needs a higher"
                    .to_owned(),
            )
        } else {
            self.for_this_fleet(&document, folder)
                .and_then(|()| self.signed_by_root(root, in_force, folder, bytes, made))
                .and_then(|()| {
                    let signers = compose(self.policy, root, &document.signers);
                    self.leaves_a_signer(&signers).map(|()| signers)
                })
        };
        match judged {
            Ok(signers) => {
                let set = AdoptedSet {
                    serial: document.serial,
                    content: document.content,
                    by: by.map(|by| by.commit.clone()),
                    at: made.max(self.time_floor),
                };
                self.known.push(Known { set, signers });
                Offer::Adopted(document.serial)
            }
            Err(why) => Offer::Refused(format!(
                "{FILE} (serial {}) is not adopted: {why}",
                document.serial
            )),
        }
    }

    /// Its header names the fleet that this device belongs to.
    fn for_this_fleet(&self, document: &Document, folder: &TrustFolder) -> Result<(), String> {
        let (fleet, whose) = match &self.policy.fleet {
            Some(fleet) => (fleet.clone(), "trust.fleet"),
            None => (
                folder
                    .fleet
                    .as_deref()
                    .and_then(name_in)
                    .ok_or("fleet.toml beside it names no fleet")?,
                "fleet.toml",
            ),
        };
        if fleet == document.fleet {
            Ok(())
        } else {
            Err(format!(
                "it is for the fleet `{}`, and {whose} says `{fleet}`",
                document.fleet.escape_debug()
            ))
        }
    }

    /// So many distinct principals of root have signed it, each with a key of its own.
    fn signed_by_root(
        &self,
        root: &RootSection,
        in_force: &AllowedSigners,
        folder: &TrustFolder,
        content: &[u8],
        made: Timestamp,
    ) -> Result<(), String> {
        if folder.signatures.len() > MAX_SIGNATURES {
            return Err(format!(
                "{} signatures stand beside it; at most {MAX_SIGNATURES} are taken",
                folder.signatures.len()
            ));
        }
        let mut signers: Vec<(&String, Signer)> = Vec::new();
        let mut others: Vec<String> = Vec::new();
        for (name, armor) in &folder.signatures {
            let admitted = ArmoredSignature::parse(armor)
                .map_err(|error| error.to_string())
                .and_then(|signature| {
                    let statement = Statement {
                        signature: &signature,
                        message: content,
                        namespace: TRUST_NAMESPACE,
                        made,
                        time_floor: self.time_floor,
                    };
                    let among = Among::Only {
                        signers: &root.signers,
                        purpose: "trust sets (trust.root)",
                    };
                    in_force
                        .admit(&statement, &self.policy.revoked, among)
                        .map_err(|denied| denied.message)
                });
            match admitted {
                Ok(signer) => signers.push((name, signer)),
                Err(why) => others.push(format!("{name}: {why}")),
            }
        }
        // A key that signs as a pattern may be anybody's whom it matches: those with a name of their own come first.
        signers.sort_by_key(|(_, signer)| pattern::is_pattern(&signer.principal));
        let mut principals: Vec<String> = Vec::new();
        let mut keys: Vec<String> = Vec::new();
        for (name, signer) in signers {
            let Signer {
                principal,
                fingerprint,
                ..
            } = signer;
            if let Some(who) = principals.iter().find(|who| may_be_one(who, &principal)) {
                others.push(format!(
                    "{name}: {principal} counts once, and {who} has signed"
                ));
            } else if keys.contains(&fingerprint) {
                others.push(format!("{name}: its key {fingerprint} has signed already"));
            } else {
                principals.push(principal);
                keys.push(fingerprint);
            }
        }
        // A policy that asks for nobody would let anyone in.
        if principals.len() >= root.threshold.max(1) {
            return Ok(());
        }
        let signed = if principals.is_empty() {
            "none has".to_owned()
        } else {
            format!("signed: {}", principals.join(", "))
        };
        let mut why = format!(
            "{} of {} must sign it ({signed}); `evenkeel trust sign` makes a signature",
            root.threshold.max(1),
            root.signers.join(", "),
        );
        for other in &others {
            why.push_str("; ");
            why.push_str(other);
        }
        Err(why)
    }

    /// Somebody could still sign this branch: a set that ends all change here could not be mended by another one either.
    fn leaves_a_signer(&self, signers: &AllowedSigners) -> Result<(), String> {
        let policy = self.policy;
        let can_sign = |line: &SignerLine| {
            let names_one = match &policy.branch_signers {
                Some(branch) => line.principal_among(branch).is_some(),
                None => line.principal().is_some(),
            };
            names_one
                && line.allows_namespace(GIT_NAMESPACE)
                && !line.speaks_only_for(&policy.heartbeat)
                && !policy.revoked.contains(&line.key)
                && line
                    .valid_before
                    .is_none_or(|before| before >= self.time_floor)
        };
        // Who signs with OpenPGP is in no set, and no set takes them away.
        if signers.lines().iter().any(can_sign) || policy.openpgp.is_some() {
            Ok(())
        } else {
            Err(format!(
                "nobody could sign branch `{}` with it: no line has a key in use for `{GIT_NAMESPACE}`",
                policy.branch
            ))
        }
    }
}

/// Whether two principals may be the same one: equal, or a pattern that matches the other. Of two patterns nobody knows.
fn may_be_one(one: &str, other: &str) -> bool {
    match (pattern::is_pattern(one), pattern::is_pattern(other)) {
        (false, false) => one == other,
        (true, false) => pattern::matches(other, one),
        (false, true) => pattern::matches(one, other),
        (true, true) => true,
    }
}

/// Whether a line of the local file stays beside a set of the repository: it speaks for root.
#[must_use]
pub fn speaks_for_root(line: &SignerLine, root: &RootSection) -> bool {
    line.principal_among(&root.signers).is_some()
}

fn compose(policy: &TrustPolicy, root: &RootSection, set: &AllowedSigners) -> AllowedSigners {
    policy
        .signers
        .replaced_by(set, |line| speaks_for_root(line, root))
}

/// The lines of a set that was adopted before. What an agent of another version read and this one cannot is left out and
/// told, as in the local file: it never widens who is trusted.
fn remembered(set: &AdoptedSet) -> AllowedSigners {
    let name = format!("{FILE} (serial {})", set.serial);
    match AllowedSigners::parse(&name, set.content.as_bytes(), &TimeZone::UTC) {
        Ok(signers) => signers,
        Err(AllowedSignersError::Empty { skipped, .. }) => AllowedSigners::nobody(&name, skipped),
        Err(AllowedSignersError::TooLarge { .. }) => AllowedSigners::nobody(&name, Vec::new()),
    }
}

/// The fleet's name in fleet.toml, leniently: what else stands there is judged elsewhere.
fn name_in(fleet_toml: &[u8]) -> Option<String> {
    let table: toml::Table = std::str::from_utf8(fleet_toml).ok()?.parse().ok()?;
    Some(table.get("name")?.as_str()?.to_owned())
}

#[cfg(test)]
#[path = "trust_set/tests.rs"]
mod tests;
