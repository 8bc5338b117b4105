//! Being at a good revision: the ordinary plan from what is seen to what was good. Healing, rollback, boot with no
//! network and recovery after a crash are all this.

use std::collections::BTreeSet;

use super::advance::failed;
use super::hold::held_for;
use super::hooks::Moved;
use super::metered::Purpose;
use super::newer::Unpulled;
use super::observe::Wellness;
use super::prepare::{Pulled, Waiting, written_paths};
use super::room::ailing;
use super::session::UNHEALTHY;
use super::steps::{Run, Staging, describe};
use super::{Again, Agent, CycleError, Passed, later};
use crate::domain::desired::{Contents, DesiredState};
use crate::domain::history::{
    Deployment, DeploymentResult, GoodRevision, Ledger, Refusal, Stage, Trial,
};
use crate::domain::hold::{HeldBy, Hold};
use crate::domain::observed::ObservedState;
use crate::domain::outcome::{Outcome, Phase};
use crate::domain::revision::{CommitId, ContentId, Timestamp};
use crate::domain::storage::Storage;
use crate::plan::{self, Action, Left, Mode, Plan, Step};
use crate::port::World;
use crate::port::clock::Clock as _;
use crate::port::files::Files as _;
use crate::port::journal::Journal as _;
use crate::select::{Rejection, Why};

/// What a pass at a good revision did.
pub(super) struct Kept {
    /// Steps taken.
    pub(super) steps: usize,
    /// What could not be done.
    pub(super) blocked: Vec<String>,
    /// What of the disk kept it from being done.
    pub(super) storage: Option<Storage>,
    /// What was run before it, and what failed of that.
    pub(super) hooks: Vec<String>,
    /// Why some of it was left as it is, where the owner does not allow it any more.
    pub(super) excluded: Option<String>,
    /// How well what runs is.
    pub(super) wellness: Wellness,
}

impl<W: World> Agent<W> {
    /// Puts the device at a good revision, or finds it there.
    pub(super) async fn keep(&self, good: &GoodRevision, why: &Why) -> Result<Outcome, CycleError> {
        let began = self.world.clock().now();
        let before = self.session.report().revision.applied;
        let kept = self.put_back(good, why, began).await?;
        let moved = before.is_some_and(|before| before != *good.commit());
        Ok(self.outcome_of(why, good.commit(), &kept, moved))
    }

    async fn put_back(
        &self,
        good: &GoodRevision,
        why: &Why,
        began: Timestamp,
    ) -> Result<Kept, CycleError> {
        let journal = self.world.journal();
        let ledger = journal.ledger();
        let state = journal.kept_state(good.content())?;
        if let Some(trial) = &ledger.trial {
            self.world.files().sweep(&trial.paths);
        }
        let observed = self.observe(&state, &ledger.inventory).await;
        let excluded = self.excluded(good, &state, why);
        let (plan, left) = self.plan_keep(&state, &observed, &ledger.inventory, &excluded.left);
        self.tell_drift(&drift_of(plan.steps.iter().chain(&left)));
        if excluded.all {
            let wellness = self.tell_apps(&state, &observed).await;
            return Ok(Kept {
                steps: 0,
                blocked: Vec::new(),
                storage: None,
                hooks: Vec::new(),
                excluded: excluded.why(good, &plan.steps),
                wellness,
            });
        }
        let applied = self.session.report().revision.applied;
        let moved = match why {
            Why::Pinned(_) if applied.is_some_and(|applied| applied != *good.commit()) => {
                Moved::ByHand
            }
            _ => Moved::No,
        };
        let mut kept = self
            .heal(&state, &plan, &observed, &ledger, &excluded.left, moved)
            .await?;
        kept.excluded = excluded.why(good, &left);
        self.session.applied(&self.world, good.commit());
        kept.wellness = if touches_services(&plan) && kept.steps > 0 {
            self.await_wellness(&state).await
        } else {
            self.tell_apps(&state, &observed).await
        };
        if kept.blocked.is_empty() {
            self.tell_drift(&drift_of(&left));
            self.end_trial(&ledger, why)?;
        }
        if kept.steps > 0 {
            self.remember(good, why, began, &plan, &kept)?;
        }
        Ok(kept)
    }

    /// The device is where it was before a try. Where that is for a reason that says nothing about the revision, its tries
    /// are remembered: it may come again, and end uncleanly again.
    fn end_trial(&self, ledger: &Ledger, why: &Why) -> Result<(), CycleError> {
        let Some(trial) = &ledger.trial else {
            return Ok(());
        };
        let put_back = Trial {
            paths: BTreeSet::new(),
            stage: Stage::PutBack,
            baseline: None,
            ..trial.clone()
        };
        let keep = match why {
            Why::Unknown(_) | Why::HeldBack(_) | Why::Rejected(_) | Why::Held(..)
                if trial.tries > 0 =>
            {
                Some(&put_back)
            }
            Why::Unknown(_)
            | Why::HeldBack(_)
            | Why::Rejected(_)
            | Why::Held(..)
            | Why::AtTip
            | Why::Pinned(_)
            | Why::Paused
            | Why::Refused(_)
            | Why::TriesSpent(..)
            | Why::Deferred { .. } => None,
        };
        if keep != Some(trial) {
            self.world.journal().end_trial(keep)?;
        }
        Ok(())
    }

    /// Takes what can be taken of a plan at a good revision; what fails is told and passed over.
    async fn heal(
        &self,
        state: &DesiredState,
        plan: &Plan,
        observed: &ObservedState,
        ledger: &Ledger,
        left: &Left,
        moved: Moved,
    ) -> Result<Kept, CycleError> {
        let mut blocked: Vec<String> = plan
            .blocked
            .iter()
            .map(|blocked| format!("{}: {}", blocked.resource, blocked.why))
            .collect();
        if plan.steps.is_empty() {
            self.settle_inventory(state, plan, observed, &ledger.inventory)?;
            return Ok(Kept {
                steps: 0,
                blocked,
                storage: None,
                hooks: Vec::new(),
                excluded: None,
                wellness: Wellness::Unknown,
            });
        }
        self.session.phase(&self.world, Phase::Applying);
        let contents = self.contents_for(plan)?;
        match self
            .pull_missing(state, observed, left, plan, Purpose::Keeping)
            .await
        {
            Ok(Pulled::Missing | Pulled::Unsettled) => {}
            // Not a reason to leave anything else undone.
            Err(Unpulled::Waiting(waiting)) => self.session.notice(&self.world, &waiting.message),
            Err(Unpulled::Held(hold)) => self.session.notice(&self.world, &hold.message),
            Err(Unpulled::Overtaken(newer)) => {
                // It may mend more than this could. Another pass follows at once.
                self.session.overtaken.set(true);
                blocked.push(format!(
                    "{} came while an image was being pulled",
                    newer.short()
                ));
                return Ok(Kept {
                    steps: 0,
                    blocked,
                    storage: None,
                    hooks: Vec::new(),
                    excluded: None,
                    wellness: Wellness::Unknown,
                });
            }
        }
        self.announce_inventory(state, plan, &ledger.inventory)?;
        let mut run = Run::new(self, state, observed, plan, Staging::Now(&contents));
        if let Err(error) = self.before_rollback(&mut run, plan, left, moved).await {
            blocked.push(error.to_string());
            return Ok(Kept {
                steps: 0,
                blocked,
                storage: None,
                hooks: run.told,
                excluded: None,
                wellness: Wellness::Unknown,
            });
        }
        let mut storage = None;
        let mut damaged = BTreeSet::new();
        for step in &plan.steps {
            if let Err(error) = run.take(step).await {
                storage = storage.or_else(|| Storage::behind(&error));
                damaged.extend(error.damaged_image().map(str::to_owned));
                blocked.push(describe(step, &error));
            }
        }
        let steps = run.taken.len();
        blocked.extend(self.mend_images(state, &damaged).await);
        if blocked.is_empty() {
            let inventory = self.world.journal().ledger().inventory;
            self.settle_inventory(state, plan, observed, &inventory)?;
        } else {
            self.world.files().sweep(&written_paths(plan));
        }
        Ok(Kept {
            steps,
            blocked,
            storage,
            hooks: run.told,
            excluded: None,
            wellness: Wellness::Unknown,
        })
    }

    fn contents_for(&self, plan: &Plan) -> Result<Contents, CycleError> {
        let ids: Vec<ContentId> = plan
            .steps
            .iter()
            .filter_map(|step| match &step.action {
                Action::WriteFile { file, .. } => Some(file.content.clone()),
                _ => None,
            })
            .collect();
        if ids.is_empty() {
            return Ok(Contents::new());
        }
        Ok(self.world.journal().contents(&ids)?)
    }

    fn remember(
        &self,
        good: &GoodRevision,
        why: &Why,
        began: Timestamp,
        plan: &Plan,
        kept: &Kept,
    ) -> Result<(), CycleError> {
        let armed_only = plan.steps.iter().all(|step| {
            matches!(
                step.action,
                Action::SetRestart { .. } | Action::DisownFile { .. }
            )
        });
        if armed_only {
            // The end of a deployment that the history has already.
            return Ok(());
        }
        // What the history names last is what stood here: the same revision is healed, another one is left.
        let history = self.world.journal().history()?;
        let mut deployments = history
            .iter()
            .filter(|one| one.result != DeploymentResult::Agent);
        let result = match (why, deployments.next()) {
            (_, Some(last)) if last.commit == *good.commit() => DeploymentResult::Healed,
            (Why::Pinned(_) | Why::Refused(_) | Why::TriesSpent(..) | Why::Paused, _) => {
                DeploymentResult::RolledBack
            }
            (
                Why::AtTip
                | Why::Rejected(_)
                | Why::Held(..)
                | Why::Deferred { .. }
                | Why::Unknown(_)
                | Why::HeldBack(_),
                _,
            ) => DeploymentResult::Healed,
        };
        let text = if kept.blocked.is_empty() {
            why_text(why)
        } else {
            format!("{}; not done: {}", why_text(why), kept.blocked.join("; "))
        };
        self.world.journal().append(&Deployment {
            commit: good.commit().clone(),
            content: Some(good.content().clone()),
            started: began,
            ended: self.world.clock().now(),
            result,
            why: text,
            steps: kept
                .hooks
                .iter()
                .cloned()
                .chain(plan.steps.iter().map(ToString::to_string))
                .collect(),
        })?;
        Ok(())
    }

    fn outcome_of(&self, why: &Why, at: &CommitId, kept: &Kept, moved: bool) -> Outcome {
        let blocked = || kept.blocked.join("; ");
        match why {
            Why::Rejected(rejection) => match (rejected(rejection), &kept.excluded) {
                (Outcome::Rejected { reason, message }, Some(excluded)) => Outcome::Rejected {
                    reason,
                    message: format!("{message}\n{excluded}"),
                },
                (outcome, _) => outcome,
            },
            Why::Refused(refusal) => Outcome::Unhealthy {
                commit: refusal.commit.clone(),
                why: refusal.why.clone(),
            },
            Why::TriesSpent(commit, _) => Outcome::Unhealthy {
                commit: commit.clone(),
                why: why_text(why),
            },
            // Before anything else that may wait: a person has to act.
            _ if kept.excluded.is_some() => Outcome::Rejected {
                reason: "guard".to_owned(),
                message: kept.excluded.clone().unwrap_or_default(),
            },
            _ if !kept.blocked.is_empty() => match kept.storage {
                Some(storage) => ailing(storage, blocked()),
                None => Outcome::Deferred {
                    reason: "blocked".to_owned(),
                    message: blocked(),
                },
            },
            Why::Deferred { why, .. } => Outcome::Deferred {
                reason: "deferred".to_owned(),
                message: why.clone(),
            },
            Why::Pinned(_) if moved => Outcome::RolledBack {
                to: at.clone(),
                why: why_text(why),
            },
            Why::Pinned(_) | Why::Paused => by_hand(why),
            Why::Held(commit, hold) => held_for(commit, hold),
            Why::Unknown(message) => self.not_fetched(message.clone()),
            Why::HeldBack(message) => held_back(message),
            Why::AtTip => self.outcome_at_tip(kept),
        }
    }

    /// The branch could not be asked, or what it said could not be stored.
    fn not_fetched(&self, message: String) -> Outcome {
        Outcome::Deferred {
            reason: self
                .session
                .unstored
                .get()
                .map_or("network", Storage::reason)
                .to_owned(),
            message,
        }
    }

    fn outcome_at_tip(&self, kept: &Kept) -> Outcome {
        if let Some(error) = self.session.report().poll.error {
            return self.not_fetched(error);
        }
        match &kept.wellness {
            Wellness::Unwell(why) => Outcome::Deferred {
                reason: UNHEALTHY.to_owned(),
                message: why.clone(),
            },
            Wellness::Well | Wellness::Starting(_) | Wellness::Unknown if kept.steps > 0 => {
                Outcome::Healed { steps: kept.steps }
            }
            Wellness::Well | Wellness::Starting(_) | Wellness::Unknown => Outcome::Converged,
        }
    }

    /// Stays at last-good for a reason found while preparing.
    pub(super) async fn stay(&self, ledger: &Ledger, why: Why) -> Result<Passed, CycleError> {
        match ledger.last_good() {
            Some(good) => self.keep(good, &why).await.map(later),
            None => self.hold(ledger, &why).await,
        }
    }

    /// Stays at last-good while a revision waits: waiting never stops healing.
    pub(super) async fn stay_waiting(
        &self,
        ledger: &Ledger,
        commit: &CommitId,
        waiting: Waiting,
    ) -> Result<Passed, CycleError> {
        if let Some(good) = ledger.last_good() {
            let why = Why::Deferred {
                commit: commit.clone(),
                why: waiting.message.clone(),
                until: self.world.clock().now(),
            };
            self.keep(good, &why).await?;
        }
        Ok(later(Outcome::Deferred {
            reason: waiting.reason.to_owned(),
            message: format!("{} waits: {}", commit.short(), waiting.message),
        }))
    }

    /// Touches nothing; looks, so that `status` can tell what differs.
    pub(super) async fn hold(&self, ledger: &Ledger, why: &Why) -> Result<Passed, CycleError> {
        if let Some(good) = ledger.last_good() {
            let state = self.world.journal().kept_state(good.content())?;
            let observed = self.observe(&state, &ledger.inventory).await;
            let plan = plan::plan(&state, &observed, &ledger.inventory, Mode::Keep);
            self.tell_drift(&drift_of(&plan.steps));
            self.tell_apps(&state, &observed).await;
        }
        Ok(later(match why {
            Why::Rejected(rejection) => rejected(rejection),
            Why::Refused(refusal) => Outcome::Unhealthy {
                commit: refusal.commit.clone(),
                why: refusal.why.clone(),
            },
            Why::TriesSpent(commit, _) => Outcome::Unhealthy {
                commit: commit.clone(),
                why: why_text(why),
            },
            Why::Paused | Why::Pinned(_) | Why::AtTip => by_hand(why),
            Why::Held(commit, hold) => held_for(commit, hold),
            Why::Deferred { commit, why, .. } if ledger.last_good().is_none() => {
                failed(commit, why)
            }
            Why::Deferred { why, .. } => Outcome::Deferred {
                reason: "deferred".to_owned(),
                message: why.clone(),
            },
            Why::Unknown(message) => self.not_fetched(message.clone()),
            Why::HeldBack(message) => held_back(message),
        }))
    }

    /// Three unclean ends in a row: the revision is refused, and last-good comes back.
    pub(super) async fn refuse_spent(
        &self,
        good: &GoodRevision,
        commit: CommitId,
        content: ContentId,
    ) -> Result<Passed, CycleError> {
        let why = why_text(&Why::TriesSpent(commit.clone(), content.clone()));
        let now = self.world.clock().now();
        let began = self.world.journal().ledger().trial;
        if let Some(trial) = &began {
            // A refusal forgets the try, and with it beside which paths something may lie staged.
            self.world.files().sweep(&trial.paths);
        }
        self.world.journal().append(&Deployment {
            commit: commit.clone(),
            content: Some(content.clone()),
            started: began.map_or(now, |trial| trial.since),
            ended: now,
            result: DeploymentResult::Refused,
            why: why.clone(),
            steps: Vec::new(),
        })?;
        let refusal = Refusal {
            commit,
            content,
            why,
            at: now,
        };
        self.world.journal().refuse(&refusal)?;
        self.keep(good, &Why::Refused(refusal)).await.map(later)
    }
}

/// What differs, in words.
fn drift_of<'s>(steps: impl IntoIterator<Item = &'s Step>) -> Vec<String> {
    steps
        .into_iter()
        .map(|step| format!("{}: {}", step.resource, step.because))
        .collect()
}

fn rejected(rejection: &Rejection) -> Outcome {
    Outcome::Rejected {
        reason: rejection.reason.clone(),
        message: rejection.message.clone(),
    }
}

/// Held by a person at this device.
fn by_hand(why: &Why) -> Outcome {
    let by = if matches!(why, Why::Pinned(_)) {
        HeldBy::RolledBack
    } else {
        HeldBy::Paused
    };
    Outcome::Held(Hold::open(by, why_text(why)))
}

fn held_back(message: &str) -> Outcome {
    Outcome::Deferred {
        reason: "UncleanStarts".to_owned(),
        message: message.to_owned(),
    }
}

/// Whether a plan starts, restarts or replaces containers.
fn touches_services(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| match &step.action {
        Action::CreateContainer { .. }
        | Action::RecreateContainer { .. }
        | Action::StartContainer { .. }
        | Action::RestartContainer { .. } => true,
        Action::CreateNetwork { .. }
        | Action::RemoveNetwork
        | Action::RemoveVolume
        | Action::CreateVolume { .. }
        | Action::WriteFile { .. }
        | Action::SetMetadata { .. }
        | Action::RemoveFile { .. }
        | Action::RestoreFile { .. }
        | Action::DisownFile { .. }
        | Action::SignalContainer { .. }
        | Action::SetRestart { .. }
        | Action::RemoveContainer { .. }
        | Action::Unit(_) => false,
    })
}

/// Why the device does not advance, in one sentence.
pub(super) fn why_text(why: &Why) -> String {
    match why {
        Why::AtTip => "at the branch's tip".to_owned(),
        Why::Pinned(commit) => format!("rolled back by hand to {}", commit.short()),
        Why::Paused => "paused by hand".to_owned(),
        Why::Rejected(rejection) => format!(
            "the tip {} is refused ({}): {}",
            rejection.commit.short(),
            rejection.reason,
            rejection.message
        ),
        Why::Refused(refusal) => {
            format!("{} was refused: {}", refusal.commit.short(), refusal.why)
        }
        Why::TriesSpent(commit, _) => format!(
            "{} ended uncleanly {} times in a row (power, a crash or a reboot before its soak ended)",
            commit.short(),
            crate::domain::history::TRIES
        ),
        Why::Deferred { commit, why, .. } => format!("{} is put off: {why}", commit.short()),
        Why::Held(commit, hold) => format!("{} waits: {}", commit.short(), hold.message),
        Why::Unknown(why) => format!("nothing newer is known: {why}"),
        Why::HeldBack(why) => why.clone(),
    }
}

/// A pass that ends here, with another one due at once.
pub(super) const fn at_once(outcome: Outcome) -> Passed {
    Passed {
        outcome,
        again: Again::Now,
    }
}
