//! One small state directory with everything in it, made by the real agent; and a bench on which a copy of it is broken.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use evenkeel_tests::device::binary;
use evenkeel_tests::process::{Output, run};
use evenkeel_tests::repo::git_command;
use evenkeel_tests::{PATIENCE, Signer};
use serde_json::Value;
use tempfile::TempDir;

use crate::fleet::{QUICK, World};

const SECURITY: &str = "security@example.com";
/// A pass here takes a tenth of a second; the one that tries the bad revision again takes its gate's second.
const LIMIT: Duration = Duration::from_secs(60);
/// The bad revision waits so long for a port at which nobody listens.
const BAD: &str = "\n[[checks]]\ntcp = \"127.0.0.1:1\"\n[gate]\ndeadline = \"1s\"\nsoak = \"0s\"\n";
/// What stood at [`ONE`] before.
pub(super) const THEIRS: &str = "what a person wrote\n";
pub(super) const ONE: &str = "etc/one.conf";
pub(super) const TWO: &str = "etc/two.conf";

/// Where the remote is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remote {
    /// Nowhere.
    Gone,
    /// As it was when the state was made: its tip is the revision that was refused.
    Same,
    /// One good revision further.
    Further,
    /// And one more, which declares nothing any more: what stood there before comes back.
    Empty,
}

impl Remote {
    const ALL: [Self; 4] = [Self::Gone, Self::Same, Self::Further, Self::Empty];

    const fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Same => "same",
            Self::Further => "further",
            Self::Empty => "empty",
        }
    }
}

/// A state directory, the files of the device, and what is known of them.
pub(super) struct Scene {
    sealed: TempDir,
    /// agent.toml for each place of the remote, with the paths of the device that it was made on.
    configs: BTreeMap<&'static str, String>,
    made_at: [(&'static str, PathBuf); 2],
    /// The good revisions that are kept, oldest first, and what [`ONE`] holds in each.
    pub(super) good: Vec<(String, String)>,
    pub(super) bad: String,
    pub(super) newest: (String, String),
    /// Deployments in the history.
    pub(super) deployments: usize,
    /// The floor's generation.
    pub(super) generation: u64,
}

/// Copies a tree.
pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
    let mode = std::fs::metadata(from).unwrap().permissions();
    std::fs::set_permissions(to, mode).unwrap();
}

/// Every regular file below, by its path from there.
pub(super) fn files(dir: &Path) -> BTreeSet<PathBuf> {
    fn walk(top: &Path, dir: &Path, all: &mut BTreeSet<PathBuf>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(top, &path, all);
            } else if path.is_file() {
                all.insert(path.strip_prefix(top).unwrap().to_owned());
            }
        }
    }
    let mut all = BTreeSet::new();
    walk(dir, dir, &mut all);
    all
}

/// In memory where there is room: thousands of copies are made, and whether they reach a disk is not what is asked here.
fn tempdir() -> TempDir {
    let memory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    builder.prefix("ek-corrupt-");
    if memory.is_dir() {
        builder.tempdir_in(memory).unwrap()
    } else {
        builder.tempdir_in("/tmp").unwrap()
    }
}

impl Scene {
    /// Three good revisions, the first of which took over a person's file and the second of which brought a trust set; an
    /// edit by hand that was healed; and a revision that was refused, which is the branch's tip.
    /// The world that comes with it holds the repositories.
    pub(super) fn new() -> (Self, World) {
        let root = Signer::new(SECURITY);
        let mut world = World::of_files("corrupt");
        world.trust_line(&root.allowed_line(""));
        world.device.settings.more =
            format!("[trust.root]\nsigners = [{SECURITY:?}]\nthreshold = 1\n");
        let sealed = tempdir();
        let mut good = Vec::new();
        let theirs = world.device.path("/etc/one.conf");
        std::fs::create_dir_all(theirs.parent().unwrap()).unwrap();
        std::fs::write(theirs, THEIRS).unwrap();
        for round in 1..=3 {
            if round == 2 {
                let text = format!("# Fleet: test\n{}", world.repo.signer().allowed_line(""));
                world.repo.write("trust/allowed_signers", text);
                run(
                    Command::new(binary())
                        .args(["trust", "sign"])
                        .arg(world.repo.work())
                        .arg("--key")
                        .arg(root.private_key())
                        .args(["--next", "--as", "root"]),
                    PATIENCE,
                )
                .expect_code(0);
            }
            let content = write(&world, round, QUICK);
            let id = world.release_and_sync(&content);
            if round == 2 {
                std::fs::write(world.device.path("/etc/two.conf"), "edited by hand\n").unwrap();
                world.device.sync().expect_code(0);
            }
            good.push((id, content));
            copy(
                &world.device.state_dir(),
                &sealed.path().join(format!("before-{round}")),
            );
        }
        write(&world, 4, BAD);
        let bad = world.repo.release("Bad");
        world.device.sync().expect_code(4);
        world.device.sync().expect_code(4);
        copy(&world.device.state_dir(), &sealed.path().join("state"));
        copy(&world.device.root(), &sealed.path().join("root"));
        let history = world.device.json(&["history", "--json"]);
        let trust = world.device.json(&["trust", "status", "--json"]);
        let content = write(&world, 5, QUICK);
        let newest = world.repo.commit_signed("Further");
        let further = fork(&world, "further.git");
        world.apps(&[]);
        world.repo.commit_signed("Empty\n\nAllow-Empty: true");
        let empty = fork(&world, "empty.git");
        let device = &mut world.device;
        let made_at = [("state", device.state_dir()), ("root", device.root())];
        let mut configs = BTreeMap::new();
        for remote in Remote::ALL {
            device.settings.url = match remote {
                Remote::Gone => format!("file://{}/nowhere.git", sealed.path().display()),
                Remote::Same => world.repo.file_url(),
                Remote::Further => format!("file://{}", further.display()),
                Remote::Empty => format!("file://{}", empty.display()),
            };
            configs.insert(remote.name(), device.config_text());
        }
        let scene = Self {
            sealed,
            configs,
            made_at,
            good,
            bad,
            newest: (newest, content),
            deployments: deployments(&history).len(),
            generation: trust["floor"]["at"]["generation"].as_u64().unwrap(),
        };
        (scene, world)
    }

    /// The files of the state directory.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        files(&self.sealed.path().join("state"))
            .into_iter()
            .collect()
    }

    pub(super) fn read(&self, file: &Path) -> Vec<u8> {
        std::fs::read(self.sealed.path().join("state").join(file)).unwrap()
    }

    /// The state directory after that many good revisions.
    pub(super) fn before(&self, round: usize) -> PathBuf {
        self.sealed.path().join(format!("before-{round}"))
    }

    pub(super) fn last_good(&self) -> &(String, String) {
        self.good.last().unwrap()
    }
}

/// A repository of its own whose tip is the working clone's.
fn fork(world: &World, name: &str) -> PathBuf {
    let place = world.repo.served().join(name);
    run(
        git_command()
            .args(["clone", "-q", "--bare"])
            .arg(world.repo.bare())
            .arg(&place),
        PATIENCE,
    )
    .expect_code(0);
    world
        .repo
        .git(&["push", "-q", &place.display().to_string(), "HEAD"]);
    place
}

/// Two files: one short, and one of several pieces.
fn write(world: &World, round: u32, more: &str) -> String {
    let content = format!("revision {round}\n");
    let long = long(round);
    world.apps(&["one"]).app(
        "one",
        format!(
            "[[files]]\npath = \"/etc/one.conf\"\ncontent = {content:?}\non_remove = \"restore\"\n\n\
             [[files]]\npath = \"/etc/two.conf\"\nsource = \"two.conf\"\n{more}"
        ),
    );
    world.repo.write("apps/one/two.conf", long);
    content
}

/// What [`TWO`] holds in a round.
pub(super) fn long(round: u32) -> String {
    (0..150)
        .map(|line| format!("{round} line {line} {}\n", line * line * 7919))
        .collect()
}

/// The deployments of a history: commit and result.
pub(super) fn deployments(history: &Value) -> Vec<(String, String)> {
    let list = history
        .as_array()
        .or_else(|| history["deployments"].as_array());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    list.into_iter()
        .flatten()
        .map(|one| (text(&one["commit"]), text(&one["result"])))
        .collect()
}

/// Where a copy of the scene is broken and looked at.
pub(super) struct Bench<'s> {
    scene: &'s Scene,
    dir: TempDir,
}

impl<'s> Bench<'s> {
    pub(super) fn new(scene: &'s Scene) -> Self {
        let dir = tempdir();
        for (remote, text) in &scene.configs {
            let mut text = text.clone();
            for (what, old) in &scene.made_at {
                text = text.replace(&format!("{old:?}"), &format!("{:?}", dir.path().join(what)));
            }
            std::fs::write(dir.path().join(remote), text).unwrap();
        }
        Self { scene, dir }
    }

    /// A fresh copy.
    pub(super) fn fresh(&self) {
        for what in ["state", "root"] {
            let place = self.dir.path().join(what);
            if place.exists() {
                std::fs::remove_dir_all(&place).unwrap();
            }
            copy(&self.scene.sealed.path().join(what), &place);
        }
    }

    pub(super) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A file of the device.
    pub(super) fn path(&self, declared: &str) -> PathBuf {
        self.dir.path().join("root").join(declared)
    }

    pub(super) fn command(&self, remote: Remote, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .arg("--config")
            .arg(self.dir.path().join(remote.name()))
            .env_remove("NOTIFY_SOCKET")
            .env_remove("DOCKER_HOST");
        command
    }

    pub(super) fn run(&self, remote: Remote, arguments: &[&str]) -> Output {
        run(&mut self.command(remote, arguments), LIMIT)
    }
}
