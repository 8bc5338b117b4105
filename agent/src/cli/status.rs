//! `evenkeel status`: where the device is, and whether that is where it should be.

use std::time::Duration;

use super::control::{Line, Request};
use super::reach::{Reached, reach};
use super::{ConfigArgs, answer, device, show};
use crate::domain::outcome::Report;

/// Time between two looks of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Revision, conditions, apps, drift, last poll, next poll.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
    /// Look again each second, until interrupted.
    #[arg(long)]
    watch: bool,
}

/// Runs it.
pub fn run(args: &Args) -> u8 {
    loop {
        let report = match look(&args.config) {
            Ok((report, Told::ByDaemon | Told::FromMemory)) => report,
            Err(failure) => return failure.tell(),
        };
        let text = if args.json {
            show::status::json(&report).to_string()
        } else {
            show::status::human(&report, device::now(), show::Style::of_stdout())
        };
        if !args.watch {
            answer(&text);
            return super::code::DONE;
        }
        if !args.json && show::Style::of_stdout() == show::Style::Colour {
            answer("\x1b[2J\x1b[H");
        }
        answer(&text);
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "no runtime runs here between two looks"
)]
fn pause() {
    std::thread::sleep(WATCH_EVERY);
}

/// Who told a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// The daemon: it is so now.
    ByDaemon,
    /// None runs: it was so at the last pass.
    FromMemory,
}

/// What is told of this device.
pub(super) fn look(config: &ConfigArgs) -> Result<(Report, Told), device::Failure> {
    let device = match reach(config, &Request::Status, device::Need::State)? {
        Reached::Answered(Line::Answer { json, .. }) => {
            return match serde_json::from_value(json) {
                Ok(report) => Ok((report, Told::ByDaemon)),
                Err(error) => Err(device::Failure::failed(format!(
                    "the daemon's answer cannot be read: {error}"
                ))),
            };
        }
        Reached::Answered(Line::Event(_)) => {
            return Err(device::Failure::failed("the daemon gave no answer"));
        }
        Reached::Opened(device) => device,
    };
    let mut report = device.agent.session.report();
    if report.device.is_empty() {
        report.device = device.agent.settings.device.to_string();
        report.branch.clone_from(&device.agent.settings.branch);
    }
    Ok((report, Told::FromMemory))
}
