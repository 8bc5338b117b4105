//! How a cycle ended, and what `status` says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::agent::AgentReport;
use super::hold::Hold;
use super::metered::MeteredReport;
use super::revision::{CommitId, Timestamp, TreeId};

/// What the device is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Phase {
    /// Waiting for the next poll.
    #[default]
    Idle,
    /// Asking the remote.
    Fetching,
    /// Pulling, staging, checking.
    Preparing,
    /// Changing the device.
    Applying,
    /// Watching a new revision's health.
    Soaking,
    /// At last-good, because the tip was refused.
    RolledBack,
    /// A person stopped applying.
    Paused,
}

/// A condition's type, as Flux and Kubernetes users read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConditionType {
    /// The device is at the newest acceptable revision, healthy.
    Ready,
    /// Work is going on or will be tried again without a person.
    Reconciling,
    /// A person is needed.
    Stalled,
    /// The tip's signature and descent were accepted.
    Verified,
    /// What runs is healthy.
    Healthy,
    /// The device differs from what is declared.
    Drifted,
    /// The branch has not moved (or not been reached) for longer than `trust.max_age`.
    Stale,
    /// A person paused or pinned the device.
    Suspended,
}

/// A condition's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// Not known.
    Unknown,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Which.
    #[serde(rename = "type")]
    pub kind: ConditionType,
    /// Whether.
    pub status: ConditionStatus,
    /// Why, as one stable CamelCase (or, for trust verdicts, kebab-case) word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// Since when the status has been what it is.
    pub since: Timestamp,
}

/// The revisions of `status --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Revisions {
    /// The branch's tip as last seen.
    pub tip: Option<CommitId>,
    /// The newest commit that trust accepted.
    pub verified: Option<CommitId>,
    /// What the device runs.
    pub applied: Option<CommitId>,
    /// The newest good revision.
    pub last_good: Option<CommitId>,
    /// The anti-rollback floor.
    pub floor: Option<CommitId>,
    /// The tree of the newest good revision: a later commit that shows the same one changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<TreeId>,
    /// Since when that tree is the good one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// One app in `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStatus {
    /// The app.
    pub name: String,
    /// `Healthy`, `Progressing`, `Degraded` or `Unknown`.
    pub state: String,
    /// Its services.
    pub services: Vec<ServiceStatus>,
}

/// One service in `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// The service.
    pub name: String,
    /// The container's name.
    pub container: Option<String>,
    /// `running`, `exited (1)`, ...
    pub state: String,
    /// `healthy`, `unhealthy`, `starting` or `none`.
    pub health: String,
    /// The image as declared.
    pub image: String,
}

/// The poll in `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Poll {
    /// When the remote last answered.
    pub last: Option<Timestamp>,
    /// When it is asked next.
    pub next: Option<Timestamp>,
    /// What went wrong at the last try.
    pub error: Option<String>,
    /// The remote that answered last, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// What each remote said when it was asked last, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remotes: Vec<RemoteStatus>,
}

/// One of several remotes in `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteStatus {
    /// Its address, without credentials.
    pub url: String,
    /// Whether it answers, and what is to be said of its tip.
    pub state: RemoteState,
    /// The tip that it named last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tip: Option<CommitId>,
    /// Why it did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What is to be said of one of several remotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RemoteState {
    /// It was not asked yet.
    NotAsked,
    /// It names the tip that this device goes by.
    Current,
    /// Its tip is an ancestor of that one.
    Behind,
    /// Its tip is not accepted.
    Refused,
    /// Its tip is accepted, and neither that one's ancestor nor its descendant.
    Apart,
    /// How its tip relates to that one is not known.
    Unknown,
    /// It does not answer.
    Silent,
}

/// Everything `status` tells. Kept in memory by the daemon, and in the journal whenever something but the poll's
/// times changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Report {
    /// The device's id.
    pub device: String,
    /// The branch it tracks.
    pub branch: String,
    /// The fleet it is of, once a revision of it was kept here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<String>,
    /// Where it is.
    pub revision: Revisions,
    /// What it is doing.
    pub phase: Phase,
    /// Conditions in the order of their types.
    pub conditions: Vec<Condition>,
    /// Apps by name.
    pub apps: Vec<AppStatus>,
    /// What differs from the declared state: one line a resource.
    pub drift: Vec<String>,
    /// The poll.
    pub poll: Poll,
    /// What holds the tip back on purpose, where something does that is not a person at this device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Hold>,
    /// What a person should see to before it hinders the device: keys that end soon.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What was spent on a metered link, where `[metered]` is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metered: Option<MeteredReport>,
    /// The agent itself, where it is a daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentReport>,
}

impl Report {
    /// What is worth a write: all but the poll's times, and what was spent on a metered link in steps.
    #[must_use]
    pub fn lasting(&self) -> Self {
        let mut report = self.clone();
        report.poll.last = None;
        report.poll.next = None;
        report.metered = report.metered.map(|metered| metered.in_steps());
        report
    }
}

/// How one cycle ended. Drives the log line, the report and the exit code alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The device is where it should be, and nothing had to be done.
    Converged,
    /// A new revision was applied and is good.
    Applied {
        /// The commit.
        commit: CommitId,
        /// How many steps it took.
        steps: usize,
    },
    /// Drift was put right.
    Healed {
        /// How many steps it took.
        steps: usize,
    },
    /// The device was put back to a good revision, and why.
    RolledBack {
        /// The commit it is at now.
        to: CommitId,
        /// Why.
        why: String,
    },
    /// Held on purpose: paused, pinned, not its turn.
    Held(Hold),
    /// The tip was refused by trust, guard or schema; nothing on the device was changed for it.
    Rejected {
        /// A stable word: `not-descendant`, `unsigned`, `schema`, `guard`, ...
        reason: String,
        /// For people.
        message: String,
    },
    /// Found unhealthy, here or on an earlier pass, and the device is at last-good (or, with none, unhealthy).
    Unhealthy {
        /// The refused commit.
        commit: CommitId,
        /// Why.
        why: String,
    },
    /// Put off for a reason that is not the revision's fault: network, engine, disk.
    Deferred {
        /// A stable word: `network`, `engine`, `disk`, `registry`, ...
        reason: String,
        /// For people.
        message: String,
    },
}

impl Outcome {
    /// The exit code of `sync`, as the README lists them.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Converged
            | Self::Applied { .. }
            | Self::Healed { .. }
            | Self::RolledBack { .. }
            | Self::Held(_) => 0,
            Self::Deferred { .. } => 1,
            Self::Rejected { .. } => 3,
            Self::Unhealthy { .. } => 4,
        }
    }
}

/// The part of [`PullProgress`] that was read on this machine, and came over no network.
pub const AT_HAND: &str = "on this device";

/// Progress of a pull: bytes so far and in all, by layer.
pub type PullProgress = BTreeMap<String, (u64, u64)>;
