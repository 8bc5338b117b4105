//! What the demo itself asks of the engine: to take its image, to tell about containers, to forget all of it.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};
use bollard::Docker;
use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptionsBuilder,
};
use futures_util::TryStreamExt as _;

use super::archive::Archive;

/// Long enough for a slow disk to take a debug build.
const ENGINE_TIMEOUT_SECONDS: u64 = 120;

/// The name of the image, before its tag.
const REPOSITORY: &str = "evenkeel-demo";

/// The name under which [`DemoEngine::import`] leaves its image.
pub(super) fn name(tag: &str) -> String {
    format!("{REPOSITORY}:{tag}")
}

/// The engine, for what the demo itself asks of it.
#[derive(Debug, Clone)]
pub(super) struct DemoEngine {
    docker: Docker,
    /// `unix:///...`, for the device's configuration.
    pub(super) socket: String,
    /// `Docker 28.2.2`.
    pub(super) name: String,
}

/// A container as the engine tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Container {
    /// The engine's id.
    pub(super) id: String,
    /// `running`, `exited`, ...
    pub(super) state: String,
    /// When it was started.
    pub(super) started: String,
}

impl Container {
    /// The first digits of the id.
    pub(super) fn short(&self) -> &str {
        self.id.get(..10).unwrap_or(&self.id)
    }
}

/// Sockets to try, in the agent's own order.
fn candidates() -> Vec<String> {
    let mut sockets = vec![
        "unix:///var/run/docker.sock".to_owned(),
        "unix:///run/podman/podman.sock".to_owned(),
    ];
    if let Ok(runtime) = std::env::var("XDG_RUNTIME_DIR") {
        sockets.push(format!("unix://{runtime}/podman/podman.sock"));
    }
    sockets
}

impl DemoEngine {
    /// The engine at `socket`.
    ///
    /// # Errors
    /// Nobody answers there.
    pub(super) async fn connect(socket: &str) -> Result<Self> {
        let unreachable = || format!("no container engine answers at {socket}");
        let docker = Docker::connect_with_socket(
            socket,
            ENGINE_TIMEOUT_SECONDS,
            bollard::API_DEFAULT_VERSION,
        )
        .with_context(unreachable)?
        .negotiate_version()
        .await
        .with_context(unreachable)?;
        let version = docker.version().await?;
        let podman = version
            .components
            .iter()
            .flatten()
            .any(|component| component.name.contains("Podman"));
        let brand = if podman { "Podman" } else { "Docker" };
        Ok(Self {
            docker,
            socket: socket.to_owned(),
            name: format!("{brand} {}", version.version.unwrap_or_default()),
        })
    }

    /// The first engine that answers, Docker's before Podman's.
    pub(super) async fn find() -> Option<Self> {
        for socket in candidates() {
            if let Ok(engine) = Self::connect(&socket).await {
                return Some(engine);
            }
        }
        None
    }

    /// Makes an image of our own binary; its id.
    ///
    /// # Errors
    /// The engine does not take it.
    pub(super) async fn import(&self, tag: &str) -> Result<String> {
        let archive = Archive::of_ourselves().context("cannot read our own program")?;
        let name = name(tag);
        let options = CreateImageOptionsBuilder::default()
            .from_src("-")
            // With its tag: Podman takes no notice of a separate one.
            .repo(&name)
            .build();
        let body = bollard::body_try_stream(archive.stream().map_ok(Into::into));
        self.docker
            .create_image(Some(options), Some(body), None)
            .try_for_each(|_| async { Ok(()) })
            .await
            .context("the engine does not take the demo's image")?;
        let image = self.docker.inspect_image(&name).await?;
        match image.id {
            // Podman tells the bare digits.
            Some(id) if id.starts_with("sha256:") => Ok(id),
            Some(id) => Ok(format!("sha256:{id}")),
            None => bail!("the engine took the image {name} and tells no id for it"),
        }
    }

    /// One container, by name or id; `None` where there is none.
    ///
    /// # Errors
    /// The engine does not answer.
    pub(super) async fn inspect(&self, name: &str) -> Result<Option<Container>> {
        let seen = match self.docker.inspect_container(name, None).await {
            Ok(seen) => seen,
            Err(bollard::errors::Error::DockerResponseServerError {
                status_code: 404, ..
            }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let state = seen.state.unwrap_or_default();
        Ok(Some(Container {
            id: seen.id.unwrap_or_default(),
            state: state
                .status
                .map(|status| status.to_string())
                .unwrap_or_default(),
            started: state
                .started_at
                .map(|time| time.to_string())
                .unwrap_or_default(),
        }))
    }

    /// Runs a command inside a container to its end; its exit code.
    ///
    /// # Errors
    /// The engine does not do it.
    pub(super) async fn exec(&self, id: &str, command: &[&str]) -> Result<Option<i64>> {
        let config = ExecConfig {
            cmd: Some(command.iter().map(|&word| word.to_owned()).collect()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..ExecConfig::default()
        };
        let exec = self.docker.create_exec(id, config).await?.id;
        if let StartExecResults::Attached { output, .. } =
            self.docker.start_exec(&exec, None).await?
        {
            // Its output ends when it does.
            output.try_for_each(|_| async { Ok(()) }).await?;
        }
        Ok(self.docker.inspect_exec(&exec).await?.exit_code)
    }

    /// Stops a container, as a person would by hand.
    ///
    /// # Errors
    /// The engine does not do it.
    pub(super) async fn stop(&self, name: &str) -> Result<()> {
        Ok(self.docker.stop_container(name, None).await?)
    }

    /// Removes a container, running or not.
    ///
    /// # Errors
    /// The engine does not do it.
    pub(super) async fn remove(&self, name: &str) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(true)
            .build();
        Ok(self.docker.remove_container(name, Some(options)).await?)
    }

    /// Removes everything that the demo left in the engine: containers of its image, then networks and volumes that
    /// carry the device's id as a label, then the image. What was removed, for people; what could not be, as errors.
    pub(super) async fn clean(&self, image: &str, device: &str) -> (Vec<String>, Vec<String>) {
        let mut removed = Vec::new();
        let mut failed = Vec::new();
        let mut note = |what: &str, done: Result<()>| match done {
            Ok(()) => removed.push(what.to_owned()),
            Err(error) => failed.push(format!("{what}: {error:#}")),
        };
        let ours = |labels: Option<HashMap<String, String>>| {
            labels
                .into_iter()
                .flatten()
                .any(|(_, value)| value == device)
        };
        let options = ListContainersOptionsBuilder::default().all(true).build();
        match self.docker.list_containers(Some(options)).await {
            Ok(containers) => {
                for one in containers {
                    // Podman tells image ids without their algorithm.
                    let runs_it = one.image_id.is_some_and(|id| {
                        image.trim_start_matches("sha256:") == id.trim_start_matches("sha256:")
                    });
                    if let Some(id) = one.id.filter(|_| runs_it || ours(one.labels)) {
                        note("container", self.remove(&id).await);
                    }
                }
            }
            Err(error) => note("containers", Err(error.into())),
        }
        if let Ok(networks) = self.docker.list_networks(None).await {
            for network in networks.into_iter().filter(|one| ours(one.labels.clone())) {
                let name = network.name.unwrap_or_default();
                let done = self.docker.remove_network(&name).await;
                note("network", done.map_err(Into::into));
            }
        }
        let volumes = self
            .docker
            .list_volumes(None::<bollard::query_parameters::ListVolumesOptions>)
            .await;
        for volume in volumes
            .ok()
            .and_then(|list| list.volumes)
            .unwrap_or_default()
        {
            if ours(Some(volume.labels)) {
                let done = self
                    .docker
                    .remove_volume(
                        &volume.name,
                        None::<bollard::query_parameters::RemoveVolumeOptions>,
                    )
                    .await;
                note("volume", done.map_err(Into::into));
            }
        }
        let options = RemoveImageOptionsBuilder::default().force(true).build();
        let done = self.docker.remove_image(image, Some(options), None).await;
        match done {
            Err(bollard::errors::Error::DockerResponseServerError {
                status_code: 404, ..
            }) => {}
            done => note("image", done.map(|_| ()).map_err(Into::into)),
        }
        (removed, failed)
    }
}
