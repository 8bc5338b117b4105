//! A container's settings in one form for both engines, by the keys that `plan::container` expects.
//!
//! What an engine does not tell is left out: it is then not compared. Bind sources are told without the configured
//! root, as they are declared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bollard::models::{ContainerConfig, ContainerInspectResponse, HostConfig, MountPoint};
use serde_json::{Value, json};

use crate::domain::observed::Facts;

/// `NAME=value` lines as a map.
pub(super) fn environment(lines: Option<&[String]>) -> BTreeMap<String, String> {
    lines
        .unwrap_or_default()
        .iter()
        .map(|line| {
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

pub(super) fn of(found: &ContainerInspectResponse, root: &Path) -> Facts {
    let mut facts = Facts::new();
    let mut process: Vec<String> = found.path.iter().cloned().collect();
    process.extend(found.args.iter().flatten().cloned());
    facts.insert("command".to_owned(), json!(process));
    if let Some(config) = &found.config {
        configuration(&mut facts, config);
    }
    if let Some(host) = &found.host_config {
        limits(&mut facts, host);
        host_settings(&mut facts, host);
    }
    mounts(&mut facts, found, root);
    if let Some(networks) = found
        .network_settings
        .as_ref()
        .and_then(|settings| settings.networks.as_ref())
    {
        let names: BTreeSet<&String> = networks.keys().collect();
        facts.insert("networks".to_owned(), json!(names));
    }
    facts
}

fn configuration(facts: &mut Facts, config: &ContainerConfig) {
    let mut put = |key: &str, value: Value| facts.insert(key.to_owned(), value);
    put("environment", json!(environment(config.env.as_deref())));
    let labels: BTreeMap<&String, &String> = config.labels.iter().flatten().collect();
    put("labels", json!(labels));
    put("user", json!(config.user.clone().unwrap_or_default()));
    put(
        "working_dir",
        json!(config.working_dir.clone().unwrap_or_default()),
    );
    put("tty", json!(config.tty.unwrap_or_default()));
    if let Some(name) = &config.hostname {
        put("hostname", json!(name));
    }
    if let Some(signal) = config.stop_signal.as_ref().filter(|text| !text.is_empty()) {
        put("stop_signal", json!(signal));
    }
    if let Some(timeout) = config.stop_timeout {
        put("stop_grace_period", json!(timeout));
    }
    let check = config.healthcheck.clone().unwrap_or_default();
    put(
        "healthcheck",
        json!({
            "test": check.test.unwrap_or_default(),
            "interval": check.interval.unwrap_or_default(),
            "timeout": check.timeout.unwrap_or_default(),
            "retries": check.retries.unwrap_or_default(),
            "start_period": check.start_period.unwrap_or_default(),
        }),
    );
}

fn limits(facts: &mut Facts, host: &HostConfig) {
    let mut put = |key: &str, value: Value| facts.insert(key.to_owned(), value);
    put("mem_limit", json!(host.memory.unwrap_or_default().max(0)));
    let quota = host.cpu_quota.unwrap_or_default();
    let period = host.cpu_period.unwrap_or_default();
    let nano = match host.nano_cpus.unwrap_or_default() {
        // Podman keeps a limit as quota and period.
        0 if quota > 0 && period > 0 => quota.saturating_mul(1_000_000_000) / period,
        nano => nano,
    };
    put("cpus", json!(nano));
    put(
        "pids_limit",
        json!(host.pids_limit.unwrap_or_default().max(0)),
    );
    if let Some(size) = host.shm_size {
        put("shm_size", json!(size));
    }
    let ulimits: BTreeMap<String, (i64, i64)> = host
        .ulimits
        .iter()
        .flatten()
        .filter_map(|limit| {
            let name = limit.name.as_deref()?.to_ascii_lowercase();
            let name = name.strip_prefix("rlimit_").unwrap_or(&name).to_owned();
            Some((name, (limit.soft?, limit.hard?)))
        })
        .collect();
    put("ulimits", json!(ulimits));
}

fn host_settings(facts: &mut Facts, host: &HostConfig) {
    let mut put = |key: &str, value: Value| facts.insert(key.to_owned(), value);
    let mut ports: Vec<Value> = Vec::new();
    for (target, bindings) in host.port_bindings.iter().flatten() {
        for binding in bindings.iter().flatten() {
            let ip = binding.host_ip.clone().unwrap_or_default();
            let ip = if matches!(ip.as_str(), "0.0.0.0" | "::") {
                String::new()
            } else {
                ip
            };
            let published = binding
                .host_port
                .as_deref()
                .and_then(|port| port.parse::<u16>().ok())
                .unwrap_or_default();
            ports.push(json!({"target": target, "host_ip": ip, "published": published}));
        }
    }
    ports.sort_by_key(ToString::to_string);
    put("ports", json!(ports));
    put("read_only", json!(host.readonly_rootfs.unwrap_or_default()));
    put("privileged", json!(host.privileged.unwrap_or_default()));
    put("cap_add", json!(capabilities(host.cap_add.as_deref())));
    put("cap_drop", json!(capabilities(host.cap_drop.as_deref())));
    put("init", json!(host.init.unwrap_or_default()));
    if let Some(mode) = &host.network_mode {
        put("network_mode", json!(mode));
    }
    put("pid", json!(host.pid_mode.clone().unwrap_or_default()));
    put("ipc", json!(host.ipc_mode.clone().unwrap_or_default()));
    let hosts: BTreeSet<&String> = host.extra_hosts.iter().flatten().collect();
    put("extra_hosts", json!(hosts));
    put("dns", json!(host.dns.clone().unwrap_or_default()));
    let devices: BTreeSet<String> = host
        .devices
        .iter()
        .flatten()
        .map(|device| {
            format!(
                "{}:{}",
                device.path_on_host.as_deref().unwrap_or_default(),
                device.path_in_container.as_deref().unwrap_or_default()
            )
        })
        .collect();
    put("devices", json!(devices));
    if let Some(log) = &host.log_config {
        put("logging", json!(log.typ.clone().unwrap_or_default()));
    }
}

/// Without `CAP_`, in capitals, sorted.
fn capabilities(list: Option<&[String]>) -> BTreeSet<String> {
    list.unwrap_or_default()
        .iter()
        .map(|name| {
            let name = name.to_ascii_uppercase();
            name.strip_prefix("CAP_").unwrap_or(&name).to_owned()
        })
        .collect()
}

/// Engines give volumes that nobody named 64 hexadecimal digits.
fn is_anonymous(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn mounts(facts: &mut Facts, found: &ContainerInspectResponse, root: &Path) {
    let mut volumes: BTreeMap<String, Value> = BTreeMap::new();
    let mut tmpfs: BTreeSet<String> = BTreeSet::new();
    for mount in found.mounts.iter().flatten() {
        let target = mount.destination.clone().unwrap_or_default();
        match mount.typ.as_deref() {
            Some("tmpfs") => {
                tmpfs.insert(target);
            }
            Some("volume") => {
                let name = mount.name.clone().unwrap_or_default();
                let source = if is_anonymous(&name) {
                    Value::Null
                } else {
                    json!(name)
                };
                volumes.insert(target, entry("volume", source, mount));
            }
            Some("bind") => {
                let source = mount.source.clone().unwrap_or_default();
                volumes.insert(
                    target,
                    entry("bind", json!(without_root(&source, root)), mount),
                );
            }
            Some(_) | None => {}
        }
    }
    if let Some(host) = &found.host_config {
        tmpfs.extend(host.tmpfs.iter().flatten().map(|(path, _)| path.clone()));
    }
    facts.insert("volumes".to_owned(), json!(volumes));
    facts.insert("tmpfs".to_owned(), json!(tmpfs));
}

fn entry(kind: &str, source: Value, mount: &MountPoint) -> Value {
    json!({"type": kind, "source": source, "read_only": !mount.rw.unwrap_or(true)})
}

fn without_root(source: &str, root: &Path) -> String {
    Path::new(source).strip_prefix(root).map_or_else(
        |_| source.to_owned(),
        |below| format!("/{}", below.display()),
    )
}
