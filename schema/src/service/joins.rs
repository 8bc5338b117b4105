//! How a service hangs together with others: networks, namespaces, dependencies.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::is_false;
use crate::name::ServiceName;

/// A network that a service joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ServiceNetwork {
    /// More names of the service in that network.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub aliases: BTreeSet<String>,
    /// A fixed IPv4 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<String>,
    /// A fixed IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<String>,
    /// A fixed hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// Options of the network's driver for this container.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub driver_opts: BTreeMap<String, String>,
    /// Link-local addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub link_local_ips: Vec<String>,
    /// Networks are joined from the highest on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i64>,
    /// The network with the highest is the way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw_priority: Option<i64>,
}

/// Compose's `network_mode`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NetworkMode {
    /// The host's own network.
    Host,
    /// No network but loopback.
    None,
    /// The engine's default bridge.
    Bridge,
    /// The network of another service of this app.
    Service(ServiceName),
    /// The network of a container that somebody else made.
    Container(String),
}

impl TryFrom<String> for NetworkMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "host" => Ok(Self::Host),
            "none" => Ok(Self::None),
            "bridge" => Ok(Self::Bridge),
            other => match other.split_once(':') {
                Some(("service", name)) => name
                    .parse()
                    .map(Self::Service)
                    .map_err(|problem: crate::name::NameError| problem.to_string()),
                Some(("container", name)) => Ok(Self::Container(name.to_owned())),
                Some(_) | None => Err(format!("`{}` is not a network mode", other.escape_debug())),
            },
        }
    }
}

impl From<NetworkMode> for String {
    fn from(mode: NetworkMode) -> Self {
        match mode {
            NetworkMode::Host => "host".to_owned(),
            NetworkMode::None => "none".to_owned(),
            NetworkMode::Bridge => "bridge".to_owned(),
            NetworkMode::Service(name) => format!("service:{name}"),
            NetworkMode::Container(name) => format!("container:{name}"),
        }
    }
}

/// What a service waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The state that the other service must reach.
    pub condition: Condition,
    /// Whether the other service must exist.
    #[serde(default = "yes")]
    pub required: bool,
    /// Whether this service is restarted after the other one was.
    #[serde(default, skip_serializing_if = "is_false")]
    pub restart: bool,
}

const fn yes() -> bool {
    true
}

impl Default for Dependency {
    fn default() -> Self {
        Self {
            condition: Condition::Started,
            required: true,
            restart: false,
        }
    }
}

/// The state that another service must reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// It was started.
    #[serde(rename = "service_started")]
    Started,
    /// Its health check says healthy.
    #[serde(rename = "service_healthy")]
    Healthy,
    /// It ended with exit code 0.
    #[serde(rename = "service_completed_successfully")]
    Completed,
}
