//! Networks and volumes: what the declared containers join and mount, and nothing more.
//!
//! Owns which of them are made, made again and removed. A volume holds a person's data: it is removed only where it was
//! declared to go with its declaration, and never made again, so a changed declaration of one is blocked. Refuses to use what is not ours unless it is declared
//! `external`.
//!
//! Limit: a network that is no longer declared, but that a foreign container still uses, stays until that is gone.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_schema::name::AppName;
use evenkeel_schema::service::{Network, Volume, print};

use super::container::spec;
use super::{Action, Blocked, Left, Step, compose};
use crate::domain::desired::{DesiredApp, DesiredState};
use crate::domain::history::Inventory;
use crate::domain::observed::{EngineView, Owned};
use crate::domain::resource::{ResourceId, ServiceId};

/// The networks and volumes of a plan.
#[derive(Debug, Default)]
pub(super) struct Infrastructure {
    /// Networks of ours that go away before they are made again.
    pub(super) removals: Vec<Step>,
    /// Networks and volumes that are made.
    pub(super) creations: Vec<Step>,
    /// Networks that are no longer declared: last, when no container is on them any more.
    pub(super) prunings: Vec<Step>,
    /// Names of the networks that are made again.
    pub(super) rebuilt: BTreeSet<String>,
    /// What could not be planned.
    pub(super) blocked: Vec<Blocked>,
}

pub(super) fn plan(
    desired: &DesiredState,
    view: &EngineView,
    inventory: &Inventory,
    left: &Left,
) -> Infrastructure {
    let mut found = Infrastructure::default();
    let mut mounted = BTreeSet::new();
    let mut wanted = BTreeSet::new();
    for (app, declared) in &desired.apps {
        let (networks, volumes) = used(desired, app, declared);
        for (name, (key, network)) in networks {
            let seen = view.networks.get(&name);
            let kept = left.has(&ResourceId::Network(name.clone()))
                || (left.joins(&name) && seen.is_some());
            if !kept {
                found.network(seen, app, &name, &key, &network);
            }
            wanted.insert(name);
        }
        for (name, (key, volume)) in volumes {
            if !left.has(&ResourceId::Volume(name.clone())) {
                found.volume(view, app, &name, &key, &volume);
            }
            mounted.insert(name);
        }
    }
    for (name, owned) in &view.networks {
        let Some(app) = &owned.app else { continue };
        let has_containers_of_ours = view.containers.keys().any(|id| id.app.as_str() == app);
        if !wanted.contains(name) && (!owned.in_use || has_containers_of_ours) {
            found.prunings.push(Step {
                resource: ResourceId::Network(name.clone()),
                action: Action::RemoveNetwork,
                because: "no longer declared".to_owned(),
            });
        }
    }
    mounted.extend(declared_volumes(desired).map(|(name, _)| name));
    if left.ends_volumes() {
        let ending = inventory.volumes.iter().filter(|name| {
            let seen = view.volumes.get(*name);
            !mounted.contains(*name) && seen.is_some_and(|seen| seen.app.is_some() && !seen.in_use)
        });
        found.prunings.extend(ending.map(|name| Step {
            resource: ResourceId::Volume(name.clone()),
            action: Action::RemoveVolume,
            because: "no longer declared, and declared to go then".to_owned(),
        }));
    }
    found
}

/// The volumes that a state declares as its own, by their names in the engine.
pub fn declared_volumes(desired: &DesiredState) -> impl Iterator<Item = (String, &Volume)> {
    desired.apps.iter().flat_map(|(app, declared)| {
        declared
            .volumes
            .iter()
            .filter(|(_, volume)| !volume.external)
            .map(|(key, volume)| (print::volume_name(app, key, volume), volume))
    })
}

type ByName<T> = BTreeMap<String, (String, T)>;

/// The networks and volumes that an app's containers use, by their names in the engine, with key and declaration. One
/// that is used without a declaration of its own (the implied `default`) has the empty one.
fn used(
    desired: &DesiredState,
    app: &AppName,
    declared: &DesiredApp,
) -> (ByName<Network>, ByName<Volume>) {
    let mut networks = ByName::new();
    let mut volumes = ByName::new();
    let by_name: BTreeMap<String, (String, &Network)> = declared
        .networks
        .iter()
        .map(|(key, network)| {
            (
                print::network_name(app, key, network),
                (key.to_string(), network),
            )
        })
        .collect();
    for (service, declaration) in &declared.services {
        let id = ServiceId {
            app: app.clone(),
            service: service.clone(),
        };
        let Some(spec) = spec(desired, &id) else {
            continue;
        };
        for (name, _) in spec.networks {
            let entry = match by_name.get(&name) {
                Some((key, network)) => (key.clone(), (*network).clone()),
                None => {
                    let prefix = format!("{app}_");
                    let key = name.strip_prefix(&prefix).unwrap_or(&name).to_owned();
                    (key, Network::default())
                }
            };
            networks.insert(name, entry);
        }
        let mounted = compose::mounted_volumes(declaration);
        for (key, name) in spec.volumes {
            if !mounted.contains(key.as_str()) {
                continue;
            }
            let volume = declared
                .volumes
                .iter()
                .find(|(declared, _)| declared.as_str() == key)
                .map_or_else(Volume::default, |(_, volume)| volume.clone());
            volumes.insert(name, (key, volume));
        }
    }
    (networks, volumes)
}

/// How what is declared relates to what the engine has under its name.
enum Standing {
    Missing,
    Foreign,
    AsDeclared,
    Changed,
}

fn standing(owned: Option<&Owned>, config: &str) -> Standing {
    match owned {
        None => Standing::Missing,
        Some(Owned { app: None, .. }) => Standing::Foreign,
        Some(Owned {
            config: Some(made_with),
            ..
        }) if made_with == config => Standing::AsDeclared,
        Some(Owned { .. }) => Standing::Changed,
    }
}

fn missing_external(what: &str, name: &str) -> String {
    format!(
        "it is declared `external: true`, and there is none: make it (`docker {what} create {name}`), or drop `external`"
    )
}

fn not_ours(what: &str, name: &str) -> String {
    format!(
        "there is a {what} `{name}` that is not ours: declare it `external: true` to use it, or give this one another \
         `name`"
    )
}

impl Infrastructure {
    fn network(
        &mut self,
        seen: Option<&Owned>,
        app: &AppName,
        name: &str,
        key: &str,
        network: &Network,
    ) {
        let resource = ResourceId::Network(name.to_owned());
        if network.external {
            if seen.is_none() {
                let why = missing_external("network", name);
                self.blocked.push(Blocked { resource, why });
            }
            return;
        }
        let config = compose::config_hash(network);
        let because = match standing(seen, &config) {
            Standing::AsDeclared => return,
            Standing::Foreign => {
                let why = not_ours("network", name);
                self.blocked.push(Blocked { resource, why });
                return;
            }
            Standing::Missing => "new",
            Standing::Changed => {
                self.rebuilt.insert(name.to_owned());
                self.removals.push(Step {
                    resource: resource.clone(),
                    action: Action::RemoveNetwork,
                    because: "its declaration changed".to_owned(),
                });
                "its declaration changed"
            }
        };
        self.creations.push(Step {
            resource,
            action: Action::CreateNetwork {
                app: app.clone(),
                key: key.to_owned(),
                network: network.clone(),
                config,
            },
            because: because.to_owned(),
        });
    }

    fn volume(&mut self, view: &EngineView, app: &AppName, name: &str, key: &str, volume: &Volume) {
        let resource = ResourceId::Volume(name.to_owned());
        let seen = view.volumes.get(name);
        if volume.external {
            if seen.is_none() {
                let why = missing_external("volume", name);
                self.blocked.push(Blocked { resource, why });
            }
            return;
        }
        let config = compose::volume_hash(volume);
        match standing(seen, &config) {
            Standing::AsDeclared => {}
            Standing::Foreign => {
                let why = not_ours("volume", name);
                self.blocked.push(Blocked { resource, why });
            }
            Standing::Changed => {
                let why = format!(
                    "its declaration changed, and a volume is never made again because that loses its data: give it \
                     another name, or move the data and remove it by hand (`docker volume rm {name}`)"
                );
                self.blocked.push(Blocked { resource, why });
            }
            Standing::Missing => self.creations.push(Step {
                resource,
                action: Action::CreateVolume {
                    app: app.clone(),
                    key: key.to_owned(),
                    volume: volume.clone(),
                    config,
                },
                because: "new".to_owned(),
            }),
        }
    }
}
