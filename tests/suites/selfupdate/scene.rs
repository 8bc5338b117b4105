//! A state directory with generations of the agent in it, and the starter of the packages.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use evenkeel_tests::process::{Output, run_with_input};
use tempfile::TempDir;

/// The starter, as packages install it.
pub(super) fn starter() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/start.sh")
}

/// The SHA-256 of some bytes, as `sha256sum` says it.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let mut command = Command::new("sha256sum");
    let said = run_with_input(&mut command, bytes, Duration::from_secs(60));
    said.stdout[..64].to_owned()
}

/// Makes a file that can be run.
pub(super) fn program(path: &Path, text: &str) {
    // By rename: another thread's child may hold a file that is written here, and then it cannot be run.
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(&new, path).unwrap();
}

/// A place where an agent is started.
pub(super) struct Place {
    dir: TempDir,
    starter: PathBuf,
    pub(super) deadline: u32,
}

impl Place {
    pub(super) fn new() -> Self {
        let dir = evenkeel_tests::short_tempdir("start");
        let place = Self {
            dir,
            starter: starter(),
            // Below a minute it looks each second whether the process still is there, and each end is waited for here.
            deadline: 50,
        };
        std::fs::create_dir_all(place.agent()).unwrap();
        place.config(&format!("state_dir = {:?}\n", place.state()));
        program(
            &place.dir.path().join("package"),
            "#!/bin/sh\n[ \"$1\" = --version ] || echo \"package $EVENKEEL_GENERATION $*\"\n",
        );
        place
    }

    /// The same with another starter.
    pub(super) fn with_starter(mut self, text: &str) -> Self {
        self.starter = self.dir.path().join("starter");
        program(&self.starter, text);
        self
    }

    pub(super) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(super) fn agent(&self) -> PathBuf {
        self.state().join("agent")
    }

    pub(super) fn config_file(&self) -> PathBuf {
        self.dir.path().join("agent.toml")
    }

    pub(super) fn config(&self, text: &str) {
        std::fs::write(self.config_file(), text).unwrap();
    }

    /// A generation which does this when it is run, and says its version when it is asked. Its name.
    pub(super) fn generation(&self, version: &str, does: &str) -> String {
        let text = format!(
            "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 'evenkeel {version}'; exit 0; fi\n{does}\n"
        );
        let id = format!("{version}-{}", &sha256(text.as_bytes())[..12]);
        std::fs::create_dir_all(self.agent().join(&id)).unwrap();
        program(&self.agent().join(&id).join("evenkeel"), &text);
        id
    }

    /// One that says who it is.
    pub(super) fn that_speaks(&self, version: &str) -> String {
        self.generation(version, "echo \"$EVENKEEL_GENERATION $*\"")
    }

    pub(super) fn link(&self, name: &str, to: &str) {
        let _ = std::fs::remove_file(self.agent().join(name));
        symlink(to, self.agent().join(name)).unwrap();
    }

    pub(super) fn strikes(&self, id: &str) -> usize {
        (1..=9)
            .filter(|n| self.agent().join(id).join(format!("strike-{n}")).exists())
            .count()
    }

    /// `start run`, not started yet.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command
            .arg(&self.starter)
            .args(["run", "--config"])
            .arg(self.config_file())
            .env("EVENKEEL_PACKAGED", self.dir.path().join("package"))
            .env("EVENKEEL_DEADLINE", self.deadline.to_string());
        command
    }

    /// Starts it and waits for its end. Its watcher may live a second longer, and holds its stderr open.
    pub(super) fn start(&self) -> Output {
        let log = self.dir.path().join("log");
        let said = self
            .command()
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .output()
            .unwrap();
        Output {
            code: said.status.code(),
            stdout: String::from_utf8_lossy(&said.stdout).into_owned(),
            stderr: std::fs::read_to_string(&log).unwrap(),
        }
    }

    /// Which one it is that a start begins.
    #[track_caller]
    pub(super) fn begins(&self) -> String {
        let said = self.start();
        said.stdout
            .split_whitespace()
            .next()
            .unwrap_or_else(|| panic!("nothing began: {}", said.stderr))
            .to_owned()
    }
}
