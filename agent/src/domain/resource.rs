//! What a device has that we may own.

use std::fmt;

use evenkeel_schema::name::{AppName, ServiceName};
use evenkeel_schema::path::AbsPath;
use serde::{Deserialize, Serialize};

/// A service of an app on this device: one container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceId {
    /// The app.
    pub app: AppName,
    /// The service inside the app.
    pub service: ServiceName,
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.service)
    }
}

/// One thing on the device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ResourceId {
    /// A file, by its declared path.
    File(AbsPath),
    /// A container.
    Service(ServiceId),
    /// A network, by its name in the engine.
    Network(String),
    /// A volume, by its name in the engine.
    Volume(String),
    /// An image, by its reference.
    Image(String),
    /// A systemd unit.
    Unit(String),
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file{path}"),
            Self::Service(id) => write!(f, "service/{id}"),
            Self::Network(name) => write!(f, "network/{name}"),
            Self::Volume(name) => write!(f, "volume/{name}"),
            Self::Image(name) => write!(f, "image/{name}"),
            Self::Unit(name) => write!(f, "unit/{name}"),
        }
    }
}

/// Why a copy is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyReason {
    /// It stood there before our first write.
    Original,
    /// We wrote the file, and a person changed it since.
    EditedByHand,
}
