//! From boot, with no network at all.

use evenkeel_tests::{GitHttp, wait_for};

use crate::fleet::{GATE, World};

#[test]
fn a_device_that_boots_offline_converges_to_last_good() {
    let mut world = World::with_docker("offline-boot");
    let mut server = GitHttp::http(world.repo.served());
    world.device.settings.url = server.url();
    world.apps(&["one"]).app(
        "one",
        world.sleeper("web", "")
            + "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"1\\n\"\n"
            + GATE,
    );
    let first = world.release_and_sync("First");
    server.stop();
    world.engine().remove(&world.container_id("web"));
    std::fs::remove_file(world.device.path("/etc/one.conf")).unwrap();

    let daemon = world.device.spawn_daemon();
    wait_for("last-good to come back", || {
        let web = world.engine().find("offline-boot", "web")?;
        (world.device.read("/etc/one.conf").as_deref() == Some("1\n")
            && web["State"]["Running"] == true)
            .then_some(())
    });
    let status = world.device.status_json();
    assert_eq!(status["revision"]["applied"], first.as_str(), "{status:#}");
    wait_for("the poll's error to be shown", || {
        world.device.status_json()["poll"]["error"]
            .is_string()
            .then_some(())
    });

    // The network comes back: the device goes on by itself.
    world.app(
        "one",
        world.sleeper("web", "")
            + "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"2\\n\"\n"
            + GATE,
    );
    world.repo.release("Second");
    server.resume();
    daemon.signal("HUP");
    wait_for("the second revision", || {
        (world.device.read("/etc/one.conf").as_deref() == Some("2\n")).then_some(())
    });
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_pass_without_a_network_heals_and_says_that_it_will_try_again() {
    let mut world = World::of_files("offline-pass");
    let mut server = GitHttp::http(world.repo.served());
    world.device.settings.url = server.url();
    world.one_file("1\n");
    world.release_and_sync("First");
    server.stop();
    std::fs::write(world.device.path("/etc/one.conf"), "drift").unwrap();
    let said = world.device.sync().expect_code(1);
    assert!(!said.stderr.is_empty() || !said.stdout.is_empty());
    assert_eq!(world.device.read("/etc/one.conf").as_deref(), Some("1\n"));
    server.resume();
    world.device.sync().expect_code(0);
}

#[test]
fn a_device_that_never_had_a_network_waits_and_then_goes_on() {
    let mut world = World::of_files("offline-never");
    let mut server = GitHttp::http(world.repo.served());
    world.device.settings.url = server.url();
    server.stop();
    world.one_file("1\n");
    world.repo.release("First");
    world.device.sync().expect_code(1);
    assert_eq!(world.device.read("/etc/one.conf"), None);
    server.resume();
    world.device.sync().expect_code(0);
    assert_eq!(world.device.read("/etc/one.conf").as_deref(), Some("1\n"));
}

#[test]
fn a_first_revision_that_was_carried_here_is_verified_like_any_other() {
    let mut world = World::of_files("offline-carried");
    let mut server = GitHttp::http(world.repo.served());
    world.device.settings.url = server.url();
    server.stop();
    world.one_file("1\n");
    let first = world.repo.release("First");
    let carried = world.device.scratch().join("first.git");
    let path = carried.to_str().unwrap().to_owned();
    world
        .repo
        .bare_git(&["clone", "-q", "--bare", "--single-branch", ".", &path]);

    let from = ["sync", "--from", &path];
    world.device.evenkeel(&from).expect_code(0);
    assert_eq!(world.device.read("/etc/one.conf").as_deref(), Some("1\n"));
    let status = world.device.status_json();
    assert_eq!(
        status["revision"]["last_good"],
        first.as_str(),
        "{status:#}"
    );

    // The remote goes on from there; what was carried is behind it now, and nothing goes back to it.
    world.one_file("2\n");
    world.repo.release("Second");
    server.resume();
    world.device.sync().expect_code(0);
    let said = world.device.evenkeel(&from).expect_code(3);
    assert!(said.text().contains("not-descendant"), "{}", said.text());
    assert_eq!(world.device.read("/etc/one.conf").as_deref(), Some("2\n"));

    // Nor does anything become good by being carried.
    world.one_file("3\n");
    world.repo.commit_unsigned("Third");
    let unsigned = world.repo.work();
    let from = ["sync", "--from", unsigned.to_str().unwrap()];
    let said = world.device.evenkeel(&from).expect_code(3);
    assert!(said.text().contains("unsigned"), "{}", said.text());
    assert_eq!(world.device.read("/etc/one.conf").as_deref(), Some("2\n"));
}

#[test]
fn a_pass_from_a_place_of_its_own_is_asked_of_a_running_daemon() {
    let mut world = World::of_files("offline-daemon");
    world.one_file("1\n");
    world.release_and_sync("First");
    let nowhere = world
        .device
        .evenkeel(&["sync", "--from", "/nowhere/at/all"]);
    assert!(
        nowhere
            .clone()
            .expect_code(2)
            .text()
            .contains("/nowhere/at/all"),
        "{}",
        nowhere.text()
    );
    // It looks at nothing by itself in this time.
    world.device.settings.interval = "1h".to_owned();
    let daemon = world.device.spawn_daemon();
    world.device.sync().expect_code(0);
    world.one_file("2\n");
    let second = world.repo.release("Second");
    let from = world.repo.bare();
    world
        .device
        .evenkeel(&["sync", "--from", from.to_str().unwrap()])
        .expect_code(0);
    let status = world.device.status_json();
    assert_eq!(status["revision"]["last_good"], second.as_str());
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_kill_in_the_middle_of_a_change_is_made_good_offline() {
    let mut world = World::with_docker("offline-killed");
    let mut server = GitHttp::http(world.repo.served());
    world.device.settings.url = server.url();
    world.apps(&["one"]).app("one", world.judged("web", "good"));
    world.release_and_sync("First");
    // This one never gets well, so the kill finds it in the middle of its soak.
    world.app("one", world.judged("web", "bad").replace("20s", "300s"));
    world.repo.release("Second");
    let daemon = world.device.spawn_daemon();
    wait_for("the second revision to be tried", || {
        let web = world.engine().find("offline-killed", "web")?;
        web["Config"]["Env"]
            .to_string()
            .contains("STATE=bad")
            .then_some(())
    });
    daemon.kill();
    server.stop();
    // It may go on with what was soaking while it has tries left; it must end at last-good.
    for _ in 0..3 {
        let daemon = world.device.spawn_daemon();
        std::thread::sleep(std::time::Duration::from_secs(2));
        daemon.kill();
    }
    world.device.sync();
    let environment = world.container("web")["Config"]["Env"].to_string();
    assert!(environment.contains("STATE=good"), "{environment}");
    assert_eq!(world.container("web")["State"]["Running"], true);
}

#[test]
fn a_journal_that_does_not_open_is_rebuilt_and_the_floor_holds() {
    let world = World::of_files("offline-journal");
    world.one_file("old\n");
    let first = world.release_and_sync("First");
    world.one_file("right\n");
    world.release_and_sync("Second");
    let mut ruined = 0;
    for path in evenkeel_tests::proc::listing(&world.device.state_dir()).keys() {
        // sled's own files.
        if path.ends_with("/db") || path.ends_with("/conf") || path.contains("/snap.") {
            let path = std::path::Path::new(path);
            if path.is_file() {
                std::fs::write(path, b"not a database").unwrap();
                ruined += 1;
            }
        }
    }
    assert!(ruined > 0, "no journal found under the state directory");
    world.repo.rewind(&first);
    let said = world.device.sync();
    assert_ne!(
        said.code,
        Some(0),
        "a rewound branch was taken: {}",
        said.text()
    );
    assert_eq!(
        world.device.read("/etc/one.conf").as_deref(),
        Some("right\n")
    );
}
