//! The device's configuration, as its file and the command line say it.

use std::path::Path;

use evenkeel_schema::agent_config::{self, AgentConfig};

use super::ConfigArgs;
use super::device::{Failure, read};

/// The device's configuration.
pub(super) fn configuration(args: &ConfigArgs) -> Result<AgentConfig, Failure> {
    let mut config = configuration_at(&args.config)?;
    if let Some(from) = &args.from {
        config.source.urls = vec![local_remote(from)?];
    }
    Ok(config)
}

/// A repository on this machine as an address. What comes from there is verified like anything else.
pub(super) fn local_remote(dir: &Path) -> Result<String, Failure> {
    let cannot = |why: &str| {
        Failure::usage(format!(
            "--from: {} is no git repository or published tree on this machine: {why}",
            dir.display()
        ))
    };
    let dir = std::fs::canonicalize(dir).map_err(|error| cannot(&error.to_string()))?;
    if !dir.is_dir() {
        return Err(cannot("it is not a directory"));
    }
    let text = dir
        .to_str()
        .ok_or_else(|| cannot("its path is not UTF-8"))?;
    Ok(text.to_owned())
}

/// The configuration in a file.
pub(super) fn configuration_at(path: &Path) -> Result<AgentConfig, Failure> {
    let bytes = read(path).map_err(|error| {
        Failure::usage(format!(
            "cannot read the configuration {}: {error}\nhint: write it, or name it with --config PATH",
            path.display()
        ))
    })?;
    agent_config::parse(&path.display().to_string(), &bytes)
        .map_err(|problems| Failure::usage(problems.to_string()))
}
