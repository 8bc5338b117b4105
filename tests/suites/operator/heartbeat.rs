//! `evenkeel heartbeat`.

use super::*;

fn trailers(desk: &Desk, repo: &Path, revision: &str) -> String {
    desk.git(
        repo,
        &[
            "show",
            "-s",
            "--no-show-signature",
            "--format=%(trailers:only)",
            revision,
        ],
    )
}

#[test]
fn a_heartbeat_is_a_signed_commit_that_changes_nothing() {
    let desk = Desk::new();
    let repo = desk.fleet();
    let tip = desk.head(&repo);
    // The branch is checked out, and there is work in progress.
    std::fs::write(repo.join("fleet.toml"), "half done").unwrap();
    std::fs::write(repo.join("staged"), "s\n").unwrap();
    desk.git(&repo, &["add", "staged"]);
    let status = desk.git(&repo, &["status", "--porcelain"]);
    let said = desk
        .evenkeel(&repo, &["heartbeat", "--branch", "stable", "--json"])
        .expect_code(0);
    let answer: Value = serde_json::from_str(&said.stdout).unwrap();
    let beat = desk.head(&repo);
    assert_eq!(answer["commit"], beat.as_str());
    assert_eq!(answer["parent"], tip.as_str());
    assert_eq!(desk.git(&repo, &["rev-parse", "stable^@"]), tip);
    assert_eq!(
        desk.git(&repo, &["rev-parse", "stable^{tree}"]),
        desk.git(&repo, &["rev-parse", "stable~1^{tree}"])
    );
    assert_eq!(desk.git(&repo, &["status", "--porcelain"]), status);
    desk.git(&repo, &["verify-commit", "stable"]);
    let message = desk.message(&repo, "stable");
    assert!(message.starts_with("heartbeat\n\n"), "{message}");
    let trailers = trailers(&desk, &repo, "stable");
    let time = trailers
        .lines()
        .find_map(|line| line.strip_prefix("Fleet-Heartbeat: "))
        .unwrap_or_else(|| panic!("{trailers}"));
    let time: jiff::Timestamp = time.parse().unwrap();
    assert!((jiff::Timestamp::now().as_second() - time.as_second()).abs() < 60);
    assert!(trailers.contains("Fleet-Branch: stable"), "{trailers}");
    // Another branch than the one at hand, with a key of its own.
    let ci = Signer::new("ci@example.com");
    desk.git(&repo, &["branch", "early", &tip]);
    desk.evenkeel(
        &repo,
        &["heartbeat", "--branch", "early", "--key", &key(&ci)],
    )
    .expect_code(0);
    assert_eq!(desk.git(&repo, &["rev-parse", "early~1"]), tip);
    assert_eq!(desk.head(&repo), beat);
    let signers = desk.path("signers");
    std::fs::write(&signers, ci.allowed_line("namespaces=\"git\"")).unwrap();
    let early = [
        "verify",
        "--allowed-signers",
        &arg(&signers),
        "early",
        "--json",
    ];
    let answer: Value =
        serde_json::from_str(&desk.evenkeel(&repo, &early).expect_code(0).stdout).unwrap();
    assert_eq!(answer["principal"], "ci@example.com");
}

#[test]
fn it_is_pushed_only_where_the_branch_is_where_it_was_here() {
    let desk = Desk::new();
    let repo = desk.fleet();
    let bare = desk.path("bare.git");
    desk.git(desk.dir.path(), &["init", "-q", "--bare", &arg(&bare)]);
    desk.git(&repo, &["remote", "add", "origin", &arg(&bare)]);
    desk.git(&repo, &["push", "-q", "origin", "stable"]);
    let beat = ["heartbeat", "--branch", "stable", "--push", "origin"];
    let there = || desk.git(&bare, &["rev-parse", "refs/heads/stable"]);
    desk.evenkeel(&repo, &beat).expect_code(0);
    assert_eq!(there(), desk.head(&repo));
    // Somebody else has pushed meanwhile: nothing moves, here or there.
    let clone = desk.path("clone");
    desk.git(
        desk.dir.path(),
        &["clone", "-q", "-b", "stable", &arg(&bare), &arg(&clone)],
    );
    desk.git(&clone, &["config", "commit.gpgsign", "false"]);
    desk.commit(&clone, "a", &["Meanwhile"]);
    desk.git(&clone, &["push", "-q", "origin", "stable"]);
    let (here, moved) = (desk.head(&repo), there());
    let said = desk.evenkeel(&repo, &beat).expect_code(1);
    assert!(said.stderr.contains("git fetch origin"), "{}", said.text());
    assert_eq!((desk.head(&repo), there()), (here, moved));
    // What is here and not there is not pushed along.
    desk.git(&repo, &["fetch", "-q"]);
    desk.git(&repo, &["reset", "-q", "--hard", "origin/stable"]);
    desk.commit(&repo, "b", &["Not pushed yet"]);
    let moved = there();
    desk.evenkeel(&repo, &beat).expect_code(1);
    assert_eq!(there(), moved);
    // A bare repository beats too.
    let key = desk.git(&repo, &["config", "user.signingkey"]);
    desk.evenkeel(&bare, &["heartbeat", "--branch", "stable", "--key", &key])
        .expect_code(0);
    assert_eq!(desk.git(&bare, &["rev-parse", "stable~1"]), moved);
}

#[test]
fn without_a_branch_or_a_signature_nothing_moves() {
    let desk = Desk::new();
    let repo = desk.fleet();
    let tip = desk.head(&repo);
    let none = desk
        .evenkeel(&repo, &["heartbeat", "--branch", "nowhere"])
        .expect_code(2);
    assert!(
        none.stderr.contains("there is no branch `nowhere`"),
        "{}",
        none.text()
    );
    desk.evenkeel(
        &repo,
        &["heartbeat", "--branch", "stable", "--key", "/nowhere"],
    )
    .expect_code(2);
    let broken = desk.path("broken");
    std::fs::write(&broken, "no key\n").unwrap();
    let said = desk
        .evenkeel(
            &repo,
            &["heartbeat", "--branch", "stable", "--key", &arg(&broken)],
        )
        .expect_code(1);
    assert!(
        said.stderr.contains("could not be signed"),
        "{}",
        said.text()
    );
    desk.git(&repo, &["config", "user.signingkey", "/nowhere"]);
    desk.evenkeel(&repo, &["heartbeat", "--branch", "stable"])
        .expect_code(1);
    let outside = desk
        .evenkeel(desk.dir.path(), &["heartbeat", "--branch", "stable"])
        .expect_code(2);
    assert!(
        outside.stderr.contains("not in a git repository"),
        "{}",
        outside.text()
    );
    assert_eq!(desk.head(&repo), tip);
    // A tip from the future would make every heartbeat older than its parent.
    desk.git(&repo, &["config", "--unset", "user.signingkey"]);
    desk.git(&repo, &["config", "commit.gpgsign", "false"]);
    let mut later = desk.git_program(&repo);
    later.env("GIT_COMMITTER_DATE", "@4000000000 +0000").args([
        "commit",
        "-q",
        "--allow-empty",
        "-m",
        "Later",
    ]);
    desk.at_home(&mut later).expect_code(0);
    let said = desk
        .evenkeel(&repo, &["heartbeat", "--branch", "stable"])
        .expect_code(1);
    assert!(said.stderr.contains("clock"), "{}", said.text());
}
