//! An agent that ends in every life, before a pass is over: it does less and less, is never in a tight loop, keeps what is
//! good, says so, and comes back by itself.

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::*;
use crate::adapter::report::Hub;
use crate::daemon::{Answer, Ask, Asked, Daemon, Run, Signal};
use crate::port::memory::{Heard, MemoryStarts};
use crate::port::starts::Starts as _;
use crate::schedule::starts::Level;
use crate::tally::Tally;

/// How long the service manager waits before it starts the agent again.
const RESTART: Duration = Duration::from_secs(5);
/// How long the trouble lasts.
const TROUBLE: Duration = Duration::from_secs(24 * 3600);
/// What is late at most once it is over.
const LATE: Duration = Duration::from_secs(31 * 60);

/// A device with its service manager.
struct Machine {
    rig: Rig,
    starts: MemoryStarts,
    /// When each life began, and at which level.
    lives: Vec<(Instant, Level)>,
}

impl Machine {
    fn of(rig: Rig) -> Self {
        Self {
            starts: MemoryStarts::new(Rc::clone(&rig.world.faults)),
            rig,
            lives: Vec::new(),
        }
    }

    /// Lives until that moment, starting again where the agent ends.
    async fn until(&mut self, end: Instant) {
        while Instant::now() < end {
            let level = self.starts.begin();
            self.lives.push((Instant::now(), level));
            let faults = Rc::clone(&self.rig.world.faults);
            tokio::select! {
                biased;
                () = faults.died() => {}
                () = self.life(level) => {}
                () = tokio::time::sleep_until(end) => {}
            }
            self.rig.start_again();
            tokio::time::sleep(RESTART).await;
        }
    }

    async fn life(&self, level: Level) {
        if level == Level::Idle {
            tokio::time::sleep(self.starts.hold()).await;
            self.starts.try_again();
        }
        let (_asks, mut requests) = mpsc::channel(1);
        let (_signals, mut signals) = mpsc::channel(1);
        Daemon::new(&self.rig.agent)
            .counting(&self.starts)
            .run(Run::Forever, &mut requests, &mut signals)
            .await;
    }

    fn levels(&self) -> Vec<Level> {
        self.lives.iter().map(|(_, level)| *level).collect()
    }
}

/// A device at [`ONE`] whose agent ends at every such look, and to which [`TWO`] was pushed.
async fn ends_at(look: &'static str) -> Machine {
    let rig = Rig::at_one().await;
    rig.settle().await;
    rig.push(&TWO, "two");
    rig.world.faults.set_deadly(Some(look));
    Machine::of(rig)
}

async fn a_day_of(look: &'static str) -> Result<Ended, String> {
    let mut machine = ends_at(look).await;
    let begun = Instant::now();
    machine.until(begun + TROUBLE).await;
    // Every quarter of an hour, after a few at the beginning.
    let lives = machine.lives.len();
    if lives > 4 * 24 + 24 {
        return Err(format!("{lives} starts in a day"));
    }
    machine.rig.world.faults.set_deadly(None);
    let at_one = machine.rig.is_at(&ONE).await;
    at_one.map_err(|why| format!("in the middle of it: {why}"))?;
    for (commit, ends) in machine.rig.world.journal.unclean() {
        if ends > TRIES {
            return Err(format!("{} ended uncleanly {ends} times", commit.short()));
        }
    }
    let mended = Instant::now();
    machine.until(mended + LATE).await;
    machine.rig.until_still().await?;
    machine.rig.is_at(&TWO).await?;
    machine.rig.says_so(&TWO)?;
    Ok(Ended::New)
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_ends_in_every_life_is_never_in_a_tight_loop_and_comes_back() {
    let mut tally = Tally::new("the agent crashes in every life");
    // What it reads of a new release; and what it looks at even where it only keeps what is good.
    for look in ["read a tree", "observe", "ask about health"] {
        let ended = a_day_of(look).await;
        tally.count(ended.map_err(|why| format!("ends at every `{look}`: {why}")));
    }
    tally.close();
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_cannot_read_what_is_new_keeps_what_is_good_and_heals_it() {
    use Level::{AtLastGood, Whole};
    let mut machine = ends_at("read a tree").await;
    let begun = Instant::now();
    machine.until(begun + Duration::from_secs(40)).await;
    assert_eq!(machine.levels(), [Whole, Whole, Whole, AtLastGood]);
    // It is held for longer each time; what drifts meanwhile is put right.
    let now = Instant::now();
    machine.until(now + Duration::from_secs(1000)).await;
    let world = Rc::clone(&machine.rig.world);
    world.files.by_hand("/etc/steady.conf", "by hand");
    world.engine.remove_by_hand("web-side-1");
    let now = Instant::now();
    machine.until(now + Duration::from_secs(600)).await;
    machine.rig.assert_at(&ONE).await;
    let levels = machine.levels();
    assert!(
        levels.iter().skip(3).all(|level| *level == AtLastGood),
        "{levels:?}"
    );
    let report = world.journal.ledger().report.unwrap();
    let ready = report
        .conditions
        .iter()
        .find(|one| one.kind == ConditionType::Ready)
        .unwrap();
    assert_eq!(
        (ready.status, ready.reason.as_str()),
        (ConditionStatus::False, "UncleanStarts")
    );
    assert!(ready.message.contains("evenkeel sync"), "{}", ready.message);
}

#[tokio::test(start_paused = true)]
async fn a_person_who_asks_is_answered_by_a_whole_pass() {
    let mut machine = ends_at("read a tree").await;
    let begun = Instant::now();
    machine.until(begun + Duration::from_secs(400)).await;
    machine.rig.world.faults.set_deadly(None);
    assert_eq!(machine.starts.begin(), Level::AtLastGood);
    let (asks, mut requests) = mpsc::channel(1);
    let (_signals, mut signals) = mpsc::channel::<Signal>(1);
    let (reply, answer) = tokio::sync::oneshot::channel();
    let ask = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let ask = Ask::Sync(crate::cycle::Haste::InTime);
        asks.send(Asked { ask, reply }).await.unwrap();
        answer.await.unwrap()
    };
    let mut daemon = Daemon::new(&machine.rig.agent).counting(&machine.starts);
    tokio::select! {
        _ = daemon.run(Run::Forever, &mut requests, &mut signals) => panic!("it stopped"),
        answer = ask => assert!(matches!(answer, Answer::Passed(Outcome::Applied { .. })), "{answer:?}"),
    }
    machine.rig.assert_at(&TWO).await;
    assert_eq!(machine.starts.level(), Level::Whole);
}

#[tokio::test(start_paused = true)]
async fn a_clean_start_writes_its_count_once_and_forgets_it_once() {
    let rig = Rig::at_one().await;
    let mut machine = Machine::of(rig);
    let begun = Instant::now();
    machine.until(begun + Duration::from_secs(3600)).await;
    assert_eq!(machine.lives.len(), 1);
    assert_eq!(machine.starts.writes.get(), 2);
}

/// How often the watchdog is fed in so long a time of the agent's life.
async fn fed(rig: &Rig, span: Duration) -> u64 {
    let hub = Rc::new(Hub::new(Report::default()));
    let heard: Rc<dyn Heard> = hub.clone();
    rig.world.listener.also.replace(Some(heard));
    let starts = MemoryStarts::new(Rc::clone(&rig.world.faults));
    starts.begin();
    let (_asks, mut requests) = mpsc::channel(1);
    let (_signals, mut signals) = mpsc::channel(1);
    let beats = std::cell::Cell::new(0);
    let mut daemon = Daemon::new(&rig.agent).counting(&starts);
    tokio::select! {
        _ = daemon.run(Run::Forever, &mut requests, &mut signals) => panic!("it stopped"),
        () = hub.feed(Duration::from_secs(60), || beats.set(beats.get() + 1)) => {}
        () = tokio::time::sleep(span) => {}
    }
    beats.get()
}

#[tokio::test(start_paused = true)]
async fn the_watchdog_is_fed_through_a_long_rest_a_long_soak_and_a_long_pull() {
    let hours = Duration::from_secs(3 * 3600 + 30);
    // A rest of a day.
    let mut rig = Rig::at_one().await;
    rig.agent.settings.interval = Duration::from_secs(24 * 3600);
    assert_eq!(fed(&rig, hours).await, 180);
    // A soak in which nothing changes.
    let rig = Rig::at_one().await;
    let slow = Release {
        soak: 4 * 3600,
        ..TWO
    };
    rig.push(&slow, "slow");
    assert_eq!(fed(&rig, hours).await, 180);
    assert_eq!(rig.world.journal.ledger().good.len(), 1);
    // A pull of which a little arrives now and then.
    let rig = Rig::at_one().await;
    rig.push(&TWO, "two");
    rig.world.engine.pulls_in(4 * 60, Duration::from_secs(60));
    assert_eq!(fed(&rig, hours).await, 180);
    assert_eq!(rig.world.journal.ledger().good.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_watchdog_is_not_fed_where_the_loop_hangs() {
    let rig = Rig::at_one().await;
    // A fetch has its deadline, and so has a pull; what has none is seen by its silence alone.
    rig.world.engine.hangs.set(true);
    let beats = fed(&rig, Duration::from_secs(3 * 3600)).await;
    assert!((28..=31).contains(&beats), "{beats} times");
}
