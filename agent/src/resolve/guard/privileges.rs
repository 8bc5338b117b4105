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
        cgroup,
        cgroup_parent,
        device_cgroup_rules,
        oom_kill_disable,
        runtime,
        uts,
        cpu_rt_runtime,
        storage_opt,
        // Judged as paths, devices and images.
        image: _,
        volumes: _,
        devices: _,
        logging: _,
        gpus: _,
        deploy: _,
        // Files that the agent makes in a place of its own.
        configs: _,
        secrets: _,
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
        annotations: _,
        cpu_period: _,
        cpu_quota: _,
        cpu_rt_period: _,
        cpu_shares: _,
        cpuset: _,
        mac_address: _,
        mem_reservation: _,
        mem_swappiness: _,
        memswap_limit: _,
        profiles: _,
        scale: _,
        replica: _,
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
    match network_mode {
        // A service of this app is judged by itself; a container of somebody else's is not.
        Some(NetworkMode::None | NetworkMode::Bridge | NetworkMode::Service(_)) | None => {}
        Some(mode @ (NetworkMode::Host | NetworkMode::Container(_))) => {
            asked.push(format!("`network_mode: {}`", String::from(mode.clone())));
        }
    }
    let namespaces = [
        ("pid", pid),
        ("ipc", ipc),
        ("userns_mode", userns_mode),
        ("uts", uts),
        ("cgroup", cgroup),
    ];
    for (key, value) in namespaces {
        // Of one's own, none, or a service's of this app, which is judged by itself; anything else is shared with
        // something that is not this app's.
        if let Some(value) = value
            && !matches!(value.as_str(), "private" | "shareable" | "none")
            && !value.starts_with("service:")
        {
            asked.push(format!("`{key}: {value}`"));
        }
    }
    // Rules reach nodes that `devices` does not name; a runtime is a program of the owner's; a control group above the
    // container's may hold the agent's; what the kernel never ends can end everything else.
    for rule in device_cgroup_rules {
        asked.push(format!("`device_cgroup_rules: {}`", rule.escape_debug()));
    }
    for (key, value) in [("runtime", runtime), ("cgroup_parent", cgroup_parent)] {
        if let Some(value) = value {
            asked.push(format!("`{key}: {}`", value.escape_debug()));
        }
    }
    if *oom_kill_disable {
        asked.push("`oom_kill_disable`".to_owned());
    }
    if cpu_rt_runtime.is_some_and(|runtime| runtime != 0) {
        asked.push("`cpu_rt_runtime`".to_owned());
    }
    for name in storage_opt.keys() {
        if name != "size" {
            asked.push(format!("`storage_opt: {}`", name.escape_debug()));
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
