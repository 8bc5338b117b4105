//! Prints what a poll costs a git server over smart HTTP and a web server with a published tree, side by side: the same nginx,
//! the same repository, the same client. `tests/polls.sh` runs it; numbers to read, not to assert.
//!
//! Bytes are those of TCP, TLS and all, as a proxy in between counts them. The processor time is the servers' own, with
//! everything that they start, by a control group; it needs root.
#![allow(
    clippy::print_stdout,
    clippy::panic,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a table on stdout is what this is for; it reports by panicking"
)]

use std::path::Path;
use std::process::Command;

use evenkeel::adapter::git::GitSource;
use evenkeel::port::source::Source as _;
use evenkeel_schema::agent_config::SourceSection;
use evenkeel_tests::control_group::Group;
use evenkeel_tests::device::binary;
use evenkeel_tests::link::Link;
use evenkeel_tests::process::run;
use evenkeel_tests::{FleetRepo, GitHttp, HttpOptions, PATIENCE, short_tempdir};

/// Polls of each kind.
const POLLS: u32 = 200;
/// A day of polls at the default interval.
const A_DAY: f64 = 24.0 * 60.0;

/// What one poll cost.
struct Cost {
    up: f64,
    down: f64,
    requests: f64,
    cpu: Option<f64>,
}

struct Scene<'a> {
    server: &'a GitHttp,
    link: &'a Link,
    group: Option<&'a Group>,
    state: &'a Path,
}

impl Scene<'_> {
    fn section(&self, path: &str, prefix: &str) -> SourceSection {
        let mut section = SourceSection::at(
            format!("{prefix}https://localhost:{}/{path}", self.link.port()),
            "main",
        );
        section.ca_file = Some(self.server.ca_file());
        section
    }

    /// Polls over one connection, or over a new one each time.
    fn polls(&self, section: &SourceSection, name: &str, is_kept: bool) -> Cost {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let store = self.state.join(name);
        let source = || GitSource::new(section, &store).unwrap();
        let kept = source();
        let tip = runtime.block_on(kept.fetch(None)).unwrap().tip.id;
        runtime.block_on(kept.fetch(Some(&tip))).unwrap();
        self.link.mend();
        let (asked, cpu) = (self.server.requests().len(), self.group.map(Group::spent));
        for _ in 0..POLLS {
            let done = if is_kept {
                runtime.block_on(kept.fetch(Some(&tip)))
            } else {
                runtime.block_on(source().fetch(Some(&tip)))
            };
            done.unwrap();
        }
        let each = |whole: f64| whole / f64::from(POLLS);
        let cpu = cpu
            .zip(self.group.map(Group::spent))
            .map(|(before, after)| each((after - before).as_secs_f64() * 1e3));
        let (up, down) = self.link.passed();
        Cost {
            up: each(up as f64),
            down: each(down as f64),
            requests: each((self.server.requests().len() - asked) as f64),
            cpu,
        }
    }
}

fn main() {
    let repo = FleetRepo::new();
    repo.write("fleet.toml", "format = 1\nname = \"measured\"\n");
    for number in 0..20 {
        repo.write("apps/one/app.toml", format!("# {number}\n"));
        repo.release(&number.to_string());
    }
    let group = Group::new("polls");
    let options = HttpOptions {
        group: group.as_ref().map(Group::path),
        ..HttpOptions::default()
    };
    let server = GitHttp::start(repo.served(), options);
    let mut publish = Command::new(binary());
    publish
        .args(["publish", "--branch", "main", "--repo"])
        .arg(repo.work())
        .arg("--out")
        .arg(server.files().join("tree"));
    run(&mut publish, PATIENCE).expect_code(0);
    let link = Link::to(server.port());
    let state = short_tempdir("polls");
    let scene = Scene {
        server: &server,
        link: &link,
        group: group.as_ref(),
        state: state.path(),
    };
    let git = scene.section("fleet.git", "");
    let tree = scene.section("files/tree/", "static+");
    println!(
        "{POLLS} polls of each kind, nothing new, nginx over TLS on this machine\n\n\
         | poll of | connection | requests | bytes up | bytes down | server CPU ms |\n| --- | --- | --- | --- | --- | --- |"
    );
    let mut rows = Vec::new();
    for (what, section) in [("git over smart HTTP", &git), ("published tree", &tree)] {
        for (how, is_kept) in [("kept", true), ("new each time", false)] {
            let cost = scene.polls(section, &format!("{}-{is_kept}", what.len()), is_kept);
            println!(
                "| {what} | {how} | {:.1} | {:.0} | {:.0} | {} |",
                cost.requests,
                cost.up,
                cost.down,
                cost.cpu
                    .map_or_else(|| "not measured".to_owned(), |ms| format!("{ms:.2}"))
            );
            rows.push((what, how, cost));
        }
    }
    println!(
        "\nA million devices at an interval of 60 s, by these:\n\n\
         | poll of | connection | requests a second | requests a day | GB a day, up + down | cores busy |\n| --- | --- | --- | --- | --- | --- |"
    );
    for (what, how, cost) in rows {
        let a_second = cost.requests * 1e6 / 60.0;
        println!(
            "| {what} | {how} | {a_second:.0} | {:.2e} | {:.0} + {:.0} | {} |",
            cost.requests * A_DAY * 1e6,
            cost.up * A_DAY / 1e3,
            cost.down * A_DAY / 1e3,
            cost.cpu.map_or_else(
                || "not measured".to_owned(),
                |ms| format!("{:.1}", ms * 1e6 / 60_000.0)
            )
        );
    }
    // The group goes once nothing is in it.
    drop(server);
    drop(group);
}
