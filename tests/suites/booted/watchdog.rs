//! The service manager's watchdog: what hangs comes back, and what only takes long is let be.

use std::time::Duration;

use evenkeel_tests::link::{Door, Link, Weather};
use evenkeel_tests::wait_for;

use super::{QUICK, Site, file};

#[test]
fn an_agent_that_hangs_is_killed_by_the_watchdog_and_comes_back_and_one_that_waits_is_not() {
    let (site, server) = Site::configured("watchdog");
    let machine = &site.machine;
    let link = Link::to(server.port());
    let url = format!("http://localhost:{}/fleet.git", link.port());
    site.configure(&url, "", "");
    site.drop_in(
        "evenkeel.service",
        "[Service]\nWatchdogSec=4\nRestartSec=100ms\n",
    );
    let first = site.release(&(file("/etc/one.conf", "1\n", "") + QUICK));
    site.systemctl(&["enable", "--now", "evenkeel"]);
    site.good(&first);

    // A soak of twice its limit, and then a remote that takes connections and says nothing for as long.
    let gate = "\n[gate]\ndeadline = \"60s\"\nsoak = \"8s\"\n";
    let second = site.release(&(file("/etc/one.conf", "2\n", "") + gate));
    site.good(&second);
    link.set(Weather {
        door: Door::Silent,
        ..Weather::default()
    });
    link.hang_up();
    std::thread::sleep(Duration::from_secs(9));
    link.mend();
    link.hang_up();
    let third = site.release(&(file("/etc/one.conf", "3\n", "") + QUICK));
    site.good(&third);
    assert_eq!(
        machine.property("evenkeel", "NRestarts"),
        "0",
        "{}",
        machine.log("evenkeel")
    );

    // It hangs in the middle of a change that soaks.
    let fourth = site.release(&(file("/etc/one.conf", "4\n", "") + gate));
    wait_for("the fourth release to soak", || {
        let status = site.status();
        (status["phase"] == "Soaking" && status["revision"]["applied"] == fourth.as_str())
            .then_some(())
    });
    let before = machine.property("evenkeel", "MainPID");
    machine.ok(&["kill", "-STOP", &before]);
    machine.write("/etc/one.conf", "by hand\n");
    wait_for("the watchdog", || {
        let now = machine.property("evenkeel", "MainPID");
        (now != before && now != "0").then_some(())
    });
    let log = machine.ok(&["journalctl", "--no-pager", "-o", "cat", "_PID=1"]);
    assert!(log.contains("Watchdog timeout"), "{log}");
    site.good(&fourth);
    assert_eq!(machine.read("/etc/one.conf").as_deref(), Some("4\n"));
    assert_eq!(machine.property("evenkeel", "NRestarts"), "1");
    let fifth = site.release(&(file("/etc/one.conf", "5\n", "") + QUICK));
    site.good(&fifth);
}
