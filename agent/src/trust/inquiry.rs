//! The examination of one commit: the checks in their order, each written down.

use super::admission::{Among, Statement, reason_of};
use super::allowed_signers::AllowedSigners;
use super::approval;
use super::commit::{Commit, CommitError};
use super::openpgp::is_openpgp;
use super::policy::{BRANCH_TRAILER, Binding, Signer, TrustPolicy};
use super::sshsig::{ArmoredSignature, GIT_NAMESPACE};
use super::verdict::{Check, CheckResult, Examination, Reason, Refused, Verdict};
use super::verified::VerifiedCommit;
use crate::domain::commit::{Descent, RawCommit};
use crate::domain::revision::{CommitId, Timestamp};

mod by_openpgp;

/// Seconds by which dates may differ from what is known: people's clocks and time zones are wrong by hours. One day.
const DATE_SLACK: i64 = 24 * 60 * 60;

enum Proof {
    Commit(VerifiedCommit),
    HistoryMissing(String),
}

struct Failure {
    reason: Reason,
    message: String,
}

/// As what a commit is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// On the branch's line of first parents: branch signers, binding and approvals count.
    Mainline,
    /// Merged into it: any signer will do.
    Side,
    /// On the line, only to say that the branch is alive.
    Heartbeat,
    /// The same of a branch that was merged.
    SideHeartbeat,
}

impl Role {
    /// For people.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Mainline => "on the branch",
            Self::Side => "merged into the branch",
            Self::Heartbeat => "a heartbeat on the branch",
            Self::SideHeartbeat => "a heartbeat merged into the branch",
        }
    }
}

/// Whether a commit is judged as the one to go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JudgedFor {
    /// As the one to go to: it must descend from the floor.
    Itself,
    /// For the sake of another: that one's descent counts.
    Another,
}

/// What one commit is judged by.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) policy: &'a TrustPolicy,
    /// The trust set in force for it.
    pub(super) signers: &'a AllowedSigners,
    pub(super) raw: &'a RawCommit,
    pub(super) role: Role,
    pub(super) judged_for: JudgedFor,
    /// The dates of those of its parents that are here.
    pub(super) parents: &'a [(CommitId, Timestamp)],
    /// The bytes of other commits, where they are here.
    pub(super) read: Read<'a>,
    /// The time, where the clock is known to be right.
    pub(super) clock: Option<Timestamp>,
}

/// The state of one examination.
pub(super) struct Inquiry<'a> {
    policy: &'a TrustPolicy,
    task: Task<'a>,
    raw: &'a RawCommit,
    checks: Vec<Check>,
    fingerprint: Option<String>,
    key_type: Option<String>,
    principal: Option<String>,
}

/// Gives the bytes of other commits, where it has them.
pub(super) type Read<'a> = &'a dyn Fn(&CommitId) -> Option<Vec<u8>>;

impl<'a> Inquiry<'a> {
    pub(super) const fn new(task: Task<'a>) -> Self {
        Self {
            policy: task.policy,
            raw: task.raw,
            task,
            checks: Vec::new(),
            fingerprint: None,
            key_type: None,
            principal: None,
        }
    }

    /// Makes the checks, up to the first that fails.
    pub(super) fn finish(mut self, time_floor: Timestamp) -> Examination {
        let verdict = match self.run(time_floor) {
            Ok(Proof::Commit(commit)) => Verdict::Trusted(Box::new(commit)),
            Ok(Proof::HistoryMissing(why)) => Verdict::Undecided(why),
            Err(Failure { reason, message }) => Verdict::Refused(Box::new(Refused {
                commit: self.raw.id.clone(),
                reason,
                message,
                principal: self.principal.take(),
                fingerprint: self.fingerprint.take(),
                key_type: self.key_type.take(),
            })),
        };
        Examination {
            checks: self.checks,
            verdict,
        }
    }

    fn run(&mut self, time_floor: Timestamp) -> Result<Proof, Failure> {
        let commit = self.object()?;
        self.dated(&commit)?;
        let signer = match commit.signature.as_deref() {
            Some(armor) if is_openpgp(armor) => self.openpgp(armor, &commit, time_floor)?,
            Some(_) | None => {
                let signature = self.signature(&commit)?;
                self.fingerprint = Some(signature.key().fingerprint());
                self.key_type = Some(signature.key_type());
                let signer = self.admitted(&signature, &commit, time_floor)?;
                self.not_a_heartbeat_key(&signature, &signer)?;
                signer
            }
        };
        self.principal = Some(signer.principal.clone());
        match self.task.role {
            Role::Mainline => {
                self.bound(&commit)?;
                if let Some(missing) = self.approved(&commit, &signer, time_floor)? {
                    return Ok(Proof::HistoryMissing(missing));
                }
            }
            Role::Heartbeat => self.bound(&commit)?,
            Role::Side | Role::SideHeartbeat => {}
        }
        self.descent(commit, signer)
    }

    fn passed(&mut self, name: &'static str, input: impl Into<String>, found: impl Into<String>) {
        self.checks.push(Check {
            name,
            input: input.into(),
            result: CheckResult::Passed(found.into()),
        });
    }

    fn not_judged(&mut self, name: &'static str, input: impl Into<String>, why: impl Into<String>) {
        self.checks.push(Check {
            name,
            input: input.into(),
            result: CheckResult::NotJudged(why.into()),
        });
    }

    fn failed(
        &mut self,
        name: &'static str,
        input: impl Into<String>,
        reason: Reason,
        message: impl Into<String>,
    ) -> Failure {
        let message = message.into();
        self.checks.push(Check {
            name,
            input: input.into(),
            result: CheckResult::Failed(message.clone()),
        });
        let message = format!("commit {}: {message}", self.raw.id.short());
        Failure { reason, message }
    }

    /// The bytes are those of the id, and a commit as git writes it.
    fn object(&mut self) -> Result<Commit, Failure> {
        let input = format!("{} ({} bytes)", self.raw.id, self.raw.bytes.len());
        match Commit::parse(self.raw) {
            Ok(commit) => {
                let found = format!(
                    "well formed; tree {}, committed {}",
                    commit.tree, commit.time
                );
                self.passed("object", input, found);
                Ok(commit)
            }
            Err(error) => {
                let reason = match &error {
                    CommitError::TooLarge { .. } => Reason::Unsupported,
                    CommitError::WrongId { .. }
                    | CommitError::Collision
                    | CommitError::Malformed(_)
                    | CommitError::Signature(_) => Reason::BadSignature,
                };
                Err(self.failed("object", input, reason, error.to_string()))
            }
        }
    }

    /// Its date is believable beside its parents' and beside a clock that is known to be right. Without such a clock nothing
    /// is refused for its date: a device with none still decides, and a parent dated far ahead takes nothing with it.
    fn dated(&mut self, commit: &Commit) -> Result<(), Failure> {
        let input = format!("committed {}", commit.time);
        let Some(now) = self.task.clock else {
            self.not_judged("date", input, "the clock here is not known to be right");
            return Ok(());
        };
        let latest = Timestamp(now.0.saturating_add(DATE_SLACK));
        if commit.time > latest {
            let message = format!(
                "it is dated {}, more than a day after now ({now}); set the clock of the machine it was made on, and make it again",
                commit.time
            );
            return Err(self.failed("date", input, Reason::BadDate, message));
        }
        for (parent, time) in self.task.parents {
            // A parent whose own date is ahead of now says nothing about this one.
            if *time <= latest && commit.time.0.saturating_add(DATE_SLACK) < time.0 {
                let message = format!(
                    "it is dated {}, more than a day before its parent {} ({time}); make it again, with the right date",
                    commit.time,
                    parent.short()
                );
                return Err(self.failed("date", input, Reason::BadDate, message));
            }
        }
        let found = format!("not before its parents, and not after now ({now})");
        self.passed("date", input, found);
        Ok(())
    }

    /// A key that may say that the branch is alive may do nothing else.
    fn not_a_heartbeat_key(
        &mut self,
        signature: &ArmoredSignature,
        signer: &Signer,
    ) -> Result<(), Failure> {
        let heartbeat = &self.policy.heartbeat;
        let named = self.task.signers.may_speak_as(signature, heartbeat)
            || heartbeat.contains(&signer.principal);
        let beats = match self.task.role {
            Role::Heartbeat | Role::SideHeartbeat => true,
            Role::Mainline | Role::Side => false,
        };
        if named && !beats {
            let key = signature.key();
            let message = format!(
                "its key {key} may only make heartbeats (trust.heartbeat): commits that change nothing, on top of one parent"
            );
            return Err(self.failed("permission", key.to_string(), Reason::UnknownKey, message));
        }
        Ok(())
    }

    /// There is a signature, in a form that is understood.
    fn signature(&mut self, commit: &Commit) -> Result<ArmoredSignature, Failure> {
        let Some(armor) = &commit.signature else {
            return Err(self.failed(
                "signature",
                "the commit's headers",
                Reason::Unsigned,
                "it carries no signature; sign it with `git commit --amend --no-edit -S`",
            ));
        };
        let input = format!("{} bytes of armor", armor.len());
        let signature = match ArmoredSignature::parse(armor) {
            Ok(signature) => signature,
            Err(error) => {
                let reason = reason_of(&error);
                return Err(self.failed("signature", input, reason, error.to_string()));
            }
        };
        self.passed(
            "signature",
            input,
            match signature.certificate() {
                Some(certificate) => format!(
                    "an SSH signature by {}, with certificate {certificate}",
                    signature.key()
                ),
                None => format!("an SSH signature by {}", signature.key()),
            },
        );
        Ok(signature)
    }

    /// Its key may sign this, at this time, for this branch.
    fn admitted(
        &mut self,
        signature: &ArmoredSignature,
        commit: &Commit,
        time_floor: Timestamp,
    ) -> Result<Signer, Failure> {
        let purpose = format!("branch `{}` (trust.branches)", self.policy.branch);
        let among = match (self.task.role, &self.policy.branch_signers) {
            (Role::Heartbeat | Role::SideHeartbeat, _) => Among::Only {
                signers: &self.policy.heartbeat,
                purpose: "a heartbeat (trust.heartbeat)",
            },
            (Role::Mainline, Some(signers)) => Among::Only {
                signers,
                purpose: &purpose,
            },
            (Role::Mainline, None) | (Role::Side, _) => Among::Everyone,
        };
        let statement = Statement {
            signature,
            message: &commit.payload,
            namespace: GIT_NAMESPACE,
            made: commit.time,
            time_floor,
        };
        let admission = self
            .task
            .signers
            .consider(&statement, &self.policy.revoked, among);
        self.checks.extend(admission.checks);
        admission.outcome.map_err(|denied| {
            self.principal = denied.principal;
            Failure {
                reason: denied.reason,
                message: format!("commit {}: {}", self.raw.id.short(), denied.message),
            }
        })
    }

    /// The signed message names the branch, where policy asks for it.
    fn bound(&mut self, commit: &Commit) -> Result<(), Failure> {
        let branch = self.policy.branch.clone();
        let named: Vec<&str> = commit
            .trailers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(BRANCH_TRAILER))
            .map(|(_, value)| value.as_str())
            .collect();
        let input = if named.is_empty() {
            format!("no {BRANCH_TRAILER} trailer")
        } else {
            format!("{BRANCH_TRAILER}: {}", named.join(", "))
        };
        match self.policy.binding {
            Binding::NotRequired => {
                self.not_judged("branch", input, "trust.bind_branch is not set")
            }
            Binding::Required if !named.is_empty() && named.iter().all(|name| *name == branch) => {
                self.passed("branch", input, "made for this branch");
            }
            Binding::Required => {
                let message = format!(
                    "its message does not say that it is for branch `{branch}` ({input}); mend it with `git -c \
                     trailer.ifexists=replace commit --amend --no-edit -S --trailer '{BRANCH_TRAILER}: {branch}'`"
                );
                return Err(self.failed("branch", input, Reason::WrongBranch, message));
            }
        }
        Ok(())
    }

    /// As many have signed for it as policy asks for. Where that cannot be told without more history, it says why.
    fn approved(
        &mut self,
        commit: &Commit,
        own: &Signer,
        time_floor: Timestamp,
    ) -> Result<Option<String>, Failure> {
        if self.policy.approvals <= 1 {
            self.not_judged("approvals", "1", "trust.approvals is not set");
            return Ok(None);
        }
        let base = match approval::base(commit, self.task.read) {
            Ok(base) => base,
            Err(missing) => {
                let why = format!(
                    "what {} was put on is not known: commit {} is not here",
                    self.raw.id.short(),
                    missing.short()
                );
                self.not_judged("approvals", "its first parent", why.clone());
                return Ok(Some(why));
            }
        };
        let signers = self.task.signers;
        let approvals =
            approval::count(self.policy, signers, commit, own, base.as_ref(), time_floor);
        let input = format!(
            "{} asked for, on top of {}",
            self.policy.approvals,
            base.as_ref().map_or("nothing", CommitId::short)
        );
        if approvals.suffice(self.policy) {
            self.passed("approvals", input, approvals.counted.join(", "));
            Ok(None)
        } else {
            let message = approvals.shortfall(self.policy, &self.raw.id);
            Err(self.failed("approvals", input, Reason::TooFewApprovals, message))
        }
    }

    /// It descends from the floor.
    fn descent(&mut self, commit: Commit, signer: Signer) -> Result<Proof, Failure> {
        if self.task.judged_for == JudgedFor::Another {
            let proof = VerifiedCommit::new(self.raw.id.clone(), commit, signer);
            return Ok(Proof::Commit(proof));
        }
        match &self.raw.descent {
            Descent::Same => self.passed("descent", "the floor", "it is the floor itself"),
            Descent::Descends => {
                self.passed("descent", "the floor", "the floor is among its ancestors")
            }
            Descent::NoFloor => match &self.policy.pin {
                None => self.not_judged("descent", "no floor", "there is nothing to descend from"),
                Some(pin) => {
                    let why = format!(
                        "whether {} descends from the pin {} is not known",
                        self.raw.id.short(),
                        pin.short()
                    );
                    self.not_judged("descent", format!("pin {pin}"), why.clone());
                    return Ok(Proof::HistoryMissing(why));
                }
            },
            Descent::Unknown(why) => {
                let why = format!(
                    "whether {} descends from the floor is not known: {why}",
                    self.raw.id.short()
                );
                self.not_judged("descent", "the floor", why.clone());
                return Ok(Proof::HistoryMissing(why));
            }
            Descent::NotDescendant => {
                return Err(self.failed(
                    "descent",
                    "the floor",
                    Reason::NotDescendant,
                    "it does not descend from the commit this device is at; put the change on top of that one",
                ));
            }
        }
        Ok(Proof::Commit(VerifiedCommit::new(
            self.raw.id.clone(),
            commit,
            signer,
        )))
    }
}
