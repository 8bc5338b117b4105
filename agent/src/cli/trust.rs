//! `evenkeel trust`: the trust state of this device, and the way out when it is lost.

use clap::Subcommand;

use super::control::{Line, Request};
use super::reach::{Reached, reach};
use super::{ConfigArgs, answer, code, device, fail, here, show, trust_sign};

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
    /// The trust set in force: each key, where it comes from, what it may do and until when; and the floor.
    Status(StatusArgs),
    /// Sign the trust set of a fleet repository, as one of root's signers.
    Sign(trust_sign::Args),
}

#[derive(Debug, clap::Args)]
struct StatusArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
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
    match &args.command {
        Command::Reset(args) => reset(args),
        Command::Status(args) => status(args),
        Command::Sign(args) => trust_sign::run(args),
    }
}

fn status(args: &StatusArgs) -> u8 {
    let json = match reach(&args.config, &Request::Trust, device::Need::State) {
        Ok(Reached::Answered(Line::Answer { code, text, json })) => {
            if code != code::DONE {
                return fail(code, &text);
            }
            json
        }
        Ok(Reached::Answered(Line::Event(_))) => {
            return fail(code::FAILED, "the daemon gave no answer");
        }
        Ok(Reached::Opened(device)) => show::trust::json(&device.agent.trust_state()),
        Err(failure) => return failure.tell(),
    };
    let usable = json["problem"].is_null();
    if args.json {
        answer(&json.to_string());
    } else {
        answer(&show::trust::human(&json, show::Style::of_stdout()));
    }
    if usable { code::DONE } else { code::USAGE }
}

fn reset(args: &ResetArgs) -> u8 {
    match args.to.parse() {
        Ok(to) => here::ask_or_do(&args.config, &Request::ResetFloor { to }, args.json),
        Err(error) => fail(code::USAGE, &format!("--to: {error}")),
    }
}
