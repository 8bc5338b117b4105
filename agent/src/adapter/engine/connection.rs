//! The connection to an engine: made, negotiated, and which engine answers.

use std::future::Future;

use bollard::Docker;
use bollard::errors::Error as ApiError;

use super::judge::status;
use super::{BollardEngine, CALL, carried};
use crate::domain::oci::Platform;
use crate::port::engine::EngineError;

/// Deadlines are ours, one a call: the client's own is set out of the way.
const CLIENT_TIMEOUT_SECONDS: u64 = 24 * 60 * 60;
/// The oldest API that is spoken here: Docker 19.03, Podman 3. An older engine leaves out settings without a word.
const OLDEST_API: (usize, usize) = (1, 40);

/// A connection and what answers there.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) docker: Docker,
    pub(super) kind: Kind,
    /// What its images run on.
    pub(super) machine: Platform,
}

impl Client {
    /// Podman stops and restarts no paused container: where it refuses, the container is let go on, and asked again.
    pub(super) async fn awake<T, F: Future<Output = Result<T, ApiError>>>(
        &self,
        engine_id: &str,
        call: impl Fn() -> F,
    ) -> Result<T, ApiError> {
        match (call().await, self.kind) {
            (Err(error), Kind::Podman) if status(&error).is_some_and(|code| code >= 409) => {
                match self.docker.unpause_container(engine_id).await {
                    Ok(()) => call().await,
                    Err(_) => Err(error),
                }
            }
            (answer, Kind::Docker | Kind::Podman) => answer,
        }
    }
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("it speaks version {spoken} of the API, and {}.{} is the oldest that does: install a newer engine", OLDEST_API.0, OLDEST_API.1)]
    Old {
        /// As negotiated.
        spoken: String,
    },
}

/// Which engine answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Docker,
    Podman,
}

impl BollardEngine {
    /// The connection, made and negotiated where there is none.
    pub(super) async fn client(&self) -> Result<Client, EngineError> {
        if let Some(client) = self.client.borrow().as_ref() {
            return Ok(client.clone());
        }
        let connecting = async {
            let path = self.socket().display().to_string();
            let docker = Docker::connect_with_socket(
                &path,
                CLIENT_TIMEOUT_SECONDS,
                bollard::API_DEFAULT_VERSION,
            )?
            .negotiate_version()
            .await?;
            let spoken = docker.client_version();
            if (spoken.major_version, spoken.minor_version) < OLDEST_API {
                return Err(ConnectError::Old {
                    spoken: format!("{}.{}", spoken.major_version, spoken.minor_version),
                });
            }
            let version = docker.version().await?;
            let is_podman = version
                .components
                .iter()
                .flatten()
                .any(|component| component.name.to_ascii_lowercase().contains("podman"));
            let kind = if is_podman {
                Kind::Podman
            } else {
                Kind::Docker
            };
            let machine = carried::machine(version.os, version.arch);
            Ok::<_, ConnectError>(Client {
                docker,
                kind,
                machine,
            })
        };
        match tokio::time::timeout(CALL, connecting).await {
            Ok(Ok(client)) => {
                self.client.replace(Some(client.clone()));
                Ok(client)
            }
            Ok(Err(cause)) => Err(self.down(cause)),
            Err(late) => Err(self.down(late)),
        }
    }
}
