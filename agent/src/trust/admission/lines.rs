//! Lines of allowed_signers in every form, beside what the real `ssh-keygen` makes of them.

#![allow(clippy::unwrap_used, reason = "tests")]
use super::super::keygen::{Case, Desk, NOW};

const MESSAGE: &[u8] = b"subject\n";

/// How we stand to `ssh-keygen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    /// Both take it, as this principal of ours.
    Taken(&'static str),
    /// Neither does.
    Refused,
    /// It does and we do not.
    Stricter,
}

use Beside::{Refused, Stricter, Taken};

/// `KEY` stands for alice's key type and base64, `OTHER` for another's, `B64` for the base64 of alice's.
const LINES: &[(&str, Beside)] = &[
    // Columns, blanks and comments.
    ("alice@x KEY", Taken("alice@x")),
    ("alice@x\tKEY", Taken("alice@x")),
    (
        "  \t alice@x \t KEY \t a comment, with \"quotes",
        Taken("alice@x"),
    ),
    (
        "alice@x KEY # not a comment, but one all the same",
        Taken("alice@x"),
    ),
    ("# alice@x KEY", Refused),
    ("  # alice@x KEY", Refused),
    ("#alice@x KEY\n\n \nalice@x KEY", Taken("alice@x")),
    ("alice@x KEY\r", Taken("alice@x")),
    ("alice@x KEY\r\n", Taken("alice@x")),
    ("\r\nalice@x KEY\r\n", Taken("alice@x")),
    ("KEY", Refused),
    ("alice@x", Refused),
    ("alice@x ssh-ed25519", Refused),
    ("alice@x ssh-ed25519 AAAA", Refused),
    ("alice@x ssh-rsa B64", Refused),
    ("alice@x ed25519 B64", Refused),
    ("alice@x SSH-ED25519 B64", Refused),
    ("alice@x B64", Refused),
    // Principals.
    ("bob@x,alice@x KEY", Taken("bob@x")),
    ("\"alice@x\" KEY", Taken("alice@x")),
    ("\"Alice A,bob\" KEY", Taken("Alice A")),
    ("\"alice@x KEY", Refused),
    ("\"alice@x\"KEY", Stricter),
    ("al\"ice@x\" KEY", Stricter),
    ("*@x KEY", Taken("*@x")),
    ("*@x,!alice@x KEY", Taken("*@x")),
    ("!bob@x,alice@x KEY", Taken("alice@x")),
    ("!alice@x,alice@x KEY", Refused),
    ("alice@x,!* KEY", Refused),
    ("!alice@x KEY", Refused),
    ("alice@x,,bob@x KEY", Stricter),
    (",alice@x KEY", Stricter),
    // Options.
    ("alice@x namespaces=\"git\" KEY", Taken("alice@x")),
    ("alice@x namespaces=\"file,g?t\" KEY", Taken("alice@x")),
    ("alice@x NameSpaces=\"*,!file\" KEY", Taken("alice@x")),
    ("alice@x namespaces=\"*,!git\" KEY", Refused),
    ("alice@x namespaces=\"!file\" KEY", Refused),
    ("alice@x namespaces=\"\" KEY", Refused),
    ("alice@x namespaces=\"file\" KEY", Refused),
    ("alice@x namespaces=\"file, git\" KEY", Refused),
    ("alice@x namespaces=\"a b,git\" KEY", Taken("alice@x")),
    ("alice@x namespaces=\"a\\\"b,git\" KEY", Taken("alice@x")),
    ("alice@x namespaces=git KEY", Refused),
    ("alice@x namespaces KEY", Refused),
    ("alice@x namespaces=\"git KEY", Refused),
    ("alice@x namespaces=\"git\",namespaces=\"git\" KEY", Refused),
    (
        "alice@x namespaces=\"git\",valid-before=\"20300101\" KEY",
        Taken("alice@x"),
    ),
    ("alice@x namespaces=\"git\", KEY", Refused),
    (
        "alice@x namespaces=\"git\" valid-before=\"20300101\" KEY",
        Refused,
    ),
    ("alice@x ,namespaces=\"git\" KEY", Stricter),
    ("alice@x restrict KEY", Refused),
    ("alice@x namespaces=\"git\",restrict KEY", Refused),
    ("alice@x cert-authority KEY", Refused),
    ("alice@x Cert-Authority,namespaces=\"git\" KEY", Refused),
    // Windows; it is 2026-01-01.
    ("alice@x valid-after=\"20250101\" KEY", Taken("alice@x")),
    ("alice@x valid-after=\"20260101\" KEY", Taken("alice@x")),
    ("alice@x valid-after=\"20260101Z\" KEY", Taken("alice@x")),
    ("alice@x valid-after=\"202601010000\" KEY", Taken("alice@x")),
    ("alice@x valid-after=\"202601010001\" KEY", Refused),
    (
        "alice@x valid-after=\"20260101000000Z\" KEY",
        Taken("alice@x"),
    ),
    ("alice@x valid-after=\"20260101000001Z\" KEY", Refused),
    (
        "alice@x valid-after=\"20260101000000UTC\" KEY",
        Taken("alice@x"),
    ),
    (
        "alice@x valid-before=\"20260101000000z\" KEY",
        Taken("alice@x"),
    ),
    ("alice@x valid-before=\"20251231235959Z\" KEY", Refused),
    ("alice@x VALID-BEFORE=\"20251231\" KEY", Refused),
    ("alice@x valid-before=\"2026010100Z\" KEY", Refused),
    ("alice@x valid-before=\"2030-01-01\" KEY", Refused),
    ("alice@x valid-before=\"20301301\" KEY", Refused),
    ("alice@x valid-before=\"20300230\" KEY", Stricter),
    ("alice@x valid-before=\"203001012400\" KEY", Refused),
    ("alice@x valid-before=\" 20300101\" KEY", Refused),
    ("alice@x valid-before=\"20300101+1\" KEY", Refused),
    ("alice@x valid-before=\"19690101Z\" KEY", Refused),
    ("alice@x valid-after=\"19700101Z\" KEY", Refused),
    ("alice@x valid-before=\"99991231\" KEY", Taken("alice@x")),
    (
        "alice@x valid-after=\"20250101\",valid-before=\"20270101\" KEY",
        Taken("alice@x"),
    ),
    (
        "alice@x valid-after=\"20250101\",valid-before=\"20250101\" KEY",
        Refused,
    ),
    (
        "alice@x valid-before=\"20270101\",valid-before=\"20270101\" KEY",
        Refused,
    ),
    // Several lines.
    ("alice@x OTHER\nalice@x KEY", Taken("alice@x")),
    (
        "alice@x valid-before=\"20200101\" KEY\nalice@x KEY",
        Taken("alice@x"),
    ),
    (
        "bob@x valid-before=\"20200101\" KEY\nalice@x KEY",
        Taken("alice@x"),
    ),
    (
        "alice@x KEY\nalice@x valid-before=\"20200101\" KEY",
        Taken("alice@x"),
    ),
    (
        "alice@x namespaces=\"file\" KEY\nalice@x namespaces=\"git\" KEY",
        Taken("alice@x"),
    ),
    ("alice@x cert-authority KEY\nalice@x KEY", Taken("alice@x")),
    ("alice@x rubbish\nalice@x KEY", Taken("alice@x")),
    ("alice@x rubbish KEY\nalice@x KEY", Taken("alice@x")),
    ("rubbish\nalice@x KEY", Taken("alice@x")),
    ("alice@x KEY\nrubbish rubbish rubbish", Taken("alice@x")),
    ("alice@x OTHER", Refused),
];

#[test]
fn every_form_of_line_is_taken_or_refused_as_ssh_keygen_does() {
    let desk = Desk::new();
    desk.key("alice", "-t ed25519");
    desk.key("other", "-t ed25519");
    let armor = desk.sign("alice", "git", MESSAGE);
    let key = desk.public("alice");
    let base64 = key.split(' ').nth(1).unwrap().to_owned();
    let mut wrong = Vec::new();
    for (text, wanted) in LINES {
        let signers = text
            .replace("KEY", &key)
            .replace("OTHER", &desk.public("other"))
            .replace("B64", &base64);
        let case = Case {
            signers: &format!("{signers}\n"),
            armor: &armor,
            message: MESSAGE,
            at: NOW,
            revoked: None,
        };
        let theirs = desk.theirs(&case, &["alice@x", "bob@x", "\"alice@x\""]);
        let ours = case.ours(0, super::Among::Everyone);
        let found = match (&ours, theirs.is_empty()) {
            (Ok(signer), false) if theirs.contains(&signer.principal) => "taken",
            (Ok(_), _) => "laxer",
            (Err(_), true) => "refused",
            (Err(_), false) => "stricter",
        };
        let name = ours.as_ref().map_or("", |signer| &signer.principal);
        let fits = match wanted {
            Taken(wanted) => found == "taken" && name == *wanted,
            Refused => found == "refused",
            Stricter => found == "stricter",
        };
        if !fits {
            wrong.push(format!(
                "{text:?}: {wanted:?}, and it is {found}: {ours:?}, ssh-keygen as {theirs:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
