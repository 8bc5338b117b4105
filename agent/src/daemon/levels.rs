//! After unclean starts: how much of its work the loop does, and when it tries more of it. See `schedule::starts`.

use std::time::Duration;

use tokio::time::Instant;

use super::Daemon;
use crate::port::World;
use crate::port::starts::Starts;
use crate::schedule::starts::Level;
use crate::select::Urgency;

/// The count of starts, and until when the level is held.
#[derive(Clone, Copy)]
pub(super) struct Held<'a> {
    starts: &'a dyn Starts,
    until: Option<Instant>,
}

impl std::fmt::Debug for Held<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

impl<'a, W: World> Daemon<'a, W> {
    /// The same loop, which tells `starts` when a pass has ended, and does no more than that allows.
    #[must_use]
    pub fn counting(mut self, starts: &'a dyn Starts) -> Self {
        self.held = Some(self.hold(starts));
        self
    }

    /// Takes the level as it is now.
    fn hold(&self, starts: &'a dyn Starts) -> Held<'a> {
        let (why, until) = match starts.level() {
            Level::Whole => (None, None),
            Level::AtLastGood | Level::Idle => {
                (Some(starts.why()), Some(Instant::now() + starts.hold()))
            }
        };
        self.agent.session.held_back.replace(why);
        Held { starts, until }
    }

    /// One level up, once it was held for long enough, or where a person asks.
    pub(super) fn climb(&mut self, urgency: Urgency) {
        let Some(held) = self.held else { return };
        let is_due = held.until.is_some_and(|until| {
            urgency == Urgency::Asked || !self.waiting.is_empty() || Instant::now() >= until
        });
        if is_due {
            held.starts.try_again();
            self.held = Some(self.hold(held.starts));
        }
    }

    /// A pass has ended, or the loop stops because it was asked to. The first pass of a start asks no remote, and is
    /// believed only where none is asked anyway.
    pub(super) fn passed(&self, urgency: Urgency) {
        let Some(held) = self.held else { return };
        let is_whole = match urgency {
            Urgency::Boot => held.until.is_some() || self.stopping,
            Urgency::Scheduled | Urgency::Stirred | Urgency::Asked => true,
        };
        if is_whole {
            held.starts.ended();
        }
    }

    /// The wait, or less where the level above is tried before.
    pub(super) fn at_most(&self, wait: Duration) -> Duration {
        let until = self.held.and_then(|held| held.until);
        until.map_or(wait, |until| {
            wait.min(until.saturating_duration_since(Instant::now()))
        })
    }
}
