//! A step in words: one line that logs, history and `plan` share.

use std::fmt;

use evenkeel_schema::app::OnChange;

use super::{Action, Blocked, Step};

/// How many digits of a hash people are shown.
const SHORT_HASH: usize = 10;

/// A hash (or an image by its hash) cut for people: `3f9c04a1bb…`. What is short enough stays as it is.
#[must_use]
pub fn short(hash: &str) -> String {
    let digits = hash.strip_prefix("sha256:").unwrap_or(hash);
    match digits.char_indices().nth(SHORT_HASH) {
        Some((cut, _)) => format!("{}…", &digits[..cut]),
        None => digits.to_owned(),
    }
}

impl Action {
    /// The verb: stable, and the `action` of `plan --json`.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::CreateNetwork { .. }
            | Self::CreateVolume { .. }
            | Self::CreateContainer { .. } => "create",
            Self::RemoveNetwork
            | Self::RemoveVolume
            | Self::RemoveFile { .. }
            | Self::RemoveContainer { .. } => "remove",
            Self::WriteFile { .. } => "write",
            Self::SetMetadata { .. } => "update",
            Self::RestoreFile { .. } => "restore",
            Self::DisownFile { .. } => "disown",
            Self::RecreateContainer { .. } => "recreate",
            Self::StartContainer { .. } => "start",
            Self::RestartContainer { .. }
            | Self::Unit(OnChange::RestartUnit(_) | OnChange::RestartService(_)) => "restart",
            Self::SignalContainer { .. } | Self::Unit(OnChange::SignalService { .. }) => "signal",
            Self::SetRestart { .. } => "arm",
            Self::Unit(OnChange::ReloadUnit(_)) => "reload",
        }
    }
}

impl fmt::Display for Step {
    /// `recreate service/mqtt/broker   image 3f9c04a1bb… -> a41d77e0c2…`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}   {}",
            self.action.verb(),
            self.resource,
            self.because
        )
    }
}

impl fmt::Display for Blocked {
    /// `blocked file/etc/motd   a directory stands at /etc/motd: ...`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blocked {}   {}", self.resource, self.why)
    }
}
