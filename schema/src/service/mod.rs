//! The Compose Specification's service, network and volume: one model for `[services]` in app.toml and compose.yaml.
//!
//! Owns the model, which is Compose's long form: its `Serialize` writes what `docker compose config --format json`
//! prints, and `Deserialize` reads exactly that back. Decoding what people write (short forms, lists or maps) is in
//! `decode`; every key that is known is in the tables of [`keys`].
//! Refuses what cannot mean anything on one device (`build`, swarm's parts of `deploy`, ...): each is
//! an error that says what to do instead. Nothing is ignored but `x-` keys.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::image::ImageRef;
use crate::name::ServiceName;

pub mod coverage;
mod decode;
mod deploy;
mod files;
mod gpus;
mod healthcheck;
mod joins;
pub mod keys;
pub mod merge;
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
pub use deploy::{Deploy, Limits, Reservations, Resources, UpdateConfig};
pub use files::{
    FOLDER as FILES_FOLDER, FileKind, FileMount, FileObject, MountedFile, Origin, decode_files,
};
pub use gpus::Gpu;
pub use healthcheck::Healthcheck;
pub use joins::{Condition, Dependency, NetworkMode, ServiceNetwork};
pub use keys::known_keys;
pub use mounts::{BindOptions, DeviceMapping, Mount, Selinux, TmpfsOptions, VolumeOptions};
pub use ports::{Port, PortMode, Protocol};
pub use read::check_keys;
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
    /// `host`, `service:NAME` or `container:NAME`: whose processes are seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<String>,
    /// `host`, `private`, `shareable`, `none`, `service:NAME` or `container:NAME`.
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
    /// For the engine's runtime; not labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// `host` or `private`: whose control groups are seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The control group above the container's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_parent: Option<String>,
    /// The app's configs that are mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub configs: Vec<FileMount>,
    /// The app's secrets that are mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<FileMount>,
    /// Microseconds of the kernel's CPU period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_period: Option<i64>,
    /// Microseconds of CPU in each period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<i64>,
    /// Microseconds of the real-time scheduler's period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_rt_period: Option<i64>,
    /// Microseconds of real-time CPU in each period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_rt_runtime: Option<i64>,
    /// Weight beside other containers; 1024 is the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<i64>,
    /// CPUs that it may run on (`0-1,3`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpuset: Option<String>,
    /// Rules for the control group's devices (`c 189:* rmw`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_cgroup_rules: Vec<String>,
    /// GPUs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<Gpu>,
    /// The hardware address in the first network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// Memory in bytes that is left to it where memory is short.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "wire::bytes")]
    pub mem_reservation: Option<u64>,
    /// Readiness to swap, 0 to 100.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "wire::text_option"
    )]
    pub mem_swappiness: Option<i64>,
    /// Memory and swap together in bytes; -1 for no limit.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "wire::text_option"
    )]
    pub memswap_limit: Option<i64>,
    /// Whether the out-of-memory killer leaves it alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub oom_kill_disable: bool,
    /// Profiles of which one must be active.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// The engine's runtime for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Number of containers, where it is more than one; no part of what a container is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<u32>,
    /// Of which service this is a further container: set where `scale` is more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<Replica>,
    /// Options of the engine's storage driver.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub storage_opt: BTreeMap<String, String>,
    /// `host`: the host's name is the container's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uts: Option<String>,
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
            annotations: BTreeMap::new(),
            cgroup: None,
            cgroup_parent: None,
            configs: Vec::new(),
            secrets: Vec::new(),
            cpu_period: None,
            cpu_quota: None,
            cpu_rt_period: None,
            cpu_rt_runtime: None,
            cpu_shares: None,
            cpuset: None,
            device_cgroup_rules: Vec::new(),
            gpus: Vec::new(),
            mac_address: None,
            mem_reservation: None,
            mem_swappiness: None,
            memswap_limit: None,
            oom_kill_disable: false,
            profiles: Vec::new(),
            runtime: None,
            scale: None,
            replica: None,
            storage_opt: BTreeMap::new(),
            uts: None,
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

    /// The memory in bytes that is left to it, from either place.
    #[must_use]
    pub fn reserved_memory(&self) -> Option<u64> {
        self.mem_reservation.or_else(|| self.reservations()?.memory)
    }

    /// The GPUs from either place.
    pub fn all_gpus(&self) -> impl Iterator<Item = &Gpu> {
        let reserved = self.reservations().map(|all| all.devices.as_slice());
        self.gpus.iter().chain(reserved.unwrap_or_default())
    }

    fn reservations(&self) -> Option<&Reservations> {
        self.deploy
            .as_ref()?
            .resources
            .as_ref()?
            .reservations
            .as_ref()
    }

    /// What stands after `service:` in its namespaces: the services without which it has none.
    pub fn shares_with(&self) -> impl Iterator<Item = &str> {
        let network = match &self.network_mode {
            Some(NetworkMode::Service(name)) => Some(name.as_str()),
            Some(
                NetworkMode::Host
                | NetworkMode::None
                | NetworkMode::Bridge
                | NetworkMode::Container(_),
            )
            | None => None,
        };
        let others = [&self.pid, &self.ipc].into_iter().flatten();
        network
            .into_iter()
            .chain(others.filter_map(|mode| mode.strip_prefix("service:")))
    }

    /// How long a stop may take before SIGKILL.
    #[must_use]
    pub fn stop_grace(&self) -> Duration {
        self.stop_grace_period.unwrap_or(DEFAULT_STOP_GRACE)
    }
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

/// One more container of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// Of this service.
    pub of: ServiceName,
    /// Its number; the service itself is 1.
    pub number: u32,
}
