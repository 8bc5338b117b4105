//! What is asked of the loop, and what it answers.

use std::path::PathBuf;

use tokio::sync::oneshot;

use crate::cycle::trust_state::TrustState;
use crate::cycle::{Haste, Locks, Preview};
use crate::domain::history::Deployment;
use crate::domain::outcome::Outcome;
use crate::domain::revision::CommitId;

/// What somebody asks of the loop.
#[derive(Debug)]
pub enum Ask {
    /// One pass now.
    Sync(Haste),
    /// The same, past the update locks of apps.
    SyncPastLocks(Haste),
    /// One pass now, with this folder in place of the remotes.
    SyncFrom(PathBuf, Haste, Locks),
    /// What a pass would do.
    Plan,
    /// The deployments, newest first.
    History,
    /// Back to a good revision (a prefix of its id), or to the previous one with other content.
    Rollback(Option<String>),
    /// Stop applying.
    Pause,
    /// Go on applying.
    Resume,
    /// Set the anti-rollback floor to this commit.
    ResetFloor(CommitId),
    /// This container (the engine's id) is ours, for this service.
    Adopt(String, crate::domain::resource::ServiceId),
    /// The trust state.
    Trust,
}

/// What the loop answers.
#[derive(Debug)]
pub enum Answer {
    /// A pass ended.
    Passed(Outcome),
    /// What a pass would do.
    Plan(Box<Preview>),
    /// The deployments, newest first.
    History(Vec<Deployment>),
    /// The trust state.
    Trust(Box<TrustState>),
    /// Done; one sentence.
    Done(String),
    /// Could not be done.
    Failed {
        /// The exit code that fits.
        code: u8,
        /// One sentence with the next move.
        message: String,
    },
}

/// A request and where its answer goes.
#[derive(Debug)]
pub struct Asked {
    /// What.
    pub ask: Ask,
    /// Where to.
    pub reply: oneshot::Sender<Answer>,
}

/// What ends the wait between two cycles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Poll now (SIGHUP).
    Poke,
    /// End at the next idle moment, to be started anew (SIGUSR1): what a package's upgrade asks for.
    Renew,
    /// End (SIGTERM, SIGINT).
    Stop,
}

/// Whether the loop goes on after the device has settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// For ever: the daemon.
    Forever,
    /// Until it has settled once: `sync` without a daemon.
    Once,
}

/// Whether a pass has to run for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The answer comes at its end.
    Needed,
    /// It is answered already.
    NotNeeded,
}

/// Who waits for the end of a pass.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) reply: oneshot::Sender<Answer>,
    /// What was done before the pass and stays done however that ends; `None`: the pass is the answer.
    pub(super) done: Option<&'static str>,
    pub(super) haste: Haste,
    pub(super) locks: Locks,
    /// The folder that is asked in place of the remotes.
    pub(super) from: Option<PathBuf>,
}

impl Waiting {
    pub(super) const fn for_pass(reply: oneshot::Sender<Answer>) -> Self {
        Self {
            reply,
            done: None,
            haste: Haste::InTime,
            locks: Locks::Heeded,
            from: None,
        }
    }

    /// Something was done already.
    pub(super) const fn after(done: &'static str, reply: oneshot::Sender<Answer>) -> Self {
        Self {
            reply,
            done: Some(done),
            haste: Haste::InTime,
            locks: Locks::Heeded,
            from: None,
        }
    }

    pub(super) fn tell(self, outcome: &Outcome) {
        let answer = match self.done {
            Some(text) if outcome.exit_code() != 0 => Answer::Done(text.to_owned()),
            Some(_) | None => Answer::Passed(outcome.clone()),
        };
        // Whoever asked may have gone.
        let _ = self.reply.send(answer);
    }
}

pub(super) fn failed(code: u8, error: &(dyn std::error::Error + 'static)) -> Answer {
    Answer::Failed {
        code,
        message: crate::cycle::chain(error),
    }
}
