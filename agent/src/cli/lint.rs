//! `evenkeel lint DIR`: check a fleet repository, as CI does before a device sees it.

pub(super) mod binaries;

use std::path::{Path, PathBuf};

use evenkeel_schema::diagnostic::{Diagnostic, Position};
use jiff::tz::TimeZone;
use serde_json::json;

use super::{device, everyone, fleet_dir};
use crate::cycle::ALLOW_EMPTY;
use crate::resolve::lint::Judged;
use crate::resolve::trust_folder;
use crate::trust::allowed_signers::{AllowedSigners, SignerLine};
use crate::trust::{forge, trust_set};

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
    let (judged, mut problems) = everyone::lint(&tree);
    problems.extend(binaries::of_folder(&args.dir, &tree));
    problems.sort();
    let mut warnings = doubtful_signers(&args.dir);
    warnings.extend(idle(&judged));
    warnings.extend(trust_folder::warnings(&tree, device::now()));
    let text = if args.json {
        in_json(&judged, &problems, &warnings)
    } else {
        for_people(&judged, &problems, &warnings)
    };
    super::answer(&text);
    if problems.is_empty() {
        super::code::DONE
    } else {
        super::code::REFUSED
    }
}

/// What is doubtful about the trust set in the repository: keys that stand for more people than they seem to. A device
/// judges that file by rules of its own; one that cannot be read here, or that names nobody, grants nothing.
fn doubtful_signers(dir: &Path) -> Vec<Diagnostic> {
    let Ok(bytes) = device::read(&dir.join(trust_set::FILE)) else {
        return Vec::new();
    };
    let Ok(signers) = AllowedSigners::parse(trust_set::FILE, &bytes, &TimeZone::UTC) else {
        return Vec::new();
    };
    let line = |line: &SignerLine| {
        let at = Position {
            line: u32::try_from(line.line).unwrap_or(u32::MAX),
            column: 1,
        };
        forge::signer_line(line)
            .into_iter()
            .map(move |message| Diagnostic {
                file: trust_set::FILE.to_owned(),
                at,
                message,
                help: None,
            })
    };
    signers.lines().iter().flat_map(line).collect()
}

/// Devices with nothing to run: such a revision is refused where something runs.
fn idle(judged: &Judged) -> impl Iterator<Item = Diagnostic> {
    judged.idle.iter().map(|document| Diagnostic {
        file: document.clone(),
        at: Position { line: 1, column: 1 },
        message: "nothing is declared here: no app with a file or a service".to_owned(),
        help: Some(format!(
            "a device on which something runs refuses that, unless the commit says `{ALLOW_EMPTY}: true`"
        )),
    })
}

fn for_people(judged: &Judged, problems: &[Diagnostic], warnings: &[Diagnostic]) -> String {
    let mut text = String::new();
    for warning in warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
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

fn in_json(judged: &Judged, problems: &[Diagnostic], warnings: &[Diagnostic]) -> String {
    let told = |problem: &Diagnostic| {
        json!({
            "file": problem.file,
            "line": problem.at.line,
            "column": problem.at.column,
            "message": problem.message,
            "help": problem.help,
        })
    };
    let answer = json!({
        "ok": problems.is_empty(), // a warning is none
        "devices": judged.devices,
        "groups": judged.groups,
        "apps": judged.apps,
        "problems": problems.iter().map(told).collect::<Vec<_>>(),
        "warnings": warnings.iter().map(told).collect::<Vec<_>>(),
    });
    format!("{answer:#}\n")
}
