#![allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]

mod places;

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

fn limits(guard: &GuardSection) -> Limits {
    let places = Places {
        own: vec![
            "/var/lib/evenkeel".to_owned(),
            "/data/keys/agent.toml".to_owned(),
        ],
        engine: vec!["/opt/engine/api.sock".to_owned()],
    };
    Limits {
        guard: guard.clone(),
        declared: places.clone(),
        host: places,
        units: vec!["fleet-agent.service".to_owned()],
    }
}

fn judged(app: &str, guard: &GuardSection) -> Vec<String> {
    violations(&state(app), &limits(guard))
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// What a state is told for where its paths lead.
fn led(app: &str, guard: &GuardSection, leads: &[(&str, &str)]) -> Vec<String> {
    let state = state(app);
    let mut found = Vec::new();
    for look in looks(&state) {
        let path = match &look.at {
            Place::File(path, _) | Place::Device(path) => path.as_str(),
            Place::Source(path, _) => path.as_str(),
        };
        let real = leads
            .iter()
            .find(|(from, _)| *from == path)
            .map_or(path, |(_, to)| *to);
        let seen = match &look.at {
            Place::File(..) | Place::Source(..) => Found::Leads(real.to_owned()),
            Place::Device(_) => Found::Nodes(vec![Node {
                path: real.to_owned(),
                kind: NodeKind::Other,
            }]),
        };
        found.extend(really(&look, &seen, &limits(guard)));
    }
    found.iter().map(ToString::to_string).collect()
}

fn paths(allowed: &[&str]) -> GuardSection {
    GuardSection {
        paths: Some(allowed.iter().map(|path| (*path).to_owned()).collect()),
        ..GuardSection::default()
    }
}

fn devices(allowed: &[&str]) -> GuardSection {
    GuardSection {
        devices: Some(allowed.iter().map(|path| (*path).to_owned()).collect()),
        ..GuardSection::default()
    }
}

fn privileged() -> GuardSection {
    GuardSection {
        privileged: true,
        ..GuardSection::default()
    }
}

fn file(path: &str) -> String {
    format!("[[files]]\npath = '{path}'\ncontent = ''\n")
}

fn service(rest: &str) -> String {
    format!("[services.a]\nimage = 'IMAGE'\n{rest}\n")
}

/// A volume with these options, mounted.
fn volume(options: &str) -> String {
    format!(
        "{}[volumes.v]\ndriver_opts = {{ {options} }}\n",
        service("volumes = ['v:/x']")
    )
}

#[test]
fn the_hosts_privileges_need_the_owners_word() {
    let asked = [
        "privileged = true",
        "cap_add = ['NET_ADMIN']",
        "cap_add = ['ALL']",
        "network_mode = 'host'",
        "pid = 'host'",
        "ipc = 'host'",
        "userns_mode = 'host'",
        "security_opt = ['seccomp=unconfined']",
        "security_opt = ['seccomp:unconfined']",
        "security_opt = ['Seccomp=Unconfined']",
        "security_opt = ['apparmor=unconfined']",
        "security_opt = ['apparmor=mine']",
        "security_opt = ['seccomp={}']",
        "security_opt = ['label=disable']",
        "security_opt = ['label:type:spc_t']",
        "security_opt = ['systempaths=unconfined']",
        "security_opt = ['unmask=ALL']",
        "security_opt = ['proc-opts=rw']",
        "security_opt = ['writable-cgroups=true']",
        "security_opt = ['no-new-privileges=false']",
        "security_opt = ['no-new-privileges:0']",
        "sysctls = { 'kernel.core_pattern' = 'x' }",
        "sysctls = { 'net/../kernel/core_pattern' = 'x' }",
        "sysctls = { 'vm.swappiness' = '1' }",
        "oom_score_adj = -1000",
        "uts = 'host'",
        "cgroup = 'host'",
        "cgroup_parent = 'system.slice'",
        "runtime = 'other'",
        "device_cgroup_rules = ['b *:* rwm']",
        "oom_kill_disable = true",
        "cpu_rt_runtime = 1000",
        "storage_opt = { 'dm.x' = '1' }",
        "pid = 'container:other'",
        "ipc = 'container:other'",
        "network_mode = 'container:other'",
    ];
    for rest in asked {
        assert_eq!(
            judged(&service(rest), &GuardSection::default()).len(),
            1,
            "{rest}"
        );
        assert_eq!(judged(&service(rest), &privileged()), [""; 0], "{rest}");
    }
    for rest in [
        "security_opt = ['no-new-privileges']",
        "security_opt = ['no-new-privileges:true']",
        "security_opt = ['mask=/proc/acpi']",
        "sysctls = { 'net.core.somaxconn' = '1024', 'kernel.msgmax' = '1', 'fs.mqueue.msg_max' = '1' }",
        "cap_drop = ['ALL']",
        "ipc = 'shareable'",
        "network_mode = 'none'",
        "cgroup = 'private'",
        "storage_opt = { size = '1g' }",
        "gpus = 'all'",
        "oom_score_adj = 500",
        "oom_score_adj = -500",
    ] {
        assert_eq!(
            judged(&service(rest), &GuardSection::default()),
            [""; 0],
            "{rest}"
        );
    }
    let whole = service("privileged = true\ncap_add = ['SYS_ADMIN']\npid = 'host'");
    assert_eq!(judged(&whole, &GuardSection::default()).len(), 3);
    for network in [
        "external = true\nname = 'host'",
        "driver = 'host'",
        "name = 'Host'",
    ] {
        let app = format!("{}[networks.n]\n{network}\n", service("networks = ['n']"));
        assert_eq!(judged(&app, &GuardSection::default()).len(), 1, "{network}");
        assert_eq!(judged(&app, &privileged()), [""; 0], "{network}");
    }
    let command = "[[checks]]\ncommand = ['/bin/true']\n";
    assert_eq!(judged(command, &GuardSection::default()).len(), 1);
    assert_eq!(judged(command, &privileged()).len(), 1);
    let commands = GuardSection {
        commands: true,
        ..GuardSection::default()
    };
    assert_eq!(judged(command, &commands), [""; 0]);
}

#[test]
fn devices_are_judged_by_name_and_by_what_they_are() {
    let open = GuardSection::default();
    let device = |path: &str| service(&format!("devices = ['{path}:/dev/x']"));
    for path in [
        "/dev/ttyUSB0",
        "/dev/snd",
        "/dev/serial/by-id/usb-x",
        "/dev/i2c-1",
        "/dev/net/tun",
    ] {
        assert_eq!(judged(&device(path), &open), [""; 0], "{path}");
    }
    for path in [
        "/dev/sda",
        "/dev/sda1",
        "/dev/nvme0n1",
        "/dev/mmcblk0p1",
        "/dev/mem",
        "/dev/mapper/x",
        "/dev/mapper",
        "/dev/disk/by-id/x",
        "/dev/loop0",
        "/dev/loop-control",
        "/dev/vfio/1",
        "/dev",
        "/etc/x",
    ] {
        assert_eq!(judged(&device(path), &open).len(), 1, "{path}");
    }
    // By name it is a serial port, and really a disk.
    let port = device("/dev/serial/by-id/usb-x");
    let leads = |to| [("/dev/serial/by-id/usb-x", to)];
    assert_eq!(led(&port, &open, &leads("/dev/ttyUSB0")), [""; 0]);
    assert_eq!(led(&port, &open, &leads("/dev/sda")).len(), 1);
    assert_eq!(led(&port, &open, &leads("/srv/node")).len(), 1);
    let named = devices(&["/dev/serial/by-id/*"]);
    assert_eq!(judged(&port, &named), [""; 0]);
    assert_eq!(led(&port, &named, &leads("/dev/ttyUSB0")), [""; 0]);
    assert_eq!(led(&port, &named, &leads("/dev/sda")).len(), 1);
    let both = devices(&["/dev/serial/by-id/*", "/dev/sda"]);
    assert_eq!(led(&port, &both, &leads("/dev/sda")), [""; 0]);
    // A disk by another name, and memory by its numbers.
    let state = state(&device("/dev/odd"));
    let look = &looks(&state)[0];
    for (kind, count) in [
        (NodeKind::Block, 1),
        (NodeKind::Memory, 1),
        (NodeKind::Other, 0),
    ] {
        let found = Found::Nodes(vec![Node {
            path: "/dev/odd".to_owned(),
            kind,
        }]);
        assert_eq!(
            really(look, &found, &limits(&open)).len(),
            count,
            "{kind:?}"
        );
        assert_eq!(really(look, &found, &limits(&devices(&["/dev/odd"]))), []);
    }
    let guard = devices(&["/dev/ttyUSB?"]);
    for (path, count) in [
        ("/dev/ttyUSB0", 0),
        ("/dev/ttyUSB10", 1),
        ("/dev/ttyUSB0/x", 1),
        ("/dev/ttyACM0", 1),
        ("/dev", 1),
    ] {
        assert_eq!(judged(&device(path), &guard).len(), count, "{path}");
    }
}

#[test]
fn units_are_judged_by_pattern_and_none_ends_the_device() {
    let unit = |unit: &str| format!("{}on_change = ['restart:unit:{unit}']\n", file("/srv/x"));
    let guard = GuardSection {
        units: Some(vec![
            "chrony*.service".to_owned(),
            "reboot.target".to_owned(),
        ]),
        ..GuardSection::default()
    };
    for (name, by_default, by_name) in [
        ("chrony.service", 0, 0),
        ("chrony-x.service", 0, 0),
        ("ssh.service", 0, 1),
        ("evenkeel.service", 1, 1),
        ("evenkeel-x.timer", 1, 1),
        ("fleet-agent.service", 1, 1),
        ("reboot.target", 1, 0),
        ("poweroff.target", 1, 1),
        ("rescue.service", 1, 1),
        ("systemd-reboot.service", 1, 1),
        ("systemd-networkd.service", 0, 1),
    ] {
        assert_eq!(
            judged(&unit(name), &GuardSection::default()).len(),
            by_default,
            "{name}"
        );
        assert_eq!(judged(&unit(name), &guard).len(), by_name, "{name}");
    }
}

#[test]
fn images_are_judged_by_pattern() {
    let guard = GuardSection {
        images: Some(vec!["registry.example.com/*".to_owned()]),
        ..GuardSection::default()
    };
    assert_eq!(judged(&service(""), &guard), [""; 0]);
    assert_eq!(
        judged("[services.a]\nimage = 'busybox:1'\n", &guard).len(),
        1
    );
}

#[test]
fn gpus_are_devices_of_the_owner() {
    let only = |pattern: &str| GuardSection {
        devices: Some(vec![pattern.to_owned()]),
        ..GuardSection::default()
    };
    let nvidia = service("gpus = [{ driver = 'nvidia', count = 1 }]");
    let reserved = service(
        "deploy.resources.reservations.devices = [{ capabilities = ['gpu'], driver = 'nvidia' }]",
    );
    for app in [&nvidia, &reserved] {
        assert_eq!(judged(app, &GuardSection::default()), [""; 0]);
        assert_eq!(judged(app, &only("/dev/nvidia*")), [""; 0]);
        assert_eq!(judged(app, &only("/dev/ttyUSB*")).len(), 1);
    }
    // Without a driver the engine may pick another maker's.
    assert_eq!(
        judged(&service("gpus = 'all'"), &only("/dev/nvidia*")).len(),
        1
    );
    let any = service("gpus = [{ driver = 'cdi', device_ids = ['vendor.com/class=x'] }]");
    assert_eq!(judged(&any, &GuardSection::default()).len(), 1);
}

#[test]
fn where_configs_and_secrets_lie_nothing_else_can_be_declared_or_mounted() {
    let app = "[services.a]\nimage = 'IMAGE'\nsecrets = ['s']\n[secrets.s]\ncontent = 'x'\n";
    let narrow = GuardSection {
        paths: Some(vec!["/srv".parse().unwrap()]),
        ..GuardSection::default()
    };
    assert_eq!(judged(app, &GuardSection::default()), [""; 0]);
    assert_eq!(judged(app, &narrow), [""; 0]);
    for source in [
        "/var/lib/evenkeel-files",
        "/var/lib/evenkeel-files/app/secrets/a/s",
        "/var/lib",
    ] {
        let mount = service(&format!("volumes = ['{source}:/x']"));
        assert_eq!(
            judged(&mount, &GuardSection::default()).len(),
            1,
            "{source}"
        );
    }
}

#[test]
fn what_could_leave_the_container_and_is_not_judged_cannot_be_declared() {
    for rest in [
        "use_api_socket = true",
        "credential_spec = { file = '/etc/shadow' }",
        "volumes_from = ['b']",
        "configs = ['c']",
        "secrets = ['s']",
        "env_file = '/etc/shadow'",
        "extends = { file = '/etc/x', service = 'a' }",
        "label_file = '/etc/x'",
        "post_start = [{ command = 'x', privileged = true }]",
        "pid = 'service:b'",
        "network_mode = 'ns:/proc/1/ns/net'",
        "userns_mode = 'keep-id'",
        "devices = ['vendor.com/class=device']",
        "env_file = '../../fleet.toml'",
        "env_file = 'a/../../../x'",
        "label_file = { path = '/etc/x' }",
        "extends = { file = '../other/compose.yaml', service = 'a' }",
        "configs = ['c']\n[configs.c]\nfile = '/etc/shadow'",
        "configs = ['c']\n[configs.c]\nfile = '../../fleet.toml'",
        "secrets = ['c']\n[secrets.c]\nexternal = true",
        "secrets = ['c']\n[secrets.c]\nfile = '.'",
        "pid = 'ns:/proc/1/ns/pid'",
        "volumes = ['/:/x']",
        "volumes = ['../x:/x']",
        "volumes = ['~/x:/x']",
        "volumes = ['/srv/../etc:/x']",
        "volumes = ['/srv//x:/x']",
        "volumes = [{ type = 'npipe', source = 'x', target = '/x' }]",
        "volumes = [{ type = 'cluster', source = 'x', target = '/x' }]",
        "volumes = [{ type = 'image', source = 'x', target = '/x' }]",
    ] {
        let tree = tree(&[
            ("fleet.toml", "format = 1\nname = 'a'\nallow_tags = true\n"),
            ("groups/all.toml", "match = 'all'\napps = ['app']\n"),
            ("apps/app/app.toml", &service(rest)),
        ]);
        let selection = apps_of(&"gw-1".parse().unwrap(), &BTreeMap::new(), &tree).unwrap();
        assert!(resolve(&selection, &tree).is_err(), "{rest}");
    }
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
