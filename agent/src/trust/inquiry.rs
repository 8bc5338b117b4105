//! The examination of one commit: the checks in their order, each written down.

use super::allowed_signers::SignerLine;
use super::commit::{Commit, CommitError};
use super::key::Key;
use super::policy::{BRANCH_TRAILER, Binding, Signer, TrustPolicy};
use super::sshsig::{ArmoredSignature, GIT_NAMESPACE, Presence, SignatureError, Touch};
use super::verdict::{Check, CheckResult, Examination, Reason, Refused, Verdict};
use super::verified::VerifiedCommit;
use crate::domain::commit::{Descent, RawCommit};
use crate::domain::revision::Timestamp;

enum Proof {
    Commit(VerifiedCommit),
    HistoryMissing(String),
}

struct Failure {
    reason: Reason,
    message: String,
}

/// The state of one examination.
pub(super) struct Inquiry<'a> {
    policy: &'a TrustPolicy,
    raw: &'a RawCommit,
    checks: Vec<Check>,
    key: Option<Key>,
    principal: Option<String>,
}

impl<'a> Inquiry<'a> {
    pub(super) const fn new(policy: &'a TrustPolicy, raw: &'a RawCommit) -> Self {
        Self {
            policy,
            raw,
            checks: Vec::new(),
            key: None,
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
                fingerprint: self.key.as_ref().map(Key::fingerprint),
                key_type: self.key.as_ref().map(Key::key_type),
            })),
        };
        Examination {
            checks: self.checks,
            verdict,
        }
    }

    fn run(&mut self, time_floor: Timestamp) -> Result<Proof, Failure> {
        let commit = self.object()?;
        let signature = self.signature(&commit)?;
        self.key = Some(signature.key().clone());
        self.not_revoked(signature.key())?;
        let lines = self.known(signature.key())?;
        let presence = self.content(&signature, &commit)?;
        let principal = self.admitted(&lines, &commit, presence, time_floor)?;
        self.principal = Some(principal.clone());
        self.bound(&commit)?;
        let signer = Signer {
            principal,
            fingerprint: signature.key().fingerprint(),
            key_type: signature.key().key_type(),
        };
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

    /// There is a signature, in a form that is understood, made for git.
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
                let reason = match &error {
                    SignatureError::Unsupported(_) => Reason::Unsupported,
                    SignatureError::Malformed(_) | SignatureError::Wrong => Reason::BadSignature,
                };
                return Err(self.failed("signature", input, reason, error.to_string()));
            }
        };
        self.passed(
            "signature",
            input,
            format!("an SSH signature by {}", signature.key()),
        );
        let namespace = signature.namespace().escape_debug().to_string();
        if signature.namespace() != GIT_NAMESPACE {
            self.key = Some(signature.key().clone());
            let message = format!("it is signed for `{namespace}`, not for `{GIT_NAMESPACE}`");
            return Err(self.failed("namespace", namespace, Reason::WrongNamespace, message));
        }
        self.passed("namespace", namespace, "made for git");
        Ok(signature)
    }

    fn not_revoked(&mut self, key: &Key) -> Result<(), Failure> {
        let input = format!("{key} among {} revoked keys", self.policy.revoked.len());
        if self.policy.revoked.contains(key) {
            let message = format!("its key {key} is revoked; sign it again with a key in use");
            return Err(self.failed("revocation", input, Reason::Revoked, message));
        }
        self.passed("revocation", input, "not revoked");
        Ok(())
    }

    /// The key speaks for somebody.
    fn known(&mut self, key: &Key) -> Result<Vec<SignerLine>, Failure> {
        let signers = &self.policy.signers;
        let lines: Vec<SignerLine> = signers.lines_of(key).cloned().collect();
        let input = format!("{key} in {}", signers.file());
        let Some(first) = lines.first() else {
            let mut message = format!(
                "its key {key} is not among the signers of {}",
                signers.file()
            );
            if !signers.skipped().is_empty() {
                message.push_str("; lines of it that could not be used:");
                for line in signers.skipped().iter().take(3) {
                    message.push_str(&format!(" {line};"));
                }
            }
            return Err(self.failed("signer", input, Reason::UnknownKey, message));
        };
        self.principal = first.principal().map(str::to_owned);
        let found = lines
            .iter()
            .map(|line| format!("line {}: {}", line.line, line.principals.join(",")))
            .collect::<Vec<_>>()
            .join("; ");
        self.passed("signer", input, found);
        Ok(lines)
    }

    /// The signature is the key's, over this content.
    fn content(
        &mut self,
        signature: &ArmoredSignature,
        commit: &Commit,
    ) -> Result<Presence, Failure> {
        let input = format!("{} signed bytes", commit.payload.len());
        match signature.verify(&commit.payload) {
            Ok(presence) => {
                self.passed("content", input, "the signature fits");
                Ok(presence)
            }
            Err(error) => {
                let reason = match &error {
                    SignatureError::Unsupported(_) => Reason::Unsupported,
                    SignatureError::Malformed(_) | SignatureError::Wrong => Reason::BadSignature,
                };
                Err(self.failed("content", input, reason, error.to_string()))
            }
        }
    }

    /// One of the key's lines allows this commit. Where none does, the one that came farthest says why.
    fn admitted(
        &mut self,
        lines: &[SignerLine],
        commit: &Commit,
        presence: Presence,
        time_floor: Timestamp,
    ) -> Result<String, Failure> {
        let mut farthest: Option<(Step, Reason, String, usize)> = None;
        for line in lines {
            match self.admits(line, commit, presence, time_floor) {
                Ok(principal) => {
                    let input = format!("line {} at {}", line.line, commit.time.max(time_floor));
                    self.passed("permission", input, format!("may sign as {principal}"));
                    return Ok(principal);
                }
                Err((step, reason, message)) => {
                    if farthest.as_ref().is_none_or(|(best, ..)| step > *best) {
                        farthest = Some((step, reason, message, line.line));
                    }
                }
            }
        }
        Err(match farthest {
            Some((_, reason, message, line)) => {
                let input = format!("line {line} at {}", commit.time.max(time_floor));
                let message = format!("{message} ({}:{line})", self.policy.signers.file());
                self.failed("permission", input, reason, message)
            }
            None => self.failed(
                "permission",
                "no line",
                Reason::UnknownKey,
                "its key speaks for nobody",
            ),
        })
    }

    fn admits(
        &self,
        line: &SignerLine,
        commit: &Commit,
        presence: Presence,
        time_floor: Timestamp,
    ) -> Result<String, (Step, Reason, String)> {
        let refuse = |step, reason, message: String| Err((step, reason, message));
        if !line.allows_namespace(GIT_NAMESPACE) {
            let message = format!("its key may not sign for `{GIT_NAMESPACE}`");
            return refuse(Step::Namespace, Reason::WrongNamespace, message);
        }
        match (presence, line.touch) {
            (Presence::NotTouched, Touch::Required) => {
                let message = "the security key was not touched for this signature".to_owned();
                return refuse(Step::Touch, Reason::BadSignature, message);
            }
            (Presence::NotTouched, Touch::NotRequired)
            | (Presence::Touched | Presence::NotAsked, _) => {}
        }
        // A commit dated before the window is refused as git does it, and one in it does not outlive the window's end
        // by its date alone.
        if let Some(after) = line.valid_after.filter(|after| commit.time < *after) {
            let message = format!(
                "it is dated {}, and its key counts from {after} on",
                commit.time
            );
            return refuse(Step::Window, Reason::KeyNotYetValid, message);
        }
        let at = commit.time.max(time_floor);
        if let Some(before) = line.valid_before.filter(|before| at > *before) {
            let message = format!(
                "its key counted until {before}, and it is {at} or later now; sign it again with a key in use"
            );
            return refuse(Step::Window, Reason::KeyExpired, message);
        }
        let principal = match &self.policy.branch_signers {
            Some(signers) => line.principal_among(signers),
            None => line.principal(),
        };
        principal.map(str::to_owned).ok_or_else(|| {
            let message = format!(
                "{} may not sign branch `{}`: trust.branches names {}",
                line.principals.join(","),
                self.policy.branch,
                self.policy
                    .branch_signers
                    .as_deref()
                    .unwrap_or_default()
                    .join(", ")
            );
            (Step::Branch, Reason::WrongBranch, message)
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
                    "its message does not say that it is for branch `{branch}` ({input}); mend it with `git commit --amend \
                     --no-edit -S --trailer '{BRANCH_TRAILER}: {branch}'`"
                );
                return Err(self.failed("branch", input, Reason::WrongBranch, message));
            }
        }
        Ok(())
    }

    /// It descends from the floor.
    fn descent(&mut self, commit: Commit, signer: Signer) -> Result<Proof, Failure> {
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

/// How far a line came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Namespace,
    Touch,
    Window,
    Branch,
}
