//! What is ours: written down before a thing becomes so, and settled once it is as declared.

use evenkeel_schema::path::AbsPath;

use super::{Agent, CycleError};
use crate::domain::desired::DesiredState;
use crate::domain::history::{Inventory, OwnedFile};
use crate::domain::resource::{CopyReason, ServiceId};
use crate::plan::{Action, Plan};
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
        };
        if next != *current {
            self.world.journal().set_inventory(&next)?;
        }
        Ok(())
    }
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
