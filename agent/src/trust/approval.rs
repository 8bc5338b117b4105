//! Approvals: who else has signed that this tree may follow that commit on this branch.
//!
//! An approval is an SSH signature in a namespace of its own over [`statement`]: the fleet's name, the branch, the tree,
//! and the commit that the branch was at, heartbeats aside. So one that was given for another fleet, branch or tree, or
//! before the branch moved on, is over other bytes and counts for nothing. It travels in the message of the commit that
//! it approves, as a trailer: `Fleet-Approval: <fleet> <base64 of the signature>`.
//!
//! Each approval is judged by the rules for every signature, at the time of the commit that carries it. What counts is
//! how many people must have taken part: a key counts only where none of the names it may sign as has counted already,
//! and a key that may only say that a branch is alive counts for nobody. Limits: [`MAX_APPROVALS`].

use super::admission::{Among, Statement};
use super::allowed_signers::{AllowedSigners, Role};
use super::commit::Commit;
use super::pattern;
use super::policy::{Signer, TrustPolicy};
use super::sshsig::ArmoredSignature;
use crate::domain::commit::{Descent, RawCommit};
use crate::domain::revision::{CommitId, Timestamp, TreeId};
use crate::domain::text::decode_base64;

/// The namespace that approvals are signed in.
pub const APPROVAL_NAMESPACE: &str = "evenkeel-approval";

/// The trailer that carries an approval.
pub const APPROVAL_TRAILER: &str = "Fleet-Approval";

/// The trailer that makes a commit a heartbeat, with the time it was made.
pub const HEARTBEAT_TRAILER: &str = "Fleet-Heartbeat";

/// How many approvals of one commit are looked at: more than any policy asks for, and each costs a device some
/// milliseconds at most.
pub const MAX_APPROVALS: usize = 64;

/// How every signature begins in base64: its mark, `SSHSIG`.
pub(crate) const MARK: &str = "U1NIU0lH";

/// The bytes that an approval is a signature over. `base` is the commit the branch is at, heartbeats aside; `None` for a
/// branch that has none yet.
#[must_use]
pub fn statement(fleet: &str, branch: &str, tree: &TreeId, base: Option<&CommitId>) -> String {
    let none = "0".repeat(tree.as_str().len());
    let base = base.map_or(none.as_str(), CommitId::as_str);
    format!("evenkeel-approval v1\nfleet {fleet}\nbranch {branch}\ntree {tree}\nbase {base}\n")
}

/// Whether a commit, by its own bytes, could be a heartbeat: it has one parent and says so. It is one in shape where its
/// tree is its parent's too.
#[must_use]
pub fn says_heartbeat(commit: &Commit) -> bool {
    commit.parents.len() == 1
        && commit
            .trailers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case(HEARTBEAT_TRAILER))
}

/// The commit that this one was put on: its first parent, or the nearest ancestor of that which is no heartbeat. `read`
/// gives the bytes of a commit.
///
/// # Errors
/// The commit whose bytes would be needed and are not there, or are not a commit.
pub fn base(
    commit: &Commit,
    read: &dyn Fn(&CommitId) -> Option<Vec<u8>>,
) -> Result<Option<CommitId>, CommitId> {
    commit
        .parents
        .first()
        .map(|first| below_heartbeats(first, read))
        .transpose()
}

/// As [`base`], of a commit by its id.
///
/// # Errors
/// As [`base`].
pub fn base_of(
    id: &CommitId,
    read: &dyn Fn(&CommitId) -> Option<Vec<u8>>,
) -> Result<Option<CommitId>, CommitId> {
    base(&parsed(id, read)?, read)
}

/// This commit, or where it is a heartbeat in shape (see [`says_heartbeat`]) the nearest ancestor that is none.
///
/// # Errors
/// As [`base`].
pub fn below_heartbeats(
    id: &CommitId,
    read: &dyn Fn(&CommitId) -> Option<Vec<u8>>,
) -> Result<CommitId, CommitId> {
    let mut id = id.clone();
    let mut at = parsed(&id, read)?;
    while says_heartbeat(&at) {
        let below = at.parents[0].clone();
        let parent = parsed(&below, read)?;
        if parent.tree != at.tree {
            break;
        }
        (id, at) = (below, parent);
    }
    Ok(id)
}

fn parsed(id: &CommitId, read: &dyn Fn(&CommitId) -> Option<Vec<u8>>) -> Result<Commit, CommitId> {
    let bytes = read(id).ok_or_else(|| id.clone())?;
    let raw = RawCommit {
        id: id.clone(),
        bytes,
        descent: Descent::NoFloor,
    };
    Commit::parse(&raw).map_err(|_| id.clone())
}

/// Who has signed for a commit, its own signer included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Approvals {
    /// The principals that count.
    pub counted: Vec<String>,
    /// What does not count, and why; one sentence each.
    pub rejected: Vec<String>,
}

impl Approvals {
    /// Whether they are as many as policy asks for.
    #[must_use]
    pub fn suffice(&self, policy: &TrustPolicy) -> bool {
        self.counted.len() >= policy.approvals
    }

    /// Why they do not suffice, and the next move.
    #[must_use]
    pub fn shortfall(&self, policy: &TrustPolicy, id: &CommitId) -> String {
        let who = if self.counted.is_empty() {
            "nobody whose signature counts has signed".to_owned()
        } else {
            format!("only {} signed", self.counted.join(", "))
        };
        let rejected: String = self.rejected.iter().map(|why| format!("; {why}")).collect();
        format!(
            "trust.approvals asks for {} distinct principals, and {who}{rejected}; let others run `evenkeel approve --branch \
             {} {}` and add what it prints with `git commit --amend --no-edit -S --trailer '...'`",
            policy.approvals,
            policy.branch,
            id.short()
        )
    }
}

/// One signature that is good by itself.
struct Voice {
    /// What it is, in messages.
    what: String,
    signer: Signer,
    /// Every name its key may sign as.
    names: Vec<String>,
}

/// Counts who has signed for this commit: `own`, its own signer, and whose approvals it carries. `base` is what [`base`]
/// says. `signers` is the set in force for it.
#[must_use]
pub fn count(
    policy: &TrustPolicy,
    signers: &AllowedSigners,
    commit: &Commit,
    own: &Signer,
    base: Option<&CommitId>,
    time_floor: Timestamp,
) -> Approvals {
    let mut rejected = Vec::new();
    let mut voices = vec![Voice {
        what: "the commit's own signature".to_owned(),
        names: names(signers, own),
        signer: own.clone(),
    }];
    let carried = commit
        .trailers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(APPROVAL_TRAILER));
    for (number, (_, value)) in carried.enumerate() {
        let what = format!("approval {}", number + 1);
        if number >= MAX_APPROVALS {
            rejected.push(format!("{what} and those behind it are not looked at"));
            break;
        }
        match judge(policy, signers, commit, value, base, time_floor) {
            Ok(signer) => voices.push(Voice {
                what,
                names: names(signers, &signer),
                signer,
            }),
            Err(why) => rejected.push(format!("{what} does not count: {why}")),
        }
    }
    tally(policy, voices, rejected)
}

/// Every name that the key of this signer may sign as. A key of one person under a second name, and a second key under
/// the first, make one person.
fn names(signers: &AllowedSigners, signer: &Signer) -> Vec<String> {
    let mut names = vec![signer.principal.clone()];
    for line in signers.lines() {
        if line.role == Role::Signer && line.key.fingerprint() == signer.fingerprint {
            let positive = line.principals.iter().filter(|name| !name.starts_with('!'));
            names.extend(positive.cloned());
        }
    }
    names.sort();
    names.dedup();
    names
}

/// One approval, judged by itself.
fn judge(
    policy: &TrustPolicy,
    signers: &AllowedSigners,
    commit: &Commit,
    value: &str,
    base: Option<&CommitId>,
    time_floor: Timestamp,
) -> Result<Signer, String> {
    let (fleet, digits) = value
        .find(MARK)
        .map(|at| value.split_at(at))
        .ok_or("it is not a fleet's name and the base64 of an SSH signature")?;
    let fleet = fleet.trim();
    if fleet.is_empty() {
        return Err("it names no fleet".to_owned());
    }
    if let Some(wanted) = policy.fleet.as_deref().filter(|wanted| *wanted != fleet) {
        let fleet = fleet.escape_debug();
        return Err(format!(
            "it is for fleet `{fleet}`, and trust.fleet is `{wanted}`"
        ));
    }
    // A long trailer may have been folded: blanks are not part of it.
    let digits = digits.bytes().filter(|byte| !matches!(byte, b' ' | b'\t'));
    let blob = decode_base64(digits).ok_or("its signature is not base64")?;
    let signature = ArmoredSignature::from_blob(&blob).map_err(|error| error.to_string())?;
    let message = statement(fleet, &policy.branch, &commit.tree, base);
    let statement = Statement {
        signature: &signature,
        message: message.as_bytes(),
        namespace: APPROVAL_NAMESPACE,
        made: commit.time,
        time_floor,
    };
    let purpose = format!("branch `{}` (trust.branches)", policy.branch);
    let among = match &policy.branch_signers {
        Some(signers) => Among::Only {
            signers,
            purpose: &purpose,
        },
        None => Among::Everyone,
    };
    signers
        .admit(&statement, &policy.revoked, among)
        .map_err(|denied| {
            let by = denied
                .principal
                .as_deref()
                .map_or_else(|| denied.key.to_string(), str::to_owned);
            // A signature that does not fit is most often one for something else.
            let hint = if signature.verify(message.as_bytes()).is_err() {
                let base = base.map_or("no commit", CommitId::short);
                format!(
                    "; it would have to be for fleet `{}`, branch `{}`, tree {}, on top of {base}",
                    fleet.escape_debug(),
                    policy.branch,
                    commit.tree.short(),
                )
            } else {
                String::new()
            };
            format!("by {by}: {}{hint}", denied.message)
        })
}

/// Counts each person once. Keys with the fewest names go first, so that a key shared by many does not use up the names
/// of those who also signed with their own; the order in which approvals were added decides nothing.
fn tally(policy: &TrustPolicy, voices: Vec<Voice>, mut rejected: Vec<String>) -> Approvals {
    let mut voices: Vec<(usize, Voice)> = voices.into_iter().enumerate().collect();
    let broad = |voice: &Voice| voice.names.iter().any(|name| pattern::is_pattern(name));
    voices.sort_by_key(|(at, voice)| (broad(voice), voice.names.len(), *at));
    let mut taken: Vec<&Voice> = Vec::new();
    let mut counted: Vec<(usize, String)> = Vec::new();
    for (at, voice) in &voices {
        let (what, principal) = (&voice.what, &voice.signer.principal);
        let heartbeat = policy.heartbeat.iter().map(String::as_str);
        if voice
            .names
            .iter()
            .any(|name| pattern::matches_list(name, heartbeat.clone()))
        {
            rejected.push(format!(
                "{what}, by {principal}, does not count: trust.heartbeat's signers may only say that the branch is alive"
            ));
            continue;
        }
        let same_key = taken
            .iter()
            .find(|other| other.signer.fingerprint == voice.signer.fingerprint);
        let same_name = taken.iter().find(|other| {
            let overlaps = |name: &String| {
                other
                    .names
                    .iter()
                    .any(|known| pattern::overlap(name, known))
            };
            voice.names.iter().any(overlaps)
        });
        match (same_key, same_name) {
            (Some(other), _) => rejected.push(format!(
                "{what}, by {principal}, does not count: its key has counted as {} with {}",
                other.signer.principal, other.what
            )),
            (None, Some(other)) => rejected.push(format!(
                "{what}, by {principal}, does not count: its key may sign as {}, who counted with {}",
                voice.names.join(","),
                other.what
            )),
            (None, None) => {
                counted.push((*at, principal.clone()));
                taken.push(voice);
            }
        }
    }
    counted.sort();
    Approvals {
        counted: counted.into_iter().map(|(_, name)| name).collect(),
        rejected,
    }
}

#[cfg(test)]
#[path = "approval/tests.rs"]
mod tests;
