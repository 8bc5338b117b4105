//! The demo's device: a directory for its root and its state, and our own binary run as any user would run it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::process::Command;

/// The gates of the demo's apps end well before; a command that takes longer hangs.
const LONGEST_COMMAND: Duration = Duration::from_secs(90);

/// A device below a temporary directory.
#[derive(Debug)]
pub(super) struct Device {
    /// Its id.
    pub(super) id: String,
    root: PathBuf,
    config: PathBuf,
}

/// What a command of ours answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its exit code; 255 where a signal ended it.
    pub(super) code: u8,
    /// Its answer.
    pub(super) stdout: String,
    /// Its talk.
    pub(super) stderr: String,
}

/// `evenkeel`, this very program. The path leads to it even where the file was replaced while we run.
pub(super) fn ourselves() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("evenkeel").kill_on_drop(true);
    command
}

impl Device {
    /// Writes its configuration.
    ///
    /// # Errors
    /// The disk does not take it.
    pub(super) fn create(
        dir: &Path,
        id: &str,
        server: std::net::SocketAddr,
        allowed_signers: &Path,
        socket: Option<&str>,
    ) -> Result<Self> {
        let root = dir.join("root");
        std::fs::create_dir(&root)?;
        let config = dir.join("agent.toml");
        let engine = socket
            .map(|socket| format!("\n[engine]\nsocket = \"{socket}\"\n"))
            .unwrap_or_default();
        let text = format!(
            "state_dir = \"{dir}/state\"\nroot = \"{dir}/root\"\n\n\
             [device]\nid = \"{id}\"\n\n\
             [source]\nurl = \"http://{server}/fleet.git\"\nbranch = \"{branch}\"\n\n\
             [trust]\nallowed_signers = \"{signers}\"\n{engine}",
            dir = dir.display(),
            branch = super::fleet::BRANCH,
            signers = allowed_signers.display(),
        );
        std::fs::write(&config, text)?;
        Ok(Self {
            id: id.to_owned(),
            root,
            config,
        })
    }

    /// Runs `evenkeel WORDS --config ...` to its end.
    ///
    /// # Errors
    /// It cannot be run, or hangs.
    pub(super) async fn evenkeel(&self, words: &[&str]) -> Result<Answer> {
        let mut command = ourselves();
        command
            .args(words)
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .env_remove("NOTIFY_SOCKET");
        let output = tokio::time::timeout(LONGEST_COMMAND, command.output())
            .await
            .with_context(|| format!("`evenkeel {}` does not end", words.join(" ")))?
            .with_context(|| format!("cannot run `evenkeel {}`", words.join(" ")))?;
        Ok(Answer {
            code: output
                .status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(u8::MAX),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// `evenkeel status --json`.
    ///
    /// # Errors
    /// It fails, or its answer is not JSON.
    pub(super) async fn status(&self) -> Result<Status> {
        let answer = self.evenkeel(&["status", "--json"]).await?;
        if answer.code != 0 {
            bail!(
                "`evenkeel status --json` ends with {}: {}",
                answer.code,
                answer.stderr.trim()
            );
        }
        let value = serde_json::from_str(&answer.stdout)
            .context("`evenkeel status --json` does not print JSON")?;
        Ok(Status(value))
    }

    /// Where a declared path is on this machine.
    pub(super) fn path(&self, declared: &str) -> PathBuf {
        self.root.join(declared.trim_start_matches('/'))
    }

    /// A managed file's content, or what kept it from being read.
    pub(super) fn read(&self, declared: &str) -> String {
        std::fs::read_to_string(self.path(declared)).unwrap_or_else(|error| format!("({error})"))
    }
}

/// The answer of `status --json`.
#[derive(Debug)]
pub(super) struct Status(Value);

impl Status {
    /// A text in it by its place: `/revision/applied`.
    pub(super) fn text(&self, pointer: &str) -> String {
        match self.0.pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => "(nothing)".to_owned(),
        }
    }

    /// One service's field (`container`, `health`, ...).
    pub(super) fn service(&self, app: &str, service: &str, field: &str) -> Option<String> {
        let named = |list: &Value, name: &str| -> Option<Value> {
            list.as_array()?
                .iter()
                .find(|one| one["name"] == name)
                .cloned()
        };
        let app = named(&self.0["apps"], app)?;
        let service = named(&app["services"], service)?;
        service[field].as_str().map(str::to_owned)
    }

    /// Status and reason of one condition.
    pub(super) fn condition(&self, kind: &str) -> Option<(String, String)> {
        let one = self.0["conditions"]
            .as_array()?
            .iter()
            .find(|one| one["type"] == kind)?;
        Some((
            one["status"].as_str()?.to_owned(),
            one["reason"].as_str()?.to_owned(),
        ))
    }

    /// Every condition, in one line.
    pub(super) fn conditions(&self) -> String {
        let list = self.0["conditions"].as_array().cloned().unwrap_or_default();
        list.iter()
            .map(|one| {
                format!(
                    "{}={}({})",
                    one["type"].as_str().unwrap_or("?"),
                    one["status"].as_str().unwrap_or("?"),
                    one["reason"].as_str().unwrap_or("?")
                )
            })
            .collect::<Vec<_>>()
            .join(" ")
    }
}
