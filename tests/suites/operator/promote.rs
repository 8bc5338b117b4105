//! `evenkeel promote`: between branches of a real remote, and what devices make of it.

use super::*;

/// `stable` and `canary` at a remote: canary is one change further.
pub(super) struct Rings {
    pub(super) desk: Desk,
    pub(super) repo: PathBuf,
    pub(super) bare: PathBuf,
}

const TWO_DEVICES: &str = "match = \"all\"\napps = [\"hello\"]\n";

impl Rings {
    pub(super) fn new() -> Self {
        let desk = Desk::new();
        let repo = desk.fleet();
        let bare = desk.path("bare.git");
        desk.git(desk.dir.path(), &["init", "-q", "--bare", &arg(&bare)]);
        desk.git(&repo, &["remote", "add", "origin", &arg(&bare)]);
        for id in ["gw-1", "gw-2"] {
            std::fs::create_dir_all(repo.join("devices")).unwrap();
            std::fs::write(
                repo.join(format!("devices/{id}.toml")),
                "[labels]\nsite = \"a\"\n",
            )
            .unwrap();
        }
        std::fs::create_dir_all(repo.join("groups")).unwrap();
        std::fs::write(repo.join("groups/all.toml"), TWO_DEVICES).unwrap();
        desk.git(&repo, &["add", "-A"]);
        desk.git(&repo, &["commit", "-q", "-m", "Two devices"]);
        desk.git(&repo, &["switch", "-q", "-C", "canary"]);
        desk.commit(&repo, "apps/hello/hello.txt", &["Say more"]);
        desk.git(&repo, &["push", "-q", "origin", "stable", "canary"]);
        Self { desk, repo, bare }
    }

    pub(super) fn promote(&self, more: &[&str]) -> Output {
        let arguments = [&["promote", "--from", "canary", "--to", "stable"], more].concat();
        self.desk.evenkeel(&self.repo, &arguments)
    }

    pub(super) fn revert(&self, how: &str, more: &[&str]) -> Output {
        let arguments = [&["promote", how, "--to", "stable"], more].concat();
        self.desk.evenkeel(&self.repo, &arguments)
    }

    pub(super) fn there(&self, what: &str) -> String {
        self.desk.git(&self.bare, &["rev-parse", what])
    }
}

#[test]
fn what_canary_shows_becomes_what_stable_shows_as_one_signed_commit() {
    let rings = Rings::new();
    let (desk, repo) = (&rings.desk, &rings.repo);
    let (stable, canary) = (rings.there("stable"), rings.there("canary"));
    let status = desk.git(repo, &["status", "--porcelain", "--branch"]);

    let dry = rings.promote(&["--dry-run"]).expect_code(0);
    assert_eq!(rings.there("stable"), stable);
    assert!(
        dry.stderr.contains("2 devices (gw-1, gw-2)"),
        "{}",
        dry.text()
    );
    assert!(dry.stderr.contains("write file/"), "{}", dry.text());
    assert!(
        dry.stderr.contains("apps/hello/hello.txt"),
        "{}",
        dry.text()
    );

    let said = rings
        .promote(&["--json", "-m", "Seen for a week."])
        .expect_code(0);
    let answer: Value = serde_json::from_str(&said.stdout).unwrap();
    let tip = rings.there("stable");
    assert_eq!(answer["commit"], tip.as_str());
    assert_eq!(answer["promotes"], canary.as_str());
    assert_eq!(answer["pushed"], "origin");
    assert_eq!(
        answer["classes"][0]["devices"],
        serde_json::json!(["gw-1", "gw-2"])
    );
    assert_eq!(answer["classes"][0]["steps"][0]["action"], "write");
    // The tree is canary's own, and both branches are parents, the target's tip first.
    assert_eq!(rings.there("stable^{tree}"), rings.there("canary^{tree}"));
    assert_eq!(
        desk.git(&rings.bare, &["rev-parse", "stable^@"]),
        format!("{stable}\n{canary}")
    );
    let message = desk.message(&rings.bare, "stable");
    for part in [
        "Promote canary to stable: Say more\n\nSeen for a week.\n",
        &format!("Promotes: {canary}"),
        "Fleet-Branch: stable",
    ] {
        assert!(message.contains(part), "{message}");
    }
    // The work tree is as it was, and the branch here follows, for nobody works on it.
    assert_eq!(
        desk.git(repo, &["status", "--porcelain", "--branch"]),
        status
    );
    assert_eq!(desk.git(repo, &["rev-parse", "stable"]), tip);
    // A device that binds branches takes it.
    let signers = std::fs::read_to_string(desk.git(
        repo,
        &["config", "--type=path", "gpg.ssh.allowedSignersFile"],
    ))
    .or_else(|_| std::fs::read_to_string(repo.join("allowed_signers")))
    .or_else(|_| std::fs::read_to_string(repo.join("trust/allowed_signers")))
    .unwrap();
    let config = desk.config(&signers, "bind_branch = true");
    assert_eq!(desk.verdict(repo, &config, &tip).0, "ok");

    // Once more: there is nothing to do, and nothing is made.
    let again = rings.promote(&[]).expect_code(0);
    assert!(
        again.stdout.contains("nothing to promote"),
        "{}",
        again.text()
    );
    assert_eq!(rings.there("stable"), tip);
}

#[test]
fn a_dry_run_says_whether_a_rollout_holds_those_that_would_change() {
    let rings = Rings::new();
    let desk = &rings.desk;
    let devices = 40;
    for number in 3..=devices {
        std::fs::write(rings.repo.join(format!("devices/gw-{number}.toml")), "").unwrap();
    }
    let now = jiff::Timestamp::now();
    let hours = |many: i64| {
        now.checked_add(jiff::SignedDuration::from_hours(many))
            .unwrap()
    };
    let staged = |start: i64, more: &str| {
        let start = hours(start);
        let text = format!(
            "{TWO_DEVICES}[rollout]\nid = \"spring\"\nstart = {start:.0}\nwaves = [5, 50, 100]\npause = \"4h\"\n{more}"
        );
        std::fs::write(rings.repo.join("groups/all.toml"), text).unwrap();
        desk.git(&rings.repo, &["add", "-A"]);
        desk.git(&rings.repo, &["commit", "-q", "-m", "In waves"]);
        desk.git(&rings.repo, &["push", "-q", "origin", "canary"]);
        let said = rings.promote(&["--dry-run", "--json"]).expect_code(0);
        let mut answer: Value = serde_json::from_str(&said.stdout).unwrap();
        (said.stderr, answer["rollouts"][0].take())
    };

    let (said, told) = staged(2, "");
    assert!(
        said.contains("rollout spring: 40 devices that would change, in 3 waves, 4h"),
        "{said}"
    );
    assert_eq!((&told["devices"], &told["begun"]), (&40.into(), &0.into()));
    assert_eq!(told["start"], told["next"], "{told}");

    // The second wave is on; the third comes at an hour that is known.
    let (said, told) = staged(-5, "");
    let begun = told["begun"].as_u64().unwrap();
    assert!((1..devices).contains(&begun), "{told}");
    let next = format!("{:.0}", hours(3));
    assert_eq!(told["next"], next.as_str(), "{told}");
    assert!(
        said.contains("rollout spring is in force")
            && said.contains(&format!("{begun} of them at once, more at {next}")),
        "{said}"
    );

    let (said, told) = staged(-5, "halt = true\n");
    assert_eq!(told["halted"], true);
    assert!(
        said.contains("those that have not begun do not begin"),
        "{said}"
    );

    let (said, told) = staged(-13, "");
    assert_eq!(told["begun"], devices);
    assert!(
        said.contains("rollout spring was over at") && said.contains("all at once\nhint: "),
        "{said}"
    );
}

#[test]
fn a_promotion_is_taken_back_and_only_what_was_shown_can_be_gone_back_to() {
    let rings = Rings::new();
    let stable = rings.there("stable");
    rings.promote(&[]).expect_code(0);
    let promoted = rings.there("stable");
    rings.revert("--revert", &[]).expect_code(0);
    let reverted = rings.there("stable");
    assert_eq!(
        rings.there("stable^{tree}"),
        rings.there(&format!("{stable}^{{tree}}"))
    );
    assert_eq!(
        rings.desk.git(&rings.bare, &["rev-parse", "stable^@"]),
        promoted
    );
    let message = rings.desk.message(&rings.bare, "stable");
    assert!(
        message.contains(&format!("Reverts: {promoted}")),
        "{message}"
    );
    // Back and back again is what nobody means.
    let said = rings.revert("--revert", &[]).expect_code(2);
    assert!(said.stderr.contains("--revert=REV"), "{}", said.text());
    assert_eq!(rings.there("stable"), reverted);
    // By name it is what is meant.
    rings
        .revert(&format!("--revert={promoted}"), &[])
        .expect_code(0);
    assert_eq!(rings.there("stable^{tree}"), rings.there("canary^{tree}"));
    let canary = rings.there("canary");
    rings
        .revert(&format!("--revert={canary}"), &[])
        .expect_code(2);
}

#[test]
fn what_is_not_trusted_or_has_a_mistake_or_has_moved_is_not_promoted() {
    let rings = Rings::new();
    let (desk, repo) = (&rings.desk, &rings.repo);
    let stable = rings.there("stable");
    // Signed by somebody whom no device knows.
    let mallory = Signer::new("mallory@example.com");
    let said = rings.promote(&["--key", &key(&mallory)]).expect_code(3);
    assert!(
        said.stderr.contains("devices would not take"),
        "{}",
        said.text()
    );
    assert_eq!(rings.there("stable"), stable);
    // What is on canary is signed by nobody.
    std::fs::write(repo.join("apps/hello/hello.txt"), "unsigned\n").unwrap();
    desk.git(
        repo,
        &[
            "-c",
            "commit.gpgsign=false",
            "commit",
            "-q",
            "-a",
            "-m",
            "Unsigned",
        ],
    );
    desk.git(repo, &["push", "-q", "origin", "canary"]);
    let said = rings.promote(&[]).expect_code(3);
    assert!(said.stderr.contains("not trusted"), "{}", said.text());
    // An older commit of it is what the ring has run.
    rings.promote(&["--dry-run", "canary~1"]).expect_code(0);
    rings.promote(&["--dry-run", "stable"]).expect_code(0);
    // A mistake that a device would refuse.
    desk.git(repo, &["reset", "-q", "--hard", "HEAD~1"]);
    std::fs::write(
        repo.join("groups/all.toml"),
        "match = \"all\"\napps = [\"nope\"]\n",
    )
    .unwrap();
    desk.git(repo, &["commit", "-q", "-a", "-m", "A mistake"]);
    desk.git(repo, &["push", "-q", "--force", "origin", "canary"]);
    let said = rings.promote(&[]).expect_code(3);
    assert!(said.stderr.contains("groups/all.toml:2"), "{}", said.text());
    assert_eq!(rings.there("stable"), stable);
    // A binary of the agent that is not what is declared.
    desk.git(repo, &["reset", "-q", "--hard", "HEAD~1"]);
    let fleet = std::fs::read_to_string(repo.join("fleet.toml")).unwrap();
    let release = format!(
        "{fleet}\n[agent]\nversion = \"0.2.0\"\n[agent.binaries.x86_64]\npath = \"bin/evenkeel\"\nsha256 = \"{}\"\n",
        "0".repeat(64)
    );
    std::fs::write(repo.join("fleet.toml"), release).unwrap();
    std::fs::create_dir_all(repo.join("bin")).unwrap();
    std::fs::write(repo.join("bin/evenkeel"), "another one").unwrap();
    desk.git(repo, &["add", "-A"]);
    desk.git(repo, &["commit", "-q", "-m", "Another agent"]);
    desk.git(repo, &["push", "-q", "--force", "origin", "canary"]);
    let said = rings.promote(&[]).expect_code(3);
    assert!(
        said.stderr.contains("is not what is declared here"),
        "{}",
        said.text()
    );
    assert_eq!(rings.there("stable"), stable);
    // Not a commit of the branch that it is said to come from.
    desk.git(repo, &["switch", "-q", "-c", "other", "stable"]);
    let other = desk.commit(repo, "apps/hello/hello.txt", &["Elsewhere"]);
    let said = rings.promote(&[&other]).expect_code(2);
    assert!(
        said.stderr.contains("is not a commit of the branch"),
        "{}",
        said.text()
    );
    // The remote takes it only where its branch is where it was looked at.
    desk.git(repo, &["push", "-q", "--force", "origin", "other:canary"]);
    let hook = rings.bare.join("hooks/pre-receive");
    std::fs::write(&hook, "#!/bin/sh\necho not today >&2\nexit 1\n").unwrap();
    run(Command::new("chmod").arg("755").arg(&hook), PATIENCE).expect_code(0);
    // A branch that would be new there, too.
    let arguments = ["promote", "--from", "canary", "--to", "fresh"];
    let said = rings.desk.evenkeel(&rings.repo, &arguments);
    assert_ne!(said.code, Some(101), "{}", said.text());
    assert!(
        said.stderr.contains("was not pushed") && said.stderr.contains("not there yet"),
        "{}",
        said.text()
    );
    let said = rings.promote(&[]).expect_code(1);
    assert!(said.stderr.contains("was not pushed"), "{}", said.text());
    assert_eq!(rings.there("stable"), stable);
    assert_eq!(
        desk.git(repo, &["rev-parse", "refs/remotes/origin/stable"]),
        stable
    );
}

#[test]
fn a_promotion_carries_the_approvals_that_were_given_for_it() {
    let rings = Rings::new();
    let (desk, repo) = (&rings.desk, &rings.repo);
    let bob = Signer::new("bob@example.com");
    let approve = |branch: &str| {
        let said = desk.evenkeel(
            repo,
            &[
                "approve",
                "--branch",
                branch,
                "--base",
                "origin/stable",
                "--key",
                &key(&bob),
                "origin/canary",
            ],
        );
        said.expect_code(0).stdout.trim().to_owned()
    };
    let own = desk.git(
        repo,
        &["config", "--type=path", "gpg.ssh.allowedSignersFile"],
    );
    let signers = desk.path("team");
    let own = std::fs::read_to_string(repo.join(&own)).unwrap();
    std::fs::write(&signers, own + &bob.allowed_line("")).unwrap();
    let stable = rings.there("stable");
    // One that was given for another branch does not count, and is told before anything moves.
    let wrong = approve("early");
    let said = rings
        .promote(&["--allowed-signers", &arg(&signers), "--approval", &wrong])
        .expect_code(3);
    assert!(
        said.stderr.contains("approval 1 does not count"),
        "{}",
        said.text()
    );
    assert_eq!(rings.there("stable"), stable);
    let right = approve("stable");
    rings
        .promote(&["--allowed-signers", &arg(&signers), "--approval", &right])
        .expect_code(0);
    let config = desk.config(&std::fs::read_to_string(&signers).unwrap(), "approvals = 2");
    assert_eq!(desk.verdict(repo, &config, &rings.there("stable")).0, "ok");
}

#[test]
fn without_a_remote_the_branches_here_are_meant_and_one_that_is_checked_out_stays() {
    let rings = Rings::new();
    let (desk, repo) = (&rings.desk, &rings.repo);
    desk.git(repo, &["remote", "remove", "origin"]);
    let said = rings.promote(&[]).expect_code(2);
    assert!(said.stderr.contains("--local"), "{}", said.text());
    desk.git(repo, &["switch", "-q", "stable"]);
    let tip = desk.head(repo);
    rings.promote(&["--local"]).expect_code(2);
    assert_eq!(desk.head(repo), tip);
    desk.git(repo, &["switch", "-q", "canary"]);
    rings.promote(&["--local"]).expect_code(0);
    assert_eq!(
        desk.git(repo, &["rev-parse", "stable^{tree}"]),
        desk.git(repo, &["rev-parse", "canary^{tree}"])
    );
    // A ring that does not exist yet begins with it.
    desk.evenkeel(
        repo,
        &["promote", "--local", "--from", "canary", "--to", "early"],
    )
    .expect_code(0);
    assert_eq!(
        desk.git(repo, &["rev-parse", "early^{tree}"]),
        desk.git(repo, &["rev-parse", "canary^{tree}"])
    );
    assert_eq!(rings.there("stable"), rings.there("canary~1"));
}
