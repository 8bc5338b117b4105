//! A device whose branch declares another version of the agent: with a real server, real processes and the real starter.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use evenkeel_tests::wait_for;

use super::scene::sha256;
use super::scene_whole::{ARCH, Does, Fleet};

#[test]
fn a_declared_agent_is_fetched_started_and_proven_and_the_next_one_after_it() {
    let fleet = Fleet::new("upgrade");
    fleet.world.repo.release("First");
    let supervised = fleet.supervise();
    wait_for("the first revision", || {
        fleet.world.device.read("/etc/one.conf")
    });
    wait_for("the agent to say its version", || {
        (fleet.told() == ("0.1.0".into(), String::new(), String::new())).then_some(())
    });
    for (version, kept) in [("0.2.0", 1), ("0.3.0", 2), ("0.4.0", 2), ("0.2.5", 2)] {
        fleet.release_agent(version, Does::Its);
        fleet.settles_at(version);
        let current = fleet.link("current").unwrap();
        assert!(current.starts_with(&format!("{version}-")), "{current}");
        let generations = std::fs::read_dir(fleet.dir())
            .unwrap()
            .flatten()
            .filter(|entry| entry.file_type().unwrap().is_dir())
            .count();
        assert_eq!(generations, kept, "two generations are kept");
        let history = fleet.history();
        assert!(
            history[0].contains(version) && history[0].contains("stays"),
            "{history:?}"
        );
        assert!(history[1].contains(version) && history[1].contains("on trial"));
    }
    assert!(fleet.link("previous").unwrap().starts_with("0.4.0-"));
    let said = fleet.world.device.evenkeel(&["status"]).expect_code(0);
    assert!(said.stdout.contains("agent 0.2.5\n"), "{}", said.stdout);
    // It goes on with its work as if nothing had been.
    fleet.converges_to("2\n");
    drop(supervised);
}

/// An update that must not stay, and what `status` says then. The device goes on, and takes the next one.
fn comes_back(id: &str, does: Does, deadline: u32, words: &str) {
    let mut fleet = Fleet::new(id);
    fleet.deadline = deadline;
    fleet.world.repo.release("First");
    let supervised = fleet.supervise();
    fleet.release_agent("0.2.0", does);
    fleet.says_why(words);
    let (runs, declared, _) = fleet.told();
    assert_eq!((runs.as_str(), declared.as_str()), ("0.1.0", "0.2.0"));
    assert_eq!((fleet.link("next"), fleet.link("current")), (None, None));
    // It is not tried again while the declaration stays, whatever else changes.
    let starts = supervised.log().matches("is on trial").count();
    fleet.converges_to("2\n");
    fleet.converges_to("3\n");
    assert_eq!(supervised.log().matches("is on trial").count(), starts);
    assert!(
        fleet.history()[0].contains("0.2.0"),
        "{:?}",
        fleet.history()
    );
    fleet.release_agent("0.2.1", Does::Its);
    fleet.settles_at("0.2.1");
}

#[test]
fn an_agent_that_ends_at_once_is_put_back_and_not_tried_again() {
    comes_back(
        "upgrade-ends",
        Does::Ends,
        50,
        "ended in each of its starts",
    );
}

#[test]
fn an_agent_that_hangs_is_put_back_at_its_deadline() {
    comes_back("upgrade-hangs", Does::Hangs, 2, "within its deadline");
}

#[test]
fn an_agent_that_runs_and_never_reaches_the_remote_is_put_back_at_its_deadline() {
    comes_back("upgrade-deaf", Does::NeverReaches, 6, "within its deadline");
}

#[test]
fn what_is_not_what_is_declared_is_never_started_and_says_why() {
    let fleet = Fleet::new("upgrade-wrong");
    fleet.world.repo.release("First");
    let supervised = fleet.supervise();
    let text = fleet.binary("0.2.0", Does::Its);
    let sum = sha256(text.as_bytes());
    fleet.serve("good", text.as_bytes());
    let url = |name: &str| format!("url = {:?}", fleet.server.url_of(name));
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.resize(4096, 0);
    fleet.serve("elf", &elf);
    fleet.serve("silent", b"#!/bin/sh\nexit 3\n");
    for (version, place, sum, words) in [
        (
            "0.2.0",
            url("files/good"),
            sha256(b"another"),
            "is not what is declared",
        ),
        (
            "0.2.1",
            url("files/good"),
            sum.clone(),
            "says that it is `evenkeel 0.2.0`",
        ),
        (
            "0.2.0",
            url("files/elf"),
            sha256(&elf),
            "cannot be run here",
        ),
        (
            "0.2.0",
            url("files/silent"),
            sha256(b"#!/bin/sh\nexit 3\n"),
            "`--version` ends with",
        ),
        ("0.2.0", url("files/gone"), sum.clone(), "HTTP status 404"),
        (
            "0.2.0",
            "path = \"agent/none\"".to_owned(),
            sum.clone(),
            "no file `agent/none`",
        ),
        (
            "0.2.0",
            "url = \"https://127.0.0.1:9/x\"".to_owned(),
            sum.clone(),
            "refused",
        ),
    ] {
        fleet.declare(&Fleet::agent(version, &place, &sum));
        fleet.says_why(words);
        assert_eq!(
            (fleet.told().0.as_str(), fleet.link("next")),
            ("0.1.0", None)
        );
    }
    let other = Fleet::agent("0.2.0", &url("files/good"), &sum).replace(ARCH, "z80");
    fleet.declare(&other);
    fleet.says_why(&format!("[agent.binaries.{ARCH}]"));
    assert!(
        !supervised.log().contains("is on trial"),
        "{}",
        supervised.log()
    );
    // All the while it goes on, and the next declaration is as good as the first.
    fleet.converges_to("2\n");
    fleet.declare(&Fleet::agent("0.2.0", &url("files/good"), &sum));
    fleet.settles_at("0.2.0");
}

#[test]
fn a_download_goes_on_where_it_broke_off_and_comes_from_the_repository_just_as_well() {
    let fleet = Fleet::new("upgrade-resume");
    fleet.world.repo.release("First");
    let text = fleet.binary("0.2.0", Does::Its) + &format!("# {}\n", "x".repeat(100_000));
    let sum = sha256(text.as_bytes());
    fleet.serve("0.2.0", text.as_bytes());
    // What an agent leaves that ended in the middle of it.
    let part = fleet.dir().join(format!("0.2.0-{}.part", &sum[..12]));
    fleet.world.device.sync().expect_code(0);
    std::fs::create_dir_all(fleet.dir()).unwrap();
    std::fs::write(&part, &text.as_bytes()[..70_000]).unwrap();
    let url = format!("url = {:?}", fleet.server.url_of("files/0.2.0"));
    fleet.declare(&Fleet::agent("0.2.0", &url, &sum));
    let supervised = fleet.supervise();
    fleet.settles_at("0.2.0");
    let asked: Vec<String> = fleet
        .server
        .requests()
        .into_iter()
        .filter(|line| line.contains("/files/"))
        .collect();
    let rest = text.len() - 70_000;
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].contains(&format!(" 206 {rest} ")), "{asked:?}");

    let text = fleet.binary("0.3.0", Does::Its);
    fleet.world.repo.write("agent/0.3.0", &text);
    let place = "path = \"agent/0.3.0\"";
    fleet.declare(&Fleet::agent("0.3.0", place, &sha256(text.as_bytes())));
    fleet.settles_at("0.3.0");
    drop(supervised);
}

#[test]
fn a_download_that_stalls_holds_nothing_up_and_gives_way_to_another_declaration_in_time() {
    let fleet = Fleet::new("upgrade-stalls");
    fleet.world.repo.release("First");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n#!/bin/sh");
            open.push(stream);
        }
    });
    let supervised = fleet.supervise();
    let place = format!("url = \"http://127.0.0.1:{port}/x\"");
    fleet.declare(&Fleet::agent("0.2.0", &place, &sha256(b"x")));
    fleet.says_why("being downloaded");
    fleet.converges_to("2\n");
    fleet.converges_to("3\n");
    fleet.says_why("sent nothing for 30 s");
    fleet.release_agent("0.2.1", Does::Its);
    fleet.settles_at("0.2.1");
    drop(supervised);
}

#[test]
fn an_agent_that_is_too_old_for_its_repository_finds_its_successor_there() {
    let fleet = Fleet::new("upgrade-old");
    fleet.world.repo.release("First");
    let supervised = fleet.supervise();
    wait_for("the first revision", || {
        fleet.world.device.read("/etc/one.conf")
    });
    let text = fleet.binary("9.0.0", Does::Its);
    fleet.serve("9.0.0", text.as_bytes());
    let url = format!("url = {:?}", fleet.server.url_of("files/9.0.0"));
    let agent = Fleet::agent("9.0.0", &url, &sha256(text.as_bytes()));
    fleet.world.repo.write(
        "fleet.toml",
        format!(
            "format = 9\nname = \"test\"\nrequires_agent = \">=9\"\nshiny = [1]\n{agent}mood = 1\n"
        ),
    );
    fleet
        .world
        .repo
        .write("groups/new.toml", "match = { any = [[1]] }\nnew = true\n");
    fleet.world.repo.release("Of the future");
    fleet.settles_at("9.0.0");
    // What it cannot read was refused all the while, and last-good stood.
    assert_eq!(
        fleet.world.device.read("/etc/one.conf").as_deref(),
        Some("1\n")
    );
    drop(supervised);
}

#[test]
fn a_release_that_is_rolled_back_takes_no_agent_with_it() {
    let fleet = Fleet::new("upgrade-rollback");
    fleet.world.repo.release("First");
    let supervised = fleet.supervise();
    wait_for("the first revision", || {
        fleet.world.device.read("/etc/one.conf")
    });
    // One commit brings a bad app and a good agent.
    fleet.world.app(
        "one",
        "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"bad\\n\"\n[[checks]]\ntcp = \"127.0.0.1:9\"\ntimeout = \"1s\"\n\
         [gate]\ndeadline = \"4s\"\nsoak = \"1s\"\n",
    );
    fleet.release_agent("0.2.0", Does::Its);
    fleet.settles_at("0.2.0");
    let status = fleet.status().unwrap();
    assert_eq!(status["phase"], "RolledBack", "{status:#}");
    assert_eq!(
        fleet.world.device.read("/etc/one.conf").as_deref(),
        Some("1\n")
    );
    // Nor does a person's.
    fleet.converges_to("2\n");
    fleet.world.device.evenkeel(&["rollback"]).expect_code(0);
    fleet.release_agent("0.3.0", Does::Its);
    fleet.says_why("held by hand");
    assert_eq!(fleet.told().0, "0.2.0");
    fleet.world.device.evenkeel(&["resume"]);
    fleet.settles_at("0.3.0");
    let trials = supervised.log().matches("is on trial").count();
    assert_eq!(trials, 2, "one each: {}", supervised.log());
}

#[test]
fn with_the_package_manager_in_charge_nothing_is_fetched_and_a_generation_gives_way() {
    let mut fleet = Fleet::new("upgrade-package");
    fleet.world.repo.release("First");
    let supervised = fleet.supervise();
    fleet.release_agent("0.2.0", Does::Its);
    fleet.settles_at("0.2.0");
    drop(supervised);
    fleet.world.device.settings.more = "[agent]\nmanaged = \"package\"\n".to_owned();
    let supervised = fleet.supervise();
    fleet.says_why("agent.managed is `package`");
    assert_eq!(fleet.told().0, "0.1.0");
    assert_eq!(fleet.link("current"), None);
    drop(supervised);
    // Without the starter nobody would put the old one back.
    fleet.world.device.settings.more = String::new();
    let daemon = fleet.world.device.spawn_daemon();
    fleet.says_why("was not started by /usr/lib/evenkeel/start");
    daemon.stop();
}

#[test]
fn a_stop_and_a_start_by_hand_do_not_count_against_an_agent_on_trial() {
    let mut fleet = Fleet::new("upgrade-restart");
    fleet.deadline = 600;
    fleet.world.repo.release("First");
    let supervised = fleet.supervise();
    fleet.release_agent("0.2.0", Does::NeverReaches);
    let trial = || {
        wait_for("an agent on trial that serves its socket", || {
            let (version, _, _) = fleet.told();
            (version == "0.2.0").then(|| supervised.pid()).flatten()
        })
    };
    for _ in 0..5 {
        let pid = trial();
        std::process::Command::new("kill")
            .arg(pid.to_string())
            .status()
            .unwrap();
        wait_for("its end", || (supervised.pid() != Some(pid)).then_some(()));
        std::thread::sleep(Duration::from_millis(300));
    }
    trial();
    let next = fleet.link("next").unwrap();
    assert!(!fleet.dir().join(next).join("strike-2").exists());
}
