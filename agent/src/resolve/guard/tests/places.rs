//! Paths, mounts, volumes and the engine's socket.

use super::*;

#[test]
fn protected_paths_are_refused_and_others_are_not() {
    let open = GuardSection::default();
    for path in [
        "/var/lib/evenkeel/x",
        "/data/keys/agent.toml",
        "/etc/evenkeel/agent.toml",
        "/etc/default/evenkeel",
        "/usr/bin/evenkeel",
        "/usr/lib/evenkeel/start",
        "/bin/evenkeel",
        "/boot/x",
        "/dev/x",
        "/proc/x",
        "/sys/x",
        "/etc/systemd/system/a.service",
        "/etc/systemd/system/evenkeel.service.d/x.conf",
        "/run/systemd/x",
        "/var/run/systemd/x",
        "/lib/systemd/x",
        "/usr/lib/systemd/x",
        "/home/me/.config/systemd/user/x.service",
        "/etc/tmpfiles.d/x.conf",
        "/usr/lib/sysusers.d/x.conf",
        "/etc/init.d/x",
        "/etc/rc3.d/S01x",
        "/etc/cron.d/x",
        "/etc/crontab",
        "/var/spool/cron/x",
        "/etc/sudoers",
        "/etc/sudoers.d/x",
        "/etc/doas.conf",
        "/etc/ssh/sshd_config",
        "/root/.ssh/authorized_keys",
        "/home/me/.ssh/config",
        "/srv/keys/authorized_keys2",
        "/etc/passwd",
        "/etc/shadow",
        "/etc/shadow-",
        "/etc/group",
        "/etc/gshadow-",
        "/etc/pam.d/sshd",
        "/etc/ld.so.preload",
        "/etc/ld.so.conf.d/x",
        "/lib64/ld-linux-x86-64.so.2",
        "/lib/udev/rules.d/x",
        "/usr/lib/udev/rules.d/x",
        "/etc/docker/daemon.json",
        "/etc/containers/registries.conf",
        "/run/cdi/x.json",
        // Engine stores and sockets, and what would stand in the place of a folder with protected things in it.
        "/run/cdi",
        "/home",
        "/etc",
        "/srv/docker.sock",
    ] {
        assert_eq!(judged(&file(path), &open).len(), 1, "{path}");
    }
    for path in [
        "/var/lib/docker/containers/x/config.v2.json",
        "/run/docker.sock",
    ] {
        let found = judged(&file(path), &open);
        assert_eq!(found.len(), 1, "{path}: {found:?}");
        assert!(found[0].contains("guard.privileged"), "{found:?}");
    }
    for path in [
        "/etc/mosquitto/x",
        "/srv/x",
        "/etc/evenkeel-app/x",
        "/opt/app/crontab",
        "/etc/systemd-app",
        "/etc/sysctl.d/x.conf",
        "/usr/lib/app/x",
        "/usr/local/bin/tool",
        "/home/me/app/x",
        "/var/lib/evenkeel-app/x",
        "/data/keys/other",
        "/ETC/shadow",
    ] {
        assert_eq!(judged(&file(path), &open), [""; 0], "{path}");
    }
}

#[test]
fn named_paths_are_the_only_ones() {
    let guard = paths(&["/etc/mosquitto", "/srv/", "/etc/cron.d", "//opt//*/conf"]);
    for path in [
        "/etc/mosquitto/x",
        "/srv/a/b",
        "/etc/cron.d/x",
        "/opt/a/conf/x",
    ] {
        assert_eq!(judged(&file(path), &guard), [""; 0], "{path}");
    }
    for path in [
        "/etc/mosquitto-x/y",
        "/opt/x",
        "/opt/a/b/conf",
        "/etc/x",
        "/srvx",
    ] {
        assert_eq!(judged(&file(path), &guard).len(), 1, "{path}");
    }
    assert_eq!(judged(&file("/srv/x"), &paths(&[])).len(), 1);
    assert_eq!(judged(&file("/etc/shadow"), &paths(&["/"])), [""; 0]);
}

#[test]
fn nothing_in_the_configuration_opens_evenkeels_own() {
    let named = paths(&[
        "/",
        "/var/lib/evenkeel",
        "/etc/evenkeel",
        "/data/keys/agent.toml",
        "/etc/systemd/system",
        "/var/lib",
        "/usr/bin",
    ]);
    let named = GuardSection {
        privileged: true,
        commands: true,
        units: Some(vec!["*".to_owned()]),
        ..named
    };
    for path in [
        "/var/lib/evenkeel/x",
        "/etc/evenkeel/x",
        "/etc/default/evenkeel",
        "/data/keys/agent.toml",
        "/etc/systemd/system/evenkeel.service",
        "/usr/bin/evenkeel",
        "/usr/local/lib/evenkeel/start",
        "/opt/evenkeel/bin/evenkeel",
    ] {
        assert_eq!(judged(&file(path), &named).len(), 1, "{path}");
    }
    for source in [
        "/var/lib/evenkeel",
        "/var/lib",
        "/var",
        "/etc",
        "/data",
        "/data/keys",
        "/usr/bin",
    ] {
        let app = service(&format!("volumes = ['{source}:/x:ro']"));
        assert_eq!(judged(&app, &named).len(), 1, "{source}");
        let app = volume(&format!("type = 'none', o = 'bind', device = '{source}'"));
        assert_eq!(judged(&app, &named).len(), 1, "{source}");
    }
    assert_eq!(
        judged(&volume("type = 'none', o = 'bind', device = '/'"), &named).len(),
        1
    );
    for unit in [
        "evenkeel.service",
        "evenkeel-x.timer",
        "fleet-agent.service",
    ] {
        let app = format!("{}on_change = ['restart:unit:{unit}']\n", file("/srv/x"));
        assert_eq!(judged(&app, &named).len(), 1, "{unit}");
    }
}

#[test]
fn a_mount_must_not_hold_what_is_protected() {
    let open = GuardSection::default();
    for (source, count) in [
        ("/etc", 1),
        ("/etc/", 1),
        ("/var", 1),
        ("/var/lib", 1),
        ("/usr", 1),
        ("/usr/bin", 1),
        ("/lib", 1),
        ("/home", 1),
        ("/home/me", 1),
        ("/srv/data", 0),
        ("/home/me/app", 0),
        ("/etc/mosquitto", 0),
        ("/dev", 1),
        ("/dev/ttyUSB0", 1),
        ("/proc", 1),
        ("/sys/class", 1),
        ("/etc/ssh", 1),
        ("/etc/docker", 1),
        ("/run", 1),
        ("/run/dbus/system_bus_socket", 1),
        ("/root", 1),
        ("/etc/localtime", 0),
        ("/usr/share/zoneinfo", 0),
    ] {
        let found = judged(&service(&format!("volumes = ['{source}:/x']")), &open);
        assert!(
            found.len() >= count && found.is_empty() == (count == 0),
            "{source}: {found:#?}"
        );
        let long = format!(
            "volumes = [{{ type = 'bind', source = '{source}', target = '/x', read_only = true }}]"
        );
        assert_eq!(judged(&service(&long), &open), found, "{source}");
    }
}

#[test]
fn the_engines_socket_is_a_privilege_wherever_it_lies() {
    let everywhere = paths(&["/"]);
    let both = GuardSection {
        privileged: true,
        ..everywhere.clone()
    };
    for source in [
        "/run/docker.sock",
        "/var/run/docker.sock",
        "/run/podman/podman.sock",
        "/run/podman",
        "/var/run/podman",
        "/run/containerd/containerd.sock",
        "/run/user/1000/podman/podman.sock",
        "/run/user/1000/docker.sock",
        "/run/user/1000",
        "/run/user",
        "/opt/engine/api.sock",
        "/opt/engine",
        "/srv/anywhere/docker.sock",
        "/srv/anywhere/podman.sock",
        "/var/lib/docker",
        "/var/lib/docker/volumes",
        "/var/lib/containers/storage",
    ] {
        let app = service(&format!("volumes = ['{source}:/x']"));
        assert_eq!(judged(&app, &everywhere).len(), 1, "{source}");
        assert!(
            !judged(&app, &GuardSection::default()).is_empty(),
            "{source}"
        );
        assert_eq!(judged(&app, &both), [""; 0], "{source}");
    }
    // The agent's own lies below these, its credentials and perhaps its program, which nothing unlocks.
    for source in ["/run", "/var/run", "/opt"] {
        let app = service(&format!("volumes = ['{source}:/x']"));
        assert_eq!(judged(&app, &both).len(), 1, "{source}");
    }
    let harmless = service("volumes = ['/run/user/1000/wayland-0:/x']");
    assert_eq!(judged(&harmless, &GuardSection::default()), [""; 0]);
}

#[test]
fn a_path_is_judged_by_where_it_leads() {
    let open = GuardSection::default();
    let mount = service("volumes = ['/srv/link/x:/x']");
    let bind = volume("type = 'none', o = 'bind', device = '/srv/link/x'");
    for (real, refused) in [
        ("/srv/other/x", false),
        ("/etc/ssh", true),
        ("/etc", true),
        ("/var/lib/evenkeel", true),
        ("/run/docker.sock", true),
        ("/", true),
        ("", true),
    ] {
        for app in [&mount, &bind, &file("/srv/link/x")] {
            let found = led(app, &open, &[("/srv/link/x", real)]);
            assert_eq!(!found.is_empty(), refused, "{app} -> {real}: {found:?}");
        }
    }
    let srv = paths(&["/srv"]);
    assert_eq!(led(&mount, &srv, &[("/srv/link/x", "/srv/y")]), [""; 0]);
    assert_eq!(led(&mount, &srv, &[("/srv/link/x", "/opt/y")]).len(), 1);
    // The owner's own words name real places, but for what every distribution links.
    let run = service("volumes = ['/var/run/app:/x']");
    let guard = paths(&["/var/run/app"]);
    assert_eq!(judged(&run, &guard), [""; 0]);
    assert_eq!(led(&run, &guard, &[("/var/run/app", "/run/app")]), [""; 0]);
    let astray = Found::Astray("leads out".to_owned());
    let state = state(&mount);
    let look = &looks(&state)[0];
    assert_eq!(really(look, &astray, &limits(&open)).len(), 1);
}

#[test]
fn a_volumes_options_are_judged_as_the_mount_they_make() {
    let open = GuardSection::default();
    for options in [
        "type = 'none', o = 'bind', device = '/srv/x'",
        "type = 'none', o = 'rbind,ro', device = '/srv//x/'",
        "type = 'tmpfs', o = 'size=100m,uid=1000', device = 'tmpfs'",
        "type = 'nfs', o = 'addr=10.0.0.1,nolock,soft,rw', device = ':/etc'",
        "type = 'nfs4', o = 'addr=nas.local', device = 'nas.local:/export/data'",
        "type = 'cifs', o = 'username=a,password=b', device = '//nas.local/etc'",
        "size = '1g'",
    ] {
        assert_eq!(judged(&volume(options), &open), [""; 0], "{options}");
    }
    assert_eq!(
        judged(&service("volumes = ['v:/x']\n[volumes.v]"), &open),
        [""; 0]
    );
    for options in [
        "type = 'none', o = 'bind', device = '/etc'",
        "type = 'none', o = 'bind', device = '/etc/'",
        "type = 'none', o = 'bind', device = '//etc//ssh'",
        "type = 'none', o = 'bind', device = '/srv/../etc'",
        "type = 'none', o = 'bind', device = '/srv/./x'",
        // Relative to wherever the engine runs: its `/`.
        "type = 'none', o = 'bind', device = 'etc'",
        "type = 'none', o = 'bind', device = ''",
        "type = 'none', o = 'rw,rbind', device = '/'",
        "type = 'none', o = ' BIND ', device = '/etc'",
        "o = 'bind', device = '/run'",
        "type = 'tmpfs', o = 'bind', device = '/etc'",
        "type = 'nfs', o = 'bind', device = '/etc'",
        "type = 'nfs', device = '/etc'",
        "type = 'cifs', o = 'credentials=/etc/evenkeel/token', device = '//nas/x'",
        "type = 'overlay', o = 'lowerdir=/srv/a:/srv/b', device = 'overlay'",
        "type = 'ext4', device = '/dev/sda1'",
        "type = 'ext4', device = 'LABEL=root'",
        "type = 'ext4', o = 'loop', device = '/srv/image'",
        "type = 'proc', device = 'proc'",
        "type = 'sysfs', device = 'sysfs'",
        "type = 'devtmpfs', device = 'devtmpfs'",
        "type = 'cgroup2', device = 'cgroup2'",
        "type = 'debugfs', device = 'none'",
        "type = 'fuse', device = 'sh#x'",
        "type = 'fuse.sshfs', device = 'x:/'",
        "Type = 'none', O = 'bind', Device = '/etc'",
        "type = 'tmpfs', device = 'tmpfs', Device = '/etc'",
        "type = 'tmpfs', device = 'tmpfs', helper = '/bin/sh'",
    ] {
        assert!(!judged(&volume(options), &open).is_empty(), "{options}");
    }
    // What the owner says twice (a path and a device, or a path and a privilege) is open.
    let disk = GuardSection {
        devices: Some(vec!["/dev/sdb1".to_owned()]),
        ..paths(&["/dev/sdb1"])
    };
    let on_disk = volume("type = 'ext4', device = '/dev/sdb1'");
    assert_eq!(judged(&on_disk, &disk), [""; 0]);
    assert_eq!(judged(&on_disk, &paths(&["/dev/sdb1"])).len(), 1);
    let overlay = volume(
        "type = 'overlay', o = 'lowerdir=/srv/a:/etc/ssh,upperdir=/srv/u', device = 'overlay'",
    );
    assert_eq!(judged(&overlay, &GuardSection::default()).len(), 2);
    assert_eq!(judged(&overlay, &privileged()).len(), 1);
    let plugin = format!(
        "{}[volumes.v]\ndriver = 'sshfs'\n",
        service("volumes = ['v:/x']")
    );
    assert_eq!(judged(&plugin, &open).len(), 1);
    assert_eq!(judged(&plugin, &privileged()), [""; 0]);
}

#[test]
fn a_log_must_not_be_written_to_a_protected_place() {
    let open = GuardSection::default();
    let log = |options: &str| {
        service(&format!(
            "logging = {{ driver = 'json-file', options = {{ {options} }} }}"
        ))
    };
    assert_eq!(judged(&log("max-size = '1m', tag = 'a/b'"), &open), [""; 0]);
    assert_eq!(judged(&log("path = '/var/log/app.log'"), &open), [""; 0]);
    assert_eq!(
        judged(&log("syslog-address = 'udp://10.0.0.1:514'"), &open),
        [""; 0]
    );
    for options in [
        "path = '/etc/cron.d/x'",
        "path = '/var/../etc/cron.d/x'",
        "syslog-address = 'unix:///run/docker.sock'",
        "syslog-tls-ca-cert = '/etc/evenkeel/token'",
    ] {
        assert_eq!(judged(&log(options), &open).len(), 1, "{options}");
    }
}
