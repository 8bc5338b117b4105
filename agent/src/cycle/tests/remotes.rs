//! Several remotes of one fleet: who is asked when, whose word counts, and what happens where two contradict each other.

use evenkeel_schema::agent_config::{Allowance, MeteredSection, MeteredWhen, Per};

use super::*;
use crate::domain::outcome::{ConditionType, RemoteState};
use crate::port::clock::Clock as _;
use crate::port::memory::{Behaviour, Mirror};
use crate::trust::fixture::Hand;

impl Rig {
    /// A device at release [`ONE`] with so many mirrors of its remote.
    async fn mirrored(mirrors: usize) -> Self {
        let rig = Self::new();
        rig.push(&ONE, "one");
        rig.with_mirrors(mirrors);
        let outcome = rig.settle().await;
        assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
        rig
    }

    /// So many mirrors of what the first remote has now.
    fn with_mirrors(&self, mirrors: usize) {
        let mirror = Mirror {
            tip: self.world.source.tip(),
            online: true,
            reach: Reach::Network,
        };
        self.world.source.mirrors.replace(vec![mirror; mirrors]);
    }

    fn mirror(&self, at: usize, change: impl FnOnce(&mut Mirror)) {
        change(&mut self.world.source.mirrors.borrow_mut()[at]);
    }

    fn mirror_at(&self, at: usize, tip: &CommitId) {
        self.mirror(at, |mirror| mirror.tip = Some(tip.clone()));
    }

    fn asked(&self, remote: usize) -> usize {
        let asked = self.world.source.asked.borrow();
        asked.get(&remote).copied().unwrap_or_default()
    }

    fn states(&self) -> Vec<RemoteState> {
        let report = self.agent.session.report();
        report.poll.remotes.iter().map(|one| one.state).collect()
    }

    fn verified(&self) -> String {
        let report = self.agent.session.report();
        let verified = report
            .conditions
            .iter()
            .find(|condition| condition.kind == ConditionType::Verified);
        verified.unwrap().reason.clone()
    }

    /// A signed commit that is nobody's tip yet.
    fn draft(&self, on: &CommitId, release: &Release, hand: Hand) -> CommitId {
        let source = &self.world.source;
        let tip = source.tip().unwrap();
        let commit = source.push_on(Some(on), &release.documents(), release.file, hand);
        source.move_to(&tip);
        commit
    }
}

fn reason(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Rejected { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn one_remote_is_asked_at_a_poll_and_the_others_when_something_moves_and_hourly() {
    let rig = Rig::mirrored(2).await;
    let before = [rig.asked(1), rig.asked(2)];
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        rig.settle().await;
    }
    assert_eq!([rig.asked(1), rig.asked(2)], before);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    rig.settle().await;
    assert_eq!([rig.asked(1), rig.asked(2)], before.map(|asked| asked + 1));
    rig.settle_as(Urgency::Asked).await;
    assert_eq!([rig.asked(1), rig.asked(2)], before.map(|asked| asked + 2));
    rig.push(&TWO, "two");
    rig.settle().await;
    rig.assert_at(&TWO).await;
    assert!(rig.asked(1) > before[0] + 2);
    assert_eq!(
        rig.states(),
        [
            RemoteState::Current,
            RemoteState::Behind,
            RemoteState::Behind
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_first_remote_is_made_up_for_and_one_behind_takes_nothing_back() {
    let rig = Rig::mirrored(1).await;
    let one = rig.last_good();
    let two = rig.push(&TWO, "two");
    rig.settle().await;
    rig.assert_at(&TWO).await;
    rig.world.source.online.set(false);
    let outcome = rig.settle().await;
    assert!(matches!(outcome, Outcome::Converged), "{outcome:?}");
    assert_eq!(rig.states(), [RemoteState::Silent, RemoteState::Behind]);
    rig.mirror_at(0, &two);
    let three = rig.draft(&two, &THREE, Hand::Trusted);
    rig.mirror_at(0, &three);
    rig.settle().await;
    rig.assert_at(&THREE).await;
    let report = rig.agent.session.report();
    assert_eq!(report.poll.remote.as_deref(), Some("memory://mirror-1"));
    // Back, and behind now.
    rig.world.source.online.set(true);
    let outcome = rig.settle().await;
    assert!(matches!(outcome, Outcome::Converged), "{outcome:?}");
    assert_eq!(rig.states(), [RemoteState::Behind, RemoteState::Current]);
    rig.world.source.move_to(&one);
    rig.mirror(0, |mirror| mirror.online = false);
    let outcome = rig.settle().await;
    assert!(matches!(outcome, Outcome::Converged), "{outcome:?}");
    rig.assert_at(&THREE).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_kept_back_or_lies_does_not_keep_the_device_from_what_another_has() {
    let rig = Rig::mirrored(1).await;
    let one = rig.last_good();
    let two = rig.draft(&one, &TWO, Hand::Trusted);
    rig.mirror_at(0, &two);
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    rig.settle().await;
    rig.assert_at(&TWO).await;
    assert_eq!(rig.states(), [RemoteState::Behind, RemoteState::Current]);
    for hand in [Hand::Nobody, Hand::Stranger] {
        let lie = rig.draft(&two, &THREE, hand);
        rig.world.source.move_to(&lie);
        let outcome = rig.settle().await;
        assert!(matches!(outcome, Outcome::Converged), "{outcome:?}");
        assert_eq!(rig.states(), [RemoteState::Refused, RemoteState::Current]);
    }
    let three = rig.draft(&two, &THREE, Hand::Trusted);
    rig.mirror_at(0, &three);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    rig.settle().await;
    rig.assert_at(&THREE).await;
}

#[tokio::test(start_paused = true)]
async fn a_fork_holds_the_device_until_one_takes_in_the_other() {
    let mut rig = Rig::mirrored(1).await;
    let one = rig.last_good();
    let two = rig.draft(&one, &TWO, Hand::Trusted);
    let other = rig.draft(&one, &THREE, Hand::Trusted);
    rig.world.source.move_to(&two);
    rig.mirror_at(0, &other);
    let outcome = rig.settle().await;
    assert_eq!(reason(&outcome), "SplitView");
    let Outcome::Rejected { message, .. } = &outcome else {
        panic!("{outcome:?}");
    };
    for part in [
        two.as_str(),
        other.as_str(),
        "memory://fleet",
        "memory://mirror-1",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(rig.verified(), "SplitView");
    assert_eq!(rig.states(), [RemoteState::Current, RemoteState::Apart]);
    rig.assert_at(&ONE).await;
    // Drift is healed, and neither the silence of one nor a start anew decides for the other.
    rig.world.engine.stop_by_hand("web-server-1");
    rig.live(2).await;
    rig.assert_at(&ONE).await;
    for first in [true, false] {
        rig.world.source.online.set(first);
        rig.mirror(0, |mirror| mirror.online = !first);
        assert_eq!(reason(&rig.settle().await), "SplitView");
        let report = rig.agent.session.report();
        rig.start_again();
        rig.agent.session = Session::from_report(report);
        assert_eq!(reason(&rig.settle().await), "SplitView");
    }
    rig.world.source.online.set(false);
    rig.mirror(0, |mirror| mirror.online = false);
    assert_eq!(reason(&rig.settle().await), "SplitView");
    rig.assert_at(&ONE).await;
    rig.world.source.online.set(true);
    rig.mirror(0, |mirror| mirror.online = true);
    rig.mirror_at(0, &two);
    tokio::time::sleep(Duration::from_secs(900)).await;
    rig.settle().await;
    rig.assert_at(&TWO).await;
    assert_eq!(rig.verified(), "Trusted");
    assert_eq!(rig.states(), [RemoteState::Current, RemoteState::Current]);
}

#[tokio::test(start_paused = true)]
async fn a_start_anew_without_a_network_does_not_end_a_contradiction() {
    for good in [true, false] {
        let mut rig = if good {
            Rig::mirrored(1).await
        } else {
            let rig = Rig::new();
            rig.with_mirrors(1);
            rig
        };
        let (two, other) = if good {
            let one = rig.last_good();
            (
                rig.draft(&one, &TWO, Hand::Trusted),
                rig.draft(&one, &THREE, Hand::Trusted),
            )
        } else {
            let two = rig.push(&TWO, "two");
            rig.world.source.move_to(&two);
            let documents = THREE.documents();
            let source = &rig.world.source;
            let other = source.push_on(None, &documents, "three", Hand::Trusted);
            (two, other)
        };
        rig.world.source.move_to(&two);
        rig.mirror_at(0, &other);
        assert_eq!(reason(&rig.settle().await), "SplitView");
        let before = rig.agent.session.report();
        for online in [false, true] {
            rig.world.source.online.set(false);
            rig.mirror(0, |mirror| mirror.online = false);
            rig.start_again();
            rig.agent.session = Session::from_report(before.clone());
            let outcome = rig.settle_as(Urgency::Boot).await;
            assert_eq!(reason(&outcome), "SplitView");
            assert_eq!(rig.verified(), "SplitView");
            rig.mirror(0, |mirror| mirror.online = online);
            for urgency in [Urgency::Scheduled, Urgency::Asked] {
                let outcome = rig.settle_as(urgency).await;
                let Outcome::Rejected { message, .. } = &outcome else {
                    panic!("{outcome:?}");
                };
                assert!(message.contains(two.as_str()), "{message}");
                assert!(message.contains(other.as_str()), "{message}");
            }
            if good {
                rig.assert_at(&ONE).await;
            } else {
                assert!(rig.world.journal.ledger().last_good().is_none());
            }
        }
        // A start after the wrong one was taken out: nothing contradicts the other.
        rig.world.source.mirrors.borrow_mut().clear();
        rig.start_again();
        rig.agent.session = Session::from_report(before);
        rig.world.source.online.set(true);
        rig.live(1).await;
        rig.assert_at(&TWO).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pass_without_a_poll_forgets_no_contradiction_and_writes_nothing() {
    let allowance = Allowance {
        bytes: 64 * 1024,
        per: Per::Day,
    };
    let rig = Rig::with(Settings {
        metered: MeteredSection {
            when: MeteredWhen::Always,
            git: vec![allowance],
            images: Vec::new(),
            rate: None,
        },
        ..settings()
    });
    rig.with_mirrors(1);
    rig.world.source.poll_bytes.set(4 * 1024);
    let one = rig.push(&ONE, "one");
    rig.mirror_at(0, &one);
    rig.settle().await;
    rig.assert_at(&ONE).await;
    let two = rig.draft(&one, &TWO, Hand::Trusted);
    let other = rig.draft(&one, &THREE, Hand::Trusted);
    rig.world.source.move_to(&two);
    rig.mirror_at(0, &other);
    assert_eq!(reason(&rig.settle_as(Urgency::Asked).await), "SplitView");
    let asked = rig.asked(0);
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(reason(&rig.settle().await), "SplitView");
        rig.assert_still().await;
    }
    assert_eq!(rig.asked(0), asked, "no poll was due");
    assert_eq!(rig.verified(), "SplitView");
    rig.assert_at(&ONE).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_behind_does_not_take_back_what_was_verified_and_waits() {
    for mirrors in [1, 2] {
        let rig = Rig::mirrored(mirrors).await;
        let one = rig.last_good();
        // The first stays behind; the last has what waits for its turn.
        let start = rig.world.clock.now().0 + 5 * 3600;
        let start = crate::domain::revision::Timestamp(start);
        let mut documents = TWO.documents();
        let section = format!("[rollout]\nid = 'one'\nstart = '{start}'\nwaves = [100]\n");
        documents[0].1.push_str(&section);
        let source = &rig.world.source;
        let two = source.push_on(Some(&one), &documents, "two", Hand::Trusted);
        source.move_to(&one);
        rig.mirror_at(mirrors - 1, &two);
        let outcome = rig.settle_as(Urgency::Asked).await;
        assert!(matches!(outcome, Outcome::Held(_)), "{outcome:?}");
        let tip = || rig.agent.session.report().revision.tip;
        assert_eq!(tip().as_ref(), Some(&two));
        rig.mirror(mirrors - 1, |mirror| mirror.online = false);
        for urgency in [Urgency::Asked, Urgency::Scheduled] {
            let outcome = rig.settle_as(urgency).await;
            assert!(matches!(outcome, Outcome::Held(_)), "{outcome:?}");
            assert_eq!(tip().as_ref(), Some(&two));
            let mut states = vec![RemoteState::Behind; mirrors];
            states.push(RemoteState::Silent);
            assert_eq!(rig.states(), states);
        }
        tokio::time::sleep(Duration::from_secs(6 * 3600)).await;
        rig.settle().await;
        rig.assert_at(&TWO).await;
    }
}

#[tokio::test(start_paused = true)]
async fn all_of_them_set_back_below_the_floor_are_told_as_a_single_one_is() {
    for mirrors in [0, 1, 2] {
        let rig = Rig::mirrored(mirrors).await;
        let one = rig.last_good();
        let two = rig.push(&TWO, "two");
        for at in 0..mirrors {
            rig.mirror_at(at, &two);
        }
        rig.settle().await;
        rig.assert_at(&TWO).await;
        rig.world.source.move_to(&one);
        for at in 0..mirrors {
            rig.mirror_at(at, &one);
        }
        let outcome = rig.settle_as(Urgency::Asked).await;
        assert_eq!(reason(&outcome), "not-descendant");
        rig.assert_at(&TWO).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_fork_of_what_became_good_here_is_told_too() {
    let rig = Rig::mirrored(1).await;
    let one = rig.last_good();
    let other = rig.draft(&one, &THREE, Hand::Trusted);
    let two = rig.push(&TWO, "two");
    rig.settle().await;
    rig.assert_at(&TWO).await;
    rig.mirror_at(0, &other);
    let outcome = rig.settle_as(Urgency::Asked).await;
    assert_eq!(reason(&outcome), "SplitView");
    // The other way round: the first has the fork.
    rig.world.source.move_to(&other);
    rig.mirror_at(0, &two);
    assert_eq!(reason(&rig.settle().await), "SplitView");
    rig.assert_at(&TWO).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_cuts_the_network_goes_back_although_a_remote_on_this_machine_answers() {
    let rig = Rig::mirrored(1).await;
    rig.mirror(0, |mirror| mirror.reach = Reach::Local);
    let two = rig.push(&TWO, "two");
    rig.mirror_at(0, &two);
    rig.world.engine.behave(&image('2'), Behaviour::CutsNetwork);
    rig.settle().await;
    rig.assert_at(&ONE).await;
    assert!(rig.world.journal.ledger().deferred.is_some());
}

#[tokio::test(start_paused = true)]
async fn without_a_network_a_remote_on_this_machine_is_enough() {
    let rig = Rig::mirrored(1).await;
    rig.mirror(0, |mirror| mirror.reach = Reach::Local);
    rig.world.source.online.set(false);
    let two = rig.draft(&rig.last_good(), &TWO, Hand::Trusted);
    rig.mirror_at(0, &two);
    let outcome = rig.settle().await;
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    rig.assert_at(&TWO).await;
}
