//! From a document's tree to services: every problem at once, each at its place.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::read::Bare;
use super::{
    Condition, DEFAULT_NETWORK, Dependency, Deploy, Limits, Logging, Mount, Network, NetworkMode,
    Resources, Restart, Service, ServiceNetwork, Ulimit, UpdateConfig, UpdateOrder, Volume,
    healthcheck, keys, mounts, ports, read, resource, shell, units,
};
use crate::diagnostic::Diagnostics;
use crate::image::ImageRef;
use crate::name::ServiceName;
use crate::node::{Node, Value};

/// What a whole compose.yaml says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Compose {
    /// Containers.
    pub services: BTreeMap<ServiceName, Service>,
    /// Networks.
    pub networks: BTreeMap<ServiceName, Network>,
    /// Volumes.
    pub volumes: BTreeMap<ServiceName, Volume>,
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
            "name" | "version" => {}
            _ => read::unread(&field, out),
        }
    }
    match services {
        Some(services) => check_references(
            services,
            &compose.services,
            &compose.networks,
            &compose.volumes,
            out,
        ),
        None => node.error(out, "compose.yaml has no `services`"),
    }
    compose
}

/// Reads `services` of an app or of compose.yaml. What they name is judged by [`check_references`].
pub fn decode_services(node: &Node, out: &mut Diagnostics) -> BTreeMap<ServiceName, Service> {
    resource::named(node, "services", out, service)
}

/// Checks that the networks, volumes and services that services name are declared, and that no service waits for
/// itself. `node` is the table of services.
pub fn check_references(
    node: &Node,
    services: &BTreeMap<ServiceName, Service>,
    networks: &BTreeMap<ServiceName, Network>,
    volumes: &BTreeMap<ServiceName, Volume>,
    out: &mut Diagnostics,
) {
    for (name, service) in services {
        let here = node.get(name.as_str()).unwrap_or(node);
        let place = |key: &str| here.get(key).unwrap_or(here);
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
    for field in &fields {
        one(&mut service, field, out);
    }
    finish(&mut service, node, out);
    known.then_some(service)
}

fn finish(service: &mut Service, node: &Node, out: &mut Diagnostics) {
    if service.network_mode.is_some() {
        if !service.networks.is_empty() {
            node.error(
                out,
                "a service cannot have both `networks` and `network_mode`",
            );
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
    for mount in &service.tmpfs {
        let path = mount.split(':').next().unwrap_or(mount);
        if service.volumes.iter().any(|other| other.target() == path) {
            node.error(out, format!("two mounts at `{path}` in the container"));
        }
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
                Bare::Refused("give it a value: there is no shell whose variables it could take"),
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
        "deploy" => service.deploy = deploy(node, out),
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
        "scale" => resource::only_one(node, name, out),
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

fn expose(node: &Node, out: &mut Diagnostics) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for item in read::list(node, "expose", out) {
        let Some(text) = read::text(item, "expose", out) else {
            continue;
        };
        let (port, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
        let good = port.parse::<u16>().is_ok_and(|port| port > 0)
            && matches!(protocol, "tcp" | "udp" | "sctp");
        if good {
            found.insert(text);
        } else {
            item.error_with_help(
                out,
                format!("`expose`: `{}` is not a port", text.escape_debug()),
                "write it as \"8080\" or \"53/udp\"",
            );
        }
    }
    found
}

fn networks(node: &Node, out: &mut Diagnostics) -> BTreeMap<ServiceName, ServiceNetwork> {
    if let Value::List(items) = &node.value {
        return items
            .iter()
            .filter_map(|item| service_name(item, "networks", out))
            .map(|name| (name, ServiceNetwork::default()))
            .collect();
    }
    resource::named(node, "networks", out, |node, out| {
        let mut network = ServiceNetwork::default();
        for field in read::fields(node, keys::SERVICE_NETWORK, "a service's network", out) {
            match field.name {
                "aliases" => {
                    network.aliases = read::texts(field.node, "aliases", out)
                        .into_iter()
                        .collect();
                }
                "ipv4_address" => network.ipv4_address = address(field.node, "ipv4_address", out),
                "ipv6_address" => network.ipv6_address = address(field.node, "ipv6_address", out),
                "mac_address" => network.mac_address = read::filled(field.node, "mac_address", out),
                _ => read::unread(&field, out),
            }
        }
        Some(network)
    })
}

pub(super) fn address(node: &Node, what: &str, out: &mut Diagnostics) -> Option<String> {
    read::parsed(node, what, out, |text| {
        text.parse::<IpAddr>()
            .map(|address| address.to_string())
            .map_err(|_| format!("`{}` is not an IP address", text.escape_debug()))
    })
}

fn service_name(node: &Node, what: &str, out: &mut Diagnostics) -> Option<ServiceName> {
    read::parsed(node, what, out, |text| {
        text.parse()
            .map_err(|problem: crate::name::NameError| problem.to_string())
    })
}

fn network_mode(node: &Node, out: &mut Diagnostics) -> Option<NetworkMode> {
    match namespace(node, "network_mode", &["host", "none", "bridge"], out)?.as_str() {
        "host" => Some(NetworkMode::Host),
        "none" => Some(NetworkMode::None),
        _ => Some(NetworkMode::Bridge),
    }
}

fn namespace(node: &Node, what: &str, words: &[&str], out: &mut Diagnostics) -> Option<String> {
    if let Value::String(text) = &node.value
        && (text.starts_with("service:") || text.starts_with("container:"))
    {
        node.error_with_help(
            out,
            format!("`{what}: {}` is not supported by this version", text.escape_debug()),
            "a namespace cannot be shared with another container; services of an app reach each other by name",
        );
        return None;
    }
    read::word(node, what, words, out)
}

fn depends_on(node: &Node, out: &mut Diagnostics) -> BTreeMap<ServiceName, Dependency> {
    if let Value::List(items) = &node.value {
        return items
            .iter()
            .filter_map(|item| service_name(item, "depends_on", out))
            .map(|name| (name, Dependency::default()))
            .collect();
    }
    resource::named(node, "depends_on", out, |node, out| {
        let mut dependency = Dependency::default();
        for field in read::fields(node, keys::DEPENDENCY, "a dependency", out) {
            match field.name {
                "condition" => {
                    let words = [
                        ("service_started", Condition::Started),
                        ("service_healthy", Condition::Healthy),
                        ("service_completed_successfully", Condition::Completed),
                    ];
                    let word =
                        read::word(field.node, "condition", &words.map(|(word, _)| word), out);
                    for (name, condition) in words {
                        if word.as_deref() == Some(name) {
                            dependency.condition = condition;
                        }
                    }
                }
                "required" => {
                    dependency.required =
                        read::boolean(field.node, "required", out).unwrap_or(true);
                }
                "restart" => {
                    dependency.restart = read::boolean(field.node, "restart", out).unwrap_or(false);
                }
                _ => read::unread(&field, out),
            }
        }
        Some(dependency)
    })
}

/// Docker refuses less.
const LEAST_MEMORY: u64 = 6 << 20;

fn memory(node: &Node, what: &str, out: &mut Diagnostics) -> Option<u64> {
    let bytes = read::parsed(node, what, out, units::size)?;
    if bytes > 0 && bytes < LEAST_MEMORY {
        node.error(out, format!("`{what}` must be at least 6m"));
        return None;
    }
    Some(bytes)
}

fn deploy(node: &Node, out: &mut Diagnostics) -> Option<Deploy> {
    let mut deploy = Deploy::default();
    for field in read::fields(node, keys::DEPLOY, "deploy", out) {
        match field.name {
            "resources" => {
                for field in read::fields(field.node, keys::RESOURCES, "deploy.resources", out) {
                    match field.name {
                        "limits" => {
                            deploy.resources = Some(Resources {
                                limits: Some(limits(field.node, out)),
                            });
                        }
                        _ => read::unread(&field, out),
                    }
                }
            }
            "update_config" => deploy.update_config = update_config(field.node, out),
            "replicas" => resource::only_one(field.node, "deploy.replicas", out),
            _ => read::unread(&field, out),
        }
    }
    (deploy != Deploy::default()).then_some(deploy)
}

fn limits(node: &Node, out: &mut Diagnostics) -> Limits {
    let mut limits = Limits::default();
    for field in read::fields(node, keys::LIMITS, "deploy.resources.limits", out) {
        let what = format!("deploy.resources.limits.{}", field.name);
        match field.name {
            "cpus" => limits.nano_cpus = read::parsed(field.node, &what, out, units::nano_cpus),
            "memory" => limits.memory = memory(field.node, &what, out),
            "pids" => limits.pids = read::integer(field.node, &what, out),
            _ => read::unread(&field, out),
        }
    }
    limits
}

fn update_config(node: &Node, out: &mut Diagnostics) -> Option<UpdateConfig> {
    let mut found = None;
    for field in read::fields(node, keys::UPDATE_CONFIG, "deploy.update_config", out) {
        match field.name {
            "order" => {
                if matches!(&field.node.value, Value::String(text) if text == "start-first") {
                    field.node.error_with_help(
                        out,
                        "`deploy.update_config.order: start-first` is not supported by this version",
                        "use `stop-first`, or leave it out",
                    );
                } else if read::word(field.node, "order", &["stop-first"], out).is_some() {
                    found = Some(UpdateConfig {
                        order: UpdateOrder::StopFirst,
                    });
                }
            }
            _ => read::unread(&field, out),
        }
    }
    found
}

fn tmpfs(node: &Node, out: &mut Diagnostics) -> Vec<String> {
    let mounts = read::text_or_texts(node, "tmpfs", out);
    for mount in &mounts {
        if !mount.starts_with('/') {
            node.error(
                out,
                format!(
                    "`tmpfs`: `{}` is not an absolute path in the container",
                    mount.escape_debug()
                ),
            );
        }
    }
    mounts
}

fn host_name(node: &Node, what: &str, out: &mut Diagnostics) -> Option<String> {
    let text = read::filled(node, what, out)?;
    let good = text.len() <= 253
        && text
            .split('.')
            .all(|label| !label.is_empty() && label.len() <= 63 && !label.starts_with('-'))
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    if !good {
        node.error(
            out,
            format!("`{what}`: `{}` is not a host name", text.escape_debug()),
        );
        return None;
    }
    Some(text)
}

fn extra_hosts(node: &Node, out: &mut Diagnostics) -> BTreeMap<String, BTreeSet<String>> {
    let mut hosts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut add = |at: &Node, name: &str, address: &str, out: &mut Diagnostics| {
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        let good = bare == "host-gateway" || bare.parse::<IpAddr>().is_ok();
        if good && !name.is_empty() {
            hosts
                .entry(name.to_owned())
                .or_default()
                .insert(bare.to_owned());
        } else {
            at.error_with_help(
                out,
                format!(
                    "`extra_hosts`: `{}` is not an address",
                    address.escape_debug()
                ),
                "write it as \"name=192.0.2.7\"",
            );
        }
    };
    match &node.value {
        Value::List(items) => {
            for item in items {
                let Some(line) = read::filled(item, "extra_hosts", out) else {
                    continue;
                };
                match line.split_once('=').or_else(|| line.split_once(':')) {
                    Some((name, address)) => add(item, name, address, out),
                    None => item.error_with_help(
                        out,
                        format!("`extra_hosts`: `{}` has no address", line.escape_debug()),
                        "write it as \"name=192.0.2.7\"",
                    ),
                }
            }
        }
        Value::Null
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::String(_)
        | Value::Table(_) => {
            for entry in read::table(node, "`extra_hosts`", out).unwrap_or_default() {
                for address in read::text_or_texts(&entry.value, "extra_hosts", out) {
                    add(&entry.value, &entry.key, &address, out);
                }
            }
        }
    }
    hosts
}

fn ulimits(node: &Node, out: &mut Diagnostics) -> BTreeMap<String, Ulimit> {
    let mut found = BTreeMap::new();
    for entry in read::table(node, "`ulimits`", out).unwrap_or_default() {
        let value = &entry.value;
        let limit = if let Value::Table(_) = &value.value {
            let (mut soft, mut hard) = (None, None);
            let before = out.len();
            for field in read::fields(value, keys::ULIMIT, "a limit", out) {
                match field.name {
                    "soft" => soft = read::integer(field.node, "ulimits.soft", out),
                    "hard" => hard = read::integer(field.node, "ulimits.hard", out),
                    _ => read::unread(&field, out),
                }
            }
            if out.len() == before && (soft.is_none() || hard.is_none()) {
                value.error(out, "a limit in its long form needs `soft` and `hard`");
            }
            soft.zip(hard).map(|(soft, hard)| Ulimit { soft, hard })
        } else {
            read::integer(value, "ulimits", out).map(|both| Ulimit {
                soft: both,
                hard: both,
            })
        };
        found.extend(limit.map(|limit| (entry.key.clone(), limit)));
    }
    found
}

fn logging(node: &Node, out: &mut Diagnostics) -> Logging {
    let mut logging = Logging::default();
    for field in read::fields(node, keys::LOGGING, "logging", out) {
        match field.name {
            "driver" => logging.driver = read::filled(field.node, "logging.driver", out),
            "options" => logging.options = read::scalars(field.node, "logging.options", out),
            _ => read::unread(&field, out),
        }
    }
    logging
}

pub(super) fn labels(node: &Node, out: &mut Diagnostics) -> BTreeMap<String, String> {
    resource::pairs_without_reserved(node, out)
}

/// A name as engines accept it for containers, networks and volumes.
pub(super) fn engine_name(
    node: &Node,
    text: &str,
    what: &str,
    out: &mut Diagnostics,
) -> Option<String> {
    let mut chars = text.chars();
    let good = text.len() >= 2
        && text.len() <= 255
        && chars.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    if good {
        return Some(text.to_owned());
    }
    node.error(
        out,
        format!(
            "`{what}`: `{}` is not a name for the engine: at least two of letters, digits, `_`, `.` and `-`, beginning with a letter or digit",
            text.escape_debug()
        ),
    );
    None
}
