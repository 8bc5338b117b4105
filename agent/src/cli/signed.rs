//! Signed commits made by git's plumbing: no work tree and no index is looked at, and none changes.

use std::path::Path;

use super::git::{Git, Stop, say, usage};

/// A commit to be made.
pub(super) struct Commit<'a> {
    /// What it is called in messages: `heartbeat`.
    pub(super) what: &'static str,
    /// Its tree.
    pub(super) tree: &'a str,
    /// Its parents, the branch's tip first.
    pub(super) parents: &'a [&'a str],
    /// Its message.
    pub(super) message: &'a str,
}

impl Commit<'_> {
    /// Makes it, signed with this key or with git's own; gives its id. No branch moves.
    pub(super) fn sign(&self, git: &Git, key: Option<&Path>) -> Result<String, Stop> {
        let key = match key {
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
        arguments.extend(["commit-tree", "-S"]);
        for parent in self.parents {
            arguments.extend(["-p", parent]);
        }
        arguments.extend(["-F", "-", self.tree]);
        git.tell(&arguments, self.message.as_bytes())
            .map_err(|error| {
                Stop::from(error.context(format!(
                    "the {} could not be signed, and the branch is as it was\nhint: name a key with --key FILE, or set git up to \
                     sign with SSH (`git config gpg.format ssh`, `git config user.signingkey ...`)",
                    self.what
                )))
            })
    }
}

/// A commit that is dated before its parent is refused by a device whose clock is right.
pub(super) fn not_before_its_parent(
    git: &Git,
    parent: &str,
    now: jiff::Timestamp,
) -> Result<(), Stop> {
    let dated = git.ask(&["show", "-s", "--no-show-signature", "--format=%ct", parent])?;
    match dated.parse::<i64>() {
        Ok(seconds) if seconds > now.as_second() => Err(Stop::from(anyhow::Error::msg(format!(
            "the branch's tip {} is dated later than this machine's clock ({now}); a device would refuse a commit that is \
             older than its parent\nhint: set the clock right",
            &parent[..10]
        )))),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Pushes it, if the branch there is at the parent. Before the branch moves here, so that after a refusal both are as
/// they were.
pub(super) fn push(
    what: &str,
    git: &Git,
    remote: &str,
    full: &str,
    parent: &str,
    commit: &str,
) -> Result<(), Stop> {
    if remote.starts_with('-') {
        return Err(usage(format!("`{remote}` is not a remote")));
    }
    let lease = format!("--force-with-lease={full}:{parent}");
    // A branch that is to begin has no parent.
    let place = parent
        .get(..10)
        .map_or_else(|| "not there yet".to_owned(), |short| format!("at {short}"));
    let refspec = format!("{commit}:{full}");
    let said = git.ask(&["push", "--porcelain", &lease, remote, &refspec]);
    match said {
        Ok(_) => Ok(()),
        Err(error) => {
            say("note: nothing has changed here or there");
            Err(Stop::from(error.context(format!(
                "the {what} was not pushed; {remote} takes it only where its branch is {place} too\nhint: `git fetch {remote}` \
                 and bring the branch here to where it is there"
            ))))
        }
    }
}
