//! What a device does while the world is whole.

use super::*;
use crate::port::journal::Paused;
use crate::port::memory::Behaviour;

#[tokio::test(start_paused = true)]
async fn a_new_device_converges_and_then_does_nothing() {
    let rig = Rig::at_one().await;
    rig.settle().await;
    rig.assert_still().await;
    assert!(rig.world.listener.notices.borrow().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_update_makes_only_the_changed_container_again() {
    let rig = Rig::at_one().await;
    let (server, side) = ("web-server-1", "web-side-1");
    let before = (
        rig.world.engine.id_of(server),
        rig.world.engine.id_of(side),
        rig.world.engine.starts(),
    );
    let two = rig.push(&TWO, "two");
    assert!(matches!(rig.settle().await, Outcome::Applied { .. }));
    rig.assert_at(&TWO).await;
    assert_eq!(rig.last_good(), two);
    assert_ne!(rig.world.engine.id_of(server), before.0);
    assert_eq!(rig.world.engine.id_of(side), before.1);
    assert_eq!(rig.world.engine.starts(), before.2 + 1);
    rig.settle().await;
    rig.assert_still().await;
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_release_is_refused_and_last_good_comes_back_and_stays() {
    let rig = Rig::at_one().await;
    rig.world.engine.behave(&image('2'), Behaviour::Unhealthy);
    let two = rig.push(&TWO, "two");
    let passed = rig.agent.cycle(Urgency::Scheduled).await;
    assert!(matches!(&passed.outcome, Outcome::Unhealthy { commit, .. } if *commit == two));
    assert_eq!(passed.again, Again::Now);
    assert!(matches!(rig.settle().await, Outcome::Unhealthy { .. }));
    rig.assert_at(&ONE).await;
    rig.settle().await;
    rig.assert_still().await;
    // Asking does not bring it back either.
    rig.settle_as(Urgency::Asked).await;
    rig.assert_at(&ONE).await;

    let three = rig.push(&THREE, "three");
    assert!(matches!(rig.settle().await, Outcome::Applied { .. }));
    rig.assert_at(&THREE).await;
    assert_eq!(rig.last_good(), three);
}

#[tokio::test(start_paused = true)]
async fn a_release_whose_container_ends_is_refused() {
    let rig = Rig::at_one().await;
    rig.world.engine.behave(&image('2'), Behaviour::Exits(3));
    rig.push(&TWO, "two");
    assert!(matches!(rig.settle().await, Outcome::Unhealthy { .. }));
    rig.assert_at(&ONE).await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_content_is_refused_under_another_commit_and_forgiven_by_a_signed_trailer() {
    let rig = Rig::at_one().await;
    rig.world.engine.behave(&image('2'), Behaviour::Unhealthy);
    let two = rig.push(&TWO, "two");
    rig.settle().await;
    rig.push(&TWO, "the same again");
    assert!(matches!(rig.settle().await, Outcome::Unhealthy { .. }));
    rig.assert_at(&ONE).await;

    rig.world.engine.behave(&image('2'), Behaviour::Well);
    rig.push(&TWO, &format!("again\n\nRetry: {two}"));
    rig.settle().await;
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_changes_nothing_becomes_good_at_once() {
    let rig = Rig::at_one().await;
    let starts = rig.world.engine.starts();
    let began = tokio::time::Instant::now();
    let same = rig.push(&ONE, "only words");
    assert_eq!(rig.settle().await, Outcome::Converged);
    assert_eq!(rig.last_good(), same);
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(rig.world.engine.starts(), starts);
    rig.settle().await;
    rig.assert_still().await;
}

#[tokio::test(start_paused = true)]
async fn offline_the_device_keeps_and_heals() {
    let mut rig = Rig::at_one().await;
    rig.world.source.online.set(false);
    rig.world.files.by_hand("/etc/web.conf", "by hand");
    rig.world.engine.stop_by_hand("web-side-1");
    rig.settle().await;
    rig.assert_at(&ONE).await;
    rig.world.engine.remove_by_hand("web-server-1");
    rig.settle().await;
    rig.assert_at(&ONE).await;
    rig.world
        .engine
        .change_by_hand("web-side-1", "environment", serde_json::json!({"A": "c"}));
    rig.world.lose_power();
    rig.start_again();
    rig.live(2).await;
    rig.assert_at(&ONE).await;
    rig.assert_still().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_longer_declared_goes_and_what_stood_before_comes_back() {
    let rig = Rig::new();
    rig.world.files.by_hand("/etc/taken.conf", "a person's");
    let with = Release {
        extra: Extra::With,
        ..ONE
    };
    rig.push(&with, "with");
    rig.settle().await;
    rig.assert_at(&with).await;
    assert_eq!(
        rig.world.files.text("/etc/taken.conf").as_deref(),
        Some("ours")
    );
    rig.push(&ONE, "without");
    rig.settle().await;
    rig.assert_at(&ONE).await;
    assert_eq!(
        rig.world.files.text("/etc/taken.conf").as_deref(),
        Some("a person's")
    );
    rig.settle().await;
    rig.assert_still().await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_holds_until_it_is_resumed() {
    let rig = Rig::at_one().await;
    let one = rig.last_good();
    rig.push(&TWO, "two");
    rig.settle().await;
    rig.assert_at(&TWO).await;
    let pin = crate::domain::history::Pin {
        commit: one.clone(),
        at: crate::domain::revision::Timestamp(0),
    };
    rig.world.journal.set_pin(Some(&pin)).unwrap();
    rig.world.source.online.set(false);
    let outcome = rig.settle_as(Urgency::Asked).await;
    assert!(
        matches!(&outcome, Outcome::RolledBack { to, .. } if *to == one),
        "{outcome:?}"
    );
    rig.assert_at(&ONE).await;
    rig.world.source.online.set(true);
    rig.push(&THREE, "three");
    assert!(matches!(rig.settle().await, Outcome::Held(_)));
    rig.assert_at(&ONE).await;
    rig.settle().await;
    rig.assert_still().await;

    rig.world.journal.set_pin(None).unwrap();
    rig.settle().await;
    rig.assert_at(&THREE).await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_and_shows_the_drift() {
    let rig = Rig::at_one().await;
    rig.world.journal.set_paused(Paused::Yes).unwrap();
    rig.push(&TWO, "two");
    rig.world.files.by_hand("/etc/steady.conf", "by hand");
    assert!(matches!(rig.settle().await, Outcome::Held(_)));
    assert_eq!(
        rig.world.files.text("/etc/steady.conf").as_deref(),
        Some("by hand")
    );
    let drift = rig.agent.session.report().drift;
    assert_eq!(drift.len(), 1, "{drift:?}");
    assert!(drift[0].contains("/etc/steady.conf"), "{drift:?}");
    rig.world.journal.set_paused(Paused::No).unwrap();
    rig.settle().await;
    rig.assert_at(&TWO).await;
}
