//! A device: a root of its own, a state directory, an agent.toml, and the real `evenkeel` binary.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::clock::WallClock;
use crate::process::{Output, Server, run};

/// A pass that soaks and rolls back takes seconds; past this it hangs.
const LIMIT: Duration = Duration::from_secs(180);

/// What agent.toml says. Strings of whole sections are added as they are: a test may write anything.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `device.id`.
    pub id: String,
    /// `device.labels`.
    pub labels: BTreeMap<String, String>,
    /// `source.url`.
    pub url: String,
    /// More remotes after the first.
    pub mirrors: Vec<String>,
    /// `source.branch`.
    pub branch: String,
    /// `source.interval`.
    pub interval: String,
    /// More lines of `[source]`: `ca_file = "..."`.
    pub source: Vec<String>,
    /// `trust.allowed_signers`.
    pub allowed_signers: PathBuf,
    /// More lines of `[trust]`.
    pub trust: Vec<String>,
    /// Lines of `[guard]`.
    pub guard: Vec<String>,
    /// `engine.socket`.
    pub engine: String,
    /// More sections, whole.
    pub more: String,
}

/// A device.
#[derive(Debug)]
pub struct Device {
    dir: TempDir,
    disk: PathBuf,
    /// What its agent.toml will say; [`Device::write_config`] writes it, and each command does so first.
    pub settings: Settings,
    written_by_hand: bool,
    clock: Option<WallClock>,
}

impl Device {
    /// A device with this id that tracks `main` at `url`, trusts `allowed_signers`, and has an engine that is not there
    /// (see [`Device::with_engine`]).
    ///
    /// # Panics
    /// Where its directories cannot be made.
    pub fn new(id: &str, url: &str, allowed_signers: &Path) -> Self {
        let dir = crate::short_tempdir("dev");
        for sub in ["root", "etc"] {
            std::fs::create_dir(dir.path().join(sub)).expect("make a directory of ours");
        }
        let nowhere = dir.path().join("no-engine.sock");
        Self {
            settings: Settings {
                id: id.to_owned(),
                labels: BTreeMap::new(),
                url: url.to_owned(),
                mirrors: Vec::new(),
                branch: "main".to_owned(),
                interval: "1s".to_owned(),
                source: Vec::new(),
                allowed_signers: allowed_signers.to_owned(),
                trust: Vec::new(),
                guard: Vec::new(),
                engine: format!("unix://{}", nowhere.display()),
                more: String::new(),
            },
            disk: dir.path().to_owned(),
            dir,
            written_by_hand: false,
            clock: None,
        }
    }

    /// The same with its root and its state directory under `disk` instead: on a file system of the test's own.
    #[must_use]
    pub fn on_disk(mut self, disk: &Path) -> Self {
        disk.clone_into(&mut self.disk);
        self
    }

    /// The same with this engine.
    #[must_use]
    pub fn with_engine(mut self, engine: &crate::Engine) -> Self {
        self.settings.engine = engine.url();
        self
    }

    /// The same with a wall clock of its own.
    #[must_use]
    pub fn with_clock(mut self, clock: WallClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Its wall clock.
    ///
    /// # Panics
    /// Where it has none of its own.
    pub fn clock(&self) -> &WallClock {
        self.clock
            .as_ref()
            .expect("a device with a clock of its own")
    }

    /// The same with this label.
    #[must_use]
    pub fn with_label(mut self, key: &str, value: &str) -> Self {
        self.settings
            .labels
            .insert(key.to_owned(), value.to_owned());
        self
    }

    /// Where declared files land.
    pub fn root(&self) -> PathBuf {
        self.disk.join("root")
    }

    /// A declared path, as it is on this machine.
    pub fn path(&self, declared: &str) -> PathBuf {
        self.root().join(declared.trim_start_matches('/'))
    }

    /// What a declared file holds; `None` where it is not there.
    pub fn read(&self, declared: &str) -> Option<String> {
        std::fs::read_to_string(self.path(declared)).ok()
    }

    /// Its state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.disk.join("state")
    }

    /// Its agent.toml.
    pub fn config_file(&self) -> PathBuf {
        self.dir.path().join("etc/agent.toml")
    }

    /// A directory for whatever a test needs.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// Its agent.toml as the settings have it.
    pub fn config_text(&self) -> String {
        let s = &self.settings;
        let labels: Vec<String> = s
            .labels
            .iter()
            .map(|(k, v)| format!("{k:?} = {v:?}"))
            .collect();
        format!(
            "state_dir = {state:?}\nroot = {root:?}\n\n[device]\nid = {id:?}\nlabels = {{ {labels} }}\n\n\
             [source]\nurl = {url}\nbranch = {branch:?}\ninterval = {interval:?}\n{source}\n\n\
             [trust]\nallowed_signers = {signers:?}\n{trust}\n\n[guard]\n{guard}\n\n[engine]\nsocket = {engine:?}\n\n{more}",
            state = self.state_dir(),
            root = self.root(),
            id = s.id,
            labels = labels.join(", "),
            url = match s.mirrors.as_slice() {
                [] => format!("{:?}", s.url),
                mirrors => format!("{:?}", [std::slice::from_ref(&s.url), mirrors].concat()),
            },
            branch = s.branch,
            interval = s.interval,
            source = s.source.join("\n"),
            signers = s.allowed_signers,
            trust = s.trust.join("\n"),
            guard = s.guard.join("\n"),
            engine = s.engine,
            more = s.more,
        )
    }

    /// Writes agent.toml from the settings, unless [`Device::write_config_by_hand`] was used.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn write_config(&self) {
        if !self.written_by_hand {
            // By rename: a daemon that is just starting reads the old text or the new one, never half of one.
            let file = self.config_file();
            let new = file.with_extension("new");
            std::fs::write(&new, self.config_text()).expect("write our own file");
            std::fs::rename(&new, &file).expect("rename our own file");
        }
    }

    /// Writes agent.toml with this text, and leaves it so.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn write_config_by_hand(&mut self, text: &str) {
        std::fs::write(self.config_file(), text).expect("write our own file");
        self.written_by_hand = true;
    }

    /// `evenkeel VERB...` for this device, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.write_config();
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .arg("--config")
            .arg(self.config_file())
            .env_remove("NOTIFY_SOCKET")
            .env_remove("DOCKER_HOST")
            .envs(memory_settings());
        if let Some(clock) = &self.clock {
            clock.rule(&mut command);
        }
        command
    }

    /// Runs `evenkeel VERB...` for this device.
    #[track_caller]
    pub fn evenkeel(&self, arguments: &[&str]) -> Output {
        run(&mut self.command(arguments), LIMIT)
    }

    /// One pass.
    #[track_caller]
    pub fn sync(&self) -> Output {
        self.evenkeel(&["sync"])
    }

    /// `status --json`, parsed.
    ///
    /// # Panics
    /// Where it fails or is no JSON.
    #[track_caller]
    pub fn status_json(&self) -> Value {
        self.json(&["status", "--json"])
    }

    /// Waits until this commit is good here, and the daemon at rest.
    ///
    /// # Panics
    /// Where that takes too long.
    #[track_caller]
    pub fn wait_until_good(&self, commit: &str) {
        crate::wait_for("the revision to be good", || {
            let status = self.status_json();
            (status["revision"]["last_good"] == commit && status["phase"] == "Idle").then_some(())
        });
    }

    /// `plan --json`, parsed.
    ///
    /// # Panics
    /// Where it fails or is no JSON.
    #[track_caller]
    pub fn plan_json(&self) -> Value {
        self.json(&["plan", "--json"])
    }

    /// A verb whose answer is JSON, parsed.
    ///
    /// # Panics
    /// Where it fails or is no JSON.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.evenkeel(arguments).expect_code(0);
        serde_json::from_str(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?} is no JSON ({error}): {}", output.stdout))
    }

    /// The condition of this type in `status --json`: its status and its reason.
    ///
    /// # Panics
    /// Where there is none.
    #[track_caller]
    pub fn condition(&self, kind: &str) -> (String, String) {
        let status = self.status_json();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        status["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == kind)
            .map(|condition| (text(&condition["status"]), text(&condition["reason"])))
            .unwrap_or_else(|| panic!("no condition {kind} in {status:#}"))
    }

    /// Starts `evenkeel run`.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn spawn_daemon(&self) -> Daemon {
        let log = self.dir.path().join("daemon.log");
        let server = Server::start(&mut self.command(&["run"]), &log);
        Daemon { server, log }
    }
}

/// A running `evenkeel run`; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    server: Server,
    log: PathBuf,
}

impl Daemon {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal by name.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        self.server.signal(name);
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.server.ended().is_none()
    }

    /// Asks it to stop (SIGTERM) and waits for its end; its exit code.
    ///
    /// # Panics
    /// Where it does not stop.
    #[track_caller]
    pub fn stop(mut self) -> Option<i32> {
        self.server.signal("TERM");
        self.server.wait(crate::PATIENCE).code()
    }

    /// Waits for it to end by itself; its exit code.
    ///
    /// # Panics
    /// Where it does not.
    #[track_caller]
    pub fn wait(mut self) -> Option<i32> {
        self.server.wait(crate::PATIENCE).code()
    }

    /// Ends it the hard way (SIGKILL).
    pub fn kill(mut self) {
        self.server.kill();
    }
}

/// What the unit file tells the allocator, so that memory is measured as a device has it.
fn memory_settings() -> impl Iterator<Item = (&'static str, &'static str)> {
    include_str!("../../systemd/evenkeel.service")
        .lines()
        .filter_map(|line| line.strip_prefix("Environment="))
        .flat_map(str::split_whitespace)
        .filter_map(|one| one.split_once('='))
        .filter(|(name, _)| name.starts_with("MALLOC_"))
}

/// The `evenkeel` binary of the build that this test is part of.
///
/// # Panics
/// Where it was not built.
pub fn binary() -> PathBuf {
    if let Ok(path) = std::env::var("EVENKEEL_TEST_BINARY") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    // target/debug/deps/suites-0123abcd
    let path = test
        .parent()
        .and_then(Path::parent)
        .expect("a test lies in target/PROFILE/deps")
        .join("evenkeel");
    assert!(
        path.exists(),
        "{} is not built: run ./tests/run.sh, or cargo build -p evenkeel",
        path.display()
    );
    path
}
