//! The power goes: a device works on a real file system on a disk that writes down everything it is told, and afterwards
//! the power is cut at moments of that story, again and again.
//!
//! At each cut the disk is what a real one may hold then ([`evenkeel_tests::block_log`]): all that was flushed, and any part
//! of what was not. The real agent starts over it, first with no network, then with it. What it says and what lies there is
//! compared with what was known before the cut: a step that was acknowledged has happened, the one that was under way has
//! happened or not, and there is nothing between.
//!
//! A seed chooses the step, the place in it and what the disk lost. The story itself is made anew on each run, so a seed
//! leads to the same place in it, not to the same bytes; a red run therefore keeps the disk image of its first wrong cut.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use evenkeel_tests::block_log::{BlockLog, Cut, Cutter, Disk, Flush, LoggedDisk};
use evenkeel_tests::mounted::{Filesystem, Mounted};
use evenkeel_tests::tally::{Ended, Scale, Tally, is_planted, only_seed};
use evenkeel_tests::{Device, FleetRepo, GitHttp};

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:1/fleet.git";
/// Where a disk lies about its flushes, it may lose so many of the last entries: some two updates.
const LIES: usize = 400;

/// Declared files by their paths.
type Files = BTreeMap<String, String>;

/// What a device says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Stands {
    applied: Option<String>,
    last_good: Option<String>,
    floor: Option<String>,
}

/// Something that was asked of the device, and was done when so many entries were in the disk's log.
#[derive(Debug, Clone)]
struct Step {
    what: String,
    end: usize,
    /// The branch's tip meanwhile.
    tip: String,
    /// What `sync` ends with from then on.
    code: i32,
    stands: Stands,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A pass.
    Sync,
    /// A person's command. Where it was lost, no later pass makes up for it.
    Command,
}

/// A device on a disk that is about to lose its power.
struct Story {
    // Mounts go before what they lie on.
    disk: Option<LoggedDisk>,
    _memory: Mounted,
    device: Device,
    repo: FleetRepo,
    server: GitHttp,
    images: PathBuf,
    mount: PathBuf,
    steps: Vec<Step>,
    declared: BTreeMap<String, Files>,
}

impl Story {
    fn new(kind: Filesystem) -> Self {
        let repo = FleetRepo::new();
        repo.write("fleet.toml", "format = 1\nname = \"test\"\n")
            .write("groups/all.toml", "match = \"all\"\napps = [\"one\"]\n");
        let server = GitHttp::http(repo.served());
        let device = Device::new("power", &server.url(), &repo.allowed_signers());
        let (images, mount) = (
            device.scratch().join("images"),
            device.scratch().join("disk"),
        );
        let device = device.on_disk(&mount);
        let memory = Mounted::memory(&images);
        let disk = LoggedDisk::start(&images, kind, &mount);
        std::fs::create_dir(device.root()).unwrap();
        sync(&mount);
        let mut story = Self {
            disk: Some(disk),
            _memory: memory,
            device,
            repo,
            server,
            images,
            mount,
            steps: Vec::new(),
            declared: BTreeMap::new(),
        };
        let tip = story.repo.release("No app yet");
        story.steps.push(Step {
            what: "a new disk".to_owned(),
            end: story.entries(),
            tip,
            code: 0,
            stands: Stands::default(),
            kind: Kind::Sync,
        });
        story
    }

    fn entries(&self) -> usize {
        self.disk.as_ref().expect("it records").entries()
    }

    /// What revision `number` declares; written to the working clone.
    fn write(&self, number: usize, gate: &str) -> Files {
        // Long enough to be written in several pieces.
        let long = format!("{number} of many lines\n").repeat(4000);
        let mut files = Files::from([
            (
                "/etc/one/one.conf".to_owned(),
                format!("revision {number}\n"),
            ),
            ("/etc/one/same.conf".to_owned(), "the same\n".to_owned()),
            ("/srv/long.txt".to_owned(), long.clone()),
        ]);
        // Comes, is gone, and comes again elsewhere: directories are made, files pruned.
        for place in 0..number % 4 {
            let path = format!("/srv/{}/{place}/deep.conf", number % 3);
            files.insert(path, format!("{number} in {place}\n"));
        }
        let mode = if number.is_multiple_of(2) {
            "0600"
        } else {
            "0644"
        };
        self.repo.write("apps/one/long.txt", &long);
        let mut app = String::new();
        for (path, content) in &files {
            let content = if content.len() > 1000 {
                "source = \"long.txt\"".to_owned()
            } else {
                format!("content = {content:?}")
            };
            app += &format!("[[files]]\npath = {path:?}\n{content}\nmode = {mode:?}\n");
        }
        self.repo.write("apps/one/app.toml", app + gate);
        files
    }

    /// Releases revision `number`.
    fn release(&mut self, number: usize, gate: &str) {
        let files = self.write(number, gate);
        let commit = self.repo.release(&format!("Revision {number}"));
        self.declared.insert(commit, files);
    }

    /// One pass, and what stands afterwards.
    #[track_caller]
    fn pass(&mut self, what: &str, code: i32) {
        self.device.sync().expect_code(code);
        self.note(what, code, Kind::Sync);
    }

    #[track_caller]
    fn command(&mut self, verb: &str) {
        self.device.evenkeel(&[verb]).expect_code(0);
        self.note(verb, 0, Kind::Command);
    }

    #[track_caller]
    fn note(&mut self, what: &str, code: i32, kind: Kind) {
        let end = self.entries();
        let stands = self.stands().unwrap();
        assert_eq!(
            self.files(),
            self.declared(&stands),
            "before any fault, after {what}"
        );
        self.steps.push(Step {
            what: what.to_owned(),
            end,
            tip: self.repo.remote_tip("main"),
            code,
            stands,
            kind,
        });
    }

    /// What `status` says.
    fn stands(&self) -> Result<Stands, String> {
        let said = self.device.evenkeel(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&said.stdout)
            .map_err(|_| format!("`status` failed: {}", said.text()))?;
        let revision = |name: &str| status["revision"][name].as_str().map(str::to_owned);
        Ok(Stands {
            applied: revision("applied"),
            last_good: revision("last_good"),
            floor: revision("floor"),
        })
    }

    /// What this revision declares; nothing where there is none.
    fn declared(&self, stands: &Stands) -> Files {
        let files = stands.applied.as_ref().map(|commit| &self.declared[commit]);
        files.cloned().unwrap_or_default()
    }

    /// What lies under the device's root.
    fn files(&self) -> Files {
        let root = self.device.root();
        let mut files = Files::new();
        for path in evenkeel_tests::proc::listing(&root).into_keys() {
            let path = Path::new(&path);
            if !path.is_dir() {
                let inside = path.strip_prefix(&root).unwrap().display();
                let content = std::fs::read(path).unwrap();
                let content = String::from_utf8_lossy(&content).into_owned();
                files.insert(format!("/{inside}"), content);
            }
        }
        files
    }

    /// The story: updates of all kinds, and what else happens to a device. Afterwards its disk is taken out.
    fn tell(&mut self, rounds: usize) -> (Disk, BlockLog) {
        let mut number = 0;
        let mut next = || {
            number += 1;
            number
        };
        self.release(next(), QUICK);
        self.pass("the first revision", 0);
        for _ in 0..rounds {
            for _ in 0..3 {
                self.release(next(), QUICK);
                self.pass("an update", 0);
            }
            self.write(next(), QUICK);
            self.repo.commit_unsigned("Unsigned");
            self.repo.push();
            self.pass("an unsigned tip", 3);
            self.repo.rewind(&self.steps[self.steps.len() - 2].tip);
            self.release(next(), QUICK);
            self.pass("an honest tip after it", 0);
            self.release(next(), NEVER);
            self.pass("a revision that is not healthy", 4);
            self.release(next(), QUICK);
            self.pass("the next one, which is", 0);
            self.pass("nothing new", 0);
            self.command("rollback");
            self.pass("a pass while held", 0);
            self.command("resume");
            self.pass("forward again", 0);
            let edited = self.device.path("/etc/one/one.conf");
            std::fs::write(edited, "by hand\n").unwrap();
            sync(&self.mount);
            self.pass("an edit by hand put right", 0);
        }
        self.disk.take().expect("it records").finish()
    }

    /// The power comes back over this disk.
    fn boot(&mut self, kind: Filesystem, disk: &Disk, cut: usize) -> Result<Ended, String> {
        let image = self.images.join("cut.img");
        disk.write(&image);
        let ended = self.live_on(kind, &image, cut)?;
        let damage = kind.check(&image);
        if damage.code != Some(0) {
            return Err(format!("the file system is damaged: {}", damage.text()));
        }
        Ok(ended)
    }

    fn live_on(&mut self, kind: Filesystem, image: &Path, cut: usize) -> Result<Ended, String> {
        let mounted = Mounted::image(image, kind, &self.mount)?;
        let now = self.steps.iter().rposition(|step| step.end <= cut);
        let now = now.ok_or("a cut before the story began")?;
        let done = self.steps[now].clone();
        let under_way = self.steps.get(now + 1).unwrap_or(&done).clone();
        let tip = &under_way.tip;
        self.repo.bare_git(&["update-ref", "refs/heads/main", tip]);

        NOWHERE.clone_into(&mut self.device.settings.url);
        let offline = self.device.sync();
        let stands = self.stands_well("with no network", &offline, &[0, 1, 3, 4])?;
        // A try that was cut after its soak goes on with no network, finds that the remote does not answer, and is put off:
        // the device is at last-good then, and its floor is the newer commit already.
        let put_off = Stands {
            floor: under_way.stands.floor.clone(),
            ..done.stands.clone()
        };
        if stands != done.stands && stands != under_way.stands && stands != put_off {
            return Err(format!(
                "with no network it stands at {stands:?}, and not at {:?} or {:?}: {}",
                done.stands,
                under_way.stands,
                offline.text()
            ));
        }
        let ended = if stands == under_way.stands && stands != done.stands {
            Ended::New
        } else {
            Ended::LastGood
        };

        self.device.settings.url = self.server.url();
        let mut settled = Vec::new();
        let codes = match under_way.kind {
            Kind::Sync => {
                settled.push(under_way.stands.clone());
                vec![under_way.code]
            }
            Kind::Command => {
                // Lost, done, or done and followed by the pass that belongs to it.
                settled.extend([done.stands.clone(), under_way.stands.clone()]);
                let pass = self.steps.get(now + 2);
                settled.extend(pass.map(|pass| pass.stands.clone()));
                vec![done.code, under_way.code]
            }
        };
        let online = self.device.sync();
        let stands = self.stands_well("with its network", &online, &codes)?;
        if !settled.contains(&stands) {
            return Err(format!(
                "with its network it stands at {stands:?}, and not at one of {settled:?}: {}",
                online.text()
            ));
        }

        let before = evenkeel_tests::proc::listing(&self.device.root());
        let again = self.device.sync();
        if again.code != online.code {
            return Err(format!(
                "the same pass ended otherwise: {} and {}",
                online.text(),
                again.text()
            ));
        }
        if evenkeel_tests::proc::listing(&self.device.root()) != before {
            return Err(format!(
                "a second pass had something to do: {}",
                again.text()
            ));
        }
        let left = self.left_over();
        if !left.is_empty() {
            return Err(format!("left over: {left:?}"));
        }
        mounted.unmount();
        Ok(ended)
    }

    /// Where the device says that it stands, if that is what lies there.
    fn stands_well(
        &self,
        when: &str,
        said: &evenkeel_tests::process::Output,
        codes: &[i32],
    ) -> Result<Stands, String> {
        if !said.code.is_some_and(|code| codes.contains(&code)) {
            return Err(format!(
                "{when}, `sync` ended with {:?}, and not with one of {codes:?}: {}",
                said.code,
                said.text()
            ));
        }
        let stands = self.stands()?;
        let (files, declared) = (self.files(), self.declared(&stands));
        if files != declared {
            let differ: Vec<&String> = (files.keys().chain(declared.keys()))
                .filter(|path| files.get(*path) != declared.get(*path))
                .collect();
            return Err(format!(
                "{when} it says that it is at {stands:?}, and these are not what that declares: {differ:?}: {}",
                said.text()
            ));
        }
        Ok(stands)
    }

    /// What nobody will need any more, by its name.
    fn left_over(&self) -> Vec<String> {
        let all = evenkeel_tests::proc::listing(&self.mount);
        all.into_keys()
            .filter(|path| {
                let name = path.rsplit('/').next().unwrap_or_default();
                name.ends_with(".evenkeel")
                    || name.ends_with(".tmp")
                    || name.ends_with(".lock")
                    || name.starts_with("tmp_")
                    || name.starts_with(".tmp")
            })
            .collect()
    }
}

/// Judges cut after cut of one recorded story.
fn cut_again_and_again(
    story: &mut Story,
    kind: Filesystem,
    (base, log): (&Disk, &BlockLog),
    seeds: &[u64],
    lies: bool,
    tally: &mut Tally,
) {
    let steps = story.steps.clone();
    let mut cuts: Vec<Cut> = seeds
        .iter()
        .map(|seed| {
            let mut chance = fastrand::Rng::with_seed(*seed);
            // Each step gets its share, however little it writes.
            let step = chance.usize(1..steps.len());
            let (from, to) = (steps[step - 1].end, steps[step].end);
            Cut {
                after: chance.usize(from..=to),
                seed: *seed,
                flush: if lies {
                    Flush::Ignored(LIES)
                } else {
                    Flush::Honest
                },
            }
        })
        .collect();
    cuts.sort_by_key(|cut| log.certain(*cut));
    let mut cutter = Cutter::new(base.clone(), log);
    for cut in cuts {
        let (disk, certain) = cutter.disk(cut);
        let ended = story.boot(kind, &disk, cut.after).map_err(|why| {
            let step = steps.iter().find(|step| step.end > cut.after);
            let mut line = format!(
                "seed {}: cut after entry {} of {} ({} since the last flush), in `{}`: {why}",
                cut.seed,
                cut.after,
                log.len(),
                cut.after - certain,
                step.map_or("the end", |step| &step.what),
            );
            if !lies && tally.wrong().is_empty() {
                let kept = Path::new(env!("CARGO_TARGET_TMPDIR"))
                    .join(format!("power-cut-{}.img", cut.seed));
                disk.write(&kept);
                line = format!("{line}\nthe disk as the cut left it: {}", kept.display());
            }
            line
        });
        tally.count(ended);
    }
}

fn sync(path: &Path) {
    let said = std::process::Command::new("sync")
        .arg("-f")
        .arg(path)
        .status();
    assert!(said.unwrap().success());
}

/// A gate for what needs no time to get well.
const QUICK: &str = "\n[gate]\ndeadline = \"10s\"\nsoak = \"0s\"\n";

/// A check that fails, and a gate that does not wait long for it.
const NEVER: &str = "\n[[checks]]\ntcp = \"127.0.0.1:1\"\ntimeout = \"1s\"\n\n[gate]\ndeadline = \"1s\"\nsoak = \"0s\"\n";

#[expect(
    clippy::print_stdout,
    reason = "how much was tried belongs to the test's story"
)]
fn torture(kind: Filesystem, class: &'static str, cuts: u64) {
    let mut story = Story::new(kind);
    let (base, log) = story.tell(Scale::asked().of(1, 3));
    println!(
        "{}: {} steps, {} entries in the disk's log, {} flushes",
        kind.name(),
        story.steps.len(),
        log.len(),
        log.flushes()
    );
    let seeds: Vec<u64> = only_seed().map_or_else(|| (1..=cuts).collect(), |seed| vec![seed]);
    let mut tally = Tally::new(class);
    let lies = is_planted("ignore-fsync");
    cut_again_and_again(&mut story, kind, (&base, &log), &seeds, lies, &mut tally);
    tally.close();
    if kind == Filesystem::Ext4 && only_seed().is_none() {
        let mut tally = Tally::new(class);
        let seeds: Vec<u64> = (1..=12).collect();
        cut_again_and_again(&mut story, kind, (&base, &log), &seeds, true, &mut tally);
        tally.close_planted("a disk whose flush is a lie");
    }
}

#[test]
fn a_device_whose_power_is_cut_at_any_moment_is_at_one_revision_or_the_other() {
    let stories = [
        (Filesystem::Ext4, "power cut, files on ext4", 3000),
        (
            Filesystem::Ext4Writeback,
            "power cut, files on ext4 with data=writeback",
            1000,
        ),
        (Filesystem::Xfs, "power cut, files on xfs", 500),
        (Filesystem::Btrfs, "power cut, files on btrfs", 500),
    ];
    let told = Scale::asked().of(1, stories.len());
    for (kind, class, cuts) in &stories[..told] {
        torture(*kind, class, Scale::asked().of(60, *cuts));
    }
}
