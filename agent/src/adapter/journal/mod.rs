//! What is remembered, in sled: authenticated, durable, bounded; and the floor file and the trust file beside it.
//!
//! Owns `journal/`, `journal.damaged-<n>/`, `journal.opening`, `floor` and `trust-set` in the state directory. The ledger is kept in
//! memory and loaded at open; every change is on disk before it shows there. Refuses what does not carry this device's
//! own authentication: it counts as not there, and is reported.
//!
//! A journal that does not open is set aside (the last two are kept) and started empty. sled can also panic, which ends
//! the process in a release: an open that did not end is counted beside the journal, and after three in a row the
//! journal is set aside too, so that the agent never loops.
//!
//! Limits: one user at a time (the state directory's lock); what was refused, tried or paused since the floor last
//! moved can be forgotten unnoticed where a flipped byte takes sled back in time; the floor cannot, nor can a revision
//! become good by it.

mod floor_file;
mod ledger;
mod trust_file;
mod vault;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use crate::adapter::durable;
use crate::adapter::state_dir::{DeviceKey, StateDir};
use crate::domain::desired::{Contents, DesiredState, Resolved};
use crate::domain::history::{
    AdoptedSet, Deferral, Deployment, Floor, GoodRevision, Inventory, Ledger, Pin, Refusal, Trial,
};
use crate::domain::outcome::Report;
use crate::domain::revision::{CommitId, ContentId, Timestamp, TreeId};
use crate::gate::Healthy;
use crate::port::journal::{Journal, JournalError, Paused};
use floor_file::{FloorFile, Reading};
use ledger::{Loaded, Step};
use trust_file::{Past, TrustFile, agree, serial};
use vault::{Vault, VaultError};

/// How many damaged journals are kept for whoever looks into it: they may be big.
const SET_ASIDE: usize = 2;
/// So many opens in a row that did not end set the journal aside: one or two may be a power cut or a killed command.
const UNFINISHED: u32 = 3;

/// An opened journal, and what had to be done for it.
#[derive(Debug)]
pub struct Opened {
    /// The journal.
    pub journal: Store,
    /// Why the one before was set aside, and where it is now.
    pub damaged: Option<String>,
    /// What was found and not used, or is older than it should be.
    pub warnings: Vec<String>,
}

/// The journal and the floor file.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    key: DeviceKey,
    floor_file: FloorFile,
    trust_file: TrustFile,
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// `None` after an error: sled stops for good at its first one, so the next use opens it again.
    vault: Option<Vault>,
    loaded: Loaded,
}

impl Store {
    /// Opens the journal of a state directory.
    ///
    /// # Errors
    /// Where the system refuses (full disk, rights). Damage is no error: it is set aside and reported.
    pub fn open(state: &StateDir) -> Result<Opened, JournalError> {
        let dir = state.path();
        let journal = dir.join("journal");
        let mut warnings = Vec::new();
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
        let first = open_vault(&journal, state.key());
        let (vault, loaded) = match first {
            Ok(opened) => opened,
            // Nothing was ever remembered here: a first start that was cut off.
            Err(error) if vault::is_damage(&error) && is_first_start(dir) => {
                std::fs::remove_dir_all(&journal)
                    .map_err(|cause| failed("be started anew", cause))?;
                open_vault(&journal, state.key())
                    .map_err(|cause| failed("be started anew", cause))?
            }
            Err(error) if vault::is_damage(&error) => {
                let why = chain(&error);
                damaged = Some(
                    set_aside(dir, &why)
                        .map_err(|cause| failed("set a damaged journal aside", cause))?,
                );
                open_vault(&journal, state.key())
                    .map_err(|cause| failed("be started anew", cause))?
            }
            Err(error) => {
                forget_opening(dir);
                return Err(failed("be opened", error));
            }
        };
        let mut loaded = loaded;
        warnings.append(&mut loaded.warnings);

        let begins_anew = loaded.sequence == 0;
        let floor_file = FloorFile::new(dir);
        let floor = floor_file.read();
        let past = match &floor {
            Ok(Reading::Absent) => Past::Known,
            Ok(Reading::Whole(_) | Reading::Half(_) | Reading::Damaged) | Err(_) if begins_anew => {
                Past::Lost
            }
            Ok(Reading::Whole(_) | Reading::Half(_) | Reading::Damaged) | Err(_) => Past::Known,
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
        let agreed = agree(
            trust_file.read(),
            &loaded.ledger.adopted,
            loaded.adopted_copy(),
            past,
        );
        loaded.ledger.trust_lost.clone_from(&agreed.lost);
        warnings.extend(agreed.warning);
        if agreed.mark_lost
            && let Err(error) = trust_file.mark_lost()
        {
            warnings.push(format!(
                "the loss of the trust sets cannot be written down: {error}"
            ));
        }
        if agreed.mend_file
            && let Err(error) = trust_file.write(&agreed.sets)
        {
            warnings.push(format!("the trust file cannot be mended: {error}"));
        }
        let store = Self {
            dir: dir.to_owned(),
            key: state.key().clone(),
            floor_file,
            trust_file,
            inner: RefCell::new(Inner {
                vault: Some(vault),
                loaded,
            }),
        };
        if agreed.mend_journal {
            store.change("mend its copy of the trust sets", Step::Adopt(&agreed.sets))?;
        }
        store
            .sweep()
            .map_err(|cause| failed("drop what is not needed any more", cause))?;
        forget_opening(dir);
        Ok(Opened {
            journal: store,
            damaged,
            warnings,
        })
    }

    /// Runs `use_it` on the database, opening it again where an error closed it.
    fn with<T>(
        &self,
        use_it: impl FnOnce(&Vault, &mut Loaded) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        let inner = &mut *self.inner.borrow_mut();
        let vault = match inner.vault.take() {
            Some(vault) => vault,
            None => {
                let (vault, mut loaded) = open_vault(&self.dir.join("journal"), &self.key)?;
                loaded.ledger.report = inner.loaded.ledger.report.take();
                loaded.saved_report = None;
                loaded.sequence = loaded.sequence.max(inner.loaded.sequence);
                let before = &mut inner.loaded.ledger;
                loaded.ledger.trust_lost = before.trust_lost.take();
                if serial(&before.adopted) > serial(&loaded.ledger.adopted) {
                    loaded.ledger.adopted = std::mem::take(&mut before.adopted);
                }
                inner.loaded = loaded;
                vault
            }
        };
        let result = use_it(&vault, &mut inner.loaded);
        match &result {
            Ok(_) | Err(VaultError::Missing(_) | VaultError::Damaged(_)) => {
                inner.vault = Some(vault)
            }
            Err(VaultError::Sled(_) | VaultError::Sync(_)) => {}
        }
        result
    }

    /// One durable change: contents first, then all records together, then memory.
    fn change(&self, what: &str, step: Step<'_>) -> Result<(), JournalError> {
        self.with(|vault, loaded| ledger::take(vault, loaded, step))
            .map_err(|cause| failed(what, cause))
    }

    fn sweep(&self) -> Result<(), VaultError> {
        self.with(|vault, loaded| match ledger::needed(vault, loaded)? {
            Some(needed) => vault.sweep(&needed),
            // A state that cannot be read may need anything: nothing is dropped.
            None => Ok(()),
        })
    }
}

fn open_vault(journal: &Path, key: &DeviceKey) -> Result<(Vault, Loaded), VaultError> {
    let vault = Vault::open(journal, key)?;
    let loaded = Loaded::load(&vault)?;
    Ok((vault, loaded))
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

fn failed(what: &str, cause: impl std::error::Error + Send + Sync + 'static) -> JournalError {
    JournalError {
        what: what.to_owned(),
        cause: Some(Box::new(cause)),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Moves the journal to `journal.damaged-<n>` and drops the oldest ones. Returns what happened, for people.
fn set_aside(dir: &Path, why: &str) -> std::io::Result<String> {
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

/// Whether no journal was ever opened to its end here: the trust file is written by the first open, before anything else can
/// be remembered.
fn is_first_start(dir: &Path) -> bool {
    ["trust-set", "floor"]
        .iter()
        .all(|name| dir.join(name).symlink_metadata().is_err())
}

fn unfinished_opens(dir: &Path) -> u32 {
    std::fs::read_to_string(dir.join("journal.opening"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// Not synced: it has to outlive the process, not the power; a cut is no fault of the journal's.
fn note_opening(dir: &Path, count: u32) {
    use std::io::Write as _;
    let written = std::fs::File::create(dir.join("journal.opening"))
        .and_then(|mut file| writeln!(file, "{count}"));
    if let Err(error) = written {
        tracing::debug!(%error, "cannot count this open of the journal");
    }
}

fn forget_opening(dir: &Path) {
    let _ = std::fs::remove_file(dir.join("journal.opening"));
}

impl Journal for Store {
    fn ledger(&self) -> Ledger {
        self.inner.borrow().loaded.ledger.clone()
    }

    fn kept(&self, good: &GoodRevision) -> Result<Resolved, JournalError> {
        let state = self.kept_state(good.content())?;
        let ids: Vec<ContentId> = state
            .files()
            .map(|(_, _, file)| file.content.clone())
            .collect();
        let contents = self.contents(&ids)?;
        Ok(Resolved { state, contents })
    }

    fn kept_state(&self, content: &ContentId) -> Result<DesiredState, JournalError> {
        self.with(|vault, _| ledger::state(vault, content))
            .map_err(|cause| failed("give a kept revision", cause))
    }

    fn contents(&self, ids: &[ContentId]) -> Result<Contents, JournalError> {
        self.with(|vault, _| {
            let mut contents = Contents::new();
            for id in ids {
                if !contents.contains_key(id) {
                    contents.insert(id.clone(), vault.content(id)?);
                }
            }
            Ok(contents)
        })
        .map_err(|cause| failed("give a kept content", cause))
    }

    fn spend_try(&self, trial: &Trial) -> Result<(), JournalError> {
        self.change("write down that a try begins", Step::Trial(Some(trial)))
    }

    fn end_trial(&self, keep: Option<&Trial>) -> Result<(), JournalError> {
        self.change("write down that a try ended", Step::Trial(keep))
    }

    fn commit(
        &self,
        commit: &CommitId,
        tree: &TreeId,
        resolved: &Resolved,
        at: Timestamp,
        _proof: Healthy,
    ) -> Result<GoodRevision, JournalError> {
        for (_, path, file) in resolved.state.files() {
            let whole = resolved
                .contents
                .get(&file.content)
                .is_some_and(|bytes| ContentId::of(bytes) == file.content);
            if !whole {
                return Err(JournalError {
                    what: format!("keep a revision without the content of {path}"),
                    cause: None,
                });
            }
        }
        let good = GoodRevision::authenticated(
            commit.clone(),
            tree.clone(),
            resolved.state.content_id(),
            at,
        );
        self.change("make a revision last-good", Step::Good(&good, resolved))?;
        if let Err(error) = self.sweep() {
            // The revision is good and kept; what is left over goes at the next sweep.
            tracing::warn!(%error, "cannot drop contents that are not needed any more");
        }
        Ok(good)
    }

    fn refuse(&self, refusal: &Refusal) -> Result<(), JournalError> {
        self.change("refuse a revision", Step::Refuse(refusal))
    }

    fn forgive(&self, commit: &CommitId) -> Result<(), JournalError> {
        self.change("forget a refusal", Step::Forgive(commit))
    }

    fn defer(&self, deferral: Option<&Deferral>) -> Result<(), JournalError> {
        self.change("put a revision off", Step::Defer(deferral))
    }

    fn set_pin(&self, pin: Option<&Pin>) -> Result<(), JournalError> {
        self.change("remember a rollback", Step::Pin(pin))
    }

    fn set_paused(&self, paused: Paused) -> Result<(), JournalError> {
        self.change("remember a pause", Step::Pause(paused))
    }

    fn set_inventory(&self, inventory: &Inventory) -> Result<(), JournalError> {
        self.change("remember what is ours", Step::Inventory(inventory))
    }

    fn append(&self, deployment: &Deployment) -> Result<(), JournalError> {
        self.change("add to the history", Step::History(deployment))
    }

    fn history(&self) -> Result<Vec<Deployment>, JournalError> {
        self.with(|vault, _| ledger::history(vault))
            .map_err(|cause| failed("give its history", cause))
    }

    fn save_report(&self, report: &Report) -> Result<(), JournalError> {
        self.change("keep the status", Step::Report(report))
    }

    fn floor_file(&self) -> Result<Option<Floor>, JournalError> {
        match self.floor_file.read() {
            Ok(Reading::Absent) => Ok(None),
            Ok(Reading::Whole(record) | Reading::Half(record)) => Ok(Some(record.floor)),
            Ok(Reading::Damaged) => Err(JournalError {
                what: "read the floor file: both of its slots are damaged".to_owned(),
                cause: None,
            }),
            Err(cause) => Err(failed("read the floor file", cause)),
        }
    }

    fn adopt(&self, sets: &[AdoptedSet]) -> Result<(), JournalError> {
        let (before, whole) = {
            let ledger = &self.inner.borrow().loaded.ledger;
            let whole = ledger.trust_lost.is_none() && ledger.adopted == sets;
            (serial(&ledger.adopted), whole)
        };
        if whole {
            return Ok(());
        }
        if serial(sets) < before {
            return Err(JournalError {
                what: format!(
                    "replace the trust set of serial {before} by one of serial {}: it would go back",
                    serial(sets)
                ),
                cause: None,
            });
        }
        self.trust_file
            .write(sets)
            .map_err(|cause| failed("write the trust file", cause))?;
        self.change("adopt a trust set", Step::Adopt(sets))
    }

    fn set_floor_file(&self, floor: &Floor) -> Result<(), JournalError> {
        let sequence = self.inner.borrow().loaded.sequence;
        if let Ok(Reading::Whole(record) | Reading::Half(record)) = self.floor_file.read() {
            check_rises(&record.floor, floor)?;
            if record.floor == *floor && record.sequence == sequence {
                return Ok(());
            }
        }
        self.floor_file
            .write(floor, sequence)
            .map_err(|cause| failed("write the floor file", cause))
    }

    fn set_floor(&self, floor: &Floor) -> Result<(), JournalError> {
        if let Some(before) = &self.inner.borrow().loaded.ledger.floor {
            check_rises(before, floor)?;
        }
        self.change("write its copy of the floor", Step::Floor(floor))
    }
}

/// A floor is only ever replaced by one of a higher generation, or by the same commit's.
fn check_rises(before: &Floor, after: &Floor) -> Result<(), JournalError> {
    let fits = after.generation > before.generation
        || (after.generation == before.generation && after.commit == before.commit);
    if fits {
        return Ok(());
    }
    Err(JournalError {
        what: format!(
            "replace the floor of generation {} by one of generation {}: it would go back",
            before.generation, after.generation
        ),
        cause: None,
    })
}

#[cfg(test)]
mod tests;
