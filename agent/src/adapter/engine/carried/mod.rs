//! Images that were carried here: taken from the tree that a revision came from, with no registry.
//!
//! What a commit pins is a manifest's or an index's digest. Every document and layer on the way from there is hashed here as it
//! goes to the engine, and what is not what its name says ends the load; then the engine has to show the image under the id that
//! the manifest names, which is the digest of its configuration (of the manifest, on containerd's store). The engine compares
//! each unpacked layer with that configuration itself. So an image that is known here is the one that the commit pins, and the
//! tag that it gets (`NAME:evenkeel-...`, so that a prune of dangling images leaves it) is believed by nobody.
//!
//! A load that is interrupted leaves at most an image with that tag; it counts for nothing before it is synced and written down.
//! Where a tree's image is damaged, the registry is asked after all.
//!
//! Limits: the engine keeps a copy of the archive while it loads. Images by id, and by tag, are not looked for.

mod archive;
mod known;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bollard::models::ImageInspect;
use bollard::query_parameters::ImportImageOptions;
use evenkeel_schema::image::ImageRef;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

pub(super) use self::known::Known;

use self::archive::{Damage, Image};
use super::pull::{SILENCE, fail};
use super::{BollardEngine, CALL, Client};
use crate::domain::oci::{Digest, Platform};
use crate::domain::outcome::{AT_HAND, PullProgress};
use crate::domain::text::chain;
use crate::port::Retry;
use crate::port::engine::EngineError;
use crate::port::images::Carried;
use crate::port::source::Reach;

/// Pieces on their way to the engine: 64 KiB each.
const UNDERWAY: usize = 8;
/// How often a load is looked after.
const TICK: Duration = Duration::from_millis(500);

/// Whether an image came from a tree.
pub(super) enum Taken {
    /// It did, and is whole on the disk.
    Loaded,
    /// The engine had it under another name: whether it is whole is not known.
    Here,
    /// No tree has it.
    Nowhere,
    /// One has it, and it cannot be taken from there.
    Not(String),
}

/// The digest that pins an image.
fn pinned(image: &str) -> Option<Digest> {
    image.split_once('@')?.1.parse().ok()
}

/// Ends the thread that reads where nobody waits for it any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The tag that an image which was taken gets.
fn tag(image: &str) -> Option<String> {
    let digest = pinned(image)?;
    Some(format!("evenkeel-{}", &digest.hex()[..16]))
}

/// The tag that it was taken under is ours, and no other name of it.
pub(super) fn forget_own_tag(found: &mut ImageInspect, image: &str) {
    if let (Some(own), Some(tags)) = (tag(image), &mut found.repo_tags) {
        tags.retain(|tag| tag.rsplit(':').next() != Some(&own));
    }
}

/// What this machine's engine runs.
pub(super) fn machine(os: Option<String>, architecture: Option<String>) -> Platform {
    let kernel = rustix::system::uname();
    let kernel = kernel.machine().to_string_lossy();
    let architecture = architecture.unwrap_or_else(|| {
        match &*kernel {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other if other.starts_with("arm") => "arm",
            other => other,
        }
        .to_owned()
    });
    let variant = (architecture == "arm").then(|| match &*kernel {
        old if old.starts_with("armv6") => "v6".to_owned(),
        old if old.starts_with("armv5") => "v5".to_owned(),
        _ => "v7".to_owned(),
    });
    Platform {
        os: os.unwrap_or_else(|| "linux".to_owned()),
        architecture,
        variant,
    }
}

impl BollardEngine {
    /// Where images may lie beside what is published.
    #[must_use]
    pub fn carrying(mut self, carried: Carried) -> Self {
        self.carried = Some(carried);
        self
    }

    /// An image, by the name that it is declared by, or, where it was taken from a tree, by its id. With what the engine knows
    /// it by.
    pub(super) async fn image(
        &self,
        client: &Client,
        image: &str,
    ) -> Result<Option<(String, ImageInspect)>, bollard::errors::Error> {
        let ids = pinned(image).and_then(|digest| self.taken.ids(&digest));
        let ids = ids.map(|ids| [ids.config.to_string(), ids.manifest.to_string()]);
        for name in [image.to_owned()]
            .into_iter()
            .chain(ids.into_iter().flatten())
        {
            match client.docker.inspect_image(&name).await {
                Ok(found) => return Ok(Some((name, found))),
                Err(error) if super::status(&error) == Some(404) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// What the engine knows an image by; its declared name where it does not have it.
    pub(super) async fn known_as(&self, client: &Client, image: &str) -> String {
        if pinned(image)
            .and_then(|digest| self.taken.ids(&digest))
            .is_none()
        {
            return image.to_owned();
        }
        let found = tokio::time::timeout(CALL, self.image(client, image)).await;
        match found {
            Ok(Ok(Some((name, _)))) => name,
            Ok(Ok(None) | Err(_)) | Err(_) => image.to_owned(),
        }
    }

    /// What a container's image is declared as, where the engine names it by an id of one that was taken.
    pub(super) fn declared_as(&self, image: &str) -> String {
        let Some(digest) = self.taken.pinned(image) else {
            return image.to_owned();
        };
        let looked_at = self.looked_at.borrow();
        let mut declared = looked_at.iter();
        declared
            .find(|one| pinned(one).as_ref() == Some(&digest))
            .cloned()
            .unwrap_or_else(|| image.to_owned())
    }

    /// Whether an image lies on a folder of this machine, whole as far as its first document tells.
    pub(super) async fn lies_here(&self, image: &ImageRef) -> bool {
        let (Some(carried), Some(digest)) = (self.carried.clone(), pinned(image.as_str())) else {
            return false;
        };
        let looked = tokio::task::spawn_blocking(move || {
            (carried.trees)().iter().any(|tree| {
                let dir = tree.base.strip_prefix("file://");
                tree.reach == Reach::Local
                    && dir
                        .is_some_and(|dir| std::path::Path::new(dir).join(digest.blob()).is_file())
            })
        });
        looked.await.unwrap_or(false)
    }

    /// Takes an image from a tree that has it.
    pub(super) async fn take(
        &self,
        image: &ImageRef,
        progress: &mut dyn FnMut(&PullProgress),
    ) -> Result<Taken, EngineError> {
        let (Some(carried), Some(digest)) = (self.carried.clone(), pinned(image.as_str())) else {
            return Ok(Taken::Nowhere);
        };
        let client = self.client().await?;
        let stop = StopOnDrop(Arc::default());
        let found = {
            let (carried, digest) = (carried.clone(), digest.clone());
            let (machine, stop) = (client.machine.clone(), Arc::clone(&stop.0));
            tokio::task::spawn_blocking(move || archive::find(&carried, &digest, &machine, &stop))
        };
        let found = match found.await {
            Ok(Ok(Some(found))) => Arc::new(found),
            Ok(Ok(None)) | Err(_) => return Ok(Taken::Nowhere),
            Ok(Err(damage)) => return Ok(Taken::Not(damage.to_string())),
        };
        let taken = match self.shown(&client, &found).await? {
            Some(_) => Taken::Here,
            None => Taken::Loaded,
        };
        if matches!(taken, Taken::Loaded)
            && let Some(why) = self
                .load(&client, &carried, image, &found, &stop.0, progress)
                .await?
        {
            return Ok(Taken::Not(why));
        }
        if self.shown(&client, &found).await?.is_none() {
            return Ok(Taken::Not(format!(
                "the engine said that it took it from {}, and does not show {}",
                found.tree.base, found.ids.config
            )));
        }
        // Its layers are on the disk before it is known.
        self.sync(image).await?;
        let noted = self.taken.add(&digest, &found.chain);
        noted.map_err(|cause| fail(image, Retry::Later, cause))?;
        Ok(taken)
    }

    /// It is gone: what it was known by leads nowhere.
    pub(super) fn forget_taken(&self, image: &str) {
        if let Some(digest) = pinned(image) {
            self.taken.remove(&digest);
        }
    }

    /// What the engine calls an image of a tree.
    async fn shown(&self, client: &Client, image: &Image) -> Result<Option<String>, EngineError> {
        for id in [&image.ids.config, &image.ids.manifest] {
            let found = self
                .settle(|| format!("look at the image {id}"), CALL, &[404], async {
                    client.docker.inspect_image(id.as_str()).await.map(Some)
                })
                .await?;
            if found.is_some() {
                return Ok(Some(id.to_string()));
            }
        }
        Ok(None)
    }

    /// Gives an image to the engine. What is wrong with the tree's copy is an answer, and no error of the engine's.
    async fn load(
        &self,
        client: &Client,
        carried: &Carried,
        image: &ImageRef,
        found: &Arc<Image>,
        stop: &Arc<AtomicBool>,
        progress: &mut dyn FnMut(&PullProgress),
    ) -> Result<Option<String>, EngineError> {
        let own = tag(image.as_str()).unwrap_or_default();
        let name = format!("{}:{own}", image.name());
        let (to, mut from) = mpsc::channel::<io::Result<Vec<u8>>>(UNDERWAY);
        let sent = Arc::new(AtomicU64::new(0));
        let reading = {
            let (carried, found) = (carried.clone(), Arc::clone(found));
            let (sent, stop) = (Arc::clone(&sent), Arc::clone(stop));
            tokio::task::spawn_blocking(move || found.send(&carried, &name, &to, &sent, &stop))
        };
        let pieces = futures_util::stream::poll_fn(move |context| from.poll_recv(context));
        let body = bollard::body_try_stream(pieces.map(|piece| piece.map(Into::into)));
        let all = found.size();
        let key = match found.tree.reach {
            Reach::Local => AT_HAND.to_owned(),
            Reach::Network => "layers".to_owned(),
        };
        let options = ImportImageOptions::default();
        let ended = {
            let mut answer = std::pin::pin!(client.docker.import_image(options, body, None));
            let mut seen = (0, Instant::now());
            loop {
                let mut told = false;
                match tokio::time::timeout(TICK, answer.next()).await {
                    Ok(None) => break Ok(()),
                    Ok(Some(Ok(line))) => {
                        told = true;
                        let message = line.error_detail.and_then(|detail| detail.message);
                        if let Some(message) = message {
                            break Err(message);
                        }
                    }
                    Ok(Some(Err(error))) => break Err(chain(&error)),
                    Err(_) => {}
                }
                let now = sent.load(Ordering::Relaxed);
                // All of it is there long before it is unpacked, and of that the engine tells.
                if now != seen.0 || told {
                    seen = (now, Instant::now());
                    progress(&PullProgress::from([(key.clone(), (now, all))]));
                } else if seen.1.elapsed() > SILENCE {
                    break Err(format!(
                        "the engine took nothing of it for {} s",
                        SILENCE.as_secs()
                    ));
                }
            }
        };
        stop.store(ended.is_err(), Ordering::Relaxed);
        let read = reading.await;
        stop.store(false, Ordering::Relaxed);
        match (read, ended) {
            // The tree's own fault comes first: the engine then tells of an archive that breaks off.
            (Ok(Err(damage)), _) if !matches!(damage, Damage::Stopped) => {
                Ok(Some(damage.to_string()))
            }
            (_, Err(why)) => Ok(Some(format!(
                "the engine does not take it from {}: {why}",
                found.tree.base
            ))),
            (Ok(Ok(())), Ok(())) => {
                let whole = sent.load(Ordering::Relaxed);
                progress(&PullProgress::from([(key, (whole, all))]));
                Ok(None)
            }
            (Ok(Err(damage)), Ok(())) => Ok(Some(damage.to_string())),
            (Err(_), Ok(())) => Ok(Some("reading it came to no end".to_owned())),
        }
    }
}
