//! What a device says of itself to others: a signed report's document.
//!
//! Less than `status` tells on the device: no drift, no services, no trust set. Nothing in it is secret.

use serde::{Deserialize, Serialize};

use super::outcome::{Condition, Phase, Report};
use super::revision::{CommitId, Timestamp, TreeId};

/// The format of a report that this version writes and reads.
pub const FORMAT: u32 = 1;

/// One app of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedApp {
    /// The app.
    pub name: String,
    /// `Healthy`, `Progressing`, `Degraded` or `Unknown`.
    pub state: String,
}

/// The revisions of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ReportedRevision {
    /// The branch's tip as the device last saw it.
    pub tip: Option<CommitId>,
    /// What it runs.
    pub applied: Option<CommitId>,
    /// The newest revision that was good there.
    pub last_good: Option<CommitId>,
    /// That revision's tree.
    pub tree: Option<TreeId>,
    /// Since when that tree is the good one.
    pub since: Option<Timestamp>,
}

/// What a device says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// [`FORMAT`].
    pub format: u32,
    /// The device's id.
    pub device: String,
    /// The fleet's name, once the device has kept a revision of it.
    pub fleet: Option<String>,
    /// The branch that it follows.
    pub branch: String,
    /// Where it is.
    pub revision: ReportedRevision,
    /// What it is doing.
    pub phase: Phase,
    /// As `status` tells them.
    pub conditions: Vec<Condition>,
    /// Its apps.
    pub apps: Vec<ReportedApp>,
    /// The agent's version.
    pub agent: String,
    /// When all this was so, by the device's clock.
    pub time: Timestamp,
    /// Only grows.
    pub sequence: u64,
    /// The SHA-256 of the report before, as it was signed; in hexadecimal.
    pub previous: Option<String>,
}

impl DeviceReport {
    /// What `report` says, without a number and a time yet.
    #[must_use]
    pub fn of(report: &Report, agent: &str) -> Self {
        let revision = &report.revision;
        Self {
            format: FORMAT,
            device: report.device.clone(),
            fleet: report.fleet.clone(),
            branch: report.branch.clone(),
            revision: ReportedRevision {
                tip: revision.tip.clone(),
                applied: revision.applied.clone(),
                last_good: revision.last_good.clone(),
                tree: revision.tree.clone(),
                since: revision.since,
            },
            phase: report.phase,
            conditions: report.conditions.clone(),
            apps: report
                .apps
                .iter()
                .map(|app| ReportedApp {
                    name: app.name.clone(),
                    state: app.state.clone(),
                })
                .collect(),
            agent: agent.to_owned(),
            time: Timestamp::default(),
            sequence: 0,
            previous: None,
        }
    }
}
