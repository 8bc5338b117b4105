//! `evenkeel leave`: what runs goes on running, and nothing of the agent is left at work.

use std::path::Path;

use serde_json::Value;

use crate::fleet::{GATE, World};

fn world(id: &str) -> World {
    let world = World::with_docker(id);
    let app = world.sleeper("web", "restart = \"unless-stopped\"\n")
        + "[[files]]\npath = \"/etc/one/one.conf\"\ncontent = \"one\\n\"\n"
        + GATE;
    world.apps(&["one"]).app("one", app);
    world.release_and_sync("First");
    world
}

fn left_over(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().unwrap().is_dir() {
            found.extend(left_over(&entry.path()));
        } else if name.contains(".tmp") || name == "lock" || name.ends_with(".sock") {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

fn start(container: &Value) -> (String, String) {
    (
        container["Id"].as_str().unwrap().to_owned(),
        container["State"]["StartedAt"].as_str().unwrap().to_owned(),
    )
}

#[test]
fn a_device_that_is_handed_back_runs_on_without_its_agent() {
    let world = world("leave-1");
    let before = start(&world.container("web"));
    // A hand has changed the policy since, and the remote is gone: none of that matters.
    let (code, said) = world.engine().call(
        "POST",
        &format!("/containers/{}/update", before.0),
        Some(&serde_json::json!({ "RestartPolicy": { "Name": "no" } })),
    );
    assert_eq!(code, 200, "{said}");
    std::fs::rename(world.repo.bare(), world.device.scratch().join("gone")).unwrap();
    let mut daemon = world.device.spawn_daemon();
    evenkeel_tests::wait_for("the daemon", || {
        world
            .device
            .state_dir()
            .join("evenkeel.sock")
            .exists()
            .then_some(())
    });

    // Nobody is asked here.
    let asked = world.device.evenkeel(&["leave"]).expect_code(2);
    assert!(asked.stderr.contains("--yes"), "{}", asked.text());
    assert!(daemon.runs());

    let left = world.device.evenkeel(&["leave", "--yes"]).expect_code(0);
    assert!(left.stdout.contains("to stop"), "{}", left.text());
    evenkeel_tests::wait_for("the daemon's end", || (!daemon.runs()).then_some(()));
    assert_eq!(start(&world.container("web")), before);
    let policy = &world.container("web")["HostConfig"]["RestartPolicy"]["Name"];
    assert_eq!(policy, "unless-stopped");
    assert_eq!(
        world.device.read("/etc/one/one.conf").as_deref(),
        Some("one\n")
    );
    assert_eq!(left_over(&world.device.root()), Vec::<String>::new());
    assert_eq!(left_over(&world.device.state_dir()), Vec::<String>::new());

    // Again is no error, and what changes the device is refused.
    world
        .device
        .evenkeel(&["leave", "--yes", "--json"])
        .expect_code(0);
    for verb in ["sync", "run", "rollback"] {
        let refused = world.device.evenkeel(&[verb]).expect_code(2);
        assert!(
            refused.stderr.contains("leave --undo"),
            "{}",
            refused.text()
        );
    }
    world.device.evenkeel(&["status"]).expect_code(0);
    assert_eq!(start(&world.container("web")), before);

    std::fs::rename(world.device.scratch().join("gone"), world.repo.bare()).unwrap();
    world.device.evenkeel(&["leave", "--undo"]).expect_code(0);
    world.device.sync().expect_code(0);
    assert_eq!(start(&world.container("web")), before);
    world.assert_converged();
}

#[test]
fn a_device_that_leaves_with_its_state_keeps_what_runs() {
    let world = world("leave-2");
    let before = start(&world.container("web"));
    world.device.evenkeel(&["enroll"]).expect_code(0);
    world
        .device
        .evenkeel(&["leave", "--yes", "--purge-state"])
        .expect_code(0);
    assert!(!world.device.state_dir().exists());
    assert_eq!(start(&world.container("web")), before);
    assert_eq!(
        world.device.read("/etc/one/one.conf").as_deref(),
        Some("one\n")
    );
    // What carries its labels is there, and what was good is not known any more: a person has to say so.
    world.device.sync();
    assert_eq!(start(&world.container("web")), before);
    assert_eq!(world.device.condition("Stalled").1, "TrustStateLost");
}

#[test]
fn a_device_whose_engine_is_silent_is_left_as_far_as_it_goes_and_says_so() {
    let mut world = world("leave-3");
    let before = start(&world.container("web"));
    let engine = world.device.settings.engine.clone();
    world.device.settings.engine = "unix:///nonexistent/engine.sock".to_owned();
    let left = world.device.evenkeel(&["leave", "--yes"]).expect_code(1);
    assert!(left.stderr.contains("leave"), "{}", left.text());
    world.device.sync().expect_code(2);
    world.device.settings.engine = engine;
    world.device.evenkeel(&["leave", "--yes"]).expect_code(0);
    assert_eq!(start(&world.container("web")), before);
}

#[test]
fn where_no_agent_has_run_there_is_nothing_to_hand_back() {
    let world = World::of_files("leave-4");
    world.device.evenkeel(&["leave", "--yes"]).expect_code(2);
    assert!(!world.device.state_dir().exists());
}
