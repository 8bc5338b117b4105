//! The trust file: the second copy of the adopted trust sets, beside the journal's own.
//!
//! A trust set that is lost takes the device back to keys that its fleet has long taken away, and a database alone does
//! not keep it safe enough. So the sets also stand in `trust-set`: twice, each with an HMAC of the device's key, and the
//! whole file replaced at once (temporary file, fsync, rename, fsync of the directory). It is written before the journal;
//! the higher serial counts, and the other copy is mended and that is told.
//!
//! Where neither copy can be used and something says that there was one, the sets are lost: the device holds until a
//! person decides, and never goes back by itself. The file is written before the first floor already, without a set in it:
//! so one that is not there was taken away.

use std::io;
use std::path::{Path, PathBuf};

use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::beside;
use crate::adapter::durable;
use crate::adapter::state_dir::DeviceKey;
use crate::domain::history::AdoptedSet;

const NAME: &str = "trust-set";
/// What the HMAC begins with, so that nothing else of ours can stand in its place.
const PURPOSE: &[u8] = b"evenkeel trust-set 1\0";
const MAC: usize = 32;
/// A half begins with its body's length.
const LENGTH: usize = 8;
/// The most that is read: two halves of as many sets as are kept, each of the largest size, written as JSON.
const MOST: u64 = 32 * 1024 * 1024;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// There is no file.
    Absent,
    /// Both halves agree.
    Whole(Vec<AdoptedSet>),
    /// One half is damaged; the other holds this.
    Half(Vec<AdoptedSet>),
    /// Neither half can be read, or they were written under another key.
    Damaged,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    sets: Vec<AdoptedSet>,
}

/// The file.
#[derive(Debug)]
pub(super) struct TrustFile {
    dir: PathBuf,
    key: DeviceKey,
}

impl TrustFile {
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
        let (first, second) = bytes.split_at(bytes.len() / 2);
        // A file that was cut has its middle elsewhere; the first half's own length still finds its end.
        let first = self.decode(first).or_else(|| self.decode(&bytes));
        let second = self.decode(second);
        Ok(match (first, second) {
            (Some(one), Some(other)) if one == other => Reading::Whole(one),
            // Never made by us, but the rule stands: the higher serial counts.
            (Some(one), Some(other)) if serial(&one) >= serial(&other) => Reading::Half(one),
            (Some(_), Some(other)) => Reading::Half(other),
            (Some(sets), None) | (None, Some(sets)) => Reading::Half(sets),
            (None, None) => Reading::Damaged,
        })
    }

    pub(super) fn write(&self, sets: &[AdoptedSet]) -> io::Result<()> {
        let body = serde_json::to_vec(&Body {
            sets: sets.to_vec(),
        })?;
        let mut half = (body.len() as u64).to_be_bytes().to_vec();
        half.extend_from_slice(&body);
        half.extend_from_slice(&self.mac(&body).finalize().into_bytes());
        let whole = [half.as_slice(), half.as_slice()].concat();
        durable::write(&self.dir, NAME, &whole, 0o600)
    }

    /// Puts something in the file's place that is no trust file, until a person decides.
    pub(super) fn mark_lost(&self) -> io::Result<()> {
        durable::write(&self.dir, NAME, b"what stood here is lost\n", 0o600)
    }

    fn mac(&self, body: &[u8]) -> Hmac<Sha256> {
        beside::mac(&self.key, PURPOSE, body)
    }

    fn decode(&self, half: &[u8]) -> Option<Vec<AdoptedSet>> {
        let (length, rest) = half.split_at_checked(LENGTH)?;
        let length = u64::from_be_bytes(length.try_into().ok()?);
        let (body, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.mac(body).verify_slice(rest.get(..MAC)?).ok()?;
        let body: Body = serde_json::from_slice(body).ok()?;
        Some(body.sets)
    }
}

/// The serial of the set in force; 0 without one.
pub(super) fn serial(sets: &[AdoptedSet]) -> u64 {
    sets.last().map_or(0, |set| set.serial)
}

/// The journal's copy, as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JournalCopy {
    /// It is what was written last, or nothing ever was.
    Read,
    /// It is there and cannot be used.
    Damaged,
}

/// Whether this device has been at work before, by what else is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Past {
    /// Its journal goes on from before, or nothing of ours is here yet.
    Known,
    /// There is a floor or a second copy, and the journal begins anew, or knows less than that: what it knew is lost.
    Lost,
}

/// What the two copies say together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Agreed {
    /// The sets that count.
    pub(super) sets: Vec<AdoptedSet>,
    /// Why they are lost, where they are.
    pub(super) lost: Option<String>,
    /// What was found wrong, for people.
    pub(super) warning: Option<String>,
    /// Whether the file must be written again.
    pub(super) mend_file: bool,
    /// Whether the journal's copy must be.
    pub(super) mend_journal: bool,
    /// Whether the loss must be written down: the next start would not see it.
    pub(super) mark_lost: bool,
}

/// Compares the copies: the higher serial counts.
pub(super) fn agree(
    file: io::Result<Reading>,
    journal: &[AdoptedSet],
    copy: JournalCopy,
    past: Past,
) -> Agreed {
    let (in_file, trouble) = match file {
        Ok(Reading::Whole(sets)) => (Some(sets), None),
        Ok(Reading::Half(sets)) => (Some(sets), Some("one half of it is damaged".to_owned())),
        Ok(Reading::Absent) => (None, None),
        Ok(Reading::Damaged) => (
            None,
            Some("it is damaged, or was written under another key".to_owned()),
        ),
        Err(error) => (None, Some(error.to_string())),
    };
    let Some(in_file) = in_file else {
        if !journal.is_empty() {
            let why = trouble.unwrap_or_else(|| "it is not there".to_owned());
            return Agreed {
                sets: journal.to_vec(),
                warning: Some(format!(
                    "the trust file: {why}; written again from the journal"
                )),
                mend_file: true,
                ..Agreed::default()
            };
        }
        let why = match (&trouble, copy) {
            (Some(why), JournalCopy::Read) => format!("the trust file: {why}"),
            (Some(why), JournalCopy::Damaged) => {
                format!("the trust file: {why}; and the journal's copy is damaged, too")
            }
            (None, JournalCopy::Damaged) => {
                "the journal's copy is damaged, and the trust file is not there".to_owned()
            }
            (None, JournalCopy::Read) => match past {
                Past::Known => {
                    return Agreed {
                        mend_file: true,
                        ..Agreed::default()
                    };
                }
                Past::Lost => {
                    return Agreed {
                        lost: Some(
                            "neither the journal's copy nor the trust file is there, and this device has run before"
                                .to_owned(),
                        ),
                        mark_lost: true,
                        ..Agreed::default()
                    };
                }
            },
        };
        return Agreed {
            lost: Some(why),
            ..Agreed::default()
        };
    };
    let (here, there) = (serial(&in_file), serial(journal));
    if here < there {
        return Agreed {
            sets: journal.to_vec(),
            warning: Some(format!(
                "the trust file is older than the journal (serial {here} where there was {there}): it was put back, and is \
                 written again"
            )),
            mend_file: true,
            ..Agreed::default()
        };
    }
    let same = in_file == journal;
    let warning = match (&trouble, same) {
        (Some(why), _) => Some(format!("the trust file: {why}; the other half counts")),
        (None, true) => None,
        (None, false) => Some(format!(
            "the journal's copy of the trust sets is lost or older (serial {there} where the trust file has {here}): it is \
             written again"
        )),
    };
    Agreed {
        sets: in_file,
        lost: None,
        warning,
        mend_file: trouble.is_some(),
        mend_journal: !same,
        mark_lost: false,
    }
}

#[cfg(test)]
#[path = "trust_file/tests.rs"]
mod tests;
