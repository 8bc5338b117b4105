//! One container: what its declaration makes us expect, beside what the engine shows.

use crate::domain::container::ContainerSpec;
use crate::domain::desired::DesiredState;
use crate::domain::observed::{ObservedContainer, ObservedImage};
use crate::domain::resource::ServiceId;

/// One setting that is not as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The setting in Compose's words: `image`, `environment.TZ`, `ports`.
    pub key: String,
    /// What is, for people; secrets and long values shortened.
    pub from: String,
    /// What should be.
    pub to: String,
}

/// The container that a service of the desired state asks for; `None` where the state has no such service.
#[must_use]
pub fn spec(_desired: &DesiredState, _id: &ServiceId) -> Option<ContainerSpec> {
    None
}

/// What differs between a container and its declaration, in the order of the settings' names; empty where nothing
/// does. `image` is what the declared reference is on this device.
#[must_use]
pub fn differences(
    _spec: &ContainerSpec,
    _image: &ObservedImage,
    _actual: &ObservedContainer,
) -> Vec<Difference> {
    Vec::new()
}
