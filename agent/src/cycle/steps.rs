//! Taking the steps of a plan. Nothing is decided here: a step carries all it needs, and its failure ends the run
//! (towards a new revision) or is told and passed over (at a good one).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use evenkeel_schema::app::OnChange;
use evenkeel_schema::service::{Condition, Service};

use super::begin::Further;
use super::session::chain;
use super::{Agent, Interruption};
use crate::domain::container::ContainerSpec;
use crate::domain::desired::{Contents, DesiredFile, DesiredState};
use crate::domain::history::Undeclared;
use crate::domain::observed::{Health, ObservedState, RunState, Seen};
use crate::domain::resource::{CopyReason, ResourceId, ServiceId};
use crate::domain::storage::Storage;
use crate::plan::{Action, Plan, Step};
use crate::port::World;
use crate::port::engine::{Engine as _, EngineError};
use crate::port::files::{Files as _, FilesError};
use crate::port::journal::Journal as _;
use crate::port::reporter::{Event, Reporter as _};
use crate::port::units::{Units as _, UnitsError};
use evenkeel_schema::path::AbsPath;

/// For a container that is no longer declared: Compose's own default.
const STOP_GRACE: Duration = evenkeel_schema::service::DEFAULT_STOP_GRACE;
/// How often a dependency is looked at while a service waits for it.
const DEPENDENCY_LOOK: Duration = Duration::from_millis(500);

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error("an engine step failed")]
    Engine(#[from] EngineError),
    #[error("a container could not be made or started")]
    Begin(#[source] EngineError),
    #[error("a file step failed")]
    Files(#[from] FilesError),
    #[error("a unit step failed")]
    Units(#[from] UnitsError),
    #[error("{0}")]
    Dependency(String),
    #[error("the content of {0} is not kept on this device")]
    NoContent(AbsPath),
    #[error("stopped before its end")]
    Interrupted,
}

impl StepError {
    /// Whether the revision itself is at fault (its settings or its workloads), and not the world.
    pub(super) const fn blames_revision(&self) -> bool {
        match self {
            Self::Engine(error) | Self::Begin(error) => match error {
                EngineError::Refused { .. } => true,
                EngineError::Down { .. }
                | EngineError::Image { .. }
                | EngineError::Damaged { .. }
                | EngineError::PortKept { .. }
                | EngineError::Failed { .. } => false,
            },
            Self::Dependency(_) => true,
            Self::Files(_) | Self::Units(_) | Self::NoContent(_) | Self::Interrupted => false,
        }
    }

    /// Whether the engine answered, and could not make or start a container.
    pub(super) const fn is_unstarted(&self) -> bool {
        matches!(self, Self::Begin(EngineError::Failed { .. }))
    }

    /// The image that is damaged, where that is the cause.
    pub(super) fn damaged_image(&self) -> Option<&str> {
        match self {
            Self::Engine(error) | Self::Begin(error) => match error {
                EngineError::Damaged { image, .. } => Some(image),
                EngineError::Down { .. }
                | EngineError::Image { .. }
                | EngineError::Refused { .. }
                | EngineError::PortKept { .. }
                | EngineError::Failed { .. } => None,
            },
            Self::Files(_)
            | Self::Units(_)
            | Self::Dependency(_)
            | Self::NoContent(_)
            | Self::Interrupted => None,
        }
    }

    /// A stable word for what failed.
    pub(super) fn kind(&self) -> &'static str {
        if let Some(storage) = Storage::behind(self) {
            return storage.reason();
        }
        match self {
            Self::Engine(error) | Self::Begin(error) => match error {
                EngineError::Image { .. } => "registry",
                EngineError::Damaged { .. } => "image",
                EngineError::Down { .. }
                | EngineError::Refused { .. }
                | EngineError::PortKept { .. }
                | EngineError::Failed { .. } => "engine",
            },
            Self::Dependency(_) => "engine",
            Self::Files(_) | Self::NoContent(_) => "disk",
            Self::Units(_) => "units",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Where the contents of written files are.
pub(super) enum Staging<'a> {
    /// Beside their places already, kept copies made.
    Done,
    /// Here, to be staged when their step comes.
    Now(&'a Contents),
}

/// One run through a plan.
pub(super) struct Run<'a, W: World> {
    agent: &'a Agent<W>,
    desired: &'a DesiredState,
    staging: Staging<'a>,
    ids: BTreeMap<ServiceId, String>,
    /// The names that containers have, ours and others'.
    names: BTreeSet<String>,
    /// The names of ours, by the engine's id: one is free once its container is gone, not when that is merely planned.
    named: BTreeMap<String, String>,
    /// The steps that were taken, in the plan's words.
    pub(super) taken: Vec<String>,
}

impl<'a, W: World> Run<'a, W> {
    pub(super) fn new(
        agent: &'a Agent<W>,
        desired: &'a DesiredState,
        observed: &ObservedState,
        plan: &Plan,
        staging: Staging<'a>,
    ) -> Self {
        // A second container of a service is removed by the same plan: steps that follow mean the one that stays.
        let goes = |engine_id: &String| {
            plan.steps.iter().any(
                |step| matches!(&step.action, Action::RemoveContainer { engine_id: gone } if gone == engine_id),
            )
        };
        let ids = match &observed.engine {
            Seen::Present(view) => view
                .containers
                .iter()
                .filter_map(|(id, all)| {
                    let stays = all.iter().find(|one| !goes(&one.engine_id))?;
                    Some((id.clone(), stays.engine_id.clone()))
                })
                .collect(),
            Seen::Absent | Seen::Unknown(_) => BTreeMap::new(),
        };
        let (named, names) = match &observed.engine {
            Seen::Present(view) => {
                let named: BTreeMap<_, _> = view
                    .containers
                    .values()
                    .flatten()
                    .map(|one| (one.engine_id.clone(), one.name.clone()))
                    .collect();
                let all = named.values().chain(&view.foreign_container_names);
                let names = all.cloned().collect();
                (named, names)
            }
            Seen::Absent | Seen::Unknown(_) => (BTreeMap::new(), BTreeSet::new()),
        };
        Self {
            agent,
            desired,
            staging,
            ids,
            names,
            named,
            taken: Vec::new(),
        }
    }

    /// Takes one step.
    pub(super) async fn take(&mut self, step: &Step) -> Result<(), StepError> {
        let text = step.to_string();
        self.agent.world.reporter().tell(&Event::Step(text.clone()));
        // Hundreds of files in a row wait for nothing but the disk: who asks for the status, and the watchdog, come between.
        tokio::task::yield_now().await;
        self.act(step).await?;
        self.taken.push(text);
        Ok(())
    }

    async fn act(&mut self, step: &Step) -> Result<(), StepError> {
        let world = &self.agent.world;
        let (engine, files) = (world.engine(), world.files());
        let device = &self.agent.settings.device;
        match &step.action {
            Action::CreateNetwork {
                app,
                key,
                network,
                config,
            } => {
                let name = name_of(&step.resource);
                engine
                    .create_network(&name, device, app, key, network, config)
                    .await?;
            }
            Action::RemoveNetwork => engine.remove_network(&name_of(&step.resource)).await?,
            Action::RemoveVolume => engine.remove_volume(&name_of(&step.resource)).await?,
            Action::CreateVolume {
                app,
                key,
                volume,
                config,
            } => {
                let name = name_of(&step.resource);
                engine
                    .create_volume(&name, device, app, key, volume, config)
                    .await?;
            }
            Action::WriteFile { path, file, keep } => self.write(path, file, *keep)?,
            Action::SetMetadata { path, file } => files.set_metadata(path, file)?,
            Action::RemoveFile { path, keep } => {
                self.keep_copy(path, *keep)?;
                files.remove(path)?;
            }
            Action::RestoreFile { path, keep } => {
                self.keep_copy(path, *keep)?;
                self.with_room(|| files.restore(path))?;
            }
            Action::DisownFile { path: _ } => {}
            Action::CreateContainer { spec, arm } => self.create(spec, arm.as_deref()).await?,
            Action::RecreateContainer { old, spec, arm } => {
                self.replace(old, spec, arm.as_deref()).await?;
            }
            Action::StartContainer { engine_id } => {
                self.begin(engine_id).await?;
            }
            Action::RestartContainer { id } => {
                if let (Some(engine_id), Some(service)) = (self.ids.get(id), self.service(id)) {
                    engine.restart(engine_id, grace(service)).await?;
                }
            }
            Action::SignalContainer { id, signal } => {
                if let Some(engine_id) = self.ids.get(id) {
                    engine.signal(engine_id, signal).await?;
                }
            }
            Action::SetRestart { engine_id, policy } => {
                engine.set_restart(engine_id, policy).await?;
            }
            Action::RemoveContainer { engine_id } => {
                engine.stop(engine_id, STOP_GRACE).await?;
                engine.remove(engine_id).await?;
                if let Some(name) = self.named.get(engine_id) {
                    self.names.remove(name);
                }
            }
            Action::Unit(OnChange::RestartUnit(unit)) => world.units().restart(unit).await?,
            Action::Unit(OnChange::ReloadUnit(unit)) => world.units().reload(unit).await?,
            Action::Unit(OnChange::RestartService(_) | OnChange::SignalService { .. }) => {}
        }
        Ok(())
    }

    fn service(&self, id: &ServiceId) -> Option<&'a Service> {
        self.desired.apps.get(&id.app)?.services.get(&id.service)
    }

    fn write(
        &self,
        path: &AbsPath,
        file: &DesiredFile,
        keep: Option<CopyReason>,
    ) -> Result<(), StepError> {
        let files = self.agent.world.files();
        if let Staging::Now(contents) = &self.staging {
            self.keep_copy(path, keep)?;
            let content = contents
                .get(&file.content)
                .ok_or_else(|| StepError::NoContent(path.clone()))?;
            self.with_room(|| files.stage(path, file, content))?;
        }
        self.with_room(|| files.switch(path))?;
        Ok(())
    }

    /// On the way back to what is good, what finds the disk full gets the room that is held back for it.
    fn with_room(&self, act: impl Fn() -> Result<(), FilesError>) -> Result<(), FilesError> {
        match (act(), &self.staging) {
            (Err(error), Staging::Now(_))
                if Storage::behind(&error) == Some(Storage::Full)
                    && self.agent.world.journal().give_room() =>
            {
                act()
            }
            (done, Staging::Now(_) | Staging::Done) => done,
        }
    }

    fn keep_copy(&self, path: &AbsPath, keep: Option<CopyReason>) -> Result<(), StepError> {
        if let Some(why) = keep {
            self.with_room(|| self.agent.world.files().keep_copy(path, why))?;
        }
        Ok(())
    }

    async fn create(&mut self, spec: &ContainerSpec, arm: Option<&str>) -> Result<(), StepError> {
        self.wait_for_dependencies(spec).await?;
        let engine = self.agent.world.engine();
        let engine_id = engine.create(spec).await.map_err(StepError::Begin)?;
        self.ids.insert(spec.id.clone(), engine_id.clone());
        self.begin(&engine_id).await?;
        if let Some(policy) = arm {
            engine.set_restart(&engine_id, policy).await?;
        }
        Ok(())
    }

    async fn begin(&self, engine_id: &str) -> Result<(), StepError> {
        let further = match self.staging {
            // What was begun before it is not armed yet, and ends with the engine: all of it is tried again.
            Staging::Done => Further::TryLater,
            Staging::Now(_) => Further::TryAgain,
        };
        let begun = self.agent.begin(engine_id, further).await;
        begun.map_err(StepError::Begin)
    }

    /// Makes a container's successor while it still runs, under a name of its own for that long: what the engine cannot
    /// make (an image that is damaged or gone, a setting that it refuses) costs no service its container.
    async fn replace(
        &mut self,
        old: &str,
        spec: &ContainerSpec,
        arm: Option<&str>,
    ) -> Result<(), StepError> {
        self.wait_for_dependencies(spec).await?;
        let engine = self.agent.world.engine();
        let interim = self.interim_name(&spec.name);
        let next = engine
            .create(&ContainerSpec {
                name: interim.clone(),
                ..spec.clone()
            })
            .await
            .map_err(StepError::Begin)?;
        if let Err(error) = self.retire(old, spec).await {
            // The old one stays what this service has. A successor that cannot be taken away either is a second container
            // to the next pass, which removes it.
            if let Err(second) = engine.remove(&next).await {
                let text = format!("{interim} stays for now: {}", chain(&second));
                self.agent.session.notice(&self.agent.world, &text);
            }
            return Err(error.into());
        }
        self.ids.insert(spec.id.clone(), next.clone());
        if interim != spec.name {
            engine.rename(&next, &spec.name).await?;
        }
        self.begin(&next).await?;
        if let Some(policy) = arm {
            engine.set_restart(&next, policy).await?;
        }
        Ok(())
    }

    async fn retire(&self, old: &str, spec: &ContainerSpec) -> Result<(), EngineError> {
        let engine = self.agent.world.engine();
        engine.stop(old, grace(&spec.service)).await?;
        engine.remove(old).await
    }

    /// A name that nobody has: the right one where it is free.
    fn interim_name(&self, name: &str) -> String {
        let mut interim = name.to_owned();
        let mut number = 1_u32;
        while self.names.contains(&interim) {
            interim = match number {
                1 => format!("{name}.next"),
                _ => format!("{name}.next-{number}"),
            };
            number += 1;
        }
        interim
    }

    /// Waits for what `depends_on` asks beyond "started", at most as long as the app's own deadline.
    async fn wait_for_dependencies(&self, spec: &ContainerSpec) -> Result<(), StepError> {
        let deadline = self
            .desired
            .apps
            .get(&spec.id.app)
            .map_or(Duration::from_secs(120), |app| app.gate.deadline);
        let began = tokio::time::Instant::now();
        for (name, dependency) in &spec.service.depends_on {
            let id = ServiceId {
                app: spec.id.app.clone(),
                service: name.clone(),
            };
            loop {
                let (met, what) = self.met(&id, dependency.condition).await?;
                self.agent.world.reporter().tell(&Event::Alive);
                if met {
                    break;
                }
                if began.elapsed() >= deadline {
                    if dependency.required {
                        return Err(StepError::Dependency(format!(
                            "service {} waits for {id} to be {what}, and it was not within {}",
                            spec.id,
                            evenkeel_schema::duration::text(deadline)
                        )));
                    }
                    break;
                }
                tokio::select! {
                    () = tokio::time::sleep(DEPENDENCY_LOOK) => {}
                    Interruption::Stop | Interruption::Asked = self.agent.interrupt.wait() => {
                        return Err(StepError::Interrupted);
                    }
                }
            }
        }
        Ok(())
    }

    async fn met(
        &self,
        id: &ServiceId,
        condition: Condition,
    ) -> Result<(bool, &'static str), StepError> {
        let what = match condition {
            Condition::Started => return Ok((true, "started")),
            Condition::Healthy => "healthy",
            Condition::Completed => "completed successfully",
        };
        let engine = self.agent.world.engine();
        let inventory = self.agent.world.journal().ledger().inventory;
        let adopted = inventory.adopted_for(self.desired, Undeclared::Stays);
        let view = engine
            .observe(&self.agent.settings.device, &[], &adopted)
            .await?;
        let container = view.containers.get(id).and_then(|all| all.first());
        let (Some(container), Some(service)) = (container, self.service(id)) else {
            return Ok((false, what));
        };
        let met = match condition {
            Condition::Started => true,
            Condition::Healthy => {
                container.state == RunState::Running
                    && match engine.health(container, service).await?.health {
                        Health::Healthy | Health::None => true,
                        Health::Starting | Health::Unhealthy => false,
                    }
            }
            Condition::Completed => match container.state {
                RunState::Exited(0) => true,
                RunState::Exited(code) => {
                    return Err(StepError::Dependency(format!(
                        "service {id} must complete successfully, and ended with {code}"
                    )));
                }
                RunState::Created
                | RunState::Running
                | RunState::Paused
                | RunState::Restarting
                | RunState::Dead => false,
            },
        };
        Ok((met, what))
    }
}

/// How long a service's container gets to stop.
pub(super) fn grace(service: &Service) -> Duration {
    service.stop_grace()
}

fn name_of(resource: &ResourceId) -> String {
    match resource {
        ResourceId::Network(name)
        | ResourceId::Volume(name)
        | ResourceId::Image(name)
        | ResourceId::Unit(name) => name.clone(),
        ResourceId::File(path) => path.to_string(),
        ResourceId::Service(id) => id.to_string(),
    }
}

/// A failed step in one sentence: what was tried, and why it failed.
pub(super) fn describe(step: &Step, error: &StepError) -> String {
    match error {
        StepError::Engine(inner) | StepError::Begin(inner) => {
            format!("{step}: {}", chain(inner))
        }
        StepError::Files(inner) => format!("{step}: {}", chain(inner)),
        StepError::Units(inner) => format!("{step}: {}", chain(inner)),
        StepError::Dependency(_) | StepError::NoContent(_) | StepError::Interrupted => {
            format!("{step}: {error}")
        }
    }
}
