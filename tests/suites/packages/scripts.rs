//! What the packages' scripts ask of the service manager, and what they leave.

use super::*;

/// A package with a program that is never started here.
fn deb(out: &Path) -> String {
    let path = made(
        script("deb.sh", out)
            .arg("--fast")
            .args(["--binary", "/bin/true"]),
    );
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_deb_starts_at_first_tells_at_an_upgrade_stops_at_a_removal_and_purges_all() {
    let out = tempfile::tempdir().unwrap();
    let deb = deb(out.path());
    let root = Root::booted();

    root.dpkg(&["-i", &deb]);
    let asked = root.asked();
    assert!(
        asked.contains("deb-systemd-helper enable evenkeel.service"),
        "{asked}"
    );
    assert!(
        asked.contains("deb-systemd-invoke start evenkeel.service"),
        "{asked}"
    );
    assert!(
        !asked.contains("enable evenkeel-enroll") && !asked.contains("start evenkeel-enroll"),
        "an image enables that: {asked}"
    );
    assert!(
        !root.has("etc/evenkeel/agent.toml"),
        "that is the device's own"
    );

    // While it runs: told, and neither stopped nor restarted.
    root.write("etc/evenkeel/agent.toml", "mine\n");
    root.write("etc/default/evenkeel", "NO_PROXY=mine\n");
    root.write("var/lib/evenkeel/journal", "memory\n");
    let mut agent = Stand::new();
    root.agent_is(agent.pid());
    root.dpkg(&["-i", &deb]);
    agent.was_told();
    let asked = root.asked();
    for word in ["stop", "start ", "restart", "disable", "mask "] {
        assert!(
            !asked.replace("unmask", "").contains(word),
            "`{word}` was asked for:\n{asked}"
        );
    }
    assert!(
        asked.contains("systemctl --system daemon-reload"),
        "{asked}"
    );
    let kept = std::fs::read_to_string(root.path().join("etc/default/evenkeel")).unwrap();
    assert_eq!(kept, "NO_PROXY=mine\n");

    // While it was stopped on purpose: it stays so.
    root.agent_is(0);
    root.dpkg(&["-i", &deb]);
    let asked = root.asked();
    assert!(!asked.contains("invoke"), "{asked}");

    let mut agent = Stand::new();
    root.agent_is(agent.pid());
    root.dpkg(&["--remove", "evenkeel"]);
    let asked = root.asked();
    assert!(
        asked.contains(
            "deb-systemd-invoke stop evenkeel-sync.timer evenkeel-sync.service evenkeel-enroll.service evenkeel.service"
        ),
        "{asked}"
    );
    assert!(agent.runs(), "stopping it is the service manager's");
    assert!(!root.has("usr/bin/evenkeel"));
    for kept in [
        "etc/evenkeel/agent.toml",
        "etc/default/evenkeel",
        "var/lib/evenkeel/journal",
    ] {
        assert!(root.has(kept), "{kept}");
    }

    // Back again, as it was before, and started: nobody had stopped it but the removal.
    root.agent_is(0);
    std::fs::create_dir_all(root.path().join("etc/systemd/system")).unwrap();
    std::os::unix::fs::symlink(
        "/dev/null",
        root.path().join("etc/systemd/system/evenkeel.service"),
    )
    .unwrap();
    root.dpkg(&["-i", &deb]);
    let asked = root.asked();
    assert!(
        asked.contains("deb-systemd-invoke start evenkeel.service"),
        "{asked}"
    );

    root.dpkg(&["--purge", "evenkeel"]);
    for gone in ["etc/evenkeel", "etc/default/evenkeel", "var/lib/evenkeel"] {
        assert!(!root.has(gone), "{gone}");
    }
    assert!(
        root.asked()
            .contains("deb-systemd-helper purge evenkeel.service")
    );
}

#[test]
fn in_an_image_that_is_being_built_a_deb_starts_nothing() {
    let out = tempfile::tempdir().unwrap();
    let deb = deb(out.path());
    let root = Root::booted();
    std::fs::remove_dir_all(root.path().join("run/systemd")).unwrap();
    root.dpkg(&["-i", &deb]);
    let asked = root.asked();
    assert!(
        asked.contains("deb-systemd-helper enable evenkeel.service"),
        "{asked}"
    );
    assert!(
        !asked.contains("invoke") && !asked.contains("systemctl"),
        "{asked}"
    );
}

#[test]
fn an_rpm_tells_at_an_upgrade_and_stops_at_a_removal() {
    let out = tempfile::tempdir().unwrap();
    let rpm = made(
        script("rpm.sh", out.path())
            .arg("--fast")
            .args(["--binary", "/bin/true"]),
    );
    let rpm = rpm.to_str().unwrap();
    let root = Root::booted();
    root.rpm(&["-i", rpm]);
    let asked = root.asked();
    assert!(
        asked.contains("systemctl --no-reload preset evenkeel.service"),
        "{asked}"
    );
    assert!(root.has("usr/bin/evenkeel"));

    root.write("etc/evenkeel/agent.toml", "mine\n");
    let mut agent = Stand::new();
    root.agent_is(agent.pid());
    root.rpm(&["-U", "--replacepkgs", rpm]);
    agent.was_told();
    let asked = root.asked();
    for word in ["stop", "start", "disable"] {
        assert!(!asked.contains(word), "`{word}` was asked for:\n{asked}");
    }

    root.rpm(&["-e", "evenkeel"]);
    let asked = root.asked();
    assert!(asked.contains("disable --now"), "{asked}");
    assert!(!root.has("usr/bin/evenkeel"));
    assert!(root.has("etc/evenkeel/agent.toml"));
}

#[test]
fn the_tarball_tells_a_running_agent_and_starts_nothing_by_itself() {
    let out = tempfile::tempdir().unwrap();
    let tarball = made(script("tarball.sh", out.path()).args(["--binary", "/bin/busybox"]));
    let root = Root::booted();
    output(
        "tar",
        &[
            "-xf",
            tarball.to_str().unwrap(),
            "-C",
            root.path().to_str().unwrap(),
        ],
    );
    let install = |more: &str| {
        let line = format!("cd /evenkeel-*/ && PATH=/usr/bin:/bin ./install.sh {more}");
        run(
            Command::new("chroot")
                .arg(root.path())
                .args(["/bin/sh", "-c", &line]),
            LONG,
        )
        .expect_code(0)
        .text()
    };
    let said = install("");
    assert!(said.contains("Next: /etc/evenkeel/agent.toml"), "{said}");
    assert!(root.has("usr/local/bin/evenkeel"));
    let asked = root.asked();
    assert!(
        !asked.contains("start") && !asked.contains("enable"),
        "{asked}"
    );

    let mut agent = Stand::new();
    root.agent_is(agent.pid());
    let said = install("");
    agent.was_told();
    assert!(said.contains("at its next idle moment"), "{said}");
    assert!(!root.asked().contains("start"));

    install("--uninstall");
    let asked = root.asked();
    assert!(asked.contains("systemctl disable --now"), "{asked}");
    assert!(!root.has("usr/local/bin/evenkeel"));
}
