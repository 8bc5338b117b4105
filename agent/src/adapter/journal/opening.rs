//! Opening the database: from its folder, from a copy in memory, and what is done about one that does not open.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::time::{Duration, Instant};

use super::floor_file::{self, FloorFile, Reading};
use super::ledger::{self, Loaded, Step};
use super::spare::{self, Body, Spare};
use super::trust_file::{self, Past, TrustFile, agree, serial};
use super::vault::{self, Vault, VaultError};
use super::{Inner, Opened, Place, Store, chain, failed, place};
use crate::adapter::durable;
use crate::adapter::room::{self, Reserve};
use crate::adapter::state_dir::{DeviceKey, StateDir};
use crate::domain::storage::Storage;
use crate::port::journal::JournalError;

/// How many damaged journals are kept for whoever looks into it: they may be big.
const SET_ASIDE: usize = 2;
/// So many opens in a row that did not end set the journal aside: one or two may be a power cut or a killed command.
const UNFINISHED: u32 = 3;
/// How long a database may be locked by a former handle of ours: sled's threads let go of it a moment late.
const LOCKED_FOR: Duration = Duration::from_secs(1);

impl Store {
    /// Opens the journal of a state directory.
    ///
    /// # Errors
    /// Where the system refuses and there is nothing to read either (a full disk at the first start, rights). Damage is
    /// no error: it is set aside and reported. Nor is a disk that takes no write: that is reported, and what is good is
    /// read from a copy.
    pub fn open(state: &StateDir) -> Result<Opened, JournalError> {
        let dir = state.path();
        let reserve = Reserve::new(dir);
        let mut probed = room::probe(dir, room::ONE_CHANGE);
        if let Err(error) = &probed
            && Storage::of(error) == Some(Storage::Full)
            && reserve.release()
        {
            probed = room::probe(dir, room::ONE_CHANGE);
        }
        if let Err(cause) = probed {
            let warning = chain(&cause);
            let Ok((vault, loaded, place)) = open_copy(dir, state.key()) else {
                return Err(failed("be opened", cause));
            };
            return Self::with_vault(state, reserve, vault, loaded, place, None, vec![warning]);
        }
        let mut damaged = None;

        let unfinished = unfinished_opens(dir);
        if unfinished >= UNFINISHED {
            let why = format!("it ended the agent {unfinished} times in a row while being opened");
            damaged = Some(
                set_aside(dir, &why)
                    .map_err(|cause| failed("set a damaged journal aside", cause))?,
            );
        }
        note_opening(dir, if damaged.is_some() { 1 } else { unfinished + 1 });
        let first = open_home(dir, state.key());
        let (vault, loaded) = match first {
            Ok(opened) => opened,
            // Nothing was ever remembered here: a first start that was cut off.
            Err(error) if vault::is_damage(&error) && is_first_start(dir) => {
                std::fs::remove_dir_all(place::home(dir))
                    .map_err(|cause| failed("be started anew", cause))?;
                open_home(dir, state.key()).map_err(|cause| failed("be started anew", cause))?
            }
            Err(error) if vault::is_damage(&error) => {
                let why = chain(&error);
                damaged = Some(
                    set_aside(dir, &why)
                        .map_err(|cause| failed("set a damaged journal aside", cause))?,
                );
                open_home(dir, state.key()).map_err(|cause| failed("be started anew", cause))?
            }
            Err(error) => {
                // What does not read three times in a row will not read again: then it counts as damage.
                if Storage::behind(&error) != Some(Storage::Failing) {
                    forget_opening(dir);
                }
                if Storage::behind(&error).is_some()
                    && let Ok((vault, loaded, place)) = open_copy(dir, state.key())
                {
                    let warning = vec![chain(&error)];
                    return Self::with_vault(state, reserve, vault, loaded, place, None, warning);
                }
                return Err(failed("be opened", error));
            }
        };
        let opened = Self::with_vault(
            state,
            reserve,
            vault,
            loaded,
            Place::Home,
            damaged,
            Vec::new(),
        )?;
        forget_opening(dir);
        Ok(opened)
    }

    /// The store around an open database: what its other copies say, and what has to be mended in them.
    fn with_vault(
        state: &StateDir,
        reserve: Reserve,
        vault: Vault,
        mut loaded: Loaded,
        place: Place,
        damaged: Option<String>,
        mut warnings: Vec<String>,
    ) -> Result<Opened, JournalError> {
        let dir = state.path();
        warnings.append(&mut loaded.warnings);

        let begins_anew = loaded.sequence == 0;
        let spare = Spare::new(dir, state.key());
        let (spared, spare_was_there) = match spare.read() {
            Ok(spare::Reading::Whole(body)) => (Some(*body), true),
            Ok(spare::Reading::Absent) => (None, false),
            Ok(spare::Reading::Damaged) => {
                warnings.push(
                    "journal.copy, the journal's second copy, was damaged: written again"
                        .to_owned(),
                );
                (None, true)
            }
            Err(error) => {
                warnings.push(format!("journal.copy cannot be read: {error}"));
                (None, true)
            }
        };
        let right = spared
            .as_ref()
            .filter(|body| counts(body, &loaded, &mut warnings));
        if right.is_some() || loaded.is_damaged() {
            ledger::take(&vault, &mut loaded, Step::Mend(right), |_| Ok(()))
                .map_err(|cause| failed("be put right from its second copy", cause))?;
        }
        let floor_file = FloorFile::new(dir);
        let floor = floor_file.read();
        let is_known = matches!(floor, Ok(Reading::Absent)) && !spare_was_there;
        let trusts_more = spared
            .as_ref()
            .is_some_and(|body| body.trust_serial > serial(&loaded.ledger.adopted));
        let past = if trusts_more || (begins_anew && !is_known) {
            Past::Lost
        } else {
            Past::Known
        };
        match floor {
            Ok(Reading::Absent) => {}
            Ok(Reading::Whole(record)) => {
                older(&record, &mut loaded, damaged.as_ref(), &mut warnings)
            }
            Ok(Reading::Half(record)) => {
                warnings.push("one slot of the floor file is damaged; the other is whole, and was copied back".to_owned());
                if let Err(error) = floor_file.write(&record.floor, record.sequence) {
                    warnings.push(format!("the floor file cannot be mended: {error}"));
                }
                older(&record, &mut loaded, damaged.as_ref(), &mut warnings);
            }
            Ok(Reading::Damaged) => {
                warnings.push(
                    "both slots of the floor file are damaged: the floor's other copies count"
                        .to_owned(),
                );
            }
            Err(error) => warnings.push(format!("the floor file cannot be read: {error}")),
        }
        let trust_file = TrustFile::new(dir, state.key());
        let own_copy = loaded.adopted_copy();
        let read = trust_file.read();
        let begins_without = begins_anew && matches!(read, Ok(trust_file::Reading::Absent));
        let agreed = agree(read, &loaded.ledger.adopted, own_copy, past);
        let mend_journal = agreed.mend_journal
            || (own_copy == trust_file::JournalCopy::Damaged && agreed.lost.is_none());
        loaded.ledger.trust_lost.clone_from(&agreed.lost);
        warnings.extend(agreed.warning);
        if agreed.mark_lost
            && let Err(error) = trust_file.mark_lost()
        {
            warnings.push(format!(
                "the loss of the trust sets cannot be written down: {error}"
            ));
        }
        let trust_unwritten = begins_without && agreed.lost.is_none() && agreed.sets.is_empty();
        if agreed.mend_file
            && !trust_unwritten
            && let Err(error) = trust_file.write(&agreed.sets)
        {
            warnings.push(format!("the trust file cannot be mended: {error}"));
        }
        let store = Self {
            dir: dir.to_owned(),
            key: state.key().clone(),
            floor_file,
            trust_file,
            reserve,
            spare,
            spared: RefCell::new(spared),
            trust_unwritten: Cell::new(trust_unwritten),
            inner: RefCell::new(Inner {
                vault: Some(vault),
                place: place.clone(),
                loaded,
            }),
        };
        if place == Place::Home {
            if mend_journal {
                store.change("mend its copy of the trust sets", Step::Adopt(&agreed.sets))?;
            }
            store.copy();
            store
                .sweep()
                .map_err(|cause| failed("drop what is not needed any more", cause))?;
            store.shrink();
        }
        Ok(Opened {
            journal: store,
            damaged,
            warnings,
        })
    }
}

/// Whether the second copy is what counts; says why.
fn counts(body: &Body, loaded: &Loaded, warnings: &mut Vec<String>) -> bool {
    let (there, here) = (body.sequence, loaded.sequence);
    let put_right = "its ledger was put right from journal.copy, and the newest entries of its history may be lost";
    if here < there {
        warnings.push(format!(
            "the journal is older than its second copy (change {here} where there was {there}): it was damaged or put \
             back; {put_right}"
        ));
        return true;
    }
    if loaded.is_ledger_damaged() {
        warnings.push(format!("records of the journal were damaged: {put_right}"));
        return true;
    }
    if here == there && *body != Body::of(&loaded.ledger, here) {
        warnings.push(format!(
            "the journal does not say what it said at change {here}: it was damaged; {put_right}"
        ));
        return true;
    }
    // A power cut leaves the copy one change behind.
    if here > there + 1 {
        warnings.push(format!(
            "journal.copy, the journal's second copy, is older than the journal (change {there} where there was {here}): \
             written again"
        ));
    }
    false
}

/// Compares the journal's sequence with the one the floor file was written at, and goes on from the higher one.
fn older(
    record: &floor_file::Record,
    loaded: &mut Loaded,
    damaged: Option<&String>,
    warnings: &mut Vec<String>,
) {
    if loaded.sequence >= record.sequence {
        return;
    }
    if damaged.is_none() {
        warnings.push(format!(
            "the journal is older than the floor file says (change {} where there was {}): it was damaged or put back",
            loaded.sequence, record.sequence
        ));
    }
    loaded.sequence = record.sequence;
}

fn open_vault(journal: &Path, key: &DeviceKey) -> Result<(Vault, Loaded), VaultError> {
    let begun = Instant::now();
    loop {
        match Vault::open(journal, key) {
            Err(error) if vault::is_locked(&error) && begun.elapsed() < LOCKED_FOR => pause(),
            opened => {
                let vault = opened?;
                let loaded = Loaded::load(&vault)?;
                return Ok((vault, loaded));
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "milliseconds, after an error of the disk alone"
)]
fn pause() {
    std::thread::sleep(LOCKED_FOR / 50);
}

/// Opens the database of the state directory, ending first what was interrupted.
pub(super) fn open_home(dir: &Path, key: &DeviceKey) -> Result<(Vault, Loaded), VaultError> {
    place::settle(dir).map_err(VaultError::Sync)?;
    match open_vault(&place::home(dir), key) {
        Err(error) if vault::is_locked(&error) => {
            // By a handle of ours that could not be closed, for the lock of the state directory is ours.
            place::copy_fresh(dir)
                .and_then(|()| place::swap(dir))
                .map_err(VaultError::Sync)?;
            open_vault(&place::home(dir), key)
        }
        opened => opened,
    }
}

/// Opens a copy of the database, for reading.
pub(super) fn open_copy(dir: &Path, key: &DeviceKey) -> Result<(Vault, Loaded, Place), VaultError> {
    let copy = place::to_memory(dir).map_err(VaultError::Sync)?;
    match open_vault(&copy, key) {
        Ok((vault, loaded)) => Ok((vault, loaded, Place::Copy(copy))),
        Err(error) => {
            place::forget(&copy);
            Err(error)
        }
    }
}

/// Moves the journal to `journal.damaged-<n>` and drops the oldest ones. Returns what happened, for people.
pub(super) fn set_aside(dir: &Path, why: &str) -> std::io::Result<String> {
    let mut kept: Vec<u64> = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number: Option<u64> = name
            .to_str()
            .and_then(|name| name.strip_prefix("journal.damaged-"))
            .and_then(|number| number.parse().ok());
        kept.extend(number);
    }
    kept.sort_unstable();
    let next = kept.last().map_or(1, |last| last + 1);
    let place = |n: u64| dir.join(format!("journal.damaged-{n}"));
    let journal = dir.join("journal");
    if journal.symlink_metadata().is_err() {
        return Ok(format!("the journal was started anew: {why}"));
    }
    std::fs::rename(&journal, place(next))?;
    let too_many = (kept.len() + 1).saturating_sub(SET_ASIDE);
    for old in kept.iter().take(too_many) {
        // Only room: the next time tries again.
        let _ = std::fs::remove_dir_all(place(*old));
    }
    durable::sync_dir(dir)?;
    Ok(format!(
        "the journal was damaged and set aside as {}: {why}",
        place(next).display()
    ))
}

/// Whether nothing was ever remembered here: the second copy follows the first change at once.
fn is_first_start(dir: &Path) -> bool {
    ["trust-set", "floor", "journal.copy"]
        .iter()
        .all(|name| dir.join(name).symlink_metadata().is_err())
}

pub(super) fn unfinished_opens(dir: &Path) -> u32 {
    std::fs::read_to_string(dir.join("journal.opening"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// Not synced: it has to outlive the process, not the power; a cut is no fault of the journal's.
pub(super) fn note_opening(dir: &Path, count: u32) {
    use std::io::Write as _;
    let written = std::fs::File::create(dir.join("journal.opening"))
        .and_then(|mut file| writeln!(file, "{count}"));
    if let Err(error) = written {
        tracing::debug!(%error, "cannot count this open of the journal");
    }
}

pub(super) fn forget_opening(dir: &Path) {
    let _ = std::fs::remove_file(dir.join("journal.opening"));
}
