//! One signature, one commit, one keyring: whether it counts, and as whose.

use pgp::packet::SignatureType;

use super::certificate::{Certificate, Standing, Which};
use super::facts::{self, Facts, Hash, NotRead};
use super::keyring::Keyring;
use super::{Account, Failed, NamedKey, armor};
use crate::domain::revision::Timestamp;
use crate::trust::commit::Commit;
use crate::trust::verdict::Reason;

/// The largest armor taken: an RSA signature of 8192 bits needs 2 KiB, and GnuPG can put a key beside it.
const MAX_ARMOR: usize = 32 * 1024;

/// How much later than its signature a commit may be dated, in seconds: no honest clock differs by more in between.
const MOST_AHEAD: i64 = 24 * 60 * 60;

/// Tag of a signature packet.
const SIGNATURE: u8 = 2;

pub(super) fn judge(
    keyring: &Keyring,
    armored: &[u8],
    commit: &Commit,
    time_floor: Timestamp,
) -> Account {
    let mut account = Account {
        passed: Vec::new(),
        key: None,
        principal: None,
        failed: None,
    };
    account.failed = account.run(keyring, armored, commit, time_floor).err();
    account
}

impl Account {
    fn run(
        &mut self,
        keyring: &Keyring,
        armored: &[u8],
        commit: &Commit,
        time_floor: Timestamp,
    ) -> Result<(), Failed> {
        let input = format!("{} bytes of armor", armored.len());
        let signature = read(armored).map_err(|error| match error {
            NotRead::Malformed(why) => failed(
                "signature",
                &input,
                Reason::BadSignature,
                format!("the signature is malformed: {why}"),
            ),
            NotRead::Unsupported(what) => failed(
                "signature",
                &input,
                Reason::Unsupported,
                format!("{what} is not taken"),
            ),
        })?;
        let named = signature.issuer.shown();
        self.key = named.clone().map(|fingerprint| NamedKey {
            fingerprint,
            key_type: None,
        });
        let Some(named) = named else {
            let message = "the signature does not say whose key it is by".to_owned();
            return Err(failed("signature", &input, Reason::UnknownKey, message));
        };
        self.passed(
            "signature",
            input,
            format!("an OpenPGP signature by {named}"),
        );
        self.hash(&signature)?;
        self.content_mode(&signature, commit)?;

        let mut candidates = keyring
            .certificates()
            .iter()
            .flat_map(|certificate| {
                certificate
                    .named_by(&signature.issuer)
                    .map(move |which| (certificate, which))
            })
            .peekable();
        if candidates.peek().is_none() {
            let message = format!("its OpenPGP key {named} is not in {}", keyring.file());
            let input = format!("{named} in {}", keyring.file());
            return Err(failed("signer", &input, Reason::UnknownKey, message));
        }
        // Two certificates may hold the same key, one of them without a right to it.
        let mut first = None;
        for (certificate, which) in candidates {
            let mut attempt = self.clone();
            match attempt.by(certificate, which, &signature, commit, time_floor, keyring) {
                Ok(()) => {
                    *self = attempt;
                    return Ok(());
                }
                Err(why) => first = first.or(Some((attempt, why))),
            }
        }
        match first {
            Some((attempt, why)) => {
                *self = attempt;
                Err(why)
            }
            None => Ok(()),
        }
    }

    fn by(
        &mut self,
        certificate: &Certificate,
        which: Which,
        signature: &Facts,
        commit: &Commit,
        time_floor: Timestamp,
        keyring: &Keyring,
    ) -> Result<(), Failed> {
        let fingerprint = certificate.fingerprint_of(which);
        let key_type = certificate.key_type(which);
        self.key = Some(NamedKey {
            fingerprint: fingerprint.clone(),
            key_type: key_type.as_ref().ok().cloned(),
        });
        self.principal = certificate.principal(0).map(str::to_owned);
        let shown = match which {
            Which::Primary => fingerprint,
            Which::Subkey(_) => format!("{fingerprint}, a subkey of {}", certificate.fingerprint()),
        };
        let input = format!("{shown} in {}", keyring.file());
        match certificate.standing(which) {
            Standing::InUse => self.passed("revocation", input.clone(), "not revoked"),
            Standing::Revoked => {
                let message =
                    format!("its OpenPGP key {shown} is revoked; sign it again with a key in use");
                return Err(failed("revocation", &input, Reason::Revoked, message));
            }
        }
        let key_type = key_type.map_err(|why| {
            let message = format!("its signature is by {why}, which is not taken");
            failed("signer", &input, Reason::Unsupported, message)
        })?;
        let content = format!("{} signed bytes", commit.payload.len());
        if !certificate.made(which, signature, &commit.payload) {
            let message =
                "the signature does not fit the commit's content and the key it names".to_owned();
            return Err(failed("content", &content, Reason::BadSignature, message));
        }
        let made = Timestamp(i64::try_from(signature.created).unwrap_or(i64::MAX));
        self.passed(
            "content",
            content,
            format!("the signature fits; made {made}"),
        );

        // A date in the commit or in the signature, which its maker chose, does not make an old key young again.
        let at = commit.time.max(made).max(time_floor);
        let permit = certificate
            .permit(which, at)
            .map_err(|(reason, why)| failed("signer", &input, reason, why))?;
        self.principal = Some(permit.principal.clone());
        self.passed(
            "signer",
            input,
            format!("{key_type} of {}", permit.principal),
        );
        let window = format!("key of {} at {at}", permit.principal);
        if signature.created < permit.from {
            let message = format!("it was signed {made}, and its key is younger than that");
            return Err(failed("window", &window, Reason::KeyNotYetValid, message));
        }
        let now = u64::try_from(at.0).unwrap_or(0);
        if let Some(until) = permit.until.filter(|until| now >= *until) {
            let until = Timestamp(i64::try_from(until).unwrap_or(i64::MAX));
            let message = format!(
                "its key counted until {until}, and it is {at} or later now; sign it again with a key in use, or renew \
                 that one in {}",
                keyring.file()
            );
            return Err(failed("window", &window, Reason::KeyExpired, message));
        }
        if let Some(until) = signature.expires.filter(|until| now >= *until) {
            let until = Timestamp(i64::try_from(until).unwrap_or(i64::MAX));
            let message = format!(
                "its signature says of itself that it counts until {until}, and it is {at} or later now"
            );
            return Err(failed("window", &window, Reason::KeyExpired, message));
        }
        if commit.time.0.saturating_sub(made.0) > MOST_AHEAD {
            let message = format!(
                "it is dated {}, and its signature was made before that, {made}",
                commit.time
            );
            return Err(failed("window", &window, Reason::BadSignature, message));
        }
        self.passed("window", window, "the key is in its time");
        Ok(())
    }

    fn passed(&mut self, name: &'static str, input: String, found: impl Into<String>) {
        self.passed.push((name, input, found.into()));
    }

    fn hash(&mut self, signature: &Facts) -> Result<(), Failed> {
        match &signature.hash {
            Hash::Good => Ok(()),
            Hash::Weak(name) => {
                let message = format!(
                    "an OpenPGP signature over {name} is not taken: sign with SHA-256 or better"
                );
                Err(failed("hash", name, Reason::Unsupported, message))
            }
        }
    }

    /// A signature in text mode fits whatever the ends of lines are, and so more than one content.
    fn content_mode(&mut self, signature: &Facts, commit: &Commit) -> Result<(), Failed> {
        let message = match signature.kind {
            SignatureType::Binary => return Ok(()),
            SignatureType::Text if !commit.payload.contains(&b'\r') => return Ok(()),
            SignatureType::Text => {
                "an OpenPGP signature in text mode is not taken where there are carriage returns"
                    .to_owned()
            }
            other => format!(
                "an OpenPGP signature of type {:#04x} is not one over content",
                u8::from(other)
            ),
        };
        Err(failed("mode", "signature", Reason::Unsupported, message))
    }
}

/// Reads the one signature packet that an armor holds.
fn read(armored: &[u8]) -> Result<Facts, NotRead> {
    if armored.len() > MAX_ARMOR {
        return Err(NotRead::Malformed("it is far longer than any signature"));
    }
    if !armored.starts_with(b"-----BEGIN PGP SIGNATURE-----") {
        return Err(NotRead::Unsupported(
            "OpenPGP armor of another kind than a detached signature".to_owned(),
        ));
    }
    let bytes = armor::signature(armored).map_err(NotRead::Malformed)?;
    let packets = armor::packets(&bytes, 2).map_err(NotRead::Malformed)?;
    match packets.as_slice() {
        [packet] if packet.tag == SIGNATURE => facts::signature(packet.body),
        [packet] => Err(NotRead::Unsupported(format!(
            "an OpenPGP packet of type {} in place of a signature",
            packet.tag
        ))),
        [] => Err(NotRead::Malformed("it is empty")),
        [..] => Err(NotRead::Malformed("it holds more than one packet")),
    }
}

fn failed(check: &'static str, input: &str, reason: Reason, message: String) -> Failed {
    Failed {
        check,
        input: input.to_owned(),
        reason,
        message,
    }
}
