//! Signed reports on the device: their numbers, their signature, and the file that others read.
//!
//! Owns `report` and its copy in the state directory: the number and the digest of the last report. They are written only
//! when a report is made, and before it goes anywhere: a number is never used twice. Refuses to make a folder: a mount that
//! is not there must not be filled beneath.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use ssh_key::{HashAlg, LineEnding, PrivateKey};

use super::durable;
use super::twin::{self, Reading};
use crate::domain::device_report::DeviceReport;
use crate::domain::revision::Timestamp;
use crate::trust::report::{NAMESPACE, digest, line};

/// In the state directory.
const MEMORY: &str = "report";
/// What a report's file is called, behind the device's id.
pub const SUFFIX: &str = ".report";

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// Its number could not be remembered.
    #[error("{}: the number of a report cannot be kept", .state_dir.display())]
    Memory {
        /// Where.
        state_dir: PathBuf,
        /// The system's word.
        #[source]
        cause: io::Error,
    },
    /// It was not signed.
    #[error("the device's key does not sign")]
    Sign(#[source] ssh_key::Error),
    /// It was not put down.
    #[error("{}: cannot write the report there", .dir.display())]
    Put {
        /// Where.
        dir: PathBuf,
        /// The system's word.
        #[source]
        cause: io::Error,
    },
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Last {
    sequence: u64,
    digest: Option<String>,
}

/// A report with its signature, as it is put down or sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// What was signed.
    pub report: DeviceReport,
    /// The line, and the signature behind it.
    pub text: String,
}

/// Gives a report its number and time, and signs it. Another process of this device's waits meanwhile.
///
/// # Errors
/// [`MakeError`].
pub fn sign(
    state_dir: &Path,
    key: &PrivateKey,
    mut report: DeviceReport,
    now: Timestamp,
) -> Result<Signed, MakeError> {
    let memory = |cause: io::Error| MakeError::Memory {
        state_dir: state_dir.to_owned(),
        cause,
    };
    let lock = File::open(state_dir).map_err(memory)?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)
        .map_err(|errno| memory(errno.into()))?;
    let last = match twin::read(state_dir, MEMORY).map_err(memory)? {
        Reading::Whole(text) | Reading::Half(text, _) => serde_json::from_str(&text).ok(),
        Reading::Absent | Reading::Plain(_) | Reading::Damaged => None,
    };
    // A device that lost its memory is not to be taken for one that shows old reports again: it goes on from the clock.
    let last = last.unwrap_or_else(|| Last {
        sequence: u64::try_from(now.0).unwrap_or_default(),
        digest: None,
    });
    report.time = now;
    report.sequence = last.sequence.saturating_add(1);
    report.previous = last.digest;
    let line = line(&report);
    let armor = key
        .sign(NAMESPACE, HashAlg::Sha512, line.as_bytes())
        .and_then(|signature| signature.to_pem(LineEnding::LF))
        .map_err(MakeError::Sign)?;
    let next = Last {
        sequence: report.sequence,
        digest: Some(digest(line.as_bytes())),
    };
    let next = serde_json::to_string(&next).expect("a number and a text are JSON");
    twin::write(state_dir, MEMORY, &next).map_err(memory)?;
    let end = if armor.ends_with('\n') { "" } else { "\n" };
    Ok(Signed {
        report,
        text: format!("{line}{armor}{end}"),
    })
}

/// Puts a report into a folder, in the place of the device's last one there.
///
/// # Errors
/// [`MakeError::Put`].
pub fn put(dir: &Path, signed: &Signed) -> Result<PathBuf, MakeError> {
    let name = format!("{}{SUFFIX}", signed.report.device);
    durable::write(dir, &name, signed.text.as_bytes(), 0o644).map_err(|cause| MakeError::Put {
        dir: dir.to_owned(),
        cause,
    })?;
    Ok(dir.join(name))
}
