//! Images that lost bytes: between their pull and the switch, and later.

use super::*;
use crate::domain::outcome::ConditionType;
use crate::port::memory::Fault;

fn starts(rig: &Rig) -> u64 {
    rig.world.engine.starts()
}

fn reconciling(rig: &Rig) -> String {
    let report = rig.agent.session.report();
    let found = report
        .conditions
        .iter()
        .find(|one| one.kind == ConditionType::Reconciling);
    let found = found.unwrap();
    format!("{}: {}", found.reason, found.message)
}

/// The agent ends between the pull and the moment at which the image is on disk, and the power goes.
async fn cut_before_it_was_synced() -> Rig {
    let mut rig = Rig::at_one().await;
    rig.push(&TWO, "two");
    // The image is here, and nobody knows whether all of it is on disk.
    rig.world.faults.arm(3, Fault::Crash);
    tokio::select! {
        biased;
        () = rig.world.faults.died() => {}
        _ = rig.settle() => assert!(rig.world.faults.is_dead()),
    }
    let log = rig.world.faults.log();
    assert!(log[log.len() - 1].starts_with("settle"), "{log:?}");
    rig.world.lose_power();
    rig.start_again();
    rig
}

#[tokio::test(start_paused = true)]
async fn an_image_that_a_power_cut_may_have_torn_is_fetched_anew_before_the_old_container_stops() {
    let rig = cut_before_it_was_synced().await;
    let pulls = rig.world.engine.pulls.get();
    rig.live(2).await;
    rig.assert_at(&TWO).await;
    assert_eq!(rig.world.engine.pulls.get(), pulls + 1);
    let log = rig.world.faults.log();
    let last = |what: &str| log.iter().rposition(|one| one.starts_with(what)).unwrap();
    assert!(last("settle") < last("stop made-"), "{log:?}");
    assert!(rig.world.journal.ledger().deferred.is_none());
    rig.assert_still().await;
}

#[tokio::test(start_paused = true)]
async fn a_torn_image_that_cannot_be_fetched_anew_leaves_what_runs_alone() {
    let rig = cut_before_it_was_synced().await;
    rig.world.engine.registry.set(false);
    rig.live(1).await;
    let started = starts(&rig);
    for _ in 0..5 {
        tokio::time::sleep(rig.agent.settings.interval).await;
        rig.settle().await;
    }
    rig.assert_at(&ONE).await;
    assert_eq!(starts(&rig), started);
    rig.world.engine.registry.set(true);
    rig.settle_as(Urgency::Asked).await;
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn an_image_that_was_synced_is_not_pulled_again_for_a_power_cut() {
    let mut rig = Rig::at_one().await;
    rig.push(&TWO, "two");
    rig.killed_after(3).await;
    rig.world.lose_power();
    let pulls = rig.world.engine.pulls.get();
    rig.start_again();
    rig.live(2).await;
    rig.assert_at(&TWO).await;
    assert_eq!(rig.world.engine.pulls.get(), pulls);
}

#[tokio::test(start_paused = true)]
async fn a_damage_that_shows_when_a_container_is_made_is_no_fault_of_the_revision() {
    let rig = Rig::at_one().await;
    // A person loaded it, and it lost bytes afterwards.
    rig.world.engine.load_image(&image('2'));
    rig.world.engine.damage_image(&image('2'));
    rig.push(&TWO, "two again");
    let outcome = rig.settle().await;
    assert!(matches!(&outcome, Outcome::Deferred { .. }), "{outcome:?}");
    assert!(
        reconciling(&rig).contains("damaged"),
        "{}",
        reconciling(&rig)
    );
    rig.assert_at(&ONE).await;
    for _ in 0..2 {
        tokio::time::sleep(rig.agent.settings.interval).await;
        rig.settle().await;
    }
    rig.assert_at(&TWO).await;
    assert!(rig.world.journal.ledger().refused.is_empty());
}

#[tokio::test(start_paused = true)]
async fn last_good_whose_container_is_gone_and_whose_image_is_damaged_is_mended_too() {
    let rig = Rig::at_one().await;
    rig.world.engine.remove_by_hand("web-server-1");
    rig.world.engine.damage_image(&image('1'));
    rig.world.engine.registry.set(false);
    for _ in 0..2 {
        let outcome = rig.settle().await;
        assert!(
            matches!(&outcome, Outcome::Deferred { message, .. } if message.contains("damaged")),
            "{outcome:?}"
        );
        tokio::time::sleep(rig.agent.settings.interval).await;
    }
    // Nothing that can be had without a network stands still for it.
    rig.world.engine.registry.set(true);
    rig.settle().await;
    rig.assert_at(&ONE).await;
    rig.settle().await;
    rig.assert_still().await;
}
