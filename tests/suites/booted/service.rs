//! `evenkeel.service`.

use std::os::unix::fs::MetadataExt as _;

use evenkeel_tests::wait_for;

use super::{QUICK, Site, file};

#[test]
fn under_its_sandbox_the_service_does_all_that_a_release_asks_for() {
    let (site, _server) = Site::configured("sandbox");
    let machine = &site.machine;
    // Units of the device's own, which write down what is done with them.
    for unit in ["restarted", "reloaded"] {
        let text = "[Service]\nExecStart=/bin/sh -c 'echo started >>/var/log/%p; exec sleep 86400'\n\
                    ExecReload=/bin/sh -c 'echo reloaded >>/var/log/%p'\n";
        machine.write(&format!("/etc/systemd/system/{unit}.service"), text);
    }
    site.systemctl(&["daemon-reload"]);
    site.systemctl(&["start", "restarted", "reloaded"]);
    let app = |value: &str| {
        file(
            "/etc/probe.conf",
            value,
            "owner = \"nobody\"\ngroup = \"daemon\"\nmode = \"0640\"\non_change = [\"restart:unit:restarted.service\"]",
        ) + &file(
            "/srv/deep/down/set.sh",
            value,
            "mode = \"0755\"\nowner = \"daemon\"\non_change = [\"reload:unit:reloaded.service\"]",
        ) + &file(
            "/home/user/.config/one",
            value,
            "owner = \"nobody\"\nmode = \"0600\"",
        ) + &file("/tmp/shared/one", value, "")
            + "[[checks]]\ncommand = [\"/bin/sh\", \"-c\", \"grep -q value /etc/probe.conf && test -w /proc/self/oom_score_adj\"]\ntimeout = \"5s\"\n\
               [[checks]]\nunit = \"restarted.service\"\ntimeout = \"5s\"\n"
            + QUICK
    };
    let first = site.release(&app("value 1\n"));
    site.systemctl(&["start", "evenkeel"]);
    site.good(&first);
    let second = site.release(&app("value 2\n"));
    site.good(&second);

    let meta = std::fs::metadata(machine.path("/etc/probe.conf")).unwrap();
    assert_eq!(
        (meta.uid(), meta.gid(), meta.mode() & 0o7777),
        (65534, 1, 0o640)
    );
    let meta = std::fs::metadata(machine.path("/srv/deep/down/set.sh")).unwrap();
    assert_eq!(
        (meta.uid(), meta.gid(), meta.mode() & 0o7777),
        (1, 0, 0o755)
    );
    assert_eq!(
        machine.read("/home/user/.config/one").as_deref(),
        Some("value 2\n")
    );
    assert_eq!(
        machine.read("/tmp/shared/one").as_deref(),
        Some("value 2\n")
    );
    let done = |unit: &str| machine.read(&format!("/var/log/{unit}")).unwrap();
    assert_eq!(done("restarted"), "started\nstarted\nstarted\n");
    assert_eq!(done("reloaded"), "started\nreloaded\nreloaded\n");
    // What `systemctl status` shows.
    wait_for("the status line to name the revision", || {
        let text = machine.property("evenkeel", "StatusText");
        text.contains(&second[..10]).then_some(())
    });
}

#[test]
fn a_service_that_is_killed_comes_back_and_goes_on() {
    let (site, _server) = Site::configured("killed");
    let machine = &site.machine;
    let first = site.release(&(file("/etc/one.conf", "1\n", "") + QUICK));
    site.systemctl(&["enable", "--now", "evenkeel"]);
    site.good(&first);
    let before = machine.property("evenkeel", "MainPID");
    site.systemctl(&["kill", "-s", "KILL", "evenkeel"]);
    std::fs::write(machine.path("/etc/one.conf"), "by hand\n").unwrap();
    let second = site.release(&(file("/etc/one.conf", "2\n", "") + QUICK));
    wait_for("the service to come back", || {
        let now = machine.property("evenkeel", "MainPID");
        (now != before && now != "0").then_some(())
    });
    site.good(&second);
    assert_eq!(machine.property("evenkeel", "NRestarts"), "1");
    assert_eq!(machine.read("/etc/one.conf").as_deref(), Some("2\n"));
    site.systemctl(&["reload", "evenkeel"]);
    site.systemctl(&["stop", "evenkeel"]);
    assert_eq!(machine.property("evenkeel", "Result"), "success");
}

#[test]
fn a_configuration_that_is_wrong_is_told_once_and_mended_without_help() {
    let (site, server) = Site::configured("wrong");
    let machine = &site.machine;
    let first = site.release(&(file("/etc/one.conf", "1\n", "") + QUICK));
    let good = machine.read("/etc/evenkeel/agent.toml").unwrap();
    machine.write("/etc/evenkeel/agent.toml", format!("{good}\n[gaurd]\n"));
    site.drop_in("evenkeel.service", "[Service]\nRestartSec=100ms\n");
    // Who starts it sees that it does not start, at once.
    let said = machine.run(&["systemctl", "start", "evenkeel"]);
    assert_ne!(said.code, Some(0));
    wait_for("further tries", || {
        let times: u32 = machine.property("evenkeel", "NRestarts").parse().unwrap();
        let text = machine.property("evenkeel", "StatusText");
        (times >= 2 && text.starts_with("does not start: ") && text.contains("agent.toml"))
            .then_some(())
    });
    let told = machine.log("evenkeel");
    assert_eq!(told.matches("gaurd").count(), 1, "{told}");
    // A person who starts it anew is told, and does not wait.
    let begun = std::time::Instant::now();
    assert_ne!(
        machine.run(&["systemctl", "restart", "evenkeel"]).code,
        Some(0)
    );
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    let told = machine.log("evenkeel");
    assert_eq!(told.matches("gaurd").count(), 2, "{told}");
    // Mended, and left alone.
    machine.write("/etc/evenkeel/agent.toml", good);
    site.good(&first);
    drop(server);
}

#[test]
fn a_drop_in_that_closes_the_file_system_leaves_what_it_names() {
    let (site, _server) = Site::configured("strict");
    site.drop_in(
        "evenkeel.service",
        "[Service]\nProtectSystem=strict\nReadWritePaths=/srv\n",
    );
    let first = site.release(&(file("/srv/one.conf", "1\n", "") + QUICK));
    site.systemctl(&["start", "evenkeel"]);
    site.good(&first);
    site.release(&(file("/srv/one.conf", "2\n", "") + &file("/opt/two.conf", "2\n", "") + QUICK));
    wait_for("what cannot be written to be told", || {
        site.status()
            .to_string()
            .contains("/opt/two.conf")
            .then_some(())
    });
    wait_for("the device to be whole", || {
        let content = site.machine.read("/srv/one.conf");
        (content.as_deref() == Some("1\n") && !site.machine.path("/opt/two.conf").exists())
            .then_some(())
    });
}
