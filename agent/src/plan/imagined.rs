//! A device that is exactly as a state says: what a plan would change on it is what sets two states apart, in the planner's own
//! words. For telling beforehand what a promotion does to a fleet that nobody can look at.

use std::collections::BTreeMap;

use evenkeel_schema::service::VolumeOnRemove;

use super::container::{restart_policy, spec};
use super::{Action, Left, Mode, Plan, declared_volumes, order, plan, plan_leaving};
use crate::domain::desired::{DesiredFile, DesiredState};
use crate::domain::history::{Inventory, OwnedFile};
use crate::domain::observed::{
    EngineView, FileKind, Health, ObservedContainer, ObservedFile, ObservedImage, ObservedState,
    Owned, RunState, Seen,
};
use crate::domain::resource::{ResourceId, ServiceId};

/// What a device that is as `before` says would do to become as `after` says.
#[must_use]
pub fn between(before: &DesiredState, after: &DesiredState) -> Plan {
    let (mut observed, inventory) = device(before);
    for (_, path, _) in after.files() {
        observed.files.entry(path.clone()).or_insert(Seen::Absent);
    }
    if let Seen::Present(view) = &mut observed.engine {
        // What is `external` was made by hand: there.
        for blocked in plan(
            after,
            &observed_without_files(view),
            &Inventory::default(),
            Mode::Keep,
        )
        .blocked
        {
            foreign(view, &blocked.resource);
        }
        for app in after.apps.values() {
            for service in app.services.values() {
                view.images
                    .entry(service.image.to_string())
                    .or_insert_with(|| image(service.image.as_str()));
            }
        }
    }
    let left = Left::default().ending_volumes();
    plan_leaving(after, &observed, &inventory, Mode::Keep, &left)
}

fn device(state: &DesiredState) -> (ObservedState, Inventory) {
    let mut inventory = Inventory {
        order: order(state),
        volumes: declared_volumes(state)
            .filter(|(_, volume)| volume.extension.on_remove == VolumeOnRemove::Delete)
            .map(|(name, _)| name)
            .collect(),
        ..Inventory::default()
    };
    let mut files = BTreeMap::new();
    for (_, path, file) in state.files() {
        files.insert(path.clone(), Seen::Present(seen(file)));
        inventory.files.insert(
            path.clone(),
            OwnedFile {
                content: file.content.clone(),
                on_remove: file.on_remove,
                replaced: false,
            },
        );
    }
    let mut view = EngineView::default();
    let empty = ObservedState {
        files: files.clone(),
        engine: Seen::Present(EngineView::default()),
    };
    let made = plan(state, &empty, &inventory, Mode::Keep);
    for step in &made.steps {
        match (&step.resource, &step.action) {
            (ResourceId::Network(name), Action::CreateNetwork { app, config, .. }) => {
                view.networks
                    .insert(name.clone(), ours(app.as_str(), config));
            }
            (ResourceId::Volume(name), Action::CreateVolume { app, config, .. }) => {
                view.volumes
                    .insert(name.clone(), ours(app.as_str(), config));
            }
            _ => {}
        }
    }
    for blocked in &made.blocked {
        foreign(&mut view, &blocked.resource);
    }
    for (app, declared) in &state.apps {
        for (name, service) in declared.standing() {
            let id = ServiceId {
                app: app.clone(),
                service: name.clone(),
            };
            let Some(spec) = spec(state, &id) else {
                continue;
            };
            let image = image(service.image.as_str());
            view.containers.insert(
                id.clone(),
                vec![ObservedContainer {
                    engine_id: id.to_string(),
                    name: spec.name,
                    config: Some(spec.config),
                    image_id: image.id.clone(),
                    state: RunState::Running,
                    restart: restart_policy(service),
                    restarts: 0,
                    oom_killed: false,
                    started_at: String::new(),
                    health: Health::None,
                    facts: BTreeMap::new(),
                }],
            );
            view.images.insert(service.image.to_string(), image);
            inventory.services.insert(id);
        }
    }
    let observed = ObservedState {
        files,
        engine: Seen::Present(view),
    };
    (observed, inventory)
}

fn observed_without_files(view: &EngineView) -> ObservedState {
    ObservedState {
        files: BTreeMap::new(),
        engine: Seen::Present(view.clone()),
    }
}

fn seen(file: &DesiredFile) -> ObservedFile {
    ObservedFile {
        kind: FileKind::Regular,
        content: Some(file.content.clone()),
        mode: file.mode,
        owner: file.owner.clone(),
        group: file.group.clone(),
        uid: file.owner.parse().unwrap_or(0),
        gid: file.group.parse().unwrap_or(0),
    }
}

fn ours(app: &str, config: &str) -> Owned {
    Owned {
        app: Some(app.to_owned()),
        config: Some(config.to_owned()),
        in_use: false,
    }
}

/// A network or volume that is there and not ours.
fn foreign(view: &mut EngineView, resource: &ResourceId) {
    let owned = Owned {
        app: None,
        config: None,
        in_use: false,
    };
    match resource {
        ResourceId::Network(name) => {
            view.networks.entry(name.clone()).or_insert(owned);
        }
        ResourceId::Volume(name) => {
            view.volumes.entry(name.clone()).or_insert(owned);
        }
        ResourceId::File(_)
        | ResourceId::Service(_)
        | ResourceId::Image(_)
        | ResourceId::Unit(_) => {}
    }
}

fn image(reference: &str) -> ObservedImage {
    ObservedImage {
        id: reference.to_owned(),
        ..ObservedImage::default()
    }
}
