//! Damage at rest: any byte of the state directory flipped, any file cut, emptied, removed, or put back from an older copy.
//!
//! What is asked after each: no run ends in a panic or by a signal; without the remote the device is at last-good, each
//! kept revision comes back right or is refused with a reason, and with the remote it gets to the tip. The floor never
//! gets older, who was taken out of the trust set stays out, what was refused is not tried again, and whatever was lost is
//! told. After that the directory is whole again: the next pass has nothing to do and nothing to tell.

mod scene;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use evenkeel_tests::process::Output;
use evenkeel_tests::tally::{Ended, Scale, Tally, only_seed};
use serde_json::Value;

use scene::{Bench, ONE, Remote, Scene, THEIRS, TWO, copy, deployments, long};

/// What is done to the state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Damage {
    Flip {
        file: PathBuf,
        at: usize,
        with: u8,
    },
    Cut {
        file: PathBuf,
        at: usize,
    },
    Empty {
        file: PathBuf,
    },
    Remove {
        file: PathBuf,
    },
    /// These (files, or folders whole) as they were after so many good revisions.
    Older {
        what: &'static [&'static str],
        round: usize,
    },
    /// All of these are gone.
    Gone {
        what: &'static [&'static str],
    },
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flip { file, at, with } => {
                write!(f, "{}: byte {at} xor {with:#04x}", file.display())
            }
            Self::Cut { file, at } => write!(f, "{}: cut at {at}", file.display()),
            Self::Empty { file } => write!(f, "{}: emptied", file.display()),
            Self::Remove { file } => write!(f, "{}: removed", file.display()),
            Self::Older { what, round } => {
                write!(f, "{} as after revision {round}", what.join(", "))
            }
            Self::Gone { what } => write!(f, "{} gone", what.join(", ")),
        }
    }
}

fn remove(path: &Path) {
    if path.is_dir() {
        std::fs::remove_dir_all(path).unwrap();
    } else if path.exists() {
        std::fs::remove_file(path).unwrap();
    }
}

fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    use std::os::unix::fs::PermissionsExt as _;
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    // Packs are read-only.
    let mode = std::fs::metadata(path).unwrap().permissions();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, mode).unwrap();
}

impl Damage {
    /// Whether every copy of what the revisions consist of goes with it: then the device says so, and waits for the remote.
    fn takes_contents(&self) -> bool {
        match self {
            Self::Older { what, round } => {
                *round < 3 && ["journal", "git"].iter().all(|name| what.contains(name))
            }
            Self::Gone { what } => ["journal", "git"].iter().all(|name| what.contains(name)),
            Self::Flip { .. } | Self::Cut { .. } | Self::Empty { .. } | Self::Remove { .. } => {
                false
            }
        }
    }

    fn inflict(&self, scene: &Scene, state: &Path) {
        match self {
            Self::Flip { file, at, with } => rewrite(&state.join(file), |bytes| bytes[*at] ^= with),
            Self::Cut { file, at } => rewrite(&state.join(file), |bytes| bytes.truncate(*at)),
            Self::Empty { file } => rewrite(&state.join(file), Vec::clear),
            Self::Remove { file } => remove(&state.join(file)),
            Self::Older { what, round } => {
                for name in *what {
                    let (from, to) = (scene.before(*round).join(name), state.join(name));
                    remove(&to);
                    if from.is_dir() {
                        copy(&from, &to);
                    } else if from.exists() {
                        std::fs::copy(from, to).unwrap();
                    }
                }
            }
            Self::Gone { what } => {
                for name in *what {
                    remove(&state.join(name));
                }
            }
        }
    }
}

/// How much is looked at in one case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Everything, each kept revision and what a person had there among it.
    Whole,
    /// What the device does by itself.
    Short,
}

/// One case, run from damage to peace.
struct Case<'a> {
    bench: &'a Bench<'a>,
    scene: &'a Scene,
    damage: &'a Damage,
    depth: Depth,
    /// All that was said.
    told: String,
}

impl Case<'_> {
    fn run(&mut self, remote: Remote, arguments: &[&str]) -> Result<Output, String> {
        let said = self.bench.run(remote, arguments);
        let _ = write!(
            self.told,
            "\n$ evenkeel {} ({remote:?}) -> {:?}\n{}",
            arguments.join(" "),
            said.code,
            said.text().trim()
        );
        if matches!(said.code, None | Some(101 | 134)) || said.text().contains("panicked") {
            return Err(format!("`{}` crashed", arguments.join(" ")));
        }
        Ok(said)
    }

    fn json(&mut self, remote: Remote, arguments: &[&str]) -> Result<Value, String> {
        let said = self.run(remote, arguments)?;
        serde_json::from_str(&said.stdout)
            .map_err(|error| format!("`{}`: {error}", arguments.join(" ")))
    }

    fn holds(&self, when: &str, round: u32, one: &str) -> Result<(), String> {
        for (path, right) in [(ONE, one.to_owned()), (TWO, long(round))] {
            let found = std::fs::read(self.bench.path(path)).ok();
            if found.as_deref() != Some(right.as_bytes()) {
                let found = found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                return Err(format!(
                    "{when}: {path} is not what revision {round} says, but {:.60?}",
                    found
                ));
            }
        }
        let mut more: Vec<String> = scene::files(&self.bench.path(""))
            .into_iter()
            .map(|path| path.display().to_string())
            .filter(|path| path != ONE && path != TWO)
            .collect();
        more.sort();
        if !more.is_empty() {
            return Err(format!("{when}: left behind: {}", more.join(", ")));
        }
        Ok(())
    }

    fn floor(
        &mut self,
        when: &str,
        remote: Remote,
        least: u64,
        commit: &str,
    ) -> Result<(), String> {
        let trust = self.json(remote, &["trust", "status", "--json"])?;
        let at = &trust["floor"]["at"];
        let generation = at["generation"].as_u64().unwrap_or(0);
        if generation < least || at["commit"] != commit {
            return Err(format!(
                "{when}: the floor is {at}, and was generation {least} at {commit}"
            ));
        }
        if trust["trust"]["set"]["serial"] != 1 || !trust["lost"].is_null() {
            return Err(format!(
                "{when}: the trust set is {} ({})",
                trust["trust"]["set"], trust["lost"]
            ));
        }
        Ok(())
    }

    fn check(&mut self) -> Result<Ended, String> {
        let (scene, bench) = (self.scene, self.bench);
        let (last, content) = scene.last_good().clone();
        // Without the remote, and with something to put right.
        std::fs::remove_file(bench.path(TWO)).unwrap();
        let said = self.run(Remote::Gone, &["sync"])?;
        if !matches!(said.code, Some(0 | 1 | 4)) {
            return Err(format!("offline: exit code {:?}", said.code));
        }
        let waits = self.damage.takes_contents() && !bench.path(TWO).exists();
        if waits && self.told.contains("cannot be made again") {
            std::fs::write(bench.path(TWO), long(3)).unwrap();
        }
        self.holds("offline", 3, &content)?;
        self.floor("offline", Remote::Gone, scene.generation, &last)?;
        let back_to = match self.depth {
            Depth::Whole => 2,
            Depth::Short => 0,
        };
        for (at, (commit, content)) in scene.good.iter().enumerate().take(back_to) {
            let round = u32::try_from(at).unwrap() + 1;
            let said = self.run(Remote::Gone, &["rollback", commit])?;
            match said.code {
                Some(0) => self.holds("rolled back", round, content)?,
                Some(2) if said.text().contains("not a good revision that is kept") => {}
                Some(1) if waits && said.text().contains("could not be made again") => {}
                other => return Err(format!("rollback to revision {round}: {other:?}")),
            }
        }
        if back_to > 0 {
            self.run(Remote::Gone, &["resume"])?;
        }
        if !waits {
            self.holds("resumed", 3, &content)?;
        }
        // The remote is back, and its tip is what was refused before.
        let said = self.run(Remote::Same, &["sync"])?;
        if said.code != Some(4) {
            return Err(format!("at the refused tip: exit code {:?}", said.code));
        }
        self.holds("at the refused tip", 3, &content)?;
        let history = deployments(&self.json(Remote::Same, &["history", "--json"])?);
        let tried = history
            .iter()
            .filter(|(commit, result)| *commit == scene.bad && result == "refused")
            .count();
        let complete = history.len() >= scene.deployments && tried >= 1;
        let told = self.told.contains("journal");
        if tried > 1 && !told {
            return Err("the refused revision was tried again, and nothing says why".to_owned());
        }
        if !complete && !told {
            return Err(format!(
                "history was lost, and nothing says so: {history:?}"
            ));
        }
        // It goes on.
        let said = self.run(Remote::Further, &["sync"])?;
        if said.code != Some(0) {
            return Err(format!("at a new tip: exit code {:?}", said.code));
        }
        let (newest, content) = &scene.newest;
        self.holds("at a new tip", 5, content)?;
        // Peace.
        let before = self.told.len();
        let said = self.run(Remote::Further, &["sync"])?;
        if said.code != Some(0) || !said.stderr.is_empty() || said.stdout.contains("healed") {
            return Err("the pass after that is not quiet".to_owned());
        }
        self.floor("in the end", Remote::Further, scene.generation + 1, newest)?;
        if self.told[before..].contains("damaged") {
            return Err("damage is still told in the end".to_owned());
        }
        if self.depth == Depth::Short {
            return Ok(Ended::New);
        }
        // What a person had there comes back.
        let said = self.run(Remote::Empty, &["sync"])?;
        let found = std::fs::read_to_string(bench.path(ONE)).ok();
        if said.code != Some(0) || found.as_deref() != Some(THEIRS) || bench.path(TWO).exists() {
            return Err(format!(
                "what stood here before did not come back, but {found:?}"
            ));
        }
        Ok(Ended::New)
    }
}

fn try_one(
    bench: &Bench<'_>,
    scene: &Scene,
    damage: &Damage,
    depth: Depth,
) -> Result<Ended, String> {
    bench.fresh();
    damage.inflict(scene, &bench.state());
    let mut case = Case {
        bench,
        scene,
        damage,
        depth,
        told: String::new(),
    };
    case.check()
        .map_err(|why| format!("{}: {why}\n{}", case.damage, case.told))
}

/// Runs them all, on two cores.
fn run_all(scene: &Scene, tally: &mut Tally, cases: &[Damage]) {
    let next = AtomicUsize::new(0);
    let every = Scale::asked().of(4, 1);
    let ended = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let bench = Bench::new(scene);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(damage) = cases.get(number) else {
                        break;
                    };
                    let depth = if number.is_multiple_of(every) {
                        Depth::Whole
                    } else {
                        Depth::Short
                    };
                    let end = try_one(&bench, scene, damage, depth);
                    ended.lock().unwrap().push(end);
                }
            });
        }
    });
    for end in ended.into_inner().unwrap() {
        tally.count(end);
    }
}

/// The seed of this run's sample; a red run names each case, which is the same for the same seed.
fn random() -> fastrand::Rng {
    fastrand::Rng::with_seed(only_seed().unwrap_or(1))
}

/// So many places of a file in an ordinary run. On demand all of them, but of the two big files, which are the journal's
/// log (each byte of it is turned over where a case costs no whole device) and the reserve (which holds nothing).
fn sample(places: &mut Vec<usize>, few: usize, random: &mut fastrand::Rng) {
    const BIG: usize = 64 * 1024;
    const OF_A_BIG_ONE: usize = 2000;
    let all = if places.len() < BIG {
        places.len()
    } else {
        OF_A_BIG_ONE
    };
    let wanted = Scale::asked().of(few, all);
    if wanted < places.len() {
        random.shuffle(places);
        places.truncate(wanted);
    }
}

#[test]
fn a_flipped_byte_anywhere_is_mended_and_told() {
    let (scene, _world) = Scene::new();
    let mut random = random();
    let mut cases = Vec::new();
    for file in scene.files() {
        let length = scene.read(&file).len();
        let mut places: Vec<usize> = (0..length).collect();
        sample(&mut places, 3, &mut random);
        cases.extend(places.into_iter().map(|at| Damage::Flip {
            file: file.clone(),
            at,
            with: random.u8(1..),
        }));
    }
    let mut tally = Tally::new("one flipped byte");
    run_all(&scene, &mut tally, &cases);
    tally.close();
}

#[test]
fn a_file_that_is_cut_emptied_or_gone_is_mended_and_told() {
    let (scene, _world) = Scene::new();
    let mut random = random();
    for (class, cases) in [
        ("a truncated file", {
            let mut cases = Vec::new();
            for file in scene.files() {
                let length = scene.read(&file).len();
                let mut places: Vec<usize> = (1..length).collect();
                sample(&mut places, 1, &mut random);
                cases.extend(places.into_iter().map(|at| Damage::Cut {
                    file: file.clone(),
                    at,
                }));
            }
            cases
        }),
        (
            "an emptied file",
            scene
                .files()
                .into_iter()
                .map(|file| Damage::Empty { file })
                .collect(),
        ),
        (
            "a removed file",
            scene
                .files()
                .into_iter()
                .map(|file| Damage::Remove { file })
                .collect::<Vec<_>>(),
        ),
    ] {
        let mut tally = Tally::new(class);
        run_all(&scene, &mut tally, &cases);
        tally.close();
    }
}

#[test]
fn parts_that_come_from_an_older_backup_take_nothing_back() {
    let (scene, _world) = Scene::new();
    let mut cases = Vec::new();
    for round in 1..=3 {
        for what in [
            &["journal"][..],
            &["journal.copy"],
            &["floor"],
            &["trust-set"],
            &["git"],
            &["kept"],
            &["journal", "git"],
            &["journal", "trust-set"],
            &["floor", "trust-set"],
            &["floor", "git"],
        ] {
            cases.push(Damage::Older { what, round });
        }
    }
    for what in [
        &["journal"][..],
        &["git"],
        &["floor", "trust-set"],
        &["journal", "git"],
        &["journal.copy", "floor", "trust-set"],
    ] {
        cases.push(Damage::Gone { what });
    }
    let mut tally = Tally::new("parts from an older backup, or gone");
    run_all(&scene, &mut tally, &cases);
    tally.close();
}

/// All copies of the floor from an older backup: nothing on the device can tell that, and the harness must.
#[test]
fn a_floor_that_got_older_is_seen() {
    let (scene, _world) = Scene::new();
    let what = &["journal", "journal.copy", "floor", "git"];
    let mut tally = Tally::new("parts from an older backup, or gone");
    run_all(&scene, &mut tally, &[Damage::Older { what, round: 2 }]);
    tally.close_planted("every copy of the floor put back");
}

/// With the git store alone left, who was taken out of the trust set must not come back by that.
#[test]
fn a_device_of_which_only_the_git_store_is_left_knows_that_its_trust_sets_are_lost() {
    let (scene, _world) = Scene::new();
    let bench = Bench::new(&scene);
    for again in [&[][..], &["status"]] {
        bench.fresh();
        let what = &["journal", "journal.copy", "floor", "trust-set"];
        Damage::Gone { what }.inflict(&scene, &bench.state());
        if !again.is_empty() {
            bench.run(Remote::Gone, again).expect_code(0);
        }
        for _ in 0..2 {
            let said = bench.run(Remote::Further, &["sync"]).expect_code(3);
            assert!(said.text().contains("trust reset"), "{}", said.text());
        }
        let (newest, content) = &scene.newest;
        bench
            .run(Remote::Further, &["trust", "reset", "--to", newest])
            .expect_code(0);
        bench.run(Remote::Further, &["sync"]).expect_code(0);
        let found = std::fs::read_to_string(bench.path(ONE)).unwrap();
        assert_eq!(found, *content);
    }
}
