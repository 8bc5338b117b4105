//! Where containers run: Docker or Podman through the Docker API.

use std::collections::BTreeMap;
use std::time::Duration;

use evenkeel_schema::image::ImageRef;
use evenkeel_schema::name::{AppName, DeviceId};
use evenkeel_schema::service::{Network, Service, Volume};

use super::Retry;
use crate::domain::container::ContainerSpec;
use crate::domain::observed::{Checkup, EngineView, ObservedContainer};
use crate::domain::outcome::PullProgress;
use crate::domain::resource::ServiceId;

/// What became of an image that no revision needs any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// It is gone.
    Gone,
    /// A container uses it still.
    InUse,
    /// It is somebody else's, too: it stays.
    Claimed,
}

/// Why the engine did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nobody answers at the socket, or not in time.
    #[error("the container engine at {socket} does not answer")]
    Down {
        /// The socket.
        socket: String,
        /// Why.
        #[source]
        cause: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// An image cannot be had: the registry is unreachable, does not have it, or refuses us.
    #[error("cannot get image {image}")]
    Image {
        /// The image as declared.
        image: String,
        /// Whether the registry said it does not exist (a person must act) or just did not answer.
        retry: Retry,
        /// Why.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An image is on this device, and damaged: no container can be made of it. Where it is not ours to replace, or cannot be
    /// for now, the cause says why; else the next [`Engine::pull`] fetches it anew.
    #[error("the image {image} is damaged on this device")]
    Damaged {
        /// The image as declared.
        image: String,
        /// How that shows, and what keeps it from being replaced.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine refused the request itself (a bad setting, a taken port or name).
    #[error("the container engine refused to {what}")]
    Refused {
        /// What was asked.
        what: String,
        /// What it answered.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine keeps a port for a container that is gone, as after a power cut in the middle of its start. It gives the
    /// port back to nobody until it is restarted.
    #[error(
        "the container engine keeps port {port} for a container that is gone, and starts none on it until the engine is restarted{}",
        kept_by(others)
    )]
    PortKept {
        /// The port on the device.
        port: String,
        /// Containers of others that run in the engine, by name: a restart would end them, too.
        others: Vec<String>,
        /// The engine's unit, where it is known and may be restarted.
        unit: Option<&'static str>,
        /// What the engine answered.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine failed while doing it.
    #[error("the container engine failed to {what}")]
    Failed {
        /// What was asked.
        what: String,
        /// Why.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a person has to do it.
fn kept_by(others: &[String]) -> String {
    if others.is_empty() {
        String::new()
    } else {
        format!(
            "; it is left to you, for these are not evenkeel's and would end with it: {}",
            others.join(", ")
        )
    }
}

/// The engine.
pub trait Engine {
    /// Looks at everything of ours (label and device id), at names, networks and volumes, and at `images`. `adopted` are
    /// containers by the engine's id that are ours although they carry no label: of which service.
    ///
    /// # Errors
    /// [`EngineError::Down`] where it does not answer.
    async fn observe(
        &self,
        device: &DeviceId,
        images: &[ImageRef],
        adopted: &BTreeMap<String, ServiceId>,
    ) -> Result<EngineView, EngineError>;

    /// Gets an image by its digest, from the tree that the revision came from where that has it, else from its registry, and makes sure that it is complete on disk: one that is here, and not known to be whole, is
    /// looked into, and fetched anew where it is damaged. `progress` is called as it goes.
    ///
    /// # Errors
    /// [`EngineError::Image`], [`EngineError::Damaged`] or [`EngineError::Down`].
    async fn pull(
        &self,
        image: &ImageRef,
        progress: &mut dyn FnMut(&PullProgress),
    ) -> Result<(), EngineError>;

    /// Waits until a container of ours has changed (ended, gone, updated, started) and not by a call made here, as far as the
    /// engine tells; where it tells nothing, for ever. May be dropped at any time. What changed meanwhile is found by the next
    /// [`Engine::observe`].
    async fn stirred(&self);

    /// The images that were pulled here, and were not on this device before, as they were declared. Asks nobody.
    fn pulled(&self) -> Vec<String>;

    /// Removes an image that [`Engine::pulled`] names, where nothing uses it and nobody has given it another name. What
    /// somebody else claims is not named there any more.
    ///
    /// # Errors
    /// See [`EngineError`].
    async fn drop_image(&self, image: &str) -> Result<Dropped, EngineError>;

    /// Whether an image that is not here lies on a folder of this machine: getting it takes nothing of a network.
    async fn is_at_hand(&self, image: &ImageRef) -> bool;

    /// Makes a network for an app, with our labels.
    ///
    /// # Errors
    /// See [`EngineError`].
    async fn create_network(
        &self,
        name: &str,
        device: &DeviceId,
        app: &AppName,
        key: &str,
        network: &Network,
        config: &str,
    ) -> Result<(), EngineError>;

    /// Makes a volume for an app, with our labels.
    ///
    /// # Errors
    /// See [`EngineError`].
    async fn create_volume(
        &self,
        name: &str,
        device: &DeviceId,
        app: &AppName,
        key: &str,
        volume: &Volume,
        config: &str,
    ) -> Result<(), EngineError>;

    /// Removes a network that carries our label.
    ///
    /// # Errors
    /// See [`EngineError`]. Gone already is no error.
    async fn remove_network(&self, name: &str) -> Result<(), EngineError>;

    /// Removes a volume that carries our label, with its data.
    ///
    /// # Errors
    /// See [`EngineError`]. Gone already is no error.
    async fn remove_volume(&self, name: &str) -> Result<(), EngineError>;

    /// Makes a container, with the engine's restart policy `no`: [`Engine::set_restart`] arms it once its revision is
    /// good. Does not start it. Returns the engine's id.
    ///
    /// # Errors
    /// See [`EngineError`].
    async fn create(&self, spec: &ContainerSpec) -> Result<String, EngineError>;

    /// Gives a container another name.
    ///
    /// # Errors
    /// See [`EngineError`].
    async fn rename(&self, engine_id: &str, name: &str) -> Result<(), EngineError>;

    /// Starts a container; already running is no error.
    ///
    /// # Errors
    /// See [`EngineError`].
    async fn start(&self, engine_id: &str) -> Result<(), EngineError>;

    /// Stops a container, with SIGKILL after `grace`; already stopped or gone is no error.
    ///
    /// # Errors
    /// See [`EngineError`].
    async fn stop(&self, engine_id: &str, grace: Duration) -> Result<(), EngineError>;

    /// Stops and starts a container.
    ///
    /// # Errors
    /// See [`EngineError`].
    async fn restart(&self, engine_id: &str, grace: Duration) -> Result<(), EngineError>;

    /// Sends a signal (`HUP`).
    ///
    /// # Errors
    /// See [`EngineError`].
    async fn signal(&self, engine_id: &str, signal: &str) -> Result<(), EngineError>;

    /// Removes a container (not its named volumes); gone already is no error.
    ///
    /// # Errors
    /// See [`EngineError`].
    async fn remove(&self, engine_id: &str) -> Result<(), EngineError>;

    /// Sets the engine's restart policy in place: `no`, `always`, `on-failure[:n]`, `unless-stopped`.
    ///
    /// # Errors
    /// See [`EngineError`].
    async fn set_restart(&self, engine_id: &str, policy: &str) -> Result<(), EngineError>;

    /// Runs a command in a container that runs. What is in there is told by the inner result: why the command did not end with
    /// 0, or not in time, in one line.
    ///
    /// # Errors
    /// [`EngineError::Down`].
    async fn run_in(
        &self,
        engine_id: &str,
        command: &[String],
        timeout: Duration,
    ) -> Result<Result<(), String>, EngineError>;

    /// Whether something is at this path inside a container. What lies in a file system in memory of its own is not seen.
    ///
    /// # Errors
    /// It cannot be told.
    async fn has_inside(&self, engine_id: &str, path: &str) -> Result<bool, EngineError>;

    /// The container's health now, and what its last test said where that failed. Where the engine never runs health checks (Podman without systemd), runs the
    /// declared test itself, at the declared interval, and counts retries and the start period.
    ///
    /// # Errors
    /// See [`EngineError`].
    async fn health(
        &self,
        container: &ObservedContainer,
        service: &Service,
    ) -> Result<Checkup, EngineError>;
}
