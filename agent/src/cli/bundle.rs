//! `evenkeel bundle --out DIR`: a branch's tip with its images in a folder or on a stick, to be carried by hand.
//!
//! What is written is a published tree (see `publish`) with an OCI image layout in it, and a folder that takes the devices'
//! receipts. Images come before the head, so a stick that was pulled too early shows what it showed before; what only the
//! revision before needed goes at the end. The same again writes nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use evenkeel_schema::name::DeviceId;

use super::git::{Git, Stop, usage};
use super::publish::images::{self, Choice, Gatherer};
use super::publish::tree::Out;
use super::publish::{branch_into, json, told};
use super::report::receipt::RECEIPTS;
use super::{answer, code, fail};

/// Make a static tree of a branch with its images, to carry by hand.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder: a stick's top folder, for instance. Made where it is missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The branch. [default: the one that is checked out]
    #[arg(long, value_name = "BRANCH")]
    branch: Option<String>,
    /// The repository, a whole clone; the current directory's by default.
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
    /// With the images of this device alone; once for each. By default of all devices and groups.
    #[arg(long = "device", value_name = "ID")]
    devices: Vec<DeviceId>,
    #[command(flatten)]
    choice: Choice,
    /// Write it though DIR shows a commit that this branch does not contain: it was rewound on purpose.
    #[arg(long)]
    rewind: bool,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it; the exit code: 0 written, or nothing to write; 1 failed; 2 wrong usage; 3 refused.
#[must_use]
pub fn run(args: &Args) -> u8 {
    match bundle(args) {
        Ok(text) => {
            answer(&text);
            code::DONE
        }
        Err(stop) => fail(stop.code, &format!("{:#}", stop.error)),
    }
}

fn bundle(args: &Args) -> Result<String, Stop> {
    let repo = args.repo.as_deref().unwrap_or(Path::new("."));
    let branch = match &args.branch {
        Some(branch) => branch.clone(),
        None => checked_out(repo)?,
    };
    let out = Out::open(&args.out)?;
    let receipts = args.out.join(RECEIPTS);
    std::fs::create_dir_all(&receipts).map_err(|error| {
        anyhow::Error::new(error).context(format!("cannot make {}", receipts.display()))
    })?;
    let mut gatherer = Gatherer::open(out.dir(), &branch, &args.choice)?;
    let published = branch_into(repo, &out, &branch, args.rewind, |tip| {
        gatherer.gather(&images::of_commit(repo, tip, &args.devices)?)
    })?;
    // A stick goes from hand to hand: nobody is in the middle of a download.
    let gathered = gatherer.finish(Duration::ZERO)?;
    out.sweep(Duration::ZERO)?;
    if args.json {
        let mut answer = json(&published);
        answer["out"] = serde_json::json!(args.out);
        answer["images"] = gathered.json();
        return Ok(format!("{answer}\n"));
    }
    Ok(told(&published, &args.out) + &gathered.told())
}

fn checked_out(repo: &Path) -> Result<String, Stop> {
    let git = Git::repository(repo)?;
    git.maybe(&["symbolic-ref", "--short", "--quiet", "HEAD"])?
        .ok_or_else(|| usage("no branch is checked out here: name one with --branch"))
}
