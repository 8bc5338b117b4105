//! A conversation with a git server, broken at each of its bytes: the local store stays at the old tip and whole, and the same
//! fetch over a whole link brings the new one.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use evenkeel::adapter::git::{GitSource, Limits};
use evenkeel::domain::commit::RawCommit;
use evenkeel::port::source::{Source as _, SourceError};
use evenkeel_schema::agent_config::SourceSection;
use evenkeel_tests::link::{How, Link, Way, Weather};
use evenkeel_tests::tally::{Ended, Scale, Tally, is_planted, only_seed};
use evenkeel_tests::{FleetRepo, GitHttp, GitSsh, short_tempdir};
use tempfile::TempDir;

/// Limits with which a stall or a trickle is cut off in seconds, and a busy machine is not.
fn impatient() -> Limits {
    Limits {
        connect: Duration::from_secs(3),
        read: Duration::from_secs(3),
        poll: Duration::from_secs(6),
        fetch: Duration::from_secs(9),
        ..Limits::default()
    }
}

/// Beyond every one of those limits.
const CUT_OFF_WITHIN: Duration = Duration::from_secs(20);

fn section(url: String) -> SourceSection {
    SourceSection::at(url, "main")
}

/// A store of its own, and the runtime that the agent has.
struct Store {
    dir: TempDir,
    runtime: tokio::runtime::Runtime,
    source: GitSource,
    floor: Option<String>,
}

impl Store {
    fn new(section: &SourceSection, from: Option<&Path>, floor: Option<&str>) -> Self {
        let dir = short_tempdir("pos");
        let git = dir.path().join("git");
        if let Some(from) = from {
            let copied = std::process::Command::new("cp")
                .arg("-a")
                .args([from, &git])
                .status()
                .unwrap();
            assert!(copied.success());
        }
        Self {
            source: GitSource::with_limits(section, git, impatient()).unwrap(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            dir,
            floor: floor.map(str::to_owned),
        }
    }

    fn fetch(&self) -> Result<RawCommit, SourceError> {
        let floor = self.floor.as_ref().map(|floor| floor.parse().unwrap());
        self.runtime
            .block_on(self.source.fetch(floor.as_ref()))
            .map(|fetched| fetched.tip)
    }

    fn tip(&self) -> Result<Option<String>, String> {
        let tip = self.runtime.block_on(self.source.local_tip(None));
        let tip = tip.map_err(|error| format!("the store is damaged: {error}"))?;
        Ok(tip.map(|commit| commit.id.as_str().to_owned()))
    }

    /// The tip is this commit, and git finds nothing wrong or left over.
    fn is_whole_at(&self, commit: Option<&str>) -> Result<(), String> {
        let tip = self.tip()?;
        if tip.as_deref() != commit {
            return Err(format!("the tip is {tip:?}, not {commit:?}"));
        }
        let git = self.dir.path().join("git");
        for entry in walk(&git.join("objects")) {
            let name = entry.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') || name.starts_with("tmp") || name.ends_with(".lock") {
                return Err(format!("{} is left over", entry.display()));
            }
        }
        Ok(())
    }
}

fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            all.extend(walk(&entry.path()));
        } else {
            all.push(entry.path());
        }
    }
    all
}

fn told(error: &SourceError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

/// What one break does to a store that has the old revision (or nothing at all) while the new one waits.
struct Breaking<'a> {
    section: &'a SourceSection,
    link: &'a Link,
    old_store: Option<&'a Path>,
    old: Option<&'a str>,
    new: &'a str,
}

impl Breaking<'_> {
    fn at(&self, after: u64, way: Way, how: How) -> Result<Ended, String> {
        let replay = |why: String| format!("{how:?} {way:?} after {after} bytes: {why}");
        let store = Store::new(self.section, self.old_store, self.old);
        self.link.cut(after, way, how);
        let begun = Instant::now();
        let done = store.fetch();
        let took = begun.elapsed();
        self.link.mend();
        if took > CUT_OFF_WITHIN {
            return Err(replay(format!("it took {took:?}")));
        }
        match &done {
            Err(error) => {
                // A flipped bit may turn the branch's name or the protocol into another one.
                let is_other = matches!(error, SourceError::NoBranch { .. }) && how == How::Flip;
                if !matches!(error, SourceError::Remote { .. }) && !is_other {
                    return Err(replay(told(error)));
                }
                store.is_whole_at(self.old).map_err(replay)?;
            }
            Ok(commit) if commit.id.as_str() == self.new => {
                store.is_whole_at(Some(self.new)).map_err(replay)?;
            }
            Ok(commit) => return Err(replay(format!("it took {} for the tip", commit.id))),
        }
        if is_planted("link-never-mends") {
            return Err(replay("the link was not mended (planted)".to_owned()));
        }
        // The same process goes on; and nothing that was kept from before is in its way.
        self.link.hang_up();
        std::thread::sleep(Duration::from_millis(60));
        let again = store.fetch().map_err(|error| replay(told(&error)))?;
        if again.id.as_str() != self.new {
            return Err(replay(format!("then it took {} for the tip", again.id)));
        }
        store.is_whole_at(Some(self.new)).map_err(replay)?;
        Ok(Ended::New)
    }

    /// How many bytes a whole conversation has: up and down.
    fn length(&self) -> (u64, u64) {
        let store = Store::new(self.section, self.old_store, self.old);
        self.link.mend();
        assert_eq!(store.fetch().unwrap().id.as_str(), self.new);
        self.link.passed()
    }

    /// Each `step`th byte of both directions, and the last one.
    fn everywhere(&self, step: u64, hows: &[How], tally: &mut Tally) {
        let (up, down) = self.length();
        assert!(up > 300 && down > 500, "up {up}, down {down}");
        for (way, length) in [(Way::Down, down), (Way::Up, up)] {
            let mut places: Vec<u64> = (0..length).step_by(step.max(1) as usize).collect();
            places.extend([length - 1, length]);
            if let Some(seed) = only_seed() {
                places.retain(|place| *place == seed);
            }
            for place in places {
                for how in hows {
                    tally.count(self.at(place, way, *how));
                }
            }
        }
    }
}

struct Scene {
    repo: FleetRepo,
    old: String,
    new: String,
}

fn scene() -> Scene {
    let repo = FleetRepo::new();
    let mut chance = fastrand::Rng::with_seed(7);
    let mut noise = || -> Vec<u8> { (0..600).map(|_| chance.u8(..)).collect() };
    repo.write("apps/web/app.toml", "one");
    repo.write("apps/web/noise", noise());
    let old = repo.release("old");
    repo.write("apps/web/app.toml", "two");
    repo.write("apps/web/more", noise());
    repo.commit_signed("between");
    repo.write("apps/web/last", "three");
    let new = repo.release("new");
    Scene { repo, old, new }
}

/// A store at the old revision.
fn at_old(scene: &Scene) -> TempDir {
    scene.repo.rewind(&scene.old);
    let store = Store::new(&section(scene.repo.file_url()), None, None);
    assert_eq!(store.fetch().unwrap().id.as_str(), scene.old);
    scene
        .repo
        .bare_git(&["update-ref", "refs/heads/main", &scene.new]);
    let Store { dir, .. } = store;
    dir
}

#[test]
fn a_fetch_that_is_cut_at_any_byte_leaves_the_old_tip_and_is_made_good() {
    let scene = scene();
    let old_store = at_old(&scene);
    let old_git = old_store.path().join("git");
    let server = GitHttp::http(scene.repo.served());
    let link = Link::to(server.port());
    let section = section(format!("http://127.0.0.1:{}/fleet.git", link.port()));
    let step = |quick, full| Scale::asked().of(quick, full);
    let mut tally = Tally::new("a fetch over HTTP cut at a byte");
    let update = Breaking {
        section: &section,
        link: &link,
        old_store: Some(&old_git),
        old: Some(&scene.old),
        new: &scene.new,
    };
    update.everywhere(step(307, 1), &[How::Reset], &mut tally);
    update.everywhere(step(907, 2), &[How::Close], &mut tally);
    // Each of these costs the second after which a server counts as stalled.
    update.everywhere(step(4001, 31), &[How::Silence], &mut tally);
    // A first clone.
    let clone = Breaking {
        old_store: None,
        old: None,
        ..update
    };
    clone.everywhere(step(907, 3), &[How::Reset, How::Close], &mut tally);
    tally.close();

    let mut tally = Tally::new("a fetch over HTTP with a flipped bit");
    let update = Breaking {
        old_store: Some(&old_git),
        old: Some(&scene.old),
        ..clone
    };
    update.everywhere(step(307, 1), &[How::Flip], &mut tally);
    tally.close();
}

#[test]
fn a_fetch_over_ssh_that_is_cut_stalls_or_trickles_is_ended_and_made_good() {
    let scene = scene();
    let old_store = at_old(&scene);
    let old_git = old_store.path().join("git");
    let server = GitSsh::start(&scene.repo.bare());
    let direct = server.url();
    let port = direct
        .rsplit_once(':')
        .and_then(|(_, rest)| rest.split('/').next())
        .unwrap();
    let link = Link::to(port.parse().unwrap());
    let known_hosts = old_store.path().join("known_hosts");
    let pinned = std::fs::read_to_string(server.known_hosts()).unwrap();
    let here = link.port().to_string();
    std::fs::write(&known_hosts, pinned.replace(port, &here)).unwrap();
    let mut section = section(direct.replace(&format!(":{port}/"), &format!(":{here}/")));
    section.ssh_key = Some(server.user_key());
    section.known_hosts = Some(known_hosts);
    let breaking = Breaking {
        section: &section,
        link: &link,
        old_store: Some(&old_git),
        old: Some(&scene.old),
        new: &scene.new,
    };
    let mut tally = Tally::new("a fetch over ssh cut, stalled or trickling");
    let (up, down) = breaking.length();
    let mut chance = fastrand::Rng::with_seed(only_seed().unwrap_or(1));
    for _ in 0..Scale::asked().of(4, 150) {
        let how = [How::Reset, How::Close, How::Silence][chance.usize(0..3)];
        let (way, length) = [(Way::Down, down), (Way::Up, up)][chance.usize(0..2)];
        tally.count(breaking.at(chance.u64(0..length), way, how));
    }
    // The last thing that ssh says before git does; and a byte at a time, for ever.
    tally.count(breaking.at(down - 200, Way::Down, How::Silence));
    let store = Store::new(&section, Some(&old_git), Some(&scene.old));
    link.set(Weather {
        rate: Some(40),
        ..Weather::default()
    });
    let begun = Instant::now();
    let done = store.fetch();
    let took = begun.elapsed();
    link.mend();
    tally.count(match done {
        Err(error) if took < CUT_OFF_WITHIN => {
            let text = told(&error);
            store.is_whole_at(Some(&scene.old)).and_then(|()| {
                if text.contains("too slow")
                    || text.contains("sent nothing")
                    || text.contains("ssh failed")
                {
                    Ok(Ended::LastGood)
                } else {
                    Err(format!("it is not named: {text}"))
                }
            })
        }
        other => Err(format!("after {took:?}: {other:?}")),
    });
    assert_eq!(store.fetch().unwrap().id.as_str(), scene.new);
    tally.close();
}

#[test]
fn noise_in_a_servers_place_changes_nothing() {
    let scene = scene();
    let old_store = at_old(&scene);
    let old_git = old_store.path().join("git");
    let mut tally = Tally::new("a remote that answers with noise");
    let seeds: Vec<u64> = match only_seed() {
        Some(seed) => vec![seed],
        None => (1..=Scale::asked().of(25, 5000)).collect(),
    };
    for seed in seeds {
        let server = evenkeel_tests::faults::FaultServer::of_noise(seed);
        let section = section(server.url());
        let store = Store::new(&section, Some(&old_git), Some(&scene.old));
        tally.count(match store.fetch() {
            Err(SourceError::Remote { .. }) => store
                .is_whole_at(Some(&scene.old))
                .map(|()| Ended::LastGood)
                .map_err(|why| format!("seed {seed}: {why}")),
            other => Err(format!("seed {seed}: {other:?}")),
        });
    }
    tally.close();
}
