//! `evenkeel render DIR --device ID`: what one device would get from a fleet repository.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use evenkeel_schema::diagnostic::Diagnostics;
use evenkeel_schema::name::DeviceId;

use super::{everyone, fleet_dir};
use crate::adapter::git_local::LocalRepository;
use crate::domain::desired::Resolved;
use crate::domain::tree::Tree;
use crate::resolve::{self, render};

/// Show what one device would get.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The repository's top folder.
    pub dir: PathBuf,
    /// The device's id.
    #[arg(
        long,
        value_name = "ID",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    pub device: Option<DeviceId>,
    /// Every device with a document, and one made up for each group without any: a line of JSON each, by id.
    #[arg(long, conflicts_with = "labels")]
    pub all: bool,
    /// A label of the device's own agent.toml; those in devices/ID.toml win.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("write it like site=plant-a".to_owned()),
    }
}

/// Runs it; the exit code: 0 shown, 2 not a fleet repository, 3 problems found.
#[must_use]
pub fn run(args: &Args) -> u8 {
    let tree = match fleet_dir::read(&args.dir) {
        Ok(tree) => tree,
        Err(error) => return super::fail(super::code::USAGE, &format!("{error:#}")),
    };
    let mut err = std::io::stderr().lock();
    let Some(device) = &args.device else {
        return all(&tree, revision(&args.dir).as_deref(), &mut err);
    };
    if !tree
        .documents
        .contains_key(&format!("devices/{device}.toml"))
    {
        let _ = writeln!(
            err,
            "evenkeel: note: there is no devices/{device}.toml: its labels are those of --label alone",
        );
    }
    let labels: BTreeMap<String, String> = args.labels.iter().cloned().collect();
    let resolved = match resolved(device, &labels, &tree) {
        Ok(resolved) => resolved,
        Err(problems) => {
            let _ = writeln!(err, "{problems}");
            return super::code::REFUSED;
        }
    };
    let revision = revision(&args.dir);
    let answer = render::json(&resolved, revision.as_deref());
    let text = if args.json {
        format!("{answer:#}\n")
    } else {
        for_people(&answer, &resolved)
    };
    super::answer(&text);
    super::code::DONE
}

/// Every device, as it becomes known.
fn all(tree: &Tree, revision: Option<&str>, err: &mut impl std::io::Write) -> u8 {
    let show = |resolved: &Resolved| format!("{}\n", render::json(resolved, revision));
    match everyone::each(tree, show, super::answer) {
        Ok(_) => super::code::DONE,
        Err(problems) => {
            let _ = writeln!(err, "{problems}");
            super::code::REFUSED
        }
    }
}

fn resolved(
    device: &DeviceId,
    labels: &BTreeMap<String, String>,
    tree: &Tree,
) -> Result<Resolved, Diagnostics> {
    let selection = resolve::apps_of(device, labels, tree)?;
    resolve::resolve(&selection, tree)
}

/// The commit that is checked out; the working tree may differ from it. `None` where the folder is no git repository.
fn revision(dir: &Path) -> Option<String> {
    // A repository further up is not this one.
    std::fs::symlink_metadata(dir.join(".git")).ok()?;
    let repository = LocalRepository::open(dir).ok()?;
    let raw = repository.commit("HEAD", None).ok()?;
    Some(raw.id.to_string())
}

fn for_people(answer: &serde_json::Value, resolved: &Resolved) -> String {
    let mut text = format!(
        "device {} of the fleet {}\n",
        resolved.state.device, resolved.state.fleet
    );
    // Writing to a String cannot fail.
    if resolved.state.apps.is_empty() {
        let _ = writeln!(
            text,
            "no app: no group matches it, and no document of its own names one"
        );
    }
    for app in answer["apps"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "\napp {}", word(&app["name"]));
        for file in app["files"].as_array().into_iter().flatten() {
            let _ = writeln!(
                text,
                "  file {}  {} {}:{}",
                word(&file["path"]),
                word(&file["mode"]),
                word(&file["owner"]),
                word(&file["group"])
            );
            match file["content"].as_str() {
                Some(content) => {
                    for line in content.lines() {
                        let _ = writeln!(text, "    | {}", plain(line));
                    }
                }
                None => {
                    let _ = writeln!(text, "    (not text: --json shows it)");
                }
            }
        }
        for (kind, parts) in [
            ("service", "services"),
            ("network", "networks"),
            ("volume", "volumes"),
        ] {
            for (name, part) in app[parts].as_object().into_iter().flatten() {
                let _ = writeln!(text, "  {kind} {name}");
                for (key, value) in part.as_object().into_iter().flatten() {
                    if !value.is_null() {
                        let _ = writeln!(text, "    {key}: {}", word(value));
                    }
                }
            }
        }
        for check in app["checks"].as_array().into_iter().flatten() {
            let _ = writeln!(text, "  check {check}");
        }
        let _ = writeln!(
            text,
            "  gate deadline {}, soak {}",
            word(&app["gate"]["deadline"]),
            word(&app["gate"]["soak"])
        );
    }
    text
}

/// A line without what would move a terminal's cursor.
fn plain(line: &str) -> String {
    line.chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

/// Text as it is, everything else in JSON.
fn word(value: &serde_json::Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    }
}
