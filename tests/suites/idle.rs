//! An idle poll writes nothing to disk and leaves nothing open.

use evenkeel_tests::proc::{listing, sample};
use evenkeel_tests::{GitHttp, wait_for};

use crate::fleet::{GATE, World};

#[test]
fn an_idle_poll_writes_nothing_and_leaves_no_thread_and_no_descriptor() {
    let mut world = World::with_docker("idle-poll");
    let server = GitHttp::http(world.repo.served());
    world.device.settings.url = server.url();
    world.apps(&["one"]).app(
        "one",
        world.sleeper("web", "")
            + "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"1\\n\"\n"
            + GATE,
    );
    let first = world.repo.release("First");
    let daemon = world.device.spawn_daemon();
    world.device.wait_until_good(&first);
    let polls = |count: usize| {
        let seen = || {
            server
                .requests()
                .iter()
                .filter(|line| line.starts_with("POST"))
                .count()
        };
        let start = seen();
        wait_for("idle polls", || (seen() >= start + count).then_some(()));
    };
    // The first ones after a change may still tidy up, and short-lived threads end after a second.
    polls(3);
    let (before, files) = (sample(daemon.pid()), listing(&world.device.state_dir()));
    polls(8);
    let after = sample(daemon.pid());
    assert_eq!(
        listing(&world.device.state_dir()),
        files,
        "an idle poll changed the state directory"
    );
    assert_eq!(
        after.written, before.written,
        "an idle poll wrote to storage"
    );
    // Between two polls, so that a connection that is in use just now is not counted.
    let settled = wait_for("the descriptors and threads of before", || {
        let now = sample(daemon.pid());
        (now.descriptors.len() <= before.descriptors.len() && now.threads <= before.threads)
            .then_some(now)
    });
    assert!(settled.threads <= before.threads);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_hundred_polls_that_fail_leave_nothing_either() {
    let mut world = World::of_files("idle-failing");
    let mut server = GitHttp::http(world.repo.served());
    world.device.settings.url = server.url();
    world.one_file("1\n");
    let first = world.repo.release("First");
    let daemon = world.device.spawn_daemon();
    wait_for("the first revision to be good", || {
        (world.device.status_json()["revision"]["last_good"] == first.as_str()).then_some(())
    });
    server.stop();
    // Back-off would make this long: each signal is a poll.
    let poll = |count: usize| {
        for _ in 0..count {
            daemon.signal("HUP");
            std::thread::sleep(std::time::Duration::from_millis(60));
        }
        std::thread::sleep(std::time::Duration::from_secs(2));
    };
    poll(10);
    let before = sample(daemon.pid());
    poll(100);
    let after = sample(daemon.pid());
    assert!(
        after.descriptors.len() <= before.descriptors.len() + 1,
        "{:?}\n{:?}",
        before.descriptors,
        after.descriptors
    );
    assert!(after.threads <= before.threads + 1);
    assert_eq!(daemon.stop(), Some(0));
}

/// The lines that a daemon logs while it is sent to its remote so often, after it has settled.
fn logged_meanwhile(daemon: &evenkeel_tests::Daemon, polls: usize) -> Vec<String> {
    let pass = |count: usize| {
        for _ in 0..count {
            daemon.signal("HUP");
            std::thread::sleep(std::time::Duration::from_millis(250));
        }
    };
    pass(6);
    let before = daemon.log().lines().count();
    pass(polls);
    daemon
        .log()
        .lines()
        .skip(before)
        .map(str::to_owned)
        .collect()
}

#[test]
fn what_stays_wrong_is_not_logged_at_each_poll() {
    let mut world = World::of_files("idle-quiet");
    let mut server = GitHttp::http(world.repo.served());
    world.device.settings.url = server.url();
    world.device.settings.interval = "30s".to_owned();
    world.one_file("1\n");
    let first = world.repo.release("First");
    let daemon = world.device.spawn_daemon();
    wait_for("the first revision to be good", || {
        (world.device.status_json()["revision"]["last_good"] == first.as_str()).then_some(())
    });
    let quiet = |what: &str| {
        let lines = logged_meanwhile(&daemon, 6);
        assert!(lines.is_empty(), "{what}: {lines:#?}");
    };
    let requests = server.requests().len();
    quiet("converged");
    assert!(server.requests().len() > requests + 4, "it was sent there");
    // An engine that is not there, and an app that needs one.
    world.app(
        "one",
        "[services.web]\nimage = \"busybox@sha256:0000000000000000000000000000000000000000000000000000000000000000\"\n",
    );
    let second = world.repo.release("Second");
    quiet("no engine");
    world.app("one", "[[files]]\npath = \"/proc/x\"\ncontent = \"x\"\n");
    world.repo.release("Third");
    quiet("guard");
    world.app("one", "nonsense = 1\n");
    world.repo.release("Fourth");
    quiet("schema");
    world.repo.commit_unsigned("Unsigned");
    world.repo.push();
    quiet("unsigned");
    world.repo.rewind(&second);
    server.stop();
    quiet("unreachable");
    world.device.evenkeel(&["pause"]).expect_code(0);
    quiet("paused");
    assert_eq!(daemon.stop(), Some(0));
}
