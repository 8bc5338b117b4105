//! Whether a signature may speak: the one set of rules for whatever is signed, a commit or anything else.
//!
//! The key is not revoked, a line of the trust set names it (or the authority of its certificate, which vouches for it),
//! the signature is its own over these bytes and in this namespace, the line allows the namespace, a security key was
//! touched, the window of line and certificate is open, and who signs is one of those who are asked for. Fails closed at
//! the first of these that does not hold, and writes each down.

use super::allowed_signers::{AllowedSigners, SignerLine};
use super::certificate::{Certificate, NotVouched, Verification};
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
        let vouching = self.vouched()?;
        let presence = self.content()?;
        let principal = self.permitted(&lines, presence, vouching)?;
        let signature = self.statement.signature;
        Ok(Signer {
            principal,
            fingerprint: signature.key().fingerprint(),
            key_type: signature.key_type(),
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

    /// Neither its key, nor its certificate, nor that one's authority counts no more.
    fn not_revoked(&mut self) -> Result<(), Box<Denied>> {
        let signature = self.statement.signature;
        let input = format!("{} among {}", signature.key(), self.revoked.describe());
        if let Some(what) = self.revoked.revokes(signature) {
            let message = format!("{what} is revoked; sign it again with a key in use");
            return Err(self.denied("revocation", input, Reason::Revoked, message));
        }
        self.passed("revocation", input, "not revoked");
        Ok(())
    }

    /// The key speaks for somebody, or the authority of its certificate does.
    fn known(&mut self) -> Result<Vec<&'a SignerLine>, Box<Denied>> {
        let signers = self.signers;
        let signature = self.statement.signature;
        let certificate = signature.certificate();
        let (lines, input): (Vec<&SignerLine>, String) = match certificate {
            None => {
                let key = signature.key();
                let lines = signers.lines_of(key).collect();
                (lines, format!("{key} in {}", signers.file()))
            }
            Some(certificate) => {
                let authority = certificate.authority();
                let lines = signers.lines_certifying(authority).collect();
                let input = format!("cert-authority {authority} in {}", signers.file());
                (lines, input)
            }
        };
        if lines.is_empty() {
            let mut message = match certificate {
                None => format!(
                    "its key {} is not among the signers of {}",
                    signature.key(),
                    signers.file()
                ),
                Some(certificate) => format!(
                    "the authority of its certificate {certificate} is no cert-authority of {}",
                    signers.file()
                ),
            };
            if !signers.skipped().is_empty() {
                message.push_str("; lines of it that could not be used:");
                for line in signers.skipped().iter().take(3) {
                    message.push_str(&format!(" {line};"));
                }
            }
            return Err(self.denied("signer", input, Reason::UnknownKey, message));
        }
        self.principal = lines.iter().find_map(|line| match certificate {
            None => line.principal().map(str::to_owned),
            Some(certificate) => line.certified(certificate).map(str::to_owned),
        });
        let found = lines
            .iter()
            .map(|line| format!("{}: {}", line.place(), line.principals.join(",")))
            .collect::<Vec<_>>()
            .join("; ");
        self.passed("signer", input, found);
        Ok(lines)
    }

    /// The certificate, where there is one, is its authority's, for users, on conditions that can be kept to, and counts
    /// now.
    fn vouched(&mut self) -> Result<Vouching<'a>, Box<Denied>> {
        let Some(certificate) = self.statement.signature.certificate() else {
            return Ok(Vouching::Line);
        };
        let input = certificate.to_string();
        let authority = match certificate.vouched() {
            Ok(presence) => presence,
            Err(error) => {
                let reason = match &error {
                    NotVouched::Forged | NotVouched::Malformed => Reason::BadSignature,
                    NotVouched::NotForUsers => Reason::UnknownKey,
                    NotVouched::Unsupported(_) | NotVouched::CriticalOption(_) => {
                        Reason::Unsupported
                    }
                };
                let message = format!("its certificate {certificate} does not count: {error}");
                return Err(self.denied("certificate", input, reason, message));
            }
        };
        // As with the windows of lines.
        let made = self.statement.made;
        let window = certificate.window();
        if !certificate.has_begun(made) {
            let message = format!(
                "it is dated {made}, and its certificate {certificate} counts from {window}"
            );
            return Err(self.denied("certificate", input, Reason::KeyNotYetValid, message));
        }
        let at = self.at();
        if certificate.is_over(at) {
            let message = format!(
                "its certificate {certificate} counted from {window}, and it is {at} or later now; sign it again with one \
                 that counts"
            );
            return Err(self.denied("certificate", input, Reason::KeyExpired, message));
        }
        let found = format!(
            "vouched for, from {window}, as {}",
            match certificate.principals() {
                [] => "nobody".to_owned(),
                names => names.join(", "),
            }
        );
        self.passed("certificate", input, found);
        Ok(Vouching::Certificate {
            certificate,
            authority,
        })
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
        vouching: Vouching<'_>,
    ) -> Result<String, Box<Denied>> {
        let at = self.at();
        let mut farthest: Option<(Step, Reason, String, String)> = None;
        for line in lines {
            match self.permits(line, presence, vouching) {
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
        vouching: Vouching<'_>,
    ) -> Result<String, (Step, Reason, String)> {
        let refuse = |step, reason, message: String| Err((step, reason, message));
        if let Vouching::Certificate { certificate, .. } = vouching
            && line.certified(certificate).is_none()
        {
            let message = format!(
                "its certificate {certificate} is for {}, and its authority may certify {}",
                match certificate.principals() {
                    [] => "nobody".to_owned(),
                    names => names.join(", "),
                },
                line.principals.join(",")
            );
            return refuse(Step::Principal, Reason::UnknownKey, message);
        }
        let namespace = self.statement.namespace;
        if !line.allows_namespace(namespace) {
            let message = format!("its key may not sign for `{namespace}`");
            return refuse(Step::Namespace, Reason::WrongNamespace, message);
        }
        if let Some(message) = untouched(line, presence, vouching) {
            return refuse(Step::Touch, Reason::BadSignature, message.to_owned());
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
        let principal = match (vouching, self.among) {
            (Vouching::Line, Among::Everyone) => line.principal(),
            (Vouching::Line, Among::Only { signers, .. }) => line.principal_among(signers),
            (Vouching::Certificate { certificate, .. }, Among::Everyone) => {
                line.certified(certificate)
            }
            (Vouching::Certificate { certificate, .. }, Among::Only { signers, .. }) => {
                line.certified_among(certificate, signers)
            }
        };
        principal.map(str::to_owned).ok_or_else(|| {
            let names = match vouching {
                Vouching::Line => line.principals.join(","),
                Vouching::Certificate { certificate, .. } => certificate.principals().join(","),
            };
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

/// What says whom the key speaks for.
#[derive(Clone, Copy)]
enum Vouching<'a> {
    /// The line itself.
    Line,
    /// A certificate, by an authority that the line names.
    Certificate {
        certificate: &'a Certificate,
        /// Whether the authority's security key was touched.
        authority: Presence,
    },
}

/// Why a security key's word is not enough, where it is not. A certificate can only take away what its line gives.
fn untouched(
    line: &SignerLine,
    presence: Presence,
    vouching: Vouching<'_>,
) -> Option<&'static str> {
    let (touch, verification) = match vouching {
        Vouching::Line => (line.touch, Verification::NotRequired),
        Vouching::Certificate {
            certificate,
            authority,
        } => {
            if let (Presence::NotTouched, Touch::Required) = (authority, line.touch) {
                return Some("the authority's security key was not touched for its certificate");
            }
            let touch = match (line.touch, certificate.touch()) {
                (Touch::NotRequired, Touch::NotRequired) => Touch::NotRequired,
                (Touch::Required, _) | (_, Touch::Required) => Touch::Required,
            };
            (touch, certificate.verification())
        }
    };
    match (presence, touch, verification) {
        (Presence::NotTouched, Touch::Required, _) => {
            Some("the security key was not touched for this signature")
        }
        (
            Presence::NotTouched | Presence::Touched | Presence::NotAsked,
            _,
            Verification::Required,
        ) => Some(
            "its certificate asks for a security key that knows who touches it (verify-required), and none said so",
        ),
        (Presence::NotTouched, Touch::NotRequired, Verification::NotRequired)
        | (Presence::Touched | Presence::NotAsked, _, Verification::NotRequired)
        | (Presence::Verified, _, _) => None,
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
    Principal,
    Namespace,
    Touch,
    Window,
    Among,
}

#[cfg(test)]
#[path = "admission/certified.rs"]
mod certified;
#[cfg(test)]
#[path = "admission/lines.rs"]
mod lines;
#[cfg(test)]
#[path = "admission/tests.rs"]
mod tests;
