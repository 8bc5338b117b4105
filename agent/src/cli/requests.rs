//! `rollback`, `pause`, `resume`: requests to the daemon, or done here where none runs.

use super::control::Request;
use super::{ConfigArgs, here};

/// Back to a good revision, with no network; holds there until `resume`.
#[derive(Debug, clap::Args)]
pub struct RollbackArgs {
    /// The revision, or the first digits of its id; the previous good one with other content where none is given.
    rev: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// Stop applying changes; polling and reporting go on.
#[derive(Debug, clap::Args)]
pub struct PauseArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// Go on applying changes.
#[derive(Debug, clap::Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `rollback`.
pub fn rollback(args: &RollbackArgs) -> u8 {
    let request = Request::Rollback {
        rev: args.rev.clone(),
    };
    here::ask_or_do(&args.config, &request, args.json)
}

/// Runs `pause`.
pub fn pause(args: &PauseArgs) -> u8 {
    here::ask_or_do(&args.config, &Request::Pause, args.json)
}

/// Runs `resume`.
pub fn resume(args: &ResumeArgs) -> u8 {
    here::ask_or_do(&args.config, &Request::Resume, args.json)
}
