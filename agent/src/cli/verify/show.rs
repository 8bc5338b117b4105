//! How a verdict is told: to people, and to programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::domain::commit::RawCommit;
use crate::trust::policy::{Check, CheckResult, Decision, Verdict};

/// The check that begins those of one commit.
const COMMIT: &str = "commit";

/// What is shown beside the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Nothing.
    Verdict,
    /// Every check.
    Checks,
}

/// What the verdict is on a commit, for whoever asked for this one.
pub(super) enum Told<'a> {
    /// A device goes to it; or, where it is a heartbeat, to the commit below it.
    Trusted(&'a crate::trust::verified::VerifiedCommit),
    /// A device does not go to it; perhaps to one before it.
    Refused {
        refused: &'a crate::trust::policy::Refused,
        instead: Option<&'a crate::trust::verified::VerifiedCommit>,
    },
    /// Not decided.
    Unknown(&'a str),
}

pub(super) fn told(decision: &Decision) -> Told<'_> {
    match (&decision.verdict, &decision.beyond) {
        (Verdict::Trusted(commit), None) => Told::Trusted(commit),
        (Verdict::Trusted(commit), Some(refused)) => Told::Refused {
            refused,
            instead: Some(commit),
        },
        (Verdict::Refused(refused), _) => Told::Refused {
            refused,
            instead: None,
        },
        (Verdict::Undecided(why), _) => Told::Unknown(why),
    }
}

fn result(check: &Check) -> (&'static str, &str) {
    match &check.result {
        CheckResult::Passed(found) => ("passed", found),
        CheckResult::Failed(why) => ("failed", why),
        CheckResult::NotJudged(why) => ("not judged", why),
    }
}

/// The verdict for programs, one line.
pub(super) fn json(raw: &RawCommit, decision: &Decision, detail: Detail) -> String {
    let told = told(decision);
    let (verdict, reason, principal, fingerprint, key_type) = match &told {
        Told::Trusted(commit) => (
            "trusted",
            "ok",
            Some(commit.principal()),
            Some(commit.fingerprint()),
            Some(commit.key_type()),
        ),
        Told::Refused { refused, .. } => (
            "refused",
            refused.reason.as_str(),
            refused.principal.as_deref(),
            refused.fingerprint.as_deref(),
            refused.key_type.as_deref(),
        ),
        // Not one of the documented answers, and so no reason either: exit code 1 says that nothing was decided.
        Told::Unknown(_) => ("undecided", "history-missing", None, None, None),
    };
    let mut answer = json!({
        "commit": raw.id,
        "verdict": verdict,
        "reason": reason,
        "principal": principal,
        "fingerprint": fingerprint,
        "key_type": key_type,
    });
    if detail == Detail::Checks {
        let mut commit = None;
        let checks = decision.checks.iter().map(|check| {
            let (result, detail) = result(check);
            if check.name == COMMIT {
                commit = Some(check.input.clone());
            }
            let mut shown = json!({
                "check": check.name,
                "input": check.input,
                "result": result,
                "detail": detail,
            });
            if let Some(commit) = &commit {
                shown["commit"] = Value::from(commit.as_str());
            }
            shown
        });
        answer["checks"] = checks.collect();
        answer["because"] = match &told {
            Told::Trusted(commit) => json!({"commit": commit.id(), "message": null}),
            Told::Refused { refused, .. } => {
                json!({"commit": refused.commit, "message": refused.message})
            }
            Told::Unknown(why) => json!({"commit": null, "message": why}),
        };
    }
    format!("{answer}\n")
}

/// The verdict for people.
pub(super) fn people(
    revision: &str,
    raw: &RawCommit,
    decision: &Decision,
    detail: Detail,
) -> String {
    let mut text = String::new();
    if detail == Detail::Checks {
        for check in &decision.checks {
            let (result, found) = result(check);
            // A commit's own line is a heading: what is below it was found of this one.
            let _ = if check.name == COMMIT {
                writeln!(text, "\n{COMMIT} {}: {found}", check.input)
            } else {
                let indent = "";
                writeln!(
                    text,
                    "{:<12}{result:<12}{}\n{indent:24}{found}",
                    check.name, check.input
                )
            };
        }
        text.push('\n');
    }
    let _ = match told(decision) {
        Told::Trusted(commit) => {
            let signed = format!(
                "signed by {} with {} {}",
                commit.principal(),
                commit.key_type(),
                commit.fingerprint()
            );
            if *commit.id() == raw.id {
                writeln!(text, "{} is trusted: {signed}", commit.id())
            } else {
                writeln!(
                    text,
                    "{} is a heartbeat; the commit below it, {}, is trusted: {signed}",
                    raw.id,
                    commit.id()
                )
            }
        }
        Told::Refused { refused, instead } => {
            let _ = if refused.commit == raw.id {
                writeln!(
                    text,
                    "{} is refused ({}): {}",
                    refused.commit, refused.reason, refused.message
                )
            } else {
                writeln!(
                    text,
                    "{} is refused for {} before it ({}): {}",
                    raw.id, refused.commit, refused.reason, refused.message
                )
            };
            if let Some(commit) = instead {
                let _ = writeln!(
                    text,
                    "a device goes no further than the commit before it: {}, signed by {}",
                    commit.id(),
                    commit.principal()
                );
            }
            match detail {
                Detail::Checks => Ok(()),
                Detail::Verdict => writeln!(
                    text,
                    "hint: evenkeel verify --explain {revision} shows each check"
                ),
            }
        }
        Told::Unknown(why) => writeln!(text, "{why}"),
    };
    text
}
