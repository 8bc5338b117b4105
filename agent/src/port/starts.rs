//! The count of unclean starts: see `schedule::starts`.

use std::time::Duration;

use crate::schedule::starts::{Level, Unclean};

/// Remembers, beyond this process, that it began and has not ended a pass yet. What cannot be remembered is told, and
/// hinders nothing.
pub trait Starts {
    /// The count, this start in it.
    fn unclean(&self) -> Unclean;
    /// What is done now.
    fn level(&self) -> Level;
    /// Goes on at this level, with this count remembered. Writes nothing where it is remembered already.
    fn set(&self, unclean: Unclean, level: Level);

    /// How long the level is held before the one above is tried.
    fn hold(&self) -> Duration {
        self.unclean().hold(self.level())
    }
    /// Why it is held, with the next move.
    fn why(&self) -> String {
        self.unclean().why(self.level())
    }
    /// Goes one level up, and remembers that this was tried.
    fn try_again(&self) {
        let above = self.level().above();
        self.set(self.unclean().begun(above), above);
    }
    /// A pass at this level has ended, or the agent stops because it was asked to.
    fn ended(&self) {
        self.set(self.unclean().ended(self.level()), self.level());
    }
}
