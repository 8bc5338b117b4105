//! `evenkeel promote --from canary --to stable`: what one branch shows becomes what another one shows next, as one signed commit.
//!
//! The commit has the promoted tree, whole, and both branches as parents, the target's tip first. It is made by git's plumbing,
//! without a work tree, judged as a device would judge it, and pushed with a lease; after anything that is refused, nothing
//! has moved.
//!
//! Refuses: a revision that is not trusted, a tree in which `lint` finds a problem, a ring that does not meet the gate, a signature
//! that no device would take.

mod candidate;
mod classes;
mod gate;
mod place;
mod turns;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use self::candidate::{Candidate, back, forward, made};
use self::classes::{Classes, classes};
use self::gate::{Judged, judged};
use self::place::Place;
use self::turns::Rollouts;
use super::git::{Git, Stop, say, usage};
use super::lint::binaries;
use super::{answer, code, everyone, fail, verify};
use crate::adapter::git_local::LocalRepository;
use crate::domain::revision::Timestamp;
use crate::domain::tree::Tree;

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
    /// Judge the gate by the signed reports in this folder.
    #[arg(long, value_name = "DIR", conflicts_with = "revert")]
    pub reports: Option<PathBuf>,
    /// Judge the gate by this Prometheus server. [default: what fleet.toml names]
    #[arg(long, value_name = "URL", conflicts_with_all = ["reports", "revert"])]
    pub prometheus: Option<String>,
    /// A file with a bearer token for the Prometheus server.
    #[arg(long, value_name = "FILE")]
    pub prometheus_token: Option<PathBuf>,
    /// The only authorities that are trusted for the Prometheus server, PEM.
    #[arg(long, value_name = "FILE")]
    pub prometheus_ca: Option<PathBuf>,
    /// Promote although the gate is not met, or cannot be judged: for this reason, which the commit records.
    #[arg(long = "override", value_name = "REASON", conflicts_with = "revert")]
    pub override_gate: Option<String>,
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
        Ok(Said { text, unmet: None }) => {
            answer(&text);
            code::DONE
        }
        Ok(Said {
            text,
            unmet: Some(why),
        }) => {
            if !text.is_empty() {
                answer(&text);
            }
            fail(code::REFUSED, &why)
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

/// What is said at the end.
struct Said {
    text: String,
    /// Why the gate holds the promotion.
    unmet: Option<String>,
}

impl From<String> for Said {
    fn from(text: String) -> Self {
        Self { text, unmet: None }
    }
}

fn promote(args: &Args) -> Result<Said, Stop> {
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
    let judge = Judge::new(args, &git)?;
    let branches: Vec<&str> = from.into_iter().chain([args.to.as_str()]).collect();
    let place = Place::look(&git, args, &branches)?;
    let repo = LocalRepository::open(dir).map_err(failed)?;
    let tip = place.tip(&args.to);
    let candidate = match from {
        Some(from) => forward(args, &git, &place, &repo, from)?,
        None => back(args, &git, &repo, tip)?,
    };
    let mut promotion = Promotion {
        args,
        place: &place,
        candidate,
        classes: Classes::default(),
        rollouts: Rollouts::default(),
        gate: None,
    };
    if let Some(tip) = tip
        && git.ask(&["rev-parse", "--verify", &format!("{tip}^{{tree}}")])?
            == promotion.candidate.tree
    {
        return Ok(if args.json {
            promotion.told(None)
        } else {
            format!(
                "{} has the content of {} already: nothing to promote\n",
                args.to, promotion.candidate.name
            )
        }
        .into());
    }
    let candidate = &promotion.candidate;
    say(&format!(
        "{}: tree {} of {} ({} {})",
        match tip {
            Some(tip) => format!("onto {} at {}", args.to, tip.short()),
            None => format!("a new branch {}", args.to),
        },
        &candidate.tree[..10],
        candidate.name,
        candidate.commit.short(),
        candidate.subject
    ));
    judge.trusts(candidate.commit.as_str(), None, 0)?;
    let after = without_mistake(&repo, candidate)?;
    let before = match tip {
        Some(tip) => Some(repo.documents(tip).map_err(failed)?),
        None => None,
    };
    let unresolved =
        |problems| refused(format!("{} does not resolve:\n{problems}", candidate.name));
    let found = classes(before.as_ref(), &after).map_err(unresolved)?;
    let now = Timestamp(jiff::Timestamp::now().as_second());
    let rollouts = Rollouts::of(&after, &found, now).map_err(unresolved)?;
    if let Some(tip) = tip {
        say(&git.ask(&[
            "--no-pager",
            "diff",
            "--no-ext-diff",
            "--stat=100",
            tip.as_str(),
            &candidate.tree,
            "--",
        ])?);
    }
    say(found.show().trim_end());
    let standing = rollouts.show();
    if !standing.is_empty() {
        say(standing.trim_end());
    }
    (promotion.classes, promotion.rollouts) = (found, rollouts);
    if let (Some(from), Some(tip)) = (from, from.and_then(|from| place.tip(from))) {
        let what = gate::Question {
            args,
            git: &git,
            from,
            tip,
            candidate: &promotion.candidate,
            before: before.as_ref(),
            after: &after,
        };
        promotion.gate = judged(&what)?;
    }
    let unmet = promotion.gate.as_ref().and_then(Judged::holds);
    if args.dry_run {
        say("note: --dry-run: nothing is signed, and nothing has changed");
    }
    if args.dry_run || unmet.is_some() {
        let text = promotion.told(None);
        return Ok(Said { text, unmet });
    }
    if !args.yes && !confirmed()? {
        return Err(Stop::from(anyhow::Error::msg("nothing has changed")));
    }
    let trailers = promotion.gate.as_ref().map(Judged::trailers);
    let commit = made(
        args,
        &git,
        &promotion.candidate,
        tip,
        &trailers.unwrap_or_default(),
    )?;
    // As a device of that branch would; before anybody sees it.
    judge.trusts(&commit, Some(&args.to), args.approvals.len())?;
    place.move_branch(args, &full, tip, &commit)?;
    Ok(promotion.told(Some(&commit)).into())
}

/// The documents of what is promoted, where `lint` has nothing to say.
fn without_mistake(repo: &LocalRepository, candidate: &Candidate) -> Result<Tree, Stop> {
    let tree = repo.documents(&candidate.commit).map_err(failed)?;
    let (_, mut problems) = everyone::lint(&tree);
    problems.extend(binaries::of_commit(repo, &candidate.commit, &tree));
    if problems.is_empty() {
        return Ok(tree);
    }
    for problem in &problems {
        say(&problem.to_string());
    }
    Err(refused(format!(
        "{} has {} problem(s), and a device would refuse it: nothing is promoted",
        candidate.name,
        problems.len()
    )))
}

/// Judges commits as a device does.
struct Judge<'a> {
    dir: &'a Path,
    signers: PathBuf,
}

impl<'a> Judge<'a> {
    fn new(args: &Args, git: &'a Git) -> Result<Self, Stop> {
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
        Ok(Self {
            dir: git.dir(),
            signers,
        })
    }

    /// Refuses what no device would take. `branch` where it must be for that one, with so many approvals.
    fn trusts(&self, commit: &str, branch: Option<&str>, approvals: usize) -> Result<(), Stop> {
        let question = verify::Args {
            revision: commit.to_owned(),
            repo: Some(self.dir.to_owned()),
            allowed_signers: Some(self.signers.clone()),
            branch: branch.map(str::to_owned),
            bind_branch: branch.is_some(),
            approvals: (approvals > 0).then(|| u8::try_from(approvals + 1).unwrap_or(u8::MAX)),
            ..verify::Args::default()
        };
        let no_device = |_: &Path| Err("no device here".to_owned());
        let said = verify::answer(&question, &no_device).map_err(|error| Stop {
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
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Stop {
    Stop::from(anyhow::Error::new(error))
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

/// What is promoted where, for the answer.
struct Promotion<'a> {
    args: &'a Args,
    place: &'a Place<'a>,
    candidate: Candidate,
    classes: Classes,
    rollouts: Rollouts,
    gate: Option<Judged>,
}

impl Promotion<'_> {
    /// The answer; `commit` where one was made.
    fn told(&self, commit: Option<&str>) -> String {
        let Self {
            args,
            place,
            candidate,
            classes,
            rollouts,
            gate,
        } = self;
        let tip = place.tip(&args.to);
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
                "rollouts": rollouts.json(),
                "gate": gate.as_ref().map(Judged::json),
            });
            return format!("{answer}\n");
        }
        match commit {
            None => String::new(),
            Some(commit) => {
                let pushed = place
                    .remote
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
}
