//! The command line: one file a verb. stdout is the answer, stderr the talk.

pub mod adopt;
mod again;
pub mod approve;
pub mod bundle;
mod configuration;
pub mod control;
mod credentials;
pub mod demo;
mod device;
pub mod enroll;
mod everyone;
mod fleet_dir;
mod git;
pub mod heartbeat;
mod here;
pub mod history;
pub mod init;
pub mod leave;
mod limits;
pub mod lint;
mod machine;
pub mod plan;
pub mod promote;
pub mod publish;
mod reach;
pub mod render;
pub mod report;
pub mod requests;
pub mod rollout;
pub mod run;
pub mod schema;
pub mod show;
mod sign;
mod signed;
pub mod status;
mod stuck;
pub mod sync;
pub mod trust;
pub mod trust_sign;
pub mod verify;

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// The exit codes, as the README lists them.
pub mod code {
    /// Done; for `sync`: converged.
    pub const DONE: u8 = 0;
    /// Failed, worth trying again.
    pub const FAILED: u8 = 1;
    /// Wrong usage or configuration.
    pub const USAGE: u8 = 2;
    /// Refused: trust, guard or schema.
    pub const REFUSED: u8 = 3;
}

/// Where agent.toml is.
pub const DEFAULT_CONFIG: &str = "/etc/evenkeel/agent.toml";

/// Keeps this device at a signed git branch.
#[derive(Debug, Parser)]
#[command(name = "evenkeel", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What names the device's configuration.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigArgs {
    /// The device's configuration.
    #[arg(long, default_value = DEFAULT_CONFIG, value_name = "PATH")]
    pub config: PathBuf,
    /// A repository on this machine that is asked instead of `source.url`: of a verb that offers it.
    #[arg(skip)]
    pub from: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon.
    Run(run::Args),
    /// One pass now: asks the running daemon, or does it here where none runs.
    Sync(sync::Args),
    /// Where the device is, and whether that is where it should be.
    Status(status::Args),
    /// What a pass would change; changes nothing.
    Plan(plan::Args),
    /// The deployments this device made, how each ended and why.
    History(history::Args),
    /// Back to a good revision, with no network; holds there until `resume`.
    Rollback(requests::RollbackArgs),
    /// What this device says of itself, signed; or whether such a report is true to its device.
    Report(report::Args),
    /// Stop applying changes; polling and reporting go on.
    Pause(requests::PauseArgs),
    /// Go on applying changes, after `pause` or `rollback`.
    Resume(requests::ResumeArgs),
    /// This device's identity, and its document for the fleet repository.
    Enroll(enroll::Args),
    /// What stands on this device already, as an app; and taking it over without a restart.
    Adopt(adopt::Args),
    /// Hand this device back: what runs goes on, and nothing of evenkeel is left at work.
    Leave(leave::Args),
    /// Whether a commit is trusted, and why.
    Verify(verify::Args),
    /// Check a fleet repository: every document, every device, every app.
    Lint(lint::Args),
    /// What one device would get from a fleet repository.
    Render(render::Args),
    /// Who comes when in the rollouts of a fleet repository.
    Rollout(rollout::Args),
    /// A new fleet repository with a first app and a signing set-up, or what is missing in one.
    Init(init::Args),
    /// Sign for a revision to become what a branch shows next.
    Approve(approve::Args),
    /// Make what one branch shows what another one shows next, as a signed commit.
    Promote(promote::Args),
    /// Make a static tree of a branch, for any web server, object store or CDN.
    Publish(publish::Args),
    /// Make a static tree of a branch with its images, to carry by hand.
    Bundle(bundle::Args),
    /// Say that a branch is alive: a signed commit that changes nothing.
    Heartbeat(heartbeat::Args),
    /// JSON Schema of the documents, for editors.
    Schema(schema::Args),
    /// The trust state of this device.
    Trust(trust::Args),
    /// The whole story on this machine in a minute.
    Demo(demo::Args),
    /// What the containers of the demo run.
    #[command(hide = true)]
    DemoApp(demo::AppArgs),
}

/// Parses the command line and does what it says. Returns the exit code.
#[must_use]
pub fn main() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap's own rule: help and version are answers (0), the rest is wrong usage (2).
            let _ = error.print();
            return if error.use_stderr() {
                code::USAGE
            } else {
                code::DONE
            };
        }
    };
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Sync(args) => sync::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::History(args) => history::run(&args),
        Command::Rollback(args) => requests::rollback(&args),
        Command::Report(args) => report::run(&args),
        Command::Pause(args) => requests::pause(&args),
        Command::Resume(args) => requests::resume(&args),
        Command::Enroll(args) => enroll::run(&args),
        Command::Adopt(args) => adopt::run(&args),
        Command::Leave(args) => leave::run(&args),
        Command::Verify(args) => verify::run(&args, &|path| {
            device::configuration_at(path).map_err(|failure| failure.to_string())
        }),
        Command::Lint(args) => lint::run(&args),
        Command::Render(args) => render::run(&args),
        Command::Rollout(args) => rollout::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Approve(args) => approve::run(&args),
        Command::Promote(args) => promote::run(&args),
        Command::Publish(args) => publish::run(&args),
        Command::Bundle(args) => bundle::run(&args),
        Command::Heartbeat(args) => heartbeat::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Trust(args) => trust::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::DemoApp(args) => demo::app(&args),
    }
}

/// Writes an answer to stdout. A reader that went away (`| head`) is no error.
pub(crate) fn answer(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    if !text.ends_with('\n') {
        let _ = out.write_all(b"\n");
    }
    let _ = out.flush();
}

/// Writes an error to stderr, and gives back its exit code.
pub(crate) fn fail(code: u8, message: &str) -> u8 {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "evenkeel: {message}");
    code
}

/// The runtime: one thread, no pool but for blocking work.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, std::io::Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // gix's work; idle threads go away, so that an idle agent is one thread.
        .thread_keep_alive(std::time::Duration::from_secs(1))
        .build()
}
