//! The agent's binaries that a repository carries: each is what `[agent]` says of it, before a device finds that it is not.
//!
//! Limits: what is looked at is the folder as it is; a binary that git keeps elsewhere (LFS) or ignores is not seen to be missing
//! from the commit.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use evenkeel_schema::diagnostic::{Diagnostic, Diagnostics};
use sha2::{Digest as _, Sha256};

use crate::domain::tree::Tree;
use crate::resolve::declared_agent::{Carried, carried};

/// The largest binary that a device takes.
const MOST: u64 = 64 * 1024 * 1024;

/// Every binary that is not what is declared.
pub(super) fn judge(dir: &Path, tree: &Tree) -> Vec<Diagnostic> {
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
        match sum(dir, path) {
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

/// The SHA-256 of a file of the repository, in hexadecimal; nothing is followed, as no device does.
fn sum(dir: &Path, path: &str) -> Result<String, String> {
    let mut place = dir.to_owned();
    for part in path.split('/') {
        place.push(part);
        match std::fs::symlink_metadata(&place) {
            Ok(seen) if seen.is_symlink() => {
                return Err("a symbolic link leads there, and no device follows it: put the file itself there".to_owned());
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err("there is no such file in the repository".to_owned());
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    let file = File::open(&place).map_err(|error| error.to_string())?;
    let seen = file.metadata().map_err(|error| error.to_string())?;
    if !seen.is_file() {
        return Err("it is not a file".to_owned());
    }
    if seen.len() > MOST {
        return Err(format!(
            "it is larger than {} MiB, which no device takes",
            MOST / 1024 / 1024
        ));
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut file = file.take(MOST);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => hash.update(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
