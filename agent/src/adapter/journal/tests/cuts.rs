//! The process killed, and the power cut, while the journal is written.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// How the child is told where to write.
const STATE: &str = "EVENKEEL_TEST_STATE";
const ACKED: &str = "EVENKEEL_TEST_ACKED";

/// Seldom: on ext4 one file's fsync carries the others' metadata with it, and would hide a sync that the journal lacks.
const FLOOR_EVERY: u32 = 30;

/// Not a test of its own: the process that gets killed. Writes the number of each change that was acknowledged.
#[test]
#[ignore = "started by the tests below"]
fn child_writes_until_it_is_killed() {
    let (Ok(dir), Ok(acked)) = (std::env::var(STATE), std::env::var(ACKED)) else {
        return;
    };
    let state = StateDir::open(Path::new(&dir)).unwrap();
    let store = Store::open(&state).unwrap().journal;
    let ledger = store.ledger();
    // Killed between a commit and its floor: both are done again.
    let good = ledger
        .good
        .first()
        .map_or(1, |good| u32::try_from(good.at().0).unwrap());
    let first = ledger.trial.map_or(good, |trial| trial.tries + 1);
    let mut acked = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(acked)
        .unwrap();
    for n in first.. {
        if n % 3 == 0 {
            commit(&store, n, &revision(n));
        }
        if n % FLOOR_EVERY == 0 {
            store.set_floor_file(&floor(u64::from(n))).unwrap();
            store.set_floor(&floor(u64::from(n))).unwrap();
        }
        let mut next = trial(n);
        next.tries = n;
        store.spend_try(&next).unwrap();
        writeln!(acked, "{n}").unwrap();
    }
}

fn start(state: &Path, acked: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture"])
        .arg("adapter::journal::tests::cuts::child_writes_until_it_is_killed")
        .env(STATE, state)
        .env(ACKED, acked)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn last_acked(path: &Path) -> u32 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().last().map_or(0, |line| line.parse().unwrap())
}

/// Waits for some more acknowledged changes.
fn wait(acked: &Path, more: u32) {
    let goal = last_acked(acked) + more;
    let begun = Instant::now();
    while last_acked(acked) < goal {
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "the child writes nothing"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Everything that was acknowledged is there: at least up to `acked`, and complete.
fn check(path: &Path, acked: u32) -> Result<(), String> {
    let state = StateDir::open(path).map_err(|error| error.to_string())?;
    let opened = Store::open(&state).map_err(|error| chain(&error))?;
    if opened.damaged.is_some() || !opened.warnings.is_empty() {
        return Err(format!("{:?} {:?}", opened.damaged, opened.warnings));
    }
    let ledger = opened.journal.ledger();
    let newest = ledger.good.first().map_or(0, |good| good.at().0);
    if newest < i64::from(acked / 3 * 3) {
        return Err(format!(
            "{acked} was acknowledged, and only {newest} is good"
        ));
    }
    let tries = ledger.trial.as_ref().map_or(0, |trial| trial.tries);
    // A commit ends the trial, so right after one there is none.
    if ledger.trial.is_some() && tries < acked {
        return Err(format!(
            "{acked} was acknowledged, and only {tries} is there"
        ));
    }
    for good in &ledger.good {
        let n = u32::try_from(good.at().0).map_err(|error| error.to_string())?;
        let kept = opened.journal.kept(good).map_err(|error| chain(&error))?;
        if kept != revision(n) {
            return Err(format!("revision {n} changed"));
        }
    }
    let floor = opened.journal.floor_file().map_err(|error| chain(&error))?;
    let generation = floor.map_or(0, |floor| floor.generation);
    if generation < u64::from(acked / FLOOR_EVERY * FLOOR_EVERY) {
        return Err(format!("the floor went back to {generation} from {acked}"));
    }
    Ok(())
}

#[test]
fn a_kill_at_any_moment_loses_nothing_that_was_acknowledged() {
    let device = Device::new();
    let acked = device.dir.path().with_extension("acked");
    for round in 0..10 {
        let mut child = start(device.path(), &acked);
        wait(&acked, 7);
        std::thread::sleep(Duration::from_micros(700 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        check(device.path(), last_acked(&acked)).unwrap();
    }
    std::fs::remove_file(acked).unwrap();
}

/// Stops every thread of the child, or lets them go on. A copy of a disk takes its time: with writers going on it would
/// show a disk that never was.
fn signal(child: &Child, signal: rustix::process::Signal, state: Option<&str>) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
    let Some(state) = state else { return };
    let stopped = || {
        std::fs::read_dir(format!("/proc/{}/task", child.id()))
            .unwrap()
            .all(|task| {
                let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
                stat.rsplit_once(") ")
                    .is_some_and(|(_, rest)| rest.starts_with(state))
            })
    };
    while !stopped() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The disk is an image on a loop device. Copied without any sync, it holds what a power cut would have left.
#[test]
fn a_power_cut_at_any_moment_loses_nothing_that_was_acknowledged() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let run = |program: &str, args: &[&std::ffi::OsStr]| {
        let output = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .output();
        output.is_ok_and(|output| output.status.success())
    };
    let top = tempfile::tempdir().unwrap();
    let [image, cut, disk, after] =
        ["image", "cut", "disk", "after"].map(|name| top.path().join(name));
    let acked = top.path().join("acked");
    std::fs::create_dir(&disk).unwrap();
    std::fs::create_dir(&after).unwrap();
    std::fs::File::create(&image)
        .unwrap()
        .set_len(48 << 20)
        .unwrap();
    let made = run("mkfs.ext4", &["-qF".as_ref(), image.as_ref()])
        && run(
            "mount",
            &[
                "-o".as_ref(),
                "loop".as_ref(),
                image.as_ref(),
                disk.as_ref(),
            ],
        );
    if !made {
        return;
    }
    let mut child = start(&disk.join("state"), &acked);
    let mut results = Vec::new();
    for _ in 0..6 {
        wait(&acked, 9);
        signal(&child, rustix::process::Signal::STOP, Some("T"));
        let promised = last_acked(&acked);
        let _ = std::fs::remove_file(&cut);
        let copied = std::fs::copy(&image, &cut);
        signal(&child, rustix::process::Signal::CONT, None);
        results.push(if copied.is_err() {
            Err("the image cannot be copied".to_owned())
        } else if run(
            "mount",
            &["-o".as_ref(), "loop".as_ref(), cut.as_ref(), after.as_ref()],
        ) {
            let result = check(&after.join("state"), promised);
            run("umount", &[after.as_ref()]);
            result
        } else {
            Err("the cut image cannot be mounted".to_owned())
        });
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(run("umount", &[disk.as_ref()]));
    assert_eq!(results, vec![Ok(()); 6]);
}
