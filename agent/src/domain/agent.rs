//! The agent itself, as something that has versions.

use std::fmt;
use std::str::FromStr;

use evenkeel_schema::agent_release::{AgentVersion, Binary};
use serde::{Deserialize, Serialize};

/// Digits of the SHA-256 in a generation's name: enough to tell damage, and short enough to read.
const DIGITS: usize = 12;

/// One binary of the agent, by its name on the device: `<version>-<first 12 digits of its SHA-256>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(String);

/// A text that names no generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoGeneration;

impl Generation {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The version in it.
    #[must_use]
    pub fn version(&self) -> &str {
        self.0.rsplit_once('-').map_or("", |(version, _)| version)
    }
}

impl FromStr for Generation {
    type Err = NoGeneration;

    fn from_str(text: &str) -> Result<Self, NoGeneration> {
        let (version, digits) = text.rsplit_once('-').ok_or(NoGeneration)?;
        let good = version.parse::<AgentVersion>().is_ok()
            && digits.len() == DIGITS
            && digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        good.then(|| Self(text.to_owned())).ok_or(NoGeneration)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the repository declares for this device and this architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The version.
    pub version: AgentVersion,
    /// The binary.
    pub binary: Binary,
}

impl Release {
    /// Its name on the device.
    #[must_use]
    pub fn generation(&self) -> Generation {
        let digits = &self.binary.sha256.as_str()[..DIGITS];
        Generation(format!("{}-{digits}", self.version))
    }
}

/// What a verified commit says about the agent's version here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declared {
    /// Nothing: what runs, stays.
    Nothing,
    /// It cannot be told, and why: what runs, stays.
    Unknown(String),
    /// This.
    Release(Release),
}

/// What `status` tells of the agent itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentReport {
    /// The version that runs.
    pub version: String,
    /// The version that the repository declares for this device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<String>,
    /// Why that is not what runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}
