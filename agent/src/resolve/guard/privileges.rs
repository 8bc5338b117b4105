//! What a service asks for beyond its container.

use evenkeel_schema::service::{NetworkMode, Service};

/// The agent's own weight for the kernel's out-of-memory killer, as its unit has it: what weighs less outlives it.
const OWN_OOM_SCORE: i64 = -500;

/// Kernel parameters that are the container's own (namespaces(7)); any other is the whole device's.
const NAMESPACED: [&str; 5] = [
    "net.",
    "fs.mqueue.",
    "kernel.msg",
    "kernel.shm",
    "kernel.sem",
];

/// Every privilege that a service asks for.
pub(super) fn asked(service: &Service) -> Vec<String> {
    // Every key is named, so that a new one cannot come without being judged here or set aside below.
    let Service {
        privileged,
        cap_add,
        network_mode,
        pid,
        ipc,
        userns_mode,
        security_opt,
        sysctls,
        oom_score_adj,
        // Judged as paths, devices and images.
        image: _,
        volumes: _,
        devices: _,
        logging: _,
        // Inside the container, or less than it has without.
        command: _,
        entrypoint: _,
        environment: _,
        user: _,
        group_add: _,
        working_dir: _,
        labels: _,
        depends_on: _,
        restart: _,
        healthcheck: _,
        mem_limit: _,
        nano_cpus: _,
        pids_limit: _,
        deploy: _,
        read_only: _,
        tmpfs: _,
        cap_drop: _,
        hostname: _,
        domainname: _,
        extra_hosts: _,
        dns: _,
        dns_opt: _,
        dns_search: _,
        ulimits: _,
        shm_size: _,
        init: _,
        stop_signal: _,
        stop_grace_period: _,
        container_name: _,
        pull_policy: _,
        platform: _,
        tty: _,
        stdin_open: _,
        // The app's networks are judged by themselves; a port has one owner by `conflicts`.
        networks: _,
        ports: _,
        expose: _,
    } = service;
    let mut asked = Vec::new();
    if *privileged {
        asked.push("`privileged`".to_owned());
    }
    if !cap_add.is_empty() {
        let names: Vec<&str> = cap_add.iter().map(String::as_str).collect();
        asked.push(format!("`cap_add` ({})", names.join(", ")));
    }
    if *network_mode == Some(NetworkMode::Host) {
        asked.push("`network_mode: host`".to_owned());
    }
    for (key, value) in [("pid", pid), ("ipc", ipc), ("userns_mode", userns_mode)] {
        // Of one's own, or none; anything else is shared with something that is not this container.
        if let Some(value) = value
            && !matches!(value.as_str(), "private" | "shareable" | "none")
        {
            asked.push(format!("`{key}: {value}`"));
        }
    }
    for option in security_opt {
        if !tightens(option) {
            asked.push(format!("`security_opt: {}`", option.escape_debug()));
        }
    }
    for name in sysctls.keys() {
        if !is_namespaced(name) {
            asked.push(format!("`sysctls: {}`", name.escape_debug()));
        }
    }
    if let Some(score) = oom_score_adj
        && *score < OWN_OOM_SCORE
    {
        asked.push(format!(
            "`oom_score_adj: {score}` (less than evenkeel's own {OWN_OOM_SCORE})"
        ));
    }
    asked
}

/// Whether a security option takes away and never gives. A profile or label of the declaration's own can allow
/// everything, so only what cannot is known here.
fn tightens(option: &str) -> bool {
    let plain = option.trim().to_ascii_lowercase().replacen('=', ":", 1);
    matches!(
        plain.as_str(),
        "no-new-privileges"
            | "no-new-privileges:true"
            | "no-new-privileges:1"
            | "no-new-privileges:t"
    ) || plain.starts_with("mask:")
}

fn is_namespaced(name: &str) -> bool {
    // sysctl(8) takes both separators; an empty part would be another path.
    let dotted = name.replace('/', ".");
    let whole = dotted.split('.').all(|part| !part.is_empty());
    whole && NAMESPACED.iter().any(|space| dotted.starts_with(space))
}
