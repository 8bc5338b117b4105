//! From a document's tree to services: every problem at once, each at its place.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::parts::{
    depends_on, deploy, engine_name, expose, extra_hosts, host_name, labels, logging, memory,
    namespace, network_mode, networks, set_scale, tmpfs, ulimits,
};
use super::read::Bare;
use super::{
    Condition, DEFAULT_NETWORK, Dependency, FileKind, FileObject, Mount, Network, NetworkMode,
    Restart, Service, ServiceNetwork, Volume, decode_files, files, gpus, healthcheck, keys, mounts,
    ports, read, resource, shell, strategy, units,
};
use crate::diagnostic::Diagnostics;
use crate::image::ImageRef;
use crate::name::ServiceName;
use crate::node::{Node, Value};

/// What a whole compose.yaml says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Compose {
    /// Containers.
    pub services: BTreeMap<ServiceName, Service>,
    /// Networks.
    pub networks: BTreeMap<ServiceName, Network>,
    /// Volumes.
    pub volumes: BTreeMap<ServiceName, Volume>,
    /// Configs.
    pub configs: BTreeMap<ServiceName, FileObject>,
    /// Secrets.
    pub secrets: BTreeMap<ServiceName, FileObject>,
}

impl Compose {
    /// The configs or the secrets.
    #[must_use]
    pub const fn files(&self, kind: FileKind) -> &BTreeMap<ServiceName, FileObject> {
        match kind {
            FileKind::Config => &self.configs,
            FileKind::Secret => &self.secrets,
        }
    }
}

/// Reads a whole compose.yaml, and checks that what its services name is declared.
pub fn decode_compose(node: &Node, out: &mut Diagnostics) -> Compose {
    let mut compose = Compose::default();
    let mut services = None;
    for field in read::fields(node, keys::COMPOSE, "compose.yaml", out) {
        match field.name {
            "services" => {
                compose.services = decode_services(field.node, out);
                services = Some(field.node);
            }
            "networks" => compose.networks = resource::decode_networks(field.node, out),
            "volumes" => compose.volumes = resource::decode_volumes(field.node, out),
            "configs" => compose.configs = decode_files(FileKind::Config, field.node, out),
            "secrets" => compose.secrets = decode_files(FileKind::Secret, field.node, out),
            // What is included stands here by now; where it does not, nobody reads the files.
            "name" | "version" | "include" => {}
            _ => read::unread(&field, out),
        }
    }
    match services {
        Some(services) => check_references(services, &compose, out),
        None if node.get("include").is_some() => {}
        None => node.error(out, "compose.yaml has no `services`"),
    }
    compose
}

/// Reads `services` of an app or of compose.yaml. What they name is judged by [`check_references`].
pub fn decode_services(node: &Node, out: &mut Diagnostics) -> BTreeMap<ServiceName, Service> {
    resource::named(node, "services", out, service)
}

/// Checks that the networks, volumes, files and services that services name are declared, and that no service waits for
/// itself. `node` is the table of services.
pub fn check_references(node: &Node, read: &Compose, out: &mut Diagnostics) {
    let Compose {
        services,
        networks,
        volumes,
        configs: _,
        secrets: _,
    } = read;
    for (name, service) in services {
        let here = node.get(name.as_str()).unwrap_or(node);
        let place = |key: &str| here.get(key).unwrap_or(here);
        for (kind, mounts) in [
            (FileKind::Config, &service.configs),
            (FileKind::Secret, &service.secrets),
        ] {
            let key = kind.key();
            for mount in mounts {
                if !read.files(kind).contains_key(&mount.source) {
                    let source = &mount.source;
                    place(key).error_with_help(
                        out,
                        format!("`{name}` mounts `{source}` of `{key}`, which is not declared"),
                        format!(
                            "add `[{key}.{source}]` with a `file` (`{key}: {{{source}: {{file: ...}}}}` in compose.yaml)"
                        ),
                    );
                }
            }
        }
        for other in service.shares_with() {
            if !services.keys().any(|known| known.as_str() == other) {
                here.error(
                    out,
                    format!("`{name}` shares a namespace of `{other}`, which is not a service of this app"),
                );
            }
        }
        for network in service.networks.keys() {
            if network.as_str() != DEFAULT_NETWORK && !networks.contains_key(network) {
                place("networks").error_with_help(
                    out,
                    format!("`{name}` joins the network `{network}`, which is not declared"),
                    format!(
                        "add `[networks.{network}]` (`networks: {{{network}: }}` in compose.yaml)"
                    ),
                );
            }
        }
        for mount in &service.volumes {
            if let Mount::Volume {
                source: Some(volume),
                ..
            } = mount
                && !volumes.contains_key(volume)
            {
                place("volumes").error_with_help(
                    out,
                    format!("`{name}` mounts the volume `{volume}`, which is not declared"),
                    format!("add `[volumes.{volume}]` (`volumes: {{{volume}: }}` in compose.yaml)"),
                );
            }
        }
        for (other, dependency) in &service.depends_on {
            let at = place("depends_on");
            match services.get(other) {
                // Told above.
                None if service.shares_with().any(|shared| shared == other.as_str()) => {}
                None if dependency.required => at.error(
                    out,
                    format!("`{name}` depends on `{other}`, which is not a service of this app"),
                ),
                None => {}
                Some(other_service) => {
                    let switched_off = other_service
                        .healthcheck
                        .as_ref()
                        .is_some_and(super::Healthcheck::is_disabled);
                    if dependency.condition == Condition::Healthy && switched_off {
                        at.error(
                            out,
                            format!("`{name}` waits for `{other}` to be healthy, but its health check is switched off"),
                        );
                    }
                }
            }
        }
        if reaches(services, name, name) {
            place("depends_on").error(
                out,
                format!("`{name}` depends on itself, by way of `depends_on`"),
            );
        }
    }
}

fn reaches(
    services: &BTreeMap<ServiceName, Service>,
    from: &ServiceName,
    to: &ServiceName,
) -> bool {
    let mut seen = BTreeSet::new();
    let mut left = vec![from];
    while let Some(next) = left.pop() {
        for dependency in services
            .get(next)
            .into_iter()
            .flat_map(|service| service.depends_on.keys())
        {
            if dependency == to {
                return true;
            }
            if seen.insert(dependency) {
                left.push(dependency);
            }
        }
    }
    false
}

fn service(node: &Node, out: &mut Diagnostics) -> Option<Service> {
    let fields = read::fields(node, keys::SERVICE, "a service", out);
    let image = match fields.iter().find(|field| field.name == "image") {
        Some(field) => read::parsed(field.node, "image", out, |text| {
            text.parse::<ImageRef>()
                .map_err(|problem| problem.to_string())
        }),
        None => {
            if matches!(node.value, Value::Table(_)) && node.get("build").is_none() {
                node.error_with_help(
                    out,
                    "a service needs an `image`",
                    "name it by its content: `name@sha256:...`",
                );
            }
            None
        }
    };
    // The rest is read even where the image is wrong, so that every problem is told at once.
    let placeholder = || {
        format!("sha256:{}", "0".repeat(64))
            .parse::<ImageRef>()
            .ok()
    };
    let known = image.is_some();
    let mut service = Service::new(image.or_else(placeholder)?);
    service.networks.clear();
    // What `deploy` says beside another key is compared with it, wherever the two stand.
    let (last, first): (Vec<_>, Vec<_>) = fields.iter().partition(|field| field.name == "deploy");
    for field in first.into_iter().chain(last) {
        one(&mut service, field, out);
    }
    finish(&mut service, node, out);
    known.then_some(service)
}

fn finish(service: &mut Service, node: &Node, out: &mut Diagnostics) {
    strategy::judge(node, service, out);
    if service.network_mode.is_some() {
        if !service.networks.is_empty() {
            node.error(
                out,
                "a service cannot have both `networks` and `network_mode`",
            );
        }
        if let Some(NetworkMode::Service(_) | NetworkMode::Container(_)) = service.network_mode {
            let set = [
                ("ports", !service.ports.is_empty()),
                ("hostname", service.hostname.is_some()),
                ("extra_hosts", !service.extra_hosts.is_empty()),
                ("dns", !service.dns.is_empty()),
                ("mac_address", service.mac_address.is_some()),
            ];
            for (key, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
                node.error_with_help(
                    out,
                    format!("`{key}` has no meaning in another container's network"),
                    "set it on the service whose network it is",
                );
            }
        }
        if service.network_mode == Some(NetworkMode::Host) && !service.ports.is_empty() {
            node.error_with_help(
                out,
                "`ports` have no meaning under `network_mode: host`",
                "the service listens on the device itself: leave `ports` out",
            );
        }
    } else if service.networks.is_empty() {
        let default = DEFAULT_NETWORK
            .parse()
            .expect("`default` is a service's name");
        service.networks.insert(default, ServiceNetwork::default());
    }
    let limits = service
        .deploy
        .as_ref()
        .and_then(|deploy| deploy.resources.as_ref()?.limits.clone())
        .unwrap_or_default();
    let twice = [
        ("mem_limit", "memory", service.mem_limit, limits.memory),
        ("cpus", "cpus", service.nano_cpus, limits.nano_cpus),
        (
            "pids_limit",
            "pids",
            service.pids_limit.map(i64::cast_unsigned),
            limits.pids.map(i64::cast_unsigned),
        ),
    ];
    let reserved = service
        .deploy
        .as_ref()
        .and_then(|deploy| deploy.resources.as_ref()?.reservations.as_ref()?.memory);
    if let (Some(one), Some(other)) = (service.mem_reservation, reserved)
        && one != other
    {
        node.error(
            out,
            "`mem_reservation` and `deploy.resources.reservations.memory` say different things",
        );
    }
    for (short, long, one, other) in twice {
        if let (Some(one), Some(other)) = (one, other)
            && one != other
        {
            node.error(
                out,
                format!("`{short}` and `deploy.resources.limits.{long}` say different things"),
            );
        }
    }
    // As Compose has it: who lives in another's namespaces comes after it, and begins anew with it.
    let shared: Vec<ServiceName> = service
        .shares_with()
        .filter_map(|name| name.parse().ok())
        .collect();
    for name in shared {
        service.depends_on.entry(name).or_insert(Dependency {
            restart: true,
            ..Dependency::default()
        });
    }
    // One container is what a service has anyway.
    service.scale = service.scale.filter(|number| *number != 1);
    if service.scale.is_some() {
        finish_scale(service, node, out);
    }
    for kind in [FileKind::Config, FileKind::Secret] {
        let mounts = match kind {
            FileKind::Config => &service.configs,
            FileKind::Secret => &service.secrets,
        };
        for path in mounts.iter().map(|mount| mount.seen_at(kind)) {
            if service.volumes.iter().any(|other| other.target() == path) {
                node.error(out, format!("two mounts at `{path}` in the container"));
            }
        }
    }
    for mount in &service.tmpfs {
        let path = mount.split(':').next().unwrap_or(mount);
        if service.volumes.iter().any(|other| other.target() == path) {
            node.error(out, format!("two mounts at `{path}` in the container"));
        }
    }
}

/// What several containers of one service cannot share.
fn finish_scale(service: &Service, node: &Node, out: &mut Diagnostics) {
    let help = "write a second service, or run one container";
    let mut refuse = |what: &str| {
        let message = format!("a service of more than one container cannot have {what}");
        node.error_with_help(out, message, help);
    };
    if service.scale.is_some_and(|number| number < 2) {
        return;
    }
    if service.container_name.is_some() {
        refuse("a `container_name`");
    }
    if service.ports.iter().any(|port| port.published.is_some()) {
        refuse("a port of the host, which only one of them could take");
    }
    if service.network_mode == Some(NetworkMode::Host) {
        refuse("the host's network");
    }
    let is_fixed = |network: &ServiceNetwork| {
        network.ipv4_address.is_some()
            || network.ipv6_address.is_some()
            || network.mac_address.is_some()
    };
    if service.mac_address.is_some() || service.networks.values().any(is_fixed) {
        refuse("a fixed address");
    }
}

#[expect(
    clippy::too_many_lines,
    reason = "one arm a key: the list is the specification's, and splitting it would only hide it"
)]
fn one(service: &mut Service, field: &read::Field<'_>, out: &mut Diagnostics) {
    let (name, node) = (field.name, field.node);
    match name {
        "image" => {}
        "command" => service.command = words(node, name, out),
        "entrypoint" => service.entrypoint = words(node, name, out),
        "environment" => {
            service.environment = read::pairs(
                node,
                name,
                Bare::Refused("give it a value: no value of this device has that name in capitals"),
                out,
            );
        }
        "ports" => service.ports = ports::decode(node, out),
        "expose" => service.expose = expose(node, out),
        "volumes" => service.volumes = mounts::decode(node, out),
        "networks" => service.networks = networks(node, out),
        "network_mode" => service.network_mode = network_mode(node, out),
        "devices" => service.devices = mounts::decode_devices(node, out),
        "user" => service.user = read::filled(node, name, out),
        "group_add" => service.group_add = read::texts(node, name, out),
        "working_dir" => {
            service.working_dir = read::filled(node, name, out);
            if service
                .working_dir
                .as_ref()
                .is_some_and(|dir| !dir.starts_with('/'))
            {
                node.error(
                    out,
                    "`working_dir` must be an absolute path in the container",
                );
            }
        }
        "labels" => service.labels = labels(node, out),
        "depends_on" => service.depends_on = depends_on(node, out),
        "restart" => {
            // YAML readers of old took a bare `no` for false.
            service.restart = match node.value {
                Value::Bool(false) => Restart::No,
                _ => read::parsed(node, name, out, str::parse).unwrap_or_default(),
            };
        }
        "healthcheck" => service.healthcheck = Some(healthcheck::decode(node, out)),
        "mem_limit" => service.mem_limit = memory(node, name, out),
        "cpus" => service.nano_cpus = read::parsed(node, name, out, units::nano_cpus),
        "pids_limit" => service.pids_limit = read::integer(node, name, out),
        "deploy" => deploy(service, node, out),
        "read_only" => service.read_only = read::boolean(node, name, out).unwrap_or(false),
        "tmpfs" => service.tmpfs = tmpfs(node, out),
        "cap_add" => service.cap_add = read::texts(node, name, out).into_iter().collect(),
        "cap_drop" => service.cap_drop = read::texts(node, name, out).into_iter().collect(),
        "privileged" => service.privileged = read::boolean(node, name, out).unwrap_or(false),
        "security_opt" => service.security_opt = read::texts(node, name, out),
        "pid" => service.pid = namespace(node, name, &["host"], out),
        "ipc" => {
            service.ipc = namespace(node, name, &["host", "private", "shareable", "none"], out);
        }
        "userns_mode" => service.userns_mode = namespace(node, name, &["host"], out),
        "hostname" => service.hostname = host_name(node, name, out),
        "domainname" => service.domainname = host_name(node, name, out),
        "extra_hosts" => service.extra_hosts = extra_hosts(node, out),
        "dns" => {
            service.dns = read::text_or_texts(node, name, out);
            for server in &service.dns {
                if server.parse::<IpAddr>().is_err() {
                    node.error(
                        out,
                        format!("`dns`: `{}` is not an IP address", server.escape_debug()),
                    );
                }
            }
        }
        "dns_opt" => service.dns_opt = read::texts(node, name, out),
        "dns_search" => service.dns_search = read::text_or_texts(node, name, out),
        "sysctls" => {
            service.sysctls = read::pairs(
                node,
                name,
                Bare::Refused("write it as `net.core.somaxconn=1024`"),
                out,
            );
        }
        "ulimits" => service.ulimits = ulimits(node, out),
        "shm_size" => service.shm_size = read::parsed(node, name, out, units::size),
        "init" => service.init = read::boolean(node, name, out),
        "oom_score_adj" => {
            service.oom_score_adj = read::integer(node, name, out).filter(|score| {
                let fits = (-1000..=1000).contains(score);
                if !fits {
                    node.error(out, "`oom_score_adj` must be from -1000 to 1000");
                }
                fits
            });
        }
        "stop_signal" => service.stop_signal = read::filled(node, name, out),
        "stop_grace_period" => {
            service.stop_grace_period = read::parsed(node, name, out, units::duration);
        }
        "logging" => service.logging = Some(logging(node, out)),
        "container_name" => {
            service.container_name =
                read::filled(node, name, out).and_then(|text| engine_name(node, &text, name, out));
        }
        "pull_policy" => {
            service.pull_policy = read::word(node, name, keys::PULL_POLICIES, out);
        }
        "platform" => service.platform = read::filled(node, name, out),
        "tty" => service.tty = read::boolean(node, name, out).unwrap_or(false),
        "stdin_open" => service.stdin_open = read::boolean(node, name, out).unwrap_or(false),
        "scale" => set_scale(service, node, name, out),
        "annotations" => service.annotations = read::pairs(node, name, Bare::Empty, out),
        "cgroup" => service.cgroup = read::word(node, name, &["host", "private"], out),
        "cgroup_parent" => service.cgroup_parent = read::filled(node, name, out),
        "configs" => service.configs = files::decode_mounts(FileKind::Config, node, out),
        "secrets" => service.secrets = files::decode_mounts(FileKind::Secret, node, out),
        "cpu_period" => service.cpu_period = read::integer(node, name, out),
        "cpu_quota" => service.cpu_quota = read::integer(node, name, out),
        "cpu_rt_period" => service.cpu_rt_period = read::integer(node, name, out),
        "cpu_rt_runtime" => service.cpu_rt_runtime = read::integer(node, name, out),
        "cpu_shares" => service.cpu_shares = read::integer(node, name, out),
        "cpuset" => service.cpuset = read::parsed(node, name, out, units::cpu_set),
        "device_cgroup_rules" => service.device_cgroup_rules = read::texts(node, name, out),
        "gpus" => service.gpus = gpus::decode(node, out),
        "mac_address" => service.mac_address = read::filled(node, name, out),
        "mem_reservation" => service.mem_reservation = memory(node, name, out),
        "mem_swappiness" => {
            service.mem_swappiness = read::integer(node, name, out).filter(|readiness| {
                let fits = (0..=100).contains(readiness);
                if !fits {
                    node.error(out, "`mem_swappiness` must be from 0 to 100");
                }
                fits
            });
        }
        "memswap_limit" => service.memswap_limit = read::parsed(node, name, out, units::swap),
        "oom_kill_disable" => {
            service.oom_kill_disable = read::boolean(node, name, out).unwrap_or(false);
        }
        "profiles" => service.profiles = read::texts(node, name, out),
        "runtime" => service.runtime = read::filled(node, name, out),
        "storage_opt" => service.storage_opt = read::scalars(node, name, out),
        "uts" => service.uts = read::word(node, name, &["host"], out),
        // What they bring stands in the other keys by now.
        "env_file" | "label_file" | "extends" => {}
        _ => read::unread(field, out),
    }
}

/// A command: a list as it is, or text that is split.
fn words(node: &Node, what: &str, out: &mut Diagnostics) -> Option<Vec<String>> {
    match &node.value {
        Value::List(items) => Some(
            items
                .iter()
                .filter_map(|item| read::scalar(item, what, out))
                .collect(),
        ),
        Value::String(_) => read::parsed(node, what, out, shell::split),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Table(_) => {
            node.error(
                out,
                format!("`{what}` must be text or a list, not {}", node.kind()),
            );
            None
        }
    }
}
