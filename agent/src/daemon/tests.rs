#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use crate::domain::history::{GoodRevision, Ledger, Pin};
use crate::domain::revision::ContentId;

fn good(digit: char, content: &str) -> GoodRevision {
    let id: String = std::iter::repeat_n(digit, 40).collect();
    GoodRevision::authenticated(
        id.parse().unwrap(),
        id.parse().unwrap(),
        ContentId::of(content.as_bytes()),
        Timestamp(0),
    )
}

fn ledger(good: Vec<GoodRevision>) -> Ledger {
    Ledger {
        good,
        ..Ledger::default()
    }
}

#[test]
fn rollback_goes_to_the_previous_revision_with_other_content() {
    let ledger = ledger(vec![good('c', "two"), good('b', "two"), good('a', "one")]);
    let target = rollback_target(&ledger, None).unwrap();
    assert_eq!(target.commit().short(), "aaaaaaaaaa");
}

#[test]
fn a_second_rollback_goes_further_back() {
    let mut ledger = ledger(vec![good('c', "three"), good('b', "two"), good('a', "one")]);
    ledger.pin = Some(Pin {
        commit: ledger.good[1].commit().clone(),
        at: Timestamp(0),
    });
    let target = rollback_target(&ledger, None).unwrap();
    assert_eq!(target.commit().short(), "aaaaaaaaaa");
}

#[test]
fn rollback_names_what_is_kept_where_the_revision_is_not() {
    let ledger = ledger(vec![good('c', "three"), good('b', "two")]);
    assert_eq!(
        rollback_target(&ledger, Some("bbbb"))
            .unwrap()
            .commit()
            .short(),
        "bbbbbbbbbb"
    );
    let error = rollback_target(&ledger, Some("dddd")).unwrap_err();
    assert!(
        error.contains("bbbbbbbbbb") && error.contains("cccccccccc"),
        "{error}"
    );
    assert!(
        rollback_target(&ledger, Some("b")).is_err(),
        "too short to mean one"
    );
}

#[test]
fn with_nothing_older_there_is_nothing_to_go_back_to() {
    assert!(rollback_target(&ledger(Vec::new()), None).is_err());
    let error = rollback_target(&ledger(vec![good('a', "one")]), None).unwrap_err();
    assert!(error.contains("no older good revision"), "{error}");
}

#[test]
fn rollback_while_something_newer_is_tried_goes_to_last_good() {
    let mut ledger = ledger(vec![good('b', "two"), good('a', "one")]);
    ledger.trial = Some(crate::domain::history::Trial {
        commit: good('c', "three").commit().clone(),
        content: ContentId::of(b"three"),
        tries: 1,
        since: Timestamp(0),
        paths: std::collections::BTreeSet::new(),
        stage: crate::domain::history::Stage::Underway,
        baseline: None,
    });
    let target = rollback_target(&ledger, None).unwrap();
    assert_eq!(target.commit().short(), "bbbbbbbbbb");
}

#[test]
fn a_revision_may_be_named_in_capitals() {
    let ledger = ledger(vec![good('c', "three"), good('b', "two")]);
    let target = rollback_target(&ledger, Some("BBBB")).unwrap();
    assert_eq!(target.commit().short(), "bbbbbbbbbb");
}
