//! `evenkeel init DIR`: a fleet repository that works, or what is missing in one.
//!
//! In an empty or new folder: a git repository with the rings `stable` and `canary`, signing by SSH, one app, a first signed
//! commit of each, and what CI at the common forges needs. In a fleet
//! repository that exists: only what is missing of the signing set-up and the hooks; no document of it changes, and
//! nothing is committed. Never overwrites a file or a hook, nor a setting of the user's own.

mod hook;
mod signer;
mod start;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use jiff::tz::TimeZone;

use self::hook::{Called, Installed};
use self::signer::signer;
use super::git::{Git, Stop, program_is_there, say, usage};
use super::{answer, code, fail, signed};
use crate::adapter::git_local::LocalRepository;
use crate::domain::revision::Timestamp;
use crate::trust::allowed_signers::AllowedSigners;
use crate::trust::policy::{BRANCH_TRAILER, Binding, TrustPolicy, Verdict};

/// The branch of a new repository.
const BRANCH: &str = "stable";

/// The ring that comes first.
const FIRST: &str = "canary";

/// The trust set in the repository.
const SIGNERS: &str = "allowed_signers";

/// A new fleet repository with a first app and a signing set-up that works, or what is missing in one.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder: new, empty, or a fleet repository.
    pub dir: PathBuf,
    /// The fleet's name. [default: the folder's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The SSH key to sign with: a private key, or the public half of one that an agent or hardware holds. [default: git's
    /// own, or one in ~/.ssh]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs it; the exit code: 0 done, 1 failed, 2 wrong usage.
#[must_use]
pub fn run(args: &Args) -> u8 {
    let mut done = Done::default();
    match init(args, &mut done) {
        Ok(()) => {
            answer(&done.text(args));
            code::DONE
        }
        Err(stop) => {
            for line in &done.lines {
                say(line);
            }
            fail(stop.code, &format!("{:#}", stop.error))
        }
    }
}

/// What was done.
#[derive(Debug, Default)]
struct Done {
    lines: Vec<String>,
    todo: Vec<String>,
    commit: Option<String>,
}

impl Done {
    fn line(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    fn text(&self, args: &Args) -> String {
        if args.json {
            let answer = serde_json::json!({
                "dir": args.dir,
                "commit": self.commit,
                "done": self.lines,
                "todo": self.todo,
            });
            return format!("{answer}\n");
        }
        let mut text: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
        if !self.todo.is_empty() {
            text.push_str("\nnext:\n");
            for todo in &self.todo {
                text.push_str(&format!("  {todo}\n"));
            }
        }
        text
    }
}

/// What a folder is.
enum Found {
    /// Nothing of anybody's: not there, empty, or a git repository without a commit and without a file.
    Empty,
    /// It has a fleet.toml.
    Fleet,
}

fn init(args: &Args, done: &mut Done) -> Result<(), Stop> {
    for program in ["git", "ssh-keygen"] {
        if !program_is_there(program) {
            return Err(usage(format!(
                "this needs `{program}`, which is not on this machine\nhint: apt-get install git openssh-client (a device itself \
                 needs neither)"
            )));
        }
    }
    let found = look(&args.dir)?;
    std::fs::create_dir_all(&args.dir)
        .with_context(|| format!("cannot make {}", args.dir.display()))?;
    let dir = args
        .dir
        .canonicalize()
        .with_context(|| format!("cannot read {}", args.dir.display()))?;
    let git = Git::at(&dir);
    repository(&git, &found, done)?;
    match found {
        Found::Empty => fresh(args, &git, done),
        Found::Fleet => complete(args, &git, done),
    }
}

fn look(dir: &Path) -> Result<Found, Stop> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Empty),
        Err(error) => {
            return Err(usage(format!("cannot read {}: {error}", dir.display())));
        }
    };
    if std::fs::symlink_metadata(dir.join("fleet.toml")).is_ok() {
        return Ok(Found::Fleet);
    }
    let others = entries
        .flatten()
        .filter(|entry| entry.file_name() != ".git")
        .count();
    let committed = dir.join(".git").exists() && Git::at(dir).id("HEAD")?.is_some();
    if others == 0 && !committed {
        Ok(Found::Empty)
    } else {
        Err(usage(format!(
            "{} is neither empty nor a fleet repository (it has no fleet.toml); nothing was changed\nhint: name a new folder",
            dir.display()
        )))
    }
}

/// There is a git repository whose top is this folder.
fn repository(git: &Git, found: &Found, done: &mut Done) -> Result<(), Stop> {
    if git.dir().join(".git").exists() {
        return Ok(());
    }
    let around = git.maybe(&["rev-parse", "--show-toplevel"])?;
    if let (Found::Fleet, Some(around)) = (found, around) {
        return Err(usage(format!(
            "{} is a folder of the git repository {around}, and a device reads fleet.toml at the top of one; nothing was changed",
            git.dir().display()
        )));
    }
    git.ask(&["init", "-q"])?;
    git.ask(&["symbolic-ref", "HEAD", &format!("refs/heads/{BRANCH}")])?;
    done.line(format!("made a git repository, on branch {BRANCH}"));
    Ok(())
}

/// An empty folder.
fn fresh(args: &Args, git: &Git, done: &mut Done) -> Result<(), Stop> {
    let fleet = match &args.name {
        Some(name) => name.clone(),
        None => git.dir().file_name().map_or_else(
            || "fleet".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        ),
    };
    if fleet.trim().is_empty() || fleet.trim() != fleet || fleet.chars().any(char::is_control) {
        return Err(usage(format!(
            "`{}` is no name for a fleet\nhint: --name NAME",
            fleet.escape_debug()
        )));
    }
    let head = git.ask(&["symbolic-ref", "HEAD"])?;
    let branch = head.strip_prefix("refs/heads/").unwrap_or(&head).to_owned();
    let signer = signer(args, git, done)?;
    hooks(git, done)?;
    let line = signer.allowed_line();
    let documents = start::documents(&fleet, &branch, &line);
    for (path, text) in &documents {
        create(&git.dir().join(path), text)?;
    }
    runs(&git.dir().join(start::CHECK))?;
    git.setting("gpg.ssh.allowedSignersFile")?.map_or_else(
        || {
            let file = git.dir().join(SIGNERS).display().to_string();
            git.ask(&["config", "gpg.ssh.allowedSignersFile", &file])
        },
        Ok,
    )?;
    let mut add = vec!["add", "--force", "--"];
    add.extend(documents.iter().map(|(path, _)| *path));
    git.ask(&add)?;
    let message = format!("Begin the fleet {fleet}");
    // Where a hook of somebody else's stands, ours does not write it.
    let trailer = format!("{BRANCH_TRAILER}: {branch}");
    let replace = "trailer.ifexists=replace";
    let commit = ["commit", "-q", "-S", "-m", &message, "--trailer", &trailer];
    git.ask(&[["-c", replace].as_slice(), &commit].concat())
        .map_err(|error| {
            error.context(
                "the first commit could not be made; the files are there and staged\nhint: `git commit -S` in it shows more",
            )
        })?;
    let commit = git.ask(&["rev-parse", "HEAD"])?;
    done.line(format!(
        "wrote {}",
        documents
            .iter()
            .map(|(path, _)| *path)
            .collect::<Vec<_>>()
            .join(", ")
    ));
    trusted(git, &branch)?;
    done.line(format!(
        "committed {} on {branch}, signed by {} with {}",
        &commit[..10],
        signer.principal,
        signer.public.split(' ').next().unwrap_or_default(),
    ));
    first_ring(git, &branch, &commit, done)?;
    done.commit = Some(commit);
    done.todo.push(format!(
        "cd {} && evenkeel lint . && evenkeel render . --device gw-0001",
        args.dir.display()
    ));
    done.todo.push(format!(
        "git remote add origin URL && git push -u origin {branch} {FIRST}"
    ));
    done.todo
        .push("README.md there says what a device needs".to_owned());
    Ok(())
}

/// The ring that comes before: the same content, as a commit of its own, for a commit is for one branch.
fn first_ring(git: &Git, branch: &str, commit: &str, done: &mut Done) -> Result<(), Stop> {
    let full = format!("refs/heads/{FIRST}");
    if branch == FIRST || git.id(&full)?.is_some() {
        return Ok(());
    }
    let tree = git.ask(&["rev-parse", "HEAD^{tree}"])?;
    let begun = signed::Commit {
        what: "first commit of a ring",
        tree: &tree,
        parents: &[commit],
        message: &format!("Begin the ring {FIRST}\n\n{BRANCH_TRAILER}: {FIRST}\n"),
    }
    .sign(git, None)?;
    git.ask(&["update-ref", "-m", "evenkeel init", &full, &begun])?;
    done.line(format!(
        "made the branch {FIRST}, the ring that gets a change first"
    ));
    Ok(())
}

/// A script that can be run.
fn runs(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} a program", file.display()))
}

/// A fleet repository: what is missing, and nothing else.
fn complete(args: &Args, git: &Git, done: &mut Done) -> Result<(), Stop> {
    let signs = git.setting("commit.gpgsign")?.as_deref() == Some("true")
        && (git.setting("user.signingkey")?.is_some()
            || git.setting("gpg.ssh.defaultKeyCommand")?.is_some());
    if signs && args.key.is_none() {
        done.line("git signs commits here already");
    } else {
        let signer = signer(args, git, done)?;
        let set = [SIGNERS, "trust/allowed_signers"]
            .iter()
            .any(|path| std::fs::symlink_metadata(git.dir().join(path)).is_ok());
        if !set {
            let text = format!("{}{}\n", start::ABOUT_SIGNERS, signer.allowed_line());
            create(&git.dir().join(SIGNERS), &text)?;
            done.line(format!("wrote {SIGNERS}"));
            done.todo
                .push(format!("git add {SIGNERS} && git commit -S"));
        }
    }
    hooks(git, done)?;
    begun(git, done)
}

/// What is left where the first commits were not made: signing failed, say.
fn begun(git: &Git, done: &mut Done) -> Result<(), Stop> {
    if git.id("HEAD")?.is_none() {
        done.todo
            .push("git commit -S -m 'Begin the fleet'".to_owned());
    }
    let branch = git.maybe(&["symbolic-ref", "--quiet", "--short", "HEAD"])?;
    let elsewhere = branch.is_none_or(|branch| branch == FIRST)
        || !git.ask(&["remote"])?.is_empty()
        || git.id(&format!("refs/heads/{FIRST}"))?.is_some();
    if !elsewhere {
        done.todo.push(format!(
            "git switch -q -c {FIRST} && git commit -S --allow-empty -m 'Begin the ring {FIRST}' && git switch -q -"
        ));
    }
    Ok(())
}

fn hooks(git: &Git, done: &mut Done) -> Result<(), Stop> {
    for installed in hook::install(git)? {
        match installed {
            Installed::New(path) => done.line(format!("installed the hook {}", path.display())),
            Installed::Updated(path) => done.line(format!("updated the hook {}", path.display())),
            Installed::Same(path) => done.line(format!("the hook {} is there", path.display())),
            Installed::Beside {
                theirs,
                called: Called::Yes,
                ..
            } => done.line(format!(
                "the hook {} is your own, and names ours",
                theirs.display()
            )),
            Installed::Beside {
                theirs,
                line,
                called: Called::No,
            } => {
                done.line(format!(
                    "the hook {} is your own and stays as it is",
                    theirs.display()
                ));
                done.todo.push(format!(
                    "add this line to {}:\n      {line}",
                    theirs.display()
                ));
            }
        }
    }
    Ok(())
}

/// Writes a file that is not there yet.
fn create(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let write = || {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// A device with this trust set would take the commit.
fn trusted(git: &Git, branch: &str) -> Result<(), Stop> {
    let file = git.dir().join(SIGNERS);
    let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let signers = AllowedSigners::parse(SIGNERS, &bytes, &TimeZone::system())
        .map_err(|error| Stop::from(anyhow::Error::new(error)))?;
    let mut policy = TrustPolicy::of(signers);
    policy.branch = branch.to_owned();
    policy.binding = Binding::Required;
    let raw = LocalRepository::open(git.dir())
        .and_then(|repository| repository.commit("HEAD", None))
        .map_err(|error| Stop::from(anyhow::Error::new(error)))?;
    match policy.judge(&raw, Timestamp(0)) {
        Verdict::Trusted(_) => Ok(()),
        Verdict::Refused(refused) => Err(anyhow::Error::msg(format!(
            "a device would refuse the first commit ({}): {}",
            refused.reason, refused.message
        ))
        .into()),
        Verdict::Undecided(why) => Err(anyhow::Error::msg(why).into()),
    }
}
