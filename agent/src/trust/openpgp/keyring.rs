//! A keyring file: one certificate or many, armored or binary, as `gpg --export` writes it.
//!
//! Two copies of a certificate are taken as one. A revocation certificate, as `gpg --gen-revoke` writes it, may simply be
//! appended. Limits: [`MAX_FILE`], [`MAX_CERTIFICATES`], [`MAX_PACKETS`].

use std::fmt;

use pgp::packet::{SignatureType, UserId};
use pgp::types::{KeyDetails as _, Tag};
use sha2::Digest as _;

use super::armor::{self, Packet};
use super::certificate::{Certificate, Draft, Part, Standing, Which};
use super::facts::{self, Facts, NotRead};
use crate::domain::revision::Timestamp;
use crate::trust::forge;
use crate::trust::policy::NamedBytes;

/// The largest keyring in bytes. A certificate has some kilobytes; one with many signatures by others, a hundred.
const MAX_FILE: usize = 2 * 1024 * 1024;

/// The most certificates: a fleet's signers are few, and each costs some verifications at every start.
const MAX_CERTIFICATES: usize = 200;

/// The most packets: every signature on a certificate is one.
const MAX_PACKETS: usize = 20_000;

/// Why there is no keyring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// It is not one, or not one that a device should have.
    #[error("trust.openpgp_keyring: {file}: {why}")]
    Malformed {
        /// The file's name.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// Nobody could sign by it.
    #[error("trust.openpgp_keyring: {file} has no key that can be used{}", listed(.skipped))]
    Empty {
        /// The file's name.
        file: String,
        /// What was left out, and why.
        skipped: Vec<String>,
    },
}

fn listed(skipped: &[String]) -> String {
    skipped.iter().map(|line| format!("; {line}")).collect()
}

/// A certificate of a keyring, for who wants to see what is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The address it signs as.
    pub principal: Option<String>,
    /// The fingerprint of its primary key.
    pub fingerprint: String,
    /// Its keys that may sign: type, fingerprint, and when it expires.
    pub keys: Vec<(String, String, Option<Timestamp>)>,
    /// Why it does not count, where it does not.
    pub trouble: Option<String>,
}

/// The certificates of a keyring.
#[derive(Clone)]
pub struct Keyring {
    file: String,
    /// SHA-256 of the file.
    digest: String,
    certificates: Vec<Certificate>,
    warnings: Vec<String>,
}

/// Says which keyring it is, not all that is in it: two that show the same are the same.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("file", &self.file)
            .field("sha256", &self.digest)
            .finish_non_exhaustive()
    }
}

impl Keyring {
    /// Reads a keyring.
    ///
    /// # Errors
    /// See [`KeyringError`].
    pub fn parse(file: NamedBytes<'_>) -> Result<Self, KeyringError> {
        let name = file.name.to_owned();
        let malformed = |why: &str| KeyringError::Malformed {
            file: name.clone(),
            why: why.to_owned(),
        };
        if file.bytes.len() > MAX_FILE {
            return Err(malformed(&format!("it has more than {MAX_FILE} bytes")));
        }
        // Every packet begins with this bit, and no text does.
        let binary = file.bytes.first().is_some_and(|byte| byte & 0x80 != 0);
        let bytes = if binary {
            file.bytes.to_vec()
        } else {
            let text = std::str::from_utf8(file.bytes)
                .map_err(|_| malformed("it is neither text nor a row of OpenPGP packets"))?;
            armor::keyring(text).map_err(malformed)?
        };
        let packets = armor::packets(&bytes, MAX_PACKETS).map_err(malformed)?;
        let (drafts, loose, mut warnings) = drafts(&packets).map_err(|why| malformed(&why))?;
        if drafts.len() > MAX_CERTIFICATES {
            return Err(malformed(&format!(
                "it has more than {MAX_CERTIFICATES} keys"
            )));
        }
        let strays: Vec<Facts> = drafts
            .iter()
            .flat_map(Draft::everywhere)
            .chain(&loose)
            .filter_map(Part::revocation)
            .cloned()
            .collect();
        let strays: Vec<&Facts> = strays.iter().collect();
        for stray in loose.iter().filter_map(Part::revocation) {
            if !drafts
                .iter()
                .any(|draft| stray.issuer.might_be(&draft.primary))
            {
                warnings.push(format!(
                    "a revocation by {}, whose key is not there",
                    stray.issuer.shown().unwrap_or_else(|| "nobody".to_owned())
                ));
            }
        }
        let certificates: Vec<Certificate> = drafts
            .into_iter()
            .map(|draft| Certificate::of(draft, &strays))
            .collect();
        let mut keyring = Self {
            file: file.name.to_owned(),
            digest: facts::hex(&sha2::Sha256::digest(file.bytes)),
            certificates,
            warnings: Vec::new(),
        };
        let holders = keyring.holders();
        for holder in &holders {
            if let Some(trouble) = &holder.trouble {
                warnings.push(format!("{}: {trouble}", holder.fingerprint));
            }
        }
        if holders.iter().all(|holder| holder.trouble.is_some()) {
            return Err(KeyringError::Empty {
                file: name,
                skipped: warnings,
            });
        }
        for holder in &holders {
            if let Some(why) = forge::openpgp_key(&holder.fingerprint, holder.principal.as_deref())
            {
                warnings.push(format!("{}: {why}", holder.fingerprint));
            }
        }
        keyring.warnings = warnings
            .into_iter()
            .map(|warning| format!("{}: {warning}", file.name))
            .collect();
        Ok(keyring)
    }

    /// The file's name.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// What is not used, and why; and keys that stand for more people than they seem to.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whose keys are in it, in the order of the file.
    #[must_use]
    pub fn holders(&self) -> Vec<Holder> {
        self.certificates.iter().map(holder).collect()
    }

    pub(super) fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }
}

/// A certificate as it is shown. Whether it has expired is a matter of the time at which it is asked, and not told here.
fn holder(certificate: &Certificate) -> Holder {
    // Nothing has expired at the beginning of time.
    let beginning = Timestamp(0);
    let mut keys = Vec::new();
    let mut trouble: Vec<String> = Vec::new();
    for which in certificate.keys() {
        let usable = match certificate.standing(which) {
            Standing::Revoked => Err("it is revoked".to_owned()),
            Standing::InUse => {
                let key_type = certificate
                    .key_type(which)
                    .map_err(|why| format!("it is {why}, which is not taken"));
                let permit = certificate.permit(which, beginning).map_err(|(_, why)| why);
                match which {
                    // It could not even bind its names.
                    Which::Primary => key_type.and_then(|key_type| Ok((key_type, permit?.until))),
                    // One for encryption is of a type that is not taken, and no reason for that.
                    Which::Subkey(_) => permit.and_then(|permit| Ok((key_type?, permit.until))),
                }
            }
        };
        match usable {
            Ok((key_type, until)) => keys.push((
                key_type,
                certificate.fingerprint_of(which),
                until
                    .and_then(|until| i64::try_from(until).ok())
                    .map(Timestamp),
            )),
            Err(why) if trouble.contains(&why) => {}
            Err(why) => trouble.push(why),
        }
    }
    Holder {
        principal: certificate.principal(0).map(str::to_owned),
        fingerprint: certificate.fingerprint(),
        trouble: keys.is_empty().then(|| trouble.join("; ")),
        keys,
    }
}

impl Draft {
    fn everywhere(&self) -> impl Iterator<Item = &Part> {
        self.parts
            .iter()
            .chain(self.users.iter().flat_map(|(_, parts)| parts))
            .chain(self.subkeys.iter().flat_map(|(_, parts)| parts))
    }
}

impl Part {
    fn revocation(&self) -> Option<&Facts> {
        match self {
            Self::Read(facts)
                if matches!(
                    facts.kind,
                    SignatureType::KeyRevocation | SignatureType::SubkeyRevocation
                ) =>
            {
                Some(facts)
            }
            Self::Read(_) | Self::Unread(_) => None,
        }
    }
}

/// Numbers of packets (RFC 9580, section 5).
mod tag {
    pub(super) const SIGNATURE: u8 = 2;
    pub(super) const SECRET_KEY: u8 = 5;
    pub(super) const PUBLIC_KEY: u8 = 6;
    pub(super) const SECRET_SUBKEY: u8 = 7;
    pub(super) const MARKER: u8 = 10;
    pub(super) const TRUST: u8 = 12;
    pub(super) const USER_ID: u8 = 13;
    pub(super) const PUBLIC_SUBKEY: u8 = 14;
    pub(super) const USER_ATTRIBUTE: u8 = 17;
    pub(super) const PADDING: u8 = 21;
    /// From here on unknown ones may be passed over (section 4.3).
    pub(super) const NOT_CRITICAL: u8 = 40;
}

/// Where signatures belong that come next.
enum Place {
    /// Before the first certificate, where only revocations may stand.
    Loose,
    /// In a certificate, or below a subkey or picture, that is passed over.
    Nowhere,
    Primary,
    User,
    Subkey,
}

type Drafts = (Vec<Draft>, Vec<Part>, Vec<String>);

/// Sorts packets into certificates, one for each primary key; signatures that belong to none; and what was left out.
fn drafts(packets: &[Packet<'_>]) -> Result<Drafts, String> {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut loose = Vec::new();
    let mut warnings = Vec::new();
    let mut open: Option<Draft> = None;
    let mut place = Place::Loose;
    for packet in packets {
        match packet.tag {
            tag::PUBLIC_KEY => {
                close(&mut drafts, open.take());
                match facts::primary(packet.body) {
                    Ok(primary) => {
                        open = Some(Draft {
                            primary,
                            parts: Vec::new(),
                            users: Vec::new(),
                            subkeys: Vec::new(),
                        });
                        place = Place::Primary;
                    }
                    Err(error) => {
                        warnings.push(format!("left out: {}", told(error)));
                        place = Place::Nowhere;
                    }
                }
            }
            tag::USER_ID => {
                let header = facts::header(Tag::UserId, packet.body).map_err(told)?;
                let id = UserId::try_from_reader(header, packet.body)
                    .map_err(|_| "a user id of it cannot be read".to_owned())?;
                if let Some(draft) = &mut open {
                    draft.users.push((id, Vec::new()));
                    place = Place::User;
                }
            }
            tag::PUBLIC_SUBKEY => match (&mut open, facts::subkey(packet.body)) {
                (Some(draft), Ok(key)) => {
                    draft.subkeys.push((key, Vec::new()));
                    place = Place::Subkey;
                }
                // It could not verify anything either.
                (Some(_), Err(_)) | (None, _) => place = Place::Nowhere,
            },
            tag::USER_ATTRIBUTE => place = Place::Nowhere,
            tag::SIGNATURE => {
                let part = Part::of(packet.body);
                match (&mut open, &place) {
                    (Some(draft), Place::Primary) => draft.parts.push(part),
                    (Some(Draft { users, .. }), Place::User) => {
                        if let Some((_, parts)) = users.last_mut() {
                            parts.push(part);
                        }
                    }
                    (Some(Draft { subkeys, .. }), Place::Subkey) => {
                        if let Some((_, parts)) = subkeys.last_mut() {
                            parts.push(part);
                        }
                    }
                    // A revocation counts wherever it stands.
                    (Some(draft), _) if part.is_kind(SignatureType::KeyRevocation) => {
                        draft.parts.push(part);
                    }
                    (Some(_), _) => {}
                    (None, Place::Loose) if part.revocation().is_none() => {
                        return Err("it has a signature that belongs to no key".to_owned());
                    }
                    (None, _) => loose.push(part),
                }
            }
            tag::SECRET_KEY | tag::SECRET_SUBKEY => return Err(armor::PRIVATE.to_owned()),
            tag::MARKER | tag::TRUST | tag::PADDING => {}
            number if number >= tag::NOT_CRITICAL => {}
            number => {
                return Err(format!(
                    "it has a packet of type {number}, which belongs in no keyring"
                ));
            }
        }
    }
    close(&mut drafts, open);
    Ok((drafts, loose, warnings))
}

fn close(drafts: &mut Vec<Draft>, draft: Option<Draft>) {
    let Some(draft) = draft else {
        return;
    };
    let same = drafts
        .iter_mut()
        .find(|other| other.primary.fingerprint() == draft.primary.fingerprint());
    match same {
        Some(other) => other.merge(draft),
        None => drafts.push(draft),
    }
}

fn told(error: NotRead) -> String {
    match error {
        NotRead::Malformed(why) => why.to_owned(),
        NotRead::Unsupported(what) => what,
    }
}
