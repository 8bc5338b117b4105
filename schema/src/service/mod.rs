//! The Compose Specification's service, network and volume: one model for `[services]` in app.toml and compose.yaml.
//!
//! Owns the model, which is Compose's long form: its `Serialize` writes what `docker compose config --format json`
//! prints, and `Deserialize` reads exactly that back. Decoding what people write (short forms, lists or maps) is in
//! `decode`; every key that is known is in the tables of [`keys`].
//! Refuses what this version cannot keep true on a device (`build`, `profiles`, `service:` namespaces, ...): each is
//! an error that says what to do instead. Nothing is ignored but `x-` keys.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::image::ImageRef;
use crate::name::ServiceName;

mod decode;
mod healthcheck;
pub mod keys;
mod mounts;
mod parts;
mod ports;
pub mod print;
mod read;
mod resource;
mod shape;
mod shell;
mod strategy;
#[cfg(test)]
mod tests;
mod units;
mod wire;

pub use decode::{Compose, check_references, decode_compose, decode_services};
pub use healthcheck::Healthcheck;
pub use keys::known_keys;
pub use mounts::{BindOptions, DeviceMapping, Mount, Selinux, TmpfsOptions, VolumeOptions};
pub use ports::{Port, PortMode, Protocol};
pub use resource::{
    Ipam, IpamPool, Network, Volume, VolumeExtension, VolumeOnRemove, decode_networks,
    decode_volumes,
};
pub use strategy::UpdateOrder;

const fn is_false(value: &bool) -> bool {
    !*value
}

/// One container of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What runs.
    pub image: ImageRef,
    /// Arguments; `None`: the image's.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// Program; `None`: the image's. Empty: none, so that the command is the program.
    #[serde(default)]
    pub entrypoint: Option<Vec<String>>,
    /// Environment of the process.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Published ports, in the order in which they are declared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Ports that are only announced (`8080`, `53/udp`).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub expose: BTreeSet<String>,
    /// Mounts, in the order in which they are declared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Mount>,
    /// Networks by their key in the app; `default` where none is declared and `network_mode` is not either.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        with = "wire::networks"
    )]
    pub networks: BTreeMap<ServiceName, ServiceNetwork>,
    /// A network mode instead of networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_mode: Option<NetworkMode>,
    /// Device nodes of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceMapping>,
    /// User, with a group where given (`1000:1000`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// More groups of the process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group_add: Vec<String>,
    /// Working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Services that come first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub depends_on: BTreeMap<ServiceName, Dependency>,
    /// What the engine does when the process ends.
    #[serde(default, skip_serializing_if = "Restart::is_no", with = "wire::text")]
    pub restart: Restart,
    /// How the service's health is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Memory limit in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "wire::bytes")]
    pub mem_limit: Option<u64>,
    /// CPU limit in billionths of a CPU; Compose's `cpus`.
    #[serde(
        default,
        rename = "cpus",
        skip_serializing_if = "Option::is_none",
        with = "wire::cpus"
    )]
    pub nano_cpus: Option<u64>,
    /// Limit of processes; -1 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<i64>,
    /// What Compose keeps under `deploy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<Deploy>,
    /// Whether the root file system is read-only.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// In-memory file systems: a path, with options where given (`/run:size=64m`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tmpfs: Vec<String>,
    /// Capabilities added, as they were written.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub cap_add: BTreeSet<String>,
    /// Capabilities dropped, as they were written.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub cap_drop: BTreeSet<String>,
    /// All capabilities and all devices.
    #[serde(default, skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// Options of security modules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_opt: Vec<String>,
    /// `host`: the host's processes are seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<String>,
    /// `host`, `private`, `shareable` or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipc: Option<String>,
    /// `host`: no user namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userns_mode: Option<String>,
    /// Host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Domain name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Addresses by host name, for `/etc/hosts`.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        with = "wire::hosts"
    )]
    pub extra_hosts: BTreeMap<String, BTreeSet<String>>,
    /// Name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// Resolver options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_opt: Vec<String>,
    /// Search domains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_search: Vec<String>,
    /// Kernel parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Resource limits of the process.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Size of `/dev/shm` in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "wire::bytes")]
    pub shm_size: Option<u64>,
    /// Whether a small init is process 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    /// How the kernel's out-of-memory killer weighs it: -1000 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i64>,
    /// The signal that asks it to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// How long to wait between the stop signal and SIGKILL; Compose's default is 10 s.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "wire::duration"
    )]
    pub stop_grace_period: Option<Duration>,
    /// Where its output goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logging: Option<Logging>,
    /// A name instead of `<app>-<service>-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    /// Compose's `pull_policy`. An image pinned by content is the same under each of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<String>,
    /// `linux/arm64`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Whether a pseudo-terminal is attached.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tty: bool,
    /// Whether standard input stays open.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stdin_open: bool,
}

/// The network that a service joins where it names none.
pub const DEFAULT_NETWORK: &str = "default";
/// Compose's own default for `stop_grace_period`.
pub const DEFAULT_STOP_GRACE: Duration = Duration::from_secs(10);

impl Service {
    /// A service of this image with nothing else said; it joins the default network.
    #[must_use]
    pub fn new(image: ImageRef) -> Self {
        let default = DEFAULT_NETWORK
            .parse()
            .expect("`default` is a service's name");
        Self {
            image,
            command: None,
            entrypoint: None,
            environment: BTreeMap::new(),
            ports: Vec::new(),
            expose: BTreeSet::new(),
            volumes: Vec::new(),
            networks: BTreeMap::from([(default, ServiceNetwork::default())]),
            network_mode: None,
            devices: Vec::new(),
            user: None,
            group_add: Vec::new(),
            working_dir: None,
            labels: BTreeMap::new(),
            depends_on: BTreeMap::new(),
            restart: Restart::No,
            healthcheck: None,
            mem_limit: None,
            nano_cpus: None,
            pids_limit: None,
            deploy: None,
            read_only: false,
            tmpfs: Vec::new(),
            cap_add: BTreeSet::new(),
            cap_drop: BTreeSet::new(),
            privileged: false,
            security_opt: Vec::new(),
            pid: None,
            ipc: None,
            userns_mode: None,
            hostname: None,
            domainname: None,
            extra_hosts: BTreeMap::new(),
            dns: Vec::new(),
            dns_opt: Vec::new(),
            dns_search: Vec::new(),
            sysctls: BTreeMap::new(),
            ulimits: BTreeMap::new(),
            shm_size: None,
            init: None,
            oom_score_adj: None,
            stop_signal: None,
            stop_grace_period: None,
            logging: None,
            container_name: None,
            pull_policy: None,
            platform: None,
            tty: false,
            stdin_open: false,
        }
    }

    /// The limits under `deploy.resources`.
    fn deploy_limits(&self) -> Option<&Limits> {
        self.deploy.as_ref()?.resources.as_ref()?.limits.as_ref()
    }

    /// The memory limit in bytes, from either place.
    #[must_use]
    pub fn memory(&self) -> Option<u64> {
        self.mem_limit.or_else(|| self.deploy_limits()?.memory)
    }

    /// The CPU limit in billionths of a CPU, from either place.
    #[must_use]
    pub fn cpu(&self) -> Option<u64> {
        self.nano_cpus.or_else(|| self.deploy_limits()?.nano_cpus)
    }

    /// The limit of processes, from either place; none where it says -1 or 0.
    #[must_use]
    pub fn pids(&self) -> Option<i64> {
        self.pids_limit
            .or_else(|| self.deploy_limits()?.pids)
            .filter(|limit| *limit > 0)
    }

    /// How long a stop may take before SIGKILL.
    #[must_use]
    pub fn stop_grace(&self) -> Duration {
        self.stop_grace_period.unwrap_or(DEFAULT_STOP_GRACE)
    }
}

/// A network that a service joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ServiceNetwork {
    /// More names of the service in that network.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub aliases: BTreeSet<String>,
    /// A fixed IPv4 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<String>,
    /// A fixed IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<String>,
    /// A fixed hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
}

/// Compose's `network_mode`, as far as it is supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// The host's own network.
    Host,
    /// No network but loopback.
    None,
    /// The engine's default bridge.
    Bridge,
}

/// What a service waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The state that the other service must reach.
    pub condition: Condition,
    /// Whether the other service must exist.
    #[serde(default = "yes")]
    pub required: bool,
    /// Whether this service is restarted after the other one was.
    #[serde(default, skip_serializing_if = "is_false")]
    pub restart: bool,
}

const fn yes() -> bool {
    true
}

impl Default for Dependency {
    fn default() -> Self {
        Self {
            condition: Condition::Started,
            required: true,
            restart: false,
        }
    }
}

/// The state that another service must reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// It was started.
    #[serde(rename = "service_started")]
    Started,
    /// Its health check says healthy.
    #[serde(rename = "service_healthy")]
    Healthy,
    /// It ended with exit code 0.
    #[serde(rename = "service_completed_successfully")]
    Completed,
}

/// Compose's `restart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// Whenever it ends.
    Always,
    /// When it fails; at most so often, where a number is given.
    OnFailure(Option<u32>),
    /// Always, but not after a person stopped it.
    UnlessStopped,
}

impl Restart {
    fn is_no(&self) -> bool {
        *self == Self::No
    }
}

impl std::fmt::Display for Restart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::Always => f.write_str("always"),
            Self::OnFailure(None) => f.write_str("on-failure"),
            Self::OnFailure(Some(times)) => write!(f, "on-failure:{times}"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

impl std::str::FromStr for Restart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "no" => Ok(Self::No),
            "always" => Ok(Self::Always),
            "unless-stopped" => Ok(Self::UnlessStopped),
            "on-failure" => Ok(Self::OnFailure(None)),
            other => other
                .strip_prefix("on-failure:")
                .and_then(|times| times.parse().ok())
                .map(|times| Self::OnFailure(Some(times)))
                .ok_or_else(|| {
                    format!(
                        "`{}` is not a restart policy: `no`, `always`, `on-failure`, `on-failure:5` or `unless-stopped`",
                        text.escape_debug()
                    )
                }),
        }
    }
}

/// A limit of the process, `-1` for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "wire::UlimitWire", into = "wire::UlimitWire")]
pub struct Ulimit {
    /// What applies.
    pub soft: i64,
    /// How far the process may raise it.
    pub hard: i64,
}

/// Compose's `logging`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Logging {
    /// The engine's log driver; `None`: its default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The driver's options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// The supported part of Compose's `deploy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Deploy {
    /// Limits and reservations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// How a changed container takes the old one's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_config: Option<UpdateConfig>,
}

/// Compose's `deploy.resources`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Resources {
    /// What it may use at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// Compose's `deploy.resources.limits`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Limits {
    /// Billionths of a CPU; Compose's `cpus`.
    #[serde(
        default,
        rename = "cpus",
        skip_serializing_if = "Option::is_none",
        with = "wire::cpus"
    )]
    pub nano_cpus: Option<u64>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "wire::bytes")]
    pub memory: Option<u64>,
    /// Processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<i64>,
}

/// Compose's `deploy.update_config`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateConfig {
    /// Which container goes first.
    pub order: UpdateOrder,
}
