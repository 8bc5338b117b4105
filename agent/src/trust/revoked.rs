//! What counts no more: an OpenSSH KRL, or a file of public keys, one a line.
//!
//! Fails closed: a line that cannot be read refuses the file, since it may be the very key to revoke; so does anything
//! wrong with a KRL. A file without anything in it is a list of nobody, as for OpenSSH.

use super::certificate::{Certificate, CertificateError};
use super::key::{Key, KeyError};
use super::krl::{self, Krl, KrlError};
use super::signature::SignatureError;
use super::sshsig::ArmoredSignature;
use crate::domain::text::decode_base64;

/// The largest file taken.
const MAX_FILE: usize = 4 * 1024 * 1024;

/// Why a file does not say what is revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevokedError {
    /// A KRL that cannot be gone by.
    #[error("{file} is a key revocation list, and {why}; nothing is trusted until it is put right")]
    Krl {
        /// The file's name.
        file: String,
        /// Why.
        why: KrlError,
    },
    /// Too large.
    #[error("{file} has more than {MAX_FILE} bytes")]
    TooLarge {
        /// The file's name.
        file: String,
    },
    /// A line that is not a key.
    #[error("{file}:{line}: {why}; nothing is trusted until this line is put right")]
    Line {
        /// The file's name.
        file: String,
        /// Counted from 1.
        line: usize,
        /// Why.
        why: String,
    },
}

/// What counts no more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Revoked {
    keys: Vec<Key>,
    list: Option<Krl>,
}

impl Revoked {
    /// Reads a file's bytes: a KRL, or `key-type base64 [comment]`, one a line; blank lines and `#` comments are passed over.
    /// A certificate on a line stands for its key, as for `ssh-keygen`.
    ///
    /// # Errors
    /// See [`RevokedError`].
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, RevokedError> {
        let file = || file.to_owned();
        if bytes.len() > MAX_FILE {
            return Err(RevokedError::TooLarge { file: file() });
        }
        if bytes.starts_with(krl::MAGIC) {
            return match Krl::parse(bytes) {
                Ok(list) => Ok(Self {
                    keys: Vec::new(),
                    list: Some(list),
                }),
                Err(why) => Err(RevokedError::Krl { file: file(), why }),
            };
        }
        let mut keys = Vec::new();
        for (index, bytes) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let bad = |why: String| RevokedError::Line {
                file: file(),
                line: index + 1,
                why,
            };
            let text = std::str::from_utf8(bytes).map_err(|_| bad("it is not UTF-8".to_owned()))?;
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let mut columns = text.split_ascii_whitespace();
            let (Some(key_type), Some(base64)) = (columns.next(), columns.next()) else {
                return Err(bad("it is not `key-type base64`".to_owned()));
            };
            keys.extend(read_key(key_type, base64).map_err(bad)?);
        }
        Ok(Self { keys, list: None })
    }

    /// Whether this key is revoked, as a key.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        self.keys.contains(key) || self.list.as_ref().is_some_and(|list| list.revokes_key(key))
    }

    /// What of a signature's key, certificate and authority is revoked, as in "... is revoked".
    #[must_use]
    pub fn revokes(&self, signature: &ArmoredSignature) -> Option<String> {
        let key = signature.key();
        if self.contains(key) {
            return Some(format!("its key {key}"));
        }
        let certificate = signature.certificate()?;
        if self
            .list
            .as_ref()
            .is_some_and(|list| list.revokes_certificate(certificate))
        {
            return Some(format!("its certificate {certificate}"));
        }
        let authority = certificate.authority();
        self.contains(authority)
            .then(|| format!("the authority {authority} of its certificate"))
    }

    /// What it consists of, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.list {
            Some(list) => format!("a key revocation list, version {}", list.version()),
            None => format!("{} revoked keys", self.keys.len()),
        }
    }
}

/// A line's key; `None` where it can sign nothing here, so that there is nothing to revoke.
fn read_key(key_type: &str, base64: &str) -> Result<Option<Key>, String> {
    let error = match Key::from_columns(key_type, base64) {
        Ok(key) => return Ok(Some(key)),
        Err(KeyError::Unsupported(_)) => return Ok(None),
        Err(error @ KeyError::Malformed(_)) => return Err(error.to_string()),
        Err(error @ KeyError::Certificate(_)) => error.to_string(),
    };
    let blob = decode_base64(base64.bytes()).ok_or(error)?;
    let certificate = match Certificate::from_blob(&blob) {
        Ok(certificate) => certificate,
        Err(CertificateError::Unsupported(_)) => {
            return match Certificate::key_of(&blob) {
                Ok(key) => Ok(Some(key)),
                Err(CertificateError::Unsupported(_)) => Ok(None),
                Err(error @ CertificateError::Malformed(_)) => Err(error.to_string()),
            };
        }
        Err(error @ CertificateError::Malformed(_)) => return Err(error.to_string()),
    };
    if certificate.key_type() != key_type {
        return Err("the type in words is not the type inside".to_owned());
    }
    match certificate.signed_by_authority() {
        Ok(_) | Err(SignatureError::Unsupported(_)) => Ok(Some(certificate.key().clone())),
        Err(SignatureError::Wrong | SignatureError::Malformed(_)) => {
            Err("it is a certificate that its authority did not sign".to_owned())
        }
    }
}
