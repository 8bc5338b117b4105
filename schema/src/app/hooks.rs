//! `[hooks]` of app.toml: services of the app that run once around a change.
//!
//! Owns which moments there are. Whether a named service is there, and fit to be a hook, is judged where the services are known.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::keys::HOOKS;
use super::positive;
use crate::decode;
use crate::diagnostic::Diagnostics;
use crate::document::{self, Place, Placed};
use crate::name::ServiceName;
use crate::node::Node;

/// How long a hook may take where nothing is said: as long as a gate waits.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(120);

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Before anything of a change was done.
    BeforeUpdate,
    /// After the change was healthy through its soak.
    AfterUpdate,
    /// After the change was found unhealthy.
    OnFailure,
    /// Before the device goes back to the revision that declares it.
    BeforeRollback,
}

impl Moment {
    /// All of them, in the order of the keys.
    pub const ALL: [Self; 4] = [
        Self::BeforeUpdate,
        Self::AfterUpdate,
        Self::OnFailure,
        Self::BeforeRollback,
    ];

    /// Its key.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BeforeUpdate => "before_update",
            Self::AfterUpdate => "after_update",
            Self::OnFailure => "on_failure",
            Self::BeforeRollback => "before_rollback",
        }
    }
}

/// One hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The service that runs.
    pub service: ServiceName,
    /// How long it may take.
    pub deadline: Duration,
}

/// One hook as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookEntry {
    /// When it runs.
    pub moment: Moment,
    /// What runs.
    pub service: Placed<ServiceName>,
    /// How long it may take.
    pub deadline: Duration,
}

pub(super) fn decode(node: &Node, out: &mut Diagnostics) -> Option<Vec<HookEntry>> {
    if !document::check_keys(node, HOOKS, "`[hooks]`", out) {
        return None;
    }
    let deadline = decode::optional(node, "deadline", out, positive).unwrap_or(DEFAULT_DEADLINE);
    let mut found = Vec::new();
    for moment in Moment::ALL {
        let service = decode::optional(node, moment.as_str(), out, |node, out| {
            Some(Placed {
                value: decode::parsed::<ServiceName>(node, out)?,
                place: Place::of(node),
            })
        });
        found.extend(service.map(|service| HookEntry {
            moment,
            service,
            deadline,
        }));
    }
    Some(found)
}
