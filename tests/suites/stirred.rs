//! What changes on the device wakes the daemon, and costs no more than it has to.

use std::time::Duration;

use evenkeel_tests::{EngineProxy, wait_for};

use crate::fleet::{GATE, World};

/// No poll of the ordinary kind comes in a test.
const SELDOM: &str = "1h";

fn services(world: &World, count: usize) -> String {
    let one = |number: usize| {
        format!(
            "[services.web{number}]\nimage = \"{}\"\ncommand = [\"/bin/sleep\", \"86400\"]\nstop_grace_period = \"1s\"\nrestart = \"always\"\n",
            world.image
        )
    };
    (0..count).map(one).collect::<String>() + GATE
}

#[test]
fn on_docker_a_container_that_was_removed_or_stopped_is_back_at_once() {
    comes_back(World::with_docker("stirred"));
}

#[test]
fn on_podman_a_container_that_was_removed_or_stopped_is_back_at_once() {
    comes_back(World::with_podman("stirred-podman"));
}

fn comes_back(mut world: World) {
    world.device.settings.interval = SELDOM.to_owned();
    world.apps(&["one"]).app("one", services(&world, 1));
    let commit = world.repo.release("First");
    let daemon = world.device.spawn_daemon();
    world.device.wait_until_good(&commit);
    // What the pass itself did is told late at times, and is no reason to wake.
    std::thread::sleep(Duration::from_secs(3));
    let first = world.container_id("web0");
    let polls = || daemon.log().matches("polled").count();
    let before = polls();
    world.engine().remove(&first);
    let second = wait_for("another container", || {
        let found = world.engine().find(&world.device.settings.id, "web0")?;
        let id = found["Id"].as_str()?.to_owned();
        (id != first && found["State"]["Running"] == true).then_some(id)
    });
    world.engine().stop(&second);
    wait_for("the container to run again", || {
        let found = world.engine().find(&world.device.settings.id, "web0")?;
        (found["State"]["Running"] == true).then_some(())
    });
    assert_eq!(polls(), before);
    assert_eq!(daemon.stop(), Some(0));
    world.assert_converged();
}

/// How many calls a pass makes in which there is nothing to do.
fn calls_with(count: usize, name: &str) -> Vec<String> {
    let mut world = World::with_docker(name);
    let proxy = EngineProxy::start(world.engine().socket());
    world.device.settings.engine = proxy.url();
    world.device.settings.interval = SELDOM.to_owned();
    world.apps(&["one"]).app("one", services(&world, count));
    let commit = world.repo.release("First");
    let daemon = world.device.spawn_daemon();
    world.device.wait_until_good(&commit);
    std::thread::sleep(Duration::from_secs(3));
    // Looked at once while the engine tells of changes.
    world.device.sync().expect_code(0);
    let before = proxy.calls().len();
    world.device.sync().expect_code(0);
    let calls = proxy.calls().split_off(before);
    assert!(calls.iter().all(|call| !call.is_change()), "{calls:?}");
    // And none of it is blind: what is changed by hand is seen.
    let id = world.container_id("web0");
    let (status, said) = world.engine().call(
        "POST",
        &format!("/containers/{id}/update"),
        Some(&serde_json::json!({ "RestartPolicy": { "Name": "no" } })),
    );
    assert_eq!(status, 200, "{said}");
    wait_for("the restart policy to be put right", || {
        let found = world.engine().inspect(&id);
        (found["HostConfig"]["RestartPolicy"]["Name"] == "always").then_some(())
    });
    // What is told of a network and of no container is seen by the next pass.
    let network = &world.engine().networks(&world.device.settings.id)[0];
    let (status, said) = world.engine().call(
        "POST",
        &format!("/networks/{network}/disconnect"),
        Some(&serde_json::json!({ "Container": id, "Force": true })),
    );
    assert_eq!(status, 200, "{said}");
    world.device.sync().expect_code(0);
    let back = world.container("web0");
    let networks = back["NetworkSettings"]["Networks"].as_object();
    assert_eq!(networks.map(serde_json::Map::len), Some(1), "{back:#}");
    assert_eq!(daemon.stop(), Some(0));
    calls.into_iter().map(|call| call.path).collect()
}

#[test]
fn with_nothing_to_do_many_containers_cost_as_many_calls_as_two() {
    let few = calls_with(2, "stirred-few");
    let many = calls_with(9, "stirred-many");
    assert_eq!(few.len(), many.len(), "{few:?}\n{many:?}");
}
