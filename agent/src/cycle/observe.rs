//! A look at the device: every path and container that is desired or ours.

use std::collections::BTreeSet;

use std::collections::BTreeMap;

use evenkeel_schema::image::ImageRef;

use super::session::{Says, chain};
use super::{Agent, Interruption};
use crate::domain::desired::DesiredState;
use crate::domain::history::{Deployment, DeploymentResult, Inventory, Ledger, Undeclared};
use crate::domain::observed::{Health, ObservedState, RunState, Seen};
use crate::domain::outcome::{AppStatus, ConditionType, ServiceStatus};
use crate::domain::resource::ServiceId;
use crate::plan::{Mode, container};
use crate::port::World;
use crate::port::engine::Engine as _;
use crate::port::files::Files as _;
use crate::port::journal::Journal as _;
use crate::port::reporter::{Event, Reporter as _};

/// Time between two looks at services that were just started.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(500);

impl<W: World> Agent<W> {
    /// Looks at what `desired` and the inventory name.
    pub(super) async fn observe(
        &self,
        desired: &DesiredState,
        inventory: &Inventory,
    ) -> ObservedState {
        self.observe_for(desired, inventory, Mode::Keep).await
    }

    /// As [`Self::observe`], on the way to `desired` in this mode.
    pub(super) async fn observe_for(
        &self,
        desired: &DesiredState,
        inventory: &Inventory,
        mode: Mode,
    ) -> ObservedState {
        let files = self.world.files();
        let declared = desired.files().map(|(_, path, _)| path);
        let paths = declared.chain(inventory.files.keys());
        let files = paths
            .map(|path| (path.clone(), files.observe(path)))
            .collect();
        let images: Vec<ImageRef> = desired
            .apps
            .values()
            .flat_map(|app| app.services.values().map(|service| service.image.clone()))
            .collect();
        let undeclared = match mode {
            Mode::Advance => Undeclared::Goes,
            Mode::Keep => Undeclared::Stays,
        };
        let adopted = inventory.adopted_for(desired, undeclared);
        let wanted = !images.is_empty() || !inventory.services.is_empty();
        let engine = match self
            .world
            .engine()
            .observe(&self.settings.device, &images, &adopted)
            .await
        {
            Ok(mut view) => {
                for container in view.containers.values_mut().flatten() {
                    if let Some(adopted) = inventory.adopted.get(&container.engine_id) {
                        container.config.clone_from(&adopted.config);
                    }
                }
                Seen::Present(view)
            }
            Err(_) if !wanted => Seen::Absent,
            Err(error) => Seen::Unknown(chain(&error)),
        };
        ObservedState { files, engine }
    }

    /// Whether something was good here before, or containers of this device exist that the journal knows nothing of:
    /// then it is not its first start, and its memory was lost. What a first revision left behind that never became
    /// good is in the inventory, and is no sign of that.
    pub(super) async fn has_run_here(&self, ledger: &Ledger) -> bool {
        let was_good = |history: Vec<Deployment>| {
            history
                .iter()
                .any(|deployment| deployment.result == DeploymentResult::Good)
        };
        if !ledger.good.is_empty() || self.world.journal().history().is_ok_and(was_good) {
            return true;
        }
        match self
            .world
            .engine()
            .observe(&self.settings.device, &[], &BTreeMap::new())
            .await
        {
            Ok(view) => view
                .containers
                .keys()
                .any(|id| !ledger.inventory.services.contains(id)),
            Err(_) => false,
        }
    }

    /// Whether what runs here can be seen at all.
    pub(super) async fn engine_answers(&self) -> bool {
        let engine = self.world.engine();
        engine
            .observe(&self.settings.device, &[], &BTreeMap::new())
            .await
            .is_ok()
    }

    /// What `status` says of the apps, and how well they are as far as their containers tell.
    pub(super) async fn tell_apps(
        &self,
        desired: &DesiredState,
        observed: &ObservedState,
    ) -> Wellness {
        let mut apps = Vec::new();
        let mut bad = Vec::new();
        let mut unknown = false;
        let mut starting = Vec::new();
        let restless = self.restless(observed);
        for (name, app) in &desired.apps {
            let mut services = Vec::new();
            let mut state = "Healthy";
            for (service, declared) in app.standing() {
                let id = ServiceId {
                    app: name.clone(),
                    service: service.clone(),
                };
                let container = match &observed.engine {
                    Seen::Present(view) => view.containers.get(&id).and_then(|all| all.first()),
                    Seen::Absent => None,
                    Seen::Unknown(_) => {
                        unknown = true;
                        None
                    }
                };
                let health = match container {
                    Some(container) => self
                        .world
                        .engine()
                        .health(container, declared)
                        .await
                        // What its test says may differ each time, and what is told here is written down.
                        .map_or(container.health, |checkup| checkup.health),
                    None => Health::None,
                };
                let may_end = app.may_end(service);
                let is_remembered = || container.is_none() && self.has_done(desired, &id);
                let done = may_end
                    && (is_remembered()
                        || container
                            .is_some_and(|container| container.state == RunState::Exited(0)));
                let running =
                    container.is_some_and(|container| container.state == RunState::Running);
                let keeps_ending =
                    container.is_some_and(|container| restless.contains(&container.engine_id));
                if keeps_ending {
                    state = "Degraded";
                    bad.push(format!("{id} keeps ending, and the engine starts it again"));
                } else if health == Health::Unhealthy || !(running || done) {
                    state = "Degraded";
                    bad.push(id.to_string());
                } else if health == Health::Starting || (running && app.is_awaited(service)) {
                    starting.push(id.to_string());
                    if state == "Healthy" {
                        state = "Progressing";
                    }
                }
                services.push(ServiceStatus {
                    name: service.to_string(),
                    container: container.map(|container| container.name.clone()),
                    state: container.map_or_else(
                        || if done { "done" } else { "absent" }.to_owned(),
                        |container| run_state(&container.state),
                    ),
                    health: match health {
                        Health::None => "none",
                        Health::Starting => "starting",
                        Health::Healthy => "healthy",
                        Health::Unhealthy => "unhealthy",
                    }
                    .to_owned(),
                    image: declared.image.to_string(),
                });
            }
            apps.push(AppStatus {
                name: name.to_string(),
                state: if unknown && !app.services.is_empty() {
                    "Unknown"
                } else {
                    state
                }
                .to_owned(),
                services,
            });
        }
        self.session.update(&self.world, |report| {
            report.apps = apps;
            report.fleet = Some(desired.fleet.clone());
        });
        let (wellness, says) = if unknown {
            let says = Says::unknown("EngineDown", "the container engine does not answer");
            (Wellness::Unknown, says)
        } else if !bad.is_empty() {
            let why = format!("not well: {}", bad.join(", "));
            (Wellness::Unwell(why.clone()), Says::no("Unhealthy", why))
        } else if !starting.is_empty() {
            let why = format!("not healthy yet: {}", starting.join(", "));
            (
                Wellness::Starting(why.clone()),
                Says::unknown("Starting", why),
            )
        } else {
            (Wellness::Well, Says::yes("Healthy", "every service runs"))
        };
        self.session.says(&self.world, ConditionType::Healthy, says);
        wellness
    }

    /// Whether this job, as it is declared, is known to have ended well.
    pub(super) fn has_done(&self, desired: &DesiredState, id: &ServiceId) -> bool {
        let done = self.world.journal().ledger().inventory.done;
        let app = desired.apps.get(&id.app);
        app.is_some_and(|app| app.may_end(&id.service))
            && done.get(id).is_some_and(|config| {
                container::spec(desired, id).is_some_and(|spec| spec.config == *config)
            })
    }

    /// The containers that run only between one end and the next.
    pub(super) fn restless(&self, observed: &ObservedState) -> BTreeSet<String> {
        let Seen::Present(view) = &observed.engine else {
            return BTreeSet::new();
        };
        let all = view.containers.values().flatten();
        self.session.restless.borrow_mut().look(
            all.map(|one| (one.engine_id.as_str(), one.restarts)),
            tokio::time::Instant::now(),
        )
    }

    /// Watches services that were just started at a good revision until they are well, or their apps' deadlines are
    /// over, or something else is asked for.
    pub(super) async fn await_wellness(&self, desired: &DesiredState) -> Wellness {
        let deadline = desired
            .apps
            .values()
            .map(|app| app.gate.deadline)
            .max()
            .unwrap_or_default();
        let began = tokio::time::Instant::now();
        loop {
            let inventory = self.world.journal().ledger().inventory;
            let observed = self.observe(desired, &inventory).await;
            let wellness = self.tell_apps(desired, &observed).await;
            self.world.reporter().tell(&Event::Alive);
            match wellness {
                Wellness::Well => return wellness,
                Wellness::Starting(_) | Wellness::Unwell(_) | Wellness::Unknown => {
                    if began.elapsed() >= deadline {
                        return wellness;
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                Interruption::Stop | Interruption::Asked = self.interrupt.wait() => {
                    return wellness;
                }
            }
        }
    }
}

/// How well what runs is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wellness {
    /// Everything runs and is healthy.
    Well,
    /// Something is not healthy yet.
    Starting(String),
    /// Something is not well.
    Unwell(String),
    /// The engine could not be asked.
    Unknown,
}

fn run_state(state: &RunState) -> String {
    match state {
        RunState::Created => "created".to_owned(),
        RunState::Running => "running".to_owned(),
        RunState::Paused => "paused".to_owned(),
        RunState::Restarting => "restarting".to_owned(),
        RunState::Exited(code) => format!("exited ({code})"),
        RunState::Dead => "dead".to_owned(),
    }
}
