//! Getting an image, by its digest, whole and on disk.

use std::time::Duration;

use bollard::auth::DockerCredentials;
use bollard::errors::Error as ApiError;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use evenkeel_schema::image::ImageRef;
use futures_util::StreamExt as _;

use super::carried::Taken;
use super::{BollardEngine, CALL, Client};
use crate::adapter::registry_auth::registry;
use crate::domain::outcome::PullProgress;
use crate::port::Retry;
use crate::port::engine::EngineError;

/// A pull that moves nothing for this long has stalled. Long enough for an SD card to unpack a large layer's last
/// part, of which engines tell nothing.
const IDLE: Duration = Duration::from_secs(60);
/// An image is looked into for as long as bytes come, and Docker writes all of it to a file of its own before the first
/// one: shorter than the watchdog of the unit file, longer than gigabytes take on a card.
pub(super) const SILENCE: Duration = Duration::from_secs(240);
/// Writing what the kernel still holds of a large image to a slow card.
const SYNC: Duration = Duration::from_secs(300);

#[derive(Debug, thiserror::Error)]
enum PullError {
    #[error(
        "it is named by its id, so it is not pulled, and it is not on this device: load it (`docker load`, `podman load`)"
    )]
    NotLoaded,
    #[error("nothing has moved for {} s", IDLE.as_secs())]
    Stalled,
    #[error("{0}")]
    Registry(String),
    #[error(
        "{0}: the registry wants a login, or refuses the one of `engine.auth_file` in agent.toml"
    )]
    Login(String),
    #[error("the engine said that it was pulled, but does not have it")]
    Missing,
    #[error("it could not be written to disk in time")]
    Sync,
}

/// Neither where it was carried nor its registry gives an image.
#[derive(Debug, thiserror::Error)]
#[error("{why}; nor does its registry give it")]
struct NotTaken {
    why: String,
    #[source]
    cause: Box<dyn std::error::Error + Send + Sync>,
}

impl BollardEngine {
    async fn has(&self, image: &ImageRef) -> Result<bool, EngineError> {
        let client = self.client().await?;
        let found = self.call(
            || format!("look at the image {image}"),
            CALL,
            self.image(&client, image.as_str()),
        );
        Ok(found.await?.is_some())
    }

    pub(super) async fn fetch(
        &self,
        image: &ImageRef,
        progress: &mut dyn FnMut(&PullProgress),
    ) -> Result<(), EngineError> {
        match (self.has(image).await?, is_id(image.as_str())) {
            (true, true) => Ok(()),
            (true, false) if self.settled.has(image.as_str()) => Ok(()),
            (true, false) => self.make_whole(image, progress).await,
            (false, true) => Err(fail(image, Retry::Never, PullError::NotLoaded)),
            (false, false) => {
                // Before its first byte: what an interrupted pull leaves may go again, too.
                self.pulled.add(image.as_str());
                self.pull_anew(image, progress).await
            }
        }
    }

    /// Gets what is not here: from a tree that has it, or from its registry.
    pub(super) async fn pull_anew(
        &self,
        image: &ImageRef,
        progress: &mut dyn FnMut(&PullProgress),
    ) -> Result<(), EngineError> {
        // First of all: what is half here after a power cut must not be taken for the whole that was here before.
        self.settled
            .remove(image.as_str())
            .map_err(|cause| EngineError::Image {
                image: image.to_string(),
                retry: Retry::Later,
                cause: Box::new(cause),
            })?;
        let not_taken = match self.take(image, progress).await? {
            Taken::Loaded => {
                self.settled.add(image.as_str());
                return Ok(());
            }
            // Looked into before a container is made of it.
            Taken::Here => {
                // And it was not pulled here.
                let noted = self.pulled.remove(image.as_str());
                return noted.map_err(|cause| fail(image, Retry::Later, cause));
            }
            Taken::Nowhere => None,
            Taken::Not(why) => {
                tracing::warn!(
                    "the image {image} cannot be taken from where it was carried: {why}"
                );
                Some(why)
            }
        };
        let client = self.client().await?;
        let pulled = self.stream(&client, image, progress).await;
        match (pulled, not_taken) {
            (Ok(()), _) => {}
            (
                Err(EngineError::Image {
                    image,
                    retry,
                    cause,
                }),
                Some(why),
            ) => {
                let cause = Box::new(NotTaken { why, cause });
                return Err(EngineError::Image {
                    image,
                    retry,
                    cause,
                });
            }
            (Err(error), _) => return Err(error),
        }
        if !self.has(image).await? {
            return Err(fail(image, Retry::Later, PullError::Missing));
        }
        self.settle_image(image).await
    }

    /// It is whole, and on disk.
    pub(super) async fn settle_image(&self, image: &ImageRef) -> Result<(), EngineError> {
        self.sync(image).await?;
        self.settled.add(image.as_str());
        Ok(())
    }

    /// Engines unpack without waiting for the disk; a power cut after the switch must not find half an image.
    pub(super) async fn sync(&self, image: &ImageRef) -> Result<(), EngineError> {
        let synced = tokio::task::spawn_blocking(rustix::fs::sync);
        match tokio::time::timeout(SYNC, synced).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(fail(image, Retry::Later, PullError::Sync)),
        }
    }

    /// Has the engine pull, and listens until it is done.
    pub(super) async fn stream(
        &self,
        client: &Client,
        image: &ImageRef,
        progress: &mut dyn FnMut(&PullProgress),
    ) -> Result<(), EngineError> {
        let fail = |retry, cause| fail(image, retry, cause);
        let options = CreateImageOptionsBuilder::default()
            .from_image(image.as_str())
            .build();
        let login = self.login(image)?;
        let mut stream = std::pin::pin!(client.docker.create_image(Some(options), None, login));
        let mut layers = PullProgress::new();
        loop {
            let item = match tokio::time::timeout(IDLE, stream.next()).await {
                Err(_) => return Err(fail(Retry::Later, PullError::Stalled)),
                Ok(None) => break,
                Ok(Some(item)) => item,
            };
            match item {
                Ok(info) => {
                    if let Some(message) = info
                        .error_detail
                        .as_ref()
                        .and_then(|detail| detail.message.clone())
                    {
                        return Err(fail(meaning(None, &message), said(message)));
                    }
                    if note(&mut layers, &info) {
                        progress(&layers);
                    }
                }
                Err(ApiError::DockerStreamError { error }) => {
                    return Err(fail(meaning(None, &error), said(error)));
                }
                Err(ApiError::DockerResponseServerError {
                    status_code,
                    message,
                }) => {
                    let retry = meaning(Some(status_code), &message);
                    return Err(fail(retry, said(message)));
                }
                Err(cause) => return Err(self.error(format!("pull the image {image}"), cause)),
            }
        }
        Ok(())
    }
}

impl BollardEngine {
    /// Who to be at the image's registry.
    fn login(&self, image: &ImageRef) -> Result<Option<DockerCredentials>, EngineError> {
        let Some(file) = &self.logins else {
            return Ok(None);
        };
        // A file of this device's own: no fault of the revision, and mended here.
        let found = file.of(image).map_err(|cause| EngineError::Image {
            image: image.to_string(),
            retry: Retry::Later,
            cause: Box::new(cause),
        })?;
        Ok(found.map(|login| DockerCredentials {
            username: Some(login.user),
            password: Some(login.password),
            identitytoken: login.identity_token,
            serveraddress: Some(registry(image)),
            ..DockerCredentials::default()
        }))
    }
}

/// Whether an image is named by its id: then it is loaded by hand, and no registry has it by that name.
pub(super) fn is_id(image: &str) -> bool {
    image.starts_with("sha256:")
}

pub(super) fn fail(
    image: &ImageRef,
    retry: Retry,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> EngineError {
    EngineError::Image {
        image: image.to_string(),
        retry,
        cause: cause.into(),
    }
}

/// Takes a line of progress in; whether it told of bytes.
fn note(layers: &mut PullProgress, info: &CreateImageInfo) -> bool {
    let (Some(layer), Some(detail)) = (&info.id, &info.progress_detail) else {
        return false;
    };
    let (Some(now), Some(all)) = (detail.current, detail.total) else {
        return false;
    };
    // Unpacking counts from zero again: what was downloaded stays downloaded.
    if info.status.as_deref() != Some("Downloading") {
        return false;
    }
    let bytes = |number: i64| u64::try_from(number).unwrap_or_default();
    layers.insert(layer.clone(), (bytes(now), bytes(all)));
    true
}

/// What registries and engines say where trying again cannot help.
const FOR_GOOD: [&str; 9] = [
    "manifest unknown",
    "name unknown",
    "not found: does not exist",
    "repository does not exist",
    "unauthorized",
    "authentication required",
    "access to the resource is denied",
    "invalid reference format",
    "no matching manifest",
];

/// Among those, what a login may mend.
const LOGIN: [&str; 4] = [
    "unauthorized",
    "authentication required",
    "access to the resource is denied",
    "no basic auth credentials",
];

fn said(message: String) -> PullError {
    let lower = message.to_ascii_lowercase();
    if LOGIN.iter().any(|words| lower.contains(words)) {
        PullError::Login(message)
    } else {
        PullError::Registry(message)
    }
}

fn meaning(code: Option<u16>, message: &str) -> Retry {
    let lower = message.to_ascii_lowercase();
    let told = FOR_GOOD.iter().any(|words| lower.contains(words));
    match code {
        Some(400 | 401 | 403 | 404) => Retry::Never,
        Some(_) | None if told => Retry::Never,
        Some(_) | None => Retry::Later,
    }
}
