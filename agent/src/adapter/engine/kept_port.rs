//! A port that Docker keeps for nobody.
//!
//! While it starts a container, dockerd writes down the container's ports before it writes down what they belong to. A power cut
//! in between, and the next dockerd takes the ports for it, clears away what they belonged to, and never gives them back:
//! "port is already allocated", whatever is asked, until it is started once more. Seen with Docker 20.10 at two of the
//! fourteen writes of a container's start.

use std::path::Path;

use bollard::Docker;
use bollard::models::ContainerSummary;
use evenkeel_schema::agent_config::EngineRestart;

use super::{BollardEngine, CALL, Kind};
use crate::port::engine::EngineError;

/// Where the service that distributions bring listens.
const SOCKETS: [&str; 2] = ["/var/run/docker.sock", "/run/docker.sock"];

impl BollardEngine {
    /// The refusal to start a container, or that its port is kept for nobody.
    pub(super) async fn kept_port(
        &self,
        docker: &Docker,
        kind: Kind,
        error: EngineError,
    ) -> EngineError {
        let EngineError::Refused { what, cause } = error else {
            return error;
        };
        let (Some(port), Kind::Docker) = (taken_port(&cause.to_string()), kind) else {
            return EngineError::Refused { what, cause };
        };
        let listed = tokio::time::timeout(CALL, docker.list_containers(None)).await;
        let Ok(Ok(running)) = listed else {
            return EngineError::Refused { what, cause };
        };
        if let Some(holder) = running.iter().find(|one| publishes(one, port)) {
            return EngineError::Refused {
                what,
                cause: format!("{cause} (by the container {})", name(holder)).into(),
            };
        }
        let others = running
            .iter()
            .filter(|one| !self.is_ours(one))
            .map(name)
            .collect();
        EngineError::PortKept {
            port: port.to_string(),
            others,
            unit: unit(self.socket(), self.restart),
            cause,
        }
    }

    fn is_ours(&self, container: &ContainerSummary) -> bool {
        container
            .labels
            .as_ref()
            .and_then(|labels| labels.get(super::DEVICE))
            .is_some_and(|device| device == self.device.as_str())
    }
}

/// The unit of the engine behind a socket, where it is known and its owner lets it be restarted.
fn unit(socket: &Path, restart: EngineRestart) -> Option<&'static str> {
    let is_known = SOCKETS.iter().any(|known| socket == Path::new(known));
    match restart {
        EngineRestart::Auto => is_known.then_some("docker.service"),
        EngineRestart::Never => None,
    }
}

/// The port in Docker's words: `Bind for 0.0.0.0:8080 failed: port is already allocated`.
fn taken_port(said: &str) -> Option<u16> {
    let (before, _) = said.split_once(" failed: port is already allocated")?;
    let (_, address) = before.rsplit_once("Bind for ")?;
    address.rsplit_once(':')?.1.parse().ok()
}

fn publishes(container: &ContainerSummary, port: u16) -> bool {
    container
        .ports
        .iter()
        .flatten()
        .any(|published| published.public_port == Some(port))
}

fn name(container: &ContainerSummary) -> String {
    container
        .names
        .iter()
        .flatten()
        .next()
        .map_or("without a name", |name| name.trim_start_matches('/'))
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_service_that_is_known_and_may_be_restarted_is() {
        let at = |socket: &str, restart| unit(Path::new(socket), restart);
        for socket in SOCKETS {
            assert_eq!(at(socket, EngineRestart::Auto), Some("docker.service"));
            assert_eq!(at(socket, EngineRestart::Never), None);
        }
        let rootless = "/run/user/1000/docker.sock";
        assert_eq!(at(rootless, EngineRestart::Auto), None);
    }

    #[test]
    fn the_port_is_found_in_dockers_words_and_in_no_others() {
        let said = "driver failed programming external connectivity on endpoint web (e87963): Bind for 0.0.0.0:8080 failed: \
                    port is already allocated";
        assert_eq!(taken_port(said), Some(8080));
        assert_eq!(
            taken_port("Bind for :::443 failed: port is already allocated"),
            Some(443)
        );
        for other in [
            "listen tcp4 0.0.0.0:8080: bind: address already in use",
            "port is already allocated",
            "Bind for 0.0.0.0:x failed: port is already allocated",
        ] {
            assert_eq!(taken_port(other), None, "{other}");
        }
    }
}
