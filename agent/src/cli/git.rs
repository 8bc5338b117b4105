//! The operator's own `git`, for the verbs that work in a fleet repository: with the user's configuration, keys, agents
//! and hooks. A device never runs it.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result};

use super::code;
use crate::domain::revision::CommitId;

/// Why a verb ends without having done what it was asked for.
#[derive(Debug)]
pub(super) struct Stop {
    /// The exit code.
    pub(super) code: u8,
    /// For people, with the next move.
    pub(super) error: anyhow::Error,
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self {
            code: code::FAILED,
            error,
        }
    }
}

/// Wrong usage.
pub(super) fn usage(message: impl Into<String>) -> Stop {
    Stop {
        code: code::USAGE,
        error: anyhow::Error::msg(message.into()),
    }
}

/// The id of a commit that git answered for `name`.
pub(super) fn parse(name: &str, id: &str) -> Result<CommitId, Stop> {
    id.parse()
        .map_err(|_| usage(format!("`{name}` is not a commit")))
}

/// A commit that trust has to see cannot be read.
pub(super) fn missing(id: CommitId) -> Stop {
    Stop::from(anyhow::Error::msg(format!(
        "commit {id} is not here, or is not one that a device would take\nhint: `git fetch --unshallow` where history is missing"
    )))
}

/// A folder to run git in.
#[derive(Debug, Clone)]
pub(super) struct Git {
    dir: PathBuf,
}

impl Git {
    pub(super) fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// The top folder of the repository that `dir` is in, or the repository itself where it is bare.
    pub(super) fn repository(dir: &Path) -> Result<Self, Stop> {
        let git = Self::at(dir);
        match git.maybe(&["rev-parse", "--git-dir"]) {
            Ok(Some(_)) => Ok(git),
            Ok(None) | Err(_) if program_is_there("git") => Err(usage(format!(
                "{} is not in a git repository\nhint: name the repository with --repo DIR",
                dir.display()
            ))),
            Ok(None) | Err(_) => Err(no_git().into()),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("git");
        command
            .arg("-C")
            .arg(&self.dir)
            // What is signed is what is there, whatever refs/replace says.
            .env("GIT_NO_REPLACE_OBJECTS", "1");
        command
    }

    /// Runs it to its end.
    fn output<S: AsRef<OsStr>>(&self, arguments: &[S], input: &[u8]) -> Result<Output> {
        let mut child = self
            .command()
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|_| no_git())?;
        if let Some(mut stdin) = child.stdin.take() {
            // A git that ends without reading all of it says why by itself.
            let _ = stdin.write_all(input);
        }
        child.wait_with_output().context("git did not end properly")
    }

    /// Its answer, without the last newline.
    pub(super) fn ask(&self, arguments: &[&str]) -> Result<String> {
        self.tell(arguments, b"")
    }

    /// Its answer to this input, without the last newline.
    pub(super) fn tell(&self, arguments: &[&str], input: &[u8]) -> Result<String> {
        let output = self.output(arguments, input)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            anyhow::bail!("`git {}` failed: {}", arguments.join(" "), said.trim());
        }
        text(output.stdout)
    }

    /// Its answer; `None` where it ends with exit code 1 or more and nothing to say.
    pub(super) fn maybe(&self, arguments: &[&str]) -> Result<Option<String>> {
        let output = self.output(arguments, b"")?;
        if output.status.success() {
            text(output.stdout).map(Some)
        } else {
            Ok(None)
        }
    }

    /// A setting; `None` where it is not set or empty.
    pub(super) fn setting(&self, name: &str) -> Result<Option<String>> {
        let value = self.maybe(&["config", "--get", name])?;
        Ok(value.filter(|value| !value.is_empty()))
    }

    /// A setting that is a file's name, `~/` expanded.
    pub(super) fn file_setting(&self, name: &str) -> Result<Option<String>> {
        let value = self.maybe(&["config", "--type=path", "--get", name])?;
        Ok(value.filter(|value| !value.is_empty()))
    }

    /// The full ref of a branch's name.
    pub(super) fn branch(&self, name: &str) -> Result<String, Stop> {
        let full = format!("refs/heads/{name}");
        let good = !name.starts_with('-')
            && !name.starts_with("refs/")
            && self.maybe(&["check-ref-format", &full])?.is_some();
        if good {
            Ok(full)
        } else {
            Err(usage(format!(
                "`{}` is not a branch's name",
                name.escape_debug()
            )))
        }
    }

    /// The id that a name stands for.
    pub(super) fn id(&self, name: &str) -> Result<Option<String>> {
        self.maybe(&["rev-parse", "--verify", "--quiet", "--end-of-options", name])
    }
}

fn text(bytes: Vec<u8>) -> Result<String> {
    let text = String::from_utf8(bytes).context("git answered with what is not UTF-8")?;
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

/// Whether a program can be started at all.
pub(super) fn program_is_there(program: &str) -> bool {
    let asked = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    asked.is_ok()
}

fn no_git() -> anyhow::Error {
    anyhow::Error::msg(
        "this needs `git`, which is not on this machine\n\
         hint: apt-get install git (a device itself needs neither git nor ssh-keygen)",
    )
}

/// A line of talk on stderr.
pub(super) fn say(line: &str) {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "{line}");
}
