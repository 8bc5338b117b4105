//! `evenkeel approve --branch B REV`: one person's word that the tree of REV may be what the branch shows next.
//!
//! What is signed is made by the same functions that a device judges it with (`trust::approval`). stdout is the trailer that
//! the commit has to carry, and nothing else; what is being approved is shown on stderr.

use std::path::{Path, PathBuf};

use super::git::{Git, Stop, missing, parse, say, usage};
use super::sign::SigningKey;
use super::{answer, code, fail};
use crate::adapter::git_local::LocalRepository;
use crate::domain::revision::{CommitId, TreeId};
use crate::trust::approval::{self, APPROVAL_NAMESPACE, APPROVAL_TRAILER};

/// Sign for a revision to become what a branch shows next; prints the trailer that its commit must carry.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What is approved: a commit (its tree is), or a tree.
    pub revision: String,
    /// The branch that it is approved for.
    #[arg(long, value_name = "BRANCH")]
    pub branch: String,
    /// The repository; the current directory's by default.
    #[arg(long, value_name = "DIR")]
    pub repo: Option<PathBuf>,
    /// The key to sign with: a private key, or the public half of one that an agent or hardware holds. git's own by default.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The commit that it will be put on. [default: the branch here, or as last fetched]
    #[arg(long, value_name = "REV")]
    pub base: Option<String>,
    /// The fleet that it must be for. [default: what fleet.toml in it says]
    #[arg(long, value_name = "NAME")]
    pub fleet: Option<String>,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs it; the exit code: 0 signed, 1 not signed, 2 wrong usage.
#[must_use]
pub fn run(args: &Args) -> u8 {
    match approve(args) {
        Ok(text) => {
            answer(&text);
            code::DONE
        }
        Err(stop) => fail(stop.code, &format!("{:#}", stop.error)),
    }
}

/// What a branch is at.
struct Base {
    /// The commit, heartbeats aside; `None`: there is no such branch yet.
    commit: Option<CommitId>,
    /// How it was found, for people.
    from: String,
}

fn approve(args: &Args) -> Result<String, Stop> {
    let dir = args.repo.as_deref().unwrap_or(Path::new("."));
    let git = Git::repository(dir)?;
    let full = git.branch(&args.branch)?;
    let tree: TreeId = git
        .id(&format!("{}^{{tree}}", args.revision))?
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| {
            usage(format!(
                "there is no revision `{}` in {}\nhint: `git fetch`, then `git log --all` shows what is there",
                args.revision.escape_debug(),
                dir.display()
            ))
        })?;
    let fleet = fleet(&git, args, &tree)?;
    let base = base(&git, args, &full)?;
    show(&git, args, &fleet, &tree, &base)?;

    let key = SigningKey::choose(&git, args.key.as_deref()).map_err(|error| Stop {
        code: code::USAGE,
        error,
    })?;
    let message = approval::statement(&fleet, &args.branch, &tree, base.commit.as_ref());
    let signed = key.sign(&git, APPROVAL_NAMESPACE, message.as_bytes())?;
    say(&format!("signed with {}", signed.key));
    let trailer = format!("{APPROVAL_TRAILER}: {fleet} {}", signed.base64);
    Ok(if args.json {
        let answer = serde_json::json!({
            "fleet": fleet,
            "branch": args.branch,
            "tree": tree,
            "base": base.commit,
            "base_from": base.from,
            "key": signed.key,
            "trailer": trailer,
        });
        format!("{answer}\n")
    } else {
        format!("{trailer}\n")
    })
}

/// The fleet's name: what fleet.toml says, which `--fleet` may only confirm.
fn fleet(git: &Git, args: &Args, tree: &TreeId) -> Result<String, Stop> {
    let revision = &args.revision;
    let document = git.maybe(&["cat-file", "blob", &format!("{tree}:fleet.toml")])?;
    let name = match (document, &args.fleet) {
        (Some(text), _) => {
            let mut problems = evenkeel_schema::diagnostic::Diagnostics::default();
            let version = env!("CARGO_PKG_VERSION");
            let fleet = evenkeel_schema::fleet::parse(
                "fleet.toml",
                text.as_bytes(),
                version,
                &mut problems,
            );
            fleet
                .ok()
                .flatten()
                .map(|fleet| fleet.name)
                .ok_or_else(|| {
                    usage(format!(
                        "fleet.toml of `{revision}` does not say which fleet it is:\n{problems}"
                    ))
                })?
        }
        (None, Some(name)) => name.clone(),
        (None, None) => {
            return Err(usage(format!(
                "`{revision}` has no fleet.toml, so it is not a fleet's\nhint: name the fleet with --fleet NAME"
            )));
        }
    };
    if let Some(wanted) = args.fleet.as_ref().filter(|wanted| **wanted != name) {
        return Err(usage(format!(
            "`{revision}` is of the fleet `{}`, not of `{}`: nothing is signed",
            name.escape_debug(),
            wanted.escape_debug()
        )));
    }
    // In the trailer it stands before the signature, on one line, with single blanks.
    let one_line = name.split(' ').all(|word| !word.is_empty())
        && !name.chars().any(char::is_control)
        && !name.contains(approval::MARK);
    if one_line {
        Ok(name)
    } else {
        Err(usage(format!(
            "the fleet's name `{}` cannot be written into a trailer\nhint: give it a name of plain words with single blanks",
            name.escape_debug()
        )))
    }
}

/// What REV would be put on: `--base`; where REV is the branch's tip already, what that was put on; or else the tip of the
/// branch here, or as last fetched.
fn base(git: &Git, args: &Args, full: &str) -> Result<Base, Stop> {
    let repo =
        LocalRepository::open(git.dir()).map_err(|error| Stop::from(anyhow::Error::new(error)))?;
    let read = |id: &CommitId| repo.bytes(id);
    if let Some(base) = &args.base {
        let id = git.id(&format!("{base}^{{commit}}"))?.ok_or_else(|| {
            usage(format!(
                "--base: there is no commit `{}`",
                base.escape_debug()
            ))
        })?;
        return settled(base, &parse(base, &id)?, &read);
    }
    let remotes = remote_refs(git, &args.branch)?;
    let here = git.id(full)?.map(|id| (full.to_owned(), id));
    let tips: Vec<(String, String)> = here.iter().chain(&remotes).cloned().collect();
    // Not of a tree: the one above is not known for that.
    let asked = git.id(&format!("{}^{{commit}}", args.revision))?;
    for (name, tip) in &tips {
        let at = parse(name, tip)?;
        let below = approval::below_heartbeats(&at, &read).map_err(missing)?;
        let found = [&at, &below]
            .into_iter()
            .find(|id| asked.as_deref() == Some(id.as_str()));
        if let Some(asked) = found {
            return Ok(Base {
                commit: approval::base_of(asked, &read).map_err(missing)?,
                from: format!("below {}, which is at {name} already", asked.short()),
            });
        }
    }
    if let (Some((_, here)), Some((remote, there))) = (&here, remotes.first())
        && here != there
    {
        say(&format!(
            "note: {full} is not where {remote} was last fetched ({} and {}); --base names another commit than the first",
            &here[..10],
            &there[..10]
        ));
    }
    match tips.first() {
        Some((name, id)) => settled(name, &parse(name, id)?, &read),
        None => Ok(Base {
            commit: None,
            from: format!(
                "no branch `{}` here or as last fetched: it would be a new one",
                args.branch
            ),
        }),
    }
}

/// A branch's tip, heartbeats aside.
fn settled(
    name: &str,
    id: &CommitId,
    read: &dyn Fn(&CommitId) -> Option<Vec<u8>>,
) -> Result<Base, Stop> {
    let commit = approval::below_heartbeats(id, read).map_err(missing)?;
    let from = if commit == *id {
        name.to_owned()
    } else {
        format!("{name}, heartbeats aside")
    };
    Ok(Base {
        commit: Some(commit),
        from,
    })
}

/// The branch as it was last fetched: from its own remote, from `origin`, or from the only one that has it.
fn remote_refs(git: &Git, branch: &str) -> Result<Vec<(String, String)>, Stop> {
    let own = git.setting(&format!("branch.{branch}.remote"))?;
    for remote in own.iter().map(String::as_str).chain(["origin"]) {
        let name = format!("refs/remotes/{remote}/{branch}");
        if let Some(id) = git.id(&name)? {
            return Ok(vec![(name, id)]);
        }
    }
    let mut found = Vec::new();
    for remote in git.ask(&["remote"])?.lines() {
        let name = format!("refs/remotes/{remote}/{branch}");
        if let Some(id) = git.id(&name)? {
            found.push((name, id));
        }
    }
    if found.len() > 1 {
        return Err(usage(format!(
            "several remotes have a branch `{branch}`\nhint: --base {} names the one that devices follow",
            found[0].0
        )));
    }
    Ok(found)
}

/// What is being approved, on stderr.
fn show(git: &Git, args: &Args, fleet: &str, tree: &TreeId, base: &Base) -> Result<(), Stop> {
    say(&format!(
        "approving for branch `{}` of the fleet `{fleet}`: tree {} of {}",
        args.branch,
        tree.short(),
        args.revision
    ));
    say(&format!(
        "on top of {} ({})",
        base.commit.as_ref().map_or("nothing", CommitId::short),
        base.from
    ));
    let before = match &base.commit {
        Some(commit) => commit.to_string(),
        // The empty tree's id, in the repository's own object format.
        None => git.ask(&["hash-object", "-t", "tree", "--stdin"])?,
    };
    let changed = git.ask(&[
        "--no-pager",
        "diff",
        "--no-ext-diff",
        "--stat=100",
        &before,
        tree.as_str(),
        "--",
    ])?;
    say(if changed.is_empty() {
        " no change: the branch has this content already (--base names the commit that it would have to be put on)"
    } else {
        &changed
    });
    Ok(())
}
