//! Containers that are not ours, told as services of an app: what `evenkeel adopt` shows and writes.
//!
//! Owns the way back from an engine's answer to what a person would have declared: what the image or the engine brings by
//! itself is left out. What has no key in app.toml is named, and never passed over.

mod told;

use std::collections::BTreeMap;

use bollard::models::{ContainerInspectResponse, ImageInspect};
use serde_json::{Map, Value, json};

use self::told::Told;
use super::{BollardEngine, CALL, observe};
use crate::domain::observed::{ObservedContainer, ObservedImage};
use crate::port::engine::EngineError;

/// How Compose marks its own.
const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// A container that is not ours.
#[derive(Debug, Clone)]
pub struct Stranger {
    /// As the planner sees it.
    pub observed: ObservedContainer,
    /// Its image, where that is still there.
    pub image: Option<ObservedImage>,
    /// Compose's project and service, where it is one of those.
    pub compose: Option<(String, String)>,
    /// Its service's keys, as people write them; networks and volumes by their names in the engine.
    pub service: Map<String, Value>,
    /// The networks that it is on, by name, with its other names there.
    pub networks: BTreeMap<String, Vec<String>>,
    /// The mounts of named volumes: name, target and whether it is read-only.
    pub volumes: Vec<(String, String, bool)>,
    /// The services of its project that it waits for: service and condition.
    pub depends_on: BTreeMap<String, String>,
    /// What app.toml has no key for.
    pub notes: Vec<String>,
}

impl BollardEngine {
    /// Every container that is not this device's.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub async fn strangers(&self) -> Result<Vec<Stranger>, EngineError> {
        let docker = self.client().await?.docker;
        let list = self
            .call(|| "list containers".to_owned(), CALL, self.list(&docker))
            .await?;
        let mut strangers = Vec::new();
        for summary in list {
            let Some(engine_id) = summary.id else {
                continue;
            };
            if observe::is_ours(summary.labels.as_ref(), &self.device) {
                continue;
            }
            let found = self
                .settle(
                    || format!("look at the container {}", super::short(&engine_id)),
                    CALL,
                    &[404],
                    async { self.inspect(&docker, &engine_id).await.map(Some) },
                )
                .await?;
            let Some(found) = found else { continue };
            let image = self
                .settle(
                    || format!("look at the image of {}", super::short(&engine_id)),
                    CALL,
                    &[404],
                    async {
                        let name = found.image.as_deref().unwrap_or_default();
                        docker.inspect_image(name).await.map(Some)
                    },
                )
                .await?;
            strangers.push(self.stranger(engine_id, &found, image));
        }
        strangers.sort_by(|one, other| one.observed.name.cmp(&other.observed.name));
        Ok(strangers)
    }

    fn stranger(
        &self,
        engine_id: String,
        found: &ContainerInspectResponse,
        image: Option<ImageInspect>,
    ) -> Stranger {
        let observed = self.container(engine_id, found);
        let labels = found
            .config
            .as_ref()
            .and_then(|config| config.labels.clone())
            .unwrap_or_default();
        let compose = labels
            .get(PROJECT)
            .cloned()
            .zip(labels.get(SERVICE).cloned());
        let mut told = Told::default();
        let pinned = pinned(found, image.as_ref());
        let health = image
            .as_ref()
            .and_then(|image| image.config.as_ref()?.healthcheck.clone());
        let brought = image.map(observe::observed_image);
        told.put("image", json!(pinned));
        told.process(found, brought.as_ref().unwrap_or(&ObservedImage::default()));
        told.health(found, health.as_ref());
        let host = found.host_config.clone().unwrap_or_default();
        told.host(&host);
        told.unspoken(&host);
        let networks = told.networks(found, &host, compose.as_ref());
        let volumes = told.mounts(&observed, &host, brought.as_ref());
        if observed.restart != "no" {
            told.put("restart", json!(observed.restart));
        }
        Stranger {
            depends_on: labels
                .get(DEPENDS_ON)
                .map(|text| dependencies(text))
                .unwrap_or_default(),
            observed,
            image: brought,
            compose,
            service: told.service,
            networks,
            volumes,
            notes: told.notes,
        }
    }
}

/// The image by its content: under the name it was started by where a registry knows it so, else by its id.
fn pinned(found: &ContainerInspectResponse, image: Option<&ImageInspect>) -> String {
    let asked = found
        .config
        .as_ref()
        .and_then(|config| config.image.as_deref())
        .unwrap_or_default();
    let repository = |name: &str| {
        let name = name.split('@').next().unwrap_or(name);
        match name.rsplit_once(':') {
            Some((before, after)) if !after.contains('/') => before.to_owned(),
            Some(_) | None => name.to_owned(),
        }
    };
    let digests = image
        .and_then(|image| image.repo_digests.clone())
        .unwrap_or_default();
    let wanted = repository(asked);
    let same = digests.iter().find(|digest| {
        let name = repository(digest);
        name == wanted || name.ends_with(&format!("/{wanted}"))
    });
    match same.or_else(|| digests.first()) {
        Some(digest) => digest.clone(),
        None => observe::image_id(found.image.as_deref().unwrap_or_default()),
    }
}

/// `db:service_healthy:false,cache:service_started:true`.
fn dependencies(text: &str) -> BTreeMap<String, String> {
    text.split(',')
        .filter_map(|one| {
            let mut parts = one.split(':');
            let service = parts.next().filter(|name| !name.is_empty())?;
            let condition = parts.next().unwrap_or("service_started");
            Some((service.to_owned(), condition.to_owned()))
        })
        .collect()
}
