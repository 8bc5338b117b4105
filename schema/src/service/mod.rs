//! The Compose Specification's service, network and volume: one model for `[services]` in app.toml and compose.yaml.
//!
//! The model is the long form; `Serialize` prints what `docker compose config --format json` prints.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::image::ImageRef;
use crate::name::ServiceName;

/// One container of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What runs.
    pub image: ImageRef,
    /// Services that come first.
    pub depends_on: BTreeMap<ServiceName, Dependency>,
    /// Environment of the process.
    pub environment: BTreeMap<String, String>,
    /// Capabilities added.
    pub cap_add: BTreeSet<String>,
    /// What the engine does when the process ends.
    pub restart: Restart,
    /// How the service's health is told.
    pub healthcheck: Option<Healthcheck>,
    /// How long to wait between the stop signal and SIGKILL; Compose's default is 10 s.
    pub stop_grace_period: Option<Duration>,
}

/// What a service waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {}

/// Compose's `restart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// Never.
    No,
    /// Whenever it ends.
    Always,
    /// When it fails; at most so often, where a number is given.
    OnFailure(Option<u32>),
    /// Always, but not after a person stopped it.
    UnlessStopped,
}

/// Compose's `healthcheck`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {}

/// A network of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Network {}

/// A volume of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Volume {}
