//! Devices with a root that cannot be written, and with little memory.

use std::fmt::Write as _;

use evenkeel_tests::nspawn::Options;
use evenkeel_tests::proc::sample;
use evenkeel_tests::{GitHttp, wait_for};

use super::{QUICK, Site, file};

#[test]
fn with_a_read_only_root_the_state_lies_on_another_file_system() {
    let disk = evenkeel_tests::short_tempdir("data");
    let options = Options {
        nspawn: vec![
            "--read-only".to_owned(),
            format!("--bind={}:/data", disk.path().display()),
        ],
        ..Options::default()
    };
    let mut site = Site::new("readonly", options);
    let server = GitHttp::http(site.repo.served());
    site.install();
    site.configure(&server.url(), "state_dir = \"/data/evenkeel\"", "");
    // As the README has it: the unit makes no directory on the root.
    site.drop_in("evenkeel.service", "[Service]\nStateDirectory=\n");
    site.enable();
    let first = site.release(&(file("/data/etc/one.conf", "1\n", "") + QUICK));
    site.machine.boot();
    for path in ["/etc/x", "/usr/x", "/var/lib/x"] {
        assert_ne!(site.machine.run(&["touch", path]).code, Some(0), "{path}");
    }
    site.good(&first);
    let content = |site: &Site| site.machine.read("/data/etc/one.conf");
    assert_eq!(content(&site).as_deref(), Some("1\n"));
    // What cannot be written is told, and nothing else is left changed.
    let second = site.release(
        &(file("/data/etc/one.conf", "2\n", "") + &file("/etc/two.conf", "2\n", "") + QUICK),
    );
    wait_for("the release that cannot be applied to be told", || {
        let status = site.status();
        let told = status.to_string();
        (status["revision"]["tip"] == second.as_str() && told.contains("/etc/two.conf"))
            .then_some(())
    });
    wait_for("the device to be whole at the first release", || {
        (content(&site).as_deref() == Some("1\n")).then_some(())
    });
    let third = site.release(&(file("/data/etc/one.conf", "3\n", "") + QUICK));
    site.good(&third);

    // A power cut takes nothing that is on that disk.
    site.machine.kill();
    site.machine.boot();
    site.good(&third);
    assert_eq!(content(&site).as_deref(), Some("3\n"));
}

#[test]
fn state_and_files_may_lie_on_an_overlay() {
    let site = Site::booted("overlay");
    let server = GitHttp::http(site.repo.served());
    // The machine's /usr is one.
    let kind = site.machine.ok(&["stat", "-f", "-c", "%T", "/usr"]);
    assert_eq!(kind.trim(), "overlayfs");
    site.configure(&server.url(), "state_dir = \"/usr/local/state\"", "");
    let paths: Vec<String> = (0..20)
        .map(|n| format!("/usr/local/etc/{n}.conf"))
        .collect();
    let app = |value: &str| {
        let files: String = paths.iter().map(|path| file(path, value, "")).collect();
        files + QUICK
    };
    // One is there already, in what lies below.
    site.release(&app("1\n"));
    site.systemctl(&["start", "evenkeel"]);
    for value in ["2\n", "3\n"] {
        let commit = site.release(&app(value));
        site.good(&commit);
        site.systemctl(&["kill", "-s", "KILL", "evenkeel"]);
    }
    for path in &paths {
        assert_eq!(site.machine.read(path).as_deref(), Some("3\n"));
    }
    let commit = site.release(&app("4\n"));
    site.good(&commit);
    assert!(!site.machine.log("evenkeel").contains("damaged"));
}

/// Resident memory that is no file's, in bytes.
fn anonymous(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    text.lines()
        .find_map(|line| line.strip_prefix("Anonymous:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap()
        * 1024
}

#[test]
fn in_64_mebibytes_with_all_of_the_system_files_and_units_converge_without_an_engine() {
    let options = Options {
        memory: Some(64),
        ..Options::default()
    };
    let mut site = Site::new("tiny", options);
    let server = GitHttp::http(site.repo.served());
    site.install();
    site.configure(&server.url(), "", "");
    site.machine.write(
        "/etc/systemd/system/own.service",
        "[Service]\nExecStart=/bin/sleep 86400\n",
    );
    site.enable();
    // 60 files of 20 kB that do not compress, and a unit that is restarted.
    let release = |round: u32| {
        let mut app = String::new();
        for n in 0..60 {
            let name = format!("f{n}");
            let mut content = format!("{round}\n");
            let mut random = numbers(u64::from(round) * 1000 + n);
            for _ in 0..1000 {
                let _ = writeln!(content, "{:020}", random());
            }
            site.repo.write(&format!("apps/one/{name}"), content);
            let _ = writeln!(
                app,
                "[[files]]\npath = \"/srv/files/{name}\"\nsource = \"{name}\"\non_change = [\"restart:unit:own.service\"]"
            );
        }
        app + "[[checks]]\nunit = \"own.service\"\ntimeout = \"5s\"\n" + QUICK
    };
    let first = site.release(&release(1));
    site.machine.boot();
    let patience = 3 * evenkeel_tests::PATIENCE;
    let good = |commit: &str| {
        evenkeel_tests::wait_at_most(patience, "a small machine to converge", || {
            let status = site.status();
            (status["revision"]["last_good"] == commit && status["phase"] == "Idle").then_some(())
        });
    };
    good(&first);
    let second = site.release(&release(2));
    good(&second);
    // Back to the first, from the device's own store.
    site.machine.ok(&["evenkeel", "rollback"]);
    let file = site.machine.read("/srv/files/f59").unwrap();
    assert!(file.starts_with("1\n"));
    site.machine.ok(&["evenkeel", "resume"]);
    good(&second);

    // The engine that is not there is nobody's trouble.
    let status = site.status();
    let conditions = status["conditions"].as_array().unwrap();
    let ready = conditions
        .iter()
        .find(|one| one["type"] == "Ready")
        .unwrap();
    assert_eq!(ready["status"], "True", "{status:#}");
    let log = site.machine.log("evenkeel");
    assert!(!log.contains("engine") && !log.contains("docker"), "{log}");

    // Idle, it says nothing and writes nothing.
    let pid = pid_here(&site);
    let polls = || server.requests().len();
    let pause = |count: usize| {
        let end = polls() + count;
        wait_for("idle polls", || (polls() >= end).then_some(()));
    };
    pause(4);
    let (before, lines) = (sample(pid).written, site.machine.log("evenkeel").len());
    pause(8);
    assert_eq!(sample(pid).written, before, "an idle poll wrote to storage");
    assert_eq!(
        site.machine.log("evenkeel").len(),
        lines,
        "an idle poll was logged"
    );

    let (most, killed) = site.machine.memory();
    println!(
        "all of the machine: {} KiB at most of 65536; the agent, idle: {} KiB of its own",
        most / 1024,
        anonymous(pid) / 1024
    );
    assert_eq!(killed, 0, "something was killed for want of memory");
    let log = site.machine.log("evenkeel");
    let restarts = site.machine.property("evenkeel", "NRestarts");
    assert_eq!(restarts, "0", "{log}");
}

/// The agent's process, by its id here.
fn pid_here(site: &Site) -> u32 {
    let inside = site.machine.property("evenkeel", "MainPID");
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            let of_the_machine = std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
                == std::fs::read_link(format!("/proc/{}/ns/pid", site.machine.leader())).ok();
            of_the_machine
                && ids.and_then(|ids| ids.split_whitespace().last()) == Some(inside.as_str())
        })
        .expect("the agent runs")
}

/// Numbers that do not compress, the same for the same seed.
fn numbers(seed: u64) -> impl FnMut() -> u64 {
    let mut rng = fastrand::Rng::with_seed(seed);
    move || rng.u64(..)
}
