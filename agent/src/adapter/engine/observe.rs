//! What the engine has: our containers, the names that are taken, networks, volumes, images.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bollard::Docker;
use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, HealthStatusEnum, ImageInspect,
    RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{ListImagesOptions, ListVolumesOptions};
use evenkeel_schema::image::ImageRef;
use evenkeel_schema::name::DeviceId;

use super::events::InList;
use super::{APP, BollardEngine, CALL, CONFIG, DEVICE, SERVICE, facts, pull};
use crate::domain::observed::{
    EngineView, Health, ObservedContainer, ObservedImage, Owned, RunState,
};
use crate::domain::resource::ServiceId;
use crate::port::engine::EngineError;

type Labels = HashMap<String, String>;

pub(super) fn is_ours(labels: Option<&Labels>, device: &DeviceId) -> bool {
    labels
        .and_then(|labels| labels.get(DEVICE))
        .map(String::as_str)
        == Some(device.as_str())
}

fn service_id(labels: Option<&Labels>) -> Option<ServiceId> {
    let labels = labels?;
    Some(ServiceId {
        app: labels.get(APP)?.parse().ok()?,
        service: labels.get(SERVICE)?.parse().ok()?,
    })
}

fn owned(labels: Option<&Labels>, device: &DeviceId, in_use: bool) -> Owned {
    let ours = is_ours(labels, device);
    let label = |name: &str| {
        labels
            .filter(|_| ours)
            .and_then(|labels| labels.get(name).cloned())
    };
    Owned {
        app: label(APP),
        config: label(CONFIG),
        in_use,
    }
}

impl BollardEngine {
    pub(super) async fn look(
        &self,
        device: &DeviceId,
        images: &[ImageRef],
        adopted: &BTreeMap<String, ServiceId>,
    ) -> Result<EngineView, EngineError> {
        let client = self.client().await?;
        let docker = &client.docker;
        let mut view = EngineView::default();
        // Before the list: what has changed since is told of later.
        self.events.take_in();
        let mut here = BTreeSet::new();
        let list = self
            .call(|| "list containers".to_owned(), CALL, self.list(docker))
            .await?;
        let mut networks_in_use = BTreeSet::new();
        let mut volumes_in_use = BTreeSet::new();
        for summary in list {
            let listed = InList::of(&summary);
            let settings = summary.network_settings.and_then(|net| net.networks);
            networks_in_use.extend(settings.into_iter().flatten().map(|(name, _)| name));
            let names = summary.names.unwrap_or_default();
            let plain = names
                .iter()
                .map(|name| name.trim_start_matches('/').to_owned());
            let labels = summary.labels.as_ref();
            let known = summary.id.as_ref().and_then(|id| adopted.get(id));
            let service = match known {
                Some(service) => Some(service.clone()),
                None => service_id(labels).filter(|_| is_ours(labels, device)),
            };
            let (Some(service), Some(engine_id)) = (service, summary.id) else {
                view.foreign_container_names.extend(plain);
                let mounts = summary.mounts.into_iter().flatten();
                volumes_in_use.extend(mounts.filter_map(|mount| mount.name));
                continue;
            };
            here.insert(engine_id.clone());
            if let Some(known) = self.events.known(&engine_id, &listed) {
                view.containers.entry(service).or_default().push(known);
                continue;
            }
            // One that goes away between the two looks is not there.
            let inspected = self
                .settle(
                    || format!("look at the container {}", super::short(&engine_id)),
                    CALL,
                    &[404],
                    async { self.inspect(docker, &engine_id).await.map(Some) },
                )
                .await?;
            if let Some(inspected) = inspected {
                let seen = self.container(engine_id, &inspected);
                // The engine tells of what carries our label, and of no other.
                if known.is_none() {
                    self.events.saw(client.kind, &seen, listed);
                }
                view.containers.entry(service).or_default().push(seen);
            }
        }
        self.events.keep_only(&here);
        for containers in view.containers.values_mut() {
            containers.sort_by(|one, other| one.engine_id.cmp(&other.engine_id));
        }
        view.foreign_container_names.sort();
        let networks = self
            .call(
                || "list networks".to_owned(),
                CALL,
                docker.list_networks(None),
            )
            .await?;
        for network in networks {
            let Some(name) = network.name else { continue };
            let in_use = networks_in_use.contains(&name);
            let seen = owned(network.labels.as_ref(), device, in_use);
            view.networks.insert(name, seen);
        }
        let volumes = self
            .call(
                || "list volumes".to_owned(),
                CALL,
                docker.list_volumes(None::<ListVolumesOptions>),
            )
            .await?;
        for volume in volumes.volumes.into_iter().flatten() {
            let in_use = volumes_in_use.contains(&volume.name);
            let seen = owned(Some(&volume.labels), device, in_use);
            view.volumes.insert(volume.name, seen);
        }
        self.looked_at
            .replace(images.iter().map(ToString::to_string).collect());
        let images: BTreeSet<&ImageRef> = images.iter().collect();
        let ids = self.image_ids(docker, &images).await?;
        for image in images {
            let known = ids.get(image.as_str()).and_then(|id| {
                let looked = self.looked.borrow();
                looked.get(id).cloned()
            });
            let found = match known {
                Some(known) => Some(known),
                None => self
                    .call(
                        || format!("look at the image {image}"),
                        CALL,
                        self.image(&client, image.as_str()),
                    )
                    .await?
                    .map(|(_, found)| observed_image(found)),
            };
            if let Some(found) = found {
                if !pull::is_id(image.as_str()) && !self.settled.has(image.as_str()) {
                    view.unsettled.insert(image.to_string());
                }
                view.images.insert(image.to_string(), found);
            }
        }
        if !view.images.is_empty() {
            let seen = view.images.values();
            let seen = seen.map(|image| (image.id.clone(), image.clone()));
            self.looked.replace(seen.collect());
        }
        Ok(view)
    }

    /// Which ids the images have by now, in one call, where they were looked at before.
    async fn image_ids(
        &self,
        docker: &Docker,
        images: &BTreeSet<&ImageRef>,
    ) -> Result<BTreeMap<String, String>, EngineError> {
        if images.len() < 2 || self.looked.borrow().is_empty() {
            return Ok(BTreeMap::new());
        }
        let list = self
            .call(
                || "list images".to_owned(),
                CALL,
                docker.list_images(None::<ListImagesOptions>),
            )
            .await?;
        let mut ids = BTreeMap::new();
        for one in list {
            let id = image_id(&one.id);
            for name in one.repo_digests.into_iter().chain(one.repo_tags) {
                ids.insert(name, id.clone());
            }
            ids.insert(id.clone(), id);
        }
        Ok(ids)
    }

    pub(super) fn container(
        &self,
        engine_id: String,
        found: &ContainerInspectResponse,
    ) -> ObservedContainer {
        let state = found.state.clone().unwrap_or_default();
        let config = found.config.clone().unwrap_or_default();
        let exit = state.exit_code.unwrap_or_default();
        let run_state = match state.status {
            Some(ContainerStateStatusEnum::RUNNING) => RunState::Running,
            Some(ContainerStateStatusEnum::PAUSED) => RunState::Paused,
            Some(ContainerStateStatusEnum::RESTARTING) => RunState::Restarting,
            Some(ContainerStateStatusEnum::EXITED) => RunState::Exited(exit),
            Some(ContainerStateStatusEnum::REMOVING | ContainerStateStatusEnum::DEAD) => {
                RunState::Dead
            }
            Some(ContainerStateStatusEnum::CREATED | ContainerStateStatusEnum::EMPTY) | None => {
                RunState::Created
            }
            #[allow(unreachable_patterns, reason = "a newer API may add states")]
            Some(_) => RunState::Created,
        };
        let has_test = has_test(
            config
                .healthcheck
                .as_ref()
                .and_then(|check| check.test.as_ref()),
        );
        let told = state.health.as_ref().and_then(|health| health.status);
        let health = self.known_health(
            &engine_id,
            state.started_at.as_deref().unwrap_or_default(),
            health(has_test, told),
        );
        ObservedContainer {
            name: found
                .name
                .as_deref()
                .unwrap_or_default()
                .trim_start_matches('/')
                .to_owned(),
            config: config
                .labels
                .as_ref()
                .and_then(|labels| labels.get(CONFIG).cloned()),
            image_id: image_id(found.image.as_deref().unwrap_or_default()),
            state: run_state,
            restart: policy_text(
                found
                    .host_config
                    .as_ref()
                    .and_then(|host| host.restart_policy.as_ref()),
            ),
            restarts: found
                .restart_count
                .and_then(|count| u64::try_from(count).ok())
                .unwrap_or_default(),
            oom_killed: state.oom_killed.unwrap_or_default(),
            started_at: state.started_at.unwrap_or_default(),
            health,
            facts: facts::of(found, &self.root),
            engine_id,
        }
    }
}

/// Podman tells ids without their algorithm in places.
pub(super) fn image_id(text: &str) -> String {
    if text.is_empty() || text.starts_with("sha256:") {
        text.to_owned()
    } else {
        format!("sha256:{text}")
    }
}

pub(super) fn has_test(test: Option<&Vec<String>>) -> bool {
    test.and_then(|test| test.first())
        .is_some_and(|kind| kind != "NONE")
}

pub(super) fn health(has_test: bool, told: Option<HealthStatusEnum>) -> Health {
    match told {
        _ if !has_test => Health::None,
        Some(HealthStatusEnum::HEALTHY) => Health::Healthy,
        Some(HealthStatusEnum::UNHEALTHY) => Health::Unhealthy,
        Some(HealthStatusEnum::STARTING | HealthStatusEnum::EMPTY | HealthStatusEnum::NONE)
        | None => Health::Starting,
    }
}

/// An engine's restart policy in Compose's words.
pub(super) fn policy_text(policy: Option<&RestartPolicy>) -> String {
    let Some(policy) = policy else {
        return "no".to_owned();
    };
    match policy.name {
        Some(RestartPolicyNameEnum::ALWAYS) => "always".to_owned(),
        Some(RestartPolicyNameEnum::UNLESS_STOPPED) => "unless-stopped".to_owned(),
        Some(RestartPolicyNameEnum::ON_FAILURE) => {
            match policy.maximum_retry_count.unwrap_or_default() {
                0 => "on-failure".to_owned(),
                times => format!("on-failure:{times}"),
            }
        }
        Some(RestartPolicyNameEnum::NO | RestartPolicyNameEnum::EMPTY) | None => "no".to_owned(),
    }
}

pub(super) fn observed_image(found: ImageInspect) -> ObservedImage {
    let config = found.config.unwrap_or_default();
    ObservedImage {
        id: image_id(found.id.as_deref().unwrap_or_default()),
        env: facts::environment(config.env.as_deref()),
        cmd: config.cmd.filter(|cmd| !cmd.is_empty()),
        entrypoint: config.entrypoint.filter(|program| !program.is_empty()),
        user: config.user.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        labels: config
            .labels
            .into_iter()
            .flatten()
            .collect::<BTreeMap<_, _>>(),
        stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
        has_healthcheck: has_test(
            config
                .healthcheck
                .as_ref()
                .and_then(|check| check.test.as_ref()),
        ),
        volumes: config.volumes.unwrap_or_default(),
        exposed: config.exposed_ports.unwrap_or_default(),
    }
}
