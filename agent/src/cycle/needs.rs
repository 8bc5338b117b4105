//! Waiting, before a container starts, for what it needs: services of its own app (`depends_on`), and the apps that its app
//! requires.
//!
//! Owns how long is waited, and what counts as up. Refuses to start what needs something that is not up; whether the revision
//! is blamed for that depends on whether it touches what is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use evenkeel_schema::service::{Condition, Restart};
use tokio::time::Instant;

use super::steps::{Run, StepError};
use super::{Agent, Interruption};
use crate::domain::desired::DesiredState;
use crate::domain::history::Undeclared;
use crate::domain::observed::{EngineView, Health, ObservedContainer, RunState};
use crate::domain::resource::ServiceId;
use crate::port::World;
use crate::port::engine::{Engine as _, EngineError};
use crate::port::journal::Journal as _;
use crate::port::reporter::{Event, Reporter as _};

/// How often something is looked at while it is waited for.
pub(super) const LOOK: Duration = Duration::from_millis(500);
/// How often what failed and is declared to be restarted is started again while it is waited for: as often as a gate does.
const MOST_STARTS: u32 = 3;

/// What was learned in one run.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Services of other apps that were waited for: what kept each from being up.
    others: BTreeMap<ServiceId, Result<(), String>>,
    /// How often each was started again.
    again: BTreeMap<ServiceId, u32>,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    Healthy,
    Completed,
}

impl Want {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Completed => "completed successfully",
        }
    }
}

impl<W: World> Agent<W> {
    /// What the engine has of ours now.
    pub(super) async fn view(&self, desired: &DesiredState) -> Result<EngineView, EngineError> {
        let inventory = self.world.journal().ledger().inventory;
        let adopted = inventory.adopted_for(desired, Undeclared::Stays);
        let engine = self.world.engine();
        engine.observe(&self.settings.device, &[], &adopted).await
    }
}

impl<W: World> Run<'_, W> {
    /// Waits for all that a service needs before it starts.
    pub(super) async fn wait_for_needs(&mut self, id: &ServiceId) -> Result<(), StepError> {
        self.wait_for_apps(id).await?;
        self.wait_for_dependencies(id).await
    }

    /// Waits for what `depends_on` asks beyond "started", at most as long as the app's own deadline.
    pub(super) async fn wait_for_dependencies(&mut self, id: &ServiceId) -> Result<(), StepError> {
        let desired = self.desired;
        let (Some(app), Some(service)) = (desired.apps.get(&id.app), desired.service(id)) else {
            return Ok(());
        };
        let began = Instant::now();
        for (name, dependency) in &service.depends_on {
            let want = match dependency.condition {
                Condition::Started => continue,
                Condition::Healthy => Want::Healthy,
                Condition::Completed => Want::Completed,
            };
            let needed = ServiceId {
                app: id.app.clone(),
                service: name.clone(),
            };
            if !self.until(&needed, want, began, app.gate.deadline).await? && dependency.required {
                return Err(StepError::Dependency(format!(
                    "service {id} waits for {needed} to be {}, and it was not within {}",
                    want.as_str(),
                    evenkeel_schema::duration::text(app.gate.deadline)
                )));
            }
        }
        Ok(())
    }

    /// Waits until every service of every app that this one's app requires is up, each app as long as its own deadline says.
    async fn wait_for_apps(&mut self, id: &ServiceId) -> Result<(), StepError> {
        let desired = self.desired;
        let Some(own) = desired.apps.get(&id.app) else {
            return Ok(());
        };
        let began = Instant::now();
        for name in &own.requires {
            let Some(app) = desired.apps.get(name) else {
                continue;
            };
            for (service, _) in app.standing() {
                let needed = ServiceId {
                    app: name.clone(),
                    service: service.clone(),
                };
                let want = if app.is_awaited(service) {
                    Want::Completed
                } else {
                    Want::Healthy
                };
                let learned = match self.needs.others.get(&needed) {
                    Some(learned) => learned.clone(),
                    None => {
                        let deadline = app.gate.deadline;
                        let learned = match self.until(&needed, want, began, deadline).await {
                            Ok(true) => Ok(()),
                            Ok(false) => Err(format!(
                                "and {needed} was not {} within {}",
                                want.as_str(),
                                evenkeel_schema::duration::text(deadline)
                            )),
                            Err(StepError::Dependency(why)) => Err(format!("and {why}")),
                            Err(other) => return Err(other),
                        };
                        self.needs.others.insert(needed.clone(), learned.clone());
                        learned
                    }
                };
                if let Err(why) = learned {
                    let text = format!("service {id} waits for the app {name}, {why}");
                    return Err(if self.touched.contains(&needed) {
                        StepError::Dependency(text)
                    } else {
                        StepError::Waits(text)
                    });
                }
            }
        }
        Ok(())
    }

    /// Whether a service is as it is wanted before the deadline.
    async fn until(
        &mut self,
        id: &ServiceId,
        want: Want,
        began: Instant,
        deadline: Duration,
    ) -> Result<bool, StepError> {
        loop {
            if self.met(id, want).await? {
                return Ok(true);
            }
            self.agent.world.reporter().tell(&Event::Alive);
            if began.elapsed() >= deadline {
                return Ok(false);
            }
            self.pause().await?;
        }
    }

    /// Waits a little, unless something else is asked for.
    pub(super) async fn pause(&self) -> Result<(), StepError> {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => Ok(()),
            Interruption::Stop | Interruption::Asked = self.agent.interrupt.wait() => {
                Err(StepError::Interrupted)
            }
        }
    }

    async fn met(&mut self, id: &ServiceId, want: Want) -> Result<bool, StepError> {
        let view = self.agent.view(self.desired).await?;
        let container = view.containers.get(id).and_then(|all| all.first());
        let Some(container) = container else {
            return Ok(self.agent.has_done(self.desired, id));
        };
        let may_end = self
            .desired
            .apps
            .get(&id.app)
            .is_some_and(|app| app.may_end(&id.service));
        match (want, &container.state) {
            (_, RunState::Exited(0)) if may_end => Ok(true),
            (Want::Healthy, RunState::Running) => self.is_healthy(id, container).await,
            (Want::Completed, RunState::Exited(code)) => {
                if self.start_again(id, container).await? {
                    return Ok(false);
                }
                Err(StepError::Dependency(format!(
                    "service {id} must complete successfully, and ended with {code}"
                )))
            }
            (
                Want::Healthy | Want::Completed,
                RunState::Created
                | RunState::Running
                | RunState::Paused
                | RunState::Restarting
                | RunState::Exited(_)
                | RunState::Dead,
            ) => Ok(false),
        }
    }

    /// Whether a running container is healthy, as far as anything asks it.
    pub(super) async fn is_healthy(
        &self,
        id: &ServiceId,
        container: &ObservedContainer,
    ) -> Result<bool, StepError> {
        let Some(service) = self.desired.service(id) else {
            return Ok(false);
        };
        let engine = self.agent.world.engine();
        Ok(match engine.health(container, service).await?.health {
            Health::Healthy | Health::None => true,
            Health::Starting | Health::Unhealthy => false,
        })
    }

    /// Starts again what ended and is declared to be restarted, a few times: until its revision is good the engine must not.
    pub(super) async fn start_again(
        &mut self,
        id: &ServiceId,
        container: &ObservedContainer,
    ) -> Result<bool, StepError> {
        let most = match self.desired.service(id).map(|service| service.restart) {
            Some(Restart::OnFailure(times)) => times.unwrap_or(MOST_STARTS).min(MOST_STARTS),
            Some(Restart::Always | Restart::UnlessStopped) => MOST_STARTS,
            Some(Restart::No) | None => 0,
        };
        let count = self.needs.again.entry(id.clone()).or_default();
        if *count >= most {
            return Ok(false);
        }
        *count += 1;
        self.begin(&container.engine_id).await?;
        Ok(true)
    }
}
