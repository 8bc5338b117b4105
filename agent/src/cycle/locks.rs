//! Update locks: an app may say that it is not to be disturbed now. Then no change begins that stops, restarts or signals what
//! is its own, and the whole revision waits, with all it needs at hand.
//!
//! A lock is a thing that is there: what stands at the app's `lock`, or balena's file in a container of its that runs. One that
//! cannot be looked for counts as held. It never holds what leads to a good revision: healing and rollback do not come here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use evenkeel_schema::app::OnChange;
use evenkeel_schema::name::AppName;
use evenkeel_schema::path::AbsPath;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::hold::must_not_wait;
use super::session::chain;
use super::{Agent, Session};
use crate::domain::desired::{DesiredState, Resolved};
use crate::domain::history::Ledger;
use crate::domain::hold::{HeldBy, Hold};
use crate::domain::observed::{ObservedState, RunState, Seen};
use crate::domain::resource::{ResourceId, ServiceId};
use crate::domain::revision::CommitId;
use crate::plan::{Action, Plan};
use crate::port::World;
use crate::port::clock::Clock as _;
use crate::port::engine::Engine as _;
use crate::port::files::Files as _;
use crate::port::journal::Journal as _;

/// Where apps that were written for balena put their lock, in their container.
const BALENA: &str = "/tmp/balena/updates.lock";

/// For how long a lock may be held before that is reported, where the app does not say: one that was forgotten should be known
/// before a week of fixes waits for it.
const MAX_HOLD: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether a person passes over update locks (`evenkeel sync --override-locks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Locks {
    /// They hold.
    #[default]
    Heeded,
    /// They do not.
    Overridden,
}

/// What a change would disturb of each app: its running services, where it names them.
type Disturbed = BTreeMap<AppName, BTreeSet<ServiceId>>;

/// A lock that is held.
struct Held {
    app: AppName,
    what: String,
    /// How long ago it was set, by its own time stamp.
    age: Option<Duration>,
}

impl<W: World> Agent<W> {
    /// The locks that keep a plan from being carried out.
    pub(super) async fn locked(
        &self,
        commit: &CommitId,
        resolved: &Resolved,
        plan: &Plan,
        observed: &ObservedState,
        ledger: &Ledger,
    ) -> Option<Hold> {
        if must_not_wait(commit, resolved, ledger) {
            return None;
        }
        let states = self.locking(&resolved.state, ledger);
        self.locked_of(&disturbed(plan, &states), &states, observed)
            .await
    }

    /// Whether any app is locked, whatever a change would disturb.
    pub(super) async fn any_locked(&self, state: &DesiredState, ledger: &Ledger) -> bool {
        let states = self.locking(state, ledger);
        let all = states
            .iter()
            .flat_map(|state| &state.apps)
            .map(|(app, desired)| {
                let services = desired.services.keys().map(|service| ServiceId {
                    app: app.clone(),
                    service: service.clone(),
                });
                (app.clone(), services.collect())
            })
            .collect();
        let observed = self.observe(state, &ledger.inventory).await;
        self.locked_of(&all, &states, &observed).await.is_some()
    }

    /// Who says where locks are: the change, and what runs now.
    fn locking(&self, state: &DesiredState, ledger: &Ledger) -> Vec<DesiredState> {
        let good = ledger
            .last_good()
            .and_then(|good| self.world.journal().kept_state(good.content()).ok());
        [Some(state.clone()), good].into_iter().flatten().collect()
    }

    async fn locked_of(
        &self,
        disturbed: &Disturbed,
        states: &[DesiredState],
        observed: &ObservedState,
    ) -> Option<Hold> {
        if self.session.locks.get() == Locks::Overridden {
            return None;
        }
        let mut held = Vec::new();
        for (app, services) in disturbed {
            let declared = states.iter().filter_map(|state| state.apps.get(app));
            let paths: BTreeSet<&AbsPath> = declared.filter_map(|app| app.lock.as_ref()).collect();
            held.extend(paths.into_iter().filter_map(|path| self.by_path(app, path)));
            for service in services {
                held.extend(self.by_container(service, observed).await);
            }
        }
        let overdue = |one: &Held, since: Duration| {
            let mut declared = states.iter().filter_map(|state| state.apps.get(&one.app));
            let most = declared.find_map(|app| app.max_hold).unwrap_or(MAX_HOLD);
            (since.max(one.age.unwrap_or_default()) > most).then_some(most)
        };
        self.session.tell_locks(&held, overdue)
    }

    fn by_path(&self, app: &AppName, path: &AbsPath) -> Option<Held> {
        let now = self.world.clock().now();
        let (what, age) = match self.world.files().written(path) {
            Ok(None) => return None,
            Ok(Some(written)) => {
                let age = u64::try_from(now.0.saturating_sub(written.0)).ok();
                (format!("{app} is locked by {path}"), age)
            }
            Err(error) => {
                let what = format!(
                    "{app} counts as locked, for its lock cannot be looked at: {}",
                    chain(&error)
                );
                (what, None)
            }
        };
        Some(Held {
            app: app.clone(),
            what,
            age: age.map(Duration::from_secs),
        })
    }

    /// Balena's file, in a container that runs: one that stands still does nothing that could be disturbed.
    async fn by_container(&self, id: &ServiceId, observed: &ObservedState) -> Option<Held> {
        let Seen::Present(view) = &observed.engine else {
            return None;
        };
        let container = view
            .containers
            .get(id)?
            .iter()
            .find(|one| one.state == RunState::Running)?;
        let engine = self.world.engine();
        let what = match engine.has_inside(&container.engine_id, BALENA).await {
            Ok(false) => return None,
            Ok(true) => format!("{id} is locked by {BALENA} in its container"),
            Err(error) => format!(
                "{id} counts as locked, for its container cannot be looked into: {}",
                chain(&error)
            ),
        };
        Some(Held {
            app: id.app.clone(),
            what,
            age: None,
        })
    }
}

impl Session {
    /// The hold that these locks are; none: no lock is held any more. What is said does not change from poll to poll, for it is
    /// written down.
    fn tell_locks(
        &self,
        held: &[Held],
        overdue: impl Fn(&Held, Duration) -> Option<Duration>,
    ) -> Option<Hold> {
        let now = Instant::now();
        let mut known = self.held_locks.borrow_mut();
        known.retain(|what, _| held.iter().any(|one| one.what == *what));
        let mut by = HeldBy::Lock;
        let mut told = Vec::new();
        for one in held {
            let since = *known.entry(one.what.clone()).or_insert(now);
            told.push(match overdue(one, now.duration_since(since)) {
                None => one.what.clone(),
                Some(most) => {
                    by = HeldBy::LockOverdue;
                    let most = evenkeel_schema::duration::text(most);
                    format!("{}, for more than {most}", one.what)
                }
            });
        }
        if told.is_empty() {
            return None;
        }
        Some(Hold::open(
            by,
            format!(
                "{}; `evenkeel sync --override-locks` does not wait",
                told.join(", ")
            ),
        ))
    }
}

/// What the steps of a plan stop, restart or signal.
fn disturbed(plan: &Plan, states: &[DesiredState]) -> Disturbed {
    let mut disturbed = Disturbed::new();
    for step in &plan.steps {
        match &step.action {
            Action::RecreateContainer { .. }
            | Action::RestartContainer { .. }
            | Action::SignalContainer { .. }
            | Action::RemoveContainer { .. } => {
                if let ResourceId::Service(id) = &step.resource {
                    let services = disturbed.entry(id.app.clone()).or_default();
                    services.insert(id.clone());
                }
            }
            Action::Unit(change) => {
                for app in apps_of(change, states) {
                    disturbed.entry(app).or_default();
                }
            }
            Action::CreateNetwork { .. }
            | Action::RemoveNetwork
            | Action::RemoveVolume
            | Action::CreateVolume { .. }
            | Action::WriteFile { .. }
            | Action::SetMetadata { .. }
            | Action::RemoveFile { .. }
            | Action::RestoreFile { .. }
            | Action::DisownFile { .. }
            | Action::CreateContainer { .. }
            | Action::StartContainer { .. }
            | Action::SetRestart { .. } => {}
        }
    }
    disturbed
}

/// The apps whose files ask for this.
fn apps_of(change: &OnChange, states: &[DesiredState]) -> BTreeSet<AppName> {
    states
        .iter()
        .flat_map(DesiredState::files)
        .filter(|(_, _, file)| file.on_change.contains(change))
        .map(|(app, _, _)| app.clone())
        .collect()
}
