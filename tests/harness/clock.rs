//! A wall clock of a device's own, that a test sets while the agent runs: libfaketime, preloaded. The monotonic clock stays
//! the machine's, as it does where a clock is set.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// A wall clock.
#[derive(Debug)]
pub struct WallClock {
    dir: TempDir,
    library: PathBuf,
    monotonic: &'static str,
}

impl WallClock {
    /// A clock that goes on from here: `1970-01-01 00:01:00`, in UTC.
    ///
    /// # Panics
    /// Where libfaketime is not installed.
    pub fn at(time: &str) -> Self {
        let library = std::fs::read_dir("/usr/lib")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"))
            .find(|path| path.exists())
            .expect("libfaketime (apt-get install faketime, or ./tests/run.sh)");
        let clock = Self {
            dir: crate::short_tempdir("clock"),
            library,
            monotonic: "1",
        };
        clock.set(time);
        clock
    }

    /// The same, and the monotonic clock jumps with it: as no device's does. For what a harness has to see.
    #[must_use]
    pub fn with_a_monotonic_clock_that_jumps(mut self) -> Self {
        self.monotonic = "0";
        self
    }

    /// Sets it.
    pub fn set(&self, time: &str) {
        self.write(&format!("@{time}\n"));
    }

    /// Sets it to the machine's own time.
    pub fn set_right(&self) {
        self.write("+0\n");
    }

    fn write(&self, text: &str) {
        let new = self.dir.path().join("new");
        std::fs::write(&new, text).expect("write our own file");
        std::fs::rename(&new, self.file()).expect("rename our own file");
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("time")
    }

    /// Has a command live by it.
    pub fn rule<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", self.file())
            .env("FAKETIME_NO_CACHE", "1")
            .env("NO_FAKE_STAT", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", self.monotonic)
            .env("DONT_FAKE_MONOTONIC", self.monotonic)
            .env("TZ", "UTC")
    }
}
