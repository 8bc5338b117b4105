//! `evenkeel run`: the daemon.

use std::rc::Rc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::reach::open_as_daemon;
use super::{ConfigArgs, control, device, fail};
use crate::daemon::{Daemon, Run, Signal};

/// A cycle that shows no sign of life for so long is stuck: the watchdog is not fed any more. Longer than the longest
/// deadline of a single step (a fetch).
const STUCK_AFTER: Duration = Duration::from_secs(30 * 60);
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
    let device = match open_as_daemon(&args.config) {
        Ok(device) => device,
        Err(failure) => return failure.tell(),
    };
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(super::code::FAILED, &format!("cannot start: {error}")),
    };
    let local = tokio::task::LocalSet::new();
    let served = local.block_on(&runtime, serve(&device));
    // A fetch that is still under way ends with the process.
    runtime.shutdown_background();
    match served {
        Ok(()) => super::code::DONE,
        Err(error) => fail(super::code::FAILED, &format!("cannot serve: {error}")),
    }
}

async fn serve(device: &device::Device) -> std::io::Result<()> {
    let (asks, mut requests) = mpsc::channel(16);
    let (signals, mut signalled) = mpsc::channel(4);
    let listener = control::listen(&device.state_dir)?;
    tokio::task::spawn_local(control::serve(listener, Rc::clone(&device.hub), asks));
    tokio::task::spawn_local(forward(signals)?);
    let hub = Rc::clone(&device.hub);
    tokio::task::spawn_local(async move {
        loop {
            tokio::time::sleep(feed_every()).await;
            if hub.is_idle() || hub.last_progress().elapsed() < STUCK_AFTER {
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
            }
        }
    });
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(
        device = %device.agent.settings.device,
        branch = device.agent.settings.branch,
        version = env!("CARGO_PKG_VERSION"),
        "started"
    );
    Daemon::new(&device.agent)
        .run(Run::Forever, &mut requests, &mut signalled)
        .await;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    control::close(&device.state_dir);
    tracing::info!("stopped");
    Ok(())
}

/// Half of what the service manager asks for, so that a slow moment is no missed beat.
fn feed_every() -> Duration {
    sd_notify::watchdog_enabled().map_or(FEED_EVERY, |interval| interval / 2)
}

/// Signals as the loop knows them.
pub(super) fn forward(
    signals: mpsc::Sender<Signal>,
) -> std::io::Result<impl Future<Output = ()> + use<>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        loop {
            let what = tokio::select! {
                _ = hangup.recv() => Signal::Poke,
                _ = terminate.recv() => Signal::Stop,
                _ = interrupt.recv() => Signal::Stop,
            };
            if signals.send(what).await.is_err() {
                return;
            }
        }
    })
}
