//! What trust says of a commit, and how it came to it.

use std::fmt;

use super::verified::VerifiedCommit;
use crate::domain::revision::CommitId;

/// Why a commit is trusted or refused: stable words, shared by `verify --json`, conditions and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Trusted.
    Ok,
    /// It carries no signature.
    Unsigned,
    /// The object is malformed, or the signature does not fit it.
    BadSignature,
    /// The key speaks for nobody.
    UnknownKey,
    /// Signed for another purpose than git commits, or by a key that may not sign these.
    WrongNamespace,
    /// The key's time is over.
    KeyExpired,
    /// The key's time has not begun.
    KeyNotYetValid,
    /// The key is revoked.
    Revoked,
    /// A signature or an object of a form that this version does not take.
    Unsupported,
    /// It does not descend from the floor.
    NotDescendant,
    /// Not for this branch, or not by one of its signers.
    WrongBranch,
    /// Fewer have signed than policy asks for.
    TooFewApprovals,
    /// Dated before its parents, or after now, by more than a day.
    BadDate,
}

impl Reason {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unsigned => "unsigned",
            Self::BadSignature => "bad-signature",
            Self::UnknownKey => "unknown-key",
            Self::WrongNamespace => "wrong-namespace",
            Self::KeyExpired => "key-expired",
            Self::KeyNotYetValid => "key-not-yet-valid",
            Self::Revoked => "revoked",
            Self::Unsupported => "unsupported",
            Self::NotDescendant => "not-descendant",
            Self::WrongBranch => "wrong-branch",
            Self::TooFewApprovals => "too-few-approvals",
            Self::BadDate => "bad-date",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A commit that policy does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// The commit.
    pub commit: CommitId,
    /// Never [`Reason::Ok`].
    pub reason: Reason,
    /// For people, with the next move.
    pub message: String,
    /// As whom the key signs, where it is known.
    pub principal: Option<String>,
    /// The key named in the signature, as `ssh-keygen -l` prints it, or an OpenPGP fingerprint in upper-case digits. Known
    /// does not mean that the signature fits it.
    pub fingerprint: Option<String>,
    /// That key's type.
    pub key_type: Option<String>,
}

/// What trust says of a commit.
#[derive(Debug)]
pub enum Verdict {
    /// Policy allows it.
    Trusted(Box<VerifiedCommit>),
    /// Policy does not.
    Refused(Box<Refused>),
    /// Its signature is good, and whether it descends from the floor is not known, for this reason: fetch more history.
    Undecided(String),
}

/// One check, for who wants to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// What it was checked on.
    pub input: String,
    /// How it came out.
    pub result: CheckResult,
}

/// How a check came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckResult {
    /// Good, with what was found.
    Passed(String),
    /// Not good, and why.
    Failed(String),
    /// Policy does not ask for it, or it cannot be told.
    NotJudged(String),
}

/// A verdict with the checks that led to it, in their order; the last one decided.
#[derive(Debug)]
pub struct Examination {
    /// The checks.
    pub checks: Vec<Check>,
    /// The verdict.
    pub verdict: Verdict,
}
