//! Each byte of a small state directory turned over, in turn.
//!
//! Limits: the files of the store alone, with no git store beside them; whole devices are tried by sample
//! (`tests/suites/torture/corrupt.rs`).

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::domain::history::Ledger;
use crate::tally::{Ended, Scale, Tally, only_seed};

/// What one case writes down: each file by its path in the state directory.
type Files = BTreeMap<PathBuf, Vec<u8>>;

fn files(top: &Path, dir: &Path, all: &mut Files) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(top, &path, all);
        } else {
            let name = path.strip_prefix(top).unwrap().to_owned();
            all.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

/// In memory where there is room: whether thousands of copies reach a disk is not what is asked here.
fn bench() -> Device {
    let memory = Path::new("/dev/shm");
    Device {
        dir: if memory.is_dir() {
            tempfile::tempdir_in(memory).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        },
    }
}

/// A device with a past: good revisions, a refusal, a try that was begun, a floor.
fn scene() -> (Files, Ledger) {
    let device = bench();
    let truth = {
        let (_state, store) = device.store();
        for n in 1..=3 {
            store.set_floor_file(&floor(u64::from(n))).unwrap();
            store.set_floor(&floor(u64::from(n))).unwrap();
            commit(&store, n, &revision(n));
            store.append(&deployment(n)).unwrap();
        }
        store.refuse(&refusal(4)).unwrap();
        store.spend_try(&trial(5)).unwrap();
        store.ledger()
    };
    let mut all = Files::new();
    files(device.path(), device.path(), &mut all);
    // No reader looks at what it holds.
    all.remove(Path::new("lock"));
    (all, truth)
}

/// The device opens, remembers everything, and opens again.
fn check(device: &Device, truth: &Ledger) -> Result<Ended, String> {
    for opening in ["first", "second"] {
        let state = StateDir::open(device.path()).map_err(|error| format!("{opening}: {error}"))?;
        let opened = Store::open(&state).map_err(|error| format!("{opening}: {error}"))?;
        let ledger = opened.journal.ledger();
        if ledger != *truth {
            return Err(format!(
                "{opening}: {ledger:#?}\ninstead of {truth:#?}\n{:?} {:?}",
                opened.damaged, opened.warnings
            ));
        }
        match opened.journal.floor_file() {
            Ok(Some(found)) if found == floor(3) => {}
            found => return Err(format!("{opening}: the floor file says {found:?}")),
        }
        for good in &ledger.good {
            let n = u32::from_str_radix(good.commit().as_str(), 16).unwrap();
            // What is not whole is read from git; what is read is right.
            if opened
                .journal
                .kept(good)
                .is_ok_and(|kept| kept != revision(n))
            {
                return Err(format!("{opening}: revision {n} has another content"));
            }
        }
    }
    Ok(Ended::New)
}

/// Turns over each byte of those cases, one a device.
fn run_all(pristine: &Files, truth: &Ledger, cases: &[(&Path, usize)], tally: &mut Tally) {
    let (next, ended) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((name, at)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let device = bench();
                    for (path, content) in pristine {
                        let path = device.path().join(path);
                        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                        std::fs::write(path, content).unwrap();
                    }
                    let mut content = pristine[*name].clone();
                    content[*at] ^= 1 << (at % 8);
                    std::fs::write(device.path().join(name), content).unwrap();
                    let end = check(&device, truth)
                        .map_err(|why| format!("byte {at} of {}: {why}", name.display()));
                    ended.lock().unwrap().push(end);
                }
            });
        }
    });
    for end in ended.into_inner().unwrap() {
        tally.count(end);
    }
}

/// Every so many bytes of all files, from a place that a seed draws.
fn cases(pristine: &Files, stride: usize) -> Vec<(&Path, usize)> {
    let first = fastrand::Rng::with_seed(only_seed().unwrap_or(1)).usize(..stride);
    pristine
        .iter()
        .flat_map(|(name, content)| (0..content.len()).map(move |at| (name.as_path(), at)))
        .skip(first)
        .step_by(stride)
        .collect()
}

#[test]
fn torture_each_byte_of_a_small_journal_may_turn_over_and_nothing_is_forgotten() {
    let (pristine, truth) = scene();
    let bytes: usize = pristine.values().map(Vec::len).sum();
    let cases = cases(&pristine, Scale::asked().of(bytes / 120, 1));
    let mut tally = Tally::new("one flipped byte of a journal");
    run_all(&pristine, &truth, &cases, &mut tally);
    tally.close();
}

#[test]
fn torture_planted_a_journal_without_its_second_copy_is_seen_to_forget() {
    let (mut pristine, truth) = scene();
    pristine.remove(Path::new("journal.copy"));
    let cases = cases(&pristine, 700);
    let mut tally = Tally::new("one flipped byte of a journal");
    run_all(&pristine, &truth, &cases, &mut tally);
    tally.close_planted("no second copy");
}
