//! Back to what was good, with no network; and holding still.

use evenkeel_tests::GitHttp;

use crate::fleet::{GATE, World};

/// A device with two good revisions, `1` and `2`, whose remote is then gone.
fn two_revisions(id: &str) -> (World, GitHttp, String, String) {
    let mut world = World::with_docker(id);
    let server = GitHttp::http(world.repo.served());
    world.device.settings.url = server.url();
    let release = |value: &str| {
        world.apps(&["one"]).app(
            "one",
            world.sleeper("web", &format!("environment = {{ A = \"{value}\" }}\n"))
                + &format!("[[files]]\npath = \"/etc/one.conf\"\ncontent = \"{value}\\n\"\n")
                + GATE,
        );
        world.release_and_sync(value)
    };
    let (first, second) = (release("1"), release("2"));
    (world, server, first, second)
}

#[track_caller]
fn runs(world: &World, value: &str) {
    assert_eq!(
        world.device.read("/etc/one.conf"),
        Some(format!("{value}\n"))
    );
    let web = world.container("web");
    assert_eq!(web["State"]["Running"], true);
    let environment = web["Config"]["Env"].to_string();
    assert!(
        environment.contains(&format!("A={value}\"")),
        "{environment}"
    );
}

#[test]
fn rollback_needs_no_network_and_holds_until_resume() {
    let (world, mut server, first, second) = two_revisions("rollback-offline");
    server.stop();
    world.device.evenkeel(&["rollback"]).expect_code(0);
    runs(&world, "1");
    let status = world.device.status_json();
    assert_eq!(status["revision"]["applied"], first.as_str(), "{status:#}");
    assert_eq!(world.device.condition("Suspended").0, "True");

    // Held on purpose: the remote's tip is shown, not applied, and that is no failure.
    server.resume();
    world.device.sync().expect_code(0);
    runs(&world, "1");
    // Healing goes on at the held revision.
    std::fs::write(world.device.path("/etc/one.conf"), "drift").unwrap();
    world.device.sync().expect_code(0);
    runs(&world, "1");

    world.device.evenkeel(&["resume"]).expect_code(0);
    world.device.sync().expect_code(0);
    runs(&world, "2");
    let status = world.device.status_json();
    assert_eq!(status["revision"]["applied"], second.as_str(), "{status:#}");
}

#[test]
fn rollback_to_a_named_revision_works_without_the_git_repository() {
    let (world, mut server, first, _) = two_revisions("rollback-named");
    server.stop();
    // Whatever lies under state_dir beside the journal and the floor is the repository: ruin every pack.
    let mut ruined = 0;
    for path in evenkeel_tests::proc::listing(&world.device.state_dir()).keys() {
        if path.ends_with(".pack") || path.ends_with(".idx") {
            std::fs::write(path, b"").unwrap();
            ruined += 1;
        }
    }
    assert!(ruined > 0, "no git packs found under the state directory");
    world
        .device
        .evenkeel(&["rollback", &first[..10]])
        .expect_code(0);
    runs(&world, "1");
    // And the remote, once back, is enough to go on.
    server.resume();
    world.device.evenkeel(&["resume"]).expect_code(0);
    world.device.sync().expect_code(0);
    runs(&world, "2");
}

#[test]
fn rollback_under_a_running_agent() {
    let (world, _server, _, _) = two_revisions("rollback-daemon");
    let daemon = world.device.spawn_daemon();
    // Its log, not an answer: a verb answers by itself where no agent runs yet.
    evenkeel_tests::wait_for("the agent to have started", || {
        daemon.log().contains("started").then_some(())
    });
    world.device.evenkeel(&["rollback"]).expect_code(0);
    evenkeel_tests::wait_for("the old revision", || {
        (world.device.read("/etc/one.conf").as_deref() == Some("1\n")).then_some(())
    });
    // A few polls later it still holds.
    std::thread::sleep(std::time::Duration::from_secs(4));
    runs(&world, "1");
    world.device.evenkeel(&["resume"]).expect_code(0);
    evenkeel_tests::wait_for("the new revision", || {
        (world.device.read("/etc/one.conf").as_deref() == Some("2\n")).then_some(())
    });
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn rollback_to_nowhere_is_an_error_that_says_so() {
    let world = World::of_files("rollback-nowhere");
    world.one_file("1\n");
    world.release_and_sync("First");
    let said = world.device.evenkeel(&["rollback"]);
    assert_ne!(said.code, Some(0), "{}", said.text());
    let said = world
        .device
        .evenkeel(&["rollback", "0123456789abcdef0123456789abcdef01234567"]);
    assert_ne!(said.code, Some(0), "{}", said.text());
    assert_eq!(world.device.read("/etc/one.conf").as_deref(), Some("1\n"));
}

#[test]
fn pause_stops_changes_and_resume_takes_them_up() {
    let world = World::of_files("rollback-pause");
    world.one_file("1\n");
    world.release_and_sync("First");
    world.device.evenkeel(&["pause"]).expect_code(0);
    world.one_file("2\n");
    let second = world.repo.release("Second");
    let said = world.device.sync().expect_code(0);
    assert!(
        said.text().to_lowercase().contains("paused"),
        "{}",
        said.text()
    );
    assert_eq!(world.device.read("/etc/one.conf").as_deref(), Some("1\n"));
    let status = world.device.status_json();
    assert_eq!(status["phase"], "Paused", "{status:#}");
    assert_eq!(
        status["revision"]["tip"],
        second.as_str(),
        "polling stopped: {status:#}"
    );
    assert_eq!(world.device.condition("Suspended").0, "True");
    world.device.evenkeel(&["resume"]).expect_code(0);
    world.device.sync().expect_code(0);
    assert_eq!(world.device.read("/etc/one.conf").as_deref(), Some("2\n"));
}

#[test]
fn a_first_release_that_never_got_healthy_does_not_stand_in_the_way_of_the_next_one() {
    let world = World::with_docker("rollback-first");
    let release = |state: &str| {
        world.apps(&["one"]).app("one", world.judged("web", state));
        world.repo.release(state);
        world.device.sync()
    };
    release("bad").expect_code(4);
    release("good").expect_code(0);
    assert_eq!(
        world.container("web")["State"]["Health"]["Status"],
        "healthy"
    );
    world.assert_converged();
}
