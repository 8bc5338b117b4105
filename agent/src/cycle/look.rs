//! The branch's tip: fetched where the remote answers, as last fetched where it does not, and judged afresh each time.

use std::rc::Rc;

use evenkeel_schema::agent_config::{FloorPolicy, StalePolicy};

use super::session::{Says, chain};
use super::{Agent, CycleError};
use crate::domain::commit::{Extent, HistoryCut, RawCommit, RawHistory};
use crate::domain::history::{Floor, Ledger};
use crate::domain::outcome::ConditionType;
use crate::domain::revision::{CommitId, Timestamp};
use crate::domain::storage::Storage;
use crate::port::World;
use crate::port::clock::Clock as _;
use crate::port::journal::Journal as _;
use crate::port::source::{Deepened, Source as _, SourceError};
use crate::select::{Newest, Rejection, Urgency};
use crate::trust::policy::{Anchor, Decision, Scene, TrustPolicy, Verdict};
use crate::trust::verified::VerifiedCommit;

/// How often more history is fetched for one decision: each step at least doubles it.
const DEEPENINGS: usize = 32;

/// The age of the branch's newest sign of life, in days.
enum Age {
    /// The owner set no `max_age`.
    NotAsked,
    /// The clock is wrong.
    NotKnown,
    Stale(i64),
    Fresh(i64),
}

impl<W: World> Agent<W> {
    /// Fetches and judges the tip. With no network the tip as last fetched is judged again: offline decides like online.
    pub(super) async fn look(
        &self,
        ledger: &Ledger,
        floor: Option<&Floor>,
        urgency: Urgency,
    ) -> Result<Newest, CycleError> {
        let asks = match urgency {
            Urgency::Asked | Urgency::Boot => true,
            Urgency::Stirred => false,
            Urgency::Scheduled => self.is_poll_due().await,
        };
        if !asks {
            // What is here is judged again; whether the remote answers is as it was.
            if let Some(split) = self.split_known() {
                return Ok(split);
            }
            let raw = self.local_tip(floor).await;
            return self.consider(raw, None, ledger, floor).await;
        }
        // Before anything comes: how fast it may.
        self.link().await;
        self.session.unstored.set(None);
        let (fetched, trouble) = match self.world.source().fetch(self.anchor(floor)).await {
            Ok(fetched) => (Some(fetched), None),
            Err(error) => {
                let storage = Storage::behind(&error);
                self.session.unstored.set(storage);
                let trouble = chain(&error);
                let trouble = match storage {
                    Some(storage) => storage.explain(trouble),
                    None => trouble,
                };
                (None, Some(trouble))
            }
        };
        self.session.reached.set(trouble.is_none());
        let now = self.world.clock().now();
        self.session.update(&self.world, |report| {
            report.poll.error.clone_from(&trouble);
            if trouble.is_none() {
                report.poll.last = Some(now);
            }
        });
        let newest = match fetched {
            Some(fetched) => self.weigh(fetched, urgency, ledger, floor).await,
            None => match self.split_before() {
                Some(split) => Ok(split),
                None => {
                    let raw = self.local_tip(floor).await;
                    self.consider(raw, trouble, ledger, floor).await
                }
            },
        };
        self.count_poll().await;
        newest
    }

    /// The tip as last fetched, judged again; asks no network.
    pub(super) async fn look_back(
        &self,
        ledger: &Ledger,
        floor: Option<&Floor>,
    ) -> Result<Newest, CycleError> {
        self.session.reached.set(false);
        if let Some(split) = self.split_known() {
            return Ok(split);
        }
        let raw = self.local_tip(floor).await;
        self.consider(raw, None, ledger, floor).await
    }

    pub(super) async fn local_tip(&self, floor: Option<&Floor>) -> Option<RawCommit> {
        match self.world.source().local_tip(self.anchor(floor)).await {
            Ok(raw) => raw,
            Err(damage) => {
                self.session.notice(&self.world, &chain(&damage));
                None
            }
        }
    }

    pub(super) async fn consider(
        &self,
        raw: Option<RawCommit>,
        trouble: Option<String>,
        ledger: &Ledger,
        floor: Option<&Floor>,
    ) -> Result<Newest, CycleError> {
        self.session.accepted.replace(None);
        self.session.update(&self.world, |report| {
            report.revision.tip = raw.as_ref().map(|raw| raw.id.clone());
            report.revision.floor = floor.map(|floor| floor.commit.clone());
            report.revision.last_good = ledger.last_good().map(|good| good.commit().clone());
        });
        let Some(raw) = raw else {
            let why = trouble.unwrap_or_else(|| "nothing was fetched yet".to_owned());
            self.session.says(
                &self.world,
                ConditionType::Verified,
                Says::unknown("NothingFetched", &why),
            );
            return Ok(Newest::Unknown(why));
        };
        let newest = match self.sets_are_lost(&raw, ledger) {
            Some(rejection) => Newest::Rejected(rejection),
            None => self.judge(&raw, ledger, floor).await?,
        };
        if let Newest::Verified(commit) = &newest {
            self.accept(commit, ledger, floor).await?;
        }
        Ok(newest)
    }

    /// Every copy of the trust sets that were adopted here is lost: the local file alone may trust who was taken away since,
    /// so nothing new is taken until a person decides. What is good goes on.
    fn sets_are_lost(&self, raw: &RawCommit, ledger: &Ledger) -> Option<Rejection> {
        let why = ledger.trust_lost.as_ref()?;
        // Without [trust.root] they do not count; without a policy nothing does, and that is told elsewhere.
        if self
            .world
            .policy()
            .is_ok_and(|policy| policy.root.is_none())
        {
            return None;
        }
        let rejection = Rejection {
            commit: raw.id.clone(),
            reason: "TrustStateLost".to_owned(),
            message: format!(
                "the trust sets that this device had adopted are lost ({why}); `evenkeel trust reset --to <commit>` goes on \
                 from allowed_signers on the device, and adopts the repository's set anew"
            ),
        };
        self.session.says(
            &self.world,
            ConditionType::Verified,
            Says::no(&rejection.reason, &rejection.message),
        );
        Some(rejection)
    }

    pub(super) fn anchor<'a>(&'a self, floor: Option<&'a Floor>) -> Option<&'a CommitId> {
        floor
            .map(|floor| &floor.commit)
            .or(self.settings.pin.as_ref())
    }

    /// Asks trust, and says what it answers. Where more history has to be seen and the remote answers, it is fetched.
    pub(super) async fn judge(
        &self,
        raw: &RawCommit,
        ledger: &Ledger,
        floor: Option<&Floor>,
    ) -> Result<Newest, CycleError> {
        let says = |says| {
            self.session
                .says(&self.world, ConditionType::Verified, says)
        };
        let policy = match self.world.policy() {
            Ok(policy) => policy,
            Err(why) => {
                says(Says::unknown("NoTrustPolicy", &why));
                return Ok(Newest::Rejected(Rejection {
                    commit: raw.id.clone(),
                    reason: "no-trust-policy".to_owned(),
                    message: why,
                }));
            }
        };
        let decision = match self.decide(&policy, raw, ledger, floor).await {
            Ok(decision) => decision,
            Err(damage) => {
                let why = chain(&damage);
                says(Says::unknown("HistoryMissing", &why));
                return Ok(Newest::Unknown(why));
            }
        };
        if let Some(sets) = &decision.adopt {
            self.world.journal().adopt(sets)?;
            if let Some(set) = sets.last() {
                let what = format!("the trust set with serial {} is in force now", set.serial);
                self.session.notice(&self.world, &what);
            }
        }
        Ok(match decision.verdict {
            Verdict::Trusted(commit) => {
                let signed = format!(
                    "{} is signed by {} ({})",
                    commit.id().short(),
                    commit.principal(),
                    commit.fingerprint()
                );
                match &decision.beyond {
                    None => says(Says::yes("Trusted", signed)),
                    Some(refused) => says(Says::no(
                        refused.reason.as_str(),
                        format!(
                            "{}; this device goes no further than the commit before it: {signed}",
                            refused.message
                        ),
                    )),
                }
                self.hold_stale(*commit, ledger)
            }
            Verdict::Refused(refused) => {
                let reason = refused.reason.as_str().to_owned();
                says(Says::no(&reason, &refused.message));
                Newest::Rejected(Rejection {
                    commit: refused.commit,
                    reason,
                    message: refused.message,
                })
            }
            Verdict::Undecided(why) => {
                says(Says::unknown("HistoryMissing", &why));
                Newest::Unknown(why)
            }
        })
    }

    pub(super) async fn decide(
        &self,
        policy: &TrustPolicy,
        raw: &RawCommit,
        ledger: &Ledger,
        floor: Option<&Floor>,
    ) -> Result<Decision, SourceError> {
        let clock = self.world.clock();
        let anchor = match (floor, &self.settings.pin) {
            (Some(floor), _) => Anchor::Floor(&floor.commit),
            (None, Some(pin)) => Anchor::Pin(pin),
            (None, None) => Anchor::None,
        };
        let extent = policy.extent(&raw.descent);
        for _ in 0..DEEPENINGS {
            let history = self.history(&raw.id, anchor.commit(), extent).await?;
            let memo = self.session.memo.take();
            let mut decision = policy.decide(Scene {
                tip: raw,
                history: &history,
                anchor,
                adopted: &ledger.adopted,
                time_floor: self.time_floor(floor),
                clock: clock.is_synchronised().then(|| clock.now()),
                memo: &memo,
            });
            self.session
                .memo
                .replace(std::mem::take(&mut decision.memo));
            let more = matches!(decision.verdict, Verdict::Undecided(_))
                && history.cut == Some(HistoryCut::Shallow)
                && self.session.reached.get();
            if !more {
                return Ok(decision);
            }
            match self.world.source().deepen().await {
                Ok(Deepened::More) => self.session.forget_history(),
                Ok(Deepened::Nothing) => return Ok(decision),
                Err(error) => {
                    self.session.notice(
                        &self.world,
                        &format!("more of the branch's history: {}", chain(&error)),
                    );
                    return Ok(decision);
                }
            }
        }
        Err(SourceError::TooLarge(format!(
            "the history of {} is still not long enough after {DEEPENINGS} steps",
            raw.id.short()
        )))
    }

    /// The history beside a tip. While the tip and what it must descend from stay, it is read once.
    async fn history(
        &self,
        tip: &CommitId,
        anchor: Option<&CommitId>,
        extent: Extent,
    ) -> Result<Rc<RawHistory>, SourceError> {
        let key = (tip.clone(), anchor.cloned(), extent);
        if let Some(history) = self.session.history(&key) {
            return Ok(history);
        }
        let history = self.world.source().history(tip, anchor, extent).await?;
        Ok(self.session.keep_history(key, history))
    }

    /// The latest time that is known to have passed.
    pub(super) fn time_floor(&self, floor: Option<&Floor>) -> Timestamp {
        let stored = floor.map_or(Timestamp(0), |floor| floor.time);
        stored.max(self.world.clock().build_time())
    }

    /// What an accepted commit does at once: it is shown, a `Retry:` trailer clears a refusal, and with
    /// `floor = "seen"` the floor moves.
    async fn accept(
        &self,
        commit: &VerifiedCommit,
        ledger: &Ledger,
        floor: Option<&Floor>,
    ) -> Result<(), CycleError> {
        self.session.update(&self.world, |report| {
            report.revision.verified = Some(commit.id().clone());
        });
        self.session.accepted.replace(Some(commit.clone()));
        self.session.accepting.notify_one();
        self.tell_age(commit);
        for retry in commit.trailers("Retry") {
            let refused = ledger
                .refused
                .iter()
                .find(|refusal| refusal.commit.as_str() == retry);
            if let Some(refusal) = refused {
                self.world.journal().forgive(&refusal.commit)?;
            }
        }
        if self.settings.floor == FloorPolicy::Good {
            return Ok(());
        }
        let moves = match floor {
            Some(floor) => floor.commit != *commit.id(),
            // While the engine does not answer nobody knows whether something ran here before. A floor now would be
            // trust on first use, and hide that the one before was lost.
            None => self.engine_answers().await,
        };
        if moves {
            self.raise_floor(floor, commit)?;
        }
        Ok(())
    }

    /// `Stale`: the branch has not shown a sign of life for longer than the owner finds plausible.
    fn tell_age(&self, commit: &VerifiedCommit) {
        let says = match self.age(commit) {
            Age::NotAsked => return,
            Age::NotKnown => Says::unknown(
                "NoClock",
                "this device's clock is wrong, so the branch's age is not known",
            ),
            Age::Stale(days) => Says::yes(
                "TooOld",
                format!("the branch's newest sign of life is {days} days old"),
            ),
            Age::Fresh(days) => Says::no(
                "Fresh",
                format!("the branch's newest sign of life is {days} days old"),
            ),
        };
        self.session.says(&self.world, ConditionType::Stale, says);
    }

    /// How old the branch's newest sign of life is, beside what the owner finds plausible.
    fn age(&self, commit: &VerifiedCommit) -> Age {
        let Some(most) = self.settings.max_age else {
            return Age::NotAsked;
        };
        let clock = self.world.clock();
        let age = clock.now().0.saturating_sub(commit.alive().0);
        let most = i64::try_from(most.as_secs()).unwrap_or(i64::MAX);
        let days = age / 86_400;
        if clock.now() < clock.build_time() {
            Age::NotKnown
        } else if age > most {
            Age::Stale(days)
        } else {
            Age::Fresh(days)
        }
    }

    /// With `stale = "hold"` a change that comes from a stale branch is not taken; what is here already stays.
    fn hold_stale(&self, commit: VerifiedCommit, ledger: &Ledger) -> Newest {
        let is_here = ledger
            .last_good()
            .is_some_and(|good| good.commit() == commit.id());
        match (self.settings.stale, self.age(&commit)) {
            (StalePolicy::Hold, Age::Stale(days)) if !is_here => {
                self.tell_age(&commit);
                Newest::Rejected(Rejection {
                    commit: commit.id().clone(),
                    reason: "stale".to_owned(),
                    message: format!(
                        "the branch's newest sign of life is {days} days old, and trust.stale is `hold`: no change is taken \
                         until a commit or a heartbeat shows that it is alive (`evenkeel heartbeat`)"
                    ),
                })
            }
            (StalePolicy::Hold | StalePolicy::Report, _) => Newest::Verified(commit),
        }
    }

    /// A person's way out when the trust state is lost: the floor becomes this commit, with a generation above every
    /// copy that can be read.
    ///
    /// # Errors
    /// Where it cannot be made durable.
    pub fn reset_floor(&self, to: &CommitId) -> Result<Floor, CycleError> {
        let journal = self.world.journal();
        let copies = [
            journal.floor_file().ok().flatten(),
            self.world.source().floor_ref().ok().flatten(),
            journal.ledger().floor,
        ];
        let highest = copies
            .into_iter()
            .flatten()
            .max_by_key(|floor| floor.generation);
        let floor = Floor {
            generation: highest.as_ref().map_or(1, |floor| floor.generation + 1),
            commit: to.clone(),
            time: self.time_floor(highest.as_ref()),
        };
        self.write_floor(&floor)?;
        if journal.ledger().trust_lost.is_some() {
            journal.adopt(&[])?;
        }
        Ok(floor)
    }

    /// Moves the floor to a commit, in all three copies.
    pub(super) fn raise_floor(
        &self,
        floor: Option<&Floor>,
        commit: &VerifiedCommit,
    ) -> Result<(), CycleError> {
        let clock = self.world.clock();
        let mut time = self.time_floor(floor);
        if clock.is_synchronised() {
            // Only a clock that is known to be right may raise the stored time: a commit dated far ahead, or a clock
            // that jumped, poisons nothing.
            time = time.max(clock.now());
        }
        self.write_floor(&Floor {
            generation: floor.map_or(1, |floor| floor.generation + 1),
            commit: commit.id().clone(),
            time,
        })
    }

    /// Writes all three copies, in the order file, ref, journal. The ref may fail (the git store is replaceable): that
    /// is told, and a later pass mends it.
    pub(super) fn write_floor(&self, floor: &Floor) -> Result<(), CycleError> {
        let journal = self.world.journal();
        journal.set_floor_file(floor)?;
        if let Err(error) = self.world.source().set_floor_ref(floor) {
            self.session.notice(
                &self.world,
                &format!("the floor's copy in the git store: {}", chain(&error)),
            );
        }
        journal.set_floor(floor)?;
        self.session.update(&self.world, |report| {
            report.revision.floor = Some(floor.commit.clone());
        });
        Ok(())
    }
}
