//! What a signature packet says of itself, read strictly: who made it, when, for how long, over which hash.

use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{
    PacketHeader, PublicKey, PublicSubkey, Signature, SignatureType, SignatureVersion, Subpacket,
    SubpacketData,
};
use pgp::ser::Serialize as _;
use pgp::types::{EcdsaPublicParams, EddsaLegacyPublicParams, KeyDetails, PublicParams, Tag};

/// The fewest bits of an RSA key.
const RSA_BITS: u32 = 2048;

/// A signature packet that can be judged: version 4 or 6, nothing in it that demands what is not understood here.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) packet: Signature,
    pub(super) kind: SignatureType,
    /// Seconds since 1970, as every time here.
    pub(super) created: u64,
    pub(super) expires: Option<u64>,
    /// How long the key counts that this is about, in seconds.
    pub(super) key_lasts: Option<u64>,
    /// Whether the key may sign, where it says what the key is for.
    pub(super) may_sign: Option<bool>,
    pub(super) primary_user: bool,
    /// Whether somebody else may revoke the key.
    pub(super) has_revoker: bool,
    pub(super) issuer: Issuer,
    pub(super) hash: Hash,
}

/// Whose key a signature claims to be by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Issuer {
    fingerprints: Vec<Vec<u8>>,
    key_ids: Vec<Vec<u8>>,
}

impl Issuer {
    /// Whether every claim is this key, and there is one.
    pub(super) fn is(&self, key: &impl KeyDetails) -> bool {
        let fingerprint = key.fingerprint();
        let id = key.legacy_key_id();
        self.is_named()
            && self
                .fingerprints
                .iter()
                .all(|named| named == fingerprint.as_bytes())
            && self.key_ids.iter().all(|named| named == id.as_ref())
    }

    /// Whether any claim is this key.
    pub(super) fn might_be(&self, key: &impl KeyDetails) -> bool {
        let fingerprint = key.fingerprint();
        let id = key.legacy_key_id();
        self.fingerprints
            .iter()
            .any(|named| named == fingerprint.as_bytes())
            || self.key_ids.iter().any(|named| named == id.as_ref())
    }

    pub(super) fn is_named(&self) -> bool {
        !self.fingerprints.is_empty() || !self.key_ids.is_empty()
    }

    /// For people: the fingerprint, or else the key id.
    pub(super) fn shown(&self) -> Option<String> {
        self.fingerprints
            .first()
            .or(self.key_ids.first())
            .map(|bytes| hex(bytes))
    }
}

/// Whether the hash is one that nobody can forge for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hash {
    Good,
    Weak(String),
}

/// Why a packet cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotRead {
    Malformed(&'static str),
    Unsupported(String),
}

/// Reads the body of a signature packet.
pub(super) fn signature(body: &[u8]) -> Result<Facts, NotRead> {
    match body.first() {
        Some(4 | 6) => {}
        Some(version) => {
            return Err(NotRead::Unsupported(format!(
                "an OpenPGP signature packet of version {version}"
            )));
        }
        None => return Err(NotRead::Malformed("its packet is empty")),
    }
    let mut rest = body;
    let packet = Signature::try_from_reader(header(Tag::Signature, body)?, &mut rest)
        .map_err(|_| NotRead::Malformed("its packet cannot be read"))?;
    if !rest.is_empty() {
        return Err(NotRead::Malformed("there are bytes behind its value"));
    }
    of(packet)
}

/// What a signature packet says, those embedded in others included.
pub(super) fn of(packet: Signature) -> Result<Facts, NotRead> {
    let config = match packet.version() {
        SignatureVersion::V4 | SignatureVersion::V6 => packet.config(),
        _ => None,
    };
    let config = config.ok_or_else(|| {
        NotRead::Unsupported("an OpenPGP signature packet of an old version".to_owned())
    })?;
    for subpacket in config
        .hashed_subpackets
        .iter()
        .chain(&config.unhashed_subpackets)
    {
        if subpacket.is_critical && !is_understood(subpacket) {
            return Err(NotRead::Unsupported(format!(
                "an OpenPGP signature with a critical subpacket that is not understood ({})",
                subpacket.typ().as_u8(false)
            )));
        }
    }
    let mut created = None;
    let mut lasts: Option<u64> = None;
    let mut key_lasts: Option<u64> = None;
    let mut may_sign = None;
    let mut primary_user = false;
    let mut has_revoker = false;
    // Where something is said twice, the stricter counts.
    for subpacket in &config.hashed_subpackets {
        match &subpacket.data {
            SubpacketData::SignatureCreationTime(_) if created.is_some() => {
                return Err(NotRead::Malformed("it says twice when it was made"));
            }
            SubpacketData::SignatureCreationTime(time) => created = Some(u64::from(time.as_secs())),
            SubpacketData::SignatureExpirationTime(time) => shorter(&mut lasts, *time),
            SubpacketData::KeyExpirationTime(time) => shorter(&mut key_lasts, *time),
            SubpacketData::KeyFlags(flags) => {
                may_sign = Some(may_sign.unwrap_or(true) && flags.sign());
            }
            SubpacketData::IsPrimary(primary) => primary_user = *primary,
            SubpacketData::RevocationKey(_) => has_revoker = true,
            _ => {}
        }
    }
    let created = created.ok_or(NotRead::Malformed("it does not say when it was made"))?;
    Ok(Facts {
        kind: config.typ(),
        created,
        expires: lasts.map(|lasts| created + lasts),
        key_lasts,
        may_sign,
        primary_user,
        has_revoker,
        issuer: Issuer {
            fingerprints: packet
                .issuer_fingerprint()
                .into_iter()
                .map(|fingerprint| fingerprint.as_bytes().to_vec())
                .collect(),
            key_ids: packet
                .issuer_key_id()
                .into_iter()
                .map(|id| id.as_ref().to_vec())
                .collect(),
        },
        hash: hash(config.hash_alg),
        packet,
    })
}

/// Zero seconds mean for ever (RFC 9580, sections 5.2.3.13 and 5.2.3.18).
fn shorter(lasts: &mut Option<u64>, said: pgp::types::Duration) {
    let said = u64::from(said.as_secs());
    if said > 0 {
        *lasts = Some(lasts.map_or(said, |before| before.min(said)));
    }
}

fn is_understood(subpacket: &Subpacket) -> bool {
    match &subpacket.data {
        SubpacketData::SignatureCreationTime(_)
        | SubpacketData::SignatureExpirationTime(_)
        | SubpacketData::KeyExpirationTime(_)
        | SubpacketData::IssuerKeyId(_)
        | SubpacketData::IssuerFingerprint(_)
        | SubpacketData::PreferredSymmetricAlgorithms(_)
        | SubpacketData::PreferredHashAlgorithms(_)
        | SubpacketData::PreferredCompressionAlgorithms(_)
        | SubpacketData::PreferredAeadAlgorithms(_)
        | SubpacketData::PreferredEncryptionModes(_)
        | SubpacketData::KeyServerPreferences(_)
        | SubpacketData::PreferredKeyServer(_)
        | SubpacketData::KeyFlags(_)
        | SubpacketData::Features(_)
        | SubpacketData::RevocationReason(..)
        | SubpacketData::RevocationKey(_)
        | SubpacketData::IsPrimary(_)
        | SubpacketData::Revocable(_)
        | SubpacketData::EmbeddedSignature(_)
        | SubpacketData::SignersUserID(_)
        | SubpacketData::PolicyURI(_)
        | SubpacketData::ExportableCertification(_) => true,
        SubpacketData::Notation(_)
        | SubpacketData::TrustSignature(..)
        | SubpacketData::RegularExpression(_)
        | SubpacketData::IntendedRecipientFingerprint(_)
        | SubpacketData::SignatureTarget(..)
        | SubpacketData::Experimental(..)
        | SubpacketData::Other(..) => false,
    }
}

fn hash(algorithm: HashAlgorithm) -> Hash {
    match algorithm {
        HashAlgorithm::Sha224
        | HashAlgorithm::Sha256
        | HashAlgorithm::Sha384
        | HashAlgorithm::Sha512
        | HashAlgorithm::Sha3_256
        | HashAlgorithm::Sha3_512 => Hash::Good,
        other => Hash::Weak(other.to_string()),
    }
}

/// The header of a packet that was taken out of its row already.
pub(super) fn header(tag: Tag, body: &[u8]) -> Result<PacketHeader, NotRead> {
    u32::try_from(body.len())
        .map(|length| PacketHeader::new_fixed(tag, length))
        .map_err(|_| NotRead::Malformed("a packet of it is too long"))
}

/// Reads a primary key.
pub(super) fn primary(body: &[u8]) -> Result<PublicKey, NotRead> {
    whole(body, |rest| {
        PublicKey::try_from_reader(header(Tag::PublicKey, body)?, rest).map_err(|_| no_key())
    })
}

/// Reads a subkey.
pub(super) fn subkey(body: &[u8]) -> Result<PublicSubkey, NotRead> {
    whole(body, |rest| {
        PublicSubkey::try_from_reader(header(Tag::PublicSubkey, body)?, rest).map_err(|_| no_key())
    })
}

fn no_key() -> NotRead {
    NotRead::Unsupported("a key of a form that is not taken".to_owned())
}

fn whole<'a, T>(
    body: &'a [u8],
    read: impl FnOnce(&mut &'a [u8]) -> Result<T, NotRead>,
) -> Result<T, NotRead> {
    match body.first() {
        Some(4 | 6) => {}
        Some(version) => {
            return Err(NotRead::Unsupported(format!("a key of version {version}")));
        }
        None => return Err(NotRead::Malformed("an empty key")),
    }
    let mut rest = body;
    let key = read(&mut rest)?;
    if rest.is_empty() {
        Ok(key)
    } else {
        Err(NotRead::Malformed("a key with bytes behind it"))
    }
}

/// The type of a key, as it is shown: `openpgp-ed25519`, `openpgp-rsa3072`. The error: why it cannot verify anything here.
pub(super) fn key_type(key: &impl KeyDetails) -> Result<String, String> {
    let name = match key.public_params() {
        PublicParams::RSA(params) => {
            let bits = rsa_bits(params).ok_or("an RSA key that cannot be read")?;
            if bits < RSA_BITS {
                return Err(format!("an RSA key of {bits} bits, fewer than {RSA_BITS}"));
            }
            return Ok(format!("openpgp-rsa{bits}"));
        }
        PublicParams::ECDSA(params) => match params {
            EcdsaPublicParams::P256 { .. } => "nistp256",
            EcdsaPublicParams::P384 { .. } => "nistp384",
            EcdsaPublicParams::P521 { .. } => "nistp521",
            // Of two values that fit equally, GnuPG writes either, and the library takes only the lower one.
            EcdsaPublicParams::Secp256k1 { .. } => {
                return Err("a key on the curve secp256k1".to_owned());
            }
            EcdsaPublicParams::Unsupported { curve, .. } => {
                return Err(format!("a key on the curve {curve}"));
            }
        },
        PublicParams::EdDSALegacy(params) => match params {
            EddsaLegacyPublicParams::Ed25519 { key } if key.is_weak() => {
                return Err("an ed25519 key of small order".to_owned());
            }
            EddsaLegacyPublicParams::Ed25519 { .. } => "ed25519",
            EddsaLegacyPublicParams::Unsupported { curve, .. } => {
                return Err(format!("a key on the curve {curve}"));
            }
        },
        PublicParams::Ed25519(params) if params.key.is_weak() => {
            return Err("an ed25519 key of small order".to_owned());
        }
        PublicParams::Ed25519(_) => "ed25519",
        PublicParams::Ed448(_) => "ed448",
        _ => {
            return Err(format!(
                "a key of the algorithm {}",
                u8::from(key.algorithm())
            ));
        }
    };
    Ok(format!("openpgp-{name}"))
}

/// The length of the modulus: the two bytes before it (RFC 9580, section 3.2).
fn rsa_bits(params: &pgp::types::RsaPublicParams) -> Option<u32> {
    let mut bytes = Vec::new();
    params.to_writer(&mut bytes).ok()?;
    let (head, _) = bytes.split_first_chunk::<2>()?;
    Some(u32::from(u16::from_be_bytes(*head)))
}

/// Upper-case hexadecimal digits, as GnuPG shows fingerprints.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
