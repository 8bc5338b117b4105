use super::*;

#[test]
fn an_unsigned_commit_below_the_tip_names_itself() {
    let mut s = Scenery::new(&["dev"]).every_commit(OnUnsigned::Hold);
    let a = s.put("dev", &[], "a");
    let bad = s.put("", &[&a], "b");
    let c = s.put("dev", &[&bad], "c");
    s.floor = Some(a.clone());
    assert_eq!(s.verdict(&c), Err(("unsigned", bad.clone())));
    // With `tip` nobody asks.
    s.policy.verify = Verify::Tip;
    assert_eq!(s.verdict(&c), Ok(c.clone()));
    // Dropped from the branch it is mended: the floor has not passed it.
    s.policy.verify = Verify::EveryCommit;
    let mended = s.put("dev", &[&a], "c");
    assert_eq!(s.verdict(&mended), Ok(mended));
}

#[test]
fn unsigned_commits_under_a_signed_merge_are_found() {
    let mut s = Scenery::new(&["dev"]).every_commit(OnUnsigned::Hold);
    let a = s.put("dev", &[], "a");
    let side = s.put("", &[&a], "b");
    let side2 = s.put("dev", &[&side], "c");
    let merge = s.put("dev", &[&a, &side2], "d");
    s.floor = Some(a.clone());
    assert_eq!(s.verdict(&merge), Err(("unsigned", side)));
}

#[test]
fn the_device_can_go_to_the_commit_before_a_refused_one() {
    let mut s = Scenery::new(&["dev"]).every_commit(OnUnsigned::AdvanceBefore);
    let a = s.put("dev", &[], "a");
    let b = s.put("dev", &[&a], "b");
    let bad = s.put("", &[&b], "c");
    let tip = s.put("dev", &[&bad], "d");
    s.floor = Some(a.clone());
    let decision = s.look(&tip);
    match decision.verdict {
        Verdict::Trusted(commit) => assert_eq!(commit.id(), &b),
        other => panic!("{other:?}"),
    }
    assert_eq!(decision.beyond.unwrap().commit, bad);
    // At that commit there is nothing before it to go to: the refusal is told.
    s.floor = Some(b.clone());
    assert_eq!(s.verdict(&tip), Err(("unsigned", bad)));
}

#[test]
fn the_commit_before_must_descend_from_the_floor() {
    let mut s = Scenery::new(&["dev"]).every_commit(OnUnsigned::AdvanceBefore);
    let base = s.put("dev", &[], "base");
    let floor = s.put("dev", &[&base], "floor");
    // A line beside the floor, which takes the floor in by a merge that is refused.
    let beside = s.put("dev", &[&base], "beside");
    let merge = s.put("", &[&beside, &floor], "merge");
    let tip = s.put("dev", &[&merge], "tip");
    s.floor = Some(floor);
    assert_eq!(s.verdict(&tip), Err(("unsigned", merge)));
}

#[test]
fn without_a_floor_all_history_is_judged() {
    let mut s = Scenery::new(&["dev"]).every_commit(OnUnsigned::Hold);
    let old = s.put("", &[], "a");
    let tip = s.put("dev", &[&old], "b");
    assert_eq!(s.verdict(&tip), Err(("unsigned", old.clone())));
    s.absent.insert(old);
    s.cut = Some(HistoryCut::Shallow);
    assert!(matches!(s.look(&tip).verdict, Verdict::Undecided(_)));
}

#[test]
fn branch_signers_count_on_the_branchs_line_and_any_signer_beside_it() {
    let mut s = Scenery::new(&["dev", "release"]).every_commit(OnUnsigned::Hold);
    s.policy.branch_signers = Some(vec!["release@acme.example".to_owned()]);
    let a = s.put("release", &[], "a");
    s.floor = Some(a.clone());
    let side = s.put("dev", &[&a], "b");
    let merge = s.put("release", &[&a, &side], "b");
    assert_eq!(s.verdict(&merge), Ok(merge.clone()));
    let on_line = s.put("dev", &[&a], "c");
    let above = s.put("release", &[&on_line], "d");
    assert_eq!(s.verdict(&above), Err(("wrong-branch", on_line)));
}

#[test]
fn what_was_found_good_is_not_judged_again_until_the_policy_changes() {
    let mut s = Scenery::new(&["dev", "other"]).every_commit(OnUnsigned::Hold);
    let a = s.put("dev", &[], "a");
    let b = s.put("other", &[&a], "b");
    let c = s.put("dev", &[&b], "c");
    s.floor = Some(a.clone());
    let judged = |decision: &Decision| {
        decision
            .checks
            .iter()
            .filter(|check| check.name == "commit")
            .count()
    };
    assert_eq!(judged(&s.look(&c)), 2);
    assert_eq!(judged(&s.look(&c)), 1);
    let d = s.put("dev", &[&c], "d");
    assert_eq!(judged(&s.look(&d)), 2);
    s.policy.signers = Scenery::new(&["dev"]).policy.signers;
    assert_eq!(s.verdict(&d), Err(("unknown-key", b)));
}

#[test]
fn a_long_line_and_a_tangle_of_merges_take_no_more_than_their_commits() {
    let mut s = Scenery::new(&["dev"]).every_commit(OnUnsigned::Hold);
    let root = s.put("dev", &[], "root");
    let (mut left, mut right) = (root.clone(), root.clone());
    for n in 0..150 {
        let l = s.put("dev", &[&left, &right], &format!("l{n}"));
        let r = s.put("dev", &[&right, &left], &format!("r{n}"));
        (left, right) = (l, r);
    }
    let tip = s.put("dev", &[&left, &right], "tip");
    s.floor = Some(root);
    assert_eq!(s.verdict(&tip), Ok(tip.clone()));
    assert_eq!(s.memo.good.len(), 300);
}

#[test]
fn a_refused_tip_leaves_the_commit_before_it_to_go_to() {
    let mut s = Scenery::new(&["dev"]).every_commit(OnUnsigned::AdvanceBefore);
    let a = s.put("dev", &[], "a");
    let b = s.put("dev", &[&a], "b");
    let bad = s.put("", &[&b], "c");
    s.floor = Some(a.clone());
    let decision = s.look(&bad);
    match decision.verdict {
        Verdict::Trusted(commit) => assert_eq!(commit.id(), &b),
        other => panic!("{other:?}"),
    }
    assert_eq!(decision.beyond.unwrap().commit, bad);
    s.policy.on_unsigned = OnUnsigned::Hold;
    assert_eq!(s.verdict(&bad), Err(("unsigned", bad.clone())));
    s.policy.on_unsigned = OnUnsigned::AdvanceBefore;
    s.floor = Some(b);
    assert_eq!(s.verdict(&bad), Err(("unsigned", bad)));
}
