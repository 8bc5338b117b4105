#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at a surprise"
)]

use std::collections::BTreeMap;

use gix::objs::{Kind, Write as _};

use super::*;

/// A repository into which objects are put one by one.
struct Bench {
    _dir: tempfile::TempDir,
    repo: gix::Repository,
}

const BASE: i64 = 1_790_000_000;

impl Bench {
    fn new(hash: gix::hash::Kind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let create = gix::create::Options {
            destination_must_be_empty: Some(true),
            fs_capabilities: None,
            object_hash: Some(hash),
        };
        let repo = gix::ThreadSafeRepository::init_opts(
            dir.path().join("r.git"),
            gix::create::Kind::Bare,
            create,
            gix::open::Options::isolated(),
        )
        .unwrap()
        .to_thread_local();
        Self { _dir: dir, repo }
    }

    fn sha1() -> Self {
        Self::new(gix::hash::Kind::Sha1)
    }

    fn put(&self, kind: Kind, bytes: &[u8]) -> ObjectId {
        self.repo.objects.write_buf(kind, bytes).unwrap()
    }

    fn tree(&self, entries: &[(&str, &str, ObjectId)]) -> ObjectId {
        let mut bytes = Vec::new();
        for (mode, name, id) in entries {
            bytes.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            bytes.extend_from_slice(id.as_slice());
        }
        self.put(Kind::Tree, &bytes)
    }

    fn text(tree: ObjectId, parents: &[ObjectId], time: i64, message: &str) -> Vec<u8> {
        let mut text = format!("tree {tree}\n");
        for parent in parents {
            text.push_str(&format!("parent {parent}\n"));
        }
        for role in ["author", "committer"] {
            text.push_str(&format!("{role} A > B <a@example.com> {time} +0000\n"));
        }
        text.push_str(&format!("\n{message}\n"));
        text.into_bytes()
    }

    fn commit(&self, parents: &[ObjectId], name: &str) -> ObjectId {
        let tree = self.tree(&[]);
        self.put(Kind::Commit, &Self::text(tree, parents, BASE, name))
    }

    fn loose(&self, id: ObjectId) -> std::path::PathBuf {
        let hex = id.to_string();
        let objects = self.repo.git_dir().join("objects");
        objects.join(&hex[..2]).join(&hex[2..])
    }

    fn shallow(&self, boundary: &[ObjectId]) {
        let text: String = boundary.iter().map(|id| format!("{id}\n")).collect();
        std::fs::write(self.repo.git_dir().join("shallow"), text).unwrap();
    }

    fn history(&self, tip: ObjectId, floor: Option<ObjectId>) -> RawHistory {
        self.capped(tip, floor, Extent::SinceFloor, &Caps::default())
    }

    fn capped(
        &self,
        tip: ObjectId,
        floor: Option<ObjectId>,
        extent: Extent,
        caps: &Caps,
    ) -> RawHistory {
        let floor = floor.map(|id| parsed(id).unwrap());
        history(&self.repo, tip, floor.as_ref(), extent, Place::Within, caps).unwrap()
    }
}

fn ids(of: &[ObjectId]) -> BTreeSet<CommitId> {
    of.iter().map(|id| parsed(*id).unwrap()).collect()
}

fn range(history: &RawHistory) -> BTreeSet<CommitId> {
    let all: BTreeSet<CommitId> = history.commits.keys().cloned().collect();
    assert!(history.settled.is_subset(&all));
    all.difference(&history.settled).cloned().collect()
}

/// Numbers that come out alike each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % most
    }
}

/// A commit and all its ancestors, by number.
fn closure(parents: &[Vec<usize>], of: usize) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    let mut next = vec![of];
    while let Some(at) = next.pop() {
        if seen.insert(at) {
            next.extend(&parents[at]);
        }
    }
    seen
}

/// Commits with random parents among the earlier ones, mostly near ones, dated in their order.
fn graph(
    bench: &Bench,
    dice: &mut Dice,
    count: usize,
) -> (Vec<Vec<usize>>, Vec<Vec<u8>>, Vec<ObjectId>) {
    let tree = bench.tree(&[]);
    let (mut parents, mut texts, mut all) = (Vec::new(), Vec::new(), Vec::<ObjectId>::new());
    for at in 0..count {
        let mut own = BTreeSet::new();
        if at > 0 && dice.below(30) > 0 {
            for _ in 0..=dice.below(3) {
                let back = if dice.below(3) == 0 { at } else { at.min(4) };
                own.insert(at - 1 - dice.below(back));
            }
        }
        let own: Vec<usize> = own.into_iter().rev().collect();
        let named: Vec<ObjectId> = own.iter().map(|at| all[*at]).collect();
        // Two days apart, so that what is older is so beyond doubt; some at one moment.
        let time = BASE + i64::try_from(at - at % (1 + dice.below(2))).unwrap() * 2 * SKEW;
        let text = Bench::text(tree, &named, time, &format!("{at}"));
        all.push(gix::objs::compute_hash(tree.kind(), Kind::Commit, &text).unwrap());
        texts.push(text);
        parents.push(own);
    }
    (parents, texts, all)
}

#[test]
fn what_lies_between_any_floor_and_any_tip_is_what_the_definition_says() {
    for hash in [gix::hash::Kind::Sha1, gix::hash::Kind::Sha256] {
        let mut dice = Dice(0x2545_f491_4f6c_dd1d);
        for _ in 0..6 {
            let bench = Bench::new(hash);
            let count = 5 + dice.below(30);
            let (parents, texts, all) = graph(&bench, &mut dice, count);
            for text in &texts {
                bench.put(Kind::Commit, text);
            }
            for _ in 0..40 {
                let (tip, floor) = (dice.below(count), dice.below(count));
                let below = closure(&parents, floor);
                let above: BTreeSet<usize> =
                    closure(&parents, tip).difference(&below).copied().collect();
                let mut settled: BTreeSet<usize> = above
                    .iter()
                    .flat_map(|at| parents[*at].clone())
                    .filter(|at| below.contains(at))
                    .collect();
                let is_below = below.contains(&tip);
                if is_below {
                    // And what it was put on, which its date and its approvals are judged beside.
                    settled.insert(tip);
                    settled.extend(parents[tip].iter().copied());
                }
                let of =
                    |set: &BTreeSet<usize>| ids(&set.iter().map(|at| all[*at]).collect::<Vec<_>>());
                let found = bench.history(all[tip], Some(all[floor]));
                assert_eq!(found.cut, None);
                assert_eq!(range(&found), of(&above));
                // All of them have one tree: from each with one parent it may be a heartbeat that leads to what is settled.
                let mut at = tip;
                while above.contains(&at) && parents[at].len() == 1 {
                    at = parents[at][0];
                }
                if is_below || below.contains(&at) {
                    assert!(of(&settled).is_subset(&found.settled));
                    assert!(found.settled.is_subset(&of(&below)));
                } else {
                    assert_eq!(found.settled, of(&settled));
                }
                let whole = bench.history(all[tip], None);
                assert_eq!((whole.cut, whole.settled.len()), (None, 0));
                assert_eq!(whole.commits.len(), closure(&parents, tip).len());
            }
        }
    }
}

#[test]
fn a_floor_below_heartbeats_comes_with_what_it_was_put_on() {
    let bench = Bench::sha1();
    let blob = bench.put(Kind::Blob, b"new");
    let (old, new) = (bench.tree(&[]), bench.tree(&[("100644", "f", blob)]));
    let commit = |tree, parents: &[ObjectId], name| {
        bench.put(Kind::Commit, &Bench::text(tree, parents, BASE, name))
    };
    let before = commit(old, &[], "before");
    let beaten = commit(old, &[before], "a heartbeat on that");
    let floor = commit(new, &[beaten], "the floor");
    let first = commit(new, &[floor], "a heartbeat");
    let tip = commit(new, &[first], "another");

    let found = bench.history(tip, Some(floor));
    assert_eq!((range(&found), found.cut), (ids(&[first, tip]), None));
    assert_eq!(found.settled, ids(&[before, beaten, floor]));
    // A change on top of them is judged by itself.
    let change = commit(old, &[tip], "a change");
    let found = bench.history(change, Some(floor));
    assert_eq!(found.settled, ids(&[floor]));

    bench.shallow(&[floor]);
    std::fs::remove_file(bench.loose(beaten)).unwrap();
    assert_eq!(
        bench.history(tip, Some(floor)).cut,
        Some(HistoryCut::Shallow)
    );
    assert_eq!(bench.history(change, Some(floor)).cut, None);
}

#[test]
fn a_shallow_history_is_exact_or_says_that_it_is_cut() {
    let mut dice = Dice(88_172_645_463_325_252);
    let (mut whole, mut cut) = (0, 0);
    for _ in 0..60 {
        let bench = Bench::sha1();
        let count = 10 + dice.below(30);
        let (parents, texts, all) = graph(&bench, &mut dice, count);
        let tip = count - 1;
        // What a server sends for a depth: all that is so many steps from the tip; and some commits beside it.
        let mut depth: BTreeMap<usize, usize> = BTreeMap::from([(tip, 0)]);
        let mut next = VecDeque::from([tip]);
        while let Some(at) = next.pop_front() {
            for parent in &parents[at] {
                if !depth.contains_key(parent) {
                    depth.insert(*parent, depth[&at] + 1);
                    next.push_back(*parent);
                }
            }
        }
        let most = 1 + dice.below(8);
        let mut here: BTreeSet<usize> = depth
            .iter()
            .filter(|(_, depth)| **depth <= most)
            .map(|(at, _)| *at)
            .collect();
        // A side branch that came later is sent down to its root.
        if dice.below(3) == 0 {
            here.extend(closure(&parents, dice.below(count)));
        }
        for at in &here {
            bench.put(Kind::Commit, &texts[*at]);
        }
        let boundary: Vec<ObjectId> = here
            .iter()
            .filter(|at| parents[**at].iter().any(|parent| !here.contains(parent)))
            .map(|at| all[*at])
            .collect();
        bench.shallow(&boundary);
        for floor in 0..count {
            let below = closure(&parents, floor);
            let above: BTreeSet<usize> =
                closure(&parents, tip).difference(&below).copied().collect();
            let found = bench.history(all[tip], Some(all[floor]));
            let settled: BTreeSet<CommitId> =
                ids(&below.iter().map(|at| all[*at]).collect::<Vec<_>>());
            // What is called settled always is: anything else would let a commit pass unjudged.
            assert!(found.settled.is_subset(&settled));
            let above = ids(&above.iter().map(|at| all[*at]).collect::<Vec<_>>());
            match found.cut {
                None => {
                    whole += 1;
                    assert_eq!(range(&found), above, "floor {floor}, tip {tip}");
                }
                Some(HistoryCut::Shallow) => cut += 1,
                Some(HistoryCut::TooLong(why)) => panic!("{why}"),
            }
        }
    }
    assert!(whole > 100 && cut > 100, "{whole} whole, {cut} cut");
}

#[test]
fn a_straight_line_is_told_without_a_look_below_the_floor() {
    let bench = Bench::sha1();
    let tree = bench.tree(&[]);
    // Its parent is nowhere, and no shallow boundary excuses that: to look for it would be an error.
    let floor = bench.put(
        Kind::Commit,
        &Bench::text(
            tree,
            &[ObjectId::from_hex(&[b'7'; 40]).unwrap()],
            BASE,
            "floor",
        ),
    );
    let one = bench.commit(&[floor], "one");
    let two = bench.commit(&[floor], "two");
    let tip = bench.commit(&[one, two], "tip");
    let found = bench.history(tip, Some(floor));
    assert_eq!((range(&found), &found.cut), (ids(&[one, two, tip]), &None));
    assert_eq!(found.settled, ids(&[floor]));
    let same = bench.history(floor, Some(floor));
    assert_eq!((same.commits.len(), &same.settled), (1, &ids(&[floor])));
}

#[test]
fn a_commit_that_is_missing_within_the_boundary_is_damage() {
    let bench = Bench::sha1();
    let tree = bench.tree(&[]);
    let lost = ObjectId::from_hex(&[b'7'; 40]).unwrap();
    let one = bench.put(Kind::Commit, &Bench::text(tree, &[lost], BASE, "one"));
    let tip = bench.commit(&[one], "tip");
    let floor = bench.commit(&[], "elsewhere");
    let run = || {
        let floor = parsed(floor).unwrap();
        history(
            &bench.repo,
            tip,
            Some(&floor),
            Extent::SinceFloor,
            Place::Within,
            &Caps::default(),
        )
    };
    assert!(matches!(run(), Err(SourceError::Store { .. })));
    bench.shallow(&[one]);
    let found = run().unwrap();
    assert_eq!(
        (range(&found), &found.cut),
        (ids(&[one, tip]), &Some(HistoryCut::Shallow))
    );
}

#[test]
fn a_floor_that_is_not_here_leaves_no_doubt_that_something_is_missing() {
    let bench = Bench::sha1();
    let tree = bench.tree(&[]);
    let lost = ObjectId::from_hex(&[b'7'; 40]).unwrap();
    let one = bench.put(Kind::Commit, &Bench::text(tree, &[lost], BASE, "one"));
    bench.shallow(&[one]);
    let tip = bench.commit(&[one], "tip");
    let found = bench.history(tip, Some(lost));
    assert_eq!(range(&found), ids(&[one, tip]));
    assert_eq!(found.cut, Some(HistoryCut::Shallow));
    // In no parent line either: it may be an ancestor of any of these.
    let found = bench.history(tip, Some(ObjectId::from_hex(&[b'8'; 40]).unwrap()));
    assert_eq!(found.cut, Some(HistoryCut::Shallow));
    // One of the other hash function is in no history of this one.
    let foreign: CommitId = "7".repeat(64).parse().unwrap();
    let found = history(
        &bench.repo,
        one,
        Some(&foreign),
        Extent::SinceFloor,
        Place::Within,
        &Caps::default(),
    );
    assert_eq!(range(&found.unwrap()), ids(&[one]));
}

#[test]
fn criss_crosses_and_thousands_of_parents_take_no_longer_than_their_commits() {
    let bench = Bench::sha1();
    let began = std::time::Instant::now();
    let floor = bench.commit(&[], "floor");
    let (mut left, mut right) = (bench.commit(&[floor], "l"), bench.commit(&[floor], "r"));
    // Twice as many ways down with each of them: 2^200.
    for round in 0..200 {
        (left, right) = (
            bench.commit(&[left, right], &format!("l{round}")),
            bench.commit(&[right, left], &format!("r{round}")),
        );
    }
    let mut many = vec![left, right];
    for at in 0..10_000 {
        many.push(match at % 3 {
            0 => left,
            1 => floor,
            _ => bench.commit(&[right], &format!("m{}", at % 50)),
        });
    }
    let tip = bench.commit(&many, "tip");
    let again = bench.commit(&[tip, tip, tip], "again");
    let found = bench.history(again, Some(floor));
    assert_eq!(found.cut, None);
    let unrelated = bench.commit(&[], "unrelated");
    assert_eq!(bench.history(again, Some(unrelated)).settled.len(), 0);
    let parents = bench.capped(tip, Some(floor), Extent::Parents, &Caps::default());
    assert!(matches!(parents.cut, Some(HistoryCut::TooLong(_))));
    assert!(parents.commits.len() <= 129);
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
}

#[test]
fn more_than_a_device_takes_is_said_and_not_taken() {
    let bench = Bench::sha1();
    let floor = bench.commit(&[], "floor");
    let mut tip = bench.commit(&[floor], "0");
    for round in 1..50 {
        tip = bench.commit(&[tip], &format!("{round}"));
    }
    let few = Caps {
        commits: 49,
        ..Caps::default()
    };
    let found = bench.capped(tip, Some(floor), Extent::SinceFloor, &few);
    let Some(HistoryCut::TooLong(why)) = &found.cut else {
        panic!("{:?}", found.cut);
    };
    assert!(why.contains("more than 49 commits"), "{why}");
    assert_eq!(found.commits.len(), 49);
    assert!(found.commits.contains_key(&parsed(tip).unwrap()));
    let enough = Caps { commits: 50, ..few };
    let found = bench.capped(tip, Some(floor), Extent::SinceFloor, &enough);
    assert_eq!((found.cut, found.commits.len()), (None, 51));
    let small = Caps {
        bytes: 1000,
        ..Caps::default()
    };
    let found = bench.capped(tip, Some(floor), Extent::SinceFloor, &small);
    assert!(matches!(found.cut, Some(HistoryCut::TooLong(_))));
    // An old tip, and more below the floor than is looked through.
    let side = bench.commit(&[floor], "side");
    let shallow = Caps {
        below: 20,
        ..Caps::default()
    };
    let found = bench.capped(side, Some(tip), Extent::SinceFloor, &shallow);
    assert!(matches!(found.cut, Some(HistoryCut::TooLong(_))));
}

#[test]
fn with_parents_alone_a_handful_of_commits_is_read() {
    let bench = Bench::sha1();
    let lost = ObjectId::from_hex(&[b'7'; 40]).unwrap();
    let tree = bench.tree(&[]);
    let root = bench.commit(&[], "root");
    let left = bench.put(Kind::Commit, &Bench::text(tree, &[lost], BASE, "left"));
    let right = bench.commit(&[root], "right");
    let tip = bench.commit(&[left, right], "tip");
    let found = bench.capped(tip, Some(left), Extent::Parents, &Caps::default());
    assert_eq!(found.cut, None);
    assert_eq!(range(&found), ids(&[right, tip]));
    assert_eq!(found.settled, ids(&[left]));
    let thin = bench.put(Kind::Commit, &Bench::text(tree, &[lost], BASE, "thin"));
    bench.shallow(&[thin]);
    let found = bench.capped(thin, Some(lost), Extent::Parents, &Caps::default());
    assert_eq!(
        (found.commits.len(), found.cut),
        (1, Some(HistoryCut::Shallow))
    );
}

#[test]
fn a_malformed_commit_has_no_parents_here_and_stops_nothing() {
    let bench = Bench::sha1();
    let floor = bench.commit(&[], "floor");
    for text in [
        String::new(),
        "\n".to_owned(),
        format!("parent {floor}\n"),
        format!("tree {0}\nauthor x\nparent {floor}\n", bench.tree(&[])),
        format!("tree {0}\nparent {floor}x\n", bench.tree(&[])),
        format!(
            "tree {0}\nauthor A <a> 1 +0\nparent {floor}\ncommitter A <a> 1 +0\n\nx",
            bench.tree(&[])
        ),
    ] {
        let odd = bench.put(Kind::Commit, text.as_bytes());
        let tip = bench.commit(&[odd], "tip");
        let found = bench.history(tip, Some(floor));
        assert_eq!(range(&found), ids(&[odd, tip]), "{text:?}");
        assert!(found.settled.is_empty(), "{text:?}");
    }
}

#[test]
fn trust_sets_are_of_regular_files_capped_and_shared() {
    let bench = Bench::sha1();
    let blob = |text: &str| bench.put(Kind::Blob, text.as_bytes());
    let (fleet, keys, signature) = (blob("name"), blob("keys"), blob("sig"));
    let big = blob(&"x".repeat(17 * 1024));
    let folder = bench.tree(&[
        ("100644", "allowed_signers", keys),
        ("100644", "allowed_signers.sig", signature),
        ("120000", "allowed_signers.sig.link", signature),
        ("100644", "allowed_signers.sig.other", signature),
        ("100644", "allowed_signers.sig.too-big", big),
        ("100644", "allowed_signers.sigh", signature),
        ("100644", "notes", signature),
    ]);
    let carrying = |extra: ObjectId| {
        bench.tree(&[
            ("100644", "a", extra),
            ("100644", "fleet.toml", fleet),
            ("40000", "trust", folder),
        ])
    };
    let (first, second) = (carrying(keys), carrying(big));
    let link = bench.tree(&[("120000", "trust", keys)]);
    let linked = bench.tree(&[(
        "40000",
        "trust",
        bench.tree(&[("120000", "allowed_signers", keys)]),
    )]);
    let huge = blob(&"k".repeat(1024 * 1024 + 1));
    let oversized = bench.tree(&[(
        "40000",
        "trust",
        bench.tree(&[
            ("100644", "allowed_signers", huge),
            ("100644", "allowed_signers.sig", signature),
        ]),
    )]);
    let mut tip = bench.put(Kind::Commit, &Bench::text(first, &[], BASE, "floor"));
    let floor = tip;
    for tree in [second, link, linked, oversized] {
        tip = bench.put(Kind::Commit, &Bench::text(tree, &[tip], BASE, "next"));
    }
    let found = bench.history(tip, Some(floor));
    let of = |tree: ObjectId| found.sets.get(&tree.to_string().parse::<TreeId>().unwrap());
    let set = of(second).unwrap();
    assert_eq!(set.id, folder.to_string());
    assert_eq!(set.allowed_signers.as_deref(), Some(b"keys".as_slice()));
    assert_eq!(set.fleet.as_deref(), Some(b"name".as_slice()));
    assert_eq!(
        set.signatures
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>(),
        ["allowed_signers.sig", "allowed_signers.sig.other"]
    );
    // The floor's is there, and the same.
    assert!(std::sync::Arc::ptr_eq(of(first).unwrap(), set));
    assert!(of(link).is_none() && of(linked).is_none());
    let found_big = of(oversized).unwrap();
    assert_eq!(
        (&found_big.allowed_signers, found_big.signatures.len()),
        (&None, 1)
    );
    assert_eq!(found_big.fleet, None);
}
