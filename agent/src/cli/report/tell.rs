//! `[report] dir`: a signed report in a folder, at the end of a pass that changed something, and now and then.
//!
//! A pass that changes nothing writes nothing, and a folder that takes no file costs no number at every pass. The folder may be a mount whose server is gone: it is written to on a thread
//! of its own, and the device goes on.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use evenkeel_schema::agent_config::AgentConfig;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use crate::adapter::report::Hub;
use crate::adapter::reports;
use crate::cli::device;
use crate::domain::device_report::DeviceReport;
use crate::domain::text::chain;
use crate::port::reporter::Event;

/// A report that was numbered and not put down is made anew after this time, or after `every` where that is shorter, unless
/// there is something else to say: each one is a write to the device's own memory.
const AGAIN: Duration = Duration::from_secs(600);

/// Who puts reports down.
#[derive(Debug)]
pub(in crate::cli) struct Teller {
    state_dir: PathBuf,
    dir: PathBuf,
    every: Duration,
    /// What was put down last, and when.
    last: Option<(DeviceReport, Instant)>,
    /// What got a number last and was not put down, and when.
    lost: Option<(DeviceReport, Instant)>,
    /// What went wrong last, to be said once.
    failing: Option<String>,
}

impl Teller {
    /// The one that the configuration asks for.
    pub(in crate::cli) fn of(config: &AgentConfig) -> Option<Self> {
        Some(Self {
            state_dir: config.state_dir.clone(),
            dir: config.report.dir.clone()?,
            every: config.report.every,
            last: None,
            lost: None,
            failing: None,
        })
    }

    /// Follows what the loop tells, for as long as it does.
    pub(in crate::cli) async fn follow(mut self, hub: Rc<Hub>) {
        let mut events = hub.listen();
        loop {
            match events.recv().await {
                Ok(Event::Outcome(_)) | Err(RecvError::Lagged(_)) => self.tell(&hub).await,
                Ok(
                    Event::Report(_)
                    | Event::Pull { .. }
                    | Event::Step(_)
                    | Event::Notice(_)
                    | Event::Alive
                    | Event::Rests(_),
                ) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Puts a report down, where there is something to say.
    pub(in crate::cli) async fn tell(&mut self, hub: &Hub) {
        let draft = DeviceReport::of(&hub.report(), env!("CARGO_PKG_VERSION"));
        let rests = |said: &Option<(DeviceReport, Instant)>, within: Duration| {
            said.as_ref()
                .is_some_and(|(said, at)| *said == draft && at.elapsed() < within)
        };
        if rests(&self.last, self.every) || rests(&self.lost, self.every.min(AGAIN)) {
            return;
        }
        let (state_dir, dir, report) = (self.state_dir.clone(), self.dir.clone(), draft.clone());
        let made = tokio::task::spawn_blocking(move || {
            // Before anything is numbered: a mount that is not there gets nothing.
            if !dir.is_dir() {
                return Err(format!("{} is not a folder", dir.display()));
            }
            let signed = super::signed(&state_dir, report, device::now())?;
            Ok(reports::put(&dir, &signed).map_err(|error| chain(&error)))
        });
        let made = made.await.unwrap_or_else(|error| Err(error.to_string()));
        if let Ok(Err(_)) = &made {
            self.lost = Some((draft.clone(), Instant::now()));
        }
        match made.and_then(|put| put) {
            Ok(_) => {
                self.last = Some((draft, Instant::now()));
                self.lost = None;
                if self.failing.take().is_some() {
                    tracing::info!("reports are written again");
                }
            }
            Err(why) => {
                if self.failing.as_ref() != Some(&why) {
                    tracing::warn!(why, "no report is written");
                }
                self.failing = Some(why);
            }
        }
    }
}
