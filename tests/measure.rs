//! Prints what the agent costs while nothing changes: size, memory, threads, descriptors, processor time, bytes written.
//! Numbers to read, not to assert: `tests/measure.sh` builds the release binary and runs this beside real servers.
#![allow(
    clippy::print_stdout,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a table on stdout is what this is for; it reports by panicking"
)]

use std::time::{Duration, Instant};

use evenkeel_tests::proc::{Sample, listing, sample};
use evenkeel_tests::{Device, Engine, FleetRepo, GitHttp, wait_at_most};

/// Idle polls between the two looks. More shows a slow leak, and takes a second each.
const POLLS: usize = 30;

fn main() {
    let engine = std::env::var_os("EVENKEEL_TEST_DOCKER").map(|_| Engine::docker());
    let repo = FleetRepo::new();
    repo.write("fleet.toml", "format = 1\nname = \"measured\"\n")
        .write("groups/all.toml", "match = \"all\"\napps = [\"one\"]\n");
    let mut app = "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"one\\n\"\n".to_owned();
    if let Some(engine) = &engine {
        let image = engine.busybox_image("measured", &[]);
        app.push_str(&format!(
            "\n[services.one]\nimage = \"{image}\"\ncommand = [\"/bin/sleep\", \"86400\"]\nstop_grace_period = \"1s\"\n\n\
             [gate]\ndeadline = \"30s\"\nsoak = \"1s\"\n"
        ));
    }
    repo.write("apps/one/app.toml", app);
    repo.release("Measured");
    let server = GitHttp::http(repo.served());
    let mut device = Device::new("measured", &server.url(), &repo.allowed_signers());
    let _cleanup = engine.as_ref().map(|engine| engine.cleanup("measured"));
    if let Some(engine) = &engine {
        device = device.with_engine(engine);
    }
    let daemon = device.spawn_daemon();
    wait_at_most(Duration::from_secs(120), "the device to converge", || {
        let status = device.evenkeel(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status.stdout).ok()?;
        (status["revision"]["last_good"].is_string() && status["phase"] == "Idle").then_some(())
    });
    // The first polls after a change still do one-off work.
    polls(&server, 3);
    let (before, files_before, begun) = (
        sample(daemon.pid()),
        listing(&device.state_dir()),
        Instant::now(),
    );
    polls(&server, POLLS);
    let (after, files_after, took) = (
        sample(daemon.pid()),
        listing(&device.state_dir()),
        begun.elapsed(),
    );

    let binary = evenkeel_tests::device::binary();
    let size = std::fs::metadata(&binary).map_or(0, |meta| meta.len());
    println!("{}", binary.display());
    println!(
        "idle for {POLLS} polls in {} s, {}\n",
        took.as_secs(),
        if engine.is_some() {
            "one container and one file"
        } else {
            "one file, no engine"
        }
    );
    row("binary size", &mega(size), "aim: under 10 MB");
    row(
        "resident memory (RSS)",
        &mega(after.rss),
        "aim: under 12 MB",
    );
    row("  of it its own share (PSS)", &mega(after.pss), "");
    row("  of it private", &mega(after.private), "");
    row(
        "  grown during these polls",
        &mega(after.rss.saturating_sub(before.rss)),
        "",
    );
    row(
        "threads",
        &after.threads.to_string(),
        &change(before.threads, after.threads),
    );
    let count = |sample: &Sample| u64::try_from(sample.descriptors.len()).unwrap_or(u64::MAX);
    row(
        "open descriptors",
        &count(&after).to_string(),
        &change(count(&before), count(&after)),
    );
    row(
        "written to storage",
        &format!("{} bytes", after.written - before.written),
        "aim: 0",
    );
    row(
        "files changed in state_dir",
        &changed(&files_before, &files_after).to_string(),
        "aim: 0",
    );
    row(
        "processor time a poll",
        &format!(
            "{:.1} ms",
            (after.ticks - before.ticks) as f64 * 10.0 / POLLS as f64
        ),
        "in steps of 10 ms over all polls",
    );
    daemon.stop();
}

/// Waits for this many more polls to reach the server.
fn polls(server: &GitHttp, count: usize) {
    let start = server.polls();
    wait_at_most(
        Duration::from_secs(60 + 5 * count as u64),
        "idle polls",
        || (server.polls() >= start + count).then_some(()),
    );
}

fn changed<T: PartialEq>(
    before: &std::collections::BTreeMap<String, T>,
    after: &std::collections::BTreeMap<String, T>,
) -> usize {
    after
        .iter()
        .filter(|(path, state)| before.get(*path) != Some(state))
        .count()
        + before
            .keys()
            .filter(|path| !after.contains_key(*path))
            .count()
}

fn change(before: u64, after: u64) -> String {
    if before == after {
        "unchanged".to_owned()
    } else {
        format!("was {before}")
    }
}

fn mega(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

fn row(what: &str, value: &str, note: &str) {
    println!("{what:<30} {value:>14}   {note}");
}
