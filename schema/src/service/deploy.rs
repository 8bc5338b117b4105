//! Compose's `deploy`, as far as it means something on one device.

use serde::{Deserialize, Serialize};

use super::{Gpu, UpdateOrder, wire};

/// The supported part of Compose's `deploy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Deploy {
    /// Limits and reservations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// How a changed container takes the old one's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_config: Option<UpdateConfig>,
}

/// Compose's `deploy.resources`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Resources {
    /// What it may use at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// What is kept for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservations: Option<Reservations>,
}

/// Compose's `deploy.resources.reservations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Reservations {
    /// Memory in bytes that is left to it where memory is short.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "wire::bytes")]
    pub memory: Option<u64>,
    /// GPUs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Gpu>,
}

/// Compose's `deploy.resources.limits`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Limits {
    /// Billionths of a CPU; Compose's `cpus`.
    #[serde(
        default,
        rename = "cpus",
        skip_serializing_if = "Option::is_none",
        with = "wire::cpus"
    )]
    pub nano_cpus: Option<u64>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "wire::bytes")]
    pub memory: Option<u64>,
    /// Processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<i64>,
}

/// Compose's `deploy.update_config`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateConfig {
    /// Which container goes first.
    pub order: UpdateOrder,
}
