//! Services, networks and volumes as `docker compose config --format json` prints them.

use serde_json::{Value, json};

use super::{Network, Service, Volume};
use crate::name::{AppName, ServiceName};

/// A service in Compose's long form.
#[must_use]
pub fn compose_json(service: &Service) -> Value {
    serde_json::to_value(service).expect("maps have string keys and numbers are finite")
}

fn named(mut value: Value, name: String) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.entry("name").or_insert(json!(name));
    }
    value
}

/// A network in Compose's long form, with its name in the engine.
#[must_use]
pub fn network_json(app: &AppName, key: &ServiceName, network: &Network) -> Value {
    let value = serde_json::to_value(network).expect("maps have string keys");
    named(value, network_name(app, key, network))
}

/// A volume in Compose's long form, with its name in the engine.
#[must_use]
pub fn volume_json(app: &AppName, key: &ServiceName, volume: &Volume) -> Value {
    let value = serde_json::to_value(volume).expect("maps have string keys");
    named(value, volume_name(app, key, volume))
}

/// A network's name in the engine: `<app>_<key>`, unless it names one, or is external.
#[must_use]
pub fn network_name(app: &AppName, key: &ServiceName, network: &Network) -> String {
    match &network.name {
        Some(name) => name.clone(),
        None if network.external => key.to_string(),
        None => format!("{app}_{key}"),
    }
}

/// A volume's name in the engine: `<app>_<key>`, unless it names one, or is external.
#[must_use]
pub fn volume_name(app: &AppName, key: &ServiceName, volume: &Volume) -> String {
    match &volume.name {
        Some(name) => name.clone(),
        None if volume.external => key.to_string(),
        None => format!("{app}_{key}"),
    }
}
