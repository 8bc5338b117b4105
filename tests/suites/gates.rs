//! Gates with real scripts, commands in real containers, a git server that goes away, and update locks.

use std::os::unix::fs::PermissionsExt as _;

use evenkeel_tests::{GitHttp, wait_for};

use crate::fleet::{GATE, World};

#[test]
fn a_greenboot_script_judges_a_change_unless_it_failed_before() {
    let world = World::of_files("gates-greenboot");
    let dir = world.device.path("/etc/greenboot/check/required.d");
    std::fs::create_dir_all(&dir).unwrap();
    let script = |text: &str| {
        let path = dir.join("10-conf.sh");
        std::fs::write(&path, format!("#!/bin/bash\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let conf = world.device.path("/etc/one.conf");
    let release = |content: &str| {
        world.apps(&["one"]).app(
            "one",
            format!(
                "[[files]]\npath = \"/etc/one.conf\"\ncontent = {content:?}\n[gate]\nsoak = \"0s\"\ndeadline = \"1s\"\n"
            ),
        );
        world.repo.release(content)
    };
    script(&format!("echo looked; grep -q good {}", conf.display()));
    release("good");
    world.device.sync().expect_code(0);
    release("bad");
    let refused = world.device.sync().expect_code(4);
    assert!(
        refused.text().contains("10-conf.sh: ended with 1: looked"),
        "{}",
        refused.text()
    );
    assert_eq!(world.device.read("/etc/one.conf").as_deref(), Some("good"));

    script("exit 7");
    release("other");
    world.device.sync().expect_code(0);
    assert_eq!(world.device.read("/etc/one.conf").as_deref(), Some("other"));
    let history = world.device.evenkeel(&["history"]);
    assert!(
        history.text().contains("10-conf.sh failed"),
        "{}",
        history.text()
    );
}

#[test]
fn a_change_after_which_the_remote_is_silent_goes_back_and_comes_when_it_speaks_again() {
    let mut world = World::of_files("gates-confirm");
    let mut server = GitHttp::http(world.repo.served());
    world.device.settings.url = server.url();
    world.device.settings.source = vec!["confirm = \"3s\"".to_owned()];
    let release = |content: &str| {
        world.apps(&["one"]).app(
            "one",
            format!(
                "[[files]]\npath = \"/etc/one.conf\"\ncontent = {content:?}\n[gate]\nsoak = \"2s\"\ndeadline = \"20s\"\n"
            ),
        );
        world.repo.release(content);
    };
    release("old");
    world.device.sync().expect_code(0);
    release("new");
    let device = &world.device;
    let answer = std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_for("the change", || {
                (device.read("/etc/one.conf").as_deref() == Some("new")).then_some(())
            });
            server.stop();
        });
        device.sync()
    });
    answer.expect_code(1);
    assert_eq!(device.read("/etc/one.conf").as_deref(), Some("old"));
    let history = device.evenkeel(&["history"]);
    assert!(
        history
            .text()
            .contains("the remote cannot be reached any more within 3s"),
        "{}",
        history.text()
    );
    server.resume();
    device.sync().expect_code(0);
    assert_eq!(device.read("/etc/one.conf").as_deref(), Some("new"));
}

#[test]
fn a_locked_service_is_not_restarted_until_a_person_says_so() {
    locked(&World::with_docker("gates-lock"));
}

#[test]
fn a_locked_service_is_not_restarted_under_podman_either() {
    locked(&World::with_podman("gates-lock-podman"));
}

fn locked(world: &World) {
    let release = |value: &str| {
        let web = format!(
            "[services.web]\nimage = \"{}\"\nstop_grace_period = \"1s\"\nenvironment = {{ A = \"{value}\" }}\n\
             command = [\"/bin/sh\", \"-c\", \"mkdir -p /tmp/balena; >/tmp/balena/updates.lock; exec /bin/sleep 86400\"]\n\
             [[checks]]\ncommand = [\"/bin/sh\", \"-c\", \"[ -e /tmp/balena/updates.lock ]\"]\nservice = \"web\"\n",
            world.image
        );
        world.apps(&["one"]).app("one", web + GATE);
        world.repo.release(value)
    };
    release("1");
    world.device.sync().expect_code(0);
    let before = world.container_id("web");

    release("2");
    let held = world.device.sync().expect_code(0);
    assert!(
        held.text()
            .contains("/tmp/balena/updates.lock in its container"),
        "{}",
        held.text()
    );
    assert_eq!(world.device.plan_json()["target"], "hold");
    assert_eq!(world.container_id("web"), before);

    world
        .device
        .evenkeel(&["sync", "--override-locks"])
        .expect_code(0);
    let web = world.container("web");
    assert!(web["Config"]["Env"].to_string().contains("A=2"), "{web:#}");

    // Its lock taken away by itself.
    let web = world.container_id("web");
    let (code, said) = world
        .engine()
        .exec(&web, &["/bin/rm", "/tmp/balena/updates.lock"]);
    assert_eq!(code, 0, "{said}");
    release("3");
    world.device.sync().expect_code(0);
    let web = world.container("web");
    assert!(web["Config"]["Env"].to_string().contains("A=3"), "{web:#}");
}

#[test]
fn a_lock_on_the_device_holds_its_app_and_one_that_cannot_be_seen_too() {
    let world = World::with_docker("gates-lock-path");
    let release = |value: &str| {
        let web = world.sleeper("web", &format!("environment = {{ A = \"{value}\" }}\n"));
        world
            .apps(&["one"])
            .app("one", format!("lock = \"/run/one/lock\"\n{web}{GATE}"));
        world.repo.release(value);
        world.device.sync()
    };
    release("1").expect_code(0);
    let lock = world.device.path("/run/one/lock");
    std::fs::create_dir_all(&lock).unwrap();
    let held = release("2").expect_code(0);
    assert!(
        held.text().contains("is locked by /run/one/lock"),
        "{}",
        held.text()
    );

    // A link out of its folder could lead anywhere.
    std::fs::remove_dir(&lock).unwrap();
    let dir = lock.parent().unwrap();
    std::fs::remove_dir(dir).unwrap();
    std::os::unix::fs::symlink("/nowhere", dir).unwrap();
    let held = world.device.sync().expect_code(0);
    assert!(held.text().contains("counts as locked"), "{}", held.text());

    std::fs::remove_file(dir).unwrap();
    world.device.sync().expect_code(0);
    let web = world.container("web");
    assert!(web["Config"]["Env"].to_string().contains("A=2"), "{web:#}");
}
