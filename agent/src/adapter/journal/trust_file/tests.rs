#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::Write as _;

use super::*;
use crate::adapter::journal::{Opened, Store};
use crate::adapter::state_dir::StateDir;
use crate::domain::revision::Timestamp;
use crate::port::journal::Journal as _;

fn set(serial: u64) -> AdoptedSet {
    AdoptedSet {
        serial,
        content: format!("# Fleet: acme\n# Serial: {serial}\na \"quoted\" line\n"),
        by: Some("a".repeat(40).parse().unwrap()),
        at: Timestamp(1_700_000_000),
    }
}

/// A state directory, opened anew at will.
struct Device(tempfile::TempDir);

impl Device {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> (StateDir, Opened) {
        let state = StateDir::open(self.0.path()).unwrap();
        // sled gives its lock back a moment after it was dropped, from a thread of its own.
        for _ in 0..500 {
            if let Ok(opened) = Store::open(&state) {
                return (state, opened);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let opened = Store::open(&state).unwrap();
        (state, opened)
    }

    /// Opens, and gives the sets, why they are lost, and what is told.
    fn look(&self) -> (Vec<AdoptedSet>, Option<String>, Vec<String>) {
        let (_state, opened) = self.open();
        let ledger = opened.journal.ledger();
        (ledger.adopted, ledger.trust_lost, opened.warnings)
    }

    fn adopt(&self, sets: &[AdoptedSet]) {
        let (_state, opened) = self.open();
        opened.journal.adopt(sets).unwrap();
    }

    fn set_floor(&self) {
        let (_state, opened) = self.open();
        let floor = crate::domain::history::Floor {
            generation: 1,
            commit: "a".repeat(40).parse().unwrap(),
            time: Timestamp(1_700_000_000),
        };
        opened.journal.set_floor_file(&floor).unwrap();
        opened.journal.set_floor(&floor).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.0.path().join(NAME)
    }

    fn put(&self, bytes: &[u8]) {
        put(&self.file(), bytes);
    }

    fn lose_the_journal(&self) {
        std::fs::remove_dir_all(self.0.path().join("journal")).unwrap();
    }
}

fn put(path: &Path, bytes: &[u8]) {
    std::fs::File::create(path)
        .unwrap()
        .write_all(bytes)
        .unwrap();
}

/// Whole, and nothing to tell.
fn whole(sets: &[AdoptedSet]) -> (Vec<AdoptedSet>, Option<String>, Vec<String>) {
    (sets.to_vec(), None, Vec::new())
}

#[track_caller]
fn mended(device: &Device, sets: &[AdoptedSet], told: &str) {
    let (found, lost, warnings) = device.look();
    assert_eq!(found, sets);
    assert_eq!(lost, None);
    assert!(
        warnings.iter().any(|text| text.contains(told)),
        "{warnings:?}"
    );
    assert_eq!(device.look(), whole(sets), "mended");
}

#[test]
fn a_device_without_a_trust_set_has_a_file_that_says_so() {
    let device = Device::new();
    assert_eq!(device.look(), whole(&[]));
    // Not before its first floor: until then something else may still say that it has run before.
    assert!(!device.file().exists());
    device.set_floor();
    let first = std::fs::read(device.file()).unwrap();
    assert_eq!(device.look(), whole(&[]));
    assert_eq!(std::fs::read(device.file()).unwrap(), first);
    // A journal from before there was such a file goes on.
    std::fs::remove_file(device.file()).unwrap();
    assert_eq!(device.look(), whole(&[]));
    assert_eq!(std::fs::read(device.file()).unwrap(), first);
}

#[test]
fn both_copies_taken_away_are_lost_until_a_person_decides() {
    let device = Device::new();
    device.adopt(&[set(3)]);
    device.set_floor();
    device.lose_the_journal();
    std::fs::remove_file(device.file()).unwrap();
    for _ in 0..3 {
        let (sets, lost, _) = device.look();
        assert_eq!(sets, []);
        assert!(lost.is_some());
    }
    device.adopt(&[]);
    assert_eq!(device.look(), whole(&[]));
}

#[test]
fn what_was_adopted_outlives_a_restart_and_never_goes_back() {
    let device = Device::new();
    device.adopt(&[set(3)]);
    assert_eq!(device.look(), whole(&[set(3)]));
    device.adopt(&[set(3), set(4)]);
    assert_eq!(device.look(), whole(&[set(3), set(4)]));
    let (_state, opened) = device.open();
    let error = opened.journal.adopt(&[set(3)]).unwrap_err();
    assert!(error.to_string().contains("it would go back"), "{error}");
    assert!(opened.journal.adopt(&[]).is_err());
    assert_eq!(opened.journal.ledger().adopted, [set(3), set(4)]);
}

#[test]
fn a_lost_journal_never_takes_the_trust_set_back() {
    let device = Device::new();
    device.adopt(&[set(3), set(4)]);
    device.lose_the_journal();
    mended(
        &device,
        &[set(3), set(4)],
        "the journal's copy of the trust sets is lost",
    );

    put(
        &device.0.path().join("journal/conf"),
        b"garbage, not sled's",
    );
    let (_state, opened) = device.open();
    assert!(opened.damaged.is_some());
    assert_eq!(opened.journal.ledger().adopted, [set(3), set(4)]);
}

#[test]
fn a_lost_damaged_or_older_file_is_mended_from_the_journal() {
    let device = Device::new();
    device.adopt(&[set(3)]);
    let older = std::fs::read(device.file()).unwrap();
    device.adopt(&[set(3), set(4)]);
    let sets = [set(3), set(4)];
    std::fs::remove_file(device.file()).unwrap();
    mended(&device, &sets, "it is not there; written again");
    device.put(b"");
    mended(&device, &sets, "it is damaged");
    device.put(&older);
    mended(
        &device,
        &sets,
        "older than the journal (serial 3 where there was 4)",
    );
}

#[test]
fn a_journal_that_is_older_than_the_file_is_brought_up() {
    let device = Device::new();
    device.adopt(&[set(3)]);
    // As a power cut between the two copies leaves it.
    let (state, opened) = device.open();
    TrustFile::new(state.path(), state.key())
        .write(&[set(3), set(4)])
        .unwrap();
    drop(opened);
    drop(state);
    mended(
        &device,
        &[set(3), set(4)],
        "serial 3 where the trust file has 4",
    );
}

#[test]
fn any_flipped_byte_leaves_the_sets_and_is_noticed() {
    let device = Device::new();
    device.adopt(&[set(3)]);
    let (state, _opened) = device.open();
    let file = TrustFile::new(state.path(), state.key());
    let good = std::fs::read(device.file()).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        device.put(&bad);
        assert_eq!(
            file.read().unwrap(),
            Reading::Half(vec![set(3)]),
            "byte {at}"
        );
    }
    for length in 0..good.len() {
        device.put(&good[..length]);
        match file.read().unwrap() {
            Reading::Half(sets) => assert!(sets == [set(3)] && length >= good.len() / 2),
            Reading::Damaged => assert!(length < good.len() / 2),
            other => panic!("{length}: {other:?}"),
        }
    }
}

#[test]
fn where_both_copies_are_lost_the_device_knows_it_until_a_person_decides() {
    let device = Device::new();
    device.adopt(&[set(3)]);
    device.lose_the_journal();
    device.put(b"nonsense");
    for _ in 0..2 {
        let (sets, lost, _) = device.look();
        assert_eq!(sets, []);
        assert!(lost.unwrap().contains("damaged"));
    }
    device.adopt(&[]);
    assert_eq!(device.look(), whole(&[]));
    device.adopt(&[set(3)]);
    assert_eq!(device.look(), whole(&[set(3)]));
}

#[test]
fn another_devices_sets_are_not_believed() {
    let device = Device::new();
    device.adopt(&[set(3)]);
    let other = Device::new();
    other.adopt(&[set(9)]);
    std::fs::copy(other.file(), device.file()).unwrap();
    mended(&device, &[set(3)], "written under another key");

    for name in ["key", "key.copy"] {
        put(&device.0.path().join(name), &[7; 32]);
    }
    let (sets, lost, _) = device.look();
    assert_eq!(sets, []);
    assert!(lost.unwrap().contains("the journal's copy is damaged, too"));
}

#[test]
fn nothing_is_written_where_nothing_changes() {
    let device = Device::new();
    device.adopt(&[set(3)]);
    let written = || {
        std::fs::metadata(device.file())
            .unwrap()
            .modified()
            .unwrap()
    };
    let before = written();
    device.adopt(&[set(3)]);
    assert_eq!(written(), before);
}
