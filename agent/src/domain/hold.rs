//! What holds a change back on purpose, and until when.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::revision::Timestamp;

/// A change is held on purpose: nothing has failed, and healing goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// By what.
    pub by: HeldBy,
    /// For people: by which gate, and until when.
    pub message: String,
    /// When it ends, where the wall clock tells that. The loop wakes up then.
    pub until: Option<Timestamp>,
}

impl Hold {
    /// A hold whose end nobody can tell.
    #[must_use]
    pub fn open(by: HeldBy, message: impl Into<String>) -> Self {
        Self {
            by,
            message: message.into(),
            until: None,
        }
    }

    /// A hold that ends then.
    #[must_use]
    pub fn until(by: HeldBy, message: impl Into<String>, until: Timestamp) -> Self {
        Self {
            until: Some(until),
            ..Self::open(by, message)
        }
    }
}

/// By what a change is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeldBy {
    /// A person paused the device.
    Paused,
    /// A person rolled it back.
    RolledBack,
    /// Nothing was fetched yet.
    Nothing,
    /// `window.apply` of agent.toml is closed.
    Window,
    /// `window.download` of agent.toml is closed, and an image is not here.
    Download,
    /// The budget of a metered link is too small for an image that is not here.
    Metered,
    /// This device's turn in a `[rollout]` has not come.
    Wave,
    /// A signed `halt`.
    Halt,
    /// An app's update lock.
    Lock,
    /// An app's update lock, for longer than it may.
    LockOverdue,
}

impl HeldBy {
    /// The word that programs read.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::RolledBack => "rolled-back",
            Self::Nothing => "nothing-fetched",
            Self::Window => "window",
            Self::Download => "download",
            Self::Metered => "metered",
            Self::Wave => "wave",
            Self::Halt => "halt",
            Self::Lock => "lock",
            Self::LockOverdue => "lock-overdue",
        }
    }

    /// The reason that the condition `Ready` gives.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Paused | Self::RolledBack | Self::Nothing => "Held",
            Self::Window => "OutsideWindow",
            Self::Download => "OutsideDownloadWindow",
            Self::Metered => "MeteredBudget",
            Self::Wave => "WaitsForTurn",
            Self::Halt => "Halted",
            Self::Lock => "Locked",
            Self::LockOverdue => "LockOverdue",
        }
    }

    /// Whether nothing is fetched for the change either; what only waits for its time is fetched ahead of it.
    #[must_use]
    pub const fn holds_fetching(self) -> bool {
        match self {
            Self::Window | Self::Wave | Self::Lock | Self::LockOverdue => false,
            Self::Paused
            | Self::RolledBack
            | Self::Nothing
            | Self::Download
            | Self::Metered
            | Self::Halt => true,
        }
    }

    /// Who ends it.
    #[must_use]
    pub const fn ends(self) -> Ends {
        match self {
            Self::Paused | Self::RolledBack | Self::Halt => Ends::ByHand,
            Self::Nothing
            | Self::Window
            | Self::Download
            | Self::Metered
            | Self::Wave
            | Self::Lock => Ends::ByItself,
            Self::LockOverdue => Ends::Perhaps,
        }
    }
}

impl fmt::Display for HeldBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Who ends a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Time does.
    ByItself,
    /// A person does.
    ByHand,
    /// It should by itself, and a person should see why it does not.
    Perhaps,
}
