//! The operator's side, with real git and real keys: `init` and its hook, `approve`, `heartbeat`, `promote`.

mod approve;
mod gates;
mod heartbeat;
mod hook;
mod init;
mod promote;

use std::path::{Path, PathBuf};
use std::process::Command;

use evenkeel_tests::device::binary;
use evenkeel_tests::process::{Output, run};
use evenkeel_tests::repo::git_command;
use evenkeel_tests::{PATIENCE, Signer};
use serde_json::Value;
use tempfile::TempDir;

/// Somebody's machine: a home of its own, and no setting of the machine that the tests run on.
struct Desk {
    dir: TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self {
            dir: evenkeel_tests::short_tempdir("desk"),
        };
        std::fs::create_dir(desk.home()).unwrap();
        desk
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// Who commits: git knows a name and an address.
    fn is_known(&self) -> &Self {
        std::fs::write(
            self.home().join(".gitconfig"),
            "[user]\nname = Alice\nemail = alice@example.com\n",
        )
        .unwrap();
        self
    }

    fn at_home(&self, command: &mut Command) -> Output {
        for name in ["NAME", "EMAIL"] {
            command.env_remove(format!("GIT_AUTHOR_{name}"));
            command.env_remove(format!("GIT_COMMITTER_{name}"));
        }
        command
            .env("HOME", self.home())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("SSH_AUTH_SOCK")
            .env_remove("USER")
            .env_remove("EDITOR")
            .env_remove("VISUAL");
        run(command, PATIENCE)
    }

    /// git with its own settings, those of this home.
    fn git_program(&self, dir: &Path) -> Command {
        let mut command = git_command();
        command
            .env("GIT_CONFIG_GLOBAL", self.home().join(".gitconfig"))
            .current_dir(dir);
        command
    }

    fn git_may_fail(&self, dir: &Path, arguments: &[&str]) -> Output {
        self.at_home(self.git_program(dir).args(arguments))
    }

    #[track_caller]
    fn git(&self, dir: &Path, arguments: &[&str]) -> String {
        let said = self.git_may_fail(dir, arguments).expect_code(0);
        said.stdout.trim_end().to_owned()
    }

    /// evenkeel, whose git sees the same as [`Desk::git`].
    fn evenkeel(&self, dir: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("GIT_") {
                command.env_remove(name);
            }
        }
        command
            .env("GIT_CONFIG_GLOBAL", self.home().join(".gitconfig"))
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .current_dir(dir)
            .args(arguments);
        self.at_home(&mut command)
    }

    /// A fleet repository by `init`, and where it is.
    fn fleet(&self) -> PathBuf {
        self.is_known();
        self.evenkeel(self.dir.path(), &["init", "fleet"])
            .expect_code(0);
        self.path("fleet")
    }

    /// A file's change, signed as git is set up to.
    fn commit(&self, repo: &Path, file: &str, message: &[&str]) -> String {
        let path = repo.join(file);
        let mut text = std::fs::read_to_string(&path).unwrap_or_default();
        text.push_str("x\n");
        std::fs::write(path, text).unwrap();
        self.git(repo, &["add", "--", file]);
        let mut arguments = vec!["commit", "-q"];
        for part in message {
            arguments.extend(["-m", part]);
        }
        self.git(repo, &arguments);
        self.head(repo)
    }

    fn head(&self, repo: &Path) -> String {
        self.git(repo, &["rev-parse", "HEAD"])
    }

    fn message(&self, repo: &Path, revision: &str) -> String {
        self.git(
            repo,
            &["show", "-s", "--no-show-signature", "--format=%B", revision],
        )
    }

    /// A device's configuration with this in `[trust]`.
    fn config(&self, signers: &str, trust: &str) -> PathBuf {
        let file = self.path("device_signers");
        std::fs::write(&file, signers).unwrap();
        let path = self.path("agent.toml");
        let text = format!(
            "[source]\nurl = \"file:///nowhere\"\nbranch = \"stable\"\n\n[trust]\nallowed_signers = \"{}\"\n{trust}\n",
            file.display()
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The verdict of a device with this configuration on a commit: the reason, and why.
    fn verdict(&self, repo: &Path, config: &Path, revision: &str) -> (String, String) {
        let config = config.display().to_string();
        let arguments = [
            "verify",
            "--config",
            &config,
            revision,
            "--json",
            "--explain",
        ];
        let json = self.evenkeel(repo, &arguments);
        let answer: Value = serde_json::from_str(&json.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", json.text()));
        let said = answer["because"]["message"].as_str().unwrap_or_default();
        (
            answer["reason"].as_str().unwrap().to_owned(),
            said.to_owned(),
        )
    }
}

/// The path as a command-line argument.
fn arg(path: &Path) -> String {
    path.display().to_string()
}

/// The key's file of somebody.
fn key(signer: &Signer) -> String {
    arg(&signer.private_key())
}
