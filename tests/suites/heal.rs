//! What was changed by hand is put right on the next pass.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::fleet::{GATE, QUICK, World};

#[test]
fn a_file_that_was_edited_deleted_or_opened_up_is_put_right() {
    let world = World::of_files("heal-file");
    world.apps(&["one"]).app(
        "one",
        format!(
            "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"right\\n\"\nmode = \"0600\"\n{QUICK}"
        ),
    );
    world.release_and_sync("First");
    let path = world.device.path("/etc/one.conf");
    let right = || {
        let meta = std::fs::metadata(&path).unwrap();
        (
            std::fs::read_to_string(&path).unwrap(),
            meta.permissions().mode() & 0o7777,
        )
    };

    std::fs::write(&path, "wrong\n").unwrap();
    assert!(
        world.device.plan_json()["steps"]
            .to_string()
            .contains("/etc/one.conf"),
        "plan does not see the drift"
    );
    world.device.sync().expect_code(0);
    assert_eq!(right(), ("right\n".to_owned(), 0o600));

    std::fs::remove_file(&path).unwrap();
    world.device.sync().expect_code(0);
    assert_eq!(right(), ("right\n".to_owned(), 0o600));

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    world.device.sync().expect_code(0);
    assert_eq!(right(), ("right\n".to_owned(), 0o600));

    // Somebody put a link there: the file comes back, what it pointed at stays.
    let elsewhere = world.device.scratch().join("elsewhere");
    std::fs::write(&elsewhere, "not ours").unwrap();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    world.device.sync().expect_code(0);
    assert!(!std::fs::symlink_metadata(&path).unwrap().is_symlink());
    assert_eq!(right(), ("right\n".to_owned(), 0o600));
    assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "not ours");
    world.assert_converged();
}

#[test]
fn a_container_that_was_stopped_removed_or_made_otherwise_is_put_right() {
    let world = World::with_docker("heal-container");
    world.apps(&["one"]).app(
        "one",
        world.sleeper("web", "environment = { A = \"right\" }\n")
            + &world.sleeper("side", "")
            + GATE,
    );
    world.release_and_sync("First");
    let side = world.container_id("side");
    let healed = || {
        let web = world.container("web");
        assert_eq!(web["State"]["Running"], true);
        assert!(web["Config"]["Env"].to_string().contains("A=right"));
        assert_eq!(
            world.container_id("side"),
            side,
            "the other container was touched"
        );
        world.assert_converged();
    };

    world.engine().stop(&world.container_id("web"));
    world.device.sync().expect_code(0);
    healed();

    world.engine().remove(&world.container_id("web"));
    world.device.sync().expect_code(0);
    healed();

    // Recreated by hand under its name, with its labels, but with other settings.
    let web = world.container("web");
    let name = web["Name"]
        .as_str()
        .unwrap()
        .trim_start_matches('/')
        .to_owned();
    world.engine().remove(&name);
    world.engine().create_stranger(
        &name,
        &json!({
            "Image": world.image,
            "Cmd": ["/bin/sleep", "86400"],
            "Env": ["A=wrong"],
            "Labels": web["Config"]["Labels"],
        }),
    );
    world.device.sync().expect_code(0);
    healed();
}

#[test]
fn drift_heals_under_a_running_agent_too() {
    let world = World::of_files("heal-daemon");
    world.one_file("right\n");
    world.repo.release("First");
    let daemon = world.device.spawn_daemon();
    let is_right =
        || (world.device.read("/etc/one.conf").as_deref() == Some("right\n")).then_some(());
    evenkeel_tests::wait_for("the file to appear", is_right);
    std::fs::write(world.device.path("/etc/one.conf"), "wrong\n").unwrap();
    evenkeel_tests::wait_for("the file to be put right", is_right);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn healing_goes_on_while_the_tip_is_refused() {
    let world = World::of_files("heal-refused");
    world.one_file("right\n");
    world.release_and_sync("First");
    world.one_file("evil\n");
    world.repo.commit_unsigned("Unsigned");
    world.repo.push();
    std::fs::write(world.device.path("/etc/one.conf"), "wrong\n").unwrap();
    world.device.sync().expect_code(3);
    assert_eq!(
        world.device.read("/etc/one.conf").as_deref(),
        Some("right\n")
    );
}

#[test]
fn a_container_paused_by_hand_runs_again_on_podman_which_stops_no_paused_one() {
    let world = World::with_podman("heal-paused-podman");
    let app = |value: &str| {
        world.sleeper("web", &format!("environment = {{ A = \"{value}\" }}\n")) + GATE
    };
    world.apps(&["one"]).app("one", app("1"));
    world.release_and_sync("First");
    let pause = || {
        let path = format!("/containers/{}/pause", world.container_id("web"));
        assert_eq!(world.engine().call("POST", &path, None).0, 204);
    };
    pause();
    world.device.sync().expect_code(0);
    assert_eq!(world.container("web")["State"]["Status"], "running");

    // An update takes a paused one away, too.
    world.app("one", app("2"));
    pause();
    world.release_and_sync("Second");
    assert_eq!(world.container("web")["State"]["Status"], "running");
    world.assert_converged();
}

#[test]
fn a_device_whose_trust_files_are_damaged_keeps_what_is_good_and_takes_nothing_new() {
    let world = World::of_files("heal-untrusted");
    world.one_file("one");
    world.release_and_sync("First");
    let signers = world.device.settings.allowed_signers.clone();
    let good = std::fs::read(&signers).unwrap();
    world.one_file("two");
    let two = world.repo.release("Second");
    for damage in [&b""[..], b"\0\0\0\0", b"# nobody\n"] {
        std::fs::write(&signers, damage).unwrap();
        std::fs::write(world.device.path("/etc/one.conf"), "by hand").unwrap();
        let said = world.device.sync().expect_code(2);
        assert!(
            said.text().contains("trust.allowed_signers")
                || said.text().contains("allowed_signers"),
            "{}",
            said.text()
        );
        assert_eq!(world.device.read("/etc/one.conf").as_deref(), Some("one"));
    }
    // The daemon starts too, heals and waits.
    std::fs::remove_file(&signers).unwrap();
    std::fs::remove_file(world.device.path("/etc/one.conf")).unwrap();
    let daemon = world.device.spawn_daemon();
    evenkeel_tests::wait_for("the file to come back", || {
        (world.device.read("/etc/one.conf").as_deref() == Some("one")).then_some(())
    });
    assert_eq!(world.device.condition("Verified").0, "Unknown");
    std::fs::write(&signers, good).unwrap();
    evenkeel_tests::wait_for("the second revision", || {
        (world.device.status_json()["revision"]["last_good"] == two.as_str()).then_some(())
    });
    assert_eq!(world.device.read("/etc/one.conf").as_deref(), Some("two"));
    assert_eq!(daemon.stop(), Some(0));
}
