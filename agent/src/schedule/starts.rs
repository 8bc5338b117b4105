//! What a start does that follows others which ended uncleanly. Pure.
//!
//! An agent that ends before a first pass has come to its end (a panic, an abort in the store, an OOM kill, the power)
//! would begin the same again at once, for ever: the service manager starts it anew, as it must. So unclean starts in a
//! row are counted in a small file, and each level is given a few of them:
//!
//! 1. *Whole*: everything. A start that ends a pass which asked the remote is a clean one, and the count is forgotten.
//! 2. *At last-good*: what is good is kept and healed; no remote is asked, nothing new is read, verified or applied. What
//!    crashed on the way to something new does not crash here, and what the device is for goes on.
//! 3. *Idle*: the journal is not even opened. The agent reports that it is stuck at its socket, and does nothing else.
//!
//! From 3 it goes to 2, and from 2 to 1, after a while that doubles with each time that this was in vain, from half a minute
//! to a quarter of an hour; or at once when a person runs `evenkeel sync`. Another version of the agent begins with a count
//! of its own.
//!
//! A boot does not reset the count, although a person who takes the plug out may expect it: a start that takes the whole
//! machine with it looks just the same.
//!
//! Limits: a pass that ends cleanly and crashes the agent only afterwards is not counted: between two of those lies a poll's
//! interval. A release that crashes its soak is counted by its own tries before any of this.

use std::time::Duration;

/// Whole starts that may end uncleanly in a row: as many as tries of a release, which are spent by then.
pub const WHOLE: u32 = 3;
/// Starts at last-good that may end uncleanly in a row.
pub const AT_LAST_GOOD: u32 = 3;
/// The first time that a level is held: long beside a start, short for who waits.
const FIRST_HOLD: Duration = Duration::from_secs(30);
/// The longest: a device whose trouble is over is at most this late.
const LONGEST_HOLD: Duration = super::LONGEST_BACKOFF;

/// How much of its work a start does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// All of it.
    Whole,
    /// Keeping what is good.
    AtLastGood,
    /// Telling that it is stuck.
    Idle,
}

impl Level {
    /// The one that is tried after it.
    #[must_use]
    pub const fn above(self) -> Self {
        match self {
            Self::Idle => Self::AtLastGood,
            Self::AtLastGood | Self::Whole => Self::Whole,
        }
    }
}

/// Unclean starts in a row, by what they tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unclean {
    /// Whole ones.
    pub whole: u32,
    /// Those at last-good, since one of them ended a pass.
    pub at_last_good: u32,
}

impl Unclean {
    /// What a start does after these.
    #[must_use]
    pub const fn level(self) -> Level {
        if self.whole < WHOLE {
            Level::Whole
        } else if self.at_last_good < AT_LAST_GOOD {
            Level::AtLastGood
        } else {
            Level::Idle
        }
    }

    /// With one more that has just begun: it is unclean until it has ended a pass.
    #[must_use]
    pub const fn begun(self, level: Level) -> Self {
        match level {
            Level::Whole => Self {
                whole: self.whole.saturating_add(1),
                ..self
            },
            Level::AtLastGood => Self {
                at_last_good: self.at_last_good.saturating_add(1),
                ..self
            },
            Level::Idle => self,
        }
    }

    /// A pass at this level has ended, or the agent stops because it was asked to: the next start tries as much again.
    #[must_use]
    pub const fn ended(self, level: Level) -> Self {
        match level {
            Level::Whole => Self {
                whole: 0,
                at_last_good: 0,
            },
            Level::AtLastGood | Level::Idle => Self {
                at_last_good: 0,
                ..self
            },
        }
    }

    /// How long this level is held before the one above is tried.
    #[must_use]
    pub fn hold(self, level: Level) -> Duration {
        let in_vain = match level {
            Level::Whole => return Duration::ZERO,
            Level::AtLastGood => self.whole.saturating_sub(WHOLE),
            Level::Idle => self.at_last_good.saturating_sub(AT_LAST_GOOD),
        };
        FIRST_HOLD
            .saturating_mul(1 << in_vain.min(16))
            .min(LONGEST_HOLD)
    }

    /// Why it is held, with the next move, for people.
    #[must_use]
    pub fn why(self, level: Level) -> String {
        match level {
            Level::Whole => String::new(),
            Level::AtLastGood => format!(
                "the agent ended uncleanly {} times before a pass was over, so it keeps what is good and takes nothing new for \
                 now; its log says why it ended (`journalctl -u evenkeel`); `evenkeel sync` tries again at once",
                self.whole
            ),
            Level::Idle => format!(
                "the agent ended uncleanly {} times before a pass was over, and {} more times while it only kept what is good, \
                 so it does nothing for now; its log says why it ended (`journalctl -u evenkeel`); `evenkeel sync` tries again \
                 at once",
                self.whole, self.at_last_good
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts that all end uncleanly: their levels.
    fn levels(starts: usize) -> Vec<Level> {
        let mut unclean = Unclean::default();
        (0..starts)
            .map(|_| {
                let level = unclean.level();
                unclean = unclean.begun(level);
                level
            })
            .collect()
    }

    #[test]
    fn starts_that_end_uncleanly_do_less_and_less() {
        use Level::{AtLastGood, Idle, Whole};
        assert_eq!(
            levels(8),
            [
                Whole, Whole, Whole, AtLastGood, AtLastGood, AtLastGood, Idle, Idle
            ]
        );
    }

    #[test]
    fn a_pass_that_ends_is_believed_as_far_as_it_went() {
        let stuck = Unclean {
            whole: 3,
            at_last_good: 3,
        };
        let kept = stuck.ended(Level::AtLastGood);
        assert_eq!(kept.level(), Level::AtLastGood);
        assert_eq!(kept.ended(Level::Whole), Unclean::default());
        // A person who restarts a stuck agent has done something about it.
        assert_eq!(stuck.ended(Level::Idle).level(), Level::AtLastGood);
    }

    #[test]
    fn a_level_is_held_longer_each_time_that_the_one_above_was_tried_in_vain() {
        let mut unclean = Unclean {
            whole: WHOLE,
            at_last_good: 0,
        };
        let mut holds = Vec::new();
        for _ in 0..7 {
            holds.push(unclean.hold(Level::AtLastGood).as_secs());
            unclean = unclean.begun(Level::Whole);
        }
        assert_eq!(holds, [30, 60, 120, 240, 480, 900, 900]);
    }
}
