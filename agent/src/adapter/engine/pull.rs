//! Getting an image, by its digest, whole and on disk.

use std::time::Duration;

use bollard::errors::Error as ApiError;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use evenkeel_schema::image::ImageRef;
use futures_util::StreamExt as _;

use super::{BollardEngine, CALL};
use crate::domain::outcome::PullProgress;
use crate::port::Retry;
use crate::port::engine::EngineError;

/// A pull that moves nothing for this long has stalled. Long enough for an SD card to unpack a large layer's last
/// part, of which engines tell nothing.
const IDLE: Duration = Duration::from_secs(60);
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
    #[error("the engine said that it was pulled, but does not have it")]
    Missing,
    #[error("it could not be written to disk in time")]
    Sync,
}

impl BollardEngine {
    async fn has(&self, image: &ImageRef) -> Result<bool, EngineError> {
        let client = self.client().await?;
        let found = self.settle(
            || format!("look at the image {image}"),
            CALL,
            &[404],
            async { client.docker.inspect_image(image.as_str()).await.map(Some) },
        );
        Ok(found.await?.is_some())
    }

    pub(super) async fn fetch(
        &self,
        image: &ImageRef,
        progress: &mut dyn FnMut(&PullProgress),
    ) -> Result<(), EngineError> {
        if self.has(image).await? {
            return Ok(());
        }
        let fail = |retry: Retry, cause: PullError| EngineError::Image {
            image: image.to_string(),
            retry,
            cause: Box::new(cause),
        };
        if image.as_str().starts_with("sha256:") {
            return Err(fail(Retry::Never, PullError::NotLoaded));
        }
        let client = self.client().await?;
        let options = CreateImageOptionsBuilder::default()
            .from_image(image.as_str())
            .build();
        let mut stream = std::pin::pin!(client.docker.create_image(Some(options), None, None));
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
                        return Err(fail(meaning(None, &message), PullError::Registry(message)));
                    }
                    if note(&mut layers, &info) {
                        progress(&layers);
                    }
                }
                Err(ApiError::DockerStreamError { error }) => {
                    return Err(fail(meaning(None, &error), PullError::Registry(error)));
                }
                Err(ApiError::DockerResponseServerError {
                    status_code,
                    message,
                }) => {
                    let retry = meaning(Some(status_code), &message);
                    return Err(fail(retry, PullError::Registry(message)));
                }
                Err(cause) => return Err(self.error(format!("pull the image {image}"), cause)),
            }
        }
        if !self.has(image).await? {
            return Err(fail(Retry::Later, PullError::Missing));
        }
        // Engines unpack without waiting for the disk; a power cut after the switch must not find half an image.
        let synced = tokio::task::spawn_blocking(rustix::fs::sync);
        match tokio::time::timeout(SYNC, synced).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(fail(Retry::Later, PullError::Sync)),
        }
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

fn meaning(code: Option<u16>, message: &str) -> Retry {
    let lower = message.to_ascii_lowercase();
    let told = FOR_GOOD.iter().any(|words| lower.contains(words));
    match code {
        Some(400 | 401 | 403 | 404) => Retry::Never,
        Some(_) | None if told => Retry::Never,
        Some(_) | None => Retry::Later,
    }
}
