//! `evenkeel status`.

use std::fmt::Write as _;

use serde_json::Value;

use super::style::{Style, Tone, padding, span};
use crate::domain::agent::AgentReport;
use crate::domain::metered::{Link, MeteredReport};
use crate::domain::outcome::{
    AppStatus, Condition, ConditionStatus, ConditionType, Phase, RemoteState, RemoteStatus, Report,
};
use crate::domain::revision::{CommitId, Timestamp};
use crate::domain::text::size;

/// The report as `--json` prints it.
#[must_use]
pub fn json(report: &Report) -> Value {
    serde_json::to_value(report).expect("a report's keys are strings, so JSON can express it")
}

/// The report for people.
#[must_use]
pub fn human(report: &Report, now: Timestamp, style: Style) -> String {
    let mut out = String::new();
    head(&mut out, report, style);
    for notice in notices(report) {
        let _ = writeln!(
            out,
            "{}",
            style.paint(Tone::Warning, &format!("! {notice}"))
        );
    }
    if let Some(hold) = &report.held {
        let text = format!("! {}", hold.message);
        let _ = writeln!(out, "{}", style.paint(Tone::Warning, &text));
    }
    for warning in &report.warnings {
        let text = format!("! {warning}");
        let _ = writeln!(out, "{}", style.paint(Tone::Warning, &text));
    }
    if !report.conditions.is_empty() {
        let _ = writeln!(out, "\n{}", style.paint(Tone::Strong, "Conditions"));
        for condition in &report.conditions {
            line_of_condition(&mut out, condition, now, style);
        }
    }
    if !report.apps.is_empty() {
        let _ = writeln!(out, "\n{}", style.paint(Tone::Strong, "Apps"));
        for app in &report.apps {
            lines_of_app(&mut out, app, style);
        }
    }
    if !report.drift.is_empty() {
        let _ = writeln!(out, "\n{}", style.paint(Tone::Strong, "Drift"));
        for line in &report.drift {
            let _ = writeln!(out, "  {line}");
        }
    }
    let last = report
        .poll
        .last
        .map_or_else(|| "never".to_owned(), |at| ago(at, now));
    let next = report.poll.next.map_or_else(
        || "not planned".to_owned(),
        |at| ahead(at, now, report.poll.last),
    );
    let _ = writeln!(out, "\nLast poll {last}, next {next}");
    if let Some(error) = &report.poll.error {
        let _ = writeln!(
            out,
            "{}",
            style.paint(Tone::Bad, &format!("The last poll failed: {error}"))
        );
    }
    for remote in &report.poll.remotes {
        line_of_remote(&mut out, remote, report.poll.remote.as_deref(), style);
    }
    if let Some(metered) = &report.metered {
        lines_of_metered(&mut out, metered);
    }
    out.truncate(out.trim_end().len());
    out
}

/// A metered link: what of its budgets is left.
fn lines_of_metered(out: &mut String, metered: &MeteredReport) {
    let link = match metered.link {
        Link::Metered => "metered",
        Link::Unmetered => "not metered",
        Link::Unknown => "not known to be metered",
    };
    let _ = writeln!(out, "The link is {link}");
    for (name, account) in [("git", &metered.git), ("images", &metered.images)] {
        for budget in &account.budgets {
            let _ = writeln!(
                out,
                "  {name}  {} of {} this {} spent, {} left",
                size(budget.spent),
                size(budget.allowed),
                budget.per,
                size(budget.left),
            );
        }
    }
}

/// One of several remotes: which answered last, and what each is known for.
fn line_of_remote(out: &mut String, remote: &RemoteStatus, answered: Option<&str>, style: Style) {
    let (state, tone) = match remote.state {
        RemoteState::NotAsked => ("not asked yet", Tone::Faint),
        RemoteState::Current => ("current", Tone::Good),
        RemoteState::Behind => ("behind", Tone::Warning),
        RemoteState::Refused => ("its tip is refused", Tone::Bad),
        RemoteState::Apart => ("contradicts the others", Tone::Bad),
        RemoteState::Unknown => ("not compared yet", Tone::Faint),
        RemoteState::Silent => ("does not answer", Tone::Warning),
    };
    let tip = remote
        .tip
        .as_ref()
        .map_or_else(String::new, |tip| format!(" at {}", tip.short()));
    let last = if answered == Some(remote.url.as_str()) {
        ", answered last"
    } else {
        ""
    };
    let error = remote
        .error
        .as_ref()
        .map_or_else(String::new, |error| format!(": {error}"));
    let _ = writeln!(
        out,
        "  {}  {}{tip}{last}{error}",
        remote.url,
        style.paint(tone, state)
    );
}

/// What a person should know or do, one line each: why the device is not, or does not stay, at the newest revision.
#[must_use]
pub fn notices(report: &Report) -> Vec<String> {
    let mut found = Vec::new();
    for condition in &report.conditions {
        let is_worth_telling = match (condition.kind, condition.status) {
            (
                ConditionType::Stalled | ConditionType::Stale | ConditionType::Suspended,
                ConditionStatus::True,
            )
            | (ConditionType::Verified | ConditionType::Healthy, ConditionStatus::False) => true,
            (
                ConditionType::Ready
                | ConditionType::Reconciling
                | ConditionType::Drifted
                | ConditionType::Stalled
                | ConditionType::Stale
                | ConditionType::Suspended
                | ConditionType::Verified
                | ConditionType::Healthy,
                ConditionStatus::True | ConditionStatus::False | ConditionStatus::Unknown,
            ) => false,
        };
        if is_worth_telling && !condition.message.is_empty() && !found.contains(&condition.message)
        {
            found.push(condition.message.clone());
        }
    }
    found
}

fn head(out: &mut String, report: &Report, style: Style) {
    let revision = &report.revision;
    let at = revision.applied.as_ref().or(revision.last_good.as_ref());
    let place = at.map_or_else(
        || "nothing applied yet".to_owned(),
        |commit| format!("at {}", commit.short()),
    );
    let phase = match report.phase {
        Phase::Idle => style.paint(Tone::Good, "Idle"),
        Phase::Fetching => "Fetching".to_owned(),
        Phase::Preparing => "Preparing".to_owned(),
        Phase::Applying => "Applying".to_owned(),
        Phase::Soaking => "Soaking".to_owned(),
        Phase::RolledBack => style.paint(Tone::Bad, "RolledBack"),
        Phase::Paused => style.paint(Tone::Warning, "Paused"),
    };
    let branch = if report.branch.is_empty() {
        String::new()
    } else {
        format!(" ({})", report.branch)
    };
    let _ = writeln!(
        out,
        "{}  {place}{branch}  {phase}",
        style.paint(Tone::Strong, &report.device)
    );
    let mut others = Vec::new();
    let mut tell = |what: &str, commit: Option<&CommitId>| {
        if let Some(commit) = commit.filter(|commit| Some(*commit) != at) {
            others.push(format!("{what} {}", commit.short()));
        }
    };
    tell("tip", revision.tip.as_ref());
    tell("verified", revision.verified.as_ref());
    tell("last good", revision.last_good.as_ref());
    tell("floor", revision.floor.as_ref());
    if !others.is_empty() {
        let _ = writeln!(out, "{}", style.paint(Tone::Faint, &others.join(", ")));
    }
    if let Some(agent) = &report.agent {
        let _ = writeln!(out, "{}", style.paint(Tone::Faint, &line_of_agent(agent)));
    }
}

/// The agent's own version, and why it is not the declared one.
fn line_of_agent(agent: &AgentReport) -> String {
    let mut line = format!("agent {}", agent.version);
    if let Some(declared) = agent.declared.as_ref().filter(|one| **one != agent.version) {
        let _ = write!(line, ", declared {declared}");
    }
    if let Some(why) = &agent.why {
        let _ = write!(line, ": {why}");
    }
    line
}

const fn name_of(kind: ConditionType) -> &'static str {
    match kind {
        ConditionType::Ready => "Ready",
        ConditionType::Reconciling => "Reconciling",
        ConditionType::Stalled => "Stalled",
        ConditionType::Verified => "Verified",
        ConditionType::Healthy => "Healthy",
        ConditionType::Drifted => "Drifted",
        ConditionType::Stale => "Stale",
        ConditionType::Suspended => "Suspended",
    }
}

/// How good it is that a condition has its status.
const fn tone_of(condition: &Condition) -> Tone {
    let wanted = match condition.kind {
        ConditionType::Ready | ConditionType::Verified | ConditionType::Healthy => {
            ConditionStatus::True
        }
        ConditionType::Reconciling
        | ConditionType::Stalled
        | ConditionType::Drifted
        | ConditionType::Stale
        | ConditionType::Suspended => ConditionStatus::False,
    };
    match (condition.status, wanted) {
        (ConditionStatus::Unknown, _) => Tone::Warning,
        (ConditionStatus::True, ConditionStatus::True)
        | (ConditionStatus::False, ConditionStatus::False) => Tone::Good,
        (ConditionStatus::True | ConditionStatus::False, _) => match condition.kind {
            ConditionType::Reconciling
            | ConditionType::Suspended
            | ConditionType::Stale
            | ConditionType::Drifted => Tone::Warning,
            ConditionType::Ready
            | ConditionType::Stalled
            | ConditionType::Verified
            | ConditionType::Healthy => Tone::Bad,
        },
    }
}

fn line_of_condition(out: &mut String, condition: &Condition, now: Timestamp, style: Style) {
    let status = match condition.status {
        ConditionStatus::True => "True",
        ConditionStatus::False => "False",
        ConditionStatus::Unknown => "Unknown",
    };
    let name = name_of(condition.kind);
    let since = ago(condition.since, now);
    let _ = writeln!(
        out,
        "  {name}{}{}{}{}{}  {}",
        padding(name, 13),
        style.paint(tone_of(condition), status),
        padding(status, 9),
        condition.reason,
        padding(&condition.reason, 18),
        style.paint(Tone::Faint, &since),
    );
    if !condition.message.is_empty() {
        let _ = writeln!(out, "    {}", condition.message);
    }
}

fn lines_of_app(out: &mut String, app: &AppStatus, style: Style) {
    let tone = match app.state.as_str() {
        "Healthy" => Tone::Good,
        "Degraded" => Tone::Bad,
        _ => Tone::Warning,
    };
    let _ = writeln!(
        out,
        "  {}{}{}",
        app.name,
        padding(&app.name, 22),
        style.paint(tone, &app.state)
    );
    for service in &app.services {
        let health = match service.health.as_str() {
            "none" | "" => String::new(),
            health => format!(", {health}"),
        };
        let state = format!("{}{health}", service.state);
        let _ = writeln!(
            out,
            "    {}{}{state}{}  {}",
            service.name,
            padding(&service.name, 20),
            padding(&state, 20),
            style.paint(Tone::Faint, &short_image(&service.image)),
        );
    }
}

/// An image with its digest cut.
fn short_image(image: &str) -> String {
    match image.split_once('@') {
        Some((name, digest)) => format!("{name}@{}", crate::plan::short(digest)),
        None => crate::plan::short(image),
    }
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    match u64::try_from(now.0.saturating_sub(at.0)) {
        Ok(seconds) => format!("{} ago", span(seconds)),
        // The wall clock was set back in between.
        Err(_) => format!("at {at}"),
    }
}

fn ahead(at: Timestamp, now: Timestamp, last: Option<Timestamp>) -> String {
    // The wall clock was set back since it was planned; it comes by the monotonic one.
    if let Some(last) = last.filter(|last| now < *last)
        && let Ok(wait) = u64::try_from(at.0.saturating_sub(last.0))
    {
        return format!("in {} at most", span(wait));
    }
    match u64::try_from(at.0.saturating_sub(now.0)) {
        Ok(0) | Err(_) => "now".to_owned(),
        Ok(seconds) => format!("in {}", span(seconds)),
    }
}
