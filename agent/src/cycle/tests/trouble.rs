//! What a device does while something is wrong.

use super::*;
use crate::domain::history::DeploymentResult;
use crate::port::memory::Behaviour;

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_down_defers_and_is_healed_when_it_is_back() {
    let rig = Rig::at_one().await;
    rig.world.engine.down.set(true);
    rig.world.files.by_hand("/etc/steady.conf", "by hand");
    rig.push(&TWO, "two");
    let outcome = rig.settle().await;
    assert!(matches!(outcome, Outcome::Deferred { .. }), "{outcome:?}");
    assert_eq!(
        rig.world.files.text("/etc/steady.conf").as_deref(),
        Some("steady"),
        "waiting never stops healing"
    );
    rig.world.engine.down.set(false);
    rig.settle().await;
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_does_not_answer_defers() {
    let rig = Rig::at_one().await;
    rig.world.engine.registry.set(false);
    rig.push(&TWO, "two");
    let outcome = rig.settle().await;
    assert!(
        matches!(&outcome, Outcome::Deferred { reason, .. } if reason == "registry"),
        "{outcome:?}"
    );
    rig.assert_at(&ONE).await;
    rig.world.engine.registry.set(true);
    rig.settle().await;
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_defers_wherever_it_is_met_and_never_refuses() {
    for effect in [
        "stage",
        "switch",
        "make it last-good",
        "write the floor file",
    ] {
        let rig = Rig::at_one().await;
        rig.world.faults.refuse(effect);
        rig.push(&TWO, "two");
        let outcome = rig.settle().await;
        assert!(
            matches!(outcome, Outcome::Deferred { .. }),
            "{effect}: {outcome:?}"
        );
        rig.world.faults.mend();
        let ledger = rig.world.journal.ledger();
        assert!(ledger.refused.is_empty(), "{effect}");
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            rig.settle().await;
        }
        rig.assert_at(&TWO).await;
        rig.assert_still().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_small_disk_is_seen_before_anything_moves() {
    let rig = Rig::at_one().await;
    rig.world.files.free.set(1024);
    rig.push(&TWO, "two");
    let outcome = rig.settle().await;
    assert!(
        matches!(&outcome, Outcome::Deferred { reason, .. } if reason == "DiskFull"),
        "{outcome:?}"
    );
    rig.assert_at(&ONE).await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_a_soak_gives_the_try_back_and_the_next_start_goes_on() {
    let mut rig = Rig::at_one().await;
    let two = rig.push(&TWO, "two");
    for _ in 0..4 {
        let interrupt = Rc::clone(&rig.agent.interrupt);
        rig.settle_while(5, async {
            interrupt.raise(super::super::Interruption::Stop)
        })
        .await;
        let trial = rig.world.journal.ledger().trial.unwrap();
        assert_eq!((&trial.commit, trial.tries), (&two, 0));
        rig.start_again();
    }
    let starts = rig.world.engine.starts();
    rig.live(1).await;
    rig.assert_at(&TWO).await;
    assert_eq!(rig.world.engine.starts(), starts, "it goes on");
}

#[tokio::test(start_paused = true)]
async fn three_crashes_in_a_soak_refuse_the_release() {
    let mut rig = Rig::at_one().await;
    let two = rig.push(&TWO, "two");
    for tries in 1..=3 {
        rig.killed_after(5).await;
        rig.world.lose_power();
        rig.start_again();
        let trial = rig.world.journal.ledger().trial.unwrap();
        assert_eq!((&trial.commit, trial.tries), (&two, tries));
    }
    let outcome = rig.settle_as(Urgency::Boot).await;
    assert!(
        matches!(&outcome, Outcome::Unhealthy { commit, .. } if *commit == two),
        "{outcome:?}"
    );
    rig.assert_at(&ONE).await;
    rig.live(3).await;
    rig.assert_at(&ONE).await;
    rig.assert_still().await;
}

#[tokio::test(start_paused = true)]
async fn a_first_release_that_is_unhealthy_is_tried_again_and_not_for_ever_refused() {
    let rig = Rig::new();
    rig.world.engine.behave(&image('1'), Behaviour::Unhealthy);
    rig.push(&ONE, "one");
    assert!(matches!(rig.settle().await, Outcome::Unhealthy { .. }));
    assert!(rig.world.journal.ledger().refused.is_empty());
    rig.world.engine.behave(&image('1'), Behaviour::Well);
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        rig.settle().await;
    }
    rig.assert_at(&ONE).await;
}

#[tokio::test(start_paused = true)]
async fn a_network_that_is_lost_with_a_change_takes_the_change_back_and_does_not_refuse_it() {
    let rig = Rig::at_one().await;
    rig.push(&TWO, "two");
    let source = &rig.world.source;
    rig.settle_while(5, async { source.online.set(false) })
        .await;
    rig.assert_at(&ONE).await;
    let ledger = rig.world.journal.ledger();
    assert!(ledger.refused.is_empty());
    assert!(ledger.deferred.is_some());
    source.online.set(true);
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        rig.settle().await;
    }
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn a_newer_commit_interrupts_a_soak_twice_at_most() {
    let rig = Rig::at_one().await;
    let long = |release: Release| Release {
        soak: 100,
        ..release
    };
    rig.push(&long(TWO), "two");
    let four = Release {
        image: '4',
        file: "four",
        ..long(ONE)
    };
    let five = Release {
        image: '5',
        file: "five",
        ..long(ONE)
    };
    // Each comes while the one before soaks; polls are a minute apart.
    let pushes = async {
        for release in [long(THREE), four.clone(), five.clone()] {
            tokio::time::sleep(Duration::from_secs(30)).await;
            let expected = rig.world.source.push(&release.documents(), release.file);
            tokio::time::sleep(Duration::from_secs(35)).await;
            let _ = expected;
        }
    };
    let (outcome, ()) = tokio::join!(rig.settle(), pushes);
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    rig.assert_at(&four).await;
    let history = rig.world.journal.history().unwrap();
    let interrupted = history
        .iter()
        .filter(|one| one.result == DeploymentResult::Interrupted)
        .count();
    assert_eq!(interrupted, 2);
    rig.settle().await;
    rig.assert_at(&five).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_guard_excludes_is_refused_before_anything_moves() {
    let mut rig = Rig::at_one().await;
    rig.agent.settings.limits.guard.images = Some(vec![image('1'), image('a')]);
    let before = rig.world.engine.starts();
    rig.push(&TWO, "two");
    let outcome = rig.settle().await;
    assert!(
        matches!(&outcome, Outcome::Rejected { reason, .. } if reason == "guard"),
        "{outcome:?}"
    );
    rig.assert_at(&ONE).await;
    assert_eq!(rig.world.engine.starts(), before);
}

#[tokio::test(start_paused = true)]
async fn documents_that_do_not_read_are_refused_before_anything_moves() {
    let rig = Rig::at_one().await;
    let mut documents = TWO.documents();
    documents[2].1.push_str("[services.server.nonsense]\n");
    rig.world.source.push(&documents, "nonsense");
    let outcome = rig.settle().await;
    assert!(
        matches!(&outcome, Outcome::Rejected { reason, .. } if reason == "schema"),
        "{outcome:?}"
    );
    rig.assert_at(&ONE).await;
    rig.push(&THREE, "three");
    rig.settle().await;
    rig.assert_at(&THREE).await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_an_earlier_try_broke_is_judged_and_never_excused() {
    // Cut off in its soak.
    let mut rig = Rig::at_one().await;
    rig.world.engine.behave(&image('2'), Behaviour::Unhealthy);
    rig.push(&TWO, "two");
    rig.killed_after(5).await;
    rig.start_again();
    rig.live(2).await;
    rig.assert_at(&ONE).await;

    // Nothing to go back to: put off, and tried again.
    let rig = Rig::new();
    rig.world.engine.behave(&image('1'), Behaviour::Unhealthy);
    rig.push(&ONE, "one");
    for _ in 0..10 {
        rig.settle().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    assert!(rig.world.journal.ledger().good.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_an_interrupted_release_broke_is_judged_with_the_newer_one() {
    let rig = Rig::at_one().await;
    rig.world.engine.behave(&image('2'), Behaviour::Unhealthy);
    let two = Release { soak: 100, ..TWO };
    rig.push(&two, "two");
    let newer = Release {
        extra: Extra::With,
        ..two
    };
    rig.settle_while(30, async {
        rig.push(&newer, "newer");
    })
    .await;
    rig.assert_at(&ONE).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_broken_before_and_is_not_touched_does_not_refuse_a_release() {
    let rig = Rig::at_one().await;
    rig.world.engine.behave(&image('1'), Behaviour::Unhealthy);
    let with = Release {
        extra: Extra::With,
        ..ONE
    };
    rig.push(&with, "with");
    let outcome = rig.settle().await;
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    rig.assert_at(&with).await;
}

const MACHINE: &str = "3d1219c7c4c5404aaa1f6d2a48adfda4";

fn pinned(release: &Release, machine: &str) -> Vec<(&'static str, String)> {
    let mut documents = release.documents();
    documents.push(("devices/gw-1.toml", format!("machine_id = '{machine}'\n")));
    documents
}

#[tokio::test(start_paused = true)]
async fn a_document_that_pins_another_machine_is_refused_and_the_right_one_is_taken() {
    assert_eq!(DEVICE, "gw-1");
    let mut rig = Rig::at_one().await;
    let refused = |outcome: &Outcome| match outcome {
        Outcome::Rejected { reason, message } if reason == "wrong-device" => message.clone(),
        other => panic!("{other:?}"),
    };
    // The machine's id cannot be told.
    rig.world.source.push(&pinned(&TWO, MACHINE), "two");
    let before = rig.world.faults.taken();
    assert!(refused(&rig.settle().await).contains("cannot be told"));
    // It is another one.
    let other = "ffffffffffffffffffffffffffffffff";
    rig.agent.settings.machine = Ok(other.parse().unwrap());
    let message = refused(&rig.settle().await);
    assert!(
        message.contains(other) && message.contains(MACHINE),
        "{message}"
    );
    rig.assert_at(&ONE).await;
    let effects = rig.world.faults.log();
    let changed: Vec<_> = effects[usize::try_from(before).unwrap()..]
        .iter()
        .filter(|effect| !matches!(effect.as_str(), "fetch" | "save the report"))
        .collect();
    assert!(changed.is_empty(), "{changed:?}");
    // It is this one.
    rig.agent.settings.machine = Ok(MACHINE.parse().unwrap());
    assert!(matches!(rig.settle().await, Outcome::Applied { .. }));
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn a_repository_of_another_fleet_is_refused_and_this_fleets_is_taken() {
    let mut rig = Rig::at_one().await;
    rig.agent.settings.fleet = Some("acme".to_owned());
    rig.push(&TWO, "two");
    assert!(matches!(rig.settle().await, Outcome::Applied { .. }));
    rig.assert_at(&TWO).await;
    let mut documents = THREE.documents();
    documents[0].1 = "format = 1\nname = 'acme-2'\n".to_owned();
    rig.world.source.push(&documents, "of another fleet");
    let outcome = rig.settle().await;
    assert!(
        matches!(&outcome, Outcome::Rejected { reason, .. } if reason == "wrong-fleet"),
        "{outcome:?}"
    );
    rig.assert_at(&TWO).await;
    rig.push(&THREE, "three");
    rig.settle().await;
    rig.assert_at(&THREE).await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_cannot_be_made_costs_no_service_the_one_it_has() {
    let rig = Rig::at_one().await;
    let before = (
        rig.world.engine.id_of("web-server-1"),
        rig.world.engine.starts(),
    );
    rig.world.faults.refuse("make web-server-1");
    rig.push(&TWO, "two");
    let outcome = rig.settle().await;
    assert!(matches!(outcome, Outcome::Deferred { .. }), "{outcome:?}");
    rig.assert_at(&ONE).await;
    let after = (
        rig.world.engine.id_of("web-server-1"),
        rig.world.engine.starts(),
    );
    assert_eq!(after, before);
    rig.world.faults.mend();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        rig.settle().await;
    }
    rig.assert_at(&TWO).await;
    rig.assert_still().await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_an_answering_engine_cannot_make_is_tried_three_times() {
    let rig = Rig::at_one().await;
    rig.world.faults.refuse("make web-server-1");
    let two = rig.push(&TWO, "two");
    for tries in 1..=3 {
        let outcome = rig.settle_as(Urgency::Asked).await;
        let refused = !rig.world.journal.ledger().refused.is_empty();
        assert_eq!(refused, tries == 3, "{outcome:?}");
        rig.assert_at(&ONE).await;
    }
    assert_eq!(rig.world.journal.ledger().refused[0].commit, two);
    rig.world.faults.mend();
    rig.push(&THREE, "three");
    rig.settle().await;
    rig.assert_at(&THREE).await;
}
