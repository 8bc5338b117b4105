//! What was not well before a change. Taken before its first step and kept with the trial, so that a power cut in the soak does
//! not make the change's own damage look old, nor old damage look like the change's.

use std::collections::BTreeSet;

use evenkeel_schema::name::AppName;
use serde::{Deserialize, Serialize};

use super::resource::ServiceId;

/// What was not well before a change, and so does not fail it. Where nothing is named, all was well.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Baseline {
    /// Services, in the order of their ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<(ServiceId, Ailment)>,
    /// Checks, by their app and their place in its declaration, that last-good declares as the change does.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub checks: BTreeSet<(AppName, usize)>,
    /// The device's own scripts, by their paths.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub scripts: BTreeSet<String>,
}

/// What was wrong with a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ailment {
    /// It was not well, and the change does not touch it: it is not judged.
    Untouched,
    /// It ran, and its health check failed; the change makes it anew, and it need not do better than run.
    Unhealthy,
    /// The engine started it again and again; the change makes it anew, and it may go on like that.
    KeepsEnding,
    /// The kernel had killed something in it for memory; else it was well.
    Memory,
}

impl Baseline {
    /// What was wrong with a service.
    #[must_use]
    pub fn of(&self, id: &ServiceId) -> Option<Ailment> {
        self.services
            .iter()
            .find(|(known, _)| known == id)
            .map(|(_, ailment)| *ailment)
    }

    /// What was not well, in words; `None`: nothing.
    #[must_use]
    pub fn told(&self) -> Option<String> {
        let services = self.services.iter().map(|(id, was)| {
            let was = match was {
                Ailment::Untouched => "was not well, and is not touched",
                Ailment::Unhealthy => "was unhealthy",
                Ailment::KeepsEnding => "kept ending",
                Ailment::Memory => "had been short of memory",
            };
            format!("service {id} {was}")
        });
        let checks = self
            .checks
            .iter()
            .map(|(app, index)| format!("check {} of {app} failed", index + 1));
        let scripts = self.scripts.iter().map(|path| format!("{path} failed"));
        let all: Vec<String> = services.chain(checks).chain(scripts).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }
}
