//! The one table of keys: what decoding accepts, what it refuses and why, and what JSON Schema tells editors.

mod parts;

pub use super::shape::{Key, Shape, table_schema};
pub(crate) use super::shape::{key, refused};
pub use parts::{
    BIND, CONFIG, DEPENDENCY, DEPLOY, DEVICE, ENV_FILE, EXTENDS, FILE_MOUNT, GPU, HEALTHCHECK,
    INCLUDE, IPAM, IPAM_POOL, LIMITS, LOGGING, MOUNT, NETWORK, PORT, RESERVATIONS, RESOURCES,
    RESTART_POLICY, SECRET, SERVICE_NETWORK, TMPFS, ULIMIT, UPDATE_CONFIG, VOLUME,
    VOLUME_EXTENSION, VOLUME_OPTIONS,
};
pub(super) use parts::{GPU_CAPABILITIES, PROPAGATIONS, PULL_POLICIES};

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
        Shape::Words(&["host", "none", "bridge", "service:NAME", "container:NAME"]),
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
        "Limits, reservations, the number of containers and the order of an update",
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
        Shape::Words(&["host", "service:NAME", "container:NAME"]),
        "The namespace of processes",
    ),
    key(
        "ipc",
        Shape::Words(&[
            "host",
            "private",
            "shareable",
            "none",
            "service:NAME",
            "container:NAME",
        ]),
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
    key(
        "env_file",
        Shape::AnyOf(&[
            Shape::Text,
            Shape::List(&Shape::AnyOf(&[Shape::Text, Shape::Table(ENV_FILE)])),
        ]),
        "Files of the app's folder with more variables; `environment` wins",
    ),
    key(
        "label_file",
        TEXT_OR_TEXTS,
        "Files of the app's folder with more labels; `labels` win",
    ),
    key(
        "configs",
        Shape::List(&Shape::AnyOf(&[Shape::Text, Shape::Table(FILE_MOUNT)])),
        "Configs of the app, mounted as files; at `/NAME` where no target is named",
    ),
    key(
        "secrets",
        Shape::List(&Shape::AnyOf(&[Shape::Text, Shape::Table(FILE_MOUNT)])),
        "Secrets of the app, mounted as files; at `/run/secrets/NAME` where no target is named",
    ),
    key(
        "profiles",
        TEXTS,
        "Runs where one of these is among the value `compose_profiles`",
    ),
    key(
        "extends",
        Shape::AnyOf(&[Shape::Text, Shape::Table(EXTENDS)]),
        "Another service, here or in a file of the app's folder, whose keys it takes over",
    ),
    key(
        "scale",
        Shape::Integer,
        "Number of containers; 0 for none, more than one without ports of the host",
    ),
    key(
        "gpus",
        Shape::AnyOf(&[Shape::Words(&["all"]), Shape::List(&Shape::Table(GPU))]),
        "GPUs, by the engine's device requests",
    ),
    key("annotations", SCALARS, "For the engine's runtime"),
    key(
        "cgroup",
        Shape::Words(&["host", "private"]),
        "The namespace of control groups",
    ),
    key(
        "cgroup_parent",
        Shape::Text,
        "The control group above the container's",
    ),
    key(
        "cpu_period",
        Shape::Integer,
        "Microseconds of the scheduler's period",
    ),
    key(
        "cpu_quota",
        Shape::Integer,
        "Microseconds of CPU in each period",
    ),
    key(
        "cpu_rt_period",
        Shape::Integer,
        "Microseconds of the real-time period",
    ),
    key(
        "cpu_rt_runtime",
        Shape::Integer,
        "Microseconds of real-time CPU in each period",
    ),
    key(
        "cpu_shares",
        Shape::Integer,
        "Weight beside other containers",
    ),
    key("cpuset", Shape::Text, "CPUs that it may run on"),
    key(
        "device_cgroup_rules",
        TEXTS,
        "Devices that it may make and use: `c 189:* rmw`",
    ),
    key(
        "mac_address",
        Shape::Text,
        "The hardware address in its first network",
    ),
    key(
        "mem_reservation",
        Shape::Size,
        "Memory that is left to it where memory is short",
    ),
    key("mem_swappiness", Shape::Integer, "0 to 100"),
    key(
        "memswap_limit",
        Shape::Size,
        "Memory and swap together; -1 for no limit",
    ),
    key(
        "oom_kill_disable",
        Shape::Bool,
        "Left alone by the out-of-memory killer",
    ),
    key("runtime", Shape::Text, "The engine's runtime for it"),
    key(
        "storage_opt",
        Shape::Map(&Shape::Scalar),
        "Options of the engine's storage driver",
    ),
    key("uts", Shape::Words(&["host"]), "The host's own name"),
    refused(
        "build",
        "a device does not build images: build in CI, push, and name the image by its digest in `image`",
    ),
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
    refused(
        "blkio_config",
        "weigh CPU and memory instead (`cpu_shares`, `mem_limit`)",
    ),
    refused("cpu_count", "use `cpus`: this one is for Windows"),
    refused("cpu_percent", "use `cpus`: this one is for Windows"),
    refused("credential_spec", "leave it out: it is for Windows"),
    refused(
        "external_links",
        "join the other container's network: declare it with `external = true`",
    ),
    refused("isolation", "leave it out: it is for Windows"),
    refused(
        "links",
        "services of an app reach each other by name already; another name is one of the other's `aliases` under `networks`",
    ),
    refused("post_start", "use a service of its own and `depends_on`"),
    refused("pre_stop", "handle the stop signal in the service"),
    refused("volumes_from", "name the volume in both services"),
];

const SCALARS_OR_LISTS: Shape =
    Shape::AnyOf(&[Shape::Map(&Shape::AnyOf(&[Shape::Scalar, TEXTS])), TEXTS]);

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
    key(
        "configs",
        Shape::Map(&Shape::Table(CONFIG)),
        "Files for containers",
    ),
    key(
        "secrets",
        Shape::Map(&Shape::Table(SECRET)),
        "Files for containers, whose content is never shown",
    ),
    key(
        "include",
        Shape::List(&Shape::AnyOf(&[Shape::Text, Shape::Table(INCLUDE)])),
        "Other Compose files of the app's folder",
    ),
    refused("models", "run the model as a service of its own"),
];
