//! Taking the steps of a plan. Nothing is decided here: a step carries all it needs, and its failure ends the run
//! (towards a new revision) or is told and passed over (at a good one).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use evenkeel_schema::app::OnChange;
use evenkeel_schema::service::Service;

use super::Agent;
use super::begin::Further;
use super::needs::Needs;
use super::session::chain;
use super::watch::touched;
use crate::domain::container::ContainerSpec;
use crate::domain::desired::{Contents, DesiredFile, DesiredState};
use crate::domain::observed::{Health, ObservedState, RunState, Seen};
use crate::domain::resource::{CopyReason, ResourceId, ServiceId};
use crate::domain::storage::Storage;
use crate::plan::{Action, Plan, Step};
use crate::port::World;
use crate::port::engine::{Engine as _, EngineError};
use crate::port::files::{Files as _, FilesError};
use crate::port::journal::{Journal as _, JournalError};
use crate::port::reporter::{Event, Reporter as _};
use crate::port::units::{Units as _, UnitsError};
use evenkeel_schema::path::AbsPath;

/// For a container that is no longer declared: Compose's own default.
const STOP_GRACE: Duration = evenkeel_schema::service::DEFAULT_STOP_GRACE;

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
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Another app is not up, which this change does not touch.
    #[error("{0}")]
    Waits(String),
    #[error("{0}")]
    Hook(String),
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
            Self::Dependency(_) | Self::Hook(_) => true,
            Self::Waits(_)
            | Self::Journal(_)
            | Self::Files(_)
            | Self::Units(_)
            | Self::NoContent(_)
            | Self::Interrupted => false,
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
            | Self::Waits(_)
            | Self::Journal(_)
            | Self::Hook(_)
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
            Self::Waits(_) => "requires",
            Self::Journal(_) => super::JOURNAL,
            Self::Hook(_) => "hook",
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
    pub(super) agent: &'a Agent<W>,
    pub(super) desired: &'a DesiredState,
    pub(super) staging: Staging<'a>,
    pub(super) ids: BTreeMap<ServiceId, String>,
    /// The names that containers have, ours and others'.
    pub(super) names: BTreeSet<String>,
    /// The names of ours, by the engine's id: one is free once its container is gone, not when that is merely planned.
    pub(super) named: BTreeMap<String, String>,
    /// Containers, by the engine's id, that ran before and were not unhealthy.
    pub(super) sound: BTreeSet<String>,
    /// Services that the plan does something to.
    pub(super) touched: BTreeSet<ServiceId>,
    /// Networks and volumes that a hook needed before their step came.
    pub(super) early: BTreeSet<ResourceId>,
    /// What was learned of services that others wait for.
    pub(super) needs: Needs,
    /// The steps that were taken, in the plan's words.
    pub(super) taken: Vec<String>,
    /// The hooks that were run.
    pub(super) told: Vec<String>,
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
        let sound = match &observed.engine {
            Seen::Present(view) => view
                .containers
                .values()
                .flatten()
                .filter(|one| one.state == RunState::Running && one.health != Health::Unhealthy)
                .map(|one| one.engine_id.clone())
                .collect(),
            Seen::Absent | Seen::Unknown(_) => BTreeSet::new(),
        };
        Self {
            agent,
            desired,
            staging,
            ids,
            names,
            named,
            sound,
            touched: touched(plan),
            early: BTreeSet::new(),
            needs: Needs::default(),
            taken: Vec::new(),
            told: Vec::new(),
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

    pub(super) async fn act(&mut self, step: &Step) -> Result<(), StepError> {
        let world = &self.agent.world;
        let (engine, files) = (world.engine(), world.files());
        let device = &self.agent.settings.device;
        match &step.action {
            Action::CreateNetwork { .. } | Action::CreateVolume { .. }
                if self.early.contains(&step.resource) => {}
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
                if let ResourceId::Service(id) = &step.resource {
                    self.wait_for_needs(id).await?;
                }
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
        self.wait_for_needs(&spec.id).await?;
        self.make(spec, arm).await
    }

    /// Makes and starts a container.
    pub(super) async fn make(
        &mut self,
        spec: &ContainerSpec,
        arm: Option<&str>,
    ) -> Result<(), StepError> {
        let engine = self.agent.world.engine();
        let engine_id = engine.create(spec).await.map_err(StepError::Begin)?;
        self.ids.insert(spec.id.clone(), engine_id.clone());
        self.begin(&engine_id).await?;
        if let Some(policy) = arm {
            engine.set_restart(&engine_id, policy).await?;
        }
        Ok(())
    }

    pub(super) async fn begin(&self, engine_id: &str) -> Result<(), StepError> {
        let further = match self.staging {
            // What was begun before it is not armed yet, and ends with the engine: all of it is tried again.
            Staging::Done => Further::TryLater,
            Staging::Now(_) => Further::TryAgain,
        };
        let begun = self.agent.begin(engine_id, further).await;
        begun.map_err(StepError::Begin)
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
        StepError::Dependency(_)
        | StepError::Waits(_)
        | StepError::Journal(_)
        | StepError::Hook(_)
        | StepError::NoContent(_)
        | StepError::Interrupted => {
            format!("{step}: {error}")
        }
    }
}
