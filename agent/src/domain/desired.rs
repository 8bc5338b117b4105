//! What this device should be: the result of resolving a verified tree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use evenkeel_schema::app::{Check, Gate, Hook, Moment, OnChange, OnRemove};
use evenkeel_schema::name::{AppName, DeviceId, ServiceName};
use evenkeel_schema::path::AbsPath;
use evenkeel_schema::rollout::Rollout;
use evenkeel_schema::service::{Condition, Network, Restart, Service, Volume};
use serde::{Deserialize, Serialize};

use super::resource::ServiceId;
use super::revision::ContentId;

/// The whole desired state of one device. Valid as a whole; every image pinned; no content inside, only its ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredState {
    /// The device this was resolved for.
    pub device: DeviceId,
    /// The fleet's name.
    pub fleet: String,
    /// Its apps.
    pub apps: BTreeMap<AppName, DesiredApp>,
}

/// One app on this device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct DesiredApp {
    /// Files by their declared path.
    pub files: BTreeMap<AbsPath, DesiredFile>,
    /// Containers.
    pub services: BTreeMap<ServiceName, Service>,
    /// Networks by their key; `default` is implied where a service names none.
    pub networks: BTreeMap<ServiceName, Network>,
    /// Volumes by their key.
    pub volumes: BTreeMap<ServiceName, Volume>,
    /// What "works" means beyond the containers' health.
    pub checks: Vec<Check>,
    /// Deadline and soak.
    pub gate: Gate,
    /// Where its update lock is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<AbsPath>,
    /// For how long its update locks may be held before that is reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_hold: Option<Duration>,
    /// Apps of this device that come first.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub requires: BTreeSet<AppName>,
    /// Which of the services run once around a change, and not otherwise.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hooks: BTreeMap<Moment, Hook>,
}

impl DesiredApp {
    /// Whether a service is a hook: declared, allowed and pulled as any other, and run only around a change.
    #[must_use]
    pub fn is_hook(&self, name: &ServiceName) -> bool {
        self.hooks.values().any(|hook| hook.service == *name)
    }

    /// The services that have a container all the time: all but the hooks.
    pub fn standing(&self) -> impl Iterator<Item = (&ServiceName, &Service)> {
        self.services.iter().filter(|(name, _)| !self.is_hook(name))
    }

    /// Whether another service waits for this one to end well.
    #[must_use]
    pub fn is_awaited(&self, name: &ServiceName) -> bool {
        self.standing().any(|(_, service)| {
            service
                .depends_on
                .get(name)
                .is_some_and(|dependency| dependency.condition == Condition::Completed)
        })
    }

    /// Whether a service that ends well has done what it is for: its policy says so, or another service waits for its end.
    #[must_use]
    pub fn may_end(&self, name: &ServiceName) -> bool {
        match self.services.get(name).map(|service| service.restart) {
            Some(Restart::No | Restart::OnFailure(_)) => true,
            Some(Restart::Always | Restart::UnlessStopped) => self.is_awaited(name),
            None => false,
        }
    }
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredFile {
    /// Its content.
    pub content: ContentId,
    /// Its size in bytes.
    pub size: u64,
    /// Permission bits (`0o640`).
    pub mode: u32,
    /// Owner, by name or number, as declared.
    pub owner: String,
    /// Group, by name or number, as declared.
    pub group: String,
    /// What its change makes happen.
    pub on_change: Vec<OnChange>,
    /// What happens when it is no longer declared.
    pub on_remove: OnRemove,
    /// Whether a secret went into it: then its content is never shown.
    pub secret: bool,
}

/// File contents by id.
pub type Contents = BTreeMap<ContentId, Vec<u8>>;

/// A desired state with all file contents it names: what a kept revision needs to be put back with no network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The state.
    pub state: DesiredState,
    /// Every content that the state names.
    pub contents: Contents,
    /// When this device may begin it. Not part of what it is: the same state is the same whoever comes when.
    pub rollout: Option<Rollout>,
}

impl DesiredState {
    /// The id of what this resolves to: equal states have equal ids, whatever commit they came from.
    #[must_use]
    pub fn content_id(&self) -> ContentId {
        let canonical =
            serde_json::to_vec(self).expect("maps have string keys, so JSON can express the state");
        ContentId::of(&canonical)
    }

    /// Whether nothing at all is declared: no file, no container.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.apps
            .values()
            .all(|app| app.files.is_empty() && app.services.is_empty())
    }

    /// The service of this id.
    #[must_use]
    pub fn service(&self, id: &ServiceId) -> Option<&Service> {
        self.apps.get(&id.app)?.services.get(&id.service)
    }

    /// Every file with the app that owns it.
    pub fn files(&self) -> impl Iterator<Item = (&AppName, &AbsPath, &DesiredFile)> {
        self.apps.iter().flat_map(|(app, desired)| {
            desired
                .files
                .iter()
                .map(move |(path, file)| (app, path, file))
        })
    }
}
