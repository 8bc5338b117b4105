//! `evenkeel lint DIR`: check a fleet repository, as CI does before a device sees it.

use std::path::PathBuf;

use evenkeel_schema::diagnostic::Diagnostic;
use serde_json::json;

use super::fleet_dir;
use crate::resolve::lint::{Judged, lint};

/// Check a fleet repository: every document, every device, every app.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The repository's top folder.
    pub dir: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs it; the exit code: 0 nothing wrong, 2 not a fleet repository, 3 problems found.
#[must_use]
pub fn run(args: &Args) -> u8 {
    let tree = match fleet_dir::read(&args.dir) {
        Ok(tree) => tree,
        Err(error) => return super::fail(super::code::USAGE, &format!("{error:#}")),
    };
    let (judged, problems) = lint(&tree);
    let text = if args.json {
        in_json(&judged, &problems)
    } else {
        for_people(&judged, &problems)
    };
    super::answer(&text);
    if problems.is_empty() {
        super::code::DONE
    } else {
        super::code::REFUSED
    }
}

fn for_people(judged: &Judged, problems: &[Diagnostic]) -> String {
    let mut text = String::new();
    for problem in problems {
        text.push_str(&format!("{problem}\n"));
    }
    let seen = format!(
        "{}, {}, {}",
        counted(judged.devices, "device"),
        counted(judged.groups, "group"),
        counted(judged.apps, "app")
    );
    if problems.is_empty() {
        text.push_str(&format!("ok: {seen}\n"));
    } else {
        text.push_str(&format!(
            "{} in {seen}\n",
            counted(problems.len(), "problem")
        ));
    }
    text
}

fn counted(number: usize, what: &str) -> String {
    if number == 1 {
        format!("1 {what}")
    } else {
        format!("{number} {what}s")
    }
}

fn in_json(judged: &Judged, problems: &[Diagnostic]) -> String {
    let problems: Vec<serde_json::Value> = problems
        .iter()
        .map(|problem| {
            json!({
                "file": problem.file,
                "line": problem.at.line,
                "column": problem.at.column,
                "message": problem.message,
                "help": problem.help,
            })
        })
        .collect();
    let answer = json!({
        "ok": problems.is_empty(),
        "devices": judged.devices,
        "groups": judged.groups,
        "apps": judged.apps,
        "problems": problems,
    });
    format!("{answer:#}\n")
}
