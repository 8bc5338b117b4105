//! The folder that is published: files that are written whole or not at all, and swept when nobody can want them any more.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Error};
use rustix::fs::FlockOperation;
use sha2::{Digest as _, Sha256};

use super::line::Taken;
use crate::adapter::durable::sync_dir;
use crate::adapter::part::{digits, hex};
use crate::cli::git::{Stop, say, usage};
use crate::domain::published::{Head, LONGEST_HEAD, MARK, MARK_TEXT, head_file, pack_file};

const PACKS: &str = "packs";
const HEADS: &str = "heads";
/// What a file is called before it is whole. Web servers do not show such names, and the next publish removes them.
const UNFINISHED: &str = ".unfinished";

/// A published tree, locked against another publish.
#[derive(Debug)]
pub(in crate::cli) struct Out {
    dir: PathBuf,
    // The lock goes with it.
    _lock: File,
}

impl Out {
    /// Opens the tree, or begins one.
    pub(in crate::cli) fn open(dir: &Path) -> Result<Self, Stop> {
        let failed = |error: io::Error| {
            Stop::from(Error::new(error).context(format!(
                "{} cannot be written\nhint: is it mounted, writable and not full?",
                dir.display()
            )))
        };
        if dir.join("objects").is_dir() || dir.join(".git").exists() {
            return Err(usage(format!(
                "{} is a git repository: --out names a folder of its own",
                dir.display()
            )));
        }
        for sub in [PACKS, HEADS] {
            fs::create_dir_all(dir.join(sub)).map_err(failed)?;
        }
        let lock = File::open(dir).map_err(failed)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Stop::from(Error::msg(format!(
                    "another evenkeel is writing into {}: run it again when that has ended",
                    dir.display()
                ))));
            }
            Err(error) => return Err(failed(error.into())),
        }
        let out = Self {
            dir: dir.to_owned(),
            _lock: lock,
        };
        // Under the lock these are nobody's any more.
        for sub in [".", PACKS, HEADS] {
            for entry in fs::read_dir(dir.join(sub)).map_err(failed)?.flatten() {
                if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                    fs::remove_file(entry.path()).map_err(failed)?;
                }
            }
        }
        if !fs::read(dir.join(MARK)).is_ok_and(|text| text == MARK_TEXT.as_bytes()) {
            out.write(MARK, MARK_TEXT.as_bytes(), None)?;
        }
        Ok(out)
    }

    pub(in crate::cli) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the tree shows of a branch, if all of it is there.
    pub(super) fn head(&self, branch: &str) -> Option<Head> {
        let path = self.dir.join(head_file(branch));
        let bytes = bounded(&path).ok()?;
        let head = match Head::parse(&bytes, branch) {
            Ok(head) => head,
            Err(error) => {
                say(&format!(
                    "note: {}: {error}; it is made anew",
                    path.display()
                ));
                return None;
            }
        };
        for pack in head.line.iter().chain([&head.snapshot]) {
            if !is_whole(&self.dir.join(pack.file()), pack.size, &pack.sha256) {
                say(&format!(
                    "note: {} is not whole in {}: all packs of {branch} are made anew",
                    pack.file(),
                    self.dir.display()
                ));
                return None;
            }
        }
        Some(head)
    }

    /// Takes in a pack: its name and size, and whether it is new.
    pub(super) fn pack(&self, mut from: impl Read) -> Result<(Taken, bool), Stop> {
        let tmp = self.dir.join(PACKS).join(format!("{UNFINISHED}-pack"));
        let done = (|| -> io::Result<(Taken, bool)> {
            let mut file = File::create(&tmp)?;
            let mut hash = Sha256::new();
            let mut size = 0;
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let count = match from.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                };
                hash.update(&buffer[..count]);
                file.write_all(&buffer[..count])?;
                size += count as u64;
            }
            let sha256 = hex(&hash.finalize());
            let path = self.dir.join(pack_file(&sha256));
            if is_whole(&path, size, &sha256) {
                fs::remove_file(&tmp)?;
                return Ok(((sha256, size), false));
            }
            file.sync_all()?;
            fs::rename(&tmp, &path)?;
            sync_dir(&self.dir.join(PACKS))?;
            Ok(((sha256, size), true))
        })();
        if done.is_err() {
            let _ = fs::remove_file(&tmp);
        }
        done.map_err(|error| self.failed(PACKS, error))
    }

    /// Shows a head: from here on devices go by it.
    pub(super) fn show(&self, head: &Head, before: Option<&Head>) -> Result<(), Stop> {
        let name = head_file(&head.branch);
        let mut text = serde_json::to_vec(head).context("a head cannot be written")?;
        text.push(b'\n');
        // Web servers tell one file from another by the second of its time, and some by nothing else.
        let seen = fs::metadata(self.dir.join(&name)).and_then(|data| data.modified());
        let now = SystemTime::from(jiff::Timestamp::now());
        let time = seen.map_or(now, |seen| now.max(seen + Duration::from_secs(1)));
        self.write(&name, &text, Some(time))?;
        // From now on their time runs.
        if let Some(before) = before {
            let wanted = self.wanted()?;
            for pack in before.line.iter().chain([&before.snapshot]) {
                if !wanted.contains(&pack.sha256) {
                    let file = File::options()
                        .append(true)
                        .open(self.dir.join(pack.file()));
                    let _ = file.and_then(|file| file.set_modified(now));
                }
            }
        }
        Ok(())
    }

    /// Removes packs that no head has named for so long; how many.
    pub(in crate::cli) fn sweep(&self, keep: Duration) -> Result<usize, Stop> {
        let wanted = self.wanted()?;
        let mut swept = 0;
        let entries =
            fs::read_dir(self.dir.join(PACKS)).map_err(|error| self.failed(PACKS, error))?;
        for entry in entries.flatten() {
            let path = entry.path();
            let is_pack = path
                .extension()
                .is_some_and(|extension| extension == "pack");
            let is_wanted = path
                .file_stem()
                .is_none_or(|stem| wanted.contains(&*stem.to_string_lossy()));
            let age = entry
                .metadata()
                .and_then(|data| data.modified())
                .ok()
                .and_then(|time| time.elapsed().ok());
            if is_pack && !is_wanted && age.is_some_and(|age| age >= keep) {
                fs::remove_file(&path).map_err(|error| self.failed(PACKS, error))?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// All packs that some head names.
    fn wanted(&self) -> Result<BTreeSet<String>, Stop> {
        let failed = |error| self.failed(HEADS, error);
        let mut wanted = BTreeSet::new();
        for entry in fs::read_dir(self.dir.join(HEADS)).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let head: Head = bounded(&path)
                .map_err(Error::new)
                .and_then(|bytes| Ok(serde_json::from_slice(&bytes)?))
                .with_context(|| {
                    format!("{} is no head file: nothing is swept\nhint: publish its branch again, or remove it", path.display())
                })?;
            wanted.extend(
                head.line
                    .into_iter()
                    .chain([head.snapshot])
                    .map(|pack| pack.sha256),
            );
        }
        Ok(wanted)
    }

    /// Writes a file: the old one or the new one is there, whole.
    fn write(&self, name: &str, bytes: &[u8], time: Option<SystemTime>) -> Result<(), Stop> {
        let path = self.dir.join(name);
        let dir = path.parent().unwrap_or(&self.dir);
        let tmp = dir.join(format!("{UNFINISHED}-file"));
        let done = (|| -> io::Result<()> {
            let mut file = File::create(&tmp)?;
            file.write_all(bytes)?;
            if let Some(time) = time {
                file.set_modified(time)?;
            }
            file.sync_all()?;
            fs::rename(&tmp, &path)?;
            sync_dir(dir)
        })();
        if done.is_err() {
            let _ = fs::remove_file(&tmp);
        }
        done.map_err(|error| self.failed(name, error))
    }

    fn failed(&self, what: &str, error: io::Error) -> Stop {
        Stop::from(Error::new(error).context(format!(
            "cannot write {}: what the tree showed before, it shows now",
            self.dir.join(what).display()
        )))
    }
}

/// Whether a pack is there as its name says: one that went bad on the disk is written again.
fn is_whole(path: &Path, size: u64, sha256: &str) -> bool {
    fs::metadata(path).is_ok_and(|data| data.is_file() && data.len() == size)
        && digits(path).is_ok_and(|sum| sum == sha256)
}

fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(LONGEST_HEAD + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
