//! `evenkeel leave` on a device with a service manager: what runs goes on, and nothing of evenkeel comes back by itself.

use evenkeel_tests::{Engine, GitHttp, wait_for};

use super::{OFTEN, QUICK, Site, file, with_docker};

/// Whether anything of evenkeel runs in there, or would be started.
fn at_work(site: &Site) -> Vec<String> {
    let mut found: Vec<String> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| {
            let here = std::fs::read_link(entry.path().join("ns/pid")).ok();
            here.is_some()
                && here
                    == std::fs::read_link(format!("/proc/{}/ns/pid", site.machine.leader())).ok()
        })
        .filter_map(|entry| {
            let command = std::fs::read(entry.path().join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            command.contains("evenkeel").then_some(command)
        })
        .collect();
    for unit in [
        "evenkeel.service",
        "evenkeel-sync.service",
        "evenkeel-sync.timer",
        "evenkeel-enroll.service",
    ] {
        if site.machine.property(unit, "ActiveState") != "inactive" {
            found.push(format!("{unit} is active"));
        }
        let said = site.machine.run(&["systemctl", "is-enabled", unit]);
        if said.stdout.trim() == "enabled" {
            found.push(format!("{unit} is enabled"));
        }
    }
    for dir in ["/var/lib/evenkeel", "/run/evenkeel"] {
        let names = std::fs::read_dir(site.machine.path(dir))
            .into_iter()
            .flatten();
        let names = names.flatten().map(|entry| entry.path());
        found.extend(
            names
                .filter(|path| path.extension().is_some_and(|end| end == "sock"))
                .map(|path| path.display().to_string()),
        );
    }
    found
}

fn reboot(site: &mut Site) {
    site.machine.power_off();
    site.machine.boot();
}

#[test]
fn a_device_that_is_handed_back_keeps_what_runs_and_its_agent_does_not_come_back() {
    let engine = Engine::docker();
    let mut site = Site::new("leave", with_docker(&engine));
    let name = site.machine.name().to_owned();
    let _cleanup = engine.cleanup(&name);
    let image = engine.busybox_image(&name, &[]);
    let server = GitHttp::http(site.repo.served());
    site.install();
    site.configure(&server.url(), "", "");
    site.machine.write(
        "/etc/systemd/system/own.service",
        "[Service]\nExecStart=/bin/sleep 86400\n[Install]\nWantedBy=multi-user.target\n",
    );
    site.enable();
    site.enable_unit("evenkeel-enroll.service");
    site.repo.write(
        "groups/all.toml",
        format!("match = \"all\"\napps = [{name:?}]\n"),
    );
    let app = |value: &str| {
        let text = file(
            "/etc/one.conf",
            value,
            "on_change = [\"restart:unit:own.service\"]",
        ) + &format!(
            "[services.web]\nimage = {image:?}\nstop_grace_period = \"1s\"\nrestart = \"unless-stopped\"\n\
                 command = [\"/bin/sh\", \"-c\", \"exec sleep 86400\"]\n\
                 [[checks]]\nunit = \"own.service\"\ntimeout = \"5s\"\n"
        ) + QUICK;
        site.repo.write(&format!("apps/{name}/app.toml"), text);
        site.repo.release(value)
    };
    let first = app("1\n");
    site.machine.boot();
    site.machine.ok(&["systemctl", "enable", "own.service"]);
    site.good(&first);
    let web = || {
        let web = engine.container(&name, "web");
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        (
            text(&web["Id"]),
            text(&web["State"]["StartedAt"]),
            web["State"]["Running"] == true,
        )
    };
    let (container, own) = (web(), site.machine.property("own", "MainPID"));

    // While its daemon runs.
    let said = site.machine.ok(&["evenkeel", "leave", "--yes"]);
    assert!(
        said.contains("stopped and disabled evenkeel.service"),
        "{said}"
    );
    assert_eq!(at_work(&site), Vec::<String>::new());
    assert_eq!(site.machine.property("evenkeel", "Result"), "success");
    assert_eq!(web(), container);
    assert_eq!(site.machine.property("own", "MainPID"), own);
    assert_eq!(site.machine.read("/etc/one.conf").as_deref(), Some("1\n"));
    // What changes from now on is nobody's business.
    let second = app("2\n");
    site.machine.write("/etc/one.conf", "by hand\n");
    reboot(&mut site);
    assert_eq!(at_work(&site), Vec::<String>::new());
    assert_eq!(site.machine.property("own", "ActiveState"), "active");
    assert_eq!(
        site.machine.read("/etc/one.conf").as_deref(),
        Some("by hand\n")
    );
    assert_eq!(web(), container);
    // Started by hand, it refuses, and says what to do; and so it does at a second `leave`.
    let started = site.machine.run(&["systemctl", "start", "evenkeel"]);
    assert_ne!(started.code, Some(0));
    wait_for("why it does not start", || {
        let log = site.machine.log("evenkeel");
        log.contains("leave --undo").then_some(())
    });
    site.machine.ok(&["systemctl", "stop", "evenkeel"]);
    site.machine.ok(&["evenkeel", "leave", "--yes"]);
    assert_eq!(at_work(&site), Vec::<String>::new());

    // And back: the same units as before, without a restart of what runs.
    let said = site.machine.ok(&["evenkeel", "leave", "--undo"]);
    assert!(
        said.contains("enabled and started evenkeel.service"),
        "{said}"
    );
    site.good(&second);
    assert_eq!(web(), container);
    assert_eq!(site.machine.read("/etc/one.conf").as_deref(), Some("2\n"));
    assert_eq!(
        site.machine
            .run(&["systemctl", "is-enabled", "evenkeel-enroll"])
            .stdout
            .trim(),
        "enabled"
    );

    // While it does not run, and with the identity gone, too.
    site.machine.ok(&["systemctl", "stop", "evenkeel"]);
    site.machine
        .ok(&["evenkeel", "leave", "--yes", "--purge-state"]);
    assert!(!site.machine.path("/var/lib/evenkeel/identity").exists());
    reboot(&mut site);
    assert_eq!(at_work(&site), Vec::<String>::new());
    assert!(
        !site.machine.path("/var/lib/evenkeel/identity").exists(),
        "nobody made another one"
    );
    assert_eq!(web(), container);
    assert_eq!(site.machine.read("/etc/one.conf").as_deref(), Some("2\n"));
}

#[test]
fn a_device_of_the_timer_is_handed_back_and_taken_up_again_as_one() {
    let (mut site, _server) = Site::configured("leave-timer");
    site.drop_in("evenkeel-sync.timer", OFTEN);
    let first = site.release(&(file("/etc/one.conf", "1\n", "") + QUICK));
    site.systemctl(&["enable", "--now", "evenkeel-sync.timer"]);
    site.good(&first);
    site.machine.ok(&["evenkeel", "leave", "--yes"]);
    assert_eq!(at_work(&site), Vec::<String>::new());
    let second = site.release(&(file("/etc/one.conf", "2\n", "") + QUICK));
    reboot(&mut site);
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!(at_work(&site), Vec::<String>::new());
    assert_eq!(site.machine.read("/etc/one.conf").as_deref(), Some("1\n"));
    let said = site.machine.ok(&["evenkeel", "leave", "--undo"]);
    assert!(said.contains("evenkeel-sync.timer"), "{said}");
    assert!(!said.contains("evenkeel.service"), "{said}");
    site.good(&second);
}
