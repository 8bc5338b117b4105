//! What no signature can unlock: the limits of the device's owner.
//!
//! Judges a resolved state twice: as it is declared ([`violations`]), and by where its paths, mounts and devices
//! really lead on this device ([`looks`] says what has to be looked at, [`really`] judges what was found). Every violation is
//! told at once.
//!
//! Limits: an engine follows a mount's source anew whenever it starts a container, so a container that can write to the
//! folders on the way can lead it elsewhere between our look and that start. Names of networks, ports and load are not
//! limited. The places that are protected by default are doors to root that are known, not a wall: who wants one names
//! `paths`.

mod devices;
mod images;
mod paths;
mod patterns;
mod privileges;
mod volumes;

use std::fmt;

use evenkeel_schema::agent_config::GuardSection;
use evenkeel_schema::app::{OnChange, Probe};
use evenkeel_schema::name::AppName;
use evenkeel_schema::path::AbsPath;
use evenkeel_schema::service::{FILES_FOLDER, Logging, Mount, Network, Service, Volume, print};

use crate::domain::desired::{DesiredApp, DesiredFile, DesiredState};
use crate::domain::resource::{ResourceId, ServiceId};
pub use devices::{Node, NodeKind};
pub use paths::Places;
use paths::{Rules, Sight};
use patterns::{fits, plain};

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

/// The owner's limits with what they protect on this device.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// What the owner says.
    pub guard: GuardSection,
    /// The agent's and the engine's places, as declared paths name them: below the configured root.
    pub declared: Places,
    /// The same, as the device itself names them.
    pub host: Places,
    /// Units that are the agent's own, beside those called `evenkeel...`.
    pub units: Vec<String>,
}

/// Whose names a path has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// A declared path's: below the configured root.
    Declared,
    /// The device's own, which the engine takes as they are.
    Host,
}

impl Limits {
    fn rules(&self, names: Names) -> Rules<'_> {
        Rules {
            guard: &self.guard,
            places: match names {
                Names::Declared => &self.declared,
                Names::Host => &self.host,
            },
        }
    }

    fn unit(&self, unit: &str) -> Option<String> {
        if unit.starts_with("evenkeel") || self.units.iter().any(|own| own == unit) {
            return Some(format!("`{unit}` is evenkeel's own"));
        }
        match &self.guard.units {
            Some(allowed) => (!allowed.iter().any(|pattern| fits(pattern, unit)))
                .then(|| format!("`{unit}` is not among the units that guard.units allows")),
            None => ENDING.iter().any(|ending| fits(ending, unit)).then(|| {
                format!(
                    "`{unit}` ends or stops the device; the owner may allow it with guard.units"
                )
            }),
        }
    }
}

/// Units that end what runs or switch the device off; refused where the owner names no units.
const ENDING: [&str; 26] = [
    "reboot.target",
    "soft-reboot.target",
    "poweroff.target",
    "halt.target",
    "kexec.target",
    "exit.target",
    "shutdown.target",
    "final.target",
    "umount.target",
    "rescue.*",
    "emergency.*",
    "runlevel?.target",
    "ctrl-alt-del.target",
    "*suspend*.target",
    "hibernate.target",
    "systemd-reboot.service",
    "systemd-poweroff.service",
    "systemd-halt.service",
    "systemd-kexec.service",
    "systemd-soft-reboot.service",
    "systemd-exit.service",
    "systemd-*suspend*.service",
    "systemd-hibernate.service",
    "systemd-hybrid-sleep.service",
    "hybrid-sleep.target",
    "sleep.target",
];

/// Something whose real place has to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look<'s> {
    /// For what.
    pub resource: ResourceId,
    /// At what.
    pub at: Place<'s>,
}

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place<'s> {
    /// A declared file.
    File(&'s AbsPath, &'s DesiredFile),
    /// What is mounted.
    Source(AbsPath, Names),
    /// A device node of the host.
    Device(&'s AbsPath),
}

/// What was found there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A path leads here, by the same names.
    Leads(String),
    /// A path leads out of the configured root, or to where it cannot be judged.
    Astray(String),
    /// Device nodes.
    Nodes(Vec<Node>),
}

/// Every violation in a state, as it is declared.
#[must_use]
pub fn violations(state: &DesiredState, limits: &Limits) -> Vec<Violation> {
    let mut judge = Judge {
        limits,
        found: Vec::new(),
    };
    for (app, desired) in &state.apps {
        judge.files(desired);
        for (name, service) in &desired.services {
            judge.service(&service_id(app, name), service);
        }
        for (key, network) in &desired.networks {
            judge.network(&print::network_name(app, key, network), network);
        }
        for (key, volume) in &desired.volumes {
            let id = ResourceId::Volume(print::volume_name(app, key, volume));
            judge.volume(&id, volume);
        }
        for check in &desired.checks {
            judge.check(app, &check.probe);
        }
    }
    judge.sorted()
}

/// What has to be looked at on the device itself.
#[must_use]
pub fn looks(state: &DesiredState) -> Vec<Look<'_>> {
    let mut looks = Vec::new();
    for (app, desired) in &state.apps {
        for (path, file) in &desired.files {
            looks.push(Look {
                resource: ResourceId::File(path.clone()),
                at: Place::File(path, file),
            });
        }
        for (name, service) in &desired.services {
            let id = service_id(app, name);
            for mount in &service.volumes {
                if let Mount::Bind { source, .. } = mount {
                    looks.push(Look {
                        resource: id.clone(),
                        at: Place::Source(source.clone(), Names::Declared),
                    });
                }
            }
            for device in &service.devices {
                looks.push(Look {
                    resource: id.clone(),
                    at: Place::Device(&device.source),
                });
            }
        }
        for check in &desired.checks {
            if let Probe::File(path) = &check.probe {
                looks.push(Look {
                    resource: check_id(app),
                    at: Place::Source(path.clone(), Names::Declared),
                });
            }
        }
        for (key, volume) in &desired.volumes {
            let id = ResourceId::Volume(print::volume_name(app, key, volume));
            // What is no path was reported as it is declared.
            let paths = volumes::mounts(volume).paths.into_iter();
            for source in paths.filter_map(|path| path.parse().ok()) {
                looks.push(Look {
                    resource: id.clone(),
                    at: Place::Source(source, Names::Host),
                });
            }
        }
    }
    looks
}

/// Why something is not allowed for where it really leads.
#[must_use]
pub fn really(look: &Look<'_>, found: &Found, limits: &Limits) -> Vec<Violation> {
    let (declared, names) = match &look.at {
        Place::File(path, _) => (path.as_str(), Names::Declared),
        Place::Source(path, names) => (path.as_str(), *names),
        Place::Device(path) => (path.as_str(), Names::Host),
    };
    let whys: Vec<String> = match found {
        Found::Leads(real) if real == declared => Vec::new(),
        Found::Leads(real) => limits
            .rules(names)
            .judge(real, Sight::Real)
            .into_iter()
            .map(|why| format!("`{declared}` is really `{real}`: {why}"))
            .collect(),
        Found::Astray(why) => vec![format!("`{declared}` {why}")],
        Found::Nodes(nodes) => nodes
            .iter()
            .filter_map(|node| {
                devices::node_violation(declared, node, limits.guard.devices.as_deref())
            })
            .collect(),
    };
    whys.into_iter()
        .map(|why| Violation {
            resource: look.resource.clone(),
            why,
        })
        .collect()
}

fn check_id(app: &AppName) -> ResourceId {
    ResourceId::Unit(format!("{app} (check)"))
}

fn service_id(app: &AppName, service: &evenkeel_schema::name::ServiceName) -> ResourceId {
    ResourceId::Service(ServiceId {
        app: app.clone(),
        service: service.clone(),
    })
}

struct Judge<'l> {
    limits: &'l Limits,
    found: Vec<Violation>,
}

impl Judge<'_> {
    fn add(&mut self, resource: &ResourceId, why: String) {
        self.found.push(Violation {
            resource: resource.clone(),
            why,
        });
    }

    fn all(&mut self, resource: &ResourceId, whys: Vec<String>) {
        for why in whys {
            self.add(resource, why);
        }
    }

    fn sorted(mut self) -> Vec<Violation> {
        self.found.sort();
        self.found.dedup();
        self.found
    }

    fn path(&mut self, id: &ResourceId, path: &str, names: Names) {
        let whys = self.limits.rules(names).judge(path, Sight::Declared);
        self.all(id, whys);
    }

    fn check(&mut self, app: &AppName, probe: &Probe) {
        match probe {
            Probe::Command(words) if !self.limits.guard.commands => self.add(
                &check_id(app),
                format!(
                    "the app `{app}` has the check `command = [\"{}\", ...]`, and commands are not allowed (guard.commands)",
                    words.first().map(String::as_str).unwrap_or_default().escape_debug()
                ),
            ),
            // What is in it may be asked for.
            Probe::File(path) => self.path(&check_id(app), path.as_str(), Names::Declared),
            Probe::Command(_)
            | Probe::Exec(..)
            | Probe::Tcp(_)
            | Probe::Http(_)
            | Probe::Unit(_) => {}
        }
    }

    fn files(&mut self, app: &DesiredApp) {
        for (path, file) in &app.files {
            // Configs and secrets: nobody can declare another file there.
            let made_by_us = FILES_FOLDER
                .parse()
                .is_ok_and(|folder| path.is_within(&folder));
            if !made_by_us {
                let id = ResourceId::File(path.clone());
                self.path(&id, path.as_str(), Names::Declared);
            }
            for change in &file.on_change {
                match change {
                    OnChange::RestartUnit(unit) | OnChange::ReloadUnit(unit) => {
                        if let Some(why) = self.limits.unit(unit) {
                            self.add(&ResourceId::Unit(unit.clone()), why);
                        }
                    }
                    OnChange::RestartService(_) | OnChange::SignalService { .. } => {}
                }
            }
        }
    }

    fn service(&mut self, id: &ResourceId, service: &Service) {
        let guard = &self.limits.guard;
        let image = images::violation(&service.image, guard.images.as_deref());
        self.all(id, image.into_iter().collect());
        for device in &service.devices {
            let why = devices::violation(device.source.as_str(), guard.devices.as_deref());
            self.all(id, why.into_iter().collect());
        }
        for gpu in service.all_gpus() {
            let why = devices::gpu_violation(gpu, guard.devices.as_deref());
            self.all(id, why.into_iter().collect());
        }
        for mount in &service.volumes {
            match mount {
                Mount::Bind { source, .. } => self.path(id, source.as_str(), Names::Declared),
                // A volume is judged by its options.
                Mount::Volume { .. } | Mount::Tmpfs { .. } => {}
            }
        }
        if let Some(logging) = &service.logging {
            self.logging(id, logging);
        }
        self.privileges(id, privileges::asked(service));
    }

    /// An engine writes to the files and sockets that a log's options name, as root.
    fn logging(&mut self, id: &ResourceId, logging: &Logging) {
        for (name, value) in &logging.options {
            let path = value
                .split_once("://")
                .map_or(value.as_str(), |(_, rest)| rest);
            if !path.starts_with('/') {
                continue;
            }
            match plain(path) {
                Some(path) => self.path(id, &path, Names::Host),
                None => self.add(
                    id,
                    format!("`logging.options.{name}` is not a plain absolute path"),
                ),
            }
        }
    }

    fn privileges(&mut self, id: &ResourceId, asked: Vec<String>) {
        if !self.limits.guard.privileged {
            for what in asked {
                self.add(id, format!("{what} is not allowed (guard.privileged)"));
            }
        }
    }

    fn volume(&mut self, id: &ResourceId, volume: &Volume) {
        let mounts = volumes::mounts(volume);
        for path in &mounts.paths {
            match path.parse::<AbsPath>() {
                Ok(_) => self.path(id, path, Names::Host),
                Err(_) if path.is_empty() => self.path(id, path, Names::Host),
                Err(error) => self.add(id, error.to_string()),
            }
        }
        for device in &mounts.devices {
            let why = devices::violation(device, self.limits.guard.devices.as_deref());
            self.all(id, why.into_iter().collect());
        }
        self.all(id, mounts.unclear);
        self.privileges(id, mounts.privileges);
    }

    fn network(&mut self, name: &str, network: &Network) {
        let host = name.eq_ignore_ascii_case("host")
            || network
                .driver
                .as_deref()
                .is_some_and(|driver| driver.eq_ignore_ascii_case("host"));
        if host && !self.limits.guard.privileged {
            self.add(
                &ResourceId::Network(name.to_owned()),
                "the host's own network is not allowed (guard.privileged)".to_owned(),
            );
        }
    }
}

#[cfg(test)]
mod tests;
