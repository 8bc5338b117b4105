//! The parts of a service that are more than one value.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{
    Condition, Dependency, Deploy, Limits, Logging, NetworkMode, Reservations, Resources, Restart,
    Service, ServiceNetwork, Ulimit, UpdateConfig, gpus, keys, read, resource, strategy, units,
};
use crate::diagnostic::Diagnostics;
use crate::name::ServiceName;
use crate::node::{Node, Value};

pub(super) fn expose(node: &Node, out: &mut Diagnostics) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for item in read::list(node, "expose", out) {
        let Some(text) = read::text(item, "expose", out) else {
            continue;
        };
        let (port, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
        let good =
            super::ports::range(port).is_some() && matches!(protocol, "tcp" | "udp" | "sctp");
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

pub(super) fn networks(
    node: &Node,
    out: &mut Diagnostics,
) -> BTreeMap<ServiceName, ServiceNetwork> {
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
                "driver_opts" => {
                    network.driver_opts = read::scalars(field.node, "driver_opts", out)
                }
                "link_local_ips" => {
                    network.link_local_ips = read::texts(field.node, "link_local_ips", out);
                }
                "priority" => network.priority = read::integer(field.node, "priority", out),
                "gw_priority" => {
                    network.gw_priority = read::integer(field.node, "gw_priority", out)
                }
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

pub(super) fn service_name(node: &Node, what: &str, out: &mut Diagnostics) -> Option<ServiceName> {
    read::parsed(node, what, out, |text| {
        text.parse()
            .map_err(|problem: crate::name::NameError| problem.to_string())
    })
}

pub(super) fn network_mode(node: &Node, out: &mut Diagnostics) -> Option<NetworkMode> {
    let mode = namespace(node, "network_mode", &["host", "none", "bridge"], out)?;
    NetworkMode::try_from(mode)
        .map_err(|problem| node.error(out, format!("`network_mode`: {problem}")))
        .ok()
}

/// One of these words, or another container's namespace: `service:NAME`, `container:NAME`.
pub(super) fn namespace(
    node: &Node,
    what: &str,
    words: &[&str],
    out: &mut Diagnostics,
) -> Option<String> {
    if let Value::String(text) = &node.value
        && let Some((kind @ ("service" | "container"), name)) = text.split_once(':')
    {
        let good = match kind {
            "service" => name
                .parse::<ServiceName>()
                .map(|_| ())
                .map_err(|problem| problem.to_string()),
            _ => engine_name(node, name, what, out)
                .map(|_| ())
                .ok_or_else(String::new),
        };
        return match good {
            Ok(()) => Some(text.clone()),
            // The name was judged where it is read.
            Err(told) if told.is_empty() => None,
            Err(problem) => {
                node.error(out, format!("`{what}`: {problem}"));
                None
            }
        };
    }
    read::word(node, what, words, out)
}

pub(super) fn depends_on(node: &Node, out: &mut Diagnostics) -> BTreeMap<ServiceName, Dependency> {
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

/// A device is one machine.
const MOST_CONTAINERS: u32 = 100;

/// Docker refuses less.
const LEAST_MEMORY: u64 = 6 << 20;

pub(super) fn memory(node: &Node, what: &str, out: &mut Diagnostics) -> Option<u64> {
    let bytes = read::parsed(node, what, out, units::size)?;
    if bytes > 0 && bytes < LEAST_MEMORY {
        node.error(out, format!("`{what}` must be at least 6m"));
        return None;
    }
    Some(bytes)
}

/// Reads `deploy`; its number of containers and its restart policy are the service's own.
pub(super) fn deploy(service: &mut Service, node: &Node, out: &mut Diagnostics) {
    let mut deploy = Deploy::default();
    for field in read::fields(node, keys::DEPLOY, "deploy", out) {
        match field.name {
            "resources" => {
                let mut resources = Resources::default();
                for field in read::fields(field.node, keys::RESOURCES, "deploy.resources", out) {
                    match field.name {
                        "limits" => resources.limits = Some(limits(field.node, out)),
                        "reservations" => {
                            resources.reservations = Some(reservations(field.node, out))
                                .filter(|found| *found != Reservations::default());
                        }
                        _ => read::unread(&field, out),
                    }
                }
                deploy.resources = (resources != Resources::default()).then_some(resources);
            }
            "update_config" => deploy.update_config = update_config(field.node, out),
            "replicas" => set_scale(service, field.node, "deploy.replicas", out),
            "mode" => {
                read::word(field.node, "deploy.mode", &["replicated", "global"], out);
            }
            "restart_policy" => restart_policy(service, field.node, out),
            _ => read::unread(&field, out),
        }
    }
    service.deploy = (deploy != Deploy::default()).then_some(deploy);
}

/// Reads a number of containers; one is what a service has anyway.
pub(super) fn set_scale(service: &mut Service, node: &Node, what: &str, out: &mut Diagnostics) {
    let Some(number) = read::number::<u32>(node, what, out) else {
        return;
    };
    if number > MOST_CONTAINERS {
        node.error(out, format!("`{what}` is more than {MOST_CONTAINERS}"));
        return;
    }
    let said = service.scale.replace(number);
    if said.is_some_and(|said| said != number) {
        node.error(out, "`scale` and `deploy.replicas` say different things");
    }
}

fn restart_policy(service: &mut Service, node: &Node, out: &mut Diagnostics) {
    let (mut restart, mut attempts) = (Restart::UnlessStopped, None);
    for field in read::fields(node, keys::RESTART_POLICY, "deploy.restart_policy", out) {
        match field.name {
            "condition" => {
                let words = ["none", "on-failure", "any"];
                let what = "deploy.restart_policy.condition";
                restart = match read::word(field.node, what, &words, out).as_deref() {
                    Some("none") => Restart::No,
                    Some("on-failure") => Restart::OnFailure(None),
                    Some(_) | None => Restart::UnlessStopped,
                };
            }
            "max_attempts" => {
                attempts = read::number(field.node, "deploy.restart_policy.max_attempts", out);
            }
            _ => read::unread(&field, out),
        }
    }
    if let (Restart::OnFailure(_), Some(times)) = (restart, attempts) {
        restart = Restart::OnFailure(Some(times));
    }
    if service.restart != Restart::No && service.restart != restart {
        node.error(
            out,
            "`restart` and `deploy.restart_policy` say different things",
        );
    }
    service.restart = restart;
}

fn reservations(node: &Node, out: &mut Diagnostics) -> Reservations {
    let mut found = Reservations::default();
    for field in read::fields(
        node,
        keys::RESERVATIONS,
        "deploy.resources.reservations",
        out,
    ) {
        let what = format!("deploy.resources.reservations.{}", field.name);
        match field.name {
            "memory" => found.memory = memory(field.node, &what, out),
            "devices" => found.devices = gpus::requests(field.node, &what, out),
            _ => read::unread(&field, out),
        }
    }
    found
}

pub(super) fn limits(node: &Node, out: &mut Diagnostics) -> Limits {
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

pub(super) fn update_config(node: &Node, out: &mut Diagnostics) -> Option<UpdateConfig> {
    let mut found = None;
    for field in read::fields(node, keys::UPDATE_CONFIG, "deploy.update_config", out) {
        match field.name {
            "order" => found = strategy::order(field.node, out),
            _ => read::unread(&field, out),
        }
    }
    found
}

pub(super) fn tmpfs(node: &Node, out: &mut Diagnostics) -> Vec<String> {
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

pub(super) fn host_name(node: &Node, what: &str, out: &mut Diagnostics) -> Option<String> {
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

pub(super) fn extra_hosts(
    node: &Node,
    out: &mut Diagnostics,
) -> BTreeMap<String, BTreeSet<String>> {
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

pub(super) fn ulimits(node: &Node, out: &mut Diagnostics) -> BTreeMap<String, Ulimit> {
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

pub(super) fn logging(node: &Node, out: &mut Diagnostics) -> Logging {
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
