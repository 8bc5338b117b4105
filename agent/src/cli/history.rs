//! `evenkeel history`: the deployments this device made.

use super::control::{Line, Request};
use super::reach::{Reached, reach};
use super::{ConfigArgs, answer, device, fail, show};

/// The deployments this device made, how each ended and why.
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
    let asked = match reach(&args.config, &Request::History, device::Need::State) {
        Ok(Reached::Answered(line)) => line,
        Ok(Reached::Opened(device)) => {
            use crate::port::World as _;
            use crate::port::journal::Journal as _;
            match device.agent.world.journal().history() {
                Ok(history) => Line::Answer {
                    code: super::code::DONE,
                    text: String::new(),
                    json: show::history::json(&history),
                },
                Err(error) => {
                    return fail(super::code::FAILED, &crate::domain::text::chain(&error));
                }
            }
        }
        Err(failure) => return failure.tell(),
    };
    match asked {
        Line::Answer { code, json, .. } if args.json || code != super::code::DONE => {
            answer(&json.to_string());
            code
        }
        Line::Answer { code, json, .. } => {
            answer(&show::history::human(&json, show::Style::of_stdout()));
            code
        }
        Line::Event(_) => super::code::FAILED,
    }
}
