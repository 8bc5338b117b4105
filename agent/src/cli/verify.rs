//! `evenkeel verify`: the trust verdict on a commit, and why.
//!
//! Needs no device: a repository, a revision and a trust set. Judges by the rules of a device, as one whose floor is
//! `--floor`, or that has seen nothing yet: then descent is judged against `trust.pin` alone. A key's window is judged at
//! the later of the commit's time and the time this program was built. No device's state is read.

mod show;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use evenkeel_schema::agent_config::{AgentConfig, TrustSection, Verify};
use jiff::tz::TimeZone;

use crate::adapter::clock::SystemClock;
use crate::adapter::git_local::{LocalError, LocalRepository};
use crate::domain::revision::Timestamp;
use crate::port::clock::Clock as _;
use crate::trust::policy::{
    Anchor, Binding, Check, CheckResult, Memo, NamedBytes, Scene, TrustPolicy,
};
use show::{Detail, Told};

/// The trust verdict on a commit, and why.
#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// The commit: HEAD, a branch, a tag, a full or short id, with ~n and ^n.
    pub revision: String,
    /// The repository; the current directory's by default.
    #[arg(long, value_name = "DIR")]
    pub repo: Option<PathBuf>,
    /// OpenSSH allowed_signers; the configuration's by default.
    #[arg(long, value_name = "FILE")]
    pub allowed_signers: Option<PathBuf>,
    /// Certificates of those who sign with OpenPGP, as `gpg --export --armor` writes them; the configuration's by default.
    #[arg(long, value_name = "FILE")]
    pub openpgp_keyring: Option<PathBuf>,
    /// Judge for this branch; the configuration's by default.
    #[arg(long, value_name = "BRANCH")]
    pub branch: Option<String>,
    /// The commit's message must name that branch (`Fleet-Branch: <branch>`), as with trust.bind_branch.
    #[arg(long, requires = "branch")]
    pub bind_branch: bool,
    /// Judge as a device that is at this commit: the revision must descend from it, and what is before it is not judged.
    /// Without it, as a device that has seen nothing yet.
    #[arg(long, value_name = "REV")]
    pub floor: Option<String>,
    /// Judge each commit from the floor to the revision, as with trust.verify = "every-commit".
    #[arg(long)]
    pub every_commit: bool,
    /// How many distinct principals must have approved it for the branch, as with trust.approvals.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub approvals: Option<u8>,
    /// What counts no more, an OpenSSH KRL or public keys, one a line; the configuration's by default.
    #[arg(long, value_name = "FILE")]
    pub revoked: Option<PathBuf>,
    /// The device's configuration; not read where --allowed-signers or --openpgp-keyring is given and this is not. [default:
    /// /etc/evenkeel/agent.toml]
    #[arg(long, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
    /// Show each check, what it was made on and how it came out.
    #[arg(long)]
    pub explain: bool,
}

/// Where a device's configuration is.
const DEFAULT_CONFIG: &str = "/etc/evenkeel/agent.toml";

/// The largest file of keys read; the parsers have smaller limits of their own.
const MAX_FILE: u64 = 8 * 1024 * 1024;

/// Reads a device's configuration; the error is for people.
pub type Configuration<'a> = dyn Fn(&Path) -> Result<AgentConfig, String> + 'a;

/// Runs it; the exit code: 0 trusted, 1 not decided, 2 wrong usage, 3 refused.
#[must_use]
pub fn run(args: &Args, configuration: &Configuration<'_>) -> u8 {
    let clock = SystemClock::new();
    let now = clock.is_synchronised().then(|| clock.now());
    match answer_at(args, configuration, now) {
        Ok(answer) => {
            let mut err = std::io::stderr().lock();
            for warning in &answer.warnings {
                let _ = writeln!(err, "evenkeel: warning: {warning}");
            }
            for note in &answer.notes {
                let _ = writeln!(err, "evenkeel: note: {note}");
            }
            let mut out = std::io::stdout().lock();
            // A reader that went away is no error.
            let _ = out.write_all(answer.text.as_bytes());
            let _ = out.flush();
            answer.code
        }
        Err(error) => {
            let mut err = std::io::stderr().lock();
            let _ = writeln!(err, "evenkeel: {error:#}");
            2
        }
    }
}

/// What is said, and the exit code.
#[derive(Debug)]
pub struct Answer {
    /// For stdout.
    pub text: String,
    /// For stderr: lines of the trust set that are not used.
    pub warnings: Vec<String>,
    /// For stderr: in what a device might judge otherwise.
    pub notes: Vec<String>,
    /// The exit code.
    pub code: u8,
}

/// The answer as where no clock is known to be right, without printing it.
///
/// # Errors
/// Wrong usage: no repository, no such revision, a file that cannot be read, no usable trust set.
pub fn answer(args: &Args, configuration: &Configuration<'_>) -> anyhow::Result<Answer> {
    answer_at(args, configuration, None)
}

/// The answer, without printing it. `clock` is the time, where it is known to be right.
///
/// # Errors
/// As [`answer`].
pub fn answer_at(
    args: &Args,
    configuration: &Configuration<'_>,
    clock: Option<Timestamp>,
) -> anyhow::Result<Answer> {
    let policy = policy(args, configuration)?;
    let warnings = policy
        .signers
        .skipped()
        .iter()
        .map(|line| format!("{line}; this line grants nothing"))
        .chain(policy.warnings())
        .collect();
    let dir = args.repo.as_deref().unwrap_or(Path::new("."));
    let repo = LocalRepository::open(dir)
        .map_err(|error| hint(error, "name the repository with --repo DIR"))?;
    let missing = |error| hint(error, "`git log` in the repository shows what is there");
    let floor = args.floor.as_deref().map(|floor| repo.id(floor));
    let floor = floor.transpose().map_err(missing)?;
    let anchor = match (&floor, &policy.pin) {
        (Some(floor), _) => Anchor::Floor(floor),
        (None, Some(pin)) => Anchor::Pin(pin),
        (None, None) => Anchor::None,
    };
    let raw = repo
        .commit(&args.revision, anchor.commit())
        .map_err(missing)?;
    let history = repo
        .history(&raw.id, anchor.commit(), policy.extent(&raw.descent))
        .map_err(missing)?;
    let scene = Scene {
        tip: &raw,
        history: &history,
        anchor,
        adopted: &[],
        time_floor: build_time(),
        clock,
        memo: &Memo::default(),
    };
    let mut decision = policy.decide(scene);
    let mut checks = given(&policy, &scene);
    checks.append(&mut decision.checks);
    decision.checks = checks;
    let code = match show::told(&decision) {
        Told::Trusted(_) => 0,
        Told::Unknown(_) => 1,
        Told::Refused { .. } => 3,
    };
    let detail = if args.explain {
        Detail::Checks
    } else {
        Detail::Verdict
    };
    let text = if args.json {
        show::json(&raw, &decision, detail)
    } else {
        show::people(&args.revision, &raw, &decision, detail)
    };
    let mut notes = Vec::new();
    if floor.is_none() && reads_configuration(args) {
        notes.push(
            "judged as by a device that has seen nothing yet; --floor REV judges as one that is at REV \
             (`evenkeel status` on the device shows its floor)"
                .to_owned(),
        );
    }
    Ok(Answer {
        text,
        warnings,
        notes,
        code,
    })
}

/// What the verdict rests on beside the commits, for who wants to follow.
fn given(policy: &TrustPolicy, scene: &Scene<'_>) -> Vec<Check> {
    let fact = |input: &str, found: String| Check {
        name: "policy",
        input: input.to_owned(),
        result: CheckResult::NotJudged(found),
    };
    let branch = if policy.branch.is_empty() {
        "any".to_owned()
    } else {
        let bound = match policy.binding {
            Binding::Required => "; a commit must name it",
            Binding::NotRequired => "",
        };
        format!("`{}`{bound}", policy.branch)
    };
    let who = match &policy.branch_signers {
        None => "any signer".to_owned(),
        Some(signers) => signers.join(", "),
    };
    let which = match policy.verify {
        Verify::Tip => "the tip",
        Verify::EveryCommit => "each commit above the floor",
    };
    let root = policy.root.as_ref().map_or_else(
        || "nobody".to_owned(),
        |root| format!("{} of {}", root.threshold, root.signers.join(", ")),
    );
    let anchor = match scene.anchor {
        Anchor::None => "none: there is nothing to descend from".to_owned(),
        Anchor::Pin(commit) => format!("none yet; trust.pin {commit}"),
        Anchor::Floor(commit) => commit.to_string(),
    };
    let clock = scene.clock.map_or_else(
        || "not known to be right: no date is too late".to_owned(),
        |now| now.to_string(),
    );
    let mut facts = vec![
        fact(
            "trust set",
            format!(
                "{}: {} lines that grant something, {} that do not",
                policy.signers.file(),
                policy.signers.lines().len(),
                policy.signers.skipped().len()
            ),
        ),
        fact("revoked", policy.revoked.describe()),
        fact("branch", branch),
        fact("who may sign it", who),
        fact("judged", which.to_owned()),
        fact("approvals", policy.approvals.to_string()),
        fact("who may change the trust set in the repository", root),
    ];
    if !policy.heartbeat.is_empty() {
        facts.push(fact(
            "who may only say that it is alive",
            policy.heartbeat.join(", "),
        ));
    }
    facts.push(fact("floor", anchor));
    facts.push(fact("time floor", scene.time_floor.to_string()));
    facts.push(fact("clock", clock));
    facts
}

fn hint(error: LocalError, next: &str) -> anyhow::Error {
    let message = match &error {
        LocalError::NotARepository { .. } | LocalError::NoSuchRevision { .. } => {
            format!("{error}\nhint: {next}")
        }
        LocalError::Damaged { cause, .. } => format!("{error}: {cause}"),
    };
    anyhow::Error::msg(message)
}

/// When this program was built: no true clock shows less.
fn build_time() -> Timestamp {
    Timestamp(
        option_env!("EVENKEEL_BUILD_TIME")
            .and_then(|time| time.parse().ok())
            .unwrap_or(0),
    )
}

/// Whether a device's configuration counts.
fn reads_configuration(args: &Args) -> bool {
    args.config.is_some() || (args.allowed_signers.is_none() && args.openpgp_keyring.is_none())
}

/// What the configuration says, with what the command line says in its place.
fn policy(args: &Args, configuration: &Configuration<'_>) -> anyhow::Result<TrustPolicy> {
    let alone = !reads_configuration(args);
    let (mut trust, branch) = match &args.config {
        None if alone => (TrustSection::default(), String::new()),
        given => {
            let path = given.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG));
            let config = configuration(path).map_err(|why| {
                anyhow::Error::msg(format!(
                    "{why}\nhint: or name the trust set with --allowed-signers FILE"
                ))
            })?;
            (config.trust, config.source.branch)
        }
    };
    if let Some(file) = &args.openpgp_keyring {
        trust.openpgp_keyring = Some(file.clone());
    }
    // Without a configuration the trust set is what is named here, and nothing else.
    let no_ssh = alone && args.allowed_signers.is_none();
    if let Some(file) = &args.allowed_signers {
        trust.allowed_signers.clone_from(file);
    }
    if let Some(file) = &args.revoked {
        trust.revoked = Some(file.clone());
    }
    let branch = args.branch.as_deref().unwrap_or(&branch);
    let signers = if no_ssh {
        Vec::new()
    } else {
        read(&trust.allowed_signers)?
    };
    let revoked = match &trust.revoked {
        Some(file) => Some((file.display().to_string(), read(file)?)),
        None => None,
    };
    let mut policy = TrustPolicy::load(
        &trust,
        branch,
        NamedBytes {
            name: &trust.allowed_signers.display().to_string(),
            bytes: &signers,
        },
        revoked
            .as_ref()
            .map(|(name, bytes)| NamedBytes { name, bytes }),
        &TimeZone::system(),
    )?;
    if let Some(file) = &trust.openpgp_keyring {
        policy = policy.with_keyring(NamedBytes {
            name: &file.display().to_string(),
            bytes: &read(file)?,
        })?;
    }
    if args.bind_branch {
        policy.binding = Binding::Required;
    }
    if args.every_commit {
        policy.verify = Verify::EveryCommit;
    }
    if let Some(approvals) = args.approvals {
        policy.approvals = usize::from(approvals);
    }
    if policy.approvals > 1 && policy.branch.is_empty() {
        anyhow::bail!("approvals are for a branch\nhint: name it with --branch BRANCH");
    }
    Ok(policy)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let read = || {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path)?;
        file.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}
