//! SSH certificates (OpenSSH's PROTOCOL.certkeys, version 01), read strictly.
//!
//! Owns the form, the authority's signature over it, and what it says by itself: kind, window, critical options. Whose
//! certificates count is for the trust set. Refuses what is malformed, more than [`MAX_PRINCIPALS`] principals, options out
//! of order or repeated, a certificate as the authority's key, and (when it is [judged](Certificate::vouched)) host
//! certificates and every critical option but `verify-required`: nobody can keep to `force-command` or `source-address`
//! while reading a commit. A principal that is not text, is empty, or has a comma or control character in it names nobody.

use super::key::{Key, KeyError, Strings};
use super::signature::{self, Presence, SignatureError, Touch};
use crate::domain::revision::Timestamp;

/// The largest certificate taken: OpenSSH's principals at their most, with RSA keys of 4096 bits.
const MAX_BLOB: usize = 40 * 1024;

/// The most principals a certificate may name (OpenSSH's SSHKEY_CERT_MAX_PRINCIPALS).
pub const MAX_PRINCIPALS: usize = 256;

const SUFFIX: &str = "-cert-v01@openssh.com";

/// Why bytes are not a certificate that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not a certificate.
    #[error("not a certificate: {0}")]
    Malformed(&'static str),
    /// Of a type or size that is not taken.
    #[error("{0}")]
    Unsupported(String),
}

/// Why a certificate says nothing about its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotVouched {
    /// Its authority did not sign it.
    #[error("its authority's signature does not fit it")]
    Forged,
    /// Its authority's signature is malformed.
    #[error("its authority's signature is malformed")]
    Malformed,
    /// Its authority's signature is of a kind that is not taken.
    #[error("its authority signed it with {0}")]
    Unsupported(String),
    /// It is for hosts.
    #[error("it is not a user certificate")]
    NotForUsers,
    /// A critical option that cannot be kept to.
    #[error("it carries the critical option `{0}`, which cannot be kept to here")]
    CriticalOption(String),
}

/// Whom it speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    User,
    Host,
}

/// Whether signatures must be made by somebody whom the security key knows (critical option `verify-required`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// Yes.
    Required,
    /// No.
    NotRequired,
}

/// A certificate, read and not judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    key: Key,
    serial: u64,
    kind: Kind,
    key_id: Vec<u8>,
    principals: Vec<String>,
    valid_after: u64,
    valid_before: u64,
    verification: Verification,
    /// The first critical option that cannot be kept to.
    unkept: Option<String>,
    touch: Touch,
    authority: Key,
    body: Vec<u8>,
    signature: Vec<u8>,
}

impl Certificate {
    /// Whether a blob begins as a certificate does.
    #[must_use]
    pub fn is_one(blob: &[u8]) -> bool {
        Strings(blob)
            .next_string()
            .is_some_and(|name| name.ends_with(SUFFIX.as_bytes()))
    }

    /// Reads a certificate's wire form.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn from_blob(blob: &[u8]) -> Result<Self, CertificateError> {
        let malformed = CertificateError::Malformed;
        let short = || malformed("it ends too early");
        let (key, mut fields) = subject(blob)?;
        let serial = fields.next_u64().ok_or_else(short)?;
        let kind = match fields.next_u32().ok_or_else(short)? {
            1 => Kind::User,
            2 => Kind::Host,
            _ => return Err(malformed("it is neither for users nor for hosts")),
        };
        let key_id = fields.next_string().ok_or_else(short)?;
        if key_id.contains(&0) {
            return Err(malformed("its key id has a NUL in it"));
        }
        let principals = principals(fields.next_string().ok_or_else(short)?)?;
        let valid_after = fields.next_u64().ok_or_else(short)?;
        let valid_before = fields.next_u64().ok_or_else(short)?;
        let critical = options(fields.next_string().ok_or_else(short)?)?;
        let extensions = options(fields.next_string().ok_or_else(short)?)?;
        let _reserved = fields.next_string().ok_or_else(short)?;
        let authority = fields.next_string().ok_or_else(short)?;
        let authority = Key::from_blob(authority)
            .map_err(|error| key_error(error, "its authority's key cannot be read"))?;
        let body = &blob[..blob.len() - fields.0.len()];
        let signature = fields.next_string().ok_or_else(short)?;
        if !fields.0.is_empty() {
            return Err(malformed("there are bytes behind it"));
        }
        let flag = |(name, value): &NamedOption<'_>, wanted: &str| {
            *name == wanted.as_bytes() && value.is_empty()
        };
        let (kept, unkept): (Vec<_>, Vec<_>) = critical
            .iter()
            .partition(|option| flag(option, "verify-required"));
        Ok(Self {
            key,
            serial,
            kind,
            key_id: key_id.to_vec(),
            principals,
            valid_after,
            valid_before,
            verification: if kept.is_empty() {
                Verification::NotRequired
            } else {
                Verification::Required
            },
            unkept: unkept
                .first()
                .map(|(name, _)| name.escape_ascii().to_string()),
            touch: if extensions
                .iter()
                .any(|option| flag(option, "no-touch-required"))
            {
                Touch::NotRequired
            } else {
                Touch::Required
            },
            authority,
            body: body.to_vec(),
            signature: signature.to_vec(),
        })
    }

    /// The key that a certificate's wire form speaks of, whatever the rest of it is like.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn key_of(blob: &[u8]) -> Result<Key, CertificateError> {
        subject(blob).map(|(key, _)| key)
    }

    /// The key it speaks of.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// Its authority's key. That it signed the certificate is what [`Self::vouched`] tells.
    #[must_use]
    pub const fn authority(&self) -> &Key {
        &self.authority
    }

    /// OpenSSH's name of its type.
    #[must_use]
    pub fn key_type(&self) -> String {
        let plain = self.key.key_type();
        format!("{}{SUFFIX}", plain.trim_end_matches("@openssh.com"))
    }

    /// Its number; 0 where its authority gave none.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// What its authority calls it.
    #[must_use]
    pub fn key_id(&self) -> &[u8] {
        &self.key_id
    }

    /// Whom it speaks for, literally: a `*` in a name is a star.
    #[must_use]
    pub fn principals(&self) -> &[String] {
        &self.principals
    }

    /// Whether signatures must be made by somebody whom the security key knows.
    #[must_use]
    pub const fn verification(&self) -> Verification {
        self.verification
    }

    /// Whether a security key must have been touched; the signer's line has its own word on it.
    #[must_use]
    pub const fn touch(&self) -> Touch {
        self.touch
    }

    /// Whether it counts already at that time.
    #[must_use]
    pub fn has_begun(&self, at: Timestamp) -> bool {
        u64::try_from(at.0).unwrap_or(0) >= self.valid_after
    }

    /// Whether it counts no more at that time. Its last second is the one before, as in OpenSSH.
    #[must_use]
    pub fn is_over(&self, at: Timestamp) -> bool {
        u64::try_from(at.0).unwrap_or(0) >= self.valid_before
    }

    /// From when to when it counts, for people.
    #[must_use]
    pub fn window(&self) -> String {
        let time = |seconds: u64| {
            i64::try_from(seconds)
                .ok()
                .map(|seconds| Timestamp(seconds).to_string())
        };
        let from = match self.valid_after {
            0 => "always".to_owned(),
            seconds => time(seconds).unwrap_or_else(|| "never".to_owned()),
        };
        let to = time(self.valid_before).unwrap_or_else(|| "forever".to_owned());
        format!("{from} to {to}")
    }

    /// Whether its authority's signature fits it.
    pub(super) fn signed_by_authority(&self) -> Result<Presence, SignatureError> {
        signature::verify(&self.authority, &self.body, &self.signature)
    }

    /// Whether its authority signed it, for users, and on no condition that cannot be kept to; and whether the
    /// authority's security key was touched for it.
    ///
    /// # Errors
    /// See [`NotVouched`].
    pub fn vouched(&self) -> Result<Presence, NotVouched> {
        let presence = self.signed_by_authority().map_err(|error| match error {
            SignatureError::Wrong => NotVouched::Forged,
            SignatureError::Malformed(_) => NotVouched::Malformed,
            SignatureError::Unsupported(what) => NotVouched::Unsupported(what),
        })?;
        match self.kind {
            Kind::User => {}
            Kind::Host => return Err(NotVouched::NotForUsers),
        }
        match &self.unkept {
            None => Ok(presence),
            Some(name) => Err(NotVouched::CriticalOption(name.clone())),
        }
    }
}

impl std::fmt::Display for Certificate {
    /// As in "its certificate ...".
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "\"{}\" (serial {}) of authority {}",
            String::from_utf8_lossy(&self.key_id).escape_debug(),
            self.serial,
            self.authority.fingerprint()
        )
    }
}

/// The key it speaks of, and the fields behind it.
fn subject(blob: &[u8]) -> Result<(Key, Strings<'_>), CertificateError> {
    let malformed = CertificateError::Malformed;
    let short = || malformed("it ends too early");
    if blob.len() > MAX_BLOB {
        return Err(malformed("too long"));
    }
    let mut fields = Strings(blob);
    let key_type = fields
        .next_string()
        .and_then(|name| std::str::from_utf8(name).ok())
        .and_then(|name| name.strip_suffix(SUFFIX))
        .ok_or(malformed("it does not begin with a certificate's type"))?;
    let (plain_type, parts) = match key_type {
        "ssh-ed25519" => (&b"\0\0\0\x0bssh-ed25519"[..], 1),
        "ssh-rsa" => (&b"\0\0\0\x07ssh-rsa"[..], 2),
        "ecdsa-sha2-nistp256" => (&b"\0\0\0\x13ecdsa-sha2-nistp256"[..], 2),
        "ecdsa-sha2-nistp384" => (&b"\0\0\0\x13ecdsa-sha2-nistp384"[..], 2),
        "ecdsa-sha2-nistp521" => (&b"\0\0\0\x13ecdsa-sha2-nistp521"[..], 2),
        "sk-ssh-ed25519" => (&b"\0\0\0\x1ask-ssh-ed25519@openssh.com"[..], 2),
        "sk-ecdsa-sha2-nistp256" => (&b"\0\0\0\x22sk-ecdsa-sha2-nistp256@openssh.com"[..], 3),
        other => {
            return Err(CertificateError::Unsupported(format!(
                "certificates of type {}{SUFFIX} are not supported",
                other.escape_debug()
            )));
        }
    };
    let _nonce = fields.next_string().ok_or_else(short)?;
    let before = fields.0;
    for _ in 0..parts {
        fields.next_string().ok_or_else(short)?;
    }
    let own = &before[..before.len() - fields.0.len()];
    let key = Key::from_blob(&[plain_type, own].concat())
        .map_err(|error| key_error(error, "its key cannot be read"))?;
    Ok((key, fields))
}

fn key_error(error: KeyError, malformed: &'static str) -> CertificateError {
    match error {
        KeyError::Malformed(_) | KeyError::Certificate(_) => CertificateError::Malformed(malformed),
        KeyError::Unsupported(why) => CertificateError::Unsupported(why),
    }
}

/// Those of a list of names that can be told from one another in a file of signers.
fn principals(list: &[u8]) -> Result<Vec<String>, CertificateError> {
    let mut fields = Strings(list);
    let mut names = Vec::new();
    for count in 0.. {
        if fields.0.is_empty() {
            break;
        }
        if count == MAX_PRINCIPALS {
            return Err(CertificateError::Malformed("it names too many principals"));
        }
        let name = fields.next_string().ok_or(CertificateError::Malformed(
            "its list of principals ends too early",
        ))?;
        if let Ok(name) = std::str::from_utf8(name)
            && !name.is_empty()
            && !name.chars().any(|c| c == ',' || c.is_control())
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// A name and a value.
type NamedOption<'a> = (&'a [u8], &'a [u8]);

/// A list of options: names and values, in the order of their names and each once. A flag's value is empty.
fn options(list: &[u8]) -> Result<Vec<NamedOption<'_>>, CertificateError> {
    let short = || CertificateError::Malformed("its options end too early");
    let mut fields = Strings(list);
    let mut options: Vec<NamedOption<'_>> = Vec::new();
    while !fields.0.is_empty() {
        let name = fields.next_string().ok_or_else(short)?;
        let value = fields.next_string().ok_or_else(short)?;
        if options.last().is_some_and(|(last, _)| *last >= name) {
            return Err(CertificateError::Malformed(
                "its options are not in order, each once",
            ));
        }
        options.push((name, value));
    }
    Ok(options)
}

#[cfg(test)]
#[path = "certificate/tests.rs"]
mod tests;
