//! Update locks: they hold what would disturb an app, and nothing else.

use super::*;
use crate::cycle::Locks;
use crate::daemon::{Answer, Ask, Asked, Daemon, Pass, Run};
use crate::domain::hold::{HeldBy, Hold};
use crate::domain::outcome::{ConditionStatus, ConditionType};
use crate::domain::revision::Timestamp;
use crate::port::clock::Clock as _;

const LOCK: &str = "/run/web.lock";

fn locking(release: &Release) -> Vec<(&'static str, String)> {
    let mut documents = release.documents();
    for (path, text) in &mut documents {
        if *path == "apps/web/app.toml" {
            *text = format!("lock = '{LOCK}'\nmax_hold = '1h'\n{text}");
        }
    }
    documents
}

impl Rig {
    async fn at_one_locked() -> Self {
        let rig = Self::new();
        rig.world.source.push(&locking(&ONE), "one");
        rig.settle().await;
        rig.assert_at(&ONE).await;
        rig.world.files.by_hand(LOCK, "");
        rig
    }

    fn unlock(&self) {
        let path = LOCK.parse().unwrap();
        self.world.files.there.borrow_mut().remove(&path);
    }

    async fn held_by(&self) -> Hold {
        match self.settle().await {
            Outcome::Held(hold) => hold,
            other => panic!("{other:?}"),
        }
    }

    fn condition_of(&self, kind: ConditionType) -> (ConditionStatus, String) {
        let report = self.agent.session.report();
        let found = report.conditions.iter().find(|one| one.kind == kind);
        found.map(|one| (one.status, one.reason.clone())).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_locked_app_is_prepared_for_and_not_restarted_until_the_lock_is_gone() {
    let rig = Rig::at_one_locked().await;
    rig.world.source.push(&locking(&TWO), "two");
    let hold = rig.held_by().await;
    assert_eq!(hold.by, HeldBy::Lock);
    assert!(hold.message.contains(LOCK), "{}", hold.message);
    rig.assert_at(&ONE).await;
    let log = rig.world.faults.log();
    assert!(log.contains(&format!("pull {}", image('2'))), "{log:?}");
    assert_eq!(
        rig.condition_of(ConditionType::Stalled).0,
        ConditionStatus::False
    );
    rig.unlock();
    rig.settle().await;
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn a_lock_holds_neither_healing_nor_a_rollback_nor_what_does_not_touch_its_app() {
    let rig = Rig::at_one_locked().await;
    // Another app comes.
    let with = Release {
        extra: Extra::With,
        ..ONE
    };
    rig.world.source.push(&locking(&with), "with");
    let outcome = rig.settle().await;
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    rig.assert_at(&with).await;
    // Healing.
    rig.world.files.by_hand("/etc/steady.conf", "edited");
    rig.world.files.by_hand("/etc/web.conf", "edited");
    rig.settle().await;
    rig.assert_at(&with).await;
    // A change that is bad, begun before the lock was set.
    rig.unlock();
    rig.world
        .engine
        .behave(&image('2'), crate::port::memory::Behaviour::Exits(1));
    rig.world
        .source
        .push(&locking(&Release { image: '2', ..with }), "bad");
    let outcome = rig
        .settle_while(2, async { rig.world.files.by_hand(LOCK, "") })
        .await;
    assert!(matches!(outcome, Outcome::Unhealthy { .. }), "{outcome:?}");
    rig.assert_at(&with).await;
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_cannot_be_looked_at_counts_as_held() {
    let rig = Rig::at_one_locked().await;
    rig.unlock();
    rig.world.files.sealed.set(true);
    rig.world.source.push(&locking(&TWO), "two");
    let hold = rig.held_by().await;
    assert!(
        hold.message.contains("counts as locked"),
        "{}",
        hold.message
    );
    rig.world.files.sealed.set(false);
    rig.settle().await;
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn balenas_lock_in_a_container_holds_what_would_restart_that_container() {
    let rig = Rig::at_one().await;
    let lock = |service: &str| {
        let mut locked = rig.world.engine.locked.borrow_mut();
        locked.clear();
        locked.insert(ServiceId {
            app: "web".parse().unwrap(),
            service: service.parse().unwrap(),
        });
    };
    lock("server");
    rig.push(&TWO, "two");
    let hold = rig.held_by().await;
    assert!(
        hold.message.contains("/tmp/balena/updates.lock"),
        "{}",
        hold.message
    );
    // Its neighbour is not touched by this change.
    lock("side");
    rig.settle().await;
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_held_too_long_is_told_and_writes_nothing_meanwhile() {
    let rig = Rig::at_one_locked().await;
    rig.world.source.push(&locking(&TWO), "two");
    rig.held_by().await;
    let before = rig.world.faults.log().len();
    rig.held_by().await;
    rig.held_by().await;
    assert_eq!(rig.world.faults.log()[before..], [""; 0]);
    tokio::time::sleep(Duration::from_secs(3700)).await;
    let hold = rig.held_by().await;
    assert_eq!(hold.by, HeldBy::LockOverdue);
    assert!(
        hold.message.contains("for more than 1h"),
        "{}",
        hold.message
    );
    let (status, reason) = rig.condition_of(ConditionType::Stalled);
    assert_eq!(
        (status, reason.as_str()),
        (ConditionStatus::True, "LockOverdue")
    );
    // By its own time stamp, after a start.
    let mut rig = Rig::at_one_locked().await;
    let stamp = Timestamp(rig.world.clock.now().0 - 7200);
    let path = LOCK.parse().unwrap();
    rig.world.files.stamps.borrow_mut().insert(path, stamp);
    rig.world.source.push(&locking(&TWO), "two");
    rig.start_again();
    assert_eq!(rig.held_by().await.by, HeldBy::LockOverdue);
}

#[tokio::test(start_paused = true)]
async fn a_person_passes_over_a_lock() {
    let rig = Rig::at_one_locked().await;
    rig.world.source.push(&locking(&TWO), "two");
    rig.held_by().await;
    let ask = Ask::SyncPastLocks(crate::cycle::Haste::InTime);
    let mut daemon = Daemon::new(&rig.agent);
    let (reply, answer) = tokio::sync::oneshot::channel();
    let (_asks, mut requests) = tokio::sync::mpsc::channel(1);
    let (_signals, mut signalled) = tokio::sync::mpsc::channel(1);
    assert_eq!(daemon.begin(Asked { ask, reply }).await, Pass::Needed);
    daemon.run(Run::Once, &mut requests, &mut signalled).await;
    let answer = answer.await.unwrap();
    assert!(
        matches!(answer, Answer::Passed(Outcome::Applied { .. })),
        "{answer:?}"
    );
    rig.assert_at(&TWO).await;
    assert_eq!(rig.agent.session.locks.get(), Locks::Heeded);
}
