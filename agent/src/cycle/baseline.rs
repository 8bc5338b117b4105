//! What is not well before a change, looked at when all else is ready and nothing has moved yet.
//!
//! Only what last-good left as it is counts: what an earlier try of this change, or one that it interrupted, may have broken is
//! no excuse. Without a last-good there is none at all.

use std::collections::BTreeSet;

use super::Agent;
use super::prepare::Prepared;
use super::watch::{SAMPLE_EVERY, touched};
use crate::domain::baseline::Baseline;
use crate::domain::history::Ledger;
use crate::gate::{self, Probed};
use crate::plan::{self, Action, Mode, Plan};
use crate::port::World;
use crate::port::journal::Journal as _;

/// How often a check has to fail before it counts as broken: one that failed once may have met a restart.
const LOOKS: u32 = 3;

impl<W: World> Agent<W> {
    /// What is not well now; where this try goes on with an earlier one, what was not well before that.
    pub(super) async fn baseline(&self, prepared: &Prepared, ledger: &Ledger) -> Baseline {
        if let Some(trial) = ledger.underway()
            && trial.content == prepared.resolved.state.content_id()
            && let Some(baseline) = &trial.baseline
        {
            return baseline.clone();
        }
        let journal = self.world.journal();
        let Some(good) = ledger
            .last_good()
            .and_then(|good| journal.kept_state(good.content()).ok())
        else {
            return Baseline::default();
        };
        let (state, observed) = (&prepared.resolved.state, &prepared.observed);
        let back = plan::plan(&good, observed, &ledger.inventory, Mode::Keep);
        let not_as_good = touched(&back);
        let services = gate::ailing(
            state,
            observed,
            &touched(&prepared.plan),
            |id| !not_as_good.contains(id),
            &self.restless(observed),
        );
        let mut baseline = Baseline {
            services,
            ..Baseline::default()
        };
        if !is_there(&back) {
            return baseline;
        }
        let same = |app: &_, index: usize| {
            let check = |state: &crate::domain::desired::DesiredState| {
                state.apps.get(app)?.checks.get(index).cloned()
            };
            let now = check(state);
            let before = good.apps.get(app).map(|app| app.checks.as_slice());
            now.is_some_and(|now| before.is_some_and(|before| before.contains(&now)))
        };
        let mut failing: Option<BTreeSet<_>> = None;
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(SAMPLE_EVERY).await;
            }
            let probed = self
                .probe_all(state, observed, |app, index| {
                    same(app, index)
                        && failing
                            .as_ref()
                            .is_none_or(|failing| failing.contains(&(app.clone(), index)))
                })
                .await;
            let still: BTreeSet<_> = probed
                .into_iter()
                .filter_map(|(id, probed)| match probed {
                    Probed::Passed => None,
                    Probed::Failed(_) => Some(id),
                })
                .collect();
            let none = still.is_empty();
            failing = Some(still);
            if none {
                break;
            }
        }
        baseline.checks = failing.unwrap_or_default();
        let ran = self.run_scripts(&BTreeSet::new()).await;
        baseline.scripts = ran.required.into_iter().map(|(path, _)| path).collect();
        baseline
    }
}

/// Whether the device is at last-good, but for what a heal only notes.
fn is_there(back: &Plan) -> bool {
    back.blocked.is_empty()
        && back.steps.iter().all(|step| {
            matches!(
                step.action,
                Action::SetRestart { .. }
                    | Action::DisownFile { .. }
                    | Action::StartContainer { .. }
            )
        })
}
