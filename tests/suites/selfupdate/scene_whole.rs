//! A device whose agent is started by the starter, again and again, and which follows a branch that declares its version.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use evenkeel_tests::process::Server;
use evenkeel_tests::{GitHttp, wait_for};
use serde_json::Value;

use super::scene::{sha256, starter};
use crate::fleet::World;

/// What a new agent does instead of an agent's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// Its work.
    Its,
    /// It ends at once.
    Ends,
    /// It does nothing, and takes no signal that it can refuse.
    Hangs,
    /// It runs, serves its socket, and never reaches the remote.
    NeverReaches,
}

/// A fleet, its server and one device.
pub(super) struct Fleet {
    pub(super) world: World,
    pub(super) server: GitHttp,
    /// Seconds that a new agent has.
    pub(super) deadline: u32,
}

/// What comes from the server's `slow/` in a tenth of a second, in bytes.
pub(super) const SLOW: usize = 40 * 1024;

/// The architecture of the binary under test.
pub(super) const ARCH: &str = std::env::consts::ARCH;

impl Fleet {
    pub(super) fn new(id: &str) -> Self {
        let mut world = World::of_files(id);
        let server = GitHttp::https(world.repo.served());
        world.device.settings.url = server.url();
        let ca = format!("ca_file = {:?}", server.ca_file());
        world.device.settings.source.push(ca);
        world.one_file("1\n");
        Self {
            world,
            server,
            deadline: 50,
        }
    }

    /// The text of a new agent: this agent, under another version.
    pub(super) fn binary(&self, version: &str, does: Does) -> String {
        let agent = evenkeel_tests::device::binary();
        let agent = agent.display();
        let does = match does {
            Does::Its => format!("exec {agent} \"$@\""),
            Does::Ends => "exit 1".to_owned(),
            Does::Hangs => "trap '' TERM\nwhile :; do sleep 1; done".to_owned(),
            // Nothing listens there.
            Does::NeverReaches => {
                format!("HTTPS_PROXY=http://127.0.0.1:9 exec {agent} \"$@\"")
            }
        };
        format!(
            "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'evenkeel {version}'; exit 0; fi\n{does}\n"
        )
    }

    /// Puts a file where the server serves it.
    pub(super) fn serve(&self, name: &str, bytes: &[u8]) {
        let file = self.server.files().join(name);
        std::fs::write(&file, bytes).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// The lines of `[agent]`.
    pub(super) fn agent(version: &str, place: &str, sum: &str) -> String {
        format!(
            "[agent]\nversion = {version:?}\n[agent.binaries.{ARCH}]\n{place}\nsha256 = {sum:?}\n"
        )
    }

    /// Has the branch declare these lines in fleet.toml.
    pub(super) fn declare(&self, agent: &str) -> String {
        self.world.repo.write(
            "fleet.toml",
            format!("format = 1\nname = \"test\"\n{agent}"),
        );
        self.world.repo.release("Another agent")
    }

    /// Serves a new agent, and has the branch declare it.
    pub(super) fn release_agent(&self, version: &str, does: Does) -> String {
        let text = self.binary(version, does);
        self.serve(version, text.as_bytes());
        let url = format!(
            "url = {:?}",
            self.server.url_of(&format!("files/{version}"))
        );
        self.declare(&Self::agent(version, &url, &sha256(text.as_bytes())))
    }

    /// The same, of so many bytes that its download takes this many tenths of a second.
    pub(super) fn release_slowly(&self, version: &str, tenths: usize) {
        self.release_by(self.server.port(), version, tenths);
    }

    /// The same, downloaded through this port. Its bytes.
    pub(super) fn release_by(&self, port: u16, version: &str, tenths: usize) -> Vec<u8> {
        let mut text = self.binary(version, Does::Its);
        // Never read: the lines before it become another program.
        text.push_str("# ");
        text.push_str(&"x".repeat(tenths * SLOW));
        self.serve(version, text.as_bytes());
        let url = format!("url = \"https://localhost:{port}/slow/{version}\"");
        self.declare(&Self::agent(version, &url, &sha256(text.as_bytes())));
        text.into_bytes()
    }

    /// Where the download of these bytes is put together.
    pub(super) fn part(&self, version: &str, bytes: &[u8]) -> PathBuf {
        let name = format!("{version}-{}.part", &sha256(bytes)[..12]);
        self.dir().join(name)
    }

    /// What a download has got so far, in bytes.
    pub(super) fn has(&self, version: &str, bytes: &[u8]) -> u64 {
        std::fs::metadata(self.part(version, bytes)).map_or(0, |seen| seen.len())
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.world.device.state_dir().join("agent")
    }

    /// The generation that a link leads to.
    pub(super) fn link(&self, name: &str) -> Option<String> {
        let to = std::fs::read_link(self.dir().join(name)).ok()?;
        Some(to.to_str()?.to_owned())
    }

    /// Starts the agent, and again whenever it ends: what a service manager does.
    pub(super) fn supervise(&self) -> Supervised<'_> {
        self.world.device.write_config();
        let stop = self.world.device.scratch().join("stop");
        let _ = std::fs::remove_file(&stop);
        let log = self.world.device.scratch().join("supervised.log");
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg("while [ ! -e \"$1\" ]; do sh \"$2\" run --config \"$3\"; echo \"ended with $?\"; sleep 0.2; done")
            .arg("supervise")
            .arg(&stop)
            .arg(starter())
            .arg(self.world.device.config_file())
            .env("EVENKEEL_PACKAGED", evenkeel_tests::device::binary())
            .env("EVENKEEL_DEADLINE", self.deadline.to_string())
            .env_remove("NOTIFY_SOCKET")
            .env_remove("DOCKER_HOST");
        Supervised {
            fleet: self,
            server: Server::start(&mut command, &log),
            stop,
            log,
        }
    }

    pub(super) fn status(&self) -> Option<Value> {
        let said = self.world.device.evenkeel(&["status", "--json"]);
        serde_json::from_str(&said.stdout).ok()
    }

    /// What `status` says of the agent: its version, what is declared, and why that does not run.
    pub(super) fn told(&self) -> (String, String, String) {
        let status = self.status().unwrap_or_default();
        let text = |key: &str| status["agent"][key].as_str().unwrap_or_default().to_owned();
        (text("version"), text("declared"), text("why"))
    }

    /// Waits until the running agent says this version, with nothing left to do.
    #[track_caller]
    pub(super) fn settles_at(&self, version: &str) {
        wait_for(&format!("the agent {version}, proven"), || {
            let (runs, declared, why) = self.told();
            let is_left = self.link("next").is_some();
            (runs == version && declared == version && why.is_empty() && !is_left).then_some(())
        });
    }

    /// Waits until it says why it does not run what is declared, in words with these in them.
    #[track_caller]
    pub(super) fn says_why(&self, words: &str) {
        let mut last = String::new();
        for _ in 0..1200 {
            last = self.told().2;
            if last.contains(words) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("waited in vain for `{words}`; it says `{last}`");
    }

    /// What the history says of the agent itself, newest first.
    pub(super) fn history(&self) -> Vec<String> {
        let history = self.world.device.json(&["history", "--json"]);
        let all = history.as_array().into_iter().flatten();
        all.filter(|one| one["result"] == "agent")
            .map(|one| one["why"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Has the app say something else, and waits until it does.
    #[track_caller]
    pub(super) fn converges_to(&self, text: &str) {
        self.world.one_file(text);
        self.world.repo.release("Another text");
        wait_for("the app to follow", || {
            (self.world.device.read("/etc/one.conf").as_deref() == Some(text)).then_some(())
        });
    }
}

/// An agent that is started again whenever it ends.
pub(super) struct Supervised<'f> {
    fleet: &'f Fleet,
    server: Server,
    stop: PathBuf,
    log: PathBuf,
}

impl Supervised<'_> {
    /// The agent's process, as its lock names it.
    pub(super) fn pid(&self) -> Option<u32> {
        let lock = self.fleet.world.device.state_dir().join("lock");
        let pid: u32 = std::fs::read_to_string(lock).ok()?.trim().parse().ok()?;
        // Ours: another process may have its number by now.
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let config = self.fleet.world.device.config_file();
        let config = config.to_str().unwrap();
        String::from_utf8_lossy(&command)
            .contains(config)
            .then_some(pid)
    }

    /// All processes that were started for this device and still run.
    fn processes(&self) -> Vec<u32> {
        let config = self.fleet.world.device.config_file();
        let config = config.to_str().unwrap().to_owned();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if pid != self.server.pid() && String::from_utf8_lossy(&command).contains(&config) {
                found.push(pid);
            }
        }
        found
    }

    /// Sends each of them a signal.
    pub(super) fn signal_all(&self, signal: &str) {
        for pid in self.processes() {
            let _ = Command::new("kill")
                .arg(format!("-{signal}"))
                .arg(pid.to_string())
                .stderr(std::process::Stdio::null())
                .status();
        }
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Supervised<'_> {
    fn drop(&mut self) {
        let _ = std::fs::write(&self.stop, "");
        self.server.kill();
        self.signal_all("KILL");
    }
}
