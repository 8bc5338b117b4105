#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256, Sha512};

use super::super::sshsig::ArmoredSignature;
use super::*;
use crate::domain::commit::Descent;
use crate::domain::text::base64;

const PLAIN: &str = "ssh-ed25519";
const SK: &str = "sk-ssh-ed25519@openssh.com";

fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

/// A signer whose signatures can be shaped at will.
struct Pen {
    key: SigningKey,
    kind: &'static str,
    flags: u8,
    namespace: &'static str,
    trailing: &'static [u8],
}

impl Pen {
    fn new(kind: &'static str) -> Self {
        Self {
            key: SigningKey::from_bytes(&[7; 32]),
            kind,
            flags: 1,
            namespace: "git",
            trailing: b"",
        }
    }

    fn blob(&self) -> Vec<u8> {
        let mut blob = [
            string(self.kind.as_bytes()),
            string(self.key.verifying_key().as_bytes()),
        ]
        .concat();
        if self.kind == SK {
            blob.extend(string(b"ssh:"));
        }
        blob
    }

    fn line(&self, options: &str) -> String {
        format!("alice@x {options} {} {}\n", self.kind, base64(&self.blob()))
    }

    fn armor(&self, payload: &[u8]) -> String {
        let head = [
            b"SSHSIG".to_vec(),
            string(self.namespace.as_bytes()),
            string(b""),
            string(b"sha512"),
        ]
        .concat();
        let signed = [head, string(&Sha512::digest(payload))].concat();
        let mut inner = string(self.kind.as_bytes());
        if self.kind == SK {
            let trailer = [self.flags, 0, 0, 0, 9];
            let by_key = [
                &Sha256::digest("ssh:")[..],
                &trailer,
                &Sha256::digest(&signed),
            ]
            .concat();
            inner.extend(string(&self.key.sign(&by_key).to_bytes()));
            inner.extend(trailer);
        } else {
            inner.extend(string(&self.key.sign(&signed).to_bytes()));
        }
        inner.extend(self.trailing);
        let blob = [
            b"SSHSIG\0\0\0\x01".to_vec(),
            string(&self.blob()),
            string(self.namespace.as_bytes()),
            string(b""),
            string(b"sha512"),
            string(&inner),
        ]
        .concat();
        format!(
            "-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n",
            base64(&blob)
        )
    }

    fn commit(&self, message: &str) -> RawCommit {
        self.commit_with(message, |armor| armor)
    }

    fn commit_with(&self, message: &str, change: impl Fn(String) -> String) -> RawCommit {
        let head = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@x> 1700000000 +0000\ncommitter A <a@x> 1700000000 +0000\n";
        let armor = change(self.armor(format!("{head}\n{message}").as_bytes()));
        let folded = armor.trim_end_matches('\n').replace('\n', "\n ");
        raw(format!("{head}gpgsig {folded}\n\n{message}").into_bytes())
    }
}

fn raw(bytes: Vec<u8>) -> RawCommit {
    let mut hasher = sha1_checked::Sha1::new();
    hasher.update(format!("commit {}\0", bytes.len()));
    hasher.update(&bytes);
    let id: String = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    RawCommit {
        id: id.parse().unwrap(),
        bytes,
        descent: Descent::NoFloor,
    }
}

fn policy(lines: &str) -> TrustPolicy {
    TrustPolicy::of(AllowedSigners::parse("signers", lines.as_bytes(), &TimeZone::UTC).unwrap())
}

/// A reason, `ok`, or `undecided`.
fn word(policy: &TrustPolicy, raw: &RawCommit, floor: i64) -> &'static str {
    match policy.judge(raw, Timestamp(floor)) {
        Verdict::Trusted(_) => "ok",
        Verdict::Refused(refused) => refused.reason.as_str(),
        Verdict::Undecided(_) => "undecided",
    }
}

#[test]
fn a_signed_commit_of_a_signer_is_trusted_and_says_by_whom() {
    let pen = Pen::new(PLAIN);
    let raw = pen.commit("subject\n\nRetry: abc\n");
    let Verdict::Trusted(commit) = policy(&pen.line("")).judge(&raw, Timestamp(0)) else {
        panic!("not trusted")
    };
    assert_eq!(commit.principal(), "alice@x");
    assert_eq!(commit.key_type(), PLAIN);
    assert!(commit.fingerprint().starts_with("SHA256:"));
    assert_eq!(commit.trailers("retry").collect::<Vec<_>>(), ["abc"]);
    assert_eq!(commit.id(), &raw.id);
}

#[test]
fn a_security_key_must_have_been_touched() {
    let mut pen = Pen::new(SK);
    for (flags, word_without, word_with) in [
        (0, "bad-signature", "ok"),
        (1, "ok", "ok"),
        (5, "ok", "ok"),
        (4, "bad-signature", "ok"),
    ] {
        pen.flags = flags;
        assert_eq!(
            word(&policy(&pen.line("")), &pen.commit("m\n"), 0),
            word_without,
            "flags {flags}"
        );
        assert_eq!(
            word(
                &policy(&pen.line("no-touch-required")),
                &pen.commit("m\n"),
                0
            ),
            word_with,
            "flags {flags}"
        );
    }
}

#[test]
fn a_signature_that_is_not_exactly_one_signature_is_refused() {
    let pen = Pen::new(PLAIN);
    let policy = policy(&pen.line(""));
    type Change = fn(String) -> String;
    let cases: [(&str, Change, &str); 9] = [
        (
            "text before",
            |armor| format!("x\n{armor}"),
            "bad-signature",
        ),
        (
            "text behind",
            |armor| format!("{armor}x\n"),
            "bad-signature",
        ),
        ("twice", |armor| format!("{armor}{armor}"), "bad-signature"),
        (
            "carriage returns",
            |armor| armor.replace('\n', "\r\n"),
            "bad-signature",
        ),
        (
            "a blank inside",
            |armor| armor.replacen("U1NI", "U1N I", 1),
            "bad-signature",
        ),
        (
            "not finished",
            |armor| armor.replace("-----END SSH SIGNATURE-----\n", ""),
            "bad-signature",
        ),
        (
            "OpenPGP",
            |_| "-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----\n".to_owned(),
            "unsupported",
        ),
        (
            "X.509",
            |_| "-----BEGIN SIGNED MESSAGE-----\nAAAA\n-----END SIGNED MESSAGE-----\n".to_owned(),
            "unsupported",
        ),
        ("empty", |_| String::new(), "bad-signature"),
    ];
    for (what, change, wanted) in cases {
        assert_eq!(
            word(&policy, &pen.commit_with("m\n", change), 0),
            wanted,
            "{what}"
        );
    }
    assert_eq!(
        word(&policy, &pen.commit_with("m\n", |armor| armor + "\n\n"), 0),
        "ok",
        "empty lines behind it"
    );
    let trailing = Pen {
        trailing: b"x",
        ..Pen::new(PLAIN)
    };
    assert_eq!(word(&policy, &trailing.commit("m\n"), 0), "bad-signature");
    let sk = Pen {
        trailing: b"x",
        ..Pen::new(SK)
    };
    assert_eq!(
        word(&super::tests::policy(&sk.line("")), &sk.commit("m\n"), 0),
        "bad-signature"
    );
}

#[test]
fn a_signature_of_another_namespace_or_key_does_not_count() {
    let pen = Pen::new(PLAIN);
    let file = Pen {
        namespace: "file",
        ..Pen::new(PLAIN)
    };
    assert_eq!(
        word(&policy(&pen.line("")), &file.commit("m\n"), 0),
        "wrong-namespace"
    );
    assert_eq!(
        word(
            &policy(&pen.line("namespaces=\"file\"")),
            &pen.commit("m\n"),
            0
        ),
        "wrong-namespace"
    );
    assert_eq!(
        word(
            &policy(&pen.line("namespaces=\"g*\"")),
            &pen.commit("m\n"),
            0
        ),
        "ok"
    );
    let other = Pen {
        key: SigningKey::from_bytes(&[8; 32]),
        ..Pen::new(PLAIN)
    };
    assert_eq!(
        word(&policy(&pen.line("")), &other.commit("m\n"), 0),
        "unknown-key"
    );
    // The CA's own key signs nothing, also where another signer makes the file usable.
    let lines = other.line("") + &pen.line("cert-authority");
    assert_eq!(word(&policy(&lines), &pen.commit("m\n"), 0), "unknown-key");
    // A line that was skipped grants nothing.
    let lines = other.line("") + &pen.line("frobnicate");
    assert_eq!(word(&policy(&lines), &pen.commit("m\n"), 0), "unknown-key");
}

#[test]
fn any_changed_byte_of_a_signed_commit_is_noticed() {
    let pen = Pen::new(PLAIN);
    let policy = policy(&pen.line(""));
    let good = pen.commit("subject\n");
    for at in 0..good.bytes.len() {
        let mut bytes = good.bytes.clone();
        bytes[at] ^= 1;
        assert_ne!(word(&policy, &raw(bytes), 0), "ok", "byte {at}");
    }
    let renamed = RawCommit {
        id: "4b825dc642cb6eb9a060e54bf8d69288fbee4904".parse().unwrap(),
        ..good
    };
    assert_eq!(word(&policy, &renamed, 0), "bad-signature");
}

#[test]
fn a_keys_window_is_judged_at_the_later_of_the_commits_time_and_the_floor() {
    let pen = Pen::new(PLAIN);
    let raw = pen.commit("m\n"); // 2023-11-14
    let judged = |options: &str, floor| word(&policy(&pen.line(options)), &raw, floor);
    assert_eq!(judged("valid-before=\"20240101Z\"", 0), "ok");
    assert_eq!(
        judged("valid-before=\"20240101Z\"", 1_800_000_000),
        "key-expired"
    );
    assert_eq!(judged("valid-before=\"20230101Z\"", 0), "key-expired");
    assert_eq!(judged("valid-after=\"20240101Z\"", 0), "key-not-yet-valid");
    assert_eq!(
        judged("valid-after=\"20240101Z\"", 1_800_000_000),
        "key-not-yet-valid"
    );
    assert_eq!(judged("valid-after=\"20230101Z\"", 0), "ok");
    // The last second counts, as in ssh-keygen.
    assert_eq!(judged("valid-before=\"20231114221320Z\"", 0), "ok");
    assert_eq!(judged("valid-before=\"20231114221319Z\"", 0), "key-expired");
    // One of several lines is enough, in any order.
    let both = pen.line("valid-before=\"20230101Z\"") + &pen.line("valid-after=\"20230101Z\"");
    assert_eq!(word(&policy(&both), &raw, 0), "ok");
}

#[test]
fn a_revoked_key_counts_no_more() {
    let pen = Pen::new(PLAIN);
    let mut policy = policy(&pen.line(""));
    let list = format!("# lost\n{} {} old laptop\n", pen.kind, base64(&pen.blob()));
    policy.revoked = Revoked::parse("revoked", list.as_bytes()).unwrap();
    assert_eq!(word(&policy, &pen.commit("m\n"), 0), "revoked");
    assert!(matches!(
        Revoked::parse("f", b"SSHKRL\n\0\0\0\0\x01"),
        Err(RevokedError::Krl { .. })
    ));
    assert!(matches!(
        Revoked::parse("f", b"\nrubbish\n"),
        Err(RevokedError::Line { line: 2, .. })
    ));
}

#[test]
fn a_branch_is_for_its_signers_and_its_trailer() {
    let pen = Pen::new(PLAIN);
    let mut policy = policy(&pen.line(""));
    policy.branch = "stable".to_owned();
    policy.branch_signers = Some(vec!["release@x".to_owned()]);
    assert_eq!(word(&policy, &pen.commit("m\n"), 0), "wrong-branch");
    policy.branch_signers = Some(vec!["alice@*".to_owned()]);
    assert_eq!(word(&policy, &pen.commit("m\n"), 0), "ok");
    policy.binding = Binding::Required;
    assert_eq!(word(&policy, &pen.commit("m\n"), 0), "wrong-branch");
    assert_eq!(
        word(&policy, &pen.commit("m\n\nFleet-Branch: canary\n"), 0),
        "wrong-branch"
    );
    assert_eq!(
        word(
            &policy,
            &pen.commit("m\n\nFleet-Branch: stable\nFleet-Branch: canary\n"),
            0
        ),
        "wrong-branch"
    );
    assert_eq!(
        word(&policy, &pen.commit("m\n\nfleet-branch: stable\n"), 0),
        "ok"
    );
}

#[test]
fn a_commit_must_descend_and_not_knowing_is_no_refusal() {
    let pen = Pen::new(PLAIN);
    let mut policy = policy(&pen.line(""));
    let judged = |policy: &TrustPolicy, descent| {
        word(
            policy,
            &RawCommit {
                descent,
                ..pen.commit("m\n")
            },
            0,
        )
    };
    assert_eq!(judged(&policy, Descent::Descends), "ok");
    assert_eq!(judged(&policy, Descent::Same), "ok");
    assert_eq!(judged(&policy, Descent::NotDescendant), "not-descendant");
    assert_eq!(
        judged(&policy, Descent::Unknown("shallow".to_owned())),
        "undecided"
    );
    policy.pin = Some("4b825dc642cb6eb9a060e54bf8d69288fbee4904".parse().unwrap());
    assert_eq!(judged(&policy, Descent::NoFloor), "undecided");
    // A bad signature is a refusal, whatever is known of its history.
    let stranger = Pen {
        key: SigningKey::from_bytes(&[8; 32]),
        ..Pen::new(PLAIN)
    };
    let raw = RawCommit {
        descent: Descent::Unknown("shallow".to_owned()),
        ..stranger.commit("m\n")
    };
    assert_eq!(word(&policy, &raw, 0), "unknown-key");
}

proptest::proptest! {
    #[test]
    fn no_signature_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        let blob = [b"SSHSIG\0\0\0\x01".as_slice(), &bytes].concat();
        for bytes in [bytes.clone(), blob] {
            let armor = format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", base64(&bytes));
            proptest::prop_assert!(ArmoredSignature::parse(armor.as_bytes()).is_err());
        }
        proptest::prop_assert!(ArmoredSignature::parse(&bytes).is_err());
    }
}
