//! `evenkeel run`: the daemon.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::reach::enter_as_daemon;
use super::report::receipt;
use super::stuck::{self, Woken};
use super::{ConfigArgs, again, control, device, fail, report};
use crate::adapter::report::Hub;
use crate::adapter::starts::StartsFile;
use crate::adapter::upgrades::Started;
use crate::daemon::{Daemon, Pass, Run, Signal};
use crate::domain::outcome::Report;
use crate::port::starts::Starts as _;
use crate::schedule::starts::Level;

/// How often the watchdog is fed where the service manager names no interval.
const FEED_EVERY: Duration = Duration::from_secs(60);

/// Run the daemon.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Log in JSON.
    #[arg(long)]
    log_json: bool,
}

/// Runs it until SIGTERM or SIGINT.
pub fn run(args: &Args) -> u8 {
    crate::telemetry::install(if args.log_json {
        crate::telemetry::Format::Json
    } else {
        crate::telemetry::Format::Text
    });
    let entered = match enter_as_daemon(&args.config) {
        Ok(entered) => entered,
        Err(failure) => return again::tell(&failure),
    };
    let started = Started {
        generation: std::env::var("EVENKEEL_GENERATION").ok(),
        dir: std::env::var_os("EVENKEEL_GENERATIONS").map(PathBuf::from),
    };
    // Before anything that a damaged memory could make it die of. Each binary has a count of its own.
    let binary = started.generation.as_deref().unwrap_or("package");
    let version = format!("{}/{binary}", env!("CARGO_PKG_VERSION"));
    let starts = StartsFile::begin(&entered.config.state_dir, &version);
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(super::code::FAILED, &format!("cannot start: {error}")),
    };
    let local = tokio::task::LocalSet::new();
    let served = local.block_on(&runtime, serve(entered, &starts, &started));
    // A fetch that is still under way ends with the process.
    runtime.shutdown_background();
    match served {
        Ok(()) => super::code::DONE,
        Err(failure) => again::tell(&failure),
    }
}

async fn serve(
    entered: device::Entered,
    starts: &StartsFile,
    started: &Started,
) -> Result<(), device::Failure> {
    let cannot_serve =
        |error: std::io::Error| device::Failure::failed(format!("cannot serve: {error}"));
    let (asks, mut requests) = mpsc::channel(16);
    let (signals, mut signalled) = mpsc::channel(4);
    let state_dir = entered.config.state_dir.clone();
    let teller = report::tell::Teller::of(&entered.config);
    let hub = Rc::new(Hub::new(Report::default()));
    tokio::task::spawn_local(forward(signals).map_err(cannot_serve)?);
    let fed = Rc::clone(&hub);
    tokio::task::spawn_local(async move {
        fed.feed(feed_every(), || {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        })
        .await;
    });
    let listen = || -> std::io::Result<()> {
        let listener = control::listen(&state_dir)?;
        tokio::task::spawn_local(control::serve(
            listener,
            Rc::clone(&hub),
            asks.clone(),
            state_dir.clone(),
        ));
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        again::forget();
        Ok(())
    };
    let mut asked = None;
    let is_stuck = starts.level() == Level::Idle;
    if is_stuck {
        listen().map_err(cannot_serve)?;
        stuck::tell(&entered, starts, &hub);
        match stuck::wait(starts, &hub, &mut requests, &mut signalled).await {
            Woken::Stopped => {
                starts.ended();
                stopped(&state_dir);
                return Ok(());
            }
            Woken::Again(by) => asked = by,
        }
        starts.try_again();
    }
    let device = match entered.open(Rc::clone(&hub)) {
        Ok(device) => device,
        Err(failure) => {
            if failure.is_usage() {
                // Nothing crashed: a person reads why, and changes something.
                starts.ended();
            }
            return Err(failure);
        }
    };
    if !is_stuck {
        listen().map_err(cannot_serve)?;
    }
    tracing::info!(
        device = %device.agent.settings.device,
        branch = device.agent.settings.branch,
        version = env!("CARGO_PKG_VERSION"),
        "started"
    );
    if starts.level() == Level::AtLastGood {
        tracing::error!("{}", starts.why());
    }
    if let Some(teller) = teller {
        tokio::task::spawn_local(teller.follow(Rc::clone(&hub)));
    }
    let folders = receipt::folders(device.config());
    if !folders.is_empty() {
        let following = receipt::follow(state_dir.clone(), folders, Rc::clone(&hub));
        tokio::task::spawn_local(following);
    }
    let generations = Rc::new(device.generations(started));
    let telling = Rc::clone(&generations);
    tokio::task::spawn_local(async move { telling.tell().await });
    let mut daemon = Daemon::new(&device.agent).counting(starts).upgrading(
        &*generations,
        device.managed(),
        env!("EVENKEEL_ARCH"),
    );
    if let Some(asked) = asked {
        match daemon.begin(asked).await {
            Pass::Needed | Pass::NotNeeded => {}
        }
    }
    daemon
        .run(Run::Forever, &mut requests, &mut signalled)
        .await;
    stopped(&state_dir);
    device.leave();
    Ok(())
}

fn stopped(state_dir: &std::path::Path) {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    control::close(state_dir);
    tracing::info!("stopped");
}

/// A quarter of what the service manager asks for, so that a slow moment is no missed beat: a sync of a file that the storage
/// holds up stops this thread, and may take three quarters of the limit.
fn feed_every() -> Duration {
    sd_notify::watchdog_enabled().map_or(FEED_EVERY, |interval| interval / 4)
}

/// Signals as the loop knows them.
pub(super) fn forward(
    signals: mpsc::Sender<Signal>,
) -> std::io::Result<impl Future<Output = ()> + use<>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut renew = signal(SignalKind::user_defined1())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        loop {
            let what = tokio::select! {
                _ = hangup.recv() => Signal::Poke,
                _ = renew.recv() => Signal::Renew,
                _ = terminate.recv() => Signal::Stop,
                _ = interrupt.recv() => Signal::Stop,
            };
            if signals.send(what).await.is_err() {
                return;
            }
        }
    })
}
