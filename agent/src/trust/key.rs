//! Public keys and the bytes they come in (RFC 4251 strings, base64).

use std::fmt;

use ssh_key::HashAlg;
use ssh_key::public::KeyData;

use crate::domain::text::decode_base64;

/// The largest key blob taken: an RSA key of 16384 bits needs 2 KiB.
const MAX_KEY_BLOB: usize = 8 * 1024;

/// Bits of the smallest RSA key that counts: OpenSSH's own default minimum is smaller (1024), NIST's is this.
pub(super) const MIN_RSA_BITS: usize = 2048;

/// Bits of the largest RSA key the `rsa` crate verifies with.
pub(super) const MAX_RSA_BITS: usize = 4096;

/// A public key, plain: never a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    data: KeyData,
    blob: Vec<u8>,
}

/// Why bytes are not a key that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a key at all.
    #[error("not a public key: {0}")]
    Malformed(&'static str),
    /// A certificate.
    #[error("it is a certificate ({0}), and a plain public key belongs here")]
    Certificate(String),
    /// A key type or size that is not taken.
    #[error("{0}")]
    Unsupported(String),
}

impl Key {
    /// Reads a key's wire form.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn from_blob(blob: &[u8]) -> Result<Self, KeyError> {
        if blob.len() > MAX_KEY_BLOB {
            return Err(KeyError::Malformed("too long"));
        }
        let algorithm = Strings(blob)
            .next_string()
            .and_then(|name| std::str::from_utf8(name).ok())
            .filter(|name| {
                !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_graphic())
            })
            .ok_or(KeyError::Malformed(
                "it does not begin with the name of a key type",
            ))?;
        if algorithm.contains("-cert-") {
            return Err(KeyError::Certificate(algorithm.to_owned()));
        }
        let data = ssh_key::PublicKey::from_bytes(blob)
            .map(KeyData::from)
            .map_err(|_| KeyError::Malformed("its content does not fit its type"))?;
        match &data {
            KeyData::Ed25519(_) | KeyData::SkEd25519(_) => {}
            KeyData::Ecdsa(key) => uncompressed(key.as_sec1_bytes())?,
            KeyData::SkEcdsaSha2NistP256(key) => uncompressed(key.ec_point().as_bytes())?,
            KeyData::Rsa(key) => {
                let bits = key.n.as_positive_bytes().map_or(0, |bytes| {
                    bytes.len() * 8
                        - bytes
                            .first()
                            .map_or(0, |byte| byte.leading_zeros() as usize)
                });
                if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
                    return Err(KeyError::Unsupported(format!(
                        "an RSA key of {bits} bits: {MIN_RSA_BITS} to {MAX_RSA_BITS} are supported"
                    )));
                }
            }
            other => {
                return Err(KeyError::Unsupported(format!(
                    "keys of type {} are not supported",
                    other.algorithm()
                )));
            }
        }
        // One key has one form, or else a key that was revoked by its form could come back in another.
        if ssh_key::PublicKey::from(data.clone()).to_bytes().as_deref() != Ok(blob) {
            return Err(KeyError::Malformed("it is not in its canonical form"));
        }
        Ok(Self {
            data,
            blob: blob.to_vec(),
        })
    }

    /// Reads a public key as OpenSSH prints it: `<type> <base64> <comment>`.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn from_line(line: &str) -> Result<Self, KeyError> {
        let mut columns = line.split_ascii_whitespace();
        match (columns.next(), columns.next()) {
            (Some(key_type), Some(base64)) => Self::from_columns(key_type, base64),
            (_, _) => Err(KeyError::Malformed("it is not a type and a key behind it")),
        }
    }

    /// Reads `<type> <base64>`, the two columns of an OpenSSH public key.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn from_columns(key_type: &str, base64: &str) -> Result<Self, KeyError> {
        let blob = decode_base64(base64.bytes()).ok_or(KeyError::Malformed("bad base64"))?;
        let key = Self::from_blob(&blob)?;
        if key.key_type() == key_type {
            Ok(key)
        } else {
            Err(KeyError::Malformed(
                "the type in words is not the type inside",
            ))
        }
    }

    /// Its wire form.
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// What it is, for verification.
    #[must_use]
    pub fn data(&self) -> &KeyData {
        &self.data
    }

    /// OpenSSH's name of its type: `ssh-ed25519`, `ecdsa-sha2-nistp256`, `ssh-rsa`, `sk-ssh-ed25519@openssh.com`.
    #[must_use]
    pub fn key_type(&self) -> String {
        self.data.algorithm().as_str().to_owned()
    }

    /// As `ssh-keygen -l` prints it: `SHA256:...`.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.data.fingerprint(HashAlg::Sha256).to_string()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key_type(), self.fingerprint())
    }
}

/// One point has one encoding, or else a revoked key could come back in another.
fn uncompressed(point: &[u8]) -> Result<(), KeyError> {
    if point.first() == Some(&4) {
        Ok(())
    } else {
        Err(KeyError::Malformed(
            "its point is not in the uncompressed form",
        ))
    }
}

/// A run of RFC 4251 values.
pub(super) struct Strings<'a>(pub(super) &'a [u8]);

impl<'a> Strings<'a> {
    /// The next `n` bytes.
    pub(super) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    /// The next byte.
    pub(super) fn next_u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// The next `uint64`.
    pub(super) fn next_u64(&mut self) -> Option<u64> {
        let bytes: [u8; 8] = self.take(8)?.try_into().ok()?;
        Some(u64::from_be_bytes(bytes))
    }

    /// The next `uint32`.
    pub(super) fn next_u32(&mut self) -> Option<u32> {
        let bytes: [u8; 4] = self.take(4)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes))
    }

    /// The next `string`.
    pub(super) fn next_string(&mut self) -> Option<&'a [u8]> {
        let length = self.next_u32()?;
        self.take(usize::try_from(length).ok()?)
    }
}
