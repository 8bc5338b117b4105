#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
use super::super::admission::Among;
use super::super::keygen::{Case, Desk, NOW};
use super::super::revoked::{Revoked, RevokedError};
use super::*;

const MESSAGE: &[u8] = b"subject\n";

fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

fn head(version: u32) -> Vec<u8> {
    [
        MAGIC.to_vec(),
        version.to_be_bytes().to_vec(),
        3_u64.to_be_bytes().to_vec(),
        vec![0; 16],
        string(b""),
        string(b"a comment"),
    ]
    .concat()
}

fn section(kind: u8, content: &[u8]) -> Vec<u8> {
    [vec![kind], string(content)].concat()
}

/// A list of one section of any authority's certificates, with one part.
fn of_anyone(kind: u8, content: &[u8]) -> Vec<u8> {
    let content = [string(b""), string(b""), section(kind, content)].concat();
    [head(1), section(SECTION_CERTIFICATES, &content)].concat()
}

fn extension_of(critical: u8) -> Vec<u8> {
    [string(b"new@example.com"), vec![critical], string(b"x")].concat()
}

/// A certificate, read, by this authority, with this serial and key id.
fn certificate(desk: &Desk, authority: &str, serial: &str, key_id: &str) -> Certificate {
    let name = format!("{authority}-{serial}-{key_id}");
    if !desk.path(&format!("{name}-cert.pub")).exists() {
        desk.certify(
            &name,
            "alice",
            authority,
            &["-I", key_id, "-n", "alice@x", "-z", serial],
        );
    }
    Certificate::from_blob(&desk.certificate(&name)).unwrap()
}

fn desk() -> Desk {
    let desk = Desk::new();
    for name in ["alice", "ca", "other"] {
        desk.key(name, "-t ed25519");
    }
    desk
}

#[test]
fn a_list_by_ssh_keygen_revokes_what_ssh_keygen_says_it_revokes() {
    let desk = desk();
    let sha256 = desk.keygen(&["-l", "-f", "alice.pub"], b"").1;
    let fingerprint = sha256.split(' ').nth(1).unwrap();
    let specifications = [
        (None, String::new()),
        (None, format!("key: {}\n", desk.public("alice"))),
        (None, format!("sha1: {}\n", desk.public("alice"))),
        (None, format!("sha256: {}\n", desk.public("alice"))),
        (None, format!("hash: {fingerprint}\n")),
        (None, desk.public("ca")),
        (None, format!("sha1: {}\n", desk.public("ca"))),
        (None, format!("sha256: {}\n", desk.public("ca"))),
        (Some("ca"), "serial: 7\n".to_owned()),
        (Some("ca"), "serial: 5-9\n".to_owned()),
        (Some("ca"), "serial: 1-18446744073709551615\n".to_owned()),
        (Some("ca"), "serial: 18446744073709551615\n".to_owned()),
        (
            Some("ca"),
            "serial: 0x8000000000000000-18446744073709551615\n".to_owned(),
        ),
        // Scattered ones make a bitmap, few a list, a run a range.
        (
            Some("ca"),
            (1..400)
                .step_by(3)
                .map(|serial| format!("serial: {serial}\n"))
                .collect(),
        ),
        (
            Some("ca"),
            (2..600)
                .filter(|serial| serial % 7 != 0)
                .map(|serial| format!("serial: {}\n", serial + 1000))
                .collect(),
        ),
        (Some("ca"), "id: laptop\n".to_owned()),
        (Some("ca"), "id: lapto\nid: laptop2\n".to_owned()),
        (Some("other"), "serial: 1-1000\nid: laptop\n".to_owned()),
        (Some("none"), "serial: 1-8\nid: phone\n".to_owned()),
    ];
    let serials = [
        "0",
        "1",
        "6",
        "7",
        "8",
        "9",
        "10",
        "1001",
        "1002",
        "1003",
        "18446744073709551615",
    ];
    let mut certificates = Vec::new();
    for serial in serials {
        for key_id in ["laptop", "phone"] {
            certificate(&desk, "ca", serial, key_id);
            certificates.push(("ca", serial, key_id));
        }
    }
    for (authority, serial, key_id) in [("other", "7", "laptop"), ("other", "0", "phone")] {
        certificate(&desk, authority, serial, key_id);
        certificates.push((authority, serial, key_id));
    }
    let mut found = 0;
    for (authority, text) in specifications {
        let bytes = match authority {
            // `ssh-keygen` takes this word for every authority.
            Some("none") => {
                desk.write("specification", &text);
                let _ = std::fs::remove_file(desk.path("krl"));
                let (made, _) = desk.keygen(
                    &["-q", "-k", "-f", "krl", "-s", "none", "specification"],
                    b"",
                );
                assert!(made);
                std::fs::read(desk.path("krl")).unwrap()
            }
            authority => desk.krl(authority, &text),
        };
        let list = Krl::parse(&bytes).unwrap_or_else(|error| panic!("{text}: {error}"));
        let keys = ["alice", "ca", "other"];
        let names: Vec<String> = keys
            .iter()
            .map(|key| (*key).to_owned())
            .chain(
                certificates
                    .iter()
                    .map(|(by, serial, key_id)| format!("{by}-{serial}-{key_id}-cert")),
            )
            .collect();
        let ours: Vec<bool> = keys
            .iter()
            .map(|key| list.revokes_key(&plain(&desk, key)))
            .chain(certificates.iter().map(|(by, serial, key_id)| {
                let read = certificate(&desk, by, serial, key_id);
                list.revokes_certificate(&read)
                    || list.revokes_key(read.key())
                    || list.revokes_key(read.authority())
            }))
            .collect();
        let theirs = desk.revoked(&bytes, &names);
        for ((name, ours), theirs) in names.iter().zip(&ours).zip(&theirs) {
            assert_eq!(ours, theirs, "{name} by {text}");
        }
        found += ours.iter().filter(|revoked| **revoked).count();
        // A list that is cut off anywhere is none; nothing at all is a list of nobody, as for OpenSSH.
        for end in (1..bytes.len()).rev().step_by(1 + bytes.len() / 64) {
            let revoked = Revoked::parse("revoked", &bytes[..end]);
            let whole = end == head_of(&bytes);
            assert!(
                whole || revoked.is_err(),
                "{end} of {} bytes by {text}",
                bytes.len()
            );
        }
    }
    assert!(found > 100, "{found}");
}

fn plain(desk: &Desk, key: &str) -> Key {
    let public = desk.public(key);
    let (kind, base64) = public.split_once(' ').unwrap();
    Key::from_columns(kind, base64).unwrap()
}

/// Where a list's sections begin: one cut off there is a list that revokes nothing.
fn head_of(bytes: &[u8]) -> usize {
    let mut fields = Strings(&bytes[MAGIC.len() + 4 + 24..]);
    fields.next_string().unwrap();
    fields.next_string().unwrap();
    bytes.len() - fields.0.len()
}

#[test]
fn a_signature_is_judged_by_the_list_as_ssh_keygen_judges_it() {
    let desk = desk();
    let names = ["-n", "alice@x"];
    desk.certify(
        "old",
        "alice",
        "ca",
        &[&names[..], &["-I", "old", "-z", "1"]].concat(),
    );
    desk.certify(
        "new",
        "alice",
        "ca",
        &[&names[..], &["-I", "new", "-z", "2"]].concat(),
    );
    let signers = format!(
        "alice@x cert-authority {}\nalice@x {}\n",
        desk.public("ca"),
        desk.public("alice")
    );
    let revocations: Vec<(&str, Vec<u8>)> = vec![
        ("serial 1", desk.krl(Some("ca"), "serial: 1\n")),
        ("id old", desk.krl(Some("ca"), "id: old\n")),
        ("both", desk.krl(Some("ca"), "serial: 1-2\n")),
        ("another's", desk.krl(Some("other"), "serial: 1-2\n")),
        ("the key", desk.krl(None, &desk.public("alice"))),
        ("the authority", desk.krl(None, &desk.public("ca"))),
        ("a list of the key", desk.read("alice.pub").into_bytes()),
        ("a list of the authority", desk.read("ca.pub").into_bytes()),
        ("a list of another", desk.read("other.pub").into_bytes()),
        (
            "a list of a certificate, which is one of its key",
            desk.read("old-cert.pub").into_bytes(),
        ),
        ("a list of nobody", b"# none\n\n".to_vec()),
    ];
    let mut refused = 0;
    for (what, revoked) in &revocations {
        for signed in ["old-cert", "new-cert", "alice"] {
            let case = Case {
                signers: &signers,
                armor: &desk.sign(signed, "git", MESSAGE),
                message: MESSAGE,
                at: NOW,
                revoked: Some(revoked),
            };
            let theirs = desk.theirs(&case, &["alice@x"]);
            let word = case.word();
            let wanted = if theirs.is_empty() {
                "revoked"
            } else {
                "alice@x"
            };
            assert_eq!(word, wanted, "{signed} by {what}");
            refused += usize::from(word == "revoked");
        }
    }
    assert_eq!(refused, 1 + 1 + 2 + 3 + 2 + 3 + 2 + 3);
    let case = Case {
        signers: &signers,
        armor: &desk.sign("old-cert", "git", MESSAGE),
        message: MESSAGE,
        at: NOW,
        revoked: Some(&revocations[0].1),
    };
    let why = case.ours(0, Among::Everyone).unwrap_err();
    assert!(
        why.contains("\"old\" (serial 1) of authority SHA256:"),
        "{why}"
    );
}

#[test]
fn what_is_not_understood_in_a_list_refuses_the_list() {
    let serial = 7_u64.to_be_bytes();
    let range = |first: u64, last: u64| [first.to_be_bytes(), last.to_be_bytes()].concat();
    let bitmap =
        |first: u64, number: &[u8]| [first.to_be_bytes().to_vec(), string(number)].concat();
    let good = [
        head(1),
        of_anyone(CERTIFICATES_SERIALS, &serial),
        of_anyone(CERTIFICATES_RANGE, &range(1, u64::MAX)),
        of_anyone(CERTIFICATES_BITMAP, &bitmap(0, b"\x02")),
        of_anyone(CERTIFICATES_BITMAP, &bitmap(u64::MAX, b"\x01")),
        of_anyone(CERTIFICATES_BITMAP, &bitmap(1, b"")),
        of_anyone(CERTIFICATES_BITMAP, &bitmap(1, &[0x7f; MAX_BITMAP])),
        of_anyone(CERTIFICATES_KEY_IDS, &string(b"id")),
        of_anyone(CERTIFICATES_EXTENSION, &extension_of(0)),
        [head(1), section(SECTION_EXTENSION, &extension_of(0))].concat(),
        [head(1), section(SECTION_SHA1, &string(&[1; 20]))].concat(),
        [head(1), section(SECTION_SHA256, &string(&[1; 32]))].concat(),
        [head(1), section(SECTION_KEYS, b"")].concat(),
    ];
    for (at, bytes) in good.iter().enumerate() {
        assert_eq!(Krl::parse(bytes).err(), None, "the good one {at}");
    }
    let bad = [
        (head(2), KrlError::Version(2)),
        (head(0), KrlError::Version(0)),
        ([head(1), vec![1]].concat(), KrlError::Truncated),
        ([head(1), section(6, b"")].concat(), KrlError::Section(6)),
        ([head(1), section(0, b"")].concat(), KrlError::Section(0)),
        (of_anyone(0x24, b""), KrlError::Section(0x24)),
        (
            [head(1), section(SECTION_EXTENSION, &extension_of(1))].concat(),
            KrlError::Extension("new@example.com".to_owned()),
        ),
        (
            of_anyone(CERTIFICATES_EXTENSION, &extension_of(1)),
            KrlError::Extension("new@example.com".to_owned()),
        ),
        (
            of_anyone(CERTIFICATES_SERIALS, &serial[..7]),
            KrlError::Truncated,
        ),
        (
            of_anyone(CERTIFICATES_RANGE, &range(1, 2)[..15]),
            KrlError::Truncated,
        ),
    ];
    for (bytes, why) in bad {
        assert_eq!(Krl::parse(&bytes), Err(why));
    }
    for (what, bytes) in [
        ("serial zero", of_anyone(CERTIFICATES_SERIALS, &[0; 8])),
        ("from zero", of_anyone(CERTIFICATES_RANGE, &range(0, 9))),
        ("backwards", of_anyone(CERTIFICATES_RANGE, &range(9, 8))),
        (
            "two ranges in one",
            of_anyone(CERTIFICATES_RANGE, &range(1, 2).repeat(2)),
        ),
        (
            "a bit for zero",
            of_anyone(CERTIFICATES_BITMAP, &bitmap(0, b"\x01")),
        ),
        (
            "a negative number",
            of_anyone(CERTIFICATES_BITMAP, &bitmap(1, b"\x80")),
        ),
        (
            "a bitmap beyond the end",
            of_anyone(CERTIFICATES_BITMAP, &bitmap(u64::MAX, b"\x02")),
        ),
        (
            "a large bitmap",
            of_anyone(CERTIFICATES_BITMAP, &bitmap(1, &[0x7f; MAX_BITMAP + 1])),
        ),
        (
            "a NUL in a key id",
            of_anyone(CERTIFICATES_KEY_IDS, &string(b"i\0d")),
        ),
        (
            "a short digest",
            [head(1), section(SECTION_SHA1, &string(&[1; 19]))].concat(),
        ),
        (
            "a long digest",
            [head(1), section(SECTION_SHA256, &string(&[1; 33]))].concat(),
        ),
        (
            "no authority's key",
            [
                head(1),
                section(
                    SECTION_CERTIFICATES,
                    &[string(b"rubbish"), string(b"")].concat(),
                ),
            ]
            .concat(),
        ),
    ] {
        assert!(
            matches!(Krl::parse(&bytes), Err(KrlError::Malformed(_))),
            "{what}"
        );
    }
    assert!(matches!(
        Revoked::parse("f", &head(2)),
        Err(RevokedError::Krl { .. })
    ));
    assert_eq!(Revoked::parse("f", b""), Ok(Revoked::default()));
    let huge = vec![b'#'; 4 * 1024 * 1024 + 1];
    assert!(matches!(
        Revoked::parse("f", &huge),
        Err(RevokedError::TooLarge { .. })
    ));
    // Words of a specification are no list of keys.
    for text in ["serial: 7\n", "id: laptop\n", "sha256: x\n"] {
        assert!(
            matches!(
                Revoked::parse("f", text.as_bytes()),
                Err(RevokedError::Line { .. })
            ),
            "{text}"
        );
    }
}

#[test]
fn serials_are_found_at_every_edge() {
    let desk = desk();
    let mut sections = vec![string(b""), string(b"")];
    let range = |first: u64, last: u64| [first.to_be_bytes(), last.to_be_bytes()].concat();
    for (first, last) in [(10, 20), (15, 30), (31, 31), (5, 5), (100, 200), (120, 130)] {
        sections.push(section(CERTIFICATES_RANGE, &range(first, last)));
    }
    let bitmap = [1000_u64.to_be_bytes().to_vec(), string(&[0x01, 0x80, 0x01])].concat();
    sections.push(section(CERTIFICATES_BITMAP, &bitmap));
    let bytes = [head(1), section(SECTION_CERTIFICATES, &sections.concat())].concat();
    let list = Krl::parse(&bytes).unwrap();
    let edges = [
        ("0", false),
        ("4", false),
        ("5", true),
        ("6", false),
        ("9", false),
        ("10", true),
        ("25", true),
        ("31", true),
        ("32", false),
        ("99", false),
        ("150", true),
        ("200", true),
        ("201", false),
        ("999", false),
        ("1000", true),
        ("1001", false),
        ("1014", false),
        ("1015", true),
        ("1016", true),
        ("1017", false),
        ("18446744073709551615", false),
    ];
    let mut names = Vec::new();
    for (serial, wanted) in edges {
        let read = certificate(&desk, "ca", serial, "id");
        assert_eq!(list.revokes_certificate(&read), wanted, "{serial}");
        names.push(format!("ca-{serial}-id-cert"));
    }
    assert_eq!(
        desk.revoked(&bytes, &names),
        edges.map(|(_, wanted)| wanted)
    );
}

#[test]
fn a_signed_list_counts_while_its_signatures_fit() {
    use ed25519_dalek::{Signer as _, SigningKey};
    let sign = |bytes: &[u8], seed: u8| {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let public = [
            string(b"ssh-ed25519"),
            string(key.verifying_key().as_bytes()),
        ]
        .concat();
        let signed = [bytes, &section(SECTION_SIGNATURE, &public)].concat();
        let signature = [
            string(b"ssh-ed25519"),
            string(&key.sign(&signed).to_bytes()),
        ]
        .concat();
        ([signed, string(&signature)].concat(), public)
    };
    let list = [head(1), section(SECTION_SHA1, &string(&[1; 20]))].concat();
    let (once, public) = sign(&list, 3);
    let (twice, _) = sign(&once, 4);
    assert!(Krl::parse(&once).is_ok());
    assert!(Krl::parse(&twice).is_ok());
    assert!(matches!(
        Krl::parse(&sign(&once, 3).0),
        Err(KrlError::Malformed(_))
    ));
    let mut changed = once.clone();
    changed[list.len() - 1] ^= 1;
    assert!(matches!(Krl::parse(&changed), Err(KrlError::Signature(_))));
    let behind = [once.clone(), section(SECTION_SHA1, &string(&[2; 20]))].concat();
    assert!(matches!(Krl::parse(&behind), Err(KrlError::Malformed(_))));
    assert_eq!(
        Krl::parse(&once[..once.len() - 1]),
        Err(KrlError::Truncated)
    );
    // A key that the list itself revokes signs no list.
    let own = [head(1), section(SECTION_KEYS, &string(&public))].concat();
    assert_eq!(Krl::parse(&sign(&own, 3).0), Err(KrlError::SignersRevoked));
    assert!(Krl::parse(&sign(&sign(&own, 3).0, 4).0).is_ok());
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let _ = Krl::parse(&bytes);
        let _ = Krl::parse(&[head(1), bytes.clone()].concat());
        let _ = Krl::parse(&of_anyone(CERTIFICATES_BITMAP, &bytes));
        let _ = Revoked::parse("f", &bytes);
    }

    #[test]
    fn no_changed_byte_makes_it_panic(at in 0_usize..200, byte in proptest::num::u8::ANY) {
        let mut bytes = [
            of_anyone(CERTIFICATES_RANGE, &[[0, 0, 0, 0, 0, 0, 0, 1], [255; 8]].concat()),
            section(SECTION_SHA1, &string(&[1; 20])),
        ]
        .concat();
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        let _ = Krl::parse(&bytes);
    }
}
