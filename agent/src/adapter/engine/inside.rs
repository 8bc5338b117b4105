//! What is asked inside a container: commands, and whether something is there.
//!
//! A command that takes longer than it may has failed; it is not ended, for the engine's API cannot.

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use bollard::query_parameters::ContainerArchiveInfoOptionsBuilder;
use futures_util::StreamExt as _;

use super::judge::status;
use super::{BollardEngine, CALL, Client, short};
use crate::domain::text;
use crate::port::engine::EngineError;

impl BollardEngine {
    /// Whether something is at a path.
    pub(super) async fn look_inside(&self, id: &str, path: &str) -> Result<bool, EngineError> {
        let client = self.client().await?;
        let at = ContainerArchiveInfoOptionsBuilder::default()
            .path(path)
            .build();
        let asked = async {
            match client.docker.get_container_archive_info(id, Some(at)).await {
                Ok(_) => Ok(true),
                Err(error) if status(&error) == Some(404) => Ok(false),
                Err(error) => Err(error),
            }
        };
        let what = || format!("look for {path} in the container {}", short(id));
        self.call(what, CALL, asked).await
    }

    /// Runs a command once.
    pub(super) async fn run_inside(
        &self,
        client: &Client,
        id: &str,
        command: &[String],
        timeout: Duration,
    ) -> Result<Result<(), String>, EngineError> {
        let what = || format!("run a command in the container {}", short(id));
        let mut said = Vec::new();
        let running = async {
            let config = ExecConfig {
                attach_stdout: Some(true),
                attach_stderr: Some(true),
                cmd: Some(command.to_vec()),
                ..ExecConfig::default()
            };
            let exec = client.docker.create_exec(id, config).await?.id;
            let options = StartExecOptions {
                detach: false,
                ..StartExecOptions::default()
            };
            if let StartExecResults::Attached { mut output, .. } =
                client.docker.start_exec(&exec, Some(options)).await?
            {
                while let Some(chunk) = output.next().await {
                    let chunk: LogOutput = chunk?;
                    said.extend_from_slice(chunk.as_ref());
                    said.drain(..said.len().saturating_sub(text::TAIL));
                }
            }
            let ended = client.docker.inspect_exec(&exec).await?;
            Ok::<_, bollard::errors::Error>(ended.exit_code.unwrap_or_default())
        };
        let ended = tokio::time::timeout(timeout, running).await;
        match ended {
            Ok(Ok(0)) => Ok(Ok(())),
            Ok(Ok(code)) => Ok(Err(text::ended(code, &said))),
            Err(_) => {
                let limit = evenkeel_schema::duration::text(timeout);
                let late = format!("did not end within {limit}");
                Ok(Err(match text::last_words(&said) {
                    Some(words) => format!("{late}: {words}"),
                    None => late,
                }))
            }
            Ok(Err(cause)) => match self.error(what(), cause) {
                down @ EngineError::Down { .. } => Err(down),
                // A program that is not in the container, or a container that just ended: it did not pass.
                error @ (EngineError::Refused { .. }
                | EngineError::Failed { .. }
                | EngineError::PortKept { .. }
                | EngineError::Damaged { .. }
                | EngineError::Image { .. }) => Ok(Err(format!(
                    "could not be run: {}",
                    text::last_words(text::chain(&error).as_bytes()).unwrap_or_default()
                ))),
            },
        }
    }
}
