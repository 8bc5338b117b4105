//! What is promoted, or gone back to; and the commit that is made of it.

use super::Args;
use super::place::Place;
use crate::adapter::git_local::LocalRepository;
use crate::cli::git::{Git, Stop, missing, parse, usage};
use crate::cli::signed;
use crate::cycle::ALLOW_EMPTY;
use crate::domain::revision::CommitId;
use crate::trust::approval::{self, APPROVAL_TRAILER};
use crate::trust::policy::BRANCH_TRAILER;

/// The trailer that names the commit whose tree was promoted.
const PROMOTES: &str = "Promotes";
/// The trailer that names the commit that was taken back.
const REVERTS: &str = "Reverts";

/// What becomes the branch's next content.
pub(super) struct Candidate {
    /// The commit whose tree it is.
    pub(super) commit: CommitId,
    pub(super) tree: String,
    pub(super) subject: String,
    /// Beside the branch's own tip.
    pub(super) parent: Option<CommitId>,
    /// What was taken back.
    pub(super) reverts: Option<CommitId>,
    /// How it is told: `canary`.
    pub(super) name: String,
}

/// What `--from` shows.
pub(super) fn forward(
    args: &Args,
    git: &Git,
    place: &Place<'_>,
    repo: &LocalRepository,
    from: &str,
) -> Result<Candidate, Stop> {
    let tip = place
        .tip(from)
        .ok_or_else(|| usage(format!("there is no branch `{from}` {}", place.name())))?;
    let (commit, name) = match &args.revision {
        None => (
            approval::below_heartbeats(tip, &|id| repo.bytes(id)).map_err(missing)?,
            from.to_owned(),
        ),
        Some(revision) => {
            let id = commit_of(git, revision)?;
            let is_of_it = git
                .maybe(&["merge-base", "--is-ancestor", id.as_str(), tip.as_str()])?
                .is_some();
            if !is_of_it {
                return Err(usage(format!(
                    "{} is not a commit of the branch `{from}`, which is at {}: only what that ring has run is promoted",
                    id.short(),
                    tip.short()
                )));
            }
            (id, revision.clone())
        }
    };
    Candidate::new(git, commit.clone(), name, Some(commit), None)
}

/// What the branch showed before.
pub(super) fn back(
    args: &Args,
    git: &Git,
    repo: &LocalRepository,
    tip: Option<&CommitId>,
) -> Result<Candidate, Stop> {
    let tip = tip.ok_or_else(|| usage(format!("there is no branch `{}` to revert", args.to)))?;
    let newest = approval::below_heartbeats(tip, &|id| repo.bytes(id)).map_err(missing)?;
    let line = git.ask(&[
        "log",
        "--first-parent",
        "--no-show-signature",
        "--format=%H %T",
        newest.as_str(),
    ])?;
    let mut commits = line.lines().filter_map(|line| line.split_once(' '));
    let shown = commits.next().map(|(_, tree)| tree).unwrap_or_default();
    let found = match args.revert.as_deref() {
        Some(revision) if !revision.is_empty() => {
            let id = commit_of(git, revision)?;
            if id != newest && !commits.any(|(commit, _)| commit == id.as_str()) {
                return Err(usage(format!(
                    "{} was never what `{}` showed: `git log --first-parent {}` lists what it did",
                    id.short(),
                    args.to,
                    newest.short()
                )));
            }
            id
        }
        Some(_) | None => {
            let trailer = format!("--format=%(trailers:key={REVERTS},valueonly)");
            let before = git.ask(&[
                "show",
                "-s",
                "--no-show-signature",
                &trailer,
                newest.as_str(),
            ])?;
            if !before.trim().is_empty() {
                return Err(usage(format!(
                    "{} is a revert itself: going back once more would bring back what was taken back\nhint: \
                     --revert=REV names the revision (`git log --first-parent {}`)",
                    newest.short(),
                    newest.short()
                )));
            }
            let (id, _) = commits.find(|(_, tree)| *tree != shown).ok_or_else(|| {
                usage(format!(
                    "`{}` has shown nothing else yet: there is nothing to go back to",
                    args.to
                ))
            })?;
            parse(id, id)?
        }
    };
    let name = format!("{} before", args.to);
    Candidate::new(git, found, name, None, Some(newest))
}

impl Candidate {
    fn new(
        git: &Git,
        commit: CommitId,
        name: String,
        parent: Option<CommitId>,
        reverts: Option<CommitId>,
    ) -> Result<Self, Stop> {
        let tree = git.ask(&["rev-parse", "--verify", &format!("{commit}^{{tree}}")])?;
        let subject = git.ask(&[
            "show",
            "-s",
            "--no-show-signature",
            "--format=%s",
            commit.as_str(),
        ])?;
        let subject = subject.chars().filter(|c| !c.is_control()).collect();
        Ok(Self {
            commit,
            tree,
            subject,
            parent,
            reverts,
            name,
        })
    }
}

/// The signed commit, of which no branch knows yet.
pub(super) fn made(
    args: &Args,
    git: &Git,
    candidate: &Candidate,
    tip: Option<&CommitId>,
    gate: &str,
) -> Result<String, Stop> {
    if let Some(tip) = tip {
        signed::not_before_its_parent(git, tip.as_str(), jiff::Timestamp::now())?;
    }
    let verb = if candidate.reverts.is_some() {
        format!("Revert {} to {}", args.to, candidate.commit.short())
    } else {
        format!("Promote {} to {}", candidate.name, args.to)
    };
    let mut message = format!("{verb}: {}\n\n", candidate.subject);
    if let Some(more) = &args.message {
        message.push_str(&format!("{}\n\n", more.trim()));
    }
    message.push_str(&format!("{PROMOTES}: {}\n", candidate.commit));
    if let Some(reverts) = &candidate.reverts {
        message.push_str(&format!("{REVERTS}: {reverts}\n"));
    }
    message.push_str(&meant_empty(git, candidate)?);
    message.push_str(gate);
    for line in &args.approvals {
        let value = line
            .trim()
            .strip_prefix(APPROVAL_TRAILER)
            .and_then(|rest| rest.strip_prefix(':'))
            .unwrap_or(line)
            .trim();
        if value.is_empty() || value.chars().any(char::is_control) {
            return Err(usage(
                "--approval: give it the one line that `evenkeel approve` printed",
            ));
        }
        message.push_str(&format!("{APPROVAL_TRAILER}: {value}\n"));
    }
    message.push_str(&format!("{BRANCH_TRAILER}: {}\n", args.to));
    let parents: Vec<&str> = tip
        .into_iter()
        .chain(&candidate.parent)
        .map(CommitId::as_str)
        .collect();
    let new = signed::Commit {
        what: "promotion",
        tree: &candidate.tree,
        parents: &parents,
        message: &message,
    };
    new.sign(git, args.key.as_deref())
}

/// That a device may be left with nothing was said of this tree, and is said again.
fn meant_empty(git: &Git, candidate: &Candidate) -> Result<String, Stop> {
    let asked = format!("--format=%(trailers:key={ALLOW_EMPTY},valueonly)");
    let said = git.ask(&[
        "show",
        "-s",
        "--no-show-signature",
        &asked,
        candidate.commit.as_str(),
    ])?;
    let is_meant = said
        .lines()
        .any(|line| line.trim().eq_ignore_ascii_case("true"));
    Ok(if is_meant {
        format!("{ALLOW_EMPTY}: true\n")
    } else {
        String::new()
    })
}

fn commit_of(git: &Git, revision: &str) -> Result<CommitId, Stop> {
    let id = git.id(&format!("{revision}^{{commit}}"))?.ok_or_else(|| {
        usage(format!(
            "there is no commit `{}` here",
            revision.escape_debug()
        ))
    })?;
    parse(revision, &id)
}
