//! A request: asked of the running daemon, or done here where none runs.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::control::{self, Line, Request};
use super::device::{Device, Failure, Need, configuration};
use super::reach::{Reached, reach};
use super::report::receipt;
use super::{ConfigArgs, code, fail, report, sync};
use crate::cycle::Haste;
use crate::daemon::{Answer, Ask, Asked, Daemon, Pass, Run};

/// How much longer a service manager is asked to wait for a pass: as long as TimeoutStartSec= of evenkeel-sync.service.
const LONGER: Duration = Duration::from_secs(15 * 60);
/// How often it is asked.
const LONGER_EVERY: Duration = Duration::from_secs(60);

/// Asks the daemon of this device; `None` where none runs.
pub(super) fn ask(args: &ConfigArgs, request: &Request) -> Result<Option<Line>, Failure> {
    let config = configuration(args)?;
    let runtime =
        super::runtime().map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    runtime
        .block_on(control::ask(&config.state_dir, request, |event| {
            if sync::watching() {
                fail(0, event);
            }
        }))
        .map_err(|error| Failure::failed(format!("cannot ask the running daemon: {error}")))
}

/// Asks the daemon, or does it here where none runs.
pub(super) fn ask_or_do_here(args: &ConfigArgs, request: &Request) -> Result<Line, Failure> {
    // Before the device is opened: what is wrong with its memory is told there.
    crate::telemetry::install(crate::telemetry::Format::Text);
    match reach(args, request, Need::Trust)? {
        Reached::Answered(line) => Ok(line),
        Reached::Opened(device) => do_here(&device, request),
    }
}

/// Asks the daemon, or does it here where none runs; shows the answer and gives back its code.
pub(super) fn ask_or_do(args: &ConfigArgs, request: &Request, json: bool) -> u8 {
    match ask_or_do_here(args, request) {
        Ok(line) => sync::show(&line, json),
        Err(failure) => failure.tell(),
    }
}

/// Does a request without a daemon: the same loop, once, under the same lock; `status` works meanwhile.
pub(super) fn do_here(device: &Device, request: &Request) -> Result<Line, Failure> {
    let runtime =
        super::runtime().map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let local = tokio::task::LocalSet::new();
    let answered = local.block_on(&runtime, once(device, request));
    // A fetch that is still under way ends with the process.
    runtime.shutdown_background();
    device.leave();
    answered.map_err(|error| Failure::failed(format!("cannot serve: {error}")))
}

/// Where a service manager waits for this pass (evenkeel-sync.service), it is to wait on while the pass goes on.
fn ask_for_longer() {
    let longer = u32::try_from(LONGER.as_micros()).unwrap_or(u32::MAX);
    let _ = sd_notify::notify(&[sd_notify::NotifyState::ExtendTimeoutUsec(longer)]);
}

async fn once(device: &Device, request: &Request) -> std::io::Result<Line> {
    let (asks, mut requests) = mpsc::channel(16);
    let (signals, mut signalled) = mpsc::channel(4);
    let listener = control::listen(&device.state_dir)?;
    tokio::task::spawn_local(control::serve(
        listener,
        Rc::clone(&device.hub),
        asks,
        device.state_dir.clone(),
    ));
    tokio::task::spawn_local(super::run::forward(signals)?);
    let hub = Rc::clone(&device.hub);
    tokio::task::spawn_local(async move { hub.feed(LONGER_EVERY, ask_for_longer).await });
    let mut daemon = Daemon::new(&device.agent);
    let (reply, answer) = oneshot::channel();
    let ask = match request {
        Request::Status | Request::Sync => Ask::Sync(Haste::InTime),
        Request::SyncNow => Ask::Sync(Haste::Now),
        Request::SyncPastLocks { haste } => Ask::SyncPastLocks(*haste),
        Request::SyncFrom { dir, haste, locks } => Ask::SyncFrom(dir.clone(), *haste, *locks),
        Request::Plan => Ask::Plan,
        Request::History => Ask::History,
        Request::Rollback { rev } => Ask::Rollback(rev.clone()),
        Request::Pause => Ask::Pause,
        Request::Resume => Ask::Resume,
        Request::ResetFloor { to } => Ask::ResetFloor(to.clone()),
        Request::Trust => Ask::Trust,
        Request::Adopt { engine_id, service } => Ask::Adopt(engine_id.clone(), service.clone()),
    };
    let answer = match daemon.begin(Asked { ask, reply }).await {
        Pass::Needed => {
            let outcome = daemon.run(Run::Once, &mut requests, &mut signalled).await;
            answer.await.unwrap_or(Answer::Passed(outcome))
        }
        Pass::NotNeeded => answer.await.unwrap_or(Answer::Failed {
            code: code::FAILED,
            message: "stopped before its end".to_owned(),
        }),
    };
    control::close(&device.state_dir);
    if let Some(mut teller) = report::tell::Teller::of(device.config()) {
        teller.tell(&device.hub).await;
    }
    let mut line = control::line_of(&answer, &device.hub);
    if matches!(
        request,
        Request::Sync | Request::SyncNow | Request::SyncPastLocks { .. }
    ) {
        for folder in receipt::folders(device.config()) {
            let receipt = receipt::write(&device.state_dir, &device.hub, &folder).await;
            line = line.with_receipt(&receipt);
        }
    }
    Ok(match (&device.untrusted, request) {
        (Some(why), Request::Sync | Request::SyncNow | Request::SyncPastLocks { .. }) => {
            line.with_code(code::USAGE, why)
        }
        (Some(_) | None, _) => line,
    })
}
