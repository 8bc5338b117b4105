//! The owner's limits, asked of a state on this device: as it is declared, and where its paths really lead just now.

use super::Agent;
use super::session::chain;
use crate::domain::desired::DesiredState;
use crate::port::World;
use crate::port::files::{Files as _, FilesError};
use crate::resolve::guard::{self, Found, Look, Place, Violation};

/// What stands in a state's way on this device.
#[derive(Debug, Default)]
pub(super) struct Limited {
    /// What the owner does not allow.
    pub(super) violations: Vec<Violation>,
    /// Declared files that this device cannot have: no such owner, a folder in their place.
    pub(super) unusable: Vec<String>,
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
