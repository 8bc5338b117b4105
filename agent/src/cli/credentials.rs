//! Where the credentials of the service lie: `credential:NAME` in agent.toml.
//!
//! systemd gives them to the service's own processes, in memory. Another process of root's finds the daemon's while that
//! runs; they are never copied anywhere.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use evenkeel_schema::agent_config::{AgentConfig, FileAt, SourceSection};

use super::device;

/// systemd.exec(5), CREDENTIALS.
const VARIABLE: &str = "CREDENTIALS_DIRECTORY";
/// Where the daemon's are, for a verb that runs outside of the service.
const OF_THE_DAEMON: &str = "/run/credentials/evenkeel.service";

/// What the service manager knows the sealed key of the device's identity by.
pub(super) const IDENTITY: &str = "evenkeel-identity";

fn directory() -> PathBuf {
    std::env::var_os(VARIABLE)
        .filter(|path| !path.is_empty())
        .map_or_else(|| PathBuf::from(OF_THE_DAEMON), PathBuf::from)
}

/// `[source]` with each file by its path.
pub(super) fn source(config: &AgentConfig) -> SourceSection {
    config.source.at_paths(&directory())
}

/// `engine.auth_file` by its path.
pub(super) fn registries(config: &AgentConfig) -> Option<PathBuf> {
    let file = config.engine.auth_file.as_ref()?;
    Some(file.path(&directory()))
}

/// The device's private key, whose sealed form is in `sealed`: as the service manager opened it for the service, or opened
/// for root now.
pub(super) fn identity(sealed: &Path) -> Result<Vec<u8>, String> {
    let opened = directory().join(IDENTITY);
    match device::read(&opened) {
        Ok(key) => return Ok(key),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("cannot read {}: {error}", opened.display())),
    }
    let done = Command::new("systemd-creds")
        .arg("decrypt")
        .arg(format!("--name={IDENTITY}"))
        .arg(sealed)
        .arg("-")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run systemd-creds: {error}"))?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(format!("systemd-creds decrypt: {}", said.trim()))
}

/// What a person should know of credentials that are named and not there.
pub(super) fn missing(config: &AgentConfig) -> Vec<String> {
    let directory = directory();
    let logins = match &config.engine.auth_file {
        Some(FileAt::Credential(name)) => Some(name),
        Some(FileAt::Path(_)) | None => None,
    };
    config
        .source
        .credentials()
        .into_iter()
        .chain(logins)
        .filter(|name| !directory.join(name.to_string()).exists())
        .map(|name| {
            format!(
                "the credential `{name}` is not in {}: the service gets it with LoadCredential={name}:PATH, and what does \
                 not run as that service has it only while that runs",
                directory.display()
            )
        })
        .collect()
}
