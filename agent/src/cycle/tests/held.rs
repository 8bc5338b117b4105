//! A change that is held on purpose: waves, halts, clocks. What is good is healed all the while.

use super::*;
use crate::cycle::{AgentStep, Haste};
use crate::daemon::{Answer, Ask, Asked, Daemon, Pass, Run};
use crate::domain::hold::{HeldBy, Hold};
use crate::domain::revision::Timestamp;
use crate::port::clock::Clock as _;
use crate::schedule::rollout::{Slot, turn};

const HOUR: i64 = 3600;

impl Release {
    /// The same with a `[rollout]`.
    fn in_rollout(&self, section: &str) -> Vec<(&'static str, String)> {
        let mut documents = self.documents();
        documents[0].1.push_str(&format!("[rollout]\n{section}\n"));
        documents
    }
}

impl Rig {
    /// Pushes a release that is dated so many hours from now.
    fn push_dated(&self, documents: &[(&str, String)], hours: i64) -> CommitId {
        let time = self.in_hours(hours).0;
        let tip = self.world.source.tip();
        let hand = crate::trust::fixture::Hand::Trusted;
        self.world
            .source
            .push_at(tip.as_ref(), documents, "dated", hand, time)
    }

    fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    fn in_hours(&self, hours: i64) -> Timestamp {
        Timestamp(self.now().0 + hours * HOUR)
    }

    /// Pushes a release whose only wave comes after so many hours.
    fn push_for_later(&self, release: &Release, hours: i64) -> CommitId {
        let start = self.in_hours(hours);
        let section = format!("id = 'one'\nstart = '{start}'\nwaves = [100]");
        self.world
            .source
            .push(&release.in_rollout(&section), "later")
    }

    async fn held(&self) -> Hold {
        match self.settle().await {
            Outcome::Held(hold) => hold,
            other => panic!("{other:?}"),
        }
    }

    fn pulled(&self, image: &str) -> usize {
        let log = self.world.faults.log();
        log.iter()
            .filter(|one| **one == format!("pull {image}"))
            .count()
    }

    async fn pass_hours(&self, hours: u64) {
        tokio::time::sleep(Duration::from_secs(hours * 3600)).await;
    }

    async fn taken(&self, release: &Release) {
        let outcome = self.settle().await;
        assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
        self.assert_at(release).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_waits_for_its_turn_with_all_it_needs_and_then_takes_it() {
    let rig = Rig::at_one().await;
    let start = rig.in_hours(5);
    let commit = rig.push_for_later(&TWO, 5);
    let hold = rig.held().await;
    assert_eq!((hold.by, hold.until), (HeldBy::Wave, Some(start)));
    for word in [commit.short(), "`one`", &start.to_string()] {
        assert!(hold.message.contains(word), "{}", hold.message);
    }
    let report = rig.agent.session.report();
    assert_eq!(report.held, Some(hold));
    let ready = &report.conditions[0];
    assert_eq!(ready.reason, "WaitsForTurn");
    // The images came ahead of the turn.
    assert_eq!(rig.pulled(&image('2')), 1);
    rig.assert_at(&ONE).await;
    rig.assert_still().await;

    rig.pass_hours(4).await;
    rig.assert_still().await;
    rig.pass_hours(1).await;
    rig.taken(&TWO).await;
    assert_eq!(rig.agent.session.report().held, None);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_waits_heals_goes_back_and_goes_on_by_hand() {
    let rig = Rig::at_one().await;
    rig.push_for_later(&TWO, 5);
    rig.held().await;
    rig.world.files.by_hand("/etc/web.conf", "broken\n");
    rig.held().await;
    rig.assert_at(&ONE).await;
    // Somebody who asks for a pass does not jump the queue.
    let asked = rig.settle_as(Urgency::Asked).await;
    assert!(matches!(asked, Outcome::Held(_)), "{asked:?}");
    rig.assert_at(&ONE).await;
}

#[tokio::test(start_paused = true)]
async fn a_newer_commit_under_the_same_id_neither_redraws_nor_restarts() {
    let rig = Rig::at_one().await;
    let start = rig.now();
    let section = format!("id = 'one'\nstart = '{start}'\nduration = '1000h'");
    let commit = |release: &Release| rig.world.source.push(&release.in_rollout(&section), "x");
    commit(&TWO);
    let turns = {
        let text = format!("format = 1\nname = 'a'\n[rollout]\n{section}\n");
        let mut out = evenkeel_schema::diagnostic::Diagnostics::new();
        let fleet = evenkeel_schema::fleet::parse("f", text.as_bytes(), "0.1.0", &mut out);
        fleet.unwrap().unwrap().rollout.unwrap().turns.unwrap()
    };
    let turn = turn(&turns, Slot::of("one", &rig.agent.settings.device)).at;
    assert_eq!(rig.held().await.until, Some(turn));
    rig.pass_hours(1).await;
    commit(&THREE);
    assert_eq!(rig.held().await.until, Some(turn));
    let left = u64::try_from(turn.0 - rig.now().0).unwrap();
    tokio::time::sleep(Duration::from_secs(left)).await;
    rig.taken(&THREE).await;
    // Its turn has come: what follows under this id does not wait.
    commit(&TWO);
    rig.taken(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn a_halt_stops_who_has_not_begun_and_a_commit_without_it_goes_on() {
    let rig = Rig::at_one().await;
    let start = rig.in_hours(-1);
    let going = format!("id = 'one'\nstart = '{start}'\nwaves = [100]\n");
    rig.world
        .source
        .push(&TWO.in_rollout(&format!("{going}halt = true")), "halt");
    let hold = rig.held().await;
    assert_eq!((hold.by, hold.until), (HeldBy::Halt, None));
    assert!(hold.message.contains("fleet.toml:7:8"), "{}", hold.message);
    rig.world.files.by_hand("/etc/web.conf", "broken\n");
    rig.held().await;
    rig.assert_at(&ONE).await;
    rig.pass_hours(100).await;
    rig.assert_still().await;

    rig.world.source.push(&TWO.in_rollout(&going), "go on");
    rig.taken(&TWO).await;
    // Who has it keeps it.
    let halted = rig
        .world
        .source
        .push(&TWO.in_rollout("halt = true"), "halt again");
    assert_eq!(rig.settle().await, Outcome::Converged);
    assert_eq!(rig.last_good(), halted);
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn what_changes_nothing_here_waits_for_no_turn() {
    let rig = Rig::at_one().await;
    let commit = rig.push_for_later(&ONE, 5);
    assert_eq!(rig.settle().await, Outcome::Converged);
    assert_eq!(rig.last_good(), commit);
}

#[tokio::test(start_paused = true)]
async fn a_device_with_nothing_good_does_not_wait() {
    let rig = Rig::new();
    rig.push_for_later(&ONE, 5);
    rig.taken(&ONE).await;
}

#[tokio::test(start_paused = true)]
async fn what_began_goes_on_after_a_power_cut_though_a_halt_has_come() {
    let mut rig = Rig::at_one().await;
    rig.push(&TWO, "two");
    rig.killed_after(5).await;
    rig.world.lose_power();
    rig.world
        .source
        .push(&TWO.in_rollout("halt = true"), "halt");
    rig.start_again();
    rig.live(2).await;
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn what_soaks_is_not_ended_by_a_newer_commit_that_has_to_wait() {
    let mut rig = Rig::at_one().await;
    rig.agent.settings.interval = Duration::from_secs(3);
    let two = rig.push(&TWO, "two");
    let outcome = rig
        .settle_while(2, async {
            rig.push_for_later(&THREE, 5);
        })
        .await;
    assert!(
        matches!(&outcome, Outcome::Applied { commit, .. } if *commit == two),
        "{outcome:?}"
    );
    rig.assert_at(&TWO).await;
    assert_eq!(rig.held().await.by, HeldBy::Wave);
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_is_no_longer_the_tip_goes_back_while_the_tip_is_held() {
    let mut rig = Rig::at_one().await;
    rig.push(&TWO, "two");
    rig.killed_after(5).await;
    rig.push_for_later(&THREE, 5);
    rig.start_again();
    assert_eq!(rig.held().await.by, HeldBy::Wave);
    rig.assert_at(&ONE).await;
}

#[tokio::test(start_paused = true)]
async fn a_device_with_no_clock_comes_last_by_what_it_knows_to_have_passed() {
    let rig = Rig::at_one().await;
    let start = rig.now();
    let section = format!("id = 'one'\nstart = '{start}'\nwaves = [50, 100]\npause = '2h'");
    let tip = rig.world.source.tip();
    rig.world.clock.begin_at_zero();
    rig.world.source.push_at(
        tip.as_ref(),
        &TWO.in_rollout(&section),
        "two",
        crate::trust::fixture::Hand::Trusted,
        start.0,
    );
    let hold = rig.held().await;
    assert_eq!((hold.by, hold.until), (HeldBy::Wave, None));
    assert!(hold.message.contains("last"), "{}", hold.message);
    rig.pass_hours(3).await;
    rig.held().await;
    rig.pass_hours(1).await;
    rig.taken(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_nobody_has_set_yet_does_not_begin_a_turn() {
    let rig = Rig::at_one().await;
    rig.push_for_later(&TWO, 5);
    rig.world.clock.awaits_time.set(true);
    rig.world.clock.step(6 * HOUR);
    let hold = rig.held().await;
    assert!(hold.message.contains("time service"), "{}", hold.message);
    rig.world.clock.awaits_time.set(false);
    rig.taken(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_back_takes_nothing_away() {
    let rig = Rig::at_one().await;
    let start = rig.in_hours(1);
    let section = format!("id = 'one'\nstart = '{start}'\nwaves = [100]");
    rig.world.source.push(&TWO.in_rollout(&section), "two");
    rig.pass_hours(2).await;
    rig.taken(&TWO).await;
    rig.world.clock.step(-HOUR * 2);
    assert_eq!(rig.settle().await, Outcome::Converged);
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn plan_says_hold_and_when_the_turn_comes() {
    let rig = Rig::at_one().await;
    let good = rig.last_good();
    rig.push_for_later(&TWO, 5);
    let preview = rig.agent.preview().await.unwrap();
    assert_eq!((preview.target, preview.code), ("hold", 0));
    assert_eq!(preview.revision, Some(good));
    assert_eq!(preview.held.unwrap().by, HeldBy::Wave);
    assert!(preview.plan.steps.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_loop_wakes_up_when_the_turn_comes_and_not_an_interval_later() {
    let world = MemoryWorld::new();
    let interval = Duration::from_secs(10 * 3600);
    let settings = Settings {
        interval,
        ..settings()
    };
    let rig = Rig {
        agent: agent(&world, settings),
        world,
    };
    rig.push(&ONE, "one");
    rig.settle().await;
    rig.push_for_later(&TWO, 3);
    let (_asks, mut requests) = tokio::sync::mpsc::channel(1);
    let (_signals, mut signals) = tokio::sync::mpsc::channel(1);
    let mut daemon = Daemon::new(&rig.agent);
    let running = daemon.run(Run::Forever, &mut requests, &mut signals);
    tokio::select! {
        outcome = running => panic!("{outcome:?}"),
        // The turn, the most that chance adds, and the soak.
        () = tokio::time::sleep(Duration::from_secs(3 * 3600) + interval / 10 + Duration::from_secs(60)) => {}
    }
    rig.assert_at(&TWO).await;
}

fn spans(text: &str) -> Option<Vec<evenkeel_schema::agent_config::Span>> {
    Some(vec![text.parse().unwrap()])
}

impl Rig {
    /// The hours of the day, in UTC, from so many minutes from now to so many.
    fn hours(&self, from: i64, to: i64) -> String {
        let time = |minutes: i64| {
            let text = Timestamp(self.now().0 + minutes * 60).to_string();
            text[11..16].to_owned()
        };
        format!("* {}-{}", time(from), time(to))
    }

    /// `evenkeel sync --now`.
    async fn ask_now(&self) -> Answer {
        let (_asks, mut requests) = tokio::sync::mpsc::channel(1);
        let (_signals, mut signals) = tokio::sync::mpsc::channel(1);
        let (reply, answer) = tokio::sync::oneshot::channel();
        let ask = Ask::Sync(Haste::Now);
        let mut daemon = Daemon::new(&self.agent);
        if daemon.begin(Asked { ask, reply }).await == Pass::Needed {
            daemon.run(Run::Once, &mut requests, &mut signals).await;
        }
        answer.await.unwrap()
    }

    async fn minutes(&self, minutes: u64) {
        tokio::time::sleep(Duration::from_secs(minutes * 60)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn outside_its_window_a_device_prepares_heals_and_waits_for_the_opening() {
    let mut rig = Rig::at_one().await;
    rig.agent.settings.windows.apply = spans(&rig.hours(60, 120));
    rig.push(&TWO, "two");
    let hold = rig.held().await;
    assert_eq!(hold.by, HeldBy::Window);
    let opens = hold.until.unwrap().0 - rig.now().0;
    assert!((0..=60 * 60).contains(&opens), "{opens}");
    assert_eq!(
        rig.agent.session.report().conditions[0].reason,
        "OutsideWindow"
    );
    assert_eq!(rig.pulled(&image('2')), 1);
    rig.assert_still().await;
    rig.world.files.by_hand("/etc/web.conf", "broken\n");
    rig.held().await;
    rig.assert_at(&ONE).await;
    let asked = rig.settle_as(Urgency::Asked).await;
    assert!(matches!(asked, Outcome::Held(_)), "{asked:?}");
    rig.minutes(60).await;
    rig.taken(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn what_began_in_a_window_soaks_to_its_end_and_a_rollback_waits_for_none() {
    let mut rig = Rig::at_one().await;
    rig.agent.settings.windows.apply = spans(&rig.hours(-30, 2));
    let long = Release { soak: 600, ..TWO };
    rig.push(&long, "long");
    rig.taken(&long).await;
    // Long after the end: a person goes back, and forth.
    let ledger = rig.world.journal.ledger();
    let pin = crate::domain::history::Pin {
        commit: ledger.good[1].commit().clone(),
        at: rig.now(),
    };
    rig.world.journal.set_pin(Some(&pin)).unwrap();
    let back = rig.settle().await;
    assert!(matches!(back, Outcome::RolledBack { .. }), "{back:?}");
    rig.assert_at(&ONE).await;
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_change_goes_back_though_the_window_has_closed() {
    let mut rig = Rig::at_one().await;
    rig.agent.settings.windows.apply = spans(&rig.hours(-30, 1));
    rig.world
        .engine
        .behave(&image('2'), crate::port::memory::Behaviour::Unhealthy);
    let long = Release { soak: 600, ..TWO };
    rig.push(&long, "long");
    let outcome = rig.settle().await;
    assert!(matches!(outcome, Outcome::Unhealthy { .. }), "{outcome:?}");
    rig.assert_at(&ONE).await;
}

#[tokio::test(start_paused = true)]
async fn images_wait_for_their_own_window_and_are_here_when_the_other_one_opens() {
    let mut rig = Rig::at_one().await;
    rig.agent.settings.windows.download = spans(&rig.hours(60, 70));
    rig.agent.settings.windows.apply = spans(&rig.hours(180, 240));
    rig.push(&TWO, "two");
    let hold = rig.held().await;
    assert_eq!(hold.by, HeldBy::Download);
    let minutes = (hold.until.unwrap().0 - rig.now().0) / 60;
    assert!(
        (175..=180).contains(&minutes),
        "{minutes}: {}",
        hold.message
    );
    assert!(
        hold.message.contains("; then changes are applied"),
        "{}",
        hold.message
    );
    rig.assert_still().await;
    assert_eq!(rig.pulled(&image('2')), 0);
    rig.minutes(61).await;
    assert_eq!(rig.held().await.by, HeldBy::Window);
    assert_eq!(rig.pulled(&image('2')), 1);
    rig.minutes(120).await;
    rig.taken(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn what_needs_no_image_does_not_wait_for_a_download() {
    let mut rig = Rig::at_one().await;
    rig.agent.settings.windows.download = spans(&rig.hours(60, 70));
    let changed = Release {
        file: "changed",
        ..ONE
    };
    rig.push(&changed, "a file");
    rig.taken(&changed).await;
}

#[tokio::test(start_paused = true)]
async fn an_image_of_what_is_good_is_fetched_at_any_time() {
    let mut rig = Rig::at_one().await;
    rig.agent.settings.windows.download = spans(&rig.hours(60, 70));
    rig.agent.settings.windows.apply = spans(&rig.hours(60, 70));
    rig.world.engine.remove_by_hand("web-server-1");
    rig.world.engine.forget_image(&image('1'));
    let outcome = rig.settle().await;
    assert!(matches!(outcome, Outcome::Healed { .. }), "{outcome:?}");
    rig.assert_at(&ONE).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_was_on_its_way_may_begin_within_the_grace() {
    for (grace, taken) in [(0, false), (30, true)] {
        let mut rig = Rig::at_one().await;
        rig.agent.settings.windows.apply = spans(&rig.hours(-60, 5));
        rig.agent.settings.windows.grace = Duration::from_secs(grace * 60);
        rig.world.engine.pulls_in(20, Duration::from_secs(60));
        rig.push(&TWO, "two");
        let outcome = rig.settle().await;
        assert_eq!(
            matches!(outcome, Outcome::Applied { .. }),
            taken,
            "{grace}: {outcome:?}"
        );
        // What comes after the end has no grace.
        rig.push(&THREE, "three");
        assert_eq!(rig.held().await.by, HeldBy::Window);
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_goes_back_closes_the_window_that_was_open_by_mistake() {
    let mut rig = Rig::at_one().await;
    rig.agent.settings.windows.apply = spans(&rig.hours(-60, 60));
    // Years ahead, at the same hour of the day: open, and the images do not come.
    let years = 20 * 365 * 86_400;
    rig.world.clock.step(years);
    rig.world.faults.refuse("pull");
    rig.push(&TWO, "two");
    let outcome = rig.settle().await;
    assert!(!matches!(outcome, Outcome::Held(_)), "{outcome:?}");
    rig.assert_at(&ONE).await;
    rig.world.faults.mend();
    // Right again, and two hours later, when it is closed.
    rig.world.clock.step(2 * 3600 - years);
    assert_eq!(rig.held().await.by, HeldBy::Window);
    rig.assert_at(&ONE).await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_wrong_opens_no_window_until_it_is_right() {
    let mut rig = Rig::at_one().await;
    rig.agent.settings.windows.apply = spans("* 00:00-24:00");
    let right = rig.world.clock.begin_at_zero();
    rig.push(&TWO, "two");
    let hold = rig.held().await;
    assert_eq!((hold.by, hold.until), (HeldBy::Window, None));
    rig.world.files.by_hand("/etc/web.conf", "broken\n");
    rig.held().await;
    rig.assert_at(&ONE).await;
    rig.world.clock.step(right);
    rig.taken(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn a_person_goes_ahead_of_a_window_and_a_turn_where_the_owner_lets_it_and_never_of_a_halt() {
    let mut rig = Rig::at_one().await;
    rig.agent.settings.windows.apply = spans(&rig.hours(60, 120));
    rig.agent.settings.windows.download = spans(&rig.hours(60, 120));
    rig.push_for_later(&TWO, 5);
    assert_eq!(rig.held().await.by, HeldBy::Download);
    let refused = rig.ask_now().await;
    assert!(
        matches!(&refused, Answer::Failed { code: 2, message } if message.contains("now = \"allow\"")),
        "{refused:?}"
    );
    rig.assert_at(&ONE).await;
    rig.agent.settings.windows.now = evenkeel_schema::agent_config::NowPolicy::Allow;
    let passed = rig.ask_now().await;
    assert!(
        matches!(&passed, Answer::Passed(Outcome::Applied { .. })),
        "{passed:?}"
    );
    rig.assert_at(&TWO).await;
    // Only that once.
    rig.push_for_later(&THREE, 5);
    rig.held().await;
    rig.world
        .source
        .push(&THREE.in_rollout("halt = true"), "halt");
    let halted = rig.ask_now().await;
    assert!(
        matches!(&halted, Answer::Passed(Outcome::Held(hold)) if hold.by == HeldBy::Halt),
        "{halted:?}"
    );
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_dated_ahead_moves_no_turn_of_a_device_whose_clock_is_right() {
    let rig = Rig::at_one().await;
    let start = rig.in_hours(5);
    let section = format!("id = 'one'\nstart = '{start}'\nwaves = [100]");
    rig.push_dated(&TWO.in_rollout(&section), 20);
    assert_eq!(rig.held().await.until, Some(start));
    rig.pass_hours(5).await;
    rig.taken(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_nobody_vouches_for_and_that_is_behind_opens_no_window_and_is_late_for_its_turn()
 {
    let mut rig = Rig::at_one().await;
    rig.world.clock.set_synchronised(false);
    let start = rig.in_hours(2);
    let section = format!("id = 'one'\nstart = '{start}'\nwaves = [100]");
    rig.push_dated(&TWO.in_rollout(&section), 3);
    assert_eq!(rig.held().await.until, Some(start));
    rig.pass_hours(2).await;
    rig.taken(&TWO).await;
    rig.agent.settings.windows.apply = spans("* 00:00-24:00");
    rig.push_dated(&THREE.documents(), 1);
    assert_eq!(rig.held().await.by, HeldBy::Window);
    rig.world.clock.step(HOUR);
    rig.taken(&THREE).await;
}

#[tokio::test(start_paused = true)]
async fn the_agents_own_next_version_waits_with_the_rest() {
    let mut rig = Rig::at_one().await;
    let asked = async |rig: &Rig, step| {
        let accepted = rig.agent.session.accepted.borrow().clone();
        let hold = rig.agent.holds_agent(&accepted.unwrap(), step).await;
        hold.map(|hold| hold.by)
    };
    // Nothing of the device's own changes: its own content is good at once.
    rig.push_for_later(&ONE, 5);
    assert_eq!(rig.settle().await, Outcome::Converged);
    assert_eq!(asked(&rig, AgentStep::Switch).await, Some(HeldBy::Wave));
    // It is fetched ahead, but for where that has a window of its own.
    assert_eq!(asked(&rig, AgentStep::Fetch).await, None);
    rig.agent.settings.windows.download = spans(&rig.hours(60, 70));
    assert_eq!(asked(&rig, AgentStep::Fetch).await, Some(HeldBy::Download));
    rig.pass_hours(5).await;
    rig.agent.settings.windows.download = None;
    rig.settle().await;
    assert_eq!(asked(&rig, AgentStep::Switch).await, None);
}
