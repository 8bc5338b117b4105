//! A disk that is full, out of inodes, read-only or failing, at each call that writes; and what a device weighs.
//!
//! Errors of a single call are injected by strace into the real agent (`when=K` counts for each thread alone). Full, small
//! and read-only disks are real: tmpfs and ext4 on a loop device. What a power cut leaves is another suite's.

mod quota;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use evenkeel_tests::device::binary;
use evenkeel_tests::process::{Output, run};
use evenkeel_tests::tally::{Ended, Scale, Tally};
use evenkeel_tests::{Device, wait_for};

use crate::fleet::{QUICK, World};

const PATIENCE: Duration = Duration::from_secs(120);

/// A device at a first good revision, with a second one waiting for it; and how both began.
struct Bench {
    world: World,
}

fn release(world: &World, n: usize) -> String {
    world.app(
        "one",
        format!(
            "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"round {n}\\n\"\n\
             [[files]]\npath = \"/etc/sub/two.conf\"\ncontent = {:?}\n{QUICK}",
            format!("{n} ").repeat(3000)
        ),
    );
    world.repo.release(&format!("Round {n}"))
}

impl Bench {
    fn new(name: &str, rounds: usize) -> Self {
        let world = World::of_files(name);
        world.apps(&["one"]);
        for n in 1..=rounds {
            release(&world, n);
            world.device.sync().expect_code(0);
        }
        let bench = Self { world };
        copy(&bench.device().state_dir(), &bench.kept("state"));
        copy(&bench.device().root(), &bench.kept("root"));
        release(&bench.world, rounds + 1);
        bench
    }

    fn device(&self) -> &Device {
        &self.world.device
    }

    fn kept(&self, what: &str) -> PathBuf {
        self.device().scratch().join("kept").join(what)
    }

    /// As it was before the second revision.
    fn reset(&self) {
        for (what, to) in [
            ("state", self.device().state_dir()),
            ("root", self.device().root()),
        ] {
            // What it was mounted on stays.
            clear(&to);
            copy(&self.kept(what), &to);
        }
    }

    /// One pass under strace with these arguments.
    fn traced(&self, arguments: &[String]) -> (Output, String) {
        let trace = self.device().scratch().join("trace");
        let plain = self.device().command(&["sync"]);
        let mut command = Command::new("strace");
        command
            .args(["-f", "-qq", "-o"])
            .arg(&trace)
            .args(arguments)
            .arg(plain.get_program())
            .args(plain.get_args())
            .env_remove("NOTIFY_SOCKET")
            .env_remove("DOCKER_HOST");
        let output = run(&mut command, PATIENCE);
        (output, std::fs::read_to_string(trace).unwrap_or_default())
    }

    /// The numbers of those calls that write to the device's own folders, and to nothing else of any thread.
    fn calls(&self, calls: &str) -> Vec<usize> {
        self.reset();
        let (_, trace) = self.traced(&["-y".to_owned(), "-e".to_owned(), format!("trace={calls}")]);
        let ours = self.device().scratch().display().to_string();
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let (mut good, mut other) = (BTreeSet::new(), BTreeSet::new());
        for line in trace.lines() {
            let Some((pid, call)) = line.split_once(' ') else {
                continue;
            };
            if !call.contains('(') {
                continue;
            }
            let number = seen.entry(pid).or_default();
            *number += 1;
            let opens_only = call.trim_start().starts_with("openat") && !call.contains("O_CREAT");
            if opens_only {
                continue;
            }
            if call.contains(&ours) {
                good.insert(*number);
            } else {
                other.insert(*number);
            }
        }
        good.difference(&other).copied().collect()
    }

    /// Whether the device is whole, and at which of the two it is.
    fn at(&self, new: usize) -> Result<Ended, String> {
        let text = self.device().read("/etc/one.conf").unwrap_or_default();
        if text == format!("round {new}\n") {
            Ok(Ended::New)
        } else if text == format!("round {}\n", new - 1) {
            Ok(Ended::LastGood)
        } else {
            Err(format!("/etc/one.conf holds {text:?}"))
        }
    }

    /// After the fault is over: the device comes to the new revision without a hand, and nothing is lost or left.
    fn recovers(&self, new: usize) -> Result<(), String> {
        let mut last = String::new();
        for _ in 0..3 {
            let output = self.device().sync();
            last = output.text();
            if output.code == Some(0) && self.at(new)? == Ended::New {
                last.clear();
                break;
            }
        }
        if !last.is_empty() {
            return Err(format!("it does not recover: {last}"));
        }
        let idle = self.device().sync();
        if idle.code != Some(0) || !idle.stdout.contains("nothing to do") {
            return Err(format!(
                "a further pass has something to do: {}",
                idle.text()
            ));
        }
        let history = self.device().json(&["history", "--json"]);
        let count = history.as_array().map_or(0, Vec::len);
        if count < new {
            return Err(format!("only {count} of {new} deployments are remembered"));
        }
        match left_over(self.device().scratch()) {
            Some(path) => Err(format!("{} is left", path.display())),
            None => Ok(()),
        }
    }
}

/// The end of one pass that met a fault.
fn ended(bench: &Bench, output: &Output, new: usize) -> Result<Ended, String> {
    match output.code {
        Some(0 | 1 | 3 | 4) => bench.at(new),
        code => Err(format!("it ended with {code:?}: {}", output.text())),
    }
}

/// A temporary file, a lock file, a folder of a swap, or a journal that was set aside.
fn left_over(dir: &Path) -> Option<PathBuf> {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if path.ends_with("kept") || path.ends_with("journal.copy") {
            continue;
        }
        let is_ours = [".tmp", ".evenkeel", ".lock", ".new", ".old", ".generating"]
            .iter()
            .any(|end| name.ends_with(end))
            || [".tmp", "tmp_", "journal.", ".new"]
                .iter()
                .any(|begin| name.starts_with(begin));
        if is_ours {
            return Some(path);
        }
        if path.is_dir()
            && !path.is_symlink()
            && let Some(found) = left_over(&path)
        {
            return Some(found);
        }
    }
    None
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    run(
        // Holes stay no holes: blocks that are held back are there.
        Command::new("cp")
            .args(["-aT", "--sparse=never"])
            .arg(from)
            .arg(to),
        PATIENCE,
    )
    .expect_code(0);
}

fn clear(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }
}

/// Calls, and what they are answered with.
const FAULTS: [(&str, &str); 12] = [
    ("write,pwrite64", "ENOSPC"),
    ("write,pwrite64", "EDQUOT"),
    ("write,pwrite64", "EIO"),
    ("fsync,fdatasync", "EIO"),
    ("fsync,fdatasync", "ENOSPC"),
    ("sync_file_range", "EIO"),
    ("openat", "ENOSPC"),
    ("openat", "EROFS"),
    ("rename,renameat,renameat2", "EIO"),
    ("mkdir,mkdirat", "ENOSPC"),
    ("ftruncate,fallocate", "EIO"),
    ("unlink,unlinkat", "EROFS"),
];

#[test]
fn an_error_of_the_disk_at_any_call_ends_at_a_good_revision_and_is_got_over() {
    let bench = Bench::new("disk-errors", 1);
    let mut tally = Tally::new("disk: an error at a call that writes");
    for (at, (calls, error)) in FAULTS.iter().enumerate() {
        let all = bench.calls(calls);
        // A few of each kind, spread over the pass, others for each kind of error.
        let few = Scale::asked().of(1, all.len());
        let step = (all.len() / few.max(1)).max(1);
        for number in all.iter().skip(at % step).step_by(step).take(few.max(1)) {
            bench.reset();
            let (output, trace) = bench.traced(&[
                "-e".to_owned(),
                format!("trace={calls}"),
                "-e".to_owned(),
                format!("inject={calls}:error={error}:when={number}"),
            ]);
            if !trace.contains("INJECTED") {
                continue;
            }
            let end = ended(&bench, &output, 2);
            let done = end.and_then(|end| bench.recovers(2).map(|()| end));
            tally.count(
                done.map_err(|why| format!("{calls} number {number} answered {error}: {why}")),
            );
        }
    }
    tally.close();
}

#[test]
fn a_kill_at_any_call_of_a_compaction_leaves_a_store_that_works() {
    // So many packs that the next update writes the store anew.
    let bench = Bench::new("disk-compaction", 12);
    let mut tally = Tally::new("disk: a kill while the store is written anew");
    for calls in [
        "rename,renameat,renameat2",
        "fsync,fdatasync",
        "unlink,unlinkat",
        "mkdir,mkdirat",
    ] {
        let all = bench.calls(calls);
        let few = Scale::asked().of(2, all.len());
        let step = (all.len() / few.max(1)).max(1);
        for number in all.iter().step_by(step).take(few.max(1)) {
            bench.reset();
            bench.traced(&[
                "-e".to_owned(),
                format!("trace={calls}"),
                "-e".to_owned(),
                format!("inject={calls}:signal=KILL:when={number}"),
            ]);
            let done = bench
                .at(13)
                .and_then(|end| bench.recovers(13).map(|()| end));
            tally.count(done.map_err(|why| format!("killed at {calls} number {number}: {why}")));
        }
    }
    tally.close();
}

#[test]
fn torture_planted_a_sweep_that_is_left_out_is_seen() {
    let bench = Bench::new("disk-planted", 1);
    let mut tally = Tally::new("disk: an error at a call that writes");
    let calls = "rename,renameat,renameat2";
    for number in bench.calls(calls).into_iter().take(3) {
        bench.reset();
        bench.traced(&[
            "-e".to_owned(),
            format!("trace={calls}"),
            "-e".to_owned(),
            format!("inject={calls}:signal=KILL:when={number}"),
        ]);
        // No start follows that would sweep.
        tally.count(match left_over(bench.device().scratch()) {
            Some(path) => Err(format!("{} is left", path.display())),
            None => Ok(Ended::LastGood),
        });
    }
    tally.close_planted("no sweep after a kill");
}

/// A file system on a folder, for as long as this lives.
pub(crate) struct Mount {
    on: PathBuf,
}

impl Mount {
    pub(crate) fn tmpfs(on: &Path, options: &str) -> Self {
        std::fs::create_dir_all(on).unwrap();
        run(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", options, "none"])
                .arg(on),
            PATIENCE,
        )
        .expect_code(0);
        Self { on: on.to_owned() }
    }

    /// ext4 of so many MiB in a file beside the folder.
    fn ext4(on: &Path, mib: u64, more: &[&str]) -> Self {
        let image = on.with_extension("img");
        std::fs::File::create(&image)
            .unwrap()
            .set_len(mib * 1024 * 1024)
            .unwrap();
        run(
            Command::new("mkfs.ext4")
                .args(["-q", "-F", "-m", "0"])
                .args(more)
                .arg(&image),
            PATIENCE,
        )
        .expect_code(0);
        std::fs::create_dir_all(on).unwrap();
        run(
            Command::new("mount")
                .args(["-o", "loop"])
                .arg(&image)
                .arg(on),
            PATIENCE,
        )
        .expect_code(0);
        Self { on: on.to_owned() }
    }

    fn remount(&self, how: &str) -> Output {
        run(
            Command::new("mount")
                .args(["-o", &format!("remount,{how}")])
                .arg(&self.on),
            PATIENCE,
        )
    }

    pub(crate) fn free(&self) -> u64 {
        let told = run(
            Command::new("df")
                .args(["-k", "--output=avail"])
                .arg(&self.on),
            PATIENCE,
        )
        .expect_code(0);
        let last = told.stdout.lines().last().unwrap_or_default();
        last.trim().parse().unwrap()
    }

    /// Takes all room but so many KiB.
    pub(crate) fn fill(&self, but: u64) -> PathBuf {
        let file = self.on.join("somebody-elses");
        let take = self.free().saturating_sub(but);
        run(
            Command::new("fallocate")
                .args(["-l", &format!("{take}KiB")])
                .arg(&file),
            PATIENCE,
        )
        .expect_code(0);
        file
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.on).status();
    }
}

#[test]
fn a_disk_with_little_room_left_ends_at_a_good_revision_and_says_that_it_is_full() {
    let bench = Bench::new("disk-full", 1);
    let mut tally = Tally::new("disk: full but for so many KiB");
    let mut told = 0;
    for kind in ["tmpfs", "ext4"] {
        for free in Scale::asked().of(vec![0, 8, 100, 400, 1200], (0..=1600).step_by(16).collect())
        {
            let state = bench.device().state_dir();
            clear(&state);
            let mount = match kind {
                "tmpfs" => Mount::tmpfs(&state, "size=8m,mode=0700"),
                _ => Mount::ext4(&state, 12, &[]),
            };
            let _ = std::fs::remove_dir(state.join("lost+found"));
            bench.reset();
            let file = mount.fill(free);
            let output = bench.device().sync();
            let mut end = ended(&bench, &output, 2);
            if output.code == Some(1) {
                told += 1;
                if !output.text().contains("full") {
                    end = Err(format!("it does not say so: {}", output.text()));
                }
            }
            // What runs keeps running, and is put right: the way back fits.
            if end == Ok(Ended::LastGood) {
                std::fs::write(bench.device().path("/etc/one.conf"), "by hand\n").unwrap();
                bench.device().sync();
                end = bench
                    .at(2)
                    .map_err(|why| format!("not healed on a full disk: {why}"));
            }
            std::fs::remove_file(file).unwrap();
            let done = end.and_then(|end| bench.recovers(2).map(|()| end));
            tally.count(done.map_err(|why| format!("{kind} with {free} KiB: {why}")));
            drop(mount);
        }
    }
    assert!(told > 0, "no disk was too full");
    tally.close();
}

#[test]
fn a_disk_without_inodes_ends_at_a_good_revision_and_goes_on_when_there_are_some() {
    let bench = Bench::new("disk-inodes", 1);
    let mut tally = Tally::new("disk: no inodes but so many");
    for left in Scale::asked().of(vec![0, 3, 12], (0..=40).collect()) {
        let state = bench.device().state_dir();
        clear(&state);
        let mount = Mount::tmpfs(&state, "size=16m,nr_inodes=400,mode=0700");
        bench.reset();
        let mut others = Vec::new();
        while let Ok(()) = std::fs::write(state.join(format!("x{}", others.len())), "") {
            others.push(state.join(format!("x{}", others.len())));
        }
        for file in others.drain(others.len() - left.min(others.len())..) {
            std::fs::remove_file(file).unwrap();
        }
        let output = bench.device().sync();
        let end = ended(&bench, &output, 2);
        for file in others {
            std::fs::remove_file(file).unwrap();
        }
        let done = end.and_then(|end| bench.recovers(2).map(|()| end));
        tally.count(done.map_err(|why| format!("with {left} inodes: {why}")));
        drop(mount);
    }
    tally.close();
}

#[test]
fn a_disk_that_goes_read_only_under_a_daemon_or_before_its_start_is_told_and_got_over() {
    let bench = Bench::new("disk-read-only", 1);
    let mut tally = Tally::new("disk: remounted read-only");
    let state = bench.device().state_dir();
    let reason = |device: &Device| -> Option<String> {
        let output = device.evenkeel(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&output.stdout).ok()?;
        let all = status["conditions"].as_array()?.clone();
        all.iter()
            .find(|one| one["type"] == "Stalled" && one["status"] == "True")
            .map(|one| one["reason"].as_str().unwrap_or_default().to_owned())
    };
    for round in 0..Scale::asked().of(2, 20) {
        clear(&state);
        let mount = Mount::ext4(&state, 16, &[]);
        let _ = std::fs::remove_dir(state.join("lost+found"));
        bench.reset();
        let begins_read_only = round % 2 == 1;
        if begins_read_only {
            mount.remount("ro").expect_code(0);
        }
        let mut daemon = bench.device().spawn_daemon();
        if !begins_read_only {
            std::thread::sleep(Duration::from_millis(150 * round));
            // A writer that is busy just now makes it busy.
            wait_for("the disk to go read-only", || {
                (mount.remount("ro").code == Some(0)).then_some(())
            });
        }
        wait_for("the status to say so", || {
            (reason(bench.device()).as_deref() == Some("ReadOnly")).then_some(())
        });
        let held = bench.at(2);
        // Healing needs no write there. (An edit by hand would: its copy goes there first.)
        std::fs::remove_file(bench.device().path("/etc/one.conf")).unwrap();
        daemon.signal("HUP");
        wait_for("what was removed to be put right", || {
            bench.at(2).is_ok().then_some(())
        });
        let runs = daemon.runs();
        mount.remount("rw").expect_code(0);
        wait_for("the new revision", || {
            daemon.signal("HUP");
            std::thread::sleep(Duration::from_millis(300));
            (bench.at(2) == Ok(Ended::New) && reason(bench.device()).is_none()).then_some(())
        });
        assert_eq!(daemon.stop(), Some(0));
        let done = held.and_then(|end| match runs {
            true => bench.recovers(2).map(|()| end),
            false => Err("the daemon ended".to_owned()),
        });
        tally.count(done.map_err(|why| format!("round {round}: {why}")));
        drop(mount);
    }
    tally.close();
}

/// What a folder takes on disk, in KiB.
fn weight(dir: &Path) -> u64 {
    let told = run(Command::new("du").arg("-sk").arg(dir), PATIENCE).expect_code(0);
    let first = told.stdout.split_whitespace().next().unwrap_or_default();
    first.parse().unwrap()
}

#[test]
fn after_many_updates_the_state_directory_weighs_less_than_three_fresh_ones() {
    assert!(binary().exists());
    let world = World::of_files("disk-growth");
    world.apps(&["one"]);
    let updates = Scale::asked().of(40, 2000);
    let mut tally = Tally::new("disk: an update of many, and what it weighs");
    let mut most = 0;
    for n in 1..=updates {
        release(&world, n);
        let output = world.device.sync();
        most = most.max(weight(&world.device.state_dir()));
        tally.count(match output.code {
            Some(0) => Ok(Ended::New),
            code => Err(format!("update {n} ended with {code:?}: {}", output.text())),
        });
    }
    let mut fresh = Device::new(
        "disk-growth",
        &world.repo.file_url(),
        &world.repo.allowed_signers(),
    );
    fresh
        .settings
        .engine
        .clone_from(&world.device.settings.engine);
    fresh.sync().expect_code(0);
    fresh.sync().expect_code(0);
    let reserve = |device: &Device| weight(&device.state_dir().join("reserve"));
    let (whole, held) = (weight(&fresh.state_dir()), reserve(&fresh));
    let (end, end_held) = (weight(&world.device.state_dir()), reserve(&world.device));
    println!(
        "after {updates} updates: {end} KiB ({end_held} of them held back), {most} at most; a fresh device: {whole} KiB ({held} \
         held back)"
    );
    assert!(
        most < 3 * whole,
        "{most} KiB at most, and {whole} when fresh"
    );
    let before = evenkeel_tests::proc::listing(&world.device.state_dir().join("git"));
    for _ in 0..3 {
        world.device.sync().expect_code(0);
    }
    assert_eq!(
        evenkeel_tests::proc::listing(&world.device.state_dir().join("git")),
        before
    );
    assert!(weight(&world.device.state_dir()) <= end + 128);
    tally.close();
}
