//! The owner's limits, asked of a state on this device: as it is declared, and where its paths really lead just now.

use super::Agent;
use super::session::chain;
use crate::domain::desired::DesiredState;
use crate::domain::history::{GoodRevision, Inventory};
use crate::domain::observed::ObservedState;
use crate::plan::{self, Left, Mode, Plan, Step};
use crate::port::World;
use crate::port::files::{Files as _, FilesError};
use crate::resolve::guard::{self, Found, Look, Place, Violation};
use crate::select::Why;

/// What stands in a state's way on this device.
#[derive(Debug, Default)]
pub(super) struct Limited {
    /// What the owner does not allow.
    pub(super) violations: Vec<Violation>,
    /// Declared files that this device cannot have: no such owner, a folder in their place.
    pub(super) unusable: Vec<String>,
}

/// What the owner does not allow any more of a good revision.
#[derive(Debug, Default)]
pub(super) struct Excluded {
    /// Why, each.
    violations: Vec<Violation>,
    /// What is left as it is for that.
    pub(super) left: Left,
    /// Whether nothing is done for the revision at all.
    pub(super) all: bool,
}

impl Excluded {
    /// In one message: what is excluded, and what is not done for it. `None` where nothing is.
    pub(super) fn why(&self, good: &GoodRevision, untaken: &[Step]) -> Option<String> {
        if self.violations.is_empty() {
            return None;
        }
        let reasons: Vec<String> = self.violations.iter().map(ToString::to_string).collect();
        let not_done: Vec<String> = untaken.iter().map(ToString::to_string).collect();
        let not_done = match not_done.as_slice() {
            [] => String::new(),
            steps => format!("; not done: {}", steps.join("; ")),
        };
        Some(format!(
            "the guard of this device excludes what is good here ({}), which is left as it is and not made again; \
             release what it allows, or loosen [guard]: {}{not_done}",
            good.commit().short(),
            reasons.join("; ")
        ))
    }
}

impl<W: World> Agent<W> {
    /// Everything in a state that the owner does not allow here.
    pub(super) fn limited(&self, state: &DesiredState) -> Limited {
        let limits = &self.settings.limits;
        let mut found = Limited {
            violations: guard::violations(state, limits),
            unusable: Vec::new(),
        };
        for look in guard::looks(state) {
            match self.look_at(&look) {
                Ok(seen) => found.violations.extend(guard::really(&look, &seen, limits)),
                Err(FilesError::Declared { path, what }) => {
                    found.unusable.push(format!("{path}: {what}"));
                }
                // A file that cannot be looked at now stops the plan as unknown.
                Err(FilesError::System { .. }) if matches!(look.at, Place::File(..)) => {}
                Err(error @ FilesError::System { .. }) => {
                    let seen = Found::Astray(format!("cannot be judged now: {}", chain(&error)));
                    found.violations.extend(guard::really(&look, &seen, limits));
                }
            }
        }
        found.violations.sort();
        found.violations.dedup();
        found.unusable.dedup();
        found
    }

    /// What the owner does not allow any more of a revision that is good here.
    ///
    /// What runs is left as it is, and the rest is kept and healed. Only a person's own way back to another revision is
    /// refused whole: half of it is not what was asked for.
    pub(super) fn excluded(
        &self,
        good: &GoodRevision,
        state: &DesiredState,
        why: &Why,
    ) -> Excluded {
        let violations = self.limited(state).violations;
        let mut left = Left::of(
            state,
            violations.iter().map(|violation| &violation.resource),
        );
        if matches!(why, Why::AtTip) {
            left = left.ending_volumes();
        }
        let elsewhere = self.session.report().revision.applied.as_ref() != Some(good.commit());
        Excluded {
            all: matches!(why, Why::Pinned(_)) && elsewhere && !violations.is_empty(),
            left,
            violations,
        }
    }

    /// The way back to a good revision, without what is left; and the steps that are not taken for that.
    pub(super) fn plan_keep(
        &self,
        state: &DesiredState,
        observed: &ObservedState,
        inventory: &Inventory,
        left: &Left,
    ) -> (Plan, Vec<Step>) {
        let plan = plan::plan_leaving(state, observed, inventory, Mode::Keep, left);
        if left.is_empty() {
            return (plan, Vec::new());
        }
        let whole = plan::plan(state, observed, inventory, Mode::Keep);
        let untaken = whole
            .steps
            .into_iter()
            .filter(|step| !plan.steps.contains(step))
            .collect();
        (plan, untaken)
    }

    fn look_at(&self, look: &Look<'_>) -> Result<Found, FilesError> {
        let files = self.world.files();
        match &look.at {
            Place::File(path, file) => files
                .check(path, file)
                .map(|real| Found::Leads(real.to_string())),
            Place::Source(path, names) => files.leads(path, *names),
            Place::Device(path) => files.nodes(path),
        }
    }
}
