//! The agent as a service of a booted systemd, under the sandbox of its unit.

mod service;

use std::path::Path;

use evenkeel_tests::nspawn::Options;
use evenkeel_tests::{FleetRepo, GitHttp, HttpOptions, Machine, device, wait_for};
use serde_json::Value;

/// Where the units lie in this source tree.
pub(crate) fn unit_files() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd")
}

/// A fleet repository on a git server, and a machine that follows it once the agent is installed and configured.
pub(crate) struct Site {
    pub(crate) repo: FleetRepo,
    pub(crate) server: GitHttp,
    pub(crate) machine: Machine,
}

impl Site {
    /// A machine that has booted, with nothing of ours in it.
    pub(crate) fn boot(name: &str, options: Options, http: HttpOptions) -> Self {
        let repo = FleetRepo::new();
        repo.write("fleet.toml", "format = 1\nname = \"test\"\n");
        repo.write("groups/all.toml", "match = \"all\"\napps = [\"one\"]\n");
        let server = GitHttp::start(repo.served(), http);
        let mut machine = Machine::new(name, options);
        machine.boot();
        Self {
            repo,
            server,
            machine,
        }
    }

    /// The same, with the agent installed and configured, and nothing started.
    pub(crate) fn installed(name: &str) -> Self {
        let plain = HttpOptions {
            plain: true,
            ..HttpOptions::default()
        };
        let site = Self::boot(name, Options::default(), plain);
        site.install();
        site.configure("", "");
        site
    }

    /// Puts the agent where a package puts it.
    pub(crate) fn install(&self) {
        let machine = &self.machine;
        machine.copy(&device::binary(), "/usr/bin/evenkeel", 0o755);
        for entry in std::fs::read_dir(unit_files()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            machine.copy(&path, &format!("/usr/lib/systemd/system/{name}"), 0o644);
        }
        machine.ok(&["systemctl", "daemon-reload"]);
    }

    /// Writes agent.toml: with these lines before its sections, and these in `[source]` and after it.
    pub(crate) fn configure(&self, top: &str, source: &str) {
        let signers = std::fs::read(self.repo.allowed_signers()).unwrap();
        let name = self.machine.name();
        let url = self.server.url();
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

/// A gate for what needs no time to get well.
pub(crate) const QUICK: &str = "\n[gate]\ndeadline = \"20s\"\nsoak = \"0s\"\n";
