//! How a changed container takes the old one's place.
//!
//! Owns `deploy.update_config.order`. Refuses `start-first` where two containers of the service cannot run beside each other.

use serde::{Deserialize, Serialize};

use super::{NetworkMode, Service, UpdateConfig, read};
use crate::diagnostic::Diagnostics;
use crate::node::Node;

/// Compose's `deploy.update_config.order`, and one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    /// The new one is made, then the old one stops, then the new one starts.
    #[default]
    StopFirst,
    /// The new one is healthy before the old one stops.
    StartFirst,
    /// The old one is gone before the new one is made.
    Recreate,
}

/// The words of `order`.
pub(super) const ORDERS: &[&str] = &["stop-first", "start-first", "recreate"];

impl Service {
    /// How a changed container of this service takes the old one's place.
    #[must_use]
    pub fn update_order(&self) -> UpdateOrder {
        self.deploy
            .as_ref()
            .and_then(|deploy| deploy.update_config.as_ref())
            .map_or(UpdateOrder::default(), |update| update.order)
    }
}

pub(super) fn order(node: &Node, out: &mut Diagnostics) -> Option<UpdateConfig> {
    let order = match read::word(node, "order", ORDERS, out)?.as_str() {
        "start-first" => UpdateOrder::StartFirst,
        "recreate" => UpdateOrder::Recreate,
        _ => UpdateOrder::StopFirst,
    };
    Some(UpdateConfig { order })
}

/// Reports what keeps two containers of a service from running beside each other, where its update asks for that.
pub(super) fn judge(node: &Node, service: &Service, out: &mut Diagnostics) {
    if service.update_order() != UpdateOrder::StartFirst {
        return;
    }
    let mut hindrances: Vec<(&str, String)> = Vec::new();
    if let Some(port) = service.ports.iter().find_map(|port| port.published) {
        hindrances.push(("ports", format!("publishes port {port} of the host")));
    }
    if let Some(name) = &service.container_name {
        hindrances.push(("container_name", format!("has the fixed name `{name}`")));
    }
    if service.network_mode == Some(NetworkMode::Host) {
        hindrances.push(("network_mode", "is in the host's network".to_owned()));
    }
    for (network, joined) in &service.networks {
        let fixed = [
            &joined.ipv4_address,
            &joined.ipv6_address,
            &joined.mac_address,
        ];
        if let Some(address) = fixed.into_iter().flatten().next() {
            hindrances.push((
                "networks",
                format!("has the fixed address {address} in the network `{network}`"),
            ));
        }
    }
    for (key, why) in hindrances {
        node.get(key).unwrap_or(node).error_with_help(
            out,
            format!(
                "with `order: start-first` the new container runs beside the old one, and this service {why}, which only one can have"
            ),
            "use `stop-first`, or put a proxy that has it before the service",
        );
    }
}
