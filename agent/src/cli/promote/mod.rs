//! `evenkeel promote --from canary --to stable`: what one branch shows becomes what another one shows next, as one signed commit.
//!
//! The commit has the promoted tree, whole, and both branches as parents, the target's tip first. It is made by git's plumbing,
//! without a work tree, judged as a device would judge it, and pushed with a lease; after anything that is refused, nothing
//! has moved, here or there.
//!
//! Refuses: a revision that is not trusted, a tree in which `lint` finds a problem, a signature that no device would take.

mod classes;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use self::classes::{Classes, classes};
use super::git::{Git, Stop, say, usage};
use super::{answer, code, fail, signed, verify};
use crate::adapter::git_local::LocalRepository;
use crate::domain::revision::CommitId;
use crate::resolve::lint::lint;
use crate::trust::approval::{self, APPROVAL_TRAILER};
use crate::trust::policy::BRANCH_TRAILER;

/// The trailer that names the commit whose tree was promoted.
const PROMOTES: &str = "Promotes";
/// The trailer that names the commit that was taken back.
const REVERTS: &str = "Reverts";

/// Make what one branch shows what another one shows next, as a signed commit.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What is promoted: a commit of the branch --from; its tip by default.
    #[arg(conflicts_with = "revert")]
    pub revision: Option<String>,
    /// The branch that it comes from.
    #[arg(
        long,
        value_name = "BRANCH",
        required_unless_present = "revert",
        conflicts_with = "revert"
    )]
    pub from: Option<String>,
    /// The branch that it goes to.
    #[arg(long, value_name = "BRANCH")]
    pub to: String,
    /// Go back instead: what the branch showed before, or at REV.
    #[arg(long, value_name = "REV", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub revert: Option<String>,
    /// The repository; the current directory's by default.
    #[arg(long, value_name = "DIR")]
    pub repo: Option<PathBuf>,
    /// The remote that devices follow: fetched first, pushed to at last. [default: the branch's own, or origin]
    #[arg(long, value_name = "REMOTE", conflicts_with = "local")]
    pub remote: Option<String>,
    /// Work on the branches as they are here; fetch and push nothing.
    #[arg(long)]
    pub local: bool,
    /// The SSH key to sign with: a private key, or the public half of one that an agent or hardware holds. git's own by
    /// default.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Who may sign, in OpenSSH's format. [default: git's gpg.ssh.allowedSignersFile]
    #[arg(long, value_name = "FILE")]
    pub allowed_signers: Option<PathBuf>,
    /// A line that `evenkeel approve` printed; once for each.
    #[arg(long = "approval", value_name = "LINE")]
    pub approvals: Vec<String>,
    /// More to say in the commit's message.
    #[arg(long, short, value_name = "TEXT")]
    pub message: Option<String>,
    /// Show what would change, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask before signing.
    #[arg(long, short)]
    pub yes: bool,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs it; the exit code: 0 promoted, or nothing to promote; 1 failed; 2 wrong usage; 3 refused.
#[must_use]
pub fn run(args: &Args) -> u8 {
    match promote(args) {
        Ok(text) => {
            answer(&text);
            code::DONE
        }
        Err(stop) => fail(stop.code, &format!("{:#}", stop.error)),
    }
}

fn refused(message: impl Into<String>) -> Stop {
    Stop {
        code: code::REFUSED,
        error: anyhow::Error::msg(message.into()),
    }
}

/// Where branches are looked up, and moved.
struct Place<'a> {
    git: &'a Git,
    /// `None`: the branches here.
    remote: Option<String>,
}

/// What becomes the branch's next content.
struct Candidate {
    /// The commit whose tree it is.
    commit: CommitId,
    tree: String,
    subject: String,
    /// Beside the branch's own tip.
    parent: Option<CommitId>,
    /// What was taken back.
    reverts: Option<CommitId>,
    /// How it is told: `canary`.
    name: String,
}

fn promote(args: &Args) -> Result<String, Stop> {
    let dir = args.repo.as_deref().unwrap_or(Path::new("."));
    let git = Git::repository(dir)?;
    let full = git.branch(&args.to)?;
    let from = args.from.as_deref();
    if let Some(from) = from {
        git.branch(from)?;
        if from == args.to {
            return Err(usage("--from and --to are the same branch"));
        }
    }
    let place = Place::find(&git, args)?;
    place.fetch(from, &args.to)?;
    let repo = LocalRepository::open(dir).map_err(failed)?;
    let tip = place.tip(&args.to)?;
    let candidate = match (from, &args.revert) {
        (Some(from), _) => forward(args, &place, &repo, from)?,
        (None, revert) => back(args, &git, &repo, tip.as_ref(), revert.as_deref())?,
    };
    let base = match &tip {
        Some(tip) => {
            Some(approval::below_heartbeats(tip, &|id| repo.bytes(id)).map_err(|id| missing(&id))?)
        }
        None => None,
    };
    let now_shown = match &tip {
        Some(tip) => Some(git.ask(&["rev-parse", "--verify", &format!("{tip}^{{tree}}")])?),
        None => None,
    };
    if now_shown.as_deref() == Some(candidate.tree.as_str()) {
        let text = format!(
            "{} has the content of {} already: nothing to promote\n",
            args.to, candidate.name
        );
        return Ok(if args.json {
            let answer = serde_json::json!({
                "to": args.to, "tree": candidate.tree, "promotes": candidate.commit, "commit": null, "classes": [],
            });
            format!("{answer}\n")
        } else {
            text
        });
    }

    say(&format!(
        "{}: tree {} of {} ({} {})",
        match &tip {
            Some(tip) => format!("onto {} at {}", args.to, tip.short()),
            None => format!("a new branch {}", args.to),
        },
        &candidate.tree[..10],
        candidate.name,
        candidate.commit.short(),
        candidate.subject
    ));
    trusted(args, dir, candidate.commit.as_str(), None, 0)?;
    let after = repo.documents(&candidate.commit).map_err(failed)?;
    let (_, problems) = lint(&after);
    if !problems.is_empty() {
        for problem in &problems {
            say(&problem.to_string());
        }
        return Err(refused(format!(
            "{} has {} problem(s), and a device would refuse it: nothing is promoted",
            candidate.name,
            problems.len()
        )));
    }
    let before = match &tip {
        Some(tip) => Some(repo.documents(tip).map_err(failed)?),
        None => None,
    };
    let classes = classes(before.as_ref(), &after)
        .map_err(|problems| refused(format!("{} does not resolve:\n{problems}", candidate.name)))?;
    if let Some(base) = &base {
        let stat = git.ask(&[
            "--no-pager",
            "diff",
            "--no-ext-diff",
            "--stat=100",
            base.as_str(),
            &candidate.tree,
            "--",
        ])?;
        say(&stat);
    }
    say(classes.show().trim_end());
    if args.dry_run {
        say("note: --dry-run: nothing is signed, and nothing has changed");
        return Ok(told(args, &place, &candidate, tip.as_ref(), &classes, None));
    }
    if !args.yes && !confirmed()? {
        return Err(Stop::from(anyhow::Error::msg("nothing has changed")));
    }

    let commit = made(args, &git, &candidate, tip.as_ref())?;
    // As a device of that branch would; before anybody sees it.
    trusted(args, dir, &commit, Some(&args.to), args.approvals.len())?;
    place.move_branch(args, &full, tip.as_ref(), &commit)?;
    Ok(told(
        args,
        &place,
        &candidate,
        tip.as_ref(),
        &classes,
        Some(&commit),
    ))
}

/// What `--from` shows.
fn forward(
    args: &Args,
    place: &Place<'_>,
    repo: &LocalRepository,
    from: &str,
) -> Result<Candidate, Stop> {
    let git = place.git;
    let tip = place.tip(from)?.ok_or_else(|| {
        usage(format!(
            "there is no branch `{from}` {}",
            place.where_it_looks()
        ))
    })?;
    let (commit, name) = match &args.revision {
        None => (
            approval::below_heartbeats(&tip, &|id| repo.bytes(id)).map_err(|id| missing(&id))?,
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
fn back(
    args: &Args,
    git: &Git,
    repo: &LocalRepository,
    tip: Option<&CommitId>,
    revert: Option<&str>,
) -> Result<Candidate, Stop> {
    let tip = tip.ok_or_else(|| usage(format!("there is no branch `{}` to revert", args.to)))?;
    let newest =
        approval::below_heartbeats(tip, &|id| repo.bytes(id)).map_err(|id| missing(&id))?;
    let line = git.ask(&[
        "log",
        "--first-parent",
        "--no-show-signature",
        "--format=%H %T",
        newest.as_str(),
    ])?;
    let mut commits = line.lines().filter_map(|line| line.split_once(' '));
    let shown = commits.next().map(|(_, tree)| tree).unwrap_or_default();
    let found = match revert {
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
            parsed(id)?
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
fn made(
    args: &Args,
    git: &Git,
    candidate: &Candidate,
    tip: Option<&CommitId>,
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

/// Judges a commit as a device does; `branch` where it must be for that one.
fn trusted(
    args: &Args,
    dir: &Path,
    commit: &str,
    branch: Option<&str>,
    approvals: usize,
) -> Result<(), Stop> {
    let git = Git::at(dir);
    let signers = match &args.allowed_signers {
        Some(file) => file.clone(),
        None => match git.file_setting("gpg.ssh.allowedSignersFile")? {
            Some(file) => match git.maybe(&["rev-parse", "--show-toplevel"])? {
                Some(top) if !top.is_empty() => Path::new(&top).join(file),
                Some(_) | None => PathBuf::from(file),
            },
            None => {
                return Err(usage(
                    "nothing says who may sign\nhint: --allowed-signers FILE names the list that devices go by, or `git config \
                     gpg.ssh.allowedSignersFile FILE`",
                ));
            }
        },
    };
    let question = verify::Args {
        revision: commit.to_owned(),
        repo: Some(dir.to_owned()),
        allowed_signers: Some(signers),
        branch: branch.map(str::to_owned),
        bind_branch: branch.is_some(),
        approvals: (approvals > 0).then(|| u8::try_from(approvals + 1).unwrap_or(u8::MAX)),
        ..verify::Args::default()
    };
    let said =
        verify::answer(&question, &|_| Err("no device here".to_owned())).map_err(|error| Stop {
            code: code::USAGE,
            error,
        })?;
    if said.code == 0 {
        return Ok(());
    }
    let what = match branch {
        None => "what is to be promoted is not trusted",
        Some(_) => "devices would not take the promotion",
    };
    Err(refused(format!(
        "{what}; nothing has changed\n{}",
        said.text.trim_end()
    )))
}

impl<'a> Place<'a> {
    fn find(git: &'a Git, args: &Args) -> Result<Self, Stop> {
        let remote = match &args.remote {
            _ if args.local => None,
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
        if remote.is_none() && !args.local {
            return Err(usage(
                "there is no remote `origin`\nhint: --remote NAME names the one that devices follow; --local works on the \
                 branches here",
            ));
        }
        Ok(Self { git, remote })
    }

    /// Brings what devices see.
    fn fetch(&self, from: Option<&str>, to: &str) -> Result<(), Stop> {
        let Some(remote) = &self.remote else {
            return Ok(());
        };
        let there = self
            .git
            .ask(&["ls-remote", "--heads", remote])
            .map_err(|error| {
                Stop::from(error.context(format!(
                    "{remote} cannot be asked\nhint: --local works on the branches here"
                )))
            })?;
        let mut arguments = vec!["fetch".to_owned(), "--quiet".to_owned(), remote.clone()];
        for branch in from.into_iter().chain([to]) {
            let full = format!("refs/heads/{branch}");
            let is_there = there
                .lines()
                .any(|line| line.ends_with(&format!("\t{full}")));
            if is_there {
                arguments.push(format!("+{full}:refs/remotes/{remote}/{branch}"));
            } else {
                // What was fetched once and is gone there is no branch that a device follows.
                let stale = format!("refs/remotes/{remote}/{branch}");
                if self.git.id(&stale)?.is_some() {
                    self.git.ask(&["update-ref", "-d", &stale])?;
                }
            }
        }
        if arguments.len() > 3 {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            self.git.ask(&arguments)?;
        }
        Ok(())
    }

    fn reference(&self, branch: &str) -> String {
        match &self.remote {
            Some(remote) => format!("refs/remotes/{remote}/{branch}"),
            None => format!("refs/heads/{branch}"),
        }
    }

    fn tip(&self, branch: &str) -> Result<Option<CommitId>, Stop> {
        let name = format!("{}^{{commit}}", self.reference(branch));
        match self.git.id(&name)? {
            Some(id) => parsed(&id).map(Some),
            None => Ok(None),
        }
    }

    fn where_it_looks(&self) -> String {
        match &self.remote {
            Some(remote) => format!("at {remote}"),
            None => "here (without --local the remote's is taken)".to_owned(),
        }
    }

    /// Pushes the branch to the commit if it is where it was, or moves it here.
    fn move_branch(
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
        self.git
            .ask(&["update-ref", &self.reference(branch), commit])?;
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

fn commit_of(git: &Git, revision: &str) -> Result<CommitId, Stop> {
    let id = git.id(&format!("{revision}^{{commit}}"))?.ok_or_else(|| {
        usage(format!(
            "there is no commit `{}` here",
            revision.escape_debug()
        ))
    })?;
    parsed(&id)
}

fn parsed(id: &str) -> Result<CommitId, Stop> {
    id.parse()
        .map_err(|_| Stop::from(anyhow::Error::msg(format!("`{id}` is not a commit's id"))))
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Stop {
    Stop::from(anyhow::Error::new(error))
}

fn missing(id: &CommitId) -> Stop {
    Stop::from(anyhow::Error::msg(format!(
        "commit {id} is not here, or is not one that a device would take\nhint: `git fetch --unshallow` where history is missing"
    )))
}

/// Asks, where somebody can answer; a script has decided already.
fn confirmed() -> Result<bool, Stop> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(true);
    }
    let mut err = std::io::stderr().lock();
    let _ = write!(err, "promote? [y/N] ");
    let _ = err.flush();
    let mut line = String::new();
    stdin
        .read_line(&mut line)
        .map_err(|error| Stop::from(anyhow::Error::new(error)))?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

fn told(
    args: &Args,
    place: &Place<'_>,
    candidate: &Candidate,
    tip: Option<&CommitId>,
    classes: &Classes,
    commit: Option<&str>,
) -> String {
    if args.json {
        let answer = serde_json::json!({
            "from": args.from,
            "to": args.to,
            "base": tip,
            "tree": candidate.tree,
            "promotes": candidate.commit,
            "reverts": candidate.reverts,
            "commit": commit,
            "pushed": commit.and(place.remote.as_ref()),
            "classes": classes.json(),
            "unchanged": classes.unchanged,
        });
        return format!("{answer}\n");
    }
    match (commit, &place.remote) {
        (None, _) => String::new(),
        (Some(commit), remote) => {
            let pushed = remote
                .as_ref()
                .map_or_else(String::new, |remote| format!(", pushed to {remote}"));
            format!(
                "{} is at {} now: {} of {}{pushed}\n",
                args.to,
                &commit[..10],
                candidate.commit.short(),
                candidate.name
            )
        }
    }
}
