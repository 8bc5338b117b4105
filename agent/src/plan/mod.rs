//! What has to be done: desired beside observed, as plain ordered steps with nothing left to decide.

mod changes;
mod compose;
pub mod container;
pub mod diff;
mod files;
pub mod imagined;
mod left;
#[cfg(test)]
mod model;
mod namespaces;
mod networks_volumes;
mod services;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeSet;

use evenkeel_schema::app::OnChange;
use evenkeel_schema::name::AppName;
use evenkeel_schema::path::AbsPath;
use evenkeel_schema::service::{Network, Volume};

use crate::domain::container::ContainerSpec;
use crate::domain::desired::{DesiredFile, DesiredState};
use crate::domain::history::Inventory;
use crate::domain::observed::{EngineView, ObservedState, Seen};
use crate::domain::resource::{CopyReason, ResourceId, ServiceId};
pub use compose::{app_order, order};
pub use left::Left;
pub use networks_volumes::declared_volumes;
use services::Services;
pub use text::short;

/// Why we plan: it decides what an unknown resource does, and whether containers are armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Towards a new revision: one unknown resource blocks the switch; containers stay unarmed (restart policy `no`)
    /// until the revision is good.
    Advance,
    /// Back to, or at, a good revision: what can be seen is healed; restart policies are armed as declared.
    Keep,
}

/// The whole plan. Nothing in it has to be decided any more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The steps in the order in which they are taken.
    pub steps: Vec<Step>,
    /// What could not be planned, and why: an unknown resource, a name that is taken.
    pub blocked: Vec<Blocked>,
}

/// One step and its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// On what.
    pub resource: ResourceId,
    /// What is done.
    pub action: Action,
    /// Why, as `image 3f9c… -> a41d…` or `edited by hand`.
    pub because: String,
}

/// What could not be planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// What.
    pub resource: ResourceId,
    /// Why, with the next move.
    pub why: String,
}

/// What a step does. Each carries all it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make a network.
    CreateNetwork {
        /// For which app.
        app: AppName,
        /// Its key in the app.
        key: String,
        /// Its declaration.
        network: Network,
        /// Hash of the declaration.
        config: String,
    },
    /// Remove a network of ours.
    RemoveNetwork,
    /// Make a volume.
    CreateVolume {
        /// For which app.
        app: AppName,
        /// Its key in the app.
        key: String,
        /// Its declaration.
        volume: Volume,
        /// Hash of the declaration.
        config: String,
    },
    /// Remove a volume of ours, with its data.
    RemoveVolume,
    /// Write a file (staged before), keeping a copy of what a person made.
    WriteFile {
        /// The file.
        path: AbsPath,
        /// Its declaration.
        file: DesiredFile,
        /// The copy to keep first.
        keep: Option<CopyReason>,
    },
    /// Set mode and owner.
    SetMetadata {
        /// The file.
        path: AbsPath,
        /// Its declaration.
        file: DesiredFile,
    },
    /// Remove a file of ours that is no longer declared.
    RemoveFile {
        /// The file.
        path: AbsPath,
        /// The copy to keep first.
        keep: Option<CopyReason>,
    },
    /// Put back what stood at a path before our first write.
    RestoreFile {
        /// The file.
        path: AbsPath,
        /// The copy to keep first, where a person edited ours.
        keep: Option<CopyReason>,
    },
    /// Leave a file that is no longer declared as it is, and stop owning it.
    DisownFile {
        /// The file.
        path: AbsPath,
    },
    /// Make and start a container where there is none.
    CreateContainer {
        /// All of it.
        spec: Box<ContainerSpec>,
        /// The engine's restart policy to set once it has started; `None` leaves it at `no`.
        arm: Option<String>,
    },
    /// Make a container's successor, stop and remove the container, then start the successor in its place.
    RecreateContainer {
        /// The engine's id of the old one.
        old: String,
        /// All of the new one.
        spec: Box<ContainerSpec>,
        /// The engine's restart policy to set once it has started; `None` leaves it at `no`.
        arm: Option<String>,
    },
    /// Start a container that stands still.
    StartContainer {
        /// The engine's id.
        engine_id: String,
    },
    /// Restart a container (`on_change`).
    RestartContainer {
        /// Which service.
        id: ServiceId,
    },
    /// Send a signal to a container (`on_change`).
    SignalContainer {
        /// Which service.
        id: ServiceId,
        /// The signal without `SIG`.
        signal: String,
    },
    /// Set the engine's restart policy in place.
    SetRestart {
        /// The engine's id.
        engine_id: String,
        /// The policy.
        policy: String,
    },
    /// Stop and remove a container of ours that is no longer declared, or a second one.
    RemoveContainer {
        /// The engine's id.
        engine_id: String,
    },
    /// Restart or reload a systemd unit (`on_change`).
    Unit(OnChange),
}

/// Plans the way from what is to what should be. The same input gives the same plan; after it was taken, the plan is
/// empty.
///
/// The order of the steps: containers that go away (dependants first); networks that are made again; networks and
/// volumes that are made; files in the way of a declared one; files written, by path; containers made, made again and
/// started (by app, dependencies first, then by name); restarts, signals and units that changed files ask for; restart
/// policies; networks that are no longer declared, and volumes that go with their declaration; files that are no longer
/// declared.
#[must_use]
pub fn plan(
    desired: &DesiredState,
    observed: &ObservedState,
    inventory: &Inventory,
    mode: Mode,
) -> Plan {
    plan_leaving(desired, observed, inventory, mode, &Left::default())
}

/// As [`plan`], with some resources left as they are.
#[must_use]
pub fn plan_leaving(
    desired: &DesiredState,
    observed: &ObservedState,
    inventory: &Inventory,
    mode: Mode,
    left: &Left,
) -> Plan {
    let files = files::plan(desired, observed, inventory, left);
    let changed: BTreeSet<&AbsPath> = files.changed.iter().copied().collect();
    let mut plan = Plan {
        steps: Vec::new(),
        blocked: files.blocked,
    };

    let no_view = EngineView::default();
    let view = match engine(desired, observed, inventory) {
        Ok(Some(view)) => view,
        Ok(None) => &no_view,
        Err(blocked) => {
            plan.blocked.extend(blocked);
            plan.steps.extend(files.clearing);
            plan.steps.extend(files.writes);
            plan.steps.extend(changes::steps(
                desired,
                &changed,
                &Services::default(),
                left,
            ));
            plan.steps.extend(files.removals);
            return plan;
        }
    };
    let infrastructure = networks_volumes::plan(desired, view, inventory, left);
    let services = services::plan(&services::Question {
        desired,
        view,
        inventory,
        mode,
        changed: &changed,
        rebuilt: &infrastructure.rebuilt,
        left,
    });
    let follow_ups = changes::steps(desired, &changed, &services, left);
    plan.blocked.extend(infrastructure.blocked);
    plan.blocked.extend(services.blocked);
    plan.steps.extend(services.removals);
    plan.steps.extend(infrastructure.removals);
    plan.steps.extend(infrastructure.creations);
    plan.steps.extend(files.clearing);
    plan.steps.extend(files.writes);
    plan.steps.extend(services.starts);
    plan.steps.extend(follow_ups);
    plan.steps.extend(services.arming);
    plan.steps.extend(infrastructure.prunings);
    plan.steps.extend(files.removals);
    plan
}

/// The engine's side, where it matters: a device that has no service, now or before, needs no engine.
fn engine<'a>(
    desired: &DesiredState,
    observed: &'a ObservedState,
    inventory: &Inventory,
) -> Result<Option<&'a EngineView>, Vec<Blocked>> {
    let why = match &observed.engine {
        Seen::Present(view) => return Ok(Some(view)),
        Seen::Absent => {
            "there is no container engine on this device: install one (`apt-get install docker.io`), or set \
             `[engine] socket`"
                .to_owned()
        }
        Seen::Unknown(why) => format!("the container engine could not be asked: {why}"),
    };
    let declared = desired.apps.iter().flat_map(|(app, declared)| {
        declared.services.keys().map(|service| ServiceId {
            app: app.clone(),
            service: service.clone(),
        })
    });
    let needed: BTreeSet<ServiceId> = declared.chain(inventory.services.iter().cloned()).collect();
    if needed.is_empty() {
        return Ok(None);
    }
    Err(needed
        .into_iter()
        .map(|id| Blocked {
            resource: ResourceId::Service(id),
            why: why.clone(),
        })
        .collect())
}
