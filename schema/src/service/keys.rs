//! The one table of keys: what decoding accepts, what it refuses and why, and what JSON Schema tells editors.

pub use super::shape::{Key, Shape, table_schema};
pub(crate) use super::shape::{key, refused};

const TEXTS: Shape = Shape::List(&Shape::Text);
const TEXT_OR_TEXTS: Shape = Shape::AnyOf(&[Shape::Text, TEXTS]);
const COMMAND: Shape = TEXT_OR_TEXTS;
const SCALARS: Shape = Shape::AnyOf(&[Shape::Map(&Shape::Scalar), TEXTS]);

/// The keys of a service.
#[must_use]
pub const fn known_keys() -> &'static [Key] {
    SERVICE
}

/// The keys of a service.
pub const SERVICE: &[Key] = &[
    key(
        "image",
        Shape::Text,
        "What runs, pinned by content: `name@sha256:...` or an image id `sha256:...`",
    ),
    key(
        "command",
        COMMAND,
        "Arguments instead of the image's; text is split as a shell does",
    ),
    key(
        "entrypoint",
        COMMAND,
        "Program instead of the image's; text is split as a shell does",
    ),
    key("environment", SCALARS, "Environment of the process"),
    key(
        "ports",
        Shape::List(&Shape::AnyOf(&[Shape::Text, Shape::Table(PORT)])),
        "Published ports: `[ip:]host:container[/proto]`",
    ),
    key("expose", TEXTS, "Ports that are only announced"),
    key(
        "volumes",
        Shape::List(&Shape::AnyOf(&[Shape::Text, Shape::Table(MOUNT)])),
        "Mounts: `source:target[:ro]`",
    ),
    key(
        "networks",
        Shape::AnyOf(&[
            TEXTS,
            Shape::Map(&Shape::AnyOf(&[Shape::Null, Shape::Table(SERVICE_NETWORK)])),
        ]),
        "Networks of the app that the service joins",
    ),
    key(
        "network_mode",
        Shape::Words(&["host", "none", "bridge"]),
        "A network mode instead of networks",
    ),
    key(
        "devices",
        Shape::List(&Shape::AnyOf(&[Shape::Text, Shape::Table(DEVICE)])),
        "Device nodes of the host",
    ),
    key(
        "user",
        Shape::Text,
        "User, with a group where given (`1000:1000`)",
    ),
    key("group_add", TEXTS, "More groups of the process"),
    key("working_dir", Shape::Text, "Working directory"),
    key("labels", SCALARS, "Labels of the container"),
    key(
        "depends_on",
        Shape::AnyOf(&[TEXTS, Shape::Map(&Shape::Table(DEPENDENCY))]),
        "Services that come first",
    ),
    key(
        "restart",
        Shape::Words(&["no", "always", "on-failure", "unless-stopped"]),
        "What the engine does when the process ends",
    ),
    key(
        "healthcheck",
        Shape::Table(HEALTHCHECK),
        "How the service's health is told",
    ),
    key("mem_limit", Shape::Size, "Memory limit"),
    key("cpus", Shape::Number, "CPU limit"),
    key(
        "pids_limit",
        Shape::Integer,
        "Limit of processes; -1 for none",
    ),
    key(
        "deploy",
        Shape::Table(DEPLOY),
        "Limits and the order of an update",
    ),
    key(
        "read_only",
        Shape::Bool,
        "A root file system that cannot be written",
    ),
    key("tmpfs", TEXT_OR_TEXTS, "In-memory file systems"),
    key("cap_add", TEXTS, "Capabilities added"),
    key("cap_drop", TEXTS, "Capabilities dropped"),
    key(
        "privileged",
        Shape::Bool,
        "All capabilities and all devices",
    ),
    key("security_opt", TEXTS, "Options of security modules"),
    key(
        "pid",
        Shape::Words(&["host"]),
        "The host's process namespace",
    ),
    key(
        "ipc",
        Shape::Words(&["host", "private", "shareable", "none"]),
        "The namespace of shared memory",
    ),
    key("userns_mode", Shape::Words(&["host"]), "No user namespace"),
    key("hostname", Shape::Text, "Host name"),
    key("domainname", Shape::Text, "Domain name"),
    key(
        "extra_hosts",
        SCALARS_OR_LISTS,
        "Entries of /etc/hosts: `name=address`",
    ),
    key("dns", TEXT_OR_TEXTS, "Name servers"),
    key("dns_opt", TEXTS, "Resolver options"),
    key("dns_search", TEXT_OR_TEXTS, "Search domains"),
    key("sysctls", SCALARS, "Kernel parameters"),
    key(
        "ulimits",
        Shape::Map(&Shape::AnyOf(&[Shape::Integer, Shape::Table(ULIMIT)])),
        "Resource limits of the process",
    ),
    key("shm_size", Shape::Size, "Size of /dev/shm"),
    key("init", Shape::Bool, "A small init as process 1"),
    key(
        "oom_score_adj",
        Shape::Integer,
        "How the out-of-memory killer weighs it: -1000 to 1000",
    ),
    key("stop_signal", Shape::Text, "The signal that asks it to end"),
    key(
        "stop_grace_period",
        Shape::Duration,
        "Time between that signal and SIGKILL; 10s",
    ),
    key("logging", Shape::Table(LOGGING), "Where its output goes"),
    key(
        "container_name",
        Shape::Text,
        "A name instead of `<app>-<service>-1`",
    ),
    key(
        "pull_policy",
        Shape::Words(PULL_POLICIES),
        "When the image is pulled; pinned images are pulled where they are missing",
    ),
    key("platform", Shape::Text, "`linux/arm64`, ..."),
    key("tty", Shape::Bool, "A pseudo-terminal"),
    key("stdin_open", Shape::Bool, "Standard input stays open"),
    key("scale", Shape::Integer, "Number of containers; only 1"),
    refused(
        "build",
        "a device does not build images: build in CI, push, and name the image by its digest in `image`",
    ),
    refused(
        "profiles",
        "name the app in the groups or devices that should run it",
    ),
    refused(
        "extends",
        "write the keys out, or let a template or a YAML anchor share them",
    ),
    refused(
        "env_file",
        "write the variables in `environment`; values and templates can fill them",
    ),
    refused(
        "configs",
        "declare the file in `[[files]]` and mount it in `volumes`",
    ),
    refused(
        "secrets",
        "declare the file in `[[files]]` and mount it in `volumes`",
    ),
    refused("gpus", "name the device nodes in `devices`"),
    refused("models", "run the model as a service of its own"),
    refused("provider", "only containers are run"),
    refused(
        "use_api_socket",
        "mount the engine's socket in `volumes`, where the device's guard allows it",
    ),
    refused("develop", "leave it out: it is for `docker compose watch`"),
    refused(
        "attach",
        "leave it out: it is for `docker compose up` in a terminal",
    ),
    refused("annotations", "use `labels`"),
    refused("blkio_config", "leave it out"),
    refused("cgroup", "leave it out"),
    refused("cgroup_parent", "leave it out"),
    refused("cpu_count", "use `cpus`"),
    refused("cpu_percent", "use `cpus`"),
    refused("cpu_period", "use `cpus`"),
    refused("cpu_quota", "use `cpus`"),
    refused("cpu_rt_period", "use `cpus`"),
    refused("cpu_rt_runtime", "use `cpus`"),
    refused("cpu_shares", "use `cpus`"),
    refused("cpuset", "use `cpus`"),
    refused("credential_spec", "leave it out: it is for Windows"),
    refused("device_cgroup_rules", "name the device nodes in `devices`"),
    refused(
        "external_links",
        "join the other container's network: declare it with `external = true`",
    ),
    refused("isolation", "leave it out: it is for Windows"),
    refused("label_file", "write the labels in `labels`"),
    refused(
        "links",
        "services of an app reach each other by name already",
    ),
    refused("mac_address", "set it under `networks`"),
    refused("mem_reservation", "use `mem_limit`"),
    refused("mem_swappiness", "leave it out"),
    refused("memswap_limit", "use `mem_limit`"),
    refused("oom_kill_disable", "use `oom_score_adj`"),
    refused("post_start", "use a service of its own and `depends_on`"),
    refused("pre_stop", "handle the stop signal in the service"),
    refused("runtime", "set the engine's default runtime on the device"),
    refused("storage_opt", "leave it out"),
    refused("uts", "leave it out"),
    refused("volumes_from", "name the volume in both services"),
];

const SCALARS_OR_LISTS: Shape =
    Shape::AnyOf(&[Shape::Map(&Shape::AnyOf(&[Shape::Scalar, TEXTS])), TEXTS]);

/// The words of `pull_policy`.
pub(super) const PULL_POLICIES: &[&str] = &["always", "missing", "if_not_present", "never"];

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
pub(super) const PROPAGATIONS: &[&str] = &[
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
    refused("priority", "leave it out"),
    refused("gw_priority", "leave it out"),
    refused("interface_name", "leave it out"),
    refused("link_local_ips", "leave it out"),
    refused("driver_opts", "set them on the network"),
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
    key("replicas", Shape::Integer, "Number of containers; only 1"),
    refused(
        "mode",
        "leave it out: a device runs one container of each service",
    ),
    refused("endpoint_mode", "leave it out: it is for swarm"),
    refused("labels", "use the service's `labels`"),
    refused(
        "placement",
        "name the app in the groups or devices that should run it",
    ),
    refused("restart_policy", "use `restart`"),
    refused(
        "rollback_config",
        "leave it out: `[gate]` says when a device goes back",
    ),
];

/// The supported keys of `deploy.resources`.
pub const RESOURCES: &[Key] = &[
    key("limits", Shape::Table(LIMITS), "What it may use at most"),
    refused(
        "reservations",
        "leave it out, or use `limits`; name device nodes in `devices`",
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
        Shape::Words(super::strategy::ORDERS),
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
        Shape::Words(super::resource::ON_REMOVE),
        "What happens to its data when no revision at the branch's tip declares it any more; keep. In compose.yaml: `x-evenkeel: {on_remove: delete}`",
    ),
];

/// What may stand under `x-evenkeel` in a volume.
pub const VOLUME_EXTENSION: &[Key] = &[key(
    "on_remove",
    Shape::Words(super::resource::ON_REMOVE),
    "What happens to its data when it is no longer declared; keep",
)];

/// The keys of a whole compose.yaml.
pub const COMPOSE: &[Key] = &[
    key(
        "name",
        Shape::Text,
        "Ignored: the app's folder names the project",
    ),
    key("version", Shape::Scalar, "Ignored, as Compose does"),
    key("services", Shape::Map(&Shape::Table(SERVICE)), "Containers"),
    key(
        "networks",
        Shape::Map(&Shape::AnyOf(&[Shape::Null, Shape::Table(NETWORK)])),
        "Networks",
    ),
    key(
        "volumes",
        Shape::Map(&Shape::AnyOf(&[Shape::Null, Shape::Table(VOLUME)])),
        "Volumes",
    ),
    refused(
        "configs",
        "declare the file in app.toml's `[[files]]` and mount it in `volumes`",
    ),
    refused(
        "secrets",
        "declare the file in app.toml's `[[files]]` and mount it in `volumes`",
    ),
    refused(
        "include",
        "write the services in this file, or make them an app of their own",
    ),
    refused("models", "run the model as a service of its own"),
];
