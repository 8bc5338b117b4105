//! What no signature can unlock: the limits of the device's owner.
//!
//! Judges a desired state as it is declared. The real path behind a declared one (a link on the way) is known to the
//! files alone: [`path_violation`] judges that one too. Every violation is told at once.

use std::fmt;

use evenkeel_schema::agent_config::GuardSection;
use evenkeel_schema::app::{OnChange, Probe};
use evenkeel_schema::service::{Mount, Network, NetworkMode, Service, Volume, print};

use crate::domain::desired::{DesiredApp, DesiredState};
use crate::domain::resource::{ResourceId, ServiceId};

/// Something that the owner does not allow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// What.
    pub resource: ResourceId,
    /// Why not, and what the owner could change.
    pub why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.resource, self.why)
    }
}

/// The agent's own, beside its state directory: who can write these can unlock everything.
const OWN: [&str; 3] = [
    "/etc/evenkeel",
    "/usr/bin/evenkeel",
    "/usr/local/bin/evenkeel",
];

/// Protected where the owner names no paths: with their meaning, for messages. A final `*` stands for any ending.
const PROTECTED: [(&str, &str); 38] = [
    ("/boot", "the boot files"),
    ("/dev", "the device nodes"),
    ("/proc", "the kernel"),
    ("/sys", "the kernel"),
    ("/etc/systemd", "systemd"),
    ("/usr/lib/systemd", "systemd"),
    ("/usr/local/lib/systemd", "systemd"),
    ("/lib/systemd", "systemd"),
    ("/run/systemd", "systemd"),
    ("/var/run/systemd", "systemd"),
    ("/etc/init.d", "the init scripts"),
    ("/etc/rc.local", "the init scripts"),
    ("/etc/cron*", "cron"),
    ("/etc/anacrontab", "cron"),
    ("/var/spool/cron", "cron"),
    ("/var/spool/anacron", "cron"),
    ("/etc/sudoers*", "sudo"),
    ("/etc/sudo.conf", "sudo"),
    ("/etc/doas.conf", "doas"),
    ("/etc/ssh", "ssh"),
    ("/root/.ssh", "ssh"),
    ("/etc/passwd*", "the accounts"),
    ("/etc/shadow*", "the accounts"),
    ("/etc/group*", "the accounts"),
    ("/etc/gshadow*", "the accounts"),
    ("/etc/subuid*", "the accounts"),
    ("/etc/subgid*", "the accounts"),
    ("/etc/nsswitch.conf", "the accounts"),
    ("/etc/pam.d", "the log-ins"),
    ("/etc/pam.conf", "the log-ins"),
    ("/etc/security", "the log-ins"),
    ("/etc/ld.so.*", "the loader"),
    ("/lib/security", "the log-ins"),
    ("/usr/lib/security", "the log-ins"),
    ("/etc/polkit-1", "polkit"),
    ("/usr/share/polkit-1", "polkit"),
    ("/etc/udev", "udev"),
    ("/lib/udev", "udev"),
];

/// Sockets and stores of engines: who has one is root on the device.
const ENGINE: [&str; 12] = [
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/docker",
    "/run/podman",
    "/var/run/podman",
    "/run/containerd",
    "/var/run/containerd",
    "/run/user/*/podman",
    "/run/user/*/docker.sock",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/containers",
];

/// Device nodes that are the whole disk or the whole memory.
const RAW: [&str; 27] = [
    "/dev/sd*",
    "/dev/hd*",
    "/dev/vd*",
    "/dev/xvd*",
    "/dev/nvme*",
    "/dev/mmcblk*",
    "/dev/mtd*",
    "/dev/ubi*",
    "/dev/dm-*",
    "/dev/md*",
    "/dev/loop*",
    "/dev/nbd*",
    "/dev/sr*",
    "/dev/ram*",
    "/dev/zram*",
    "/dev/bcache*",
    "/dev/sg*",
    "/dev/bsg*",
    "/dev/mapper",
    "/dev/disk",
    "/dev/block",
    "/dev/char",
    "/dev/root",
    "/dev/mem",
    "/dev/kmem",
    "/dev/port",
    "/dev/fd",
];

/// Every violation in a state. `state_dir` is the agent's state directory as a declared path would name it (below the
/// configured root).
#[must_use]
pub fn violations(state: &DesiredState, guard: &GuardSection, state_dir: &str) -> Vec<Violation> {
    let mut judge = Judge {
        guard,
        state_dir,
        found: Vec::new(),
    };
    for (app, desired) in &state.apps {
        judge.files(desired);
        for (name, service) in &desired.services {
            let id = ResourceId::Service(ServiceId {
                app: app.clone(),
                service: name.clone(),
            });
            judge.service(&id, service);
        }
        for (key, network) in &desired.networks {
            judge.network(&print::network_name(app, key, network), network);
        }
        for (key, volume) in &desired.volumes {
            judge.volume(&print::volume_name(app, key, volume), volume);
        }
        for check in &desired.checks {
            if let Probe::Command(words) = &check.probe
                && !guard.commands
            {
                let first = desired.services.keys().next();
                let resource = match first {
                    Some(service) => ResourceId::Service(ServiceId {
                        app: app.clone(),
                        service: service.clone(),
                    }),
                    None => ResourceId::Unit(format!("{app} (check)")),
                };
                judge.add(
                    &resource,
                    format!(
                        "the app `{app}` has the check `command = [\"{}\", ...]`, and commands are not allowed (guard.commands)",
                        words.first().map(String::as_str).unwrap_or_default().escape_debug()
                    ),
                );
            }
        }
    }
    judge.found.sort();
    judge.found.dedup();
    judge.found
}

/// Why a file must not be written at a path; `None` where it may.
#[must_use]
pub fn path_violation(path: &str, guard: &GuardSection, state_dir: &str) -> Option<String> {
    let path = path.trim_end_matches('/');
    if let Some(allowed) = &guard.paths {
        if !allowed.iter().any(|allowed| covers(allowed, path)) {
            return Some(format!(
                "`{path}` is outside the paths that guard.paths allows"
            ));
        }
        // Being below an allowed path does not open the agent's own; naming it does.
        let named = |own: &str| {
            allowed
                .iter()
                .any(|allowed| covers(own, allowed.trim_end_matches('/')))
        };
        return own(state_dir)
            .find(|own| covers(own, path) && !named(own))
            .map(|_| format!("`{path}` is evenkeel's own"));
    }
    if own(state_dir).any(|own| covers(own, path)) {
        return Some(format!("`{path}` is evenkeel's own"));
    }
    let ssh = path
        .split('/')
        .any(|part| part == ".ssh" || part.starts_with("authorized_keys"));
    let meaning = PROTECTED
        .iter()
        .find(|(protected, _)| covers(protected, path))
        .map(|(_, meaning)| *meaning)
        .or(ssh.then_some("ssh"));
    meaning.map(|meaning| {
        format!("`{path}` is protected ({meaning}); the owner may allow it with guard.paths")
    })
}

fn own(state_dir: &str) -> impl Iterator<Item = &str> {
    OWN.into_iter()
        .chain(std::iter::once(state_dir.trim_end_matches('/')))
        .filter(|own| !own.is_empty())
}

/// Why a path must not be mounted: as for files, and not a parent of what is protected either.
fn mount_violation(path: &str, guard: &GuardSection, state_dir: &str) -> Option<String> {
    if let Some(why) = path_violation(path, guard, state_dir) {
        return Some(why);
    }
    let path = path.trim_end_matches('/');
    let parent_of = |inner: &str| holds(path, inner);
    match &guard.paths {
        Some(allowed) => own(state_dir)
            .find(|own| {
                parent_of(own)
                    && !allowed.iter().any(|allowed| covers(own, allowed.trim_end_matches('/')))
            })
            .map(|own| format!("`{path}` holds `{own}`, which is evenkeel's own")),
        None => own(state_dir)
            .chain(PROTECTED.iter().map(|(protected, _)| *protected))
            .find(|inner| parent_of(inner))
            .map(|inner| {
                format!("`{path}/` holds `{inner}`, which is protected; the owner may allow it with guard.paths")
            }),
    }
}

/// Whether `path` is `above` or below it. `*` and `?` in `above` stand for letters of one component.
fn covers(above: &str, path: &str) -> bool {
    let above = above.trim_end_matches('/');
    if above.is_empty() {
        return true;
    }
    let mut parts = path.split('/');
    above
        .split('/')
        .all(|pattern| parts.next().is_some_and(|part| fits(pattern, part)))
}

/// Whether something that fits `inner` is at `path` or below it.
fn holds(path: &str, inner: &str) -> bool {
    let mut inner = inner.split('/');
    path.split('/')
        .all(|part| inner.next().is_some_and(|pattern| fits(pattern, part)))
}

/// Whether a text fits a pattern of `*` (any letters) and `?` (one letter).
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p).is_some_and(|c| *c == '?' || *c == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            star = Some((at, from + 1));
            p = at + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

struct Judge<'g> {
    guard: &'g GuardSection,
    state_dir: &'g str,
    found: Vec<Violation>,
}

impl Judge<'_> {
    fn add(&mut self, resource: &ResourceId, why: String) {
        self.found.push(Violation {
            resource: resource.clone(),
            why,
        });
    }

    fn files(&mut self, app: &DesiredApp) {
        for (path, file) in &app.files {
            let id = ResourceId::File(path.clone());
            if let Some(why) = path_violation(path.as_str(), self.guard, self.state_dir) {
                self.add(&id, why);
            }
            for change in &file.on_change {
                if let OnChange::RestartUnit(unit) | OnChange::ReloadUnit(unit) = change
                    && let Some(why) = self.unit(unit)
                {
                    self.add(&ResourceId::Unit(unit.clone()), why);
                }
            }
        }
    }

    fn unit(&self, unit: &str) -> Option<String> {
        match &self.guard.units {
            Some(allowed) => (!allowed.iter().any(|pattern| fits(pattern, unit)))
                .then(|| format!("`{unit}` is not among the units that guard.units allows")),
            None => unit
                .starts_with("evenkeel")
                .then(|| format!("`{unit}` is evenkeel's own")),
        }
    }

    fn service(&mut self, id: &ResourceId, service: &Service) {
        if let Some(allowed) = &self.guard.images {
            let (whole, name) = (service.image.as_str(), service.image.name());
            if !allowed
                .iter()
                .any(|pattern| fits(pattern, whole) || fits(pattern, name))
            {
                self.add(
                    id,
                    format!("`{whole}` is not among the images that guard.images allows"),
                );
            }
        }
        for device in &service.devices {
            if let Some(why) = self.device(device.source.as_str()) {
                self.add(id, why);
            }
        }
        for mount in &service.volumes {
            if let Mount::Bind { source, .. } = mount {
                self.mount(id, source.as_str());
            }
        }
        if !self.guard.privileged {
            for what in privileges(service) {
                self.add(id, format!("{what} is not allowed (guard.privileged)"));
            }
        }
    }

    fn device(&self, path: &str) -> Option<String> {
        match &self.guard.devices {
            Some(allowed) => (!allowed.iter().any(|pattern| {
                // A pattern names nodes: what is below a fitting folder is not meant.
                pattern.matches('/').count() == path.matches('/').count() && covers(pattern, path)
            }))
            .then(|| format!("`{path}` is not among the devices that guard.devices allows")),
            None if !covers("/dev", path) || path == "/dev" => Some(format!(
                "`{path}` is not a device node in /dev; the owner may allow it with guard.devices"
            )),
            None => RAW.iter().any(|raw| covers(raw, path)).then(|| {
                format!("`{path}` is a disk or memory; the owner may allow it with guard.devices")
            }),
        }
    }

    fn mount(&mut self, id: &ResourceId, source: &str) {
        if let Some(why) = mount_violation(source, self.guard, self.state_dir) {
            self.add(id, why);
        }
        let socket = ENGINE
            .iter()
            .any(|engine| covers(engine, source) || holds(source, engine))
            || source.ends_with("/docker.sock")
            || source.ends_with("/podman.sock")
            || source.ends_with("/containerd.sock");
        if socket && !self.guard.privileged {
            self.add(
                id,
                format!("mounting `{source}` gives the container the engine, which is not allowed (guard.privileged)"),
            );
        }
    }

    /// A volume of the `local` driver with a `device` is a mount of that path by another name.
    fn volume(&mut self, name: &str, volume: &Volume) {
        let id = ResourceId::Volume(name.to_owned());
        let local = volume
            .driver
            .as_deref()
            .is_none_or(|driver| driver == "local");
        if !local {
            // A plugin runs as root, and what it mounts is its own affair.
            if !self.guard.privileged {
                self.add(
                    &id,
                    format!(
                        "the volume driver `{}` is not allowed (guard.privileged)",
                        volume.driver.as_deref().unwrap_or_default()
                    ),
                );
            }
            return;
        }
        let Some(device) = volume.driver_opts.get("device") else {
            return;
        };
        if device.starts_with('/') {
            if device.split('/').any(|part| matches!(part, "." | "..")) {
                self.add(&id, format!("`{device}` has `.` or `..` in it"));
            } else {
                let plain = format!(
                    "/{}",
                    device
                        .split('/')
                        .filter(|part| !part.is_empty())
                        .collect::<Vec<_>>()
                        .join("/")
                );
                self.mount(&id, &plain);
            }
        }
        let overlay = volume
            .driver_opts
            .get("type")
            .is_some_and(|kind| kind == "overlay");
        if overlay && !self.guard.privileged {
            self.add(
                &id,
                "an overlay of the host's folders is not allowed (guard.privileged)".to_owned(),
            );
        }
    }

    fn network(&mut self, name: &str, network: &Network) {
        let host = name == "host" || network.driver.as_deref() == Some("host");
        if host && !self.guard.privileged {
            self.add(
                &ResourceId::Network(name.to_owned()),
                "the host's own network is not allowed (guard.privileged)".to_owned(),
            );
        }
    }
}

/// What a service asks for beyond its container.
fn privileges(service: &Service) -> Vec<String> {
    let mut asked = Vec::new();
    if service.privileged {
        asked.push("`privileged`".to_owned());
    }
    if !service.cap_add.is_empty() {
        let names: Vec<&str> = service.cap_add.iter().map(String::as_str).collect();
        asked.push(format!("`cap_add` ({})", names.join(", ")));
    }
    if service.network_mode == Some(NetworkMode::Host) {
        asked.push("`network_mode: host`".to_owned());
    }
    for (key, value) in [
        ("pid", &service.pid),
        ("ipc", &service.ipc),
        ("userns_mode", &service.userns_mode),
    ] {
        if let Some(value) = value
            && (value == "host" || value.starts_with("container:"))
        {
            asked.push(format!("`{key}: {value}`"));
        }
    }
    for option in &service.security_opt {
        let plain = option.to_ascii_lowercase().replace('=', ":");
        let loosens = plain.contains("unconfined")
            || plain.starts_with("label:")
            || plain == "no-new-privileges:false"
            // A profile of the declaration's own can allow everything.
            || plain.starts_with("seccomp:")
            || plain.starts_with("apparmor:");
        if loosens {
            asked.push(format!("`security_opt: {}`", option.escape_debug()));
        }
    }
    asked
}

#[cfg(test)]
mod tests;
