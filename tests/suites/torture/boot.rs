//! An agent that is killed right after each of its starts: it does less and less, then nothing but say so, and comes back by
//! itself. And the file that counts the starts is gone while all is well.

use std::time::{Duration, Instant};

use evenkeel_tests::tally::{Ended, Tally};
use evenkeel_tests::{wait_at_most, wait_for};

use crate::fleet::World;

/// More starts than it can take: a kill that comes too late, on a loaded machine, lets a pass end.
const STARTS: u32 = 60;
/// Half a minute idle, half a minute at last-good, and what a loaded machine takes beside.
const BACK_WITHIN: Duration = Duration::from_secs(240);
/// The gate of a file judges at once.
const SHORT: &str = "[gate]\ndeadline = \"10s\"\nsoak = \"0s\"\n";

fn app(value: &str) -> String {
    format!("[[files]]\npath = \"/etc/one.conf\"\ncontent = \"{value}\\n\"\n{SHORT}")
}

/// What is counted: whole starts, and those at last-good.
fn counted(world: &World) -> Option<(u32, u32)> {
    let text = std::fs::read_to_string(world.device.state_dir().join("starts")).ok()?;
    let number = |key: &str| {
        let mut words = text.split_whitespace();
        words.find_map(|word| word.strip_prefix(key))?.parse().ok()
    };
    Some((number("whole=")?, number("at-last-good=")?))
}

/// Starts the agent and kills it as soon as the start is counted.
fn start_and_kill(world: &World) -> Option<(u32, u32)> {
    let before = counted(world);
    let daemon = world.device.spawn_daemon();
    let begun = Instant::now();
    while counted(world) == before && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_micros(500));
    }
    daemon.kill();
    counted(world)
}

fn killed_at_every_start() -> Result<Ended, String> {
    let world = World::of_files("boot-loop");
    world.apps(&["one"]).app("one", app("1"));
    world.release_and_sync("First");
    if counted(&world).is_some() {
        return Err("a pass without a daemon is counted".to_owned());
    }
    let mut seen = Vec::new();
    for _ in 0..STARTS {
        let now = start_and_kill(&world);
        seen.push(now);
        if now == Some((3, 3)) {
            break;
        }
    }
    let sequence = [(1, 0), (2, 0), (3, 0), (3, 1), (3, 2), (3, 3)].map(Some);
    if !seen.ends_with(&sequence[3..]) || !sequence.iter().all(|one| seen.contains(one)) {
        return Err(format!("the starts were counted so: {seen:?}"));
    }
    // It is stuck now: it says so, and does nothing else.
    world.app("one", app("2"));
    let second = world.repo.release("Second");
    let mut daemon = world.device.spawn_daemon();
    let stalled = wait_for("the agent to say that it is stuck", || {
        let status = world.device.status_json();
        let conditions = status["conditions"].as_array()?.clone();
        conditions
            .into_iter()
            .find(|one| one["type"] == "Stalled" && one["status"] == "True")
    });
    if stalled["reason"] != "UncleanStarts"
        || !stalled["message"].to_string().contains("evenkeel sync")
    {
        return Err(format!("it says {stalled:#}"));
    }
    world.device.evenkeel(&["history"]).expect_code(1);
    if !daemon.runs() || world.device.read("/etc/one.conf").as_deref() != Some("1\n") {
        return Err(format!("it is not idle: {}", daemon.log()));
    }
    // What made it end is over: first it keeps what is good, then it goes on.
    wait_at_most(BACK_WITHIN, "the second revision", || {
        (world.device.read("/etc/one.conf").as_deref() == Some("2\n")).then_some(())
    });
    wait_for("the count to be forgotten", || {
        counted(&world).is_none().then_some(())
    });
    let status = world.device.status_json();
    if status["revision"]["last_good"] != second.as_str() {
        return Err(format!("{status:#}"));
    }
    let log = daemon.log();
    let said = |text: &str| log.matches(text).count();
    if said("takes nothing new for now") == 0 || said("does nothing for now") == 0 {
        return Err(format!("its log does not say it: {log}"));
    }
    match daemon.stop() {
        Some(0) => Ok(Ended::New),
        code => Err(format!("it stopped with {code:?}")),
    }
}

#[test]
fn an_agent_that_is_killed_at_every_start_does_less_and_less_says_so_and_comes_back() {
    let mut tally = Tally::new("killed right after every start");
    tally.count(killed_at_every_start());
    tally.close();
}
