use super::*;

fn rewrite(s: &mut Scenery, by: &str, parents: &[&CommitId], floor: &str) -> CommitId {
    let message = format!("Start again\n\nSupersedes: {floor}");
    s.commit(&Make {
        message: &message,
        ..Make::new(by, parents, "rewrite")
    })
}

#[test]
fn a_signed_rewrite_replaces_the_floor_that_it_names() {
    let mut s = Scenery::new(&["dev"]);
    let base = s.put("dev", &[], "base");
    let floor = s.put("dev", &[&base], "floor");
    s.floor = Some(floor.clone());
    let silent = s.put("dev", &[&base], "fork");
    assert_eq!(s.verdict(&silent), Err(("not-descendant", silent)));
    let heir = rewrite(&mut s, "dev", &[&base], floor.as_str());
    assert_eq!(s.verdict(&heir), Ok(heir.clone()));
    // The branch has gone on since.
    let later = s.put("dev", &[&heir], "later");
    assert_eq!(s.verdict(&later), Ok(later.clone()));
    // It names that floor, and no other.
    s.floor = Some(s.put("dev", &[&floor], "newer"));
    assert_eq!(s.verdict(&later), Err(("not-descendant", later)));
}

#[test]
fn a_rewrite_by_a_stranger_or_unsigned_or_beside_the_branch_replaces_nothing() {
    let mut s = Scenery::new(&["dev"]);
    let base = s.put("dev", &[], "base");
    let floor = s.put("dev", &[&base], "floor");
    s.floor = Some(floor.clone());
    for by in ["nobody", ""] {
        let heir = rewrite(&mut s, by, &[&base], floor.as_str());
        assert!(s.verdict(&heir).is_err());
        // A signed commit on top does not make it good.
        let above = s.put("dev", &[&heir], "above");
        assert_eq!(s.verdict(&above).unwrap_err().1, heir);
    }
    // Merged from elsewhere it speaks for elsewhere.
    let heir = rewrite(&mut s, "dev", &[&base], floor.as_str());
    let merge = s.put("dev", &[&base, &heir], "merge");
    assert_eq!(s.verdict(&merge), Err(("not-descendant", merge)));
}

#[test]
fn a_pin_is_the_owners_and_not_superseded() {
    let mut s = Scenery::new(&["dev"]);
    let base = s.put("dev", &[], "base");
    let pin = s.put("dev", &[&base], "pin");
    let heir = rewrite(&mut s, "dev", &[&base], pin.as_str());
    let mut raw = s.commits[&heir].clone();
    raw.descent = Descent::NotDescendant;
    let history = RawHistory::default();
    let decision = s.policy.decide(Scene {
        tip: &raw,
        history: &history,
        anchor: Anchor::Pin(&pin),
        adopted: &[],
        time_floor: Timestamp(0),
        clock: None,
        memo: &Memo::default(),
    });
    assert!(
        matches!(decision.verdict, Verdict::Refused(refused) if refused.reason == Reason::NotDescendant)
    );
}

#[test]
fn a_rewrite_stays_good_when_its_signer_is_replaced_above_it() {
    let mut s = Scenery::new(&["old", "root1"]).with_root(1);
    let base = s.put("old", &[], "base");
    let floor = s.put("old", &[&base], "floor");
    s.floor = Some(floor.clone());
    let heir = rewrite(&mut s, "old", &[&base], floor.as_str());
    s.set("b", 1, &["new"], &["root1"]);
    let rotation = s.put("old", &[&heir], "b");
    let tip = s.put("new", &[&rotation], "tip");
    for _ in 0..2 {
        assert_eq!(s.verdict(&tip), Ok(tip.clone()));
        assert_eq!(s.serial(), 1);
    }
    // The key that was taken away makes no new one.
    let late = rewrite(&mut s, "old", &[&rotation], floor.as_str());
    assert_eq!(s.verdict(&late), Err(("unknown-key", late)));
}
