//! `evenkeel leave`: hands a device back. What runs goes on running and what was put in place stays; nothing of the agent is
//! left at work. It needs no network.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use evenkeel_schema::agent_config::AgentConfig;
use serde_json::json;

use super::device::{self, Failure, Need};
use super::{ConfigArgs, DEFAULT_CONFIG, answer, code, control, fail};
use crate::adapter::left;
use crate::adapter::report::Hub;
use crate::domain::outcome::Report;
use crate::domain::text::chain;

/// A daemon that is told to stop finishes the step it is in: longer than the unit's own limit for that.
const STOPS_WITHIN: Duration = Duration::from_secs(100);
/// Between two looks at whether it has stopped.
const PAUSE: Duration = Duration::from_millis(200);
/// What systemd starts of ours; those that are not there are passed over.
const UNITS: [&str; 4] = [
    "evenkeel-enroll.service",
    "evenkeel-sync.timer",
    "evenkeel-sync.service",
    "evenkeel.service",
];

/// Hand this device back: containers and files stay as they are, and nothing of evenkeel is left at work.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Do it without asking.
    #[arg(long)]
    yes: bool,
    /// Remove the state directory too: identity, kept revisions, kept copies of edited files.
    #[arg(long, conflicts_with = "undo")]
    purge_state: bool,
    /// Take the device up again.
    #[arg(long)]
    undo: bool,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it; the exit code: 0 done, 1 not all of it could be done, 2 wrong usage.
#[must_use]
pub fn run(args: &Args) -> u8 {
    crate::telemetry::install(crate::telemetry::Format::Text);
    let mut done = Vec::new();
    let left = device::configuration(&args.config).and_then(|config| {
        if args.undo {
            undo(args, &config, &mut done)
        } else {
            leave(args, &config, &mut done)
        }
    });
    if args.json {
        let error = left.as_ref().err().map(ToString::to_string);
        answer(&format!("{:#}", json!({ "done": done, "error": error })));
    } else {
        for line in &done {
            answer(line);
        }
    }
    match left {
        Ok(()) => code::DONE,
        Err(failure) => failure.tell(),
    }
}

fn undo(args: &Args, config: &AgentConfig, done: &mut Vec<String>) -> Result<(), Failure> {
    let dir = &config.state_dir;
    if !left::is_set(dir) {
        return Err(Failure::usage(format!(
            "{}: this device was not handed back",
            dir.display()
        )));
    }
    let units = left::units(dir);
    left::unset(dir).map_err(|error| Failure::failed(format!("{}: {error}", dir.display())))?;
    done.push("this device is evenkeel's again".to_owned());
    if is_the_service(args) && !units.is_empty() {
        for unit in units {
            systemctl(&["enable", "--now", &unit]).map_err(Failure::failed)?;
            done.push(format!("enabled and started {unit}"));
        }
    } else {
        done.push("start its agent: `evenkeel run`, or `evenkeel sync` for one pass".to_owned());
    }
    Ok(())
}

fn leave(args: &Args, config: &AgentConfig, done: &mut Vec<String>) -> Result<(), Failure> {
    let dir = &config.state_dir;
    if !dir.join("format").exists() {
        return Err(Failure::usage(format!(
            "{}: no evenkeel has run here: there is nothing to hand back",
            dir.display()
        )));
    }
    confirm(args, dir)?;
    // First: whatever is cut off after this, no agent starts again by itself.
    let enabled: Vec<&str> = UNITS
        .into_iter()
        .filter(|unit| is_the_service(args) && systemctl(&["is-enabled", "--quiet", unit]).is_ok())
        // One that is static is started by another.
        .filter(|unit| *unit != "evenkeel-sync.service")
        .collect();
    left::set(dir, &enabled).map_err(|error| {
        Failure::failed(format!("{}: cannot write it down: {error}", dir.display()))
    })?;
    if is_the_service(args) {
        for unit in UNITS {
            if systemctl(&["cat", unit]).is_ok() {
                systemctl(&["disable", "--now", unit]).map_err(Failure::failed)?;
                done.push(format!("stopped and disabled {unit}"));
            }
        }
    }
    let entered = alone(args, dir, done)?;
    let device = entered.open(Rc::new(Hub::new(Report::default())))?;
    let runtime =
        super::runtime().map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let handed = runtime
        .block_on(device.agent.hand_over())
        .map_err(|error| {
            Failure::failed(format!(
                "{}\nhint: the agent is stopped, and the containers run on; once this is mended, `evenkeel leave` again",
                chain(&error)
            ))
        })?;
    done.extend(handed);
    device.leave();
    drop(device);
    control::close(dir);
    let _ = std::fs::remove_file(dir.join("lock"));
    if args.purge_state {
        purge(dir)?;
        done.push(format!("removed {}", dir.display()));
    } else {
        done.push(format!(
            "{} is kept; `evenkeel leave --undo` takes the device up again",
            dir.display()
        ));
    }
    done.push("containers run on, and files stay: they are yours".to_owned());
    Ok(())
}

fn confirm(args: &Args, dir: &Path) -> Result<(), Failure> {
    if args.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "this stops the agent for good: say --yes where nobody can be asked",
        ));
    }
    let state = if args.purge_state {
        format!(
            ", and {} is removed with the device's identity",
            dir.display()
        )
    } else {
        String::new()
    };
    let mut err = std::io::stderr().lock();
    let _ = write!(
        err,
        "The agent is stopped and disabled; containers and files stay{state}. Hand this device back? [y/N] "
    );
    let _ = err.flush();
    let mut line = String::new();
    let _ = std::io::stdin().lock().read_line(&mut line);
    if matches!(line.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Failure::usage("left as it is"))
    }
}

/// Whether the agent of this configuration is what the unit starts.
fn is_the_service(args: &Args) -> bool {
    args.config.config == Path::new(DEFAULT_CONFIG) && Path::new("/run/systemd/system").is_dir()
}

fn systemctl(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("systemctl")
        .args(["--no-ask-password", "--no-pager"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run systemctl: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "systemctl {}: {}",
        arguments.join(" "),
        said.trim()
    ))
}

/// The device's lock, after whoever holds it was told to stop.
fn alone(args: &Args, dir: &Path, done: &mut Vec<String>) -> Result<device::Entered, Failure> {
    let begun = Instant::now();
    let mut told = None;
    loop {
        match device::enter(&args.config, Need::State) {
            Err(failure) if failure.is_busy() && begun.elapsed() < STOPS_WITHIN => {
                let pid = holder(dir);
                if let Some(pid) = pid.filter(|pid| told != Some(*pid)) {
                    let sent = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
                    if sent.is_ok() {
                        told = Some(pid);
                        let number = pid.as_raw_nonzero();
                        done.push(format!("told the agent (process {number}) to stop"));
                    }
                }
                pause();
            }
            Ok(entered) => {
                if told.is_some() && !is_the_service(args) {
                    fail(
                        0,
                        "note: where something starts the agent by itself (an init script, a supervisor), take that away too",
                    );
                }
                return Ok(entered);
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Who holds the lock, by what it left there.
fn holder(dir: &Path) -> Option<rustix::process::Pid> {
    let text = std::fs::read_to_string(dir.join("lock")).ok()?;
    let number: i32 = text.trim().parse().ok()?;
    if number == i32::try_from(std::process::id()).ok()? {
        return None;
    }
    rustix::process::Pid::from_raw(number)
}

#[expect(clippy::disallowed_methods, reason = "no runtime runs here meanwhile")]
fn pause() {
    std::thread::sleep(PAUSE);
}

/// What is in the state directory, and the directory itself unless something is mounted there.
fn purge(dir: &Path) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| {
        Failure::failed(format!("{}: cannot remove it: {error}", dir.display()))
    };
    for entry in std::fs::read_dir(dir).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let is_dir = entry.file_type().map_err(cannot)?.is_dir();
        if is_dir {
            std::fs::remove_dir_all(entry.path()).map_err(cannot)?;
        } else {
            std::fs::remove_file(entry.path()).map_err(cannot)?;
        }
    }
    // A mount point stays, empty.
    let _ = std::fs::remove_dir(dir);
    Ok(())
}
