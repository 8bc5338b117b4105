//! What the planner reads of Compose's declarations, in one place: names in the engine, `external`, and how services
//! hang together.
//!
//! Limits: none of its own; what a declaration may say is the schema's business.

use std::collections::BTreeSet;

use evenkeel_schema::name::{AppName, ServiceName};
use evenkeel_schema::path::AbsPath;
use evenkeel_schema::service::{Mount, Service, Volume, VolumeExtension};
use serde::Serialize;
use serde_json::Value;

use crate::domain::desired::{DesiredApp, DesiredState};
use crate::domain::resource::ServiceId;
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

/// The hash of a volume's declaration: when it ends is no part of what it is.
pub(super) fn volume_hash(volume: &Volume) -> String {
    config_hash(&Volume {
        extension: VolumeExtension::default(),
        ..volume.clone()
    })
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

/// Paths that a service mounts from the device: its bind mounts, its configs and its secrets.
pub(super) fn bind_sources(id: &ServiceId, service: &Service) -> Vec<AbsPath> {
    let binds = service.volumes.iter().filter_map(|mount| match mount {
        Mount::Bind { source, .. } => Some(source.clone()),
        Mount::Volume { .. } | Mount::Tmpfs { .. } => None,
    });
    let files = service.mounted_files(&id.app, &id.service);
    binds
        .chain(files.into_iter().map(|file| file.path))
        .collect()
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

/// What has dependencies, in the order in which it begins: dependencies first, then by name. A cycle (which is refused
/// where it is declared) loses nothing: what is in it comes last, by name.
fn in_order<'n, N: Ord, D: Iterator<Item = &'n N>>(
    all: BTreeSet<&'n N>,
    needs: impl Fn(&'n N) -> D,
) -> Vec<&'n N> {
    let mut order: Vec<&N> = Vec::with_capacity(all.len());
    let mut left: Vec<&N> = all.iter().copied().collect();
    while !left.is_empty() {
        let free = left.iter().position(|name| {
            needs(name).all(|needed| !all.contains(needed) || order.contains(&needed))
        });
        order.push(left.remove(free.unwrap_or(0)));
    }
    order
}

/// The services of an app in the order in which they start. Hooks are none of them.
pub(super) fn start_order(app: &DesiredApp) -> Vec<&ServiceName> {
    in_order(app.standing().map(|(name, _)| name).collect(), |name| {
        app.services[name].depends_on.keys()
    })
}

/// The apps of a state in the order in which they begin: after those that they require.
#[must_use]
pub fn app_order(desired: &DesiredState) -> Vec<&AppName> {
    in_order(desired.apps.keys().collect(), |app| {
        desired.apps[app].requires.iter()
    })
}

/// Every service of a state in the order in which it starts.
#[must_use]
pub fn order(desired: &DesiredState) -> Vec<ServiceId> {
    app_order(desired)
        .into_iter()
        .flat_map(|app| {
            start_order(&desired.apps[app])
                .into_iter()
                .map(|service| ServiceId {
                    app: app.clone(),
                    service: service.clone(),
                })
        })
        .collect()
}
