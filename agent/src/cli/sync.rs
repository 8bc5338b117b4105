//! `evenkeel sync`: one pass now.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use super::configuration::local_remote;
use super::control::{Line, Request};
use super::device::{Failure, Need};
use super::reach::{Reached, reach};
use super::{ConfigArgs, answer, fail, here};
use crate::cycle::{Haste, Locks};

/// One pass now: asks the running daemon, or does it here where none runs.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
    /// Take the branch from this git repository or published tree on this machine instead of source.url: a first revision that
    /// came with an image, or one that was carried here by hand, with its images where it has them. It is verified like any other.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Do not wait for a window of agent.toml or for this device's turn in a rollout; only where agent.toml lets anybody do
    /// that (`now = "allow"` under [window]). A signed halt is not passed over.
    #[arg(long)]
    now: bool,
    /// Do not wait for apps that are locked against being stopped or restarted now.
    #[arg(long)]
    override_locks: bool,
}

/// Runs it.
pub fn run(args: &Args) -> u8 {
    let request = match (args.override_locks, args.now) {
        (false, false) => Request::Sync,
        (false, true) => Request::SyncNow,
        (true, false) => Request::SyncPastLocks {
            haste: Haste::InTime,
        },
        (true, true) => Request::SyncPastLocks { haste: Haste::Now },
    };
    match &args.from {
        None => here::ask_or_do(&args.config, &request, args.json),
        Some(from) => match from_folder(args, from, &request) {
            Ok(line) => show(&line, args.json),
            Err(failure) => failure.tell(),
        },
    }
}

/// A pass from a folder: by the running daemon, or here where none runs, with nothing else of [source] looked at.
fn from_folder(args: &Args, from: &Path, request: &Request) -> Result<Line, Failure> {
    let config = ConfigArgs {
        from: Some(from.to_owned()),
        ..args.config.clone()
    };
    crate::telemetry::install(crate::telemetry::Format::Text);
    let asked = Request::SyncFrom {
        dir: local_remote(from)?.into(),
        haste: if args.now { Haste::Now } else { Haste::InTime },
        locks: if args.override_locks {
            Locks::Overridden
        } else {
            Locks::Heeded
        },
    };
    match reach(&config, &asked, Need::Trust)? {
        Reached::Answered(line) => Ok(line),
        Reached::Opened(device) => here::do_here(&device, request),
    }
}

/// Shows an answer, and gives back its code.
pub(super) fn show(line: &Line, json: bool) -> u8 {
    match line {
        Line::Event(_) => super::code::FAILED,
        Line::Answer {
            code,
            text,
            json: value,
        } => {
            if json {
                answer(&value.to_string());
            } else if *code == super::code::DONE {
                answer(text);
            } else {
                return fail(*code, text);
            }
            *code
        }
    }
}

/// Progress lines go to stderr, and only where a person watches.
pub(super) fn watching() -> bool {
    std::io::stderr().is_terminal()
}
