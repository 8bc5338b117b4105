//! `evenkeel verify`: the trust verdict on a commit, and why.
//!
//! Needs no device: a repository, a revision and a trust set. No floor is known here, so descent is judged against
//! `trust.pin` alone; and a key's window at the later of the commit's time and the time this program was built, as on a
//! device that has seen nothing yet.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use evenkeel_schema::agent_config::{AgentConfig, TrustSection};
use jiff::tz::TimeZone;

use crate::adapter::git_local::{LocalError, LocalRepository};
use crate::domain::revision::Timestamp;
use crate::trust::policy::{Binding, CheckResult, Examination, NamedBytes, TrustPolicy, Verdict};

/// The trust verdict on a commit, and why.
#[derive(Debug, clap::Args)]
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
    match answer(args, configuration) {
        Ok(answer) => {
            let mut err = std::io::stderr().lock();
            for warning in &answer.warnings {
                let _ = writeln!(err, "evenkeel: warning: {warning}");
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
    /// The exit code.
    pub code: u8,
}

/// The answer, without printing it.
///
/// # Errors
/// Wrong usage: no repository, no such revision, a file that cannot be read, no usable trust set.
pub fn answer(args: &Args, configuration: &Configuration<'_>) -> anyhow::Result<Answer> {
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
    let raw = repo
        .commit(&args.revision, policy.pin.as_ref())
        .map_err(|error| hint(error, "`git log` in the repository shows what is there"))?;
    let examination = policy.examine_with(&raw, &|id| repo.bytes(id), build_time());
    let code = match &examination.verdict {
        Verdict::Trusted(_) => 0,
        Verdict::Undecided(_) => 1,
        Verdict::Refused(_) => 3,
    };
    let text = if args.json {
        json(raw.id.as_str(), &examination, args)
    } else {
        people(&args.revision, &examination, args)
    };
    Ok(Answer {
        text,
        warnings,
        code,
    })
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

/// What the configuration says, with what the command line says in its place.
fn policy(args: &Args, configuration: &Configuration<'_>) -> anyhow::Result<TrustPolicy> {
    let alone = args.allowed_signers.is_some() || args.openpgp_keyring.is_some();
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
    let no_ssh = args.config.is_none() && alone && args.allowed_signers.is_none();
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

/// The verdict for programs, one line.
fn json(commit: &str, examination: &Examination, args: &Args) -> String {
    let (verdict, reason, principal, fingerprint, key_type) = match &examination.verdict {
        Verdict::Trusted(commit) => (
            "trusted",
            "ok",
            Some(commit.principal()),
            Some(commit.fingerprint()),
            Some(commit.key_type()),
        ),
        Verdict::Refused(refused) => (
            "refused",
            refused.reason.as_str(),
            refused.principal.as_deref(),
            refused.fingerprint.as_deref(),
            refused.key_type.as_deref(),
        ),
        // Not one of the documented answers, and so no reason either: exit code 1 says that nothing was decided.
        Verdict::Undecided(_) => ("undecided", "history-missing", None, None, None),
    };
    let mut answer = serde_json::json!({
        "commit": commit,
        "verdict": verdict,
        "reason": reason,
        "principal": principal,
        "fingerprint": fingerprint,
        "key_type": key_type,
    });
    if args.explain {
        let checks = examination.checks.iter().map(|check| {
            let (result, detail) = told(&check.result);
            serde_json::json!({"check": check.name, "input": check.input, "result": result, "detail": detail})
        });
        answer["checks"] = checks.collect();
    }
    format!("{answer}\n")
}

fn told(result: &CheckResult) -> (&'static str, &str) {
    match result {
        CheckResult::Passed(found) => ("passed", found),
        CheckResult::Failed(why) => ("failed", why),
        CheckResult::NotJudged(why) => ("not judged", why),
    }
}

/// The verdict for people.
fn people(revision: &str, examination: &Examination, args: &Args) -> String {
    let mut text = String::new();
    if args.explain {
        for check in &examination.checks {
            let (result, detail) = told(&check.result);
            let _ = writeln!(
                text,
                "{:<12}{result:<12}{}\n{:24}{detail}",
                check.name, check.input, ""
            );
        }
    }
    let _ = match &examination.verdict {
        Verdict::Trusted(commit) => writeln!(
            text,
            "{} is trusted: signed by {} with {} {}",
            commit.id(),
            commit.principal(),
            commit.key_type(),
            commit.fingerprint()
        ),
        Verdict::Refused(refused) => {
            let hint = if args.explain {
                String::new()
            } else {
                format!("\nhint: evenkeel verify --explain {revision} shows each check")
            };
            writeln!(
                text,
                "{} is refused ({}): {}{hint}",
                refused.commit, refused.reason, refused.message
            )
        }
        Verdict::Undecided(why) => writeln!(text, "{why}"),
    };
    text
}
