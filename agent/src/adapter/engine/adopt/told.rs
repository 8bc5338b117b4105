//! One container's settings by Compose's keys, without what its image or the engine brings by itself.

use std::collections::{BTreeMap, BTreeSet};

use bollard::models::{ContainerInspectResponse, HealthConfig, HostConfig};
use serde_json::{Map, Value, json};

use super::super::facts;
use crate::domain::observed::{ObservedContainer, ObservedImage};

/// Labels of Compose's own bookkeeping.
const COMPOSE: &str = "com.docker.compose.";
/// Docker's and Podman's size of /dev/shm where nobody asks for another.
const SHM_SIZES: [i64; 2] = [64 * 1024 * 1024, 65_536_000];
/// Podman's limit of processes where none is asked for.
const PODMAN_PIDS: i64 = 2048;

fn span(nanoseconds: i64) -> String {
    match nanoseconds {
        whole if whole % 1_000_000_000 == 0 => format!("{}s", whole / 1_000_000_000),
        whole if whole % 1_000_000 == 0 => format!("{}ms", whole / 1_000_000),
        whole => format!("{}us", whole / 1000),
    }
}

#[derive(Default)]
pub(super) struct Told {
    pub(super) service: Map<String, Value>,
    pub(super) notes: Vec<String>,
}

impl Told {
    pub(super) fn put(&mut self, key: &str, value: Value) {
        self.service.insert(key.to_owned(), value);
    }

    fn text(&mut self, key: &str, value: Option<&String>, brought: &str) {
        if let Some(value) = value.filter(|value| value.as_str() != brought) {
            self.put(key, json!(value));
        }
    }

    fn list(&mut self, key: &str, value: Option<&Vec<String>>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.put(key, json!(value));
        }
    }

    pub(super) fn process(&mut self, found: &ContainerInspectResponse, image: &ObservedImage) {
        let config = found.config.clone().unwrap_or_default();
        let filled = |words: &Option<Vec<String>>| words.clone().filter(|words| !words.is_empty());
        let (entrypoint, command) = (filled(&config.entrypoint), filled(&config.cmd));
        let own_entrypoint = entrypoint != image.entrypoint;
        if own_entrypoint {
            self.put("entrypoint", json!(entrypoint.unwrap_or_default()));
        }
        if let Some(command) = command
            && (own_entrypoint || image.cmd.as_ref() != Some(&command))
        {
            self.put("command", json!(command));
        }
        let environment: BTreeMap<String, String> = facts::environment(config.env.as_deref())
            .into_iter()
            .filter(|(name, value)| image.env.get(name) != Some(value))
            // Podman's own.
            .filter(|(name, _)| {
                !matches!(name.as_str(), "container" | "HOSTNAME" | "TERM" | "HOME")
            })
            .collect();
        if !environment.is_empty() {
            self.put("environment", json!(environment));
        }
        let labels: BTreeMap<&String, &String> = config
            .labels
            .iter()
            .flatten()
            .filter(|(name, value)| {
                image.labels.get(*name) != Some(value) && !name.starts_with(COMPOSE)
            })
            .collect();
        if !labels.is_empty() {
            self.put("labels", json!(labels));
        }
        self.text("user", config.user.as_ref(), &image.user);
        self.text(
            "working_dir",
            config.working_dir.as_ref(),
            &image.working_dir,
        );
        self.text(
            "stop_signal",
            config.stop_signal.as_ref(),
            image.stop_signal.as_deref().unwrap_or("SIGTERM"),
        );
        self.text("domainname", config.domainname.as_ref(), "");
        let id = found.id.as_deref().unwrap_or_default();
        let host_network = found
            .host_config
            .as_ref()
            .and_then(|host| host.network_mode.as_deref())
            == Some("host");
        if let Some(name) = config.hostname.as_ref()
            && !name.is_empty()
            && !id.starts_with(name.as_str())
            && !host_network
        {
            self.put("hostname", json!(name));
        }
        if let Some(seconds) = config.stop_timeout.filter(|seconds| *seconds != 10) {
            self.put("stop_grace_period", json!(format!("{seconds}s")));
        }
        if config.tty == Some(true) {
            self.put("tty", json!(true));
        }
        if config.open_stdin == Some(true) {
            self.put("stdin_open", json!(true));
        }
    }

    pub(super) fn health(
        &mut self,
        found: &ContainerInspectResponse,
        image: Option<&HealthConfig>,
    ) {
        let own = found
            .config
            .as_ref()
            .and_then(|config| config.healthcheck.as_ref());
        let Some(own) = own.filter(|own| Some(*own) != image) else {
            return;
        };
        let test = own.test.clone().unwrap_or_default();
        if test.is_empty() {
            return;
        }
        if test.first().is_some_and(|kind| kind == "NONE") {
            return self.put("healthcheck", json!({ "disable": true }));
        }
        let mut check = Map::new();
        check.insert("test".to_owned(), json!(test));
        for (key, value) in [
            ("interval", own.interval),
            ("timeout", own.timeout),
            ("start_period", own.start_period),
            ("start_interval", own.start_interval),
        ] {
            if let Some(value) = value.filter(|value| *value > 0) {
                check.insert(key.to_owned(), json!(span(value)));
            }
        }
        if let Some(retries) = own.retries.filter(|retries| *retries > 0) {
            check.insert("retries".to_owned(), json!(retries));
        }
        self.put("healthcheck", Value::Object(check));
    }

    pub(super) fn host(&mut self, host: &HostConfig) {
        if let Some(memory) = host.memory.filter(|bytes| *bytes > 0) {
            self.put("mem_limit", json!(memory.to_string()));
        }
        let (quota, period) = (host.cpu_quota.unwrap_or(0), host.cpu_period.unwrap_or(0));
        let nano = match host.nano_cpus.unwrap_or(0) {
            0 if quota > 0 && period > 0 => quota.saturating_mul(1_000_000_000) / period,
            nano => nano,
        };
        if nano > 0 {
            let (whole, rest) = (nano / 1_000_000_000, nano % 1_000_000_000);
            let text = format!("{whole}.{rest:09}");
            let text = text.trim_end_matches('0').trim_end_matches('.');
            self.put("cpus", json!(text));
        }
        if let Some(pids) = host
            .pids_limit
            .filter(|pids| *pids > 0 && *pids != PODMAN_PIDS)
        {
            self.put("pids_limit", json!(pids));
        }
        if let Some(size) = host
            .shm_size
            .filter(|size| *size > 0 && !SHM_SIZES.contains(size))
        {
            self.put("shm_size", json!(size.to_string()));
        }
        if let Some(adjust) = host.oom_score_adj.filter(|adjust| *adjust != 0) {
            self.put("oom_score_adj", json!(adjust));
        }
        let yes = |value: Option<bool>| value == Some(true);
        for (key, value) in [
            ("privileged", host.privileged),
            ("read_only", host.readonly_rootfs),
            ("init", host.init),
        ] {
            if yes(value) {
                self.put(key, json!(true));
            }
        }
        for (key, list) in [
            ("cap_add", &host.cap_add),
            ("cap_drop", &host.cap_drop),
            ("dns", &host.dns),
            ("dns_opt", &host.dns_options),
            ("dns_search", &host.dns_search),
            ("group_add", &host.group_add),
            ("extra_hosts", &host.extra_hosts),
        ] {
            self.list(key, list.as_ref());
        }
        let security: Vec<String> = host
            .security_opt
            .iter()
            .flatten()
            // What Docker adds for `privileged` by itself.
            .filter(|option| !(yes(host.privileged) && option.as_str() == "label=disable"))
            .cloned()
            .collect();
        self.list("security_opt", Some(&security));
        for (key, mode) in [("pid", &host.pid_mode), ("userns_mode", &host.userns_mode)] {
            self.text(
                key,
                mode.as_ref().filter(|mode| mode.as_str() != "private"),
                "",
            );
        }
        if let Some(mode) = host.ipc_mode.as_deref()
            && matches!(mode, "host" | "none")
        {
            self.put("ipc", json!(mode));
        }
        if let Some(sysctls) = host.sysctls.as_ref().filter(|all| !all.is_empty()) {
            self.put("sysctls", json!(sysctls.iter().collect::<BTreeMap<_, _>>()));
        }
        let devices: Vec<String> = host
            .devices
            .iter()
            .flatten()
            .map(|device| {
                let text = |part: &Option<String>| part.clone().unwrap_or_default();
                let (from, to) = (text(&device.path_on_host), text(&device.path_in_container));
                match text(&device.cgroup_permissions).as_str() {
                    "" | "rwm" => format!("{from}:{to}"),
                    rights => format!("{from}:{to}:{rights}"),
                }
            })
            .collect();
        self.list("devices", Some(&devices));
        let ulimits: BTreeMap<String, Value> = host
            .ulimits
            .iter()
            .flatten()
            .filter_map(|limit| {
                let name = limit.name.as_deref()?.to_ascii_lowercase();
                let name = name.strip_prefix("rlimit_").unwrap_or(&name).to_owned();
                Some((name, json!({ "soft": limit.soft?, "hard": limit.hard? })))
            })
            .collect();
        if !ulimits.is_empty() {
            self.put("ulimits", json!(ulimits));
        }
        if let Some(log) = &host.log_config {
            let driver = log.typ.clone().unwrap_or_default();
            let options: BTreeMap<&String, &String> = log.config.iter().flatten().collect();
            // The engine's own default is not this container's.
            if !options.is_empty()
                || !matches!(
                    driver.as_str(),
                    "" | "json-file" | "journald" | "local" | "k8s-file"
                )
            {
                self.put("logging", json!({ "driver": driver, "options": options }));
            }
        }
        self.ports(host);
    }

    fn ports(&mut self, host: &HostConfig) {
        let mut ports = BTreeSet::new();
        for (target, bindings) in host.port_bindings.iter().flatten() {
            for binding in bindings.iter().flatten() {
                let ip = match binding.host_ip.as_deref().unwrap_or_default() {
                    "" | "0.0.0.0" | "::" => String::new(),
                    six if six.contains(':') => format!("[{six}]:"),
                    four => format!("{four}:"),
                };
                let published = binding.host_port.as_deref().unwrap_or_default();
                let target = target.strip_suffix("/tcp").unwrap_or(target);
                ports.insert(match (ip.as_str(), published) {
                    ("", "" | "0") => target.to_owned(),
                    (ip, port) => format!("{ip}{port}:{target}"),
                });
            }
        }
        if !ports.is_empty() {
            self.put("ports", json!(ports));
        }
    }

    /// What a container made of the declaration would not have.
    pub(super) fn unspoken(&mut self, host: &HostConfig) {
        let some = |list: Option<usize>| list.unwrap_or_default() > 0;
        let positive = |number: Option<i64>| number.unwrap_or_default() > 0;
        let filled = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        let swap = host.memory_swap.unwrap_or_default();
        let memory = host.memory.unwrap_or_default();
        let runtime = host.runtime.as_deref().unwrap_or_default();
        for (is_set, what) in [
            (some(host.links.as_ref().map(Vec::len)), "links"),
            (
                some(host.volumes_from.as_ref().map(Vec::len)),
                "volumes_from",
            ),
            (some(host.device_requests.as_ref().map(Vec::len)), "gpus"),
            (
                some(host.device_cgroup_rules.as_ref().map(Vec::len)),
                "device_cgroup_rules",
            ),
            (!matches!(runtime, "" | "runc" | "crun" | "oci"), "runtime"),
            (positive(host.cpu_shares), "cpu_shares"),
            (filled(&host.cpuset_cpus), "cpuset"),
            (positive(host.memory_reservation), "mem_reservation"),
            (
                swap != 0 && memory > 0 && swap != memory * 2,
                "memswap_limit",
            ),
            (
                host.publish_all_ports == Some(true),
                "ports published at random (-P)",
            ),
            (
                host.auto_remove == Some(true),
                "removal when it ends (--rm)",
            ),
            (host.oom_kill_disable == Some(true), "oom_kill_disable"),
        ] {
            if is_set {
                self.notes.push(format!("{what} has no key in app.toml"));
            }
        }
    }

    pub(super) fn networks(
        &mut self,
        found: &ContainerInspectResponse,
        host: &HostConfig,
        compose: Option<&(String, String)>,
    ) -> BTreeMap<String, Vec<String>> {
        let mode = host.network_mode.as_deref().unwrap_or_default();
        match mode {
            "host" | "none" => {
                self.put("network_mode", json!(mode));
                return BTreeMap::new();
            }
            "" | "default" | "bridge" => {
                self.put("network_mode", json!("bridge"));
                return BTreeMap::new();
            }
            other if other.starts_with("container:") => {
                self.notes
                    .push("the network of another container has no key in app.toml".to_owned());
                return BTreeMap::new();
            }
            _ => {}
        }
        let id = found.id.as_deref().unwrap_or_default();
        let name = found
            .name
            .as_deref()
            .unwrap_or_default()
            .trim_start_matches('/');
        let service = compose.map(|(_, service)| service.as_str());
        found
            .network_settings
            .iter()
            .filter_map(|settings| settings.networks.as_ref())
            .flatten()
            .map(|(network, joined)| {
                let fixed = joined.ipam_config.as_ref().is_some_and(|ipam| {
                    let filled = |text: &Option<String>| {
                        text.as_deref().is_some_and(|text| !text.is_empty())
                    };
                    filled(&ipam.ipv4_address) || filled(&ipam.ipv6_address)
                });
                if fixed {
                    self.notes
                        .push(format!("its fixed address in {network} is not taken over"));
                }
                let mut aliases: Vec<String> = joined
                    .aliases
                    .iter()
                    .flatten()
                    .filter(|alias| {
                        !id.starts_with(alias.as_str())
                            && alias.as_str() != name
                            && Some(alias.as_str()) != service
                    })
                    .cloned()
                    .collect();
                aliases.sort();
                aliases.dedup();
                (network.clone(), aliases)
            })
            .collect()
    }

    pub(super) fn mounts(
        &mut self,
        observed: &ObservedContainer,
        host: &HostConfig,
        image: Option<&ObservedImage>,
    ) -> Vec<(String, String, bool)> {
        let mut named = Vec::new();
        let mut plain = Vec::new();
        let all = observed.facts.get("volumes").and_then(Value::as_object);
        for (target, mount) in all.into_iter().flatten() {
            let read_only = mount["read_only"] == json!(true);
            let source = mount["source"].as_str();
            match (mount["type"].as_str(), source) {
                (Some("bind"), Some(source)) => {
                    let end = if read_only { ":ro" } else { "" };
                    plain.push(if source.contains(':') || target.contains(':') {
                        json!({ "type": "bind", "source": source, "target": target, "read_only": read_only })
                    } else {
                        json!(format!("{source}:{target}{end}"))
                    });
                }
                (Some("volume"), Some(name)) => {
                    named.push((name.to_owned(), target.clone(), read_only));
                }
                (_, _) => {
                    let of_image = image.is_some_and(|image| {
                        image.volumes.iter().any(|volume| {
                            volume.trim_end_matches('/') == target.trim_end_matches('/')
                        })
                    });
                    if !of_image {
                        plain.push(json!(target));
                    }
                    self.notes.push(format!(
                        "what is in {target} lies in a volume without a name: it goes when the container is made anew"
                    ));
                }
            }
        }
        if !plain.is_empty() {
            self.put("volumes", json!(plain));
        }
        let options: BTreeMap<&String, &String> = host.tmpfs.iter().flatten().collect();
        let memory: Vec<String> = observed
            .facts
            .get("tmpfs")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(
                |path| match options.get(&path.to_owned()).map(|text| text.as_str()) {
                    None | Some("") => path.to_owned(),
                    Some(options) => format!("{path}:{options}"),
                },
            )
            .collect();
        self.list("tmpfs", Some(&memory));
        named
    }
}
