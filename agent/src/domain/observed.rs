//! What this device is: seen, absent, or not known. Could not look is never gone.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_schema::path::AbsPath;
use serde::{Deserialize, Serialize};

use super::resource::ServiceId;
use super::revision::ContentId;

/// The answer of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<T> {
    /// It is there, like this.
    Present(T),
    /// We looked, and it is not there.
    Absent,
    /// We could not look, for this reason.
    Unknown(String),
}

/// Everything that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedState {
    /// Each path that is desired or in the inventory.
    pub files: BTreeMap<AbsPath, Seen<ObservedFile>>,
    /// The engine's side: `Unknown` where it did not answer, `Absent` where nothing asks for an engine and there is none.
    pub engine: Seen<EngineView>,
}

/// A file as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedFile {
    /// What kind of thing stands at the path.
    pub kind: FileKind,
    /// Content id, for a regular file.
    pub content: Option<ContentId>,
    /// Permission bits.
    pub mode: u32,
    /// Owner's name where the device knows one, else the number.
    pub owner: String,
    /// Group's name where the device knows one, else the number.
    pub group: String,
    /// Owner's number.
    pub uid: u32,
    /// Group's number.
    pub gid: u32,
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device node, socket or pipe.
    Other,
}

/// What the engine told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EngineView {
    /// Our containers (they carry our label and this device's id) by service. More than one for a service happens
    /// after a crash or by hand; the plan keeps one at most.
    pub containers: BTreeMap<ServiceId, Vec<ObservedContainer>>,
    /// Names of containers that are not ours, to tell a taken name before anything moves.
    pub foreign_container_names: Vec<String>,
    /// Networks by name; `true` where ours.
    pub networks: BTreeMap<String, Owned>,
    /// Volumes by name; `true` where ours.
    pub volumes: BTreeMap<String, Owned>,
    /// Images asked about, by reference as declared; absent references are not on the device.
    pub images: BTreeMap<String, ObservedImage>,
    /// Those of them that are not known to be whole on disk: to be pulled once more before a container is made of them.
    pub unsettled: BTreeSet<String>,
}

/// Whether a thing carries our label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// Ours, for which app (`None`: not ours).
    pub app: Option<String>,
    /// The hash of its declaration that we put on it as a label.
    pub config: Option<String>,
    /// Whether a container uses it; a volume: one that is not ours.
    pub in_use: bool,
}

/// An image on the device: what a container inherits from it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObservedImage {
    /// `sha256:...`.
    pub id: String,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Its command.
    pub cmd: Option<Vec<String>>,
    /// Its entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// Its user.
    pub user: String,
    /// Its working directory.
    pub working_dir: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its stop signal.
    pub stop_signal: Option<String>,
    /// Whether it brings a health check of its own.
    pub has_healthcheck: bool,
    /// Volumes it declares.
    pub volumes: Vec<String>,
    /// Ports it exposes.
    pub exposed: Vec<String>,
}

/// One of our containers as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedContainer {
    /// The engine's id.
    pub engine_id: String,
    /// Its name, without a leading `/`.
    pub name: String,
    /// The configuration hash that we put on it as a label when we made it.
    pub config: Option<String>,
    /// The image it runs, by id.
    pub image_id: String,
    /// What it does now.
    pub state: RunState,
    /// The engine's restart policy as it stands: `no`, `always`, `on-failure:3`, `unless-stopped`.
    pub restart: String,
    /// How often the engine restarted it.
    pub restarts: u64,
    /// Whether the kernel killed it for memory.
    pub oom_killed: bool,
    /// When it was last started, as the engine tells it (opaque: only compared).
    pub started_at: String,
    /// What its health check says.
    pub health: Health,
    /// Its settings, normalised, by key: compared with what its declaration and image make us expect, so that a
    /// container changed by hand is seen. See `plan::container`.
    pub facts: Facts,
}

/// Normalised settings of a container by key.
pub type Facts = BTreeMap<String, serde_json::Value>;

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunState {
    /// Made, never started.
    Created,
    /// Running.
    Running,
    /// Stopped by SIGSTOP or the freezer.
    Paused,
    /// The engine is about to start it again.
    Restarting,
    /// Ended with this code.
    Exited(i64),
    /// Being removed, or dead and cannot be removed.
    Dead,
}

/// What a health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    /// There is no health check.
    None,
    /// Not decided yet.
    Starting,
    /// Good.
    Healthy,
    /// Bad.
    Unhealthy,
}

/// A health check's verdict, with what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkup {
    /// The verdict.
    pub health: Health,
    /// How the last test ended and what it said, where it did not pass: one line, short, safe to show.
    pub said: Option<String>,
}

impl From<Health> for Checkup {
    fn from(health: Health) -> Self {
        Self { health, said: None }
    }
}
