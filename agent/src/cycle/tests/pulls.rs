//! A pull that does not end, and the fix that comes after it.

use super::*;
use crate::domain::history::DeploymentResult;
use crate::port::memory::Behaviour;

fn hang(rig: &Rig, digit: char) {
    rig.world.engine.hanging.borrow_mut().insert(image(digit));
}

fn release(digit: char, file: &'static str) -> Release {
    Release {
        image: digit,
        file,
        ..ONE
    }
}

#[tokio::test(start_paused = true)]
async fn a_newer_commit_ends_a_pull_that_hangs_and_is_taken() {
    let rig = Rig::at_one().await;
    hang(&rig, '2');
    rig.push(&TWO, "two");
    let began = tokio::time::Instant::now();
    let outcome = rig
        .settle_while(30, async {
            rig.push(&THREE, "three");
        })
        .await;
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    rig.assert_at(&THREE).await;
    // One interval until it is seen, and its own soak.
    assert!(
        began.elapsed() < Duration::from_secs(80),
        "{:?}",
        began.elapsed()
    );
    let ledger = rig.world.journal.ledger();
    assert!(ledger.refused.is_empty() && ledger.trial.is_none() && ledger.deferred.is_none());
    rig.settle().await;
    rig.assert_still().await;
}

#[tokio::test(start_paused = true)]
async fn a_revert_ends_a_pull_that_hangs_and_nothing_was_touched() {
    let rig = Rig::at_one().await;
    let starts = rig.world.engine.starts();
    hang(&rig, '2');
    rig.push(&TWO, "two");
    let outcome = rig
        .settle_while(30, async {
            rig.push(&ONE, "revert");
        })
        .await;
    assert_eq!(outcome, Outcome::Converged);
    rig.assert_at(&ONE).await;
    assert_eq!(rig.world.engine.starts(), starts);
}

#[tokio::test(start_paused = true)]
async fn a_new_device_whose_first_pull_hangs_takes_the_fix() {
    let rig = Rig::new();
    hang(&rig, '1');
    rig.push(&ONE, "one");
    rig.settle_while(30, async {
        rig.push(&TWO, "two");
    })
    .await;
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn a_newer_commit_that_needs_the_same_image_does_not_begin_its_pull_anew() {
    let rig = Rig::at_one().await;
    hang(&rig, '2');
    rig.push(&TWO, "two");
    let newer = release('2', "newer");
    let pulls = rig.world.engine.pulls.get();
    rig.settle_while(30, async {
        rig.push(&newer, "newer");
        tokio::time::sleep(Duration::from_secs(600)).await;
        rig.world.engine.hanging.borrow_mut().clear();
    })
    .await;
    rig.assert_at(&newer).await;
    assert_eq!(rig.world.engine.pulls.get(), pulls + 1);
    // The one in between was never tried.
    let history = rig.world.journal.history().unwrap();
    assert_eq!(history.len(), 2, "{history:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_fix_does_not_end_a_pull() {
    let rig = Rig::at_one().await;
    hang(&rig, '2');
    rig.push(&TWO, "two");
    let mut nonsense = THREE.documents();
    nonsense[2].1.push_str("[services.server.nonsense]\n");
    let before = rig.world.journal.ledger();
    rig.settle_while(30, async {
        // One that does not read, one that nobody signed, a remote that is gone.
        let two = rig.world.source.push(&nonsense, "nonsense");
        tokio::time::sleep(Duration::from_secs(70)).await;
        let stranger = crate::trust::fixture::Hand::Stranger;
        rig.world
            .source
            .push_on(Some(&two), &THREE.documents(), "unsigned", stranger);
        tokio::time::sleep(Duration::from_secs(70)).await;
        rig.world.source.online.set(false);
        tokio::time::sleep(Duration::from_secs(70)).await;
        let now = rig.world.journal.ledger();
        assert_eq!(
            (now.good.len(), now.refused),
            (before.good.len(), before.refused)
        );
        rig.world.source.online.set(true);
        rig.world.engine.hanging.borrow_mut().clear();
    })
    .await;
    // It went on with what it had begun, which was good.
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn commits_that_come_faster_than_pulls_end_let_one_of_them_have_its_time() {
    let rig = Rig::at_one().await;
    for digit in ['2', '3', '4', '5'] {
        hang(&rig, digit);
    }
    rig.push(&TWO, "two");
    let pulls = rig.world.engine.pulls.get();
    let pushes = async {
        for digit in ['3', '4', '5'] {
            tokio::time::sleep(Duration::from_secs(70)).await;
            rig.push(&release(digit, "more"), "more");
        }
        // The third is not ended by the fourth; it has its time.
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(rig.world.engine.pulls.get(), pulls + 3);
        rig.world.engine.hanging.borrow_mut().remove(&image('5'));
    };
    let (outcome, ()) = tokio::join!(rig.settle(), pushes);
    // But not for ever: it hangs still, and gives way.
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    rig.assert_at(&release('5', "more")).await;
}

#[tokio::test(start_paused = true)]
async fn a_pull_for_last_good_that_hangs_gives_way_to_a_newer_commit() {
    let rig = Rig::at_one().await;
    // Its container and its image were removed, and the registry has become slow.
    rig.world.engine.remove_by_hand("web-server-1");
    rig.world.engine.forget_image(&image('1'));
    hang(&rig, '1');
    let outcome = rig
        .settle_while(30, async {
            rig.push(&TWO, "two");
        })
        .await;
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_stays_away_is_asked_less_often_and_a_fix_is_seen_in_time() {
    let rig = Rig::at_one().await;
    rig.world.engine.registry.set(false);
    rig.push(&TWO, "two");
    let pulls = rig.world.engine.pulls.get();
    for _ in 0..60 {
        let outcome = rig.settle().await;
        assert!(
            matches!(&outcome, Outcome::Deferred { reason, .. } if reason == "registry"),
            "{outcome:?}"
        );
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    // At the start, after 1, 2, 4, 8, 15, 15 and 15 minutes, and so not at each of the polls.
    let asked = rig.world.engine.pulls.get() - pulls;
    assert!((6..=9).contains(&asked), "{asked}");
    rig.push(&ONE, "revert");
    assert_eq!(rig.settle().await, Outcome::Converged);

    // Somebody who asks does not wait.
    rig.push(&THREE, "three");
    for _ in 0..8 {
        rig.settle().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    rig.world.engine.registry.set(true);
    rig.settle_as(Urgency::Asked).await;
    rig.assert_at(&THREE).await;
}

#[tokio::test(start_paused = true)]
async fn a_network_lost_in_a_long_soak_takes_the_change_back_although_it_was_polled_meanwhile() {
    let rig = Rig::at_one().await;
    // Long enough for polls in its soak.
    let two = Release { soak: 200, ..TWO };
    rig.push(&two, "two");
    let source = &rig.world.source;
    rig.settle_while(5, async { source.online.set(false) })
        .await;
    rig.assert_at(&ONE).await;
    let history = rig.world.journal.history().unwrap();
    assert!(
        history
            .iter()
            .any(|one| one.result == DeploymentResult::Deferred),
        "{history:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_fix_ends_the_soak_of_what_is_unhealthy_after_a_pull_was_ended_too() {
    let rig = Rig::at_one().await;
    hang(&rig, '2');
    rig.world.engine.behave(&image('3'), Behaviour::Unhealthy);
    let slow = |release: Release| Release {
        soak: 300,
        ..release
    };
    rig.push(&slow(TWO), "two");
    let pushes = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        rig.push(&slow(THREE), "three");
        tokio::time::sleep(Duration::from_secs(60)).await;
        rig.push(&release('4', "four"), "four");
    };
    let (outcome, ()) = tokio::join!(rig.settle(), pushes);
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    rig.assert_at(&release('4', "four")).await;
}
