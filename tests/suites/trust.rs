//! Verdicts on commits that the real `git` and `ssh-keygen` made, beside git's own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use evenkeel::adapter::git_local::LocalRepository;
use evenkeel::cli::verify::{self, Args};
use evenkeel::domain::revision::Timestamp;
use evenkeel::trust::allowed_signers::AllowedSigners;
use evenkeel::trust::policy::{TrustPolicy, Verdict};
use evenkeel_tests::process::{Output, run, run_with_input};
use evenkeel_tests::{FleetRepo, PATIENCE, Signer};
use serde_json::Value;
use tempfile::TempDir;

mod desk;
mod names;

use desk::Desk;

fn try_answer(args: &Args) -> Result<verify::Answer, String> {
    verify::answer(args, &|_: &Path| Err("no configuration here".to_owned()))
        .map_err(|error| format!("{error:#}"))
}

#[track_caller]
fn answer(args: &Args) -> Value {
    let answer = try_answer(args).unwrap();
    let value: Value = serde_json::from_str(&answer.text).unwrap();
    let (verdict, code) = match value["reason"].as_str().unwrap() {
        "ok" => ("trusted", 0),
        _ => ("refused", 3),
    };
    assert_eq!(
        (value["verdict"].as_str().unwrap(), answer.code),
        (verdict, code),
        "{value}"
    );
    value
}

const NOW: &str = "2026-01-01T00:00:00Z";

#[test]
fn each_key_type_that_git_signs_with_is_verified_and_named_as_ssh_keygen_names_it() {
    let kinds: [(&str, &[&str]); 6] = [
        ("ssh-ed25519", &["-t", "ed25519"]),
        ("ecdsa-sha2-nistp256", &["-t", "ecdsa", "-b", "256"]),
        ("ecdsa-sha2-nistp384", &["-t", "ecdsa", "-b", "384"]),
        ("ecdsa-sha2-nistp521", &["-t", "ecdsa", "-b", "521"]),
        ("ssh-rsa", &["-t", "rsa", "-b", "2048"]),
        ("ssh-rsa", &["-t", "rsa", "-b", "3072"]),
    ];
    for format in ["sha1", "sha256"] {
        let desk = Desk::new(format);
        for (kind, arguments) in kinds {
            let signer = Signer::of_type("alice@example.com", arguments);
            let signers = desk.write("signers", signer.allowed_line("namespaces=\"git\""));
            let commit = desk.commit(Some(&signer), NOW, "subject\n\nbody");
            let listed = run(
                Command::new("ssh-keygen")
                    .arg("-lf")
                    .arg(signer.public_key()),
                PATIENCE,
            )
            .stdout;
            let verdict = desk.verdict(&commit, &signers);
            assert_eq!(verdict["commit"], commit.as_str());
            assert_eq!(verdict["reason"], "ok", "{kind} {verdict}");
            assert_eq!(verdict["principal"], "alice@example.com");
            assert_eq!(verdict["fingerprint"], listed.split(' ').nth(1).unwrap());
            assert_eq!(verdict["key_type"], kind);
            // One changed letter of the message, the author or the tree.
            let raw = desk.raw(&commit);
            for (from, to) in [
                ("subject", "Subject"),
                ("author A ", "author B "),
                ("\n\nsubject", "\nx y\n\nsubject"),
            ] {
                assert_eq!(
                    desk.reason(&desk.hash(raw.replacen(from, to, 1)), &signers),
                    "bad-signature",
                    "{kind} {from}"
                );
            }
            let tree = raw.lines().next().unwrap();
            let other = format!("tree {}", "1".repeat(tree.len() - 5));
            assert_eq!(
                desk.reason(&desk.hash(raw.replacen(tree, &other, 1)), &signers),
                "bad-signature"
            );
        }
    }
}

#[test]
fn a_commit_without_a_trusted_signature_is_refused_with_its_reason() {
    let desk = Desk::new("sha1");
    let (alice, mallory) = (
        Signer::new("alice@example.com"),
        Signer::new("mallory@example.com"),
    );
    let signers = desk.write("signers", alice.allowed_line(""));
    let unsigned = desk.commit(None, NOW, "unsigned");
    assert_eq!(desk.reason(&unsigned, &signers), "unsigned");
    assert_eq!(
        desk.verdict(&unsigned, &signers)["fingerprint"],
        Value::Null
    );
    let stranger = desk.commit(Some(&mallory), NOW, "stranger");
    assert_eq!(desk.reason(&stranger, &signers), "unknown-key");
    let other = desk.sign_by_hand(&desk.raw(&unsigned), &alice.private_key(), "file");
    assert_eq!(desk.reason(&other, &signers), "wrong-namespace");
    let by_hand = desk.sign_by_hand(&desk.raw(&unsigned), &alice.private_key(), "git");
    assert_eq!(desk.reason(&by_hand, &signers), "ok");

    let good = desk.commit(Some(&alice), NOW, "good");
    let reason = |lines: String| desk.reason(&good, &desk.write("s", lines));
    assert_eq!(
        reason(alice.allowed_line("valid-before=\"20250101Z\"")),
        "key-expired"
    );
    assert_eq!(
        reason(alice.allowed_line("valid-after=\"20990101\"")),
        "key-not-yet-valid"
    );
    assert_eq!(
        reason(alice.allowed_line("namespaces=\"file\"")),
        "wrong-namespace"
    );
    assert_eq!(
        reason(alice.allowed_line("frobnicate") + &mallory.allowed_line("")),
        "unknown-key"
    );
    assert_eq!(
        reason(alice.allowed_line("cert-authority") + &mallory.allowed_line("")),
        "unknown-key"
    );
    assert_eq!(
        reason("\"Alice A,bob\" ".to_owned() + alice.allowed_line("").split_once(' ').unwrap().1),
        "ok"
    );
    assert_eq!(reason(alice.allowed_line("").replace('\n', "\r\n")), "ok");

    let revoked = desk.write("revoked", std::fs::read(alice.public_key()).unwrap());
    let mut args = desk.args(&good, &signers);
    args.revoked = Some(revoked);
    assert_eq!(answer(&args)["reason"], "revoked");
    let krl = desk.path("krl");
    run(
        Command::new("ssh-keygen")
            .arg("-qkf")
            .arg(&krl)
            .arg(alice.public_key()),
        PATIENCE,
    )
    .expect_code(0);
    args.revoked = Some(krl.clone());
    assert_eq!(answer(&args)["reason"], "revoked");
    let whole = std::fs::read(&krl).unwrap();
    args.revoked = Some(desk.write("cut", &whole[..whole.len() - 1]));
    assert!(try_answer(&args).unwrap_err().contains("ends too early"));
    args.revoked = Some(desk.path("missing"));
    assert!(try_answer(&args).unwrap_err().contains("cannot read"));
}

#[test]
fn what_git_takes_and_a_device_does_not() {
    let desk = Desk::new("sha1");
    let alice = Signer::new("alice@example.com");
    let signers = desk.write("signers", alice.allowed_line(""));
    let good = desk.commit(Some(&alice), NOW, "good");
    let raw = desk.raw(&good);
    let from = raw.find("gpgsig ").unwrap();
    let to =
        raw.find("-----END SSH SIGNATURE-----\n").unwrap() + "-----END SSH SIGNATURE-----\n".len();
    let (signature, without) = (&raw[from..to], format!("{}{}", &raw[..from], &raw[to..]));
    let author = without.find("author").unwrap();
    let misplaced = format!("{}{signature}{}", &without[..author], &without[author..]);
    let smuggled = raw.replacen("gpgsig ", "gpgsignature anything at all\ngpgsig ", 1);
    for (what, raw) in [("misplaced", misplaced), ("smuggled", smuggled)] {
        let commit = desk.hash(raw);
        assert!(
            desk.git_accepts(&commit, &signers),
            "{what}: git changed its mind"
        );
        assert_eq!(desk.reason(&commit, &signers), "bad-signature", "{what}");
    }
    for (what, raw) in [
        (
            "doubled",
            format!("{}{signature}{signature}{}", &raw[..from], &raw[to..]),
        ),
        (
            "carriage returns",
            raw.replacen(signature, &signature.replace('\n', "\r\n"), 1),
        ),
        (
            "text behind the armor",
            raw.replacen(signature, &format!("{signature} more\n"), 1),
        ),
        ("a NUL", raw.replacen("good", "go\0od", 1)),
    ] {
        assert_eq!(
            desk.reason(&desk.hash(raw), &signers),
            "bad-signature",
            "{what}"
        );
    }
    // A signature that belongs to the other object format is none here.
    let renamed = desk.hash(raw.replacen("gpgsig ", "gpgsig-sha256 ", 1));
    assert!(!desk.git_accepts(&renamed, &signers));
    assert_ne!(desk.reason(&renamed, &signers), "ok");
}

#[test]
fn a_certificate_of_an_authority_in_the_trust_set_is_taken_as_git_takes_it() {
    let desk = Desk::new("sha1");
    let (alice, ca) = (
        Signer::new("alice@example.com"),
        Signer::new("ca@example.com"),
    );
    let signers = desk.write("signers", ca.allowed_line("cert-authority"));
    let raw = desk.raw(&desk.commit(None, NOW, "plain"));
    run(
        Command::new("ssh-keygen")
            .args(["-q", "-I", "id", "-n", "ca@example.com", "-s"])
            .arg(ca.private_key())
            .arg(alice.public_key()),
        PATIENCE,
    )
    .expect_code(0);
    let certificate = alice.private_key().with_file_name("key-cert.pub");
    let certified = desk.sign_by_hand(&raw, &certificate, "git");
    assert!(desk.git_accepts(&certified, &signers));
    let verdict = desk.verdict(&certified, &signers);
    assert_eq!(verdict["reason"], "ok");
    assert_eq!(verdict["principal"], "ca@example.com");
    assert_eq!(verdict["key_type"], "ssh-ed25519-cert-v01@openssh.com");
    let mut args = desk.args(&certified, &signers);
    args.json = false;
    args.explain = true;
    let explained = verify::answer(&args, &|_| Err("none".to_owned()))
        .unwrap()
        .text;
    assert!(
        explained.contains("\"id\" (serial 0) of authority SHA256:"),
        "{explained}"
    );
    // The key without its certificate is nobody's, and neither is the certificate without its authority.
    let plain = desk.commit(Some(&alice), NOW, "without");
    assert!(!desk.git_accepts(&plain, &signers));
    assert_eq!(desk.reason(&plain, &signers), "unknown-key");
    let alone = desk.write("alone", alice.allowed_line(""));
    assert!(!desk.git_accepts(&certified, &alone));
    assert_eq!(desk.reason(&certified, &alone), "unknown-key");
}

#[test]
fn what_this_version_does_not_verify_is_called_unsupported() {
    let desk = Desk::new("sha1");
    let alice = Signer::new("alice@example.com");
    let raw = desk.raw(&desk.commit(None, NOW, "plain"));
    let small = Signer::of_type("bob@example.com", &["-t", "rsa", "-b", "1024"]);
    let signers = desk.write("signers", alice.allowed_line("") + &small.allowed_line(""));
    assert_eq!(
        desk.reason(&desk.commit(Some(&small), NOW, "small"), &signers),
        "unsupported"
    );
    let pgp = raw.replacen(
        "\n\n",
        "\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n iQ==\n -----END PGP SIGNATURE-----\n\n",
        1,
    );
    assert_eq!(desk.reason(&desk.hash(pgp), &signers), "unsupported");
}

/// Hundreds of (commit, trust set) pairs: nothing that git refuses is trusted, and what git takes and we do not is of a
/// kind we know.
#[test]
fn nothing_is_trusted_that_git_verify_commit_refuses() {
    let desk = Desk::new("sha1");
    let alice = Signer::new("alice@example.com");
    let bob = Signer::of_type("bob@example.com", &["-t", "ecdsa", "-b", "256"]);
    let carol = Signer::of_type("carol@example.com", &["-t", "rsa", "-b", "2048"]);
    let mut commits: BTreeMap<String, String> = BTreeMap::new();
    for (name, signer) in [("alice", &alice), ("bob", &bob), ("carol", &carol)] {
        for date in ["2019-06-01T00:00:00Z", "2022-06-01T12:00:00Z", NOW] {
            commits.insert(
                format!("{name} {date}"),
                desk.commit(Some(signer), date, "m"),
            );
        }
    }
    commits.insert("unsigned".to_owned(), desk.commit(None, NOW, "m"));
    let raw = desk.raw(&commits["alice 2022-06-01T12:00:00Z"]);
    let later = raw.replace("1654084800", "1654084801");
    assert_ne!(raw, later);
    for (name, changed) in [
        ("later", later),
        ("another message", format!("{raw}more\n")),
        (
            "another encoding",
            raw.replacen("gpgsig ", "encoding latin1\ngpgsig ", 1),
        ),
        (
            "another name",
            raw.replacen("committer C ", "committer D ", 1),
        ),
        ("another digit", raw.replacen("AAAA", "AAAB", 1)),
        (
            "its end cut off",
            raw.replacen(" -----END SSH SIGNATURE-----\n", "", 1),
        ),
        (
            "a mergetag",
            raw.replacen("gpgsig ", "mergetag object 1\n gpgsig x\ngpgsig ", 1),
        ),
    ] {
        commits.insert(name.to_owned(), desk.hash(changed));
    }
    let base = desk.raw(&commits["unsigned"]);
    let tagged = base.replacen("\n\n", "\nmergetag object 1\n type commit\n tag x\n\n", 1);
    commits.insert(
        "signed with a mergetag".to_owned(),
        desk.sign_by_hand(&tagged, &alice.private_key(), "git"),
    );
    commits.insert(
        "for files".to_owned(),
        desk.sign_by_hand(&base, &alice.private_key(), "file"),
    );

    let line = |signer: &Signer, names: &str, options: &str| {
        let line = signer.allowed_line(options);
        format!("{names} {}", line.split_once(' ').unwrap().1)
    };
    let sets: Vec<(&str, String)> = vec![
        (
            "all",
            alice.allowed_line("") + &bob.allowed_line("") + &carol.allowed_line(""),
        ),
        ("one", alice.allowed_line("")),
        (
            "patterns",
            line(&alice, "*@example.com,!bob@example.com", "")
                + &line(&bob, "!bob@example.com,bob@*", ""),
        ),
        (
            "nothing given",
            line(&alice, "!alice@example.com", "") + &bob.allowed_line(""),
        ),
        (
            "given and taken",
            line(&alice, "alice@example.com,!alice@*", "") + &bob.allowed_line(""),
        ),
        (
            "quoted",
            line(&alice, "\"Alice A\"", "") + &line(&bob, "\"bob,b\"", "namespaces=\"*\""),
        ),
        (
            "namespaces",
            alice.allowed_line("namespaces=\"git\"")
                + &bob.allowed_line("namespaces=\"file,!git\"")
                + &carol.allowed_line("namespaces=\"g?t,file\""),
        ),
        (
            "not git",
            alice.allowed_line("namespaces=\"file\"")
                + &bob.allowed_line("namespaces=\"*,!git\"")
                + &carol.allowed_line(""),
        ),
        (
            "after",
            alice.allowed_line("valid-after=\"20200101\"")
                + &bob.allowed_line("VALID-AFTER=\"20220601120000Z\"")
                + &carol.allowed_line("valid-after=\"20990101\""),
        ),
        (
            "before",
            alice.allowed_line("valid-before=\"20200101Z\"")
                + &bob.allowed_line("valid-before=\"20990101\"")
                + &carol.allowed_line("valid-before=\"202206011200Z\""),
        ),
        (
            "both",
            alice.allowed_line("valid-after=\"20210101\",valid-before=\"20990101\"")
                + &bob.allowed_line("valid-after=\"20990101\",valid-before=\"20210101\""),
        ),
        (
            "two lines",
            alice.allowed_line("valid-before=\"20200101\"")
                + &alice.allowed_line("valid-after=\"20220101\""),
        ),
        (
            "authority",
            bob.allowed_line("")
                + &alice.allowed_line("cert-authority")
                + &carol.allowed_line("CERT-authority,namespaces=\"git\""),
        ),
        (
            "rubbish behind",
            alice.allowed_line("")
                + "rubbish\n"
                + &bob.allowed_line("")
                + &carol.allowed_line("frobnicate"),
        ),
        (
            "unquoted",
            carol.allowed_line("")
                + &alice.allowed_line("namespaces=git")
                + &bob.allowed_line("valid-before=20990101"),
        ),
        (
            "comments",
            format!(
                "# x\n\n  {}\t{}",
                alice.allowed_line(""),
                bob.allowed_line("").replace('\n', " a comment\n")
            ),
        ),
        (
            "carriage returns",
            (alice.allowed_line("") + &bob.allowed_line("")).replace('\n', "\r\n"),
        ),
    ];
    let (mut pairs, mut trusted, mut stricter) = (0, 0, BTreeMap::<String, usize>::new());
    for (set, content) in &sets {
        let signers = desk.write("set", content);
        for (name, commit) in &commits {
            let ours = desk.reason(commit, &signers);
            let theirs = desk.git_accepts(commit, &signers);
            pairs += 1;
            match (ours.as_str(), theirs) {
                // ssh-keygen gives up at the first malformed line; here only that line is lost.
                ("ok", false) => assert_eq!(
                    *set, "rubbish behind",
                    "{name}: trusted here, refused by git"
                ),
                ("ok", true) => trusted += 1,
                // The window is over for a device, whatever date the commit carries.
                ("key-expired", true) => *stricter.entry("back-dated".to_owned()).or_default() += 1,
                (reason, true) => panic!("{name} with `{set}`: {reason} here, trusted by git"),
                (_, false) => {}
            }
        }
    }
    println!("{pairs} pairs: {trusted} trusted by both, stricter here: {stricter:?}");
    assert!(
        pairs > 300 && trusted > 60,
        "{pairs} pairs, {trusted} trusted"
    );
}

#[test]
fn one_verification_takes_little_time() {
    let repo = FleetRepo::new();
    let commit = repo.commit_signed("subject");
    let raw = LocalRepository::open(&repo.work())
        .unwrap()
        .commit(&commit, None)
        .unwrap();
    let lines = std::fs::read(repo.allowed_signers()).unwrap();
    let policy = TrustPolicy::of(
        AllowedSigners::parse("signers", &lines, &jiff::tz::TimeZone::UTC).unwrap(),
    );
    let rounds = 100;
    let start = Instant::now();
    for _ in 0..rounds {
        assert!(matches!(
            policy.judge(&raw, Timestamp(0)),
            Verdict::Trusted(_)
        ));
    }
    // Printed, not asserted: a busy machine is no failure, and a debug build is some fifty times slower.
    let build = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    println!(
        "one ed25519 commit verified in {:?} ({build} build)",
        start.elapsed() / rounds
    );
}
