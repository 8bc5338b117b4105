//! The .deb in a booted machine, with Docker beside it: installed, upgraded in the middle of a soak, removed, purged.

use std::path::{Path, PathBuf};
use std::process::Command;

use evenkeel_tests::process::run;
use evenkeel_tests::{Engine, GitHttp, PATIENCE, device, wait_for};

use super::{Site, file, with_docker};

/// The packages, as `packaging/deb.sh` makes them of this build: this version, and the same as a newer one.
fn packages(dir: &Path) -> (PathBuf, PathBuf) {
    // Without what only a debugger reads: ten times smaller.
    let binary = dir.join("evenkeel");
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&binary).arg(device::binary());
    run(&mut strip, PATIENCE).expect_code(0);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/deb.sh");
    let mut make = Command::new(script);
    make.arg("--fast").arg("--binary").arg(&binary);
    make.env("EVENKEEL_OUT", dir);
    let said = run(&mut make, 5 * PATIENCE).expect_code(0);
    let first = PathBuf::from(said.stdout.trim());

    let (tree, second) = (dir.join("tree"), dir.join("newer.deb"));
    let dpkg = |arguments: &[&std::ffi::OsStr]| {
        run(Command::new("dpkg-deb").args(arguments), PATIENCE).expect_code(0);
    };
    dpkg(&["-R".as_ref(), first.as_ref(), tree.as_ref()]);
    let control = tree.join("DEBIAN/control");
    let text: String = std::fs::read_to_string(&control)
        .unwrap()
        .lines()
        .map(|line| match line.strip_prefix("Version:") {
            Some(_) => "Version: 99-1\n".to_owned(),
            None => format!("{line}\n"),
        })
        .collect();
    std::fs::write(&control, text).unwrap();
    dpkg(&[
        "-Znone".as_ref(),
        "-b".as_ref(),
        tree.as_ref(),
        second.as_ref(),
    ]);
    (first, second)
}

#[test]
fn the_package_lives_in_a_booted_machine_with_docker_from_its_installation_to_its_purge() {
    let engine = Engine::docker();
    let mut site = Site::new("package", with_docker(&engine));
    let machine_name = site.machine.name().to_owned();
    let _cleanup = engine.cleanup(&machine_name);
    let image = engine.busybox_image(&machine_name, &[]);
    let (first, second) = packages(site.machine.scratch());
    site.machine.boot();
    let machine = &site.machine;
    machine.copy(&first, "/root/first.deb", 0o644);
    machine.copy(&second, "/root/second.deb", 0o644);
    // Manual pages and their index are not what this is about.
    let dpkg = |arguments: &[&str]| {
        let fixed = [
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "dpkg",
            "--no-triggers",
        ];
        machine.ok(&[&fixed[..], arguments].concat())
    };

    // Nothing to do yet, and nothing failed.
    dpkg(&["-i", "/root/first.deb"]);
    assert_eq!(
        machine.ok(&["systemctl", "is-enabled", "evenkeel"]).trim(),
        "enabled"
    );
    assert_eq!(machine.property("evenkeel", "ActiveState"), "inactive");

    let server = GitHttp::http(site.repo.served());
    site.configure(&server.url(), "", "");
    site.repo.write(
        "groups/all.toml",
        format!("match = \"all\"\napps = [{machine_name:?}]\n"),
    );
    let release = |value: &str, soak: &str| {
        let text = file(
            "/etc/one.conf",
            value,
            "on_change = [\"signal:HUP:service:web\"]",
        ) + &format!(
            "[services.web]\nimage = {image:?}\nstop_grace_period = \"1s\"\n\
                 command = [\"/bin/sh\", \"-c\", \"trap 'echo x >>/hups' HUP; while :; do sleep 1; done\"]\n\
                 [gate]\ndeadline = \"90s\"\nsoak = {soak:?}\n"
        );
        site.repo
            .write(&format!("apps/{machine_name}/app.toml"), text);
        site.repo.release(value)
    };
    let good = release("1\n", "1s");
    site.systemctl(&["start", "evenkeel"]);
    site.good(&good);
    let container = engine.container(&machine_name, "web")["Id"]
        .as_str()
        .unwrap()
        .to_owned();

    // An upgrade in the middle of a soak: the agent that watches goes on watching, and ends afterwards.
    let soaking = release("2\n", "15s");
    wait_for("the second release to soak", || {
        let status = site.status();
        (status["phase"] == "Soaking" && status["revision"]["applied"] == soaking.as_str())
            .then_some(())
    });
    let old = machine.property("evenkeel", "MainPID");
    dpkg(&["-i", "/root/second.deb"]);
    let text = machine.property("evenkeel", "StatusText");
    assert!(
        text.starts_with("soaking; main at "),
        "the soak was over too early: {text}"
    );
    assert_eq!(machine.property("evenkeel", "MainPID"), old);
    site.good(&soaking);
    wait_for("the new program to run", || {
        let now = machine.property("evenkeel", "MainPID");
        (now != old && now != "0").then_some(())
    });
    let history = machine.ok(&["evenkeel", "history", "--json"]);
    let history: serde_json::Value = serde_json::from_str(&history).unwrap();
    let of_the_second: Vec<&serde_json::Value> = history
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["commit"] == soaking.as_str())
        .collect();
    assert_eq!(of_the_second.len(), 1, "{history:#}");
    assert_eq!(of_the_second[0]["result"], "good", "{history:#}");
    // Signals reach the container through the engine.
    let (code, hups) = engine.exec(&container, &["cat", "/hups"]);
    assert_eq!((code, hups.trim()), (0, "x"));

    site.systemctl(&["kill", "-s", "KILL", "evenkeel"]);
    let third = release("3\n", "1s");
    site.good(&third);

    // Removed: the agent is gone, what it put in place stays, and so does what it knows.
    dpkg(&["-r", "evenkeel"]);
    assert_ne!(
        machine.run(&["systemctl", "is-active", "evenkeel"]).code,
        Some(0)
    );
    assert_eq!(machine.read("/usr/bin/evenkeel"), None);
    assert!(machine.path("/var/lib/evenkeel").is_dir());
    // And back: it goes on where it was.
    dpkg(&["-i", "/root/second.deb"]);
    site.good(&third);

    dpkg(&["-P", "evenkeel"]);
    for gone in [
        "/etc/evenkeel",
        "/var/lib/evenkeel",
        "/etc/default/evenkeel",
    ] {
        assert!(!machine.path(gone).exists(), "{gone}");
    }
    assert_eq!(machine.read("/etc/one.conf").as_deref(), Some("3\n"));
    let web = engine.inspect(&container);
    assert_eq!(web["State"]["Running"], true, "{web:#}");
    let left = machine.ok(&[
        "systemctl",
        "list-units",
        "--all",
        "--no-legend",
        "--plain",
        "evenkeel*",
    ]);
    assert!(!left.contains("evenkeel"), "{left}");
}
