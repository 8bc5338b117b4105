//! Signatures that are weak, misshapen, or of another commit.

use super::*;

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
            lines_of_base64(&both)
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
