//! An image that is damaged on this device, and how it is fetched anew.
//!
//! Owns the way from "no container can be made of it" to "it is damaged", and the only removal of an image that there is: by
//! its reference and without force, so that the engine itself refuses where a container needs it. Refuses to remove what
//! carries another name, too (somebody else's), what runs in a container, or a stranger's container holds; and what the
//! registry does not have or does not answer for: an image that is damaged serves better than none.

use std::collections::BTreeSet;
use std::time::Duration;

use bollard::errors::Error as ApiError;
use bollard::models::{ContainerSummaryStateEnum, ImageInspect};
use bollard::query_parameters::{ListImagesOptionsBuilder, RemoveImageOptionsBuilder};
use evenkeel_schema::image::ImageRef;
use tokio::time::Instant;

use super::carried::{self, Taken};
use super::check::Found;
use super::observe::is_ours;
use super::pull::is_id;
use super::{BollardEngine, CALL, Client, SLOW_CALL, judge, short};
use crate::domain::outcome::{AT_HAND, PullProgress};
use crate::domain::text::chain;
use crate::port::engine::{Engine as _, EngineError};

/// How long an image is looked into while the service that needs it stands still. What takes longer is looked into before
/// the next try.
const WHILE_IT_STANDS: Duration = Duration::from_secs(60);
/// How long one look holds for the failures after it: an engine that cannot start something is asked often.
const LOOK_HOLDS: Duration = Duration::from_secs(60 * 60);

/// What an engine says where no image is behind its refusal.
const ELSEWHERE: [&str; 9] = [
    "already allocated",
    "already in use",
    "gathering device information",
    "is not supported",
    "marked for removal",
    "already in progress",
    "no space left",
    "network",
    "bind source path",
];

/// Where a container failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Making,
    Starting,
}

/// What is known of an image that is not settled.
#[derive(Debug, Clone)]
pub(super) enum Known {
    /// It was looked into, and is whole.
    Looked(Instant),
    /// No container can be made of it, although it looks whole: what the engine said.
    Unusable(String),
    /// It is damaged, and why. It is not read again for that.
    Damaged(String),
    /// It is damaged, and these other images hold its layers: nothing helps while they do.
    Shared(String, BTreeSet<String>),
}

#[derive(Debug, thiserror::Error)]
#[error("{damage}; {hindrance}")]
struct NotReplaced {
    damage: String,
    hindrance: String,
}

fn damaged(image: &str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> EngineError {
    EngineError::Damaged {
        image: image.to_owned(),
        cause: cause.into(),
    }
}

impl BollardEngine {
    /// Why a container could not be made or started: the engine's own words, or, where it turns out so, that its image is
    /// damaged. Such an image is not taken for whole any more.
    pub(super) async fn image_behind(
        &self,
        error: EngineError,
        image: &str,
        at: At,
    ) -> EngineError {
        let (EngineError::Refused { cause, .. } | EngineError::Failed { cause, .. }) = &error
        else {
            return error;
        };
        let Some(ApiError::DockerResponseServerError {
            status_code,
            message,
        }) = cause.downcast_ref()
        else {
            return error;
        };
        let lower = message.to_ascii_lowercase();
        // Docker tells of a program that does not start as if it were a wrong parameter.
        let is_asked_wrongly = *status_code < 500 && !lower.contains("oci runtime");
        if is_asked_wrongly || ELSEWHERE.iter().any(|words| lower.contains(words)) {
            return error;
        }
        let known = self.known.borrow().get(image).cloned();
        match known {
            Some(Known::Looked(at)) if at.elapsed() < LOOK_HOLDS => return error,
            Some(Known::Unusable(why) | Known::Damaged(why) | Known::Shared(why, _)) => {
                return damaged(image, why);
            }
            Some(Known::Looked(_)) | None => {}
        }
        let why = match self.examine(image, WHILE_IT_STANDS, |_| ()).await {
            Ok(Found::Damaged(why)) => {
                self.know(image, Known::Damaged(why.clone()));
                why
            }
            // The store's words in a start may be those of a mount that is declared.
            Ok(Found::Whole) if at == At::Making && judge::is_of_store(&lower) && !is_id(image) => {
                self.know(image, Known::Unusable(message.clone()));
                message.clone()
            }
            Ok(Found::Whole) => {
                self.know(image, Known::Looked(Instant::now()));
                return error;
            }
            Ok(Found::Unsure(_) | Found::Gone) | Err(_) => return error,
        };
        if let Err(error) = self.settled.remove(image) {
            tracing::warn!("cannot write down that the image {image} is damaged: {error}");
        }
        damaged(image, why)
    }

    fn know(&self, image: &str, known: Known) {
        self.known.borrow_mut().insert(image.to_owned(), known);
    }

    /// Makes sure that an image which is on this device, and not known to be whole, is whole: looks into it, and fetches it
    /// anew where it is damaged.
    pub(super) async fn make_whole(
        &self,
        image: &ImageRef,
        progress: &mut dyn FnMut(&PullProgress),
    ) -> Result<(), EngineError> {
        let name = image.as_str();
        let known = self.known.borrow().get(name).cloned();
        let unusable = match known {
            Some(Known::Looked(at)) if at.elapsed() < LOOK_HOLDS => return Ok(()),
            Some(Known::Damaged(why)) => return self.replace_image(image, &why, progress).await,
            Some(Known::Shared(why, _)) => return self.replace_image(image, &why, progress).await,
            Some(Known::Unusable(why)) => Some(why),
            Some(Known::Looked(_)) | None => None,
        };
        let mut bytes = 0;
        let found = self
            .examine(name, super::pull::SILENCE, |read| {
                bytes += read;
                progress(&PullProgress::from([(AT_HAND.to_owned(), (bytes, bytes))]));
            })
            .await?;
        let damage = match (found, unusable) {
            (Found::Gone, _) => return self.pull_anew(image, progress).await,
            (Found::Whole, None) => {
                self.known.borrow_mut().remove(name);
                return self.settle_image(image).await;
            }
            (Found::Whole, Some(why)) => why,
            (Found::Unsure(why), _) => {
                tracing::warn!(
                    "the image {image} cannot be looked into, and is taken as it is: {why}"
                );
                self.know(name, Known::Looked(Instant::now()));
                return Ok(());
            }
            (Found::Damaged(why), _) => {
                self.know(name, Known::Damaged(why.clone()));
                why
            }
        };
        tracing::warn!("the image {image} is damaged ({damage}): it is fetched anew");
        self.replace_image(image, &damage, progress).await
    }

    async fn replace_image(
        &self,
        image: &ImageRef,
        damage: &str,
        progress: &mut dyn FnMut(&PullProgress),
    ) -> Result<(), EngineError> {
        let name = image.as_str();
        let hindered = |hindrance: String| {
            damaged(
                name,
                NotReplaced {
                    damage: damage.to_owned(),
                    hindrance,
                },
            )
        };
        let client = self.client().await?;
        let inspected = self
            .call(
                || format!("look at the image {image}"),
                CALL,
                self.image(&client, name),
            )
            .await;
        let (known_as, mut found) = match inspected {
            Ok(Some(known)) => known,
            Err(down @ EngineError::Down { .. }) => return Err(down),
            // Too damaged to be told of; whether it may go the engine says.
            Ok(None) | Err(_) => (name.to_owned(), ImageInspect::default()),
        };
        let id = found.id.clone().unwrap_or_default();
        // The tag that it was taken under is ours.
        carried::forget_own_tag(&mut found, name);
        if let Some(other) = other_name(&found, name) {
            return Err(hindered(format!(
                "it is called {other}, too, which is not ours: remove it by hand (`docker image rm`), and it is fetched anew"
            )));
        }
        let mut ours = Vec::new();
        for one in self
            .call(
                || "list containers".to_owned(),
                CALL,
                self.list(&client.docker),
            )
            .await?
        {
            if one.image_id.as_deref() != Some(id.as_str()) || id.is_empty() {
                continue;
            }
            let container = one.names.iter().flatten().next().cloned();
            let container = container.unwrap_or_default();
            let container = container.trim_start_matches('/');
            let stands = matches!(
                one.state,
                Some(ContainerSummaryStateEnum::CREATED | ContainerSummaryStateEnum::EXITED)
            );
            match one.id {
                Some(engine_id) if stands && is_ours(one.labels.as_ref(), &self.device) => {
                    ours.push(engine_id);
                }
                Some(_) | None => {
                    return Err(hindered(format!(
                        "the container {container} uses it, so it cannot be fetched anew for now"
                    )));
                }
            }
        }
        let shared = self.sharers(&client, &found).await;
        if let Some(Known::Shared(why, with)) = self.known.borrow().get(name)
            && *with == shared
        {
            return Err(hindered(why.clone()));
        }
        // Asked first: nothing of what is here is pulled by this.
        // One that lies on a folder here is read and compared when it is taken.
        if !self.lies_here(image).await
            && let Err(error) = self.stream(&client, image, progress).await
        {
            return Err(hindered(format!(
                "it cannot be fetched anew: {}",
                chain(&error)
            )));
        }
        for engine_id in &ours {
            self.remove(engine_id).await?;
        }
        let options = RemoveImageOptionsBuilder::default()
            .force(false)
            .noprune(false)
            .build();
        let removed = self
            .settle(
                || format!("remove the damaged image {image}"),
                SLOW_CALL,
                &[404],
                client.docker.remove_image(&known_as, Some(options), None),
            )
            .await;
        match removed {
            Ok(_) => {}
            Err(down @ EngineError::Down { .. }) => return Err(down),
            Err(error) => return Err(hindered(chain(&error))),
        }
        self.known.borrow_mut().remove(name);
        if !matches!(
            self.take(image, progress).await?,
            Taken::Loaded | Taken::Here
        ) {
            self.stream(&client, image, progress).await?;
        }
        match self.examine(name, super::pull::SILENCE, |_| ()).await? {
            Found::Whole | Found::Unsure(_) => {
                self.know(name, Known::Looked(Instant::now()));
                self.settle_image(image).await
            }
            Found::Gone => Err(hindered("it was fetched anew, and is not there".to_owned())),
            Found::Damaged(why) => {
                let with: Vec<&str> = shared.iter().map(String::as_str).collect();
                let why = format!(
                    "it was fetched anew, and is damaged still ({why}), for what is damaged belongs to {}, too: remove that, or \
                     pull it anew",
                    if with.is_empty() {
                        "another image".to_owned()
                    } else {
                        with.join(", ")
                    }
                );
                self.know(name, Known::Shared(why.clone(), shared));
                Err(hindered(why))
            }
        }
    }

    /// The other images that hold layers of this one.
    async fn sharers(&self, client: &Client, of: &ImageInspect) -> BTreeSet<String> {
        let layers = |image: &ImageInspect| -> BTreeSet<String> {
            let root = image.root_fs.as_ref();
            let layers = root.and_then(|root| root.layers.as_ref());
            layers.into_iter().flatten().cloned().collect()
        };
        let held = layers(of);
        let all = ListImagesOptionsBuilder::default().all(true).build();
        let listed = self
            .call(
                || "list images".to_owned(),
                CALL,
                client.docker.list_images(Some(all)),
            )
            .await;
        let mut sharers = BTreeSet::new();
        for other in listed.unwrap_or_default() {
            if Some(&other.id) == of.id.as_ref() {
                continue;
            }
            let Ok(Ok(found)) =
                tokio::time::timeout(CALL, client.docker.inspect_image(&other.id)).await
            else {
                continue;
            };
            if !layers(&found).is_disjoint(&held) {
                let name = other.repo_tags.first().or(other.repo_digests.first());
                let plain = other.id.trim_start_matches("sha256:");
                sharers.insert(name.cloned().unwrap_or_else(|| short(plain).to_owned()));
            }
        }
        sharers
    }
}

/// A name of an image beside the one that it is declared by.
pub(super) fn other_name(found: &ImageInspect, name: &str) -> Option<String> {
    let repository = |name: &str| {
        let plain = name.split('@').next().unwrap_or(name);
        match plain.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => repository.to_owned(),
            Some(_) | None => plain.to_owned(),
        }
    };
    let same = |one: &str, other: &str| {
        // Podman writes the registry and the folder that Docker leaves out.
        one == other || one.ends_with(&format!("/{other}"))
    };
    let tags = found.repo_tags.iter().flatten();
    let digests = found.repo_digests.iter().flatten();
    let mut others = tags
        .filter(|tag| !same(tag, name))
        .chain(digests.filter(|digest| !same(&repository(digest), &repository(name))));
    others.next().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_with_another_name_is_somebody_elses_too() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let ours = format!("127.0.0.1:5000/app@{digest}");
        let of = |tags: &[&str], digests: &[&str]| ImageInspect {
            repo_tags: Some(tags.iter().map(|one| (*one).to_owned()).collect()),
            repo_digests: Some(digests.iter().map(|one| (*one).to_owned()).collect()),
            ..ImageInspect::default()
        };
        assert_eq!(other_name(&of(&[], &[&ours]), &ours), None);
        assert!(other_name(&of(&["127.0.0.1:5000/app:latest"], &[&ours]), &ours).is_some());
        let other = format!("127.0.0.1:5000/other@{digest}");
        assert_eq!(other_name(&of(&[], &[&ours, &other]), &ours), Some(other));
        let long = format!("docker.io/library/app@{digest}");
        assert_eq!(
            other_name(&of(&["docker.io/library/app:1"], &[&long]), "app:1"),
            None
        );
        assert!(other_name(&of(&["docker.io/library/app:2"], &[&long]), "app:1").is_some());
    }
}
