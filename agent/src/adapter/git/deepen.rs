//! More of the history behind the tip than is here: in steps, and after the last one all of it.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError};

use gix::ObjectId;

use super::exchange::{Answer, Ask, Exchange, chain, is_costly};
use super::fetch::{Inner, Memo};
use super::several::Goes;
use super::{graph, store};
use crate::port::source::{Deepened, SourceError};

impl Inner {
    /// One step further back. What proves to be in vain is not tried again for the same tip.
    pub(super) fn deepen(&self, interrupt: &Arc<AtomicBool>) -> Result<Deepened, SourceError> {
        self.settle()?;
        let mut memo = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        // A damaged store is cloned anew by the next fetch.
        if !self.is_sound() {
            return Ok(Deepened::Nothing);
        }
        let Some(tip) = store::tip(&self.dir, &self.branch)? else {
            return Ok(Deepened::Nothing);
        };
        let mut first = None;
        for remote in self.in_turn() {
            let exchange = self.exchange(remote, self.limits.fetch, interrupt);
            let done = self.deepen_from(&exchange, tip, &mut memo);
            if self.note(remote, &done, interrupt) == Goes::No {
                return done;
            }
            match done {
                Err(error) => {
                    first.get_or_insert(error);
                }
                Ok(deepened) => return Ok(deepened),
            }
        }
        first.map_or(Ok(Deepened::Nothing), Err)
    }

    /// Steps on until the boundary has moved.
    fn deepen_from(
        &self,
        exchange: &Exchange<'_>,
        tip: ObjectId,
        memo: &mut Memo,
    ) -> Result<Deepened, SourceError> {
        let steps = &self.limits.deepen;
        loop {
            let repo = store::open(&self.dir, &self.limits)?;
            let boundary = |repo: &gix::Repository| {
                graph::boundary(repo)
                    .map_err(|error| store::broken("the shallow boundary does not read", error))
            };
            let before = boundary(&repo)?;
            let done = match memo.deepened {
                Some((seen, done)) if seen == tip => done,
                Some(_) | None => 0,
            };
            // What the fetch found about this tip holds here too.
            let is_hopeless = matches!(&memo.hopeless, Some((seen, _, _)) if *seen == tip);
            if before.is_empty() || is_hopeless || done > steps.len() {
                return Ok(Deepened::Nothing);
            }
            let step = steps
                .get(done)
                .map_or(Ask::Unshallow, |&commits| Ask::Deepen(commits));
            match exchange.ask(&repo, step) {
                Ok(Answer::Tip { .. }) => memo.deepened = Some((tip, done + 1)),
                // The branch is changing: the next fetch sees how.
                Ok(Answer::NoBranch | Answer::OtherHash(_)) => return Ok(Deepened::Nothing),
                Err(error) => {
                    if is_costly(&error) {
                        tracing::warn!(
                            error = chain(&error),
                            "no more of the branch's history is asked for until the branch moves"
                        );
                        memo.deepened = Some((tip, steps.len() + 1));
                    }
                    return Err(error);
                }
            }
            let repo = store::open(&self.dir, &self.limits)?;
            if boundary(&repo)? != before {
                return Ok(Deepened::More);
            }
        }
    }
}
