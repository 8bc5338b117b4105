//! Docker or Podman through the Docker API.
//!
//! Owns the connection (made anew for each call that finds none, so that an engine which is restarted later works
//! again), the deadline of every call, and what an engine's refusal means. Ours is what carries our label with this
//! device's id, and what a person had us adopt; nothing else is ever changed or removed.
//!
//! Limits: the engine itself asks the registries, with the logins that `engine.auth_file` holds, or, without one, with none;
//! Podman before 5.1 cannot change a restart policy
//! in place, so its containers are made with the declared one (see `create`).

mod adopt;
mod carried;
mod check;
mod connection;
mod create;
mod drop;
mod events;
mod facts;
mod health;
mod inside;
mod judge;
mod kept_port;
mod listed;
mod observe;
mod pull;
mod replace;
mod requests;
mod states;
mod volume;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::errors::Error as ApiError;
use bollard::models::{ContainerUpdateBody, RestartPolicy};
use bollard::query_parameters::{
    KillContainerOptionsBuilder, RemoveContainerOptionsBuilder, RenameContainerOptionsBuilder,
    RestartContainerOptionsBuilder, StopContainerOptionsBuilder,
};
use evenkeel_schema::agent_config::EngineRestart;
use evenkeel_schema::image::ImageRef;
use evenkeel_schema::name::{AppName, DeviceId};
use evenkeel_schema::service::{Network, Service, Volume};

pub use adopt::Stranger;
use connection::{Client, Kind};
use judge::{Judgement, judge, status};

use crate::adapter::registry_auth::AuthFile;
use crate::domain::container::ContainerSpec;
use crate::domain::observed::{Checkup, EngineView, ObservedContainer, ObservedImage};
use crate::domain::outcome::PullProgress;
use crate::domain::resource::ServiceId;
use crate::port::engine::{Dropped, Engine, EngineError};
use crate::port::images::Carried;

/// The label that makes a thing ours: its value is the device's id.
pub(super) const DEVICE: &str = "dev.evenkeel.device";
/// The app a thing belongs to.
pub(super) const APP: &str = "dev.evenkeel.app";
/// The service a container belongs to.
pub(super) const SERVICE: &str = "dev.evenkeel.service";
/// The hash of the declaration that a thing was made from.
pub(super) const CONFIG: &str = "dev.evenkeel.config";

/// An ordinary call: engines answer in milliseconds; a busy SD card has been seen to take some seconds.
const CALL: Duration = Duration::from_secs(30);
/// Making, starting or removing a container: image layers are mounted and file systems written.
const SLOW_CALL: Duration = Duration::from_secs(120);
/// What a stop may take beyond its grace.
const STOP_MARGIN: Duration = Duration::from_secs(30);
/// Where `auto` looks, in this order.
const SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/podman/podman.sock"];

/// Docker or Podman.
#[derive(Debug)]
pub struct BollardEngine {
    sockets: Vec<PathBuf>,
    device: DeviceId,
    root: PathBuf,
    client: RefCell<Option<Client>>,
    probes: RefCell<BTreeMap<String, health::Probe>>,
    /// Images that are known to be whole.
    settled: listed::Listed,
    /// Images that were not here before they were pulled for a revision.
    pulled: listed::Listed,
    logins: Option<AuthFile>,
    events: events::Events,
    /// Images as they were looked at, by their id: what an id names never changes.
    looked: RefCell<BTreeMap<String, ObservedImage>>,
    known: RefCell<BTreeMap<String, replace::Known>>,
    restart: EngineRestart,
    /// Where images may lie beside what is published.
    carried: Option<Carried>,
    /// Those that were taken from there.
    taken: carried::Known,
    /// The images that were asked for last, as they are declared.
    looked_at: RefCell<BTreeSet<String>>,
}

impl BollardEngine {
    /// The engine at `socket`: `auto`, or `unix:///...`. Connects at the first call. Sources of bind mounts land under
    /// `root`.
    #[must_use]
    pub fn connect(socket: &str, device: &DeviceId, root: &Path) -> Self {
        let sockets = if socket == "auto" {
            SOCKETS.iter().map(PathBuf::from).collect()
        } else {
            vec![PathBuf::from(
                socket.strip_prefix("unix://").unwrap_or(socket),
            )]
        };
        Self {
            sockets,
            device: device.clone(),
            root: root.to_path_buf(),
            client: RefCell::new(None),
            probes: RefCell::new(BTreeMap::new()),
            settled: listed::Listed::default(),
            pulled: listed::Listed::default(),
            logins: None,
            events: events::Events::default(),
            looked: RefCell::default(),
            known: RefCell::new(BTreeMap::new()),
            restart: EngineRestart::default(),
            carried: None,
            taken: carried::Known::default(),
            looked_at: RefCell::default(),
        }
    }

    /// What the owner lets be done with an engine that only a restart mends.
    #[must_use]
    pub fn restarting(mut self, restart: EngineRestart) -> Self {
        self.restart = restart;
        self
    }

    /// Writes down in the state directory which images are known to be whole, and which were pulled here.
    #[must_use]
    pub fn remembering(mut self, state_dir: &Path) -> Self {
        self.settled = listed::Listed::open(state_dir, "images");
        self.pulled = listed::Listed::open(state_dir, "images-pulled");
        self.taken = carried::Known::open(state_dir.to_owned());
        self
    }

    /// Logs in at registries with what this file says, in the form of Docker's `config.json`.
    #[must_use]
    pub fn logging_in(mut self, auth_file: Option<PathBuf>) -> Self {
        self.logins = auth_file.as_deref().map(AuthFile::at);
        self
    }

    fn socket(&self) -> &Path {
        self.sockets
            .iter()
            .find(|socket| socket.exists())
            .unwrap_or(&self.sockets[0])
    }

    fn down(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> EngineError {
        self.client.replace(None);
        EngineError::Down {
            socket: self.socket().display().to_string(),
            cause: Some(cause.into()),
        }
    }

    /// One call with its deadline.
    async fn call<T>(
        &self,
        what: impl FnOnce() -> String,
        deadline: Duration,
        call: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, EngineError> {
        match tokio::time::timeout(deadline, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(cause)) => Err(self.error(what(), cause)),
            Err(late) => Err(self.down(late)),
        }
    }

    fn error(&self, what: String, cause: ApiError) -> EngineError {
        match judge(&cause) {
            Judgement::Down => self.down(cause),
            Judgement::Refused => EngineError::Refused {
                what,
                cause: Box::new(cause),
            },
            Judgement::Failed => EngineError::Failed {
                what,
                cause: Box::new(cause),
            },
        }
    }

    /// As [`Self::call`], where "no such thing" (404) and "is so already" (304) are what was wanted.
    async fn settle<T: Default>(
        &self,
        what: impl FnOnce() -> String,
        deadline: Duration,
        fine: &[u16],
        call: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, EngineError> {
        let tolerant = async {
            match call.await {
                Err(error) if status(&error).is_some_and(|code| fine.contains(&code)) => {
                    Ok(T::default())
                }
                other => other,
            }
        };
        self.call(what, deadline, tolerant).await
    }

    /// As [`Self::settle`], for what is done to a container beside making and starting it: whatever the engine answers, it is
    /// no setting of a revision's.
    async fn end<T: Default>(
        &self,
        what: impl FnOnce() -> String,
        deadline: Duration,
        fine: &[u16],
        call: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, EngineError> {
        match self.settle(what, deadline, fine, call).await {
            Err(EngineError::Refused { what, cause }) => Err(EngineError::Failed { what, cause }),
            other => other,
        }
    }

    /// A path of the device under the configured root.
    fn under_root(&self, path: &str) -> String {
        self.root
            .join(path.trim_start_matches('/'))
            .display()
            .to_string()
    }
}

/// A whole number of seconds that is not shorter than the duration.
fn seconds(duration: Duration) -> i32 {
    let whole = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    i32::try_from(whole).unwrap_or(i32::MAX)
}

fn short(engine_id: &str) -> &str {
    engine_id.get(..12).unwrap_or(engine_id)
}

impl Engine for BollardEngine {
    async fn observe(
        &self,
        device: &DeviceId,
        images: &[ImageRef],
        adopted: &BTreeMap<String, ServiceId>,
    ) -> Result<EngineView, EngineError> {
        self.look(device, images, adopted).await
    }

    async fn pull(
        &self,
        image: &ImageRef,
        progress: &mut dyn FnMut(&PullProgress),
    ) -> Result<(), EngineError> {
        self.fetch(image, progress).await
    }

    async fn stirred(&self) {
        self.stir().await;
    }

    fn pulled(&self) -> Vec<String> {
        self.pulled.all()
    }

    async fn drop_image(&self, image: &str) -> Result<Dropped, EngineError> {
        self.drop_pulled(image).await
    }

    async fn is_at_hand(&self, image: &ImageRef) -> bool {
        self.lies_here(image).await
    }

    async fn create_network(
        &self,
        name: &str,
        device: &DeviceId,
        app: &AppName,
        key: &str,
        network: &Network,
        config: &str,
    ) -> Result<(), EngineError> {
        let client = self.client().await?;
        let request = requests::network_request(name, device, app, key, network, config);
        self.call(
            || format!("make the network {name}"),
            CALL,
            client.docker.create_network(request),
        )
        .await
        .map(|_| ())
    }

    async fn create_volume(
        &self,
        name: &str,
        device: &DeviceId,
        app: &AppName,
        key: &str,
        volume: &Volume,
        config: &str,
    ) -> Result<(), EngineError> {
        let client = self.client().await?;
        let request = requests::volume_request(name, device, app, key, volume, config);
        self.call(
            || format!("make the volume {name}"),
            CALL,
            client.docker.create_volume(request),
        )
        .await
        .map(|_| ())
    }

    async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        let client = self.client().await?;
        let found = self
            .settle(
                || format!("look at the network {name}"),
                CALL,
                &[404],
                async { client.docker.inspect_network(name, None).await.map(Some) },
            )
            .await?;
        let Some(found) = found else { return Ok(()) };
        if !observe::is_ours(found.labels.as_ref(), &self.device) {
            return Err(EngineError::Refused {
                what: format!("remove the network {name}"),
                cause: "it does not carry this device's label, so it is not ours".into(),
            });
        }
        self.settle(
            || format!("remove the network {name}"),
            CALL,
            &[404],
            client.docker.remove_network(name),
        )
        .await
    }

    async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        self.end_volume(name).await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        self.make(spec).await
    }

    async fn rename(&self, engine_id: &str, name: &str) -> Result<(), EngineError> {
        self.events.touch(engine_id);
        let client = self.client().await?;
        let options = RenameContainerOptionsBuilder::default().name(name).build();
        self.end(
            || format!("name the container {} {name}", short(engine_id)),
            CALL,
            &[],
            client.docker.rename_container(engine_id, options),
        )
        .await
    }

    async fn start(&self, engine_id: &str) -> Result<(), EngineError> {
        self.events.touch(engine_id);
        let client = self.client().await?;
        let started = self
            .settle(
                || format!("start the container {}", short(engine_id)),
                SLOW_CALL,
                &[304],
                client.docker.start_container(engine_id, None),
            )
            .await;
        let started = match started {
            Err(error @ EngineError::Refused { .. }) => {
                Err(self.kept_port(&client.docker, client.kind, error).await)
            }
            other => other,
        };
        match started {
            Err(error @ (EngineError::Refused { .. } | EngineError::Failed { .. })) => {
                let found = self.inspect(&client.docker, engine_id).await.ok();
                match found.and_then(|found| found.config?.image) {
                    Some(image) => Err(self
                        .image_behind(error, &self.declared_as(&image), replace::At::Starting)
                        .await),
                    None => Err(error),
                }
            }
            other => other,
        }
    }

    async fn stop(&self, engine_id: &str, grace: Duration) -> Result<(), EngineError> {
        self.events.touch(engine_id);
        let client = self.client().await?;
        let options = StopContainerOptionsBuilder::default()
            .t(seconds(grace))
            .build();
        self.end(
            || format!("stop the container {}", short(engine_id)),
            grace + STOP_MARGIN,
            &[304, 404],
            client.awake(engine_id, || {
                client
                    .docker
                    .stop_container(engine_id, Some(options.clone()))
            }),
        )
        .await
    }

    async fn restart(&self, engine_id: &str, grace: Duration) -> Result<(), EngineError> {
        self.events.touch(engine_id);
        let client = self.client().await?;
        let options = RestartContainerOptionsBuilder::default()
            .t(seconds(grace))
            .build();
        self.call(
            || format!("restart the container {}", short(engine_id)),
            grace + SLOW_CALL,
            client.awake(engine_id, || {
                client
                    .docker
                    .restart_container(engine_id, Some(options.clone()))
            }),
        )
        .await
    }

    async fn signal(&self, engine_id: &str, signal: &str) -> Result<(), EngineError> {
        self.events.touch(engine_id);
        let client = self.client().await?;
        let name = if signal.starts_with("SIG") || signal.starts_with(|c: char| c.is_ascii_digit())
        {
            signal.to_owned()
        } else {
            format!("SIG{signal}")
        };
        let options = KillContainerOptionsBuilder::default().signal(&name).build();
        self.call(
            || format!("send {name} to the container {}", short(engine_id)),
            CALL,
            client.docker.kill_container(engine_id, Some(options)),
        )
        .await
    }

    async fn remove(&self, engine_id: &str) -> Result<(), EngineError> {
        self.events.touch(engine_id);
        let client = self.client().await?;
        // `v` takes the anonymous volumes along, which nothing could name again; named ones stay.
        let options = RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(true)
            .build();
        self.probes.borrow_mut().remove(engine_id);
        self.end(
            || format!("remove the container {}", short(engine_id)),
            SLOW_CALL,
            &[404],
            client.docker.remove_container(engine_id, Some(options)),
        )
        .await
    }

    async fn set_restart(&self, engine_id: &str, policy: &str) -> Result<(), EngineError> {
        self.events.touch(engine_id);
        let client = self.client().await?;
        let body = ContainerUpdateBody {
            restart_policy: Some(create::restart_policy(policy)),
            ..ContainerUpdateBody::default()
        };
        let what = || {
            format!(
                "set the restart policy of the container {}",
                short(engine_id)
            )
        };
        let asked = self
            .call(what, CALL, client.docker.update_container(engine_id, body))
            .await;
        match (asked, client.kind) {
            (Ok(_), _) => Ok(()),
            (Err(down @ EngineError::Down { .. }), _) => Err(down),
            (Err(refused), Kind::Docker) => Err(refused),
            (Err(refused), Kind::Podman) => {
                // Podman before 5.1 cannot. Then the container was made with its declared policy.
                let found = self
                    .call(what, CALL, self.inspect(&client.docker, engine_id))
                    .await?;
                let stands: Option<RestartPolicy> =
                    found.host_config.and_then(|config| config.restart_policy);
                if observe::policy_text(stands.as_ref()) == policy {
                    Ok(())
                } else {
                    Err(refused)
                }
            }
        }
    }

    async fn run_in(
        &self,
        engine_id: &str,
        command: &[String],
        timeout: Duration,
    ) -> Result<Result<(), String>, EngineError> {
        let client = self.client().await?;
        self.run_inside(&client, engine_id, command, timeout).await
    }

    async fn has_inside(&self, engine_id: &str, path: &str) -> Result<bool, EngineError> {
        self.look_inside(engine_id, path).await
    }

    async fn health(
        &self,
        container: &ObservedContainer,
        service: &Service,
    ) -> Result<Checkup, EngineError> {
        self.health_now(container, service).await
    }
}
