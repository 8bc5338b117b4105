//! What the planner reads of Compose's declarations, in one place: names in the engine, `external`, and how services
//! hang together.
//!
//! Limits: none of its own; what a declaration may say is the schema's business.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_schema::name::ServiceName;
use evenkeel_schema::path::AbsPath;
use evenkeel_schema::service::{Condition, Mount, Service};
use serde::Serialize;
use serde_json::Value;

use crate::domain::revision::ContentId;

/// Drops what says nothing (null, false, empty), so that a hash does not change because a newer agent knows one more
/// key.
fn prune(value: &mut Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) | Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => {
            for item in items.iter_mut() {
                prune(item);
            }
            !items.is_empty()
        }
        Value::Object(map) => {
            map.retain(|_, value| prune(value));
            !map.is_empty()
        }
    }
}

/// The hash of a network's or volume's declaration that its label carries.
pub(super) fn config_hash<T: Serialize>(declaration: &T) -> String {
    let mut value = serde_json::to_value(declaration)
        .expect("a declaration's keys are strings, so JSON can express it");
    prune(&mut value);
    ContentId::of(value.to_string().as_bytes())
        .as_str()
        .to_owned()
}

/// Whether another service waits for this one to end well.
pub(super) fn is_awaited(services: &BTreeMap<ServiceName, Service>, name: &ServiceName) -> bool {
    services.values().any(|service| {
        service
            .depends_on
            .get(name)
            .is_some_and(|dependency| dependency.condition == Condition::Completed)
    })
}

/// Sources of a service's bind mounts.
pub(super) fn bind_sources(service: &Service) -> impl Iterator<Item = &AbsPath> {
    service.volumes.iter().filter_map(|mount| match mount {
        Mount::Bind { source, .. } => Some(source),
        Mount::Volume { .. } | Mount::Tmpfs { .. } => None,
    })
}

/// Keys of the volumes that a service mounts.
pub(super) fn mounted_volumes(service: &Service) -> BTreeSet<&str> {
    service
        .volumes
        .iter()
        .filter_map(|mount| match mount {
            Mount::Volume { source, .. } => source.as_ref().map(ServiceName::as_str),
            Mount::Bind { .. } | Mount::Tmpfs { .. } => None,
        })
        .collect()
}

/// Services in the order in which they start: dependencies first, then by name. A cycle (which the schema refuses)
/// does not lose a service: what is in it comes last, by name.
pub(super) fn start_order(services: &BTreeMap<ServiceName, Service>) -> Vec<ServiceName> {
    let mut order: Vec<ServiceName> = Vec::with_capacity(services.len());
    let mut left: Vec<&ServiceName> = services.keys().collect();
    while !left.is_empty() {
        let free = left.iter().position(|name| {
            services[*name]
                .depends_on
                .keys()
                .all(|needed| !services.contains_key(needed) || order.contains(needed))
        });
        order.push(left.remove(free.unwrap_or(0)).clone());
    }
    order
}
