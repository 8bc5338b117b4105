//! What a changed file makes happen: its `on_change`, and what a mount of it implies.
//!
//! Only a change of content counts, not one of mode or owner. A service that the same plan makes, makes again or
//! starts reads the new file anyway and is left alone; one that is restarted is not signalled too; a unit that is
//! restarted is not reloaded too.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_schema::app::OnChange;
use evenkeel_schema::name::AppName;
use evenkeel_schema::path::AbsPath;
use evenkeel_schema::service::Service;

use super::services::{Services, Standing};
use super::{Action, Left, Step, compose};
use crate::domain::desired::{DesiredFile, DesiredState};
use crate::domain::resource::{ResourceId, ServiceId};

fn changed_files<'a>(
    desired: &'a DesiredState,
    changed: &'a BTreeSet<&AbsPath>,
) -> impl Iterator<Item = (&'a AppName, &'a AbsPath, &'a DesiredFile)> {
    desired
        .files()
        .filter(|(_, path, _)| changed.contains(path))
}

/// The first changed file that a service mounts by itself.
pub(super) fn mounted_itself<'a>(
    id: &ServiceId,
    service: &Service,
    changed: &BTreeSet<&'a AbsPath>,
) -> Option<&'a AbsPath> {
    if changed.is_empty() {
        return None;
    }
    let sources = compose::bind_sources(id, service);
    changed.iter().find(|path| sources.contains(path)).copied()
}

/// Services that mount a directory with a changed file in it, unless the file's `on_change` says what shall happen to
/// them instead.
pub(super) fn implied_restarts(
    desired: &DesiredState,
    changed: &BTreeSet<&AbsPath>,
) -> BTreeMap<ServiceId, AbsPath> {
    let mut found = BTreeMap::new();
    if changed.is_empty() {
        return found;
    }
    for (app, declared) in &desired.apps {
        for (name, service) in &declared.services {
            let id = ServiceId {
                app: app.clone(),
                service: name.clone(),
            };
            let sources = compose::bind_sources(&id, service);
            let cause = changed_files(desired, changed).find(|(owner, path, file)| {
                let is_named = *owner == app
                    && file.on_change.iter().any(|change| match change {
                        OnChange::RestartService(named) => named == name,
                        OnChange::SignalService { service: named, .. } => named == name,
                        OnChange::RestartUnit(_) | OnChange::ReloadUnit(_) => false,
                    });
                !is_named && sources.iter().any(|source| path.is_within(source))
            });
            if let Some((_, path, _)) = cause {
                found.insert(id, path.clone());
            }
        }
    }
    found
}

/// Services that an `on_change` wants restarted, and why.
pub(super) fn wanted_restarts(
    desired: &DesiredState,
    changed: &BTreeSet<&AbsPath>,
) -> BTreeMap<ServiceId, String> {
    let mut found = BTreeMap::new();
    for (app, path, file) in changed_files(desired, changed) {
        for change in &file.on_change {
            match change {
                OnChange::RestartService(service) => {
                    let id = ServiceId {
                        app: app.clone(),
                        service: service.clone(),
                    };
                    found
                        .entry(id)
                        .or_insert_with(|| format!("file{path} changed"));
                }
                OnChange::SignalService { .. }
                | OnChange::RestartUnit(_)
                | OnChange::ReloadUnit(_) => {}
            }
        }
    }
    found
}

/// The steps after files and containers: restarts in start order, then signals, then units.
pub(super) fn steps(
    desired: &DesiredState,
    changed: &BTreeSet<&AbsPath>,
    services: &Services,
    left: &Left,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for id in compose::order(desired) {
        if let Some(because) = services.restarts.get(&id) {
            steps.push(Step {
                resource: ResourceId::Service(id.clone()),
                because: because.clone(),
                action: Action::RestartContainer { id },
            });
        }
    }
    let mut signals: BTreeMap<(ServiceId, String), &AbsPath> = BTreeMap::new();
    let mut restarts: BTreeMap<&String, &AbsPath> = BTreeMap::new();
    let mut reloads: BTreeMap<&String, &AbsPath> = BTreeMap::new();
    for (app, path, file) in changed_files(desired, changed) {
        for change in &file.on_change {
            match change {
                OnChange::RestartService(_) => {}
                OnChange::SignalService { signal, service } => {
                    let id = ServiceId {
                        app: app.clone(),
                        service: service.clone(),
                    };
                    let runs = services.standing.get(&id) == Some(&Standing::Running);
                    if runs && !services.restarts.contains_key(&id) {
                        signals.entry((id, signal.clone())).or_insert(path);
                    }
                }
                OnChange::RestartUnit(unit) => {
                    restarts.entry(unit).or_insert(path);
                }
                OnChange::ReloadUnit(unit) => {
                    reloads.entry(unit).or_insert(path);
                }
            }
        }
    }
    for ((id, signal), path) in signals {
        steps.push(Step {
            resource: ResourceId::Service(id.clone()),
            because: format!("{signal}, because file{path} changed"),
            action: Action::SignalContainer { id, signal },
        });
    }
    let allowed = |unit: &str| !left.has(&ResourceId::Unit(unit.to_owned()));
    restarts.retain(|unit, _| allowed(unit));
    reloads.retain(|unit, _| allowed(unit) && !restarts.contains_key(unit));
    let reloads = reloads
        .into_iter()
        .map(|(unit, path)| (unit, path, OnChange::ReloadUnit(unit.clone())));
    let restarts = restarts
        .into_iter()
        .map(|(unit, path)| (unit, path, OnChange::RestartUnit(unit.clone())));
    for (unit, path, change) in restarts.chain(reloads) {
        steps.push(Step {
            resource: ResourceId::Unit(unit.clone()),
            action: Action::Unit(change),
            because: format!("file{path} changed"),
        });
    }
    steps
}
