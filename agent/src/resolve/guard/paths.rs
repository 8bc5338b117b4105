//! Which paths may be written and mounted.

use evenkeel_schema::agent_config::GuardSection;

use super::patterns::{canonical, covers, holds};

/// The agent's own, beside its state directory and what its configuration names: who can write these can unlock
/// everything.
const OWN: [&str; 13] = [
    evenkeel_schema::service::FILES_FOLDER,
    "/etc/evenkeel",
    "/etc/default/evenkeel",
    "/etc/credstore*/evenkeel*",
    "/run/credentials/evenkeel*",
    "/usr/bin/evenkeel",
    "/usr/lib/evenkeel",
    "/usr/local/bin/evenkeel",
    "/usr/local/lib/evenkeel",
    "/opt/evenkeel",
    "/etc/systemd/system/evenkeel*",
    "/usr/lib/systemd/system/evenkeel*",
    "/usr/local/lib/systemd/system/evenkeel*",
];

/// Protected where the owner names no paths: with their meaning, for messages. By the canonical names of
/// [`super::patterns::canonical`]; a `*` stands for any letters of a component.
const PROTECTED: [(&str, &str); 60] = [
    ("/boot", "the boot files"),
    ("/dev", "the device nodes"),
    ("/proc", "the kernel"),
    ("/sys", "the kernel"),
    ("/etc/systemd", "systemd"),
    ("/etc/xdg/systemd", "systemd"),
    ("/usr/lib/systemd", "systemd"),
    ("/usr/local/lib/systemd", "systemd"),
    ("/usr/share/systemd", "systemd"),
    ("/run/systemd", "systemd"),
    ("/run/dbus", "systemd, by way of D-Bus"),
    ("/etc/tmpfiles.d", "systemd"),
    ("/usr/lib/tmpfiles.d", "systemd"),
    ("/run/tmpfiles.d", "systemd"),
    ("/etc/sysusers.d", "systemd"),
    ("/usr/lib/sysusers.d", "systemd"),
    ("/run/sysusers.d", "systemd"),
    ("/etc/credstore*", "the services' credentials"),
    ("/run/credstore*", "the services' credentials"),
    ("/usr/lib/credstore*", "the services' credentials"),
    ("/run/credentials", "the services' credentials"),
    ("/etc/init.d", "the init scripts"),
    ("/etc/init", "the init scripts"),
    ("/etc/inittab", "the init scripts"),
    ("/etc/rc.local", "the init scripts"),
    ("/etc/rc*.d", "the init scripts"),
    ("/etc/cron*", "cron"),
    ("/etc/periodic", "cron"),
    ("/etc/anacrontab", "cron"),
    ("/var/spool/cron", "cron"),
    ("/var/spool/anacron", "cron"),
    ("/var/spool/at", "cron"),
    ("/etc/sudoers*", "sudo"),
    ("/etc/sudo.conf", "sudo"),
    ("/etc/doas*", "doas"),
    ("/etc/ssh", "ssh"),
    ("/etc/dropbear", "ssh"),
    ("/root/.ssh", "ssh"),
    ("/home/*/.ssh", "ssh"),
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
    ("/usr/lib/security", "the log-ins"),
    ("/usr/lib/*-linux-*/security", "the log-ins"),
    ("/etc/ld.so.*", "the loader"),
    ("/usr/lib/ld-*", "the loader"),
    ("/usr/lib64/ld-*", "the loader"),
    ("/usr/lib/*-linux-*/ld-*", "the loader"),
    ("/etc/polkit-1", "polkit"),
    ("/usr/share/polkit-1", "polkit"),
    ("/etc/udev", "udev"),
    ("/usr/lib/udev", "udev"),
    ("/run/udev", "udev"),
];

/// What an engine reads to decide whom it obeys and what it runs as root; protected where the owner names no paths.
const ENGINE_CONFIG: [&str; 7] = [
    "/etc/docker",
    "/etc/containerd",
    "/etc/containers",
    "/usr/share/containers",
    "/etc/cdi",
    "/run/cdi",
    "/etc/cni",
];

/// Sockets and stores of engines: who has one is root on the device.
const ENGINE: [&str; 18] = [
    "/run/docker.sock",
    "/run/docker",
    "/run/podman",
    "/run/containerd",
    "/run/containers",
    "/run/crio",
    "/run/buildkit",
    "/run/k3s",
    "/run/libpod",
    "/run/user/*/podman",
    "/run/user/*/docker*",
    "/run/user/*/containerd*",
    "/run/user/*/containers",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/crio",
    "/run/snap.docker",
];

/// Names that an engine's socket has wherever it lies.
const SOCKETS: [&str; 6] = [
    "docker.sock",
    "podman.sock",
    "containerd.sock",
    "containerd.sock.ttrpc",
    "crio.sock",
    "buildkitd.sock",
];

/// What of this device is the agent's or the engine's, by the names of one file system: the device's own, or what
/// declared paths call it below the configured root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places {
    /// The agent's own: state, configuration, keys, program.
    pub own: Vec<String>,
    /// The engine's sockets.
    pub engine: Vec<String>,
}

/// How a path was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// As it is declared.
    Declared,
    /// Where it leads on this device.
    Real,
}

/// The rules for paths of one file system.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'l> {
    pub(super) guard: &'l GuardSection,
    pub(super) places: &'l Places,
}

impl Rules<'_> {
    /// Why a path must not be written or mounted. Both are judged alike: what holds something protected is protected.
    pub(super) fn judge(&self, path: &str, sight: Sight) -> Vec<String> {
        let shown = if path.is_empty() { "/" } else { path };
        let known = canonical(path);
        // Nothing in the configuration opens the agent's own: that would open the configuration, too.
        if let Some(own) = self
            .own()
            .find(|own| covers(own, &known) || covers(own, path))
        {
            return vec![format!("`{shown}` is evenkeel's own ({own})")];
        }
        if let Some(own) = self
            .own()
            .find(|own| holds(&known, own) || holds(path, own))
        {
            return vec![format!("`{shown}` holds `{own}`, which is evenkeel's own")];
        }
        let mut found = Vec::new();
        if !self.guard.privileged && self.is_engines(&known) {
            found.push(format!(
                "`{shown}` gives away the container engine, which is not allowed (guard.privileged)"
            ));
        }
        found.extend(match &self.guard.paths {
            Some(allowed) => {
                let inside = allowed.iter().any(|allowed| match sight {
                    Sight::Declared => covers(allowed, path),
                    Sight::Real => covers(allowed, path) || covers(&canonical(allowed), &known),
                });
                (!inside).then(|| format!("`{shown}` is outside the paths that guard.paths allows"))
            }
            None => protected(&known)
                .map(|what| format!("`{shown}` {what}; the owner may allow it with guard.paths")),
        });
        found
    }

    fn own(&self) -> impl Iterator<Item = String> {
        OWN.into_iter()
            .map(str::to_owned)
            .chain(self.places.own.iter().map(|own| canonical(own)))
    }

    fn is_engines(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or_default();
        let configured = self.places.engine.iter().map(|socket| canonical(socket));
        SOCKETS.contains(&name)
            || ENGINE
                .into_iter()
                .map(str::to_owned)
                .chain(configured)
                .any(|engine| covers(&engine, path) || holds(path, &engine))
    }
}

/// What about a path is protected where the owner names none.
fn protected(path: &str) -> Option<String> {
    let known = || {
        PROTECTED.iter().copied().chain(
            ENGINE_CONFIG
                .iter()
                .map(|path| (*path, "the container engine")),
        )
    };
    if let Some((_, meaning)) = known().find(|(protected, _)| covers(protected, path)) {
        return Some(format!("is protected ({meaning})"));
    }
    let mut parts = path.split('/');
    if parts.any(|part| part == ".ssh" || part.starts_with("authorized_keys")) {
        return Some("is protected (ssh)".to_owned());
    }
    if path.contains("/.config/systemd/") {
        return Some("is protected (systemd)".to_owned());
    }
    known()
        .find(|(protected, _)| holds(path, protected))
        .map(|(inner, meaning)| format!("holds `{inner}`, which is protected ({meaning})"))
}
