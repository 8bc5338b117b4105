//! A container that somebody made by hand, taken over without a restart, and forgotten with the journal.

use super::*;
use crate::port::journal::Journal as _;

#[tokio::test(start_paused = true)]
async fn an_adopted_container_lives_through_an_update_untouched_and_is_a_strangers_without_the_journal()
 {
    let rig = Rig::at_one().await;
    let engine = &rig.world.engine;
    let side = engine.id_of("web-side-1");
    engine.unlabel(&side);
    let starts = engine.starts();
    // Nobody has named it: it is not touched, and its place is taken.
    let passed = rig.agent.cycle(Urgency::Scheduled).await;
    assert!(
        !matches!(passed.outcome, Outcome::Converged),
        "{:?}",
        passed.outcome
    );
    assert_eq!(
        (engine.id_of("web-side-1"), engine.starts()),
        (side.clone(), starts)
    );

    let service = ServiceId {
        app: "web".parse().unwrap(),
        service: "side".parse().unwrap(),
    };
    rig.agent.adopt(side.clone(), service).unwrap();
    rig.settle_as(Urgency::Asked).await;
    rig.settle().await;
    rig.assert_still().await;
    assert_eq!(engine.starts(), starts);
    // The other service is made anew by a release; this one runs on.
    rig.push(&TWO, "two");
    assert!(matches!(rig.settle().await, Outcome::Applied { .. }));
    assert_eq!(
        (engine.id_of("web-side-1"), engine.starts()),
        (side.clone(), starts + 1)
    );

    // What a journal that was lost does not know any more.
    let journal = &rig.world.journal;
    let mut inventory = journal.ledger().inventory;
    inventory.adopted.clear();
    journal.set_inventory(&inventory).unwrap();
    for _ in 0..3 {
        rig.agent.cycle(Urgency::Scheduled).await;
    }
    assert_eq!(
        (engine.id_of("web-side-1"), engine.starts()),
        (side, starts + 1)
    );
}
