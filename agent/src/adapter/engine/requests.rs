//! Labels, and the requests for networks and volumes.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{Ipam as ApiIpam, IpamConfig, NetworkCreateRequest, VolumeCreateRequest};
use evenkeel_schema::name::{AppName, DeviceId};
use evenkeel_schema::service::{Condition, Network, Volume};

use super::create::map;
use super::{APP, CONFIG, DEVICE, SERVICE};
use crate::domain::container::ContainerSpec;

/// What Compose itself calls its labels: with them `docker compose ls` and `ps` show our apps.
const COMPOSE: &str = "com.docker.compose";

pub(super) fn labels(spec: &ContainerSpec) -> HashMap<String, String> {
    let mut labels = map(&spec.service.labels);
    let (service, number) = match &spec.service.replica {
        None => (&spec.id.service, 1),
        Some(replica) => (&replica.of, replica.number),
    };
    let depends_on: Vec<String> = spec
        .service
        .depends_on
        .iter()
        .map(|(name, dependency)| {
            let condition = match dependency.condition {
                Condition::Started => "service_started",
                Condition::Healthy => "service_healthy",
                Condition::Completed => "service_completed_successfully",
            };
            format!("{name}:{condition}:{}", dependency.restart)
        })
        .collect();
    let app = &spec.id.app;
    let folder = format!("apps/{app}");
    let ours = [
        (DEVICE.to_owned(), spec.device.to_string()),
        (APP.to_owned(), app.to_string()),
        (SERVICE.to_owned(), spec.id.service.to_string()),
        (CONFIG.to_owned(), spec.config.clone()),
        (format!("{COMPOSE}.project"), app.to_string()),
        (format!("{COMPOSE}.service"), service.to_string()),
        (format!("{COMPOSE}.container-number"), number.to_string()),
        (format!("{COMPOSE}.oneoff"), "False".to_owned()),
        (format!("{COMPOSE}.config-hash"), spec.config.clone()),
        (
            format!("{COMPOSE}.version"),
            env!("CARGO_PKG_VERSION").to_owned(),
        ),
        // Of the repository: the device has no such folder.
        (format!("{COMPOSE}.project.working_dir"), folder.clone()),
        (format!("{COMPOSE}.project.config_files"), folder),
        (format!("{COMPOSE}.depends_on"), depends_on.join(",")),
    ];
    labels.extend(ours);
    labels
}

fn resource_labels(
    declared: &BTreeMap<String, String>,
    device: &DeviceId,
    app: &AppName,
    (kind, key): (&str, &str),
    config: &str,
) -> HashMap<String, String> {
    let mut labels = map(declared);
    let ours = [
        (DEVICE.to_owned(), device.to_string()),
        (APP.to_owned(), app.to_string()),
        (CONFIG.to_owned(), config.to_owned()),
        (format!("{COMPOSE}.project"), app.to_string()),
        (format!("{COMPOSE}.{kind}"), key.to_owned()),
    ];
    labels.extend(ours);
    labels
}

pub(super) fn network_request(
    name: &str,
    device: &DeviceId,
    app: &AppName,
    key: &str,
    network: &Network,
    config: &str,
) -> NetworkCreateRequest {
    let ipam = &network.ipam;
    let declared = ipam.driver.is_some() || !ipam.config.is_empty() || !ipam.options.is_empty();
    NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some(
            network
                .driver
                .clone()
                .unwrap_or_else(|| "bridge".to_owned()),
        ),
        internal: Some(network.internal),
        attachable: Some(network.attachable),
        enable_ipv6: network.enable_ipv6.then_some(true),
        ipam: declared.then(|| ApiIpam {
            driver: Some(ipam.driver.clone().unwrap_or_else(|| "default".to_owned())),
            config: Some(
                ipam.config
                    .iter()
                    .map(|pool| IpamConfig {
                        subnet: pool.subnet.clone(),
                        ip_range: pool.ip_range.clone(),
                        gateway: pool.gateway.clone(),
                        auxiliary_addresses: (!pool.aux_addresses.is_empty())
                            .then(|| map(&pool.aux_addresses)),
                    })
                    .collect(),
            ),
            options: (!ipam.options.is_empty()).then(|| map(&ipam.options)),
        }),
        options: (!network.driver_opts.is_empty()).then(|| map(&network.driver_opts)),
        labels: Some(resource_labels(
            &network.labels,
            device,
            app,
            ("network", key),
            config,
        )),
        ..NetworkCreateRequest::default()
    }
}

pub(super) fn volume_request(
    name: &str,
    device: &DeviceId,
    app: &AppName,
    key: &str,
    volume: &Volume,
    config: &str,
) -> VolumeCreateRequest {
    VolumeCreateRequest {
        name: Some(name.to_owned()),
        driver: Some(volume.driver.clone().unwrap_or_else(|| "local".to_owned())),
        driver_opts: (!volume.driver_opts.is_empty()).then(|| map(&volume.driver_opts)),
        labels: Some(resource_labels(
            &volume.labels,
            device,
            app,
            ("volume", key),
            config,
        )),
        ..VolumeCreateRequest::default()
    }
}
