//! What a pass did, in one line for people and one object for programs.

use serde_json::{Value, json};

use crate::domain::outcome::{Outcome, PullProgress, Report};
use crate::domain::revision::CommitId;
use crate::port::reporter::Event;

fn at(report: &Report) -> String {
    let revision = &report.revision;
    revision
        .applied
        .as_ref()
        .or(revision.last_good.as_ref())
        .map_or_else(|| "nothing".to_owned(), |commit| commit.short().to_owned())
}

fn steps(count: usize) -> String {
    match count {
        1 => "1 step".to_owned(),
        count => format!("{count} steps"),
    }
}

/// An outcome for people, with the next move where a person has one.
pub fn outcome(outcome: &Outcome, report: &Report) -> String {
    let at = at(report);
    match outcome {
        Outcome::Converged => format!("converged at {at} ({}): nothing to do", report.branch),
        Outcome::Applied {
            commit,
            steps: count,
        } => format!(
            "applied {} ({}): {}, healthy through its soak",
            commit.short(),
            report.branch,
            steps(*count)
        ),
        Outcome::Healed { steps: count } => format!("healed at {at}: {}", steps(*count)),
        Outcome::RolledBack { to, why } => {
            format!("back at {}: {why}; `evenkeel resume` goes on", to.short())
        }
        Outcome::Held(hold) => format!("held at {at}: {}", hold.message),
        Outcome::Rejected { reason, message } => {
            format!("refused ({reason}): {message}\nthe device stays at {at}")
        }
        Outcome::Unhealthy { commit, why } => match &report.revision.last_good {
            Some(good) => format!(
                "{} was applied, found unhealthy and rolled back: {why}\nthe device is at {}",
                commit.short(),
                good.short()
            ),
            None => format!(
                "{} was applied and is not healthy: {why}\nnothing was good here before, so there is nothing to go \
                 back to: it is tried again later",
                commit.short()
            ),
        },
        Outcome::Deferred { reason, message } => {
            format!("not now ({reason}): {message}\nthe device stays at {at}")
        }
    }
}

/// An outcome for programs.
pub fn outcome_json(outcome: &Outcome, report: &Report) -> Value {
    let revision = &report.revision;
    let (name, commit, why): (&str, Option<&CommitId>, Option<&str>) = match outcome {
        Outcome::Converged => ("converged", revision.applied.as_ref(), None),
        Outcome::Applied { commit, .. } => ("applied", Some(commit), None),
        Outcome::Healed { .. } => ("healed", revision.applied.as_ref(), None),
        Outcome::RolledBack { to, why } => ("rolled-back", Some(to), Some(why)),
        Outcome::Held(hold) => ("held", revision.applied.as_ref(), Some(&hold.message)),
        Outcome::Rejected { message, .. } => ("refused", revision.tip.as_ref(), Some(message)),
        Outcome::Unhealthy { commit, why } => ("unhealthy", Some(commit), Some(why)),
        Outcome::Deferred { message, .. } => ("deferred", revision.tip.as_ref(), Some(message)),
    };
    let reason = match outcome {
        Outcome::Rejected { reason, .. } | Outcome::Deferred { reason, .. } => {
            Some(reason.as_str())
        }
        Outcome::Held(hold) => Some(hold.by.word()),
        Outcome::Converged
        | Outcome::Applied { .. }
        | Outcome::Healed { .. }
        | Outcome::RolledBack { .. }
        | Outcome::Unhealthy { .. } => None,
    };
    let steps = match outcome {
        Outcome::Applied { steps, .. } | Outcome::Healed { steps } => *steps,
        Outcome::Converged
        | Outcome::RolledBack { .. }
        | Outcome::Held(_)
        | Outcome::Rejected { .. }
        | Outcome::Unhealthy { .. }
        | Outcome::Deferred { .. } => 0,
    };
    let until = match outcome {
        Outcome::Held(hold) => hold.until,
        _ => None,
    };
    json!({
        "outcome": name,
        "code": outcome.exit_code(),
        "commit": commit,
        "reason": reason,
        "message": why,
        "until": until,
        "steps": steps,
        "revision": revision,
    })
}

/// Something that happens, for a person who watches; `None` where it is not worth a line.
pub fn event(event: &Event) -> Option<String> {
    match event {
        Event::Report(_) | Event::Outcome(_) | Event::Alive | Event::Rests(_) => None,
        Event::Pull { image, progress } => Some(format!("pulling {image}: {}", share(progress))),
        Event::Step(step) => Some(step.clone()),
        Event::Notice(text) => Some(text.clone()),
    }
}

fn share(progress: &PullProgress) -> String {
    let (done, all) = progress
        .values()
        .fold((0, 0), |(done, all), (some, of)| (done + some, all + of));
    const MIB: u64 = 1024 * 1024;
    format!("{} of {} MiB", done / MIB, all.div_ceil(MIB))
}
