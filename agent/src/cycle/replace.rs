//! A changed container takes the old one's place, as its update order says.
//!
//! Owns that a service has its old container until a new one could be made, and with `start-first` until that is healthy. On the
//! way back to what is good the new one is put in place whether it is healthy or not: it is what shall be there.

use std::time::Duration;

use evenkeel_schema::service::UpdateOrder;
use tokio::time::Instant;

use super::session::chain;
use super::steps::{Run, Staging, StepError, grace};
use crate::domain::container::ContainerSpec;
use crate::domain::observed::RunState;
use crate::port::World;
use crate::port::engine::{Engine as _, EngineError};
use crate::port::reporter::{Event, Reporter as _};

/// A new container without a health check has to run for as long as its app soaks, and for this long at most, before the old
/// one stops.
const STEADY: Duration = Duration::from_secs(10);

impl<W: World> Run<'_, W> {
    /// Puts a new container in an old one's place.
    pub(super) async fn replace(
        &mut self,
        old: &str,
        spec: &ContainerSpec,
        arm: Option<&str>,
    ) -> Result<(), StepError> {
        self.wait_for_needs(&spec.id).await?;
        match spec.service.update_order() {
            UpdateOrder::Recreate => {
                self.retire(old, spec).await?;
                if let Some(name) = self.named.get(old) {
                    self.names.remove(name);
                }
                return self.make(spec, arm).await;
            }
            UpdateOrder::StopFirst | UpdateOrder::StartFirst => {}
        }
        // Made while the old one still runs, under a name of its own for that long: what the engine cannot make (an image that
        // is damaged or gone, a setting that it refuses) costs no service its container.
        let engine = self.agent.world.engine();
        let interim = self.interim_name(&spec.name);
        let next = engine
            .create(&ContainerSpec {
                name: interim.clone(),
                ..spec.clone()
            })
            .await
            .map_err(StepError::Begin)?;
        // What does not run, or not well, is nothing to keep up.
        let starts_first =
            spec.service.update_order() == UpdateOrder::StartFirst && self.sound.contains(old);
        if starts_first && let Err(error) = self.prove(&next, spec).await {
            self.take_away(&next, &interim).await;
            return Err(error);
        }
        if let Err(error) = self.retire(old, spec).await {
            // The old one stays what this service has.
            self.take_away(&next, &interim).await;
            return Err(error.into());
        }
        self.ids.insert(spec.id.clone(), next.clone());
        if interim != spec.name {
            engine.rename(&next, &spec.name).await?;
        }
        if !starts_first {
            self.begin(&next).await?;
        }
        if let Some(policy) = arm {
            engine.set_restart(&next, policy).await?;
        }
        Ok(())
    }

    /// Starts a new container beside the old one, and waits until it is healthy.
    async fn prove(&mut self, next: &str, spec: &ContainerSpec) -> Result<(), StepError> {
        self.begin(next).await?;
        let gate = self
            .desired
            .apps
            .get(&spec.id.app)
            .map(|app| app.gate)
            .unwrap_or_default();
        let may_end = self
            .desired
            .apps
            .get(&spec.id.app)
            .is_some_and(|app| app.may_end(&spec.id.service));
        let began = Instant::now();
        let mut steady_since = began;
        loop {
            let view = self.agent.view(self.desired).await?;
            let all = view.containers.get(&spec.id);
            let seen = all.into_iter().flatten().find(|one| one.engine_id == next);
            let why = match seen {
                Some(seen) => match seen.state {
                    RunState::Running if self.is_healthy(&spec.id, seen).await? => {
                        let tested = spec
                            .service
                            .healthcheck
                            .as_ref()
                            .is_some_and(|test| !test.is_disabled())
                            || seen.health == crate::domain::observed::Health::Healthy;
                        if tested || steady_since.elapsed() >= gate.soak.min(STEADY) {
                            return Ok(());
                        }
                        "it did not run for long enough"
                    }
                    RunState::Exited(0) if may_end => return Ok(()),
                    RunState::Exited(_) if self.start_again(&spec.id, seen).await? => {
                        steady_since = Instant::now();
                        "it ended, and was started again"
                    }
                    RunState::Exited(_) | RunState::Dead => "it ended",
                    RunState::Created
                    | RunState::Running
                    | RunState::Paused
                    | RunState::Restarting => "it is not healthy",
                },
                None => "it is gone",
            };
            self.agent.world.reporter().tell(&Event::Alive);
            let is_over = why == "it ended" || why == "it is gone";
            if is_over || began.elapsed() >= gate.deadline {
                return match self.staging {
                    Staging::Now(_) => Ok(()),
                    Staging::Done => Err(StepError::Dependency(format!(
                        "the new container of {} beside the old one: {why} after {}; the old one runs on",
                        spec.id,
                        evenkeel_schema::duration::text(Duration::from_secs(
                            began.elapsed().as_secs()
                        ))
                    ))),
                };
            }
            self.pause().await?;
        }
    }

    /// A successor that cannot be taken away either is a second container to the next pass, which removes it.
    async fn take_away(&self, next: &str, interim: &str) {
        if let Err(second) = self.agent.world.engine().remove(next).await {
            let text = format!("{interim} stays for now: {}", chain(&second));
            self.agent.session.notice(&self.agent.world, &text);
        }
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
}
