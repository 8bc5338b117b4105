//! Who is told: the log, the service manager, and whoever listens at the socket.
//!
//! One wide log line an outcome; progress and steps go to listeners and, at debug level, to the log. Nothing here
//! writes to the state directory.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::domain::outcome::{ConditionStatus, ConditionType, Outcome, Phase, Report};
use crate::port::reporter::{Event, Reporter};

/// A loop that shows no sign of life for so long is stuck: the watchdog is not fed any more. Longer than the longest
/// deadline of a single step (a fetch).
const STUCK_AFTER: Duration = Duration::from_secs(30 * 60);
/// How many events a slow listener may lag behind before it misses some.
const BACKLOG: usize = 64;

/// The latest report, and everything as it happens.
#[derive(Debug)]
pub struct Hub {
    report: RefCell<Report>,
    events: broadcast::Sender<Event>,
    /// When the next sign of life is due at the latest.
    expected: Cell<Instant>,
    last_outcome: RefCell<Option<Outcome>>,
    /// What `systemctl status` shows now.
    shown: RefCell<String>,
}

impl Hub {
    /// A hub that goes on from what was last told.
    #[must_use]
    pub fn new(report: Report) -> Self {
        Self {
            report: RefCell::new(report),
            events: broadcast::channel(BACKLOG).0,
            expected: Cell::new(Instant::now() + STUCK_AFTER),
            last_outcome: RefCell::new(None),
            shown: RefCell::new(String::new()),
        }
    }

    /// What is told now.
    #[must_use]
    pub fn report(&self) -> Report {
        self.report.borrow().clone()
    }

    /// Everything from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Whether the loop has shown a sign of life when it had to: the watchdog asks.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Instant::now() < self.expected.get()
    }

    /// Feeds the watchdog while the loop is alive: `beat` is the service manager's, told `every` so often.
    pub async fn feed(&self, every: Duration, beat: impl Fn()) {
        loop {
            tokio::time::sleep(every).await;
            if self.is_alive() {
                beat();
            }
        }
    }

    /// Goes on from what was last told, without telling it again.
    pub fn go_on_from(&self, report: Report) {
        self.report.replace(report);
    }

    /// Has `systemctl status` show this line.
    fn show(&self, line: String) {
        if *self.shown.borrow() != line {
            // Not every service manager listens.
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Status(&line)]);
            self.shown.replace(line);
        }
    }

    fn outcome(&self, outcome: &Outcome) {
        let report = self.report.borrow();
        let tip = report.revision.tip.as_ref().map(ToString::to_string);
        let good = report.revision.last_good.as_ref().map(ToString::to_string);
        let (tip, last_good) = (tip.unwrap_or_default(), good.unwrap_or_default());
        let repeated = self.last_outcome.borrow().as_ref() == Some(outcome);
        match outcome {
            Outcome::Converged => tracing::debug!(outcome = "converged", tip, last_good),
            Outcome::Applied { commit, steps } => {
                tracing::info!(outcome = "applied", %commit, steps, tip, last_good);
            }
            Outcome::Healed { steps } => {
                tracing::warn!(outcome = "healed", steps, tip, last_good);
            }
            Outcome::RolledBack { to, why } => {
                tracing::warn!(outcome = "rolled-back", %to, why, tip, last_good);
            }
            Outcome::Held(_) if repeated => {}
            Outcome::Held(hold) => {
                let (by, why) = (hold.by.word(), &hold.message);
                tracing::info!(outcome = "held", by, why, tip, last_good);
            }
            Outcome::Rejected { .. } | Outcome::Unhealthy { .. } if repeated => {}
            Outcome::Rejected { reason, message } => {
                tracing::error!(outcome = "rejected", reason, message, tip, last_good);
            }
            Outcome::Unhealthy { commit, why } => {
                tracing::error!(outcome = "unhealthy", %commit, why, tip, last_good);
            }
            Outcome::Deferred { .. } if repeated => {}
            Outcome::Deferred { reason, message } => {
                tracing::warn!(outcome = "deferred", reason, message, tip, last_good);
            }
        }
        drop(report);
        *self.last_outcome.borrow_mut() = Some(outcome.clone());
    }
}

impl Reporter for Hub {
    fn tell(&self, event: &Event) {
        let quiet = match event {
            Event::Rests(wait) => *wait,
            Event::Report(_)
            | Event::Pull { .. }
            | Event::Step(_)
            | Event::Notice(_)
            | Event::Outcome(_)
            | Event::Alive => Duration::ZERO,
        };
        self.expected
            .set(Instant::now() + quiet.saturating_add(STUCK_AFTER));
        match event {
            // Nobody wants to read that.
            Event::Alive | Event::Rests(_) => return,
            Event::Report(report) => {
                self.report.replace((**report).clone());
                self.show(status(report));
            }
            Event::Pull { image, .. } => tracing::debug!(image, "pulling"),
            Event::Step(step) => tracing::info!(step, "taking a step"),
            Event::Notice(text) => tracing::warn!("{text}"),
            Event::Outcome(outcome) => self.outcome(outcome),
        }
        // Nobody may be listening.
        let _ = self.events.send(event.clone());
    }
}

/// The line that `systemctl status` shows: the phase, where the device is, the tip where it is not there, and what is
/// the matter.
fn status(report: &Report) -> String {
    let phase = match report.phase {
        Phase::Idle => "idle",
        Phase::Fetching => "fetching",
        Phase::Preparing => "preparing",
        Phase::Applying => "applying",
        Phase::Soaking => "soaking",
        Phase::RolledBack => "rolled back",
        Phase::Paused => "paused",
    };
    let revision = &report.revision;
    let mut line = match &revision.applied {
        Some(commit) => format!("{phase}; {} at {}", report.branch, commit.short()),
        None => format!("{phase}; {}, nothing applied yet", report.branch),
    };
    if let Some(tip) = &revision.tip
        && revision.applied.as_ref() != Some(tip)
    {
        line.push_str(&format!(", tip {}", tip.short()));
    }
    let trouble = report.conditions.iter().find(|condition| {
        condition.kind == ConditionType::Ready && condition.status == ConditionStatus::False
    });
    if let Some(trouble) = trouble {
        line.push_str(&format!("; not ready: {}", trouble.reason));
    }
    line
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::domain::outcome::Condition;
    use crate::domain::revision::{CommitId, Timestamp};

    fn commit(digit: char) -> CommitId {
        let id: String = std::iter::repeat_n(digit, 40).collect();
        id.parse().unwrap()
    }

    #[test]
    fn the_status_line_tells_phase_revision_and_trouble() {
        let mut report = Report {
            branch: "stable".to_owned(),
            ..Report::default()
        };
        assert_eq!(status(&report), "idle; stable, nothing applied yet");
        report.phase = Phase::Soaking;
        report.revision.applied = Some(commit('a'));
        report.revision.tip = Some(commit('a'));
        assert_eq!(status(&report), "soaking; stable at aaaaaaaaaa");
        report.phase = Phase::RolledBack;
        report.revision.tip = Some(commit('b'));
        report.conditions.push(Condition {
            kind: ConditionType::Ready,
            status: ConditionStatus::False,
            reason: "Refused".to_owned(),
            message: "with a long explanation".to_owned(),
            since: Timestamp(0),
        });
        assert_eq!(
            status(&report),
            "rolled back; stable at aaaaaaaaaa, tip bbbbbbbbbb; not ready: Refused"
        );
    }

    /// Whether the watchdog is fed within the next `seconds`, at an interval of one.
    async fn is_fed(hub: &Hub, seconds: u64) -> bool {
        let beats = Cell::new(0);
        let feeding = hub.feed(Duration::from_secs(1), || beats.set(beats.get() + 1));
        let _ = tokio::time::timeout(Duration::from_secs(seconds), feeding).await;
        beats.get() > 0
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_by_signs_of_life_alone() {
        let hub = Hub::new(Report::default());
        assert!(is_fed(&hub, 5).await);
        let stuck = STUCK_AFTER + Duration::from_secs(1);
        // This task goes on, and so would one that feeds by itself; the loop has said nothing for too long.
        tokio::time::sleep(stuck).await;
        assert!(!is_fed(&hub, 600).await);
        hub.tell(&Event::Alive);
        assert!(is_fed(&hub, 5).await);
        // A rest that was announced is none, however long; one that goes on after its end is.
        let rest = Duration::from_secs(24 * 60 * 60);
        hub.tell(&Event::Rests(rest));
        tokio::time::sleep(rest).await;
        assert!(is_fed(&hub, 5).await);
        tokio::time::sleep(stuck).await;
        assert!(!is_fed(&hub, 600).await);
        hub.tell(&Event::Step("write a file".to_owned()));
        assert!(is_fed(&hub, 5).await);
    }
}
