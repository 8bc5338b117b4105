//! A ring's devices and a gate in, a verdict on a promotion out. Pure: who asks gathers what the devices said.
//!
//! Healthy at the revision is a device that runs its tree, took it as good, and has called what runs healthy ever since, for
//! the soak; another commit with the same tree (a heartbeat) breaks nothing. What is not known counts as not healthy.
//!
//! Limits: times are the devices' own. A report counts until it is too old, and a device that says nothing new is taken to be as
//! it said last; one whose clock is ahead of ours counts as silent.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use evenkeel_schema::duration;
use evenkeel_schema::promotion::Gate;

use crate::domain::device_report::DeviceReport;
use crate::domain::outcome::{Condition, ConditionStatus, ConditionType, Phase};
use crate::domain::revision::{CommitId, Timestamp, TreeId};

/// How far a device's clock may be ahead of ours.
const AHEAD: i64 = 300;
/// How many devices of each kind are named.
const NAMED: usize = 10;

/// How a device stands to the revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// At it, and healthy for long enough.
    Healthy,
    /// It refused it, or is unhealthy at it.
    Failed,
    /// Nothing was heard of it for too long.
    Silent,
    /// At it, and not yet for long enough.
    Soaking,
    /// Elsewhere.
    Behind,
}

impl Standing {
    /// In one word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Failed => "failed",
            Self::Silent => "silent",
            Self::Soaking => "soaking",
            Self::Behind => "behind",
        }
    }
}

/// A device of the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// How it stands.
    pub standing: Standing,
    /// Why, in few words.
    pub why: String,
}

impl Member {
    /// A device that stands so.
    pub fn new(standing: Standing, why: impl Into<String>) -> Self {
        Self {
            standing,
            why: why.into(),
        }
    }
}

/// What is to be promoted.
#[derive(Debug, Clone)]
pub struct Revision {
    /// The branch that it comes from.
    pub branch: String,
    /// Its tree.
    pub tree: TreeId,
    /// The commits of that branch that show this tree.
    pub commits: BTreeSet<CommitId>,
}

/// How a device stands, by its report.
#[must_use]
pub fn by_report(
    report: &DeviceReport,
    revision: &Revision,
    gate: &Gate,
    now: Timestamp,
) -> Member {
    use Standing::{Behind, Failed, Healthy, Silent, Soaking};
    if report.branch != revision.branch {
        return Member::new(
            Behind,
            format!("follows `{}`", report.branch.escape_debug()),
        );
    }
    let age = now.0.saturating_sub(report.time.0);
    if age < -AHEAD {
        return Member::new(Silent, format!("its clock is {} ahead", span(-age)));
    }
    if age > seconds(gate.silent) {
        return Member::new(Silent, format!("no word for {}", span(age)));
    }
    let at = &report.revision;
    let is_at = at.tree.as_ref() == Some(&revision.tree)
        && at.applied.is_some()
        && at.applied == at.last_good;
    let saw = at
        .tip
        .as_ref()
        .is_some_and(|tip| revision.commits.contains(tip));
    if !is_at {
        let stalled = condition(report, ConditionType::Stalled)
            .filter(|condition| condition.status == ConditionStatus::True);
        if saw && let Some(stalled) = stalled {
            return Member::new(Failed, plain(&stalled.message));
        }
        if saw && report.phase == Phase::RolledBack {
            return Member::new(Failed, "rolled back");
        }
        let place = at
            .applied
            .as_ref()
            .map_or("nothing", |commit| commit.short());
        return Member::new(Behind, format!("at {place}"));
    }
    let health = condition(report, ConditionType::Healthy);
    match (health, at.since) {
        (Some(health), _) if health.status == ConditionStatus::False => {
            Member::new(Failed, plain(&health.message))
        }
        (Some(health), Some(since)) if health.status == ConditionStatus::True => {
            let since = since.max(health.since);
            let held = now.max(report.time).0.saturating_sub(since.0);
            if held >= seconds(gate.soak) {
                Member::new(Healthy, format!("for {}", span(held)))
            } else {
                Member::new(
                    Soaking,
                    format!("for {} of {}", span(held), shown(gate.soak)),
                )
            }
        }
        (Some(_) | None, _) => Member::new(Soaking, "it is not known to be healthy"),
    }
}

fn condition(report: &DeviceReport, kind: ConditionType) -> Option<&Condition> {
    report
        .conditions
        .iter()
        .find(|condition| condition.kind == kind)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// A duration without the zeros at its end: `24h`.
#[must_use]
pub fn shown(duration: Duration) -> String {
    let mut text = duration::text(duration);
    for (zero, unit) in [("0s", 'm'), ("0m", 'h')] {
        if let Some(short) = text.strip_suffix(zero)
            && short.ends_with(unit)
        {
            text = short.to_owned();
        }
    }
    text
}

fn span(seconds: i64) -> String {
    let seconds = u64::try_from(seconds).unwrap_or_default();
    match seconds {
        0..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A device's words, on one line of bounded length.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(120)
        .collect()
}

/// A verdict, with its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The branch whose devices were looked at.
    pub ring: String,
    /// What was asked of them.
    pub gate: Gate,
    /// The ring's devices.
    pub members: BTreeMap<String, Member>,
    /// What is not met; empty: the gate is.
    pub unmet: Vec<String>,
}

/// Judges the ring.
#[must_use]
pub fn judge(ring: &str, gate: Gate, members: BTreeMap<String, Member>) -> Verdict {
    let mut verdict = Verdict {
        ring: ring.to_owned(),
        gate,
        members,
        unmet: Vec::new(),
    };
    let all = verdict.members.len();
    let [healthy, failed, silent] =
        [Standing::Healthy, Standing::Failed, Standing::Silent].map(|one| verdict.count(one));
    let mut unmet = Vec::new();
    if healthy * 100 < usize::from(gate.healthy) * all {
        unmet.push(format!(
            "{healthy} of {all} devices are healthy at it for {}, and {} % are wanted",
            shown(gate.soak),
            gate.healthy
        ));
    }
    let more = |count: usize, most: u32| u32::try_from(count).unwrap_or(u32::MAX) > most;
    if more(failed, gate.max_failed) {
        unmet.push(format!("{failed} failed, and {} may have", gate.max_failed));
    }
    if more(silent, gate.max_silent) {
        unmet.push(format!(
            "{silent} are silent, and {} may be",
            gate.max_silent
        ));
    }
    if !more(healthy, gate.min_devices - 1) {
        unmet.push(format!(
            "{healthy} devices are healthy at it, and {} is the least",
            gate.min_devices
        ));
    }
    verdict.unmet = unmet;
    verdict
}

impl Verdict {
    /// Whether the gate is met.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.unmet.is_empty()
    }

    /// How many stand so.
    #[must_use]
    pub fn count(&self, standing: Standing) -> usize {
        self.members
            .values()
            .filter(|member| member.standing == standing)
            .count()
    }

    /// Who stands not as wanted, by kind: named up to a bound, with the reason.
    #[must_use]
    pub fn others(&self) -> String {
        let mut by: BTreeMap<Standing, Vec<String>> = BTreeMap::new();
        for (device, member) in &self.members {
            if member.standing != Standing::Healthy {
                by.entry(member.standing)
                    .or_default()
                    .push(format!("{device} ({})", member.why));
            }
        }
        let mut text = String::new();
        for (standing, devices) in by {
            let more = devices.len().saturating_sub(NAMED);
            let named = devices[..devices.len() - more].join(", ");
            text.push_str(&format!("  {}: {named}", standing.word()));
            if more > 0 {
                text.push_str(&format!(", and {more} more"));
            }
            text.push('\n');
        }
        text
    }
}

/// The numbers, on one line.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} devices of {} healthy for {}, {} failed, {} silent; wanted {} %, at least {}, at most {} failed and {} silent",
            self.count(Standing::Healthy),
            self.members.len(),
            self.ring,
            shown(self.gate.soak),
            self.count(Standing::Failed),
            self.count(Standing::Silent),
            self.gate.healthy,
            self.gate.min_devices,
            self.gate.max_failed,
            self.gate.max_silent,
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]
#[path = "ring/tests.rs"]
mod tests;
