//! What is ours: written down before a thing becomes so, and settled once it is as declared.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_schema::path::AbsPath;
use evenkeel_schema::service::VolumeOnRemove;

use super::{Agent, CycleError};
use crate::domain::desired::DesiredState;
use crate::domain::history::{Adopted, Inventory, OwnedFile};
use crate::domain::observed::{ObservedState, RunState, Seen};
use crate::domain::resource::{CopyReason, ResourceId, ServiceId};
use crate::plan::{self, Action, Plan, container};
use crate::port::World;
use crate::port::journal::Journal as _;

impl<W: World> Agent<W> {
    /// Before a thing becomes ours, the inventory says so: what a crash leaves behind is then still ours to remove.
    pub(super) fn announce_inventory(
        &self,
        state: &DesiredState,
        plan: &Plan,
        current: &Inventory,
    ) -> Result<(), CycleError> {
        let mut next = current.clone();
        // Somebody may have had us adopt another one meanwhile.
        next.adopted = self.world.journal().ledger().inventory.adopted;
        for (_, path, file) in state.files() {
            next.files.entry(path.clone()).or_insert_with(|| OwnedFile {
                content: file.content.clone(),
                on_remove: file.on_remove,
                replaced: replaces(plan, path),
            });
        }
        next.services.extend(services_of(state));
        let before = std::mem::take(&mut next.order);
        next.order = plan::order(state);
        let earlier = before.into_iter().filter(|id| !next.order.contains(id));
        next.order.extend(earlier.collect::<Vec<_>>());
        next.volumes.extend(
            ending_volumes(state)
                .filter(|(_, ends)| *ends == VolumeOnRemove::Delete)
                .map(|(name, _)| name),
        );
        // What is made anew has not ended yet.
        next.done.retain(|id, _| !is_made(plan, id));
        if next != *current {
            self.world.journal().set_inventory(&next)?;
        }
        Ok(())
    }

    /// After the steps, the inventory is what is declared.
    pub(super) fn settle_inventory(
        &self,
        state: &DesiredState,
        plan: &Plan,
        observed: &ObservedState,
        current: &Inventory,
    ) -> Result<(), CycleError> {
        let files = state
            .files()
            .map(|(_, path, file)| {
                let replaced = current
                    .files
                    .get(path)
                    .map_or_else(|| replaces(plan, path), |owned| owned.replaced);
                let owned = OwnedFile {
                    content: file.content.clone(),
                    on_remove: file.on_remove,
                    replaced,
                };
                (path.clone(), owned)
            })
            .collect();
        let next = Inventory {
            files,
            services: services_of(state).collect(),
            adopted: settled(
                state,
                plan,
                &self.world.journal().ledger().inventory.adopted,
            ),
            order: plan::order(state),
            volumes: kept_in_mind(state, plan, &current.volumes),
            done: jobs_done(state, plan, observed, &current.done),
            unproven: BTreeSet::new(),
        };
        if next != *current {
            self.world.journal().set_inventory(&next)?;
        }
        Ok(())
    }
}

/// What is known of the adopted containers once the device is as `state` says: each that stands is as declared, and one that
/// is made anew has our labels.
fn settled(
    state: &DesiredState,
    plan: &Plan,
    adopted: &BTreeMap<String, Adopted>,
) -> BTreeMap<String, Adopted> {
    if !plan.blocked.is_empty() {
        return adopted.clone();
    }
    let is_gone = |engine_id: &String, one: &Adopted| {
        let resource = ResourceId::Service(one.service.clone());
        plan.steps.iter().any(|step| match &step.action {
            Action::CreateContainer { .. } => step.resource == resource,
            Action::RecreateContainer { old, .. } => old == engine_id,
            Action::RemoveContainer { engine_id: gone } => gone == engine_id,
            Action::CreateNetwork { .. }
            | Action::RemoveNetwork
            | Action::RemoveVolume
            | Action::CreateVolume { .. }
            | Action::WriteFile { .. }
            | Action::SetMetadata { .. }
            | Action::RemoveFile { .. }
            | Action::RestoreFile { .. }
            | Action::DisownFile { .. }
            | Action::StartContainer { .. }
            | Action::RestartContainer { .. }
            | Action::SignalContainer { .. }
            | Action::SetRestart { .. }
            | Action::Unit(_) => false,
        })
    };
    adopted
        .iter()
        .filter(|(engine_id, one)| !is_gone(engine_id, one))
        .map(|(engine_id, one)| {
            let config = container::spec(state, &one.service).map(|spec| spec.config);
            let service = one.service.clone();
            (engine_id.clone(), Adopted { service, config })
        })
        .collect()
}

/// The volumes that a state declares, and what becomes of each once it does not.
fn ending_volumes(state: &DesiredState) -> impl Iterator<Item = (String, VolumeOnRemove)> {
    plan::declared_volumes(state).map(|(name, volume)| (name, volume.extension.on_remove))
}

/// The volumes that go with their declaration: those declared so, and those declared so before that were not removed yet.
fn kept_in_mind(state: &DesiredState, plan: &Plan, before: &BTreeSet<String>) -> BTreeSet<String> {
    let declared: BTreeMap<String, VolumeOnRemove> = ending_volumes(state).collect();
    let is_removed = |name: &String| {
        plan.steps.iter().any(|step| {
            step.action == Action::RemoveVolume && step.resource == ResourceId::Volume(name.clone())
        })
    };
    let earlier = before
        .iter()
        .filter(|name| !declared.contains_key(*name) && !is_removed(name));
    let ending = declared
        .iter()
        .filter(|(_, ends)| **ends == VolumeOnRemove::Delete)
        .map(|(name, _)| name);
    earlier.chain(ending).cloned().collect()
}

/// The jobs that ended well as they are declared.
fn jobs_done(
    state: &DesiredState,
    plan: &Plan,
    observed: &ObservedState,
    before: &BTreeMap<ServiceId, String>,
) -> BTreeMap<ServiceId, String> {
    let containers = match &observed.engine {
        Seen::Present(view) => Some(&view.containers),
        Seen::Absent | Seen::Unknown(_) => None,
    };
    plan::order(state)
        .into_iter()
        .filter(|id| {
            let app = state.apps.get(&id.app);
            app.is_some_and(|app| app.may_end(&id.service)) && !is_made(plan, id)
        })
        .filter_map(|id| {
            let config = container::spec(state, &id)?.config;
            let ended = containers
                .and_then(|all| all.get(&id))
                .into_iter()
                .flatten()
                .any(|one| {
                    one.state == RunState::Exited(0) && one.config.as_ref() == Some(&config)
                });
            (ended || before.get(&id) == Some(&config)).then_some((id, config))
        })
        .collect()
}

/// Whether a plan makes this service's container.
fn is_made(plan: &Plan, id: &ServiceId) -> bool {
    plan.steps.iter().any(|step| {
        matches!(
            step.action,
            Action::CreateContainer { .. } | Action::RecreateContainer { .. }
        ) && step.resource == ResourceId::Service(id.clone())
    })
}

fn replaces(plan: &Plan, path: &AbsPath) -> bool {
    plan.steps.iter().any(|step| {
        matches!(&step.action, Action::WriteFile { path: written, keep: Some(CopyReason::Original), .. } if written == path)
    })
}

pub(super) fn services_of(state: &DesiredState) -> impl Iterator<Item = ServiceId> {
    state.apps.iter().flat_map(|(app, desired)| {
        desired.services.keys().map(move |service| ServiceId {
            app: app.clone(),
            service: service.clone(),
        })
    })
}
