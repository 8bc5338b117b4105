//! The tables below a service, and of what stands beside it.

use super::{COMMAND, Key, SCALARS, Shape, TEXT_OR_TEXTS, TEXTS, key, refused};

/// The words of `pull_policy`.
pub(in crate::service) const PULL_POLICIES: &[&str] =
    &["always", "missing", "if_not_present", "never"];

/// The keys of a port's long form.
pub const PORT: &[Key] = &[
    key("target", Shape::Integer, "Port in the container"),
    key("published", Shape::Text, "Port on the host"),
    key("host_ip", Shape::Text, "Address on the host"),
    key("protocol", Shape::Words(&["tcp", "udp", "sctp"]), "tcp"),
    key(
        "mode",
        Shape::Words(&["ingress", "host"]),
        "The same on a single device",
    ),
    key("name", Shape::Text, "For people"),
    key("app_protocol", Shape::Text, "For people"),
];

/// The keys of a mount's long form.
pub const MOUNT: &[Key] = &[
    key(
        "type",
        Shape::Words(&["bind", "volume", "tmpfs"]),
        "What is mounted",
    ),
    key(
        "source",
        Shape::Text,
        "Path on the device, or a volume's key",
    ),
    key("target", Shape::Text, "Path in the container"),
    key("read_only", Shape::Bool, "Cannot be written"),
    key("bind", Shape::Table(BIND), "For `bind`"),
    key("volume", Shape::Table(VOLUME_OPTIONS), "For `volume`"),
    key("tmpfs", Shape::Table(TMPFS), "For `tmpfs`"),
    key("consistency", Shape::Text, "Ignored on Linux"),
    refused("image", "copy what is needed in a service of its own"),
];

/// The keys of `bind`.
pub const BIND: &[Key] = &[
    key(
        "propagation",
        Shape::Words(PROPAGATIONS),
        "How mounts below it are shared",
    ),
    key(
        "create_host_path",
        Shape::Bool,
        "Make a missing source as a directory; true",
    ),
    key(
        "selinux",
        Shape::Words(&["z", "Z"]),
        "Relabel for SELinux: shared or private",
    ),
    refused("recursive", "leave it out"),
];

/// The words of `bind.propagation`.
pub(in crate::service) const PROPAGATIONS: &[&str] = &[
    "private", "rprivate", "shared", "rshared", "slave", "rslave",
];

/// The keys of `volume`.
pub const VOLUME_OPTIONS: &[Key] = &[
    key(
        "nocopy",
        Shape::Bool,
        "Do not fill a new volume from the image",
    ),
    refused("subpath", "mount the whole volume"),
    refused("labels", "set them on the volume"),
];

/// The keys of `tmpfs`.
pub const TMPFS: &[Key] = &[
    key("size", Shape::Size, "Its size"),
    key("mode", Shape::Integer, "Its permission bits"),
];

/// The keys of a device mapping's long form.
pub const DEVICE: &[Key] = &[
    key("source", Shape::Text, "Path on the device"),
    key("target", Shape::Text, "Path in the container"),
    key("permissions", Shape::Text, "`rwm`"),
];

/// The keys of a network under a service's `networks`.
pub const SERVICE_NETWORK: &[Key] = &[
    key("aliases", TEXTS, "More names in that network"),
    key("ipv4_address", Shape::Text, "A fixed IPv4 address"),
    key("ipv6_address", Shape::Text, "A fixed IPv6 address"),
    key("mac_address", Shape::Text, "A fixed hardware address"),
    key(
        "driver_opts",
        Shape::Map(&Shape::Scalar),
        "Options of the network's driver for this container",
    ),
    key("link_local_ips", TEXTS, "Link-local addresses"),
    key("priority", Shape::Integer, "The highest is joined first"),
    key("gw_priority", Shape::Integer, "The highest is the way out"),
    refused(
        "interface_name",
        "set `driver_opts` with `com.docker.network.endpoint.ifname`, where the engine knows it",
    ),
];

/// The keys of a dependency.
pub const DEPENDENCY: &[Key] = &[
    key(
        "condition",
        Shape::Words(&[
            "service_started",
            "service_healthy",
            "service_completed_successfully",
        ]),
        "The state that the other service must reach",
    ),
    key(
        "required",
        Shape::Bool,
        "Whether the other service must exist; true",
    ),
    key(
        "restart",
        Shape::Bool,
        "Restart after the other service was",
    ),
];

/// The keys of `healthcheck`.
pub const HEALTHCHECK: &[Key] = &[
    key(
        "test",
        COMMAND,
        "`[\"CMD\", ...]`, `[\"CMD-SHELL\", \"...\"]`, `[\"NONE\"]`, or a line for the shell",
    ),
    key("interval", Shape::Duration, "Time between two tests; 30s"),
    key(
        "timeout",
        Shape::Duration,
        "Time that one test may take; 30s",
    ),
    key(
        "retries",
        Shape::Integer,
        "Failures in a row that make it unhealthy; 3",
    ),
    key(
        "start_period",
        Shape::Duration,
        "Time at the start in which failures do not count",
    ),
    key(
        "start_interval",
        Shape::Duration,
        "Time between two tests at the start",
    ),
    key("disable", Shape::Bool, "Switch off the image's own test"),
];

/// The keys of `logging`.
pub const LOGGING: &[Key] = &[
    key("driver", Shape::Text, "The engine's log driver"),
    key("options", Shape::Map(&Shape::Scalar), "Its options"),
];

/// The keys of a limit's long form.
pub const ULIMIT: &[Key] = &[
    key("soft", Shape::Integer, "What applies"),
    key("hard", Shape::Integer, "How far the process may raise it"),
];

/// The supported keys of `deploy`.
pub const DEPLOY: &[Key] = &[
    key("resources", Shape::Table(RESOURCES), "Limits"),
    key(
        "update_config",
        Shape::Table(UPDATE_CONFIG),
        "The order of an update",
    ),
    key("replicas", Shape::Integer, "As `scale`"),
    key(
        "mode",
        Shape::Words(&["replicated", "global"]),
        "The same on a single device",
    ),
    key(
        "restart_policy",
        Shape::Table(RESTART_POLICY),
        "As `restart`",
    ),
    refused("endpoint_mode", "leave it out: it is for swarm"),
    refused("labels", "use the service's `labels`"),
    refused(
        "placement",
        "name the app in the groups or devices that should run it",
    ),
    refused(
        "rollback_config",
        "leave it out: `[gate]` says when a device goes back",
    ),
];

/// The supported keys of `deploy.resources`.
pub const RESOURCES: &[Key] = &[
    key("limits", Shape::Table(LIMITS), "What it may use at most"),
    key(
        "reservations",
        Shape::Table(RESERVATIONS),
        "What is kept for it",
    ),
];

/// The keys of `deploy.resources.reservations`.
pub const RESERVATIONS: &[Key] = &[
    key("memory", Shape::Size, "As `mem_reservation`"),
    key("devices", Shape::List(&Shape::Table(GPU)), "As `gpus`"),
    refused(
        "cpus",
        "use `cpu_shares`: there is no scheduler that could keep CPUs",
    ),
    refused("generic_resources", "leave it out: it is for swarm"),
];

/// The keys of `deploy.restart_policy`.
pub const RESTART_POLICY: &[Key] = &[
    key(
        "condition",
        Shape::Words(&["none", "on-failure", "any"]),
        "`no`, `on-failure` and `unless-stopped` of `restart`",
    ),
    key("max_attempts", Shape::Integer, "With `on-failure`"),
    refused("delay", "leave it out: the engine waits longer each time"),
    refused(
        "window",
        "leave it out: `[gate]` says how long a change is watched",
    ),
];

/// The keys of a request for GPUs.
pub const GPU: &[Key] = &[
    key(
        "capabilities",
        Shape::List(&Shape::Words(GPU_CAPABILITIES)),
        "What they must be able to do; gpu",
    ),
    key("driver", Shape::Text, "The engine's driver for them"),
    key(
        "count",
        Shape::AnyOf(&[Shape::Integer, Shape::Words(&["all"])]),
        "How many; all",
    ),
    key("device_ids", TEXTS, "Which"),
    key(
        "options",
        Shape::Map(&Shape::Scalar),
        "The driver's options",
    ),
];

/// What can be asked of a GPU: the words of NVIDIA's and AMD's runtimes, and Docker's own.
pub(in crate::service) const GPU_CAPABILITIES: &[&str] = &[
    "gpu", "nvidia", "amd", "compute", "compat32", "graphics", "utility", "video", "display", "ngx",
];

/// The keys of a config or secret in a service.
pub const FILE_MOUNT: &[Key] = &[
    key("source", Shape::Text, "Its key in the app"),
    key("target", Shape::Text, "Path in the container"),
    key("uid", Shape::Text, "Owner by number; 0"),
    key("gid", Shape::Text, "Group by number; 0"),
    key("mode", Shape::Text, "Permission bits in base 8; \"0444\""),
];

/// The keys of a config.
pub const CONFIG: &[Key] = &[
    key("file", Shape::Text, "A file of the app's folder"),
    key("content", Shape::Text, "Its content itself"),
    key("environment", Shape::Text, "A variable that is its content"),
    key("name", Shape::Text, "For people"),
    key(
        "external",
        Shape::Bool,
        "Only false: external ones are swarm's",
    ),
    refused("template_driver", "leave it out: it is for swarm"),
    refused("driver", "leave it out: it is for swarm"),
    refused("labels", "leave it out: a file has no labels"),
];

/// The keys of a secret.
pub const SECRET: &[Key] = CONFIG;

/// The keys of an entry of `env_file`.
pub const ENV_FILE: &[Key] = &[
    key("path", Shape::Text, "A file of the app's folder"),
    key("required", Shape::Bool, "Whether it must be there; true"),
    key(
        "format",
        Shape::Words(&["raw"]),
        "`raw`: values are taken as they stand",
    ),
];

/// The keys of `extends`.
pub const EXTENDS: &[Key] = &[
    key("service", Shape::Text, "The other service"),
    key(
        "file",
        Shape::Text,
        "A Compose file of the app's folder; this one",
    ),
];

/// The keys of an entry of `include`.
pub const INCLUDE: &[Key] = &[
    key("path", TEXT_OR_TEXTS, "Compose files of the app's folder"),
    key("env_file", TEXT_OR_TEXTS, "Files with variables for it"),
    refused(
        "project_directory",
        "leave it out: paths are below the included file's own folder",
    ),
];

/// The keys of `deploy.resources.limits`.
pub const LIMITS: &[Key] = &[
    key("cpus", Shape::Number, "CPUs"),
    key("memory", Shape::Size, "Memory"),
    key("pids", Shape::Integer, "Processes"),
];

/// The supported keys of `deploy.update_config`.
pub const UPDATE_CONFIG: &[Key] = &[
    key(
        "order",
        Shape::Words(crate::service::strategy::ORDERS),
        "Which container goes first: `stop-first`, `start-first` (the new one is healthy before the old one stops), or `recreate` (the old one is gone before the new one is made)",
    ),
    refused(
        "parallelism",
        "leave it out: one container is replaced at a time",
    ),
    refused(
        "delay",
        "leave it out: `[gate]` says how long a change is watched",
    ),
    refused(
        "failure_action",
        "leave it out: a device always goes back to last-good",
    ),
    refused(
        "monitor",
        "leave it out: `[gate]` says how long a change is watched",
    ),
    refused("max_failure_ratio", "leave it out"),
];

/// The keys of a network.
pub const NETWORK: &[Key] = &[
    key("driver", Shape::Text, "The engine's network driver; bridge"),
    key("driver_opts", Shape::Map(&Shape::Scalar), "Its options"),
    key("external", Shape::Bool, "It exists already and is not ours"),
    key("name", Shape::Text, "A name instead of `<app>_<key>`"),
    key("internal", Shape::Bool, "No way out of it"),
    key("attachable", Shape::Bool, "Other containers may join"),
    key("enable_ipv6", Shape::Bool, "IPv6 too"),
    key("labels", SCALARS, "Labels"),
    key("ipam", Shape::Table(IPAM), "Its addresses"),
    refused("enable_ipv4", "leave it out"),
];

/// The keys of `ipam`.
pub const IPAM: &[Key] = &[
    key("driver", Shape::Text, "default"),
    key(
        "config",
        Shape::List(&Shape::Table(IPAM_POOL)),
        "Pools of addresses",
    ),
    key(
        "options",
        Shape::Map(&Shape::Scalar),
        "The driver's options",
    ),
];

/// The keys of one entry of `ipam.config`.
pub const IPAM_POOL: &[Key] = &[
    key("subnet", Shape::Text, "`172.28.0.0/16`"),
    key(
        "ip_range",
        Shape::Text,
        "From where addresses are given out",
    ),
    key("gateway", Shape::Text, "The gateway"),
    key(
        "aux_addresses",
        Shape::Map(&Shape::Text),
        "Addresses that are taken",
    ),
];

/// The keys of a volume.
pub const VOLUME: &[Key] = &[
    key("driver", Shape::Text, "The engine's volume driver; local"),
    key("driver_opts", Shape::Map(&Shape::Scalar), "Its options"),
    key("external", Shape::Bool, "It exists already and is not ours"),
    key("name", Shape::Text, "A name instead of `<app>_<key>`"),
    key("labels", SCALARS, "Labels"),
    key(
        "on_remove",
        Shape::Words(crate::service::resource::ON_REMOVE),
        "What happens to its data when no revision at the branch's tip declares it any more; keep. In compose.yaml: `x-evenkeel: {on_remove: delete}`",
    ),
];

/// What may stand under `x-evenkeel` in a volume.
pub const VOLUME_EXTENSION: &[Key] = &[key(
    "on_remove",
    Shape::Words(crate::service::resource::ON_REMOVE),
    "What happens to its data when it is no longer declared; keep",
)];
