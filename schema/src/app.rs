//! `apps/<app>/app.toml`: files, services, checks and the gate of one application.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::ServiceName;
use crate::path::AbsPath;

/// What a changed file makes happen. Written `restart:service:broker`, `signal:HUP:service:broker`,
/// `restart:unit:chrony.service`, `reload:unit:chrony.service`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OnChange {
    /// Restarts a service of the same app.
    RestartService(ServiceName),
    /// Sends a signal (`HUP`) to a service of the same app.
    SignalService {
        /// The signal without `SIG`, in capitals.
        signal: String,
        /// To which service.
        service: ServiceName,
    },
    /// Restarts a systemd unit.
    RestartUnit(String),
    /// Reloads a systemd unit.
    ReloadUnit(String),
}

/// What happens to a file that is no longer declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum OnRemove {
    /// It is deleted (the default).
    #[default]
    Delete,
    /// What stood there before the first write comes back; deleted where nothing did.
    Restore,
    /// It stays as it is.
    Keep,
}

/// What "this app works" means beyond its containers' health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is tried.
    pub probe: Probe,
    /// How long one try may take; 5 s where none is given.
    pub timeout: Duration,
}

/// One way of asking whether something works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// `tcp = "127.0.0.1:1883"`: a connection is accepted.
    Tcp(String),
    /// `http = "http://..."`: the answer's status is 200 to 399.
    Http(String),
    /// `command = [...]` on the host, where the guard allows it: exit code 0.
    Command(Vec<String>),
    /// `unit = "chrony.service"`: systemd calls it active.
    Unit(String),
}

/// When an app counts as good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Not healthy by then: the device goes back to last-good.
    pub deadline: Duration,
    /// Healthy for this long without a break before it is called good.
    pub soak: Duration,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(120),
            soak: Duration::from_secs(10),
        }
    }
}

/// The path on the device with its file's metadata, as app.toml declares it.
pub type DevicePath = AbsPath;
/// Placeholder for services by name.
pub type Named<T> = BTreeMap<ServiceName, T>;
