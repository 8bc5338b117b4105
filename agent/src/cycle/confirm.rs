//! After a change the device must reach a network remote again, if it could before: else the change goes back and is put off,
//! never refused, for a git server that is down must not make a fleet refuse what is good.
//!
//! Whose fault the silence was shows once the change is gone. Where the remote answers then, the change stays put off, longer
//! each time. Where it does not answer for as long without the change either, the change is cleared, and tried again as soon as
//! the remote answers.
//!
//! Limits: a link that fails on its own just after a change, and is back once that is undone, is taken for the change's doing.

use std::time::Duration;

use tokio::time::Instant;

use super::prepare::Prepared;
use super::session::chain;
use super::{Agent, CycleError, Interruption};
use crate::domain::history::{CutOff, Deferral, Ledger};
use crate::port::World;
use crate::port::clock::Clock as _;
use crate::port::journal::Journal as _;
use crate::port::reporter::{Event, Reporter as _};
use crate::port::source::{Reach, Source as _};

/// The first pause between two questions; it doubles up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_secs(2);
/// A link that is back should not be missed for long, and one that costs money is not asked all the time.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// The last question gets this long, too.
const LEAST: Duration = Duration::from_secs(5);

/// Whether the remote answers after a change.
pub(super) enum Confirmed {
    /// It does, or nobody has to ask.
    Yes,
    /// It does not; why.
    No(String),
    /// Something else was asked for.
    Interrupted,
}

impl<W: World> Agent<W> {
    /// Asks the network remotes until one answers or the time for that is over. Whether the last poll reached one tells
    /// nothing of that, for it may have come in the soak, or this is another start.
    pub(super) async fn confirm(
        &self,
        before: Reach,
        prepared: &Prepared,
        ledger: &Ledger,
    ) -> Confirmed {
        let could = self.session.reached.get() || ledger.last_good().is_some();
        // An earlier try may have taken the steps; without one, what has none cuts nothing off.
        let touches_nothing = prepared.plan.steps.is_empty() && ledger.underway().is_none();
        let within = self.settings.confirm;
        if before == Reach::Local || !could || touches_nothing || within.is_zero() {
            return Confirmed::Yes;
        }
        let began = Instant::now();
        let mut pause = PAUSE;
        loop {
            self.world.reporter().tell(&Event::Alive);
            let left = within.saturating_sub(began.elapsed()).max(LEAST);
            let asked = tokio::select! {
                asked = tokio::time::timeout(left, self.world.source().reach()) => asked,
                Interruption::Stop | Interruption::Asked = self.interrupt.wait() => {
                    return Confirmed::Interrupted;
                }
            };
            let why = match asked {
                Ok(Ok(())) => return Confirmed::Yes,
                Ok(Err(error)) => chain(&error),
                Err(_) => "no answer in time".to_owned(),
            };
            let left = within.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Confirmed::No(format!(
                    "after the change the remote cannot be reached any more within {}, and it could before: {why}",
                    evenkeel_schema::duration::text(within)
                ));
            }
            tokio::select! {
                () = tokio::time::sleep(pause.min(left)) => {}
                Interruption::Stop | Interruption::Asked = self.interrupt.wait() => {
                    return Confirmed::Interrupted;
                }
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Last-good is back since a change after which no remote answered, and the remotes were asked again: whose fault was it?
    pub(super) fn judge_cut_off(&self) -> Result<(), CycleError> {
        let ledger = self.world.journal().ledger();
        let Some(deferral) = &ledger.deferred else {
            self.session.silent_since.set(None);
            return Ok(());
        };
        let is_back = match (ledger.last_good(), ledger.underway()) {
            (Some(good), None) => {
                self.session.report().revision.applied.as_ref() == Some(good.commit())
            }
            (Some(_), Some(_)) | (None, _) => false,
        };
        let answers = self.session.reached.get() && self.reached_by() == Reach::Network;
        let (verdict, why) = match (deferral.cut_off, answers) {
            (Some(CutOff::Unclear), _) if !is_back => return Ok(()),
            (Some(CutOff::Unclear), true) => (
                Some(CutOff::ByChange),
                format!("{}; without the change it can", deferral.why),
            ),
            (Some(CutOff::Unclear), false) => {
                let now = Instant::now();
                let since = self.session.silent_since.get().unwrap_or(now);
                self.session.silent_since.set(Some(since));
                if now.duration_since(since) < self.settings.confirm {
                    return Ok(());
                }
                (
                    Some(CutOff::NotByChange),
                    "the remote cannot be reached with the change nor without it: it is tried again once the remote answers"
                        .to_owned(),
                )
            }
            (Some(CutOff::NotByChange), true) => {
                let text = "the remote answers again, and its silence was not the change's fault: it is tried again";
                self.session.notice(&self.world, text);
                self.world.journal().defer(None)?;
                return Ok(());
            }
            (Some(CutOff::NotByChange), false) | (Some(CutOff::ByChange) | None, _) => {
                return Ok(());
            }
        };
        self.session.silent_since.set(None);
        self.session.notice(&self.world, &why);
        let amended = Deferral {
            why,
            cut_off: verdict,
            ..deferral.clone()
        };
        let left = self.session.waits(Some(deferral), self.world.clock().now());
        self.world.journal().defer(Some(&amended))?;
        self.session.put_off(&amended, left.0);
        Ok(())
    }
}
