//! Metered links: what is counted, what waits, and what does not.

use std::time::{Duration, Instant};

use evenkeel_tests::{GitHttp, Registry, wait_for};
use serde_json::Value;

use crate::fleet::{GATE, World};

/// Text that does not compress below three quarters.
fn noise(bytes: usize) -> String {
    let mut state = 88_172_645_463_325_252_u64;
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(letters[usize::try_from(state >> 58).unwrap()])
        })
        .collect()
}

fn metered(world: &mut World, lines: &str) {
    world.device.settings.more = format!("[metered]\n{lines}\n");
}

fn spent(world: &World, kind: &str) -> u64 {
    let status = world.device.status_json();
    let budget = &status["metered"][kind]["budgets"][0];
    budget["spent"].as_u64().unwrap()
}

/// Bytes of bodies that a server has sent, and how many requests it took.
fn sent(server: &GitHttp) -> (u64, u64) {
    let requests = server.requests();
    let bytes = requests
        .iter()
        .filter_map(|line| line.split_whitespace().rev().nth(1)?.parse::<u64>().ok())
        .sum();
    (bytes, u64::try_from(requests.len()).unwrap())
}

#[test]
fn what_git_takes_is_counted_over_restarts_and_comes_no_faster_than_its_rate() {
    let mut world = World::of_files("metered-git");
    let server = GitHttp::http(world.repo.served());
    world.device.settings.url = server.url();
    metered(
        &mut world,
        "when = \"always\"\ngit = [\"5MB/day\", \"100MB/month\"]\nrate = \"200kB/s\"",
    );
    world.repo.write("noise", noise(600_000));
    world.one_file("1\n");
    world.repo.release("First");
    let began = Instant::now();
    world.device.sync().expect_code(0);
    let took = began.elapsed();
    let (bytes, requests) = sent(&server);
    assert!(bytes > 400_000, "{bytes}");
    let least = Duration::from_millis((bytes - 50_000) * 1000 / (200 * 1024));
    assert!(took >= least, "{bytes} bytes within {took:?}");
    let first = spent(&world, "git");
    assert!(
        (bytes..bytes + requests * 4096).contains(&first),
        "{first} of {bytes}"
    );
    // Each of these is another process.
    world.one_file("2\n");
    world.repo.release("Second");
    world.device.sync().expect_code(0);
    let (bytes, requests) = sent(&server);
    let second = spent(&world, "git");
    assert!(
        second > first && (bytes..bytes + requests * 4096).contains(&second),
        "{second} of {bytes}"
    );
    let status = world.device.evenkeel(&["status"]).expect_code(0).stdout;
    assert!(
        status.contains("The link is metered") && status.contains("of 5 MB this day"),
        "{status}"
    );
    assert!(status.contains("of 100 MB this month"), "{status}");
    // Nobody here says that the link is metered: then it is not.
    metered(&mut world, "git = \"5MB/day\"");
    world.device.sync().expect_code(0);
    let status: Value = world.device.status_json();
    assert_ne!(status["metered"]["link"], "metered", "{status:#}");
    assert_eq!(spent(&world, "git"), second);
}

#[test]
fn with_a_small_budget_the_daemon_polls_seldom_and_heals_at_each_pass() {
    let mut world = World::of_files("metered-polls");
    let server = GitHttp::http(world.repo.served());
    world.device.settings.url = server.url();
    metered(&mut world, "when = \"always\"\ngit = \"100kB/day\"");
    world.one_file("1\n");
    let first = world.repo.release("First");
    let daemon = world.device.spawn_daemon();
    world.device.wait_until_good(&first);
    let asked = server.requests().len();
    for _ in 0..3 {
        std::fs::write(world.device.path("/etc/one.conf"), "drift").unwrap();
        wait_for("the file to be healed", || {
            (world.device.read("/etc/one.conf").as_deref() == Some("1\n")).then_some(())
        });
    }
    assert_eq!(server.requests().len(), asked, "no poll was due");
    world.one_file("2\n");
    world.repo.release("Second");
    world.device.sync().expect_code(0);
    assert_eq!(world.device.read("/etc/one.conf").as_deref(), Some("2\n"));
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn an_image_waits_for_the_budget_and_a_change_without_one_does_not() {
    let mut world = World::with_docker("metered-images");
    let registry = Registry::start();
    let text = noise(32 * 1024 * 1024);
    let fresh = world
        .engine()
        .busybox_image("metered-images-large", &[("noise", &text)]);
    let pinned = registry.push(world.engine(), &fresh, "acme/metered");
    if world.engine().image(&fresh).is_some() {
        world.engine().remove_image(&fresh);
    }
    metered(&mut world, "when = \"always\"\nimages = \"4MB/month\"");
    world
        .apps(&["one"])
        .app("one", world.sleeper("web", "") + GATE);
    world.release_and_sync("First");
    let large = world.sleeper("web", "").replace(&world.image, &pinned) + GATE;
    world.app("one", large);
    world.repo.release("Large");
    let said = world.device.sync().expect_code(0);
    assert!(said.text().contains("metered.images"), "{}", said.text());
    let status = world.device.status_json();
    assert_eq!(status["held"]["by"], "metered", "{status:#}");
    assert!(world.engine().image(&pinned).is_none(), "it was given up");
    let plan = world.device.evenkeel(&["plan"]).expect_code(0);
    assert!(!plan.text().is_empty());
    // A change without a new image goes on; and with room for it the image comes, and is counted.
    let small = world.sleeper("web", "environment = { A = \"b\" }") + GATE;
    world.app("one", small);
    world.release_and_sync("Small");
    metered(&mut world, "when = \"always\"\nimages = \"200MB/month\"");
    let large = world.sleeper("web", "").replace(&world.image, &pinned) + GATE;
    world.app("one", large);
    world.release_and_sync("Large again");
    let counted = spent(&world, "images");
    assert!((20 << 20..60 << 20).contains(&counted), "{counted}");
    world.assert_converged();
}
