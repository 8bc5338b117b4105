//! Whether a signature may speak: the one set of rules for whatever is signed, a commit or anything else.
//!
//! The key is not revoked, a line of the trust set names it, the signature is its own over these bytes and in this
//! namespace, the line allows the namespace, a security key was touched, the line's window is open, and who signs is one
//! of those who are asked for. Fails closed at the first of these that does not hold, and writes each down.

use super::allowed_signers::{AllowedSigners, SignerLine};
use super::key::Key;
use super::policy::Signer;
use super::revoked::Revoked;
use super::sshsig::{ArmoredSignature, Presence, SignatureError, Touch};
use super::verdict::{Check, CheckResult, Reason};
use crate::domain::revision::Timestamp;

/// A signature and what it must be over.
#[derive(Debug, Clone, Copy)]
pub struct Statement<'a> {
    /// The signature.
    pub signature: &'a ArmoredSignature,
    /// The bytes it must be over.
    pub message: &'a [u8],
    /// The namespace it must be made in.
    pub namespace: &'a str,
    /// When it says it was made: the time of the commit that it signs, or that carries it.
    pub made: Timestamp,
    /// The latest time that is known to have passed. A window's end is judged at the later of the two.
    pub time_floor: Timestamp,
}

/// Whose signature will do.
#[derive(Debug, Clone, Copy)]
pub enum Among<'a> {
    /// That of anyone in the trust set.
    Everyone,
    /// Theirs alone.
    Only {
        /// Patterns of principals, as in a line of allowed_signers.
        signers: &'a [String],
        /// For what, in messages: "branch `stable` (trust.branches)".
        purpose: &'a str,
    },
}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Denied {
    /// Never [`Reason::Ok`].
    pub reason: Reason,
    /// For people; the subject is the signature or what it signs: "its key ... is revoked".
    pub message: String,
    /// As whom the key signs, where it is known.
    pub principal: Option<String>,
    /// The key named in the signature. Known does not mean that the signature fits it.
    pub key: Key,
}

/// What came of a signature, with the checks that led to it, in their order.
#[derive(Debug)]
pub struct Admission {
    /// The checks.
    pub checks: Vec<Check>,
    /// Who signed.
    pub outcome: Result<Signer, Box<Denied>>,
}

impl AllowedSigners {
    /// Judges a signature by this trust set.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn admit(
        &self,
        statement: &Statement<'_>,
        revoked: &Revoked,
        among: Among<'_>,
    ) -> Result<Signer, Box<Denied>> {
        self.consider(statement, revoked, among).outcome
    }

    /// Judges a signature by this trust set, and says how.
    #[must_use]
    pub fn consider(
        &self,
        statement: &Statement<'_>,
        revoked: &Revoked,
        among: Among<'_>,
    ) -> Admission {
        let mut judgement = Judgement {
            signers: self,
            statement,
            revoked,
            among,
            checks: Vec::new(),
            principal: None,
        };
        let outcome = judgement.run();
        Admission {
            checks: judgement.checks,
            outcome,
        }
    }
}

/// The state of one judgement.
struct Judgement<'a> {
    signers: &'a AllowedSigners,
    statement: &'a Statement<'a>,
    revoked: &'a Revoked,
    among: Among<'a>,
    checks: Vec<Check>,
    principal: Option<String>,
}

impl<'a> Judgement<'a> {
    fn run(&mut self) -> Result<Signer, Box<Denied>> {
        self.namespace()?;
        self.not_revoked()?;
        let lines = self.known()?;
        let presence = self.content()?;
        let principal = self.permitted(&lines, presence)?;
        let key = self.statement.signature.key();
        Ok(Signer {
            principal,
            fingerprint: key.fingerprint(),
            key_type: key.key_type(),
        })
    }

    fn passed(&mut self, name: &'static str, input: impl Into<String>, found: impl Into<String>) {
        self.checks.push(Check {
            name,
            input: input.into(),
            result: CheckResult::Passed(found.into()),
        });
    }

    fn denied(
        &mut self,
        name: &'static str,
        input: impl Into<String>,
        reason: Reason,
        message: impl Into<String>,
    ) -> Box<Denied> {
        let message = message.into();
        self.checks.push(Check {
            name,
            input: input.into(),
            result: CheckResult::Failed(message.clone()),
        });
        Box::new(Denied {
            reason,
            message,
            principal: self.principal.clone(),
            key: self.statement.signature.key().clone(),
        })
    }

    /// It is made for this purpose.
    fn namespace(&mut self) -> Result<(), Box<Denied>> {
        let wanted = self.statement.namespace;
        let found = self.statement.signature.namespace();
        let shown = found.escape_debug().to_string();
        if found != wanted {
            let message = format!("it is signed for `{shown}`, not for `{wanted}`");
            return Err(self.denied("namespace", shown, Reason::WrongNamespace, message));
        }
        self.passed("namespace", shown, format!("made for {wanted}"));
        Ok(())
    }

    fn not_revoked(&mut self) -> Result<(), Box<Denied>> {
        let key = self.statement.signature.key();
        let input = format!("{key} among {} revoked keys", self.revoked.len());
        if self.revoked.contains(key) {
            let message = format!("its key {key} is revoked; sign it again with a key in use");
            return Err(self.denied("revocation", input, Reason::Revoked, message));
        }
        self.passed("revocation", input, "not revoked");
        Ok(())
    }

    /// The key speaks for somebody.
    fn known(&mut self) -> Result<Vec<&'a SignerLine>, Box<Denied>> {
        let signers = self.signers;
        let key = self.statement.signature.key();
        let lines: Vec<&SignerLine> = signers.lines_of(key).collect();
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
            return Err(self.denied("signer", input, Reason::UnknownKey, message));
        };
        self.principal = first.principal().map(str::to_owned);
        let found = lines
            .iter()
            .map(|line| format!("{}: {}", line.place(), line.principals.join(",")))
            .collect::<Vec<_>>()
            .join("; ");
        self.passed("signer", input, found);
        Ok(lines)
    }

    /// The signature is the key's, over this content.
    fn content(&mut self) -> Result<Presence, Box<Denied>> {
        let input = format!("{} signed bytes", self.statement.message.len());
        match self.statement.signature.verify(self.statement.message) {
            Ok(presence) => {
                self.passed("content", input, "the signature fits");
                Ok(presence)
            }
            Err(error) => {
                let reason = reason_of(&error);
                Err(self.denied("content", input, reason, error.to_string()))
            }
        }
    }

    /// One of the key's lines allows it. Where none does, the one that came farthest says why.
    fn permitted(
        &mut self,
        lines: &[&SignerLine],
        presence: Presence,
    ) -> Result<String, Box<Denied>> {
        let at = self.at();
        let mut farthest: Option<(Step, Reason, String, String)> = None;
        for line in lines {
            match self.permits(line, presence) {
                Ok(principal) => {
                    let input = format!("{} at {at}", line.place());
                    self.passed("permission", input, format!("may sign as {principal}"));
                    self.principal = Some(principal.clone());
                    return Ok(principal);
                }
                Err((step, reason, message)) => {
                    if farthest.as_ref().is_none_or(|(best, ..)| step > *best) {
                        farthest = Some((step, reason, message, line.place()));
                    }
                }
            }
        }
        Err(match farthest {
            Some((_, reason, message, place)) => {
                let input = format!("{place} at {at}");
                let message = format!("{message} ({place})");
                self.denied("permission", input, reason, message)
            }
            None => self.denied(
                "permission",
                "no line",
                Reason::UnknownKey,
                "its key speaks for nobody",
            ),
        })
    }

    /// What a window's end is judged at.
    fn at(&self) -> Timestamp {
        self.statement.made.max(self.statement.time_floor)
    }

    fn permits(
        &self,
        line: &SignerLine,
        presence: Presence,
    ) -> Result<String, (Step, Reason, String)> {
        let refuse = |step, reason, message: String| Err((step, reason, message));
        let namespace = self.statement.namespace;
        if !line.allows_namespace(namespace) {
            let message = format!("its key may not sign for `{namespace}`");
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
        // What is dated before the window is refused as git does it, and what is dated in it does not outlive the window's
        // end by its date alone.
        let made = self.statement.made;
        if let Some(after) = line.valid_after.filter(|after| made < *after) {
            let message = format!("it is dated {made}, and its key counts from {after} on");
            return refuse(Step::Window, Reason::KeyNotYetValid, message);
        }
        let at = self.at();
        if let Some(before) = line.valid_before.filter(|before| at > *before) {
            let message = format!(
                "its key counted until {before}, and it is {at} or later now; sign it again with a key in use"
            );
            return refuse(Step::Window, Reason::KeyExpired, message);
        }
        let principal = match self.among {
            Among::Everyone => line.principal(),
            Among::Only { signers, .. } => line.principal_among(signers),
        };
        principal.map(str::to_owned).ok_or_else(|| {
            let names = line.principals.join(",");
            let message = match self.among {
                Among::Everyone => format!("{names} names nobody"),
                Among::Only { signers, purpose } => format!(
                    "{names} may not sign for {purpose}, which is for {}",
                    signers.join(", ")
                ),
            };
            (Step::Among, Reason::WrongBranch, message)
        })
    }
}

/// The word for a signature that could not be read or does not fit.
pub(super) const fn reason_of(error: &SignatureError) -> Reason {
    match error {
        SignatureError::Unsupported(_) => Reason::Unsupported,
        SignatureError::Malformed(_) | SignatureError::Wrong => Reason::BadSignature,
    }
}

/// How far a line came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Namespace,
    Touch,
    Window,
    Among,
}

#[cfg(test)]
#[path = "admission/tests.rs"]
mod tests;
