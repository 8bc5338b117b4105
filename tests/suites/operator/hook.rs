//! The hook that `init` installs, through what git does with messages.

use super::*;

const STABLE: &str = "Fleet-Branch: stable";
const CANARY: &str = "Fleet-Branch: canary";

/// `stable`, and `canary` with two commits more.
fn two_rings(desk: &Desk) -> PathBuf {
    let repo = desk.fleet();
    desk.git(&repo, &["switch", "-q", "-C", "canary"]);
    desk.commit(&repo, "a", &["First on canary"]);
    desk.commit(&repo, "b", &["Second on canary", "#12"]);
    desk.git(&repo, &["switch", "-q", "stable"]);
    repo
}

/// The device's own reading: it takes HEAD for this branch, and for the other one it does not.
#[track_caller]
fn bound_to(desk: &Desk, repo: &Path, branch: &str) {
    let set = arg(&repo.join("allowed_signers"));
    for asked in ["stable", "canary"] {
        let code = if asked == branch { 0 } else { 3 };
        let said = desk.evenkeel(
            repo,
            &[
                "verify",
                "--allowed-signers",
                &set,
                "--branch",
                asked,
                "--bind-branch",
                "HEAD",
            ],
        );
        assert_eq!(
            said.code,
            Some(code),
            "for {asked}: {}\n{}",
            said.text(),
            desk.message(repo, "HEAD")
        );
    }
}

/// An editor of this name that runs this script on the message.
fn editor(desk: &Desk, name: &str, script: &str) -> String {
    let path = desk.path(name);
    std::fs::write(&path, format!("#!/bin/sh\nset -e\n{script}\n")).unwrap();
    run(Command::new("chmod").arg("755").arg(&path), PATIENCE).expect_code(0);
    format!("core.editor={}", path.display())
}

#[test]
fn each_way_to_commit_ends_with_the_branch() {
    let desk = Desk::new();
    let repo = two_rings(&desk);
    desk.commit(&repo, "c", &["Plain"]);
    assert_eq!(desk.message(&repo, "HEAD"), format!("Plain\n\n{STABLE}"));
    bound_to(&desk, &repo, "stable");
    // Amended, with the wrong one, several of them, and beside other trailers.
    for (message, wanted) in [
        (vec!["Amended"], format!("Amended\n\n{STABLE}")),
        (vec!["Amended", CANARY], format!("Amended\n\n{STABLE}")),
        (
            vec![
                "Amended",
                "Body",
                "Fleet-Branch: a\nSigned-off-by: A <a@x>\nfleet-branch : b",
            ],
            format!("Amended\n\nBody\n\nSigned-off-by: A <a@x>\n{STABLE}"),
        ),
        (
            vec!["#12 with a number"],
            format!("#12 with a number\n\n{STABLE}"),
        ),
        (
            vec!["Amended", "#12"],
            format!("Amended\n\n#12\n\n{STABLE}"),
        ),
        (
            vec!["Amended", "---\nbehind a line"],
            format!("Amended\n\n---\nbehind a line\n\n{STABLE}"),
        ),
        (
            vec!["Amended", "text\nSigned-off-by: A <a@x>"],
            format!("Amended\n\ntext\nSigned-off-by: A <a@x>\n\n{STABLE}"),
        ),
    ] {
        let mut arguments = vec!["commit", "-q", "--amend"];
        for part in &message {
            arguments.extend(["-m", part]);
        }
        desk.git(&repo, &arguments);
        assert_eq!(desk.message(&repo, "HEAD"), wanted);
        bound_to(&desk, &repo, "stable");
    }
    desk.git(&repo, &["commit", "-q", "--amend", "--no-edit"]);
    bound_to(&desk, &repo, "stable");
    // From a file.
    let file = desk.path("message");
    std::fs::write(&file, "From a file\n\nBody.\n\n\n").unwrap();
    desk.git(&repo, &["commit", "-q", "--allow-empty", "-F", &arg(&file)]);
    assert_eq!(
        desk.message(&repo, "HEAD"),
        format!("From a file\n\nBody.\n\n{STABLE}")
    );
    // A tag of the same name is no reason to say `heads/stable`.
    desk.git(&repo, &["tag", "--no-sign", "stable"]);
    desk.git(
        &repo,
        &["commit", "-q", "--allow-empty", "-m", "Beside a tag"],
    );
    assert_eq!(
        desk.message(&repo, "HEAD"),
        format!("Beside a tag\n\n{STABLE}")
    );
}

#[test]
fn what_comes_from_another_branch_says_where_it_is_now() {
    let desk = Desk::new();
    let repo = two_rings(&desk);
    let start = desk.head(&repo);
    let back = || desk.git(&repo, &["reset", "-q", "--hard", &start]);
    let silent = "core.editor=true";

    desk.git(&repo, &["cherry-pick", "canary~1"]);
    assert_eq!(
        desk.message(&repo, "HEAD"),
        format!("First on canary\n\n{STABLE}")
    );
    bound_to(&desk, &repo, "stable");
    desk.git(&repo, &["cherry-pick", "-x", "canary"]);
    assert!(
        desk.message(&repo, "HEAD")
            .contains("(cherry picked from commit ")
    );
    bound_to(&desk, &repo, "stable");
    back();
    desk.git(&repo, &["-c", silent, "cherry-pick", "-e", "canary~1"]);
    bound_to(&desk, &repo, "stable");
    desk.git(&repo, &["revert", "--no-edit", "HEAD"]);
    bound_to(&desk, &repo, "stable");
    back();
    desk.git(&repo, &["merge", "-q", "--no-ff", "--no-edit", "canary"]);
    assert!(desk.message(&repo, "HEAD").ends_with(STABLE));
    bound_to(&desk, &repo, "stable");
    back();
    desk.git(&repo, &["merge", "-q", "--no-ff", "--no-commit", "canary"]);
    desk.git(&repo, &["commit", "-q", "--no-edit"]);
    bound_to(&desk, &repo, "stable");
    back();
    desk.git(&repo, &["merge", "-q", "--squash", "canary"]);
    desk.git(&repo, &["-c", silent, "commit", "-q"]);
    bound_to(&desk, &repo, "stable");
    back();
    // A fast-forward makes no commit: the tip is canary's, and says so.
    desk.git(&repo, &["merge", "-q", "--ff-only", "canary"]);
    bound_to(&desk, &repo, "canary");
}

#[test]
fn a_rebase_says_the_branch_that_is_being_rebased() {
    let desk = Desk::new();
    let repo = two_rings(&desk);
    desk.commit(&repo, "c", &["More on stable"]);
    desk.git(&repo, &["switch", "-q", "canary"]);
    desk.git(&repo, &["rebase", "-q", "stable"]);
    bound_to(&desk, &repo, "canary");
    assert_eq!(
        desk.message(&repo, "HEAD~1"),
        format!("First on canary\n\n{CANARY}")
    );
    // Commits of another branch, replayed under a new name, and reworded on the way.
    desk.git(&repo, &["switch", "-q", "stable"]);
    desk.git(&repo, &["reset", "-q", "--hard", "canary"]);
    bound_to(&desk, &repo, "canary");
    let reword = editor(
        &desk,
        "reword",
        "case $1 in *todo) sed -i 's/^pick/reword/' \"$1\" ;; *) sed -i '1s/^/Reworded: /' \"$1\" ;; esac",
    );
    desk.git(
        &repo,
        &[
            "-c",
            &reword,
            "rebase",
            "-q",
            "-i",
            "--force-rebase",
            "HEAD~2",
        ],
    );
    for revision in ["HEAD", "HEAD~1"] {
        let message = desk.message(&repo, revision);
        assert!(message.starts_with("Reworded: "), "{message}");
        assert!(
            message.ends_with(STABLE) && !message.contains(CANARY),
            "{message}"
        );
    }
    bound_to(&desk, &repo, "stable");
}

#[test]
fn an_editor_closed_with_nothing_said_still_gives_up() {
    let desk = Desk::new();
    let repo = desk.fleet();
    let tip = desk.head(&repo);
    std::fs::write(repo.join("a"), "a\n").unwrap();
    desk.git(&repo, &["add", "a"]);
    let nothing = editor(&desk, "nothing", ": > \"$1\"");
    for arguments in [
        &["-c", "core.editor=true", "commit"][..],
        &["-c", &nothing, "commit"],
        &["-c", "core.editor=true", "commit", "-v"],
        &[
            "-c",
            "core.editor=true",
            "-c",
            "commit.cleanup=scissors",
            "commit",
        ],
    ] {
        let said = desk.git_may_fail(&repo, arguments);
        assert_eq!(said.code, Some(1), "{arguments:?}: {}", said.text());
        assert_eq!(desk.head(&repo), tip);
    }
    let template = desk.path("template");
    std::fs::write(&template, "Say why\n\n# and how\n").unwrap();
    let setting = format!("commit.template={}", template.display());
    let untouched = ["-c", "core.editor=true", "-c", &setting, "commit"];
    assert_eq!(desk.git_may_fail(&repo, &untouched).code, Some(1));
    assert_eq!(desk.head(&repo), tip);
    // With something said it goes below that, above what git throws away.
    let subject = editor(&desk, "subject", "sed -i '1s/^/Said\\n/' \"$1\"");
    desk.git(&repo, &["-c", &subject, "commit", "-q", "-v"]);
    assert_eq!(desk.message(&repo, "HEAD"), format!("Said\n\n{STABLE}"));
    bound_to(&desk, &repo, "stable");
    // A merge that is called off in the editor.
    desk.git(&repo, &["branch", "side", "HEAD~1"]);
    desk.git(&repo, &["switch", "-q", "side"]);
    desk.commit(&repo, "s", &["On the side"]);
    desk.git(&repo, &["switch", "-q", "stable"]);
    let tip = desk.head(&repo);
    let said = desk.git_may_fail(&repo, &["-c", &nothing, "merge", "-e", "side"]);
    assert_ne!(said.code, Some(0), "{}", said.text());
    assert_eq!(desk.head(&repo), tip);
}

#[test]
fn a_detached_head_is_bound_to_nothing_and_a_worktree_to_its_own_branch() {
    let desk = Desk::new();
    let repo = two_rings(&desk);
    let tree = desk.path("worktree");
    desk.git(&repo, &["worktree", "add", "-q", &arg(&tree), "canary"]);
    desk.commit(&tree, "w", &["In a worktree"]);
    assert!(desk.message(&tree, "HEAD").ends_with(CANARY));
    desk.git(&repo, &["switch", "-q", "--detach"]);
    std::fs::write(repo.join("d"), "d\n").unwrap();
    desk.git(&repo, &["add", "d"]);
    let said = desk
        .git_may_fail(&repo, &["commit", "-q", "-m", "Nowhere", "-m", CANARY])
        .expect_code(0);
    assert!(
        said.stderr.contains("HEAD is on no branch"),
        "{}",
        said.text()
    );
    assert_eq!(desk.message(&repo, "HEAD"), "Nowhere");
}

#[test]
fn the_command_that_a_refusal_prints_mends_the_commit() {
    let desk = Desk::new();
    let repo = two_rings(&desk);
    // Somebody without the hook, with a canary commit on stable, and with an unbound one.
    desk.git(&repo, &["config", "core.hooksPath", "/dev/null"]);
    let set = arg(&repo.join("allowed_signers"));
    let verify = [
        "verify",
        "--allowed-signers",
        &set,
        "--branch",
        "stable",
        "--bind-branch",
        "HEAD",
    ];
    desk.git(&repo, &["merge", "-q", "--ff-only", "canary"]);
    for message in [None, Some("Unbound")] {
        if let Some(message) = message {
            desk.commit(&repo, "u", &[message]);
        }
        let refused = desk.evenkeel(&repo, &verify).expect_code(3);
        assert!(
            refused.stdout.contains("wrong-branch"),
            "{}",
            refused.text()
        );
        let command = refused
            .stdout
            .split('`')
            .find(|part| part.contains("--amend"));
        let command = command.unwrap_or_else(|| panic!("no command: {}", refused.text()));
        let mut shell = Command::new("sh");
        shell
            .args(["-c", command])
            .env("GIT_CONFIG_GLOBAL", desk.home().join(".gitconfig"))
            .current_dir(&repo);
        desk.at_home(&mut shell).expect_code(0);
        desk.evenkeel(&repo, &verify).expect_code(0);
    }
}
