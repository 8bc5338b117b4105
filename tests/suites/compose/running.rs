//! Compose files on an engine: what a container sees of them, and what a change of each makes happen.

use std::process::Command;

use evenkeel_tests::PATIENCE;
use evenkeel_tests::process::run;
use serde_json::Value;

use crate::fleet::{GATE, World};

/// What a command in a service's container prints.
fn said(world: &World, service: &str, command: &[&str]) -> String {
    let (code, said) = world.engine().exec(&world.container_id(service), command);
    assert_eq!(code, 0, "{said}");
    said
}

fn app_on(world: &World) {
    let image = &world.image;
    let sleeper =
        format!("image: {image}\n    command: [/bin/sleep, '86400']\n    stop_grace_period: 1s\n");
    let compose = format!(
        "include: [parts/vpn.yaml]\n\
         services:\n  reader:\n    {sleeper}    configs: [{{source: conf, target: /etc/app.conf, mode: 0440}}]\n    secrets: [key]\n    env_file: app.env\n\
         \x20 rider:\n    {sleeper}    network_mode: service:vpn\n\
         \x20 worker:\n    {sleeper}    scale: 2\n\
         \x20 off:\n    {sleeper}    profiles: [never]\n\
         configs: {{conf: {{file: app.conf}}}}\nsecrets: {{key: {{file: keys/key}}}}\n"
    );
    let app = world.app_name("one");
    world.apps(&["one"]).app("one", GATE);
    world
        .repo
        .write(&format!("apps/{app}/compose.yaml"), compose)
        .write(
            &format!("apps/{app}/parts/vpn.yaml"),
            format!("services:\n  vpn:\n    {sleeper}"),
        )
        .write(&format!("apps/{app}/app.conf"), "one\n")
        .write(&format!("apps/{app}/keys/key"), "k1")
        .write(&format!("apps/{app}/app.env"), "FROM_FILE=1\n")
        .write("fleet.toml", "format = 1\nname = \"test\"\n");
}

fn story(world: &World) {
    app_on(world);
    world.release_and_sync("First");
    let app = world.app_name("one");
    assert_eq!(
        said(world, "reader", &["/bin/cat", "/etc/app.conf"]),
        "one\n"
    );
    assert_eq!(
        said(world, "reader", &["/bin/cat", "/run/secrets/key"]),
        "k1"
    );
    assert!(said(world, "reader", &["/bin/env"]).contains("FROM_FILE=1\n"));
    let folder = world.device.path("/var/lib/evenkeel-files");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&folder).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
    let name = |text: &Value| {
        text["Name"]
            .as_str()
            .unwrap()
            .trim_start_matches('/')
            .to_owned()
    };
    assert_eq!(
        name(&world.container("worker-1")),
        format!("{app}-worker-1")
    );
    assert_eq!(
        name(&world.container("worker-2")),
        format!("{app}-worker-2")
    );
    assert!(
        world
            .engine()
            .find(&world.device.settings.id, "off")
            .is_none()
    );
    let network_of = |service: &str| said(world, service, &["/bin/readlink", "/proc/self/ns/net"]);
    assert_eq!(network_of("rider"), network_of("vpn"));
    world.assert_converged();

    // The content of a config makes its container anew, and no other.
    let ids = |services: &[&str]| -> Vec<String> {
        services
            .iter()
            .map(|service| world.container_id(service))
            .collect()
    };
    let others = ["rider", "vpn", "worker-1", "worker-2"];
    let (reader, before) = (world.container_id("reader"), ids(&others));
    world.repo.write(&format!("apps/{app}/app.conf"), "two\n");
    world.release_and_sync("Another config");
    assert_eq!(
        said(world, "reader", &["/bin/cat", "/etc/app.conf"]),
        "two\n"
    );
    assert_ne!(world.container_id("reader"), reader);
    assert_eq!(ids(&others), before);
    world.assert_converged();

    // Who lives in another's network follows it into the new one.
    let vpn = format!("apps/{app}/parts/vpn.yaml");
    let text = std::fs::read_to_string(world.repo.work().join(&vpn)).unwrap();
    world
        .repo
        .write(&vpn, format!("{text}    environment: [A=1]\n"));
    world.release_and_sync("Another VPN");
    let after = ids(&others);
    assert!(after[0] != before[0] && after[1] != before[1]);
    assert_eq!(after[2..], before[2..]);
    assert_eq!(network_of("rider"), network_of("vpn"));
    world.assert_converged();

    // And where the other one is restarted by hand or by the engine.
    world.engine().stop(&world.container_id("vpn"));
    world.device.sync().expect_code(0);
    assert_eq!(network_of("rider"), network_of("vpn"));
    world.assert_converged();
}

#[test]
fn a_compose_app_runs_as_it_says_and_follows_its_files() {
    story(&World::with_docker("compose-app"));
}

#[test]
fn a_compose_app_runs_as_it_says_and_follows_its_files_on_podman() {
    story(&World::with_podman("compose-app-podman"));
}

#[test]
fn compose_itself_lists_our_apps_and_their_containers() {
    let world = World::with_docker("compose-ls");
    world.apps(&["one"]).app(
        "one",
        world.sleeper("web", "") + &world.sleeper("side", "depends_on = ['web']\n") + GATE,
    );
    world.release_and_sync("First");
    let app = world.app_name("one");
    let ask = |arguments: &[&str]| -> Value {
        let said = run(
            Command::new(super::compose())
                .args(arguments)
                .env("DOCKER_HOST", world.engine().url()),
            PATIENCE,
        )
        .expect_code(0);
        // `ps` prints a line each, `ls` a list.
        let lines: Vec<Value> = said
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        Value::Array(lines)
    };
    let projects = ask(&["ls", "--format", "json"]);
    let ours = projects[0]
        .as_array()
        .unwrap()
        .iter()
        .find(|project| project["Name"] == app.as_str())
        .unwrap_or_else(|| panic!("{projects:#}"));
    assert_eq!(ours["Status"], "running(2)");
    assert_eq!(ours["ConfigFiles"], format!("apps/{app}"));
    let containers = ask(&["-p", &app, "ps", "--format", "json"]);
    let mut services: Vec<&str> = containers
        .as_array()
        .unwrap()
        .iter()
        .map(|container| container["Service"].as_str().unwrap())
        .collect();
    services.sort_unstable();
    assert_eq!(services, ["side", "web"]);
}
