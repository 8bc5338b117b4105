//! Looks at containers, in the words of more engines than the API's types know.
//!
//! Podman answers with states of its own: `stopped` between a process's end and its clean-up, `initialized`, `unknown`.
//! The API's types refuse an answer with a word that is not theirs, and one container (a stranger's too) would hide all
//! others. Such an answer is asked for once more, and read with the word that means the same.

use std::io;

use bollard::Docker;
use bollard::errors::Error as ApiError;
use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary};
use bollard::query_parameters::ListContainersOptionsBuilder;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::BollardEngine;

/// Some kilobytes a container: this is far more than a device runs.
const MOST_BYTES: u64 = 32 << 20;

impl BollardEngine {
    /// All containers, running or not.
    pub(super) async fn list(&self, docker: &Docker) -> Result<Vec<ContainerSummary>, ApiError> {
        let all = ListContainersOptionsBuilder::default().all(true).build();
        match docker.list_containers(Some(all)).await {
            Err(ApiError::JsonDataError { .. }) => {
                self.reread(docker, "/containers/json?all=true").await
            }
            other => other,
        }
    }

    /// One container.
    pub(super) async fn inspect(
        &self,
        docker: &Docker,
        engine_id: &str,
    ) -> Result<ContainerInspectResponse, ApiError> {
        match docker.inspect_container(engine_id, None).await {
            Err(ApiError::JsonDataError { .. }) => {
                self.reread(docker, &format!("/containers/{engine_id}/json"))
                    .await
            }
            other => other,
        }
    }

    async fn reread<T: DeserializeOwned>(
        &self,
        docker: &Docker,
        path: &str,
    ) -> Result<T, ApiError> {
        let stream = self.request(docker, path).await?;
        let mut answer = Vec::new();
        stream.take(MOST_BYTES).read_to_end(&mut answer).await?;
        let mut document: Value = serde_json::from_slice(body(&answer)?)?;
        translate(&mut document);
        // As text again: the API's types are read from bytes everywhere else, and reading them from a `Value` is that
        // code once more, 72 kB of it.
        Ok(serde_json::from_slice(document.to_string().as_bytes())?)
    }
}

impl BollardEngine {
    /// Asks for what the API's types do not read.
    pub(super) async fn request(&self, docker: &Docker, path: &str) -> io::Result<UnixStream> {
        let version = docker.client_version();
        let mut stream = UnixStream::connect(self.socket()).await?;
        // HTTP/1.0: the answer comes in one piece and ends with the connection.
        let request = format!(
            "GET /v{}.{}{path} HTTP/1.0\r\nHost: engine\r\n\r\n",
            version.major_version, version.minor_version
        );
        stream.write_all(request.as_bytes()).await?;
        Ok(stream)
    }
}

/// A text as part of a query.
pub(super) fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// The body of an answer; an answer that is not 200 is the engine's error.
fn body(answer: &[u8]) -> Result<&[u8], ApiError> {
    const END_OF_HEAD: &[u8] = b"\r\n\r\n";
    let broken = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let head = answer
        .windows(END_OF_HEAD.len())
        .position(|bytes| bytes == END_OF_HEAD)
        .ok_or_else(broken)?;
    let body = &answer[head + END_OF_HEAD.len()..];
    let status = String::from_utf8_lossy(&answer[..head])
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse::<u16>().ok())
        .ok_or_else(broken)?;
    if status == 200 {
        Ok(body)
    } else {
        Err(ApiError::DockerResponseServerError {
            status_code: status,
            message: String::from_utf8_lossy(body).trim().to_owned(),
        })
    }
}

/// A list has the state as text beside the container, a look at one has it inside `State`.
fn translate(document: &mut Value) {
    match document {
        Value::Array(containers) => containers.iter_mut().for_each(translate),
        Value::Object(container) => match container.get_mut("State") {
            Some(Value::String(word)) => known(word),
            Some(Value::Object(state)) => {
                if let Some(Value::String(word)) = state.get_mut("Status") {
                    known(word);
                }
            }
            Some(_) | None => {}
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn known(word: &mut String) {
    let meant = match word.as_str() {
        "stopped" => "exited",
        "configured" | "initialized" => "created",
        other if other.parse::<ContainerStateStatusEnum>().is_ok() => return,
        _ => "",
    };
    meant.clone_into(word);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use bollard::models::ContainerSummaryStateEnum as InList;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_is_read_whole_whatever_state_one_container_is_in() {
        let words = [
            ("running", InList::RUNNING),
            ("exited", InList::EXITED),
            ("stopped", InList::EXITED),
            ("initialized", InList::CREATED),
            ("stopping", InList::STOPPING),
            ("a-word-of-tomorrow", InList::EMPTY),
        ];
        let mut list: Value = words
            .iter()
            .map(|(word, _)| json!({ "Id": "x", "State": word }))
            .collect();
        translate(&mut list);
        let read: Vec<ContainerSummary> = serde_json::from_value(list).unwrap();
        let read: Vec<_> = read.into_iter().map(|found| found.state.unwrap()).collect();
        let expected: Vec<_> = words.iter().map(|(_, meant)| *meant).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn a_container_that_podman_calls_stopped_has_exited() {
        let mut one = json!({ "State": { "Status": "stopped", "ExitCode": 3 } });
        translate(&mut one);
        let read: ContainerInspectResponse = serde_json::from_value(one).unwrap();
        let state = read.state.unwrap();
        assert_eq!(state.status, Some(ContainerStateStatusEnum::EXITED));
        assert_eq!(state.exit_code, Some(3));
    }

    #[test]
    fn only_an_answer_of_200_has_a_body() {
        assert_eq!(body(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n[]").unwrap(), b"[]");
        let refused = body(b"HTTP/1.0 404 Not Found\r\n\r\nno such container").unwrap_err();
        assert_eq!(crate::adapter::engine::status(&refused), Some(404));
        assert!(body(b"HTTP/1.0 200 OK\r\n").is_err());
        assert!(body(b"").is_err());
    }
}
