#![allow(clippy::unwrap_used, reason = "tests")]
use super::super::keygen::Desk;
use super::*;

/// What a certificate says, to be put together by hand and signed by an ed25519 authority.
struct Draft {
    kind: u32,
    principals: Vec<u8>,
    critical: Vec<u8>,
    extensions: Vec<u8>,
    authority: Option<Vec<u8>>,
    trailing: &'static [u8],
    forged: &'static [u8],
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            kind: 1,
            principals: string(b"alice@x"),
            critical: Vec::new(),
            extensions: Vec::new(),
            authority: None,
            trailing: b"",
            forged: b"",
        }
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

fn flag(name: &[u8]) -> Vec<u8> {
    [string(name), string(b"")].concat()
}

impl Draft {
    fn blob(&self) -> Vec<u8> {
        use ed25519_dalek::{Signer as _, SigningKey};
        let public = |key: &SigningKey| {
            [
                string(b"ssh-ed25519"),
                string(key.verifying_key().as_bytes()),
            ]
            .concat()
        };
        let key = SigningKey::from_bytes(&[7; 32]);
        let authority = SigningKey::from_bytes(&[9; 32]);
        let body = [
            string(b"ssh-ed25519-cert-v01@openssh.com"),
            string(&[1; 32]),
            string(key.verifying_key().as_bytes()),
            5_u64.to_be_bytes().to_vec(),
            self.kind.to_be_bytes().to_vec(),
            string(b"id"),
            string(&self.principals),
            0_u64.to_be_bytes().to_vec(),
            u64::MAX.to_be_bytes().to_vec(),
            string(&self.critical),
            string(&self.extensions),
            string(b""),
            string(&self.authority.clone().unwrap_or_else(|| public(&authority))),
        ]
        .concat();
        let signed = [&body[..], self.forged].concat();
        let signature = [
            string(b"ssh-ed25519"),
            string(&authority.sign(&signed).to_bytes()),
        ]
        .concat();
        [body, string(&signature), self.trailing.to_vec()].concat()
    }

    fn read(&self) -> Result<Certificate, CertificateError> {
        Certificate::from_blob(&self.blob())
    }
}

#[test]
fn a_certificate_by_hand_is_taken_as_one_by_ssh_keygen_is() {
    let certificate = Draft::default().read().unwrap();
    assert_eq!(certificate.vouched(), Ok(Presence::NotAsked));
    assert_eq!(certificate.principals(), ["alice@x"]);
    assert_eq!(certificate.key_type(), "ssh-ed25519-cert-v01@openssh.com");
    assert_eq!(certificate.window(), "always to forever");
    assert!(certificate.has_begun(Timestamp(i64::MIN)));
    assert!(!certificate.is_over(Timestamp(i64::MAX)));
    assert!(
        certificate
            .to_string()
            .starts_with("\"id\" (serial 5) of authority SHA256:")
    );
}

#[test]
fn a_malformed_certificate_is_refused() {
    let inner = Draft::default().blob();
    for (what, draft) in [
        (
            "of no kind",
            Draft {
                kind: 0,
                ..Draft::default()
            },
        ),
        (
            "of a third kind",
            Draft {
                kind: 3,
                ..Draft::default()
            },
        ),
        (
            "with bytes behind it",
            Draft {
                trailing: b"\0",
                ..Draft::default()
            },
        ),
        (
            "of an authority that is a certificate",
            Draft {
                authority: Some(inner),
                ..Draft::default()
            },
        ),
        (
            "of no authority",
            Draft {
                authority: Some(Vec::new()),
                ..Draft::default()
            },
        ),
        (
            "with half a name",
            Draft {
                principals: b"\0\0\0\x09alice@x".to_vec(),
                ..Draft::default()
            },
        ),
        (
            "with too many names",
            Draft {
                principals: string(b"a").repeat(MAX_PRINCIPALS + 1),
                ..Draft::default()
            },
        ),
        (
            "with an option without a value",
            Draft {
                critical: string(b"verify-required"),
                ..Draft::default()
            },
        ),
        (
            "with an option twice",
            Draft {
                critical: flag(b"verify-required").repeat(2),
                ..Draft::default()
            },
        ),
        (
            "with options out of order",
            Draft {
                extensions: [flag(b"permit-pty"), flag(b"no-touch-required")].concat(),
                ..Draft::default()
            },
        ),
    ] {
        assert!(
            matches!(draft.read(), Err(CertificateError::Malformed(_))),
            "{what}"
        );
    }
    let blob = Draft::default().blob();
    for end in 0..blob.len() {
        assert!(Certificate::from_blob(&blob[..end]).is_err(), "{end} bytes");
    }
    let many = Draft {
        principals: string(b"a").repeat(MAX_PRINCIPALS),
        ..Draft::default()
    };
    assert_eq!(many.read().unwrap().principals().len(), MAX_PRINCIPALS);
}

#[test]
fn a_certificate_that_its_authority_did_not_sign_vouches_for_nobody() {
    let forged = Draft {
        forged: b"x",
        ..Draft::default()
    };
    assert_eq!(forged.read().unwrap().vouched(), Err(NotVouched::Forged));
    let host = Draft {
        kind: 2,
        ..Draft::default()
    };
    assert_eq!(host.read().unwrap().vouched(), Err(NotVouched::NotForUsers));
    // Any changed bit is noticed, wherever it stands.
    let blob = Draft::default().blob();
    for at in 0..blob.len() {
        let mut blob = blob.clone();
        blob[at] ^= 1;
        if let Ok(certificate) = Certificate::from_blob(&blob) {
            assert!(certificate.vouched().is_err(), "byte {at}");
        }
    }
}

#[test]
fn names_that_cannot_be_told_apart_name_nobody() {
    let names = [&b""[..], b"a,b", b"a\nb", b"a\0", b"\xff", b"a b", b"!c"]
        .map(string)
        .concat();
    let certificate = Draft {
        principals: names,
        ..Draft::default()
    }
    .read()
    .unwrap();
    assert_eq!(certificate.principals(), ["a b", "!c"]);
}

#[test]
fn a_name_written_into_a_certificate_of_ssh_keygen_is_noticed() {
    let desk = Desk::new();
    desk.key("ca", "-t ed25519");
    desk.key("mallory", "-t ed25519");
    desk.certify(
        "m",
        "mallory",
        "ca",
        &["-I", "m", "-n", "nobody@y", "-z", "3"],
    );
    // Mallory's own certificate, with another name of the same length written into it.
    let blob = desk.certificate("m");
    let at = blob
        .windows(8)
        .position(|bytes| bytes == b"nobody@y")
        .unwrap();
    let mut forged = blob;
    forged[at..at + 8].copy_from_slice(b"alicee@x");
    let certificate = Certificate::from_blob(&forged).unwrap();
    assert_eq!(certificate.principals(), ["alicee@x"]);
    assert_eq!(certificate.vouched(), Err(NotVouched::Forged));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let head = string(b"ssh-ed25519-cert-v01@openssh.com");
        let _ = Certificate::from_blob(&bytes);
        let _ = Certificate::from_blob(&[head, bytes].concat());
    }

    #[test]
    fn no_change_makes_it_panic(at in 0_usize..300, byte in proptest::num::u8::ANY) {
        let mut blob = Draft::default().blob();
        if let Some(place) = blob.get_mut(at) {
            *place = byte;
        }
        let _ = Certificate::from_blob(&blob).map(|certificate| certificate.vouched());
    }
}
