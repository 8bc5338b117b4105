//! What no device takes: commits without the right signature, branches that went back, releases that do not get well.

use evenkeel_tests::Signer;

use crate::fleet::{GATE, World};

/// A device at a first good revision, `right`.
fn at_first(id: &str) -> (World, String) {
    let world = World::of_files(id);
    world.one_file("right\n");
    let first = world.release_and_sync("First");
    (world, first)
}

#[track_caller]
fn refused(world: &World, reason: &str) {
    let said = world.device.sync().expect_code(3);
    assert!(
        said.text().contains(reason),
        "{reason} is not named: {}",
        said.text()
    );
    assert_eq!(
        world.device.read("/etc/one.conf").as_deref(),
        Some("right\n")
    );
    let (status, seen) = world.device.condition("Verified");
    assert_eq!((status.as_str(), seen.as_str()), ("False", reason));
}

#[track_caller]
fn an_honest_commit_is_taken(world: &World, on: &str) {
    world.repo.reset_to(on);
    world.one_file("honest\n");
    world.repo.commit_signed("Honest");
    world.repo.force_push();
    world.device.sync().expect_code(0);
    assert_eq!(
        world.device.read("/etc/one.conf").as_deref(),
        Some("honest\n")
    );
    assert_eq!(world.device.condition("Verified").0, "True");
}

#[test]
fn an_unsigned_commit_changes_nothing() {
    let (world, first) = at_first("refuse-unsigned");
    world.one_file("evil\n");
    world.repo.commit_unsigned("Unsigned");
    world.repo.push();
    refused(&world, "unsigned");
    an_honest_commit_is_taken(&world, &first);
}

#[test]
fn a_commit_signed_by_a_stranger_changes_nothing() {
    let (world, first) = at_first("refuse-stranger");
    world.one_file("evil\n");
    // A stranger may call himself anything.
    let stranger = Signer::new("release@example.com");
    world.repo.commit_signed_by(&stranger, "Strange");
    world.repo.push();
    refused(&world, "unknown-key");
    an_honest_commit_is_taken(&world, &first);
}

#[test]
fn a_commit_that_was_changed_after_signing_changes_nothing() {
    let (world, _) = at_first("refuse-tampered");
    world.one_file("evil\n");
    world.repo.commit_signed("Signed");
    let raw = world.repo.git(&["cat-file", "commit", "HEAD"]).stdout;
    let tampered = world
        .repo
        .hash_commit(raw.replace("\n\nSigned", "\n\nTampered").as_bytes());
    world.repo.git(&[
        "push",
        "-q",
        "origin",
        &format!("{tampered}:refs/heads/main"),
    ]);
    refused(&world, "bad-signature");
}

#[test]
fn a_key_whose_time_is_over_changes_nothing() {
    let world = World::of_files("refuse-expired");
    world.one_file("evil\n");
    world.repo.release("Late");
    let line = world
        .repo
        .signer()
        .allowed_line("namespaces=\"git\",valid-before=\"20200101\"");
    std::fs::write(&world.device.settings.allowed_signers, line).unwrap();
    let said = world.device.sync().expect_code(3);
    assert!(said.text().contains("key-expired"), "{}", said.text());
    assert_eq!(world.device.read("/etc/one.conf"), None);
}

#[test]
fn a_key_for_another_namespace_changes_nothing() {
    let world = World::of_files("refuse-namespace");
    world.one_file("evil\n");
    world.repo.release("Elsewhere");
    let line = world.repo.signer().allowed_line("namespaces=\"file\"");
    std::fs::write(&world.device.settings.allowed_signers, line).unwrap();
    world.device.sync().expect_code(3);
    assert_eq!(world.device.read("/etc/one.conf"), None);
}

#[test]
fn a_rewound_branch_is_refused_and_a_later_honest_commit_is_taken() {
    let world = World::of_files("refuse-rewound");
    world.one_file("old\n");
    let first = world.release_and_sync("First");
    world.one_file("right\n");
    let second = world.release_and_sync("Second");
    world.repo.rewind(&first);
    refused(&world, "not-descendant");
    an_honest_commit_is_taken(&world, &second);
}

#[test]
fn a_forked_branch_is_refused() {
    let world = World::of_files("refuse-forked");
    world.one_file("old\n");
    let first = world.release_and_sync("First");
    world.one_file("right\n");
    let second = world.release_and_sync("Second");
    world.repo.reset_to(&first);
    world.one_file("fork\n");
    world.repo.commit_signed("Fork");
    world.repo.force_push();
    refused(&world, "not-descendant");
    an_honest_commit_is_taken(&world, &second);
}

#[test]
fn a_branch_of_another_root_is_refused() {
    let (world, first) = at_first("refuse-root");
    world.repo.git(&["checkout", "-q", "--orphan", "fresh"]);
    world.one_file("fresh\n");
    world.repo.commit_signed("Fresh");
    world
        .repo
        .git(&["push", "-q", "--force", "origin", "HEAD:main"]);
    refused(&world, "not-descendant");
    world.repo.git(&["checkout", "-q", "-f", "main"]);
    an_honest_commit_is_taken(&world, &first);
}

#[test]
fn a_release_that_does_not_get_well_goes_back_and_stays_refused() {
    let world = World::with_docker("refuse-unhealthy");
    let app = |state: &str| {
        world.judged("web", state)
            + &format!("\n[[files]]\npath = \"/etc/one.conf\"\ncontent = \"{state}\\n\"\n")
    };
    world.apps(&["one"]).app("one", app("good"));
    let first = world.release_and_sync("First");

    world.app("one", app("bad"));
    let bad = world.repo.release("Bad");
    let said = world.device.sync().expect_code(4);
    assert!(
        said.text().contains("web"),
        "what is unhealthy is not named: {}",
        said.text()
    );
    let last_good_is_back = || {
        assert_eq!(
            world.device.read("/etc/one.conf").as_deref(),
            Some("good\n")
        );
        let web = world.container("web");
        assert_eq!(web["State"]["Running"], true);
        assert!(web["Config"]["Env"].to_string().contains("STATE=good"));
    };
    last_good_is_back();
    let status = world.device.status_json();
    assert_eq!(status["phase"], "RolledBack", "{status:#}");
    assert_eq!(status["revision"]["tip"], bad.as_str());
    assert_eq!(status["revision"]["last_good"], first.as_str());
    assert_eq!(status["revision"]["floor"], first.as_str());
    assert_eq!(world.device.condition("Ready").0, "False");

    // Not tried again, and healing goes on.
    let back = world.container_id("web");
    world.device.sync().expect_code(4);
    assert_eq!(
        world.container_id("web"),
        back,
        "the refused release was tried again"
    );
    world.engine().stop(&back);
    world.device.sync().expect_code(4);
    last_good_is_back();
    let history = world.device.evenkeel(&["history"]).expect_code(0);
    assert!(history.stdout.contains(&bad[..7]), "{}", history.stdout);

    // The same content in another commit is the same release.
    world.repo.release("Bad again, nothing else");
    world.device.sync().expect_code(4);

    world.app("one", app("good").replace("good\\n", "better\\n"));
    let better = world.repo.release("Better");
    world.device.sync().expect_code(0);
    assert_eq!(
        world.device.read("/etc/one.conf").as_deref(),
        Some("better\n")
    );
    let status = world.device.status_json();
    assert_eq!(status["revision"]["last_good"], better.as_str());
    assert_eq!(status["phase"], "Idle", "{status:#}");
}

#[test]
fn a_release_whose_check_fails_goes_back() {
    let world = World::of_files("refuse-check");
    world.one_file("right\n");
    world.release_and_sync("First");
    let port = evenkeel_tests::ports::Port::free();
    world.app(
        "one",
        format!(
            "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"wrong\\n\"\n[[checks]]\ntcp = \"127.0.0.1:{}\"\ntimeout = \"1s\"\n\
             [gate]\ndeadline = \"4s\"\nsoak = \"1s\"\n",
            port.number()
        ),
    );
    world.repo.release("Nobody listens");
    let said = world.device.sync().expect_code(4);
    assert!(
        said.text().contains(&port.number().to_string()),
        "{}",
        said.text()
    );
    assert_eq!(
        world.device.read("/etc/one.conf").as_deref(),
        Some("right\n")
    );
}

#[test]
fn a_bad_release_may_be_dropped_from_the_branch() {
    let world = World::of_files("refuse-dropped");
    world.one_file("right\n");
    let first = world.release_and_sync("First");
    world.app(
        "one",
        "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"wrong\\n\"\n[[checks]]\ntcp = \"127.0.0.1:1\"\ntimeout = \"1s\"\n\
         [gate]\ndeadline = \"3s\"\nsoak = \"1s\"\n",
    );
    world.repo.release("Bad");
    world.device.sync().expect_code(4);
    // No device kept it, so the branch may go back to where it was good.
    world.repo.rewind(&first);
    world.device.sync().expect_code(0);
    world.repo.reset_to(&first);
    world.one_file("next\n");
    world.release_and_sync("Next");
    assert_eq!(
        world.device.read("/etc/one.conf").as_deref(),
        Some("next\n")
    );
}

#[test]
fn what_the_owner_forbids_no_signature_unlocks() {
    let mut world = World::of_files("refuse-guard");
    world.device.settings.guard = vec!["paths = [\"/srv\"]".to_owned()];
    world.one_file("right\n");
    world.repo.release("Outside");
    let said = world.device.sync().expect_code(3);
    assert!(said.text().contains("/etc/one.conf"), "{}", said.text());
    assert_eq!(world.device.read("/etc/one.conf"), None);
}

#[test]
fn a_document_for_another_machine_or_fleet_is_refused_and_the_right_one_is_taken() {
    let mut world = World::of_files("refuse-machine");
    world.one_file("right\n");
    world.release_and_sync("First");
    let id = world.device.settings.id.clone();
    let pin = |machine: &str| {
        world.repo.write(
            &format!("devices/{id}.toml"),
            format!("machine_id = \"{machine}\"\n"),
        );
    };
    pin("0123456789abcdef0123456789abcdef");
    world.one_file("another's\n");
    world.repo.release("For another machine");
    let said = world.device.sync().expect_code(3);
    assert!(said.text().contains("wrong-device"), "{}", said.text());
    assert_eq!(
        world.device.read("/etc/one.conf").as_deref(),
        Some("right\n")
    );
    // A machine without an id (some containers) can be pinned to nothing.
    if let Ok(text) = std::fs::read_to_string("/etc/machine-id")
        && text.trim_end().len() == 32
    {
        pin(text.trim_end());
        world.one_file("ours\n");
        world.release_and_sync("For this machine");
        assert_eq!(
            world.device.read("/etc/one.conf").as_deref(),
            Some("ours\n")
        );
    }
    world
        .device
        .settings
        .trust
        .push("fleet = \"another\"".to_owned());
    world.one_file("of another fleet\n");
    world.repo.release("Next");
    let said = world.device.sync().expect_code(3);
    assert!(said.text().contains("wrong-fleet"), "{}", said.text());
    assert_ne!(
        world.device.read("/etc/one.conf").as_deref(),
        Some("of another fleet\n")
    );
}

#[test]
fn three_unclean_ends_in_a_row_refuse_a_release() {
    let world = World::of_files("refuse-unclean");
    world.one_file("right\n");
    world.release_and_sync("First");
    world.app(
        "one",
        "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"kills the device\\n\"\n[gate]\ndeadline = \"600s\"\nsoak = \"300s\"\n",
    );
    world.repo.release("Kills the device");
    for _ in 0..3 {
        let daemon = world.device.spawn_daemon();
        evenkeel_tests::wait_for("the release to be tried", || {
            (world.device.read("/etc/one.conf").as_deref() == Some("kills the device\n")
                && world
                    .device
                    .evenkeel(&["status", "--json"])
                    .stdout
                    .contains("Soaking"))
            .then_some(())
        });
        daemon.kill();
    }
    world.device.sync().expect_code(4);
    assert_eq!(
        world.device.read("/etc/one.conf").as_deref(),
        Some("right\n")
    );
}

fn stalled(world: &World) -> String {
    let status = world.device.status_json();
    let conditions = status["conditions"].as_array().unwrap();
    let stalled = conditions.iter().find(|one| one["type"] == "Stalled");
    stalled.unwrap()["message"].as_str().unwrap().to_owned()
}

/// What a person reads of a refusal: the pass itself, its log, `status` and `history`.
#[track_caller]
fn told_everywhere(world: &World, words: &str) {
    let said = world.device.sync().expect_code(4);
    let answer = said.stdout.contains(words) || said.stderr.contains(words);
    assert!(answer, "{words} is not in {}", said.text());
    let message = stalled(world);
    assert!(message.contains(words), "{words} is not in {message}");
    let history = world.device.evenkeel(&["history"]).expect_code(0).stdout;
    let line = history.lines().find(|line| line.contains(words));
    let line = line.unwrap_or_else(|| panic!("{words} is not in {history}"));
    assert!(!line.contains(['\u{1b}', '\u{7}']), "{line:?}");
}

fn what_a_health_check_says_is_told(world: &World) {
    world
        .apps(&["one"])
        .app("one", world.sleeper("web", "") + GATE);
    world.release_and_sync("First");
    let noise = "x".repeat(3000);
    let test =
        format!("echo {noise}; printf 'no \\\\033[31mlink\\\\n\\\\007to the sensor\\\\n'; exit 7");
    let check = format!(
        "healthcheck = {{ test = [\"CMD\", \"/bin/sh\", \"-c\", \"{test}\"], interval = \"500ms\", timeout = \"5s\", retries = 2 }}\n"
    );
    let gate = "\n[gate]\ndeadline = \"8s\"\nsoak = \"1s\"\n";
    world.app("one", world.sleeper("web", &check) + gate);
    world.repo.release("Bad");
    told_everywhere(world, "is unhealthy (its health check ended with 7: …x");
    told_everywhere(
        world,
        "xx\\nno \\u{1b}[31mlink\\n\\u{7}to the sensor), and the deadline of 8s is over",
    );
    let message = stalled(world);
    assert!(message.len() < 500, "{message}");
}

#[test]
fn what_a_health_check_says_is_told_with_the_refusal_on_docker() {
    what_a_health_check_says_is_told(&World::with_docker("refuse-words"));
}

#[test]
fn what_a_health_check_says_is_told_with_the_refusal_on_podman() {
    what_a_health_check_says_is_told(&World::with_podman("refuse-words"));
}

#[test]
fn what_a_command_that_checks_says_is_told_with_the_refusal() {
    let mut world = World::of_files("refuse-command");
    world.device.settings.guard = vec!["commands = true".to_owned()];
    world.one_file("right\n");
    world.release_and_sync("First");
    world.app(
        "one",
        "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"wrong\\n\"\n[[checks]]\n\
         command = [\"/bin/sh\", \"-c\", \"echo asked; printf '\\\\033[1mno answer' >&2; exit 9\"]\ntimeout = \"5s\"\n\
         [gate]\ndeadline = \"2s\"\nsoak = \"1s\"\n",
    );
    world.repo.release("Bad");
    told_everywhere(
        &world,
        "command /bin/sh: ended with 9: asked\\n\\n\\u{1b}[1mno answer",
    );
}
