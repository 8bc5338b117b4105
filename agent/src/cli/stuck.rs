//! The agent that ended uncleanly again and again, even while it only kept what is good: it says so, and does nothing that
//! could end it once more. See `schedule::starts`.

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{code, device};
use crate::adapter::report::Hub;
use crate::adapter::starts::StartsFile;
use crate::daemon::{Answer, Ask, Asked, Signal};
use crate::domain::outcome::{Condition, ConditionStatus, ConditionType, Report};
use crate::domain::revision::Timestamp;
use crate::port::reporter::{Event, Reporter as _};
use crate::port::starts::Starts as _;

/// What ends the wait.
#[derive(Debug)]
pub(super) enum Woken {
    /// It is told to stop.
    Stopped,
    /// It tries again: after its time, or because somebody asked for a pass.
    Again(Option<Asked>),
}

/// The report of an agent that knows nothing but that it is stuck.
pub(super) fn tell(entered: &device::Entered, starts: &StartsFile, hub: &Hub) {
    let why = starts.why();
    tracing::error!("{why}");
    let now = device::now();
    let condition = |kind, status| Condition {
        kind,
        status,
        reason: "UncleanStarts".to_owned(),
        message: why.clone(),
        since: now,
    };
    let hold = i64::try_from(starts.hold().as_secs()).unwrap_or(i64::MAX);
    let mut report = Report {
        device: entered.device.to_string(),
        branch: entered.config.source.branch.clone(),
        conditions: vec![
            condition(ConditionType::Ready, ConditionStatus::False),
            condition(ConditionType::Stalled, ConditionStatus::True),
        ],
        ..Report::default()
    };
    report.poll.next = Some(Timestamp(now.0.saturating_add(hold)));
    hub.tell(&Event::Report(Box::new(report)));
    let status = "stuck: it ended uncleanly again and again; evenkeel status says more";
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Status(status)]);
}

/// Waits until it is worth trying again.
pub(super) async fn wait(
    starts: &StartsFile,
    hub: &Hub,
    requests: &mut mpsc::Receiver<Asked>,
    signals: &mut mpsc::Receiver<Signal>,
) -> Woken {
    let hold = starts.hold();
    let until = Instant::now() + hold;
    hub.tell(&Event::Rests(hold));
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(until) => return Woken::Again(None),
            Some(asked) = requests.recv() => match asked.ask {
                Ask::Sync(_) | Ask::SyncPastLocks(_) | Ask::SyncFrom(..) => {
                    return Woken::Again(Some(asked));
                }
                Ask::Plan
                | Ask::Adopt(..)
                | Ask::History
                | Ask::Rollback(_)
                | Ask::Pause
                | Ask::Resume
                | Ask::ResetFloor(_)
                | Ask::Trust => {
                    // Whoever asked may have gone.
                    let _ = asked.reply.send(Answer::Failed {
                        code: code::FAILED,
                        message: starts.why(),
                    });
                }
            },
            signal = signals.recv() => match signal {
                Some(Signal::Poke) => return Woken::Again(None),
                Some(Signal::Renew | Signal::Stop) | None => return Woken::Stopped,
            },
        }
    }
}
