//! What a fault test counts: how many cases of a fault it ran, and how the devices ended.
//!
//! Each test writes its lines into the folder that `EVENKEEL_TORTURE_DIR` names, and `tests/torture.sh` adds them up to one
//! table. Used by the tests of both crates, so it knows nothing but the standard library.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test's own scratch file, and how much was tried belongs to its story"
)]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// How a device ended after a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// At the new revision, whole and healthy.
    New,
    /// At the last good revision, whole and healthy.
    LastGood,
    /// Anywhere else, or with something lost, left over, or told wrongly: the promise is broken.
    Neither,
}

/// How much is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// What fits into every run of the tests.
    Quick,
    /// What is tried on demand: `tests/torture.sh --full`.
    Full,
}

impl Scale {
    /// What `EVENKEEL_TORTURE` asks for.
    pub fn asked() -> Self {
        match std::env::var("EVENKEEL_TORTURE").as_deref() {
            Ok("full") => Self::Full,
            Ok(_) | Err(_) => Self::Quick,
        }
    }

    /// One of the two.
    pub fn of<T>(self, quick: T, full: T) -> T {
        match self {
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

/// The seed to begin with: `EVENKEEL_TORTURE_SEED` (`tests/torture.sh --seed N`) replays one case alone.
pub fn only_seed() -> Option<u64> {
    std::env::var("EVENKEEL_TORTURE_SEED").ok()?.parse().ok()
}

/// Whether this fault is planted in the harness on purpose: `tests/torture.sh --plant NAME` must then end red.
pub fn is_planted(name: &str) -> bool {
    std::env::var("EVENKEEL_TORTURE_PLANT").is_ok_and(|planted| planted == name)
}

/// The cases of one class of faults. Written down by [`Tally::close`], which also tells whether the promise held.
#[derive(Debug)]
#[must_use]
pub struct Tally {
    class: &'static str,
    new: u64,
    last_good: u64,
    wrong: Vec<String>,
}

impl Tally {
    /// No case yet. `class` is the table's first column: `crash at an effect`.
    pub const fn new(class: &'static str) -> Self {
        Self {
            class,
            new: 0,
            last_good: 0,
            wrong: Vec::new(),
        }
    }

    /// A case that ended as promised, or not: then with what is needed to run it again.
    pub fn count(&mut self, ended: Result<Ended, String>) {
        match ended {
            Ok(Ended::New) => self.new += 1,
            Ok(Ended::LastGood) => self.last_good += 1,
            Ok(Ended::Neither) => self.wrong.push("ended nowhere".to_owned()),
            Err(why) => self.wrong.push(why),
        }
    }

    /// How many cases there were.
    pub const fn cases(&self) -> u64 {
        self.new + self.last_good + self.wrong.len() as u64
    }

    /// The cases that broke the promise.
    pub fn wrong(&self) -> &[String] {
        &self.wrong
    }

    /// Writes the line down.
    ///
    /// # Panics
    /// Where a case broke the promise (all of them are named, the first one whole), or where there was no case at all.
    #[track_caller]
    pub fn close(self) {
        let (class, cases) = (self.class, self.cases());
        let wrong = self.wrong.len();
        record(&format!(
            "case\t{class}\t{cases}\t{}\t{}\t{wrong}",
            self.new, self.last_good
        ));
        println!(
            "{class}: {cases} cases, {} at the new revision, {} at last-good, {wrong} at neither",
            self.new, self.last_good
        );
        assert!(cases > 0, "{class}: no case was run");
        let mut shown = String::new();
        for why in &self.wrong {
            let _ = writeln!(shown, "{}", why.lines().next().unwrap_or_default());
        }
        assert!(
            self.wrong.is_empty(),
            "{class}: {wrong} of {cases} cases:\n{shown}\nthe first one: {}",
            self.wrong[0]
        );
    }

    /// Writes down that a fault was planted on purpose (`what`), and that the harness saw it.
    ///
    /// # Panics
    /// Where no case broke the promise: then the harness is blind to what it looks for.
    #[track_caller]
    pub fn close_planted(self, what: &str) {
        let (class, cases, seen) = (self.class, self.cases(), self.wrong.len());
        record(&format!("plant\t{class}\t{what}\t{cases}\t{seen}"));
        println!("{class}, with {what}: seen in {seen} of {cases} cases");
        assert!(
            seen > 0,
            "{class}: {what} was planted, and none of {cases} cases shows it"
        );
    }
}

/// Adds a line to this process's own file, in one write.
fn record(line: &str) {
    static LINES: AtomicU32 = AtomicU32::new(0);
    let Some(dir) = std::env::var_os("EVENKEEL_TORTURE_DIR") else {
        return;
    };
    let number = LINES.fetch_add(1, Ordering::Relaxed);
    let file = PathBuf::from(dir).join(format!("{}.{number}", std::process::id()));
    std::fs::write(&file, format!("{line}\n")).expect("write down what was counted");
}
