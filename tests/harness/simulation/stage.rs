//! The fleet's repository with its two rings, the two servers that devices ask, and who promotes and publishes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use evenkeel_schema::agent_config::{SourceSection, TrustSection};
use tempfile::TempDir;

use super::device::Blueprint;
use crate::control_group::Group;
use crate::device::binary;
use crate::git_http::Room;
use crate::process::run;
use crate::{FleetRepo, GitHttp, HttpOptions};

/// One device in so many is in the ring `canary`.
const CANARY: usize = 20;
/// How many are in it at least: one for each server and door.
const SMALLEST_CANARY: usize = 4;
/// How long a promotion may take, which renders every device of the ring, beside a thousand others at work.
const PROMOTION: Duration = Duration::from_secs(300);
/// The folder of the published tree.
const TREE: &str = "fleet";

/// What a release's containers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Release {
    /// They get healthy.
    Good,
    /// They never get healthy.
    Bad,
}

/// Which server a device asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The one of git.
    Git,
    /// The one that has the published tree's files, and knows nothing of git.
    Tree,
}

/// Both.
pub(super) const KINDS: [Kind; 2] = [Kind::Git, Kind::Tree];

impl Kind {
    /// The one that the n-th device asks.
    pub(super) const fn of(index: usize) -> Self {
        if index.is_multiple_of(2) {
            Self::Git
        } else {
            Self::Tree
        }
    }

    /// As the table has it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Git => "git",
            Self::Tree => "tree",
        }
    }

    /// Requests of a poll that finds nothing new: of git what protocol 2 begins with (`info/refs`), and `ls-refs`; of a tree
    /// its head.
    pub(super) const fn requests(self) -> f64 {
        match self {
            Self::Git => 2.0,
            Self::Tree => 1.0,
        }
    }
}

/// A server, with what counts its processor time.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) server: GitHttp,
    pub(super) group: Option<Group>,
}

impl Host {
    fn new(kind: Kind, root: &std::path::Path, devices: usize) -> Self {
        let group = Group::new(&format!("{}-server", kind.name()));
        let options = HttpOptions {
            // Each device keeps one open.
            room: Room {
                connections: u32::try_from(devices * 2 + 256).expect("a fleet of today"),
                backends: match kind {
                    Kind::Git => 8,
                    Kind::Tree => 0,
                },
            },
            group: group.as_ref().map(Group::path),
            ..HttpOptions::default()
        };
        let server = GitHttp::start(root, options);
        server.open_side();
        Self { server, group }
    }
}

/// A commit that devices may have from now on.
#[derive(Debug, Clone)]
pub(super) struct Released {
    pub(super) commit: String,
    /// Since when git's server shows it.
    pushed: Instant,
    /// Since when the tree shows it.
    published: Instant,
}

impl Released {
    /// Since when the n-th device could have had it.
    pub(super) const fn since(&self, index: usize) -> Instant {
        match Kind::of(index) {
            Kind::Git => self.pushed,
            Kind::Tree => self.published,
        }
    }
}

/// The repository and its servers.
#[derive(Debug)]
pub(super) struct Stage {
    repo: FleetRepo,
    git: Host,
    tree: Host,
    /// In memory, so that the machine's disk is no part of what is measured.
    stores: TempDir,
    pub(super) devices: usize,
    version: std::cell::Cell<u32>,
}

impl Stage {
    pub(super) fn new(devices: usize) -> Self {
        let repo = FleetRepo::new();
        let signer = repo.signer();
        let key = signer.private_key().display().to_string();
        for (name, value) in [
            ("gpg.format", "ssh"),
            ("user.signingkey", &key),
            ("user.name", "Release"),
            ("user.email", signer.principal()),
        ] {
            repo.git(&["config", name, value]);
        }
        repo.write("fleet.toml", "format = 1\nname = \"simulated\"\n")
            .write("groups/all.toml", "match = \"all\"\napps = [\"gateway\"]\n");
        for index in 0..devices {
            let (id, ring) = (id(index), ring(index, devices));
            repo.write(
                &format!("devices/{id}.toml"),
                format!("[labels]\nring = \"{ring}\"\n"),
            );
        }
        let (git, tree) = (
            Host::new(Kind::Git, repo.served(), devices),
            Host::new(Kind::Tree, repo.served(), devices),
        );
        let stage = Self {
            repo,
            git,
            tree,
            stores: tempfile::Builder::new()
                .prefix("evenkeel-fleet-")
                .tempdir_in("/dev/shm")
                .expect("a directory in memory"),
            devices,
            version: std::cell::Cell::new(0),
        };
        stage.repo.branch("stable");
        stage.release(Release::Good);
        stage.repo.branch("canary").push();
        stage.publish("canary");
        stage
    }

    /// A server of this kind.
    pub(super) const fn host(&self, kind: Kind) -> &Host {
        match kind {
            Kind::Git => &self.git,
            Kind::Tree => &self.tree,
        }
    }

    /// Whoever comes by a side door is cut off.
    pub(super) fn shut_side(&self) {
        for kind in KINDS {
            self.host(kind).server.shut_side();
        }
    }

    /// They may come again.
    pub(super) fn open_side(&self) {
        for kind in KINDS {
            self.host(kind).server.open_side();
        }
    }

    /// Both servers are gone.
    pub(super) fn stop(&mut self) {
        self.git.server.stop();
        self.tree.server.stop();
    }

    /// Both are there again.
    pub(super) fn resume(&mut self) {
        self.git.server.resume();
        self.tree.server.resume();
    }

    /// The devices of the ring `canary`; those of `stable` follow.
    pub(super) fn canary(&self) -> std::ops::Range<usize> {
        0..canary(self.devices)
    }

    /// The devices of the ring `stable`.
    pub(super) fn stable(&self) -> std::ops::Range<usize> {
        self.canary().end..self.devices
    }

    /// The devices that come by a side door: half of both rings and of both servers.
    pub(super) fn beside(&self) -> impl Iterator<Item = usize> + Clone + use<> {
        (0..self.devices).filter(|index| is_beside(*index))
    }

    /// All others.
    pub(super) fn before(&self) -> impl Iterator<Item = usize> + Clone + use<> {
        (0..self.devices).filter(|index| !is_beside(*index))
    }

    /// The devices that ask this server.
    pub(super) fn asking(&self, kind: Kind) -> impl Iterator<Item = usize> + Clone + use<> {
        (0..self.devices).filter(move |index| Kind::of(*index) == kind)
    }

    /// Releases the next version to the branch that is checked out: `canary`, but for the very first.
    pub(super) fn release(&self, release: Release) -> Released {
        let version = self.version.get() + 1;
        self.version.set(version);
        let image = match release {
            Release::Good => image(version),
            Release::Bad => bad_image(),
        };
        self.repo
            .write("apps/gateway/app.toml", app(version, &image));
        self.now();
        let commit = self.repo.release(&format!("Version {version}"));
        let branch = if version == 1 { "stable" } else { "canary" };
        self.released(branch, commit)
    }

    /// `evenkeel promote --from canary --to stable`: the commit that stable shows.
    pub(super) fn promote(&self) -> Released {
        let mut command = self.evenkeel();
        command
            .args(["promote", "--from", "canary", "--to", "stable"])
            .arg("--allowed-signers")
            .arg(self.repo.allowed_signers());
        run(&mut command, PROMOTION).expect_code(0);
        self.released("stable", self.repo.remote_tip("stable"))
    }

    /// It was pushed just now, and is published, too.
    fn released(&self, branch: &str, commit: String) -> Released {
        let pushed = Instant::now();
        self.publish(branch);
        Released {
            commit,
            pushed,
            published: Instant::now(),
        }
    }

    /// `evenkeel publish`, from what git's server shows.
    fn publish(&self, branch: &str) {
        let mut command = self.evenkeel();
        command
            .args(["publish", "--branch", branch, "--repo"])
            .arg(self.repo.bare())
            .arg("--out")
            .arg(self.tree.server.files().join(TREE));
        run(&mut command, PROMOTION).expect_code(0);
    }

    fn evenkeel(&self) -> Command {
        let mut command = Command::new(binary());
        command
            .current_dir(self.repo.work())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env_remove("SSH_AUTH_SOCK");
        command
    }

    /// The next releases reach stable in waves: from this moment on, with this pause between them.
    pub(super) fn in_waves(&self, start: SystemTime, percent: &[u32], pause: Duration) {
        let start = jiff::Timestamp::try_from(start).expect("a time of today");
        self.repo.write(
            "groups/stable.toml",
            format!(
                "[match]\nring = \"stable\"\n\n[rollout]\nid = \"simulated\"\nstart = {start:.0}\nwaves = {percent:?}\npause = \"{}s\"\n",
                pause.as_secs()
            ),
        );
    }

    /// What a branch shows.
    pub(super) fn tip(&self, branch: &str) -> String {
        self.repo.remote_tip(branch)
    }

    /// The next commit is dated now: later than what `promote` made.
    fn now(&self) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        self.repo.set_time(now.as_secs());
    }

    /// A source's section for the n-th device.
    pub(super) fn source(&self, index: usize, interval: Duration) -> SourceSection {
        let kind = Kind::of(index);
        let server = &self.host(kind).server;
        let url = match (kind, is_beside(index)) {
            (Kind::Git, false) => server.url(),
            (Kind::Git, true) => server.side_url_of("fleet.git"),
            (Kind::Tree, false) => server.tree_url(TREE),
            (Kind::Tree, true) => server.side_tree_url(TREE),
        };
        SourceSection {
            interval,
            ca_file: Some(server.ca_file()),
            ..SourceSection::at(url, ring(index, self.devices))
        }
    }

    /// Where something is kept that was fetched: in a directory of this name.
    pub(super) fn store(&self, name: &str) -> PathBuf {
        let state = self.stores.path().join(name);
        std::fs::create_dir(&state).expect("a directory of ours");
        state.join("git")
    }

    /// All devices, switched on within so long.
    pub(super) fn blueprints(&self, interval: Duration, within: Duration) -> Vec<Blueprint> {
        let allowed_signers = self.repo.allowed_signers();
        (0..self.devices)
            .map(|index| Blueprint {
                id: id(index),
                source: self.source(index, interval),
                trust: TrustSection {
                    allowed_signers: allowed_signers.clone(),
                    branches: BTreeMap::new(),
                    ..TrustSection::default()
                },
                store: self.store(&index.to_string()),
                after: within.mul_f64(index as f64 / self.devices as f64),
                bad_image: bad_image(),
            })
            .collect()
    }
}

fn id(index: usize) -> String {
    format!("gw-{index:04}")
}

fn ring(index: usize, devices: usize) -> &'static str {
    if index < canary(devices) {
        "canary"
    } else {
        "stable"
    }
}

fn canary(devices: usize) -> usize {
    devices.div_ceil(CANARY).max(SMALLEST_CANARY)
}

const fn is_beside(index: usize) -> bool {
    index / 2 % 2 == 1
}

fn image(version: u32) -> String {
    format!("registry.example.com/gateway@sha256:{version:064x}")
}

fn bad_image() -> String {
    format!("registry.example.com/gateway@sha256:{:b>64}", "")
}

fn app(version: u32, image: &str) -> String {
    format!(
        r#"[[files]]
path = "/etc/gateway.conf"
template = true
content = "device = {{{{ device.id }}}}\nversion = {version}\n"

[services.gateway]
image = "{image}"
volumes = ["/etc/gateway.conf:/etc/gateway.conf:ro"]
healthcheck = {{ test = ["CMD", "true"], interval = "1s", retries = 2 }}

[gate]
deadline = "3s"
soak = "1s"
"#
    )
}
