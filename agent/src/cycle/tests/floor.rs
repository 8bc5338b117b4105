//! What a device does with a tip that trust refuses, and where its memory of the floor was lost.

use evenkeel_schema::agent_config::Verify;

use super::*;
use crate::domain::history::Floor;
use crate::port::memory::Behaviour;
use crate::port::source::Source as _;
use crate::trust::fixture::Hand;

#[tokio::test(start_paused = true)]
async fn tips_that_trust_refuses_change_nothing_and_an_honest_one_on_top_is_taken() {
    let rig = Rig::at_one().await;
    let one = rig.last_good();
    let source = &rig.world.source;
    let two = rig.push(&TWO, "two");
    rig.settle().await;
    rig.assert_at(&TWO).await;
    let documents = THREE.documents();
    let tips = [
        (
            source.push_on(Some(&two), &documents, "x", Hand::Nobody),
            "unsigned",
        ),
        (
            source.push_on(Some(&two), &documents, "y", Hand::Stranger),
            "unknown-key",
        ),
        (
            source.push_on(Some(&one), &documents, "z", Hand::Trusted),
            "not-descendant",
        ),
        (one, "not-descendant"),
    ];
    for (tip, word) in tips {
        source.move_to(&tip);
        let before = rig.world.engine.starts();
        let outcome = rig.settle().await;
        let Outcome::Rejected { reason, .. } = &outcome else {
            panic!("{word}: {outcome:?}");
        };
        assert_eq!(reason, word);
        assert_eq!(outcome.exit_code(), 3);
        rig.assert_at(&TWO).await;
        assert_eq!(rig.world.engine.starts(), before);
        rig.settle().await;
        rig.assert_still().await;
    }
    source.push_on(Some(&two), &documents, "honest", Hand::Trusted);
    rig.settle().await;
    rig.assert_at(&THREE).await;
}

#[tokio::test(start_paused = true)]
async fn when_all_memory_is_lost_the_device_holds_until_a_person_sets_the_floor() {
    let mut rig = Rig::at_one().await;
    let one = rig.last_good();
    rig.world.journal.lose();
    rig.world.source.lose();
    rig.start_again();
    for urgency in [Urgency::Boot, Urgency::Scheduled, Urgency::Asked] {
        let outcome = rig.settle_as(urgency).await;
        assert!(
            matches!(&outcome, Outcome::Rejected { reason, .. } if reason == "TrustStateLost"),
            "{outcome:?}"
        );
    }
    rig.agent.reset_floor(&one).unwrap();
    let starts = rig.world.engine.starts();
    rig.live(3).await;
    rig.assert_at(&ONE).await;
    assert_eq!(rig.world.engine.starts(), starts, "what runs is taken over");
    rig.assert_still().await;
    rig.push(&TWO, "two");
    rig.settle().await;
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn floors_that_contradict_each_other_hold() {
    let rig = Rig::at_one().await;
    let floor = rig.world.journal.floor_file().unwrap().unwrap();
    let other = Floor {
        commit: "b".repeat(40).parse().unwrap(),
        ..floor.clone()
    };
    rig.world.source.forge_floor(Some(other));
    rig.push(&TWO, "two");
    let outcome = rig.settle().await;
    assert!(
        matches!(&outcome, Outcome::Rejected { reason, .. } if reason == "TrustStateLost"),
        "{outcome:?}"
    );
    rig.assert_at(&ONE).await;
    rig.agent.reset_floor(&floor.commit).unwrap();
    rig.settle().await;
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn one_copy_of_the_floor_is_enough_and_the_others_are_mended() {
    let rig = Rig::at_one().await;
    let floor = rig.world.journal.floor_file().unwrap();
    rig.world.source.forge_floor(None);
    rig.settle().await;
    assert_eq!(rig.world.source.floor_ref().unwrap(), floor);
    rig.settle().await;
    rig.assert_still().await;
}

#[tokio::test(start_paused = true)]
async fn a_floor_of_what_was_seen_refuses_a_rewind_over_a_release_that_was_never_good() {
    let rig = Rig::with(Settings {
        floor: FloorPolicy::Seen,
        ..settings()
    });
    let one = rig.push(&ONE, "one");
    rig.settle().await;
    rig.assert_at(&ONE).await;
    rig.world.engine.behave(&image('2'), Behaviour::Unhealthy);
    let two = rig.push(&TWO, "two");
    rig.settle().await;
    rig.assert_at(&ONE).await;
    let documents = THREE.documents();
    rig.world
        .source
        .push_on(Some(&one), &documents, "fork", Hand::Trusted);
    let outcome = rig.settle().await;
    assert!(
        matches!(&outcome, Outcome::Rejected { reason, .. } if reason == "not-descendant"),
        "{outcome:?}"
    );
    rig.assert_at(&ONE).await;
    rig.world
        .source
        .push_on(Some(&two), &documents, "on top", Hand::Trusted);
    rig.settle().await;
    rig.assert_at(&THREE).await;
}

#[tokio::test(start_paused = true)]
async fn polls_of_a_tip_that_stays_read_no_history_again() {
    for verify in [Verify::Tip, Verify::EveryCommit] {
        let rig = Rig::at_one().await;
        rig.world.policy.borrow_mut().verify = verify;
        rig.push(&TWO, "two");
        rig.live(2).await;
        rig.assert_at(&TWO).await;
        let read = rig.world.source.histories.get();
        rig.live(20).await;
        assert_eq!(rig.world.source.histories.get(), read, "{verify:?}");
        rig.push(&THREE, "three");
        rig.live(2).await;
        rig.assert_at(&THREE).await;
        // Once above the floor, and once when the floor has come after.
        assert!(rig.world.source.histories.get() <= read + 2, "{verify:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_that_was_never_good_may_be_dropped_from_the_branch() {
    let rig = Rig::at_one().await;
    let one = rig.last_good();
    rig.world.engine.behave(&image('2'), Behaviour::Unhealthy);
    rig.push(&TWO, "two");
    rig.settle().await;
    rig.world
        .source
        .push_on(Some(&one), &THREE.documents(), "instead", Hand::Trusted);
    rig.settle().await;
    rig.assert_at(&THREE).await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_down_does_not_hide_that_all_memory_was_lost() {
    for floor in [FloorPolicy::Seen, FloorPolicy::Good] {
        let mut rig = Rig::with(Settings {
            floor,
            ..settings()
        });
        rig.push(&ONE, "one");
        rig.settle().await;
        rig.assert_at(&ONE).await;
        rig.world.journal.lose();
        rig.world.source.lose();
        rig.world.engine.down.set(true);
        rig.start_again();
        rig.push(&TWO, "two");
        rig.live(2).await;
        rig.world.engine.down.set(false);
        let outcome = rig.settle().await;
        assert!(
            matches!(&outcome, Outcome::Rejected { reason, .. } if reason == "TrustStateLost"),
            "{floor:?}: {outcome:?}"
        );
        rig.assert_at(&ONE).await;
    }
}
