//! `evenkeel report verify`: which signed reports are their devices' own and newest, by the fleet repository alone.

use std::path::{Path, PathBuf};

use evenkeel_schema::diagnostic::Diagnostics;
use serde_json::json;

use crate::adapter::git_local::LocalRepository;
use crate::adapter::reports::SUFFIX;
use crate::cli::device::now;
use crate::cli::{answer, code, fail, fleet_dir};
use crate::domain::text::chain;
use crate::domain::tree::Tree;
use crate::trust::key::Key;
use crate::trust::report::{self, VerifiedReport, newest};

/// Whether signed reports are true to the devices that the fleet repository declares.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The fleet repository, with or without a work tree; the current directory's by default.
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,
    /// Take the devices from this revision of it. [default: the work tree, or HEAD where there is none]
    #[arg(long, value_name = "REV")]
    rev: Option<String>,
    /// Reports, or folders of them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it; the exit code: 0 all are good, 2 wrong usage, 3 one is refused.
#[must_use]
pub(in crate::cli) fn run(args: &Args) -> u8 {
    let read =
        tree(&args.repo, args.rev.as_deref()).and_then(|tree| Ok((tree, files(&args.files)?)));
    let (tree, files) = match read {
        Ok(read) => read,
        Err(error) => return fail(code::USAGE, &format!("{error:#}")),
    };
    let judged = match judge(&tree, files) {
        Ok(judged) => judged,
        Err(why) => return fail(code::USAGE, &why),
    };
    let good = judged.iter().all(|one| one.verdict.is_ok());
    answer(&if args.json {
        in_json(&judged)
    } else {
        for_people(&judged)
    });
    if good { code::DONE } else { code::REFUSED }
}

/// The documents to judge by.
fn tree(repo: &Path, rev: Option<&str>) -> anyhow::Result<Tree> {
    if rev.is_none() && repo.join("fleet.toml").is_file() {
        return fleet_dir::read(repo);
    }
    let repository = LocalRepository::open(repo)?;
    let commit = repository.commit(rev.unwrap_or("HEAD"), None)?.id;
    Ok(repository.documents(&commit)?)
}

/// The reports in files and folders, in the order of their names in a folder.
pub(in crate::cli) fn files(named: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    use anyhow::Context as _;
    let mut files = Vec::new();
    for path in named {
        let meta =
            std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        if !meta.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut inside = Vec::new();
        for entry in
            std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?
        {
            let name = entry?.file_name();
            // What is being written has a point before its name.
            if let Some(text) = name.to_str()
                && text.ends_with(SUFFIX)
                && !text.starts_with('.')
            {
                inside.push(path.join(name));
            }
        }
        inside.sort();
        files.append(&mut inside);
    }
    Ok(files)
}

/// What is made of one file.
#[derive(Debug)]
pub(in crate::cli) struct Judged {
    /// The file.
    pub(in crate::cli) file: PathBuf,
    /// What its device says; a stable word and a sentence where it does not count.
    pub(in crate::cli) verdict: Result<VerifiedReport, (&'static str, String)>,
}

/// Judges reports by the devices and the fleet's name in a tree.
///
/// # Errors
/// The tree has no readable fleet.toml.
pub(in crate::cli) fn judge(tree: &Tree, files: Vec<PathBuf>) -> Result<Vec<Judged>, String> {
    let mut out = Diagnostics::new();
    let fleet = crate::resolve::read_fleet(tree, &mut out).ok_or_else(|| out.to_string())?;
    let mut judged: Vec<Judged> = files
        .into_iter()
        .map(|file| {
            let verdict = match crate::cli::device::read(&file) {
                Ok(bytes) => report::verify(&bytes, &fleet.name, |id| key_of(tree, id))
                    .map_err(|error| (error.reason(), chain(&error))),
                Err(error) => Err(("unreadable", format!("cannot read it: {error}"))),
            };
            Judged { file, verdict }
        })
        .collect();
    let good: Vec<VerifiedReport> = judged
        .iter()
        .filter_map(|one| one.verdict.as_ref().ok().cloned())
        .collect();
    let mut counts = newest(&good).into_iter();
    for one in &mut judged {
        if one.verdict.is_ok()
            && let Some(Err(superseded)) = counts.next()
        {
            one.verdict = Err((superseded.reason(), superseded.to_string()));
        }
    }
    Ok(judged)
}

/// The key that a tree declares for a device.
fn key_of(tree: &Tree, id: &str) -> Result<Key, String> {
    let file = format!("devices/{id}.toml");
    let bytes = tree.file(&file).ok_or_else(|| {
        format!("the fleet repository has no {file}: it does not know this device")
    })?;
    let line = evenkeel_schema::device::public_key(&file, bytes)?;
    Key::from_line(&line).map_err(|error| format!("{file}: `public_key` is none: {error}"))
}

fn for_people(judged: &[Judged]) -> String {
    let mut text = String::new();
    for one in judged {
        let file = one.file.display();
        let line = match &one.verdict {
            Ok(good) => {
                let said = good.report();
                let at = said
                    .revision
                    .applied
                    .as_ref()
                    .map_or("nothing yet", |commit| commit.short());
                let old = u64::try_from(now().0.saturating_sub(said.time.0)).unwrap_or_default();
                format!(
                    "ok {file}: {} ({}) at {at}, number {}, {} ago",
                    said.device,
                    said.branch.escape_debug(),
                    said.sequence,
                    crate::cli::show::span(old)
                )
            }
            Err((reason, why)) => format!("refused {file}: {reason}: {why}"),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn in_json(judged: &[Judged]) -> String {
    let all: Vec<serde_json::Value> = judged
        .iter()
        .map(|one| match &one.verdict {
            Ok(good) => json!({
                "file": one.file,
                "verdict": "ok",
                "reason": "ok",
                "report": good.report(),
                "sha256": good.digest(),
            }),
            Err((reason, why)) => json!({
                "file": one.file,
                "verdict": "refused",
                "reason": reason,
                "message": why,
            }),
        })
        .collect();
    format!("{}\n", json!(all))
}
