//! `evenkeel sync`: one pass now.

use std::io::IsTerminal as _;

use super::control::{Line, Request};
use super::{ConfigArgs, answer, device, fail};

/// One pass now: asks the running daemon, or does it here where none runs.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &Args) -> u8 {
    device::ask_or_do(&args.config, &Request::Sync, args.json)
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
