//! `evenkeel trust`: the trust state of this device, and the way out when it is lost.

use clap::Subcommand;

use super::control::Request;
use super::{ConfigArgs, code, device, fail};

/// The trust state of this device.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set the anti-rollback floor: after this the device takes a tip that descends from the commit.
    Reset(ResetArgs),
}

#[derive(Debug, clap::Args)]
struct ResetArgs {
    /// The commit, with its full id.
    #[arg(long, value_name = "COMMIT")]
    to: String,
    #[command(flatten)]
    config: ConfigArgs,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &Args) -> u8 {
    let Command::Reset(args) = &args.command;
    match args.to.parse() {
        Ok(to) => device::ask_or_do(&args.config, &Request::ResetFloor { to }, args.json),
        Err(error) => fail(code::USAGE, &format!("--to: {error}")),
    }
}
