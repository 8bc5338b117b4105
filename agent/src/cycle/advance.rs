//! Towards a new revision: spend a try, apply, watch, and then commit, refuse or put off.

use evenkeel_schema::app::Moment;
use evenkeel_schema::name::AppName;

use super::confirm::Confirmed;
use super::hooks::changed_apps;
use super::keep::at_once;
use super::prepare::{Prepared, written_paths};
use super::session::{Says, chain};
use super::steps::{Run, Staging, describe};
use super::watch::Watched;
use super::{Agent, CycleError, Interruption, Passed, later};
use crate::domain::baseline::Baseline;
use crate::domain::desired::Resolved;
use crate::domain::history::{
    CutOff, Deferral, Deployment, DeploymentResult, Ledger, Refusal, Stage, TRIES, Trial,
};
use crate::domain::outcome::{ConditionType, Outcome, Phase};
use crate::domain::revision::{CommitId, Timestamp};
use crate::gate::Healthy;
use crate::plan::{Action, Plan};
use crate::port::World;
use crate::port::clock::Clock as _;
use crate::port::files::Files as _;
use crate::port::journal::Journal as _;
use crate::port::source::Reach;
use crate::schedule;
use crate::select::Why;
use crate::trust::verified::VerifiedCommit;

/// How an attempt ended.
enum End {
    Good(Healthy),
    Unhealthy(String),
    Deferred(&'static str, String),
    /// No remote answers any more.
    CutOff(String),
    /// The engine answers, and cannot make or start a container.
    Unstarted(String),
    Stopped,
    Superseded(String),
}

impl<W: World> Agent<W> {
    pub(super) async fn advance(
        &self,
        prepared: Prepared,
        ledger: &Ledger,
    ) -> Result<Passed, CycleError> {
        let journal = self.world.journal();
        let began = self.world.clock().now();
        let commit = prepared.commit.id().clone();
        let content = prepared.resolved.state.content_id();
        let tries = match &ledger.trial {
            Some(trial) if trial.commit == commit => trial.tries,
            Some(_) | None => 0,
        };
        let baseline = self.baseline(&prepared, ledger).await;
        let trial = Trial {
            commit: commit.clone(),
            content: content.clone(),
            tries: tries + 1,
            since: began,
            paths: written_paths(&prepared.plan),
            stage: Stage::Underway,
            baseline: Some(baseline.clone()),
        };
        journal.spend_try(&trial)?;
        self.tell_underway(&commit);
        self.announce_inventory(&prepared.resolved.state, &prepared.plan, &ledger.inventory)?;
        let (end, steps) = self.attempt(&prepared, &baseline, ledger).await;
        self.world.files().sweep(&trial.paths);
        let record = |result, why: &str, steps: Vec<String>| Deployment {
            commit: commit.clone(),
            content: Some(content.clone()),
            started: began,
            ended: self.world.clock().now(),
            result,
            why: why.to_owned(),
            steps,
        };
        match end {
            End::Good(proof) => {
                let count = steps.len();
                if let Err(error) = self.commit(&prepared.commit, &prepared.resolved, proof) {
                    // A memory that fails (a full disk) is not the revision's fault: the try is given back.
                    let given_back = Trial { tries, ..trial };
                    if let Err(again) = journal.end_trial(Some(&given_back)) {
                        self.session.notice(&self.world, &chain(&again));
                    }
                    return Err(error);
                }
                let mut why = "healthy through its soak".to_owned();
                if let Some(told) = baseline.told() {
                    why = format!("{why}; as before it: {told}");
                }
                journal.append(&record(DeploymentResult::Good, &why, steps))?;
                let ledger = journal.ledger();
                self.settle_inventory(
                    &prepared.resolved.state,
                    &prepared.plan,
                    &prepared.observed,
                    &ledger.inventory,
                )?;
                if let Some(good) = ledger.last_good() {
                    // Arms the restart policies, and finds everything else in place.
                    self.keep(good, &Why::AtTip).await?;
                }
                Ok(later(Outcome::Applied {
                    commit,
                    steps: count,
                }))
            }
            End::Unhealthy(why) => {
                let refusal = Refusal {
                    commit: commit.clone(),
                    content: content.clone(),
                    why: why.clone(),
                    at: self.world.clock().now(),
                };
                journal.append(&record(DeploymentResult::Refused, &why, steps))?;
                if ledger.last_good().is_none() {
                    // A first revision has nothing behind it: it is tried again, with back-off.
                    self.put_off(ledger, &commit, &why, 0, None)?;
                    return Ok(later(failed(&commit, &why)));
                }
                journal.refuse(&refusal)?;
                Ok(at_once(Outcome::Unhealthy { commit, why }))
            }
            End::Deferred(reason, why) => {
                journal.append(&record(DeploymentResult::Deferred, &why, steps))?;
                self.put_off(ledger, &commit, &why, 0, None)?;
                Ok(put_off_for(reason, why, ledger))
            }
            End::CutOff(why) => {
                journal.append(&record(DeploymentResult::Deferred, &why, steps))?;
                self.put_off(ledger, &commit, &why, 0, Some(CutOff::Unclear))?;
                Ok(put_off_for("network", why, ledger))
            }
            End::Unstarted(why) => {
                journal.append(&record(DeploymentResult::Deferred, &why, steps))?;
                self.put_off(ledger, &commit, &why, 1, None)?;
                Ok(put_off_for("engine", why, ledger))
            }
            End::Stopped => {
                // A clean stop gives the try back: the next start goes on with this revision.
                journal.end_trial(Some(&Trial { tries, ..trial }))?;
                Ok(later(Outcome::Deferred {
                    reason: "stopped".to_owned(),
                    message: format!("stopped while {} was being tried", commit.short()),
                }))
            }
            End::Superseded(why) => {
                journal.append(&record(DeploymentResult::Interrupted, &why, steps))?;
                journal.end_trial(None)?;
                Ok(at_once(Outcome::Deferred {
                    reason: "superseded".to_owned(),
                    message: why,
                }))
            }
        }
    }

    /// Applies and watches.
    async fn attempt(
        &self,
        prepared: &Prepared,
        before: &Baseline,
        ledger: &Ledger,
    ) -> (End, Vec<String>) {
        // Beside a remote on this machine: whether one over a network answers is only asked afterwards if one did before.
        let reached = match (self.session.reached.get(), self.reached_by()) {
            (true, Reach::Local) => Reach::Local,
            (true, Reach::Network) | (false, _) => self.settings.remote,
        };
        self.session.phase(&self.world, Phase::Applying);
        let mut run = Run::new(
            self,
            &prepared.resolved.state,
            &prepared.observed,
            &prepared.plan,
            Staging::Done,
        );
        let apps = changed_apps(&prepared.resolved.state, &prepared.plan);
        if let Err(error) = self
            .before_update(&mut run, &apps, &prepared.plan, ledger)
            .await
        {
            let end = self.interrupted().unwrap_or_else(|| {
                End::Deferred(
                    error.kind(),
                    format!("nothing was changed: {}", chain(&error)),
                )
            });
            return (end, run.told);
        }
        let first = run.told.len();
        let mut end = self
            .apply(prepared, &mut run, &apps, before, reached, ledger)
            .await;
        if let End::Unhealthy(why) = &mut end {
            for failed in run.on_failure(&apps, &prepared.plan).await {
                why.push_str(&format!("; {failed}"));
            }
        }
        let mut steps = run.told;
        let last = steps.split_off(first);
        steps.extend(run.taken);
        steps.extend(last);
        (end, steps)
    }

    /// Takes the steps, and watches what comes of them.
    async fn apply(
        &self,
        prepared: &Prepared,
        run: &mut Run<'_, W>,
        apps: &[AppName],
        before: &Baseline,
        reached: Reach,
        ledger: &Ledger,
    ) -> End {
        for step in &prepared.plan.steps {
            if let Some(end) = self.interrupted() {
                self.note_written(&prepared.plan, run.taken.len());
                return end;
            }
            if let Err(error) = run.take(step).await {
                let text = describe(step, &error);
                let end = if error.blames_revision() {
                    End::Unhealthy(text)
                } else if error.is_unstarted() {
                    unstarted(text, prepared.commit.id(), ledger)
                } else if let Some(end) = self.interrupted() {
                    end
                } else {
                    End::Deferred(error.kind(), text)
                };
                self.note_written(&prepared.plan, run.taken.len());
                return end;
            }
        }
        self.note_written(&prepared.plan, run.taken.len());
        self.session.applied(&self.world, prepared.commit.id());
        self.session.phase(&self.world, Phase::Soaking);
        match self.watch(prepared, before).await {
            Watched::Healthy(proof) => {
                if let Err(error) = run.hooks(Moment::AfterUpdate, apps, &prepared.plan).await {
                    return if error.blames_revision() {
                        End::Unhealthy(chain(&error))
                    } else {
                        self.interrupted()
                            .unwrap_or_else(|| End::Deferred(error.kind(), chain(&error)))
                    };
                }
                match self.confirm(reached, prepared, ledger).await {
                    Confirmed::Yes => End::Good(proof),
                    Confirmed::No(why) => End::CutOff(why),
                    Confirmed::Interrupted => self.ended(),
                }
            }
            Watched::Unhealthy(why) => End::Unhealthy(why),
            Watched::Undecided(why) => End::Deferred("engine", why),
            Watched::Superseded(newer) => End::Superseded(format!(
                "{} came while {} was soaking",
                newer.short(),
                prepared.commit.id().short()
            )),
            Watched::Interrupted => self.ended(),
        }
    }

    /// What was written just now is the agent's own work, not an edit by hand: the inventory says so before the
    /// revision is known to be good.
    fn note_written(&self, plan: &Plan, taken: usize) {
        let current = self.world.journal().ledger().inventory;
        let mut next = current.clone();
        for step in plan.steps.iter().take(taken) {
            if let Action::WriteFile { path, file, .. } = &step.action
                && let Some(owned) = next.files.get_mut(path)
            {
                owned.content = file.content.clone();
            }
        }
        if next != current
            && let Err(error) = self.world.journal().set_inventory(&next)
        {
            // The price is a copy too many when this is undone.
            self.session.notice(&self.world, &chain(&error));
        }
    }

    fn tell_underway(&self, commit: &CommitId) {
        let message = format!("{} is being applied and watched", commit.short());
        let says = Says::unknown("Progressing", &message);
        self.session.says(&self.world, ConditionType::Ready, says);
        let says = Says::yes("Progressing", message);
        self.session
            .says(&self.world, ConditionType::Reconciling, says);
    }

    fn ended(&self) -> End {
        self.interrupted()
            .unwrap_or_else(|| End::Superseded("interrupted".to_owned()))
    }

    fn interrupted(&self) -> Option<End> {
        self.interrupt.raised().map(|what| match what {
            Interruption::Stop => End::Stopped,
            Interruption::Asked => End::Superseded("something else was asked for".to_owned()),
        })
    }

    /// A revision that resolves to what is good already becomes good without being gated again.
    pub(super) async fn take_same(
        &self,
        commit: &VerifiedCommit,
        resolved: &Resolved,
        ledger: &Ledger,
    ) -> Result<Passed, CycleError> {
        let Some(good) = ledger.last_good() else {
            return self
                .hold(ledger, &Why::Unknown("nothing is good here yet".to_owned()))
                .await;
        };
        let Some(proof) = Healthy::same_content(&resolved.state, good) else {
            return self
                .hold(
                    ledger,
                    &Why::Unknown("its content is not last-good's".to_owned()),
                )
                .await;
        };
        let began = self.world.clock().now();
        self.commit(commit, resolved, proof)?;
        self.world.journal().append(&Deployment {
            commit: commit.id().clone(),
            content: Some(resolved.state.content_id()),
            started: began,
            ended: self.world.clock().now(),
            result: DeploymentResult::Good,
            why: "changes nothing for this device".to_owned(),
            steps: Vec::new(),
        })?;
        let ledger = self.world.journal().ledger();
        match ledger.last_good() {
            Some(good) => self.keep(good, &Why::AtTip).await.map(later),
            None => self.hold(&ledger, &Why::AtTip).await,
        }
    }

    /// Floor first, then last-good: a crash between leaves a floor that the next tip still descends from.
    fn commit(
        &self,
        commit: &VerifiedCommit,
        resolved: &Resolved,
        proof: Healthy,
    ) -> Result<(), CycleError> {
        let journal = self.world.journal();
        let copies = [journal.floor_file().ok().flatten(), journal.ledger().floor];
        let floor = copies
            .into_iter()
            .flatten()
            .max_by_key(|floor| floor.generation);
        self.raise_floor(floor.as_ref(), commit)?;
        let now = self.world.clock().now();
        self.world
            .journal()
            .commit(commit.id(), commit.tree(), resolved, now, proof)?;
        self.session.interruptions.set(0);
        Ok(())
    }

    fn put_off(
        &self,
        ledger: &Ledger,
        commit: &CommitId,
        why: &str,
        unstarted: u32,
        cut_off: Option<CutOff>,
    ) -> Result<(), CycleError> {
        let before = deferred_before(commit, ledger);
        let times = before.map_or(1, |deferral| deferral.times + 1);
        let unstarted = before.map_or(0, |deferral| deferral.unstarted) + unstarted;
        let wait = schedule::deferral(times);
        let now = self.world.clock().now();
        let seconds = i64::try_from(wait.as_secs()).unwrap_or(i64::MAX);
        let deferral = Deferral {
            commit: commit.clone(),
            why: why.to_owned(),
            times,
            unstarted,
            cut_off,
            until: Timestamp(now.0.saturating_add(seconds)),
        };
        self.world.journal().defer(Some(&deferral))?;
        self.session.put_off(&deferral, wait);
        Ok(())
    }
}

/// The deferral of this commit, where it was put off before.
fn deferred_before<'l>(commit: &CommitId, ledger: &'l Ledger) -> Option<&'l Deferral> {
    ledger
        .deferred
        .as_ref()
        .filter(|deferral| deferral.commit == *commit)
}

/// A container that the engine cannot make or start, although it answers: that may pass, or lie in what is declared. Each try
/// takes the service down, so it is not tried for ever.
fn unstarted(why: String, commit: &CommitId, ledger: &Ledger) -> End {
    let before = deferred_before(commit, ledger).map_or(0, |deferral| deferral.unstarted);
    if before + 1 < TRIES || ledger.last_good().is_none() {
        return End::Unstarted(why);
    }
    End::Unhealthy(format!("{why} ({TRIES} times, and the engine answers)"))
}

/// How a pass ends that put its revision off: last-good is due at once.
fn put_off_for(reason: &str, message: String, ledger: &Ledger) -> Passed {
    let outcome = Outcome::Deferred {
        reason: reason.to_owned(),
        message,
    };
    if ledger.last_good().is_some() {
        at_once(outcome)
    } else {
        later(outcome)
    }
}

/// A first revision that did not get healthy.
pub(super) fn failed(commit: &CommitId, why: &str) -> Outcome {
    Outcome::Unhealthy {
        commit: commit.clone(),
        why: why.to_owned(),
    }
}
