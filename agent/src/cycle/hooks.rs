//! Hooks: services of an app that run once around a change, and not otherwise.
//!
//! Owns when each runs, and for which apps: those that the plan changes. A hook is run at least once: one that was cut short by
//! a crash is run again. Its container is there only as long as it runs.

use std::collections::BTreeSet;

use evenkeel_schema::app::Moment;
use evenkeel_schema::name::AppName;
use tokio::time::Instant;

use super::Agent;
use super::session::chain;
use super::steps::{Run, StepError, grace};
use crate::domain::desired::DesiredState;
use crate::domain::history::Ledger;
use crate::domain::observed::{EngineView, RunState};
use crate::domain::resource::{ResourceId, ServiceId};
use crate::plan::{self, Action, Left, Plan, container};
use crate::port::World;
use crate::port::engine::Engine as _;
use crate::port::journal::Journal as _;
use crate::port::reporter::{Event, Reporter as _};

/// The apps of a state of which a plan makes, removes or replaces containers, or changes files, in the order in which they begin.
pub(super) fn changed_apps(state: &DesiredState, plan: &Plan) -> Vec<AppName> {
    let mut changed = BTreeSet::new();
    for step in &plan.steps {
        match (&step.action, &step.resource) {
            (
                Action::CreateContainer { .. }
                | Action::RecreateContainer { .. }
                | Action::RemoveContainer { .. },
                ResourceId::Service(id),
            ) => {
                changed.insert(&id.app);
            }
            (Action::WriteFile { path, .. } | Action::RestoreFile { path, .. }, _) => {
                let owner = state.files().find(|(_, declared, _)| *declared == path);
                changed.extend(owner.map(|(app, _, _)| app));
            }
            (_, _) => {}
        }
    }
    plan::app_order(state)
        .into_iter()
        .filter(|app| changed.contains(app))
        .cloned()
        .collect()
}

impl<W: World> Agent<W> {
    /// Runs what comes before a change of those of these apps that stood here before; then writes down for which of them there
    /// is a hook on the way back.
    pub(super) async fn before_update(
        &self,
        run: &mut Run<'_, W>,
        apps: &[AppName],
        plan: &Plan,
        ledger: &Ledger,
    ) -> Result<(), StepError> {
        let journal = self.world.journal();
        let good = ledger
            .last_good()
            .and_then(|good| journal.kept_state(good.content()).ok());
        let Some(good) = good else { return Ok(()) };
        let stood: Vec<AppName> = apps
            .iter()
            .filter(|app| good.apps.contains_key(*app))
            .cloned()
            .collect();
        run.hooks(Moment::BeforeUpdate, &stood, plan).await?;
        let restores = |app: &&AppName| good.apps[*app].hooks.contains_key(&Moment::BeforeRollback);
        let current = journal.ledger().inventory;
        let mut next = current.clone();
        next.unproven.extend(stood.iter().filter(restores).cloned());
        if next != current {
            journal.set_inventory(&next)?;
        }
        self.session.undone.set(false);
        Ok(())
    }

    /// Runs what comes before a way back: of the apps that what is left has changed, where the revision gone back to has a hook
    /// for it. What of it fails is told, and stops nothing.
    ///
    /// # Errors
    /// Only where something else is asked for meanwhile: then nothing is put back yet.
    pub(super) async fn before_rollback(
        &self,
        run: &mut Run<'_, W>,
        plan: &Plan,
        left: &Left,
        moved: Moved,
    ) -> Result<(), StepError> {
        let unproven = self.world.journal().ledger().inventory.unproven;
        let apps: Vec<AppName> = changed_apps(run.desired, plan)
            .into_iter()
            .filter(|app| match moved {
                Moved::ByHand => true,
                Moved::No => unproven.contains(app),
            })
            .filter(|app| {
                // What the owner does not allow any more is not run either.
                let hook = run.desired.apps[app].hooks.get(&Moment::BeforeRollback);
                hook.is_some_and(|hook| {
                    !left.has(&ResourceId::Service(ServiceId {
                        app: app.clone(),
                        service: hook.service.clone(),
                    }))
                })
            })
            .collect();
        if apps.is_empty() || self.session.undone.get() {
            return Ok(());
        }
        for app in &apps {
            let mut failures = Vec::new();
            if let Err(error) = run.stop_what_changes(app, plan).await {
                failures.push(error);
            }
            match run.hook(Moment::BeforeRollback, app, plan).await {
                Ok(()) => {}
                Err(StepError::Interrupted) => return Err(StepError::Interrupted),
                Err(error) => failures.push(error),
            }
            for error in failures {
                let text = format!(
                    "before_rollback of the app {app} failed, and the device goes back all the same: {}",
                    chain(&error)
                );
                self.session.notice(&self.world, &text);
                run.told.push(text);
            }
        }
        // Whatever keeps the way back from its end: it is not restored again and again.
        self.session.undone.set(true);
        Ok(())
    }
}

/// Whether a person moves the device to another good revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    ByHand,
    No,
}

impl<W: World> Run<'_, W> {
    /// Runs what is to be run where a change failed; gives what failed of it.
    pub(super) async fn on_failure(&mut self, apps: &[AppName], plan: &Plan) -> Vec<String> {
        let mut failed = Vec::new();
        for app in apps {
            if let Err(error) = self.hook(Moment::OnFailure, app, plan).await {
                failed.push(chain(&error));
            }
        }
        failed
    }

    /// Runs the hooks of these apps, one after the other. The first that fails ends it.
    pub(super) async fn hooks(
        &mut self,
        moment: Moment,
        apps: &[AppName],
        plan: &Plan,
    ) -> Result<(), StepError> {
        for app in apps {
            self.hook(moment, app, plan).await?;
        }
        Ok(())
    }

    /// Runs the hook of an app, where it has one.
    pub(super) async fn hook(
        &mut self,
        moment: Moment,
        app: &AppName,
        plan: &Plan,
    ) -> Result<(), StepError> {
        let desired = self.desired;
        let Some(hook) = desired.apps.get(app).and_then(|app| app.hooks.get(&moment)) else {
            return Ok(());
        };
        let id = ServiceId {
            app: app.clone(),
            service: hook.service.clone(),
        };
        let Some(mut spec) = container::spec(desired, &id) else {
            return Ok(());
        };
        let text = format!("run service/{id}   {}", moment.as_str());
        self.agent.world.reporter().tell(&Event::Step(text.clone()));
        self.told.push(text);
        self.wait_for_dependencies(&id).await?;
        let engine = self.agent.world.engine();
        let view = self.agent.view(desired).await?;
        // What a crash left of it.
        for left in view.containers.get(&id).into_iter().flatten() {
            engine.remove(&left.engine_id).await?;
        }
        self.take_early(&spec.networks, spec.volumes.values(), &view, plan)
            .await?;
        // The engine starts it never again, whatever becomes of us.
        spec.service.restart = evenkeel_schema::service::Restart::No;
        let engine_id = engine.create(&spec).await.map_err(StepError::Begin)?;
        let ended = self.run_to_end(&engine_id, &id, hook.deadline).await;
        if ended.is_err() {
            // It may still run: an error to end it is told by the next pass, which removes it.
            let _late = engine.stop(&engine_id, grace(&spec.service)).await;
        }
        let removed = engine.remove(&engine_id).await;
        let code = ended?;
        removed?;
        if code == 0 {
            return Ok(());
        }
        Err(StepError::Hook(format!(
            "{} of the app {app} (service {}) ended with {code}",
            moment.as_str(),
            id.service
        )))
    }

    async fn run_to_end(
        &self,
        engine_id: &str,
        id: &ServiceId,
        deadline: std::time::Duration,
    ) -> Result<i64, StepError> {
        self.begin(engine_id).await?;
        let began = Instant::now();
        loop {
            let view = self.agent.view(self.desired).await?;
            let all = view.containers.get(id);
            let seen = all
                .into_iter()
                .flatten()
                .find(|one| one.engine_id == engine_id);
            match seen.map(|seen| &seen.state) {
                Some(RunState::Exited(code)) => return Ok(*code),
                Some(
                    RunState::Created
                    | RunState::Running
                    | RunState::Paused
                    | RunState::Restarting
                    | RunState::Dead,
                ) => {}
                None => {
                    return Err(StepError::Hook(format!(
                        "the hook {id} has no container any more: somebody removed it"
                    )));
                }
            }
            self.agent.world.reporter().tell(&Event::Alive);
            if began.elapsed() >= deadline {
                return Err(StepError::Hook(format!(
                    "the hook {id} did not end within {}",
                    evenkeel_schema::duration::text(deadline)
                )));
            }
            self.pause().await?;
        }
    }

    /// Makes the networks and volumes that a hook needs and that are not there yet, before their step comes.
    async fn take_early<'n>(
        &mut self,
        networks: &[(String, Vec<String>)],
        volumes: impl Iterator<Item = &'n String>,
        view: &EngineView,
        plan: &Plan,
    ) -> Result<(), StepError> {
        let missing: BTreeSet<ResourceId> = networks
            .iter()
            .filter(|(name, _)| !view.networks.contains_key(name))
            .map(|(name, _)| ResourceId::Network(name.clone()))
            .chain(
                volumes
                    .filter(|name| !view.volumes.contains_key(*name))
                    .map(|name| ResourceId::Volume(name.clone())),
            )
            .collect();
        for step in &plan.steps {
            let makes = matches!(
                step.action,
                Action::CreateNetwork { .. } | Action::CreateVolume { .. }
            );
            if makes && missing.contains(&step.resource) {
                self.act(step).await?;
                self.early.insert(step.resource.clone());
            }
        }
        Ok(())
    }

    /// Stops the containers of an app that a plan replaces or removes, those that began last first: what its hook restores is
    /// not written to meanwhile.
    pub(super) async fn stop_what_changes(
        &self,
        app: &AppName,
        plan: &Plan,
    ) -> Result<(), StepError> {
        let engine = self.agent.world.engine();
        for step in plan.steps.iter().rev() {
            let ResourceId::Service(id) = &step.resource else {
                continue;
            };
            let (Action::RecreateContainer { old: engine_id, .. }
            | Action::RemoveContainer { engine_id }) = &step.action
            else {
                continue;
            };
            if id.app == *app {
                let wait = self
                    .desired
                    .service(id)
                    .map_or(evenkeel_schema::service::DEFAULT_STOP_GRACE, grace);
                engine.stop(engine_id, wait).await?;
            }
        }
        Ok(())
    }
}
