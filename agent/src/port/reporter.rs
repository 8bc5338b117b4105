//! Who is told.

use std::time::Duration;

use crate::domain::outcome::{Outcome, PullProgress, Report};

/// Something that happened, as it happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The phase or anything else of the report changed.
    Report(Box<Report>),
    /// A pull goes on.
    Pull {
        /// The image as declared.
        image: String,
        /// How far.
        progress: PullProgress,
    },
    /// A step was taken, in the words of the plan.
    Step(String),
    /// Something a person should read, once.
    Notice(String),
    /// A cycle ended.
    Outcome(Outcome),
    /// It goes on: a look at something that takes its time.
    Alive,
    /// Nothing is done for so long.
    Rests(Duration),
}

/// Log, service manager, and whoever listens at the socket.
pub trait Reporter {
    /// Tells.
    fn tell(&self, event: &Event);
}
