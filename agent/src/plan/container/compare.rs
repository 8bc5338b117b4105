//! A container beside its declaration, setting by setting.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_schema::service::{Mount, NetworkMode, Service};
use serde_json::{Value, json};

use super::surroundings;
use crate::domain::container::ContainerSpec;
use crate::domain::observed::{Facts, ObservedContainer, ObservedImage};

/// One setting that is not as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The setting in Compose's words: `image`, `environment.TZ`, `ports`.
    pub key: String,
    /// What is, for people; secrets and long values shortened.
    pub from: String,
    /// What should be.
    pub to: String,
}

/// Longer values are cut: a reason is one line.
const SHOWN: usize = 60;

/// Podman's limit of processes where none is declared.
const PODMAN_PIDS: u64 = 2048;

/// What Podman mounts in a container whose root file system is read-only.
const PODMAN_READ_ONLY_TMPFS: [&str; 5] = ["/run", "/tmp", "/var/tmp", "/dev", "/dev/shm"];

/// Variables that engines set by themselves.
const ENGINE_VARIABLES: [&str; 6] = [
    "PATH",
    "HOSTNAME",
    "HOME",
    "TERM",
    "container",
    "NOTIFY_SOCKET",
];

/// What differs between a container and its declaration, in the order of the settings' names; empty where nothing
/// does. `image` is what the declared reference is on this device.
#[must_use]
pub fn differences(
    spec: &ContainerSpec,
    image: &ObservedImage,
    actual: &ObservedContainer,
) -> Vec<Difference> {
    let mut compared = Compared {
        facts: &actual.facts,
        found: Vec::new(),
    };
    let service = &spec.service;
    if !image.id.is_empty() && !actual.image_id.is_empty() && image.id != actual.image_id {
        compared.differ("image", digest(&actual.image_id), digest(&image.id));
    }
    process(&mut compared, service, image);
    environment(&mut compared, service, image);
    text_settings(&mut compared, service, image);
    labels(&mut compared, service, image);
    limits(&mut compared, service);
    ports(&mut compared, service);
    mounts(&mut compared, spec, image);
    networks(&mut compared, spec);
    surroundings::security(&mut compared, service);
    surroundings::healthcheck(&mut compared, service, image);
    surroundings::surroundings(&mut compared, service);
    compared.found.sort_by(|one, other| one.key.cmp(&other.key));
    compared.found
}

pub(super) struct Compared<'a> {
    pub(super) facts: &'a Facts,
    found: Vec<Difference>,
}

impl Compared<'_> {
    pub(super) fn differ(&mut self, key: &str, from: impl Into<String>, to: impl Into<String>) {
        self.found.push(Difference {
            key: key.to_owned(),
            from: from.into(),
            to: to.into(),
        });
    }

    /// Compares a setting as a whole; one that the engine does not tell is not compared.
    pub(super) fn same(&mut self, key: &str, expected: &Value) {
        if let Some(actual) = self.facts.get(key)
            && actual != expected
        {
            self.differ(key, shown(actual), shown(expected));
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.facts.get(key).and_then(Value::as_str)
    }

    pub(super) fn map(&self, key: &str) -> Option<BTreeMap<String, Value>> {
        self.facts
            .get(key)
            .and_then(Value::as_object)
            .map(|map| map.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    pub(super) fn set(&self, key: &str) -> Option<BTreeSet<String>> {
        let items = self.facts.get(key)?.as_array()?;
        Some(
            items
                .iter()
                .filter_map(|item| item.as_str().map(str::to_owned))
                .collect(),
        )
    }
}

fn digest(id: &str) -> String {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.chars().take(10).collect()
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) if text.is_empty() => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    if text.chars().count() <= SHOWN {
        return text;
    }
    let mut cut: String = text.chars().take(SHOWN).collect();
    cut.push('…');
    cut
}

/// Program and arguments: a declared entrypoint drops the image's command (Docker's rule, which Podman shares).
fn process(compared: &mut Compared<'_>, service: &Service, image: &ObservedImage) {
    let declared = |words: &Option<Vec<String>>| words.clone().filter(|words| !words.is_empty());
    let (entrypoint, image_command) = match &service.entrypoint {
        // An empty one takes the image's away; its command stays.
        Some(words) if words.is_empty() => (Vec::new(), image.cmd.clone()),
        Some(words) => (words.clone(), None),
        None => (
            image.entrypoint.clone().unwrap_or_default(),
            image.cmd.clone(),
        ),
    };
    let command = declared(&service.command)
        .or(image_command)
        .unwrap_or_default();
    let expected: Vec<String> = entrypoint.into_iter().chain(command).collect();
    let Some(actual) = compared.facts.get("command").and_then(Value::as_array) else {
        return;
    };
    let actual: Vec<&str> = actual.iter().filter_map(Value::as_str).collect();
    // Podman tells no process until a container was started.
    if !actual.is_empty() && actual != expected {
        // A command line may carry a secret.
        compared.differ("command", "other", "changed");
    }
}

fn environment(compared: &mut Compared<'_>, service: &Service, image: &ObservedImage) {
    let Some(actual) = compared.map("environment") else {
        return;
    };
    let mut expected = image.env.clone();
    expected.extend(service.environment.clone());
    for (name, value) in &expected {
        match actual.get(name) {
            Some(there) if there.as_str() == Some(value) => {}
            // Values may be secrets: they are never shown.
            Some(_) => compared.differ(&format!("environment.{name}"), "other", "changed"),
            None => compared.differ(&format!("environment.{name}"), "none", "set"),
        }
    }
    for name in actual.keys() {
        if !expected.contains_key(name) && !ENGINE_VARIABLES.contains(&name.as_str()) {
            compared.differ(&format!("environment.{name}"), "set", "none");
        }
    }
}

fn text_settings(compared: &mut Compared<'_>, service: &Service, image: &ObservedImage) {
    let user = service.user.clone().unwrap_or_else(|| image.user.clone());
    compared.same("user", &json!(user));
    let directory = service
        .working_dir
        .clone()
        .unwrap_or_else(|| image.working_dir.clone());
    if let Some(actual) = compared.text("working_dir") {
        let root = |text: &str| {
            let plain = text.trim_end_matches('/');
            if plain.is_empty() {
                "/".to_owned()
            } else {
                plain.to_owned()
            }
        };
        let (actual, expected) = (root(actual), root(&directory));
        if actual != expected {
            compared.differ("working_dir", actual, expected);
        }
    }
    if let Some(name) = &service.hostname {
        compared.same("hostname", &json!(name));
    }
    if let (Some(expected), Some(actual)) = (
        service.stop_signal.as_ref().or(image.stop_signal.as_ref()),
        compared.text("stop_signal"),
    ) && signal(expected) != signal(actual)
    {
        let actual = actual.to_owned();
        compared.differ("stop_signal", actual, expected.clone());
    }
    if let Some(grace) = service.stop_grace_period {
        let whole = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        compared.same("stop_grace_period", &json!(whole));
    }
    compared.same("tty", &json!(service.tty));
}

/// A signal's number where it is a common one, else its name: engines tell either.
fn signal(text: &str) -> String {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = match name {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "ABRT" => 6,
        "KILL" => 9,
        "USR1" => 10,
        "USR2" => 12,
        "PIPE" => 13,
        "ALRM" => 14,
        "TERM" => 15,
        "WINCH" => 28,
        "PWR" => 30,
        other => return other.to_owned(),
    };
    number.to_string()
}

fn labels(compared: &mut Compared<'_>, service: &Service, image: &ObservedImage) {
    let Some(actual) = compared.map("labels") else {
        return;
    };
    let mut expected = image.labels.clone();
    expected.extend(service.labels.clone());
    for (name, value) in &expected {
        if actual.get(name).and_then(Value::as_str) != Some(value) {
            compared.differ(&format!("labels.{name}"), "other", "changed");
        }
    }
}

fn limits(compared: &mut Compared<'_>, service: &Service) {
    compared.same("mem_limit", &json!(service.memory().unwrap_or_default()));
    // Engines tell one limit in the other's words.
    if service.cpu_quota.is_none() && service.cpu_period.is_none() {
        compared.same("cpus", &json!(service.cpu().unwrap_or_default()));
    }
    let pids = compared.facts.get("pids_limit").and_then(Value::as_u64);
    match (service.pids(), pids) {
        (Some(expected), Some(_)) => compared.same("pids_limit", &json!(expected)),
        (None, Some(actual)) if actual != 0 && actual != PODMAN_PIDS => {
            compared.differ("pids_limit", actual.to_string(), "none");
        }
        (None | Some(_), _) => {}
    }
    if let Some(size) = service.shm_size {
        compared.same("shm_size", &json!(size));
    }
    if let Some(actual) = compared.map("ulimits") {
        for (name, limit) in &service.ulimits {
            let expected = json!([limit.soft, limit.hard]);
            match actual.get(&name.to_ascii_lowercase()) {
                Some(there) if *there == expected => {}
                Some(there) => {
                    compared.differ(&format!("ulimits.{name}"), shown(there), shown(&expected));
                }
                None => compared.differ(&format!("ulimits.{name}"), "none", shown(&expected)),
            }
        }
    }
}

fn ports(compared: &mut Compared<'_>, service: &Service) {
    let Some(actual) = compared.facts.get("ports").and_then(Value::as_array) else {
        return;
    };
    let line = |target: &str, ip: &str, published: u64| match (ip, published) {
        ("", 0) => target.to_owned(),
        ("", port) => format!("{port}:{target}"),
        (ip, port) => format!("{ip}:{port}:{target}"),
    };
    let key = |target: u16, protocol: &str| format!("{target}/{protocol}");
    // Where the engine picks the host's port, any is right.
    let picked: BTreeSet<String> = service
        .ports
        .iter()
        .filter(|port| port.published.is_none())
        .map(|port| key(port.target, port.protocol.as_str()))
        .collect();
    let expected: BTreeSet<String> = service
        .ports
        .iter()
        .map(|port| {
            let ip = port
                .host_ip
                .filter(|ip| !ip.is_unspecified())
                .map(|ip| ip.to_string())
                .unwrap_or_default();
            let target = key(port.target, port.protocol.as_str());
            line(&target, &ip, port.published.map_or(0, u64::from))
        })
        .collect();
    let actual: BTreeSet<String> = actual
        .iter()
        .map(|port| {
            let target = port["target"].as_str().unwrap_or_default();
            let ip = port["host_ip"].as_str().unwrap_or_default();
            let published = port["published"].as_u64().unwrap_or_default();
            let published = if picked.contains(target) {
                0
            } else {
                published
            };
            line(target, ip, published)
        })
        .collect();
    if actual != expected {
        compared.differ("ports", listed(&actual), listed(&expected));
    }
}

pub(super) fn listed(items: &BTreeSet<String>) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    let all: Vec<&str> = items.iter().map(String::as_str).collect();
    shown(&json!(all.join(" ")))
}

fn mounts(compared: &mut Compared<'_>, spec: &ContainerSpec, image: &ObservedImage) {
    let mut expected: BTreeMap<String, Value> = BTreeMap::new();
    let mut memory: BTreeSet<String> = spec
        .service
        .tmpfs
        .iter()
        .map(|mount| path(mount.split(':').next().unwrap_or(mount)))
        .collect();
    for mount in &spec.service.volumes {
        match mount {
            Mount::Bind {
                source,
                target,
                read_only,
                ..
            } => {
                expected.insert(
                    path(target),
                    json!({"type": "bind", "source": source, "read_only": read_only}),
                );
            }
            Mount::Volume {
                source,
                target,
                read_only,
                ..
            } => {
                let name = source
                    .as_ref()
                    .and_then(|key| spec.volumes.get(key.as_str()));
                expected.insert(
                    path(target),
                    json!({"type": "volume", "source": name, "read_only": read_only}),
                );
            }
            Mount::Tmpfs { target, .. } => {
                memory.insert(path(target));
            }
        }
    }
    for (source, target) in &spec.files {
        expected.insert(
            path(target),
            json!({"type": "bind", "source": source, "read_only": true}),
        );
    }
    if let Some(actual) = compared.map("volumes") {
        let from_image: BTreeSet<String> =
            image.volumes.iter().map(|target| path(target)).collect();
        for (target, wanted) in &expected {
            match actual.get(target) {
                Some(there) if there == wanted => {}
                Some(there) => compared.differ(
                    &format!("volumes.{target}"),
                    mount_text(there),
                    mount_text(wanted),
                ),
                None => compared.differ(&format!("volumes.{target}"), "none", mount_text(wanted)),
            }
        }
        for (target, there) in &actual {
            let brought = from_image.contains(&path(target)) && there["source"].is_null();
            if !expected.contains_key(target) && !brought {
                compared.differ(&format!("volumes.{target}"), mount_text(there), "none");
            }
        }
    }
    if let Some(actual) = compared.set("tmpfs") {
        let mut actual: BTreeSet<String> = actual.iter().map(|target| path(target)).collect();
        if spec.service.read_only {
            // Podman puts memory there by itself.
            actual.retain(|target| {
                memory.contains(target) || !PODMAN_READ_ONLY_TMPFS.contains(&target.as_str())
            });
        }
        if actual != memory {
            compared.differ("tmpfs", listed(&actual), listed(&memory));
        }
    }
}

fn path(text: &str) -> String {
    let plain = text.trim_end_matches('/');
    if plain.is_empty() {
        "/".to_owned()
    } else {
        plain.to_owned()
    }
}

fn mount_text(mount: &Value) -> String {
    let source = mount["source"].as_str().unwrap_or("anonymous");
    let mode = if mount["read_only"] == json!(true) {
        " ro"
    } else {
        ""
    };
    format!("{source}{mode}")
}

fn networks(compared: &mut Compared<'_>, spec: &ContainerSpec) {
    let expected: BTreeSet<String> = spec.networks.iter().map(|(name, _)| name.clone()).collect();
    if !expected.is_empty() {
        if let Some(actual) = compared.set("networks")
            && actual != expected
        {
            compared.differ("networks", listed(&actual), listed(&expected));
        }
        return;
    }
    let expected = match &spec.service.network_mode {
        Some(NetworkMode::Host) => "host",
        Some(NetworkMode::None) => "none",
        Some(NetworkMode::Bridge) => "bridge",
        // Whose, the planner sees, which knows the other container.
        Some(NetworkMode::Service(_) | NetworkMode::Container(_)) => "container:",
        None => return,
    };
    if let Some(actual) = compared.text("network_mode").map(str::to_owned) {
        // Docker's own name for its bridge, in containers made by hand.
        let same = actual == expected
            || (expected == "bridge" && actual == "default")
            || (expected == "container:" && actual.starts_with(expected));
        if !same {
            compared.differ("network_mode", actual, expected);
        }
    }
}
