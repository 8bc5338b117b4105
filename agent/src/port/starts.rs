//! The count of unclean starts: see `schedule::starts`.

use std::time::Duration;

use crate::schedule::starts::Level;

/// Remembers, beyond this process, that it began and has not ended a pass yet. What cannot be remembered is told, and
/// hinders nothing.
pub trait Starts {
    /// What is done now.
    fn level(&self) -> Level;
    /// How long that is held before the level above is tried.
    fn hold(&self) -> Duration;
    /// Why it is held, with the next move.
    fn why(&self) -> String;
    /// Goes one level up, and remembers that this was tried.
    fn try_again(&self);
    /// A pass at this level has ended, or the agent stops because it was asked to.
    fn ended(&self);
}
