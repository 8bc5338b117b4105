//! What has to be done: desired beside observed, as plain ordered steps with nothing left to decide.

pub mod container;

use evenkeel_schema::app::OnChange;
use evenkeel_schema::name::AppName;
use evenkeel_schema::path::AbsPath;
use evenkeel_schema::service::{Network, Volume};

use crate::domain::container::ContainerSpec;
use crate::domain::desired::{DesiredFile, DesiredState};
use crate::domain::history::Inventory;
use crate::domain::observed::ObservedState;
use crate::domain::resource::{CopyReason, ResourceId, ServiceId};

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
    },
    /// Stop and remove a container, then make and start its successor.
    RecreateContainer {
        /// The engine's id of the old one.
        old: String,
        /// All of the new one.
        spec: Box<ContainerSpec>,
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
#[must_use]
pub fn plan(
    _desired: &DesiredState,
    _observed: &ObservedState,
    _inventory: &Inventory,
    _mode: Mode,
) -> Plan {
    Plan::default()
}
