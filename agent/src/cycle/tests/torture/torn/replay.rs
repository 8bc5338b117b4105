//! One case: the tree that a cut left, the agent started on it, and whether the promise holds.

use std::panic::AssertUnwindSafe;
use std::path::Path;

use fastrand::Rng;

use super::disk::{Disk, Honesty, Image, Meta, Op};
use super::rig::{Device, Opening, Told, remembered};
use super::stands::{edits_kept, files_are, left_over, snapshot};
use super::story::{Act, STORIES};
use super::{Recording, paused};
use crate::domain::history::Ledger;
use crate::domain::outcome::{Outcome, Phase};
use crate::domain::revision::CommitId;
use crate::port::World as _;
use crate::port::journal::Journal as _;
use crate::port::source::Source as _;
use crate::select::Urgency;
use crate::tally::{Ended, only_seed};

/// Whether the remote answers after the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remote {
    There,
    Gone,
}

/// What is done once the device is settled again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Nothing,
    /// It is started once more.
    Restart,
    /// All that the story would have pushed comes.
    GoOn,
}

/// One case, all of it drawn from its seed.
#[derive(Debug)]
pub(super) struct Case {
    seed: u64,
    pub(super) story: usize,
    /// How many things happened before the cut.
    pub(super) moment: usize,
    remote: Remote,
    then: Then,
    rng: Rng,
}

/// The story that a seed is about.
pub(super) fn story_of(seed: u64) -> usize {
    Rng::with_seed(seed).usize(0..STORIES.len())
}

impl Case {
    /// `None` where its story was not recorded.
    pub(super) fn draw(seed: u64, recordings: &[Option<Recording>]) -> Option<Self> {
        let mut rng = Rng::with_seed(seed);
        let story = rng.usize(0..STORIES.len());
        let recording = recordings[story].as_ref()?;
        let mut moment = rng.usize(recording.from..=recording.ops.len());
        if rng.bool() {
            // Right before something is synced most of it is unsure.
            let syncs = |op: &Op| matches!(op, Op::Sync { .. } | Op::DataSync { .. } | Op::SyncAll);
            let next = recording.ops[moment..].iter().position(syncs);
            moment += next.unwrap_or(0);
        }
        let remote = if rng.bool() {
            Remote::There
        } else {
            Remote::Gone
        };
        let then = match rng.u8(0..8) {
            0 => Then::Restart,
            1 | 2 => Then::GoOn,
            _ => Then::Nothing,
        };
        Some(Self {
            seed,
            story,
            moment,
            remote,
            then,
            rng,
        })
    }
}

/// Runs cases that are sorted by story and moment.
pub(super) fn run(
    scratch: &Path,
    recordings: &[Option<Recording>],
    cases: Vec<Case>,
    honesty: Honesty,
) -> Vec<Result<Ended, String>> {
    let mut ended = Vec::new();
    let mut walk: Option<(usize, Walk<'_>)> = None;
    let scratch = tempfile::tempdir_in(scratch).unwrap();
    let dir = scratch.path().join("device");
    for case in cases {
        if walk.as_ref().is_none_or(|(story, _)| *story != case.story) {
            let recording = recordings[case.story]
                .as_ref()
                .expect("drawn from what was recorded");
            walk = Some((case.story, Walk::new(recording, honesty)));
        }
        let (_, walk) = walk.as_mut().expect("it was just begun");
        walk.go(case.moment);
        let image = walk.disk.cut(&mut case.rng.clone());
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        image.write(&dir);
        if only_seed().is_some() {
            println!("{}", told(walk, &case, &image));
        }
        let judged = std::panic::catch_unwind(AssertUnwindSafe(|| judge(walk, &case, &dir)));
        let judged = judged.unwrap_or_else(|panic| {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(format!("the agent panicked: {}", text.unwrap_or_default()))
        });
        ended.push(judged.map_err(|why| {
            let name = walk.recording.story.name;
            let first = why.lines().next().unwrap_or_default();
            format!(
                "seed {} ({name}): {first}\n{why}\n{}",
                case.seed,
                told(walk, &case, &image)
            )
        }));
    }
    ended
}

fn told(walk: &Walk<'_>, case: &Case, image: &Image) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "{}, cut at {} of {}, {:?}, remote {:?}, then {:?}; {} pushed, {} acknowledged\n",
        walk.recording.story.name,
        case.moment,
        walk.recording.ops.len(),
        image.mood,
        case.remote,
        case.then,
        walk.pushes,
        walk.acknowledged
    );
    for op in &walk.recording.ops[case.moment.saturating_sub(12)..case.moment] {
        let mut line = format!("{op:?}");
        if line.len() > 160 {
            line.truncate(line.floor_char_boundary(160));
        }
        let _ = writeln!(text, "  {line}");
    }
    text + &image.told()
}

/// A story up to a moment.
struct Walk<'r> {
    recording: &'r Recording,
    disk: Disk,
    at: usize,
    pushes: usize,
    acknowledged: usize,
    /// What a person wrote by hand.
    edits: Vec<&'static str>,
    boots: i64,
    lost_its_journal: bool,
}

impl<'r> Walk<'r> {
    fn new(recording: &'r Recording, honesty: Honesty) -> Self {
        let meta = Meta {
            mode: 0o755,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        };
        Self {
            recording,
            disk: Disk::new(meta, honesty),
            at: 0,
            pushes: 0,
            acknowledged: 0,
            edits: Vec::new(),
            boots: 1,
            lost_its_journal: false,
        }
    }

    fn go(&mut self, moment: usize) {
        assert!(self.at <= moment, "cases are sorted");
        while self.at < moment {
            let op = &self.recording.ops[self.at];
            self.disk.take(op);
            self.at += 1;
            if let Op::Mark(text) = op {
                self.heard(text);
            }
        }
    }

    fn heard(&mut self, text: &str) {
        let number = |text: &str| text.parse::<usize>().unwrap();
        let act = |text: &str| self.recording.story.acts().nth(number(text)).unwrap();
        if let Some(text) = text.strip_prefix("acknowledged-") {
            self.acknowledged = number(text) + 1;
        } else if let Some(text) = text.strip_prefix("begins-") {
            match act(text) {
                Act::Push(_) => self.pushes += 1,
                Act::Restart => self.boots += 1,
                Act::LoseJournal => {
                    self.boots += 1;
                    self.lost_its_journal = true;
                }
                Act::Pass | Act::Edit(..) | Act::Remove(_) | Act::GoBack(_) | Act::Resume => {}
            }
        } else if let Some(text) = text.strip_prefix("ends-")
            && let Act::Edit(_, text) = act(text)
        {
            self.edits.push(text);
        }
    }

    /// What the journal may remember: what it acknowledged last, or what was under way.
    fn may_remember(&self) -> &[String] {
        let told = &self.recording.told;
        let last = self.acknowledged.saturating_sub(1);
        &told[last..told.len().min(self.acknowledged + 1)]
    }
}

pub(super) fn expect(is: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if is { Ok(()) } else { Err(otherwise()) }
}

fn judge(walk: &Walk<'_>, case: &Case, dir: &Path) -> Result<Ended, String> {
    paused().block_on(judge_running(walk, case, dir))
}

async fn judge_running(walk: &Walk<'_>, case: &Case, dir: &Path) -> Result<Ended, String> {
    let recording = walk.recording;
    let twins = recording.story.twins();
    let remote = match case.remote {
        Remote::There => recording.remotes.after(walk.pushes),
        Remote::Gone => recording.remotes.gone(),
    };
    let open = |remote: &Path, boot| {
        let opened = || {
            let told = Told::Nowhere;
            let opening = Opening {
                dir,
                remote,
                boot,
                told,
            };
            Device::open(&twins, opening)
                .map_err(|error| format!("does not start: {}", chain(&*error)))
        };
        // The agent before it was of this process: sled's threads give its lock back a moment after it.
        let mut last = opened();
        for _ in 0..200 {
            match &last {
                Err(why) if why.contains("os error 11") => {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                    last = opened();
                }
                Ok(_) | Err(_) => break,
            }
        }
        last
    };
    let device = open(&remote, walk.boots)?;

    // What was acknowledged is remembered, and nothing else.
    let now = remembered(&device.agent.world.journal.store);
    expect(walk.may_remember().contains(&now), || {
        let mut text = "it does not remember what it had acknowledged".to_owned();
        for may in walk.may_remember() {
            text.push_str("\nmay be, compared with what is:\n");
            text.push_str(&differences(may, &now));
        }
        text
    })?;
    // A journal that a person took away, or one that was cut off while it took that one's place.
    let without_journal = [
        "the journal is older than its second copy",
        "the journal is older than the floor file",
        "the journal was damaged and set aside",
    ];
    // The trust sets are written to their file first. A cut before the journal has them is mended from it, and told.
    let between_copies = "the journal's copy of the trust sets is lost or older";
    let is_known = |said: &String| {
        said.starts_with(between_copies)
            || walk.lost_its_journal && without_journal.iter().any(|known| said.contains(known))
    };
    expect(device.said.iter().all(is_known), || {
        format!("it says of its memory: {:?}", device.said)
    })?;
    let before = device.ledger();
    let fetched = device.agent.world.source().local_tip(None).await;
    if let Some(trial) = &before.trial {
        let known = device
            .agent
            .world
            .source()
            .commit(&trial.commit, None)
            .await;
        expect(matches!(known, Ok(Some(_))), || {
            format!(
                "{} was being tried, and is not in the git store: {known:?}",
                trial.commit
            )
        })?;
    }
    expect(fetched.is_ok(), || {
        format!("the git store does not read: {fetched:?}")
    })?;

    let outcome = device.begin().await;
    let ended = settled(walk, case, dir, &device, &before, &outcome)?;

    // Another pass has nothing to do.
    idle(dir, &device).await?;
    // Half a clone waits for its remote, and for a branch.
    let waits = case.remote == Remote::Gone || walk.pushes == 0;
    left_over(
        dir,
        if waits { Remote::Gone } else { Remote::There },
        walk.lost_its_journal,
    )?;

    match case.then {
        Then::Nothing => {}
        Then::Restart => {
            let before = device.ledger();
            let boot = device.boot() + 1;
            drop(device);
            let device = open(&remote, boot)?;
            let told = |ledger: Ledger| {
                format!(
                    "{:?}",
                    Ledger {
                        report: None,
                        ..ledger
                    }
                )
            };
            expect(told(device.ledger()) == told(before.clone()), || {
                "after one more start it remembers something else".to_owned()
            })?;
            expect(device.said.is_empty(), || {
                format!("after one more start it says: {:?}", device.said)
            })?;
            let outcome = device.begin().await;
            settled(walk, case, dir, &device, &before, &outcome)?;
        }
        Then::GoOn => go_on(walk, dir, device, open).await?,
    }
    Ok(ended)
}

/// sled's threads may still be at the end of what was before: what is written once is not written by the pass.
async fn idle(dir: &Path, device: &Device) -> Result<(), String> {
    let mut before = snapshot(dir);
    let mut writes = String::new();
    for _ in 0..3 {
        device.settle(Urgency::Scheduled).await;
        let after = snapshot(dir);
        if before == after {
            return Ok(());
        }
        writes = differences(&format!("{before:#?}"), &format!("{after:#?}"));
        before = after;
    }
    Err(format!("an idle pass writes:\n{writes}"))
}

/// All that the story pushes comes, and the device follows.
async fn go_on(
    walk: &Walk<'_>,
    dir: &Path,
    device: Device,
    open: impl Fn(&Path, i64) -> Result<Device, String>,
) -> Result<(), String> {
    use crate::port::journal::Journal as _;
    let recording = walk.recording;
    let releases = recording.story.releases();
    let Some(last) = releases.iter().rposition(|release| release.gets_well) else {
        return Ok(());
    };
    let boot = device.boot() + 1;
    drop(device);
    let device = open(&recording.remotes.after(releases.len()), boot)?;
    device
        .agent
        .world
        .journal
        .set_pin(None)
        .map_err(|error| chain(&error))?;
    device.begin().await;
    let good = device
        .ledger()
        .last_good()
        .map(|good| good.commit().clone());
    expect(
        good.as_ref() == Some(&recording.remotes.commits[last]),
        || {
            format!(
                "it does not follow the branch any more: it is at {good:?}\n{:#?}",
                device.report()
            )
        },
    )?;
    files_are(dir, Some(&releases[last]))?;
    left_over(dir, Remote::There, walk.lost_its_journal)
}

/// The promise itself.
fn settled(
    walk: &Walk<'_>,
    case: &Case,
    dir: &Path,
    device: &Device,
    before: &Ledger,
    outcome: &Outcome,
) -> Result<Ended, String> {
    let recording = walk.recording;
    let releases = recording.story.releases();
    let ledger = device.ledger();
    let number = |commit: &CommitId| {
        recording
            .remotes
            .number(commit)
            .ok_or_else(|| format!("{commit} was never pushed"))
    };
    let tip = recording.remotes.commits[..walk.pushes].last();

    // Nothing goes back.
    let generation = |ledger: &Ledger| ledger.floor.as_ref().map_or(0, |floor| floor.generation);
    expect(generation(&ledger) >= generation(before), || {
        "the floor went back".to_owned()
    })?;
    let missing = before
        .refused
        .iter()
        .find(|one| !ledger.refused.contains(one));
    expect(missing.is_none(), || {
        format!("a refusal was forgotten: {missing:?}")
    })?;
    if let Some(was) = before.last_good() {
        let now = ledger.last_good().ok_or("last-good was lost")?;
        expect(number(now.commit())? >= number(was.commit())?, || {
            format!(
                "last-good went back from {} to {}",
                was.commit(),
                now.commit()
            )
        })?;
    }

    let Some(good) = ledger.last_good() else {
        // Nothing was ever good here: then nothing of ours may be there either.
        let nothing_to_take = case.remote == Remote::Gone || tip.is_none();
        expect(nothing_to_take, || {
            format!("nothing is good: {outcome:?}\n{:#?}", device.report())
        })?;
        files_are(dir, None)?;
        return Ok(Ended::LastGood);
    };
    let at = ledger.pin.as_ref().map_or(good.commit(), |pin| &pin.commit);
    let release = &releases[number(at)?];
    expect(release.gets_well, || {
        format!("it is at {at}, which does not get healthy")
    })?;
    files_are(dir, Some(release))?;
    let wanted = tip.filter(|tip| number(tip).is_ok_and(|number| releases[number].gets_well));
    if case.remote == Remote::There && ledger.pin.is_none() {
        expect(wanted.is_none_or(|wanted| wanted == good.commit()), || {
            format!(
                "it is at {}, and the tip is {tip:?}: {outcome:?}\n{:#?}",
                good.commit(),
                device.report()
            )
        })?;
    }
    told_rightly(device, at, good.commit())?;
    edits_kept(&walk.edits, dir)?;
    Ok(if Some(at) == tip {
        Ended::New
    } else {
        Ended::LastGood
    })
}

/// It says which it is at.
fn told_rightly(device: &Device, at: &CommitId, good: &CommitId) -> Result<(), String> {
    let report = device.report();
    let rests = match report.phase {
        Phase::Idle | Phase::RolledBack | Phase::Paused => true,
        Phase::Fetching | Phase::Preparing | Phase::Applying | Phase::Soaking => false,
    };
    let right = report.revision.applied.as_ref() == Some(at)
        && report.revision.last_good.as_ref() == Some(good)
        && rests
        && report.drift.is_empty();
    expect(right, || format!("it is at {at}, and says {report:#?}"))?;
    let saved = device.agent.world.journal.ledger().report;
    expect(
        saved
            .as_ref()
            .is_some_and(|saved| saved.revision == report.revision),
        || format!("it has not written down what it says: {saved:#?}"),
    )
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    crate::domain::text::chain(error)
}

/// The lines in which two texts differ.
fn differences(one: &str, other: &str) -> String {
    let diff = similar::TextDiff::from_lines(one, other);
    diff.unified_diff().context_radius(2).to_string()
}
