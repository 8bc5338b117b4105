//! Wall clocks that are wrong, and that are set while the agent runs: the real binary under libfaketime.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use evenkeel_tests::clock::WallClock;
use evenkeel_tests::tally::{Ended, Scale, Tally, only_seed};
use evenkeel_tests::{Device, FleetRepo, GitHttp, GitSsh};
use serde_json::Value;

use crate::fleet::World;

const FILE: &str = "/etc/one.conf";
/// A device without a battery for its clock.
const NO_RTC: &str = "1970-01-01 00:01:00";
const FAR: &str = "2099-06-01 12:00:00";
/// Polls come each second; this is for a busy machine.
const SOON: Duration = Duration::from_secs(40);
/// A gate that decides at once.
const QUICK: &str = "deadline = \"10s\"\nsoak = \"0s\"";

fn fleet(content: &str, more: &str, gate: &str) -> FleetRepo {
    let repo = FleetRepo::new();
    release(&repo, content, more, gate);
    repo
}

fn release(repo: &FleetRepo, content: &str, more: &str, gate: &str) -> String {
    repo.write("fleet.toml", "format = 1\nname = \"test\"\n")
        .write("groups/all.toml", "match = \"all\"\napps = [\"one\"]\n")
        .write(
            "apps/one/app.toml",
            format!("[[files]]\npath = {FILE:?}\ncontent = {content:?}\n{more}\n[gate]\n{gate}\n"),
        );
    repo.release(content)
}

fn device(id: &str, url: &str, repo: &FleetRepo, time: &str) -> Device {
    Device::new(id, url, &repo.allowed_signers()).with_clock(WallClock::at(time))
}

fn comes_to(device: &Device, content: &str, within: Duration) -> Result<Ended, String> {
    let end = Instant::now() + within;
    loop {
        if device.read(FILE).as_deref() == Some(content) {
            return Ok(Ended::New);
        }
        if Instant::now() >= end {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Err(format!(
        "{:?} and not {content:?} after {within:?}: {:#}",
        device.read(FILE),
        device.status_json()
    ))
}

/// The revision is last-good.
fn is_good(device: &Device, commit: &str, within: Duration) -> Result<(), String> {
    let end = Instant::now() + within;
    loop {
        let status = device.status_json();
        if status["revision"]["last_good"] == commit {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!("{commit} is not good: {status:#}"));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn error_of(status: &Value) -> String {
    let error = status["poll"]["error"].as_str();
    error.unwrap_or_default().to_owned()
}

#[test]
fn a_wrong_clock_is_named_where_tls_fails_for_it_and_the_device_goes_on_once_it_is_right() {
    let repo = fleet("old\n", "", QUICK);
    let web = GitHttp::https(repo.served());
    let mut tally = Tally::new("wrong clock, with TLS");
    for (time, words, year) in [
        (
            NO_RTC,
            "is not valid yet for this device's clock",
            "which says 1970-01-01",
        ),
        (
            FAR,
            "has expired for this device's clock",
            "which says 2099-06-01",
        ),
    ] {
        let mut device = device("clock-tls", &web.url(), &repo, time);
        device.settings.source = vec![format!("ca_file = {:?}", web.ca_file())];
        let named = |text: &str| {
            text.contains(words) && text.contains(year) && text.contains("set the clock")
        };
        // A new device has nothing to be at.
        let said = device.sync();
        tally.count(if said.code == Some(1) && named(&said.text()) {
            Ok(Ended::LastGood)
        } else {
            Err(format!("{:?}: {}", said.code, said.text()))
        });
        device.clock().set_right();
        let daemon = device.spawn_daemon();
        tally.count(comes_to(&device, "old\n", SOON));
        // One that runs already keeps healing, and says why nothing new comes.
        device.clock().set(time);
        // A kept connection has its TLS behind it.
        web.reload();
        let end = Instant::now() + SOON;
        let mut status = device.status_json();
        while !named(&error_of(&status)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(300));
            status = device.status_json();
        }
        release(&repo, "new\n", "", QUICK);
        std::fs::remove_file(device.path(FILE)).unwrap();
        let healed = comes_to(&device, "old\n", SOON);
        tally.count(if named(&error_of(&status)) {
            healed.map(|_| Ended::LastGood)
        } else {
            Err(format!("the clock is not named: {status:#}"))
        });
        device.clock().set_right();
        tally.count(comes_to(&device, "new\n", SOON));
        assert_eq!(daemon.stop(), Some(0));
        release(&repo, "old\n", "", QUICK);
    }
    tally.close();
}

#[test]
fn a_clock_of_1970_or_2099_does_not_matter_to_a_signed_commit_over_ssh_or_from_a_file() {
    let repo = fleet("old\n", "", QUICK);
    let ssh = GitSsh::start(&repo.bare());
    let mut tally = Tally::new("wrong clock, without TLS");
    for time in [NO_RTC, FAR] {
        for url in [ssh.url(), repo.file_url()] {
            let mut device = device("clock-plain", &url, &repo, time);
            if url.starts_with("ssh") {
                device.settings.source = vec![
                    format!("ssh_key = {:?}", ssh.user_key()),
                    format!("known_hosts = {:?}", ssh.known_hosts()),
                ];
            }
            for content in ["first\n", "second\n"] {
                release(&repo, content, "", QUICK);
                let said = device.sync();
                let ended = comes_to(&device, content, Duration::ZERO);
                tally.count(match said.code {
                    Some(0) => ended,
                    code => Err(format!("{url} at {time}: {code:?} {}", said.text())),
                });
            }
            std::fs::write(device.path(FILE), "by hand").unwrap();
            device.sync().expect_code(0);
            let ended = comes_to(&device, "second\n", Duration::ZERO);
            tally.count(ended.map(|_| Ended::LastGood));
        }
    }
    tally.close();
}

/// A time to jump to.
fn somewhen(chance: &mut fastrand::Rng) -> String {
    let years = [1970, 1999, 2015, 2024, 2026, 2027, 2038, 2039, 2060, 2099];
    format!(
        "{}-{:02}-{:02} {:02}:00:00",
        years[chance.usize(0..years.len())],
        chance.u32(1..13),
        chance.u32(1..29),
        chance.u32(0..24)
    )
}

/// `status`, for people, shows no wait of hours or years.
fn status_is_sane(device: &Device) -> Result<(), String> {
    let end = Instant::now() + SOON;
    let line = loop {
        let said = device.evenkeel(&["status"]).expect_code(0).stdout;
        let line = said
            .lines()
            .find(|line| line.starts_with("Last poll"))
            .ok_or_else(|| format!("no last poll: {said}"))?;
        // In the first pass there is no plan for a next one yet.
        if !line.ends_with("next not planned") || Instant::now() > end {
            break line.to_owned();
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let next = line.rsplit("next ").next().unwrap_or_default();
    let is_short = next.starts_with("in ") && !next.contains('d') && !next.contains('h');
    if next == "now" || is_short {
        Ok(())
    } else {
        Err(format!("status says: {line}"))
    }
}

#[test]
fn a_clock_that_jumps_years_both_ways_stops_nothing() {
    let seeds: Vec<u64> = match only_seed() {
        Some(seed) => vec![seed],
        None => (1..=Scale::asked().of(2, 60)).collect(),
    };
    let mut tally = Tally::new("a clock that jumps by years while it runs");
    for seed in seeds {
        let mut chance = fastrand::Rng::with_seed(seed);
        let repo = fleet("0\n", "", QUICK);
        let device = device(
            "clock-jumps",
            &repo.file_url(),
            &repo,
            &somewhen(&mut chance),
        );
        let mut daemon = device.spawn_daemon();
        let mut content = "0\n".to_owned();
        tally.count(comes_to(&device, &content, SOON));
        for jump in 1..=4 {
            let time = somewhen(&mut chance);
            let replay = |why: String| format!("seed {seed}, jump {jump} to {time}: {why}");
            device.clock().set(&time);
            let stays = status_is_sane(&device)
                .and_then(|()| comes_to(&device, &content, Duration::ZERO))
                .map(|_| Ended::LastGood);
            tally.count(stays.map_err(replay));
            // The next poll comes by the monotonic clock.
            let soaks = chance.bool();
            content = format!("{jump}\n");
            let gate = if soaks {
                "deadline = \"60s\"\nsoak = \"3s\""
            } else {
                QUICK
            };
            release(&repo, &content, "", gate);
            let ended = comes_to(&device, &content, SOON);
            if soaks {
                // And once more in the middle of its soak.
                device.clock().set(&somewhen(&mut chance));
            }
            let ended = ended.and_then(|ended| {
                is_good(&device, &repo.head(), SOON)?;
                Ok(ended)
            });
            tally.count(ended.map_err(replay));
        }
        assert!(daemon.runs());
        assert_eq!(daemon.stop(), Some(0));
    }
    tally.close();
}

/// How long a revision soaked, where the wall clock jumps ahead by years in the middle of it.
fn soaked(clock: WallClock) -> Result<Duration, String> {
    let soak = "deadline = \"2m\"\nsoak = \"8s\"";
    let repo = fleet("old\n", "", QUICK);
    let device =
        Device::new("clock-soak", &repo.file_url(), &repo.allowed_signers()).with_clock(clock);
    device.sync().expect_code(0);
    let daemon = device.spawn_daemon();
    let commit = release(&repo, "new\n", "", soak);
    comes_to(&device, "new\n", SOON)?;
    let began = Instant::now();
    device.clock().set("2050-01-01 00:00:00");
    is_good(&device, &commit, SOON)?;
    let took = began.elapsed();
    daemon.stop();
    Ok(took)
}

#[test]
fn a_soak_lasts_as_long_as_it_is_declared_whatever_the_wall_clock_says() {
    let long_enough = |took: Duration| {
        // The file was seen a moment after it was written.
        if took > Duration::from_secs(6) {
            Ok(Ended::New)
        } else {
            Err(format!("a soak of 8 s took {took:?}"))
        }
    };
    let mut tally = Tally::new("a clock that jumps in a soak");
    tally.count(soaked(WallClock::at("2026-11-20 00:00:00")).and_then(long_enough));
    tally.close();
    // What it would look like if durations were measured by a clock that jumps.
    let mut planted = Tally::new("a clock that jumps in a soak");
    let clock = WallClock::at("2026-11-20 00:00:00").with_a_monotonic_clock_that_jumps();
    planted.count(soaked(clock).and_then(long_enough));
    planted.close_planted("a monotonic clock that jumps, too");
}

#[test]
fn what_was_put_off_is_not_put_off_for_longer_when_the_clock_is_set_back() {
    let port = evenkeel_tests::ports::Port::free();
    let check = format!(
        "[[checks]]\ntcp = \"127.0.0.1:{}\"\ntimeout = \"1s\"\n",
        port.number()
    );
    let gate = "deadline = \"2s\"\nsoak = \"1s\"";
    let repo = fleet("new\n", &check, gate);
    let device = device(
        "clock-put-off",
        &repo.file_url(),
        &repo,
        "2030-01-01 12:00:00",
    );
    let daemon = device.spawn_daemon();
    let mut tally = Tally::new("a deferral, and a clock that is set back");
    let end = Instant::now() + SOON;
    let mut put_off = false;
    while Instant::now() < end && !put_off {
        std::thread::sleep(Duration::from_millis(300));
        let history = device.json(&["history", "--json"]);
        put_off = history.as_array().is_some_and(|all| !all.is_empty());
    }
    assert!(put_off, "{:#}", device.status_json());
    // It was put off for a minute, which goes by as long as it is: not after the twelve hours that come once more.
    device.clock().set("2030-01-01 00:00:00");
    let _listener = TcpListener::bind(("127.0.0.1", port.number())).unwrap();
    let good = is_good(&device, &repo.head(), Duration::from_secs(100));
    tally.count(good.map(|()| Ended::New));
    daemon.stop();
    tally.close();
}

#[test]
fn containers_stay_as_they_are_whatever_the_clock_says() {
    let mut world = World::with_docker("clock-docker");
    world.apps(&["one"]).app("one", world.judged("web", "good"));
    let nobody = Device::new(
        "unused",
        "file:///nowhere",
        std::path::Path::new("/dev/null"),
    );
    let device = std::mem::replace(&mut world.device, nobody);
    world.device = device.with_clock(WallClock::at(NO_RTC));
    let mut tally = Tally::new("containers, and a clock that jumps");
    world.repo.release("First");
    world.device.sync().expect_code(0);
    let id = world.container_id("web");
    let daemon = world.device.spawn_daemon();
    for time in [FAR, "1999-12-31 23:59:58", "2038-01-19 03:14:06", NO_RTC] {
        world.device.clock().set(time);
        std::thread::sleep(Duration::from_secs(3));
        let web = world.container("web");
        tally.count(
            if web["Id"] == id.as_str() && web["State"]["Running"] == true {
                Ok(Ended::LastGood)
            } else {
                Err(format!("at {time}: {web:#}"))
            },
        );
    }
    // And an update is one still, judged by health and not by time.
    let newer = world
        .judged("web", "good")
        .replace("STATE = \"good\"", "STATE = \"good\", NEW = \"1\"");
    world.app("one", newer);
    let commit = world.repo.release("Second");
    let good = is_good(&world.device, &commit, Duration::from_secs(60));
    tally.count(good.map(|()| Ended::New));
    assert_eq!(daemon.stop(), Some(0));
    tally.close();
}
