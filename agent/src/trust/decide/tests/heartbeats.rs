use super::*;

#[test]
fn heartbeats_are_passed_over_and_show_that_the_branch_is_alive() {
    let mut s = Scenery::new(&["dev", "ci"]).with_heartbeat();
    let a = s.put("dev", &[], "a");
    let beat = s.commit(&Make {
        time: NOW + DAY / 2,
        ..Make::new("ci", &[&a], "a")
    });
    let again = s.commit(&Make {
        time: NOW + DAY,
        ..Make::new("ci", &[&beat], "a")
    });
    match s.look(&again).verdict {
        Verdict::Trusted(commit) => {
            assert_eq!(commit.id(), &a);
            assert_eq!(commit.time(), Timestamp(NOW));
            assert_eq!(commit.alive(), Timestamp(NOW + DAY));
        }
        other => panic!("{other:?}"),
    }
    // The floor below heartbeats is still the commit itself.
    s.floor = Some(a.clone());
    assert_eq!(s.verdict(&again), Ok(a));
}

#[test]
fn a_heartbeat_key_does_nothing_else() {
    let mut s = Scenery::new(&["dev", "ci"]).with_heartbeat();
    let a = s.put("dev", &[], "a");
    let change = s.put("ci", &[&a], "b");
    assert_eq!(s.verdict(&change), Err(("unknown-key", change.clone())));
    let b = s.put("dev", &[&a], "b");
    let merge = s.put("ci", &[&a, &b], "a");
    assert_eq!(s.verdict(&merge), Err(("unknown-key", merge.clone())));
    // Not even below somebody else's commit, where every commit is judged.
    let mut s = s.every_commit(OnUnsigned::Hold);
    let above = s.put("dev", &[&change], "c");
    assert_eq!(s.verdict(&above), Err(("unknown-key", change)));
}

#[test]
fn a_strangers_heartbeat_and_one_for_another_branch_are_refused() {
    let mut s = Scenery::new(&["dev", "ci"]).with_heartbeat();
    s.policy.binding = crate::trust::policy::Binding::Required;
    let a = s.commit(&Make {
        message: "x\n\nFleet-Branch: stable",
        ..Make::new("dev", &[], "a")
    });
    let stranger = s.put("nobody", &[&a], "a");
    assert_eq!(s.verdict(&stranger), Err(("unknown-key", stranger.clone())));
    let other = s.commit(&Make {
        message: "x\n\nFleet-Branch: canary",
        ..Make::new("ci", &[&a], "a")
    });
    assert_eq!(s.verdict(&other), Err(("wrong-branch", other.clone())));
    let good = s.commit(&Make {
        message: "x\n\nFleet-Branch: stable",
        ..Make::new("ci", &[&a], "a")
    });
    assert_eq!(s.verdict(&good), Ok(a));
}

#[test]
fn somebody_elses_empty_commit_is_an_ordinary_one() {
    let mut s = Scenery::new(&["dev", "ci"]).with_heartbeat();
    let a = s.put("dev", &[], "a");
    let empty = s.put("dev", &[&a], "a");
    assert_eq!(s.verdict(&empty), Ok(empty.clone()));
    let beat = s.put("ci", &[&empty], "a");
    assert_eq!(s.verdict(&beat), Ok(empty));
}

#[test]
fn a_heartbeat_over_a_history_that_is_not_here_asks_for_more() {
    let mut s = Scenery::new(&["dev", "ci"]).with_heartbeat();
    let a = s.put("dev", &[], "a");
    let beat = s.put("ci", &[&a], "a");
    s.absent.insert(a.clone());
    s.cut = Some(HistoryCut::Shallow);
    assert!(matches!(s.look(&beat).verdict, Verdict::Undecided(_)));
    s.absent.clear();
    s.cut = None;
    assert_eq!(s.verdict(&beat), Ok(a));
}
