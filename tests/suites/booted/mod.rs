//! The agent as a service of a booted systemd, under the sandbox of its units.

mod enroll;
mod leave;
mod once;
mod package;
mod secrets;
mod service;
mod small;
mod watchdog;

use std::path::Path;

use evenkeel_tests::nspawn::Options;
use evenkeel_tests::{Engine, FleetRepo, GitHttp, HttpOptions, Machine, device, wait_for};
use serde_json::Value;

/// A drop-in for evenkeel-sync.timer: every two seconds.
const OFTEN: &str = "[Timer]\nOnBootSec=\nOnUnitInactiveSec=\nRandomizedDelaySec=0\nAccuracySec=100ms\nOnBootSec=1s\nOnUnitInactiveSec=2s\n";

/// A machine with the socket of this engine.
fn with_docker(engine: &Engine) -> Options {
    Options {
        nspawn: vec![format!(
            "--bind={}:/run/docker.sock",
            engine.socket().display()
        )],
        ..Options::default()
    }
}

/// A fleet repository and a machine.
pub(crate) struct Site {
    pub(crate) repo: FleetRepo,
    pub(crate) machine: Machine,
}

impl Site {
    /// A machine that has not booted yet, with nothing of ours in it.
    pub(crate) fn new(name: &str, options: Options) -> Self {
        let repo = FleetRepo::new();
        repo.write("fleet.toml", "format = 1\nname = \"test\"\n");
        repo.write("groups/all.toml", "match = \"all\"\napps = [\"one\"]\n");
        let machine = Machine::new(name, options);
        Self { repo, machine }
    }

    /// A machine that has booted, with the agent installed.
    pub(crate) fn booted(name: &str) -> Self {
        let mut site = Self::new(name, Options::default());
        site.install();
        site.machine.boot();
        site
    }

    /// The same, configured for a server without a lock, and nothing started.
    pub(crate) fn configured(name: &str) -> (Self, GitHttp) {
        let site = Self::booted(name);
        let server = GitHttp::http(site.repo.served());
        site.configure(&server.url(), "", "");
        (site, server)
    }

    /// Puts the agent where a package puts it.
    pub(crate) fn install(&self) {
        let machine = &self.machine;
        machine.copy(&device::binary(), "/usr/bin/evenkeel", 0o755);
        let start = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/start.sh");
        machine.copy(&start, "/usr/lib/evenkeel/start", 0o755);
        let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd");
        for entry in std::fs::read_dir(units).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            machine.copy(&path, &format!("/usr/lib/systemd/system/{name}"), 0o644);
        }
        self.reload();
    }

    /// Has the service enabled where the machine has not booted yet.
    pub(crate) fn enable(&self) {
        self.enable_unit("evenkeel.service");
    }

    /// Has a unit enabled where the machine has not booted yet.
    pub(crate) fn enable_unit(&self, name: &str) {
        let wants = self
            .machine
            .path("/etc/systemd/system/multi-user.target.wants");
        std::fs::create_dir_all(&wants).unwrap();
        let unit = format!("/usr/lib/systemd/system/{name}");
        std::os::unix::fs::symlink(unit, wants.join(name)).unwrap();
    }

    fn reload(&self) {
        if self.machine.runs() {
            self.systemctl(&["daemon-reload"]);
        }
    }

    /// Writes agent.toml: with these lines before its sections, and these at the end of `[source]` and after it.
    pub(crate) fn configure(&self, url: &str, top: &str, source: &str) {
        let signers = std::fs::read(self.repo.allowed_signers()).unwrap();
        let name = self.machine.name();
        self.machine
            .write("/etc/evenkeel/allowed_signers", signers)
            .write(
                "/etc/evenkeel/agent.toml",
                format!(
                    "{top}\n[device]\nid = \"{name}\"\n[guard]\ncommands = true\n\
                     [source]\nurl = \"{url}\"\nbranch = \"main\"\ninterval = \"1s\"\n{source}\n"
                ),
            );
    }

    /// A drop-in for a unit.
    pub(crate) fn drop_in(&self, unit: &str, text: &str) {
        let file = format!("/etc/systemd/system/{unit}.d/10-test.conf");
        self.machine.write(&file, text);
        self.reload();
    }

    /// Writes the app and releases it.
    pub(crate) fn release(&self, app: &str) -> String {
        self.repo.write("apps/one/app.toml", app);
        self.repo.release("A release")
    }

    pub(crate) fn systemctl(&self, arguments: &[&str]) -> String {
        self.machine.ok(&[&["systemctl"], arguments].concat())
    }

    /// `status --json`, asked as root in the machine; null where nothing answers yet.
    pub(crate) fn status(&self) -> Value {
        let said = self.machine.run(&["evenkeel", "status", "--json"]);
        serde_json::from_str(&said.stdout).unwrap_or_default()
    }

    /// Waits until this commit is good in the machine.
    #[track_caller]
    pub(crate) fn good(&self, commit: &str) {
        wait_for("the machine to find a revision good", || {
            let status = self.status();
            (status["revision"]["last_good"] == commit && status["phase"] == "Idle").then_some(())
        });
    }
}

/// A server that lets in who has this token.
pub(crate) fn locked(site: &Site, token: &str) -> GitHttp {
    let options = HttpOptions {
        plain: true,
        access: evenkeel_tests::Access::Bearer(token.to_owned()),
        ..HttpOptions::default()
    };
    GitHttp::start(site.repo.served(), options)
}

/// A file of this content, with these more lines.
pub(crate) fn file(path: &str, content: &str, more: &str) -> String {
    format!("[[files]]\npath = {path:?}\ncontent = {content:?}\n{more}\n")
}

/// A gate for what needs no time to get well.
pub(crate) const QUICK: &str = "\n[gate]\ndeadline = \"20s\"\nsoak = \"0s\"\n";
