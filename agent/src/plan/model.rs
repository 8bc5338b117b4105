//! A device in memory that takes steps: what the tests of the planner apply plans to. It holds the invariants that no
//! plan may break, and panics where one does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_schema::app::OnChange;
use evenkeel_schema::path::AbsPath;
use evenkeel_schema::service::{Restart, VolumeOnRemove};

use super::{Action, Left, Mode, Plan, Step, declared_volumes, order, plan_leaving};
use crate::domain::container::ContainerSpec;
use crate::domain::desired::{DesiredFile, DesiredState};
use crate::domain::history::{Inventory, OwnedFile};
use crate::domain::observed::{
    EngineView, FileKind, Health, ObservedContainer, ObservedFile, ObservedImage, ObservedState,
    Owned, RunState, Seen,
};
use crate::domain::resource::{CopyReason, ResourceId, ServiceId};
use crate::domain::revision::ContentId;

#[derive(Debug, Clone)]
pub(super) struct Device {
    pub(super) observed: ObservedState,
    pub(super) inventory: Inventory,
    /// Networks that a container is on, by the engine's id of the container.
    joined: BTreeMap<String, Vec<String>>,
    originals: BTreeMap<AbsPath, ObservedFile>,
    /// Containers that end at once, and well.
    jobs: BTreeSet<String>,
    /// Contents of which a copy was kept.
    pub(super) copies: Vec<(AbsPath, CopyReason)>,
    made: u32,
    /// Everything that was restarted or signalled.
    pub(super) touched: Vec<String>,
}

pub(super) fn regular(content: &ContentId) -> ObservedFile {
    ObservedFile {
        kind: FileKind::Regular,
        content: Some(content.clone()),
        mode: 0o644,
        owner: "root".to_owned(),
        group: "root".to_owned(),
        uid: 0,
        gid: 0,
    }
}

fn all_services(desired: &DesiredState) -> impl Iterator<Item = ServiceId> {
    desired.apps.iter().flat_map(|(app, declared)| {
        declared.services.keys().map(|service| ServiceId {
            app: app.clone(),
            service: service.clone(),
        })
    })
}

/// Volumes that go with their declaration.
fn ending(desired: &DesiredState) -> impl Iterator<Item = String> {
    declared_volumes(desired)
        .filter(|(_, volume)| volume.extension.on_remove == VolumeOnRemove::Delete)
        .map(|(name, _)| name)
}

impl Device {
    /// A device with these files of a person's, and an engine with nothing in it.
    pub(super) fn new(files: BTreeMap<AbsPath, ObservedFile>) -> Self {
        Self {
            observed: ObservedState {
                files: files
                    .into_iter()
                    .map(|(path, file)| (path, Seen::Present(file)))
                    .collect(),
                engine: Seen::Present(EngineView::default()),
            },
            inventory: Inventory::default(),
            joined: BTreeMap::new(),
            originals: BTreeMap::new(),
            jobs: BTreeSet::new(),
            copies: Vec::new(),
            made: 0,
            touched: Vec::new(),
        }
    }

    pub(super) fn view(&mut self) -> &mut EngineView {
        match &mut self.observed.engine {
            Seen::Present(view) => view,
            Seen::Absent | Seen::Unknown(_) => panic!("the model has an engine"),
        }
    }

    /// Looks at what the desired state and the inventory name, as the loop does before it plans.
    pub(super) fn look(&mut self, desired: &DesiredState) {
        let paths: BTreeSet<AbsPath> = desired
            .files()
            .map(|(_, path, _)| path.clone())
            .chain(self.inventory.files.keys().cloned())
            .collect();
        for path in paths {
            self.observed.files.entry(path).or_insert(Seen::Absent);
        }
    }

    pub(super) fn plan(&mut self, desired: &DesiredState, mode: Mode) -> Plan {
        self.look(desired);
        // At a good revision, what was declared to go with its declaration goes.
        let left = match mode {
            Mode::Advance => Left::default(),
            Mode::Keep => Left::default().ending_volumes(),
        };
        plan_leaving(desired, &self.observed, &self.inventory, mode, &left)
    }

    /// Plans, pulls, takes every step, and writes down what is ours.
    pub(super) fn converge(&mut self, desired: &DesiredState, mode: Mode) -> Plan {
        let plan = self.plan(desired, mode);
        self.pull(desired);
        for step in &plan.steps {
            self.take(step);
        }
        for (_, path, file) in desired.files() {
            let owned = OwnedFile {
                content: file.content.clone(),
                on_remove: file.on_remove,
                replaced: false,
            };
            let entry = self.inventory.files.entry(path.clone()).or_insert(owned);
            entry.content = file.content.clone();
            entry.on_remove = file.on_remove;
        }
        self.inventory.services = all_services(desired).collect();
        self.inventory.order = order(desired);
        let declared: BTreeSet<String> = declared_volumes(desired).map(|(name, _)| name).collect();
        self.inventory
            .volumes
            .retain(|name| !declared.contains(name));
        self.inventory.volumes.extend(ending(desired));
        plan
    }

    /// As [`Self::converge`], cut short after so many steps: nothing is settled.
    pub(super) fn cut_short(&mut self, desired: &DesiredState, mode: Mode, steps: usize) {
        let plan = self.plan(desired, mode);
        self.pull(desired);
        for (_, path, file) in desired.files() {
            let keep = plan.steps.iter().find_map(|step| match &step.action {
                Action::WriteFile { path: at, keep, .. } if at == path => *keep,
                _ => None,
            });
            let owned = OwnedFile {
                content: file.content.clone(),
                on_remove: file.on_remove,
                replaced: keep == Some(CopyReason::Original),
            };
            self.inventory.files.entry(path.clone()).or_insert(owned);
        }
        self.inventory.services.extend(all_services(desired));
        let before = std::mem::replace(&mut self.inventory.order, order(desired));
        let now = self.inventory.order.clone();
        let earlier = before.into_iter().filter(|id| !now.contains(id));
        self.inventory.order.extend(earlier);
        self.inventory.volumes.extend(ending(desired));
        for step in plan.steps.iter().take(steps) {
            self.take(step);
        }
    }

    fn pull(&mut self, desired: &DesiredState) {
        for app in desired.apps.values() {
            for service in app.services.values() {
                let image = ObservedImage {
                    id: format!("id of {}", service.image),
                    ..ObservedImage::default()
                };
                self.view().images.insert(service.image.to_string(), image);
            }
        }
    }

    /// What is here, without what tells one making from another.
    pub(super) fn stands(&self) -> String {
        let Seen::Present(view) = &self.observed.engine else {
            panic!("the model has an engine");
        };
        let containers: Vec<_> = view
            .containers
            .iter()
            .flat_map(|(id, all)| {
                all.iter()
                    .map(move |one| (id, &one.name, &one.config, &one.state, &one.restart))
            })
            .collect();
        let files: Vec<_> = self
            .observed
            .files
            .iter()
            .filter(|(_, seen)| matches!(seen, Seen::Present(_)))
            .collect();
        format!(
            "{containers:?} {:?} {:?} {files:?}",
            view.networks, view.volumes
        )
    }

    fn file(&self, path: &AbsPath) -> Option<&ObservedFile> {
        match self.observed.files.get(path) {
            Some(Seen::Present(file)) => Some(file),
            Some(Seen::Absent) | None => None,
            Some(Seen::Unknown(_)) => panic!("a step on {path}, which could not be looked at"),
        }
    }

    /// Nothing that a person made goes away without a copy.
    fn give_up(&mut self, path: &AbsPath, keep: Option<CopyReason>) {
        let Some(seen) = self.file(path).cloned() else {
            return;
        };
        assert!(
            matches!(seen.kind, FileKind::Regular | FileKind::Symlink),
            "{path} is a {:?} and was replaced",
            seen.kind
        );
        let ours = self.inventory.files.get(path).map(|owned| &owned.content);
        let is_what_we_wrote = ours.is_some() && seen.content.as_ref() == ours;
        assert!(
            is_what_we_wrote || keep.is_some(),
            "{path} was a person's and no copy was kept"
        );
        if let Some(why) = keep {
            self.copies.push((path.clone(), why));
            if why == CopyReason::Original {
                assert!(ours.is_none());
                self.originals.insert(path.clone(), seen);
            }
        }
    }

    fn put(&mut self, path: &AbsPath, file: &DesiredFile) {
        let seen = ObservedFile {
            kind: FileKind::Regular,
            content: Some(file.content.clone()),
            mode: file.mode,
            owner: file.owner.clone(),
            group: file.group.clone(),
            uid: 4321,
            gid: 4321,
        };
        self.observed
            .files
            .insert(path.clone(), Seen::Present(seen));
    }

    fn make(&mut self, spec: &ContainerSpec, arm: Option<&String>) {
        for (network, _) in &spec.networks {
            assert!(
                self.view().networks.contains_key(network),
                "no network {network} for {}",
                spec.name
            );
        }
        for volume in spec.volumes.values() {
            assert!(
                self.view().volumes.contains_key(volume),
                "no volume {volume} for {}",
                spec.name
            );
        }
        let taken = self
            .view()
            .containers
            .values()
            .flatten()
            .any(|container| container.name == spec.name)
            || self.view().foreign_container_names.contains(&spec.name);
        assert!(!taken, "the name {} is taken", spec.name);
        self.made += 1;
        let engine_id = format!("made-{}", self.made);
        let image_id = self.view().images[spec.service.image.as_str()].id.clone();
        self.joined.insert(
            engine_id.clone(),
            spec.networks.iter().map(|(name, _)| name.clone()).collect(),
        );
        if spec.service.restart == Restart::No {
            self.jobs.insert(engine_id.clone());
        }
        let state = self.begun(&engine_id);
        let container = ObservedContainer {
            engine_id,
            name: spec.name.clone(),
            config: Some(spec.config.clone()),
            image_id,
            state,
            restart: arm.cloned().unwrap_or_else(|| "no".to_owned()),
            restarts: 0,
            oom_killed: false,
            started_at: String::new(),
            health: Health::None,
            facts: BTreeMap::new(),
        };
        self.view()
            .containers
            .entry(spec.id.clone())
            .or_default()
            .push(container);
    }

    /// What a container does once it was started.
    fn begun(&self, engine_id: &str) -> RunState {
        if self.jobs.contains(engine_id) {
            RunState::Exited(0)
        } else {
            RunState::Running
        }
    }

    fn drop_container(&mut self, engine_id: &str) {
        let view = self.view();
        let before = view.containers.values().flatten().count();
        for containers in view.containers.values_mut() {
            containers.retain(|container| container.engine_id != engine_id);
        }
        view.containers
            .retain(|_, containers| !containers.is_empty());
        assert_eq!(
            view.containers.values().flatten().count() + 1,
            before,
            "no container {engine_id} of ours"
        );
        self.joined.remove(engine_id);
    }

    /// Containers that a person removed are on no network any more.
    pub(super) fn forget_joined(&mut self) {
        let there: BTreeSet<String> = self
            .view()
            .containers
            .values()
            .flatten()
            .map(|container| container.engine_id.clone())
            .collect();
        self.joined.retain(|engine_id, _| there.contains(engine_id));
    }

    fn container(&mut self, engine_id: &str) -> &mut ObservedContainer {
        self.view()
            .containers
            .values_mut()
            .flatten()
            .find(|container| container.engine_id == engine_id)
            .expect("a step names a container that is there")
    }

    fn take(&mut self, step: &Step) {
        let (ResourceId::File(_) | ResourceId::Service(_) | ResourceId::Unit(_)) = &step.resource
        else {
            return self.take_infrastructure(step);
        };
        match &step.action {
            Action::WriteFile { path, file, keep } => {
                self.give_up(path, *keep);
                self.put(path, file);
                let replaced = *keep == Some(CopyReason::Original)
                    || self
                        .inventory
                        .files
                        .get(path)
                        .is_some_and(|owned| owned.replaced);
                let owned = OwnedFile {
                    content: file.content.clone(),
                    on_remove: file.on_remove,
                    replaced,
                };
                self.inventory.files.insert(path.clone(), owned);
            }
            Action::SetMetadata { path, file } => {
                assert!(
                    self.inventory.files.contains_key(path),
                    "{path} is not ours"
                );
                self.put(path, file);
            }
            Action::RemoveFile { path, keep } => {
                self.give_up(path, *keep);
                assert!(
                    self.inventory.files.remove(path).is_some(),
                    "{path} is not ours"
                );
                self.observed.files.insert(path.clone(), Seen::Absent);
            }
            Action::RestoreFile { path, keep } => {
                self.give_up(path, *keep);
                assert!(
                    self.inventory.files.remove(path).is_some(),
                    "{path} is not ours"
                );
                let original = self
                    .originals
                    .remove(path)
                    .expect("a copy of the original was kept");
                self.observed
                    .files
                    .insert(path.clone(), Seen::Present(original));
            }
            Action::DisownFile { path } => {
                assert!(
                    self.inventory.files.remove(path).is_some(),
                    "{path} is not ours"
                );
            }
            Action::CreateContainer { spec, arm } => self.make(spec, arm.as_ref()),
            Action::RecreateContainer { old, spec, arm } => {
                self.drop_container(old);
                self.make(spec, arm.as_ref());
            }
            Action::StartContainer { engine_id } => {
                let state = self.begun(engine_id);
                self.container(engine_id).state = state;
            }
            Action::RestartContainer { id } => {
                self.touched.push(format!("restart {id}"));
                let containers = self
                    .view()
                    .containers
                    .get_mut(id)
                    .expect("a restart of what is there");
                assert_eq!(containers.len(), 1);
                let engine_id = containers[0].engine_id.clone();
                let state = self.begun(&engine_id);
                self.container(&engine_id).state = state;
            }
            Action::SignalContainer { id, signal } => {
                self.touched.push(format!("{signal} {id}"));
                let container = &self.view().containers[id][0];
                assert_eq!(container.state, RunState::Running);
            }
            Action::SetRestart { engine_id, policy } => {
                self.container(engine_id).restart = policy.clone()
            }
            Action::RemoveContainer { engine_id } => self.drop_container(engine_id),
            Action::Unit(OnChange::RestartUnit(unit)) => {
                self.touched.push(format!("restart {unit}"))
            }
            Action::Unit(OnChange::ReloadUnit(unit)) => self.touched.push(format!("reload {unit}")),
            Action::Unit(OnChange::RestartService(_) | OnChange::SignalService { .. })
            | Action::CreateNetwork { .. }
            | Action::RemoveNetwork
            | Action::RemoveVolume
            | Action::CreateVolume { .. } => {
                panic!("{step}: an action that does not fit its resource")
            }
        }
    }

    fn take_infrastructure(&mut self, step: &Step) {
        let owned = |app: &str, config: &str| Owned {
            app: Some(app.to_owned()),
            config: Some(config.to_owned()),
            in_use: false,
        };
        match (&step.resource, &step.action) {
            (ResourceId::Network(name), Action::CreateNetwork { app, config, .. }) => {
                let before = self
                    .view()
                    .networks
                    .insert(name.clone(), owned(app.as_str(), config));
                assert_eq!(before, None, "{name} is there already");
            }
            (ResourceId::Network(name), Action::RemoveNetwork) => {
                let is_joined = self.joined.values().flatten().any(|joined| joined == name);
                assert!(!is_joined, "{name} has containers on it");
                let before = self.view().networks.remove(name);
                assert!(
                    before.is_some_and(|network| network.app.is_some()),
                    "{name} is not ours"
                );
            }
            (ResourceId::Volume(name), Action::CreateVolume { app, config, .. }) => {
                let before = self
                    .view()
                    .volumes
                    .insert(name.clone(), owned(app.as_str(), config));
                assert_eq!(before, None, "{name} is there already");
            }
            (ResourceId::Volume(name), Action::RemoveVolume) => {
                assert!(
                    self.inventory.volumes.contains(name),
                    "{name} was not declared to go"
                );
                let before = self.view().volumes.remove(name);
                assert!(
                    before.is_some_and(|volume| volume.app.is_some()),
                    "{name} is not ours"
                );
            }
            (_, _) => panic!("{step}: nothing that a plan does"),
        }
    }
}
