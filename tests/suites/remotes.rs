//! A device with several remotes, each a real git server: dead, behind, lying, forked.

use evenkeel_tests::proc::{listing, sample};
use evenkeel_tests::{GitHttp, Signer, wait_for};
use serde_json::Value;

use crate::fleet::World;

/// A fleet whose device has a second remote, `other.git`, served by a server of its own.
struct Two {
    world: World,
    one: GitHttp,
    other: GitHttp,
}

impl Two {
    fn new(id: &str) -> Self {
        let mut world = World::of_files(id);
        world.one_file("1\n");
        world.repo.release("First");
        let (one, other) = (
            GitHttp::http(world.repo.served()),
            GitHttp::http(world.repo.served()),
        );
        world
            .repo
            .bare_git(&["clone", "-q", "--mirror", ".", "../other.git"]);
        let to = world.repo.served().join("other.git");
        let to = to.to_str().unwrap();
        world
            .repo
            .bare_git(&["--git-dir", to, "config", "http.uploadpack", "true"]);
        world.device.settings.url = one.url();
        world.device.settings.mirrors = vec![other.url_of("other.git")];
        Self { world, one, other }
    }

    /// Puts a commit on the branch of the second remote.
    fn push_other(&self, commit: &str) {
        let spec = format!("{commit}:refs/heads/main");
        self.world
            .repo
            .git(&["push", "-q", "--force", "../other.git", &spec]);
    }

    fn file(&self) -> Option<String> {
        self.world.device.read("/etc/one.conf")
    }

    fn states(&self) -> Vec<String> {
        let status = self.world.device.status_json();
        let remotes = status["poll"]["remotes"].as_array().unwrap().clone();
        let word = |remote: &Value| remote["state"].as_str().unwrap().to_owned();
        remotes.iter().map(word).collect()
    }

    fn verified(&self) -> (String, String) {
        self.world.device.condition("Verified")
    }
}

#[test]
fn a_dead_remote_is_made_up_for_and_one_behind_or_lying_changes_nothing() {
    let mut two = Two::new("remotes-dead");
    two.world.device.sync().expect_code(0);
    assert_eq!(two.states(), ["Current", "Current"]);
    two.one.stop();
    two.world.one_file("2\n");
    let second = two.world.repo.commit_signed("Second");
    two.push_other(&second);
    two.world.device.sync().expect_code(0);
    assert_eq!(two.file().as_deref(), Some("2\n"));
    assert_eq!(two.states(), ["Silent", "Current"]);
    let status = two.world.device.evenkeel(&["status"]).expect_code(0).stdout;
    assert!(
        status.contains("other.git  current") && status.contains("answered last"),
        "{status}"
    );
    assert!(status.contains("does not answer"), "{status}");
    // The first is back, and behind.
    two.one.resume();
    two.world.device.sync().expect_code(0);
    assert_eq!(two.file().as_deref(), Some("2\n"));
    assert_eq!(two.states(), ["Behind", "Current"]);
    two.other.stop();
    two.world.device.sync().expect_code(0);
    assert_eq!(two.file().as_deref(), Some("2\n"));
    two.other.resume();
    // It goes on from there with what nobody known has signed.
    two.world.one_file("lie\n");
    let stranger = Signer::new("release@example.com");
    two.world.repo.commit_signed_by(&stranger, "Lie");
    two.world.repo.push();
    two.world.device.sync().expect_code(0);
    assert_eq!(two.file().as_deref(), Some("2\n"));
    assert_eq!(two.states(), ["Refused", "Current"]);
    two.world.repo.reset_to(&second);
    two.world.one_file("3\n");
    let third = two.world.repo.commit_signed("Third");
    two.push_other(&third);
    two.world.device.sync().expect_code(0);
    assert_eq!(two.file().as_deref(), Some("3\n"));
}

#[test]
fn two_remotes_that_contradict_each_other_hold_the_device_until_one_takes_in_the_other() {
    let mut two = Two::new("remotes-split");
    two.world.device.sync().expect_code(0);
    let first = two.world.repo.head();
    two.world.one_file("ours\n");
    let ours = two.world.repo.release("Ours");
    two.world.repo.reset_to(&first);
    two.world.one_file("theirs\n");
    let theirs = two.world.repo.commit_signed("Theirs");
    two.push_other(&theirs);
    let said = two.world.device.sync().expect_code(3);
    for part in [
        "contradict",
        ours.as_str(),
        theirs.as_str(),
        "fleet.git",
        "other.git",
    ] {
        assert!(said.text().contains(part), "{part}: {}", said.text());
    }
    assert_eq!(two.verified(), ("False".to_owned(), "SplitView".to_owned()));
    assert_eq!(two.world.device.condition("Stalled").0, "True");
    assert_eq!(two.states(), ["Current", "Apart"]);
    assert_eq!(two.file().as_deref(), Some("1\n"));
    // Drift is healed meanwhile; and that one falls silent decides nothing.
    std::fs::write(two.world.device.path("/etc/one.conf"), "drift").unwrap();
    two.one.stop();
    two.world.device.sync().expect_code(3);
    assert_eq!(two.file().as_deref(), Some("1\n"));
    assert_eq!(two.verified().1, "SplitView");
    two.one.resume();
    // A merge takes in both: whoever has it first.
    let merge = ["merge", "-q", "--no-commit", "-s", "ours", &ours];
    two.world.repo.git(&merge);
    two.world.one_file("both\n");
    let both = two.world.repo.commit_signed("Both");
    two.push_other(&both);
    two.world.device.sync().expect_code(0);
    assert_eq!(two.file().as_deref(), Some("both\n"));
    assert_eq!(two.verified().0, "True");
    assert_eq!(two.states(), ["Behind", "Current"]);
}

#[test]
fn the_daemon_asks_one_remote_at_a_poll_and_writes_nothing() {
    let two = Two::new("remotes-idle");
    let daemon = two.world.device.spawn_daemon();
    let head = two.world.repo.head();
    two.world.device.wait_until_good(&head);
    let polls = |count: usize| {
        let start = two.one.requests().len();
        wait_for("idle polls", || {
            (two.one.requests().len() >= start + 2 * count).then_some(())
        });
    };
    polls(2);
    let asked = two.other.requests().len();
    assert!(asked > 0, "the other one was asked at the start");
    let (before, files) = (sample(daemon.pid()), listing(&two.world.device.state_dir()));
    polls(5);
    assert_eq!(two.other.requests().len(), asked);
    assert_eq!(listing(&two.world.device.state_dir()), files);
    assert_eq!(sample(daemon.pid()).written, before.written);
    // A person who asks hears of all of them.
    two.world.device.sync().expect_code(0);
    assert!(two.other.requests().len() > asked);
    assert_eq!(two.states(), ["Current", "Current"]);
    assert_eq!(daemon.stop(), Some(0));
}
