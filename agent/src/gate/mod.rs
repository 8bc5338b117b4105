//! Samples and a deadline in, a verdict out. Pure: the loop takes the samples, this room judges them.
//!
//! A revision is healthy once every app has been well without a break for its own soak: its services run (or, jobs,
//! ended with 0), their health checks say healthy (or there are none), its checks pass. An app that is not well at
//! its deadline makes the revision unhealthy; a soak that began before the deadline may end after it. What was not
//! well before the change is its [`Baseline`]: it is reported and does not fail it, as long as it gets no worse.
//!
//! Until its revision is good a container's restart policy in the engine is `no`, so this room also tells which ended
//! containers to start again, and gives up on one that keeps ending.

pub mod ring;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use evenkeel_schema::name::{AppName, ServiceName};
use evenkeel_schema::service::{Restart, Service};

use crate::domain::baseline::{Ailment, Baseline};
use crate::domain::desired::{DesiredApp, DesiredState};
use crate::domain::history::GoodRevision;
use crate::domain::observed::{Checkup, Health, ObservedContainer, ObservedState, RunState, Seen};
use crate::domain::resource::ServiceId;

/// How often a service may end during the gate before it is called a crash loop.
const MOST_ENDS: u32 = 3;

/// Proof that a revision was healthy through its soak (or resolves to what was already good). Only this room makes
/// one, and `journal.commit` demands one.
#[derive(Debug)]
pub struct Healthy(());

impl Healthy {
    /// A revision that resolves to exactly what last-good is needs no new proof.
    #[must_use]
    pub fn same_content(state: &DesiredState, last_good: &GoodRevision) -> Option<Self> {
        (state.content_id() == *last_good.content()).then_some(Self(()))
    }

    /// A proof for tests of the journal.
    #[cfg(test)]
    pub(crate) const fn for_test() -> Self {
        Self(())
    }
}

/// One service as a sample shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSample {
    /// What it does.
    pub state: RunState,
    /// What its health check says.
    pub health: Health,
    /// How its last test ended where it did not pass, and what it said.
    pub said: Option<String>,
    /// When it was last started (opaque).
    pub started_at: String,
    /// Whether the kernel killed it for memory.
    pub oom_killed: bool,
}

impl ServiceSample {
    /// A job that has ended well, and whose container is gone since.
    #[must_use]
    pub fn done() -> Self {
        Self {
            state: RunState::Exited(0),
            health: Health::None,
            said: None,
            started_at: String::new(),
            oom_killed: false,
        }
    }

    /// A sample of a container, with its health as asked.
    #[must_use]
    pub fn of(container: &ObservedContainer, checkup: Checkup) -> Self {
        Self {
            state: container.state.clone(),
            health: checkup.health,
            said: checkup.said,
            started_at: container.started_at.clone(),
            oom_killed: container.oom_killed,
        }
    }
}

/// The answer of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// It passed.
    Passed,
    /// It did not, for this reason.
    Failed(String),
}

/// One look at everything that is judged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sample {
    /// Every declared service.
    pub services: BTreeMap<ServiceId, Seen<ServiceSample>>,
    /// Every check, by its app and its place in the declaration.
    pub checks: BTreeMap<(AppName, usize), Probed>,
}

/// What a sample means.
#[derive(Debug)]
pub enum Judgement {
    /// Nothing is decided yet.
    Wait {
        /// What is not well, where something is not: for people.
        because: Option<String>,
    },
    /// These ended and are declared to be restarted: start them.
    Revive(Vec<ServiceId>),
    /// Every app was well through its soak.
    Healthy(Healthy),
    /// The revision is at fault.
    Unhealthy(String),
    /// It cannot be told whether the revision is well: it could not be seen until the deadline, or its container was
    /// taken from under it.
    Undecided(String),
}

/// How an app looks in one sample.
enum Look {
    Well,
    NotYet(String),
    Unknown(String),
    Hopeless(String),
    /// What the revision cannot have done: its container is gone, or ended together with the engine.
    Lost(String),
}

/// The judge of one attempt.
#[derive(Debug)]
pub struct Gate {
    apps: BTreeMap<AppName, AppGate>,
    before: Baseline,
    ends: BTreeMap<ServiceId, Ends>,
}

#[derive(Debug)]
struct AppGate {
    declared: DesiredApp,
    well_since: Option<Duration>,
    done: bool,
}

#[derive(Debug, Default)]
struct Ends {
    count: u32,
    /// The start whose end was counted last.
    of: Option<String>,
    /// The start that was seen last.
    start: Option<String>,
    /// The engine did not answer since it was seen running last: it takes its containers with it when it ends.
    unseen: bool,
}

impl Gate {
    /// A gate for a state that has just been applied, on a device that was so before.
    #[must_use]
    pub fn new(state: &DesiredState, before: &Baseline) -> Self {
        let apps = state
            .apps
            .iter()
            .map(|(name, app)| {
                let gate = AppGate {
                    declared: app.clone(),
                    well_since: None,
                    done: false,
                };
                (name.clone(), gate)
            })
            .collect();
        Self {
            apps,
            before: before.clone(),
            ends: BTreeMap::new(),
        }
    }

    /// The longest of the apps' deadlines: what holds for the device as a whole.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        let deadlines = self.apps.values().map(|app| app.declared.gate.deadline);
        deadlines
            .max()
            .unwrap_or(evenkeel_schema::app::Gate::default().deadline)
    }

    /// Judges one sample, taken `at` this time after the state was applied.
    pub fn sample(&mut self, at: Duration, sample: &Sample) -> Judgement {
        let mut revive = Vec::new();
        let mut because = None;
        let names: Vec<AppName> = self.apps.keys().cloned().collect();
        for name in names {
            let look = self.look(&name, sample, &mut revive);
            let Some(app) = self.apps.get_mut(&name) else {
                continue;
            };
            let gate = app.declared.gate;
            match look {
                Look::Hopeless(why) => return Judgement::Unhealthy(why),
                Look::Lost(why) => return Judgement::Undecided(why),
                Look::Well => {
                    let since = *app.well_since.get_or_insert(at);
                    app.done = at.saturating_sub(since) >= gate.soak;
                }
                Look::NotYet(why) => {
                    app.well_since = None;
                    app.done = false;
                    if at >= gate.deadline {
                        return Judgement::Unhealthy(format!(
                            "{why}, and the deadline of {} is over",
                            evenkeel_schema::duration::text(gate.deadline)
                        ));
                    }
                    because.get_or_insert(why);
                }
                Look::Unknown(why) => {
                    app.well_since = None;
                    app.done = false;
                    if at >= gate.deadline {
                        return Judgement::Undecided(why);
                    }
                    because.get_or_insert(why);
                }
            }
        }
        // What always kept ending may stand still in this very sample: the next pass starts it.
        if self.apps.values().all(|app| app.done) {
            return Judgement::Healthy(Healthy(()));
        }
        if !revive.is_empty() {
            return Judgement::Revive(revive);
        }
        Judgement::Wait { because }
    }

    fn look(&mut self, name: &AppName, sample: &Sample, revive: &mut Vec<ServiceId>) -> Look {
        let Some(app) = self.apps.get(name) else {
            return Look::Well;
        };
        let mut not_yet = None;
        let mut unknown = None;
        for (service, declared) in app.declared.standing() {
            let id = ServiceId {
                app: name.clone(),
                service: service.clone(),
            };
            let before = self.before.of(&id);
            if before == Some(Ailment::Untouched) {
                continue;
            }
            let ends = self.ends.entry(id.clone()).or_default();
            let may_end = may_end(&app.declared, service);
            match sample.services.get(&id) {
                Some(Seen::Present(seen)) => {
                    match judge(&id, declared, may_end, seen, before, ends, revive) {
                        Look::Well if before == Some(Ailment::KeepsEnding) => {}
                        Look::Well if began_anew(ends, seen) => {
                            if ends.count > MOST_ENDS {
                                return Look::Hopeless(format!(
                                    "service {id} keeps ending: {} times",
                                    ends.count
                                ));
                            }
                            not_yet
                                .get_or_insert(format!("service {id} ended and was started again"));
                        }
                        Look::Well => {}
                        Look::NotYet(why) => {
                            not_yet.get_or_insert(why);
                        }
                        Look::Unknown(why) => {
                            unknown.get_or_insert(why);
                        }
                        end @ (Look::Hopeless(_) | Look::Lost(_)) => return end,
                    }
                    if seen.state == RunState::Running {
                        ends.unseen = false;
                    }
                }
                Some(Seen::Absent) => {
                    return Look::Lost(format!(
                        "service {id} has no container any more: somebody removed it, or the engine lost it"
                    ));
                }
                Some(Seen::Unknown(why)) => {
                    ends.unseen = true;
                    unknown.get_or_insert(why.clone());
                }
                None => {
                    unknown.get_or_insert(format!("service {id} was not looked at"));
                }
            }
        }
        for index in 0..app.declared.checks.len() {
            let check = (name.clone(), index);
            if self.before.checks.contains(&check) {
                continue;
            }
            match sample.checks.get(&check) {
                Some(Probed::Passed) => {}
                Some(Probed::Failed(why)) => {
                    not_yet.get_or_insert(format!("check of {name} fails: {why}"));
                }
                None => {
                    unknown.get_or_insert(format!("a check of {name} was not run"));
                }
            }
        }
        // What is known to be bad counts before what is not known.
        match (not_yet, unknown) {
            (Some(why), _) => Look::NotYet(why),
            (None, Some(why)) => Look::Unknown(why),
            (None, None) => Look::Well,
        }
    }
}

/// What an end, and a run, of a service mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MayEnd {
    /// It runs on.
    No,
    /// It may end well.
    Yes,
    /// Another service waits for it to end well: until then it has not done what it is for.
    Must,
}

fn may_end(app: &DesiredApp, name: &ServiceName) -> MayEnd {
    if app.is_awaited(name) {
        MayEnd::Must
    } else if app.may_end(name) {
        MayEnd::Yes
    } else {
        MayEnd::No
    }
}

/// Whether a service that looks well is another start of it than the one that was seen last: what lies between two
/// samples was a break, and the engine's own restart of it an end.
fn began_anew(ends: &mut Ends, seen: &ServiceSample) -> bool {
    let before = ends.start.replace(seen.started_at.clone());
    let Some(before) = before.filter(|before| *before != seen.started_at) else {
        return false;
    };
    // One whose end was seen was counted then.
    if ends.of.as_ref() != Some(&before) {
        ends.count += u32::from(!ends.unseen);
    }
    true
}

fn judge(
    id: &ServiceId,
    declared: &Service,
    may_end: MayEnd,
    seen: &ServiceSample,
    before: Option<Ailment>,
    ends: &mut Ends,
    revive: &mut Vec<ServiceId>,
) -> Look {
    match (&seen.state, before) {
        (RunState::Running, None | Some(Ailment::Unhealthy)) if seen.oom_killed => {
            Look::NotYet(format!("in service {id} something was killed for memory"))
        }
        (RunState::Running, None | Some(Ailment::Memory)) if may_end == MayEnd::Must => {
            Look::NotYet(format!(
                "service {id} has not ended yet, which others wait for"
            ))
        }
        (RunState::Running, Some(Ailment::Unhealthy | Ailment::KeepsEnding)) => Look::Well,
        (RunState::Running, _) => match seen.health {
            Health::None | Health::Healthy => Look::Well,
            Health::Starting => Look::NotYet(unwell(id, "not healthy yet", seen)),
            Health::Unhealthy => Look::NotYet(unwell(id, "unhealthy", seen)),
        },
        (RunState::Exited(0), _) if may_end != MayEnd::No => Look::Well,
        (RunState::Exited(_) | RunState::Restarting, Some(Ailment::KeepsEnding)) => {
            revive.push(id.clone());
            Look::Well
        }
        (RunState::Exited(code), _) => ended(id, declared, *code, seen, ends, revive),
        (RunState::Created, _) => {
            revive.push(id.clone());
            Look::NotYet(format!("service {id} was not started"))
        }
        (RunState::Paused, _) => Look::NotYet(format!("service {id} is paused")),
        (RunState::Restarting, _) => Look::NotYet(format!("service {id} is restarting")),
        (RunState::Dead, _) => Look::NotYet(format!("service {id} is dead")),
    }
}

fn unwell(id: &ServiceId, what: &str, seen: &ServiceSample) -> String {
    match &seen.said {
        Some(said) => format!("service {id} is {what} (its health check {said})"),
        None => format!("service {id} is {what}"),
    }
}

fn ended(
    id: &ServiceId,
    declared: &Service,
    code: i64,
    seen: &ServiceSample,
    ends: &mut Ends,
    revive: &mut Vec<ServiceId>,
) -> Look {
    let memory = if seen.oom_killed {
        ", killed for memory"
    } else {
        ""
    };
    let (again, most) = match declared.restart {
        Restart::No if ends.unseen => {
            return Look::Lost(format!(
                "service {id} ended with {code} while the engine did not answer"
            ));
        }
        Restart::No => {
            return Look::Hopeless(format!("service {id} ended with {code}{memory}"));
        }
        Restart::OnFailure(times) => (true, times.unwrap_or(MOST_ENDS).min(MOST_ENDS)),
        Restart::Always | Restart::UnlessStopped => (true, MOST_ENDS),
    };
    if ends.of.as_ref() != Some(&seen.started_at) {
        ends.of = Some(seen.started_at.clone());
        ends.count += u32::from(!ends.unseen);
    }
    if ends.count > most {
        return Look::Hopeless(format!(
            "service {id} keeps ending: {} times, last with {code}{memory}",
            ends.count
        ));
    }
    if again {
        revive.push(id.clone());
    }
    Look::NotYet(format!("service {id} ended with {code}{memory}"))
}

/// What was wrong with services before a change, of those in `as_good`: they are as last-good left them, so nothing else broke
/// them. `touched` are those that the change touches; `restless` containers, by the engine's id, kept ending.
#[must_use]
pub fn ailing(
    state: &DesiredState,
    before: &ObservedState,
    touched: &BTreeSet<ServiceId>,
    as_good: impl Fn(&ServiceId) -> bool,
    restless: &BTreeSet<String>,
) -> Vec<(ServiceId, Ailment)> {
    let Seen::Present(view) = &before.engine else {
        return Vec::new();
    };
    let declared = |id: &ServiceId| state.apps.get(&id.app)?.services.get(&id.service);
    view.containers
        .iter()
        .filter(|(id, _)| as_good(id))
        .filter_map(|(id, all)| {
            let container = all.first()?;
            let touched = match touched.contains(id) {
                true => Touched::Yes,
                false => Touched::No,
            };
            let was = ailment(declared(id)?, container, restless, touched)?;
            Some((id.clone(), was))
        })
        .collect()
}

/// Whether the change touches a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Touched {
    Yes,
    No,
}

/// A service that the change makes anew is only excused for what surely is no accident: one that merely stands still, stopped
/// by hand perhaps, may well run as it was declared.
fn ailment(
    declared: &Service,
    container: &ObservedContainer,
    restless: &BTreeSet<String>,
    touched: Touched,
) -> Option<Ailment> {
    let keeps_ending = restless.contains(&container.engine_id);
    match (touched, &container.state) {
        (Touched::Yes, _) if keeps_ending => Some(Ailment::KeepsEnding),
        (Touched::Yes, RunState::Running) if container.health == Health::Unhealthy => {
            Some(Ailment::Unhealthy)
        }
        (Touched::Yes, _) => None,
        (Touched::No, _) if keeps_ending || was_broken(declared, container) => {
            Some(Ailment::Untouched)
        }
        (Touched::No, _) => container.oom_killed.then_some(Ailment::Memory),
    }
}

fn was_broken(declared: &Service, container: &ObservedContainer) -> bool {
    match container.state {
        RunState::Running => container.health == Health::Unhealthy,
        RunState::Exited(0) => match declared.restart {
            Restart::No | Restart::OnFailure(_) => false,
            Restart::Always | Restart::UnlessStopped => true,
        },
        RunState::Exited(_) | RunState::Restarting | RunState::Dead => true,
        RunState::Created | RunState::Paused => false,
    }
}
