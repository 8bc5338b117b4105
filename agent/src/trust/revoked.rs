//! Keys that count no more: a file of public keys, one a line.
//!
//! Fails closed: a line that cannot be read refuses the file, since it may be the very key to revoke. An OpenSSH KRL
//! (`ssh-keygen -k`) is recognised and refused: this version does not read KRLs.

use super::key::{Key, KeyError};

/// The largest file taken.
const MAX_FILE: usize = 4 * 1024 * 1024;

/// The first bytes of a KRL (OpenSSH's PROTOCOL.krl).
const KRL_MAGIC: &[u8] = b"SSHKRL\n\0";

/// Why a file does not say which keys are revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevokedError {
    /// A KRL.
    #[error(
        "{file} is an OpenSSH KRL, which this version does not read: list the revoked public keys instead, one a line"
    )]
    Krl {
        /// The file's name.
        file: String,
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

/// The keys that count no more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Revoked {
    keys: Vec<Key>,
}

impl Revoked {
    /// Reads a file's bytes: `key-type base64 [comment]`, one a line; blank lines and `#` comments are passed over. A file without
    /// any key is a list of none.
    ///
    /// # Errors
    /// See [`RevokedError`].
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, RevokedError> {
        let file = || file.to_owned();
        if bytes.starts_with(KRL_MAGIC) {
            return Err(RevokedError::Krl { file: file() });
        }
        if bytes.len() > MAX_FILE {
            return Err(RevokedError::TooLarge { file: file() });
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
            match Key::from_columns(key_type, base64) {
                Ok(key) => keys.push(key),
                // Such a key can sign nothing here, so there is nothing to revoke.
                Err(KeyError::Unsupported(_)) => {}
                Err(error @ (KeyError::Malformed(_) | KeyError::Certificate(_))) => {
                    return Err(bad(error.to_string()));
                }
            }
        }
        Ok(Self { keys })
    }

    /// Whether this key is among them.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        self.keys.contains(key)
    }

    /// How many keys it lists.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it lists none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}
