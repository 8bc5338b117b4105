//! What is ours: written down before a thing becomes so, and settled once it is as declared.

use std::collections::BTreeMap;

use evenkeel_schema::path::AbsPath;

use super::{Agent, CycleError};
use crate::domain::desired::DesiredState;
use crate::domain::history::{Adopted, Inventory, OwnedFile};
use crate::domain::resource::{CopyReason, ResourceId, ServiceId};
use crate::plan::{Action, Plan, container};
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
