//! The git hooks that write `Fleet-Branch` and check what is committed: where they go, and what is never touched there.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::super::git::Git;

/// A hook of ours.
#[derive(Debug, Clone, Copy)]
struct Hook {
    /// As git calls it.
    name: &'static str,
    /// For sh.
    script: &'static str,
    /// By what our own are known, of whatever version.
    ours: &'static str,
}

const HOOKS: [Hook; 3] = [
    fleet_branch("commit-msg"),
    fleet_branch("prepare-commit-msg"),
    Hook {
        name: "pre-commit",
        script: include_str!("lint.sh"),
        ours: "# evenkeel: lint hook, version ",
    },
];

const fn fleet_branch(name: &'static str) -> Hook {
    Hook {
        name,
        script: include_str!("fleet-branch.sh"),
        ours: "# evenkeel: fleet-branch hook, version ",
    }
}

/// Below which name it stands beside a hook that is not ours.
const BESIDE: &str = "evenkeel.";

/// What was done about one hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Installed {
    /// It is new.
    New(PathBuf),
    /// It was there, of this version.
    Same(PathBuf),
    /// It was there, of another version.
    Updated(PathBuf),
    /// Somebody else's hook has its place, which has this line, or must get it.
    Beside {
        /// Theirs.
        theirs: PathBuf,
        /// What has to be in it.
        line: String,
        /// Whether it is in it.
        called: Called,
    },
}

/// Whether somebody else's hook calls ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Called {
    /// It names it.
    Yes,
    /// It does not.
    No,
}

/// Installs the hooks where git looks for them.
pub(super) fn install(git: &Git) -> Result<Vec<Installed>> {
    let named = git.ask(&["rev-parse", "--git-path", "hooks"])?;
    // git names it from where it runs.
    let dir = git.dir().join(named);
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    HOOKS.iter().map(|one| hook(&dir, one)).collect()
}

fn hook(dir: &Path, hook: &Hook) -> Result<Installed> {
    let path = dir.join(hook.name);
    let there = match std::fs::read(&path) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    match there {
        // A link that leads nowhere is somebody's too.
        None if std::fs::symlink_metadata(&path).is_ok() => beside(dir, hook, &path, ""),
        None => {
            write(dir, hook)?;
            Ok(Installed::New(path))
        }
        Some(text) if text == hook.script => {
            // It may have lost its mode on the way.
            write(dir, hook)?;
            Ok(Installed::Same(path))
        }
        Some(text) if text.contains(hook.ours) => {
            write(dir, hook)?;
            Ok(Installed::Updated(path))
        }
        Some(text) => beside(dir, hook, &path, &text),
    }
}

/// Puts ours beside theirs. Its own name says which hook it stands for: `evenkeel.d/commit-msg`.
fn beside(dir: &Path, hook: &Hook, theirs: &Path, text: &str) -> Result<Installed> {
    let folder = dir.join(format!("{BESIDE}d"));
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    write(&folder, hook)?;
    let call = format!("{BESIDE}d/{}", hook.name);
    Ok(Installed::Beside {
        theirs: theirs.to_owned(),
        line: format!("\"$(git rev-parse --git-path hooks)/{call}\" \"$@\" || exit"),
        called: if text.contains(&call) {
            Called::Yes
        } else {
            Called::No
        },
    })
}

/// A new file in the place of an old one, so that a hook that runs meanwhile is the one or the other.
fn write(dir: &Path, hook: &Hook) -> Result<()> {
    let name = hook.name;
    let path = dir.join(name);
    let temporary = dir.join(format!(".{name}.evenkeel"));
    let write = || {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o755)
            .open(&temporary)?;
        file.write_all(hook.script.as_bytes())?;
        file.sync_all()?;
        drop(file);
        std::fs::rename(&temporary, &path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
