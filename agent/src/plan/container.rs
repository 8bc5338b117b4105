//! One container: what its declaration makes us expect, beside what the engine shows.
//!
//! Owns the configuration hash on a container's label, and the comparison that sees a container which was changed by
//! hand while our labels are intact. What an image or an engine adds by itself is expected; what an engine does not
//! tell is not compared: a false difference would restart a container for ever.

mod compare;
mod surroundings;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;

use evenkeel_schema::app::OnChange;
use evenkeel_schema::name::{AppName, ServiceName};
use evenkeel_schema::path::AbsPath;
use evenkeel_schema::service::{Deploy, Mount, Network, Service, UpdateOrder, Volume, print};
use serde_json::json;

pub use compare::{Difference, differences};

use crate::domain::container::ContainerSpec;
use crate::domain::desired::{DesiredApp, DesiredFile, DesiredState};
use crate::domain::resource::ServiceId;
use crate::domain::revision::ContentId;

/// The container that a service of the desired state asks for; `None` where the state has no such service.
#[must_use]
pub fn spec(desired: &DesiredState, id: &ServiceId) -> Option<ContainerSpec> {
    let app = desired.apps.get(&id.app)?;
    let service = app.services.get(&id.service)?;
    let networks = service
        .networks
        .iter()
        .map(|(key, joined)| {
            let name = app.networks.get(key).map_or_else(
                || print::network_name(&id.app, key, &Network::default()),
                |declared| print::network_name(&id.app, key, declared),
            );
            let mut aliases = vec![id.service.to_string()];
            aliases.extend(service.replica.iter().map(|replica| replica.of.to_string()));
            aliases.extend(joined.aliases.iter().cloned());
            aliases.dedup();
            (name, aliases)
        })
        .collect();
    let mut volumes = BTreeMap::new();
    for mount in &service.volumes {
        if let Mount::Volume {
            source: Some(key), ..
        } = mount
        {
            let name = app.volumes.get(key).map_or_else(
                || print::volume_name(&id.app, key, &Volume::default()),
                |declared| print::volume_name(&id.app, key, declared),
            );
            volumes.insert(key.to_string(), name);
        }
    }
    let files: Vec<(AbsPath, String)> = service
        .mounted_files(&id.app, &id.service)
        .into_iter()
        .map(|file| (file.path, file.target))
        .collect();
    let shared = service
        .shares_with()
        .filter_map(|name| {
            let (key, other) = app.services.iter().find(|(key, _)| key.as_str() == name)?;
            Some((name.to_owned(), container_name(&id.app, key, other)))
        })
        .collect();
    Some(ContainerSpec {
        id: id.clone(),
        name: container_name(&id.app, &id.service, service),
        config: config_hash(desired, app, id, service, &files),
        files,
        shared,
        service: service.clone(),
        device: desired.device.clone(),
        networks,
        volumes,
    })
}

/// A service's container's name in the engine, as Compose gives it.
#[must_use]
pub fn container_name(app: &AppName, name: &ServiceName, service: &Service) -> String {
    match (&service.container_name, &service.replica) {
        (Some(name), _) => name.clone(),
        (None, None) => format!("{app}-{name}-1"),
        (None, Some(replica)) => format!("{app}-{}-{}", replica.of, replica.number),
    }
}

/// The engine's restart policy that a service asks for: `no`, `always`, `on-failure[:n]` or `unless-stopped`.
#[must_use]
pub fn restart_policy(service: &Service) -> String {
    service.restart.to_string()
}

/// SHA-256 over the declaration, and over the declared files that the service mounts: a file mounted by itself always
/// counts (the mount holds the old inode), a file in a mounted folder unless its own `on_change` names the service.
fn config_hash(
    desired: &DesiredState,
    app: &DesiredApp,
    id: &ServiceId,
    service: &Service,
    own: &[(AbsPath, String)],
) -> String {
    let mut mounted: BTreeMap<&str, (&str, u32, &str, &str)> = BTreeMap::new();
    for mount in &service.volumes {
        let Mount::Bind { source, .. } = mount else {
            continue;
        };
        for (owner, path, file) in desired.files() {
            let by_itself = path == source;
            let acts = owner == &id.app && names(file, id);
            if by_itself || (path.is_within(source) && !acts) {
                mounted.insert(
                    path.as_str(),
                    (file.content.as_str(), file.mode, &file.owner, &file.group),
                );
            }
        }
    }
    for (path, _) in own {
        if let Some((path, file)) = app.files.get_key_value(path) {
            mounted.insert(
                path.as_str(),
                (file.content.as_str(), file.mode, &file.owner, &file.group),
            );
        }
    }
    // A network or volume that is renamed under the same key makes another container.
    let networks: Vec<_> = service
        .networks
        .keys()
        .map(|key| {
            app.networks
                .get(key)
                .and_then(|network| network.name.as_ref())
        })
        .collect();
    let mut service = json!(without_order(service));
    if let Some(fields) = service.as_object_mut() {
        // How many there are, and when: not what one is.
        fields.remove("scale");
        fields.remove("profiles");
    }
    let mut canonical = json!({
        "service": service,
        "files": mounted,
        "networks": networks,
    });
    if app.is_hook(&id.service) {
        // A service that was a hook has not run yet.
        canonical["hook"] = json!(true);
    }
    ContentId::of(canonical.to_string().as_bytes())
        .as_str()
        .to_owned()
}

/// A service as far as its container is concerned: how it takes the old one's place is no part of it. (`stop-first` has always
/// counted: what was made with it stays.)
fn without_order(service: &Service) -> Cow<'_, Service> {
    match service.update_order() {
        UpdateOrder::StopFirst => Cow::Borrowed(service),
        UpdateOrder::StartFirst | UpdateOrder::Recreate => {
            let mut plain = service.clone();
            plain.deploy = plain.deploy.and_then(|deploy| {
                let deploy = Deploy {
                    update_config: None,
                    ..deploy
                };
                (deploy != Deploy::default()).then_some(deploy)
            });
            Cow::Owned(plain)
        }
    }
}

fn names(file: &DesiredFile, id: &ServiceId) -> bool {
    file.on_change.iter().any(|action| match action {
        OnChange::RestartService(service) | OnChange::SignalService { service, .. } => {
            *service == id.service
        }
        OnChange::RestartUnit(_) | OnChange::ReloadUnit(_) => false,
    })
}
