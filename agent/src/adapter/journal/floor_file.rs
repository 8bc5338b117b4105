//! The floor file: the first of the floor's three copies, and the journal's witness against going back in time.
//!
//! Two slots, 4 KiB each so that no block of a disk holds both, hold the *same* record, each with its own SHA-256. The
//! whole file is replaced at once (temporary file, fsync, rename, fsync of the directory). So a cut leaves the old file
//! or the new one, and damage to one slot leaves the newest record in the other: an older floor never takes its place.
//!
//! The checksum is plain, without the device's key: whoever can write here can read the key, and the floor has to
//! outlive a lost key.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::beside;
use crate::adapter::durable;
use crate::domain::history::Floor;

/// One disk block each.
const SLOT: usize = 4096;
/// A slot's SHA-256 stands at its end, and covers all before it.
const BODY: usize = SLOT - 32;
const NAME: &str = "floor";

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// Of this layout.
    format: u32,
    /// The floor.
    pub(super) floor: Floor,
    /// The journal's sequence when this was written.
    pub(super) sequence: u64,
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// There is no file.
    Absent,
    /// Both slots agree.
    Whole(Record),
    /// One slot is damaged; the other holds this.
    Half(Record),
    /// Neither slot can be read.
    Damaged,
}

/// The file.
#[derive(Debug)]
pub(super) struct FloorFile {
    dir: PathBuf,
}

impl FloorFile {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    pub(super) fn read(&self) -> io::Result<Reading> {
        // One byte more than there should be, to tell a file that has grown.
        let most = 2 * SLOT as u64 + 1;
        let Some(bytes) = beside::read(&self.dir.join(NAME), most)? else {
            return Ok(Reading::Absent);
        };
        let slot = |at: usize| bytes.get(at..at + SLOT).and_then(decode);
        Ok(match (slot(0), slot(SLOT)) {
            (Some(one), Some(other)) if one == other && bytes.len() == 2 * SLOT => {
                Reading::Whole(one)
            }
            // Never made by us, but the rule stands: the highest generation wins.
            (Some(one), Some(other)) if one.floor.generation >= other.floor.generation => {
                Reading::Half(one)
            }
            (Some(_), Some(other)) => Reading::Half(other),
            (Some(record), None) | (None, Some(record)) => Reading::Half(record),
            (None, None) => Reading::Damaged,
        })
    }

    pub(super) fn write(&self, floor: &Floor, sequence: u64) -> io::Result<()> {
        let slot = encode(&Record {
            format: 1,
            floor: floor.clone(),
            sequence,
        })?;
        let mut bytes = slot.clone();
        bytes.extend_from_slice(&slot);
        durable::write(&self.dir, NAME, &bytes, 0o600)
    }
}

fn encode(record: &Record) -> io::Result<Vec<u8>> {
    let mut slot = serde_json::to_vec(record)?;
    if slot.len() > BODY {
        return Err(io::Error::other("the floor's record does not fit its slot"));
    }
    slot.resize(BODY, b'\n');
    let digest = Sha256::digest(&slot);
    slot.extend_from_slice(&digest);
    Ok(slot)
}

fn decode(slot: &[u8]) -> Option<Record> {
    let (body, digest) = slot.split_at_checked(BODY)?;
    if Sha256::digest(body).as_slice() != digest {
        return None;
    }
    let record: Record = serde_json::from_slice(body).ok()?;
    (record.format == 1).then_some(record)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::domain::revision::Timestamp;

    fn floor(generation: u64, digit: char) -> Floor {
        Floor {
            generation,
            commit: digit.to_string().repeat(40).parse().unwrap(),
            time: Timestamp(1_700_000_000),
        }
    }

    fn put(dir: &Path, bytes: &[u8]) {
        std::fs::File::create(dir.join(NAME))
            .unwrap()
            .write_all(bytes)
            .unwrap();
    }

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = FloorFile::new(dir.path());
        assert_eq!(file.read().unwrap(), Reading::Absent);
        for (generation, digit) in [(1, 'a'), (2, 'b'), (3, 'a')] {
            file.write(&floor(generation, digit), generation * 10)
                .unwrap();
            let Reading::Whole(record) = file.read().unwrap() else {
                panic!("not whole");
            };
            assert_eq!(record.floor, floor(generation, digit));
            assert_eq!(record.sequence, generation * 10);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn any_flipped_byte_leaves_the_newest_floor_and_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let file = FloorFile::new(dir.path());
        file.write(&floor(1, 'a'), 1).unwrap();
        file.write(&floor(2, 'b'), 2).unwrap();
        let good = std::fs::read(dir.path().join(NAME)).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            put(dir.path(), &bad);
            match file.read().unwrap() {
                Reading::Half(record) => assert_eq!(record.floor, floor(2, 'b'), "byte {at}"),
                other => panic!("byte {at}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_file_that_was_cut_gives_the_newest_floor_or_says_that_it_cannot() {
        let dir = tempfile::tempdir().unwrap();
        let file = FloorFile::new(dir.path());
        file.write(&floor(1, 'a'), 1).unwrap();
        file.write(&floor(2, 'b'), 2).unwrap();
        let good = std::fs::read(dir.path().join(NAME)).unwrap();
        for length in (0..good.len())
            .step_by(61)
            .chain([SLOT - 1, SLOT, good.len() - 1])
        {
            put(dir.path(), &good[..length]);
            match file.read().unwrap() {
                Reading::Half(record) => {
                    assert!(length >= SLOT);
                    assert_eq!(record.floor, floor(2, 'b'));
                }
                Reading::Damaged => assert!(length < SLOT),
                other => panic!("{length}: {other:?}"),
            }
        }
        let mut longer = good.clone();
        longer.push(0);
        put(dir.path(), &longer);
        assert!(matches!(file.read().unwrap(), Reading::Half(_)));
    }
}
