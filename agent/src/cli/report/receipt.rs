//! A receipt: this device's signed report, put back onto the stick that a revision came by.
//!
//! Only where the tree has a folder for it, which `evenkeel bundle` makes. One that says the same as the device's last one
//! there is not written again: a stick that stays in its slot is not worn out.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use evenkeel_schema::agent_config::AgentConfig;
use tokio::sync::broadcast::error::RecvError;

use crate::adapter::report::Hub;
use crate::adapter::reports::{self, SUFFIX};
use crate::adapter::room;
use crate::cli::device;
use crate::domain::device_report::DeviceReport;
use crate::domain::text::chain;
use crate::port::reporter::Event;

/// The folder for receipts in a tree.
pub(in crate::cli) const RECEIPTS: &str = "receipts";
/// What a receipt takes at most, on a file system with large blocks.
const ROOM: u64 = 64 * 1024;

/// What became of a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Receipt {
    /// It is there.
    Written(PathBuf),
    /// The tree takes none.
    NotWanted,
    /// It could not be written, and why.
    Failed(String),
}

impl Receipt {
    /// In a line; `None` where there is nothing to say.
    pub(in crate::cli) fn told(&self) -> Option<String> {
        match self {
            Self::Written(path) => Some(format!("receipt: {}", path.display())),
            Self::NotWanted => None,
            Self::Failed(why) => Some(format!("no receipt could be written: {why}")),
        }
    }
}

impl Receipt {
    /// For programs.
    pub(in crate::cli) fn json(&self) -> serde_json::Value {
        match self {
            Self::Written(path) => serde_json::json!({ "written": path }),
            Self::NotWanted => serde_json::Value::Null,
            Self::Failed(why) => serde_json::json!({ "error": why }),
        }
    }
}

/// The folders on this device that revisions come from.
pub(in crate::cli) fn folders(config: &AgentConfig) -> Vec<PathBuf> {
    let urls = config.source.urls.iter();
    urls.filter_map(|url| {
        let path = url.strip_prefix("file://").unwrap_or(url);
        path.starts_with('/').then(|| PathBuf::from(path))
    })
    .collect()
}

/// Puts a receipt into a tree. Blocks.
fn put(state_dir: &Path, draft: DeviceReport, tree: &Path) -> Receipt {
    let dir = tree.join(RECEIPTS);
    if !dir.is_dir() {
        return Receipt::NotWanted;
    }
    let path = dir.join(format!("{}{SUFFIX}", draft.device));
    if let Some(last) = last(&path)
        && (DeviceReport {
            time: draft.time,
            sequence: draft.sequence,
            previous: draft.previous.clone(),
            ..last
        }) == draft
    {
        return Receipt::Written(path);
    }
    // Before anything is numbered: each number is a write to the device's own memory.
    if let Err(error) = room::look(&dir, ROOM) {
        return Receipt::Failed(chain(&error));
    }
    match super::signed(state_dir, draft, device::now()) {
        Err(why) => Receipt::Failed(why),
        Ok(signed) => match reports::put(&dir, &signed) {
            Ok(path) => Receipt::Written(path),
            Err(error) => Receipt::Failed(chain(&error)),
        },
    }
}

/// What the device said there last.
fn last(path: &Path) -> Option<DeviceReport> {
    let bytes = device::read(path).ok()?;
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    serde_json::from_slice(line).ok()
}

/// Puts a receipt into a tree, on a thread of its own: a stick may be slow, or gone.
pub(in crate::cli) async fn write(state_dir: &Path, hub: &Hub, tree: &Path) -> Receipt {
    let draft = DeviceReport::of(&hub.report(), env!("CARGO_PKG_VERSION"));
    let (state_dir, tree) = (state_dir.to_owned(), tree.to_owned());
    tokio::task::spawn_blocking(move || put(&state_dir, draft, &tree))
        .await
        .unwrap_or_else(|error| Receipt::Failed(error.to_string()))
}

/// Follows what the loop tells, for as long as it does: at the end of each pass every folder gets its receipt.
pub(in crate::cli) async fn follow(state_dir: PathBuf, folders: Vec<PathBuf>, hub: Rc<Hub>) {
    let mut events = hub.listen();
    let mut said = None;
    loop {
        match events.recv().await {
            Ok(Event::Outcome(_)) | Err(RecvError::Lagged(_)) => {
                for folder in &folders {
                    let receipt = write(&state_dir, &hub, folder).await;
                    if let Receipt::Failed(why) = &receipt
                        && said.as_ref() != Some(&receipt)
                    {
                        tracing::warn!(why, "no receipt is written");
                    }
                    if receipt != Receipt::NotWanted {
                        said = Some(receipt);
                    }
                }
            }
            Ok(
                Event::Report(_)
                | Event::Pull { .. }
                | Event::Step(_)
                | Event::Notice(_)
                | Event::Alive
                | Event::Rests(_),
            ) => {}
            Err(RecvError::Closed) => return,
        }
    }
}
