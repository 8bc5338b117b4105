//! Damage, other keys, and going back in time.

use std::io::Write as _;

use super::*;

#[test]
fn another_devices_journal_counts_for_nothing_and_is_reported() {
    let device = Device::new();
    {
        let (_state, store) = device.store();
        commit(&store, 1, &revision(1));
        store.refuse(&refusal(2)).unwrap();
    }
    for name in ["key", "key.copy"] {
        std::fs::remove_file(device.path().join(name)).unwrap();
    }
    let (_state, opened) = device.open();
    assert!(opened.journal.ledger().good.is_empty());
    assert!(opened.journal.ledger().refused.is_empty());
    assert!(
        opened.warnings.iter().any(|text| text.contains("`good`")),
        "{:?}",
        opened.warnings
    );
    // And it can go on from there.
    commit(&opened.journal, 3, &revision(3));
    assert_eq!(
        opened
            .journal
            .kept(&opened.journal.ledger().good[0])
            .unwrap(),
        revision(3)
    );
}

#[test]
fn a_record_moved_to_another_name_is_not_believed() {
    let device = Device::new();
    {
        let (_state, store) = device.store();
        commit(&store, 1, &revision(1));
        store.spend_try(&trial(2)).unwrap();
    }
    {
        let db = sled::Config::new()
            .path(device.path().join("journal"))
            .segment_size(128 * 1024)
            .open()
            .unwrap();
        let records = db.open_tree("records").unwrap();
        let trial = records.get("trial").unwrap().unwrap();
        records.insert("deferred", trial).unwrap();
    }
    {
        let (_state, opened) = device.open();
        assert_eq!(opened.journal.ledger().deferred, None);
        assert!(opened.journal.ledger().trial.is_some());
        assert!(
            opened.warnings[0].contains("`deferred`"),
            "{:?}",
            opened.warnings
        );
    }
    // It was dropped, and is told once.
    device.store();
}

#[test]
fn a_journal_that_does_not_open_is_set_aside_and_two_are_kept() {
    let device = Device::new();
    for round in 1..=4 {
        {
            let (_state, opened) = device.open();
            commit(&opened.journal, round, &revision(round));
        }
        let conf = device.path().join("journal/conf");
        std::fs::File::create(&conf)
            .unwrap()
            .write_all(b"garbage, not sled's")
            .unwrap();
        let (_state, opened) = device.open();
        let damaged = opened.damaged.unwrap();
        assert!(damaged.contains("journal.damaged-"), "{damaged}");
        // What was good is known from the second copy; its contents went with the journal.
        let good = opened.journal.ledger().good;
        assert_eq!(*good[0].commit(), commit_id(round));
        assert!(opened.journal.kept(&good[0]).is_err());
    }
    let mut names: Vec<String> = std::fs::read_dir(device.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("journal.damaged"))
        .collect();
    names.sort();
    assert_eq!(names, ["journal.damaged-3", "journal.damaged-4"]);
}

#[test]
fn a_snapshot_that_a_full_disk_left_half_written_costs_nothing() {
    let device = Device::new();
    {
        let (_state, store) = device.store();
        commit(&store, 1, &revision(1));
    }
    let journal = device.path().join("journal");
    let half = journal.join("snap.00000000000FFFFF.generating");
    std::fs::File::create(&half)
        .unwrap()
        .write_all(b"half of it")
        .unwrap();
    let (_state, opened) = device.open();
    assert_eq!((opened.damaged, opened.warnings), (None, Vec::new()));
    assert_eq!(opened.journal.ledger().good.len(), 1);
    assert!(!half.exists());
}

#[test]
fn a_database_that_outgrew_its_contents_is_written_anew_and_a_swap_that_was_cut_is_ended() {
    let device = Device::new();
    let ledger = {
        let (_state, store) = device.store();
        for n in 1..=120 {
            commit(&store, n, &revision(n));
            let slim = Deployment {
                steps: Vec::new(),
                ..deployment(n)
            };
            store.append(&slim).unwrap();
        }
        store.ledger()
    };
    assert!(size(&device.path().join("journal")) < 1024 * 1024);
    let (journal, fresh, old) = (
        device.path().join("journal"),
        device.path().join("journal.new"),
        device.path().join("journal.old"),
    );
    let whole = |name: &str| {
        let (_state, opened) = device.open();
        assert_eq!(
            (opened.damaged, opened.warnings),
            (None, Vec::new()),
            "{name}"
        );
        assert_eq!(opened.journal.ledger(), ledger, "{name}");
        assert!(!fresh.exists() && !old.exists(), "{name}");
    };
    whole("nothing happened");
    // The old one is moved away, and the fresh one is complete.
    std::fs::rename(&journal, &fresh).unwrap();
    std::fs::File::create(fresh.join("complete")).unwrap();
    std::fs::create_dir(&old).unwrap();
    whole("between the two renames");
    std::fs::create_dir(&fresh).unwrap();
    whole("a fresh one that was never complete");
    std::fs::rename(&journal, &old).unwrap();
    std::fs::create_dir(&fresh).unwrap();
    whole("an old one alone, and a fresh one that is not complete");
}

#[test]
fn a_journal_that_ends_the_process_each_time_is_set_aside_after_three() {
    let device = Device::new();
    {
        let (_state, store) = device.store();
        commit(&store, 1, &revision(1));
    }
    let count = |n: u32| note_opening(device.path(), n);
    count(2);
    assert_eq!(device.open().1.damaged, None);
    assert_eq!(unfinished_opens(device.path()), 0);
    count(3);
    let (_state, opened) = device.open();
    assert!(opened.damaged.unwrap().contains("3 times"));
}

fn run(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp")
        .arg("-rT")
        .arg(from)
        .arg(to)
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn a_journal_that_was_put_back_is_put_right_from_its_second_copy_or_noticed_by_the_floor_file() {
    let device = Device::new();
    {
        let (_state, store) = device.store();
        commit(&store, 1, &revision(1));
    }
    let copy = tempfile::tempdir().unwrap();
    let journal = device.path().join("journal");
    run(&journal, copy.path());
    {
        let (_state, store) = device.store();
        commit(&store, 2, &revision(2));
        store.set_floor_file(&floor(2)).unwrap();
        store.set_floor(&floor(2)).unwrap();
        store.refuse(&refusal(3)).unwrap();
    }
    std::fs::remove_dir_all(&journal).unwrap();
    run(copy.path(), &journal);
    {
        let (_state, opened) = device.open();
        assert!(
            opened.warnings[0].contains("older than its second copy"),
            "{:?}",
            opened.warnings
        );
        let ledger = opened.journal.ledger();
        assert_eq!(*ledger.good[0].commit(), commit_id(2));
        assert_eq!(ledger.refused, [refusal(3)]);
        assert_eq!(ledger.floor, Some(floor(2)));
    }
    // It was written again, and is told once.
    assert_eq!(device.store().1.ledger().refused, [refusal(3)]);

    std::fs::remove_dir_all(&journal).unwrap();
    std::fs::remove_file(device.path().join("journal.copy")).unwrap();
    run(copy.path(), &journal);
    let (_state, opened) = device.open();
    assert!(
        opened.warnings[0].contains("older than the floor file"),
        "{:?}",
        opened.warnings
    );
    assert_eq!(opened.journal.floor_file().unwrap(), Some(floor(2)));
    assert_eq!(opened.journal.ledger().floor, None);
}

#[test]
fn the_floor_never_goes_back() {
    let device = Device::new();
    let (_state, store) = device.store();
    assert_eq!(store.floor_file().unwrap(), None);
    for write in [Store::set_floor_file, Store::set_floor] {
        write(&store, &floor(3)).unwrap();
        assert!(write(&store, &floor(2)).is_err());
        let mut other = floor(3);
        other.commit = commit_id(9);
        assert!(write(&store, &other).is_err());
        // The same commit, known to be later.
        other = floor(3);
        other.time = Timestamp(1_800_000_000);
        write(&store, &other).unwrap();
        // A reset to an older commit has a higher generation.
        other.generation = 4;
        other.commit = commit_id(1);
        write(&store, &other).unwrap();
    }
    assert_eq!(store.floor_file().unwrap(), store.ledger().floor);
}

#[test]
fn a_floor_file_with_both_slots_damaged_is_an_error_and_can_be_written_again() {
    let device = Device::new();
    {
        let (_state, store) = device.store();
        store.set_floor_file(&floor(1)).unwrap();
    }
    std::fs::File::create(device.path().join("floor"))
        .unwrap()
        .write_all(&[0; 8192])
        .unwrap();
    let (_state, opened) = device.open();
    assert_eq!(opened.warnings.len(), 1);
    assert!(opened.journal.floor_file().is_err());
    opened.journal.set_floor_file(&floor(2)).unwrap();
    assert_eq!(opened.journal.floor_file().unwrap(), Some(floor(2)));
}

#[test]
fn one_damaged_slot_is_mended_at_start_and_told() {
    let device = Device::new();
    {
        let (_state, store) = device.store();
        store.set_floor_file(&floor(1)).unwrap();
    }
    let path = device.path().join("floor");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40] ^= 1;
    std::fs::File::create(&path)
        .unwrap()
        .write_all(&bytes)
        .unwrap();
    let (state, opened) = device.open();
    assert_eq!(opened.warnings.len(), 1);
    drop((state, opened));
    device.store();
}

/// Flips and cuts the log as a bad disk or a power cut would. Whatever sled makes of it, the journal opens. What it then
/// shows is the last that was true where its second copy is there, and something that once was true where that is gone.
#[test]
fn a_damaged_log_is_never_believed_and_never_stops_the_agent() {
    let device = Device::new();
    let mut truths = Vec::new();
    {
        let (_state, store) = device.store();
        truths.push(store.ledger());
        for n in 1..12 {
            commit(&store, n, &revision(n));
            truths.push(store.ledger());
            store.spend_try(&trial(n + 1)).unwrap();
            truths.push(store.ledger());
        }
    }
    let good = std::fs::read(device.db()).unwrap();
    let pristine = tempfile::tempdir().unwrap();
    let copy = |from: &Path, to: &Path| {
        let _ = std::fs::remove_dir_all(to);
        run(from, to);
    };
    let journal = device.path().join("journal");
    copy(&journal, pristine.path());
    let second = std::fs::read(device.path().join("journal.copy")).unwrap();
    let used = good.iter().rposition(|byte| *byte != 0).unwrap();
    for round in 0..60usize {
        copy(pristine.path(), &journal);
        let mut bytes = good.clone();
        if round % 3 == 0 {
            bytes.truncate(used - round * used / 70);
        } else {
            bytes[round * used / 60] ^= 1 << (round % 8);
        }
        std::fs::File::create(device.db())
            .unwrap()
            .write_all(&bytes)
            .unwrap();
        let with_the_copy = round % 2 == 0;
        if with_the_copy {
            std::fs::write(device.path().join("journal.copy"), &second).unwrap();
        } else {
            std::fs::remove_file(device.path().join("journal.copy")).unwrap();
        }
        let (_state, opened) = device.open();
        let ledger = opened.journal.ledger();
        if with_the_copy {
            assert_eq!(Some(&ledger), truths.last(), "round {round}");
        }
        for good in &ledger.good {
            let known = truths.iter().any(|truth| truth.good.contains(good));
            assert!(known, "round {round}: {good:?} was never good");
            let n = u32::from_str_radix(good.commit().as_str(), 16).unwrap();
            if let Ok(kept) = opened.journal.kept(good) {
                assert_eq!(kept, revision(n), "round {round}");
            }
        }
        commit(&opened.journal, 99, &revision(99));
        assert_eq!(
            opened
                .journal
                .kept(&opened.journal.ledger().good[0])
                .unwrap(),
            revision(99)
        );
    }
}

/// sled stops for good at its first error; the store opens it again once there is room.
#[test]
fn a_full_disk_is_an_error_that_passes_and_what_was_there_stays() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let device = Device::new();
    let run = |program: &str, args: &[&str]| {
        let status = std::process::Command::new(program).args(args).status();
        status.is_ok_and(|status| status.success())
    };
    let at = device.path().to_str().unwrap().to_owned();
    if !run(
        "mount",
        &["-t", "tmpfs", "-o", "size=3m,mode=700", "none", &at],
    ) {
        return;
    }
    let (state, store) = device.store();
    commit(&store, 1, &revision(1));
    let fill = device.path().join("lost+found");
    let mut filler = std::fs::File::create(&fill).unwrap();
    while filler.write_all(&[1; 4096]).is_ok() {}
    let big = resolved(&[(
        "/opt/big",
        (0..300_000u32).flat_map(u32::to_le_bytes).collect(),
    )]);
    let full = store.commit(
        &commit_id(2),
        &tree_id(2),
        &big,
        Timestamp(2),
        Healthy::for_test(),
    );
    assert!(full.is_err());
    let good = store.ledger().good;
    assert_eq!(good.len(), 1);
    std::fs::remove_file(&fill).unwrap();
    drop(filler);
    let kept = store.kept(&good[0]);
    commit(&store, 3, &revision(3));
    let after = store.ledger().good;
    drop((store, state));
    let (state, store) = device.store();
    let reopened = store.ledger().good;
    drop((store, state));
    assert!(run("umount", &[&at]));
    assert_eq!(kept.unwrap(), revision(1));
    assert_eq!(after.len(), 2);
    assert_eq!(reopened, after);
}
