//! An engine that keeps a port for nobody: what only a restart of it mends.

use super::*;

fn restarts(rig: &Rig) -> usize {
    let log = rig.world.faults.log();
    log.iter()
        .filter(|one| *one == "restart docker.service")
        .count()
}

#[tokio::test(start_paused = true)]
async fn it_is_no_fault_of_the_revision_and_the_engine_is_restarted_once() {
    let rig = Rig::at_one().await;
    rig.push(&TWO, "two");
    rig.world.engine.kept.set(true);
    rig.settle().await;
    assert_eq!(restarts(&rig), 1);
    assert!(rig.world.journal.ledger().refused.is_empty());
    // What was deferred is tried again, and nothing stands in its way any more.
    rig.settle_as(Urgency::Asked).await;
    rig.assert_at(&TWO).await;
    assert_eq!(restarts(&rig), 1);
    rig.assert_still().await;
}

#[tokio::test(start_paused = true)]
async fn it_is_not_restarted_again_and_again_and_never_under_others() {
    let rig = Rig::at_one().await;
    rig.world
        .engine
        .others
        .replace(vec!["a-persons-own".to_owned()]);
    rig.push(&TWO, "two");
    rig.world.engine.kept.set(true);
    for _ in 0..5 {
        tokio::time::sleep(rig.agent.settings.interval).await;
        rig.settle_as(Urgency::Asked).await;
    }
    assert_eq!(restarts(&rig), 0);
    rig.world.engine.others.borrow_mut().clear();
    rig.settle_as(Urgency::Asked).await;
    assert_eq!(restarts(&rig), 1);
    // Whatever it is that it did not mend.
    rig.push(&THREE, "three");
    rig.world.engine.kept.set(true);
    rig.settle_as(Urgency::Asked).await;
    assert_eq!(restarts(&rig), 1);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    for _ in 0..2 {
        rig.settle_as(Urgency::Asked).await;
    }
    assert_eq!(restarts(&rig), 2);
    rig.assert_at(&THREE).await;
}
