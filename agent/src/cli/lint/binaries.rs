//! The agent's binaries that a repository carries: each is what `[agent]` says of it, before a device finds that it is not.
//!
//! Limits: of a folder, what is looked at is the folder as it is; a binary that git keeps elsewhere (LFS) or ignores is not seen
//! to be missing from the commit.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use evenkeel_schema::diagnostic::{Diagnostic, Diagnostics};

use crate::adapter::git_local::LocalRepository;
use crate::adapter::part::sum;
use crate::adapter::upgrades::fetch::MOST;
use crate::domain::revision::CommitId;
use crate::domain::tree::Tree;
use crate::resolve::declared_agent::{Carried, carried};

const NO_SUCH_FILE: &str = "there is no such file in the repository";

/// Every binary in a folder that is not what is declared.
pub(in crate::cli) fn of_folder(dir: &Path, tree: &Tree) -> Vec<Diagnostic> {
    judge(tree, &|path| in_folder(dir, path))
}

/// Every binary in a commit that is not what is declared.
pub(in crate::cli) fn of_commit(
    repo: &LocalRepository,
    commit: &CommitId,
    tree: &Tree,
) -> Vec<Diagnostic> {
    judge(tree, &|path| {
        let found = repo
            .file(commit, path)
            .map_err(|error| error.to_string())?
            .ok_or(NO_SUCH_FILE)?;
        small_enough(found.len() as u64)?;
        sum(found.as_slice()).map_err(|error| error.to_string())
    })
}

fn judge(tree: &Tree, sum_of: &dyn Fn(&str) -> Result<String, String>) -> Vec<Diagnostic> {
    let mut out = Diagnostics::new();
    for one in carried(tree) {
        let Carried {
            file,
            path,
            path_at,
            sha256,
            sha256_at,
        } = &one;
        // Such a path is refused with its document.
        if path.is_empty()
            || Path::new(path).is_absolute()
            || path.split('/').any(|part| part == "..")
        {
            continue;
        }
        match sum_of(path) {
            Err(why) => out.error(file, *path_at, format!("`{}`: {why}", path.escape_debug())),
            Ok(sum) if sum == *sha256 => {}
            Ok(sum) => out.error_with_help(
                file,
                *sha256_at,
                format!(
                    "`{}` is not what is declared here: its SHA-256 is {sum}",
                    path.escape_debug()
                ),
                "write that, or put the binary there that is meant",
            ),
        }
    }
    out.sorted()
}

fn small_enough(size: u64) -> Result<(), String> {
    if size <= MOST {
        return Ok(());
    }
    Err(format!(
        "it is larger than {} MiB, which no device takes",
        MOST / 1024 / 1024
    ))
}

/// The sum of a file of a folder; nothing is followed, as no device does.
fn in_folder(dir: &Path, path: &str) -> Result<String, String> {
    let mut place = dir.to_owned();
    for part in path.split('/') {
        place.push(part);
        match std::fs::symlink_metadata(&place) {
            Ok(seen) if seen.is_symlink() => {
                return Err("a symbolic link leads there, and no device follows it: put the file itself there".to_owned());
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(NO_SUCH_FILE.to_owned());
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    let file = File::open(&place).map_err(|error| error.to_string())?;
    let seen = file.metadata().map_err(|error| error.to_string())?;
    if !seen.is_file() {
        return Err("it is not a file".to_owned());
    }
    small_enough(seen.len())?;
    sum(file.take(MOST)).map_err(|error| error.to_string())
}
