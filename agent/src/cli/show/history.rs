//! `evenkeel history`.

use std::fmt::Write as _;

use serde_json::Value;

use super::style::{Style, Tone, padding, span};
use crate::domain::history::{Deployment, DeploymentResult};

/// The history as `--json` prints it: a list, newest first.
#[must_use]
pub fn json(history: &[Deployment]) -> Value {
    serde_json::to_value(history).expect("a deployment's keys are strings, so JSON can express it")
}

/// The history for people, from what [`json`] made (by this agent, or by the daemon that was asked). What is no
/// history is shown as it is.
#[must_use]
pub fn human(history: &Value, style: Style) -> String {
    match serde_json::from_value::<Vec<Deployment>>(history.clone()) {
        Ok(deployments) if deployments.is_empty() => "no deployment yet".to_owned(),
        Ok(deployments) => {
            let mut out = String::new();
            for deployment in &deployments {
                lines(&mut out, deployment, style);
            }
            out.truncate(out.trim_end().len());
            out
        }
        Err(_) => history.to_string(),
    }
}

fn lines(out: &mut String, deployment: &Deployment, style: Style) {
    let (result, tone) = match deployment.result {
        DeploymentResult::Good => ("good", Tone::Good),
        DeploymentResult::Refused => ("refused", Tone::Bad),
        DeploymentResult::Deferred => ("deferred", Tone::Warning),
        DeploymentResult::RolledBack => ("rolled back", Tone::Warning),
        DeploymentResult::Healed => ("healed", Tone::Good),
        DeploymentResult::Interrupted => ("interrupted", Tone::Warning),
        DeploymentResult::Agent => ("agent", Tone::Strong),
    };
    let took = u64::try_from(deployment.ended.0.saturating_sub(deployment.started.0))
        .map_or_else(|_| String::new(), |seconds| format!("in {}", span(seconds)));
    let _ = write!(
        out,
        "{}  {}  {}{}{took}",
        deployment.started,
        style.paint(Tone::Strong, deployment.commit.short()),
        style.paint(tone, result),
        padding(result, 13),
    );
    if !deployment.why.is_empty() {
        let _ = write!(out, "  {}", deployment.why);
    }
    out.push('\n');
    for step in &deployment.steps {
        let _ = writeln!(out, "    {}", style.paint(Tone::Faint, step));
    }
}
