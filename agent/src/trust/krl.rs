//! Key revocation lists (OpenSSH's PROTOCOL.krl, format version 1), read strictly.
//!
//! Owns the form and the question whether a key or a certificate is revoked. Fails closed: whatever is truncated, of an
//! unknown version or section, critical and unknown, or signed wrongly refuses the list as a whole, since it may hide the
//! very key to revoke. Who signed a list does not matter (it is a local file); that its signatures fit does, as in
//! `ssh-keygen`. A range of serials costs the same whatever its size; a bitmap has at most [`MAX_BITMAP`] bytes.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use super::certificate::Certificate;
use super::key::{Key, KeyError, Strings};
use super::signature;

/// The first bytes of a list.
pub(super) const MAGIC: &[u8] = b"SSHKRL\n\0";

/// The most bytes of a bitmap of serials: OpenSSH reads no larger number (SSHBUF_MAX_BIGNUM, 16384 bits).
const MAX_BITMAP: usize = 2048;

const SECTION_CERTIFICATES: u8 = 1;
const SECTION_KEYS: u8 = 2;
const SECTION_SHA1: u8 = 3;
const SECTION_SIGNATURE: u8 = 4;
const SECTION_SHA256: u8 = 5;
const SECTION_EXTENSION: u8 = 255;

const CERTIFICATES_SERIALS: u8 = 0x20;
const CERTIFICATES_RANGE: u8 = 0x21;
const CERTIFICATES_BITMAP: u8 = 0x22;
const CERTIFICATES_KEY_IDS: u8 = 0x23;
const CERTIFICATES_EXTENSION: u8 = 0x39;

/// Why bytes are not a list to go by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KrlError {
    /// It ends in the middle of something.
    #[error("it ends too early")]
    Truncated,
    /// It does not begin as a list does.
    #[error("it does not begin as a key revocation list does")]
    NotAList,
    /// Another version of the format.
    #[error("its format version {0} is unknown")]
    Version(u32),
    /// A section that is not known.
    #[error("its section of type {0} is unknown")]
    Section(u8),
    /// An extension that must be understood and is not.
    #[error("its critical extension `{0}` is unknown")]
    Extension(String),
    /// Against the format.
    #[error("it is malformed: {0}")]
    Malformed(&'static str),
    /// A signature on it.
    #[error("its signature by {0} does not fit it")]
    Signature(String),
    /// Its signing keys.
    #[error("every key that signed it is revoked by it")]
    SignersRevoked,
}

/// What is revoked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Krl {
    version: u64,
    certificates: Vec<Certificates>,
    /// Wire forms of plain keys.
    keys: BTreeSet<Vec<u8>>,
    /// Digests of wire forms.
    sha1: BTreeSet<[u8; 20]>,
    sha256: BTreeSet<[u8; 32]>,
}

/// What is revoked of one authority's certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Certificates {
    /// The wire form of its key; `None`: of every authority.
    authority: Option<Vec<u8>>,
    /// From and to, both included; in order and apart from each other.
    serials: Vec<(u64, u64)>,
    bitmaps: Vec<Bitmap>,
    key_ids: BTreeSet<Vec<u8>>,
}

/// A bit for each serial from `first` on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bitmap {
    first: u64,
    /// The most significant byte first, which is the one of the largest serials; it is not zero.
    bytes: Vec<u8>,
}

impl Krl {
    /// Reads a list.
    ///
    /// # Errors
    /// See [`KrlError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, KrlError> {
        let short = || KrlError::Truncated;
        let mut fields = Strings(bytes);
        if fields.take(MAGIC.len()) != Some(MAGIC) {
            return Err(KrlError::NotAList);
        }
        match fields.next_u32().ok_or_else(short)? {
            1 => {}
            other => return Err(KrlError::Version(other)),
        }
        let mut list = Self {
            version: fields.next_u64().ok_or_else(short)?,
            ..Self::default()
        };
        let _generated = fields.next_u64().ok_or_else(short)?;
        let _flags = fields.next_u64().ok_or_else(short)?;
        let _reserved = fields.next_string().ok_or_else(short)?;
        let comment = fields.next_string().ok_or_else(short)?;
        if comment.contains(&0) {
            return Err(KrlError::Malformed("its comment has a NUL in it"));
        }
        let mut signers: Vec<Key> = Vec::new();
        while !fields.0.is_empty() {
            let section = fields.next_u8().ok_or_else(short)?;
            let content = fields.next_string().ok_or_else(short)?;
            if section == SECTION_SIGNATURE {
                let signed = &bytes[..bytes.len() - fields.0.len()];
                let signature = fields.next_string().ok_or_else(short)?;
                signers.push(signer(content, signed, signature, &signers)?);
            } else if signers.is_empty() {
                list.section(section, content)?;
            } else {
                return Err(KrlError::Malformed("a section behind a signature"));
            }
        }
        for certificates in &mut list.certificates {
            certificates.settle();
        }
        if !signers.is_empty() && signers.iter().all(|key| list.revokes_key(key)) {
            return Err(KrlError::SignersRevoked);
        }
        Ok(list)
    }

    fn section(&mut self, section: u8, content: &[u8]) -> Result<(), KrlError> {
        let mut fields = Strings(content);
        match section {
            SECTION_CERTIFICATES => {
                self.certificates(&mut fields)?;
            }
            SECTION_KEYS => each(&mut fields, |blob| {
                self.keys.insert(blob.to_vec());
                Ok(())
            })?,
            SECTION_SHA1 => each(&mut fields, |digest| {
                self.sha1.insert(fixed(digest)?);
                Ok(())
            })?,
            SECTION_SHA256 => each(&mut fields, |digest| {
                self.sha256.insert(fixed(digest)?);
                Ok(())
            })?,
            SECTION_EXTENSION => extension(&mut fields)?,
            other => return Err(KrlError::Section(other)),
        }
        if fields.0.is_empty() {
            Ok(())
        } else {
            Err(KrlError::Malformed("bytes behind a section's content"))
        }
    }

    fn certificates(&mut self, fields: &mut Strings<'_>) -> Result<(), KrlError> {
        let short = || KrlError::Truncated;
        let authority = match fields.next_string().ok_or_else(short)? {
            b"" => None,
            blob => match Key::from_blob(blob) {
                // What such an authority certifies counts for nothing here; the section is read all the same.
                Ok(_) | Err(KeyError::Unsupported(_)) => Some(blob.to_vec()),
                Err(KeyError::Malformed(_) | KeyError::Certificate(_)) => {
                    return Err(KrlError::Malformed("an authority's key cannot be read"));
                }
            },
        };
        let _reserved = fields.next_string().ok_or_else(short)?;
        let at = match self
            .certificates
            .iter()
            .position(|known| known.authority == authority)
        {
            Some(at) => at,
            None => {
                self.certificates.push(Certificates {
                    authority,
                    serials: Vec::new(),
                    bitmaps: Vec::new(),
                    key_ids: BTreeSet::new(),
                });
                self.certificates.len() - 1
            }
        };
        while !fields.0.is_empty() {
            let section = fields.next_u8().ok_or_else(short)?;
            let content = fields.next_string().ok_or_else(short)?;
            self.certificates[at].section(section, content)?;
        }
        Ok(())
    }

    /// The version that its maker gave it.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Whether this plain key is revoked, as a key.
    #[must_use]
    pub fn revokes_key(&self, key: &Key) -> bool {
        let blob = key.blob();
        self.keys.contains(blob)
            || (!self.sha1.is_empty() && self.sha1.contains(&sha1(blob)))
            || (!self.sha256.is_empty() && self.sha256.contains(&Sha256::digest(blob)[..]))
    }

    /// Whether this certificate is revoked by its number or its key id. Its key and its authority's are asked for
    /// with [`Self::revokes_key`].
    #[must_use]
    pub fn revokes_certificate(&self, certificate: &Certificate) -> bool {
        self.certificates
            .iter()
            .filter(|of| {
                of.authority
                    .as_ref()
                    .is_none_or(|blob| blob == certificate.authority().blob())
            })
            .any(|of| of.revoke(certificate))
    }
}

impl Certificates {
    fn section(&mut self, section: u8, content: &[u8]) -> Result<(), KrlError> {
        let short = || KrlError::Truncated;
        let mut fields = Strings(content);
        match section {
            CERTIFICATES_SERIALS => {
                while !fields.0.is_empty() {
                    let serial = fields.next_u64().ok_or_else(short)?;
                    self.range(serial, serial)?;
                }
            }
            CERTIFICATES_RANGE => {
                let first = fields.next_u64().ok_or_else(short)?;
                let last = fields.next_u64().ok_or_else(short)?;
                self.range(first, last)?;
            }
            CERTIFICATES_BITMAP => {
                let first = fields.next_u64().ok_or_else(short)?;
                let bitmap = Bitmap::new(first, fields.next_string().ok_or_else(short)?)?;
                self.bitmaps.extend(bitmap);
            }
            CERTIFICATES_KEY_IDS => each(&mut fields, |key_id| {
                if key_id.contains(&0) {
                    return Err(KrlError::Malformed("a key id has a NUL in it"));
                }
                self.key_ids.insert(key_id.to_vec());
                Ok(())
            })?,
            CERTIFICATES_EXTENSION => extension(&mut fields)?,
            other => return Err(KrlError::Section(other)),
        }
        if fields.0.is_empty() {
            Ok(())
        } else {
            Err(KrlError::Malformed("bytes behind a section's content"))
        }
    }

    fn range(&mut self, first: u64, last: u64) -> Result<(), KrlError> {
        if first == 0 || first > last {
            return Err(KrlError::Malformed(
                "a range of serials that begins at zero or ends before it begins",
            ));
        }
        self.serials.push((first, last));
        Ok(())
    }

    /// Puts the ranges in order and joins those that touch.
    fn settle(&mut self) {
        self.serials.sort_unstable();
        let mut settled: Vec<(u64, u64)> = Vec::new();
        for (first, last) in self.serials.drain(..) {
            match settled.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                Some(_) | None => settled.push((first, last)),
            }
        }
        self.serials = settled;
    }

    fn revoke(&self, certificate: &Certificate) -> bool {
        if self.key_ids.contains(certificate.key_id()) {
            return true;
        }
        // Zero says that its authority numbers nothing.
        let serial = certificate.serial();
        if serial == 0 {
            return false;
        }
        let above = self.serials.partition_point(|(first, _)| *first <= serial);
        let in_range = above
            .checked_sub(1)
            .and_then(|at| self.serials.get(at))
            .is_some_and(|(_, last)| serial <= *last);
        in_range || self.bitmaps.iter().any(|bitmap| bitmap.has(serial))
    }
}

impl Bitmap {
    /// `None` where no bit is set.
    fn new(first: u64, number: &[u8]) -> Result<Option<Self>, KrlError> {
        if number.first().is_some_and(|byte| byte & 0x80 != 0) {
            return Err(KrlError::Malformed("a bitmap is a negative number"));
        }
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let bytes = &number[zeros..];
        if bytes.len() > MAX_BITMAP {
            return Err(KrlError::Malformed("a bitmap is too long"));
        }
        let (Some(top), Some(bottom)) = (bytes.first(), bytes.last()) else {
            return Ok(None);
        };
        if first == 0 && bottom & 1 != 0 {
            return Err(KrlError::Malformed("a bitmap has a bit for serial zero"));
        }
        let bits = bytes.len() * 8 - top.leading_zeros() as usize;
        if u64::try_from(bits - 1).map_or(true, |last| first.checked_add(last).is_none()) {
            return Err(KrlError::Malformed("a bitmap goes beyond the last serial"));
        }
        Ok(Some(Self {
            first,
            bytes: bytes.to_vec(),
        }))
    }

    fn has(&self, serial: u64) -> bool {
        serial
            .checked_sub(self.first)
            .and_then(|bit| usize::try_from(bit).ok())
            .and_then(|bit| {
                let byte = self.bytes.len().checked_sub(1 + bit / 8)?;
                Some(self.bytes.get(byte)? >> (bit % 8) & 1 == 1)
            })
            .unwrap_or(false)
    }
}

fn each<'a>(
    fields: &mut Strings<'a>,
    mut take: impl FnMut(&'a [u8]) -> Result<(), KrlError>,
) -> Result<(), KrlError> {
    while !fields.0.is_empty() {
        take(fields.next_string().ok_or(KrlError::Truncated)?)?;
    }
    Ok(())
}

fn fixed<const N: usize>(digest: &[u8]) -> Result<[u8; N], KrlError> {
    digest
        .try_into()
        .map_err(|_| KrlError::Malformed("a digest of the wrong length"))
}

/// A name, whether it must be understood, and a content. None is known; those that need not be are passed over.
fn extension(fields: &mut Strings<'_>) -> Result<(), KrlError> {
    let short = || KrlError::Truncated;
    let name = fields.next_string().ok_or_else(short)?;
    let critical = fields.next_u8().ok_or_else(short)?;
    let _content = fields.next_string().ok_or_else(short)?;
    if critical == 0 {
        Ok(())
    } else {
        Err(KrlError::Extension(name.escape_ascii().to_string()))
    }
}

/// The key that signed all that is before its signature.
fn signer(blob: &[u8], signed: &[u8], signature: &[u8], before: &[Key]) -> Result<Key, KrlError> {
    let key = Key::from_blob(blob)
        .map_err(|_| KrlError::Malformed("the key of its signature cannot be read"))?;
    if before.contains(&key) {
        return Err(KrlError::Malformed("it is signed twice with one key"));
    }
    match signature::verify(&key, signed, signature) {
        Ok(_) => Ok(key),
        Err(_) => Err(KrlError::Signature(key.to_string())),
    }
}

/// Plain SHA-1, as `ssh-keygen` computes it: a digest changed on a suspected collision would let a crafted key slip by.
fn sha1(blob: &[u8]) -> [u8; 20] {
    use sha1_checked::Digest as _;
    let mut hasher = sha1_checked::Sha1::builder()
        .detect_collision(false)
        .build();
    hasher.update(blob);
    let mut digest = [0; 20];
    digest.copy_from_slice(hasher.try_finalize().hash());
    digest
}

#[cfg(test)]
#[path = "krl/tests.rs"]
mod tests;
