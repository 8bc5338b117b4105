//! Containers: one for each declared service, as declared, running; none for any other.
//!
//! Owns which container is kept where a service has several, when a job counts as done, and what follows a recreated
//! container. Refuses to take a name that a foreign container has (blocked, with the next move).

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_schema::path::AbsPath;

use super::container::{Difference, differences, spec};
use super::text::short;
use super::{Action, Blocked, Left, Mode, Step, changes, compose, namespaces};
use crate::domain::container::ContainerSpec;
use crate::domain::desired::{DesiredApp, DesiredState};
use crate::domain::history::Inventory;
use crate::domain::observed::{EngineView, ObservedContainer, RunState};
use crate::domain::resource::{ResourceId, ServiceId};

/// The container half of a plan, in the order of its fields.
#[derive(Debug, Default)]
pub(super) struct Services {
    /// Containers that go away first: undeclared, second ones, and those on networks that are made again.
    pub(super) removals: Vec<Step>,
    /// Made, made again and started, dependencies first.
    pub(super) starts: Vec<Step>,
    /// Restarts that follow: of the paused, of dependants, of those that mount a changed file.
    pub(super) restarts: BTreeMap<ServiceId, String>,
    /// Restart policies.
    pub(super) arming: Vec<Step>,
    /// Services whose container is (re)made or started by this plan.
    pub(super) begun: BTreeSet<ServiceId>,
    /// Services that have a container that stays, and whether it runs.
    pub(super) standing: BTreeMap<ServiceId, Standing>,
    /// What could not be planned.
    pub(super) blocked: Vec<Blocked>,
}

/// Whether a container that stays runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Running,
    Stopped,
}

/// Everything that the container half looks at.
pub(super) struct Question<'a> {
    pub(super) desired: &'a DesiredState,
    pub(super) view: &'a EngineView,
    pub(super) inventory: &'a Inventory,
    pub(super) mode: Mode,
    /// Declared files whose content this plan changes.
    pub(super) changed: &'a BTreeSet<&'a AbsPath>,
    /// Networks (by their names in the engine) that are made again.
    pub(super) rebuilt: &'a BTreeSet<String>,
    /// What stays as it is, running or not.
    pub(super) left: &'a Left,
}

pub(super) fn plan(question: &Question<'_>) -> Services {
    let mut services = Services::default();
    for id in going(question) {
        for container in in_order(of(question, id)) {
            services.remove(id, container, "no longer declared");
        }
    }
    services.end_hooks(question);
    let order = compose::order(question.desired);
    let acted = |id: &&ServiceId| !question.left.has(&ResourceId::Service((*id).clone()));
    for id in order.iter().rev().filter(acted) {
        services.clear(question, id);
    }
    for id in order.iter().filter(acted) {
        if let Some(app) = question.desired.apps.get(&id.app) {
            services.settle(question, app, id);
        }
    }
    services.follow(question);
    services
}

/// The services that are no longer declared, those that began last first. Of what is not known when it began, those that live
/// in others' namespaces first, then the last by name.
fn going<'q>(question: &Question<'q>) -> Vec<&'q ServiceId> {
    let ids = question.view.containers.keys();
    let mut going: Vec<&ServiceId> = ids
        .filter(|id| question.desired.service(id).is_none())
        .collect();
    let began = |id: &ServiceId| question.inventory.order.iter().position(|one| one == id);
    // An engine keeps a container in whose namespaces others live.
    let is_guest = |id: &ServiceId| of(question, id).iter().any(namespaces::is_guest);
    going.sort_by_key(|id| std::cmp::Reverse((began(id), is_guest(id), *id)));
    going
}

/// The container of a service that is kept: the one with the right name, then with the declared configuration, then
/// one that runs, then by the engine's id.
pub(super) fn keeper<'a>(
    spec: &ContainerSpec,
    containers: &'a [ObservedContainer],
) -> Option<&'a ObservedContainer> {
    containers.iter().min_by_key(|container| {
        (
            container.name != spec.name,
            container.config.as_ref() != Some(&spec.config),
            container.state != RunState::Running,
            &container.engine_id,
        )
    })
}

/// The containers in an order that does not depend on how the engine lists them.
fn in_order(containers: &[ObservedContainer]) -> Vec<&ObservedContainer> {
    let mut sorted: Vec<_> = containers.iter().collect();
    sorted.sort_by_key(|container| &container.engine_id);
    sorted
}

pub(super) fn of<'a>(question: &Question<'a>, id: &ServiceId) -> &'a [ObservedContainer] {
    question.view.containers.get(id).map_or(&[], Vec::as_slice)
}

/// The policy that the engine shall have for a container which this plan makes.
fn armed(mode: Mode, policy: &str) -> Option<String> {
    match mode {
        Mode::Keep if policy != "no" => Some(policy.to_owned()),
        Mode::Keep | Mode::Advance => None,
    }
}

impl Services {
    fn remove(&mut self, id: &ServiceId, container: &ObservedContainer, because: &str) {
        self.removals.push(Step {
            resource: ResourceId::Service(id.clone()),
            action: Action::RemoveContainer {
                engine_id: container.engine_id.clone(),
            },
            because: because.to_owned(),
        });
    }

    /// Hooks have a container only while they run, and none runs while a plan is made: what is there was cut short.
    fn end_hooks(&mut self, question: &Question<'_>) {
        for (id, containers) in &question.view.containers {
            let app = question.desired.apps.get(&id.app);
            let is_hook = app.is_some_and(|app| app.is_hook(&id.service));
            if is_hook && !question.left.has(&ResourceId::Service(id.clone())) {
                for container in in_order(containers) {
                    if !question.inventory.is_pending(&container.engine_id) {
                        self.remove(id, container, "a hook that was cut short");
                    }
                }
            }
        }
    }

    /// Removes the containers of a declared service that are in the way.
    fn clear(&mut self, question: &Question<'_>, id: &ServiceId) {
        let Some(spec) = spec(question.desired, id) else {
            return;
        };
        let containers = of(question, id);
        let kept = keeper(&spec, containers);
        for container in in_order(containers) {
            if kept.is_some_and(|kept| kept.engine_id == container.engine_id)
                || question.inventory.is_pending(&container.engine_id)
            {
                continue;
            }
            self.remove(id, container, "a second container of this service");
        }
        let kept = kept.filter(|kept| !question.inventory.is_pending(&kept.engine_id));
        if let Some((kept, because)) =
            kept.and_then(|kept| Some((kept, in_the_way(question, &spec, kept)?)))
        {
            self.remove(id, kept, &because);
        }
    }

    /// Brings a declared service to where it should be.
    fn settle(&mut self, question: &Question<'_>, app: &DesiredApp, id: &ServiceId) {
        let resource = ResourceId::Service(id.clone());
        let (Some(spec), Some(service)) =
            (spec(question.desired, id), app.services.get(&id.service))
        else {
            let why = "its declaration could not be turned into a container: this is an error in the agent".to_owned();
            self.blocked.push(Blocked { resource, why });
            return;
        };
        let policy = service.restart.to_string();
        let kept = keeper(&spec, of(question, id));
        let is_named = kept.is_some_and(|kept| kept.name == spec.name);
        if !is_named && question.view.foreign_container_names.contains(&spec.name) {
            let why = format!(
                "a container that is not ours has the name `{0}`: take it over (`evenkeel adopt --take {0}={id}`), remove it \
                 (`docker rm -f {0}`), or give the service another `container_name`",
                spec.name
            );
            self.blocked.push(Blocked { resource, why });
            return;
        }
        let arm = armed(question.mode, &policy);
        let Some(kept) = kept else {
            if app.may_end(&id.service) && question.inventory.done.get(id) == Some(&spec.config) {
                return;
            }
            let because = if question.inventory.services.contains(id) {
                "its container is gone"
            } else {
                "new"
            };
            return self.begin(
                id,
                Action::CreateContainer {
                    spec: Box::new(spec),
                    arm,
                },
                because.to_owned(),
            );
        };
        let pending = question.inventory.is_pending(&kept.engine_id);
        if pending && let Some(because) = unlike(question, &spec, kept) {
            let why = format!(
                "the adopted container `{}` is not as declared ({because}): declare it as it is (`evenkeel adopt` shows how), or \
                 remove it (`docker rm -f {0}`)",
                kept.name
            );
            self.blocked.push(Blocked { resource, why });
            return;
        }
        if !pending && let Some(because) = in_the_way(question, &spec, kept) {
            let action = Action::CreateContainer {
                spec: Box::new(spec),
                arm,
            };
            return self.begin(id, action, because);
        }
        if !pending
            && let Some(because) = outdated(question, &spec, kept)
                .or_else(|| namespaces::lost(self, question, &spec, kept))
        {
            let old = kept.engine_id.clone();
            return self.begin(
                id,
                Action::RecreateContainer {
                    old,
                    spec: Box::new(spec),
                    arm,
                },
                because,
            );
        }
        let start = |because: String| {
            (
                Action::StartContainer {
                    engine_id: kept.engine_id.clone(),
                },
                because,
            )
        };
        match kept.state {
            RunState::Running => {
                self.standing.insert(id.clone(), Standing::Running);
            }
            // The engine is about to start it: it takes no signal, and begins anew anyway.
            RunState::Restarting => {
                self.standing.insert(id.clone(), Standing::Stopped);
            }
            RunState::Paused => {
                self.standing.insert(id.clone(), Standing::Running);
                self.restarts
                    .insert(id.clone(), "paused by hand".to_owned());
            }
            RunState::Created => {
                let (action, because) = start("made, and never started".to_owned());
                self.begin(id, action, because);
            }
            RunState::Exited(0) if app.may_end(&id.service) => {
                self.standing.insert(id.clone(), Standing::Stopped);
            }
            RunState::Exited(code) => {
                let (action, because) = start(format!("exited ({code})"));
                self.begin(id, action, because);
            }
            RunState::Dead => {
                let old = kept.engine_id.clone();
                let action = Action::RecreateContainer {
                    old,
                    spec: Box::new(spec),
                    arm,
                };
                return self.begin(id, action, "dead".to_owned());
            }
        }
        if question.mode == Mode::Keep && kept.restart != policy {
            self.arming.push(Step {
                resource,
                because: format!("restart policy {} -> {policy}", kept.restart),
                action: Action::SetRestart {
                    engine_id: kept.engine_id.clone(),
                    policy,
                },
            });
        }
    }

    /// Whether this plan makes the container of a service, or makes it again.
    pub(super) fn is_made(&self, id: &ServiceId) -> bool {
        self.starts.iter().any(|step| {
            let makes = matches!(
                step.action,
                Action::CreateContainer { .. } | Action::RecreateContainer { .. }
            );
            makes && step.resource == ResourceId::Service(id.clone())
        })
    }

    fn begin(&mut self, id: &ServiceId, action: Action, because: String) {
        self.begun.insert(id.clone());
        self.starts.push(Step {
            resource: ResourceId::Service(id.clone()),
            action,
            because,
        });
    }

    /// What follows from the rest: a directory that a container mounts has a changed file in it; a dependency with
    /// `restart: true` was made again or restarted.
    fn follow(&mut self, question: &Question<'_>) {
        for (id, path) in changes::implied_restarts(question.desired, question.changed) {
            if self.standing.contains_key(&id) {
                self.restarts
                    .entry(id)
                    .or_insert_with(|| format!("file{path} changed, which it mounts"));
            }
        }
        for (id, because) in changes::wanted_restarts(question.desired, question.changed) {
            if self.standing.contains_key(&id) {
                self.restarts.entry(id).or_insert(because);
            }
        }
        let made_again: BTreeSet<ServiceId> = self
            .starts
            .iter()
            .filter_map(|step| match (&step.resource, &step.action) {
                (
                    ResourceId::Service(id),
                    Action::CreateContainer { .. } | Action::RecreateContainer { .. },
                ) => Some(id.clone()),
                (_, _) => None,
            })
            .collect();
        // In start order, so that one pass carries a restart through a chain of dependants.
        for id in compose::order(question.desired) {
            let Some(service) = question.desired.service(&id) else {
                continue;
            };
            if self.standing.get(&id) != Some(&Standing::Running) {
                continue;
            }
            let cause = service.depends_on.iter().find(|(needed, dependency)| {
                let needed = ServiceId {
                    app: id.app.clone(),
                    service: (*needed).clone(),
                };
                // Namespaces end with the process that has them.
                let shared = service
                    .shares_with()
                    .any(|name| name == needed.service.as_str());
                dependency.restart
                    && (made_again.contains(&needed)
                        || self.restarts.contains_key(&needed)
                        || (shared && self.begun.contains(&needed)))
            });
            if let Some((needed, _)) = cause {
                let because = format!("depends on {needed}, which begins anew");
                self.restarts.entry(id).or_insert(because);
            }
        }
    }
}

/// Why a container has to go before others are made again, where it has: it lives in the namespaces of one of them, it
/// joins a network that is made again, or it is made again too and may be on one that its declaration does not name any
/// more.
pub(super) fn in_the_way(
    question: &Question<'_>,
    spec: &ContainerSpec,
    kept: &ObservedContainer,
) -> Option<String> {
    if let Some(because) = namespaces::made_again(question, spec) {
        return Some(because);
    }
    if let Some((network, _)) = spec
        .networks
        .iter()
        .find(|(name, _)| question.rebuilt.contains(name))
    {
        return Some(format!("its network {network} is made again"));
    }
    let is_of_this_app = |name: &String| {
        question
            .view
            .networks
            .get(name)
            .is_some_and(|network| network.app.as_deref() == Some(spec.id.app.as_str()))
    };
    if question.rebuilt.iter().any(is_of_this_app) {
        return outdated(question, spec, kept);
    }
    None
}

/// How many differing settings a reason lists.
const LISTED: usize = 4;

/// How an adopted container differs from what it is declared to be. Nobody knows what declaration it was made from, so
/// what it is has to tell.
fn unlike(
    question: &Question<'_>,
    spec: &ContainerSpec,
    kept: &ObservedContainer,
) -> Option<String> {
    if kept.name != spec.name {
        return Some(format!("name {} -> {}", kept.name, spec.name));
    }
    let Some(image) = question.view.images.get(spec.service.image.as_str()) else {
        return Some("its declared image is not on the device".to_owned());
    };
    told(&differences(spec, image, kept)).or_else(|| {
        changes::mounted_itself(&spec.id, &spec.service, question.changed)
            .map(|path| format!("file{path} changes, which it mounts by itself"))
    })
}

/// Differences in one line; `None` where there is none.
fn told(found: &[Difference]) -> Option<String> {
    if found.is_empty() {
        return None;
    }
    let mut reasons: Vec<String> = found
        .iter()
        .take(LISTED)
        .map(|difference| {
            format!(
                "{} {} -> {}",
                difference.key, difference.from, difference.to
            )
        })
        .collect();
    if found.len() > LISTED {
        reasons.push(format!("and {} more", found.len() - LISTED));
    }
    Some(reasons.join(", "))
}

/// Why a container has to be made again, where it has.
pub(super) fn outdated(
    question: &Question<'_>,
    spec: &ContainerSpec,
    kept: &ObservedContainer,
) -> Option<String> {
    let has_declared_config = kept.config.as_ref() == Some(&spec.config);
    let found = match question.view.images.get(spec.service.image.as_str()) {
        Some(image) => differences(spec, image, kept),
        // The image is not here: what it brings is not known, so the label alone tells. A container that runs on with
        // its image removed by hand is as declared.
        None if has_declared_config => Vec::new(),
        None => {
            return Some(format!(
                "declaration changed; image {} is not on the device yet",
                short(
                    spec.service
                        .image
                        .as_str()
                        .rsplit('@')
                        .next()
                        .unwrap_or_default()
                )
            ));
        }
    };
    if let Some(reasons) = told(&found) {
        return Some(reasons);
    }
    if !has_declared_config {
        return Some("its declaration or a file that it mounts changed".to_owned());
    }
    if kept.name != spec.name {
        return Some(format!("name {} -> {}", kept.name, spec.name));
    }
    // A file mounted by itself: the mount holds the file that stood there before, whatever stands there now.
    changes::mounted_itself(&spec.id, &spec.service, question.changed)
        .map(|path| format!("file{path} changed, which it mounts by itself"))
}
