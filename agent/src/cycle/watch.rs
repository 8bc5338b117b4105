//! Watching a new revision until the gate has judged it: taking samples, reviving what ends, asking the remote
//! meanwhile so that a newer commit can interrupt.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use evenkeel_schema::app::{Check, Probe};
use evenkeel_schema::name::AppName;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::begin::Further;
use super::inventory::services_of;
use super::prepare::Prepared;
use super::session::chain;
use super::{Agent, Interruption};
use crate::domain::desired::DesiredState;
use crate::domain::observed::{ObservedState, Seen};
use crate::domain::resource::{ResourceId, ServiceId};
use crate::domain::revision::CommitId;
use crate::gate::{Gate, Healthy, Judgement, Probed, Sample, ServiceSample};
use crate::plan::{self, Mode, Plan};
use crate::port::World;
use crate::port::engine::Engine as _;
use crate::port::journal::Journal as _;
use crate::port::probes::Probes as _;
use crate::port::reporter::{Event, Reporter as _};
use crate::port::units::Units as _;

/// Time between two samples: a health check's own interval is seldom shorter.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);

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
    pub(super) async fn watch(&self, prepared: &Prepared) -> Watched {
        let state = &prepared.resolved.state;
        let began = Instant::now();
        let mut gate = Gate::new(state, &prepared.observed).touching(&self.judged(prepared));
        for id in gate.excused() {
            self.session.notice(
                &self.world,
                &format!("service {id} was not well before this change and is not touched by it: it is not judged"),
            );
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
            match gate.sample(began.elapsed(), &sample) {
                Judgement::Healthy(proof) => return Watched::Healthy(proof),
                Judgement::Unhealthy(why) => return Watched::Unhealthy(why),
                Judgement::Undecided(why) => return Watched::Undecided(why),
                Judgement::Revive(services) => self.revive(&services, &observed).await,
                Judgement::Wait { .. } => {}
            }
            tokio::select! {
                () = tokio::time::sleep(SAMPLE_EVERY) => {}
                newer = &mut newer => return Watched::Superseded(newer),
                Interruption::Stop | Interruption::Asked = self.interrupt.wait() => {
                    return Watched::Interrupted;
                }
            }
        }
    }

    /// The services that are judged whatever they were before: those that the plan touches, and those that are not as
    /// last-good left them. An earlier try of this revision, or one that it interrupted, may have broken these: that
    /// they were not well before is then no excuse. Without a last-good there is none at all.
    fn judged(&self, prepared: &Prepared) -> BTreeSet<ServiceId> {
        let journal = self.world.journal();
        let ledger = journal.ledger();
        let good = ledger
            .last_good()
            .and_then(|good| journal.kept_state(good.content()).ok());
        let mut judged = touched(&prepared.plan);
        match good {
            Some(good) => {
                let back = plan::plan(&good, &prepared.observed, &ledger.inventory, Mode::Keep);
                judged.extend(touched(&back));
            }
            None => judged.extend(services_of(&prepared.resolved.state)),
        }
        judged
    }

    /// One sample of everything that the gate judges.
    async fn sample(&self, state: &DesiredState, observed: &ObservedState) -> Sample {
        let mut services = BTreeMap::new();
        for (app, desired) in &state.apps {
            for (service, declared) in &desired.services {
                let id = ServiceId {
                    app: app.clone(),
                    service: service.clone(),
                };
                let seen = match &observed.engine {
                    Seen::Unknown(why) => Seen::Unknown(why.clone()),
                    Seen::Absent => Seen::Absent,
                    Seen::Present(view) => {
                        match view.containers.get(&id).and_then(|all| all.first()) {
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
        let checks = join_all(state.apps.iter().flat_map(|(app, desired)| {
            desired
                .checks
                .iter()
                .enumerate()
                .map(move |(index, check)| self.probe(app, index, check))
        }))
        .await
        .into_iter()
        .collect();
        Sample { services, checks }
    }

    async fn probe(
        &self,
        app: &AppName,
        index: usize,
        check: &Check,
    ) -> ((AppName, usize), Probed) {
        let probed = match &check.probe {
            Probe::Unit(unit) => match self.world.units().is_active(unit).await {
                Ok(true) => Probed::Passed,
                Ok(false) => Probed::Failed(format!("unit {unit} is not active")),
                Err(error) => Probed::Failed(error.to_string()),
            },
            Probe::Tcp(_) | Probe::Http(_) | Probe::Command(_) => {
                match self.world.probes().run(check).await {
                    Ok(()) => Probed::Passed,
                    Err(why) => Probed::Failed(why),
                }
            }
        };
        ((app.clone(), index), probed)
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
fn touched(plan: &Plan) -> BTreeSet<ServiceId> {
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
