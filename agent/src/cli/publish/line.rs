//! Which packs a published branch has: one for each of its last commits, one for all before them, and a snapshot.
//!
//! A device at any of the last commits fetches a small pack for each commit since; a new one fetches the snapshot and what is
//! beyond it; who was away for longer fetches the whole line. So a new commit costs one small pack, and what stands stays.

use std::io::Write as _;
use std::process::{ChildStdout, Stdio};

use anyhow::Context as _;

use crate::cli::git::{Git, Stop, parse};
use crate::domain::published::{Head, Pack};
use crate::domain::revision::CommitId;

/// So many commits have a pack each in a tree that is published for the first time, or after a long pause.
const FIRST: usize = 16;
/// With more packs than this the older ones become one. Their entries make a head of 6 KB.
const MOST: usize = 40;
/// So many are left as they are then.
const LEFT: usize = 24;
/// A snapshot is made anew when what is beyond it weighs more than half of it, or this much.
const BEYOND: u64 = 64 * 1024;

/// What takes a pack in: its SHA-256 and its size come back.
pub(super) type Taken = (String, u64);

/// One pack of the line.
enum Entry {
    Have(Pack),
    /// All that `to` has beyond `from`; all of it where there is none.
    Make {
        from: Option<String>,
        to: CommitId,
    },
}

impl Entry {
    fn to(&self) -> &CommitId {
        match self {
            Self::Have(pack) => &pack.to,
            Self::Make { to, .. } => to,
        }
    }
}

/// The line of a branch, before it is made.
pub(super) struct Line {
    entries: Vec<Entry>,
    /// The commits of the line before that are still in the branch's history.
    stayed: Vec<CommitId>,
}

impl Line {
    /// Plans the line to `tip`, going on from that of `before`.
    pub(super) fn plan(git: &Git, tip: &str, before: Option<&Head>) -> Result<Self, Stop> {
        let old = before.map_or(&[][..], |head| &head.line[..]);
        let mut stays = 0;
        for (index, pack) in old.iter().enumerate().rev() {
            if is_ancestor(git, pack.to.as_str(), tip)? {
                stays = index + 1;
                break;
            }
        }
        let mut entries: Vec<Entry> = old[..stays].iter().cloned().map(Entry::Have).collect();
        let stayed = old[..stays].iter().map(|pack| pack.to.clone()).collect();
        let last = entries.last().map(|entry| entry.to().to_string());
        for (from, to) in steps(git, last, tip)? {
            let to = parse(&to, &to)?;
            entries.push(Entry::Make { from, to });
        }
        if entries.len() > MOST {
            let from = entries.len() - LEFT;
            let to = entries[from - 1].to().clone();
            entries.drain(..from);
            entries.insert(0, Entry::Make { from: None, to });
        }
        Ok(Self { entries, stayed })
    }

    /// Whether a commit of the line before is still in the branch's history.
    pub(super) fn contains(&self, commit: &CommitId) -> bool {
        self.stayed.contains(commit)
    }

    /// Makes what is missing.
    pub(super) fn make(
        self,
        git: &Git,
        mut take: impl FnMut(ChildStdout) -> Result<Taken, Stop>,
    ) -> Result<Vec<Pack>, Stop> {
        let mut made = Vec::with_capacity(self.entries.len());
        for entry in self.entries {
            made.push(match entry {
                Entry::Have(pack) => pack,
                Entry::Make { from: None, to } => {
                    pack(git, &to, &[], &format!("{to}\n"), &mut take)?
                }
                Entry::Make {
                    from: Some(from),
                    to,
                } => {
                    let asked = beyond(git, &from, to.as_str())?;
                    // Deltas may build upon what `from` has.
                    pack(git, &to, &["--thin", "--shallow"], &asked, &mut take)?
                }
            });
        }
        Ok(made)
    }
}

fn is_ancestor(git: &Git, commit: &str, tip: &str) -> Result<bool, Stop> {
    Ok(git
        .maybe(&["merge-base", "--is-ancestor", commit, tip])?
        .is_some())
}

/// From where to where packs lead: along the branch's first parents, as promotions and heartbeats make them.
fn steps(
    git: &Git,
    last: Option<String>,
    tip: &str,
) -> Result<Vec<(Option<String>, String)>, Stop> {
    let most = (FIRST + 1).to_string();
    let listed = match &last {
        None => git.ask(&["rev-list", "--first-parent", "--max-count", &most, tip])?,
        Some(last) => git.ask(&["rev-list", "--first-parent", tip, &format!("^{last}")])?,
    };
    let mut commits: Vec<&str> = listed.lines().collect();
    commits.reverse();
    if let (Some(last), Some(first)) = (&last, commits.first()) {
        let parent = git.id(&format!("{first}^1"))?;
        if parent.as_ref() != Some(last) {
            // The way to the tip is another one: one pack for all of it.
            commits = vec![tip];
        }
    }
    if last.is_some() && commits.len() > FIRST {
        commits.drain(..commits.len() - FIRST);
    }
    let mut from = last;
    let mut steps = Vec::with_capacity(commits.len());
    for commit in commits {
        steps.push((from.replace(commit.to_owned()), commit.to_owned()));
    }
    Ok(steps)
}

/// What git is to pack so that who has `from`, without any history behind it, has `to` whole: each commit that is not behind
/// `from`, with all that is not in `from` itself. History that joins from elsewhere is cut off where it leaves these.
fn beyond(git: &Git, from: &str, to: &str) -> Result<String, Stop> {
    let listed = git.ask(&["rev-list", "--parents", to, &format!("^{from}")])?;
    let lines: Vec<Vec<&str>> = listed
        .lines()
        .map(|line| line.split(' ').collect())
        .collect();
    let commits: std::collections::BTreeSet<&str> = lines
        .iter()
        .filter_map(|line| line.first().copied())
        .collect();
    let mut asked = format!("--shallow {from}\n");
    for line in &lines {
        let Some((commit, parents)) = line.split_first() else {
            continue;
        };
        if parents
            .iter()
            .any(|parent| *parent != from && !commits.contains(parent))
        {
            asked.push_str(&format!("--shallow {commit}\n"));
        }
    }
    for commit in &commits {
        asked.push_str(&format!("{commit}\n"));
    }
    asked.push_str(&format!("^{from}\n"));
    Ok(asked)
}

/// The snapshot of before, where it is of this line and not too far behind.
pub(super) fn still_good(before: Option<&Head>, line: &[Pack]) -> Option<Pack> {
    let snapshot = &before?.snapshot;
    let at = line.iter().position(|pack| pack.to == snapshot.to)?;
    let beyond = &line[at + 1..];
    let bytes: u64 = beyond.iter().map(|pack| pack.size).sum();
    let is_near = beyond.len() <= LEFT && bytes <= BEYOND.max(snapshot.size / 2);
    is_near.then(|| snapshot.clone())
}

/// One commit whole, without its history.
pub(super) fn snapshot(
    git: &Git,
    tip: &str,
    take: impl FnMut(ChildStdout) -> Result<Taken, Stop>,
) -> Result<Pack, Stop> {
    let asked = format!("--shallow {tip}\n{tip}\n");
    pack(git, &parse(tip, tip)?, &[], &asked, take)
}

fn pack(
    git: &Git,
    to: &CommitId,
    more: &[&str],
    asked: &str,
    mut take: impl FnMut(ChildStdout) -> Result<Taken, Stop>,
) -> Result<Pack, Stop> {
    let mut child = git
        .command()
        // What the user's git is told about packs of its own is no rule for these.
        .args([
            "-c",
            "pack.packSizeLimit=0",
            "-c",
            "pack.allowPackReuse=false",
        ])
        .args([
            "pack-objects",
            "--revs",
            "--stdout",
            "--delta-base-offset",
            "-q",
        ])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("git cannot be started")?;
    if let Some(mut stdin) = child.stdin.take() {
        // A git that ends without reading all of it says why by itself.
        let _ = stdin.write_all(asked.as_bytes());
    }
    let stdout = child.stdout.take().context("git has no output")?;
    let taken = take(stdout);
    let ended = child.wait().context("git did not end properly")?;
    if !ended.success() {
        return Err(Stop::from(anyhow::Error::msg(format!(
            "`git pack-objects` failed for {}: nothing is published (see above)",
            to.short()
        ))));
    }
    let (sha256, size) = taken?;
    Ok(Pack {
        to: to.clone(),
        sha256,
        size,
    })
}
