//! Torn writes: power is cut at any moment of a story, the disk loses what it may lose, and the device starts again.
//!
//! 1. A story is told once by a process under strace(1): the real files, journal and git store, and twins for the rest.
//!    The trace says what happened to the disk, and in between what the journal had acknowledged ([`record`]).
//! 2. A model of the disk ([`disk`]) takes that up to a moment, and gives one of the trees that may be there after a cut.
//! 3. The agent starts on that tree, with its remote or without, and is asked whether the promise holds ([`replay`]).
//!
//! Moment, loss and remote are drawn from one number, so that `tests/torture.sh --seed N torn` runs the same case again, and
//! tells what stood on the disk.
//!
//! A story is told anew each time: its calls are the same ones, but those of sled's threads may change places with others.
//! `EVENKEEL_TORTURE_SEEDS=FROM..TO` runs a part of the seeds.
//!
//! Not covered: disks that lie about a flush, blocks that go bad, and the engine's own store (a container is here, or not).

mod calls;
mod disk;
mod record;
mod replay;
mod rig;
mod stands;
mod story;

use std::cell::Cell;
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;

use disk::{Honesty, Op};
use replay::Case;
use rig::{Device, FILES, Opening, Told};
use story::{Act, Remotes, STORIES, Story};

use crate::domain::history::Pin;
use crate::port::World as _;
use crate::port::clock::Clock as _;
use crate::port::journal::Journal as _;
use crate::select::Urgency;
use crate::tally::{Scale, Tally, is_planted, only_seed};

/// How the child is told what to tell, and where.
const STORY: &str = "EVENKEEL_TEST_STORY";
const WORK: &str = "EVENKEEL_TEST_WORK";

/// In every run of the tests.
const QUICK: u64 = 1200;
/// On demand.
const FULL: u64 = 100_000;
/// Among these some are of the one story that a planted fault is looked for in, and must show it.
const PLANTED: u64 = 600;

/// A story as it was recorded.
#[derive(Debug)]
pub(super) struct Recording {
    story: &'static Story,
    remotes: Remotes,
    ops: Vec<Op>,
    /// Where the part begins that is cut.
    from: usize,
    /// What the journal remembered at each acknowledgement.
    told: Vec<String>,
}

impl Recording {
    /// Below `work`: `disk` (what is recorded), `told`, and the remotes.
    fn make(story: &'static Story, work: &Path) -> Self {
        let top = work.join("disk");
        let told = work.join("told");
        std::fs::create_dir_all(&told).unwrap();
        story::furnish(&top.join(FILES));
        let remotes = Remotes::make(&work.join("remotes"), &story.releases());
        let recorder = record::Recorder::new(&top);
        let trace = work.join("trace");
        let status = Command::new("strace")
            .args([
                "-f",
                "--seccomp-bpf",
                "-y",
                "-xx",
                "-s",
                "100000000",
                "-e",
                "raw=read,readv",
            ])
            .arg("-e")
            // `?`: another machine may not have the call, or its strace not know it.
            .arg(format!("trace=?{}", calls::TRACED.replace(',', ",?")))
            .arg("-o")
            .arg(&trace)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture"])
            .arg("cycle::tests::torture::torn::child_lives_through_a_story")
            .env(STORY, story.name)
            .env(WORK, work)
            .stdout(Stdio::null())
            .status()
            .expect("strace is installed: packaging/prerequisites.sh faults");
        assert!(
            status.success(),
            "the story `{}` did not end well",
            story.name
        );
        let ops = recorder.read(&std::fs::read_to_string(&trace).unwrap());
        std::fs::remove_file(trace).unwrap();
        let is = |op: &Op, text: &str| matches!(op, Op::Mark(mark) if mark == text);
        let from = ops.iter().position(|op| is(op, "then"));
        assert!(ops.iter().any(|op| is(op, "end")), "{}", story.name);
        let mut all = Vec::new();
        while let Ok(text) = std::fs::read_to_string(told.join(all.len().to_string())) {
            all.push(text);
        }
        Self {
            story,
            remotes,
            ops,
            from: from.expect("every story says where it begins"),
            told: all,
        }
    }
}

/// Not a test of its own: the process that is recorded.
#[test]
#[ignore = "started by the tests below"]
fn child_lives_through_a_story() {
    let (Ok(story), Ok(work)) = (std::env::var(STORY), std::env::var(WORK)) else {
        return;
    };
    let work = Path::new(&work);
    let told = Told::In(work.join("told"), Rc::new(Cell::new(0)));
    paused().block_on(tell(Story::named(&story), work, &told));
}

/// `EVENKEEL_TORTURE_SEEDS=FROM..TO`: a part of them.
fn range() -> Option<std::ops::Range<u64>> {
    let text = std::env::var("EVENKEEL_TORTURE_SEEDS").ok()?;
    let (from, to) = text.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
}

async fn tell(story: &Story, work: &Path, told: &Told) {
    let remotes = Remotes::made(&work.join("remotes"));
    let twins = story.twins();
    let dir = work.join("disk");
    let remote = remotes.current();
    let open = |boot| {
        let told = told.clone();
        let opening = Opening {
            dir: &dir,
            remote: &remote,
            boot,
            told,
        };
        Device::open(&twins, opening).unwrap()
    };
    let begins_at_once = story.before.is_empty();
    if begins_at_once {
        record::mark("then");
    }
    let mut device = open(0);
    let mut pushes = 0;
    for (number, act) in story.acts().enumerate() {
        if number == story.before.len() && !begins_at_once {
            record::mark("then");
        }
        record::mark(&format!("begins-{number}"));
        let journal = &device.agent.world.journal;
        match act {
            Act::Push(_) => {
                pushes += 1;
                remotes.turn(pushes);
            }
            Act::Pass => {
                device.settle(Urgency::Scheduled).await;
            }
            Act::Edit(path, text) => by_hand(&dir, path, Some(text)),
            Act::Remove(path) => by_hand(&dir, path, None),
            Act::GoBack(by) => {
                let pin = Pin {
                    commit: device.ledger().good[*by].commit().clone(),
                    at: device.agent.world.clock().now(),
                };
                journal.set_pin(Some(&pin)).unwrap();
                device.settle(Urgency::Asked).await;
            }
            Act::Resume => {
                journal.set_pin(None).unwrap();
                device.settle(Urgency::Asked).await;
            }
            Act::Restart => {
                let boot = device.boot() + 1;
                drop(device);
                device = open(boot);
                device.begin().await;
            }
            Act::LoseJournal => {
                let boot = device.boot() + 1;
                drop(device);
                let state = dir.join(rig::STATE);
                std::fs::remove_dir_all(state.join("journal")).unwrap();
                std::fs::File::open(&state).unwrap().sync_all().unwrap();
                device = open(boot);
                device.begin().await;
            }
        }
        record::mark(&format!("ends-{number}"));
    }
    record::mark("end");
}

/// What a person does is sure: the cut that is looked for is in ours.
fn by_hand(dir: &Path, path: &str, text: Option<&str>) {
    let place = dir.join(FILES).join(path.trim_start_matches('/'));
    match text {
        Some(text) => {
            std::fs::write(&place, text).unwrap();
            std::fs::File::open(&place).unwrap().sync_all().unwrap();
        }
        None => {
            std::fs::remove_file(&place).unwrap();
            std::fs::File::open(place.parent().unwrap())
                .unwrap()
                .sync_all()
                .unwrap();
        }
    }
}

/// All stories, recorded below one directory in memory.
struct Stage {
    dir: tempfile::TempDir,
    /// By the story's number; those that are not asked for are not there.
    recordings: Vec<Option<Recording>>,
}

impl Stage {
    /// Records those stories that `wants` names by their numbers.
    fn set(wants: impl Fn(usize) -> bool) -> Self {
        let dir = match tempfile::tempdir_in("/dev/shm") {
            Ok(dir) => dir,
            Err(_) => tempfile::tempdir().unwrap(),
        };
        let recordings = STORIES
            .iter()
            .enumerate()
            .map(|(number, story)| {
                wants(number).then(|| Recording::make(story, &dir.path().join(number.to_string())))
            })
            .collect();
        Self { dir, recordings }
    }

    fn only(name: &str) -> Self {
        Self::set(|number| STORIES[number].name == name)
    }

    /// Runs cases, in as many threads as there are processors.
    fn run(&self, seeds: std::ops::Range<u64>, honesty: Honesty, tally: &mut Tally) {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = Scale::asked().of(1, threads as u64);
        let each: Vec<Vec<u64>> = (0..threads)
            .map(|one| seeds.clone().filter(|seed| seed % threads == one).collect())
            .collect();
        let ended = std::thread::scope(|scope| {
            let workers: Vec<_> = each
                .iter()
                .map(|seeds| scope.spawn(|| self.run_some(seeds, honesty)))
                .collect();
            workers
                .into_iter()
                .flat_map(|worker| worker.join().expect("a case that panics is caught"))
                .collect::<Vec<_>>()
        });
        for one in ended {
            tally.count(one);
        }
    }

    fn run_some(
        &self,
        seeds: &[u64],
        honesty: Honesty,
    ) -> Vec<Result<crate::tally::Ended, String>> {
        let mut cases: Vec<Case> = seeds
            .iter()
            .filter_map(|seed| Case::draw(*seed, &self.recordings))
            .collect();
        // One walk through each story serves all its cuts.
        cases.sort_by_key(|case| (case.story, case.moment));
        replay::run(self.dir.path(), &self.recordings, cases, honesty)
    }
}

#[test]
fn after_a_cut_a_device_is_at_the_new_revision_or_at_the_last_good_one_whatever_was_not_synced() {
    let honesty = if is_planted("ignore-fsync") {
        Honesty::IgnoresAll
    } else {
        Honesty::Honest
    };
    let mut tally = Tally::new("power cut, what was not synced lost");
    let (stage, seeds) = match only_seed() {
        Some(seed) => (
            Stage::set(|number| number == replay::story_of(seed)),
            seed..seed + 1,
        ),
        None => (
            Stage::set(|_| true),
            range().unwrap_or(0..Scale::asked().of(QUICK, FULL)),
        ),
    };
    stage.run(seeds, honesty, &mut tally);
    tally.close();
}

#[test]
fn a_journal_that_is_not_synced_is_noticed() {
    let stage = Stage::only("update of files");
    let mut tally = Tally::new("power cut, what was not synced lost");
    stage.run(0..PLANTED, Honesty::IgnoresFile("db"), &mut tally);
    tally.close_planted("the journal's file never synced");
}

#[test]
fn a_state_directory_that_is_not_synced_is_noticed() {
    let stage = Stage::only("update of files");
    let mut tally = Tally::new("power cut, what was not synced lost");
    stage.run(0..PLANTED, Honesty::IgnoresDirectory("state"), &mut tally);
    tally.close_planted("the state directory never synced");
}
