#![allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]

use std::collections::BTreeMap;

use super::*;
use crate::resolve::{apps_of, resolve, tests::tree};

fn state(app: &str) -> DesiredState {
    let tree = tree(&[
        ("fleet.toml", "format = 1\nname = 'a'\nallow_tags = true\n"),
        ("groups/all.toml", "match = 'all'\napps = ['app']\n"),
        ("apps/app/app.toml", app),
    ]);
    let selection = apps_of(&"gw-1".parse().unwrap(), &BTreeMap::new(), &tree).unwrap();
    match resolve(&selection, &tree) {
        Ok(resolved) => resolved.state,
        Err(problems) => {
            assert_eq!(problems.to_string(), "", "{app}");
            unreachable!()
        }
    }
}

fn judged(app: &str, guard: &GuardSection) -> Vec<String> {
    violations(&state(app), guard, "/var/lib/evenkeel")
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn file(path: &str) -> String {
    format!("[[files]]\npath = '{path}'\ncontent = ''\n")
}

fn service(rest: &str) -> String {
    format!("[services.a]\nimage = 'IMAGE'\n{rest}\n")
}

#[test]
fn protected_paths_are_refused_and_others_are_not() {
    let open = GuardSection::default();
    for path in [
        "/var/lib/evenkeel/x",
        "/etc/evenkeel/agent.toml",
        "/usr/bin/evenkeel",
        "/boot/x",
        "/dev/x",
        "/proc/x",
        "/sys/x",
        "/etc/systemd/system/a.service",
        "/run/systemd/x",
        "/lib/systemd/x",
        "/etc/cron.d/x",
        "/etc/crontab",
        "/var/spool/cron/x",
        "/etc/sudoers",
        "/etc/sudoers.d/x",
        "/etc/ssh/sshd_config",
        "/root/.ssh/authorized_keys",
        "/home/me/.ssh/config",
        "/etc/passwd",
        "/etc/shadow",
        "/etc/group",
        "/etc/gshadow-",
        "/etc/pam.d/sshd",
        "/etc/ld.so.preload",
        "/etc/ld.so.conf.d/x",
    ] {
        assert_eq!(judged(&file(path), &open).len(), 1, "{path}");
    }
    for path in [
        "/etc/mosquitto/x",
        "/srv/x",
        "/etc/evenkeel-app/x",
        "/opt/app/crontab",
        "/etc/systemd-app",
    ] {
        assert_eq!(judged(&file(path), &open), [""; 0], "{path}");
    }
}

#[test]
fn named_paths_are_the_only_ones() {
    let guard = GuardSection {
        paths: Some(vec![
            "/etc/mosquitto".to_owned(),
            "/srv/".to_owned(),
            "/etc/cron.d".to_owned(),
        ]),
        ..GuardSection::default()
    };
    for path in ["/etc/mosquitto/x", "/srv/a/b", "/etc/cron.d/x"] {
        assert_eq!(judged(&file(path), &guard), [""; 0], "{path}");
    }
    for path in ["/etc/mosquitto-x/y", "/opt/x", "/etc/x"] {
        assert_eq!(judged(&file(path), &guard).len(), 1, "{path}");
    }
    let everything = GuardSection {
        paths: Some(vec!["/".to_owned()]),
        ..GuardSection::default()
    };
    assert_eq!(judged(&file("/etc/evenkeel/x"), &everything).len(), 1);
    assert_eq!(judged(&file("/etc/shadow"), &everything), [""; 0]);
}

#[test]
fn a_mount_must_not_hold_what_is_protected() {
    let open = GuardSection::default();
    for (source, count) in [
        ("/etc", 1),
        ("/var/lib", 2),
        ("/usr", 1),
        ("/srv/data", 0),
        ("/etc/mosquitto", 0),
        ("/dev/ttyUSB0", 1),
        ("/etc/ssh", 1),
        ("/run/docker.sock", 1),
        ("/var/run", 2),
        ("/root", 1),
        ("/var/lib/docker/volumes", 1),
        ("/run/user/1000", 1),
        ("/run/user/1000/wayland-0", 0),
        ("/etc/localtime", 0),
    ] {
        let found = judged(&service(&format!("volumes = ['{source}:/x']")), &open);
        assert_eq!(found.len(), count, "{source}: {found:#?}");
    }
    let volume = |device: &str| {
        format!(
            "{}[volumes.v]\ndriver_opts = {{ type = 'none', o = 'bind', device = '{device}' }}\n",
            service("volumes = ['v:/x']")
        )
    };
    assert_eq!(judged(&volume("/etc"), &open).len(), 1);
    assert_eq!(judged(&volume("/srv/../etc/"), &open).len(), 1);
    assert_eq!(judged(&volume("/srv/x"), &open), [""; 0]);
}

#[test]
fn the_hosts_privileges_need_the_owners_word() {
    let asked = [
        "privileged = true",
        "cap_add = ['NET_ADMIN']",
        "network_mode = 'host'",
        "pid = 'host'",
        "ipc = 'host'",
        "userns_mode = 'host'",
        "security_opt = ['seccomp=unconfined']",
        "volumes = ['/run/docker.sock:/x']",
    ];
    let allowed = GuardSection {
        privileged: true,
        ..GuardSection::default()
    };
    for rest in asked {
        assert_eq!(
            judged(&service(rest), &GuardSection::default()).len(),
            1,
            "{rest}"
        );
        assert_eq!(judged(&service(rest), &allowed), [""; 0], "{rest}");
    }
    let whole = service("privileged = true\ncap_add = ['SYS_ADMIN']\npid = 'host'");
    assert_eq!(judged(&whole, &GuardSection::default()).len(), 3);
    let command = "[[checks]]\ncommand = ['/bin/true']\n";
    assert_eq!(judged(command, &GuardSection::default()).len(), 1);
    let commands = GuardSection {
        commands: true,
        ..GuardSection::default()
    };
    assert_eq!(judged(command, &commands), [""; 0]);
}

#[test]
fn devices_units_and_images_are_judged_by_pattern() {
    let open = GuardSection::default();
    for (device, count) in [
        ("/dev/ttyUSB0", 0),
        ("/dev/sda", 1),
        ("/dev/mem", 1),
        ("/dev/mapper/x", 1),
        ("/etc/x", 1),
    ] {
        let found = judged(&service(&format!("devices = ['{device}:/dev/x']")), &open);
        assert_eq!(found.len(), count, "{device}: {found:?}");
    }
    let guard = GuardSection {
        devices: Some(vec!["/dev/ttyUSB?".to_owned()]),
        units: Some(vec!["chrony*.service".to_owned()]),
        images: Some(vec!["registry.example.com/*".to_owned()]),
        ..GuardSection::default()
    };
    assert_eq!(
        judged(&service("devices = ['/dev/ttyUSB0']"), &guard),
        [""; 0]
    );
    assert_eq!(
        judged(&service("devices = ['/dev/ttyUSB10']"), &guard).len(),
        1
    );
    assert_eq!(
        judged("[services.a]\nimage = 'busybox:1'\n", &guard).len(),
        1
    );
    let unit = |unit: &str| format!("{}on_change = ['restart:unit:{unit}']\n", file("/srv/x"));
    assert_eq!(judged(&unit("chrony-x.service"), &guard), [""; 0]);
    assert_eq!(judged(&unit("ssh.service"), &guard).len(), 1);
    assert_eq!(judged(&unit("evenkeel.service"), &open).len(), 1);
}

#[test]
fn patterns_mean_what_they_say() {
    for (pattern, text, fit) in [
        ("*", "", true),
        ("a*", "abc", true),
        ("a*c", "abc", true),
        ("a*c", "abd", false),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("**a", "bca", true),
        ("", "a", false),
        ("a*b*c", "axbxbxc", true),
    ] {
        assert_eq!(fits(pattern, text), fit, "{pattern} {text}");
    }
}
