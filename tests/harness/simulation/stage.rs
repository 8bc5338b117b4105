//! The fleet's repository with its two rings, the server in front of it, and who promotes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evenkeel_schema::agent_config::{SourceSection, TrustSection};
use tempfile::TempDir;

use super::device::Blueprint;
use crate::control_group::Group;
use crate::device::binary;
use crate::git_http::Room;
use crate::process::run;
use crate::{FleetRepo, GitHttp, HttpOptions, PATIENCE};

/// One device in so many is in the ring `canary`.
const CANARY: usize = 20;

/// What a release's containers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Release {
    /// They get healthy.
    Good,
    /// They never get healthy.
    Bad,
}

/// The repository and its server.
#[derive(Debug)]
pub(super) struct Stage {
    repo: FleetRepo,
    pub(super) server: GitHttp,
    pub(super) group: Option<Group>,
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
        let group = Group::new("git-server");
        let server = GitHttp::start(
            repo.served(),
            HttpOptions {
                // Each device keeps one open.
                room: Room {
                    connections: u32::try_from(devices * 2 + 256).expect("a fleet of today"),
                    backends: 8,
                },
                group: group.as_ref().map(Group::path),
                ..HttpOptions::default()
            },
        );
        server.open_side();
        let stage = Self {
            repo,
            server,
            group,
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
        stage
    }

    /// The devices of the ring `canary`; those of `stable` follow.
    pub(super) fn canary(&self) -> std::ops::Range<usize> {
        0..self.devices.div_ceil(CANARY)
    }

    /// The devices of the ring `stable`.
    pub(super) fn stable(&self) -> std::ops::Range<usize> {
        self.canary().end..self.devices
    }

    /// The devices that come by the server's side door: every other one, of both rings.
    pub(super) fn beside(&self) -> impl Iterator<Item = usize> + Clone + use<> {
        (0..self.devices).filter(|index| index % 2 == 1)
    }

    /// All others.
    pub(super) fn before(&self) -> impl Iterator<Item = usize> + Clone + use<> {
        (0..self.devices).filter(|index| index % 2 == 0)
    }

    /// Releases the next version to the branch that is checked out: `canary`, but for the very first.
    pub(super) fn release(&self, release: Release) -> String {
        let version = self.version.get() + 1;
        self.version.set(version);
        let image = match release {
            Release::Good => image(version),
            Release::Bad => bad_image(),
        };
        self.repo
            .write("apps/gateway/app.toml", app(version, &image));
        self.now();
        self.repo.release(&format!("Version {version}"))
    }

    /// `evenkeel promote --from canary --to stable`. Gives the commit that stable shows.
    pub(super) fn promote(&self) -> String {
        let mut command = Command::new(binary());
        command
            .current_dir(self.repo.work())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env_remove("SSH_AUTH_SOCK")
            .args([
                "promote",
                "--from",
                "canary",
                "--to",
                "stable",
                "--allowed-signers",
            ])
            .arg(self.repo.allowed_signers());
        run(&mut command, PATIENCE).expect_code(0);
        self.repo.remote_tip("stable")
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
        let url = if index % 2 == 1 {
            self.server.side_url_of("fleet.git")
        } else {
            self.server.url()
        };
        SourceSection {
            interval,
            ca_file: Some(self.server.ca_file()),
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
    if index < devices.div_ceil(CANARY) {
        "canary"
    } else {
        "stable"
    }
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
