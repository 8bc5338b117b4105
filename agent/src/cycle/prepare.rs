//! Everything that can fail early, done before anything on the device changes: documents read and resolved, guard
//! asked, images pulled, files staged.

use std::collections::BTreeSet;

use evenkeel_schema::image::ImageRef;
use evenkeel_schema::path::AbsPath;

use super::hold::{Haste, Images, must_not_wait};
use super::inventory::services_of;
use super::metered::Purpose;
use super::newer::Unpulled;
use super::room::Ailment;
use super::session::chain;
use super::{Agent, CycleError};
use crate::domain::desired::{Contents, DesiredState, Resolved};
use crate::domain::history::{Ledger, Refusal, Stage, Trial};
use crate::domain::hold::Hold;
use crate::domain::observed::{EngineView, ObservedState, Seen};
use crate::domain::outcome::Phase;
use crate::domain::resource::ResourceId;
use crate::domain::revision::{CommitId, TreeId};
use crate::domain::storage::Storage;
use crate::plan::{self, Action, Left, Mode, Plan};
use crate::port::clock::Clock as _;
use crate::port::files::{Files as _, FilesError};
use crate::port::journal::Journal as _;
use crate::port::source::{Source as _, SourceError};
use crate::port::{Retry, World};
use crate::resolve;
use crate::resolve::guard::Violation;
use crate::select::{self, Admission, Rejection};
use crate::trust::verified::VerifiedCommit;

/// Free space that is left on a file system after a file of ours: room for directories and for a way back of small
/// files. Small, for a declared path may be on a small file system.
const DISK_RESERVE: u64 = 64 * 1024;

/// The trailer of a commit that may leave a device with nothing.
pub const ALLOW_EMPTY: &str = "Allow-Empty";

/// How far preparing came.
pub(super) enum Preparation {
    /// The revision itself is at fault, before anything ran.
    Rejected(Rejection),
    /// It resolves to what was refused before.
    Refused(Refusal),
    /// Something is not there yet; the same revision may go ahead later.
    Waiting(Waiting),
    /// All is there, and it is held on purpose.
    Held(Hold),
    /// A newer commit came, which does without what is missing here.
    Overtaken(CommitId),
    /// It resolves to what is good already.
    Same(Box<Resolved>),
    /// All is there.
    Ready(Box<Prepared>),
}

/// What a revision waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    /// A stable word.
    pub(super) reason: &'static str,
    /// For people.
    pub(super) message: String,
}

impl Waiting {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// Everything that can fail early has been done. Nothing on the device has changed yet.
pub(super) struct Prepared {
    pub(super) commit: VerifiedCommit,
    pub(super) resolved: Resolved,
    pub(super) observed: ObservedState,
    pub(super) plan: Plan,
}

/// What keeps a commit from being resolved.
pub(super) enum Obstacle {
    Rejected(Rejection),
    Waiting(Waiting),
}

impl<W: World> Agent<W> {
    pub(super) async fn prepare(
        &self,
        commit: &VerifiedCommit,
        ledger: &Ledger,
    ) -> Result<Preparation, CycleError> {
        self.session.phase(&self.world, Phase::Preparing);
        let resolved = match self.resolve(commit).await {
            Ok(resolved) => resolved,
            Err(Obstacle::Rejected(rejection)) => return Ok(Preparation::Rejected(rejection)),
            Err(Obstacle::Waiting(waiting)) => return Ok(Preparation::Waiting(waiting)),
        };
        match select::admit(&resolved.state.content_id(), ledger) {
            // It changes nothing here; but what the owner does not allow any more must not become good anew.
            Admission::SameAsLastGood => {
                let limited = self.limited(&resolved.state);
                return Ok(match limited.violations.as_slice() {
                    [] => Preparation::Same(Box::new(resolved)),
                    violations => Preparation::Rejected(excluded(commit.id(), violations)),
                });
            }
            Admission::Refused(refusal) => {
                return Ok(Preparation::Refused(as_before(commit.id(), refusal)));
            }
            Admission::Try => {}
        }
        if let Err(rejection) = self.allow(commit, &resolved) {
            return Ok(Preparation::Rejected(rejection));
        }
        let mode = Mode::Advance;
        let look = || self.observe_for(&resolved.state, &ledger.inventory, mode);
        let mut observed = look().await;
        let mut plan = plan::plan(&resolved.state, &observed, &ledger.inventory, mode);
        if let Some(blocked) = plan.blocked.first() {
            let message = format!("{}: {}", blocked.resource, blocked.why);
            return Ok(Preparation::Waiting(Waiting::new("blocked", message)));
        }
        self.begins_in_window(commit, &resolved, ledger);
        let images = images_here(&resolved.state, &observed);
        if let Some(hold) = self.held(commit, &resolved, ledger, images)
            && hold.by.holds_fetching()
        {
            return Ok(Preparation::Held(hold));
        }
        let purpose = match self.session.haste.get() {
            Haste::InTime if !must_not_wait(commit.id(), &resolved, ledger) => Purpose::Change,
            Haste::InTime | Haste::Now => Purpose::Keeping,
        };
        match self
            .pull_missing(&resolved.state, &observed, &Left::default(), &plan, purpose)
            .await
        {
            Ok(Pulled::Missing) => {}
            Ok(Pulled::Unsettled) => {
                // What stood still with an image that was damaged went with it.
                observed = look().await;
                plan = plan::plan(&resolved.state, &observed, &ledger.inventory, mode);
            }
            Err(Unpulled::Waiting(waiting)) => return Ok(Preparation::Waiting(waiting)),
            Err(Unpulled::Overtaken(newer)) => return Ok(Preparation::Overtaken(newer)),
            Err(Unpulled::Held(hold)) => return Ok(Preparation::Held(hold)),
        }
        if let Some(Ailment { storage, message }) = self.ails() {
            // Nothing is begun from which the way back may not fit.
            let message = storage.explain(message);
            return Ok(Preparation::Waiting(Waiting::new(
                storage.reason(),
                message,
            )));
        }
        // Before anything is staged: a pass that holds writes nothing.
        if let Some(hold) = self.held(commit, &resolved, ledger, Images::Here) {
            return Ok(Preparation::Held(hold));
        }
        if let Some(hold) = self
            .locked(commit.id(), &resolved, &plan, &observed, ledger)
            .await
        {
            return Ok(Preparation::Held(hold));
        }
        self.announce_staging(commit, &resolved, &plan, ledger)?;
        if let Err(waiting) = self.stage(&plan, &resolved.contents) {
            self.world.files().sweep(&written_paths(&plan));
            return Ok(Preparation::Waiting(waiting));
        }
        Ok(Preparation::Ready(Box::new(Prepared {
            commit: commit.clone(),
            resolved,
            observed,
            plan,
        })))
    }

    /// Reads what concerns this device and resolves it.
    pub(super) async fn resolve(&self, commit: &VerifiedCommit) -> Result<Resolved, Obstacle> {
        self.resolve_at(commit.id(), commit.tree()).await
    }

    /// The same for a commit that was verified before: a good revision's.
    pub(super) async fn resolve_at(
        &self,
        id: &CommitId,
        of: &TreeId,
    ) -> Result<Resolved, Obstacle> {
        let reject = |reason: &str, message: String| {
            Obstacle::Rejected(Rejection {
                commit: id.clone(),
                reason: reason.to_owned(),
                message,
            })
        };
        let source = self.world.source();
        let settings = &self.settings;
        let unreadable = |error: SourceError| match error.retry() {
            Retry::Never => reject("too-large", chain(&error)),
            Retry::Later => Obstacle::Waiting(Waiting::new(
                Storage::behind(&error).map_or("store", Storage::reason),
                chain(&error),
            )),
        };
        let first = resolve::first_documents(&settings.device);
        let mut tree = source.read(of, &first).await.map_err(unreadable)?;
        let selection = resolve::apps_of(&settings.device, &settings.labels, &tree)
            .map_err(|problems| reject("schema", problems.to_string()))?;
        if let Some(fleet) = &settings.fleet
            && selection.fleet != *fleet
        {
            return Err(reject(
                "wrong-fleet",
                format!(
                    "the repository is of the fleet `{}`, and this device belongs to `{fleet}`",
                    selection.fleet
                ),
            ));
        }
        if let Some(pinned) = &selection.machine_id
            && let Some(what) = match &settings.machine {
                Ok(machine) if machine == pinned => None,
                Ok(machine) => Some(format!("this one is `{machine}`")),
                Err(why) => Some(format!("which this one is cannot be told: {why}")),
            }
        {
            return Err(reject(
                "wrong-device",
                format!(
                    "devices/{}.toml is for the machine `{pinned}`, and {what}; a device that was replaced gets its new \
                     machine_id there",
                    settings.device
                ),
            ));
        }
        tree.extend(
            source
                .read(of, &selection.documents())
                .await
                .map_err(unreadable)?,
        );
        resolve::resolve(&selection, &tree)
            .map_err(|problems| reject("schema", problems.to_string()))
    }

    /// The owner's limits, on what was resolved and on where its paths really lead.
    pub(super) fn allow(
        &self,
        commit: &VerifiedCommit,
        resolved: &Resolved,
    ) -> Result<(), Rejection> {
        if let Some(message) = self.empties(commit, &resolved.state) {
            return Err(Rejection {
                commit: commit.id().clone(),
                reason: "empty".to_owned(),
                message,
            });
        }
        let limited = self.limited(&resolved.state);
        let mut wrong: Vec<String> = limited.violations.iter().map(ToString::to_string).collect();
        wrong.extend(limited.unusable);
        if wrong.is_empty() {
            return Ok(());
        }
        Err(Rejection {
            commit: commit.id().clone(),
            reason: "guard".to_owned(),
            message: wrong.join("\n"),
        })
    }

    /// Why a revision that leaves nothing here is not taken, unless its commit says that this is meant: a group that lost its
    /// apps, or a device its label, looks the same.
    fn empties(&self, commit: &VerifiedCommit, state: &DesiredState) -> Option<String> {
        let is_meant = commit
            .trailers(ALLOW_EMPTY)
            .any(|value| value.trim().eq_ignore_ascii_case("true"));
        if is_meant || !state.is_empty() {
            return None;
        }
        let journal = self.world.journal();
        let ledger = journal.ledger();
        let good = ledger.last_good();
        let good = good.and_then(|good| journal.kept_state(good.content()).ok());
        let stands = good.is_some_and(|good| !good.is_empty())
            || !ledger.inventory.files.is_empty()
            || !ledger.inventory.services.is_empty();
        stands.then(|| {
            format!(
                "{} declares nothing for this device any more, and everything that stands here would go: where that is \
                 meant, its commit says so (`git commit --amend --no-edit -S --trailer '{ALLOW_EMPTY}: true'`); else look \
                 for the group, the label or the `without_apps` that took its apps away",
                commit.id().short()
            )
        })
    }

    /// Pulls what the engine does not have, and, where a step of the plan makes a container of it, what it does not have for
    /// certain.
    pub(super) async fn pull_missing(
        &self,
        desired: &DesiredState,
        observed: &ObservedState,
        left: &Left,
        plan: &Plan,
        purpose: Purpose,
    ) -> Result<Pulled, Unpulled> {
        let view = match &observed.engine {
            Seen::Present(view) => view,
            Seen::Absent => return Ok(Pulled::Missing),
            Seen::Unknown(why) => {
                return Err(Unpulled::Waiting(Waiting::new("engine", why.clone())));
            }
        };
        self.pull_all(missing(desired, view, left), purpose).await?;
        let unsettled: BTreeSet<&ImageRef> = made_of(plan)
            .filter(|image| view.unsettled.contains(image.as_str()))
            .collect();
        if unsettled.is_empty() {
            return Ok(Pulled::Missing);
        }
        self.pull_all(unsettled, purpose).await?;
        Ok(Pulled::Unsettled)
    }

    /// Before anything is staged, the journal says beside which paths: what a power cut leaves there is swept.
    fn announce_staging(
        &self,
        commit: &VerifiedCommit,
        resolved: &Resolved,
        plan: &Plan,
        ledger: &Ledger,
    ) -> Result<(), CycleError> {
        let paths = written_paths(plan);
        if paths.is_empty() {
            return Ok(());
        }
        if let Some(trial) = &ledger.trial {
            // What an earlier try left staged is not necessarily staged again.
            self.world.files().sweep(&trial.paths);
        }
        let earlier = ledger
            .trial
            .as_ref()
            .filter(|trial| trial.commit == *commit.id());
        let tries = earlier.map_or(0, |trial| trial.tries);
        self.world.journal().end_trial(Some(&Trial {
            commit: commit.id().clone(),
            content: resolved.state.content_id(),
            tries,
            since: self.world.clock().now(),
            paths,
            stage: Stage::Underway,
            baseline: earlier.and_then(|trial| trial.baseline.clone()),
        }))?;
        Ok(())
    }

    /// Writes every new content beside its place, and keeps copies of what a person made.
    fn stage(&self, plan: &Plan, contents: &Contents) -> Result<(), Waiting> {
        let files = self.world.files();
        let refused = |error: FilesError| match Storage::behind(&error) {
            Some(storage) => Waiting::new(storage.reason(), storage.explain(chain(&error))),
            None => Waiting::new("disk", chain(&error)),
        };
        for step in &plan.steps {
            let Action::WriteFile { path, file, keep } = &step.action else {
                continue;
            };
            let content = contents.get(&file.content).ok_or_else(|| {
                Waiting::new("disk", format!("{path}: its content was not resolved"))
            })?;
            let needed = file.size.saturating_add(DISK_RESERVE);
            if let Some(free) = files.free_bytes(path)
                && free < needed
            {
                return Err(Waiting::new(
                    Storage::Full.reason(),
                    format!(
                        "{path}: {free} bytes are free on its file system, and {needed} are needed: {}",
                        Storage::Full.next_move()
                    ),
                ));
            }
            if let Some(why) = keep {
                files.keep_copy(path, *why).map_err(refused)?;
            }
            files.stage(path, file, content).map_err(refused)?;
        }
        Ok(())
    }
}

/// The images that the engine does not have.
fn missing<'d>(
    desired: &'d DesiredState,
    view: &EngineView,
    left: &Left,
) -> BTreeSet<&'d ImageRef> {
    services_of(desired)
        .filter(|id| !left.has(&ResourceId::Service(id.clone())))
        .filter_map(|id| Some(&desired.apps.get(&id.app)?.services.get(&id.service)?.image))
        .filter(|image| !view.images.contains_key(image.as_str()))
        .collect()
}

/// Whether every image of a state is here.
pub(super) fn images_here(desired: &DesiredState, observed: &ObservedState) -> Images {
    match &observed.engine {
        Seen::Present(view) if !missing(desired, view, &Left::default()).is_empty() => {
            Images::Missing
        }
        Seen::Present(_) | Seen::Absent | Seen::Unknown(_) => Images::Here,
    }
}

/// What was pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pulled {
    /// What was not here, if anything.
    Missing,
    /// What was here and may have been damaged, too.
    Unsettled,
}

/// The images that a plan makes containers of.
fn made_of(plan: &Plan) -> impl Iterator<Item = &ImageRef> {
    plan.steps.iter().filter_map(|step| match &step.action {
        Action::CreateContainer { spec, .. } | Action::RecreateContainer { spec, .. } => {
            Some(&spec.service.image)
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
        | Action::StartContainer { .. }
        | Action::RestartContainer { .. }
        | Action::SignalContainer { .. }
        | Action::SetRestart { .. }
        | Action::RemoveContainer { .. }
        | Action::Unit(_) => None,
    })
}

/// The refusal of a commit for what the owner does not allow.
fn excluded(commit: &CommitId, violations: &[Violation]) -> Rejection {
    let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
    Rejection {
        commit: commit.clone(),
        reason: "guard".to_owned(),
        message: lines.join("\n"),
    }
}

/// The refusal of a commit for what another one with the same content did.
pub(super) fn as_before(commit: &CommitId, refusal: Refusal) -> Refusal {
    if refusal.commit == *commit {
        return refusal;
    }
    Refusal {
        commit: commit.clone(),
        why: format!(
            "it changes nothing that {} did not, which was refused: {}",
            refusal.commit.short(),
            refusal.why
        ),
        ..refusal
    }
}

/// The paths that a plan writes, beside which staging files may be left.
pub(super) fn written_paths(plan: &Plan) -> BTreeSet<AbsPath> {
    plan.steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::WriteFile { path, .. } => Some(path.clone()),
            Action::CreateNetwork { .. }
            | Action::RemoveNetwork
            | Action::RemoveVolume
            | Action::CreateVolume { .. }
            | Action::SetMetadata { .. }
            | Action::RemoveFile { .. }
            | Action::RestoreFile { .. }
            | Action::DisownFile { .. }
            | Action::CreateContainer { .. }
            | Action::RecreateContainer { .. }
            | Action::StartContainer { .. }
            | Action::RestartContainer { .. }
            | Action::SignalContainer { .. }
            | Action::SetRestart { .. }
            | Action::RemoveContainer { .. }
            | Action::Unit(_) => None,
        })
        .collect()
}
