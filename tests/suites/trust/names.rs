//! How revisions are named, and what wrong usage is answered with.

use super::*;

#[test]
fn revisions_are_named_as_git_names_them_and_wrong_usage_is_an_error() {
    let desk = Desk::new("sha1");
    let alice = Signer::new("alice@example.com");
    let signers = desk.write("signers", alice.allowed_line(""));
    assert!(
        try_answer(&desk.args("HEAD", &signers))
            .unwrap_err()
            .contains("HEAD")
    );
    for number in 0..4 {
        desk.commit(Some(&alice), NOW, &format!("{number}"));
    }
    desk.git(
        &[
            "-c",
            "tag.gpgSign=false",
            "tag",
            "-a",
            "-m",
            "t",
            "v1",
            "HEAD~1",
        ],
        &[],
    )
    .expect_code(0);
    desk.git(&["checkout", "-q", "-b", "side/one", "HEAD~2"], &[])
        .expect_code(0);
    desk.git(
        &[
            "-c",
            "commit.gpgSign=false",
            "merge",
            "-q",
            "--no-ff",
            "-m",
            "m",
            "main",
        ],
        &[],
    )
    .expect_code(0);
    let head = desk
        .git(&["rev-parse", "HEAD"], &[])
        .stdout
        .trim()
        .to_owned();
    for name in [
        "HEAD",
        "@",
        "main",
        "side/one",
        "v1",
        "refs/heads/main",
        "HEAD^",
        "HEAD^2",
        "HEAD^2~2",
        "HEAD^^",
        "v1^{commit}",
        "v1^{}~1",
        &head,
        &head[..9],
    ] {
        let wanted = desk
            .git(&["rev-parse", &format!("{name}^{{commit}}")], &[])
            .expect_code(0)
            .stdout;
        assert_eq!(
            desk.verdict(name, &signers)["commit"],
            wanted.trim(),
            "{name}"
        );
    }
    for name in [
        "nothing",
        "HEAD~99",
        "HEAD^3",
        "",
        "-x",
        "HEAD^{tree}",
        "main:file",
        "HEAD~x",
        "HEAD^é",
        &"0".repeat(40),
    ] {
        assert!(try_answer(&desk.args(name, &signers)).is_err(), "{name}");
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let mut args = desk.args("HEAD", &signers);
    args.repo = Some(elsewhere.path().to_owned());
    assert!(
        try_answer(&args)
            .unwrap_err()
            .contains("not in a git repository")
    );
    assert!(
        try_answer(&desk.args("HEAD", &desk.path("missing")))
            .unwrap_err()
            .contains("cannot read")
    );
    assert!(
        try_answer(&desk.args("HEAD", &desk.write("empty", "# nobody\n")))
            .unwrap_err()
            .contains("no signer")
    );
    args = desk.args("HEAD", &signers);
    args.allowed_signers = None;
    assert!(
        try_answer(&args)
            .unwrap_err()
            .contains("no configuration here")
    );
    std::fs::create_dir_all(desk.path("sub/dir")).unwrap();
    args = desk.args("main", &signers);
    args.repo = Some(desk.path("sub/dir"));
    args.json = false;
    args.explain = true;
    let told = try_answer(&args).unwrap();
    assert_eq!(told.code, 0);
    for check in [
        "object",
        "signature",
        "namespace",
        "revocation",
        "signer",
        "content",
        "permission",
        "descent",
    ] {
        assert!(
            told.text.lines().any(|line| line.starts_with(check)),
            "{check}: {}",
            told.text
        );
    }
}
