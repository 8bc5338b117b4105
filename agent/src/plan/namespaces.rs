//! Containers that live in the namespaces of others (`network_mode: service:NAME`): they end with those.

use std::collections::BTreeSet;

use super::container::spec as spec_of;
use super::services::{Question, Services, in_the_way, keeper, of, outdated};
use crate::domain::container::ContainerSpec;
use crate::domain::observed::ObservedContainer;
use crate::domain::resource::ServiceId;

/// Whether a container lives in another's namespaces.
pub(super) fn is_guest(container: &ObservedContainer) -> bool {
    !lived_in(container).is_empty()
}

/// The namespaces of other containers that a container lives in, as the engine tells them.
fn lived_in(container: &ObservedContainer) -> BTreeSet<&str> {
    ["network_mode", "pid", "ipc"]
        .into_iter()
        .filter_map(|key| container.facts.get(key)?.as_str())
        .filter(|mode| mode.starts_with("container:"))
        .collect()
}

/// Why a container has to go before others are made again: the one in whose namespaces it lives is among them.
pub(super) fn made_again(question: &Question<'_>, spec: &ContainerSpec) -> Option<String> {
    for name in spec.service.shares_with() {
        let host = ServiceId {
            app: spec.id.app.clone(),
            service: name.parse().ok()?,
        };
        let Some(declared) = spec_of(question.desired, &host) else {
            continue;
        };
        let standing = keeper(&declared, of(question, &host))
            .filter(|kept| !question.inventory.is_pending(&kept.engine_id));
        // The schema refuses services that share in a circle.
        if let Some(standing) = standing
            && (in_the_way(question, &declared, standing).is_some()
                || outdated(question, &declared, standing).is_some())
        {
            return Some(format!(
                "it lives in a namespace of {name}, which is made again"
            ));
        }
    }
    None
}

/// Why a container has to be made again that lives in another's namespaces.
pub(super) fn lost(
    services: &Services,
    question: &Question<'_>,
    spec: &ContainerSpec,
    kept: &ObservedContainer,
) -> Option<String> {
    for name in spec.service.shares_with() {
        let other = ServiceId {
            app: spec.id.app.clone(),
            service: name.parse().ok()?,
        };
        if services.is_made(&other) {
            return Some(format!(
                "it lives in a namespace of {name}, which is made again"
            ));
        }
        let now = of(question, &other)
            .iter()
            .map(|container| format!("container:{}", container.engine_id));
        let lived_in = lived_in(kept);
        let mut now = now.peekable();
        if !lived_in.is_empty()
            && now.peek().is_some()
            && !now.any(|mode| lived_in.contains(mode.as_str()))
        {
            return Some(format!(
                "it lives in a namespace of a container of {name} that is gone"
            ));
        }
    }
    None
}
