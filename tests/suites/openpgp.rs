//! Commits signed with OpenPGP by the real `git` and `gpg`, judged against keyrings that `gpg` wrote, beside git's verdict.

use std::path::{Path, PathBuf};
use std::process::Command;

use evenkeel::cli::verify::{self, Args};
use evenkeel_tests::device::binary;
use evenkeel_tests::process::{Output, run, run_with_input};
use evenkeel_tests::{PATIENCE, Signer};
use serde_json::Value;
use tempfile::TempDir;

/// When keys are made: later than this program, so that its own age expires none of them.
const MADE: i64 = 2_000_000_000;
const DAY: i64 = 24 * 60 * 60;

/// Somebody's GnuPG, and a repository without any remote.
struct Desk {
    dir: TempDir,
}

impl Drop for Desk {
    fn drop(&mut self) {
        for home in ["home", "oracle"] {
            let _ = Command::new("gpgconf")
                .args(["--homedir"])
                .arg(self.path(home))
                .args(["--kill", "all"])
                .output();
        }
    }
}

impl Desk {
    fn new() -> Self {
        let desk = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for home in ["home", "oracle"] {
            std::fs::create_dir(desk.path(home)).unwrap();
            run(
                Command::new("chmod").arg("700").arg(desk.path(home)),
                PATIENCE,
            )
            .expect_code(0);
        }
        run(
            desk.git(MADE)
                .args(["init", "-q", "-b", "main", "--object-format", "sha1", "."]),
            PATIENCE,
        )
        .expect_code(0);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    /// gpg as if it were `at`, with the owner's keys.
    fn gpg(&self, at: i64, arguments: &[&str], input: &[u8]) -> Output {
        run_with_input(
            Command::new("gpg")
                .env("GNUPGHOME", self.path("home"))
                .env("LC_ALL", "C")
                .args(["--batch", "--yes", "--no-tty", "--quiet"])
                .args(["--pinentry-mode", "loopback", "--passphrase", ""])
                .args(["--faked-system-time", &format!("{at}!")])
                .args(arguments),
            input,
            PATIENCE,
        )
    }

    /// git whose gpg believes that it is `at`.
    fn git(&self, at: i64) -> Command {
        self.git_in("home", at, "")
    }

    fn git_in(&self, home: &str, at: i64, options: &str) -> Command {
        let name = format!(
            "gpg-{home}-{at}-{}",
            options.replace([' ', '!', '@', '='], "_")
        );
        let program = self.path(&name);
        if !program.exists() {
            let script = format!(
                "#!/bin/sh\nGNUPGHOME={} exec gpg --faked-system-time '{at}!' --pinentry-mode loopback {options} \"$@\"\n",
                self.path(home).display()
            );
            std::fs::write(&program, script).unwrap();
            run(Command::new("chmod").arg("755").arg(&program), PATIENCE).expect_code(0);
        }
        let mut command = Command::new("git");
        command
            .current_dir(self.dir.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("LC_ALL", "C")
            .env("GIT_AUTHOR_NAME", "A")
            .env("GIT_AUTHOR_EMAIL", "a@example.com")
            .env("GIT_COMMITTER_NAME", "C")
            .env("GIT_COMMITTER_EMAIL", "c@example.com")
            .env("GIT_AUTHOR_DATE", format!("{at} +0000"))
            .env("GIT_COMMITTER_DATE", format!("{at} +0000"))
            .args(["-c", "gpg.format=openpgp", "-c"])
            .arg(format!("gpg.program={}", program.display()));
        command
    }

    /// A new key; its fingerprint.
    fn key(&self, user: &str, algorithm: &str, usage: &str, expires: &str) -> String {
        let status = self
            .gpg(
                MADE,
                &[
                    "--status-fd",
                    "1",
                    "--quick-generate-key",
                    user,
                    algorithm,
                    usage,
                    expires,
                ],
                &[],
            )
            .expect_code(0)
            .stdout;
        let created = status.split("KEY_CREATED P ").nth(1).unwrap();
        created.split_whitespace().next().unwrap().to_owned()
    }

    /// The fingerprints of the keys of a user: the primary one's, then the subkeys'.
    fn fingerprints(&self, user: &str) -> Vec<String> {
        self.gpg(MADE, &["--with-colons", "--list-keys", user], &[])
            .expect_code(0)
            .stdout
            .lines()
            .filter(|line| line.starts_with("fpr:"))
            .map(|line| line.split(':').nth(9).unwrap().to_owned())
            .collect()
    }

    fn export(&self, users: &[&str]) -> PathBuf {
        let mut arguments = vec!["--armor", "--export"];
        arguments.extend(users);
        let keyring = self.gpg(MADE, &arguments, &[]).expect_code(0).stdout;
        self.write(
            &format!("{}.asc", users.join("-").replace(' ', "_")),
            keyring,
        )
    }

    /// A commit made and signed at a time with a key (`!` behind it: with that very subkey).
    fn commit(&self, key: &str, at: i64) -> String {
        self.commit_with(key, at, "")
    }

    fn commit_with(&self, key: &str, at: i64, options: &str) -> String {
        run(
            self.git_in("home", at, options)
                .arg("-c")
                .arg(format!("user.signingkey={key}"))
                .args(["commit", "-q", "-S", "--allow-empty", "-m", "change"]),
            PATIENCE,
        )
        .expect_code(0);
        run(self.git(at).args(["rev-parse", "HEAD"]), PATIENCE)
            .stdout
            .trim()
            .to_owned()
    }

    /// A commit that is dated otherwise than its signature.
    fn dated(&self, key: &str, signed: i64, dated: i64) -> String {
        run(
            self.git(signed)
                .env("GIT_COMMITTER_DATE", format!("{dated} +0000"))
                .arg("-c")
                .arg(format!("user.signingkey={key}"))
                .args(["commit", "-q", "-S", "--allow-empty", "-m", "dated"]),
            PATIENCE,
        )
        .expect_code(0);
        run(self.git(signed).args(["rev-parse", "HEAD"]), PATIENCE)
            .stdout
            .trim()
            .to_owned()
    }

    fn raw(&self, commit: &str) -> String {
        run(
            self.git(MADE).args(["cat-file", "commit", commit]),
            PATIENCE,
        )
        .expect_code(0)
        .stdout
    }

    fn hash(&self, raw: impl AsRef<[u8]>) -> String {
        run_with_input(
            self.git(MADE).args([
                "hash-object",
                "-t",
                "commit",
                "-w",
                "--stdin",
                "--literally",
            ]),
            raw.as_ref(),
            PATIENCE,
        )
        .expect_code(0)
        .stdout
        .trim()
        .to_owned()
    }

    /// The commit again, with another armor.
    fn with_armor(&self, commit: &str, armor: &str) -> String {
        let (head, signature, message) = parts(&self.raw(commit));
        assert!(!signature.is_empty());
        let folded = armor.trim_end_matches('\n').replace('\n', "\n ");
        self.hash(format!("{head}\ngpgsig {folded}\n\n{message}"))
    }

    fn armor(&self, commit: &str) -> String {
        parts(&self.raw(commit)).1
    }

    fn verdict(&self, commit: &str, keyring: &Path) -> Value {
        self.judge(commit, Some(keyring), None).unwrap()
    }

    fn judge(
        &self,
        commit: &str,
        keyring: Option<&Path>,
        signers: Option<&Path>,
    ) -> Result<Value, String> {
        let args = Args {
            revision: commit.to_owned(),
            repo: Some(self.dir.path().to_owned()),
            allowed_signers: signers.map(Path::to_owned),
            openpgp_keyring: keyring.map(Path::to_owned),
            json: true,
            ..Args::default()
        };
        let answer = verify::answer(&args, &|_| Err("there is no configuration".to_owned()))
            .map_err(|error| format!("{error:#}"))?;
        let verdict: Value = serde_json::from_str(&answer.text).unwrap();
        assert_eq!(answer.code == 0, verdict["reason"] == "ok", "{verdict}");
        Ok(verdict)
    }

    fn reason(&self, commit: &str, keyring: &Path) -> String {
        self.verdict(commit, keyring)["reason"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Whether git takes it, at a time, with exactly this keyring.
    fn git_takes(&self, commit: &str, keyring: &Path, at: i64) -> bool {
        let oracle = self.path("oracle");
        for name in ["pubring.kbx", "pubring.kbx~", "trustdb.gpg"] {
            let _ = std::fs::remove_file(oracle.join(name));
        }
        run(
            Command::new("gpg")
                .env("GNUPGHOME", &oracle)
                .args(["--batch", "--quiet", "--faked-system-time"])
                .arg(format!("{at}!"))
                .arg("--import")
                .arg(keyring),
            PATIENCE,
        );
        self.git_takes_still(commit, at)
    }

    /// The same, with the keyring of the last time.
    fn git_takes_still(&self, commit: &str, at: i64) -> bool {
        run(
            self.git_in("oracle", at, "")
                .args(["verify-commit", commit]),
            PATIENCE,
        )
        .code
            == Some(0)
    }
}

/// A commit's headers without the signature, its armor, and its message.
fn parts(raw: &str) -> (String, String, String) {
    let (head, message) = raw.split_once("\n\n").unwrap();
    let (head, folded) = head.split_once("\ngpgsig ").unwrap();
    (
        head.to_owned(),
        format!("{}\n", folded.replace("\n ", "\n")),
        message.to_owned(),
    )
}

#[test]
fn keys_of_every_kind_that_gpg_makes_are_taken_or_called_unsupported() {
    let desk = Desk::new();
    for (algorithm, expected) in [
        ("ed25519", Ok("openpgp-ed25519")),
        ("rsa2048", Ok("openpgp-rsa2048")),
        ("rsa3072", Ok("openpgp-rsa3072")),
        ("nistp256", Ok("openpgp-nistp256")),
        ("nistp384", Ok("openpgp-nistp384")),
        ("nistp521", Ok("openpgp-nistp521")),
        ("secp256k1", Err("secp256k1")),
        ("brainpoolP256r1", Err("brainpool")),
        ("rsa1024", Err("1024")),
        ("dsa2048", Err("algorithm 17")),
    ] {
        let user = format!("Release <{algorithm}@acme.example>");
        let key = desk.key(&user, algorithm, "sign", "never");
        let commit = desk.commit(&key, MADE + DAY);
        let keyring = desk.export(&[&key]);
        assert!(desk.git_takes(&commit, &keyring, MADE + DAY), "{algorithm}");
        match expected {
            Ok(key_type) => {
                let verdict = desk.verdict(&commit, &keyring);
                assert_eq!(verdict["reason"], "ok", "{algorithm}: {verdict}");
                assert_eq!(verdict["key_type"], key_type);
                assert_eq!(verdict["fingerprint"], key.as_str());
                assert_eq!(verdict["principal"], format!("{algorithm}@acme.example"));
            }
            // Alone in a keyring it is no keyring, and beside a usable key its signatures are called by their name.
            Err(why) => {
                let refused = desk.judge(&commit, Some(&keyring), None).unwrap_err();
                assert!(refused.contains(why), "{algorithm}: {refused}");
                let both = desk.export(&["ed25519@acme.example", &key]);
                let reason = desk.reason(&commit, &both);
                assert_eq!(reason, "unsupported", "{algorithm}");
            }
        }
    }
}

#[test]
fn binary_keyrings_of_many_and_text_between_armored_ones_are_read() {
    let desk = Desk::new();
    let alice = desk.key("Alice <alice@acme.example>", "ed25519", "sign", "never");
    let bob = desk.key("bob@acme.example", "nistp256", "sign", "never");
    let commits = [desk.commit(&alice, MADE + 5), desk.commit(&bob, MADE + 5)];
    let binary = desk.path("keyring.gpg");
    desk.gpg(
        MADE,
        &["--output", binary.to_str().unwrap(), "--export"],
        &[],
    )
    .expect_code(0);
    let one = std::fs::read_to_string(desk.export(&[&alice])).unwrap();
    let other = std::fs::read_to_string(desk.export(&[&bob])).unwrap();
    let armored = desk.write(
        "both.asc",
        format!("pub alice\n{one}\n\npub bob\n{other}\n"),
    );
    let windows = desk.write("windows.asc", format!("{one}{other}").replace('\n', "\r\n"));
    for keyring in [binary, armored, windows] {
        assert_eq!(
            desk.verdict(&commits[0], &keyring)["principal"],
            "alice@acme.example"
        );
        assert_eq!(
            desk.verdict(&commits[1], &keyring)["principal"],
            "bob@acme.example"
        );
    }
}

#[test]
fn a_file_that_is_no_keyring_is_an_error_that_says_why() {
    let desk = Desk::new();
    let alice = desk.key("Alice <alice@acme.example>", "ed25519", "sign", "never");
    let commit = desk.commit(&alice, MADE + 5);
    let keyring = std::fs::read_to_string(desk.export(&[&alice])).unwrap();
    let secret = desk
        .gpg(MADE, &["--armor", "--export-secret-keys", &alice], &[])
        .stdout;
    let half = &keyring[..keyring.len() / 2];
    let refused = |content: &str| {
        let file = desk.write("bad.asc", content);
        desk.judge(&commit, Some(&file), None).unwrap_err()
    };
    assert!(refused("").contains("neither an armored"));
    assert!(refused("alice@acme.example ssh-ed25519 AAAA\n").contains("neither an armored"));
    assert!(
        refused(&secret).contains("private key"),
        "{}",
        refused(&secret)
    );
    assert!(refused(half).contains("does not end"), "{}", refused(half));
    assert!(refused(&desk.armor(&commit)).contains("not a public key"));
    let damaged = keyring.replacen("\n\nm", "\n\nn", 1);
    assert_ne!(damaged, keyring);
    assert!(refused(&damaged).contains("checksum"));
    let missing = desk.judge(&commit, Some(&desk.path("missing.asc")), None);
    assert!(missing.unwrap_err().contains("missing.asc"));
}

#[test]
fn a_signing_subkey_speaks_for_its_primary_key() {
    let desk = Desk::new();
    let alice = desk.key("Alice <alice@acme.example>", "ed25519", "cert", "never");
    for algorithm in ["ed25519", "rsa2048"] {
        desk.gpg(
            MADE,
            &["--quick-add-key", &alice, algorithm, "sign", "1y"],
            &[],
        )
        .expect_code(0);
    }
    desk.gpg(
        MADE,
        &["--quick-add-key", &alice, "cv25519", "encr", "never"],
        &[],
    )
    .expect_code(0);
    let keys = desk.fingerprints(&alice);
    let keyring = desk.export(&[&alice]);
    for (key, key_type) in [(&keys[1], "openpgp-ed25519"), (&keys[2], "openpgp-rsa2048")] {
        let commit = desk.commit(&format!("{key}!"), MADE + DAY);
        let verdict = desk.verdict(&commit, &keyring);
        assert_eq!(verdict["reason"], "ok", "{verdict}");
        assert_eq!(verdict["principal"], "alice@acme.example");
        assert_eq!(verdict["fingerprint"], key.as_str());
        assert_eq!(verdict["key_type"], key_type);
        assert!(desk.git_takes(&commit, &keyring, MADE + DAY));
        // Expired, though the primary key is not.
        let dated = desk.dated(&format!("{key}!"), MADE + 365 * DAY - 5, MADE + 366 * DAY);
        assert_eq!(desk.reason(&dated, &keyring), "key-expired");
    }
}

#[test]
fn a_key_counts_in_its_own_time_alone() {
    let desk = Desk::new();
    let user = "Alice <alice@acme.example>";
    let key = desk.key(user, "ed25519", "sign", "30d");
    let keyring = desk.export(&[&key]);
    let good = desk.commit(&key, MADE + 29 * DAY);
    assert_eq!(desk.reason(&good, &keyring), "ok");
    assert!(desk.git_takes(&good, &keyring, MADE + 29 * DAY));
    // gpg does not sign with an expired key, so its time is put back for the signature, and not for the commit.
    let late = |signed: i64, dated: i64| desk.dated(&key, signed, dated);
    assert_eq!(
        desk.reason(&late(MADE + 29 * DAY, MADE + 30 * DAY), &keyring),
        "key-expired"
    );
    assert_eq!(
        desk.reason(&late(MADE + DAY, MADE + 3 * DAY), &keyring),
        "bad-signature"
    );
    assert!(!desk.git_takes(&good, &keyring, MADE + 31 * DAY));

    // Renewed, it counts again.
    desk.gpg(MADE + 2 * DAY, &["--quick-set-expire", &key, "2y"], &[])
        .expect_code(0);
    let renewed = desk.export(&[&key]);
    let later = desk.commit(&key, MADE + 100 * DAY);
    assert_eq!(desk.reason(&later, &renewed), "ok");
    // Both copies in one file: the newer signature says how long.
    let old = std::fs::read_to_string(&keyring).unwrap();
    let new = std::fs::read_to_string(&renewed).unwrap();
    let both = desk.write("both.asc", new + &old);
    assert_eq!(desk.reason(&later, &both), "ok");
}

#[test]
fn a_signature_older_than_its_key_is_refused() {
    let desk = Desk::new();
    let user = "Alice <alice@acme.example>";
    let key = desk.key(user, "ed25519", "sign", "never");
    let keyring = desk.export(&[&key]);
    let commit = desk.commit_with(&key, MADE - DAY, "--ignore-time-conflict");
    assert_eq!(desk.reason(&commit, &keyring), "key-not-yet-valid");
    assert!(!desk.git_takes(&commit, &keyring, MADE - DAY));
}

#[test]
fn a_revocation_in_the_keyring_counts_wherever_it_stands() {
    let desk = Desk::new();
    let alice = desk.key("Alice <alice@acme.example>", "ed25519", "sign", "never");
    let bob = desk.key("Bob <bob@acme.example>", "ed25519", "sign", "never");
    let commit = desk.commit(&alice, MADE + DAY);
    let by_bob = desk.commit(&bob, MADE + DAY);
    let before = std::fs::read_to_string(desk.export(&[&alice, &bob])).unwrap();
    let certificate = desk.path(&format!("home/openpgp-revocs.d/{alice}.rev"));
    let certificate = std::fs::read_to_string(certificate)
        .unwrap()
        .replace(":-----BEGIN", "-----BEGIN");
    let certificate = &certificate[certificate.find("-----BEGIN").unwrap()..];

    let appended = desk.write("appended.asc", format!("{before}{certificate}"));
    let put_first = desk.write("first.asc", format!("{certificate}{before}"));
    desk.gpg(MADE + 2 * DAY, &["--import"], certificate.as_bytes())
        .expect_code(0);
    let imported = desk.export(&[&alice, &bob]);
    let after = std::fs::read_to_string(&imported).unwrap();
    let old_and_new = desk.write("two.asc", format!("{before}{after}"));
    let new_and_old = desk.write("owt.asc", format!("{after}{before}"));
    assert!(!desk.git_takes(&commit, &imported, MADE + 3 * DAY));
    for keyring in [appended, put_first, imported, old_and_new, new_and_old] {
        let verdict = desk.verdict(&commit, &keyring);
        assert_eq!(verdict["reason"], "revoked", "{}", keyring.display());
        assert_eq!(verdict["fingerprint"], alice.as_str());
        assert_eq!(desk.reason(&by_bob, &keyring), "ok");
    }
    // Nobody is left.
    let alone = desk.export(&[&alice]);
    let refused = desk.judge(&commit, Some(&alone), None).unwrap_err();
    assert!(refused.contains("revoked"), "{refused}");
}

#[test]
fn a_revoked_subkey_or_name_counts_no_more_and_the_rest_does() {
    let desk = Desk::new();
    let alice = desk.key("Alice <alice@acme.example>", "ed25519", "sign", "never");
    desk.gpg(
        MADE,
        &["--quick-add-key", &alice, "ed25519", "sign", "never"],
        &[],
    )
    .expect_code(0);
    desk.gpg(
        MADE + 1,
        &["--quick-add-uid", &alice, "Alice <alice@old.example>"],
        &[],
    )
    .expect_code(0);
    let subkey = desk.fingerprints(&alice)[1].clone();
    let by_primary = desk.commit(&format!("{alice}!"), MADE + DAY);
    let by_subkey = desk.commit(&format!("{subkey}!"), MADE + DAY);
    let keyring = desk.export(&[&alice]);
    assert_eq!(desk.reason(&by_subkey, &keyring), "ok");
    assert_eq!(
        desk.verdict(&by_primary, &keyring)["principal"],
        "alice@old.example",
        "the newest name is the primary one, as gpg lists it"
    );

    run_with_input(
        Command::new("gpg")
            .env("GNUPGHOME", desk.path("home"))
            .args([
                "--no-tty",
                "--quiet",
                "--command-fd",
                "0",
                "--pinentry-mode",
                "loopback",
            ])
            .args(["--passphrase", "", "--faked-system-time"])
            .arg(format!("{}!", MADE + 2 * DAY))
            .args(["--edit-key", &alice]),
        b"key 1\nrevkey\ny\n1\n\ny\nsave\n",
        PATIENCE,
    )
    .expect_code(0);
    desk.gpg(
        MADE + 2 * DAY,
        &["--quick-revoke-uid", &alice, "Alice <alice@old.example>"],
        &[],
    )
    .expect_code(0);
    let keyring = desk.export(&[&alice]);
    assert_eq!(desk.reason(&by_subkey, &keyring), "revoked");
    assert!(!desk.git_takes(&by_subkey, &keyring, MADE + 3 * DAY));
    let verdict = desk.verdict(&by_primary, &keyring);
    assert_eq!(verdict["reason"], "ok");
    assert_eq!(verdict["principal"], "alice@acme.example");
}

#[test]
fn a_key_that_is_not_for_signing_speaks_for_nobody() {
    let desk = Desk::new();
    let alice = desk.key("Alice <alice@acme.example>", "ed25519", "sign", "never");
    desk.gpg(
        MADE,
        &["--quick-add-key", &alice, "rsa2048", "sign,encr", "never"],
        &[],
    )
    .expect_code(0);
    let subkey = desk.fingerprints(&alice)[1].clone();
    let commit = desk.commit(&format!("{subkey}!"), MADE + DAY);
    assert_eq!(desk.reason(&commit, &desk.export(&[&alice])), "ok");
    // The same key, from then on for encryption alone.
    run_with_input(
        Command::new("gpg")
            .env("GNUPGHOME", desk.path("home"))
            .args([
                "--no-tty",
                "--quiet",
                "--command-fd",
                "0",
                "--pinentry-mode",
                "loopback",
            ])
            .args(["--passphrase", "", "--faked-system-time"])
            .arg(format!("{}!", MADE + 2 * DAY))
            .args(["--edit-key", &alice]),
        b"key 1\nchange-usage\ns\nq\nsave\n",
        PATIENCE,
    )
    .expect_code(0);
    let keyring = desk.export(&[&alice]);
    let listed = desk
        .gpg(MADE, &["--with-colons", "--list-keys", &alice], &[])
        .stdout;
    assert!(
        listed
            .lines()
            .any(|line| line.starts_with("sub:") && line.contains(":e:")),
        "{listed}"
    );
    assert_eq!(desk.reason(&commit, &keyring), "unknown-key");
}

#[test]
fn a_key_that_signed_itself_over_sha1_must_renew_that() {
    let desk = Desk::new();
    let user = "Alice <alice@acme.example>";
    desk.write("home/gpg.conf", "cert-digest-algo SHA1\n");
    let alice = desk.key(user, "rsa2048", "sign", "never");
    std::fs::remove_file(desk.path("home/gpg.conf")).unwrap();
    let commit = desk.commit(&alice, MADE + DAY);
    let keyring = desk.export(&[&alice]);
    assert!(desk.git_takes(&commit, &keyring, MADE + DAY));
    let refused = desk.judge(&commit, Some(&keyring), None).unwrap_err();
    assert!(refused.contains("SHA1"), "{refused}");
    desk.gpg(MADE + 5, &["--quick-set-expire", &alice, "2y"], &[])
        .expect_code(0);
    assert_eq!(desk.reason(&commit, &desk.export(&[&alice])), "ok");
}

#[test]
fn whose_key_is_not_in_the_keyring_is_a_stranger() {
    let desk = Desk::new();
    let alice = desk.key("Alice <alice@acme.example>", "ed25519", "sign", "never");
    let eve = desk.key("Eve <alice@acme.example>", "nistp256", "sign", "never");
    let commit = desk.commit(&eve, MADE + DAY);
    let verdict = desk.verdict(&commit, &desk.export(&[&alice]));
    assert_eq!(verdict["reason"], "unknown-key");
    assert_eq!(verdict["fingerprint"], eve.as_str());
    assert_eq!(verdict["principal"], Value::Null);

    // SSH signers and OpenPGP signers stand beside each other; each alone leaves the other out.
    let bob = Signer::new("bob@example.com");
    let signers = desk.write("signers", bob.allowed_line(""));
    let by_alice = desk.commit(&alice, MADE + DAY);
    let keyring = desk.export(&[&alice]);
    let reason = |keyring: Option<&Path>, signers: Option<&Path>| {
        desk.judge(&by_alice, keyring, signers).unwrap()["reason"].clone()
    };
    assert_eq!(reason(Some(&keyring), Some(&signers)), "ok");
    assert_eq!(reason(Some(&keyring), None), "ok");
    assert_eq!(reason(None, Some(&signers)), "unsupported");
}

#[test]
fn weak_hashes_and_what_is_no_plain_signature_are_not_taken() {
    let desk = Desk::new();
    let alice = desk.key("Alice <alice@acme.example>", "rsa2048", "sign", "never");
    let keyring = desk.export(&[&alice]);
    let at = MADE + DAY;
    for (options, expected) in [
        ("--digest-algo SHA256", "ok"),
        ("--digest-algo SHA384", "ok"),
        ("--digest-algo SHA1", "unsupported"),
        ("--digest-algo RIPEMD160", "unsupported"),
        ("--textmode", "ok"),
        ("--sig-notation note@acme.example=x", "ok"),
        ("--sig-notation !note@acme.example=x", "unsupported"),
        ("--default-sig-expire 1d", "ok"),
        ("--sender alice@acme.example", "ok"),
    ] {
        let commit = desk.commit_with(&alice, at, options);
        assert_eq!(desk.reason(&commit, &keyring), expected, "{options}");
    }
    // A text signature fits whatever the ends of lines are; where there are any to choose, it is not taken.
    let (head, signature, message) = parts(&desk.raw(&desk.commit_with(&alice, at, "--textmode")));
    let folded = signature.trim_end().replace('\n', "\n ");
    let changed = message.replace('\n', "\r\n");
    let commit = desk.hash(format!("{head}\ngpgsig {folded}\n\n{changed}"));
    assert_eq!(desk.reason(&commit, &keyring), "unsupported");
}

#[test]
fn an_armor_that_is_not_exactly_one_signature_is_refused() {
    let desk = Desk::new();
    let alice = desk.key("Alice <alice@acme.example>", "ed25519", "sign", "never");
    let keyring = desk.export(&[&alice]);
    let commit = desk.commit(&alice, MADE + DAY);
    let other = desk.armor(&desk.commit(&alice, MADE + 2 * DAY));
    let armor = desk.armor(&commit);
    let reason = |armor: &str| desk.reason(&desk.with_armor(&commit, armor), &keyring);
    assert_eq!(reason(&armor), "ok");
    // As forges write it.
    let (head, _, message) = parts(&desk.raw(&commit));
    let folded = armor.trim_end().replace('\n', "\n ");
    let spaced = desk.hash(format!("{head}\ngpgsig {folded}\n \n\n{message}"));
    assert_eq!(desk.reason(&spaced, &keyring), "ok");
    let commented = armor.replacen("\n\n", "\nVersion: GnuPG v2\nComment: hello\n\n", 1);
    assert_eq!(reason(&commented), "ok");

    let two = |first: &str, second: &str| {
        let both = [dearmored(first), dearmored(second)].concat();
        format!(
            "-----BEGIN PGP SIGNATURE-----\n\n{}\n-----END PGP SIGNATURE-----\n",
            base64(&both)
        )
    };
    let first_digit = |with: char| armor.replacen("\n\ni", &format!("\n\n{with}"), 1);
    for (what, changed) in [
        ("two armors", format!("{armor}{armor}")),
        ("two signatures in one armor", two(&armor, &other)),
        ("the same one twice", two(&armor, &armor)),
        ("text behind", format!("{armor}and more\n")),
        ("carriage returns", armor.replace('\n', "\r\n")),
        ("a wrong checksum", {
            let at = armor.rfind("\n=").unwrap() + 2;
            let with = if &armor[at..=at] == "A" { "B" } else { "A" };
            format!("{}{with}{}", &armor[..at], &armor[at + 1..])
        }),
        ("another packet", first_digit('j')),
        ("no end", armor.replace("-----END PGP SIGNATURE-----\n", "")),
        ("another's signature", other.clone()),
        (
            "nothing",
            "-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n".to_owned(),
        ),
    ] {
        assert_eq!(reason(&changed), "bad-signature", "{what}\n{changed}");
    }
    for (what, changed) in [
        ("a message", armor.replace("SIGNATURE", "MESSAGE")),
        ("a key", armor.replace("SIGNATURE", "PUBLIC KEY BLOCK")),
    ] {
        assert_eq!(reason(&changed), "unsupported", "{what}");
    }
    // A whole signed message, which carries another content of its own.
    let message = desk
        .gpg(MADE + DAY, &["--armor", "--sign", "-u", &alice], b"tree\n")
        .stdout;
    assert_eq!(reason(&message), "unsupported");
    let inside = message.replace("PGP MESSAGE", "PGP SIGNATURE");
    assert!(matches!(
        reason(&inside).as_str(),
        "unsupported" | "bad-signature"
    ));
    let text_in_front = desk.hash(format!("{head}\ngpgsig x\n {folded}\n\n{message}"));
    assert_ne!(desk.reason(&text_in_front, &keyring), "ok");
}

#[test]
fn a_changed_commit_does_not_fit_its_signature() {
    let desk = Desk::new();
    let alice = desk.key("Alice <alice@acme.example>", "ed25519", "sign", "never");
    let keyring = desk.export(&[&alice]);
    let raw = desk.raw(&desk.commit(&alice, MADE + DAY));
    for (from, to) in [
        ("change", "chance"),
        ("committer C", "committer D"),
        ("author A", "author B"),
        ("2000086400 +0000\ngpgsig", "2000086401 +0000\ngpgsig"),
    ] {
        let changed = raw.replacen(from, to, 1);
        assert_ne!(changed, raw, "{from}");
        assert_eq!(
            desk.reason(&desk.hash(changed), &keyring),
            "bad-signature",
            "{from}"
        );
    }
}

#[test]
fn a_device_follows_a_branch_that_is_signed_with_gpg_alone() {
    let desk = Desk::new();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let now = i64::try_from(now.as_secs()).unwrap();
    let key = |user: &str| {
        let status = desk
            .gpg(
                now - DAY,
                &[
                    "--status-fd",
                    "1",
                    "--quick-generate-key",
                    user,
                    "ed25519",
                    "sign",
                    "never",
                ],
                &[],
            )
            .expect_code(0)
            .stdout;
        let created = status.split("KEY_CREATED P ").nth(1).unwrap();
        created.split_whitespace().next().unwrap().to_owned()
    };
    let alice = key("Alice <alice@acme.example>");
    let dora = key("Dora <dora@acme.example>");
    let forge = key("GitHub <noreply@github.com>");
    let keyring = desk.export(&[&alice, &dora, &forge]);
    for (path, content) in [
        ("fleet.toml", "format = 1\nname = \"test\"\n"),
        ("groups/all.toml", "match = \"all\"\napps = [\"one\"]\n"),
    ] {
        std::fs::create_dir_all(desk.path(path).parent().unwrap()).unwrap();
        desk.write(path, content);
    }
    let release = |signer: &str, content: &str| {
        std::fs::create_dir_all(desk.path("apps/one")).unwrap();
        let app = format!(
            "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"{content}\"\n[gate]\nsoak = \"1s\"\n"
        );
        desk.write("apps/one/app.toml", app);
        run(
            desk.git(now).args(["add", "fleet.toml", "groups", "apps"]),
            PATIENCE,
        )
        .expect_code(0);
        desk.commit(signer, now)
    };
    std::fs::create_dir(desk.path("root")).unwrap();
    let dir = desk.dir.path().display();
    let config = format!(
        "state_dir = \"{dir}/state\"\nroot = \"{dir}/root\"\n[device]\nid = \"gw-1\"\n[source]\nurl = \"file://{dir}\"\n\
         branch = \"main\"\n[trust]\nopenpgp_keyring = \"{}\"\n[trust.branches.main]\n\
         signers = [\"a*@acme.example\", \"noreply@github.com\"]\n",
        keyring.display()
    );
    let config = desk.write("agent.toml", config).display().to_string();
    let sync = || {
        run(
            Command::new(binary()).args(["sync", "--config", &config]),
            PATIENCE,
        )
    };
    let file = desk.path("root/etc/one.conf");

    release(&alice, "first");
    let said = sync().expect_code(0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "first");
    // It is told that somebody's merge button counts as a signature here.
    assert!(said.text().contains("not one person"), "{}", said.text());
    assert!(said.text().contains(&forge), "{}", said.text());

    let said = run(
        Command::new(binary()).args(["trust", "status", "--config", &config]),
        PATIENCE,
    )
    .expect_code(0);
    for shown in [
        "alice@acme.example",
        "openpgp-ed25519",
        &alice,
        "not one person",
    ] {
        assert!(said.stdout.contains(shown), "{shown}: {}", said.text());
    }

    release(&dora, "second");
    let said = sync().expect_code(3);
    assert!(said.text().contains("wrong-branch"), "{}", said.text());
    assert!(said.text().contains("dora@acme.example"), "{}", said.text());
    release(&alice, "third");
    sync().expect_code(0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "third");

    // A revocation that is appended counts from the next look on; without the file there is no trust at all.
    let revocation = desk.path(&format!("home/openpgp-revocs.d/{alice}.rev"));
    let revocation = std::fs::read_to_string(revocation)
        .unwrap()
        .replace(":-----BEGIN", "-----BEGIN");
    let before = std::fs::read_to_string(&keyring).unwrap();
    release(&alice, "fourth");
    std::fs::write(&keyring, format!("{before}{revocation}")).unwrap();
    let said = sync().expect_code(3);
    assert!(said.text().contains("revoked"), "{}", said.text());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "third");
    std::fs::remove_file(&keyring).unwrap();
    let said = sync().expect_code(2);
    assert!(
        said.text().contains("trust.openpgp_keyring"),
        "{}",
        said.text()
    );
}

/// A row of numbers that looks like chance and is the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(end).unwrap()).unwrap()
    }
}

#[test]
fn nothing_is_taken_that_git_and_gpg_refuse() {
    const ROUNDS: usize = 60;
    let desk = Desk::new();
    let mut dice = Dice(11);
    // Keys of several kinds and fates, and the commits they signed while they could.
    let mut signers: Vec<String> = Vec::new();
    for (name, algorithm, usage, expires) in [
        ("a", "ed25519", "sign", "never"),
        ("b", "rsa2048", "sign", "30d"),
        ("c", "nistp256", "sign", "never"),
        ("d", "ed25519", "cert", "60d"),
        ("e", "nistp384", "sign", "never"),
    ] {
        let user = format!("{name} <{name}@acme.example>");
        signers.push(desk.key(&user, algorithm, usage, expires));
    }
    let d = signers[3].clone();
    for expires in ["20d", "never"] {
        desk.gpg(
            MADE,
            &["--quick-add-key", &d, "ed25519", "sign", expires],
            &[],
        )
        .expect_code(0);
    }
    signers.remove(3);
    signers.extend(desk.fingerprints(&d)[1..].iter().cloned());
    let mut commits: Vec<String> = Vec::new();
    for signer in &signers {
        for options in [
            "",
            "--digest-algo SHA512",
            "--textmode",
            "--default-sig-expire 9d",
        ] {
            let at = MADE + i64::try_from(dice.below(15)).unwrap() * DAY;
            commits.push(desk.commit_with(&format!("{signer}!"), at, options));
        }
    }
    let mut keyrings = vec![
        desk.export(&["a", "b", "c", "d", "e"]),
        desk.export(&["a", "d"]),
    ];
    let revocation = desk.path(&format!("home/openpgp-revocs.d/{}.rev", signers[2]));
    let revocation = std::fs::read_to_string(revocation)
        .unwrap()
        .replace(":-----BEGIN", "-----BEGIN");
    desk.gpg(MADE + DAY, &["--import"], revocation.as_bytes())
        .expect_code(0);
    desk.gpg(
        MADE + 2 * DAY,
        &["--quick-set-expire", &signers[0], "40d"],
        &[],
    )
    .expect_code(0);
    keyrings.push(desk.export(&["a", "c", "d", "e"]));

    let (mut judged, mut taken, mut stricter) = (0, 0, Vec::new());
    for keyring in &keyrings {
        // The oracle's keys are those of this keyring from here on.
        desk.git_takes(&commits[0], keyring, MADE);
        let mut cases: Vec<(String, String)> = commits
            .iter()
            .map(|commit| ("as it is".to_owned(), commit.clone()))
            .collect();
        for _ in 0..ROUNDS {
            let commit = &commits[dice.below(commits.len())];
            let raw = desk.raw(commit);
            let (head, armor, message) = parts(&raw);
            let kind = dice.below(4);
            let case = match kind {
                // A bit of the signature.
                0 => {
                    let mut bytes = dearmored(&armor);
                    let at = dice.below(bytes.len());
                    bytes[at] ^= 1 << dice.below(8);
                    let armor = format!(
                        "-----BEGIN PGP SIGNATURE-----\n\n{}\n-----END PGP SIGNATURE-----\n",
                        base64(&bytes)
                    );
                    (format!("bit of byte {at}"), desk.with_armor(commit, &armor))
                }
                // The signature of another commit.
                1 => {
                    let other = desk.armor(&commits[dice.below(commits.len())]);
                    (
                        "another's signature".to_owned(),
                        desk.with_armor(commit, &other),
                    )
                }
                // A letter of the content.
                2 => {
                    let with = ["changes", "change ", "change\r", "Change"][dice.below(4)];
                    let message = message.replacen("change", with, 1);
                    let folded = armor.trim_end().replace('\n', "\n ");
                    let raw = format!("{head}\ngpgsig {folded}\n\n{message}");
                    (format!("content {with:?}"), desk.hash(raw))
                }
                // A date.
                _ => {
                    let later = (MADE + i64::try_from(dice.below(80)).unwrap() * DAY).to_string();
                    let (before, date) = head.rsplit_once("> ").unwrap();
                    let zone = date.split_once(' ').unwrap().1;
                    let folded = armor.trim_end().replace('\n', "\n ");
                    let raw = format!("{before}> {later} {zone}\ngpgsig {folded}\n\n{message}");
                    ("date".to_owned(), desk.hash(raw))
                }
            };
            cases.push(case);
        }
        for (what, commit) in cases {
            let ours = desk.reason(&commit, keyring);
            // At the commit's own time, which is what a device without a clock has.
            let dated = desk.raw(&commit);
            let dated = dated.split_once("\ncommitter ").unwrap().1;
            let dated = dated.split_once("> ").unwrap().1;
            let at: i64 = dated.split(' ').next().unwrap().parse().unwrap();
            let gits = desk.git_takes_still(&commit, at);
            judged += 1;
            taken += usize::from(ours == "ok");
            assert!(
                gits || ours != "ok",
                "git refuses what is taken here: {what}, {commit}, {}",
                keyring.display()
            );
            if gits && ours != "ok" {
                stricter.push(format!("{ours}: {what}"));
            }
        }
    }
    assert!(
        judged >= 200 && taken >= 30,
        "{judged} judged, {taken} taken"
    );
    // Where we are stricter it is for one of these reasons, which the module names.
    for case in &stricter {
        let named = case.starts_with("bad-signature: bit")
            || case.starts_with("unsupported: bit")
            || case.starts_with("unknown-key: bit")
            || case.starts_with("unsupported: content \"change\\r\"");
        assert!(named, "{case}\n{stricter:#?}");
    }
}

/// What base64 digits stand for; `=` and what is behind it are left out.
fn dearmored(armor: &str) -> Vec<u8> {
    let body = armor.split_once("\n\n").unwrap().1;
    let body = &body[..body.find("\n=").unwrap_or(body.find("\n-").unwrap())];
    let (mut held, mut bits, mut out) = (0_u32, 0, Vec::new());
    for digit in body.bytes().filter(|byte| !matches!(byte, b'\n' | b'=')) {
        let value = DIGITS.iter().position(|known| *known == digit).unwrap();
        held = (held << 6) | u32::try_from(value).unwrap();
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from((held >> bits) & 0xff).unwrap());
        }
    }
    out
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let mut three = [0_u8; 3];
        three[..chunk.len()].copy_from_slice(chunk);
        let all = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for place in 0..4 {
            if place <= chunk.len() {
                let digit = (all >> (18 - 6 * place)) & 63;
                out.push(char::from(DIGITS[digit as usize]));
            } else {
                out.push('=');
            }
        }
    }
    let lines: Vec<String> = out
        .as_bytes()
        .chunks(64)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    lines.join("\n")
}
