//! The agent's own version, between two passes: what `select::upgrade` decides, done. See there for the rule, and
//! packaging/start.sh for what happens when a new agent does not work.

use std::rc::Rc;

use evenkeel_schema::agent_config::Managed;
use evenkeel_schema::agent_release::Place;
use tokio::sync::Notify;

use super::Daemon;
use crate::cycle::{AgentStep, chain};
use crate::domain::agent::{AgentReport, Declared, Release};
use crate::domain::history::{Deployment, DeploymentResult};
use crate::domain::outcome::{ConditionStatus, ConditionType, Outcome};
use crate::port::World;
use crate::port::clock::Clock as _;
use crate::port::journal::Journal as _;
use crate::port::source::Source as _;
use crate::port::upgrades::{Fetching, From, UpgradeError, Upgrades};
use crate::resolve::declared_agent::{Whose, declared_agent};
use crate::resolve::first_documents;
use crate::select::Urgency;
use crate::select::upgrade::{
    Next, Reached, Scene, Staged, Step, Verdict, decide, is_on_trial, judge,
};
use crate::trust::verified::VerifiedCommit;

/// What the loop needs for the agent's own version.
#[derive(Clone, Copy)]
pub(super) struct Upgrading<'a> {
    upgrades: &'a dyn Upgrades,
    managed: Managed,
    arch: &'a str,
    /// Whether what is not needed any more was removed since something changed.
    swept: Swept,
    /// Whether the first pass, which asks no remote, has found what is good in place.
    kept: Kept,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Yes,
    No,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Swept {
    Yes,
    No,
}

/// Whether this agent gives way to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GivesWay {
    /// It ends, and is started anew as what the links say.
    Now,
    /// It goes on.
    No,
}

impl std::fmt::Debug for Upgrading<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upgrading")
            .field("running", self.upgrades.running())
            .field("managed", &self.managed)
            .finish_non_exhaustive()
    }
}

impl<'a, W: World> Daemon<'a, W> {
    /// The same loop, which sees to the agent's own version.
    #[must_use]
    pub fn upgrading(
        mut self,
        upgrades: &'a dyn Upgrades,
        managed: Managed,
        arch: &'a str,
    ) -> Self {
        self.upgrading = Some(Upgrading {
            upgrades,
            managed,
            arch,
            swept: Swept::No,
            kept: Kept::No,
        });
        self
    }

    /// In the middle of a pass: trust has accepted a tip. Where that is another one than the agent before this one was at, what
    /// becomes of it (a pull of an hour, a soak that is red) says nothing about this agent, and its deadline does not wait for
    /// that.
    pub(super) fn prove_early(&mut self) {
        let Some(upgrading) = self.upgrading else {
            return;
        };
        let upgrades = upgrading.upgrades;
        let accepted = self.agent.session.accepted.borrow().clone();
        let (Kept::Yes, Some(commit), Some(was_at)) =
            (upgrading.kept, &accepted, upgrades.accepted())
        else {
            return;
        };
        if was_at != commit.id().as_str()
            && self.agent.session.reached.get()
            && is_on_trial(upgrades.running(), upgrades.next().as_ref())
        {
            self.prove(upgrades, accepted.as_ref());
        }
    }

    fn prove(&mut self, upgrades: &dyn Upgrades, accepted: Option<&VerifiedCommit>) {
        let done = upgrades.prove();
        if self.told(done) {
            let version = &upgrades.running().version;
            let text = format!("evenkeel {version} has had a healthy pass, and stays");
            self.remember(accepted, &text);
            self.not_swept();
        }
    }

    /// Told when a download has ended.
    pub(super) fn fetched(&self) -> Option<Rc<Notify>> {
        self.upgrading.map(|upgrading| upgrading.upgrades.fetched())
    }

    /// The loop stops because it was asked to: the start of an agent that is on trial does not count.
    pub(super) fn give_back(&self) {
        if let Some(Upgrading { upgrades, .. }) = self.upgrading {
            upgrades.give_back();
        }
    }

    /// After a pass has ended.
    pub(super) async fn upgrade(&mut self, urgency: Urgency, outcome: &Outcome) -> GivesWay {
        let Some(upgrading) = self.upgrading else {
            return GivesWay::No;
        };
        if urgency == Urgency::Boot {
            // It asks no remote: what it says of this agent, or of the one before, is not all.
            self.tell_agent(upgrading, &Declared::Nothing, None);
            if self.is_healthy()
                && let Some(upgrading) = &mut self.upgrading
            {
                upgrading.kept = Kept::Yes;
            }
            return GivesWay::No;
        }
        let upgrades = upgrading.upgrades;
        let accepted = self.agent.session.accepted.borrow().clone();
        let next = upgrades.next();
        if let Some(next) = next {
            if !is_on_trial(upgrades.running(), Some(&next)) {
                self.judge(upgrades, &next, accepted.as_ref());
            } else if self.is_proof(upgrading, accepted.as_ref(), outcome) {
                self.prove(upgrades, accepted.as_ref());
            }
        }
        let declared = match &accepted {
            Some(commit) => self.declared(upgrading, commit).await,
            None => Declared::Unknown(
                "no commit that is trusted is known now, so nothing says which version should run"
                    .to_owned(),
            ),
        };
        self.step(upgrading, &declared, accepted.as_ref(), outcome)
            .await
    }

    /// What did not stay is refused or forgiven, by the one that is back.
    fn judge(&mut self, upgrades: &dyn Upgrades, next: &Next, accepted: Option<&VerifiedCommit>) {
        let reached = if self.agent.session.reached.get() {
            Reached::Yes
        } else {
            Reached::No
        };
        let (done, why) = match judge(next, reached) {
            Verdict::Refuse(why) => (upgrades.refuse(next, &why), why),
            Verdict::Forgive(why) => (upgrades.forgive(next), why),
        };
        if self.told(done) {
            let text = format!("evenkeel {}: {why}", next.generation.version());
            self.remember(accepted, &text);
            self.agent.session.notice(&self.agent.world, &text);
            self.not_swept();
        }
    }

    async fn step(
        &mut self,
        upgrading: Upgrading<'a>,
        declared: &Declared,
        accepted: Option<&VerifiedCommit>,
        outcome: &Outcome,
    ) -> GivesWay {
        let upgrades = upgrading.upgrades;
        let next = upgrades.next();
        let refused = upgrades.refused();
        if accepted.is_some()
            && let (Some((generation, _)), false) =
                (&refused, matches!(declared, Declared::Unknown(_)))
            && !matches!(declared, Declared::Release(release) if release.generation() == *generation)
        {
            let done = upgrades.forget_refused();
            self.told(done);
        }
        let calm = self.calm(outcome);
        let (staged, failed) = staged(upgrades, declared);
        let step = decide(&Scene {
            managed: upgrading.managed,
            starter: upgrades.starter(),
            running: upgrades.running(),
            next: next.as_ref(),
            refused: refused
                .as_ref()
                .map(|(generation, why)| (generation, why.as_str())),
            declared,
            staged,
            calm: calm.as_ref().copied().map_err(String::as_str),
        });
        let held = match (&step, accepted) {
            (Step::Fetch(_), Some(commit)) => {
                self.agent.holds_agent(commit, AgentStep::Fetch).await
            }
            (Step::Switch(_), Some(commit)) => {
                self.agent.holds_agent(commit, AgentStep::Switch).await
            }
            (Step::Rest(_) | Step::HandBack | Step::Fetch(_) | Step::Switch(_), _) => None,
        };
        let step = match held {
            Some(hold) => Step::Rest(Some(hold.message)),
            None => step,
        };
        let mut gives_way = GivesWay::No;
        let why = match step {
            Step::Rest(why) => why,
            Step::Fetch(_) if failed.is_some() => failed,
            Step::Fetch(release) => match self.from(&release, accepted).await {
                Ok(from) => {
                    upgrades.fetch(&release, from);
                    Some("it is being downloaded".to_owned())
                }
                Err(why) => Some(why),
            },
            Step::Switch(generation) => {
                let text = format!(
                    "evenkeel {} gives way to {}, which is on trial until its first healthy pass",
                    upgrades.running().version,
                    generation.version()
                );
                let at = accepted
                    .map(VerifiedCommit::id)
                    .filter(|_| is_well(outcome));
                // First the history: a disk that takes no record takes no switch.
                if self.remember(accepted, &text) {
                    let done = upgrades.switch(&generation, at);
                    if self.told(done) {
                        gives_way = GivesWay::Now;
                    }
                }
                Some("it is being started".to_owned())
            }
            Step::HandBack => {
                let text = format!(
                    "evenkeel {} gives way to the package's own binary (agent.managed)",
                    upgrades.running().version
                );
                let done = upgrades.hand_back();
                if self.told(done) {
                    self.remember(accepted, &text);
                    gives_way = GivesWay::Now;
                }
                Some("the package's own binary is being started".to_owned())
            }
        };
        if let Some(upgrading) = &mut self.upgrading
            && upgrading.swept == Swept::No
            && accepted.is_some()
        {
            let wanted = match declared {
                Declared::Release(release) => Some(release.generation()),
                Declared::Nothing | Declared::Unknown(_) => None,
            };
            upgrading.upgrades.sweep(wanted.as_ref());
            upgrading.swept = Swept::Yes;
        }
        self.tell_agent(upgrading, declared, why);
        gives_way
    }

    fn not_swept(&mut self) {
        if let Some(upgrading) = &mut self.upgrading {
            upgrading.swept = Swept::No;
        }
    }

    /// What a commit that trust accepted declares.
    async fn declared(&self, upgrading: Upgrading<'_>, commit: &VerifiedCommit) -> Declared {
        let settings = &self.agent.settings;
        let paths = first_documents(&settings.device);
        match self.agent.world.source().read(commit.tree(), &paths).await {
            Ok(tree) => declared_agent(
                Whose {
                    device: &settings.device,
                    labels: &settings.labels,
                    fleet: settings.fleet.as_deref(),
                    machine: &settings.machine,
                    arch: upgrading.arch,
                },
                &tree,
            ),
            Err(error) => Declared::Unknown(chain(&error)),
        }
    }

    /// Where a binary is to be had.
    async fn from(
        &self,
        release: &Release,
        accepted: Option<&VerifiedCommit>,
    ) -> Result<From, String> {
        match (&release.binary.place, accepted) {
            (Place::Url(url), _) => Ok(From::Url(url.clone())),
            (Place::Path(path), Some(commit)) => {
                let read = self.agent.world.source().large(commit.tree(), path).await;
                match read {
                    Ok(Some(bytes)) => Ok(From::Bytes(bytes)),
                    Ok(None) => Err(format!("there is no file `{path}` in the repository")),
                    Err(error) => Err(chain(&error)),
                }
            }
            (Place::Path(path), None) => Err(format!("`{path}` cannot be read now")),
        }
    }

    /// Whether this is a moment for a change of the agent itself.
    fn calm(&self, outcome: &Outcome) -> Result<(), String> {
        let no = |why: &str| Err(why.to_owned());
        let ledger = self.agent.world.journal().ledger();
        if ledger.pin.is_some() || ledger.paused {
            return no("the device is held by hand");
        }
        if ledger.underway().is_some() {
            return no("a revision is being tried");
        }
        if !self.waiting.is_empty() {
            return no("somebody waits for an answer");
        }
        if !self.agent.session.reached.get() {
            return no("the remote does not answer");
        }
        if !self.is_healthy() {
            return no("what runs is not healthy");
        }
        match outcome {
            Outcome::Converged
            | Outcome::Applied { .. }
            | Outcome::Healed { .. }
            | Outcome::Unhealthy { .. }
            | Outcome::Rejected { .. } => Ok(()),
            Outcome::RolledBack { why, .. } => no(why),
            Outcome::Held(hold) => no(&hold.message),
            Outcome::Deferred { message, .. } => no(message),
        }
    }

    fn is_healthy(&self) -> bool {
        let report = self.agent.session.report();
        let mut conditions = report.conditions.iter();
        conditions
            .find(|condition| condition.kind == ConditionType::Healthy)
            .is_none_or(|condition| condition.status != ConditionStatus::False)
    }

    /// Whether this pass shows that this agent does its work: the remote answered, trust accepted its tip, what runs is
    /// healthy, and the pass came to its end. Where it does not accept the very revision that the agent before it was at, it is
    /// no proof; what it says of any other one may be that one's own fault.
    fn is_proof(
        &self,
        upgrading: Upgrading<'_>,
        accepted: Option<&VerifiedCommit>,
        outcome: &Outcome,
    ) -> bool {
        let Some(commit) = accepted else {
            return false;
        };
        let was_at = upgrading.upgrades.accepted();
        let is_another = was_at.as_deref() != Some(commit.id().as_str());
        self.agent.session.reached.get()
            && self.is_healthy()
            && match outcome {
                Outcome::Converged
                | Outcome::Applied { .. }
                | Outcome::Healed { .. }
                | Outcome::RolledBack { .. }
                | Outcome::Held(_)
                | Outcome::Unhealthy { .. } => true,
                Outcome::Rejected { .. } => is_another,
                Outcome::Deferred { .. } => false,
            }
    }

    /// Tells what failed; whether nothing did.
    fn told(&self, done: Result<(), UpgradeError>) -> bool {
        if let Err(error) = &done {
            self.agent.session.notice(&self.agent.world, &chain(error));
        }
        done.is_ok()
    }

    /// Writes it into the history; whether that was taken.
    fn remember(&self, commit: Option<&VerifiedCommit>, why: &str) -> bool {
        let ledger = self.agent.world.journal().ledger();
        let good = ledger.last_good().map(|good| good.commit().clone());
        let Some(commit) = commit.map(|commit| commit.id().clone()).or(good) else {
            return true;
        };
        let now = self.agent.world.clock().now();
        let appended = self.agent.world.journal().append(&Deployment {
            commit,
            content: None,
            started: now,
            ended: now,
            result: DeploymentResult::Agent,
            why: why.to_owned(),
            steps: Vec::new(),
        });
        if let Err(error) = &appended {
            self.agent.session.notice(&self.agent.world, &chain(error));
        }
        appended.is_ok()
    }

    fn tell_agent(&self, upgrading: Upgrading<'_>, declared: &Declared, why: Option<String>) {
        let declared = match declared {
            Declared::Release(release) => Some(release.version.to_string()),
            Declared::Nothing | Declared::Unknown(_) => None,
        };
        let agent = AgentReport {
            version: upgrading.upgrades.running().version.clone(),
            declared,
            why,
        };
        self.agent
            .session
            .update(&self.agent.world, |report| report.agent = Some(agent));
    }
}

/// Whether what is declared is here, and why its last download failed.
fn staged(upgrades: &dyn Upgrades, declared: &Declared) -> (Staged, Option<String>) {
    let Declared::Release(release) = declared else {
        return (Staged::No, None);
    };
    let wanted = release.generation();
    match upgrades.fetching() {
        // Another one may be on its way: one at a time.
        Fetching::Underway(_) => (Staged::OnItsWay, None),
        _ if upgrades.is_staged(&wanted) => (Staged::Yes, None),
        Fetching::Failed {
            release: tried,
            why,
        } if tried == *release => (Staged::No, Some(why)),
        Fetching::Failed { .. } | Fetching::Nothing => (Staged::No, None),
    }
}

/// Whether the revision at the tip is applied, and well.
const fn is_well(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Converged | Outcome::Applied { .. } | Outcome::Healed { .. } => true,
        Outcome::RolledBack { .. }
        | Outcome::Held(_)
        | Outcome::Unhealthy { .. }
        | Outcome::Rejected { .. }
        | Outcome::Deferred { .. } => false,
    }
}
