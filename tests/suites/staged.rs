//! Waves, halts and windows: devices that wait on purpose, each for its own time, and heal meanwhile.

use std::time::Duration;

use evenkeel_tests::clock::WallClock;
use evenkeel_tests::proc::{listing, sample};
use evenkeel_tests::{Device, GitHttp, wait_for};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::cli::evenkeel;
use crate::fleet::World;

const FILE: &str = "/etc/one.conf";

fn in_minutes(minutes: i64) -> Timestamp {
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
    now + SignedDuration::from_mins(minutes)
}

/// As a wall clock is set.
fn clock(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

impl World {
    fn rollout(&self, section: &str) -> &Self {
        self.repo.write(
            "fleet.toml",
            format!("format = 1\nname = \"test\"\n[rollout]\n{section}\n"),
        );
        self
    }

    fn turn_of(&self, device: &str) -> Timestamp {
        let work = self.repo.work();
        let arguments = [
            "rollout",
            work.to_str().unwrap(),
            "--json",
            "--device",
            device,
        ];
        let answer = evenkeel(&arguments).expect_code(0);
        let answer: Value = serde_json::from_str(&answer.stdout).unwrap();
        let curve = answer["rollouts"][0]["curve"].as_array().unwrap();
        let first = curve.iter().find(|point| point["begun"] == 1).unwrap();
        first["at"].as_str().unwrap().parse().unwrap()
    }

    fn another(&self, id: &str) -> Device {
        Device::new(id, &self.device.settings.url, &self.repo.allowed_signers())
    }
}

/// A pass that holds on purpose says so, and ends with 0.
#[track_caller]
fn held(device: &Device, word: &str) -> Value {
    let answer = device.json(&["sync", "--json"]);
    assert_eq!(answer["outcome"], "held", "{answer:#}");
    assert_eq!(answer["reason"], word, "{answer:#}");
    answer
}

#[test]
fn each_wave_takes_its_devices_and_no_others_and_a_halt_leaves_each_where_it_is() {
    let mut world = World::of_files("staged-waves");
    let server = GitHttp::http(world.repo.served());
    world.device.settings.url = server.url();
    world.one_file("old\n");
    world.repo.release("Old");
    let start = in_minutes(60);
    let waves = format!("id = \"one\"\nstart = {start}\nwaves = [30, 60, 100]\npause = \"1h\"");
    world.rollout(&waves);
    let hour = SignedDuration::from_hours(1);
    let begins = [start, start + hour, start + hour * 2];
    // A device for each wave, as the repository's own simulation tells them.
    let ids = begins.map(|at| {
        let mut all = (1..200).map(|number| format!("gw-{number}"));
        all.find(|id| world.turn_of(id) == at).unwrap()
    });
    let devices = ids.map(|id| {
        let device = world
            .another(&id)
            .with_clock(WallClock::at(&clock(start - hour)));
        device.sync().expect_code(0);
        device
    });
    let says = |expected: [&str; 3]| {
        let found = devices.each_ref().map(|device| device.read(FILE).unwrap());
        assert_eq!(found, expected.map(|word| format!("{word}\n")));
    };
    let at = |time: Timestamp| {
        for device in &devices {
            device.clock().set(&clock(time));
            device.sync().expect_code(0);
        }
    };
    says(["old"; 3]);
    world.one_file("new\n");
    let new = world.repo.release("New");
    for (device, turn) in devices.iter().zip(begins) {
        let answer = held(device, "wave");
        assert_eq!(answer["until"], turn.to_string(), "{answer:#}");
        let plan = device.plan_json();
        assert_eq!(plan["target"], "hold", "{plan:#}");
        assert_eq!(plan["held"]["until"], turn.to_string(), "{plan:#}");
        let status = device.status_json();
        assert_eq!(status["revision"]["verified"], new.as_str());
        assert_eq!(status["held"]["by"], "wave", "{status:#}");
        let (ready, reason) = device.condition("Ready");
        assert_eq!((ready.as_str(), reason.as_str()), ("False", "WaitsForTurn"));
        let said = device.evenkeel(&["status"]).expect_code(0);
        assert!(said.stdout.contains(&turn.to_string()), "{}", said.stdout);
    }
    at(start);
    says(["new", "old", "old"]);
    // Who waits is healed all the same.
    std::fs::write(devices[1].path(FILE), "broken\n").unwrap();
    at(start + SignedDuration::from_mins(59));
    says(["new", "old", "old"]);

    // Something is wrong: whoever has not begun does not begin, and whoever has it keeps it.
    world.rollout(&format!("{waves}\nhalt = true"));
    world.repo.release("Halt");
    at(begins[1]);
    says(["new", "old", "old"]);
    held(&devices[1], "halt");
    let first = devices[0].status_json();
    assert_eq!(first["revision"]["last_good"], world.repo.head().as_str());

    // The mended one goes on where the first one stood: the same slots, the same clock.
    world.rollout(&waves).one_file("mended\n");
    world.repo.release("Mended");
    at(begins[1]);
    says(["mended", "mended", "old"]);
    at(begins[2]);
    says(["mended"; 3]);
}

#[test]
fn a_running_device_takes_its_turn_when_it_comes_and_writes_nothing_until_then() {
    let mut world = World::of_files("staged-daemon");
    world.one_file("old\n").repo.release("Old");
    world.device.settings.interval = "1s".to_owned();
    world.device.sync().expect_code(0);
    world
        .rollout(&format!(
            "id = \"one\"\nstart = {}\nduration = \"1h\"",
            in_minutes(60)
        ))
        .one_file("new\n");
    world.repo.release("New");
    let daemon = world.device.spawn_daemon();
    let is_held =
        |world: &World| (world.device.status_json()["held"]["by"] == "wave").then_some(());
    wait_for("a hold", || is_held(&world));
    std::thread::sleep(Duration::from_secs(3));
    let (before, files) = (sample(daemon.pid()), listing(&world.device.state_dir()));
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(listing(&world.device.state_dir()), files);
    assert_eq!(sample(daemon.pid()).written, before.written);
    assert_eq!(daemon.stop(), Some(0));

    // It begins with its first poll after that: no later than an interval, and spread out as all polls are.
    world.device.settings.interval = "15s".to_owned();
    let start = Timestamp::from_second(Timestamp::now().as_second() + 12).unwrap();
    world.rollout(&format!("id = \"two\"\nstart = {start}\nwaves = [100]"));
    world.repo.release("Soon");
    let daemon = world.device.spawn_daemon();
    wait_for("a hold", || is_held(&world));
    assert_eq!(world.device.read(FILE).as_deref(), Some("old\n"));
    wait_for("the turn", || {
        (world.device.read(FILE).as_deref() == Some("new\n")).then_some(())
    });
    let late = Timestamp::now().as_second() - start.as_second();
    assert!((0..=25).contains(&late), "{late}");
    assert_eq!(daemon.stop(), Some(0));
}

/// The next time at which the clocks of a zone go forward, by an hour.
fn clocks_go_forward(zone: &TimeZone) -> Timestamp {
    let mut changes = zone.following(Timestamp::now());
    let forward = changes.find(|change| {
        let before = zone.to_offset(change.timestamp() - SignedDuration::from_secs(1));
        change.offset().seconds() - before.seconds() == 3600
    });
    forward.unwrap().timestamp()
}

#[test]
fn a_window_opens_by_the_clock_on_the_wall_and_a_person_may_go_ahead_where_the_owner_lets_it() {
    let mut world = World::of_files("staged-window");
    let zone = TimeZone::get("Europe/Vienna").unwrap();
    // From 02:00 to 03:00: half of this window is left out on that day.
    let change = clocks_go_forward(&zone);
    let second = SignedDuration::from_secs(1);
    let day = zone.to_datetime(change).strftime("%a").to_string();
    let window =
        format!("[window]\napply = [\"{day} 02:30-03:30\"]\ntimezone = \"Europe/Vienna\"\n");
    let before = clock(change - SignedDuration::from_mins(10));
    world.device = world
        .another("staged-window")
        .with_clock(WallClock::at(&before));
    world.one_file("one\n").repo.release("One");
    world.device.settings.more.clone_from(&window);
    // Nothing is good here yet: there is nothing to keep.
    world.device.sync().expect_code(0);
    assert_eq!(world.device.read(FILE).as_deref(), Some("one\n"));

    world.one_file("two\n").repo.release("Two");
    let answer = held(&world.device, "window");
    assert_eq!(answer["until"], change.to_string(), "{answer:#}");
    world.device.clock().set(&clock(change + second));
    world.device.sync().expect_code(0);
    assert_eq!(world.device.read(FILE).as_deref(), Some("two\n"));

    // Half an hour later it has closed for a week. A rollback does not mind.
    let closed = clock(change + SignedDuration::from_mins(31));
    world.device.clock().set(&closed);
    world.one_file("three\n").repo.release("Three");
    held(&world.device, "window");
    world.device.evenkeel(&["rollback"]).expect_code(0);
    assert_eq!(world.device.read(FILE).as_deref(), Some("one\n"));
    world.device.evenkeel(&["resume"]).expect_code(0);

    let refused = world.device.evenkeel(&["sync", "--now"]).expect_code(2);
    assert!(
        refused.text().contains("now = \"allow\""),
        "{}",
        refused.text()
    );
    assert_ne!(world.device.read(FILE).as_deref(), Some("three\n"));
    world.device.settings.more = format!("{window}now = \"allow\"\n");
    held(&world.device, "window");
    world.device.evenkeel(&["sync", "--now"]).expect_code(0);
    assert_eq!(world.device.read(FILE).as_deref(), Some("three\n"));

    world.device.settings.more = window.replace("Vienna", "Vineta");
    let refused = world.device.sync().expect_code(2);
    assert!(
        refused.text().contains("window.timezone: `Europe/Vineta`"),
        "{}",
        refused.text()
    );
}

#[test]
fn the_simulation_counts_and_lint_names_the_place_of_a_mistake() {
    let world = World::of_files("staged-curve");
    world.one_file("one\n");
    world.rollout(
        "id = \"one\"\nstart = 2026-03-01T08:00:00Z\nwaves = [5, 25, 100]\npause = \"1h\"",
    );
    world.repo.write(
        "groups/kiosks.toml",
        "match = { role = \"kiosk\" }\n[rollout]\nid = \"kiosks\"\nstart = \"2026-03-02T08:00:00+01:00\"\nduration = \"10h\"\n",
    );
    let work = world.repo.work();
    let work = work.to_str().unwrap();
    let json = |more: &[&str]| -> Value {
        let arguments = [&["rollout", work, "--json"], more].concat();
        let answer = evenkeel(&arguments).expect_code(0);
        serde_json::from_str(&answer.stdout).unwrap()
    };
    let all = json(&["--devices", "2000", "--at", "2026-03-01T09:30:00Z"]);
    let rollout = &all["rollouts"][0];
    let curve = rollout["curve"].as_array().unwrap();
    assert_eq!(curve.len(), 3, "{all:#}");
    for (point, (at, share)) in curve.iter().zip([
        ("2026-03-01T08:00:00Z", 5.0),
        ("2026-03-01T09:00:00Z", 25.0),
        ("2026-03-01T10:00:00Z", 100.0),
    ]) {
        assert_eq!(point["at"], at);
        assert_eq!(point["share"], share);
        let percent = point["percent"].as_f64().unwrap();
        assert!((percent - share).abs() < 6.0, "{all:#}");
    }
    assert_eq!(curve[2]["begun"], 2000);
    assert_eq!(rollout["begun"], curve[1]["begun"]);
    // The later document's section counts, whole.
    let kiosks = json(&["--devices", "100", "--group", "kiosks"]);
    assert_eq!(kiosks["rollouts"][0]["id"], "kiosks", "{kiosks:#}");
    assert_eq!(kiosks["rollouts"][0]["start"], "2026-03-02T07:00:00Z");
    assert_eq!(kiosks["rollouts"][0]["end"], "2026-03-02T17:00:00Z");

    world.rollout(
        "id = \"one\"\nstart = 2026-03-01T08:00:00Z\nwaves = [5, 4, 90]\npause = \"1h\"\nwave = 1",
    );
    let lint = evenkeel(&["lint", work]).expect_code(3);
    for place in ["fleet.toml:6:13", "fleet.toml:6:16", "fleet.toml:8:1"] {
        assert!(lint.text().contains(place), "{}", lint.text());
    }
}
