//! Several remotes: which of them is asked, what each is known for, and which tip is the local one.
//!
//! What is known of a remote lives in memory: after a start each has its chance. All of them share one store, in which an
//! object is what its id says, whoever sent it. Which of several tips counts is decided above, where signatures are judged:
//! here a tip of several is not the local one before [`Inner::settle_on`].

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use gix::ObjectId;

use super::exchange::{Answer, Ask, Exchange, chain};
use super::fetch::Inner;
use super::limits::Fault;
use super::store;
use crate::domain::revision::CommitId;
use crate::port::source::{Reach, RemoteHealth, Sighting, SourceError, Whom};
use crate::schedule::{self, Jitter};

/// What is known of one remote.
#[derive(Debug, Default)]
struct Known {
    /// How the last question ended; `None`: it was not asked.
    last: Option<Result<(), String>>,
    /// How often in a row it failed.
    failures: u32,
    /// Until when it is passed over.
    until: Option<Instant>,
}

/// How each remote answered last.
#[derive(Debug)]
pub(super) struct Health {
    known: Vec<Known>,
    interval: Duration,
}

/// Whether the next remote is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goes {
    Yes,
    No,
}

impl Health {
    pub(super) fn new(remotes: usize, interval: Duration) -> Self {
        let mut known = Vec::new();
        known.resize_with(remotes, Known::default);
        Self { known, interval }
    }

    fn is_ready(&self, remote: usize, now: Instant) -> bool {
        let until = self.known.get(remote).and_then(|known| known.until);
        until.is_none_or(|until| until <= now)
    }

    /// In their order; those that failed just now last, for they may be all there is.
    fn order(&self, now: Instant) -> Vec<usize> {
        let (ready, failing): (Vec<usize>, Vec<usize>) =
            (0..self.known.len()).partition(|&remote| self.is_ready(remote, now));
        [ready, failing].concat()
    }

    fn answered(&mut self, remote: usize) {
        if let Some(known) = self.known.get_mut(remote) {
            *known = Known {
                last: Some(Ok(())),
                ..Known::default()
            };
        }
    }

    /// It is passed over for two intervals, then four, up to the longest back-off.
    fn failed(&mut self, remote: usize, why: String, now: Instant) {
        let interval = self.interval;
        if let Some(known) = self.known.get_mut(remote) {
            known.failures = known.failures.saturating_add(1);
            let wait = schedule::next_wake(interval, known.failures + 1, Jitter::random());
            known.until = Some(now + wait);
            known.last = Some(Err(why));
        }
    }
}

/// There is nothing that could be asked.
pub(super) fn none() -> SourceError {
    super::setup("source.url names no remote".to_owned())
}

impl Inner {
    /// The remotes in the order in which they are asked now.
    pub(super) fn in_turn(&self) -> Vec<usize> {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.order(Instant::now())
    }

    pub(super) fn exchange<'a>(
        &'a self,
        remote: usize,
        whole: Duration,
        interrupt: &'a Arc<AtomicBool>,
    ) -> Exchange<'a> {
        Exchange {
            inner: self,
            remote: &self.remotes[remote],
            interrupt,
            started: Instant::now(),
            whole,
        }
    }

    /// Remembers how a remote answered. Says whether another one may do better.
    pub(super) fn note<T>(
        &self,
        remote: usize,
        done: &Result<T, SourceError>,
        interrupt: &AtomicBool,
    ) -> Goes {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        match done {
            Ok(_) => health.answered(remote),
            // Not the remote's fault.
            Err(SourceError::Store { .. } | SourceError::TooLarge(_)) => return Goes::No,
            Err(_) if interrupt.load(Ordering::Relaxed) => return Goes::No,
            // A credential that cannot be read, or a host key that is not the pinned one, is for a person to mend; what the
            // other remotes say is verified all the same.
            Err(
                error @ (SourceError::Setup { .. }
                | SourceError::Remote { .. }
                | SourceError::NoBranch { .. }),
            ) => {
                health.failed(remote, chain(error), Instant::now());
                return Goes::Yes;
            }
        }
        Goes::No
    }

    /// What each remote is known for.
    pub(super) fn told(&self) -> Vec<RemoteHealth> {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        self.remotes
            .iter()
            .zip(&health.known)
            .map(|(remote, known)| RemoteHealth {
                name: remote.shown(),
                reach: remote.reach(),
                last: known.last.clone(),
            })
            .collect()
    }

    /// Whether the local tip is not simply what the remote that answers says.
    pub(super) fn is_one_of_several(&self, dir: &Path) -> Result<bool, SourceError> {
        Ok(self.remotes.len() > 1 && store::tip(dir, &self.branch)?.is_some())
    }

    /// The tip that counts here, also where no remote answers: none where it is the word of one of several that nobody has
    /// weighed against the others' yet.
    pub(super) fn own_tip(&self) -> Result<Option<ObjectId>, SourceError> {
        if self.remotes.len() > 1 && store::is_unweighed(&self.dir) {
            return Ok(None);
        }
        store::tip(&self.dir, &self.branch)
    }

    /// Asks the others, each for the time of a poll. What one of them has beyond the first takes the time of a fetch, as it
    /// would from the first.
    pub(super) fn others(
        &self,
        than: usize,
        whom: Whom,
        interrupt: &Arc<AtomicBool>,
    ) -> Vec<Sighting> {
        let _busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = Vec::new();
        for remote in (0..self.remotes.len()).filter(|&remote| remote != than) {
            let is_ready = self
                .health
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_ready(remote, Instant::now());
            let tip = match whom {
                Whom::Ready if !is_ready => None,
                Whom::Ready | Whom::Each => {
                    let exchange = self.exchange(remote, self.limits.fetch, interrupt);
                    let done = self.glimpse(&exchange);
                    self.note(remote, &done, interrupt);
                    if let Err(error) = &done {
                        tracing::debug!(error = chain(error), "another remote");
                    }
                    done.ok()
                }
            };
            seen.push(Sighting { remote, tip });
        }
        seen
    }

    /// A remote's tip, whose objects are here then.
    fn glimpse(&self, exchange: &Exchange<'_>) -> Result<CommitId, SourceError> {
        if !self.is_sound() {
            return Err(SourceError::Store {
                what: "it is being made anew".to_owned(),
                cause: None,
            });
        }
        let repo = store::open(&self.dir, &self.limits)?;
        match exchange.ask(&repo, Ask::Update)? {
            Answer::Tip { id, .. } => id
                .to_string()
                .parse()
                .map_err(|error| store::broken("a commit id", error)),
            Answer::NoBranch => Err(SourceError::NoBranch {
                remote: exchange.remote.shown(),
                branch: self.branch.clone(),
            }),
            Answer::OtherHash(_) => Err(exchange.error(Fault::Answer(
                "it has another hash function than the remote before it".to_owned(),
            ))),
        }
    }

    /// This commit is the local tip from now on.
    pub(super) fn settle_on(
        &self,
        tip: ObjectId,
        floor: Option<&CommitId>,
        interrupt: &Arc<AtomicBool>,
    ) -> Result<(), SourceError> {
        let _busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if store::tip(&self.dir, &self.branch)? == Some(tip) {
            return store::weighed(&self.dir);
        }
        let Some(commit) = self.look(|inner| inner.known(tip, floor))? else {
            return Err(SourceError::Store {
                what: format!("{tip} is not in it"),
                cause: None,
            });
        };
        store::set_tip(&self.dir, &self.branch, tip)?;
        store::weighed(&self.dir)?;
        self.compact(tip, floor, &commit.descent, interrupt);
        Ok(())
    }

    /// Whether any remote over a network answers.
    pub(super) fn reach(&self, interrupt: &Arc<AtomicBool>) -> Result<(), SourceError> {
        let mut memo = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let repo = if self.is_sound() {
            store::open(&self.dir, &self.limits)?
        } else {
            self.fresh(&mut memo)?
        };
        let mut first = None;
        for remote in self.in_turn() {
            if self.remotes[remote].reach() == Reach::Local {
                continue;
            }
            let exchange = self.exchange(remote, self.limits.poll, interrupt);
            let done = exchange.ask(&repo, Ask::Tip);
            self.note(remote, &done, interrupt);
            match done {
                // Whatever it says of the branch: it answers.
                Ok(Answer::Tip { .. } | Answer::NoBranch | Answer::OtherHash(_)) => return Ok(()),
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        Err(first.unwrap_or_else(none))
    }
}
