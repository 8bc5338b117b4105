//! Watching a new revision until the gate has judged it: taking samples, reviving what ends, asking the remote
//! meanwhile so that a newer commit can interrupt.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::begin::Further;
use super::prepare::Prepared;
use super::session::chain;
use super::{Agent, Interruption};
use crate::domain::baseline::Baseline;
use crate::domain::desired::DesiredState;
use crate::domain::observed::{ObservedState, Seen};
use crate::domain::resource::{ResourceId, ServiceId};
use crate::domain::revision::CommitId;
use crate::gate::{Gate, Healthy, Judgement, Sample, ServiceSample};
use crate::plan::Plan;
use crate::port::World;
use crate::port::engine::Engine as _;
use crate::port::journal::Journal as _;
use crate::port::reporter::{Event, Reporter as _};

/// Time between two samples: a health check's own interval is seldom shorter.
pub(super) const SAMPLE_EVERY: Duration = Duration::from_millis(500);

/// Time between two runs of the device's own scripts where one fails: they may do more than look.
const SCRIPTS_EVERY: Duration = Duration::from_secs(5);

/// How watching ended.
pub(super) enum Watched {
    Healthy(Healthy),
    Unhealthy(String),
    Undecided(String),
    Superseded(CommitId),
    Interrupted,
}

impl<W: World> Agent<W> {
    /// Watches until there is a verdict.
    pub(super) async fn watch(&self, prepared: &Prepared, before: &Baseline) -> Watched {
        let state = &prepared.resolved.state;
        let began = Instant::now();
        let mut gate = Gate::new(state, before);
        if let Some(told) = before.told() {
            let text = format!("not well before this change, and not held against it: {told}");
            self.session.notice(&self.world, &text);
        }
        // The remote is asked beside the samples: one that stalls must not blind the gate.
        let mut newer = std::pin::pin!(self.interrupting(prepared.commit.id().clone()));
        loop {
            let observed = self
                .observe(state, &self.world.journal().ledger().inventory)
                .await;
            let sample = self.sample(state, &observed).await;
            self.tell_apps(state, &observed).await;
            self.world.reporter().tell(&Event::Alive);
            let mut pause = SAMPLE_EVERY;
            match gate.sample(began.elapsed(), &sample) {
                Judgement::Healthy(proof) => {
                    let ran = tokio::select! {
                        ran = self.run_scripts(&before.scripts) => ran,
                        newer = &mut newer => return Watched::Superseded(newer),
                        Interruption::Stop | Interruption::Asked = self.interrupt.wait() => {
                            return Watched::Interrupted;
                        }
                    };
                    match ran.required.first() {
                        None => return Watched::Healthy(proof),
                        Some((_, why)) if began.elapsed() >= gate.deadline() => {
                            return Watched::Unhealthy(why.clone());
                        }
                        Some(_) => pause = SCRIPTS_EVERY,
                    }
                }
                Judgement::Unhealthy(why) => return Watched::Unhealthy(why),
                Judgement::Undecided(why) => return Watched::Undecided(why),
                Judgement::Revive(services) => self.revive(&services, &observed).await,
                Judgement::Wait { .. } => {}
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                newer = &mut newer => return Watched::Superseded(newer),
                Interruption::Stop | Interruption::Asked = self.interrupt.wait() => {
                    return Watched::Interrupted;
                }
            }
        }
    }

    /// One sample of everything that the gate judges.
    async fn sample(&self, state: &DesiredState, observed: &ObservedState) -> Sample {
        let mut services = BTreeMap::new();
        for (app, desired) in &state.apps {
            for (service, declared) in desired.standing() {
                let id = ServiceId {
                    app: app.clone(),
                    service: service.clone(),
                };
                let seen = match &observed.engine {
                    Seen::Unknown(why) => Seen::Unknown(why.clone()),
                    Seen::Absent => Seen::Absent,
                    Seen::Present(view) => {
                        match view.containers.get(&id).and_then(|all| all.first()) {
                            None if self.has_done(state, &id) => {
                                Seen::Present(ServiceSample::done())
                            }
                            None => Seen::Absent,
                            Some(container) => {
                                match self.world.engine().health(container, declared).await {
                                    Ok(checkup) => {
                                        Seen::Present(ServiceSample::of(container, checkup))
                                    }
                                    Err(error) => Seen::Unknown(chain(&error)),
                                }
                            }
                        }
                    }
                };
                services.insert(id, seen);
            }
        }
        let checks = self.probe_all(state, observed, |_, _| true).await;
        Sample { services, checks }
    }

    /// Starts again what ended although it is declared to be restarted: until the revision is good the engine must
    /// not do it.
    async fn revive(&self, services: &[ServiceId], observed: &ObservedState) {
        let Seen::Present(view) = &observed.engine else {
            return;
        };
        for id in services {
            let Some(container) = view.containers.get(id).and_then(|all| all.first()) else {
                continue;
            };
            if let Err(error) = self.begin(&container.engine_id, Further::TryAgain).await {
                // The next sample sees it still standing, and the gate judges that.
                self.session.notice(
                    &self.world,
                    &format!("cannot start {id} again: {}", chain(&error)),
                );
            }
        }
    }
}

/// The services whose containers a plan makes, starts, restarts or signals.
pub(super) fn touched(plan: &Plan) -> BTreeSet<ServiceId> {
    plan.steps
        .iter()
        .filter_map(|step| match &step.resource {
            ResourceId::Service(id) => Some(id.clone()),
            ResourceId::File(_)
            | ResourceId::Network(_)
            | ResourceId::Volume(_)
            | ResourceId::Image(_)
            | ResourceId::Unit(_) => None,
        })
        .collect()
}
