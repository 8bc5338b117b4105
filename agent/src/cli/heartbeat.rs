//! `evenkeel heartbeat --branch B`: a signed commit that changes nothing and says that the branch is alive.
//!
//! Made by git's plumbing: no work tree and no index is looked at, and none changes. Where the branch is checked out, both
//! equal the new commit as they did the old one. The branch moves only from the commit that the heartbeat was made on.

use std::path::{Path, PathBuf};

use super::git::{Git, Stop, usage};
use super::{answer, code, fail, signed};
use crate::trust::approval::HEARTBEAT_TRAILER;
use crate::trust::policy::BRANCH_TRAILER;

/// Say that a branch is alive: a signed commit with the content of its tip.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The branch.
    #[arg(long, value_name = "BRANCH")]
    pub branch: String,
    /// The repository; the current directory's by default.
    #[arg(long, value_name = "DIR")]
    pub repo: Option<PathBuf>,
    /// The SSH key to sign with: a private key, or the public half of one that an agent or hardware holds. git's own by
    /// default.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Push it there too, if the branch there is where it was here.
    #[arg(long, value_name = "REMOTE")]
    pub push: Option<String>,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs it; the exit code: 0 made (and pushed), 1 failed, 2 wrong usage.
#[must_use]
pub fn run(args: &Args) -> u8 {
    match heartbeat(args) {
        Ok(text) => {
            answer(&text);
            code::DONE
        }
        Err(stop) => fail(stop.code, &format!("{:#}", stop.error)),
    }
}

fn heartbeat(args: &Args) -> Result<String, Stop> {
    let dir = args.repo.as_deref().unwrap_or(Path::new("."));
    let git = Git::repository(dir)?;
    let branch = &args.branch;
    let full = git.branch(branch)?;
    let parent = git.id(&format!("{full}^{{commit}}"))?.ok_or_else(|| {
        usage(format!(
            "there is no branch `{branch}` in {}: a heartbeat needs a commit to keep alive\nhint: `git branch {branch} \
             origin/{branch}` makes it from what was fetched",
            dir.display()
        ))
    })?;
    let tree = git.ask(&["rev-parse", "--verify", &format!("{parent}^{{tree}}")])?;
    let now = jiff::Timestamp::now();
    signed::not_before_its_parent(&git, &parent, now)?;

    let time = jiff::Timestamp::from_second(now.as_second()).unwrap_or(now);
    let message = format!("heartbeat\n\n{HEARTBEAT_TRAILER}: {time}\n{BRANCH_TRAILER}: {branch}\n");
    let new = signed::Commit {
        what: "heartbeat",
        tree: &tree,
        parents: &[&parent],
        message: &message,
    };
    let commit = new.sign(&git, args.key.as_deref())?;
    if let Some(remote) = &args.push {
        signed::push("heartbeat", &git, remote, &full, &parent, &commit)?;
    }
    git.ask(&[
        "update-ref",
        "-m",
        "evenkeel heartbeat",
        &full,
        &commit,
        &parent,
    ])
    .map_err(|error| {
        error.context(format!(
            "branch `{branch}` moved meanwhile; the heartbeat was made on {}, run it again",
            &parent[..10]
        ))
    })?;
    Ok(if args.json {
        let answer = serde_json::json!({
            "branch": branch,
            "commit": commit,
            "parent": parent,
            "tree": tree,
            "time": time.to_string(),
            "pushed": args.push,
        });
        format!("{answer}\n")
    } else {
        let pushed = args
            .push
            .as_ref()
            .map_or_else(String::new, |remote| format!(", pushed to {remote}"));
        format!(
            "{branch} is at {} now: a heartbeat on {}{pushed}\n",
            &commit[..10],
            &parent[..10]
        )
    })
}
