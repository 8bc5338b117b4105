//! Certificates and signatures that gpg does not make: by somebody who has keys of their own and wants more than is theirs.

#![allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]

use pgp::composed::KeyType;
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{
    KeyFlags, PacketTrait as _, PubKeyInner, PublicKey, PublicSubkey, SecretKey, SecretSubkey,
    Signature, SignatureConfig, SignatureType, Subpacket, SubpacketData, UserId,
};
use pgp::types::{
    Duration, KeyDetails, KeyVersion, PacketHeaderVersion, Password, RevocationKey,
    RevocationKeyClass, SigningKey, Tag, Timestamp as Time,
};
use proptest::prelude::*;
use ssh_key::rand_core::{CryptoRng, Error, RngCore};

use super::{Account, Keyring, armor, judge};
use crate::domain::revision::Timestamp;
use crate::trust::commit::Commit;
use crate::trust::policy::NamedBytes;
use crate::trust::verdict::Reason;

#[path = "tests/bindings.rs"]
mod bindings;

/// When the keys were made.
const MADE: u32 = 1_600_000_000;
/// When commits are.
const NOW: u32 = MADE + 1000;

/// The same keys in every run.
struct Seeded(u64);

impl RngCore for Seeded {
    fn next_u32(&mut self) -> u32 {
        u32::try_from(self.next_u64() >> 32).unwrap()
    }
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Seeded {}

fn generated(seed: u64) -> (PubKeyInner, pgp::types::SecretParams) {
    let kind = KeyType::Ed25519Legacy;
    let (public, secret) = kind.generate(Seeded(seed)).unwrap();
    let time = Time::from_secs(MADE);
    let inner = PubKeyInner::new(KeyVersion::V4, kind.to_alg(), time, None, public).unwrap();
    (inner, secret)
}

fn primary(seed: u64) -> SecretKey {
    let (inner, secret) = generated(seed);
    SecretKey::new(PublicKey::from_inner(inner).unwrap(), secret).unwrap()
}

fn subkey(seed: u64) -> SecretSubkey {
    let (inner, secret) = generated(seed);
    SecretSubkey::new(PublicSubkey::from_inner(inner).unwrap(), secret).unwrap()
}

fn regular(data: SubpacketData) -> Subpacket {
    Subpacket::regular(data).unwrap()
}

fn flags(sign: bool) -> Subpacket {
    let mut flags = KeyFlags::default();
    flags.set_sign(sign);
    flags.set_certify(true);
    regular(SubpacketData::KeyFlags(flags))
}

fn lasts(seconds: u32) -> Subpacket {
    regular(SubpacketData::KeyExpirationTime(Duration::from_secs(
        seconds,
    )))
}

fn issuer(key: &impl KeyDetails) -> Subpacket {
    regular(SubpacketData::IssuerFingerprint(key.fingerprint()))
}

/// A signature to be made by a key: when, and what else it says.
fn config(
    kind: SignatureType,
    by: &impl SigningKey,
    created: u32,
    more: impl IntoIterator<Item = Subpacket>,
) -> SignatureConfig {
    let mut config = SignatureConfig::v4(kind, by.algorithm(), HashAlgorithm::Sha256);
    config.hashed_subpackets = vec![
        regular(SubpacketData::SignatureCreationTime(Time::from_secs(
            created,
        ))),
        issuer(by),
    ];
    config.hashed_subpackets.extend(more);
    config
}

/// The same signature, as if it were over SHA-1.
fn weak(signature: &Signature) -> Signature {
    let mut config = signature.config().unwrap().clone();
    config.hash_alg = HashAlgorithm::Sha1;
    let value = signature.signature().unwrap().clone();
    Signature::from_config(config, [0, 0], value).unwrap()
}

fn no_password() -> Password {
    Password::empty()
}

fn on_user(config: SignatureConfig, key: &SecretKey, id: &UserId) -> Signature {
    config
        .sign_certification(key, key.public_key(), &no_password(), Tag::UserId, id)
        .unwrap()
}

fn on_key(config: SignatureConfig, by: &SecretKey, key: &SecretKey) -> Signature {
    config
        .sign_key(by, &no_password(), key.public_key())
        .unwrap()
}

fn on_subkey(config: SignatureConfig, key: &SecretKey, sub: &SecretSubkey) -> Signature {
    config
        .sign_subkey_binding(key, key.public_key(), &no_password(), sub.public_key())
        .unwrap()
}

/// The subkey's own signature over the primary key, as it stands in a binding.
fn back(config: SignatureConfig, sub: &SecretSubkey, key: &SecretKey) -> Subpacket {
    let signature = config
        .sign_primary_key_binding(sub, sub.public_key(), &no_password(), key.public_key())
        .unwrap();
    embedded(signature)
}

fn embedded(signature: Signature) -> Subpacket {
    regular(SubpacketData::EmbeddedSignature(Box::new(signature)))
}

fn user(text: &str) -> UserId {
    UserId::from_str(PacketHeaderVersion::New, text).unwrap()
}

/// Packets in a row.
#[derive(Default)]
struct Row(Vec<u8>);

impl Row {
    fn key(mut self, key: &SecretKey) -> Self {
        key.public_key().to_writer_with_header(&mut self.0).unwrap();
        self
    }
    fn sub(mut self, key: &SecretSubkey) -> Self {
        key.public_key().to_writer_with_header(&mut self.0).unwrap();
        self
    }
    fn user(mut self, id: &UserId) -> Self {
        id.to_writer_with_header(&mut self.0).unwrap();
        self
    }
    fn signature(mut self, signature: &Signature) -> Self {
        signature.to_writer_with_header(&mut self.0).unwrap();
        self
    }
    fn keyring(&self) -> Keyring {
        self.parsed().unwrap()
    }
    fn parsed(&self) -> Result<Keyring, super::KeyringError> {
        Keyring::parse(NamedBytes {
            name: "keyring",
            bytes: &self.0,
        })
    }
}

const ALICE: &str = "Alice <alice@acme.example>";

/// A certificate whose primary key signs, as `ALICE`.
fn alice() -> (SecretKey, Row) {
    let key = primary(1);
    let id = user(ALICE);
    let own = on_user(
        config(SignatureType::CertPositive, &key, MADE, [flags(true)]),
        &key,
        &id,
    );
    let row = Row::default().key(&key).user(&id).signature(&own);
    (key, row)
}

fn commit() -> Commit {
    Commit {
        tree: "4b825dc642cb6eb9a060e54bf8d69288fbee4904".parse().unwrap(),
        parents: Vec::new(),
        time: Timestamp(i64::from(NOW)),
        signature: None,
        payload: b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n\nchange\n".to_vec(),
        trailers: Vec::new(),
    }
}

fn armored(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut digits = String::new();
    for chunk in bytes.chunks(3) {
        let mut three = [0_u8; 3];
        three[..chunk.len()].copy_from_slice(chunk);
        let all = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for place in 0..4_usize {
            let digit = (all >> (18 - 6 * place)) & 63;
            let shown = char::from(DIGITS[digit as usize]);
            digits.push(if place <= chunk.len() { shown } else { '=' });
        }
    }
    format!("-----BEGIN PGP SIGNATURE-----\n\n{digits}\n-----END PGP SIGNATURE-----\n").into_bytes()
}

fn over_commit(config: SignatureConfig, by: &impl SigningKey) -> Vec<u8> {
    let signature = config
        .sign(by, &no_password(), commit().payload.as_slice())
        .unwrap();
    armored(&Row::default().signature(&signature).0)
}

/// A commit signed in the plain way.
fn signed_by(key: &impl SigningKey) -> Vec<u8> {
    over_commit(config(SignatureType::Binary, key, NOW, []), key)
}

fn account(keyring: &Keyring, armor: &[u8]) -> Account {
    judge(Some(keyring), armor, &commit(), Timestamp(0))
}

/// The reason that is given, `Ok` where it counts; and what is said.
fn told(keyring: &Keyring, armor: &[u8]) -> (Reason, String) {
    match account(keyring, armor).failed {
        Some(failed) => (failed.reason, failed.message),
        None => (Reason::Ok, String::new()),
    }
}

fn reason(keyring: &Keyring, armor: &[u8]) -> Reason {
    told(keyring, armor).0
}

#[test]
fn a_plain_certificate_and_signature_count() {
    let (key, row) = alice();
    let account = account(&row.keyring(), &signed_by(&key));
    assert_eq!(account.failed, None);
    assert_eq!(account.principal.as_deref(), Some("alice@acme.example"));
    let shown = account.key.unwrap();
    assert_eq!(shown.key_type.as_deref(), Some("openpgp-ed25519"));
    assert_eq!(shown.fingerprint.len(), 40);
    let holders = row.keyring().holders();
    assert_eq!(holders.len(), 1);
    assert_eq!(holders[0].fingerprint, shown.fingerprint);
    assert_eq!(holders[0].trouble, None);
}

#[test]
fn keys_and_signatures_of_version_6_count_too() {
    let (public, secret) = KeyType::Ed25519.generate(Seeded(6)).unwrap();
    let inner = PubKeyInner::new(
        KeyVersion::V6,
        KeyType::Ed25519.to_alg(),
        Time::from_secs(MADE),
        None,
        public,
    )
    .unwrap();
    let key = SecretKey::new(PublicKey::from_inner(inner).unwrap(), secret).unwrap();
    let sixth = |kind: SignatureType, created: u32, more: Vec<Subpacket>| {
        let hash = HashAlgorithm::Sha512;
        let mut six = SignatureConfig::v6(Seeded(7), kind, key.algorithm(), hash).unwrap();
        six.hashed_subpackets = config(kind, &key, created, more).hashed_subpackets;
        six
    };
    let id = user(ALICE);
    let own = sixth(SignatureType::CertPositive, MADE, vec![flags(true)]);
    let own = on_user(own, &key, &id);
    let keyring = Row::default().key(&key).user(&id).signature(&own).keyring();
    let armor = over_commit(sixth(SignatureType::Binary, NOW, vec![]), &key);
    let account = account(&keyring, &armor);
    assert_eq!(account.failed, None);
    assert_eq!(account.key.unwrap().fingerprint.len(), 64);
    let (other, _) = alice();
    assert_eq!(reason(&keyring, &signed_by(&other)), Reason::UnknownKey);
}

#[test]
fn the_earliest_end_that_a_key_gives_itself_counts() {
    let (key, _) = alice();
    let direct = on_key(
        config(SignatureType::Key, &key, MADE, [lasts(500)]),
        &key,
        &key,
    );
    let mut row = Row::default().key(&key).signature(&direct);
    row.0.extend_from_slice(&without_key(&alice().1.0));
    assert_eq!(reason(&row.keyring(), &signed_by(&key)), Reason::KeyExpired);
    let later = on_key(
        config(SignatureType::Key, &key, MADE + 1, [lasts(5000)]),
        &key,
        &key,
    );
    let mut row = Row::default()
        .key(&key)
        .signature(&direct)
        .signature(&later);
    row.0.extend_from_slice(&without_key(&alice().1.0));
    assert_eq!(reason(&row.keyring(), &signed_by(&key)), Reason::Ok);
    let holders = row.keyring().holders();
    assert_eq!(
        holders[0].keys[0].2,
        Some(Timestamp(i64::from(MADE) + 5000))
    );
}

/// A certificate's packets behind the first.
fn without_key(bytes: &[u8]) -> Vec<u8> {
    let packets = armor::packets(bytes, 100).unwrap();
    let first = packets[0].body;
    let end = first.as_ptr() as usize + first.len() - bytes.as_ptr() as usize;
    bytes[end..].to_vec()
}

#[test]
fn a_direct_signature_over_sha1_takes_away_and_gives_nothing() {
    let (key, _) = alice();
    let direct = |more: Vec<Subpacket>| {
        let signature = on_key(config(SignatureType::Key, &key, MADE, more), &key, &key);
        Row::default().key(&key).signature(&weak(&signature))
    };
    let mut ends = direct(vec![lasts(500), flags(true)]);
    ends.0.extend_from_slice(&without_key(&alice().1.0));
    assert_eq!(
        reason(&ends.keyring(), &signed_by(&key)),
        Reason::KeyExpired
    );
    let id = user(ALICE);
    let flagless = on_user(
        config(SignatureType::CertPositive, &key, MADE, []),
        &key,
        &id,
    );
    let gives = direct(vec![flags(true)]).user(&id).signature(&flagless);
    assert!(gives.parsed().is_err());
}

#[test]
fn self_signatures_over_sha1_do_not_count_and_no_older_one_takes_their_place() {
    let (key, _) = alice();
    let id = user(ALICE);
    let newer = config(SignatureType::CertPositive, &key, MADE + 1, [flags(true)]);
    let newer = weak(&on_user(newer, &key, &id));
    let refused = alice()
        .1
        .signature(&newer)
        .parsed()
        .unwrap_err()
        .to_string();
    assert!(refused.contains("SHA1"), "{refused}");
    let newest = on_user(
        config(SignatureType::CertPositive, &key, MADE + 2, [flags(true)]),
        &key,
        &id,
    );
    let renewed = alice().1.signature(&newer).signature(&newest).keyring();
    assert_eq!(reason(&renewed, &signed_by(&key)), Reason::Ok);
}

#[test]
fn a_revocation_counts_although_it_cannot_be_verified_and_a_strangers_does_not() {
    let (key, _) = alice();
    let (eve, other) = (primary(9), primary(8));
    let by = |config: SignatureConfig, signer: &SecretKey, over: &SecretKey| {
        let revocation = on_key(config, signer, over);
        // One over SHA-1 does, too: this is no place to be strict about hashes.
        let verdicts = [revocation.clone(), weak(&revocation)].map(|revocation| {
            let mut row = Row::default().key(&key).signature(&revocation);
            row.0.extend_from_slice(&without_key(&alice().1.0));
            // Somebody else, so that there is a keyring in any case.
            let id = user("Bob <bob@acme.example>");
            let own = on_user(config_of_bob(&other), &other, &id);
            let bob = Row::default().key(&other).user(&id).signature(&own);
            row.0.extend(bob.0);
            reason(&row.keyring(), &signed_by(&key))
        });
        assert_eq!(verdicts[0], verdicts[1]);
        verdicts[0]
    };
    let revocation = |signer: &SecretKey| config(SignatureType::KeyRevocation, signer, MADE, []);
    assert_eq!(by(revocation(&key), &key, &key), Reason::Revoked);
    // Over another key, but in the name of this one.
    assert_eq!(by(revocation(&key), &key, &eve), Reason::Revoked);
    assert_eq!(by(revocation(&eve), &eve, &key), Reason::Ok);
    let nameless = {
        let mut config = revocation(&key);
        config.hashed_subpackets.pop();
        config
    };
    assert_eq!(by(nameless, &key, &key), Reason::Revoked);

    // One whom the key appointed may revoke it.
    let appoints = on_key(
        config(
            SignatureType::Key,
            &key,
            MADE,
            [regular(SubpacketData::RevocationKey(RevocationKey::new(
                RevocationKeyClass::Default,
                eve.algorithm(),
                eve.fingerprint().as_bytes(),
            )))],
        ),
        &key,
        &key,
    );
    let by_eve = on_key(revocation(&eve), &eve, &key);
    let mut row = Row::default()
        .key(&key)
        .signature(&by_eve)
        .signature(&appoints);
    row.0.extend_from_slice(&without_key(&alice().1.0));
    assert!(row.parsed().unwrap_err().to_string().contains("revoked"));
}

fn config_of_bob(key: &SecretKey) -> SignatureConfig {
    config(SignatureType::CertPositive, key, MADE, [flags(true)])
}

#[test]
fn a_signature_that_demands_or_claims_something_else_is_not_taken() {
    let (key, row) = alice();
    let keyring = row.keyring();
    let plain = |more: Vec<Subpacket>| config(SignatureType::Binary, &key, NOW, more);
    let unknown = Subpacket::critical(SubpacketData::Experimental(101, vec![1].into())).unwrap();
    let shrugged = regular(SubpacketData::Experimental(101, vec![1].into()));
    assert_eq!(
        reason(&keyring, &over_commit(plain(vec![unknown.clone()]), &key)),
        Reason::Unsupported
    );
    let mut outside = plain(vec![]);
    outside.unhashed_subpackets = vec![unknown];
    assert_eq!(
        reason(&keyring, &over_commit(outside, &key)),
        Reason::Unsupported
    );
    assert_eq!(
        reason(&keyring, &over_commit(plain(vec![shrugged]), &key)),
        Reason::Ok
    );

    // Whose it is: said at least once, and the same each time.
    let eve = primary(9);
    let mut two = plain(vec![]);
    two.unhashed_subpackets = vec![regular(SubpacketData::IssuerKeyId(eve.legacy_key_id()))];
    assert_eq!(
        reason(&keyring, &over_commit(two, &key)),
        Reason::UnknownKey
    );
    let mut nobody = plain(vec![]);
    nobody.hashed_subpackets.pop();
    assert_eq!(
        reason(&keyring, &over_commit(nobody, &key)),
        Reason::UnknownKey
    );
    let in_alices_name = {
        let mut config = config(SignatureType::Binary, &eve, NOW, []);
        config.hashed_subpackets[1] = issuer(&key);
        over_commit(config, &eve)
    };
    assert_eq!(reason(&keyring, &in_alices_name), Reason::BadSignature);

    for kind in [
        SignatureType::Standalone,
        SignatureType::Timestamp,
        SignatureType::Other(0x51),
    ] {
        let mut odd = plain(vec![]);
        odd.typ = kind;
        let signature = odd
            .clone()
            .sign(&key, &no_password(), commit().payload.as_slice());
        if let Ok(signature) = signature {
            let armor = armored(&Row::default().signature(&signature).0);
            assert_eq!(reason(&keyring, &armor), Reason::Unsupported, "{kind:?}");
        }
    }
    // A signature on a name is none on a commit.
    let on_name = on_user(config_of_bob(&key), &key, &user(ALICE));
    let armor = armored(&Row::default().signature(&on_name).0);
    assert_eq!(reason(&keyring, &armor), Reason::Unsupported);

    let mut timeless = plain(vec![]);
    timeless.hashed_subpackets.remove(0);
    assert_eq!(
        reason(&keyring, &over_commit(timeless, &key)),
        Reason::BadSignature
    );
    let again = regular(SubpacketData::SignatureCreationTime(Time::from_secs(NOW)));
    assert_eq!(
        reason(&keyring, &over_commit(plain(vec![again]), &key)),
        Reason::BadSignature
    );
    let short = regular(SubpacketData::SignatureExpirationTime(Duration::from_secs(
        5,
    )));
    let brief = over_commit(plain(vec![short]), &key);
    assert_eq!(reason(&keyring, &brief), Reason::Ok);
    let later = judge(
        Some(&keyring),
        &brief,
        &commit(),
        Timestamp(i64::from(NOW) + 5),
    );
    assert_eq!(later.failed.unwrap().reason, Reason::KeyExpired);
}

#[test]
fn the_device_s_time_ends_a_key_whatever_the_commit_says() {
    let (key, _) = alice();
    let id = user(ALICE);
    let own = on_user(
        config(
            SignatureType::CertPositive,
            &key,
            MADE,
            [flags(true), lasts(2000)],
        ),
        &key,
        &id,
    );
    let keyring = Row::default().key(&key).user(&id).signature(&own).keyring();
    let armor = signed_by(&key);
    let at = |floor: u32| {
        judge(
            Some(&keyring),
            &armor,
            &commit(),
            Timestamp(i64::from(floor)),
        )
        .failed
        .map(|failed| failed.reason)
    };
    assert_eq!(at(0), None);
    assert_eq!(at(MADE + 1999), None);
    assert_eq!(at(MADE + 2000), Some(Reason::KeyExpired));
}

proptest! {
    #[test]
    fn no_bytes_make_it_stop(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let (_, row) = alice();
        let _ = Keyring::parse(NamedBytes { name: "noise", bytes: &bytes });
        let account = account(&row.keyring(), &armored(&bytes));
        prop_assert!(account.failed.is_some());
    }

    #[test]
    fn no_changed_byte_of_a_certificate_or_signature_makes_it_stop_or_lets_another_content_pass(
        at in 0_usize..1000, with in any::<u8>()
    ) {
        let (key, row) = alice();
        let mut bytes = row.0;
        let place = at % bytes.len();
        bytes[place] ^= with;
        let _ = Keyring::parse(NamedBytes { name: "noise", bytes: &bytes });

        let keyring = alice().1.keyring();
        let signature = config(SignatureType::Binary, &key, NOW, [])
            .sign(&key, &no_password(), &b"another content"[..])
            .unwrap();
        let mut bytes = Row::default().signature(&signature).0;
        let place = at % bytes.len();
        bytes[place] ^= with;
        let account = account(&keyring, &armored(&bytes));
        prop_assert!(account.failed.is_some());
    }
}
