//! Keys and keyrings: which of them count, for whom, and when.

use super::*;

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
