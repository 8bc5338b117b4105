//! The variant without a daemon: `evenkeel-sync.service` and its timer.

use std::time::Duration;

use evenkeel_tests::wait_for;

use super::{OFTEN, QUICK, Site, file};

#[test]
fn the_timer_converges_a_device_that_keeps_no_process() {
    let (site, _server) = Site::configured("timer");
    site.drop_in("evenkeel-sync.timer", OFTEN);
    let first = site.release(&(file("/etc/one.conf", "1\n", "") + QUICK));
    site.systemctl(&["enable", "--now", "evenkeel-sync.timer"]);
    site.good(&first);
    let second = site.release(&(file("/etc/one.conf", "2\n", "") + QUICK));
    site.good(&second);
    assert_eq!(site.machine.read("/etc/one.conf").as_deref(), Some("2\n"));
    wait_for("no process between two passes", || {
        let state = site.machine.property("evenkeel-sync", "ActiveState");
        (state == "inactive").then_some(())
    });
    assert_eq!(site.machine.property("evenkeel", "ActiveState"), "inactive");
}

#[test]
fn a_pass_that_is_refused_fails_its_unit_and_says_why() {
    let (site, _server) = Site::configured("timer-refused");
    site.repo.write(
        "apps/one/app.toml",
        file("/etc/one.conf", "1\n", "") + QUICK,
    );
    site.repo.commit_unsigned("Unsigned");
    site.repo.push();
    let said = site.machine.run(&["systemctl", "start", "evenkeel-sync"]);
    assert_ne!(said.code, Some(0));
    assert_eq!(
        site.machine.property("evenkeel-sync", "ExecMainStatus"),
        "3"
    );
    let log = site.machine.log("evenkeel-sync");
    assert!(log.contains("unsigned"), "{log}");
}

#[test]
fn daemon_and_timer_do_not_get_in_each_others_way() {
    let (site, _server) = Site::configured("both");
    // A pass that soaks for some seconds.
    let gate = "\n[gate]\ndeadline = \"60s\"\nsoak = \"5s\"\n";
    let first = site.release(&(file("/etc/one.conf", "1\n", "") + gate));
    site.systemctl(&["start", "--no-block", "evenkeel-sync"]);
    wait_for("the pass to soak", || {
        (site.status()["phase"] == "Soaking").then_some(())
    });
    // What `systemctl status` shows of it.
    let text = site.machine.property("evenkeel-sync", "StatusText");
    assert!(text.starts_with("soaking; main at "), "{text}");
    // The daemon waits for its end, and neither ends it nor fails.
    site.systemctl(&["start", "evenkeel"]);
    assert_eq!(site.machine.property("evenkeel-sync", "Result"), "success");
    assert_eq!(site.status()["revision"]["last_good"], first.as_str());
    assert_eq!(site.machine.property("evenkeel", "NRestarts"), "0");

    // And with the daemon there, a pass by the timer is one of the daemon's.
    let second = site.release(&(file("/etc/one.conf", "2\n", "") + QUICK));
    let daemon = site.machine.property("evenkeel", "MainPID");
    std::thread::sleep(Duration::from_millis(200));
    site.systemctl(&["start", "evenkeel-sync"]);
    assert_eq!(site.status()["revision"]["last_good"], second.as_str());
    assert_eq!(site.machine.property("evenkeel", "MainPID"), daemon);
}
