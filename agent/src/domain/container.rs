//! A container to be made, whole.

use evenkeel_schema::name::DeviceId;
use evenkeel_schema::path::AbsPath;
use evenkeel_schema::service::Service;

use super::resource::ServiceId;

/// A container to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Which service it is.
    pub id: ServiceId,
    /// Its name in the engine.
    pub name: String,
    /// Its declaration.
    pub service: Service,
    /// Hash of the declaration and of the contents that it mounts: put on it as a label.
    pub config: String,
    /// The device it belongs to: put on it as a label.
    pub device: DeviceId,
    /// Names in the engine of the app's networks it joins, with its aliases there; empty where `network_mode` says
    /// otherwise.
    pub networks: Vec<(String, Vec<String>)>,
    /// Engine names of the volumes by their key in the app.
    pub volumes: std::collections::BTreeMap<String, String>,
    /// Configs and secrets: where each lies on the device, and where the container sees it.
    pub files: Vec<(AbsPath, String)>,
    /// Names in the engine of the containers whose namespaces it shares, by the services that have them.
    pub shared: std::collections::BTreeMap<String, String>,
}
