//! `evenkeel trust status`.

use std::fmt::Write as _;

use serde_json::Value;

use super::style::{Style, Tone, padding, span};
use crate::cycle::trust_state::TrustState;
use crate::trust::overview::{LineState, LineView, Overview};

/// The trust state as `--json` prints it.
#[must_use]
pub fn json(state: &TrustState) -> Value {
    serde_json::to_value(state).expect("a trust state's keys are strings, so JSON can express it")
}

/// The trust state for people, from what [`json`] made (by this agent, or by the daemon that was asked). What is none is
/// shown as it is.
#[must_use]
pub fn human(state: &Value, style: Style) -> String {
    let Ok(state) = serde_json::from_value::<TrustState>(state.clone()) else {
        return state.to_string();
    };
    let mut out = String::new();
    if let Some(why) = &state.lost {
        let text = format!("! the adopted trust sets are lost: {why}");
        let _ = writeln!(out, "{}", style.paint(Tone::Bad, &text));
    }
    match (&state.trust, &state.problem) {
        (Some(trust), _) => of_trust(&mut out, trust, style),
        (None, problem) => {
            let why = problem.as_deref().unwrap_or("unknown");
            let text = format!("! nothing is trusted: {why}");
            let _ = writeln!(out, "{}", style.paint(Tone::Bad, &text));
        }
    }
    of_floor(&mut out, &state, style);
    out.truncate(out.trim_end().len());
    out
}

fn of_trust(out: &mut String, trust: &Overview, style: Style) {
    let set = &trust.set;
    let which = if set.serial == 0 {
        format!("{} alone", set.source)
    } else {
        format!("serial {}, {}", set.serial, set.source)
    };
    let _ = writeln!(out, "{}  {which}", style.paint(Tone::Strong, "Trust set"));
    if let Some(commit) = &set.commit {
        let when = set.adopted.map(|at| format!(", {at}")).unwrap_or_default();
        let text = format!("adopted with commit {}{when}", commit.short());
        let _ = writeln!(out, "  {}", style.paint(Tone::Faint, &text));
    }
    for warning in &trust.warnings {
        let text = format!("! {warning}");
        let _ = writeln!(out, "{}", style.paint(Tone::Warning, &text));
    }
    out.push('\n');
    for line in &trust.lines {
        of_line(out, line, style);
    }
    for skipped in &trust.skipped {
        let text = format!("not used: {skipped}");
        let _ = writeln!(out, "  {}", style.paint(Tone::Warning, &text));
    }
    let _ = writeln!(out, "\n{}", style.paint(Tone::Strong, "Policy"));
    let mut tell = |what: &str, text: String| {
        let _ = writeln!(out, "  {what}{}{text}", padding(what, 14));
    };
    let signers = match &trust.branch_signers {
        Some(signers) => format!("signed by {}", signers.join(", ")),
        None => "any signer".to_owned(),
    };
    tell("branch", format!("{} ({signers})", trust.branch));
    tell(
        "verify",
        match trust.verify.as_str() {
            "tip" => "tip".to_owned(),
            other => format!("{other} (on_unsigned = {})", trust.on_unsigned),
        },
    );
    tell("bind_branch", trust.bind_branch.to_string());
    tell("approvals", trust.approvals.to_string());
    tell(
        "heartbeat",
        if trust.heartbeat.is_empty() {
            "nobody".to_owned()
        } else {
            trust.heartbeat.join(", ")
        },
    );
    tell(
        "root",
        match &trust.root {
            Some(root) => format!("{} of {}", root.threshold, root.signers.join(", ")),
            None => "nobody: the repository's trust/ is not looked at".to_owned(),
        },
    );
    tell(
        "revoked",
        match &trust.revoked {
            Some(list) => format!("{} in {}", list.holds, list.file),
            None => "no list".to_owned(),
        },
    );
    if let Some(fleet) = &trust.fleet {
        tell("fleet", fleet.clone());
    }
    if let Some(pin) = &trust.pin {
        tell("pin", pin.to_string());
    }
}

fn of_line(out: &mut String, line: &LineView, style: Style) {
    let (state, tone) = match line.state {
        LineState::Valid => ("valid", Tone::Good),
        LineState::EndsSoon => ("ends soon", Tone::Warning),
        LineState::Expired => ("expired", Tone::Bad),
        LineState::NotYetValid => ("not yet valid", Tone::Warning),
        LineState::Revoked => ("revoked", Tone::Bad),
    };
    let roles = if line.roles.is_empty() {
        "no role here".to_owned()
    } else {
        line.roles.join(", ")
    };
    let _ = writeln!(
        out,
        "  {}  {roles}  {}",
        style.paint(Tone::Strong, &line.principals.join(",")),
        style.paint(tone, state)
    );
    let mut told = vec![format!("{} {}", line.key_type, line.fingerprint)];
    if !line.branches.is_empty() {
        told.push(format!("signs {}", line.branches.join(", ")));
    }
    told.push(match &line.namespaces {
        Some(namespaces) => format!("for {}", namespaces.join(",")),
        None => "for any namespace".to_owned(),
    });
    let from = line.valid_after.map(|at| format!("from {at}"));
    let until = line.valid_before.map(|at| format!("until {at}"));
    told.extend(from.into_iter().chain(until));
    told.push(line.place.clone());
    for text in told {
        let _ = writeln!(out, "    {}", style.paint(Tone::Faint, &text));
    }
}

fn of_floor(out: &mut String, state: &TrustState, style: Style) {
    let floor = &state.floor;
    let _ = writeln!(out, "\n{}", style.paint(Tone::Strong, "Floor"));
    let _ = match &floor.at {
        Some(at) => writeln!(
            out,
            "  {}  generation {}, time {} (floor = {})",
            at.commit.short(),
            at.generation,
            at.time,
            floor.policy
        ),
        None => writeln!(out, "  none (floor = {})", floor.policy),
    };
    for copy in &floor.copies {
        let tone = match copy.state.as_str() {
            "agrees" => Tone::Good,
            _ => Tone::Warning,
        };
        let _ = writeln!(
            out,
            "  {}{}{}",
            copy.copy,
            padding(&copy.copy, 26),
            style.paint(tone, &copy.state)
        );
    }
    if let Some(problem) = &floor.problem {
        let text = format!("! {problem}");
        let _ = writeln!(out, "{}", style.paint(Tone::Bad, &text));
    }
    let age = state.max_age.map_or_else(
        || "not limited".to_owned(),
        |seconds| format!("at most {} (stale = {})", span(seconds), state.stale),
    );
    let _ = writeln!(out, "  age of the branch's tip   {age}");
}
