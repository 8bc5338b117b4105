#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
//! With signatures that the real ssh-keygen made.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use super::*;

const NOW: Timestamp = Timestamp(1_790_000_000);
const SECURITY: &str = "security@acme.example";
const CISO: &str = "ciso@acme.example";

/// Where the keys are.
struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The public key of that name, made at its first use.
    fn key(&self, name: &str) -> String {
        if !self.path(name).exists() {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
                .arg(self.path(name))
                .status()
                .unwrap();
            assert!(made.success());
        }
        let text = std::fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap();
        text.trim().to_owned()
    }

    fn line(&self, principals: &str, options: &str, key: &str) -> String {
        format!("{principals} {options} {}\n", self.key(key))
    }

    fn sign_for(&self, namespace: &str, key: &str, content: &str) -> Vec<u8> {
        let file = self.path("content");
        std::fs::write(&file, content).unwrap();
        let signed = self.path("content.sig");
        let _ = std::fs::remove_file(&signed);
        let made = Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
            .arg(self.path(key))
            .arg(&file)
            .status()
            .unwrap();
        assert!(made.success());
        std::fs::read(signed).unwrap()
    }

    /// The folder with that content, signed by these keys.
    fn folder(&self, content: &str, keys: &[&str]) -> TrustFolder {
        let signatures = keys
            .iter()
            .map(|key| {
                let name = format!("allowed_signers.sig.{key}");
                (name, self.sign_for(TRUST_NAMESPACE, key, content))
            })
            .collect();
        bare(content, signatures)
    }

    /// The local file: security, who is root, and alice.
    fn local(&self) -> String {
        self.line(SECURITY, "", "root") + &self.line("alice@acme.example", "", "alice")
    }

    /// A set in which bob may sign.
    fn set(&self, serial: u64) -> String {
        headed(
            serial,
            &self.line("bob@acme.example", "namespaces=\"git\"", "bob"),
        )
    }
}

fn bare(content: &str, signatures: BTreeMap<String, Vec<u8>>) -> TrustFolder {
    TrustFolder {
        id: String::new(),
        allowed_signers: Some(content.as_bytes().to_vec()),
        signatures,
        fleet: Some(b"format = 1\nname = \"acme\"\n".to_vec()),
    }
}

fn headed(serial: u64, lines: &str) -> String {
    format!("# Fleet: acme\n# Serial: {serial}\n\n{lines}")
}

fn policy(local: &str, signers: &[&str], threshold: usize) -> TrustPolicy {
    let local = AllowedSigners::parse("/etc/local", local.as_bytes(), &TimeZone::UTC).unwrap();
    TrustPolicy {
        branch: "stable".to_owned(),
        root: Some(RootSection {
            signers: signers.iter().map(|signer| (*signer).to_owned()).collect(),
            threshold,
        }),
        ..TrustPolicy::of(local)
    }
}

fn places(sets: &Sets<'_>) -> Vec<String> {
    let (_, signers) = sets.in_force();
    signers.lines().iter().map(SignerLine::place).collect()
}

fn adopted(sets: &Sets<'_>) -> Vec<AdoptedSet> {
    sets.adopted().cloned().collect()
}

#[track_caller]
fn refused(offer: &Offer, why: &str) {
    match offer {
        Offer::Refused(message) => assert!(message.contains(why), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_set_that_root_signed_replaces_the_local_lines_but_for_roots() {
    let desk = Desk::new();
    let policy = policy(&desk.local(), &[SECURITY], 1);
    let mut sets = Sets::new(&policy, &[], NOW);
    assert_eq!(sets.in_force().0, 0);
    desk.key("bob");
    let folder = desk.folder(&desk.set(7), &["root"]);
    let commit: CommitId = "1".repeat(40).parse().unwrap();
    let by = Carrier {
        commit: &commit,
        time: NOW,
    };
    assert_eq!(sets.offer(Some(by), &folder), Offer::Adopted(7));
    assert_eq!(sets.in_force().0, 7);
    assert_eq!(
        places(&sets),
        ["/etc/local:1", "trust/allowed_signers (serial 7):4"]
    );
    assert_eq!(sets.at_serial(0), Some(&policy.signers));
    assert_eq!(sets.at_serial(6), None);
    let changed = adopted(&sets);
    assert_eq!(changed[0].serial, 7);
    assert_eq!(changed[0].by, Some(commit.clone()));

    let mut again = Sets::new(&policy, &changed, NOW);
    assert_eq!(again.in_force(), sets.in_force());
    assert_eq!(again.offer(None, &folder), Offer::Known(7));
    assert_eq!(adopted(&again), changed);
}

#[test]
fn a_signer_who_is_not_root_cannot_add_a_key() {
    let desk = Desk::new();
    let policy = policy(&desk.local(), &[SECURITY], 1);
    let mut sets = Sets::new(&policy, &[], NOW);
    let content = headed(1, &desk.line(SECURITY, "", "mallory"));
    refused(
        &sets.offer(None, &desk.folder(&content, &["alice"])),
        "alice@acme.example may not sign for trust sets (trust.root)",
    );
    refused(
        &sets.offer(None, &desk.folder(&content, &["mallory"])),
        "is not among the signers of /etc/local",
    );
    refused(&sets.offer(None, &desk.folder(&content, &[])), "none has");
    assert_eq!(sets.in_force().0, 0);
    assert_eq!(adopted(&sets), []);
}

#[test]
fn a_signature_over_anything_else_does_not_count() {
    let desk = Desk::new();
    let policy = policy(&desk.local(), &[SECURITY], 1);
    let mut sets = Sets::new(&policy, &[], NOW);
    let content = desk.set(2);
    desk.key("root");
    let signed = |armor| {
        bare(
            &content,
            BTreeMap::from([("allowed_signers.sig".to_owned(), armor)]),
        )
    };
    for namespace in ["git", "evenkeel-approval", "file"] {
        let armor = desk.sign_for(namespace, "root", &content);
        refused(
            &sets.offer(None, &signed(armor)),
            "not for `evenkeel-trust`",
        );
    }
    let other = content.replace("Serial: 2", "Serial: 3");
    let armor = desk.sign_for(TRUST_NAMESPACE, "root", &other);
    refused(&sets.offer(None, &signed(armor)), "does not fit");
    refused(
        &sets.offer(None, &signed(b"nonsense".to_vec())),
        "malformed",
    );
    let armor = desk.sign_for(TRUST_NAMESPACE, "root", &content);
    assert_eq!(sets.offer(None, &signed(armor)), Offer::Adopted(2));
}

#[test]
fn a_root_line_that_is_for_git_alone_signs_no_set() {
    let desk = Desk::new();
    let local = desk.line(SECURITY, "namespaces=\"git\"", "root");
    let policy = policy(&local, &[SECURITY], 1);
    let folder = desk.folder(&desk.set(2), &["root"]);
    refused(
        &Sets::new(&policy, &[], NOW).offer(None, &folder),
        "may not sign for `evenkeel-trust` (/etc/local:1)",
    );
}

#[test]
fn each_principal_and_each_key_counts_once() {
    let desk = Desk::new();
    let local = desk.line(SECURITY, "", "one")
        + &desk.line(SECURITY, "", "two")
        + &desk.line(CISO, "", "three")
        + &desk.line(CISO, "", "one")
        + &desk.line("*@acme.example", "", "any");
    let content = desk.set(1);
    let policy = policy(&local, &[SECURITY, CISO, "*@acme.example"], 2);
    let offer =
        |keys: &[&str]| Sets::new(&policy, &[], NOW).offer(None, &desk.folder(&content, keys));
    for key in ["one", "two", "three", "any"] {
        desk.key(key);
    }
    refused(
        &offer(&["one", "two"]),
        "counts once, and security@acme.example has signed",
    );
    refused(&offer(&["one"]), "signed: security@acme.example");
    refused(&offer(&["any", "one"]), "*@acme.example counts once");
    assert_eq!(offer(&["one", "three"]), Offer::Adopted(1));
    assert_eq!(offer(&["two", "three"]), Offer::Adopted(1));

    let twice = desk.sign_for(TRUST_NAMESPACE, "one", &content);
    let copies = [
        ("allowed_signers.sig", &twice),
        ("allowed_signers.sig.2", &twice),
    ]
    .map(|(name, armor)| (name.to_owned(), armor.clone()));
    refused(
        &Sets::new(&policy, &[], NOW).offer(None, &bare(&content, BTreeMap::from(copies))),
        "counts once",
    );
}

#[test]
fn a_serial_never_goes_back_and_is_never_used_twice() {
    let desk = Desk::new();
    let policy = policy(&desk.local(), &[SECURITY], 1);
    let mut sets = Sets::new(&policy, &[], NOW);
    desk.key("root");
    let seven = desk.folder(&desk.set(7), &["root"]);
    assert_eq!(sets.offer(None, &seven), Offer::Adopted(7));
    let eight = desk.folder(&desk.set(8), &["root"]);
    assert_eq!(sets.offer(None, &eight), Offer::Adopted(8));
    assert_eq!(sets.offer(None, &seven), Offer::Known(7), "a replay");
    assert_eq!(sets.in_force().0, 8);
    let six = desk.folder(&desk.set(6), &["root"]);
    assert_eq!(sets.offer(None, &six), Offer::Lower(6));
    let other = headed(8, &desk.line("carol@acme.example", "", "carol"));
    refused(
        &sets.offer(None, &desk.folder(&other, &["root"])),
        "another set has this serial",
    );
    assert_eq!(sets.in_force().0, 8);
}

#[test]
fn a_set_of_another_fleet_is_not_taken() {
    let desk = Desk::new();
    let mut policy = policy(&desk.local(), &[SECURITY], 1);
    desk.key("root");
    let foreign = desk.set(3).replace("Fleet: acme", "Fleet: other");
    let mut folder = desk.folder(&foreign, &["root"]);
    refused(
        &Sets::new(&policy, &[], NOW).offer(None, &folder),
        "for the fleet `other`, and fleet.toml says `acme`",
    );
    folder.fleet = Some(b"name = \"other\"".to_vec());
    assert_eq!(
        Sets::new(&policy, &[], NOW).offer(None, &folder),
        Offer::Adopted(3)
    );
    folder.fleet = None;
    refused(
        &Sets::new(&policy, &[], NOW).offer(None, &folder),
        "names no fleet",
    );
    folder.fleet = Some(b"name = \"other\"".to_vec());
    policy.fleet = Some("acme".to_owned());
    refused(
        &Sets::new(&policy, &[], NOW).offer(None, &folder),
        "trust.fleet says `acme`",
    );
}

#[test]
fn a_set_that_cannot_be_read_or_ends_all_change_is_not_taken() {
    let desk = Desk::new();
    let local = desk.line(SECURITY, "namespaces=\"evenkeel-trust\"", "root");
    let local = local + &desk.line("alice@acme.example", "", "alice");
    let mut policy = policy(&local, &[SECURITY], 1);
    desk.key("root");
    let bob = desk.line("bob@acme.example", "", "bob");
    let old = desk.line("bob@acme.example", "valid-before=\"20200101Z\"", "bob");
    let file = desk.line("bob@acme.example", "namespaces=\"file\"", "bob");
    for (content, why) in [
        (bob.clone(), "it has no line `# Fleet: ...`"),
        (format!("# Fleet: acme\n{bob}"), "no line `# Serial: ...`"),
        (
            format!("# Fleet: acme\n{bob}# Serial: 1\n"),
            ":3: `# Serial:` stands behind the first signer",
        ),
        (
            format!("# Fleet: acme\n# Serial: 1\n#serial :2\n{bob}"),
            ":3: `# Serial:` is there twice",
        ),
        (headed(0, &bob), "`0` is not a serial"),
        (
            headed(1, &bob).replace(": 1", ": 01"),
            "`01` is not a serial",
        ),
        (
            headed(1, &bob).replace(": 1", ": +1"),
            "`+1` is not a serial",
        ),
        (
            headed(1, &bob).replace(": 1", ": 99999999999999999999"),
            "is not a serial",
        ),
        (
            headed(1, &format!("{bob}carol frobnicate ssh-ed25519 AAAA\n")),
            ":5: ",
        ),
        (headed(1, ""), "names no signer"),
        (headed(1, &old), "nobody could sign branch `stable`"),
        (headed(1, &file), "nobody could sign branch `stable`"),
    ] {
        let folder = desk.folder(&content, &["root"]);
        let mut sets = Sets::new(&policy, &[], NOW);
        refused(&sets.offer(None, &folder), why);
        assert_eq!(sets.in_force().0, 0);
    }
    policy.branch_signers = Some(vec!["release@acme.example".to_owned()]);
    let folder = desk.folder(&headed(1, &bob), &["root"]);
    refused(
        &Sets::new(&policy, &[], NOW).offer(None, &folder),
        "nobody could sign branch `stable`",
    );
}

#[test]
fn a_root_key_that_is_revoked_or_out_of_its_window_does_not_count() {
    let desk = Desk::new();
    let local = desk.line(
        SECURITY,
        "valid-after=\"20250101Z\",valid-before=\"20260101Z\"",
        "root",
    );
    let mut policy = policy(&local, &[SECURITY], 1);
    let folder = desk.folder(&desk.set(1), &["root"]);
    let commit: CommitId = "1".repeat(40).parse().unwrap();
    let carried = |time| {
        Some(Carrier {
            commit: &commit,
            time: Timestamp(time),
        })
    };
    let (before, within, after) = (1_700_000_000, 1_750_000_000, 1_790_000_000);
    let none = Timestamp(0);
    let offer = |policy: &TrustPolicy, floor, by| Sets::new(policy, &[], floor).offer(by, &folder);
    assert_eq!(offer(&policy, none, carried(within)), Offer::Adopted(1));
    refused(&offer(&policy, none, carried(before)), "counts from");
    refused(&offer(&policy, none, carried(after)), "counted until");
    refused(&offer(&policy, NOW, carried(within)), "counted until");
    let key = desk.key("root");
    policy.revoked = crate::trust::revoked::Revoked::parse("revoked", key.as_bytes()).unwrap();
    refused(&offer(&policy, none, carried(within)), "is revoked");
}

#[test]
fn a_device_that_was_away_walks_the_chain_of_root_rotations() {
    let desk = Desk::new();
    let policy = policy(&desk.local(), &[SECURITY], 1);
    let names = ["root", "root2", "root3", "root4"];
    for name in names {
        desk.key(name);
    }
    // Each set names the next root key, and is signed by the one before; the first root key signs only the first.
    let folders: Vec<TrustFolder> = (1..=3)
        .map(|step| {
            let lines =
                desk.line(SECURITY, "", names[step]) + &desk.line("bob@acme.example", "", "bob");
            desk.folder(&headed(step as u64 * 10, &lines), &[names[step - 1]])
        })
        .collect();
    let mut sets = Sets::new(&policy, &[], NOW);
    for (folder, serial) in folders.iter().zip([10, 20, 30]) {
        assert_eq!(sets.offer(None, folder), Offer::Adopted(serial));
    }
    assert!(sets.at_serial(20).is_some());
    let serials: Vec<u64> = adopted(&sets).iter().map(|set| set.serial).collect();
    assert_eq!(serials, [10, 20, 30]);
    // With a link missing there is no way.
    let mut sets = Sets::new(&policy, &[], NOW);
    assert_eq!(sets.offer(None, &folders[0]), Offer::Adopted(10));
    refused(
        &sets.offer(None, &folders[2]),
        "is not among the signers of",
    );
    assert_eq!(sets.in_force().0, 10);
}

#[test]
fn a_key_that_a_set_takes_away_signs_no_further_set() {
    let desk = Desk::new();
    let mut policy = policy(&desk.local(), &[SECURITY, CISO], 1);
    desk.key("root");
    let with = desk.set(1) + &desk.line(CISO, "", "ciso");
    let mut sets = Sets::new(&policy, &[], NOW);
    assert_eq!(
        sets.offer(None, &desk.folder(&with, &["root"])),
        Offer::Adopted(1)
    );
    assert_eq!(
        sets.offer(None, &desk.folder(&desk.set(2), &["ciso"])),
        Offer::Adopted(2)
    );
    refused(
        &sets.offer(None, &desk.folder(&desk.set(3), &["ciso"])),
        "is not among the signers of",
    );
    // Who turns [trust.root] off has the local file alone again.
    let adopted = adopted(&sets);
    policy.root = None;
    let mut sets = Sets::new(&policy, &adopted, NOW);
    assert_eq!(sets.in_force(), (0, &policy.signers));
    let four = desk.folder(&desk.set(4), &["root"]);
    assert_eq!(sets.offer(None, &four), Offer::Nothing);
}

#[test]
fn only_so_many_signatures_are_looked_at() {
    let desk = Desk::new();
    let policy = policy(&desk.local(), &[SECURITY], 1);
    let mut sets = Sets::new(&policy, &[], NOW);
    desk.key("root");
    let content = desk.set(99);
    let armor = desk.sign_for(TRUST_NAMESPACE, "root", &content);
    let many = (0..=MAX_SIGNATURES).map(|n| (format!("allowed_signers.sig.{n}"), armor.clone()));
    refused(
        &sets.offer(None, &bare(&content, many.collect())),
        "33 signatures stand beside it",
    );
}

#[test]
fn the_next_serial_stands_at_the_top_and_the_rest_stays() {
    for (before, after) in [
        ("a key\n", "# Fleet: acme\n# Serial: 1\na key\n"),
        ("", "# Fleet: acme\n# Serial: 1\n"),
        (
            "# ours\n# fleet: old\n#Serial:41\n\na key",
            "# Fleet: acme\n# Serial: 42\n# ours\n\na key",
        ),
        ("# Serial: 7\na\n", "# Fleet: acme\n# Serial: 8\na\n"),
        ("# Fleet: x\na\n", "# Fleet: acme\n# Serial: 1\na\n"),
    ] {
        assert_eq!(with_headers(before, "acme", 0).as_deref(), Ok(after));
    }
    for (before, used, serial) in [("a\n", 4, 5), ("# Serial: 7\na\n", 4, 8)] {
        let after = format!("# Fleet: acme\n# Serial: {serial}\na\n");
        assert_eq!(with_headers(before, "acme", used), Ok(after));
    }
    for bad in [
        "# Fleet: a\n# Serial: x\n",
        "# Fleet: a\n# Serial: 18446744073709551615\n",
        "# Serial: 1\n# Serial: 2\n",
    ] {
        assert!(with_headers(bad, "acme", 0).is_err(), "{bad}");
    }
}
