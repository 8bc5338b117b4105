#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use crate::domain::commit::{Descent, RawCommit};
use crate::domain::history::{Deferral, Pin, Trial};
use crate::trust::fixture::{Draft, EMPTY_TREE, Hand, policy};
use crate::trust::policy::Verdict;

/// A commit that was really signed and really judged: there is no other way to one.
fn verified(message: &str) -> VerifiedCommit {
    let draft = Draft {
        tree: EMPTY_TREE,
        parents: &[],
        time: 1_700_000_000,
        message,
    };
    let (id, bytes) = draft.signed(Hand::Trusted);
    let raw = RawCommit {
        id,
        bytes,
        descent: Descent::Descends,
    };
    match policy().judge(&raw, Timestamp(0)) {
        Verdict::Trusted(commit) => *commit,
        other => panic!("{other:?}"),
    }
}

fn good(digit: char) -> GoodRevision {
    let id: String = std::iter::repeat_n(digit, 40).collect();
    GoodRevision::authenticated(
        id.parse().unwrap(),
        id.parse().unwrap(),
        ContentId::of(id.as_bytes()),
        Timestamp(0),
    )
}

fn ledger() -> Ledger {
    Ledger {
        good: vec![good('b'), good('a')],
        ..Ledger::default()
    }
}

const NOW: Timestamp = Timestamp(1_800_000_000);

fn chosen(newest: Newest, ledger: &Ledger) -> Target {
    let waits = Waits(Duration::from_secs(60));
    choose(newest, ledger, waits, Urgency::Scheduled)
}

fn refusal(commit: &CommitId) -> Refusal {
    Refusal {
        commit: commit.clone(),
        content: ContentId::of(b"bad"),
        why: "unhealthy".to_owned(),
        at: NOW,
    }
}

#[test]
fn a_new_verified_commit_is_tried() {
    let commit = verified("one");
    let id = commit.id().clone();
    let Target::Advance(target) = chosen(Newest::Verified(commit), &ledger()) else {
        panic!("it is new");
    };
    assert_eq!(*target.id(), id);
}

#[test]
fn what_trust_refuses_keeps_last_good() {
    let rejection = Rejection {
        commit: good('c').commit().clone(),
        reason: "unsigned".to_owned(),
        message: "it carries no signature".to_owned(),
    };
    let Target::Keep(kept, Why::Rejected(why)) =
        chosen(Newest::Rejected(rejection.clone()), &ledger())
    else {
        panic!("last-good stays");
    };
    assert_eq!((kept, why), (good('b'), rejection.clone()));
    assert!(matches!(
        chosen(Newest::Rejected(rejection), &Ledger::default()),
        Target::Hold(Why::Rejected(_))
    ));
}

#[test]
fn a_refused_commit_is_not_tried_again() {
    let commit = verified("two");
    let mut ledger = ledger();
    ledger.refused.push(refusal(commit.id()));
    assert!(matches!(
        chosen(Newest::Verified(commit), &ledger),
        Target::Keep(_, Why::Refused(_))
    ));
}

#[test]
fn three_unclean_tries_are_enough_but_never_without_something_to_go_back_to() {
    let mut ledger = ledger();
    let trial = |tries| Trial {
        commit: verified("three").id().clone(),
        content: ContentId::of(b"three"),
        tries,
        since: NOW,
        paths: std::collections::BTreeSet::new(),
        stage: crate::domain::history::Stage::Underway,
        baseline: None,
    };
    ledger.trial = Some(trial(TRIES - 1));
    assert!(matches!(
        chosen(Newest::Verified(verified("three")), &ledger),
        Target::Advance(_)
    ));
    ledger.trial = Some(trial(TRIES));
    assert!(matches!(
        chosen(Newest::Verified(verified("three")), &ledger),
        Target::Keep(_, Why::TriesSpent(..))
    ));
    ledger.good.clear();
    assert!(matches!(
        chosen(Newest::Verified(verified("three")), &ledger),
        Target::Advance(_)
    ));
}

#[test]
fn a_deferral_waits_for_its_time_unless_somebody_asks() {
    let commit = || verified("four");
    let mut ledger = ledger();
    ledger.deferred = Some(Deferral {
        commit: commit().id().clone(),
        why: "no network".to_owned(),
        times: 1,
        unstarted: 0,
        cut_off: None,
        until: Timestamp(NOW.0 + 60),
    });
    assert!(matches!(
        chosen(Newest::Verified(commit()), &ledger),
        Target::Keep(_, Why::Deferred { .. })
    ));
    assert!(matches!(
        choose(
            Newest::Verified(commit()),
            &ledger,
            Waits(Duration::from_secs(60)),
            Urgency::Asked
        ),
        Target::Advance(_)
    ));
    assert!(matches!(
        choose(
            Newest::Verified(commit()),
            &ledger,
            Waits(Duration::ZERO),
            Urgency::Scheduled
        ),
        Target::Advance(_)
    ));
}

#[test]
fn a_persons_rollback_and_pause_win_over_everything() {
    let mut ledger = ledger();
    ledger.pin = Some(Pin {
        commit: good('a').commit().clone(),
        at: NOW,
    });
    let Target::Keep(kept, Why::Pinned(_)) = chosen(Newest::Verified(verified("five")), &ledger)
    else {
        panic!("it is pinned");
    };
    assert_eq!(kept, good('a'));
    ledger.pin = None;
    ledger.paused = true;
    assert!(matches!(
        chosen(Newest::Verified(verified("five")), &ledger),
        Target::Hold(Why::Paused)
    ));
}

#[test]
fn content_that_is_good_already_is_never_gated_nor_refused() {
    let mut ledger = ledger();
    let content = good('b').content().clone();
    ledger.refused.push(Refusal {
        content: content.clone(),
        ..refusal(good('c').commit())
    });
    assert_eq!(admit(&content, &ledger), Admission::SameAsLastGood);
    assert_eq!(admit(&ContentId::of(b"new"), &ledger), Admission::Try);
}

#[test]
fn content_that_was_refused_is_refused_under_another_commit() {
    let mut ledger = ledger();
    ledger.refused.push(refusal(good('c').commit()));
    assert!(matches!(
        admit(&ContentId::of(b"bad"), &ledger),
        Admission::Refused(_)
    ));
}

#[test]
fn a_pause_lets_nothing_stay_that_was_being_tried() {
    let commit = verified("one");
    let paused = Ledger {
        paused: true,
        trial: Some(Trial {
            commit: commit.id().clone(),
            content: ContentId::of(b"new"),
            tries: 0,
            since: NOW,
            paths: std::collections::BTreeSet::new(),
            stage: crate::domain::history::Stage::Underway,
            baseline: None,
        }),
        ..ledger()
    };
    let Target::Keep(kept, Why::Paused) = chosen(Newest::Verified(commit), &paused) else {
        panic!("what is not good yet goes back");
    };
    assert_eq!(kept, good('b'));
}
