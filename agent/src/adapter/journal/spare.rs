//! The ledger's second copy: `journal.copy`, beside the database.
//!
//! A database that loses its newest changes opens as if nothing had happened, so what it says is compared with this file,
//! which is replaced as a whole (temporary file, fsync, rename, fsync of the directory) after each change and carries the
//! change's number and an HMAC of the device's key. Where the database is older, or a record in it is damaged, this copy
//! is what counts, and the database is written again from it. The contents of revisions, the history and what `status`
//! shows are in the database alone: contents are made again from git, and the rest is told to be lost.
//!
//! Of the adopted trust sets, which have a file of their own, only the serial is here: enough to tell that they are lost.

use std::io;
use std::path::{Path, PathBuf};

use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::beside;
use super::ledger::GoodRecord;
use super::trust_file::serial;
use crate::adapter::durable;
use crate::adapter::state_dir::DeviceKey;
use crate::domain::history::{Deferral, Floor, Inventory, Ledger, Pin, Refusal, Trial};

const NAME: &str = "journal.copy";
/// What the HMAC begins with, so that nothing else of ours can stand in its place.
const PURPOSE: &[u8] = b"evenkeel journal.copy 1\0";
const MAC: usize = 32;
/// The most that is read. An inventory of 20 000 files with long paths fits.
const MOST: u64 = 16 * 1024 * 1024;

/// What is kept twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    /// The number of the change after which this was written.
    pub(super) sequence: u64,
    good: Vec<GoodRecord>,
    trial: Option<Trial>,
    refused: Vec<Refusal>,
    deferred: Option<Deferral>,
    pin: Option<Pin>,
    paused: bool,
    inventory: Inventory,
    floor: Option<Floor>,
    /// Of the trust set in force; 0 without one.
    pub(super) trust_serial: u64,
}

impl Body {
    pub(super) fn of(ledger: &Ledger, sequence: u64) -> Self {
        Self {
            sequence,
            good: ledger.good.iter().map(GoodRecord::from).collect(),
            trial: ledger.trial.clone(),
            refused: ledger.refused.clone(),
            deferred: ledger.deferred.clone(),
            pin: ledger.pin.clone(),
            paused: ledger.paused,
            inventory: ledger.inventory.clone(),
            floor: ledger.floor.clone(),
            trust_serial: serial(&ledger.adopted),
        }
    }

    /// A ledger with what stands here in the place of what the database says.
    pub(super) fn over(self, ledger: &Ledger) -> Ledger {
        Ledger {
            good: self.good.into_iter().map(Into::into).collect(),
            trial: self.trial,
            refused: self.refused,
            deferred: self.deferred,
            pin: self.pin,
            paused: self.paused,
            inventory: self.inventory,
            floor: self.floor,
            report: ledger.report.clone(),
            adopted: ledger.adopted.clone(),
            trust_lost: ledger.trust_lost.clone(),
        }
    }
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// There is no file.
    Absent,
    /// This.
    Whole(Box<Body>),
    /// Something that is not what was written, or not under this key.
    Damaged,
}

/// The file.
#[derive(Debug)]
pub(super) struct Spare {
    dir: PathBuf,
    key: DeviceKey,
}

impl Spare {
    pub(super) fn new(dir: &Path, key: &DeviceKey) -> Self {
        Self {
            dir: dir.to_owned(),
            key: key.clone(),
        }
    }

    pub(super) fn read(&self) -> io::Result<Reading> {
        let Some(bytes) = beside::read(&self.dir.join(NAME), MOST)? else {
            return Ok(Reading::Absent);
        };
        Ok(self
            .decode(&bytes)
            .map_or(Reading::Damaged, |body| Reading::Whole(Box::new(body))))
    }

    pub(super) fn write(&self, body: &Body) -> io::Result<()> {
        let body = serde_json::to_vec(body)?;
        let mut bytes = self.mac(&body).finalize().into_bytes().to_vec();
        bytes.extend_from_slice(&body);
        durable::write(&self.dir, NAME, &bytes, 0o600)
    }

    fn decode(&self, bytes: &[u8]) -> Option<Body> {
        let (mac, body) = bytes.split_at_checked(MAC)?;
        self.mac(body).verify_slice(mac).ok()?;
        serde_json::from_slice(body).ok()
    }

    fn mac(&self, body: &[u8]) -> Hmac<Sha256> {
        beside::mac(&self.key, PURPOSE, body)
    }
}
