//! The branch as a line of commits: heartbeats, a stale branch, a trust set that changes hands.

use super::*;
use crate::port::World as _;
use crate::port::clock::Clock as _;
use crate::trust::fixture::{self, Hand};

const DAY: i64 = 86_400;

impl Rig {
    /// A heartbeat on top of the branch, made just now.
    fn beat(&self, on: &CommitId, release: &Release) -> CommitId {
        let now = self.world.clock().now().0;
        self.world.source.push_at(
            Some(on),
            &release.documents(),
            "heartbeat",
            Hand::Heart,
            now,
        )
    }
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_neither_gates_again_nor_fills_a_kept_slot() {
    let rig = Rig::new();
    *rig.world.policy.borrow_mut() = fixture::policy_with_all();
    let one = rig.push(&ONE, "one");
    rig.settle().await;
    let before = rig.world.journal.ledger();
    let mut tip = one.clone();
    for _ in 0..5 {
        tip = rig.beat(&tip, &ONE);
        let outcome = rig.settle().await;
        assert!(matches!(outcome, Outcome::Converged), "{outcome:?}");
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    let after = rig.world.journal.ledger();
    assert_eq!(after.good, before.good);
    assert_eq!(after.floor, before.floor);
    assert_eq!(rig.agent.session.report().revision.verified, Some(one));
    // What comes on top of heartbeats is a change like any other.
    let now = rig.world.clock().now().0;
    rig.world
        .source
        .push_at(Some(&tip), &TWO.documents(), "two", Hand::Trusted, now);
    assert!(matches!(rig.settle().await, Outcome::Applied { .. }));
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn a_stale_branch_changes_nothing_until_a_heartbeat_says_that_it_is_alive() {
    let mut settings = settings();
    settings.max_age = Some(Duration::from_secs(14 * 86_400));
    settings.stale = StalePolicy::Hold;
    let rig = Rig::with(settings);
    *rig.world.policy.borrow_mut() = fixture::policy_with_all();
    let now = rig.world.clock().now().0;
    let one = rig
        .world
        .source
        .push_at(None, &ONE.documents(), "one", Hand::Trusted, now);
    assert!(matches!(rig.settle().await, Outcome::Applied { .. }));
    // Last-good runs on however old it gets.
    tokio::time::sleep(Duration::from_secs(20 * 86_400)).await;
    let outcome = rig.settle().await;
    assert!(matches!(outcome, Outcome::Converged), "{outcome:?}");
    rig.assert_at(&ONE).await;
    let two = rig.world.source.push_at(
        Some(&one),
        &TWO.documents(),
        "two",
        Hand::Trusted,
        now + DAY,
    );
    match rig.settle().await {
        Outcome::Rejected { reason, .. } => assert_eq!(reason, "stale"),
        other => panic!("{other:?}"),
    }
    rig.assert_at(&ONE).await;
    rig.beat(&two, &TWO);
    assert!(matches!(rig.settle().await, Outcome::Applied { .. }));
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn a_trust_set_that_was_adopted_stays_when_its_commit_is_dropped() {
    let rig = Rig::new();
    *rig.world.policy.borrow_mut() = fixture::policy_with_all();
    let one = rig.push(&ONE, "one");
    rig.settle().await;
    // The commit that hands over is bad and becomes good nowhere; the set in it counts all the same.
    rig.world
        .engine
        .behave(&image('2'), crate::port::memory::Behaviour::Unhealthy);
    let mut documents = TWO.documents();
    documents.extend(fixture::set());
    rig.push_documents(&documents);
    rig.settle().await;
    rig.assert_at(&ONE).await;
    assert_eq!(rig.world.journal.ledger().adopted.len(), 1);
    let source = &rig.world.source;
    source.push_on(Some(&one), &THREE.documents(), "three", Hand::Trusted);
    match rig.settle().await {
        Outcome::Rejected { reason, .. } => assert_eq!(reason, "unknown-key"),
        other => panic!("{other:?}"),
    }
    source.push_on(Some(&one), &THREE.documents(), "three", Hand::Next);
    assert!(matches!(rig.settle().await, Outcome::Applied { .. }));
    rig.assert_at(&THREE).await;
}

impl Rig {
    fn push_documents(&self, documents: &[(&str, String)]) {
        self.world.source.push(documents, "by hand");
    }
}
