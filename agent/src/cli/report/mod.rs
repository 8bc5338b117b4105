//! `evenkeel report`: what this device says of itself, signed by its identity; and `report verify`, for who has the fleet
//! repository.

pub(super) mod receipt;
pub(super) mod tell;
pub(super) mod verify;

use std::path::PathBuf;

use clap::Subcommand;

use super::device::Failure;
use super::status::{self, Told};
use super::{ConfigArgs, answer, code, configuration, credentials, device, machine};
use crate::adapter::{identity, reports};
use crate::domain::device_report::DeviceReport;
use crate::domain::text::chain;

/// What this device says of itself, signed with its identity's key.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Verb>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Put it into this folder, as <id>.report, instead of printing it.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Whether signed reports are true to the devices that the fleet repository declares.
    Verify(verify::Args),
}

/// Runs it; the exit code: 0 told, 1 failed, 2 wrong usage or configuration.
#[must_use]
pub fn run(args: &Args) -> u8 {
    match &args.command {
        Some(Verb::Verify(args)) => verify::run(args),
        None => match make(args) {
            Ok(text) => {
                answer(&text);
                code::DONE
            }
            Err(failure) => failure.tell(),
        },
    }
}

fn make(args: &Args) -> Result<String, Failure> {
    let config = configuration::configuration(&args.config)?;
    let (report, told) = status::look(&args.config)?;
    let now = match told {
        Told::ByDaemon => device::now(),
        // Nobody has looked since.
        Told::FromMemory => report.poll.last.ok_or_else(|| {
            Failure::failed(
                "this device has not asked its remote yet, and no daemon runs: `evenkeel sync` first",
            )
        })?,
    };
    let draft = DeviceReport::of(&report, env!("CARGO_PKG_VERSION"));
    let signed = signed(&config.state_dir, draft, now).map_err(Failure::failed)?;
    match &args.dir {
        None => Ok(signed.text),
        Some(dir) => {
            let file =
                reports::put(dir, &signed).map_err(|error| Failure::failed(chain(&error)))?;
            Ok(format!("{}\n", file.display()))
        }
    }
}

/// Signs with this device's identity; or why that cannot be.
pub(super) fn signed(
    state_dir: &std::path::Path,
    draft: DeviceReport,
    now: crate::domain::revision::Timestamp,
) -> Result<reports::Signed, String> {
    if let Some(why) = machine::copied(state_dir) {
        return Err(why);
    }
    let key = identity::private_key(state_dir, credentials::identity)
        .map_err(|error| chain(&error))?
        .ok_or("this device has no identity to sign with: `evenkeel enroll` makes it")?;
    reports::sign(state_dir, &key, draft, now).map_err(|error| chain(&error))
}
