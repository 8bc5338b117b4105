//! What a plan leaves as it is: resources of a good revision that the device's owner does not allow any more.
//!
//! Owns what follows from leaving one: a container whose volume or network is left is left, too, and a network that a
//! left container joins is not made again. Nothing that is left changes, and nothing follows from how it differs.

use std::collections::BTreeSet;

use super::compose;
use super::container::spec;
use crate::domain::desired::DesiredState;
use crate::domain::resource::{ResourceId, ServiceId};

/// What a plan leaves as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Left {
    resources: BTreeSet<ResourceId>,
    joined: BTreeSet<String>,
    volumes: Volumes,
}

/// What becomes of the volumes that are declared no more, and were declared to go then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Volumes {
    /// They stay for now: what is kept may be on its way to somewhere else.
    #[default]
    Stay,
    /// They go.
    End,
}

impl Left {
    /// These, and what hangs on them in the desired state.
    #[must_use]
    pub fn of<'r>(
        desired: &DesiredState,
        resources: impl IntoIterator<Item = &'r ResourceId>,
    ) -> Self {
        let mut left = Self {
            resources: resources.into_iter().cloned().collect(),
            joined: BTreeSet::new(),
            volumes: Volumes::Stay,
        };
        for (app, declared) in &desired.apps {
            for (service, declaration) in &declared.services {
                let id = ServiceId {
                    app: app.clone(),
                    service: service.clone(),
                };
                let Some(spec) = spec(desired, &id) else {
                    continue;
                };
                let mounted = compose::mounted_volumes(declaration);
                let volumes = spec
                    .volumes
                    .iter()
                    .filter(|(key, _)| mounted.contains(key.as_str()))
                    .map(|(_, name)| ResourceId::Volume(name.clone()));
                let networks = spec
                    .networks
                    .iter()
                    .map(|(name, _)| ResourceId::Network(name.clone()));
                let hangs = volumes.chain(networks).any(|one| left.has(&one));
                let service = ResourceId::Service(id);
                if hangs {
                    left.resources.insert(service.clone());
                }
                if left.has(&service) {
                    left.joined
                        .extend(spec.networks.into_iter().map(|(name, _)| name));
                }
            }
        }
        left
    }

    /// Whether this one is left.
    #[must_use]
    pub fn has(&self, resource: &ResourceId) -> bool {
        self.resources.contains(resource)
    }

    /// Whether a network is not made again, because a container that is left joins it.
    pub(super) fn joins(&self, network: &str) -> bool {
        self.joined.contains(network)
    }

    /// The same, and the volumes that were declared to go with their declaration go.
    #[must_use]
    pub fn ending_volumes(mut self) -> Self {
        self.volumes = Volumes::End;
        self
    }

    /// Whether volumes go.
    pub(super) fn ends_volumes(&self) -> bool {
        self.volumes == Volumes::End
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }
}
