//! From a declaration to the engine's request.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, DeviceMapping as ApiDevice, DeviceRequest, EndpointIpamConfig,
    EndpointSettings, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig,
    Mount as ApiMount, MountBindOptions, MountBindOptionsPropagationEnum, MountTmpfsOptions,
    MountType, MountVolumeOptions, NetworkConnectRequest, NetworkingConfig, PortBinding, PortMap,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use evenkeel_schema::service::{Gpu, Healthcheck, Mount, Selinux, Service, ServiceNetwork};

use super::replace::At;
use super::requests::labels;
use super::{BollardEngine, CALL, Kind, SLOW_CALL, seconds};
use crate::domain::container::ContainerSpec;
use crate::port::engine::EngineError;

#[derive(Debug, thiserror::Error)]
enum SourceError {
    #[error("{0} does not exist on this device, and `create_host_path` is false")]
    Missing(String),
    #[error("{0} does not exist and cannot be made")]
    Make(String, #[source] io::Error),
    #[error("{0} cannot be looked at")]
    Look(String, #[source] io::Error),
}

impl BollardEngine {
    pub(super) async fn make(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        let client = self.client().await?;
        let what = || format!("make the container {}", spec.name);
        for mount in &spec.service.volumes {
            self.make_source(mount)
                .map_err(|cause| EngineError::Refused {
                    what: what(),
                    cause: Box::new(cause),
                })?;
        }
        // Podman before 5.1 cannot change the policy later. It starts nothing at boot by itself either, so there the
        // declared policy may stand from the start.
        let policy = match client.kind {
            Kind::Docker => "no".to_owned(),
            Kind::Podman => spec.service.restart.to_string(),
        };
        let mut joined = endpoints(spec).into_iter();
        let first = joined.next();
        let mut shared = BTreeMap::new();
        for (service, container) in &spec.shared {
            // By its id: an engine that is told a name may look it up anew, when another container has it.
            let found = self
                .call(what, CALL, self.inspect(&client.docker, container))
                .await?;
            let id = found.id.unwrap_or_else(|| container.clone());
            shared.insert(service.as_str(), format!("container:{id}"));
        }
        let mut body = self.body(spec, first, &policy, &shared);
        body.image = Some(self.known_as(&client, spec.service.image.as_str()).await);
        let options = CreateContainerOptionsBuilder::default()
            .name(&spec.name)
            .platform(spec.service.platform.as_deref().unwrap_or_default())
            .build();
        let made = self
            .call(
                what,
                SLOW_CALL,
                client.docker.create_container(Some(options), body),
            )
            .await;
        let id = match made {
            Ok(made) => made.id,
            Err(error) => {
                let image = spec.service.image.as_str();
                return Err(self.image_behind(error, image, At::Making).await);
            }
        };
        for (network, settings) in joined {
            let request = NetworkConnectRequest {
                container: id.clone(),
                endpoint_config: Some(settings),
            };
            let connected = self
                .call(
                    || format!("connect the container {} to {network}", spec.name),
                    CALL,
                    client.docker.connect_network(&network, request),
                )
                .await;
            if let Err(error) = connected {
                let options = RemoveContainerOptionsBuilder::default()
                    .force(true)
                    .v(true)
                    .build();
                // A half-made container must not stay; the error that is told is the one that stopped us.
                let removed = self
                    .call(
                        || format!("remove the half-made container {}", spec.name),
                        SLOW_CALL,
                        client.docker.remove_container(&id, Some(options)),
                    )
                    .await;
                if let Err(second) = removed {
                    tracing::warn!(container = spec.name, error = %second, "a half-made container stays");
                }
                return Err(error);
            }
        }
        Ok(id)
    }

    /// Makes a bind mount's source where it is missing, as Compose's short form does.
    fn make_source(&self, mount: &Mount) -> Result<(), SourceError> {
        let Mount::Bind { source, bind, .. } = mount else {
            return Ok(());
        };
        let path = self.under_root(source.as_str());
        match Path::new(&path).try_exists() {
            Ok(true) => Ok(()),
            Ok(false) if bind.create_host_path => {
                std::fs::create_dir_all(&path).map_err(|cause| SourceError::Make(path, cause))
            }
            Ok(false) => Err(SourceError::Missing(path)),
            Err(cause) => Err(SourceError::Look(path, cause)),
        }
    }

    fn body(
        &self,
        spec: &ContainerSpec,
        first: Option<(String, EndpointSettings)>,
        policy: &str,
        shared: &Shared<'_>,
    ) -> ContainerCreateBody {
        let service = &spec.service;
        let mut exposed: Vec<String> = service
            .ports
            .iter()
            .map(|port| format!("{}/{}", port.target, port.protocol.as_str()))
            .chain(service.expose.iter().map(|port| {
                if port.contains('/') {
                    port.clone()
                } else {
                    format!("{port}/tcp")
                }
            }))
            .collect();
        exposed.sort();
        exposed.dedup();
        let network_mode = match (&service.network_mode, &first) {
            (Some(mode), _) => namespace(&String::from(mode.clone()), shared),
            (None, Some((name, _))) => name.clone(),
            (None, None) => "none".to_owned(),
        };
        if network_mode.starts_with("container:") {
            // What the other container announces is all there is.
            exposed.clear();
        }
        ContainerCreateBody {
            hostname: service.hostname.clone(),
            domainname: service.domainname.clone(),
            user: service.user.clone(),
            exposed_ports: (!exposed.is_empty()).then_some(exposed),
            tty: Some(service.tty),
            open_stdin: Some(service.stdin_open),
            env: Some(
                service
                    .environment
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect(),
            ),
            cmd: service.command.clone(),
            entrypoint: service.entrypoint.clone(),
            healthcheck: service.healthcheck.as_ref().map(health_config),
            image: Some(service.image.to_string()),
            working_dir: service.working_dir.clone(),
            labels: Some(labels(spec)),
            stop_signal: service.stop_signal.clone(),
            stop_timeout: service
                .stop_grace_period
                .map(|grace| i64::from(seconds(grace))),
            host_config: Some(self.host_config(spec, network_mode, policy, shared)),
            networking_config: first.map(|(name, settings)| NetworkingConfig {
                endpoints_config: Some(HashMap::from([(name, settings)])),
            }),
            ..ContainerCreateBody::default()
        }
    }

    fn host_config(
        &self,
        spec: &ContainerSpec,
        network_mode: String,
        policy: &str,
        shared: &Shared<'_>,
    ) -> HostConfig {
        let service = &spec.service;
        let list = |items: &[String]| (!items.is_empty()).then(|| items.to_vec());
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let mut mounts = Vec::new();
        let mut binds = Vec::new();
        for mount in &service.volumes {
            match self.mount(spec, mount) {
                Prepared::Mount(mount) => mounts.push(*mount),
                Prepared::Bind(text) => binds.push(text),
            }
        }
        mounts.extend(spec.files.iter().map(|(path, target)| ApiMount {
            typ: Some(MountType::BIND),
            source: Some(self.under_root(path.as_str())),
            target: Some(target.clone()),
            read_only: Some(true),
            ..ApiMount::default()
        }));
        let requests: Vec<DeviceRequest> = service.all_gpus().map(device_request).collect();
        HostConfig {
            memory: service.memory().map(signed),
            nano_cpus: service.cpu().map(signed),
            pids_limit: service.pids(),
            devices: (!service.devices.is_empty()).then(|| {
                service
                    .devices
                    .iter()
                    .map(|device| ApiDevice {
                        path_on_host: Some(device.source.to_string()),
                        path_in_container: Some(device.target.clone()),
                        cgroup_permissions: Some(device.permissions.clone()),
                    })
                    .collect()
            }),
            init: service.init,
            ulimits: (!service.ulimits.is_empty()).then(|| {
                service
                    .ulimits
                    .iter()
                    .map(|(name, limit)| ResourcesUlimits {
                        name: Some(name.clone()),
                        soft: Some(limit.soft),
                        hard: Some(limit.hard),
                    })
                    .collect()
            }),
            binds: (!binds.is_empty()).then_some(binds),
            mounts: (!mounts.is_empty()).then_some(mounts),
            log_config: service.logging.as_ref().map(|logging| HostConfigLogConfig {
                typ: logging.driver.clone(),
                config: (!logging.options.is_empty()).then(|| map(&logging.options)),
            }),
            network_mode: Some(network_mode),
            port_bindings: port_map(service),
            restart_policy: Some(restart_policy(policy)),
            cap_add: list(&service.cap_add.iter().cloned().collect::<Vec<_>>()),
            cap_drop: list(&service.cap_drop.iter().cloned().collect::<Vec<_>>()),
            dns: list(&service.dns),
            dns_options: list(&service.dns_opt),
            dns_search: list(&service.dns_search),
            extra_hosts: (!service.extra_hosts.is_empty()).then(|| {
                service
                    .extra_hosts
                    .iter()
                    .flat_map(|(name, addresses)| {
                        addresses
                            .iter()
                            .map(move |address| format!("{name}:{address}"))
                    })
                    .collect()
            }),
            group_add: list(&service.group_add),
            ipc_mode: service.ipc.as_deref().map(|mode| namespace(mode, shared)),
            oom_score_adj: service.oom_score_adj,
            pid_mode: service.pid.as_deref().map(|mode| namespace(mode, shared)),
            privileged: Some(service.privileged),
            readonly_rootfs: Some(service.read_only),
            security_opt: list(&service.security_opt),
            tmpfs: (!service.tmpfs.is_empty()).then(|| {
                service
                    .tmpfs
                    .iter()
                    .map(|mount| {
                        let (path, options) = mount.split_once(':').unwrap_or((mount, ""));
                        (path.to_owned(), options.to_owned())
                    })
                    .collect()
            }),
            userns_mode: service.userns_mode.clone(),
            shm_size: service.shm_size.map(signed),
            sysctls: (!service.sysctls.is_empty()).then(|| map(&service.sysctls)),
            annotations: (!service.annotations.is_empty()).then(|| map(&service.annotations)),
            cgroup_parent: service.cgroup_parent.clone(),
            cgroupns_mode: service.cgroup.as_deref().map(|mode| match mode {
                "host" => HostConfigCgroupnsModeEnum::HOST,
                _ => HostConfigCgroupnsModeEnum::PRIVATE,
            }),
            cpu_period: service.cpu_period,
            cpu_quota: service.cpu_quota,
            cpu_realtime_period: service.cpu_rt_period,
            cpu_realtime_runtime: service.cpu_rt_runtime,
            cpu_shares: service.cpu_shares,
            cpuset_cpus: service.cpuset.clone(),
            device_cgroup_rules: list(&service.device_cgroup_rules),
            device_requests: (!requests.is_empty()).then_some(requests),
            memory_reservation: service.reserved_memory().map(signed),
            memory_swap: service.memswap_limit,
            memory_swappiness: service.mem_swappiness,
            oom_kill_disable: service.oom_kill_disable.then_some(true),
            runtime: service.runtime.clone(),
            storage_opt: (!service.storage_opt.is_empty()).then(|| map(&service.storage_opt)),
            uts_mode: service.uts.clone(),
            ..HostConfig::default()
        }
    }

    fn mount(&self, spec: &ContainerSpec, mount: &Mount) -> Prepared {
        let api = match mount {
            Mount::Bind {
                source,
                target,
                read_only,
                bind,
            } => {
                let path = self.under_root(source.as_str());
                if let Some(relabel) = bind.selinux {
                    // The API's mounts know no relabelling: only the old text form does.
                    let mut options = vec![if *read_only { "ro" } else { "rw" }];
                    options.push(match relabel {
                        Selinux::Shared => "z",
                        Selinux::Private => "Z",
                    });
                    options.extend(bind.propagation.as_deref());
                    return Prepared::Bind(format!("{path}:{target}:{}", options.join(",")));
                }
                ApiMount {
                    typ: Some(MountType::BIND),
                    source: Some(path),
                    target: Some(target.clone()),
                    read_only: Some(*read_only),
                    bind_options: bind.propagation.as_deref().map(|word| MountBindOptions {
                        propagation: propagation(word),
                        ..MountBindOptions::default()
                    }),
                    ..ApiMount::default()
                }
            }
            Mount::Volume {
                source,
                target,
                read_only,
                volume,
            } => ApiMount {
                typ: Some(MountType::VOLUME),
                source: source.as_ref().map(|key| {
                    spec.volumes
                        .get(key.as_str())
                        .cloned()
                        .unwrap_or_else(|| format!("{}_{key}", spec.id.app))
                }),
                target: Some(target.clone()),
                read_only: Some(*read_only),
                volume_options: volume.nocopy.then(|| MountVolumeOptions {
                    no_copy: Some(true),
                    ..MountVolumeOptions::default()
                }),
                ..ApiMount::default()
            },
            Mount::Tmpfs {
                target,
                read_only,
                tmpfs,
            } => ApiMount {
                typ: Some(MountType::TMPFS),
                target: Some(target.clone()),
                read_only: Some(*read_only),
                tmpfs_options: Some(MountTmpfsOptions {
                    size_bytes: tmpfs.size.and_then(|size| i64::try_from(size).ok()),
                    mode: tmpfs.mode.map(i64::from),
                    ..MountTmpfsOptions::default()
                }),
                ..ApiMount::default()
            },
        };
        Prepared::Mount(Box::new(api))
    }
}

/// A mount in one of the API's two forms.
enum Prepared {
    Mount(Box<ApiMount>),
    Bind(String),
}

pub(super) fn map(from: &BTreeMap<String, String>) -> HashMap<String, String> {
    from.iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// `container:ID` by the service that has it.
type Shared<'s> = BTreeMap<&'s str, String>;

/// A namespace in the engine's words: a service's is its container's.
fn namespace(mode: &str, shared: &Shared<'_>) -> String {
    let other = mode
        .strip_prefix("service:")
        .and_then(|name| shared.get(name));
    other.cloned().unwrap_or_else(|| mode.to_owned())
}

fn device_request(gpu: &Gpu) -> DeviceRequest {
    DeviceRequest {
        driver: gpu.driver.clone(),
        count: gpu.wanted(),
        device_ids: (!gpu.device_ids.is_empty()).then(|| gpu.device_ids.clone()),
        capabilities: Some(vec![gpu.able()]),
        options: (!gpu.options.is_empty()).then(|| map(&gpu.options)),
    }
}

fn propagation(word: &str) -> Option<MountBindOptionsPropagationEnum> {
    match word {
        "private" => Some(MountBindOptionsPropagationEnum::PRIVATE),
        "rprivate" => Some(MountBindOptionsPropagationEnum::RPRIVATE),
        "shared" => Some(MountBindOptionsPropagationEnum::SHARED),
        "rshared" => Some(MountBindOptionsPropagationEnum::RSHARED),
        "slave" => Some(MountBindOptionsPropagationEnum::SLAVE),
        "rslave" => Some(MountBindOptionsPropagationEnum::RSLAVE),
        _ => None,
    }
}

pub(super) fn restart_policy(text: &str) -> RestartPolicy {
    let (name, times) = text.split_once(':').unwrap_or((text, ""));
    RestartPolicy {
        name: Some(match name {
            "always" => RestartPolicyNameEnum::ALWAYS,
            "unless-stopped" => RestartPolicyNameEnum::UNLESS_STOPPED,
            "on-failure" => RestartPolicyNameEnum::ON_FAILURE,
            _ => RestartPolicyNameEnum::NO,
        }),
        maximum_retry_count: times.parse().ok(),
    }
}

fn health_config(check: &Healthcheck) -> HealthConfig {
    if check.is_disabled() {
        return HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        };
    }
    let nanos =
        |duration: Option<Duration>| duration.and_then(|it| i64::try_from(it.as_nanos()).ok());
    HealthConfig {
        test: check.test.clone(),
        interval: nanos(check.interval),
        timeout: nanos(check.timeout),
        retries: check.retries.map(i64::from),
        start_period: nanos(check.start_period),
        start_interval: nanos(check.start_interval),
    }
}

/// The networks that a container joins, each with its settings. The spec lists them in the order of the service's keys.
fn endpoints(spec: &ContainerSpec) -> Vec<(String, EndpointSettings)> {
    let declared: Vec<&ServiceNetwork> = spec.service.networks.values().collect();
    let mut joined: Vec<(i64, String, EndpointSettings)> = spec
        .networks
        .iter()
        .enumerate()
        .map(|(index, (name, aliases))| {
            let own = declared.get(index).copied();
            let ipv4 = own.and_then(|network| network.ipv4_address.clone());
            let ipv6 = own.and_then(|network| network.ipv6_address.clone());
            let local = own
                .map(|network| network.link_local_ips.clone())
                .unwrap_or_default();
            let is_addressed = ipv4.is_some() || ipv6.is_some() || !local.is_empty();
            let settings = EndpointSettings {
                aliases: Some(aliases.clone()),
                mac_address: own.and_then(|network| network.mac_address.clone()),
                ipam_config: is_addressed.then_some(EndpointIpamConfig {
                    ipv4_address: ipv4,
                    ipv6_address: ipv6,
                    link_local_ips: (!local.is_empty()).then_some(local),
                }),
                driver_opts: own
                    .filter(|network| !network.driver_opts.is_empty())
                    .map(|network| map(&network.driver_opts)),
                gw_priority: own.and_then(|network| network.gw_priority),
                ..EndpointSettings::default()
            };
            let priority = own.and_then(|network| network.priority).unwrap_or_default();
            (priority, name.clone(), settings)
        })
        .collect();
    joined.sort_by_key(|(priority, _, _)| std::cmp::Reverse(*priority));
    if let (Some((_, _, first)), Some(address)) = (joined.first_mut(), &spec.service.mac_address) {
        first.mac_address.get_or_insert_with(|| address.clone());
    }
    joined
        .into_iter()
        .map(|(_, name, settings)| (name, settings))
        .collect()
}

fn port_map(service: &Service) -> Option<PortMap> {
    let mut map = PortMap::new();
    for port in &service.ports {
        let key = format!("{}/{}", port.target, port.protocol.as_str());
        map.entry(key)
            .or_default()
            .get_or_insert_default()
            .push(PortBinding {
                host_ip: port.host_ip.map(|ip| ip.to_string()),
                host_port: Some(
                    port.published
                        .map(|port| port.to_string())
                        .unwrap_or_default(),
                ),
            });
    }
    (!map.is_empty()).then_some(map)
}
