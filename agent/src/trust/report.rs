//! Signed reports: one line of JSON, and behind it the SSH signature of the device's own key over that line.
//!
//! The signature is what `ssh-keygen -Y sign -n evenkeel-report` makes over the first line, its newline included, so that
//! `ssh-keygen -Y verify` checks it too. Refuses a report of another device than the one whose key signed it, of another
//! fleet, and, among several, one that is not its device's newest.
//!
//! Limits: a report proves what the device said, and when by its own clock; not that it was so.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::key::Key;
use super::sshsig::{ArmoredSignature, SignatureError};
use crate::domain::device_report::{DeviceReport, FORMAT};

/// The namespace that reports are signed in: no such signature is good for a commit, nor the other way round.
pub const NAMESPACE: &str = "evenkeel-report";
/// The largest report taken: thousands of apps.
pub const MOST: usize = 1024 * 1024;

/// Why a report does not count.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It is no report.
    #[error("it is not a signed report: {0}")]
    Malformed(String),
    /// It is written as another version writes.
    #[error("it has format {0}, and this version of evenkeel reads format {FORMAT}")]
    Format(u32),
    /// The fleet repository has no key for the device.
    #[error("{0}")]
    Unknown(String),
    /// It is of another fleet.
    #[error("it is a report of the fleet `{has}`, and this repository is the fleet `{wanted}`")]
    OtherFleet {
        /// What it says.
        has: String,
        /// What it should say.
        wanted: String,
    },
    /// Another key signed it.
    #[error("it is signed by {by}, and devices/{device}.toml declares {declared}")]
    WrongKey {
        /// The device that it speaks of.
        device: String,
        /// Who signed.
        by: String,
        /// Whose signature would do.
        declared: String,
    },
    /// It was signed for something else.
    #[error("its signature was made for `{0}`, not for `{NAMESPACE}`")]
    WrongNamespace(String),
    /// The signature is not its key's over these bytes.
    #[error("its signature is wrong")]
    Signature(#[source] SignatureError),
}

impl ReportError {
    /// One stable word.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Format(_) => "unsupported",
            Self::Unknown(_) => "unknown-device",
            Self::OtherFleet { .. } => "other-fleet",
            Self::WrongKey { .. } => "wrong-key",
            Self::WrongNamespace(_) => "wrong-namespace",
            Self::Signature(_) => "bad-signature",
        }
    }
}

/// A report that its device's declared key has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedReport {
    report: DeviceReport,
    digest: String,
}

impl VerifiedReport {
    /// What the device says.
    #[must_use]
    pub const fn report(&self) -> &DeviceReport {
        &self.report
    }

    /// The SHA-256 of what was signed.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// The SHA-256 of a report's line, in hexadecimal: what the next one calls `previous`.
#[must_use]
pub fn digest(line: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for byte in Sha256::digest(line) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The line that is signed.
#[must_use]
pub fn line(report: &DeviceReport) -> String {
    let json = serde_json::to_string(report).expect("a report's keys are strings");
    format!("{json}\n")
}

/// Reads a signed report, and holds it against the key that the fleet declares for its device.
///
/// # Errors
/// See [`ReportError`].
pub fn verify(
    bytes: &[u8],
    fleet: &str,
    key_of: impl FnOnce(&str) -> Result<Key, String>,
) -> Result<VerifiedReport, ReportError> {
    let malformed = |why: &str| ReportError::Malformed(why.to_owned());
    if bytes.len() > MOST {
        return Err(malformed("it is too long"));
    }
    let end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or_else(|| malformed("it has no signature behind its first line"))?;
    let (line, armor) = bytes.split_at(end + 1);
    // What is not signed yet decides only whose key is asked for.
    let any: serde_json::Value =
        serde_json::from_slice(line).map_err(|_| malformed("its first line is not JSON"))?;
    match any["format"].as_u64() {
        Some(format) if format == u64::from(FORMAT) => {}
        Some(format) => {
            return Err(ReportError::Format(
                u32::try_from(format).unwrap_or(u32::MAX),
            ));
        }
        None => return Err(malformed("it names no format")),
    }
    let report: DeviceReport = serde_json::from_value(any)
        .map_err(|error| ReportError::Malformed(format!("its first line: {error}")))?;
    let signature = ArmoredSignature::parse(armor)
        .map_err(|error| ReportError::Malformed(format!("behind its first line: {error}")))?;
    let declared = key_of(&report.device).map_err(ReportError::Unknown)?;
    if signature.namespace() != NAMESPACE {
        return Err(ReportError::WrongNamespace(
            signature.namespace().to_owned(),
        ));
    }
    if *signature.key() != declared || signature.certificate().is_some() {
        return Err(ReportError::WrongKey {
            device: report.device,
            by: signature.key().to_string(),
            declared: declared.to_string(),
        });
    }
    signature.verify(line).map_err(ReportError::Signature)?;
    match &report.fleet {
        Some(has) if has != fleet => Err(ReportError::OtherFleet {
            has: has.clone(),
            wanted: fleet.to_owned(),
        }),
        Some(_) | None => Ok(VerifiedReport {
            digest: digest(line),
            report,
        }),
    }
}

/// Why one of several reports of a device is not the one that counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Superseded {
    /// There is a newer one.
    #[error("it is number {has} of its device, and {newer} is newer: an old report proves nothing")]
    Older {
        /// Its number.
        has: u64,
        /// The newest one's.
        newer: u64,
    },
    /// Two say different things under one number.
    #[error(
        "two reports of this device have number {0} and say different things: two machines have its key"
    )]
    Forked(u64),
}

impl Superseded {
    /// One stable word.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Older { .. } => "older",
            Self::Forked(_) => "forked",
        }
    }
}

/// Which of several reports count: of each device the newest. In the order given.
#[must_use]
pub fn newest(all: &[VerifiedReport]) -> Vec<Result<(), Superseded>> {
    let mut top: BTreeMap<&str, (u64, &str, bool)> = BTreeMap::new();
    for one in all {
        let (sequence, digest) = (one.report.sequence, one.digest.as_str());
        let entry = top
            .entry(&one.report.device)
            .or_insert((sequence, digest, false));
        match sequence.cmp(&entry.0) {
            std::cmp::Ordering::Greater => *entry = (sequence, digest, false),
            std::cmp::Ordering::Equal => entry.2 |= digest != entry.1,
            std::cmp::Ordering::Less => {}
        }
    }
    all.iter()
        .map(|one| {
            let has = one.report.sequence;
            match top.get(one.report.device.as_str()) {
                Some((newer, _, _)) if *newer > has => {
                    Err(Superseded::Older { has, newer: *newer })
                }
                Some((_, _, true)) => Err(Superseded::Forked(has)),
                Some(_) | None => Ok(()),
            }
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]
#[path = "report/tests.rs"]
mod tests;
