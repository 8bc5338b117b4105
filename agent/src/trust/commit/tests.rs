#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::domain::commit::Descent;

const TREE: &str = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n";
const AUTHOR: &str = "author A U Thor <a@x> 1700000000 +0100\n";
const COMMITTER: &str = "committer A U Thor <a@x> 1700000001 +0100\n";
const SIGNATURE: &str =
    "gpgsig -----BEGIN SSH SIGNATURE-----\n AAAA\n -----END SSH SIGNATURE-----\n";

fn parse(text: impl Into<Vec<u8>>) -> Result<Commit, CommitError> {
    let bytes = text.into();
    let mut hasher = sha1_checked::Sha1::new();
    hasher.update(format!("commit {}\0", bytes.len()));
    hasher.update(&bytes);
    let id: String = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Commit::parse(&RawCommit {
        id: id.parse().unwrap(),
        bytes,
        descent: Descent::NoFloor,
    })
}

#[test]
fn the_signature_header_alone_is_left_out_of_what_is_signed() {
    let rest = "encoding ISO-8859-1\nmergetag object 1\n type commit\n";
    let commit = parse(format!(
        "{TREE}{AUTHOR}{COMMITTER}{rest}{SIGNATURE}\nsubject\n"
    ))
    .unwrap();
    assert_eq!(
        commit.payload,
        format!("{TREE}{AUTHOR}{COMMITTER}{rest}\nsubject\n").into_bytes()
    );
    assert_eq!(
        commit.signature.unwrap(),
        b"-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n"
    );
    assert_eq!(commit.time, Timestamp(1_700_000_001));
}

#[test]
fn what_git_would_not_write_is_refused() {
    let author = |line: &str| format!("{TREE}{line}\n{COMMITTER}\n");
    let cases: Vec<(&str, String)> = vec![
        (
            "signed twice",
            format!("{TREE}{AUTHOR}{COMMITTER}{SIGNATURE}{SIGNATURE}\nm\n"),
        ),
        (
            "signed before author",
            format!("{TREE}{SIGNATURE}{AUTHOR}{COMMITTER}\nm\n"),
        ),
        (
            "signed before the tree",
            format!("{SIGNATURE}{TREE}{AUTHOR}{COMMITTER}\nm\n"),
        ),
        (
            "signed between author and committer",
            format!("{TREE}{AUTHOR}{SIGNATURE}{COMMITTER}\nm\n"),
        ),
        (
            "a header after the signature",
            format!("{TREE}{AUTHOR}{COMMITTER}{SIGNATURE}x y\n\nm\n"),
        ),
        (
            "signed for the other format",
            format!("{TREE}{AUTHOR}{COMMITTER}gpgsig-sha256 AAAA\n\nm\n"),
        ),
        (
            "signed for both formats",
            format!("{TREE}{AUTHOR}{COMMITTER}{SIGNATURE}gpgsig-sha256 AAAA\n\nm\n"),
        ),
        (
            "a header git ignores",
            format!("{TREE}{AUTHOR}{COMMITTER}gpgsigx AAAA\n\nm\n"),
        ),
        ("two trees", format!("{TREE}{TREE}{AUTHOR}{COMMITTER}\nm\n")),
        (
            "a tree behind",
            format!("{TREE}{AUTHOR}{COMMITTER}{TREE}\nm\n"),
        ),
        (
            "a parent behind author",
            format!(
                "{TREE}{AUTHOR}parent 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n{COMMITTER}\nm\n"
            ),
        ),
        (
            "a folded tree",
            format!("{} x\n{AUTHOR}{COMMITTER}\nm\n", TREE),
        ),
        (
            "a short tree",
            format!("tree 4b825d\n{AUTHOR}{COMMITTER}\nm\n"),
        ),
        (
            "a tree in capitals",
            format!(
                "{}\n{AUTHOR}{COMMITTER}\nm\n",
                TREE.trim_end().replace("4b825d", "4B825D")
            ),
        ),
        (
            "carriage returns",
            format!("{TREE}{AUTHOR}{COMMITTER}\nm\n").replace('\n', "\r\n"),
        ),
        ("no blank line", format!("{TREE}{AUTHOR}{COMMITTER}")),
        (
            "an unfinished header",
            format!("{TREE}{AUTHOR}committer A <a> 1 +0000"),
        ),
        (
            "a NUL in the message",
            format!("{TREE}{AUTHOR}{COMMITTER}\nm\0n\n"),
        ),
        (
            "a folded first line",
            format!(" x\n{TREE}{AUTHOR}{COMMITTER}\nm\n"),
        ),
        ("no time", author("author A <a@x>")),
        ("no address", author("author A 1 +0000")),
        ("two addresses", author("author A <a> <b> 1 +0000")),
        ("a negative time", author("author A <a> -1 +0000")),
        (
            "a time with a zero before it",
            author("author A <a> 01 +0000"),
        ),
        (
            "a time beyond all times",
            author("author A <a> 99999999999999999999 +0000"),
        ),
        ("a bad zone", author("author A <a> 1 0000")),
        ("nothing", String::new()),
    ];
    for (what, text) in cases {
        assert!(parse(text).is_err(), "{what}");
    }
    let huge = format!("{TREE}{AUTHOR}{COMMITTER}\n{}\n", "m".repeat(MAX_COMMIT));
    assert!(matches!(parse(huge), Err(CommitError::TooLarge { .. })));
    let parents = "parent 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n".repeat(MAX_PARENTS + 1);
    assert!(matches!(
        parse(format!("{TREE}{parents}{AUTHOR}{COMMITTER}\nm\n")),
        Err(CommitError::TooLarge { .. })
    ));
}

#[test]
fn a_commit_under_another_id_is_refused() {
    let bytes = format!("{TREE}{AUTHOR}{COMMITTER}\nm\n").into_bytes();
    for id in [
        "4b825dc642cb6eb9a060e54bf8d69288fbee4904".to_owned(),
        "0".repeat(64),
    ] {
        let raw = RawCommit {
            id: id.parse().unwrap(),
            bytes: bytes.clone(),
            descent: Descent::NoFloor,
        };
        assert!(matches!(
            Commit::parse(&raw),
            Err(CommitError::WrongId { .. })
        ));
    }
}

#[test]
fn trailers_are_the_last_paragraph_and_nothing_else() {
    let found = |message: &str| {
        trailers(message.as_bytes())
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        found(
            "subject\n\nbody: not this\n\nFleet-Branch: stable\nRetry: abc\n  def\n(cherry picked from commit 1)\n\n"
        ),
        ["Fleet-Branch=stable", "Retry=abc def"]
    );
    assert!(found("Fleet-Branch: stable\n").is_empty());
    assert!(found("\n\nFleet-Branch: stable\n").is_empty());
    assert!(found("subject\n\nFleet-Branch: stable\nand some prose\n").is_empty());
    assert!(found("subject\n\nFleet-Branch: stable\n\nan end\n").is_empty());
    assert!(found("").is_empty());
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_a_taken_commit_is_rebuilt_exactly(
        pieces in proptest::collection::vec(proptest::sample::select(vec![
            TREE, AUTHOR, COMMITTER, SIGNATURE, "\n", " x\n", "encoding x\n", "parent ", "gpgsig ", "m", "\r", "é",
        ]), 0..12),
    ) {
        let text = pieces.concat();
        if let Ok(commit) = parse(text.clone()) {
            let without: String = text.replacen(SIGNATURE, "", usize::from(commit.signature.is_some()));
            if text.matches("gpgsig").count() == text.matches(SIGNATURE).count() {
                proptest::prop_assert_eq!(commit.payload, without.into_bytes());
            }
        }
    }
}
