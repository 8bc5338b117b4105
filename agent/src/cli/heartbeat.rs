//! `evenkeel heartbeat --branch B`: a signed commit that changes nothing and says that the branch is alive.
//!
//! Made by git's plumbing: no work tree and no index is looked at, and none changes. Where the branch is checked out, both
//! equal the new commit as they did the old one. The branch moves only from the commit that the heartbeat was made on.

use std::path::{Path, PathBuf};

use super::git::{Git, Stop, say, usage};
use super::{answer, code, fail};
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
    not_before_its_parent(&git, &parent, now)?;

    let time = jiff::Timestamp::from_second(now.as_second()).unwrap_or(now);
    let message = format!("heartbeat\n\n{HEARTBEAT_TRAILER}: {time}\n{BRANCH_TRAILER}: {branch}\n");
    let commit = signed_commit(&git, args, &tree, &parent, &message)?;
    if let Some(remote) = &args.push {
        push(&git, remote, &full, &parent, &commit)?;
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

/// A commit that is dated before its parent is refused by a device whose clock is right.
fn not_before_its_parent(git: &Git, parent: &str, now: jiff::Timestamp) -> Result<(), Stop> {
    let dated = git.ask(&["show", "-s", "--no-show-signature", "--format=%ct", parent])?;
    match dated.parse::<i64>() {
        Ok(seconds) if seconds > now.as_second() => Err(Stop::from(anyhow::Error::msg(format!(
            "the branch's tip {} is dated later than this machine's clock ({now}); a device would refuse a heartbeat that is \
             older than its parent\nhint: set the clock right",
            &parent[..10]
        )))),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn signed_commit(
    git: &Git,
    args: &Args,
    tree: &str,
    parent: &str,
    message: &str,
) -> Result<String, Stop> {
    let key = match &args.key {
        Some(key) if !key.is_file() => {
            return Err(usage(format!("--key: there is no file {}", key.display())));
        }
        // Git runs elsewhere, and hands the name on to ssh-keygen.
        Some(key) => Some(std::path::absolute(key).map_err(|error| {
            usage(format!(
                "--key: {} has no full name: {error}",
                key.display()
            ))
        })?),
        None => None,
    };
    let setting = key
        .as_ref()
        .map(|key| format!("user.signingkey={}", key.display()));
    let mut arguments = Vec::new();
    if let Some(setting) = &setting {
        arguments.extend(["-c", "gpg.format=ssh", "-c", setting.as_str()]);
    }
    arguments.extend(["commit-tree", "-S", "-p", parent, "-F", "-", tree]);
    git.tell(&arguments, message.as_bytes()).map_err(|error| {
        Stop::from(error.context(
            "the heartbeat could not be signed, and the branch is as it was\nhint: name a key with --key FILE, or set git up to \
             sign with SSH (`git config gpg.format ssh`, `git config user.signingkey ...`)",
        ))
    })
}

/// Pushes it, if the branch there is at the parent. Before the branch moves here, so that after a refusal both are as
/// they were.
fn push(git: &Git, remote: &str, full: &str, parent: &str, commit: &str) -> Result<(), Stop> {
    if remote.starts_with('-') {
        return Err(usage(format!("--push: `{remote}` is not a remote")));
    }
    let lease = format!("--force-with-lease={full}:{parent}");
    let refspec = format!("{commit}:{full}");
    let said = git.ask(&["push", "--porcelain", &lease, remote, &refspec]);
    match said {
        Ok(_) => Ok(()),
        Err(error) => {
            say("note: nothing has changed here or there");
            Err(Stop::from(error.context(format!(
                "the heartbeat was not pushed; {remote} takes it only where its branch is at {} too\nhint: `git fetch {remote}` \
                 and bring the branch here to where it is there",
                &parent[..10]
            ))))
        }
    }
}
