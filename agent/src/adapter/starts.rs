//! The file `starts` in the state directory: how many starts in a row ended uncleanly.
//!
//! One line, and its checksum in a second one; replaced whole, synced, when a start begins, and removed once a pass has
//! ended. The removal is not synced: what a power cut brings back is one start that is counted too many. So a start costs
//! one small write, and everything after it none.
//!
//! A file that is damaged, or that another version of the agent wrote, counts nothing. One that cannot be written is told.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};

use super::durable;
use crate::domain::revision::ContentId;
use crate::port::starts::Starts;
use crate::schedule::starts::{Level, Unclean};

const NAME: &str = "starts";
const FORMAT: &str = "evenkeel-starts 1";
/// Longer than any that we write.
const LONGEST: usize = 512;

/// The count on disk, and what this process does.
#[derive(Debug)]
pub struct StartsFile {
    dir: PathBuf,
    version: String,
    unclean: Cell<Unclean>,
    level: Cell<Level>,
    /// Whether the file says anything else than "none".
    written: Cell<bool>,
}

impl StartsFile {
    /// A start of this version begins in this state directory, whose lock is held: it is counted.
    #[must_use]
    pub fn begin(dir: &Path, version: &str) -> Self {
        let read = read(dir, version);
        let before = read.unwrap_or_default();
        let level = before.level();
        let starts = Self {
            dir: dir.to_owned(),
            version: version.to_owned(),
            unclean: Cell::new(before),
            level: Cell::new(level),
            written: Cell::new(read.is_some()),
        };
        match level {
            // It stands at its limit already.
            Level::Idle => {}
            Level::Whole | Level::AtLastGood => starts.put(before.begun(level)),
        }
        starts
    }

    fn put(&self, unclean: Unclean) {
        self.unclean.set(unclean);
        let done = if unclean == Unclean::default() {
            if !self.written.get() {
                return;
            }
            std::fs::remove_file(self.dir.join(NAME))
        } else {
            durable::write(&self.dir, NAME, &spelt(unclean, &self.version), 0o600)
        };
        match done {
            Ok(()) => self.written.set(unclean != Unclean::default()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.written.set(false),
            Err(error) => tracing::warn!(
                "cannot write down how many starts ended uncleanly ({}): {error}",
                self.dir.join(NAME).display()
            ),
        }
    }
}

impl Starts for StartsFile {
    fn unclean(&self) -> Unclean {
        self.unclean.get()
    }

    fn level(&self) -> Level {
        self.level.get()
    }

    fn set(&self, unclean: Unclean, level: Level) {
        self.level.set(level);
        if unclean != self.unclean.get() {
            self.put(unclean);
        }
    }
}

fn spelt(unclean: Unclean, version: &str) -> Vec<u8> {
    let line = format!(
        "{FORMAT} whole={} at-last-good={} version={version}\n",
        unclean.whole, unclean.at_last_good
    );
    let sum = ContentId::of(line.as_bytes());
    format!("{line}{sum}\n").into_bytes()
}

fn read(dir: &Path, version: &str) -> Option<Unclean> {
    let bytes = std::fs::read(dir.join(NAME)).ok()?;
    if bytes.len() > LONGEST {
        return None;
    }
    let text = String::from_utf8(bytes).ok()?;
    let end = text.find('\n')? + 1;
    let (line, sum) = text.split_at(end);
    if ContentId::of(line.as_bytes()).as_str() != sum.trim_end() {
        return None;
    }
    let mut words = line.trim_end().strip_prefix(FORMAT)?.split_whitespace();
    let mut next = |key: &str| words.next()?.strip_prefix(key).map(str::to_owned);
    let unclean = Unclean {
        whole: next("whole=")?.parse().ok()?,
        at_last_good: next("at-last-good=")?.parse().ok()?,
    };
    (next("version=")? == version).then_some(unclean)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn levels(dir: &Path, starts: usize) -> Vec<Level> {
        (0..starts)
            .map(|_| StartsFile::begin(dir, "1").level())
            .collect()
    }

    #[test]
    fn starts_that_end_no_pass_are_counted_and_one_that_does_forgets_them() {
        use Level::{AtLastGood, Idle, Whole};
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            levels(dir.path(), 7),
            [
                Whole, Whole, Whole, AtLastGood, AtLastGood, AtLastGood, Idle
            ]
        );
        let starts = StartsFile::begin(dir.path(), "1");
        starts.try_again();
        assert_eq!(starts.level(), AtLastGood);
        starts.ended();
        starts.try_again();
        assert_eq!(starts.level(), Whole);
        starts.ended();
        assert!(!dir.path().join(NAME).exists());
        assert_eq!(levels(dir.path(), 1), [Whole]);
    }

    #[test]
    fn another_version_begins_with_a_count_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        levels(dir.path(), 5);
        assert_eq!(StartsFile::begin(dir.path(), "2").level(), Level::Whole);
    }

    #[test]
    fn a_file_with_any_byte_changed_or_cut_off_counts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        levels(dir.path(), 4);
        let file = dir.path().join(NAME);
        let whole = std::fs::read(&file).unwrap();
        assert!(read(dir.path(), "1").is_some());
        for at in 0..whole.len() - 1 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&file, &bytes).unwrap();
            assert_eq!(read(dir.path(), "1"), None, "byte {at}");
            std::fs::write(&file, &whole[..at]).unwrap();
            assert_eq!(read(dir.path(), "1"), None, "{at} bytes");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_written_hinders_nothing() {
        let starts = StartsFile::begin(Path::new("/proc/self"), "1");
        assert_eq!(starts.level(), Level::Whole);
        starts.ended();
    }
}
