//! Certificates before the trust set, beside the real `ssh-keygen`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
use super::super::certificate::Certificate;
use super::super::keygen::{Case, Desk, NOW};
use super::*;

const MESSAGE: &[u8] = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n\nsubject\n";

/// A desk with an authority and a key.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.key("ca", "-t ed25519");
    desk.key("alice", "-t ed25519");
    desk
}

fn line(desk: &Desk, principals: &str, options: &str, key: &str) -> String {
    format!("{principals} {options} {}\n", desk.public(key))
}

/// Our word on a signature, and the principals as which `ssh-keygen` takes it; that we take nothing that it does not is
/// checked for every case here.
fn judged(desk: &Desk, case: &Case<'_>) -> (String, Vec<String>) {
    let theirs = desk.theirs(case, &["alice@x", "bob@x"]);
    if let Ok(signer) = case.ours(0, Among::Everyone) {
        assert!(
            theirs.contains(&signer.principal),
            "we take it as {}, ssh-keygen as {theirs:?}\n{}",
            signer.principal,
            case.signers
        );
    }
    (case.word(), theirs)
}

#[test]
fn a_certificate_of_every_type_by_an_authority_of_every_type_is_taken() {
    let desk = Desk::new();
    let kinds = [
        ("ed25519", "-t ed25519"),
        ("p256", "-t ecdsa -b 256"),
        ("p384", "-t ecdsa -b 384"),
        ("p521", "-t ecdsa -b 521"),
        ("rsa", "-t rsa -b 2048"),
    ];
    for (name, kind) in kinds {
        desk.key(name, kind);
    }
    for (key, authority) in kinds
        .iter()
        .map(|(name, _)| (*name, "p384"))
        .chain(kinds.iter().map(|(name, _)| ("p521", *name)))
    {
        let name = format!("{key}-by-{authority}");
        desk.certify(
            &name,
            key,
            authority,
            &["-I", "who", "-n", "alice@x", "-z", "7"],
        );
        let signers = line(&desk, "*@x", "cert-authority", authority);
        let case = Case {
            signers: &signers,
            armor: &desk.sign(&format!("{name}-cert"), "git", MESSAGE),
            message: MESSAGE,
            at: NOW,
            revoked: None,
        };
        assert_eq!(
            judged(&desk, &case),
            ("alice@x".to_owned(), vec!["alice@x".to_owned()]),
            "{name}"
        );
        let signer = case.ours(0, Among::Everyone).unwrap();
        let certificate = Certificate::from_blob(&desk.certificate(&name)).unwrap();
        let text = desk.read(&format!("{name}-cert.pub"));
        assert_eq!(signer.key_type, text.split(' ').next().unwrap());
        assert_eq!(signer.fingerprint, certificate.key().fingerprint());
        assert_eq!(
            (certificate.serial(), certificate.key_id()),
            (7, &b"who"[..])
        );
        assert!(certificate.vouched().is_ok());
        // Another message is another message.
        let other = Case {
            message: b"other",
            ..case
        };
        assert_eq!(other.word(), "bad-signature", "{name}");
    }
}

#[test]
fn a_certificate_counts_within_its_window_and_its_lines() {
    let desk = desk();
    let window = "20250101Z:20270101Z";
    desk.certify(
        "a",
        "alice",
        "ca",
        &["-I", "a", "-n", "alice@x", "-V", window],
    );
    let armor = desk.sign("a-cert", "git", MESSAGE);
    let ca = line(&desk, "*@x", "cert-authority", "ca");
    let begin: i64 = 1_735_689_600;
    let end: i64 = 1_798_761_600;
    for (at, word) in [
        (begin - 1, "key-not-yet-valid"),
        (begin, "alice@x"),
        (NOW, "alice@x"),
        (end - 1, "alice@x"),
        (end, "key-expired"),
        (end + 1, "key-expired"),
    ] {
        let case = Case {
            signers: &ca,
            armor: &armor,
            message: MESSAGE,
            at,
            revoked: None,
        };
        let (ours, theirs) = judged(&desk, &case);
        assert_eq!(ours, word, "at {at}");
        assert_eq!(!theirs.is_empty(), word == "alice@x", "at {at}");
        // Dated into the window, and known to be later.
        let floored = case.ours(end, Among::Everyone);
        assert!(floored.is_err(), "at {at}");
    }
    for (options, word) in [
        ("cert-authority,valid-before=\"20251231Z\"", "key-expired"),
        (
            "cert-authority,valid-after=\"20260102Z\"",
            "key-not-yet-valid",
        ),
        (
            "cert-authority,valid-after=\"20260101Z\",valid-before=\"20260101Z0\"",
            "signers names no signer that can be used; signers:1",
        ),
        (
            "valid-after=\"20260101Z\",cert-authority,valid-before=\"202601010000Z\"",
            "signers names no signer that can be used; signers:1",
        ),
        ("namespaces=\"file\",cert-authority", "wrong-namespace"),
        ("namespaces=\"g*\",CERT-AUTHORITY", "alice@x"),
    ] {
        let signers = line(&desk, "*@x", options, "ca");
        let case = Case {
            signers: &signers,
            armor: &armor,
            message: MESSAGE,
            at: NOW,
            revoked: None,
        };
        let (ours, theirs) = judged(&desk, &case);
        assert_eq!(ours, word, "{options}");
        assert_eq!(!theirs.is_empty(), word == "alice@x", "{options}");
    }
}

#[test]
fn a_certificates_principals_are_names_and_its_lines_are_patterns() {
    let desk = desk();
    for (names, lines, wanted) in [
        ("alice@x", "alice@x", Some("alice@x")),
        ("alice@x", "bob@x", None),
        ("alice@x", "*@y,bob@x", None),
        ("bob@y,alice@x", "*@x", Some("alice@x")),
        ("alice@x", "*@x,!alice@x", None),
        ("alice@x,bob@x", "*@x,!alice@x", Some("bob@x")),
        ("alice@x", "!alice@x,*", None),
        // A star in a certificate is a star, and matches only what takes a star.
        ("*", "alice@x", None),
        ("*@x", "alice@x", None),
        ("*@x", "*@x", Some("*@x")),
        ("*", "?", Some("*")),
        ("alice@x", "ALICE@x", None),
        ("alice", "alice@x", None),
    ] {
        desk.certify("a", "alice", "ca", &["-I", "a", "-n", names]);
        let signers = line(&desk, lines, "cert-authority", "ca");
        let case = Case {
            signers: &signers,
            armor: &desk.sign("a-cert", "git", MESSAGE),
            message: MESSAGE,
            at: NOW,
            revoked: None,
        };
        let (ours, theirs) = judged(&desk, &case);
        assert_eq!(ours, wanted.unwrap_or("unknown-key"), "{names} by {lines}");
        assert_eq!(theirs.is_empty(), wanted.is_none(), "{names} by {lines}");
    }
    // No principals at all: sshd takes that for anybody, and a signature is nobody's.
    desk.certify("a", "alice", "ca", &["-I", "a"]);
    let signers = line(&desk, "*", "cert-authority", "ca");
    let case = Case {
        signers: &signers,
        armor: &desk.sign("a-cert", "git", MESSAGE),
        message: MESSAGE,
        at: NOW,
        revoked: None,
    };
    assert_eq!(judged(&desk, &case), ("unknown-key".to_owned(), vec![]));
}

#[test]
fn a_branch_takes_the_certified_whom_it_names() {
    let desk = desk();
    desk.certify(
        "a",
        "alice",
        "ca",
        &["-I", "a", "-n", "dev@x,release@x,*@x"],
    );
    let armor = desk.sign("a-cert", "git", MESSAGE);
    for (lines, signers, wanted) in [
        ("*@x", &["release@x"][..], Some("release@x")),
        ("*@x", &["*@x"], Some("dev@x")),
        ("*@x", &["*@x", "!dev@x"], Some("release@x")),
        ("dev@x", &["release@x"], None),
        ("*@x,!release@x", &["release@x"], None),
        ("*@x", &["qa@x"], None),
    ] {
        let file = line(&desk, lines, "cert-authority", "ca");
        let case = Case {
            signers: &file,
            armor: &armor,
            message: MESSAGE,
            at: NOW,
            revoked: None,
        };
        let signers: Vec<String> = signers.iter().map(|name| (*name).to_owned()).collect();
        let among = Among::Only {
            signers: &signers,
            purpose: "branch `stable`",
        };
        match (case.ours(0, among), wanted) {
            (Ok(signer), Some(wanted)) => assert_eq!(signer.principal, wanted),
            (Err(why), None) => assert!(why.starts_with("wrong-branch: "), "{why}"),
            (found, _) => panic!("{lines} {signers:?}: {found:?}"),
        }
    }
}

#[test]
fn whom_nobody_vouches_for_is_refused_as_ssh_keygen_refuses() {
    let desk = desk();
    desk.key("stranger", "-t ed25519");
    let names = ["-I", "a", "-n", "alice@x"];
    desk.certify("a", "alice", "ca", &names);
    desk.certify("foreign", "alice", "stranger", &names);
    desk.certify("host", "alice", "ca", &[&names[..], &["-h"]].concat());
    let ca = line(&desk, "*@x", "cert-authority", "ca");
    let plain = line(&desk, "alice@x", "", "alice");
    let plain_ca = line(&desk, "*@x", "", "ca");
    for (what, signers, signed, word) in [
        (
            "a stranger's certificate",
            ca.clone(),
            "foreign-cert",
            "unknown-key",
        ),
        (
            "a stranger's certificate for a key on a plain line",
            ca.clone() + &plain,
            "foreign-cert",
            "unknown-key",
        ),
        (
            "a certificate whose key alone is on a line",
            plain.clone(),
            "a-cert",
            "unknown-key",
        ),
        (
            "a certificate whose authority is on a plain line",
            plain_ca,
            "a-cert",
            "unknown-key",
        ),
        (
            "a host's certificate",
            ca.clone(),
            "host-cert",
            "unknown-key",
        ),
        (
            "the certified key without its certificate",
            ca.clone(),
            "alice",
            "unknown-key",
        ),
        (
            "the authority itself",
            ca.clone() + &plain,
            "ca",
            "unknown-key",
        ),
    ] {
        let case = Case {
            signers: &signers,
            armor: &desk.sign(signed, "git", MESSAGE),
            message: MESSAGE,
            at: NOW,
            revoked: None,
        };
        assert_eq!(judged(&desk, &case), (word.to_owned(), vec![]), "{what}");
    }
    // One key on several lines, as itself and certified: either way is open, in any order.
    for signers in [ca.clone() + &plain, plain + &ca] {
        for signed in ["a-cert", "alice"] {
            let case = Case {
                signers: &signers,
                armor: &desk.sign(signed, "git", MESSAGE),
                message: MESSAGE,
                at: NOW,
                revoked: None,
            };
            assert_eq!(judged(&desk, &case).0, "alice@x", "{signed}");
        }
    }
    // Another line of the authority may have what the first has not.
    let lines = line(&desk, "bob@x", "cert-authority", "ca")
        + &line(
            &desk,
            "*",
            "cert-authority,valid-before=\"20200101Z\"",
            "ca",
        )
        + &line(&desk, "al*", "cert-authority", "ca");
    let case = Case {
        signers: &lines,
        armor: &desk.sign("a-cert", "git", MESSAGE),
        message: MESSAGE,
        at: NOW,
        revoked: None,
    };
    assert_eq!(judged(&desk, &case).0, "alice@x");
}

#[test]
fn conditions_that_cannot_be_kept_to_are_refused_and_extensions_are_passed_over() {
    let desk = desk();
    for (option, word) in [
        ("force-command=/bin/true", "unsupported"),
        ("source-address=10.0.0.0/8", "unsupported"),
        ("critical:unheard-of@example.com=1", "unsupported"),
        ("critical:unheard-of@example.com", "unsupported"),
        // Only a security key can say that it knows who touches it.
        ("verify-required", "bad-signature"),
        ("extension:unheard-of@example.com=1", "alice@x"),
        ("no-touch-required", "alice@x"),
        ("clear", "alice@x"),
    ] {
        desk.certify(
            "a",
            "alice",
            "ca",
            &["-I", "a", "-n", "alice@x", "-O", option],
        );
        let signers = line(&desk, "*@x", "cert-authority", "ca");
        let case = Case {
            signers: &signers,
            armor: &desk.sign("a-cert", "git", MESSAGE),
            message: MESSAGE,
            at: NOW,
            revoked: None,
        };
        let (ours, theirs) = judged(&desk, &case);
        assert_eq!(ours, word, "{option}");
        assert_eq!(theirs, ["alice@x"], "ssh-keygen changed its mind: {option}");
    }
}

#[test]
fn a_listed_certificate_is_no_signer_and_says_what_to_write_instead() {
    let desk = desk();
    desk.certify("a", "alice", "ca", &["-I", "a", "-n", "alice@x"]);
    let signers = format!("alice@x {}", desk.read("a-cert.pub"));
    let case = Case {
        signers: &signers,
        armor: &desk.sign("a-cert", "git", MESSAGE),
        message: MESSAGE,
        at: NOW,
        revoked: None,
    };
    let why = case.ours(0, Among::Everyone).unwrap_err();
    assert!(why.contains("with the option cert-authority"), "{why}");
}

#[test]
fn a_certificate_that_may_speak_as_one_of_the_named_is_found_among_them() {
    let desk = desk();
    desk.certify("a", "alice", "ca", &["-I", "a", "-n", "dev@x,beat@x"]);
    let heartbeat = ["beat@x".to_owned()];
    for (signers, signed, wanted) in [
        (line(&desk, "*@x", "cert-authority", "ca"), "a-cert", true),
        (
            line(&desk, "dev@x", "cert-authority", "ca"),
            "a-cert",
            false,
        ),
        (line(&desk, "*@x", "cert-authority", "ca"), "alice", false),
        (line(&desk, "beat@x", "", "alice"), "alice", true),
        // What its key alone is kept to, a certificate does not free it from.
        (
            line(&desk, "beat@x", "", "alice") + &line(&desk, "dev@x", "cert-authority", "ca"),
            "a-cert",
            true,
        ),
    ] {
        let set = AllowedSigners::parse("signers", signers.as_bytes(), &jiff::tz::TimeZone::UTC);
        let armor = desk.sign(signed, "git", MESSAGE);
        let signature = ArmoredSignature::parse(armor.as_bytes()).unwrap();
        assert_eq!(
            set.unwrap().may_speak_as(&signature, &heartbeat),
            wanted,
            "{signers}"
        );
    }
}
