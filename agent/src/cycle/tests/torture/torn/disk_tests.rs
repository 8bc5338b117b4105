//! The disk's word: what it keeps and what it may lose.

use std::collections::BTreeSet;

use super::*;

const META: Meta = Meta {
    mode: 0o600,
    uid: 0,
    gid: 0,
};

fn disk(ops: &[Op]) -> Disk {
    let mut disk = Disk::new(META, Honesty::Honest);
    for op in ops {
        disk.take(op);
    }
    disk
}

fn name(dir: Ino, name: &str) -> Name {
    (dir, name.to_owned())
}

fn make(ino: Ino, at: Name) -> [Op; 2] {
    make_kind(ino, at, Kind::File)
}

fn make_kind(ino: Ino, at: Name, kind: Kind) -> [Op; 2] {
    let meta = META;
    [Op::Make { ino, kind, meta }, Op::Put { name: at, ino }]
}

fn write(ino: Ino, at: usize, bytes: &[u8]) -> Op {
    Op::Write {
        ino,
        at,
        bytes: bytes.into(),
    }
}

/// All that a file may be after a cut.
fn outcomes(disk: &Disk, path: &str) -> BTreeSet<Option<Vec<u8>>> {
    (0..2000)
        .map(|seed| {
            let image = disk.cut(&mut Rng::with_seed(seed));
            image.file(path).map(<[u8]>::to_vec)
        })
        .collect()
}

fn set(all: &[Option<&[u8]>]) -> BTreeSet<Option<Vec<u8>>> {
    all.iter().map(|one| one.map(<[u8]>::to_vec)).collect()
}

#[test]
fn nothing_is_sure_that_was_not_synced() {
    let mut ops = make(1, name(ROOT, "a")).to_vec();
    ops.push(write(1, 0, b"one"));
    let all = set(&[None, Some(b""), Some(b"one"), Some(b"\0\0\0")]);
    assert_eq!(outcomes(&disk(&ops), "/a"), all);
}

#[test]
fn a_files_sync_keeps_its_data_and_not_its_name() {
    let mut ops = make(1, name(ROOT, "a")).to_vec();
    ops.extend([write(1, 0, b"one"), Op::Sync { ino: 1 }]);
    assert_eq!(outcomes(&disk(&ops), "/a"), set(&[None, Some(b"one")]));
    ops.push(Op::Sync { ino: ROOT });
    assert_eq!(outcomes(&disk(&ops), "/a"), set(&[Some(b"one")]));
}

#[test]
fn a_directorys_sync_keeps_names_and_not_data() {
    let mut ops = make(1, name(ROOT, "a")).to_vec();
    ops.extend([write(1, 0, b"one"), Op::Sync { ino: ROOT }]);
    let all = set(&[Some(b""), Some(b"one"), Some(b"\0\0\0")]);
    assert_eq!(outcomes(&disk(&ops), "/a"), all);
}

#[test]
fn a_rename_over_a_file_leaves_the_old_or_the_new_one() {
    let mut ops = make(1, name(ROOT, "a")).to_vec();
    ops.extend([write(1, 0, b"old"), Op::Sync { ino: 1 }]);
    ops.push(Op::Sync { ino: ROOT });
    ops.extend(make(2, name(ROOT, "b")));
    ops.extend([write(2, 0, b"new"), Op::Sync { ino: 2 }]);
    let (from, to) = (name(ROOT, "b"), name(ROOT, "a"));
    ops.push(Op::Move { from, to });
    let disk = disk(&ops);
    assert_eq!(outcomes(&disk, "/a"), set(&[Some(b"old"), Some(b"new")]));
    // Whole or not at all: never under both names.
    for seed in 0..500 {
        let image = disk.cut(&mut Rng::with_seed(seed));
        assert!(image.file("/b").is_none() || image.file("/a") == Some(b"old"));
    }
}

#[test]
fn a_moved_name_is_sure_once_either_directory_was_synced() {
    for synced in [1, 2] {
        let mut ops = make_kind(1, name(ROOT, "x"), Kind::Directory).to_vec();
        ops.extend(make_kind(2, name(ROOT, "y"), Kind::Directory));
        ops.push(Op::Sync { ino: ROOT });
        ops.extend(make(3, name(1, "f")));
        ops.push(Op::Move {
            from: name(1, "f"),
            to: name(2, "f"),
        });
        ops.push(Op::Sync { ino: synced });
        let disk = disk(&ops);
        assert_eq!(outcomes(&disk, "/y/f"), set(&[Some(b"")]), "{synced}");
        assert_eq!(outcomes(&disk, "/x/f"), set(&[None]), "{synced}");
    }
}

#[test]
fn changes_of_one_name_keep_their_order() {
    let mut ops = make(1, name(ROOT, "a")).to_vec();
    ops.extend([write(1, 0, b"1"), Op::Sync { ino: 1 }]);
    let at = name(ROOT, "a");
    ops.push(Op::Take { name: at });
    ops.extend(make(2, name(ROOT, "a")));
    ops.extend([write(2, 0, b"2"), Op::Sync { ino: 2 }]);
    assert_eq!(
        outcomes(&disk(&ops), "/a"),
        set(&[None, Some(b"1"), Some(b"2")])
    );
}

#[test]
fn a_directory_that_was_not_synced_into_its_parent_is_lost_with_all_that_is_in_it() {
    let mut ops = make_kind(1, name(ROOT, "d"), Kind::Directory).to_vec();
    ops.extend(make(2, name(1, "f")));
    ops.extend([Op::Sync { ino: 2 }, Op::Sync { ino: 1 }]);
    assert_eq!(outcomes(&disk(&ops), "/d/f"), set(&[None, Some(b"")]));
}

#[test]
fn a_long_write_tears_between_sectors_only() {
    let mut ops = make(1, name(ROOT, "a")).to_vec();
    ops.push(Op::Sync { ino: ROOT });
    ops.push(write(1, 100, &[7; 1500]));
    let all = outcomes(&disk(&ops), "/a");
    assert!(all.len() > 4, "{}", all.len());
    for data in all.into_iter().flatten() {
        for (at, byte) in data.iter().enumerate() {
            // A sector is as its first byte behind the file's beginning is.
            let first = (at / SECTOR * SECTOR).max(100).min(data.len() - 1);
            assert!(at < 100 && *byte == 0 || *byte == data[first], "{at}");
        }
    }
}

#[test]
fn a_data_sync_leaves_the_mode_open_and_a_sync_does_not() {
    let mut ops = make(1, name(ROOT, "a")).to_vec();
    ops.push(Op::Sync { ino: ROOT });
    ops.push(Op::Mode {
        ino: 1,
        mode: 0o644,
    });
    ops.push(Op::DataSync { ino: 1 });
    let modes = |ops: &[Op]| -> BTreeSet<u32> {
        let disk = disk(ops);
        (0..500)
            .map(|seed| disk.cut(&mut Rng::with_seed(seed)).nodes[0].1.meta.mode)
            .collect()
    };
    assert_eq!(modes(&ops), BTreeSet::from([0o600, 0o644]));
    ops.push(Op::Sync { ino: 1 });
    assert_eq!(modes(&ops), BTreeSet::from([0o644]));
}

#[test]
fn a_disk_that_passes_over_syncs_keeps_nothing_of_what_they_were_for() {
    let mut ops = make(1, name(ROOT, "a")).to_vec();
    ops.extend([write(1, 0, b"one"), Op::Sync { ino: 1 }]);
    ops.push(Op::Sync { ino: ROOT });
    let lies = |honesty| {
        let mut disk = Disk::new(META, honesty);
        ops.iter().for_each(|op| disk.take(op));
        outcomes(&disk, "/a")
    };
    assert!(lies(Honesty::IgnoresAll).contains(&None));
    assert!(lies(Honesty::IgnoresFile("a")).contains(&Some(Vec::new())));
    assert_eq!(lies(Honesty::IgnoresFile("b")).len(), 1);
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let mut ops = make(1, name(ROOT, "a")).to_vec();
    ops.extend((0..20).map(|n| write(1, n * 300, &[1; 300])));
    let disk = disk(&ops);
    for seed in 0..50 {
        let one = disk.cut(&mut Rng::with_seed(seed)).told();
        assert_eq!(one, disk.cut(&mut Rng::with_seed(seed)).told());
    }
}
