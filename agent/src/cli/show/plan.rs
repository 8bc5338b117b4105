//! `evenkeel plan`: steps, each with its reason and its diff.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::style::{Style, Tone};
use crate::domain::desired::Contents;
use crate::domain::hold::Hold;
use crate::domain::observed::ObservedState;
use crate::domain::revision::CommitId;
use crate::plan::{Plan, diff};

/// What is blocked where a whole revision is held on purpose.
const HELD: &str = "revision";

/// The plan as `--json` prints it. `target` is `advance`, `keep` or `hold`; `why` says why the device would not
/// advance; `contents` holds what is at hand of old and new files, without those that secrets went into.
#[must_use]
pub fn json(
    revision: Option<&CommitId>,
    target: &str,
    why: Option<&str>,
    plan: &Plan,
    observed: &ObservedState,
    contents: &Contents,
) -> Value {
    let steps: Vec<Value> = plan
        .steps
        .iter()
        .map(|step| {
            json!({
                "action": step.action.verb(),
                "resource": step.resource.to_string(),
                "because": step.because,
                "diff": diff::of_step(step, observed, contents),
            })
        })
        .collect();
    let blocked: Vec<Value> = plan
        .blocked
        .iter()
        .map(|blocked| json!({ "resource": blocked.resource.to_string(), "because": blocked.why }))
        .collect();
    json!({ "revision": revision, "target": target, "why": why, "steps": steps, "blocked": blocked })
}

/// The same, with what holds the tip back: as `held`, and among what is blocked.
#[must_use]
pub fn with_hold(mut plan: Value, held: Option<&Hold>) -> Value {
    if let (Some(hold), Value::Object(fields)) = (held, &mut plan) {
        if let Some(Value::Array(blocked)) = fields.get_mut("blocked") {
            blocked.push(json!({ "resource": HELD, "because": hold.message }));
        }
        fields.insert("held".to_owned(), json!(hold));
    }
    plan
}

/// The plan for people, from what [`json`] made (by this agent, or by the daemon that was asked).
#[must_use]
pub fn human(plan: &Value, style: Style) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |key: &str| plan[key].as_array().cloned().unwrap_or_default();
    let (steps, mut blocked) = (list("steps"), list("blocked"));
    let revision = plan["revision"]
        .as_str()
        .map(|revision| revision.get(..10).unwrap_or(revision).to_owned());
    let at = revision.unwrap_or_else(|| "no revision".to_owned());
    let mut out = String::new();
    let what = match (word(&plan["target"]).as_str(), steps.len()) {
        ("advance", count) => format!("advance to {at}: {}", count_of(count)),
        ("keep", 0) => format!("stay at {at}: nothing to do"),
        ("keep", count) => format!("stay at {at}: {}", count_of(count)),
        (_, 0) => format!("hold at {at}"),
        (_, count) => format!("hold at {at}: {}", count_of(count)),
    };
    let _ = writeln!(out, "{}", style.paint(Tone::Strong, &what));
    if let Some(why) = plan["why"].as_str() {
        let _ = writeln!(out, "{}", style.paint(Tone::Warning, why));
    }
    for step in &steps {
        let action = word(&step["action"]);
        let tone = match action.as_str() {
            "create" | "start" | "restore" => Tone::Good,
            "remove" => Tone::Bad,
            _ => Tone::Warning,
        };
        let _ = writeln!(
            out,
            "  {} {}   {}",
            style.paint(tone, &action),
            word(&step["resource"]),
            style.paint(Tone::Faint, &word(&step["because"])),
        );
        for line in step["diff"].as_str().unwrap_or_default().lines() {
            let painted = match line.as_bytes().first() {
                _ if line.starts_with("---") || line.starts_with("+++") => {
                    style.paint(Tone::Strong, line)
                }
                Some(b'+') => style.paint(Tone::Good, line),
                Some(b'-') => style.paint(Tone::Bad, line),
                Some(b'@' | b'(') => style.paint(Tone::Faint, line),
                Some(_) | None => line.to_owned(),
            };
            let _ = writeln!(out, "      {painted}");
        }
    }
    // What holds the tip back is told above already.
    blocked.retain(|entry| entry["resource"] != HELD);
    if !blocked.is_empty() {
        let _ = writeln!(out, "{}", style.paint(Tone::Bad, "blocked:"));
        for entry in &blocked {
            let _ = writeln!(
                out,
                "  {}   {}",
                word(&entry["resource"]),
                word(&entry["because"])
            );
        }
    }
    out.truncate(out.trim_end().len());
    out
}

fn count_of(steps: usize) -> String {
    match steps {
        0 => "nothing to do".to_owned(),
        1 => "1 step".to_owned(),
        count => format!("{count} steps"),
    }
}
