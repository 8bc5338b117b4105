//! What is asked of a running daemon while a revision is being watched.

use evenkeel_tests::wait_for;

use crate::fleet::World;

/// An app of one file, with its gate.
fn app(value: &str, gate: &str) -> String {
    format!("[[files]]\npath = \"/etc/one.conf\"\ncontent = \"{value}\\n\"\n{gate}")
}

/// A gate that watches for longer than a test runs.
const LONG: &str = "[gate]\ndeadline = \"10m\"\nsoak = \"5m\"\n";
/// A gate that judges at once.
const SHORT: &str = "[gate]\ndeadline = \"10s\"\nsoak = \"0s\"\n";

fn soaking(world: &World, commit: &str) {
    wait_for("the daemon to watch the new revision", || {
        let status = world.device.status_json();
        (status["phase"] == "Soaking" && status["revision"]["applied"] == commit).then_some(())
    });
}

fn content(world: &World) -> Option<String> {
    world.device.read("/etc/one.conf")
}

#[test]
fn a_rollback_in_the_middle_of_a_soak_goes_back_to_last_good() {
    let world = World::of_files("daemon-rollback");
    world.apps(&["one"]);
    for value in ["1", "2"] {
        world.app("one", app(value, SHORT));
        world.release_and_sync(value);
    }
    let daemon = world.device.spawn_daemon();
    world.app("one", app("3", LONG));
    let third = world.repo.release("Third");
    soaking(&world, &third);
    let status = world.device.status_json();
    let reconciling = status["conditions"]
        .as_array()
        .and_then(|all| all.iter().find(|one| one["type"] == "Reconciling"));
    assert_eq!(reconciling.unwrap()["status"], "True", "{status:#}");

    world.device.evenkeel(&["rollback"]).expect_code(0);
    assert_eq!(content(&world), Some("2\n".to_owned()));
    // What the agent wrote itself is not taken for an edit by hand.
    let history = world.device.json(&["history", "--json"]);
    assert_eq!(history[0]["result"], "rolled-back", "{history:#}");
    assert!(
        !history[0].to_string().contains("edited by hand"),
        "{history:#}"
    );
    daemon.stop();
}

#[test]
fn a_pause_in_the_middle_of_a_soak_leaves_nothing_that_is_not_good() {
    let world = World::of_files("daemon-pause");
    world.apps(&["one"]).app("one", app("good", SHORT));
    world.release_and_sync("Good");
    let daemon = world.device.spawn_daemon();
    world.app(
        "one",
        app(
            "bad",
            "[[checks]]\ntcp = \"127.0.0.1:1\"\ntimeout = \"1s\"\n[gate]\ndeadline = \"4s\"\nsoak = \"1s\"\n",
        ),
    );
    let bad = world.repo.release("Bad");
    soaking(&world, &bad);
    assert_eq!(content(&world), Some("bad\n".to_owned()));

    world.device.evenkeel(&["pause"]).expect_code(0);
    assert_eq!(content(&world), Some("good\n".to_owned()));
    let status = world.device.status_json();
    assert_eq!(status["phase"], "Paused", "{status:#}");
    daemon.stop();
}

#[test]
fn a_pause_after_a_stop_in_a_soak_goes_back() {
    let world = World::of_files("daemon-stop-pause");
    world.apps(&["one"]).app("one", app("good", SHORT));
    world.release_and_sync("Good");
    let daemon = world.device.spawn_daemon();
    world.app("one", app("new", LONG));
    let new = world.repo.release("New");
    soaking(&world, &new);
    assert_eq!(daemon.stop(), Some(0));

    world.device.evenkeel(&["pause"]).expect_code(0);
    assert_eq!(content(&world), Some("good\n".to_owned()));
}

#[test]
fn told_to_renew_in_the_middle_of_a_soak_it_ends_when_the_revision_is_good() {
    let world = World::of_files("daemon-renew-soak");
    world.apps(&["one"]).app("one", app("good", SHORT));
    world.release_and_sync("Good");
    let mut daemon = world.device.spawn_daemon();
    world.app(
        "one",
        app("new", "[gate]\ndeadline = \"1m\"\nsoak = \"4s\"\n"),
    );
    let new = world.repo.release("New");
    soaking(&world, &new);

    daemon.signal("USR1");
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(daemon.runs(), "a soak is not cut short");
    assert_eq!(daemon.wait(), Some(0));
    let history = world.device.json(&["history", "--json"]);
    assert_eq!(history[0]["commit"], new, "{history:#}");
    assert_eq!(history[0]["result"], "good", "{history:#}");
}

#[test]
fn told_to_renew_while_idle_it_ends_at_once_and_starts_again_as_after_any_end() {
    let world = World::of_files("daemon-renew-idle");
    world.apps(&["one"]).app("one", app("good", SHORT));
    world.release_and_sync("Good");
    // More often than unclean starts are borne.
    for _ in 0..4 {
        let daemon = world.device.spawn_daemon();
        wait_for("the daemon to rest", || {
            let status = world.device.status_json();
            (status["phase"] == "Idle" && status["poll"]["next"].is_string()).then_some(())
        });
        daemon.signal("USR1");
        assert_eq!(daemon.wait(), Some(0));
    }
    let daemon = world.device.spawn_daemon();
    wait_for("the daemon to be content", || {
        (world.device.condition("Ready").0 == "True").then_some(())
    });
    daemon.stop();
}
