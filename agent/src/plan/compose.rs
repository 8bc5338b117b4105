//! What the planner reads of Compose's declarations, in one place: names in the engine, `external`, and how services
//! hang together.
//!
//! Limits: none of its own; what a declaration may say is the schema's business.

use std::collections::BTreeMap;

use evenkeel_schema::name::{AppName, ServiceName};
use evenkeel_schema::service::{Dependency, Network, Restart, Service};
use serde::Serialize;
use serde_json::Value;

use crate::domain::revision::ContentId;

/// A declaration in the long form that Compose prints.
fn long_form<T: Serialize>(declaration: &T) -> Value {
    serde_json::to_value(declaration)
        .expect("a declaration's keys are strings, so JSON can express it")
}

/// Whether something else makes it, and we only use it.
pub(super) fn is_external<T: Serialize>(declaration: &T) -> bool {
    long_form(declaration)["external"] == Value::Bool(true)
}

/// A network's name in the engine: the one it declares, else Compose's `<project>_<key>`.
pub(super) fn network_name(app: &AppName, key: &str, network: &Network) -> String {
    match &network.name {
        Some(name) => name.clone(),
        // One that exists already goes by its own key.
        None if network.external => key.to_owned(),
        None => format!("{app}_{key}"),
    }
}

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
    let mut value = long_form(declaration);
    prune(&mut value);
    let text = value.to_string();
    ContentId::of(text.as_bytes()).as_str().to_owned()
}

/// Whether a dependency's `restart: true` is set.
pub(super) fn restarts_with(dependency: &Dependency) -> bool {
    long_form(dependency)["restart"] == Value::Bool(true)
}

/// Whether a dependant waits for this dependency to end well.
pub(super) fn waits_for_end(dependency: &Dependency) -> bool {
    long_form(dependency)["condition"] == "service_completed_successfully"
}

/// Sources of a service's bind mounts.
pub(super) fn bind_sources(service: &Service) -> Vec<String> {
    let form = long_form(service);
    let mut sources = Vec::new();
    for mount in form["volumes"].as_array().into_iter().flatten() {
        if mount["type"] == "bind"
            && let Some(source) = mount["source"].as_str()
        {
            sources.push(source.to_owned());
        }
    }
    sources
}

/// The engine's restart policy for a declaration.
pub(super) fn restart_policy(restart: Restart) -> String {
    match restart {
        Restart::No => "no".to_owned(),
        Restart::Always => "always".to_owned(),
        Restart::OnFailure(None) => "on-failure".to_owned(),
        Restart::OnFailure(Some(times)) => format!("on-failure:{times}"),
        Restart::UnlessStopped => "unless-stopped".to_owned(),
    }
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
