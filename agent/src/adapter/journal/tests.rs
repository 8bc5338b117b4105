#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod cuts;
mod damage;
mod torture_bytes;

use std::collections::BTreeMap;
use std::path::Path;

use super::opening::{note_opening, unfinished_opens};
use super::*;
use crate::adapter::state_dir::StateDir;
use crate::domain::desired::{DesiredApp, DesiredFile};
use crate::domain::history::{DeploymentResult, KEPT};
use evenkeel_schema::app::OnRemove;

fn commit_id(n: u32) -> CommitId {
    format!("{n:040x}").parse().unwrap()
}

fn tree_id(n: u32) -> TreeId {
    format!("{n:040x}").parse().unwrap()
}

fn floor(generation: u64) -> Floor {
    Floor {
        generation,
        commit: commit_id(u32::try_from(generation).unwrap()),
        time: Timestamp(1_700_000_000),
    }
}

/// A state with these files.
fn resolved(files: &[(&str, Vec<u8>)]) -> Resolved {
    let mut app = DesiredApp::default();
    let mut contents = Contents::new();
    for (path, bytes) in files {
        let content = ContentId::of(bytes);
        app.files.insert(
            path.parse().unwrap(),
            DesiredFile {
                content: content.clone(),
                size: bytes.len() as u64,
                mode: 0o644,
                owner: "root".to_owned(),
                group: "root".to_owned(),
                on_change: Vec::new(),
                on_remove: OnRemove::Delete,
                secret: false,
            },
        );
        contents.insert(content, bytes.clone());
    }
    Resolved {
        rollout: None,
        state: DesiredState {
            device: "gw-1".parse().unwrap(),
            fleet: "acme".to_owned(),
            apps: BTreeMap::from([("mqtt".parse().unwrap(), app)]),
        },
        contents,
    }
}

/// The n-th revision: one file of its own, and a long one that all share.
fn revision(n: u32) -> Resolved {
    resolved(&[
        ("/etc/own", format!("own {n}\n").into_bytes()),
        ("/etc/shared", b"shared ".repeat(2000)),
        ("/etc/empty", Vec::new()),
    ])
}

fn commit(store: &Store, n: u32, resolved: &Resolved) -> GoodRevision {
    store
        .commit(
            &commit_id(n),
            &tree_id(n),
            resolved,
            Timestamp(i64::from(n)),
            Healthy::for_test(),
        )
        .unwrap()
}

fn trial(n: u32) -> Trial {
    Trial {
        commit: commit_id(n),
        content: ContentId::of(&n.to_be_bytes()),
        tries: 1,
        since: Timestamp(5),
        paths: ["/etc/own".parse().unwrap()].into(),
        stage: crate::domain::history::Stage::Underway,
        baseline: None,
    }
}

fn refusal(n: u32) -> Refusal {
    Refusal {
        commit: commit_id(n),
        content: ContentId::of(&n.to_be_bytes()),
        why: "the broker ended".to_owned(),
        at: Timestamp(i64::from(n)),
    }
}

fn deployment(n: u32) -> Deployment {
    Deployment {
        commit: commit_id(n),
        content: None,
        started: Timestamp(1),
        ended: Timestamp(2),
        result: DeploymentResult::Good,
        why: "new commit".to_owned(),
        steps: vec!["write /etc/own".to_owned(); 300],
    }
}

/// A state directory of a test, opened anew at will.
struct Device {
    dir: tempfile::TempDir,
}

impl Device {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn open(&self) -> (StateDir, Opened) {
        let state = StateDir::open(self.path()).unwrap();
        let opened = Store::open(&state).unwrap();
        (state, opened)
    }

    /// Opens and expects nothing to tell.
    fn store(&self) -> (StateDir, Store) {
        let (state, opened) = self.open();
        assert_eq!(opened.damaged, None);
        assert_eq!(opened.warnings, Vec::<String>::new());
        (state, opened.journal)
    }

    fn db(&self) -> PathBuf {
        self.path().join("journal/db")
    }
}

fn size(dir: &Path) -> u64 {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                size(&entry.path())
            } else {
                metadata.len()
            }
        })
        .sum()
}

fn chunk_count(store: &Store) -> usize {
    store.with(|vault, _, _| Ok(vault.chunk_count())).unwrap()
}

#[test]
fn everything_is_remembered_over_a_restart() {
    let device = Device::new();
    let one = revision(1);
    let report = Report {
        device: "gw-1".to_owned(),
        drift: vec!["/etc/own edited by hand".to_owned(); 100],
        ..Report::default()
    };
    let before = {
        let (_state, store) = device.store();
        commit(&store, 1, &one);
        store.spend_try(&trial(2)).unwrap();
        store.set_floor_file(&floor(1)).unwrap();
        store.set_floor(&floor(1)).unwrap();
        store.set_paused(Paused::Yes).unwrap();
        store
            .set_pin(Some(&Pin {
                commit: commit_id(1),
                at: Timestamp(3),
            }))
            .unwrap();
        store.append(&deployment(1)).unwrap();
        store.append(&deployment(2)).unwrap();
        store.save_report(&report).unwrap();
        store.ledger()
    };
    let (_state, store) = device.store();
    assert_eq!(store.ledger(), before);
    assert_eq!(before.report, Some(report));
    assert!(before.paused);
    let good = before.last_good().unwrap();
    assert_eq!(*good.commit(), commit_id(1));
    assert_eq!(store.kept(good).unwrap(), one);
    assert_eq!(store.floor_file().unwrap(), Some(floor(1)));
    let history = store.history().unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!(history[0].commit, commit_id(2));
    assert_eq!(history[0].steps.len(), 257);
}

#[test]
fn a_commit_clears_its_trial_its_deferral_and_its_refusal() {
    let device = Device::new();
    let (_state, store) = device.store();
    let one = revision(1);
    let mut own = refusal(7);
    own.content = one.state.content_id();
    store.refuse(&refusal(3)).unwrap();
    store.refuse(&own).unwrap();
    store
        .defer(Some(&Deferral {
            commit: commit_id(1),
            why: "registry".to_owned(),
            times: 1,
            unstarted: 0,
            cut_off: None,
            until: Timestamp(9),
        }))
        .unwrap();
    store.spend_try(&trial(1)).unwrap();
    assert_eq!(store.ledger().refused.len(), 2);
    commit(&store, 1, &one);
    let ledger = store.ledger();
    assert_eq!(ledger.trial, None);
    assert_eq!(ledger.deferred, None);
    assert_eq!(ledger.refused, vec![refusal(3)]);
    store.forgive(&commit_id(3)).unwrap();
    assert!(store.ledger().refused.is_empty());
}

#[test]
fn the_last_three_distinct_contents_stay_complete_and_nothing_else() {
    let device = Device::new();
    let (_state, store) = device.store();
    for n in 1..=6 {
        commit(&store, n, &revision(n));
    }
    let full = chunk_count(&store);
    let good = store.ledger().good;
    assert_eq!(good.len(), KEPT);
    for (good, n) in good.iter().zip([6, 5, 4]) {
        assert_eq!(*good.commit(), commit_id(n));
        assert_eq!(store.kept(good).unwrap(), revision(n));
    }
    assert!(store.kept_state(&revision(3).state.content_id()).is_err());
    for n in 7..=60 {
        commit(&store, n, &revision(n));
    }
    assert_eq!(chunk_count(&store), full);
    // The last revision without any file: its predecessors still need the shared one.
    commit(&store, 61, &resolved(&[]));
    let good = store.ledger().good;
    assert_eq!(store.kept(&good[1]).unwrap(), revision(60));
}

#[test]
fn the_same_content_again_takes_no_place() {
    let device = Device::new();
    let (_state, store) = device.store();
    commit(&store, 1, &revision(1));
    commit(&store, 2, &revision(2));
    commit(&store, 3, &revision(3));
    commit(&store, 4, &revision(3));
    let commits = |store: &Store| -> Vec<CommitId> {
        let good = store.ledger().good;
        good.iter().map(|good| good.commit().clone()).collect()
    };
    assert_eq!(commits(&store), [4, 2, 1].map(commit_id));
    // Back to an older one by a new commit: it comes to the front.
    commit(&store, 5, &revision(1));
    assert_eq!(commits(&store), [5, 4, 2].map(commit_id));
}

#[test]
fn what_a_person_holds_the_device_at_is_kept_beyond_the_limit() {
    let device = Device::new();
    let (_state, store) = device.store();
    commit(&store, 1, &revision(1));
    let pin = Pin {
        commit: commit_id(1),
        at: Timestamp(3),
    };
    store.set_pin(Some(&pin)).unwrap();
    for n in 2..=8 {
        commit(&store, n, &revision(n));
    }
    let ledger = store.ledger();
    let pinned = ledger.good.iter().find(|good| *good.commit() == pin.commit);
    assert_eq!(store.kept(pinned.unwrap()).unwrap(), revision(1));
    store.set_pin(None).unwrap();
    commit(&store, 9, &revision(9));
    assert_eq!(store.ledger().good.len(), KEPT);
}

#[test]
fn a_revision_without_one_of_its_contents_never_becomes_good() {
    let device = Device::new();
    let (_state, store) = device.store();
    let mut one = revision(1);
    one.contents.pop_first();
    let result = store.commit(
        &commit_id(1),
        &tree_id(1),
        &one,
        Timestamp(1),
        Healthy::for_test(),
    );
    assert!(result.unwrap_err().to_string().contains("/etc/"));
    assert!(store.ledger().good.is_empty());
}

#[test]
fn refusals_and_history_are_bounded() {
    let device = Device::new();
    {
        let (_state, store) = device.store();
        for n in 0..80 {
            store.refuse(&refusal(n)).unwrap();
        }
        for n in 0..230 {
            store.append(&deployment(n)).unwrap();
        }
    }
    let (_state, store) = device.store();
    let refused = store.ledger().refused;
    assert_eq!(refused.len(), 64);
    assert_eq!(refused[0], refusal(79));
    let history = store.history().unwrap();
    assert_eq!(history.len(), 200);
    assert_eq!(history[0].commit, commit_id(229));
    assert_eq!(history[199].commit, commit_id(30));
}

#[test]
fn an_idle_poll_writes_nothing() {
    let device = Device::new();
    let (_state, store) = device.store();
    let mut report = Report {
        device: "gw-1".to_owned(),
        ..Report::default()
    };
    store.save_report(&report).unwrap();
    store.set_floor_file(&floor(1)).unwrap();
    store.set_floor(&floor(1)).unwrap();
    let look = || {
        let journal = std::fs::read(device.db()).unwrap();
        let floor = std::fs::metadata(device.path().join("floor")).unwrap();
        (journal, floor.modified().unwrap(), size(device.path()))
    };
    // The floor file notes the journal's last change once more; from then on nothing moves.
    store.set_floor_file(&floor(1)).unwrap();
    let before = look();
    for n in 0..50 {
        report.poll.last = Some(Timestamp(n));
        report.poll.next = Some(Timestamp(n + 60));
        store.save_report(&report).unwrap();
        store.set_inventory(&Inventory::default()).unwrap();
        store.set_paused(Paused::No).unwrap();
        store.defer(None).unwrap();
        store.set_floor(&floor(1)).unwrap();
        store.set_floor_file(&floor(1)).unwrap();
    }
    assert_eq!(
        store.ledger().report.unwrap().poll.last,
        Some(Timestamp(49))
    );
    assert!(look() == before, "an idle poll wrote to the disk");
    report.poll.error = Some("no route".to_owned());
    store.save_report(&report).unwrap();
    assert!(look() != before);
}

#[test]
fn two_thousand_changes_stay_small() {
    let device = Device::new();
    let (_state, store) = device.store();
    for n in 0..2000 {
        if n % 4 == 0 {
            commit(&store, n, &revision(n));
        } else {
            store.spend_try(&trial(n)).unwrap();
        }
    }
    drop(store);
    let bytes = size(&device.path().join("journal"));
    assert!(bytes < 8 * 1024 * 1024, "{bytes} bytes");
    let blobs = device.path().join("journal/blobs");
    assert_eq!(std::fs::read_dir(blobs).unwrap().count(), 0);
}

#[test]
fn a_big_content_goes_in_and_out_and_never_into_a_file_of_sleds_own() {
    let device = Device::new();
    let bytes: Vec<u8> = (0..3_000_000u32)
        .flat_map(u32::to_le_bytes)
        .take(5_000_000)
        .collect();
    let big = resolved(&[("/opt/model.bin", bytes)]);
    {
        let (_state, store) = device.store();
        commit(&store, 1, &big);
        let blobs = device.path().join("journal/blobs");
        assert_eq!(std::fs::read_dir(blobs).unwrap().count(), 0);
    }
    let (_state, store) = device.store();
    let good = store.ledger().good;
    assert_eq!(store.kept(&good[0]).unwrap(), big);
}
