//! The promise at every point: whatever effect the world breaks at, a device ends at the new release or at the last good
//! one, whole and healthy, and says which; nothing that is not its own has changed, nothing is left over, no release was
//! tried more often than there are tries, and a second pass has nothing to do.
//!
//! Limits: one device in memory. What a real disk, engine or network can do beyond failing, lying and losing its last
//! seconds is tried on real ones.

mod boots;
mod clocks;
mod loops;
mod pairs;

mod points;
mod stories;
mod torn;

use super::*;
use crate::domain::history::TRIES;
use crate::domain::outcome::{ConditionStatus, ConditionType, Phase, Report};
use crate::port::memory::Fault;
use crate::tally::Ended;

use stories::Story;

/// More polls than any single trouble may take to be over.
const POLLS: u32 = 8;
/// More effects than any story has.
const MOST: u64 = 400;
/// Seconds of its work that an engine may lose with the power.
const LOST: u64 = 4;

/// How the agent ends, or what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// The process ends; what runs goes on.
    Killed,
    /// The power goes.
    Power,
    /// The power goes, and with it the last seconds of the engine's work.
    PowerAndCache,
    /// One effect fails.
    Fails,
    /// One effect is done, and says that it failed.
    Lies,
}

impl Trouble {
    fn fault(self) -> Fault {
        match self {
            Self::Killed | Self::Power | Self::PowerAndCache => Fault::Crash,
            Self::Fails => Fault::Fail,
            Self::Lies => Fault::Lie,
        }
    }
}

/// A device to which the story has just happened; each case begins with a copy.
struct Scene {
    story: &'static Story,
    world: Rc<MemoryWorld>,
    strangers: String,
}

impl Scene {
    async fn of(story: &'static Story) -> Self {
        let rig = Rig::new();
        let mut spec = stories::any_container();
        spec.device = "gw-2".parse().unwrap();
        spec.name = "gw-2-web-server-1".to_owned();
        rig.world.engine.add_stranger(spec);
        for before in story.before {
            before(&rig);
            rig.settle().await;
            rig.settle().await;
        }
        (story.then)(&rig);
        let strangers = rig.world.engine.strangers(&rig.agent.settings.device);
        Self {
            story,
            world: rig.world,
            strangers,
        }
    }

    fn begin(&self) -> Rig {
        let world = self.world.copy();
        if crate::tally::is_planted("forget-try") {
            world.journal.forgets_tries.set(true);
        }
        let agent = agent(&world, settings());
        Rig { world, agent }
    }

    /// Lives on until the device is still, and holds it to the promise.
    async fn judge(&self, rig: &Rig, unclean_ends: u32) -> Result<Ended, String> {
        let judged = match rig.until_still().await {
            Ok(()) => self.holds(rig, unclean_ends).await,
            Err(why) => Err(why),
        };
        judged.map_err(|why| {
            format!(
                "{}: {why}\n{:#?}\n{:#?}",
                self.story.name,
                rig.world.faults.log(),
                rig.agent.session.report()
            )
        })
    }

    async fn holds(&self, rig: &Rig, unclean_ends: u32) -> Result<Ended, String> {
        let story = self.story;
        let (at, ended) = match rig.is_at(&story.end).await {
            Ok(()) => (&story.end, story.ended),
            // So many ends in a row refuse even a release that is well.
            Err(why) => match &story.or {
                Some(or) if unclean_ends >= TRIES => {
                    rig.is_at(or).await?;
                    (or, Ended::LastGood)
                }
                Some(_) | None => return Err(why),
            },
        };
        rig.says_so(at)?;
        let strangers = rig.world.engine.strangers(&rig.agent.settings.device);
        if strangers != self.strangers {
            return Err(format!(
                "what is not ours was {}, and is {strangers}",
                self.strangers
            ));
        }
        if at == &story.end && !(story.and_then)(rig) {
            return Err("a person's file is not as it has to be".to_owned());
        }
        let ledger = rig.world.journal.ledger();
        if !story.refuses && unclean_ends < TRIES && !ledger.refused.is_empty() {
            return Err(format!("refused: {:?}", ledger.refused));
        }
        for (commit, ends) in rig.world.journal.unclean() {
            // A first release has nothing to go back to, and is tried on.
            if ends > TRIES && story.or.is_some() {
                return Err(format!("{} ended uncleanly {ends} times", commit.short()));
            }
        }
        Ok(ended)
    }
}

impl Rig {
    /// The agent ends at the effect at which it is broken, if it comes to it. Returns whether it ended.
    async fn live_through(&mut self, trouble: Trouble, polls: u32) -> bool {
        let faults = Rc::clone(&self.world.faults);
        let ended = tokio::select! {
            biased;
            () = faults.died() => true,
            _ = self.live(polls) => faults.is_dead(),
        };
        if ended {
            self.ends(trouble);
        }
        self.world.faults.mend();
        ended
    }

    /// The agent has ended, and another one begins.
    fn ends(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Power => self.world.lose_power(),
            Trouble::PowerAndCache => self.world.lose_power_and(LOST),
            Trouble::Killed | Trouble::Fails | Trouble::Lies => {}
        }
        self.start_again();
    }

    /// A start and polls, until one of them changes nothing at all.
    async fn until_still(&self) -> Result<(), String> {
        self.settle_as(Urgency::Boot).await;
        for _ in 0..POLLS {
            let before = self.world.faults.taken();
            self.settle().await;
            if self.world.faults.taken() == before {
                return Ok(());
            }
            tokio::time::sleep(self.agent.settings.interval).await;
        }
        Err("it does not come to rest".to_owned())
    }

    /// What the report says is what is there.
    fn says_so(&self, at: &Release) -> Result<(), String> {
        let expect = |is: bool, what: &str| if is { Ok(()) } else { Err(what.to_owned()) };
        let ledger = self.world.journal.ledger();
        let report = self.agent.session.report();
        expect(
            ledger.report.as_ref().map(Report::lasting) == Some(report.lasting()),
            "what is remembered of the report is not the report",
        )?;
        let content = resolved(at).content_id();
        let applied = report.revision.applied.as_ref();
        let here = ledger
            .good
            .iter()
            .find(|good| Some(good.commit()) == applied);
        expect(
            here.is_some_and(|good| *good.content() == content),
            &format!("it says that {applied:?} is applied, and that is not what is here"),
        )?;
        let last_good = ledger.last_good().map(|good| good.commit().clone());
        expect(
            report.revision.last_good == last_good,
            "it names another last-good",
        )?;
        let tip = self.world.source.tip();
        let online = self.world.source.online.get();
        let at_tip = online && ledger.pin.is_none() && applied == tip.as_ref();
        let condition = |kind| {
            let all = report.conditions.iter();
            let mut found = all.filter(|one| one.kind == kind);
            found.next().map(|one| (one.status, one.message.as_str()))
        };
        let status = |kind| condition(kind).map(|(status, _)| status);
        let is = |yes: bool| {
            Some(if yes {
                ConditionStatus::True
            } else {
                ConditionStatus::False
            })
        };
        expect(
            status(ConditionType::Ready) == is(at_tip),
            &format!("Ready is {:?}", condition(ConditionType::Ready)),
        )?;
        expect(
            condition(ConditionType::Ready).is_some_and(|(_, message)| !message.is_empty()),
            "it does not say why",
        )?;
        expect(
            status(ConditionType::Healthy) == is(true),
            &format!("Healthy is {:?}", condition(ConditionType::Healthy)),
        )?;
        expect(
            status(ConditionType::Drifted) == is(false) && report.drift.is_empty(),
            &format!("Drifted is {:?}", condition(ConditionType::Drifted)),
        )?;
        expect(
            status(ConditionType::Suspended) == is(ledger.pin.is_some()),
            &format!("Suspended is {:?}", condition(ConditionType::Suspended)),
        )?;
        expect(
            matches!(report.phase, Phase::Idle | Phase::RolledBack),
            &format!("it is {:?}", report.phase),
        )
    }
}

#[allow(
    clippy::print_stdout,
    reason = "how much was tried belongs to the test's story"
)]
fn tell_points(text: &str) {
    println!("{text}");
}
