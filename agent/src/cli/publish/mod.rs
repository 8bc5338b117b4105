//! `evenkeel publish --branch stable --out DIR`: a branch as a static tree for any web server, object store or CDN.
//!
//! What devices get from it is git's own packs, made by the operator's git; `crate::domain::published` says how the tree looks.
//! Packs come first, each under the name of what it holds, and the head file last, by rename: who is killed in between leaves
//! the tree as it was, and more files in it. The same tip published again writes nothing.
//!
//! Refuses: a shallow or partial clone, a tip that is not beyond the one that the tree shows (unless told), another publish at
//! work on the same tree.

pub(super) mod images;
mod line;
pub(super) mod tree;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use self::images::Gatherer;
use self::line::Line;
use self::tree::Out;
use super::git::{Git, Stop, say, usage};
use super::{answer, code, fail};
use crate::domain::published::{Head, head_file};

/// Make a static tree of a branch, for any web server, object store or CDN.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The branch; once for each that the tree is to have. Others that it has already stay as they are.
    #[arg(long = "branch", value_name = "BRANCH", required = true)]
    pub branches: Vec<String>,
    /// The folder of the tree, made where it is missing.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The repository, a whole clone; the current directory's by default.
    #[arg(long, value_name = "DIR")]
    pub repo: Option<PathBuf>,
    /// How long packs stay after no head names them any more: for devices in the middle of a download, and caches on the way.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = evenkeel_schema::duration::parse)]
    pub keep: Duration,
    /// Put the images that the branch's devices need into the tree, too, as an OCI image layout.
    #[arg(long)]
    pub images: bool,
    #[command(flatten)]
    choice: images::Choice,
    /// Publish it though the tree shows a commit that this branch does not contain: it was rewound on purpose.
    #[arg(long)]
    pub rewind: bool,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs it; the exit code: 0 published, or nothing to publish; 1 failed; 2 wrong usage; 3 refused.
#[must_use]
pub fn run(args: &Args) -> u8 {
    match publish(args) {
        Ok(text) => {
            answer(&text);
            code::DONE
        }
        Err(stop) => fail(stop.code, &format!("{:#}", stop.error)),
    }
}

/// What became of one branch.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) head: Head,
    /// What was written: packs and bytes. `None` where the tree showed the tip already.
    pub(super) written: Option<(usize, u64)>,
}

fn publish(args: &Args) -> Result<String, Stop> {
    let repo = args.repo.as_deref().unwrap_or(Path::new("."));
    let out = Out::open(&args.out)?;
    let mut all = Vec::new();
    let mut gathered = Vec::new();
    if !args.images && (!args.choice.platforms.is_empty() || args.choice.layout.is_some()) {
        return Err(usage(
            "--platform and --layout say which images: add --images",
        ));
    }
    for branch in &args.branches {
        let mut gatherer = None;
        all.push(branch_into(repo, &out, branch, args.rewind, |tip| {
            if args.images {
                let images = images::of_commit(repo, tip, &[])?;
                gatherer
                    .insert(Gatherer::open(out.dir(), branch, &args.choice)?)
                    .gather(&images)?;
            }
            Ok(())
        })?);
        if let Some(gatherer) = gatherer {
            gathered.push(gatherer.finish(args.keep)?);
        }
    }
    let swept = out.sweep(args.keep)?;
    if args.json {
        let mut branches: Vec<_> = all.iter().map(json).collect();
        for (branch, gathered) in branches.iter_mut().zip(&gathered) {
            branch["images"] = gathered.json();
        }
        let answer = serde_json::json!({ "out": args.out, "branches": branches, "swept": swept });
        return Ok(format!("{answer}\n"));
    }
    let mut text = String::new();
    for one in &all {
        text.push_str(&told(one, &args.out));
    }
    for one in &gathered {
        text.push_str(&one.told());
    }
    Ok(text)
}

pub(super) fn json(one: &Published) -> serde_json::Value {
    let Published { head, written } = one;
    serde_json::json!({
        "branch": head.branch,
        "fleet": head.fleet,
        "tip": head.tip,
        "head": head_file(&head.branch),
        "changed": written.is_some(),
        "packs": head.line.len() + 1,
        "written": { "packs": written.map_or(0, |(packs, _)| packs), "bytes": written.map_or(0, |(_, bytes)| bytes) },
    })
}

pub(super) fn told(one: &Published, out: &Path) -> String {
    let Published { head, written } = one;
    match written {
        None => format!(
            "{} is at {} in {} already: nothing to publish\n",
            head.branch,
            head.tip.short(),
            out.display()
        ),
        Some((packs, bytes)) => format!(
            "{} is at {} in {} now: {packs} new packs, {bytes} bytes\n",
            head.branch,
            head.tip.short(),
            out.display()
        ),
    }
}

/// Publishes one branch. `before_shown` is told the tip before devices can see it: what they need with it is there first.
pub(super) fn branch_into(
    repo: &Path,
    out: &Out,
    branch: &str,
    rewind: bool,
    before_shown: impl FnOnce(&str) -> Result<(), Stop>,
) -> Result<Published, Stop> {
    let git = Git::repository(repo)?;
    whole(&git)?;
    let tip = tip(&git, branch)?;
    let before = out.head(branch);
    if let Some(head) = &before
        && head.tip.as_str() == tip
    {
        let head = head.clone();
        before_shown(&tip)?;
        return Ok(Published {
            head,
            written: None,
        });
    }
    let fleet = fleet(&git, &tip)?;
    let line = Line::plan(&git, &tip, before.as_ref())?;
    if let Some(head) = &before
        && !rewind
        && !line.contains(&head.tip)
    {
        return Err(Stop {
            code: code::REFUSED,
            error: anyhow::Error::msg(format!(
                "{} shows {} at {}, which is not in the history of `{branch}` here ({}): devices would refuse it\nhint: `git fetch` \
                 first; --rewind where the branch was rewound on purpose",
                out.dir().display(),
                branch,
                head.tip.short(),
                &tip[..10]
            )),
        });
    }
    let mut written = (0, 0);
    let line = line.make(&git, |pack| {
        let (pack, is_new) = out.pack(pack)?;
        if is_new {
            written.0 += 1;
            written.1 += pack.1;
        }
        Ok(pack)
    })?;
    let snapshot = match line::still_good(before.as_ref(), &line) {
        Some(snapshot) => snapshot,
        None => line::snapshot(&git, &tip, |pack| {
            let (pack, is_new) = out.pack(pack)?;
            if is_new {
                written.0 += 1;
                written.1 += pack.1;
            }
            Ok(pack)
        })?,
    };
    let hash = git.ask(&["rev-parse", "--show-object-format"])?;
    let head = Head::new(fleet, branch.to_owned(), hash, line, snapshot)
        .ok_or_else(|| usage(format!("branch `{branch}` has no commit")))?;
    before_shown(&tip)?;
    out.show(&head, before.as_ref())?;
    Ok(Published {
        head,
        written: Some(written),
    })
}

/// A clone without all of its history cannot give it to others.
fn whole(git: &Git) -> Result<(), Stop> {
    if git.ask(&["rev-parse", "--is-shallow-repository"])? == "true" {
        return Err(usage(format!(
            "{} is a shallow clone, and a device may need history that is not in it\nhint: `git fetch --unshallow`; in CI, a \
             checkout with the whole history (fetch-depth: 0)",
            git.dir().display()
        )));
    }
    if git.setting("extensions.partialClone")?.is_some() {
        say("note: this is a partial clone: what is missing is fetched first");
    }
    Ok(())
}

/// The branch's tip: of the branch here, or of the remote's that was fetched last where there is none.
fn tip(git: &Git, branch: &str) -> Result<String, Stop> {
    let full = git.branch(branch)?;
    if let Some(id) = git.id(&format!("{full}^{{commit}}"))? {
        return Ok(id);
    }
    let remotes = git.ask(&["remote"])?;
    let mut found = Vec::new();
    for remote in remotes.lines() {
        let name = format!("refs/remotes/{remote}/{branch}");
        if let Some(id) = git.id(&format!("{name}^{{commit}}"))? {
            found.push((remote, id));
        }
    }
    match found.as_slice() {
        [(_, id)] => Ok(id.clone()),
        [] => Err(usage(format!(
            "there is no branch `{branch}` in {}\nhint: `git fetch` brings what the remote has",
            git.dir().display()
        ))),
        many => Err(usage(format!(
            "there is no branch `{branch}` in {}, and more than one remote has one ({})\nhint: `git branch {branch} \
             REMOTE/{branch}` says which",
            git.dir().display(),
            many.iter()
                .map(|(remote, _)| *remote)
                .collect::<Vec<_>>()
                .join(", ")
        ))),
    }
}

/// The fleet's name.
fn fleet(git: &Git, tip: &str) -> Result<String, Stop> {
    let no_fleet = || {
        usage(format!(
            "commit {} has no fleet.toml that names a fleet: is this a fleet repository?",
            &tip[..10]
        ))
    };
    let text = git
        .maybe(&["cat-file", "blob", &format!("{tip}:fleet.toml")])?
        .ok_or_else(no_fleet)?;
    let table: toml::Table = toml::from_str(&text).context("fleet.toml does not parse")?;
    let name = table.get("name").and_then(toml::Value::as_str);
    name.map(str::to_owned).ok_or_else(no_fleet)
}
