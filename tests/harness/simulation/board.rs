//! What is heard of each device: by what it tells its reporter.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use evenkeel::domain::outcome::{Outcome, Report};
use evenkeel::port::reporter::{Event, Reporter};

/// What was heard of one device.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Passes that have ended.
    pub passes: u64,
    /// Passes that ended with the remote not reached, or something else that is tried again.
    pub deferred: u64,
    /// What the last of them said.
    pub why: Option<String>,
    /// What was refused before anything was changed.
    pub rejected: BTreeSet<String>,
    /// Commits that it was told of as its branch's tip, and when first.
    pub tips: BTreeMap<String, Instant>,
    /// Commits that were applied, and when first.
    pub applied: BTreeMap<String, Instant>,
    /// Commits that became good, and when first.
    pub good: BTreeMap<String, Instant>,
    /// Commits that were found unhealthy.
    pub refused: BTreeSet<String>,
    /// What is last-good now.
    pub last_good: Option<String>,
    /// When the passes ended that reached the remote.
    pub reached: Vec<Instant>,
}

impl Heard {
    /// When the first pass ended after this moment that reached the remote.
    pub fn reached_after(&self, moment: Instant) -> Option<Instant> {
        let before = self.reached.partition_point(|at| *at <= moment);
        self.reached.get(before).copied()
    }

    fn report(&mut self, report: &Report) {
        let now = Instant::now();
        let revision = &report.revision;
        let mut first = |all: fn(&mut Self) -> &mut BTreeMap<String, Instant>, id: &str| {
            if !all(self).contains_key(id) {
                all(self).insert(id.to_owned(), now);
            }
        };
        if let Some(id) = &revision.tip {
            first(|heard| &mut heard.tips, id.as_str());
        }
        if let Some(id) = &revision.applied {
            first(|heard| &mut heard.applied, id.as_str());
        }
        if let Some(id) = &revision.last_good {
            first(|heard| &mut heard.good, id.as_str());
            self.last_good = Some(id.as_str().to_owned());
        }
    }

    fn outcome(&mut self, outcome: &Outcome) {
        self.passes += 1;
        match outcome {
            Outcome::Deferred { reason, message } => {
                self.deferred += 1;
                self.why = Some(format!("{reason}: {message}"));
                return;
            }
            Outcome::Rejected { reason, message } => {
                self.rejected.insert(format!("{reason}: {message}"));
            }
            Outcome::Unhealthy { commit, .. } => {
                self.refused.insert(commit.as_str().to_owned());
            }
            Outcome::Converged
            | Outcome::Applied { .. }
            | Outcome::Healed { .. }
            | Outcome::RolledBack { .. }
            | Outcome::Held(_) => {}
        }
        self.reached.push(Instant::now());
    }
}

/// What was heard of all devices.
#[derive(Debug)]
pub struct Board(Vec<Mutex<Heard>>);

impl Board {
    /// Of so many.
    pub fn new(devices: usize) -> Arc<Self> {
        Arc::new(Self((0..devices).map(|_| Mutex::default()).collect()))
    }

    fn device(&self, index: usize) -> MutexGuard<'_, Heard> {
        self.0[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks each of these devices something.
    pub fn each<T>(
        &self,
        devices: impl IntoIterator<Item = usize>,
        ask: impl Fn(&Heard) -> T,
    ) -> Vec<T> {
        devices
            .into_iter()
            .map(|index| ask(&self.device(index)))
            .collect()
    }

    /// How many of these devices something is true of.
    pub fn count(
        &self,
        devices: impl IntoIterator<Item = usize>,
        is: impl Fn(&Heard) -> bool,
    ) -> usize {
        self.each(devices, is).into_iter().filter(|is| *is).count()
    }
}

/// A device's reporter.
#[derive(Debug)]
pub(super) struct Ear {
    board: Arc<Board>,
    index: usize,
    /// The report that was told last: most of what is told changes nothing that is kept here.
    seen: RefCell<Option<evenkeel::domain::outcome::Revisions>>,
}

impl Ear {
    pub(super) fn new(board: Arc<Board>, index: usize) -> Self {
        Self {
            board,
            index,
            seen: RefCell::default(),
        }
    }
}

impl Reporter for Ear {
    fn tell(&self, event: &Event) {
        match event {
            Event::Report(report) => {
                if self.seen.borrow().as_ref() != Some(&report.revision) {
                    self.seen.replace(Some(report.revision.clone()));
                    self.board.device(self.index).report(report);
                }
            }
            Event::Outcome(outcome) => self.board.device(self.index).outcome(outcome),
            Event::Pull { .. }
            | Event::Step(_)
            | Event::Notice(_)
            | Event::Alive
            | Event::Rests(_) => {}
        }
    }
}
