//! Where a promotion looks branches up, and moves one: at the remote that devices follow, or here.

use std::collections::BTreeMap;

use super::Args;
use crate::cli::git::{Git, Stop, parse, say, usage};
use crate::cli::signed;
use crate::domain::revision::CommitId;

/// The branches, as they were looked up.
pub(super) struct Place<'a> {
    git: &'a Git,
    /// `None`: the branches here.
    pub(super) remote: Option<String>,
    tips: BTreeMap<String, CommitId>,
}

impl<'a> Place<'a> {
    /// Looks these branches up, and brings what they show.
    pub(super) fn look(git: &'a Git, args: &Args, branches: &[&str]) -> Result<Self, Stop> {
        let mut place = Self {
            git,
            remote: remote(git, args)?,
            tips: BTreeMap::new(),
        };
        let found = match &place.remote {
            Some(remote) => fetched(git, remote, branches)?,
            None => here(git, branches)?,
        };
        for (branch, id) in found {
            let tip = parse(&branch, &id)?;
            place.tips.insert(branch, tip);
        }
        Ok(place)
    }

    /// What a branch shows.
    pub(super) fn tip(&self, branch: &str) -> Option<&CommitId> {
        self.tips.get(branch)
    }

    /// For people.
    pub(super) fn name(&self) -> String {
        match &self.remote {
            Some(remote) => format!("at {remote}"),
            None => "here (without --local the remote's is taken)".to_owned(),
        }
    }

    /// Pushes the branch to the commit if it is where it was, or moves it here.
    pub(super) fn move_branch(
        &self,
        args: &Args,
        full: &str,
        tip: Option<&CommitId>,
        commit: &str,
    ) -> Result<(), Stop> {
        let old = tip.map_or("", CommitId::as_str);
        let branch = &args.to;
        let Some(remote) = &self.remote else {
            if self.is_checked_out(full)? {
                return Err(usage(format!(
                    "branch `{branch}` is checked out here, and its files would no longer be what it shows\nhint: `git switch \
                     --detach` first, or promote at a remote"
                )));
            }
            let zero = "0".repeat(commit.len());
            let old = if old.is_empty() { &zero } else { old };
            self.git
                .ask(&["update-ref", "-m", "evenkeel promote", full, commit, old])
                .map_err(|error| {
                    error.context(format!("branch `{branch}` moved meanwhile: run it again"))
                })?;
            return Ok(());
        };
        signed::push("promotion", self.git, remote, full, old, commit)?;
        // The branch here follows where nothing of its own is on it, and nobody works on it.
        if let (Some(here), Some(tip)) = (self.git.id(full)?, tip) {
            if here == tip.as_str() && !self.is_checked_out(full)? {
                self.git
                    .ask(&["update-ref", "-m", "evenkeel promote", full, commit, &here])?;
            } else {
                say(&format!(
                    "note: branch `{branch}` here is as it was: `git pull --ff-only` on it brings the promotion"
                ));
            }
        }
        Ok(())
    }

    fn is_checked_out(&self, full: &str) -> Result<bool, Stop> {
        let trees = self.git.ask(&["worktree", "list", "--porcelain"])?;
        let line = format!("branch {full}");
        Ok(trees.lines().any(|told| told == line))
    }
}

fn remote(git: &Git, args: &Args) -> Result<Option<String>, Stop> {
    if args.local {
        return Ok(None);
    }
    let remote = match &args.remote {
        Some(remote) if remote.starts_with('-') => {
            return Err(usage(format!("--remote: `{remote}` is not a remote")));
        }
        Some(remote) => Some(remote.clone()),
        None => match git.setting(&format!("branch.{}.remote", args.to))? {
            Some(own) => Some(own),
            None => git
                .ask(&["remote"])?
                .lines()
                .find(|name| *name == "origin")
                .map(str::to_owned),
        },
    };
    match remote {
        Some(remote) => Ok(Some(remote)),
        None => Err(usage(
            "there is no remote `origin`\nhint: --remote NAME names the one that devices follow; --local works on the branches \
             here",
        )),
    }
}

fn here(git: &Git, branches: &[&str]) -> Result<Vec<(String, String)>, Stop> {
    let mut found = Vec::new();
    for branch in branches {
        if let Some(id) = git.id(&format!("refs/heads/{branch}^{{commit}}"))? {
            found.push(((*branch).to_owned(), id));
        }
    }
    Ok(found)
}

/// What the remote shows, brought here.
fn fetched(git: &Git, remote: &str, branches: &[&str]) -> Result<Vec<(String, String)>, Stop> {
    let names: Vec<String> = branches
        .iter()
        .map(|branch| format!("refs/heads/{branch}"))
        .collect();
    let ask = |verb: &[&str], names: &[&str]| git.ask(&[verb, &[remote], names].concat());
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let listed = ask(&["ls-remote"], &all).map_err(|error| {
        Stop::from(error.context(format!(
            "{remote} cannot be asked\nhint: --local works on the branches here"
        )))
    })?;
    let mut found = Vec::new();
    let mut there = Vec::new();
    for (branch, name) in branches.iter().zip(&all) {
        let line = listed
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .find(|(_, listed)| listed == name);
        if let Some((id, _)) = line {
            found.push(((*branch).to_owned(), id.to_owned()));
            there.push(*name);
        }
    }
    if !there.is_empty() {
        ask(&["fetch", "--quiet"], &there)?;
    }
    for (branch, id) in &found {
        if git.id(&format!("{id}^{{commit}}"))?.is_none() {
            return Err(Stop::from(anyhow::Error::msg(format!(
                "branch `{branch}` at {remote} was rewritten meanwhile: run it again"
            ))));
        }
    }
    Ok(found)
}
