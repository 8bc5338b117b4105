use super::*;

#[test]
fn a_rotated_set_counts_from_the_next_commit_on() {
    let mut s = Scenery::new(&["old", "root1"]).with_root(1);
    let a = s.put("old", &[], "a");
    s.floor = Some(a.clone());
    s.set("b", 1, &["new"], &["root1"]);
    s.set("c", 1, &["new"], &["root1"]);
    let b = s.put("old", &[&a], "b");
    assert_eq!(s.verdict(&b), Ok(b.clone()));
    assert_eq!(s.serial(), 1);
    // The commit that brought it is judged by the set before, again and again, also as the floor.
    assert_eq!(s.verdict(&b), Ok(b.clone()));
    s.floor = Some(b.clone());
    assert_eq!(s.verdict(&b), Ok(b.clone()));
    let late = s.put("old", &[&b], "c");
    assert_eq!(s.verdict(&late), Err(("unknown-key", late)));
    let c = s.put("new", &[&b], "c");
    assert_eq!(s.verdict(&c), Ok(c));
}

#[test]
fn a_key_that_is_added_cannot_sign_the_commit_that_adds_it() {
    let mut s = Scenery::new(&["dev", "root1"]).with_root(1);
    let a = s.put("dev", &[], "a");
    s.floor = Some(a.clone());
    s.set("b", 1, &["dev", "new"], &["root1"]);
    let b = s.put("new", &[&a], "b");
    assert_eq!(s.verdict(&b), Err(("unknown-key", b)));
    // What a refused commit brings is not adopted.
    assert_eq!(s.serial(), 0);
}

#[test]
fn a_signer_cannot_add_a_key_unless_root_signs() {
    for root in [&["dev"][..], &[], &["nobody"]] {
        let mut s = Scenery::new(&["dev", "root1"]).with_root(1);
        let a = s.put("dev", &[], "a");
        s.floor = Some(a.clone());
        s.set("b", 1, &["dev", "new"], root);
        let b = s.put("dev", &[&a], "b");
        assert_eq!(s.verdict(&b), Ok(b.clone()));
        assert_eq!(s.serial(), 0);
        let c = s.put("new", &[&b], "b");
        assert_eq!(s.verdict(&c), Err(("unknown-key", c)));
    }
}

#[test]
fn without_root_the_set_in_the_repository_is_not_looked_at() {
    let mut s = Scenery::new(&["dev", "root1"]);
    s.set("a", 1, &["new"], &["root1"]);
    let a = s.put("dev", &[], "a");
    let b = s.put("dev", &[&a], "a");
    assert_eq!(s.verdict(&b), Ok(b));
    assert_eq!(s.serial(), 0);
}

#[test]
fn an_adopted_set_is_never_gone_back_from() {
    let mut s = Scenery::new(&["old", "root1"]).with_root(1);
    let a = s.put("old", &[], "a");
    s.floor = Some(a.clone());
    s.set("b", 1, &["new"], &["root1"]);
    let b = s.put("old", &[&a], "b");
    assert_eq!(s.verdict(&b), Ok(b.clone()));
    // Nothing became good: the floor is below the rotation. A fork beside it by the key that was taken away:
    let fork = s.put("old", &[&a], "fork");
    assert_eq!(s.verdict(&fork), Err(("unknown-key", fork.clone())));
    // and one that brings the same set itself:
    let again = s.put("old", &[&a, &fork], "b");
    assert_eq!(s.verdict(&again), Err(("unknown-key", again)));
    // The tree may carry the older file, or none: the set in force stays.
    let reverted = s.put("new", &[&b], "a");
    assert_eq!(s.verdict(&reverted), Ok(reverted));
    assert_eq!(s.serial(), 1);
}

#[test]
fn a_device_that_was_away_walks_the_chain() {
    let mut s = Scenery::new(&["dev", "root1"]).with_root(1);
    let a = s.put("dev", &[], "a");
    s.floor = Some(a.clone());
    let mut tip = a;
    // Each set brings the next one's root key: a jump over one cannot be verified.
    let (mut signer, mut root) = ("dev".to_owned(), "root1".to_owned());
    for n in 2..=20 {
        let (next, next_root) = (format!("dev{n}"), format!("root{n}"));
        s.set(&format!("t{n}"), n, &[&next, &next_root], &[&root]);
        tip = s.put(&signer, &[&tip], &format!("t{n}"));
        (signer, root) = (next, next_root);
    }
    let last = s.put(&signer, &[&tip], "last");
    for every in [Verify::Tip, Verify::EveryCommit] {
        s.policy.verify = every;
        s.adopted.clear();
        assert_eq!(s.verdict(&last), Ok(last.clone()));
        assert_eq!(s.serial(), 20);
        assert_eq!(s.adopted.len(), crate::domain::history::KEPT_SETS);
        assert_eq!(s.verdict(&last), Ok(last.clone()));
    }
}

#[test]
fn a_set_that_comes_with_a_promotion_counts_after_it() {
    let mut s = Scenery::new(&["old", "root1"]).with_root(1);
    let a = s.put("old", &[], "a");
    s.floor = Some(a.clone());
    s.set("b", 1, &["new"], &["root1"]);
    s.set("c", 1, &["new"], &["root1"]);
    s.set("d", 1, &["new"], &["root1"]);
    let canary = s.put("old", &[&a], "b");
    let canary2 = s.put("new", &[&canary], "c");
    let early = s.put("new", &[&a, &canary2], "c");
    assert_eq!(s.verdict(&early), Err(("unknown-key", early)));
    let promoted = s.put("old", &[&a, &canary2], "c");
    assert_eq!(s.verdict(&promoted), Ok(promoted.clone()));
    assert_eq!(s.serial(), 1);
    assert_eq!(s.verdict(&promoted), Ok(promoted.clone()));
    let next = s.put("new", &[&promoted], "d");
    assert_eq!(s.verdict(&next), Ok(next));
}

#[test]
fn each_commit_is_judged_by_the_set_of_its_parent() {
    let mut s = Scenery::new(&["old", "root1"])
        .with_root(1)
        .every_commit(OnUnsigned::Hold);
    let a = s.put("old", &[], "a");
    s.floor = Some(a.clone());
    s.set("b", 1, &["new"], &["root1"]);
    s.set("c", 1, &["new"], &["root1"]);
    s.set("d", 1, &["new"], &["root1"]);
    let b = s.put("old", &[&a], "b");
    let c = s.put("new", &[&b], "c");
    assert_eq!(s.verdict(&c), Ok(c.clone()));
    assert_eq!(s.verdict(&c), Ok(c.clone()));
    let slipped_in = s.put("old", &[&b], "c");
    let tip = s.put("new", &[&slipped_in], "d");
    assert_eq!(s.verdict(&tip), Err(("unknown-key", slipped_in)));
}

#[test]
fn a_set_that_was_adopted_is_not_replaced_by_another_of_its_serial_on_another_line() {
    let mut s = Scenery::new(&["dev", "root1"]).with_root(1);
    let a = s.put("dev", &[], "a");
    s.floor = Some(a.clone());
    s.set("b", 1, &["dev", "root2"], &["root1"]);
    s.set("c", 2, &["dev", "root3"], &["root1"]);
    let b = s.put("dev", &[&a], "b");
    let c = s.put("dev", &[&b], "c");
    assert_eq!(s.verdict(&c), Ok(c.clone()));
    assert_eq!(s.serial(), 2);
    // c became good nowhere. root2 was taken away by it, and signs another set with its serial, and one more.
    s.set("evil2", 2, &["evil", "rootx"], &["root2"]);
    s.set("evil3", 3, &["evil", "rootx"], &["rootx"]);
    let slipped_in = s.put("evil", &[&b], "evil2");
    let third = s.put("evil", &[&slipped_in], "evil3");
    for below in [&slipped_in, &third] {
        let merge = s.put("evil", &[below, &c], "payload");
        assert_eq!(s.verdict(&merge), Err(("unknown-key", merge.clone())));
        let other = s.put("evil", &[&b, below, &c], "payload");
        assert_eq!(s.verdict(&other), Err(("unknown-key", other)));
        assert_eq!(s.serial(), 2);
    }
    let next = s.put("dev", &[&c], "next");
    assert_eq!(s.verdict(&next), Ok(next));
}

#[test]
fn a_commit_that_brings_two_sets_at_once_stays_good() {
    for verify in [Verify::Tip, Verify::EveryCommit] {
        let mut s = Scenery::new(&["old", "root1"]).with_root(1);
        s.policy.verify = verify;
        let a = s.put("old", &[], "a");
        s.floor = Some(a.clone());
        s.set("b", 1, &["mid"], &["root1"]);
        s.set("c", 2, &["new"], &["root1"]);
        s.set("d", 2, &["new"], &["root1"]);
        let canary = s.put("old", &[&a], "b");
        let canary2 = s.put("old", &[&canary], "c");
        let promoted = s.put("old", &[&a, &canary2], "c");
        for _ in 0..3 {
            assert_eq!(s.verdict(&promoted), Ok(promoted.clone()));
            assert_eq!(s.serial(), 2);
        }
        s.floor = Some(promoted.clone());
        assert_eq!(s.verdict(&promoted), Ok(promoted.clone()));
        let late = s.put("old", &[&promoted], "d");
        assert_eq!(s.verdict(&late), Err(("unknown-key", late)));
        let next = s.put("new", &[&promoted], "d");
        assert_eq!(s.verdict(&next), Ok(next));
    }
}
